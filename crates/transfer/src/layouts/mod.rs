//! The layouts of sources: which tables there are, and how their rows become records.
//!
//! - [`rag_uuid`]: `messages` and `message_citations` under UUID keys.
//! - [`chat_messages`]: `chat_messages`, and `documents`, under any keys.
//! - [`jsonb_history`]: each session's messages in a JSONB array.
//! - [`chatledger`]: our own tables, for exports and for moving from one database to another.
//!
//! A layout answers a [`ReadPlan`]: statements whose rows are read by its functions. Every statement has three
//! columns: the row as JSON, what else belongs to it as JSON, and whether its session is missing.

mod chat_messages;
pub(crate) mod chatledger;
mod jsonb_history;
mod plan;
mod rag_uuid;
mod readers;
mod tables;

use anyhow::{Context, bail};
use tokio_postgres::Client;

use ::chatledger::auth::DEFAULT_TENANT;
use chatledger_postgres::connect::describe;
pub(super) use plan::{ReadPlan, RowQuery, RowReader};
pub(super) use readers::ROLES;
pub(super) use tables::TableColumns;

/// A source's layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum SourceLayout {
    /// Whichever it looks like.
    Auto,
    /// users, user_profiles, chat_sessions, messages, message_citations.
    RagUuid,
    /// users, and chat_sessions with a column `history`.
    JsonbHistory,
    /// users, chat_sessions, chat_messages, documents.
    ChatMessages,
    /// chatledger's own.
    Chatledger,
}

impl SourceLayout {
    /// The layout's name, as the flag has it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            SourceLayout::Auto => "auto",
            SourceLayout::RagUuid => "rag-uuid",
            SourceLayout::JsonbHistory => "jsonb-history",
            SourceLayout::ChatMessages => "chat-messages",
            SourceLayout::Chatledger => "chatledger",
        }
    }

    /// The layout itself, or what the tables look like.
    pub(crate) async fn recognize(self, client: &Client) -> anyhow::Result<SourceLayout> {
        if self != SourceLayout::Auto {
            return Ok(self);
        }
        let tables = TableColumns::read(client).await?;
        if is_ours(&tables, client).await? {
            return Ok(SourceLayout::Chatledger);
        }
        let found: Vec<SourceLayout> = [
            (
                SourceLayout::RagUuid,
                tables.has("messages") || tables.has("user_profiles"),
            ),
            (SourceLayout::ChatMessages, tables.has("chat_messages")),
            (
                SourceLayout::JsonbHistory,
                tables.column("chat_sessions", &["history"]).is_some(),
            ),
        ]
        .into_iter()
        .filter_map(|(layout, fits)| fits.then_some(layout))
        .collect();
        match found[..] {
            [layout] => Ok(layout),
            [] => bail!(
                "--layout auto: the source has none of messages, chat_messages, chat_sessions.history and \
                 user_profiles; it has {}",
                tables.names()
            ),
            _ => {
                let names: Vec<&str> = found.iter().map(|layout| layout.name()).collect();
                bail!(
                    "--layout auto: the source could be {}; say which",
                    names.join(" or ")
                )
            }
        }
    }

    pub(super) async fn plan(self, client: &Client) -> anyhow::Result<ReadPlan> {
        let tables = TableColumns::read(client).await?;
        match self {
            SourceLayout::RagUuid => rag_uuid::plan(&tables),
            SourceLayout::ChatMessages => chat_messages::plan(&tables),
            SourceLayout::JsonbHistory => jsonb_history::plan(&tables),
            SourceLayout::Chatledger => Ok(chatledger::plan(
                &tables,
                DEFAULT_TENANT,
                chatledger::ExportPart::All,
                true,
            )),
            SourceLayout::Auto => bail!("the layout was not recognized"),
        }
        .with_context(|| format!("--layout {}", self.name()))
    }
}

/// Whether our migrations were applied. An empty history is what an `up` leaves that met somebody else's tables.
async fn is_ours(tables: &TableColumns, client: &Client) -> anyhow::Result<bool> {
    for history in ["chatledger_auth_migrations", "chatledger_chat_migrations"] {
        if tables.has(history) {
            let first = format!("SELECT FROM {history} LIMIT 1");
            let rows = client.query_typed(&first, &[]).await;
            if !rows
                .map_err(|error| anyhow::anyhow!(describe(&error)))?
                .is_empty()
            {
                return Ok(true);
            }
        }
    }
    Ok(false)
}
