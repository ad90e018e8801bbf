//! Full-text search over one session's or one user's messages, or over all of a tenant's.

use std::error::Error as StdError;

use bytes::{BufMut, BytesMut};
use tokio_postgres::{
    error::SqlState,
    types::{IsNull, ToSql, Type, accepts, to_sql_checked},
};

use super::{Store, history::role_names, row_count, sql_count};
use crate::{
    auth::Caller,
    domain::{
        Error, Result,
        message::{Search, SearchHit},
        page::MAX_PAGE_BYTES,
    },
    statements::search::{HitRow, InSession, InTenant, OfUser, TenantIndex},
};
use chatledger_postgres::DbError;

/// A text search configuration by its id; the driver has no type for it.
#[derive(Debug)]
pub(crate) struct RegConfig(u32);

impl ToSql for RegConfig {
    fn to_sql(
        &self,
        _: &Type,
        out: &mut BytesMut,
    ) -> std::result::Result<IsNull, Box<dyn StdError + Sync + Send>> {
        out.put_u32(self.0);
        Ok(IsNull::No)
    }

    accepts!(REGCONFIG);
    to_sql_checked!();
}

/// Whether PostgreSQL can't make a search of the query: too much text (class 54), no query in the end (42601), or too
/// many operators within each other, for which it has no code of its own ("tsquery stack too small").
fn is_bad_query(error: &tokio_postgres::Error) -> bool {
    error.as_db_error().is_some_and(|error| {
        let code = error.code();
        code.code().starts_with("54")
            || *code == SqlState::SYNTAX_ERROR
            || (*code == SqlState::INTERNAL_ERROR && error.message().contains("tsquery"))
    })
}

/// What the failure of a search means.
fn failed(error: DbError) -> Error {
    match error {
        DbError::Sql(error) if is_bad_query(&error) => Error::invalid(
            "query",
            "has more operators, or longer words, than a search can have",
        ),
        error => error.into(),
    }
}

/// A page of hits, best first.
#[derive(Debug)]
pub struct Hits {
    /// The hits.
    pub hits: Vec<SearchHit>,
    /// How many there were for the page, of which `hits` are the first.
    pub available: usize,
}

impl TryFrom<HitRow> for SearchHit {
    type Error = Error;

    fn try_from(row: HitRow) -> Result<SearchHit> {
        Ok(SearchHit {
            message: row.message.try_into()?,
            session_title: row.session_title,
            rank: row.rank,
            snippet: row.snippet,
        })
    }
}

impl Store {
    /// Searches; one more hit than the page holds, if there are as many.
    pub async fn search_messages(&self, caller: &Caller, search: &Search) -> Result<Hits> {
        let (rank, after_session, after_seq) = match search.page.after {
            Some((bits, session_id, seq)) => (f32::from_bits(bits), session_id, seq),
            None => (f32::INFINITY, uuid::Uuid::max(), i64::MAX),
        };
        let roles = role_names(&search.roles);
        let mut page = InSession {
            config_name: &self.search_config,
            query: &search.query,
            roles: roles.as_deref(),
            in_content: search.in_content,
            in_selected_text: search.in_selected_text,
            rank,
            after_session,
            after_seq,
            limit: search.page.fetch(),
            max_bytes: sql_count(MAX_PAGE_BYTES),
            session_id: search.session_id,
            user_id: search.user_id,
            config: None,
        };
        let rows = match (search.session_id, search.user_id) {
            (Some(_), _) => self.run_or(caller, &page, failed).await?,
            (None, Some(_)) => self.run_or(caller, &OfUser(page), failed).await?,
            (None, None) => {
                page.config = Some(self.tenant_index(caller).await?);
                self.run_or(caller, &InTenant(page), failed).await?
            }
        };
        if rows.is_empty()
            && let Some(session_id) = search.session_id
        {
            self.session(caller, session_id).await?;
        }
        Ok(Hits {
            available: row_count(rows.first().map_or(0, |row| row.available)),
            hits: rows.into_iter().map(SearchHit::try_from).collect::<Result<_>>()?,
        })
    }

    /// The configuration that the tenant-wide index is for, which is this server's.
    async fn tenant_index(&self, caller: &Caller) -> Result<RegConfig> {
        let config_name = self.search_config.as_ref();
        let config = self.first(caller, &TenantIndex { config_name }).await?;
        config.map(RegConfig).ok_or_else(|| {
            let text = format!(
                "or user_id is required: searching all messages needs the index that `chatledger migrate up --with \
                 search` installs, for the text search configuration {config_name}"
            );
            Error::invalid("session_id", text)
        })
    }
}
