//! `message_citations`, but for those that are appended with their message.

use std::collections::HashMap;

use tokio_postgres::{Row, types::Type};
use uuid::Uuid;

use super::{Store, first};
use crate::{
    auth::Caller,
    domain::{
        Error, Resource, Result,
        citation::{Citation, CitationFilter, CitationSource, PlacedCitation, assign_indexes},
    },
};
use chatledger_postgres::{Sql, Time, Tx};

macro_rules! columns {
    () => {
        "mc.document_id, coalesce(mc.chunk_id, ''), coalesce(mc.score, 0), mc.citation_index, mc.session_id,
         coalesce(m.given_id, m.id), m.id, mc.created_at"
    };
}

macro_rules! joined {
    () => {
        "message_citations mc JOIN messages m ON m.id = mc.message_id JOIN chat_sessions s ON s.id = m.session_id"
    };
}

macro_rules! visible {
    () => {
        "s.tenant_id = $1 AND ($2::uuid IS NULL OR s.user_id = $2)"
    };
}

/// Of a message that the transaction has locked.
static OF_LOCKED: Sql = Sql {
    text: concat!(
        "SELECT ",
        columns!(),
        " FROM ",
        joined!(),
        " WHERE mc.message_id = $1"
    ),
    params: &[Type::UUID],
};

/// `$2` is the row id of a message that the transaction has locked.
static INSERT: Sql = Sql {
    text: concat!(
        "WITH added AS (INSERT INTO message_citations
                (tenant_id, message_id, session_id, document_id, chunk_id, score, citation_index)
            SELECT $1, $2, $3, a.document_id, a.chunk_id, a.score, a.citation_index
            FROM unnest($4, $5, $6, $7) AS a (document_id, chunk_id, score, citation_index)
            RETURNING *)
        SELECT ",
        columns!(),
        " FROM added mc JOIN messages m ON m.id = mc.message_id"
    ),
    params: &[
        Type::TEXT,
        Type::UUID,
        Type::UUID,
        Type::TEXT_ARRAY,
        Type::TEXT_ARRAY,
        Type::FLOAT8_ARRAY,
        Type::INT4_ARRAY,
    ],
};

static LIST_OF_MESSAGE: Sql = Sql {
    text: concat!(
        "SELECT ",
        columns!(),
        " FROM ",
        joined!(),
        " WHERE ",
        visible!(),
        "
            AND m.session_id = $3 AND m.id IN ($4, message_row_id($3, $4)) AND mc.citation_index > $5
        ORDER BY mc.citation_index LIMIT $6"
    ),
    params: &[
        Type::TEXT,
        Type::UUID,
        Type::UUID,
        Type::UUID,
        Type::INT4,
        Type::INT8,
    ],
};

static LIST_OF_DOCUMENT: Sql = Sql {
    text: concat!(
        "SELECT ",
        columns!(),
        " FROM ",
        joined!(),
        " WHERE ",
        visible!(),
        "
            AND mc.tenant_id = $1 AND mc.document_id = $3
            AND mc.message_id >= $4 AND (mc.message_id, mc.citation_index) > ($4, $5)
        ORDER BY mc.message_id, mc.citation_index LIMIT $6"
    ),
    params: &[
        Type::TEXT,
        Type::UUID,
        Type::TEXT,
        Type::UUID,
        Type::INT4,
        Type::INT8,
    ],
};

static DELETE: Sql = Sql {
    text: "DELETE FROM message_citations WHERE message_id = $1 AND citation_index = $2 RETURNING citation_index",
    params: &[Type::UUID, Type::INT4],
};

pub(super) static ALL: &[&Sql] = &[&OF_LOCKED, &INSERT, &LIST_OF_MESSAGE, &LIST_OF_DOCUMENT, &DELETE];

fn citation(row: &Row) -> PlacedCitation {
    PlacedCitation {
        citation: Citation {
            document_id: row.get(0),
            chunk_id: row.get(1),
            score: row.get(2),
            index: row.get(3),
        },
        session_id: row.get(4),
        message_id: row.get(5),
        message_row_id: row.get(6),
        created_at: row.get::<_, Time>(7).0,
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
        let tx = self.db.begin(caller.deadline).await?;
        let added = async {
            let Some(row_id) = self.lock_message(&tx, caller, session_id, message_id).await? else {
                return Ok(None);
            };
            self.add_to_locked(&tx, caller, session_id, row_id, citations)
                .await
                .map(Some)
        }
        .await;
        match tx.end(added).await? {
            Some(citations) => Ok(citations),
            None => Err(self.missing(caller, session_id, Resource::Message).await),
        }
    }

    async fn add_to_locked(
        &self,
        tx: &Tx,
        caller: &Caller,
        session_id: Uuid,
        row_id: Uuid,
        mut citations: Vec<Citation>,
    ) -> Result<Vec<PlacedCitation>> {
        let rows = tx.query(&OF_LOCKED, &[&row_id]).await?;
        let mut stored: HashMap<i32, PlacedCitation> = rows
            .iter()
            .map(citation)
            .map(|placed| (placed.citation.index, placed))
            .collect();
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
        let max = self.limits.max_citations;
        if stored.len() + new.len() > max {
            let description = format!(
                "would give the message {} citations; it can have at most {max}",
                stored.len() + new.len()
            );
            return Err(Error::invalid("citations", description));
        }

        let documents: Vec<&str> = new.iter().map(|citation| citation.document_id.as_str()).collect();
        let chunks: Vec<&str> = new.iter().map(|citation| citation.chunk_id.as_str()).collect();
        let scores: Vec<f64> = new.iter().map(|citation| citation.score).collect();
        let indexes: Vec<i32> = new.iter().map(|citation| citation.index).collect();
        let tenant = caller.tenant.as_ref();
        let rows = tx
            .query(
                &INSERT,
                &[
                    &tenant,
                    &row_id,
                    &session_id,
                    &documents,
                    &chunks,
                    &scores,
                    &indexes,
                ],
            )
            .await?;
        stored.extend(
            rows.iter()
                .map(citation)
                .map(|placed| (placed.citation.index, placed)),
        );
        Ok(citations
            .iter()
            .filter_map(|citation| stored.get(&citation.index).cloned())
            .collect())
    }

    /// One more citation than the page holds, if there are as many.
    pub async fn list_citations(
        &self,
        caller: &Caller,
        filter: &CitationFilter,
    ) -> Result<Vec<PlacedCitation>> {
        let tenant = caller.tenant.as_ref();
        let (after_message, after_index) = filter.page.after.unwrap_or((Uuid::nil(), 0));
        let fetch = filter.page.fetch();
        match &filter.source {
            CitationSource::Document(document_id) => {
                let rows = self
                    .read(
                        caller,
                        &LIST_OF_DOCUMENT,
                        &[
                            &tenant,
                            &caller.end_user,
                            document_id,
                            &after_message,
                            &after_index,
                            &fetch,
                        ],
                    )
                    .await?;
                Ok(rows.iter().map(citation).collect())
            }
            CitationSource::Message {
                session_id,
                message_id,
            } => {
                let rows = self
                    .read(
                        caller,
                        &LIST_OF_MESSAGE,
                        &[
                            &tenant,
                            &caller.end_user,
                            session_id,
                            message_id,
                            &after_index,
                            &fetch,
                        ],
                    )
                    .await?;
                if rows.is_empty() {
                    self.message(caller, *session_id, *message_id).await?;
                }
                Ok(rows.iter().map(citation).collect())
            }
        }
    }

    /// Removes one citation of a message.
    pub async fn delete_citation(
        &self,
        caller: &Caller,
        session_id: Uuid,
        message_id: Uuid,
        index: i32,
    ) -> Result<()> {
        let tx = self.db.begin(caller.deadline).await?;
        let deleted = async {
            let Some(row_id) = self.lock_message(&tx, caller, session_id, message_id).await? else {
                return Ok(None);
            };
            let rows = tx.query(&DELETE, &[&row_id, &index]).await?;
            first(rows)
                .map(|_| Some(()))
                .ok_or(Error::NotFound(Resource::Citation))
        }
        .await;
        match tx.end(deleted).await? {
            Some(()) => Ok(()),
            None => Err(self.missing(caller, session_id, Resource::Message).await),
        }
    }
}
