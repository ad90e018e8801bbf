//! Full-text search over one session's or one user's messages, which are reached by their index and ranked
//! on the fly; or over all of a tenant's, which the opt-in index of `migrations/search` finds.

use std::error::Error as StdError;

use bytes::{BufMut, BytesMut};
use tokio_postgres::{
    error::SqlState,
    types::{IsNull, ToSql, Type, accepts, to_sql_checked},
};

use super::{
    Store,
    message::{COLUMNS, citations, columns, json_size, message, role_names, size},
};
use crate::{
    auth::Caller,
    domain::{
        Error, Result,
        message::{Search, SearchHit},
        page::MAX_PAGE_BYTES,
    },
};
use chatledger_postgres::{DbError, Sql};

/// What of a text is searched: `to_tsvector` fails on a text whose words take more than 1 MiB.
macro_rules! searched {
    ($text:literal) => {
        concat!("to_tsvector($3::text::regconfig, left(", $text, ", 100000))")
    };
}

/// Between the two texts: a word that nobody can search for, so far from them that no phrase goes from one to
/// the other.
macro_rules! gap {
    () => {
        "$$' ':1000$$::tsvector"
    };
}

/// That a message is one of those that the index of `migrations/search` finds.
macro_rules! found_by_index {
    () => {
        concat!(
            "$5::uuid IS NULL AND $6::uuid IS NULL AND NOT $7
                    AND (setweight(to_tsvector($16, left(m.content, 100000)), 'A') || ", gap!(), "
                        || setweight(to_tsvector($16, left(coalesce(m.selected_text, ''), 100000)), 'B'))
                    @@ CASE WHEN $9 AND $10 THEN q.query ELSE regexp_replace(q.query::text, $$('([^']|'')*')$$,
                        CASE WHEN $9 THEN $$\\1:A$$ ELSE $$\\1:B$$ END, 'g')::tsquery END"
        )
    };
}

/// `$9`, `$10`: in the content, in the selected text. `$11` to `$13`: the rank, session and seq that the
/// page's rows are below. `$15`: as for lists of messages.
macro_rules! search {
    ($within:expr) => {
        concat!(
            "WITH hits AS (
                SELECT m.id, m.session_id, m.seq, s.title, q.query, ts_rank(texts.vector, q.query) AS rank
                FROM chat_sessions s
                JOIN messages m ON m.session_id = s.id AND m.deleted_at IS NULL
                CROSS JOIN websearch_to_tsquery($3::text::regconfig, $4) AS q (query)
                CROSS JOIN LATERAL (SELECT
                    CASE WHEN $9 THEN ",
            searched!("m.content"),
            " ELSE '' END
                    || CASE WHEN $10 THEN ",
            gap!(),
            " || ",
            searched!("coalesce(m.selected_text, '')"),
            " ELSE '' END
                ) AS texts (vector)
                WHERE s.tenant_id = $1 AND ($2::uuid IS NULL OR s.user_id = $2)
                    AND ",
            $within,
            "
                    AND ($8::text[] IS NULL OR m.role = ANY($8)) AND texts.vector @@ q.query
            ), page AS (
                SELECT * FROM hits WHERE (rank, session_id, seq) < ($11, $12, $13)
                ORDER BY rank DESC, session_id DESC, seq DESC LIMIT $14
            ), sized AS (
                SELECT p.*, c.*, count(*) OVER () AS available, coalesce(sum(",
            size!(),
            ") OVER (
                    ORDER BY p.rank DESC, p.session_id DESC, p.seq DESC
                    ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS before
                FROM page p JOIN messages m ON m.id = p.id",
            citations!("true"),
            "
            )
            SELECT ",
            columns!(),
            ", p.available, coalesce(p.title, ''), p.rank,
                ts_headline($3::text::regconfig, left(
                    CASE WHEN $9 AND ($10 IS FALSE OR ",
            searched!("m.content"),
            " @@ p.query)
                        THEN m.content ELSE coalesce(m.selected_text, m.content) END, 100000),
                    p.query, 'MaxFragments=2, FragmentDelimiter= … ')
            FROM sized p JOIN messages m ON m.id = p.id
            CROSS JOIN LATERAL (SELECT p.documents, p.chunks, p.scores, p.indexes) c
            WHERE p.before < $15
            ORDER BY p.rank DESC, p.session_id DESC, p.seq DESC"
        )
    };
}

/// The types of `$1` to `$15`, and of what comes after.
macro_rules! params {
    ($($more:expr),*) => {
        &[
            Type::TEXT,
            Type::UUID,
            Type::TEXT,
            Type::TEXT,
            Type::UUID,
            Type::UUID,
            Type::BOOL,
            Type::TEXT_ARRAY,
            Type::BOOL,
            Type::BOOL,
            Type::FLOAT4,
            Type::UUID,
            Type::INT8,
            Type::INT8,
            Type::INT8,
            $($more,)*
        ]
    };
}

/// `$5` is the session; `$6` the user, or NULL for any. `$7`: whether there is a user.
static IN_SESSION: Sql = Sql {
    text: search!("s.id = $5 AND (NOT $7 OR s.user_id = $6)"),
    params: params!(),
};

/// `$6` is the user; `$5` is NULL and `$7` true.
static OF_USER: Sql = Sql {
    text: search!("s.user_id = $6 AND $5::uuid IS NULL AND $7"),
    params: params!(),
};

/// `$5`, `$6` are NULL and `$7` is false. `$16` is the configuration by its id: as a text (`$3`) it isn't a constant
/// to the planner, and the index wouldn't do. Its expression is that of the index, content marked A and selected
/// text B; a search in one of them asks for words with that mark.
static IN_TENANT: Sql = Sql {
    text: search!(found_by_index!()),
    params: params!(Type::REGCONFIG),
};

/// The id of a configuration, where the index is there and is for that one.
static TENANT_INDEX: Sql = Sql {
    text: "SELECT $1::text::regconfig::oid FROM pg_index i
        WHERE i.indexrelid = to_regclass('messages_search_idx') AND i.indisvalid
            AND strpos(pg_get_indexdef(i.indexrelid), format('to_tsvector(%L::regconfig', $1::text::regconfig)) > 0",
    params: &[Type::TEXT],
};

pub(super) static ALL: &[&Sql] = &[&IN_SESSION, &OF_USER, &IN_TENANT, &TENANT_INDEX];

/// A text search configuration by its id; the driver has no type for it.
#[derive(Debug)]
struct RegConfig(u32);

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

/// A page of hits, best first.
#[derive(Debug)]
pub struct Hits {
    /// The hits.
    pub hits: Vec<SearchHit>,
    /// How many there were for the page, of which `hits` are the first.
    pub available: usize,
}

impl Store {
    /// Searches; one more hit than the page holds, if there are as many.
    pub async fn search_messages(&self, caller: &Caller, search: &Search) -> Result<Hits> {
        let (sql, config) = match (search.session_id, search.user_id) {
            (Some(_), _) => (&IN_SESSION, None),
            (None, Some(_)) => (&OF_USER, None),
            (None, None) => (&IN_TENANT, Some(self.tenant_index(caller).await?)),
        };
        let (rank, session_id, seq) = match search.page.after {
            Some((bits, session_id, seq)) => (f32::from_bits(bits), session_id, seq),
            None => (f32::INFINITY, uuid::Uuid::max(), i64::MAX),
        };
        let tenant = caller.tenant.as_ref();
        let search_config = self.search_config.as_ref();
        let has_user = search.user_id.is_some();
        let roles = role_names(&search.roles);
        let fetch = search.page.fetch();
        let max_bytes = i64::try_from(MAX_PAGE_BYTES).unwrap_or(i64::MAX);
        let mut params: Vec<&(dyn ToSql + Sync)> = vec![
            &tenant,
            &caller.end_user,
            &search_config,
            &search.query,
            &search.session_id,
            &search.user_id,
            &has_user,
            &roles,
            &search.in_content,
            &search.in_selected_text,
            &rank,
            &session_id,
            &seq,
            &fetch,
            &max_bytes,
        ];
        params.extend(config.as_ref().map(|config| config as &(dyn ToSql + Sync)));
        let rows = match self.db.read_planned(caller.deadline, sql, &params).await {
            Err(DbError::Sql(error)) if is_bad_query(&error) => {
                return Err(Error::invalid(
                    "query",
                    "has more operators, or longer words, than a search can have",
                ));
            }
            rows => rows?,
        };
        if rows.is_empty()
            && let Some(session_id) = search.session_id
        {
            self.session(caller, session_id).await?;
        }
        let available = rows.first().map_or(0, |row| row.get::<_, i64>(COLUMNS));
        let hits = rows.into_iter().map(|row| {
            Ok(SearchHit {
                message: message(&row)?,
                session_title: row.get(COLUMNS + 1),
                rank: row.get(COLUMNS + 2),
                snippet: row.get(COLUMNS + 3),
            })
        });
        Ok(Hits {
            hits: hits.collect::<Result<_>>()?,
            available: usize::try_from(available).unwrap_or(usize::MAX),
        })
    }

    /// The configuration that the tenant-wide index is for, which is this server's.
    async fn tenant_index(&self, caller: &Caller) -> Result<RegConfig> {
        let name = self.search_config.as_ref();
        let rows = self.read(caller, &TENANT_INDEX, &[&name]).await?;
        let row = rows.first().ok_or_else(|| {
            let text = format!(
                "or user_id is required: searching all messages needs the index that `chatledger migrate up --with \
                 search` installs, for the text search configuration {name}"
            );
            Error::invalid("session_id", text)
        })?;
        Ok(RegConfig(row.get(0)))
    }
}
