//! `rag-uuid`: users, user_profiles, chat_sessions, messages, message_citations, under UUID keys, with times
//! that mostly have no offset.

use super::{plan::ReadPlan, tables::TableColumns};

pub(super) fn plan(tables: &TableColumns) -> anyhow::Result<ReadPlan> {
    tables.with_messages("messages")
}
