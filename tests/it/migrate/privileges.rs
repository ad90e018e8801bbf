//! Default privileges, as hosts of PostgreSQL set them up, and who can read password hashes.

use tokio_postgres::Client;

use super::{migrate, migrate_own, own};
use crate::harness::TestDatabase;

/// A database where whatever is created is given to the roles of the web, to everybody, and to a role of the team's own, whose
/// name is answered: as Supabase and Neon do it.
async fn generous() -> (TestDatabase, String) {
    let database = TestDatabase::empty().await;
    let team = format!("team_{}", database.name);
    let client = database.client().await;
    for role in ["anon", "authenticated", &team] {
        // Roles are the whole cluster's, and other tests make them as well.
        let sql = format!(
            "DO $$ BEGIN CREATE ROLE {role}; EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$"
        );
        client.batch_execute(&sql).await.expect("a role");
    }
    for (things, to) in [
        ("ALL ON TABLES", "anon, authenticated, PUBLIC"),
        ("ALL ON SEQUENCES", "anon, authenticated, PUBLIC"),
        ("ALL ON FUNCTIONS", "anon, authenticated"),
        ("ALL ON TABLES", &team),
    ] {
        let sql = format!("ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT {things} TO {to}");
        client.batch_execute(&sql).await.expect("default privileges");
    }
    let everywhere = format!("ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO {team}");
    client
        .batch_execute(&everywhere)
        .await
        .expect("default privileges");
    (database, team)
}

/// What anybody but the owner may do, as `role privilege thing`.
async fn grants(client: &Client) -> Vec<String> {
    let sql = "SELECT concat(CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE a.grantee::regrole::text END, ' ', a.privilege_type, ' ', name)
        FROM (SELECT oid::regclass::text AS name, relacl AS acl, relowner AS owner FROM pg_class
            WHERE relnamespace = 'public'::regnamespace
            UNION ALL SELECT oid::regprocedure::text, proacl, proowner FROM pg_proc
            WHERE pronamespace = 'public'::regnamespace) things, aclexplode(acl) a
        WHERE a.grantee <> owner ORDER BY 1";
    let rows = client.query(sql, &[]).await.expect("grants");
    rows.iter().map(|row| row.get(0)).collect()
}

#[tokio::test]
async fn what_is_created_is_nobody_elses_whatever_the_default_privileges() {
    let (database, _) = generous().await;
    let client = database.client().await;
    client
        .batch_execute("CREATE TABLE generous (id int)")
        .await
        .expect("a table");
    assert!(!grants(&client).await.is_empty());
    client
        .batch_execute("DROP TABLE generous")
        .await
        .expect("a table");

    migrate(&database, &["up", "--with", "search"]).ok();
    let open = grants(&client).await;
    // PostgreSQL lets everybody call a function that can do no more than its caller.
    let open: Vec<&String> = open
        .iter()
        .filter(|grant| !grant.starts_with("PUBLIC EXECUTE "))
        .collect();
    assert_eq!(open, Vec::<&String>::new());
    for role in ["anon", "authenticated"] {
        client
            .batch_execute(&format!("SET ROLE {role}"))
            .await
            .expect("a role");
        let read = client.query("SELECT hashed_password FROM users", &[]).await;
        assert_eq!(
            read.expect_err("no right").code().expect("a code").code(),
            "42501"
        );
        client.batch_execute("RESET ROLE").await.expect("a role");
    }
    let verdict = migrate(&database, &["verify", "--json"]).json();
    assert_eq!(
        (&verdict["clean"], &verdict["exposures"]),
        (&true.into(), &serde_json::json!([]))
    );
}

#[tokio::test]
async fn what_the_team_has_granted_stays() {
    let (database, team) = generous().await;
    let client = database.client().await;
    let dir = own(&[("V1__scores.sql", "CREATE TABLE scores (id int);")]);
    migrate(&database, &["up", "--set", "auth"]).ok();
    migrate(&database, &["up", "--set", "chat", "--to", "3"]).ok();
    let grant =
        format!("GRANT SELECT, INSERT ON messages TO {team}; GRANT SELECT (title) ON chat_sessions TO anon");
    client.batch_execute(&grant).await.expect("grants");
    migrate_own(&database, dir.path(), &["up"]).ok();
    migrate(&database, &["up"]).ok();

    let found = grants(&client).await;
    let of_team: Vec<&String> = found
        .iter()
        .filter(|grant| grant.starts_with(&team) && grant.ends_with(" messages"))
        .collect();
    assert_eq!(
        of_team,
        [
            &format!("{team} INSERT messages"),
            &format!("{team} SELECT messages")
        ]
    );
    // A table of the team's own is as its default privileges say.
    assert!(found.contains(&"anon SELECT scores".to_owned()), "{found:?}");
    let columns =
        "SELECT count(*) FROM pg_attribute, aclexplode(attacl) WHERE attrelid = 'chat_sessions'::regclass";
    let row = client.query_one(columns, &[]).await.expect("a count");
    assert_eq!(row.get::<_, i64>(0), 1);
}

#[tokio::test]
async fn verify_tells_who_can_read_password_hashes() {
    let (database, team) = generous().await;
    let client = database.client().await;
    migrate(&database, &["up"]).ok();
    // On purpose: it is told, and no fault.
    let grants = format!(
        "GRANT SELECT ON users TO {team}; GRANT SELECT (title), INSERT ON chat_sessions TO authenticated;
         GRANT SELECT (email) ON users TO anon"
    );
    client.batch_execute(&grants).await.expect("grants");
    let told = migrate(&database, &["verify"]).ok();
    for line in [
        format!("{team} can read users.hashed_password"),
        "authenticated has INSERT, SELECT of title on chat_sessions".to_owned(),
        "anon has SELECT of email on users".to_owned(),
    ] {
        assert!(told.contains(&line), "{line}: {told}");
    }
    assert!(!told.contains("anon can read"), "{told}");

    for (grant, back, who) in [
        (
            "GRANT SELECT ON users TO PUBLIC",
            "REVOKE SELECT ON users FROM PUBLIC",
            "PUBLIC can read users.hashed_password",
        ),
        (
            "GRANT SELECT (claim_hash) ON chat_sessions TO authenticated",
            "REVOKE SELECT (claim_hash) ON chat_sessions FROM authenticated",
            "authenticated can read chat_sessions.claim_hash",
        ),
    ] {
        client.batch_execute(grant).await.expect("a grant");
        let told = migrate(&database, &["verify"]).fails_with(&["can read secrets"]);
        assert!(told.contains(who), "{told}");
        let document = migrate(&database, &["verify", "--json"]);
        assert!(
            document.stdout.contains("\"clean\": false"),
            "{}",
            document.stdout
        );
        client.batch_execute(back).await.expect("the way back");
    }
    migrate(&database, &["verify"]).ok();
}
