//! Every `sslmode` against every kind of server, on one PostgreSQL of this test's own.
//!
//! One cluster plays all the servers: which user connects decides what `pg_hba.conf` asks for,
//! which name the client believes to have connected to decides whether the certificate fits, and
//! TLS is turned off by a reload at the end.

use std::error::Error as _;
use std::fmt::Write as _;
use std::net::TcpListener;
use std::time::Duration;

use chatledger_postgres::connect::{Connector, is_unavailable, may_succeed_later};
use chatledger_postgres::url::DatabaseUrl;
use chatledger_postgres::{Db, DbOptions, Sql};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, SimpleQueryMessage};

use crate::{doctor::ways::tls_of, harness::PATIENCE};
use cluster::{TlsCluster, free_port};

mod cluster;

/// One for each line of the cluster's `pg_hba.conf`, and some that differ in other ways.
const ROLES: &str = "
CREATE ROLE only_tls LOGIN;
CREATE ROLE only_plain LOGIN;
CREATE ROLE by_cert LOGIN;
CREATE ROLE by_scram LOGIN PASSWORD 'right';
CREATE ROLE anyone LOGIN;
CREATE ROLE limited LOGIN CONNECTION LIMIT 0;
CREATE ROLE reader LOGIN;
ALTER ROLE reader SET default_transaction_read_only = on;
";

/// What a connection attempt ends in: whether it is encrypted, or a part of the error.
type ConnectOutcome = Result<bool, &'static str>;

const TLS: ConnectOutcome = Ok(true);
const PLAIN: ConnectOutcome = Ok(false);
const NO_TLS: ConnectOutcome = Err("server does not support TLS");
const WRONG_NAME: ConnectOutcome = Err("not valid for name");
const WRONG_PASSWORD: ConnectOutcome = Err("password authentication failed");
const UNTRUSTED: ConnectOutcome = Err("UnknownIssuer");
/// Also what is said where the system has no authorities at all.
const NO_AUTHORITY: ConnectOutcome = Err("certificate");

#[tokio::test]
async fn every_sslmode_against_every_server() {
    // Takes a second, in which the others go on.
    let silence = tokio::spawn(a_silent_server_is_given_up());
    let cluster = TlsCluster::start();
    cluster.admin().await.batch_execute(ROLES).await.unwrap();
    let mut table = ConnectTable {
        cluster: &cluster,
        dead: free_port(),
        failures: String::new(),
    };
    with_tls(&mut table).await;
    as_the_doctor_sees_it(&cluster).await;
    hostssl_and_hostnossl(&mut table).await;
    scram(&mut table).await;
    certificates(&mut table).await;
    client_certificates(&mut table).await;
    several_hosts(&mut table).await;
    a_statement_is_cancelled(&cluster, "only_tls@localhost").await;
    let (cert, key) = (cluster.file("self-signed.crt"), cluster.file("self-signed.key"));
    cluster
        .reconfigure(&[("ssl_cert_file", &cert), ("ssl_key_file", &key)])
        .await;
    self_signed(&mut table).await;
    cluster.reconfigure(&[("ssl", "off")]).await;
    without_tls(&mut table).await;
    assert!(table.failures.is_empty(), "{}", table.failures);

    a_pool_uses_the_same_path(&cluster).await;
    a_statement_is_cancelled(&cluster, "only_plain@localhost").await;
    outages_are_told_from_mistakes(cluster).await;
    silence.await.unwrap();
}

/// Tries connections, and notes which of them didn't end as expected.
struct ConnectTable<'a> {
    cluster: &'a TlsCluster,
    dead: u16,
    failures: String,
}

impl ConnectTable<'_> {
    /// Connects as `who` (`user@host`) with each of the queries, in which $dir stands for the
    /// directory with the certificates, and $live and $dead for ports.
    async fn check(&mut self, who: &str, cases: &[(&str, ConnectOutcome)]) {
        for (query, expected) in cases {
            let url = url(self.cluster, who, query).replace("$dead", &self.dead.to_string());
            let got = encrypted(&url).await;
            let fits = match (&got, expected) {
                (Ok(got), Ok(expected)) => got == expected,
                (Err(got), Err(expected)) => got.contains(expected),
                _ => false,
            };
            if !fits {
                write!(
                    self.failures,
                    "\n{url}\n  expected {expected:?}\n  got      {got:?}"
                )
                .unwrap();
            }
        }
    }
}

fn url(cluster: &TlsCluster, who: &str, query: &str) -> String {
    // A later `port` overrides this one.
    format!("postgres://{who}/postgres?port=$live&{query}")
        .replace("$live", &cluster.port.to_string())
        .replace("$dir", cluster.dir.to_str().unwrap())
}

/// Connects, and asks the server whether the connection is encrypted.
async fn encrypted(url: &str) -> Result<bool, String> {
    let url = DatabaseUrl::parse(url).map_err(|error| error.to_string())?;
    let connector = Connector::new(&url).map_err(|error| error.to_string())?;
    let (client, _driver) = connector.connect().await.map_err(|error| chain(&error))?;
    Ok(ask(
        &client,
        "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()",
    )
    .await
        == "t")
}

async fn with_tls(table: &mut ConnectTable<'_>) {
    let cases = [
        ("", TLS),
        ("sslmode=disable", PLAIN),
        ("sslmode=allow", PLAIN),
        ("sslmode=prefer", TLS),
        ("sslmode=require", TLS),
        ("sslmode=verify-ca&sslrootcert=$dir/ca.crt", TLS),
        ("sslmode=verify-full&sslrootcert=$dir/ca.crt", TLS),
        ("sslmode=verify-full&sslrootcert=$dir/ca.crt&sslsni=0", TLS),
        (
            "sslmode=verify-full&sslrootcert=$dir/ca.crt&ssl_max_protocol_version=TLSv1.2",
            TLS,
        ),
        ("sslmode=require&ssl_min_protocol_version=TLSv1.3", TLS),
        ("sslmode=require&ssl_max_protocol_version=TLSv1.2", TLS),
    ];
    table.check("anyone@localhost", &cases).await;
    // The certificate names the address as well.
    table
        .check(
            "anyone@127.0.0.1",
            &[("sslmode=verify-full&sslrootcert=$dir/ca.crt", TLS)],
        )
        .await;
    // A socket is never encrypted, whatever the mode.
    let socket = format!("postgres@{}", table.cluster.socket());
    table
        .check(&socket, &[("sslmode=verify-full", PLAIN), ("", PLAIN)])
        .await;
}

/// What `chatledger doctor` says of a server whose name is another machine's.
async fn as_the_doctor_sees_it(cluster: &TlsCluster) {
    for (query, severity, part) in [
        ("sslmode=disable", "warning", "not encrypted"),
        ("sslmode=require", "warning", "TLSv1.3, "),
        ("sslmode=verify-ca&sslrootcert=$dir/ca.crt", "notice", "TLSv1.3, "),
    ] {
        let url = url(
            cluster,
            "anyone@db.example",
            &format!("hostaddr=127.0.0.1&{query}"),
        );
        let (told, found) = tls_of(&url).await;
        assert!(
            told == severity && found.contains(part),
            "{query}: {told}: {found}"
        );
    }
}

async fn hostssl_and_hostnossl(table: &mut ConnectTable<'_>) {
    let hostssl = [
        ("sslmode=disable", Err("no encryption")),
        ("sslmode=allow", TLS),
        ("sslmode=prefer", TLS),
        ("sslmode=require", TLS),
    ];
    table.check("only_tls@localhost", &hostssl).await;
    let hostnossl = [
        ("sslmode=disable", PLAIN),
        ("sslmode=allow", PLAIN),
        ("sslmode=prefer", PLAIN),
        ("sslmode=require", Err("SSL encryption")),
    ];
    table.check("only_plain@localhost", &hostnossl).await;
}

async fn scram(table: &mut ConnectTable<'_>) {
    let cases = [
        ("sslmode=require&channel_binding=require", TLS),
        ("sslmode=require&channel_binding=disable", TLS),
        ("sslmode=disable", PLAIN),
        (
            "sslmode=disable&channel_binding=require",
            Err("did not use channel binding"),
        ),
        ("sslmode=allow&password=wrong", WRONG_PASSWORD),
        ("sslmode=prefer&password=wrong", WRONG_PASSWORD),
    ];
    table.check("by_scram:right@localhost", &cases).await;
}

async fn certificates(table: &mut ConnectTable<'_>) {
    // hostaddr: the names aren't looked up.
    let other_name = [
        ("hostaddr=127.0.0.1&sslmode=require", TLS),
        (
            "hostaddr=127.0.0.1&sslmode=verify-ca&sslrootcert=$dir/ca.crt",
            TLS,
        ),
        (
            "hostaddr=127.0.0.1&sslmode=verify-full&sslrootcert=$dir/ca.crt",
            WRONG_NAME,
        ),
    ];
    table.check("anyone@wrong.test", &other_name).await;
    // With a root file every mode verifies, as in libpq.
    let other_authority = [
        (
            "hostaddr=127.0.0.1&sslmode=require&sslrootcert=$dir/other-ca.crt",
            UNTRUSTED,
        ),
        (
            "hostaddr=127.0.0.1&sslmode=verify-ca&sslrootcert=$dir/other-ca.crt",
            UNTRUSTED,
        ),
        (
            "hostaddr=127.0.0.1&sslmode=verify-full&sslrootcert=$dir/other-ca.crt",
            UNTRUSTED,
        ),
        ("hostaddr=127.0.0.1&sslrootcert=system", NO_AUTHORITY),
        (
            "hostaddr=127.0.0.1&sslmode=no-verify&sslrootcert=$dir/other-ca.crt",
            TLS,
        ),
        (
            "hostaddr=127.0.0.1&sslmode=prefer&sslrootcert=$dir/other-ca.crt",
            PLAIN,
        ),
    ];
    table.check("anyone@db.test", &other_authority).await;
    // Of two failures the one that tells more is shown.
    let refused_plain = [("sslmode=prefer&sslrootcert=$dir/other-ca.crt", UNTRUSTED)];
    table.check("only_tls@localhost", &refused_plain).await;
}

async fn client_certificates(table: &mut ConnectTable<'_>) {
    let cert = "sslmode=require&sslcert=$dir/by_cert.crt&sslkey=$dir/by_cert.key";
    let verified = format!("{cert}&sslmode=verify-full&sslrootcert=$dir/ca.crt");
    let not_sent = format!("{cert}&sslcertmode=disable");
    let cases = [
        (cert, TLS),
        (&verified, TLS),
        (&not_sent, Err("valid client certificate")),
        ("sslmode=require&sslcert=/nowhere.crt", Err("/nowhere.crt")),
    ];
    table.check("by_cert@localhost", &cases).await;
}

async fn several_hosts(table: &mut ConnectTable<'_>) {
    let cases = [
        ("port=$dead,$live&target_session_attrs=read-write", TLS),
        (
            "port=$dead,$live&target_session_attrs=primary&sslmode=allow",
            PLAIN,
        ),
        ("port=$dead,$live&load_balance_hosts=random", TLS),
        ("port=$live,$dead&target_session_attrs=prefer-standby", TLS),
        (
            "port=$live,$live&target_session_attrs=standby",
            Err("isn't a standby"),
        ),
        (
            "port=$live,$live&target_session_attrs=read-only",
            Err("isn't read-only"),
        ),
    ];
    table.check("anyone@127.0.0.1,127.0.0.1", &cases).await;
    let read_only = [
        (
            "port=$live,$live&target_session_attrs=read-write",
            Err("is read-only"),
        ),
        ("port=$dead,$live&target_session_attrs=read-only", TLS),
    ];
    table.check("reader@127.0.0.1,127.0.0.1", &read_only).await;
    // What the first host refuses for good isn't tried with the next.
    let refused = [("port=$live,$dead", Err("no pg_hba.conf entry"))];
    table.check("nobody@127.0.0.1,127.0.0.1", &refused).await;
}

async fn self_signed(table: &mut ConnectTable<'_>) {
    let own = [
        ("sslmode=require", TLS),
        ("sslmode=verify-ca&sslrootcert=$dir/self-signed.crt", TLS),
        ("sslmode=verify-full&sslrootcert=$dir/self-signed.crt", TLS),
        (
            "sslmode=verify-ca&sslrootcert=$dir/ca.crt",
            Err("invalid peer certificate"),
        ),
    ];
    table.check("anyone@localhost", &own).await;
    let query = "hostaddr=127.0.0.1&sslmode=verify-full&sslrootcert=$dir/self-signed.crt";
    table.check("anyone@wrong.test", &[(query, WRONG_NAME)]).await;
}

async fn without_tls(table: &mut ConnectTable<'_>) {
    let cases = [
        ("sslmode=disable", PLAIN),
        ("sslmode=allow", PLAIN),
        ("sslmode=prefer", PLAIN),
        ("sslmode=require", NO_TLS),
        ("sslmode=verify-ca&sslrootcert=$dir/ca.crt", NO_TLS),
        ("sslmode=verify-full&sslrootcert=$dir/ca.crt", NO_TLS),
    ];
    table.check("anyone@localhost", &cases).await;
    // The server's reason, not that it has no TLS either.
    table
        .check("by_scram:wrong@localhost", &[("sslmode=allow", WRONG_PASSWORD)])
        .await;
}

async fn a_pool_uses_the_same_path(cluster: &TlsCluster) {
    let url = DatabaseUrl::parse(&url(cluster, "anyone@localhost", "")).unwrap();
    let options = DbOptions {
        pool_size: 1,
        wait_timeout: PATIENCE,
        connect_for: PATIENCE,
        attempt_limit: PATIENCE,
        pooled: false,
    };
    let db = Db::new(Connector::new(&url).unwrap(), options).unwrap();
    let name = Sql {
        name: "test.Name",
        text: "SELECT current_setting('application_name')",
        params: &[],
    };
    for _ in 0..2 {
        let rows = db.read(None, &name, &[]).await.unwrap();
        assert_eq!(rows[0].get::<_, &str>(0), "chatledger");
    }
}

async fn a_statement_is_cancelled(cluster: &TlsCluster, who: &str) {
    let url = DatabaseUrl::parse(&url(cluster, who, "")).unwrap();
    let connector = Connector::new(&url).unwrap();
    let (client, _driver) = connector.connect().await.unwrap();
    let statement = client.simple_query("SELECT pg_sleep(60)");
    let cancelling = async {
        // Until it arrives after the statement.
        loop {
            connector.cancel(client.cancel_token()).await.unwrap();
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let error = tokio::select! {
        result = statement => result.unwrap_err(),
        () = cancelling => unreachable!(),
    };
    assert_eq!(error.code(), Some(&SqlState::QUERY_CANCELED));
    assert!(!is_unavailable(&error));
}

async fn outages_are_told_from_mistakes(cluster: TlsCluster) {
    let dead = free_port();
    let cases = [
        (url(&cluster, "by_scram:wrong@localhost", ""), false),
        (url(&cluster, "nobody@localhost", ""), false),
        (url(&cluster, "anyone@localhost", "dbname=missing"), false),
        (url(&cluster, "limited@localhost", ""), true),
        (format!("postgres://u@127.0.0.1:{dead}/d"), true),
        ("postgres://u@%2Fnowhere/d".to_owned(), true),
    ];
    for (url, expected) in cases {
        let error = connect(&url).await.err().unwrap();
        let got = (is_unavailable(&error), may_succeed_later(&error));
        assert_eq!(got, (expected, expected), "{url}: {}", chain(&error));
    }
    let client = cluster.admin().await;
    let mistake = client.simple_query("SELECT * FROM missing").await.unwrap_err();
    assert!(!is_unavailable(&mistake));

    let url = url(&cluster, "anyone@localhost", "");
    drop(cluster);
    let broken = client.simple_query("SELECT 1").await.unwrap_err();
    assert!(is_unavailable(&broken), "{}", chain(&broken));
    let stopped = connect(&url).await.err().unwrap();
    assert!(may_succeed_later(&stopped), "{}", chain(&stopped));
}

async fn a_silent_server_is_given_up() {
    // The kernel accepts connections to it, and nobody answers.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let url = format!("postgres://u@127.0.0.1:{port}/d?connect_timeout=1");
    let error = connect(&url).await.err().unwrap();
    assert!(
        chain(&error).ends_with("no answer within 1s"),
        "{}",
        chain(&error)
    );
    assert!(is_unavailable(&error) && may_succeed_later(&error));
}

async fn connect(url: &str) -> Result<Client, tokio_postgres::Error> {
    let connector = Connector::new(&DatabaseUrl::parse(url).unwrap()).unwrap();
    connector.connect().await.map(|(client, _driver)| client)
}

/// The first column of the only row.
async fn ask(client: &Client, question: &str) -> String {
    let answer = client.simple_query(question).await.unwrap();
    let first = answer.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0),
        _ => None,
    });
    first.unwrap().to_owned()
}

fn chain(error: &tokio_postgres::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        write!(text, ": {cause}").unwrap();
        source = cause.source();
    }
    text
}
