//! `chatledger health` over TLS, as a probe in the server's own container asks: by the loopback's address, which no certificate of
//! a service names.

use std::{fs, process::Command, time::Duration};

use chatledger::{
    server::{ClientAuth, ServerTls, TlsFiles},
    watched::Looks,
};
use rcgen::{ExtendedKeyUsagePurpose, SanType};

use super::{look, mistake, stdout_of};
use crate::{harness::*, server_tls::pki::Authority};

const NAME: &str = "chat.example.com";

#[tokio::test]
async fn a_probe_verifies_the_certificate_by_the_name_that_it_is_told() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = |name: &str| dir.path().join(name);
    let authority = Authority::new("servers");
    let issued = authority.issue(|params| {
        params.subject_alt_names = vec![SanType::DnsName(NAME.try_into().expect("a name"))];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    });
    for (name, pem) in [
        ("ca.crt", &authority.pem),
        ("tls.crt", &issued.cert_pem),
        ("tls.key", &issued.key_pem),
    ] {
        fs::write(path(name), pem).expect("written");
    }
    let files = TlsFiles {
        cert: path("tls.crt"),
        key: path("tls.key"),
        client_ca: None,
        client_auth: ClientAuth::Required,
    };
    let tls = ServerTls::open(files, &Looks::every(Duration::from_mins(1))).expect("TLS");
    let database = TestDatabase::new().await;
    let server = start_with(&database, |options| options.tls = Some(tls)).await;
    let probe = |args: &[&str]| -> Command {
        let mut command = look(&server, &["health"]);
        command.env("CHATLEDGER_TARGET", format!("https://{}", server.address));
        command.args(args);
        command
    };
    let ca = path("ca.crt");
    let ca = ca.to_str().expect("a plain path");
    let well = probe(&["--tls-ca", ca, "--tls-server-name", NAME]);
    assert_eq!(stdout_of(well).await, "serving\n");
    for args in [&["--tls-ca", ca][..], &["--tls-server-name", NAME]] {
        let said = mistake(probe(args)).await;
        assert!(
            said.contains("--target") && said.contains("certificate"),
            "{args:?}: {said}"
        );
    }
}
