//! `chat-messages`: users, chat_sessions, chat_messages and documents, as Alembic projects have them.

use super::{plan::ReadPlan, tables::TableColumns};

pub(super) fn plan(tables: &TableColumns) -> anyhow::Result<ReadPlan> {
    tables.with_messages("chat_messages")
}
