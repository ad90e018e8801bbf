//! Full-text search over one session's or one user's messages, which are reached by their index and ranked
//! on the fly.

use tokio_postgres::types::Type;

use super::{
    Store,
    message::{COLUMNS, citations, columns, message, role_names},
};
use crate::{
    auth::Caller,
    domain::{
        Result,
        message::{Search, SearchHit},
        page::MAX_PAGE_BYTES,
    },
    postgres::Sql,
};

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

/// `$9`, `$10`: in the content, in the selected text. `$11` to `$13`: the rank, session and seq that the
/// page's rows are below. `$15`: as for lists of messages.
macro_rules! search {
    ($within:literal) => {
        concat!(
            "WITH hits AS (
                SELECT m.id, m.session_id, m.seq, s.title, q.query, ts_rank(texts.vector, q.query) AS rank,
                    octet_length(m.content) + coalesce(octet_length(m.selected_text), 0)
                        + coalesce(octet_length(m.payload), 0) + pg_column_size(m.metadata) AS size
                FROM chat_sessions s
                JOIN messages m ON m.session_id = s.id AND m.deleted_at IS NULL
                CROSS JOIN websearch_to_tsquery($3::text::regconfig, $4) AS q (query)
                CROSS JOIN LATERAL (SELECT
                    CASE WHEN $9 THEN ", searched!("m.content"), " ELSE '' END
                    || CASE WHEN $10 THEN ", gap!(), " || ", searched!("coalesce(m.selected_text, '')"), " ELSE '' END
                ) AS texts (vector)
                WHERE s.tenant_id = $1 AND ($2::uuid IS NULL OR s.user_id = $2)
                    AND ", $within, "
                    AND ($8::text[] IS NULL OR m.role = ANY($8)) AND texts.vector @@ q.query
            ), page AS (
                SELECT * FROM hits WHERE (rank, session_id, seq) < ($11, $12, $13)
                ORDER BY rank DESC, session_id DESC, seq DESC LIMIT $14
            ), sized AS (
                SELECT *, count(*) OVER () AS available, coalesce(sum(size) OVER (
                    ORDER BY rank DESC, session_id DESC, seq DESC
                    ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS before
                FROM page
            )
            SELECT ", columns!(), ", p.available, coalesce(p.title, ''), p.rank,
                ts_headline($3::text::regconfig, left(
                    CASE WHEN $9 AND ($10 IS FALSE OR ", searched!("m.content"), " @@ p.query)
                        THEN m.content ELSE coalesce(m.selected_text, m.content) END, 100000),
                    p.query, 'MaxFragments=2, FragmentDelimiter= … ')
            FROM sized p JOIN messages m ON m.id = p.id", citations!("true"), "
            WHERE p.before < $15
            ORDER BY p.rank DESC, p.session_id DESC, p.seq DESC"
        )
    };
}

const PARAMS: &[Type] = &[
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
];

/// `$5` is the session; `$6` the user, or NULL for any. `$7`: whether there is a user.
static IN_SESSION: Sql = Sql {
    text: search!("s.id = $5 AND (NOT $7 OR s.user_id = $6)"),
    params: PARAMS,
};

/// `$6` is the user; `$5` is NULL and `$7` true.
static OF_USER: Sql = Sql {
    text: search!("s.user_id = $6 AND $5::uuid IS NULL AND $7"),
    params: PARAMS,
};

pub(super) static ALL: &[&Sql] = &[&IN_SESSION, &OF_USER];

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
        let sql = if search.session_id.is_some() {
            &IN_SESSION
        } else {
            &OF_USER
        };
        let (rank, session_id, seq) = match search.page.after {
            Some((bits, session_id, seq)) => (f32::from_bits(bits), session_id, seq),
            None => (f32::INFINITY, uuid::Uuid::max(), i64::MAX),
        };
        let rows = self
            .read_planned(
                caller,
                sql,
                &[
                    &caller.tenant.as_ref(),
                    &caller.end_user,
                    &self.search_config.as_ref(),
                    &search.query,
                    &search.session_id,
                    &search.user_id,
                    &search.user_id.is_some(),
                    &role_names(&search.roles),
                    &search.in_content,
                    &search.in_selected_text,
                    &rank,
                    &session_id,
                    &seq,
                    &search.page.fetch(),
                    &i64::try_from(MAX_PAGE_BYTES).unwrap_or(i64::MAX),
                ],
            )
            .await?;
        if rows.is_empty()
            && let Some(session_id) = search.session_id
        {
            self.session(caller, session_id).await?;
        }
        let available = rows.first().map_or(0, |row| row.get::<_, i64>(COLUMNS));
        let hits = rows.iter().map(|row| {
            Ok(SearchHit {
                message: message(row)?,
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
}
