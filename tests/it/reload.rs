//! SIGHUP: what changes while the server runs, and what is told of the rest. Its files are looked at once an hour here.

use std::{fs, path::PathBuf};

use nix::sys::signal::Signal;
use tonic::{
    Code,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint},
};

use crate::{
    access::world::by,
    harness::{
        process::{address_in, chatledger, open_dir},
        *,
    },
    server_tls::pki::Authority,
};

const FIRST_KEY: &str = "first-key-of-thirty-two-characters";
const SECOND_KEY: &str = "second-key-of-thirty-two-characters";

struct ServerDir(tempfile::TempDir);

impl ServerDir {
    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).expect("written");
    }

    fn certify(&self, authority: &Authority) {
        let issued = authority.issue_for_server();
        self.write("tls.crt", &issued.cert_pem);
        self.write("tls.key", &issued.key_pem);
    }

    /// The settings, and `more`.
    fn configure(&self, more: &str) {
        let file = |key: &str, name: &str| format!("{key} = '{}'\n", self.path(name).display());
        let files = [
            file("tls-cert", "tls.crt"),
            file("tls-key", "tls.key"),
            file("api-keys-file", "keys.toml"),
            file("limits-file", "limits.toml"),
            file("database-url-file", "url"),
        ];
        let text = format!(
            "listen = '127.0.0.1:0'\nreload-interval = '1h'\n{}{more}",
            files.concat()
        );
        self.write("chatledger.toml", &text);
    }
}

fn keys(secret: &str) -> String {
    format!("[[api_keys]]\nname = 'n'\nsecret = '{secret}'\nscopes = ['read']\n")
}

/// A connection of its own.
fn channel(address: &str, authority: &Authority) -> Channel {
    let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(&authority.pem));
    let endpoint = Endpoint::from_shared(format!("https://{address}")).expect("an endpoint");
    endpoint.tls_config(tls).expect("TLS").connect_lazy()
}

async fn who_am_i(channel: &Channel, secret: &str) -> Result<(), Code> {
    let mut client = pb::access_service_client::AccessServiceClient::new(channel.clone());
    let called = client.who_am_i(by(secret, pb::WhoAmIRequest {})).await;
    called.map(drop).map_err(|status| status.code())
}

#[tokio::test]
async fn sighup_takes_what_can_change_and_says_what_waits_for_a_restart() {
    let database = TestDatabase::new().await;
    let dir = ServerDir(open_dir());
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    dir.certify(&old);
    dir.write("keys.toml", &keys(FIRST_KEY));
    dir.write("limits.toml", "");
    dir.write("url", &format!("{}\n", database.url()));
    dir.configure("log-filter = 'info'\nmax-requests = 100\n");
    let mut command = chatledger();
    command
        .arg("serve")
        .arg("--config")
        .arg(dir.path("chatledger.toml"));
    let server = ServerProcess::start(&mut command);
    let line = server.ready_line();
    let address = address_in(&line);
    let before = channel(address, &old);
    assert_eq!(who_am_i(&before, FIRST_KEY).await, Ok(()));
    assert_eq!(who_am_i(&before, SECOND_KEY).await, Err(Code::Unauthenticated));

    // Nothing has changed.
    server.signal(Signal::SIGHUP);
    server.says("in_use=\"nothing\" needs_restart=\"nothing\"").await;

    // A file that can't be used changes nothing, whatever else has changed.
    dir.write("keys.toml", &keys(SECOND_KEY));
    dir.configure("log-filter = 'info'\nmax-request = 100\n");
    server.signal(Signal::SIGHUP);
    server.says("nothing was changed").await;
    server
        .says("max-request: there is no such key; did you mean max-requests?")
        .await;
    assert_eq!(who_am_i(&before, FIRST_KEY).await, Ok(()));

    // Everything that can.
    dir.certify(&new);
    dir.write(
        "limits.toml",
        "[methods.WhoAmI]\nrequests_per_second = 1\nburst = 1\n",
    );
    dir.write("url", "postgres://u:hunter2@elsewhere/d\n");
    dir.configure("log-filter = 'debug'\nmax-requests = 200\n");
    server.signal(Signal::SIGHUP);
    server.says("log-filter (info -> debug)").await;
    server
        .says("needs_restart=\"max-requests (100 -> 200), database-url\"")
        .await;
    let stderr = server.stderr();
    let told = stderr.lines().last().expect("a line");
    for name in ["tls.crt", "keys.toml", "limits.toml"] {
        assert!(stderr.contains(&dir.path(name).display().to_string()), "{told}");
    }
    assert!(
        !stderr.contains("hunter2") && !stderr.contains(FIRST_KEY),
        "{stderr}"
    );
    let after = channel(address, &new);
    assert_eq!(
        who_am_i(&channel(address, &old), SECOND_KEY).await,
        Err(Code::Unavailable)
    );
    assert_eq!(who_am_i(&after, FIRST_KEY).await, Err(Code::Unauthenticated));
    assert_eq!(who_am_i(&after, SECOND_KEY).await, Ok(()));
    eventually("a limit that is reached", async || {
        (who_am_i(&after, SECOND_KEY).await == Err(Code::ResourceExhausted)).then_some(())
    })
    .await;
    server.says("DEBUG").await;

    // What can't be used is told, and the rest is taken; what waits for a restart goes on waiting.
    dir.write("limits.toml", "[colour]\n");
    dir.write("keys.toml", &keys(FIRST_KEY));
    server.signal(Signal::SIGHUP);
    server.says("some of them can't be used").await;
    let stderr = server.stderr();
    let told = stderr
        .lines()
        .find(|line| line.contains("some of them can't be used"));
    let told = told.expect("a line");
    for part in ["--limits-file", "keys.toml", "max-requests (100 -> 200)"] {
        assert!(told.contains(part), "{told}");
    }
}
