//! The server under test, and the requests that prepare and clean it.

use std::{error::Error, time::Duration};

use anyhow::{Context, anyhow};
use futures_util::{StreamExt, TryStreamExt, stream};
use tonic::{
    Code, Status,
    transport::{Channel, ClientTlsConfig, Endpoint},
};

use super::workload::{MessageKey, Workload};
use chatledger_protocol::{
    self as pb, message_service_client::MessageServiceClient, session_service_client::SessionServiceClient,
};

/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How many requests that prepare or clean are under way: enough to fill the server's pool.
const AT_A_TIME: usize = 32;

/// A server's address.
#[derive(Clone, Debug)]
pub struct BenchTarget {
    endpoint: Endpoint,
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
        Ok(BenchTarget { endpoint })
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
    pub async fn connect(&self) -> anyhow::Result<Channel> {
        self.endpoint
            .connect()
            .await
            .map_err(|error| anyhow!("can't reach {}: {}", self.url(), root_cause(&error)))
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
pub(crate) fn messages(channel: &Channel) -> MessageServiceClient<Channel> {
    MessageServiceClient::new(channel.clone()).max_decoding_message_size(usize::MAX)
}

/// Appends one of the workload's messages.
///
/// # Errors
/// It isn't stored.
pub(crate) async fn append_one(
    channel: &Channel,
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
pub async fn create_sessions(channel: &Channel, workload: &Workload) -> anyhow::Result<()> {
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
pub async fn delete_sessions(channel: &Channel, workload: &Workload) -> anyhow::Result<()> {
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
