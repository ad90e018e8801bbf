//! Citations, but for those that are appended with their message.

use std::collections::HashMap;

use uuid::Uuid;

use super::{CallerTransaction, Store};
use crate::{
    auth::Caller,
    domain::{
        Error, Resource, Result,
        citation::{Citation, CitationFilter, CitationSource, PlacedCitation, assign_indexes},
    },
    statements::{
        citation::{CitationRow, Delete, Insert, ListOfDocument, ListOfMessage, OfLocked},
        message::Lock,
    },
};

impl From<CitationRow> for PlacedCitation {
    fn from(row: CitationRow) -> PlacedCitation {
        PlacedCitation {
            citation: Citation {
                document_id: row.document_id,
                chunk_id: row.chunk_id,
                score: row.score,
                index: row.citation_index,
            },
            session_id: row.session_id,
            message_id: row.message_id,
            message_row_id: row.message_row_id,
            created_at: row.created_at,
        }
    }
}

impl Store {
    /// Adds citations to a message, all or none, and answers them as stored, in the order given.
    pub async fn add_citations(
        &self,
        caller: &Caller,
        session_id: Uuid,
        message_id: Uuid,
        citations: Vec<Citation>,
    ) -> Result<Vec<PlacedCitation>> {
        let max = self.limits.max_citations;
        self.on_locked_message(caller, session_id, message_id, async |tx, row_id| {
            add_to_locked(tx, session_id, row_id, citations, max).await
        })
        .await
    }

    /// One more citation than the page holds, if there are as many.
    pub async fn list_citations(
        &self,
        caller: &Caller,
        filter: &CitationFilter,
    ) -> Result<Vec<PlacedCitation>> {
        let (after_message, after_index) = filter.page.after.unwrap_or((Uuid::nil(), 0));
        let limit = filter.page.fetch();
        let rows = match &filter.source {
            CitationSource::Document(document_id) => {
                let list = ListOfDocument {
                    document_id,
                    after_message,
                    after_index,
                    limit,
                };
                self.run(caller, &list).await?
            }
            CitationSource::Message {
                session_id,
                message_id,
            } => {
                let list = ListOfMessage {
                    session_id: *session_id,
                    message_id: *message_id,
                    after_index,
                    limit,
                };
                let rows = self.run(caller, &list).await?;
                if rows.is_empty() {
                    self.message(caller, *session_id, *message_id).await?;
                }
                rows
            }
        };
        Ok(rows.into_iter().map(PlacedCitation::from).collect())
    }

    /// Removes one citation of a message.
    pub async fn delete_citation(
        &self,
        caller: &Caller,
        session_id: Uuid,
        message_id: Uuid,
        citation_index: i32,
    ) -> Result<()> {
        self.on_locked_message(caller, session_id, message_id, async |tx, message_row_id| {
            let delete = Delete {
                message_row_id,
                citation_index,
            };
            let deleted = tx.first(&delete).await?;
            deleted.map(drop).ok_or(Error::NotFound(Resource::Citation))
        })
        .await
    }

    /// Does some work on a message that stays locked meanwhile; it gets the message's row id.
    async fn on_locked_message<T>(
        &self,
        caller: &Caller,
        session_id: Uuid,
        id: Uuid,
        work: impl AsyncFnOnce(&CallerTransaction<'_>, Uuid) -> Result<T>,
    ) -> Result<T> {
        let done = self.transaction(caller, async |tx| {
            let Some(row_id) = tx.first(&Lock { session_id, id }).await? else {
                return Ok(None);
            };
            work(tx, row_id).await.map(Some)
        });
        match done.await? {
            Some(value) => Ok(value),
            None => Err(self.missing(caller, session_id, Resource::Message).await),
        }
    }
}

/// Adds citations to a message that the transaction has locked, which has at most `max` of them afterwards.
async fn add_to_locked(
    tx: &CallerTransaction<'_>,
    session_id: Uuid,
    message_row_id: Uuid,
    mut citations: Vec<Citation>,
    max: usize,
) -> Result<Vec<PlacedCitation>> {
    let rows = tx.run(&OfLocked { message_row_id }).await?;
    let mut stored = by_index(rows);
    assign_indexes(&mut citations, stored.keys().copied().max().unwrap_or(0));

    let mut new = Vec::new();
    for citation in &citations {
        match stored.get(&citation.index) {
            // None is free above the highest, which is taken.
            None if citation.index == 0 => return Err(Error::CitationIndexTaken(i32::MAX)),
            None => new.push(citation),
            Some(placed) if placed.citation == *citation => {}
            Some(_) => return Err(Error::CitationIndexTaken(citation.index)),
        }
    }
    let total = stored.len() + new.len();
    if total > max {
        let description = format!("would give the message {total} citations; it can have at most {max}");
        return Err(Error::invalid("citations", description));
    }

    let document_ids: Vec<&str> = new.iter().map(|citation| citation.document_id.as_str()).collect();
    let chunk_ids: Vec<&str> = new.iter().map(|citation| citation.chunk_id.as_str()).collect();
    let scores: Vec<f64> = new.iter().map(|citation| citation.score).collect();
    let indexes: Vec<i32> = new.iter().map(|citation| citation.index).collect();
    let insert = Insert {
        message_row_id,
        session_id,
        document_ids: &document_ids,
        chunk_ids: &chunk_ids,
        scores: &scores,
        indexes: &indexes,
    };
    stored.extend(by_index(tx.run(&insert).await?));
    Ok(citations
        .iter()
        .filter_map(|citation| stored.get(&citation.index).cloned())
        .collect())
}

fn by_index(rows: Vec<CitationRow>) -> HashMap<i32, PlacedCitation> {
    rows.into_iter()
        .map(|row| (row.citation_index, row.into()))
        .collect()
}
