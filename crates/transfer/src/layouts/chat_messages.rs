//! `chat-messages`: users, chat_sessions, chat_messages and documents, as Alembic projects have them.

use super::{Plan, Tables};

pub(super) fn plan(tables: &Tables) -> anyhow::Result<Plan> {
    tables.with_messages("chat_messages")
}
