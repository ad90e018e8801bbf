//! TLS on the server's port: versions and protocols, clients' certificates, and files that change while it serves.

mod clients;
mod files;
mod handshake;
pub mod pki;

use std::{path::PathBuf, time::Duration};

use chatledger::{
    server::{ClientAuth, ServerTls, TlsFiles},
    watched::Looks,
};

use crate::harness::*;
use pki::Authority;

/// How often these tests' servers look at their files: they wait for what comes of it.
const LOOK: Duration = Duration::from_millis(10);

/// The files of a server.
struct ServerFiles {
    dir: tempfile::TempDir,
    authority: Authority,
}

impl ServerFiles {
    /// A certificate for this machine, and its authority.
    fn new() -> Self {
        let files = ServerFiles {
            dir: tempfile::tempdir().expect("a directory"),
            authority: Authority::new("servers"),
        };
        files.renew();
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes another certificate, and answers it.
    fn renew(&self) -> Vec<u8> {
        let issued = self.authority.issue_for_server();
        std::fs::write(self.path("tls.crt"), &issued.cert_pem).expect("written");
        std::fs::write(self.path("tls.key"), &issued.key_pem).expect("written");
        issued.der
    }

    fn tls_files(&self) -> TlsFiles {
        TlsFiles {
            cert: self.path("tls.crt"),
            key: self.path("tls.key"),
            client_ca: None,
            client_auth: ClientAuth::Required,
        }
    }

    /// The same, where clients are asked for certificates of an authority.
    fn tls_files_for(&self, clients: &Authority, client_auth: ClientAuth) -> TlsFiles {
        std::fs::write(self.path("clients.crt"), &clients.pem).expect("written");
        TlsFiles {
            client_ca: Some(self.path("clients.crt")),
            client_auth,
            ..self.tls_files()
        }
    }
}

async fn start_tls(database: &TestDatabase, files: TlsFiles) -> TestServer {
    let tls = ServerTls::open(files, &Looks::every(LOOK)).expect("TLS");
    start_with(database, |options| options.tls = Some(tls)).await
}
