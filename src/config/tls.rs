//! The flags of TLS.

use std::path::PathBuf;

use clap::Args;

use crate::{
    auth::CertificateMap,
    server::{ClientAuth, ServerTls, TlsFiles},
    watched::{FlagFile, Looks, Watched},
};

/// How connections are encrypted, and whose certificates are asked for.
#[derive(Debug, Args)]
#[command(next_help_heading = "TLS")]
pub struct TlsConfig {
    /// The server's certificate and its intermediates, in PEM; read again when it changes, as all of these files are
    #[arg(long, env = "CHATLEDGER_TLS_CERT", value_name = "FILE")]
    pub tls_cert: Option<PathBuf>,
    /// The key of the server's certificate, in PEM, not encrypted
    #[arg(long, env = "CHATLEDGER_TLS_KEY", value_name = "FILE")]
    pub tls_key: Option<PathBuf>,
    /// The authorities whose certificates clients must show, in PEM
    #[arg(long, env = "CHATLEDGER_TLS_CLIENT_CA", value_name = "FILE")]
    pub tls_client_ca: Option<PathBuf>,
    /// Whether clients without a certificate are refused, or may come with other credentials
    #[arg(long, env = "CHATLEDGER_TLS_CLIENT_AUTH", value_enum, default_value_t = ClientAuth::Required)]
    pub tls_client_auth: ClientAuth,
    /// Which certificates of clients stand for which services, in TOML
    #[arg(long, env = "CHATLEDGER_CLIENT_CERTIFICATES_FILE", value_name = "FILE")]
    pub client_certificates_file: Option<PathBuf>,
}

impl TlsConfig {
    /// Checks that each flag has those that it needs.
    ///
    /// # Errors
    /// It has not.
    pub fn validate(&self) -> anyhow::Result<()> {
        let has_cert = match (&self.tls_cert, &self.tls_key) {
            (Some(_), Some(_)) => true,
            (None, None) => false,
            (Some(_), None) => anyhow::bail!("--tls-cert needs --tls-key, the certificate's key"),
            (None, Some(_)) => anyhow::bail!("--tls-key needs --tls-cert, the key's certificate"),
        };
        let has_ca = self.tls_client_ca.is_some();
        anyhow::ensure!(
            has_cert || !has_ca,
            "--tls-client-ca needs --tls-cert and --tls-key"
        );
        anyhow::ensure!(
            has_ca || self.tls_client_auth == ClientAuth::Required,
            "--tls-client-auth optional needs --tls-client-ca: clients are asked for no certificate"
        );
        anyhow::ensure!(
            has_ca || self.client_certificates_file.is_none(),
            "--client-certificates-file needs --tls-client-ca: clients are asked for no certificate"
        );
        Ok(())
    }

    /// The server's side of TLS, if there is one. Its files are looked at again when `looks` says so.
    ///
    /// # Errors
    /// A file can't be used: the error names its flag.
    pub fn open(&self, looks: &Looks) -> anyhow::Result<Option<ServerTls>> {
        let (Some(cert), Some(key)) = (&self.tls_cert, &self.tls_key) else {
            return Ok(None);
        };
        let files = TlsFiles {
            cert: cert.clone(),
            key: key.clone(),
            client_ca: self.tls_client_ca.clone(),
            client_auth: self.tls_client_auth,
        };
        ServerTls::open(files, looks).map(Some)
    }

    /// Which services clients' certificates stand for; looked at again when `looks` says so.
    ///
    /// # Errors
    /// The file can't be used: the error names its flag.
    pub fn open_certificates(&self, looks: &Looks) -> anyhow::Result<Option<Watched<CertificateMap>>> {
        let Some(path) = &self.client_certificates_file else {
            return Ok(None);
        };
        let file = FlagFile {
            flag: "--client-certificates-file",
            path: path.clone(),
        };
        Watched::open_text(file, looks, CertificateMap::parse).map(Some)
    }
}
