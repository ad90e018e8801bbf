//! Messages, but for the appends, which are the [`ledger`](crate::ledger)'s.

use uuid::Uuid;

use super::{Store, internal, replaces, sql_count};
use crate::{
    auth::Caller,
    domain::{
        Error, Resource, Result,
        citation::Citation,
        json,
        message::{Message, MessageChange, Role},
    },
    statements::{
        Statement,
        message::{DeleteCitations, Erase, EraseAll, Get, MessageRow, Update},
    },
};

/// The role that is stored as a text.
pub(super) fn role(text: &str) -> Result<Role> {
    Role::parse(text).ok_or_else(|| internal(format_args!("unknown role {text:?}")))
}

impl TryFrom<MessageRow> for Message {
    type Error = Error;

    fn try_from(row: MessageRow) -> Result<Message> {
        Ok(Message {
            id: row.id,
            session_id: row.session_id,
            seq: row.seq,
            role: role(&row.role)?,
            content: row.content,
            selected_text: row.selected_text,
            metadata: row.metadata,
            payload: row.payload,
            created_at: row.created_at,
            citations: citations(row.documents, row.chunks, row.scores, row.indexes),
        })
    }
}

/// A message's citations, which its row has as columns of arrays; it has none where these are absent.
fn citations(
    documents: Option<Vec<String>>,
    chunks: Option<Vec<String>>,
    scores: Option<Vec<f64>>,
    indexes: Option<Vec<i32>>,
) -> Vec<Citation> {
    let rest = chunks.into_iter().flatten().zip(scores.into_iter().flatten());
    let rest = rest.zip(indexes.into_iter().flatten());
    documents
        .into_iter()
        .flatten()
        .zip(rest)
        .map(|(document_id, ((chunk_id, score), index))| Citation {
            document_id,
            chunk_id,
            score,
            index,
        })
        .collect()
}

impl Store {
    /// One message.
    pub async fn message(&self, caller: &Caller, session_id: Uuid, id: Uuid) -> Result<Message> {
        match self.first(caller, &Get { session_id, id }).await? {
            Some(row) => row.try_into(),
            None => Err(self.missing(caller, session_id, Resource::Message).await),
        }
    }

    /// Changes a message's metadata.
    pub async fn update_message(&self, caller: &Caller, change: &MessageChange) -> Result<Message> {
        let update = Update {
            session_id: change.session_id,
            id: change.message_id,
            metadata: change.metadata.as_str(),
            replace: replaces(change.metadata_mode),
        };
        let changed = self.transaction(caller, async |tx| {
            let Some(row) = tx.first(&update).await? else {
                return Ok(None);
            };
            let message: Message = row.try_into()?;
            json::check_merged(&message.metadata, &self.limits)
                .map_err(|description| Error::invalid("metadata_json", description))?;
            Ok(Some(message))
        });
        match changed.await? {
            Some(message) => Ok(message),
            None => Err(self.missing(caller, change.session_id, Resource::Message).await),
        }
    }

    /// Erases a message.
    pub async fn delete_message(&self, caller: &Caller, session_id: Uuid, id: Uuid) -> Result<()> {
        if self.erase(caller, &Erase { session_id, id }).await? == 0 {
            return Err(self.missing(caller, session_id, Resource::Message).await);
        }
        Ok(())
    }

    /// Erases all messages of a session, and answers how many.
    pub async fn clear_messages(&self, caller: &Caller, session_id: Uuid) -> Result<i64> {
        let erased = self.erase(caller, &EraseAll { session_id }).await?;
        if erased == 0 {
            self.session(caller, session_id).await?;
        }
        Ok(sql_count(erased))
    }

    /// Runs a statement that erases messages, and takes their citations away. Answers how many messages there were.
    async fn erase<S: Statement<Row = Uuid>>(&self, caller: &Caller, erase: &S) -> Result<usize> {
        self.transaction(caller, async |tx| {
            let row_ids = tx.run(erase).await?;
            tx.run(&DeleteCitations { row_ids: &row_ids }).await?;
            Ok(row_ids.len())
        })
        .await
    }
}
