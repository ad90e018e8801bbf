//! Through a real PgBouncer in transaction mode, with more clients than it has connections to the server.

use std::{
    env, fs,
    os::unix::{fs::chown, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use chatledger_postgres::{connect::Connector, url::DatabaseUrl};
use nix::unistd::{Uid, User};
use tempfile::TempDir;
use tokio_postgres::config::Host;
use tonic::Code;

use crate::harness::*;

/// Set where a missing PgBouncer is a mistake, as in CI.
const REQUIRED: &str = "CHATLEDGER_REQUIRE_PGBOUNCER";

/// How many connections PgBouncer has to the server; far fewer than the pools have to it.
const SERVER_CONNECTIONS: usize = 2;

/// Stopped when dropped.
pub struct PgBouncer {
    process: Child,
    dir: TempDir,
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        self.process.kill().expect("a kill");
        self.process.wait().expect("an end");
    }
}

fn program() -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let found = env::split_paths(&path)
        .chain(["/usr/sbin".into()])
        .map(|dir| dir.join("pgbouncer"))
        .find(|program| program.is_file());
    if found.is_none() {
        assert!(
            env::var_os(REQUIRED).is_none(),
            "{REQUIRED} is set, and there is no pgbouncer"
        );
        eprintln!("skipped: there is no pgbouncer (apt install pgbouncer)");
    }
    found
}

impl PgBouncer {
    /// The same, where there is one.
    pub async fn before(database: &TestDatabase) -> Option<Self> {
        Some(PgBouncer::start(&program()?, database).await)
    }

    /// In front of the test cluster, on a socket of its own: no port that somebody else could have.
    async fn start(program: &Path, database: &TestDatabase) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let connector = database.connector();
        let [Host::Unix(server)] = connector.config().get_hosts() else {
            panic!("the cluster has one socket");
        };
        let text = format!(
            "[databases]\n* = host={} user=postgres\n[pgbouncer]\nlisten_addr =\nunix_socket_dir = {}\n\
             auth_type = any\npool_mode = transaction\ndefault_pool_size = {SERVER_CONNECTIONS}\n",
            server.display(),
            dir.path().display()
        );
        let file = dir.path().join("pgbouncer.ini");
        fs::write(&file, text).expect("its configuration");
        let log = fs::File::create(dir.path().join("log")).expect("its log");
        let mut command = Command::new(program);
        command
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        // It refuses to run as root, and the cluster's socket is its user's.
        if Uid::effective().is_root() {
            let user = User::from_name("postgres").expect("a look").expect("a user");
            for path in [dir.path(), &file] {
                chown(path, Some(user.uid.as_raw()), Some(user.gid.as_raw())).expect("another owner");
            }
            command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
        }
        let process = command.spawn().expect("PgBouncer");
        let pgbouncer = PgBouncer { process, dir };
        eventually("PgBouncer listens", async || {
            pgbouncer.connector(database).connect().await.ok()
        })
        .await;
        pgbouncer
    }

    pub fn connector(&self, database: &TestDatabase) -> Connector {
        let url = self.url(database);
        Connector::new(&DatabaseUrl::parse(&url).expect("a URL")).expect("a connector")
    }

    pub fn url(&self, database: &TestDatabase) -> String {
        let host = self
            .dir
            .path()
            .to_str()
            .expect("a plain path")
            .replace('/', "%2F");
        format!("postgres://postgres@{host}:6432/{}", database.name)
    }

    async fn server(&self, database: &TestDatabase) -> TestServer {
        start_with(database, |options| {
            options.connector = self.connector(database);
            options.db.pooled = true;
        })
        .await
    }
}

#[tokio::test]
async fn every_kind_of_statement_works_through_a_transaction_pooler() {
    let Some(program) = program() else { return };
    let database = TestDatabase::new().await;
    let pgbouncer = PgBouncer::start(&program, &database).await;
    // Two servers with eight clients each, all busy, over two connections.
    let servers = [
        pgbouncer.server(&database).await,
        pgbouncer.server(&database).await,
    ];
    let shared = new_session(&servers[0]).await;
    let conversations = (0..16).map(|n| conversation(&servers[n % 2], &shared));
    futures_util::future::join_all(conversations).await;

    // Every conversation also appended to one session.
    let messages = messages_of(&servers[0], &shared).await;
    let seqs: Vec<i64> = messages.iter().map(|message| message.seq).collect();
    assert_eq!(seqs, (1..=16 * 3).collect::<Vec<_>>());
    // And there were never more connections than PgBouncer may have, but for those of this test.
    let backends = "SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid() AND application_name = 'chatledger'";
    let client = database.client().await;
    let backends: i64 = client.query_one(backends, &[]).await.expect("a count").get(0);
    assert!(
        backends <= i64::try_from(SERVER_CONNECTIONS).expect("a small number"),
        "{backends}"
    );
    for server in servers {
        server.stop().await;
    }
}

/// A bit of everything: single statements, transactions, appends on both paths, and what they refuse.
async fn conversation(server: &TestServer, shared: &str) {
    let user = new_user(server).await;
    let profile = pb::UpdateProfileRequest {
        profile: Some(pb::Profile {
            user_id: user.id.clone(),
            preferences_json: r#"{"interests": ["robotics"]}"#.to_owned(),
            ..Default::default()
        }),
        allow_missing: true,
        ..Default::default()
    };
    server
        .profiles()
        .update_profile(profile)
        .await
        .expect("a profile");
    let again = pb::CreateUserRequest {
        email: user.email.clone(),
        ..Default::default()
    };
    assert_refused(
        server.users().create_user(again).await,
        Code::AlreadyExists,
        "EMAIL_TAKEN",
    );

    let session = new_session_of(server, Some(&user.id)).await.id;
    let update = pb::UpdateSessionRequest {
        session_id: session.clone(),
        title: Some("Robots".to_owned()),
        metadata_json: Some(r#"{"a": 1}"#.to_owned()),
        ..Default::default()
    };
    server.sessions().update_session(update).await.expect("a session");

    let message_id = id();
    let mut message = text_with_id(&message_id, "How do robots walk?");
    message.citations = vec![citation("walking", "1", 0.5)];
    for deduplicated in [false, true] {
        let receipt = append(server, &session, message.clone())
            .await
            .expect("a receipt");
        assert_eq!((receipt.seq, receipt.deduplicated), (1, deduplicated));
    }
    let conflict = append_batch(server, &session, vec![text("x")], Some(7)).await;
    assert_eq!(refusal(conflict).reason, "SEQUENCE_CONFLICT");
    append_batch(server, &session, vec![text("a"), text("b")], Some(1))
        .await
        .expect("receipts");
    append(server, shared, text("single")).await.expect("a receipt");
    append_batch(server, shared, vec![text("x"), text("y")], None)
        .await
        .expect("receipts");

    let add = pb::AddCitationsRequest {
        session_id: session.clone(),
        message_id: message_id.clone(),
        citations: vec![citation("walking", "2", 0.25)],
    };
    server.citations().add_citations(add).await.expect("citations");
    let messages = messages_of(server, &session).await;
    assert_eq!(messages.len(), 3);
    assert_eq!(messages[0].citations.len(), 2);
    let search = pb::SearchMessagesRequest {
        query: "walking robots".to_owned(),
        session_id: Some(session.clone()),
        ..Default::default()
    };
    let hits = server.messages().search_messages(search).await.expect("hits");
    assert_eq!(hits.into_inner().hits.len(), 1);
    let document = pb::Document {
        id: format!("document-{message_id}"),
        ..Default::default()
    };
    let upsert = pb::UpsertDocumentRequest {
        document: Some(document),
    };
    server
        .documents()
        .upsert_document(upsert)
        .await
        .expect("a document");
    let top = pb::ListTopDocumentsRequest::default();
    let top = server
        .analytics()
        .list_top_documents(top)
        .await
        .expect("documents");
    assert_eq!(top.into_inner().documents[0].document_id, "walking");
    let activity = pb::ListUserActivityRequest::default();
    server
        .analytics()
        .list_user_activity(activity)
        .await
        .expect("users");
    let erase = pb::DeleteMessageRequest {
        session_id: session.clone(),
        message_id,
    };
    server.messages().delete_message(erase).await.expect("an end");
    let delete = pb::DeleteUserRequest { user_id: user.id };
    server.users().delete_user(delete).await.expect("an end");
    let get = pb::GetSessionRequest { session_id: session };
    assert_refused(
        server.sessions().get_session(get).await,
        Code::NotFound,
        "SESSION_NOT_FOUND",
    );
}

#[tokio::test]
async fn a_deadline_behind_a_pooler_frees_the_pooler_s_connections() {
    let Some(program) = program() else { return };
    let database = TestDatabase::new().await;
    let pgbouncer = PgBouncer::start(&program, &database).await;
    let server = start_with(&database, |options| {
        options.connector = pgbouncer.connector(&database);
        options.db.pooled = true;
        options.request_timeout = Duration::from_secs(1);
    })
    .await;
    let [locked, free] = [new_session(&server).await, new_session(&server).await];
    let lock = SessionLock::on_session(&database, &locked).await;
    // As many as PgBouncer has connections: as long as they wait, nobody else gets anywhere.
    let stuck = (0..SERVER_CONNECTIONS).map(|_| append(&server, &locked, text("too late")));
    for result in futures_util::future::join_all(stuck).await {
        assert_eq!(refusal(result).code, Code::DeadlineExceeded);
    }
    waiting(&database, 0).await;
    for n in 1..=50 {
        let receipt = append(&server, &free, text("in time")).await.expect("a receipt");
        assert_eq!(receipt.seq, n);
    }
    lock.release().await;
    assert_eq!(
        append(&server, &locked, text("now"))
            .await
            .expect("a receipt")
            .seq,
        1
    );
    server.stop().await;
}
