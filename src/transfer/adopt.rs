//! `rag-uuid` tables that are in the target's own database: converted where they are, in one transaction. The
//! old tables move to a schema of their own, our migrations run, the rows are copied by SQL, and unless both
//! sides agree, all of it is undone.

use std::{collections::BTreeMap, fmt};

use anyhow::{Context, bail, ensure};
use jiff::tz::TimeZone;
use tokio_postgres::{Client, Transaction, types::Type};

use super::layouts::Layout;
use crate::{migrate, postgres::connect::describe, store::Scope};

/// Where the old tables are kept.
pub const KEPT_IN: &str = "before_chatledger";

/// What is moved, where it is there.
const TABLES: [&str; 6] = [
    "users",
    "user_profiles",
    "chat_sessions",
    "messages",
    "message_citations",
    "schema_migrations",
];

const COLUMNS: &str = "SELECT c.relname::text, a.attname::text, format_type(a.atttypid, NULL) FROM pg_class c
    JOIN pg_attribute a ON a.attrelid = c.oid
    WHERE pg_table_is_visible(c.oid) AND c.relkind IN ('r', 'p') AND c.relname = ANY($1)
        AND a.attnum > 0 AND NOT a.attisdropped";

/// What would go on using the old tables: foreign keys and views of tables that aren't moved.
const DEPENDENTS: &str = "SELECT format('%s of %s', k.conname, k.conrelid::regclass) FROM pg_constraint k
        WHERE k.contype = 'f' AND k.confrelid = ANY(SELECT to_regclass(t) FROM unnest($1) t)
            AND NOT k.conrelid = ANY(SELECT to_regclass(t) FROM unnest($1) t WHERE to_regclass(t) IS NOT NULL)
    UNION SELECT format('view %s', r.ev_class::regclass) FROM pg_depend d JOIN pg_rewrite r ON r.oid = d.objid
        WHERE d.classid = 'pg_rewrite'::regclass AND d.refobjid = ANY(SELECT to_regclass(t) FROM unnest($1) t)
            AND r.ev_class <> d.refobjid";

/// What was adopted: how many rows of each table.
#[derive(Debug, Default)]
pub struct Adopted(pub Vec<(&'static str, i64)>);

impl fmt::Display for Adopted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (table, rows) in &self.0 {
            writeln!(f, "{table:<20} {rows:>10}")?;
        }
        writeln!(
            f,
            "adopted; counts and checksums agree. The old tables are in the schema {KEPT_IN}: drop it"
        )?;
        writeln!(f, "when nothing misses them (DROP SCHEMA {KEPT_IN} CASCADE).")
    }
}

fn explain(error: tokio_postgres::Error) -> anyhow::Error {
    anyhow::anyhow!(describe(&error))
}

/// Converts the tables.
///
/// # Errors
/// The tables aren't of this layout, or something doesn't fit; then nothing has changed.
pub async fn run(
    client: &mut Client,
    layout: Layout,
    scope: Scope,
    time_zone: &TimeZone,
) -> anyhow::Result<Adopted> {
    let found = layout.recognize(client).await?;
    if found == Layout::Chatledger {
        bail!("the database is chatledger's already");
    }
    ensure!(
        found == Layout::RagUuid && scope == Scope::All,
        "only rag-uuid can be converted in place, and only with --scope all; import copies the others"
    );
    let tx = client.transaction().await.map_err(explain)?;
    let adopted = adopt(&tx, time_zone).await.context("nothing was changed")?;
    tx.commit().await.map_err(explain)?;
    Ok(adopted)
}

async fn adopt(tx: &Transaction<'_>, time_zone: &TimeZone) -> anyhow::Result<Adopted> {
    let zone = time_zone.iana_name().context("the time zone has no name")?;
    let old = Old::read(tx, zone).await?;
    let dependents = texts(tx, DEPENDENTS).await?;
    ensure!(
        dependents.is_empty(),
        "these would go on using the old tables: {}; drop them first, and make them again afterwards",
        dependents.join(", ")
    );
    execute(tx, &format!("CREATE SCHEMA {KEPT_IN}")).await?;
    for table in old.tables.keys() {
        execute(tx, &format!("ALTER TABLE {table} SET SCHEMA {KEPT_IN}")).await?;
    }
    migrate::install_within(tx.client(), Scope::All).await?;
    let mut adopted = Adopted::default();
    for (table, statement) in old.copies() {
        execute(tx, &statement)
            .await
            .with_context(|| format!("copying {table}"))?;
        adopted.0.push((table, old.compare(tx, table).await?));
    }
    execute(tx, COUNTERS).await?;
    Ok(adopted)
}

async fn execute(tx: &Transaction<'_>, sql: &str) -> anyhow::Result<()> {
    tx.batch_execute(sql).await.map_err(explain)
}

async fn texts(tx: &Transaction<'_>, sql: &str) -> anyhow::Result<Vec<String>> {
    let tables: &[&str] = &TABLES;
    let rows = tx
        .query_typed(sql, &[(&tables, Type::TEXT_ARRAY)])
        .await
        .map_err(explain)?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// What the ledger knows of each session.
const COUNTERS: &str = "UPDATE chat_sessions s SET last_seq = m.last, last_message_at = m.newest
    FROM (SELECT session_id, max(seq) AS last, max(created_at) AS newest FROM messages GROUP BY session_id) m
    WHERE m.session_id = s.id";

/// The old tables: the type of each column.
struct Old<'a> {
    tables: BTreeMap<String, BTreeMap<String, String>>,
    zone: &'a str,
}

impl<'a> Old<'a> {
    async fn read(tx: &Transaction<'_>, zone: &'a str) -> anyhow::Result<Old<'a>> {
        let names: &[&str] = &TABLES;
        let rows = tx
            .query_typed(COLUMNS, &[(&names, Type::TEXT_ARRAY)])
            .await
            .map_err(explain)?;
        let mut tables: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
        for row in &rows {
            tables
                .entry(row.get(0))
                .or_default()
                .insert(row.get(1), row.get(2));
        }
        let old = Old { tables, zone };
        for table in ["chat_sessions", "messages"] {
            ensure!(
                old.type_of(table, "id") == Some("uuid"),
                "{table}.id must be of the type uuid"
            );
        }
        Ok(old)
    }

    fn type_of(&self, table: &str, column: &str) -> Option<&str> {
        self.tables.get(table)?.get(column).map(String::as_str)
    }

    /// A column of `t`, or NULL.
    fn text(&self, table: &str, column: &str) -> String {
        match self.type_of(table, column) {
            Some(_) => format!("t.{column}::text"),
            None => "NULL::text".to_owned(),
        }
    }

    /// A time of `t`; one without an offset is the source zone's.
    fn time(&self, table: &str, column: &str) -> String {
        match self.type_of(table, column) {
            Some("timestamp without time zone") => {
                format!("t.{column} AT TIME ZONE '{}'", self.zone.replace('\'', "''"))
            }
            Some(_) => format!("t.{column}::timestamptz"),
            None => "NULL::timestamptz".to_owned(),
        }
    }

    /// The JSON column of `t` with all that has no column of its own.
    fn json(&self, table: &str, column: &str, known: &str) -> String {
        let object = match self.type_of(table, column) {
            Some(_) => format!(
                "CASE jsonb_typeof(t.{column}::jsonb) WHEN 'object' THEN t.{column}::jsonb WHEN 'null' THEN '{{}}'
                ELSE jsonb_build_object('value', t.{column}::jsonb) END"
            ),
            None => "'{}'::jsonb".to_owned(),
        };
        format!(
            "jsonb_strip_nulls(to_jsonb(t) - '{{{known},{column}}}'::text[]) || coalesce({object}, '{{}}')"
        )
    }

    /// The statements that copy the rows, in order.
    fn copies(&self) -> Vec<(&'static str, String)> {
        let all = [
            ("users", self.users()),
            ("user_profiles", self.profiles()),
            ("chat_sessions", self.sessions()),
            ("messages", self.messages()),
            ("message_citations", self.citations()),
        ];
        all.into_iter()
            .filter(|(table, _)| self.tables.contains_key(*table))
            .collect()
    }

    fn users(&self) -> String {
        let text = |column| self.text("users", column);
        let active = match self.type_of("users", "is_active") {
            Some(_) => "coalesce(t.is_active::boolean, true)",
            None => "true",
        };
        format!(
            "INSERT INTO users (id, email, name, hashed_password, is_active, created_at, updated_at)
            SELECT t.id, {}, {}, coalesce({}, {}), {active}, coalesce({created}, now()), coalesce({}, {created}, now())
            FROM {KEPT_IN}.users t",
            text("email"),
            text("name"),
            text("hashed_password"),
            text("password_hash"),
            self.time("users", "updated_at"),
            created = self.time("users", "created_at"),
        )
    }

    fn profiles(&self) -> String {
        let text = |column| self.text("user_profiles", column);
        let known = "id,user_id,software_background,hardware_background,learning_goals,experience_level,\
                     preferred_language,created_at,updated_at";
        format!(
            "INSERT INTO user_profiles (user_id, software_background, hardware_background, learning_goals,
                experience_level, preferred_language, preferences, created_at, updated_at)
            SELECT t.user_id, {}, {}, {}, {}, coalesce({}, 'en'), {}, coalesce({created}, now()),
                coalesce({}, {created}, now())
            FROM {KEPT_IN}.user_profiles t",
            text("software_background"),
            text("hardware_background"),
            text("learning_goals"),
            text("experience_level"),
            text("preferred_language"),
            self.json("user_profiles", "preferences", known),
            self.time("user_profiles", "updated_at"),
            created = self.time("user_profiles", "created_at"),
        )
    }

    /// A session whose user isn't there is nobody's, and says in its metadata whose it was.
    fn sessions(&self) -> String {
        let user = match self.type_of("chat_sessions", "user_id") {
            Some(_) => "t.user_id::uuid",
            None => "NULL::uuid",
        };
        format!(
            "INSERT INTO chat_sessions (id, user_id, title, metadata, created_at, updated_at)
            SELECT t.id, u.id, {}, {} || CASE WHEN u.id IS NULL AND {user} IS NOT NULL
                    THEN jsonb_build_object('user_id', {user}) ELSE '{{}}' END,
                coalesce({created}, now()), coalesce({}, {created}, now())
            FROM {KEPT_IN}.chat_sessions t LEFT JOIN users u ON u.id = {user}",
            self.text("chat_sessions", "title"),
            self.json(
                "chat_sessions",
                "metadata",
                "id,user_id,title,created_at,updated_at"
            ),
            self.time("chat_sessions", "updated_at"),
            created = self.time("chat_sessions", "created_at"),
        )
    }

    /// In the order of time, then key.
    fn messages(&self) -> String {
        let created = self.time("messages", "created_at");
        format!(
            "INSERT INTO messages (id, session_id, seq, role, content, selected_text, metadata, created_at)
            SELECT t.id, t.session_id, row_number() OVER (PARTITION BY t.session_id ORDER BY {created}, t.id),
                lower(trim(t.role::text)), coalesce({}, ''), {}, {}, coalesce({created}, s.created_at)
            FROM {KEPT_IN}.messages t JOIN chat_sessions s ON s.id = t.session_id",
            self.text("messages", "content"),
            self.text("messages", "selected_text"),
            self.json(
                "messages",
                "metadata",
                "id,session_id,user_id,role,content,selected_text,created_at"
            ),
        )
    }

    /// With the index that each has, unless a message's aren't 1 and more, each once.
    fn citations(&self) -> String {
        let index = match self.type_of("message_citations", "citation_index") {
            Some(_) => "t.citation_index::integer",
            None => "NULL::integer",
        };
        let score = match self.type_of("message_citations", "score") {
            Some(_) => "t.score::double precision",
            None => "NULL::double precision",
        };
        let created = self.time("message_citations", "created_at");
        format!(
            "INSERT INTO message_citations
                (message_id, session_id, document_id, chunk_id, score, citation_index, created_at)
            SELECT message_id, session_id, document_id, chunk_id, score,
                CASE WHEN bool_and(alike = 1 AND coalesce(given, 0) > 0) OVER (PARTITION BY message_id)
                    THEN given ELSE place::integer END,
                created_at
            FROM (
                SELECT t.message_id, m.session_id, {} AS document_id, {} AS chunk_id, {score} AS score, {index} AS given,
                    count(*) OVER (PARTITION BY t.message_id, {index}) AS alike,
                    row_number() OVER (PARTITION BY t.message_id ORDER BY {index}, {created}) AS place,
                    coalesce({created}, m.created_at) AS created_at
                FROM {KEPT_IN}.message_citations t JOIN messages m ON m.id = t.message_id
            ) t",
            self.text("message_citations", "document_id"),
            self.text("message_citations", "chunk_id"),
        )
    }

    /// Compares an old table with the new one, and answers how many rows both have.
    async fn compare(&self, tx: &Transaction<'_>, table: &str) -> anyhow::Result<i64> {
        let content = match table {
            "messages" => "concat_ws(chr(10), t.id, lower(trim(t.role::text)), t.content)",
            "message_citations" => "concat_ws(chr(10), t.message_id, t.document_id, t.chunk_id)",
            "user_profiles" => "t.user_id::text",
            _ => "t.id::text",
        };
        let sum = |from: &str| {
            format!(
                "SELECT count(*), coalesce(sum(hashtextextended({content}, 0)::numeric), 0)::text FROM {from} t"
            )
        };
        let (old, new) = (sum(&format!("{KEPT_IN}.{table}")), sum(table));
        let old = tx.query_typed(&old, &[]).await.map_err(explain)?;
        let new = tx.query_typed(&new, &[]).await.map_err(explain)?;
        let read = |rows: &[tokio_postgres::Row]| -> (i64, String) {
            rows.first()
                .map(|row| (row.get(0), row.get(1)))
                .unwrap_or_default()
        };
        let ((before, old), (after, new)) = (read(&old), read(&new));
        ensure!(
            before == after,
            "{table} has {before} rows, of which {after} fit: the others belong to nothing (import tells which)"
        );
        ensure!(old == new, "{table} differs from what it was");
        Ok(after)
    }
}
