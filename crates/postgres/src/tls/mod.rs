//! TLS to PostgreSQL by rustls, with what libpq's `sslmode` means.
//!
//! | mode | encrypted | the chain is verified | the host's name is verified |
//! | --- | --- | --- | --- |
//! | `disable` | no | | |
//! | `allow` | if the server refuses it unencrypted | with a root file | no |
//! | `prefer` | if the server can | with a root file | no |
//! | `require` | yes | with a root file | no |
//! | `verify-ca` | yes | yes | no |
//! | `verify-full` | yes | yes | yes |
//!
//! A root file is `sslrootcert`, or `~/.postgresql/root.crt` where that exists, as in libpq. What
//! verifies without one uses the system's authorities, where libpq would refuse to connect.
//!
//! Source: "SSL Support" in the PostgreSQL manual's libpq chapter
//! (<https://www.postgresql.org/docs/current/libpq-ssl.html>). Differences: a certificate must name
//! its host as a subject alternative name (libpq falls back to the common name); the file mode of
//! the client's key isn't checked; revocation lists aren't read; X.509 version 1, which webpki
//! can't read, is accepted only where nothing is verified, over TLS 1.3.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::WantsClientCert;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ConfigBuilder, RootCertStore, SupportedProtocolVersion};

mod verify;

use verify::Verifier;

/// libpq's `sslmode`, from the weakest to the strictest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum TlsMode {
    /// Never encrypted.
    Disable,
    /// Encrypted only if the server refuses an unencrypted connection.
    Allow,
    /// Encrypted if the server can; libpq's default.
    Prefer,
    /// Encrypted.
    Require,
    /// Encrypted, with a certificate by a trusted authority.
    VerifyCa,
    /// Encrypted, with a certificate by a trusted authority for the host connected to.
    VerifyFull,
}

/// Whom to trust: libpq's `sslrootcert`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RootCerts {
    /// `~/.postgresql/root.crt`; without it the system's for the modes that verify, and nobody for
    /// the others.
    Default,
    /// The system's authorities (`SSL_CERT_FILE` and `SSL_CERT_DIR` are honoured).
    System,
    /// A PEM file of one or more certificates.
    File(PathBuf),
    /// Anybody, also where `~/.postgresql/root.crt` exists: node-postgres' `no-verify`.
    None,
}

/// The client's own certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ClientCert {
    /// `sslcert` and `sslkey`; `~/.postgresql/postgresql.crt` and `.key` for what isn't given,
    /// where the certificate exists.
    Files {
        /// The certificate, followed by its intermediates.
        cert: Option<PathBuf>,
        /// Its unencrypted key.
        key: Option<PathBuf>,
    },
    /// None, whatever exists: `sslcertmode=disable`.
    None,
}

/// `ssl_min_protocol_version` and `ssl_max_protocol_version`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ProtocolVersions {
    /// TLS 1.2 and 1.3.
    All,
    /// A maximum of 1.2.
    Only12,
    /// A minimum of 1.3.
    Only13,
}

/// How connections are encrypted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TlsOptions {
    /// `sslmode`.
    pub mode: TlsMode,
    /// `sslrootcert`.
    pub root: RootCerts,
    /// `sslcert` and `sslkey`.
    pub client: ClientCert,
    /// Which versions of TLS are offered.
    pub versions: ProtocolVersions,
    /// `sslsni`: tell the server which host is meant. Neon and others that share an address need
    /// it.
    pub(crate) sni: bool,
    /// `sslnegotiation=direct`: TLS from the first byte (PostgreSQL 17).
    pub direct: bool,
}

/// Why TLS can't be set up. All of it is found at start, none while connecting.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file that can't be read or holds something else.
    #[error("can't read {what} from {}", path.display())]
    File {
        /// What was looked for.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        source: pem::Error,
    },
    /// A root file that would trust nobody.
    #[error("{} has no usable certificate", .0.display())]
    NoRoots(PathBuf),
    /// The system has no authorities (a bare container).
    #[error("the system has no certificate authorities: install ca-certificates or give sslrootcert{0}")]
    NoSystemRoots(String),
    /// The client's certificate and key don't fit, or an unknown kind of key.
    #[error("can't set up TLS")]
    Rustls(#[from] rustls::Error),
}

/// Makes the client's side of TLS. Files are read here, so that what they say holds until the next
/// start.
pub(crate) fn client_config(options: &TlsOptions) -> Result<ClientConfig, TlsError> {
    client_config_in(options, home_dir().as_deref())
}

/// The same with `~/.postgresql` given, for tests.
fn client_config_in(options: &TlsOptions, dot_postgresql: Option<&Path>) -> Result<ClientConfig, TlsError> {
    // Explicitly: there is no process-wide default provider when two crates bring one each.
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let check_name = options.mode == TlsMode::VerifyFull;
    let algorithms = provider.signature_verification_algorithms;
    let verifier = match roots(options, dot_postgresql)? {
        Some(trusted) => Verifier::trusting(algorithms, trusted.store, trusted.certs, check_name),
        None => Verifier::trusting_anybody(algorithms),
    };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions(options.versions))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = with_client_cert(builder, &options.client, dot_postgresql)?;
    config.enable_sni = options.sni;
    if options.direct {
        // Required by the server, so that no other protocol's client can be made to talk to it.
        config.alpn_protocols = vec![b"postgresql".to_vec()];
    }
    Ok(config)
}

/// A configuration that connects to nobody, for where TLS is never used and no file needs to be
/// readable.
pub(crate) fn unused_config() -> Result<ClientConfig, TlsError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(builder
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth())
}

fn home_dir() -> Option<PathBuf> {
    std::env::home_dir().map(|home| home.join(".postgresql"))
}

fn versions(versions: ProtocolVersions) -> &'static [&'static SupportedProtocolVersion] {
    static NEWEST_FIRST: [&SupportedProtocolVersion; 2] = [&TLS13, &TLS12];
    match versions {
        ProtocolVersions::All => &NEWEST_FIRST,
        ProtocolVersions::Only12 => &NEWEST_FIRST[1..],
        ProtocolVersions::Only13 => &NEWEST_FIRST[..1],
    }
}

struct TrustedRoots {
    store: RootCertStore,
    /// The certificates themselves, since a server's own may be among them.
    certs: Vec<CertificateDer<'static>>,
}

/// Whom the options trust; `None` for anybody.
fn roots(options: &TlsOptions, dot_postgresql: Option<&Path>) -> Result<Option<TrustedRoots>, TlsError> {
    let default = || {
        dot_postgresql
            .map(|dir| dir.join("root.crt"))
            .filter(|path| path.exists())
    };
    match &options.root {
        RootCerts::None => Ok(None),
        RootCerts::File(path) => file_roots(path).map(Some),
        RootCerts::System => system_roots().map(Some),
        RootCerts::Default => match default() {
            Some(path) => file_roots(&path).map(Some),
            None if options.mode >= TlsMode::VerifyCa => system_roots().map(Some),
            None => Ok(None),
        },
    }
}

fn file_roots(path: &Path) -> Result<TrustedRoots, TlsError> {
    let certs = certificates("root certificates", path)?;
    let mut store = RootCertStore::empty();
    let (usable, _) = store.add_parsable_certificates(certs.iter().cloned());
    if usable == 0 {
        Err(TlsError::NoRoots(path.into()))
    } else {
        Ok(TrustedRoots { store, certs })
    }
}

fn system_roots() -> Result<TrustedRoots, TlsError> {
    let found = rustls_native_certs::load_native_certs();
    let mut store = RootCertStore::empty();
    let (usable, _) = store.add_parsable_certificates(found.certs);
    if usable == 0 {
        let why = found
            .errors
            .first()
            .map(|error| format!(" ({error})"))
            .unwrap_or_default();
        return Err(TlsError::NoSystemRoots(why));
    }
    Ok(TrustedRoots {
        store,
        certs: Vec::new(),
    })
}

fn certificates(what: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let failed = |source| TlsError::File {
        what,
        path: path.into(),
        source,
    };
    CertificateDer::pem_file_iter(path)
        .map_err(failed)?
        .collect::<Result<_, _>>()
        .map_err(failed)
}

fn with_client_cert(
    builder: ConfigBuilder<ClientConfig, WantsClientCert>,
    client: &ClientCert,
    dot_postgresql: Option<&Path>,
) -> Result<ClientConfig, TlsError> {
    let default = |name| dot_postgresql.map(|dir| dir.join(name));
    let ClientCert::Files { cert, key } = client else {
        return Ok(builder.with_no_client_auth());
    };
    let default_cert = || default("postgresql.crt").filter(|path| path.exists());
    let Some(cert) = cert.clone().or_else(default_cert) else {
        return Ok(builder.with_no_client_auth());
    };
    let key = key
        .clone()
        .or_else(|| default("postgresql.key"))
        .unwrap_or_else(|| cert.with_extension("key"));
    let chain = certificates("the client's certificate", &cert)?;
    let what = "the client's unencrypted key";
    let key_der = PrivateKeyDer::from_pem_file(&key).map_err(|source| TlsError::File {
        what,
        path: key,
        source,
    })?;
    Ok(builder.with_client_auth_cert(chain, key_der)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(mode: TlsMode, root: RootCerts) -> TlsOptions {
        let client = ClientCert::Files {
            cert: None,
            key: None,
        };
        TlsOptions {
            mode,
            root,
            client,
            versions: ProtocolVersions::All,
            sni: true,
            direct: false,
        }
    }

    fn write_root(dir: &Path) -> PathBuf {
        let key = rcgen::KeyPair::generate().unwrap();
        let cert = rcgen::CertificateParams::new(vec!["db".to_owned()])
            .unwrap()
            .self_signed(&key)
            .unwrap();
        let path = dir.join("root.crt");
        std::fs::write(&path, cert.pem()).unwrap();
        std::fs::write(dir.join("postgresql.crt"), cert.pem()).unwrap();
        std::fs::write(dir.join("postgresql.key"), key.serialize_pem()).unwrap();
        path
    }

    #[test]
    fn a_root_file_in_the_home_directory_is_verified_with_as_libpq_does() {
        let dir = tempfile::tempdir().unwrap();
        let require = options(TlsMode::Require, RootCerts::Default);
        assert!(roots(&require, Some(dir.path())).unwrap().is_none());
        write_root(dir.path());
        assert!(roots(&require, Some(dir.path())).unwrap().is_some());
        let no_verify = options(TlsMode::Require, RootCerts::None);
        assert!(roots(&no_verify, Some(dir.path())).unwrap().is_none());
    }

    #[test]
    fn a_client_certificate_in_the_home_directory_is_sent() {
        let dir = tempfile::tempdir().unwrap();
        let mut options = options(TlsMode::Require, RootCerts::Default);
        assert!(
            !client_config_in(&options, Some(dir.path()))
                .unwrap()
                .client_auth_cert_resolver
                .has_certs()
        );
        write_root(dir.path());
        assert!(
            client_config_in(&options, Some(dir.path()))
                .unwrap()
                .client_auth_cert_resolver
                .has_certs()
        );
        options.client = ClientCert::None;
        assert!(
            !client_config_in(&options, Some(dir.path()))
                .unwrap()
                .client_auth_cert_resolver
                .has_certs()
        );
    }

    #[test]
    fn a_file_that_cannot_be_used_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let missing = dir.path().join("missing.crt");
        let error = client_config(&options(TlsMode::VerifyCa, RootCerts::File(missing.clone()))).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("can't read root certificates from {}", missing.display())
        );
        let empty = dir.path().join("empty.crt");
        std::fs::write(&empty, "nothing").unwrap();
        let error = client_config(&options(TlsMode::VerifyCa, RootCerts::File(empty.clone()))).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("{} has no usable certificate", empty.display())
        );
    }
}
