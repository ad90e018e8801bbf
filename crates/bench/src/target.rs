//! The server under test, and the requests that prepare and clean it.

use std::{error::Error, time::Duration};

use anyhow::{Context, anyhow};
use futures_util::{StreamExt, TryStreamExt, stream};
use tonic::{
    Code, Request, Status,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint},
};

use super::workload::{MessageKey, Workload};
use chatledger_protocol::{
    self as pb, message_service_client::MessageServiceClient, session_service_client::SessionServiceClient,
};

/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How many requests that prepare or clean are under way: enough to fill the server's pool.
const AT_A_TIME: usize = 32;

/// A connection to the server, by which every call has the credentials.
pub type BenchChannel = InterceptedService<Channel, BenchCredentials>;

/// What calls say about who they are from: nothing, or an API key or token.
#[derive(Clone, Debug, Default)]
pub struct BenchCredentials(Option<MetadataValue<Ascii>>);

impl BenchCredentials {
    /// An API key or token.
    ///
    /// # Errors
    /// It has characters that a header can't have.
    pub fn bearer(text: &str) -> anyhow::Result<Self> {
        let value = format!("Bearer {text}").parse::<MetadataValue<Ascii>>();
        let mut value = value.map_err(|_| anyhow!("has characters that no key or token has"))?;
        value.set_sensitive(true);
        Ok(BenchCredentials(Some(value)))
    }
}

impl Interceptor for BenchCredentials {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(value) = &self.0 {
            request.metadata_mut().insert("authorization", value.clone());
        }
        Ok(request)
    }
}

/// A server's address, and how to come in.
#[derive(Clone, Debug)]
pub struct BenchTarget {
    endpoint: Endpoint,
    credentials: BenchCredentials,
}

impl BenchTarget {
    /// The target at `http://HOST:PORT` or `https://HOST:PORT`.
    ///
    /// # Errors
    /// What is wrong with the URL.
    pub fn parse(url: &str) -> anyhow::Result<Self> {
        let uri: http::Uri = url.parse().map_err(|error| anyhow!("not a URL: {error}"))?;
        let tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => anyhow::bail!("must begin with http:// or https://"),
        };
        anyhow::ensure!(
            matches!(uri.path(), "" | "/"),
            "must be http://HOST:PORT, without a path"
        );
        let mut endpoint = Endpoint::from(uri).connect_timeout(CONNECT_TIMEOUT);
        if tls {
            endpoint = endpoint.tls_config(ClientTlsConfig::new().with_native_roots())?;
        }
        Ok(BenchTarget {
            endpoint,
            credentials: BenchCredentials::default(),
        })
    }

    /// The same with these credentials in every call.
    #[must_use]
    pub fn with_credentials(self, credentials: BenchCredentials) -> Self {
        BenchTarget { credentials, ..self }
    }

    /// The same where the server's certificate is of this authority, in PEM, instead of one that the system knows.
    ///
    /// # Errors
    /// The target isn't https.
    pub fn with_authority(self, pem: &[u8]) -> anyhow::Result<Self> {
        anyhow::ensure!(
            self.endpoint.uri().scheme_str() == Some("https"),
            "is for a target that begins with https://"
        );
        let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem));
        Ok(BenchTarget {
            endpoint: self.endpoint.tls_config(tls)?,
            ..self
        })
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
    pub async fn connect(&self) -> anyhow::Result<BenchChannel> {
        let connected = self.endpoint.connect().await;
        let channel =
            connected.map_err(|error| anyhow!("can't reach {}: {}", self.url(), root_cause(&error)))?;
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
pub(crate) fn told(status: &Status) -> anyhow::Error {
    anyhow!(
        "{}: {}",
        super::measure::code_name(status.code()),
        status.message()
    )
}

/// A client of messages, without a limit on what it receives: a page may be as long as the server makes it.
pub(crate) fn messages(channel: &BenchChannel) -> MessageServiceClient<BenchChannel> {
    MessageServiceClient::new(channel.clone()).max_decoding_message_size(usize::MAX)
}

/// Appends one of the workload's messages.
///
/// # Errors
/// It isn't stored.
pub(crate) async fn append_one(
    channel: &BenchChannel,
    workload: &Workload,
    key: MessageKey,
) -> anyhow::Result<()> {
    let request = pb::AppendMessageRequest {
        session_id: workload.session_text(workload.session_of(key)).to_owned(),
        message: Some(workload.message(key)),
    };
    let appended = messages(channel).append_message(request).await;
    appended.map(drop).map_err(|status| told(&status))
}

/// Creates the workload's sessions.
///
/// # Errors
/// The first that fails.
pub async fn create_sessions(channel: &BenchChannel, workload: &Workload) -> anyhow::Result<()> {
    each_session(workload, async |session_id| {
        let request = pb::CreateSessionRequest {
            session_id: Some(session_id),
            title: Some("chatledger bench".to_owned()),
            ..Default::default()
        };
        let mut client = SessionServiceClient::new(channel.clone());
        client.create_session(request).await.map(drop)
    })
    .await
    .context("creating sessions")
}

/// Deletes them, with all that is in them.
///
/// # Errors
/// The first that fails.
pub async fn delete_sessions(channel: &BenchChannel, workload: &Workload) -> anyhow::Result<()> {
    each_session(workload, async |session_id| {
        let request = pb::DeleteSessionRequest { session_id };
        let mut client = SessionServiceClient::new(channel.clone());
        match client.delete_session(request).await {
            // It was never made: creating them was interrupted.
            Err(status) if status.code() == Code::NotFound => Ok(()),
            answer => answer.map(drop),
        }
    })
    .await
    .context("deleting the sessions")
}

async fn each_session(
    workload: &Workload,
    call: impl AsyncFn(String) -> Result<(), Status>,
) -> anyhow::Result<()> {
    stream::iter(0..workload.sessions().len())
        .map(|session| call(workload.session_text(session).to_owned()))
        .buffer_unordered(AT_A_TIME)
        .try_collect::<()>()
        .await
        .map_err(|status| told(&status))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn mistaken_urls_say_what_is_wrong() {
        for (url, part) in [
            ("localhost:50051", "http://"),
            ("", "not a URL"),
            ("ftp://localhost", "http://"),
            ("http://localhost:1/api", "without a path"),
        ] {
            let error = BenchTarget::parse(url).expect_err(url).to_string();
            assert!(error.contains(part), "{url}: {error}");
        }
        for url in ["http://127.0.0.1:50051", "https://chat.example.com"] {
            BenchTarget::parse(url).expect(url);
        }
    }
}
