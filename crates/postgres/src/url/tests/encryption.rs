use tokio_postgres::config::{SslMode, SslNegotiation};

use super::*;
use crate::tls::{ClientCert, ProtocolVersions, RootCerts};

#[test]
fn other_stacks_schemes_and_switches() {
    for scheme in [
        "postgres",
        "postgresql",
        "postgresql+asyncpg",
        "postgresql+psycopg2",
        "postgres+psycopg",
    ] {
        assert_eq!(mode(&format!("{scheme}://h/d?ssl=require")), TlsMode::Require);
    }
    assert_eq!(mode("postgres://h/d?ssl=true"), TlsMode::Require);
    assert_eq!(mode("postgres://h/d?ssl=false"), TlsMode::Disable);
    assert_eq!(mode("postgres://h/d?ssl=verify-full"), TlsMode::VerifyFull);
    // The stricter and more specific wins over a later switch.
    assert_eq!(
        mode("postgres://h/d?sslmode=verify-full&ssl=true"),
        TlsMode::VerifyFull
    );
    assert_eq!(
        mode("postgres://h/d?sslmode=require&sslaccept=strict"),
        TlsMode::VerifyFull
    );
    assert_eq!(
        mode("postgres://h/d?sslmode=require&sslaccept=accept_invalid_certs"),
        TlsMode::Require
    );
    let no_verify = parse("postgres://h/d?sslmode=no-verify&sslrootcert=/x");
    assert_eq!(
        (no_verify.tls().mode, &no_verify.tls().root),
        (TlsMode::Require, &RootCerts::None)
    );
    assert_eq!(
        error("mysql://u:secret@h/d"),
        "a database URL starts with postgres:// or postgresql://, not with mysql://"
    );
    assert_eq!(
        DatabaseUrl::parse("jdbc:postgresql://h/d").unwrap_err(),
        UrlError::NotAUrl
    );
    assert_eq!(DatabaseUrl::parse("localhost").unwrap_err(), UrlError::NotAUrl);
    assert_eq!(DatabaseUrl::parse("").unwrap_err(), UrlError::NotAUrl);
}

#[test]
fn every_sslmode() {
    let modes = [
        ("", TlsMode::Prefer, SslMode::Prefer),
        ("?sslmode=", TlsMode::Prefer, SslMode::Prefer),
        ("?sslmode=disable", TlsMode::Disable, SslMode::Disable),
        ("?sslmode=allow", TlsMode::Allow, SslMode::Prefer),
        ("?sslmode=prefer", TlsMode::Prefer, SslMode::Prefer),
        ("?sslmode=require", TlsMode::Require, SslMode::Require),
        ("?sslmode=verify-ca", TlsMode::VerifyCa, SslMode::Require),
        ("?sslmode=verify-full", TlsMode::VerifyFull, SslMode::Require),
    ];
    for (query, expected, config) in modes {
        let url = parse(&format!("postgres://h/d{query}"));
        assert_eq!(
            (url.tls().mode, url.config().get_ssl_mode()),
            (expected, config),
            "{query}"
        );
    }
    assert!(error("postgres://h/d?sslmode=verify_full").contains("`sslmode` must be disable, allow"));
}

#[test]
fn certificates_and_versions() {
    let url = parse(
        "postgres://h/d?sslmode=verify-ca&sslrootcert=/r%20t.crt&sslcert=/c.crt&sslkey=/c.key&sslsni=0",
    );
    let tls = url.tls();
    assert_eq!(tls.root, RootCerts::File("/r t.crt".into()));
    assert_eq!(
        tls.client,
        ClientCert::Files {
            cert: Some("/c.crt".into()),
            key: Some("/c.key".into())
        }
    );
    assert!(!tls.sni);
    assert_eq!(
        parse("postgres://h/d?sslcertmode=disable").tls().client,
        ClientCert::None
    );
    // `system` makes verify-full the default and allows nothing weaker.
    assert_eq!(mode("postgres://h/d?sslrootcert=system"), TlsMode::VerifyFull);
    assert!(
        error("postgres://h/d?sslrootcert=system&sslmode=require").contains("only with sslmode=verify-full")
    );
    let direct = parse("postgres://h/d?sslmode=require&sslnegotiation=direct");
    assert_eq!(direct.config().get_ssl_negotiation(), SslNegotiation::Direct);
    assert!(direct.tls().direct);
    assert!(error("postgres://h/d?sslnegotiation=direct").contains("only with sslmode=require or stricter"));
    let versions = |query: &str| parse(&format!("postgres://h/d?{query}")).tls().versions;
    assert_eq!(versions("ssl_min_protocol_version=TLSv1"), ProtocolVersions::All);
    assert_eq!(
        versions("ssl_min_protocol_version=TLSv1.3"),
        ProtocolVersions::Only13
    );
    assert_eq!(
        versions("ssl_max_protocol_version=TLSv1.2"),
        ProtocolVersions::Only12
    );
    assert!(error("postgres://h/d?ssl_max_protocol_version=TLSv1.1").contains("must be TLSv1.2 or TLSv1.3"));
}
