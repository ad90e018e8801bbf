//! `rag-uuid`: users, user_profiles, chat_sessions, messages, message_citations, under UUID keys, with times
//! that mostly have no offset.

use super::{Plan, Tables};

pub(super) fn plan(tables: &Tables) -> anyhow::Result<Plan> {
    tables.with_messages("messages")
}
