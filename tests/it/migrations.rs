//! The schema: how it is brought up to date by any number of servers, from every state, and what it is.

use std::{collections::BTreeMap, fs, path::Path, time::Duration};

use chatledger::migrations::{self, Scope};
use tokio_postgres::Client;

use crate::harness::{database::migration_files, *};

/// In the order in which they are installed.
const SETS: [&str; 4] = ["access", "auth", "chat", "link"];

/// Everything that the sets make, described as text, one line each: columns, constraints, indexes, triggers,
/// functions and the tables' settings.
pub async fn catalog(client: &Client) -> Vec<String> {
    let sql = "
        WITH tables AS (SELECT c.oid, c.relname, c.reloptions FROM pg_class c
            WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r'
                AND c.relname NOT LIKE 'chatledger%migrations')
        SELECT format('table %s %s', relname, reloptions) FROM tables
        UNION ALL SELECT format('column %s.%s %s %s %s %s', t.relname, a.attname,
                format_type(a.atttypid, a.atttypmod), a.attnotnull, pg_get_expr(d.adbin, d.adrelid), a.attnum)
            FROM tables t JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum > 0 AND NOT a.attisdropped
            LEFT JOIN pg_attrdef d ON d.adrelid = t.oid AND d.adnum = a.attnum
        UNION ALL SELECT format('constraint %s %s %s', t.relname, c.conname, pg_get_constraintdef(c.oid))
            FROM tables t JOIN pg_constraint c ON c.conrelid = t.oid
        UNION ALL SELECT format('index %s %s', i.indisvalid, pg_get_indexdef(i.indexrelid))
            FROM tables t JOIN pg_index i ON i.indrelid = t.oid
        UNION ALL SELECT format('trigger %s', pg_get_triggerdef(g.oid))
            FROM tables t JOIN pg_trigger g ON g.tgrelid = t.oid AND NOT g.tgisinternal
        UNION ALL SELECT pg_get_functiondef(p.oid) FROM pg_proc p
            WHERE p.pronamespace = 'public'::regnamespace
        ORDER BY 1";
    let rows = client.query(sql, &[]).await.expect("the catalog");
    rows.iter().map(|row| row.get(0)).collect()
}

/// How far each set's history is; no entry where there is none.
async fn versions(client: &Client) -> BTreeMap<&'static str, i64> {
    let mut versions = BTreeMap::new();
    for set in SETS {
        let table = format!("chatledger_{set}_migrations");
        let exists = format!("SELECT to_regclass('{table}') IS NOT NULL");
        if client.query_one(&exists, &[]).await.expect("a look").get(0) {
            let sql = format!("SELECT max(version)::bigint FROM {table}");
            let version: Option<i64> = client.query_one(&sql, &[]).await.expect("a version").get(0);
            versions.extend(version.map(|version| (set, version)));
        }
    }
    versions
}

async fn prepare(database: &TestDatabase, scope: Scope) -> anyhow::Result<String> {
    migrations::prepare(&database.connector(), scope, "english", Duration::from_secs(10)).await
}

fn heads(sets: &[&'static str]) -> BTreeMap<&'static str, i64> {
    sets.iter()
        .map(|set| (*set, i64::try_from(migration_files(set).len()).expect("few")))
        .collect()
}

async fn run_file(client: &Client, file: &Path) {
    let sql = fs::read_to_string(file).expect("a migration");
    let done = client.batch_execute(&sql).await;
    done.unwrap_or_else(|error| panic!("{}: {error:?}", file.display()));
}

#[tokio::test]
async fn eight_servers_may_boot_at_once_on_an_empty_database() {
    let database = TestDatabase::empty().await;
    let boots = (0..8).map(|_| prepare(&database, Scope::All));
    let versions_told = futures_util::future::join_all(boots).await;
    for version in versions_told {
        assert!(version.expect("a boot").contains('.'));
    }
    let client = database.client().await;
    assert_eq!(versions(&client).await, heads(&SETS));
    let template = TestDatabase::new().await;
    assert_eq!(catalog(&client).await, catalog(&template.client().await).await);
}

#[tokio::test]
async fn each_scope_installs_its_sets_and_no_others() {
    for (scope, sets, tables) in [
        (
            Scope::Auth,
            &["access", "auth"][..],
            "api_keys audit_events user_profiles users",
        ),
        (
            Scope::Chat,
            &["access", "chat"],
            "api_keys audit_events chat_sessions documents message_citations messages",
        ),
        (
            Scope::All,
            &SETS,
            "api_keys audit_events chat_sessions documents message_citations messages user_profiles users",
        ),
    ] {
        let database = TestDatabase::empty().await;
        database.migrate(scope).await;
        let client = database.client().await;
        assert_eq!(versions(&client).await, heads(sets), "{scope:?}");
        let sql = "SELECT string_agg(tablename, ' ' ORDER BY tablename) FROM pg_tables
            WHERE schemaname = 'public' AND tablename NOT LIKE 'chatledger%'";
        let found: String = client.query_one(sql, &[]).await.expect("tables").get(0);
        assert_eq!(found, tables, "{scope:?}");
        // A second boot finds nothing to do.
        let before = catalog(&client).await;
        database.migrate(scope).await;
        assert_eq!(catalog(&client).await, before, "{scope:?}");
    }
}

#[tokio::test]
async fn from_every_scope_to_every_other_without_losing_a_row() {
    let template = TestDatabase::new().await;
    let whole = catalog(&template.client().await).await;
    for (first, second) in [
        (Scope::Auth, Scope::Chat),
        (Scope::Chat, Scope::Auth),
        (Scope::All, Scope::Chat),
        (Scope::All, Scope::Auth),
    ] {
        let database = TestDatabase::empty().await;
        let mut kept = Vec::new();
        for scope in [first, second, first, Scope::All] {
            database.migrate(scope).await;
            let server = start_with(&database, |options| options.scope = scope).await;
            if scope.has_auth() {
                kept.push(format!("users WHERE id = '{}'", new_user(&server).await.id));
            }
            if scope.has_chat() {
                kept.push(format!(
                    "chat_sessions WHERE id = '{}'",
                    new_session(&server).await
                ));
            }
            server.stop().await;
        }
        let client = database.client().await;
        assert_eq!(versions(&client).await, heads(&SETS), "{first:?} to {second:?}");
        assert_eq!(catalog(&client).await, whole, "{first:?} to {second:?}");
        for row in kept {
            let found = client
                .query(&format!("SELECT FROM {row}"), &[])
                .await
                .expect("a look");
            assert_eq!(found.len(), 1, "{first:?} to {second:?}: {row}");
        }
    }
}

#[tokio::test]
async fn every_migration_has_a_way_back_that_leaves_nothing_and_lets_it_be_applied_again() {
    let database = TestDatabase::empty().await;
    let client = database.client().await;
    let files: Vec<_> = SETS.iter().flat_map(|set| migration_files(set)).collect();
    assert!(files.len() >= 8, "{files:?}");
    // What there is before each migration, and after the last.
    let mut steps = vec![catalog(&client).await];
    assert!(steps[0].is_empty());
    for file in &files {
        let down = file.with_extension("down.sql");
        run_file(&client, file).await;
        let after = catalog(&client).await;
        assert_ne!(steps.last(), Some(&after), "{}", file.display());
        run_file(&client, &down).await;
        assert_eq!(steps.last(), Some(&catalog(&client).await), "{}", down.display());
        run_file(&client, file).await;
        assert_eq!(catalog(&client).await, after, "{} again", file.display());
        steps.push(after);
    }
    // All the way down, and up once more.
    for (file, before) in files.iter().zip(&steps).rev() {
        run_file(&client, &file.with_extension("down.sql")).await;
        assert_eq!(&catalog(&client).await, before, "{}", file.display());
    }
    for (file, after) in files.iter().zip(&steps[1..]) {
        run_file(&client, file).await;
        assert_eq!(&catalog(&client).await, after, "{}", file.display());
    }
}

#[tokio::test]
async fn the_ways_back_of_a_database_with_rows_keep_the_other_sets_rows() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    let user = new_user(&server).await;
    let session = new_session_of(&server, Some(&user.id)).await.id;
    append(&server, &session, text("x")).await.expect("a receipt");
    server.stop().await;

    let client = database.client().await;
    for set in ["link", "chat"] {
        for file in migration_files(set).iter().rev() {
            run_file(&client, &file.with_extension("down.sql")).await;
        }
        let table = format!("DROP TABLE chatledger_{set}_migrations");
        client.batch_execute(&table).await.expect("no history");
    }
    database.migrate(Scope::All).await;
    let server = start(&database).await;
    let request = pb::CreateSessionRequest {
        user_id: Some(user.id),
        ..Default::default()
    };
    server
        .sessions()
        .create_session(request)
        .await
        .expect("the user is still there");
    server.stop().await;
}

#[tokio::test]
async fn a_schema_that_is_newer_than_the_server_is_accepted_within_its_major_version() {
    let database = TestDatabase::new().await;
    let client = database.client().await;
    for set in SETS {
        let sql = format!(
            "INSERT INTO chatledger_{set}_migrations
             SELECT 999, 'from_the_future', applied_on, '12345' FROM chatledger_{set}_migrations LIMIT 1"
        );
        client.batch_execute(&sql).await.expect("a newer schema");
    }
    prepare(&database, Scope::All).await.expect("a boot");
    let server = start(&database).await;
    new_session(&server).await;
    server.stop().await;

    // The next thousand is the next major version: servers of this one can't live with it.
    let sql = "UPDATE chatledger_chat_migrations SET version = 1000 WHERE version = 999";
    client.batch_execute(sql).await.expect("a newer schema");
    let refused = prepare(&database, Scope::All).await.expect_err("too new");
    let message = format!("{refused:#}");
    assert!(
        message.contains("too new") && message.contains("chat V1000"),
        "{message}"
    );
}

#[tokio::test]
async fn a_migration_that_was_edited_after_it_was_applied_is_refused_by_name() {
    for (set, name) in [("auth", "V2__user_profiles"), ("chat", "V3__message_citations")] {
        let database = TestDatabase::new().await;
        let client = database.client().await;
        let before = catalog(&client).await;
        let version = &name[1..2];
        let sql =
            format!("UPDATE chatledger_{set}_migrations SET checksum = '12345' WHERE version = {version}");
        assert_eq!(client.execute(&sql, &[]).await.expect("another checksum"), 1);
        let refused = prepare(&database, Scope::All)
            .await
            .expect_err("another migration");
        let message = format!("{refused:#}");
        assert!(
            message.contains(name) && message.contains("different"),
            "{message}"
        );
        assert!(!message.contains('\n'), "{message}");
        assert_eq!(catalog(&client).await, before);
    }
}

#[tokio::test]
async fn a_failed_migration_says_what_the_database_said_and_leaves_nothing_of_itself() {
    let database = TestDatabase::empty().await;
    let client = database.client().await;
    client
        .batch_execute("CREATE TABLE messages (text text)")
        .await
        .expect("somebody else's table");
    let refused = prepare(&database, Scope::Chat).await.expect_err("a failure");
    let message = format!("{refused:#}");
    assert!(
        message.contains("messages") && message.contains("already exists"),
        "{message}"
    );
    assert!(!message.contains('\n'), "{message}");
    assert!(message.contains("chat V2__messages"), "{message}");
    // Those before it stay applied; once there is room for it, boot goes on.
    assert_eq!(versions(&client).await.get("chat"), Some(&1));
    client.batch_execute("DROP TABLE messages").await.expect("room");
    prepare(&database, Scope::Chat).await.expect("a boot");
    assert_eq!(versions(&client).await, heads(&["access", "chat"]));
}

#[tokio::test]
async fn every_foreign_key_cascades_and_has_an_index_that_covers_it() {
    let database = TestDatabase::new().await;
    let client = database.client().await;
    // The key's columns are the first of the index, in whatever order.
    let sql = "SELECT c.conname::text, c.confdeltype = 'c', EXISTS (SELECT FROM pg_index i
                WHERE i.indrelid = c.conrelid AND i.indpred IS NULL AND i.indisvalid
                    AND (i.indkey::int2[])[0:cardinality(c.conkey) - 1] @> c.conkey)
        FROM pg_constraint c WHERE c.contype = 'f' ORDER BY 1";
    let rows = client.query(sql, &[]).await.expect("the keys");
    let keys: Vec<(String, bool, bool)> = rows
        .iter()
        .map(|row| (row.get(0), row.get(1), row.get(2)))
        .collect();
    let expected = [
        "chat_sessions_user_fkey",
        "message_citations_message_fkey",
        "messages_session_fkey",
        "user_profiles_user_fkey",
    ];
    assert_eq!(keys, expected.map(|name| (name.to_owned(), true, true)));
}

/// What people's own SQL relies upon: DESIGN's names and types.
const COLUMNS: [(&str, &str); 6] = [
    (
        "users",
        "id uuid, email text, name text, hashed_password text, is_active boolean, tenant_id text, external_id text, \
         created_at timestamp with time zone, updated_at timestamp with time zone",
    ),
    (
        "user_profiles",
        "user_id uuid, software_background text, hardware_background text, learning_goals text, \
         experience_level text, preferred_language text, preferences jsonb, \
         created_at timestamp with time zone, updated_at timestamp with time zone",
    ),
    (
        "chat_sessions",
        "id uuid, user_id uuid, title text, metadata jsonb, claim_hash bytea, last_seq bigint, has_given_ids boolean, tenant_id text, \
         active_hour timestamp with time zone, last_message_at timestamp with time zone, \
         created_at timestamp with time zone, updated_at timestamp with time zone",
    ),
    (
        "messages",
        "id uuid, session_id uuid, seq bigint, role text, content text, selected_text text, metadata jsonb, \
         payload bytea, given_id uuid, inserted_by bigint, created_at timestamp with time zone, deleted_at timestamp with time zone",
    ),
    (
        "message_citations",
        "id uuid, message_id uuid, session_id uuid, document_id text, chunk_id text, score double precision, \
         citation_index integer, tenant_id text, inserted_by bigint, created_at timestamp with time zone",
    ),
    (
        "documents",
        "id text, title text, source_uri text, mime_type text, content_hash text, metadata jsonb, tenant_id text, \
         created_at timestamp with time zone, updated_at timestamp with time zone",
    ),
];

#[tokio::test]
async fn tables_and_columns_have_the_names_and_types_that_people_s_sql_uses() {
    let database = TestDatabase::new().await;
    let client = database.client().await;
    for (table, expected) in COLUMNS {
        let sql = "SELECT column_name || ' ' || data_type FROM information_schema.columns
            WHERE table_schema = 'public' AND table_name = $1";
        let rows = client.query(sql, &[&table]).await.expect("columns");
        let mut found: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
        let mut expected: Vec<&str> = expected.split(',').map(str::trim).collect();
        found.sort();
        expected.sort_unstable();
        assert_eq!(found, expected, "{table}");
    }
}
