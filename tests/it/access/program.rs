//! The program: keys by command, where it may listen, and clients by certificate.

use std::{fs, path::Path, process::Command};

use tonic::{
    Code,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};

use super::world::*;
use crate::{
    harness::{
        process::{chatledger, serve},
        *,
    },
    server_tls::pki::Authority,
};

fn over(database: &TestDatabase, mut command: Command) -> Command {
    command.env("DATABASE_URL", database.url());
    command
}

/// Runs `chatledger key`, and answers what it prints and what it says.
async fn key_command(database: &TestDatabase, args: &[&str]) -> (String, String) {
    let mut command = over(database, chatledger());
    command.arg("key").args(args);
    let mut process = ServerProcess::start(&mut command);
    let status = process.ended().await;
    let (stdout, stderr) = (process.stdout().join("\n"), process.stderr());
    assert!(status.success(), "{stderr}");
    (stdout, stderr)
}

async fn who_am_i(channel: &Channel, bearer: Option<&str>) -> Result<pb::WhoAmIResponse, tonic::Status> {
    let mut client = pb::access_service_client::AccessServiceClient::new(channel.clone());
    let request = match bearer {
        Some(bearer) => by(bearer, pb::WhoAmIRequest {}),
        None => tonic::Request::new(pb::WhoAmIRequest {}),
    };
    client.who_am_i(request).await.map(tonic::Response::into_inner)
}

#[tokio::test]
async fn keys_are_made_listed_rotated_and_revoked_by_command() {
    let database = TestDatabase::new().await;
    let mut command = over(&database, serve());
    let server = ServerProcess::start(command.args(["--auth", "required"]));
    let channel = server.channel();
    let args = [
        "create",
        "--name",
        "rag-worker",
        "--scopes",
        "write,read",
        "--tenant",
        "acme",
        "--expires",
        "90d",
    ];
    let (first, said) = key_command(&database, &args).await;
    assert!(
        !said.contains(first.rsplit('_').next().expect("a secret")),
        "{said}"
    );
    let me = who_am_i(&channel, Some(&first)).await.expect("known");
    assert_eq!(
        (me.tenant.as_str(), me.scopes.join(",").as_str()),
        ("acme", "read,write")
    );
    assert!(me.expire_time.is_some());

    let (second, _) = key_command(
        &database,
        &["rotate", id_of(&first), "--tenant", "acme", "--overlap", "1h"],
    )
    .await;
    for key in [&first, &second] {
        let known = eventually("both", || async { who_am_i(&channel, Some(key)).await.ok() }).await;
        assert_eq!(known.scopes.len(), 2);
    }
    let (_, said) = key_command(
        &database,
        &["revoke", id_of(&second), "--tenant", "acme", "--audit", "table"],
    )
    .await;
    assert!(
        said.contains("is revoked") && said.contains("key_revoked"),
        "{said}"
    );
    let refused = eventually("its end", || async {
        who_am_i(&channel, Some(&second)).await.err()
    })
    .await;
    assert_eq!(refused.code(), Code::Unauthenticated);
    let (listed, _) = key_command(&database, &["list", "--tenant", "acme", "--json"]).await;
    let listed: Vec<serde_json::Value> = listed
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    assert_eq!(listed.len(), 2);
    assert_eq!(listed[0]["id"], id_of(&second));
    assert!(listed[0]["revoke_time"].is_string() && listed[1]["expire_time"].is_string());
    let (listed, _) = key_command(&database, &["list"]).await;
    assert_eq!(listed, "");
}

#[tokio::test]
async fn it_listens_beyond_this_machine_only_with_tls_and_authentication() {
    let database = TestDatabase::new().await;
    let dir = tempfile::tempdir().expect("a directory");
    let authority = server_files(dir.path());
    let tls = [
        "--tls-cert",
        &file(dir.path(), "tls.crt"),
        "--tls-key",
        &file(dir.path(), "tls.key"),
    ]
    .map(str::to_owned);
    let far = |args: &[&str]| {
        let mut command = over(&database, serve());
        command.args(["--listen", "0.0.0.0:0"]).args(args);
        command
    };
    let tls: Vec<&str> = tls.iter().map(String::as_str).collect();
    for (args, expected) in [
        (vec![], "without TLS"),
        (vec!["--auth", "required"], "without TLS"),
        (
            [tls.as_slice(), &["--auth", "off"]].concat(),
            "without authentication",
        ),
    ] {
        let mut process = ServerProcess::start(&mut far(&args));
        assert_eq!(process.ended().await.code(), Some(1), "{args:?}");
        let said = eventually("why", async || {
            Some(process.stderr()).filter(|said| said.ends_with('\n'))
        })
        .await;
        assert!(said.contains(expected) && said.contains("--insecure"), "{said}");
    }
    // With TLS it asks for credentials by itself.
    let server = ServerProcess::start(&mut far(&tls));
    let port = server
        .ready_line()
        .split(':')
        .nth(1)
        .and_then(|rest| rest.split(' ').next())
        .expect("a port")
        .to_owned();
    let channel = tls_channel(
        &port,
        ClientTlsConfig::new().ca_certificate(Certificate::from_pem(&authority.pem)),
    );
    let refused = who_am_i(&channel, None).await.expect_err("nobody");
    assert_eq!(refused.code(), Code::Unauthenticated);
    let admin = key(&database, "default", &["admin"]).await;
    let me = eventually("a new key", || async {
        who_am_i(&channel, Some(&admin)).await.ok()
    })
    .await;
    assert_eq!(me.kind(), pb::CallerKind::Service);
    // And all the same, where that is said in so many words.
    let server = ServerProcess::start(&mut far(&["--insecure"]));
    server.ready_line();
}

#[tokio::test]
async fn a_certificate_stands_for_a_service() {
    let database = TestDatabase::new().await;
    let dir = tempfile::tempdir().expect("a directory");
    let (servers, clients) = (server_files(dir.path()), Authority::new("clients"));
    fs::write(file(dir.path(), "clients.crt"), &clients.pem).expect("written");
    let services = "[[client_certificates]]\nsubject = 'CN=reports'\nname = 'reports'\nscopes = ['read']\ntenant = 'acme'\n";
    fs::write(file(dir.path(), "services.toml"), services).expect("written");
    let mut command = over(&database, serve());
    for (flag, name) in [
        ("--tls-cert", "tls.crt"),
        ("--tls-key", "tls.key"),
        ("--tls-client-ca", "clients.crt"),
        ("--client-certificates-file", "services.toml"),
    ] {
        command.arg(flag).arg(file(dir.path(), name));
    }
    let server = ServerProcess::start(&mut command);
    let port = server
        .ready_line()
        .split(':')
        .nth(1)
        .and_then(|rest| rest.split(' ').next())
        .expect("a port")
        .to_owned();
    let channel = |name: &str| {
        let issued = clients.issue_for_client(name);
        let tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(&servers.pem))
            .identity(Identity::from_pem(issued.cert_pem, issued.key_pem));
        tls_channel(&port, tls)
    };
    let me = who_am_i(&channel("reports"), None).await.expect("known");
    assert_eq!(
        (me.tenant.as_str(), me.scopes.join(",").as_str()),
        ("acme", "read")
    );
    assert!(me.expire_time.is_some());
    // One that stands for nobody may be the way in of who has a key.
    let other = channel("other");
    assert_eq!(
        who_am_i(&other, None).await.expect_err("nobody").code(),
        Code::Unauthenticated
    );
    let admin = key(&database, "default", &["admin"]).await;
    let me = eventually("a new key", || async {
        who_am_i(&other, Some(&admin)).await.ok()
    })
    .await;
    assert_eq!(me.tenant, "default");
}

fn file(dir: &Path, name: &str) -> String {
    dir.join(name).display().to_string()
}

/// A server's certificate and key; its authority.
fn server_files(dir: &Path) -> Authority {
    let authority = Authority::new("servers");
    let issued = authority.issue_for_server();
    fs::write(file(dir, "tls.crt"), issued.cert_pem).expect("written");
    fs::write(file(dir, "tls.key"), issued.key_pem).expect("written");
    authority
}

fn tls_channel(port: &str, tls: ClientTlsConfig) -> Channel {
    let endpoint = Endpoint::from_shared(format!("https://localhost:{port}")).expect("an endpoint");
    endpoint.tls_config(tls).expect("TLS").connect_lazy()
}
