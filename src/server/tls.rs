//! The server's side of TLS: which files it is made of, and how a handshake is done.
//!
//! What rustls needs is made anew when one of the files changes, and used by the connections that come from then on; those
//! that there are keep theirs. Sessions that could be resumed are forgotten with it, so that nobody comes in by an
//! authority that isn't trusted any more.

use std::{io, path::PathBuf, sync::Arc, time::Duration};

use clap::ValueEnum;
use jiff::Timestamp;
use rustls::{
    RootCertStore, ServerConfig,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::{NoClientAuth, ServerSessionMemoryCache, WebPkiClientVerifier, danger::ClientCertVerifier},
    sign::{CertifiedKey, SingleCertAndKey},
    version::{TLS12, TLS13},
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use crate::{
    auth::ClientCertificate,
    watched::{FileContents, FlagFile, Looks, Watched},
};

/// The name of HTTP/2 in the handshake (RFC 9113, section 3.1). Nothing else is spoken here.
const HTTP_2: &[u8] = b"h2";
/// The most sessions that may be resumed: clients keep a connection for long, so that these are as many as come again
/// within some minutes. Each has the client's certificates, some KiB.
const MOST_SESSIONS: usize = 1024;

/// The files that TLS is made of.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// The server's certificate, followed by its intermediates.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// The authorities of clients' certificates, where they are asked for.
    pub client_ca: Option<PathBuf>,
    /// What becomes of clients without one, where they are asked for it.
    pub client_auth: ClientAuth,
}

/// What becomes of clients that show no certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ClientAuth {
    /// They are refused.
    Required,
    /// They may come with other credentials.
    Optional,
}

/// The server's side of TLS.
#[derive(Clone, Debug)]
pub struct ServerTls(Watched<ServerConfig>);

impl ServerTls {
    /// Reads the files, and looks at them again when `looks` says so.
    ///
    /// # Errors
    /// A file can't be used: the error names its flag.
    pub fn open(files: TlsFiles, looks: &Looks) -> anyhow::Result<Self> {
        let mut named = vec![
            FlagFile {
                flag: "--tls-cert",
                path: files.cert,
            },
            FlagFile {
                flag: "--tls-key",
                path: files.key,
            },
        ];
        named.extend(files.client_ca.map(|path| FlagFile {
            flag: "--tls-client-ca",
            path,
        }));
        let parse = move |contents: &[FileContents]| match contents {
            [cert, key] => server_config(cert, key, None, files.client_auth),
            [cert, key, ca] => server_config(cert, key, Some(ca), files.client_auth),
            _ => anyhow::bail!("TLS is made of two files or three"),
        };
        Watched::open(named, looks, parse).map(ServerTls)
    }

    /// Does the handshake, and answers the certificate that the client has shown and TLS has verified. Who doesn't
    /// negotiate HTTP/2, or shows a certificate whose time is over, is refused.
    pub(super) async fn accept<S>(&self, stream: S) -> io::Result<(TlsStream<S>, Option<ClientCertificate>)>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let stream = TlsAcceptor::from(self.0.get()).accept(stream).await?;
        let (_, session) = stream.get_ref();
        // Only who names no protocol at all gets as far as this.
        if session.alpn_protocol() != Some(HTTP_2) {
            return Err(io::Error::other("the client doesn't negotiate HTTP/2 (ALPN h2)"));
        }
        let certificate = match session.peer_certificates() {
            Some([shown, ..]) => client_certificate(shown)?,
            _ => None,
        };
        Ok((stream, certificate))
    }
}

/// A client's certificate that has been verified. In a session that is resumed that was earlier: its time may be over.
fn client_certificate(shown: &CertificateDer<'_>) -> io::Result<Option<ClientCertificate>> {
    let Some(certificate) = ClientCertificate::from_der(shown) else {
        tracing::warn!("a client's certificate is valid and can't be read: it stands for nobody");
        return Ok(None);
    };
    if certificate.not_after < Timestamp::now() {
        return Err(io::Error::other("the client's certificate has expired"));
    }
    Ok(Some(certificate))
}

fn server_config(
    cert: &FileContents,
    key: &FileContents,
    client_ca: Option<&FileContents>,
    client_auth: ClientAuth,
) -> anyhow::Result<ServerConfig> {
    // Explicitly: there is no process-wide default provider when two crates bring one each.
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let pair = certified_key(cert, key, &provider)?;
    let verifier = match client_ca {
        Some(ca) => client_verifier(ca, client_auth, &provider)?,
        None => Arc::new(NoClientAuth),
    };
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13, &TLS12])?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(pair)));
    config.alpn_protocols = vec![HTTP_2.to_vec()];
    config.session_storage = ServerSessionMemoryCache::new(MOST_SESSIONS);
    // What comes before the handshake is over could be sent again by somebody else.
    config.max_early_data_size = 0;
    Ok(config)
}

/// The certificates in a PEM file. What is in it isn't quoted.
fn certificates(file: &FileContents) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(file.bytes()).collect();
    match certificates {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        Ok(_) => Err(file.file.error("has no certificate in PEM")),
        Err(_) => Err(file.file.error("isn't valid PEM")),
    }
}

/// The server's certificate with its key, which fit together and are good today.
fn certified_key(
    cert: &FileContents,
    key: &FileContents,
    provider: &CryptoProvider,
) -> anyhow::Result<CertifiedKey> {
    let chain = certificates(cert)?;
    verify_dates(cert, &chain)?;
    let private = PrivateKeyDer::from_pem_slice(key.bytes())
        .map_err(|_| key.file.error("has no private key in PEM, or an encrypted one"))?;
    let private = provider
        .key_provider
        .load_private_key(private)
        .map_err(|_| key.file.error("has a private key of a kind that isn't known"))?;
    let pair = CertifiedKey::new(chain, private);
    match pair.keys_match() {
        Ok(()) => Ok(pair),
        Err(rustls::Error::InconsistentKeys(_)) => {
            let other = cert.file.path.display();
            Err(key
                .file
                .error(format_args!("isn't the key of the first certificate in {other}")))
        }
        Err(_) => Err(cert.file.error("has a first certificate that can't be read")),
    }
}

/// Checks the days of the server's own certificate.
fn verify_dates(file: &FileContents, chain: &[CertificateDer<'_>]) -> anyhow::Result<()> {
    use x509_cert::{Certificate, der::Decode};
    let first = chain.first().and_then(|first| Certificate::from_der(first).ok());
    let Some(first) = first else {
        return Err(file.file.error("has a first certificate that can't be read"));
    };
    let now = Duration::from_secs(u64::try_from(Timestamp::now().as_second()).unwrap_or_default());
    let validity = first.tbs_certificate.validity;
    if now > validity.not_after.to_unix_duration() {
        let ended = validity.not_after.to_date_time();
        return Err(file.file.error(format_args!("has expired, on {ended}")));
    }
    if now < validity.not_before.to_unix_duration() {
        let begins = validity.not_before.to_date_time();
        return Err(file.file.error(format_args!("isn't valid before {begins}")));
    }
    Ok(())
}

fn client_verifier(
    ca: &FileContents,
    client_auth: ClientAuth,
    provider: &Arc<CryptoProvider>,
) -> anyhow::Result<Arc<dyn ClientCertVerifier>> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(ca)? {
        roots
            .add(certificate)
            .map_err(|_| ca.file.error("has a certificate that can't be read"))?;
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
    let builder = match client_auth {
        ClientAuth::Required => builder,
        ClientAuth::Optional => builder.allow_unauthenticated(),
    };
    builder.build().map_err(|error| ca.file.error(error))
}
