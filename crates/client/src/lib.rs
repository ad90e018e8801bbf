//! How this repository's own programs reach a server: the load tester, and the commands for people at a terminal.
//!
//! [`ServerTarget`] is a server's address with what is needed to come in; [`ServerTarget::connect`] gives a [`ServerChannel`], by
//! which every call of a generated client has the [`CallCredentials`]. [`explain`] says what a status is.
//!
//! ```no_run
//! # async fn f() -> anyhow::Result<()> {
//! use chatledger_client::{CallCredentials, ServerTarget};
//!
//! let target = ServerTarget::parse("https://chat.example.com")?.with_credentials(CallCredentials::bearer("ck_…")?);
//! let channel = target.connect().await?;
//! # Ok(()) }
//! ```
//!
//! # What it promises
//!
//! - No error and no `Debug` shows a credential.
//! - A server that can't be reached is an error that says the address and the reason, in one line.

use std::{error::Error, time::Duration};

use anyhow::anyhow;
use tonic::{
    Code, Request, Status,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint},
};

/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection to the server, by which every call has the credentials.
pub type ServerChannel = InterceptedService<Channel, CallCredentials>;

/// What calls say about who they are from: nothing, or an API key or token.
#[derive(Clone, Debug, Default)]
pub struct CallCredentials(Option<MetadataValue<Ascii>>);

impl CallCredentials {
    /// An API key or token.
    ///
    /// # Errors
    /// It has characters that a header can't have.
    pub fn bearer(text: &str) -> anyhow::Result<Self> {
        let value = format!("Bearer {text}").parse::<MetadataValue<Ascii>>();
        let mut value = value.map_err(|_| anyhow!("has characters that no key or token has"))?;
        value.set_sensitive(true);
        Ok(CallCredentials(Some(value)))
    }
}

impl Interceptor for CallCredentials {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(value) = &self.0 {
            request.metadata_mut().insert("authorization", value.clone());
        }
        Ok(request)
    }
}

/// A server's address, and how to come in.
#[derive(Clone, Debug)]
pub struct ServerTarget {
    endpoint: Endpoint,
    /// On the heap, since it is large and few have it.
    tls: Option<Box<ClientTlsConfig>>,
    credentials: CallCredentials,
}

impl ServerTarget {
    /// The target at `http://HOST:PORT` or `https://HOST:PORT`.
    ///
    /// # Errors
    /// What is wrong with the URL.
    pub fn parse(url: &str) -> anyhow::Result<Self> {
        let uri: http::Uri = url.parse().map_err(|error| anyhow!("not a URL: {error}"))?;
        let tls = match uri.scheme_str() {
            Some("http") => None,
            Some("https") => Some(Box::new(ClientTlsConfig::new().with_native_roots())),
            _ => anyhow::bail!("must begin with http:// or https://"),
        };
        anyhow::ensure!(
            matches!(uri.path(), "" | "/"),
            "must be http://HOST:PORT, without a path"
        );
        Ok(ServerTarget {
            endpoint: Endpoint::from(uri).connect_timeout(CONNECT_TIMEOUT),
            tls,
            credentials: CallCredentials::default(),
        })
    }

    /// The same with these credentials in every call.
    #[must_use]
    pub fn with_credentials(self, credentials: CallCredentials) -> Self {
        ServerTarget { credentials, ..self }
    }

    /// The same where the server's certificate is of this authority, in PEM, instead of one that the system knows.
    ///
    /// # Errors
    /// The target isn't https.
    pub fn with_authority(mut self, pem: &[u8]) -> anyhow::Result<Self> {
        anyhow::ensure!(self.tls.is_some(), "is for a target that begins with https://");
        self.tls = Some(Box::new(
            ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem)),
        ));
        Ok(self)
    }

    /// The same where the server's certificate is for this name, which isn't the host of the URL: behind a tunnel, or on
    /// the loopback. To be said after [`ServerTarget::with_authority`].
    ///
    /// # Errors
    /// The target isn't https.
    pub fn with_server_name(mut self, name: &str) -> anyhow::Result<Self> {
        let tls = self.tls.take();
        let tls = tls.ok_or_else(|| anyhow!("is for a target that begins with https://"))?;
        self.tls = Some(Box::new(tls.domain_name(name)));
        Ok(self)
    }

    /// The URL as it was given.
    #[must_use]
    pub fn url(&self) -> String {
        self.endpoint.uri().to_string()
    }

    /// One more connection.
    ///
    /// # Errors
    /// The server can't be reached.
    pub async fn connect(&self) -> anyhow::Result<ServerChannel> {
        let unreachable =
            |error: tonic::transport::Error| anyhow!("can't reach {}: {}", self.url(), root_cause(&error));
        let mut endpoint = self.endpoint.clone();
        if let Some(tls) = &self.tls {
            endpoint = endpoint
                .tls_config(ClientTlsConfig::clone(tls))
                .map_err(unreachable)?;
        }
        let channel = endpoint.connect().await.map_err(unreachable)?;
        Ok(InterceptedService::new(channel, self.credentials.clone()))
    }
}

/// tonic says only "transport error"; what helps is at the end of the chain.
fn root_cause(error: &dyn Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

/// What a status says, with the code's name.
#[must_use]
pub fn explain(status: &Status) -> anyhow::Error {
    anyhow!("{}: {}", code_name(status.code()), status.message())
}

/// The code as gRPC spells it, such as `DEADLINE_EXCEEDED`.
#[must_use]
pub fn code_name(code: Code) -> String {
    let mut name = String::new();
    for letter in format!("{code:?}").chars() {
        if letter.is_ascii_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(letter.to_ascii_uppercase());
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_spelled_as_grpc_does() {
        assert_eq!(code_name(Code::Ok), "OK");
        assert_eq!(code_name(Code::DeadlineExceeded), "DEADLINE_EXCEEDED");
    }

    #[tokio::test]
    async fn mistaken_urls_say_what_is_wrong() {
        for (url, part) in [
            ("localhost:50051", "http://"),
            ("", "not a URL"),
            ("ftp://localhost", "http://"),
            ("http://localhost:1/api", "without a path"),
        ] {
            let error = ServerTarget::parse(url).expect_err(url).to_string();
            assert!(error.contains(part), "{url}: {error}");
        }
        for url in ["http://127.0.0.1:50051", "https://chat.example.com"] {
            ServerTarget::parse(url).expect(url);
        }
    }

    #[test]
    fn a_credential_is_not_shown() {
        let key = CallCredentials::bearer("hunter2").expect("a key");
        assert!(!format!("{key:?}").contains("hunter2"));
    }
}
