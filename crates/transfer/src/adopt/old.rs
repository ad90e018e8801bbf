//! The old tables, and the SQL that copies and compares their rows.

use std::collections::BTreeMap;

use anyhow::ensure;
use tokio_postgres::{Client, types::Type};

use crate::{
    layouts::ROLES,
    row::{FALSE, TRUE},
};
use chatledger::migrations::Scope;
use chatledger_postgres::connect::describe;

const COLUMNS: &str = "SELECT c.relname::text, a.attname::text, format_type(a.atttypid, NULL) FROM pg_class c
    JOIN pg_attribute a ON a.attrelid = c.oid
    WHERE pg_table_is_visible(c.oid) AND c.relkind IN ('r', 'p') AND c.relname = ANY($1)
        AND a.attnum > 0 AND NOT a.attisdropped";

/// Columns that become columns; further ones go into the metadata, where the new table has some.
const USERS: &[&str] = &[
    "id",
    "email",
    "name",
    "hashed_password",
    "password_hash",
    "is_active",
    "active",
    "created_at",
    "updated_at",
];
const PROFILES: &[&str] = &[
    "id",
    "user_id",
    "software_background",
    "hardware_background",
    "learning_goals",
    "experience_level",
    "preferred_language",
    "created_at",
    "updated_at",
];
const SESSIONS: &[&str] = &["id", "user_id", "title", "created_at", "updated_at"];
const MESSAGES: &[&str] = &[
    "id",
    "session_id",
    "user_id",
    "role",
    "content",
    "selected_text",
    "created_at",
];
const CITATIONS: &[&str] = &[
    "id",
    "message_id",
    "document_id",
    "chunk_id",
    "score",
    "citation_index",
    "created_at",
];

/// Where the old tables are kept.
pub(super) const KEPT_IN: &str = "before_chatledger";

/// The tables that are moved, where they are there.
pub(super) fn tables_of(scope: Scope) -> &'static [&'static str] {
    match scope {
        Scope::All => &[
            "users",
            "user_profiles",
            "chat_sessions",
            "messages",
            "message_citations",
            "schema_migrations",
        ],
        Scope::Auth => &["users", "user_profiles"],
        Scope::Chat => &["chat_sessions", "messages", "message_citations"],
    }
}

/// A database's error with its detail, which names the row.
pub(super) fn explain(error: tokio_postgres::Error) -> anyhow::Error {
    let detail = error.as_db_error().and_then(|db| db.detail());
    let detail = detail.map(|detail| format!(": {}", detail.replace('\n', " ")));
    anyhow::anyhow!("{}{}", describe(&error), detail.unwrap_or_default())
}

/// The old tables: the type of each column.
pub(super) struct OldTables<'a> {
    pub(super) tables: BTreeMap<String, BTreeMap<String, String>>,
    scope: Scope,
    zone: &'a str,
}

impl<'a> OldTables<'a> {
    pub(super) async fn read(client: &Client, scope: Scope, zone: &'a str) -> anyhow::Result<OldTables<'a>> {
        let rows = client
            .query_typed(COLUMNS, &[(&tables_of(scope), Type::TEXT_ARRAY)])
            .await
            .map_err(explain)?;
        let mut tables: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
        for row in &rows {
            tables
                .entry(row.get(0))
                .or_default()
                .insert(row.get(1), row.get(2));
        }
        let old = OldTables { tables, scope, zone };
        for table in ["users", "chat_sessions", "messages"] {
            ensure!(
                !old.tables.contains_key(table) || old.type_of(table, "id") == Some("uuid"),
                "{table}.id must be of the type uuid"
            );
        }
        Ok(old)
    }

    fn type_of(&self, table: &str, column: &str) -> Option<&str> {
        self.tables.get(table)?.get(column).map(String::as_str)
    }

    /// The columns of a table that aren't `known`.
    fn others(&self, table: &str, known: &[&str]) -> Vec<&str> {
        let columns = self.tables.get(table).into_iter().flat_map(BTreeMap::keys);
        let columns = columns.map(String::as_str);
        columns.filter(|column| !known.contains(column)).collect()
    }

    pub(super) fn left_behind(&self) -> Vec<String> {
        let of = |table, known| {
            let others = self.others(table, known);
            others.into_iter().map(move |column| format!("{table}.{column}"))
        };
        of("users", USERS)
            .chain(of("message_citations", CITATIONS))
            .collect()
    }

    /// A column of `t`, or NULL.
    fn text(&self, table: &str, column: &str) -> String {
        match self.type_of(table, column) {
            Some(_) => format!("t.{column}::text"),
            None => "NULL::text".to_owned(),
        }
    }

    /// A UUID of `t`, or NULL.
    fn uuid(&self, table: &str, column: &str) -> String {
        match self.type_of(table, column) {
            Some(_) => format!("t.{column}::uuid"),
            None => "NULL::uuid".to_owned(),
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
    fn json(&self, table: &str, column: &str, known: &[&str]) -> String {
        let object = match self.type_of(table, column) {
            Some(_) => format!(
                "CASE coalesce(jsonb_typeof(t.{column}::jsonb), 'null') WHEN 'object' THEN t.{column}::jsonb
                    WHEN 'null' THEN '{{}}' ELSE jsonb_build_object('value', t.{column}::jsonb) END"
            ),
            None => "'{}'::jsonb".to_owned(),
        };
        let others = self.others(table, known);
        if others.iter().all(|other| *other == column) {
            return object;
        }
        let all_known = known.join(",");
        // The function jsonb_strip_nulls isn't used: it would strip what the values have within as well.
        format!(
            "(SELECT coalesce(jsonb_object_agg(e.key, e.value), '{{}}')
                FROM jsonb_each(to_jsonb(t) - '{{{all_known},{column}}}'::text[]) e WHERE e.value <> 'null') || {object}"
        )
    }

    /// The statements that copy the rows, in order.
    pub(super) fn copies(&self) -> Vec<(&'static str, String)> {
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
        let active = self.active();
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

    /// Whether a user is active, by the words that an import knows. Any other is an error: nobody is let in for it.
    fn active(&self) -> String {
        let names = ["is_active", "active"];
        let Some(name) = names
            .into_iter()
            .find(|name| self.type_of("users", name).is_some())
        else {
            return "true".to_owned();
        };
        let words = |words: &[&str]| words.join("','");
        format!(
            "CASE WHEN t.{name} IS NULL OR lower(trim(t.{name}::text)) IN ('{}') THEN true
                WHEN lower(trim(t.{name}::text)) IN ('{}') THEN false ELSE t.{name}::text::boolean END",
            words(TRUE),
            words(FALSE)
        )
    }

    fn profiles(&self) -> String {
        let text = |column| self.text("user_profiles", column);
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
            self.json("user_profiles", "preferences", PROFILES),
            self.time("user_profiles", "updated_at"),
            created = self.time("user_profiles", "created_at"),
        )
    }

    /// A session whose user isn't there is nobody's, and says in its metadata whose it was. Without users, the ids
    /// are the application's own.
    fn sessions(&self) -> String {
        let user = self.uuid("chat_sessions", "user_id");
        let (owner, was, join) = if self.scope.has_auth() {
            let was = format!(
                " || CASE WHEN u.id IS NULL AND {user} IS NOT NULL
                    THEN jsonb_build_object('user_id', {user}) ELSE '{{}}' END"
            );
            ("u.id", was, format!(" LEFT JOIN users u ON u.id = {user}"))
        } else {
            (user.as_str(), String::new(), String::new())
        };
        format!(
            "INSERT INTO chat_sessions (id, user_id, title, metadata, created_at, updated_at)
            SELECT t.id, {owner}, {}, {}{was}, coalesce({created}, now()), coalesce({}, {created}, now())
            FROM {KEPT_IN}.chat_sessions t{join}",
            self.text("chat_sessions", "title"),
            self.json("chat_sessions", "metadata", SESSIONS),
            self.time("chat_sessions", "updated_at"),
            created = self.time("chat_sessions", "created_at"),
        )
    }

    /// The messages in the order of time, then of the table, as an import. A user who isn't the session's is kept in
    /// the metadata.
    fn messages(&self) -> String {
        let created = self.time("messages", "created_at");
        let user = self.uuid("messages", "user_id");
        let other = match self.type_of("messages", "user_id") {
            Some(_) => format!(
                " || CASE WHEN {user} <> s.user_id OR s.user_id IS NULL AND {user} IS NOT NULL
                    THEN jsonb_build_object('user_id', {user}) ELSE '{{}}' END"
            ),
            None => String::new(),
        };
        format!(
            "INSERT INTO messages (id, session_id, seq, role, content, selected_text, metadata, created_at)
            SELECT t.id, t.session_id, row_number() OVER (PARTITION BY t.session_id ORDER BY {created}, t.ctid),
                {role}, coalesce({}, ''), {}, {}{other}, coalesce({created}, s.created_at)
            FROM {KEPT_IN}.messages t JOIN chat_sessions s ON s.id = t.session_id",
            self.text("messages", "content"),
            self.text("messages", "selected_text"),
            self.json("messages", "metadata", MESSAGES),
            role = role(),
        )
    }

    /// The citations with the index that each has, unless a message's aren't 1 and more, each once.
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
    pub(super) async fn compare(&self, client: &Client, table: &str) -> anyhow::Result<i64> {
        let content = match table {
            // A word that is a role already stays it.
            "messages" => &format!("concat_ws(chr(10), t.id, {}, t.content)", role()),
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
        let old = client.query_typed(&old, &[]).await.map_err(explain)?;
        let new = client.query_typed(&new, &[]).await.map_err(explain)?;
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
        self.compare_json(client, table).await?;
        Ok(after)
    }

    /// Looks whether each row's JSON is still there, and nothing is that wasn't: by other words than those that
    /// copied it.
    async fn compare_json(&self, client: &Client, table: &str) -> anyhow::Result<()> {
        let (column, key) = match table {
            "user_profiles" => ("preferences", "user_id"),
            "chat_sessions" | "messages" => ("metadata", "id"),
            _ => return Ok(()),
        };
        if self.type_of(table, column).is_none() {
            return Ok(());
        }
        let sql = format!(
            "SELECT count(*) FROM {KEPT_IN}.{table} o JOIN {table} n USING ({key}) WHERE NOT CASE
                WHEN o.{column} IS NULL OR o.{column}::text = 'null' THEN (n.{column} -> 'value') IS DISTINCT FROM 'null'
                WHEN o.{column}::text LIKE '{{%' THEN n.{column} @> o.{column}::jsonb
                ELSE n.{column} -> 'value' = o.{column}::jsonb END"
        );
        let rows = client.query_typed(&sql, &[]).await.map_err(explain)?;
        let differing = rows.first().map_or(0, |row| row.get::<_, i64>(0));
        ensure!(
            differing == 0,
            "{table}.{column} differs from what it was in {differing} rows"
        );
        Ok(())
    }
}

/// The role of `t`, by the names that an import knows.
fn role() -> String {
    let names: Vec<String> = ROLES
        .iter()
        .map(|(name, role)| format!("WHEN '{name}' THEN '{role}'"))
        .collect();
    let given = "regexp_replace(lower(trim(t.role::text)), '^.*\\.', '')";
    format!("CASE {given} {} ELSE {given} END", names.join(" "))
}
