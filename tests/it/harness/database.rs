//! A database for each test, cloned from a template that has the schema.

use std::{
    collections::hash_map::DefaultHasher,
    hash::{Hash, Hasher},
    time::Duration,
};

use chatledger::migrations::{self, Scope};
use chatledger_postgres::{connect::Connector, url::DatabaseUrl};
use tokio::sync::OnceCell;
use tokio_postgres::Client;
use uuid::Uuid;

use super::{cluster, eventually};

/// A database of one test.
pub struct TestDatabase {
    pub name: String,
}

impl TestDatabase {
    /// With the whole schema.
    pub async fn new() -> Self {
        Self::from_template(template().await).await
    }

    /// Without any tables.
    pub async fn empty() -> Self {
        Self::from_template("template0").await
    }

    async fn from_template(template: &str) -> Self {
        let name = format!("test_{}", Uuid::now_v7().simple());
        let admin = connect(cluster::url()).await;
        admin
            .batch_execute(&format!("CREATE DATABASE {name} TEMPLATE {template}"))
            .await
            .expect("a database");
        TestDatabase { name }
    }

    /// Its URL, over the cluster's socket.
    pub fn url(&self) -> String {
        url_of(&self.name)
    }

    pub fn connector(&self) -> Connector {
        Connector::new(&DatabaseUrl::parse(&self.url()).expect("a URL")).expect("a connector")
    }

    /// A connection, for SQL by hand.
    pub async fn client(&self) -> Client {
        connect(&self.url()).await
    }

    /// Brings its schema up to date, as a booting server does.
    pub async fn migrate(&self, scope: Scope) {
        migrations::prepare(&self.connector(), scope, "english", Duration::from_secs(10))
            .await
            .expect("migrations");
    }
}

fn url_of(database: &str) -> String {
    let url = cluster::url();
    let (before, query) = url.split_once('?').expect("a URL with a query");
    let (server, _) = before.rsplit_once('/').expect("a URL with a database");
    format!("{server}/{database}?{query}")
}

/// A connection to a URL.
pub async fn connect(url: &str) -> Client {
    let connector = Connector::new(&DatabaseUrl::parse(url).expect("a URL")).expect("a connector");
    connector.connect().await.expect("a connection").0
}

/// The name of the template with this program's migrations, made by whichever process comes first.
async fn template() -> &'static str {
    static TEMPLATE: OnceCell<String> = OnceCell::const_new();
    TEMPLATE.get_or_init(make_template).await
}

async fn make_template() -> String {
    let mut hash = DefaultHasher::new();
    for set in ["auth", "chat", "link"] {
        for file in migration_files(set) {
            std::fs::read_to_string(file)
                .expect("a migration")
                .hash(&mut hash);
        }
    }
    let name = format!("template_{:016x}", hash.finish());
    let admin = connect(cluster::url()).await;
    admin
        .batch_execute("SELECT pg_advisory_lock(1)")
        .await
        .expect("the lock");
    let made = format!("SELECT FROM pg_database WHERE datname = '{name}' AND datistemplate");
    if admin.query(&made, &[]).await.expect("a look").is_empty() {
        admin
            .batch_execute(&format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"))
            .await
            .expect("a drop");
        admin
            .batch_execute(&format!("CREATE DATABASE {name} TEMPLATE template0"))
            .await
            .expect("a database");
        TestDatabase { name: name.clone() }.migrate(Scope::All).await;
        // It can't be cloned while somebody is connected, and connections take a moment to end.
        let sessions = format!("SELECT FROM pg_stat_activity WHERE datname = '{name}'");
        eventually("the template is unused", async || {
            admin
                .query(&sessions, &[])
                .await
                .expect("a look")
                .is_empty()
                .then_some(())
        })
        .await;
        admin
            .batch_execute(&format!("ALTER DATABASE {name} IS_TEMPLATE true"))
            .await
            .expect("a mark");
    }
    name
}

/// The UP files of a migration set, in order.
pub fn migration_files(set: &str) -> Vec<std::path::PathBuf> {
    let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../migrations")
        .join(set);
    let mut files: Vec<_> = std::fs::read_dir(dir)
        .expect("the migrations")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "sql"))
        .filter(|path| !path.to_string_lossy().ends_with(".down.sql"))
        .collect();
    files.sort();
    files
}
