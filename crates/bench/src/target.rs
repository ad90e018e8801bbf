//! The requests that prepare the server under test, and clean it.

use anyhow::Context;
use futures_util::{StreamExt, TryStreamExt, stream};
use tonic::{Code, Status};

use super::workload::{MessageKey, Workload};
use chatledger_client::{ServerChannel, explain};
use chatledger_protocol::{
    self as pb, message_service_client::MessageServiceClient, session_service_client::SessionServiceClient,
};

/// How many requests that prepare or clean are under way: enough to fill the server's pool.
const AT_A_TIME: usize = 32;

/// A client of messages, without a limit on what it receives: a page may be as long as the server makes it.
pub(crate) fn messages(channel: &ServerChannel) -> MessageServiceClient<ServerChannel> {
    MessageServiceClient::new(channel.clone()).max_decoding_message_size(usize::MAX)
}

/// Appends one of the workload's messages.
///
/// # Errors
/// It isn't stored.
pub(crate) async fn append_one(
    channel: &ServerChannel,
    workload: &Workload,
    key: MessageKey,
) -> anyhow::Result<()> {
    let request = pb::AppendMessageRequest {
        session_id: workload.session_text(workload.session_of(key)).to_owned(),
        message: Some(workload.message(key)),
    };
    let appended = messages(channel).append_message(request).await;
    appended.map(drop).map_err(|status| explain(&status))
}

/// Creates the workload's sessions.
///
/// # Errors
/// The first that fails.
pub async fn create_sessions(channel: &ServerChannel, workload: &Workload) -> anyhow::Result<()> {
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
pub async fn delete_sessions(channel: &ServerChannel, workload: &Workload) -> anyhow::Result<()> {
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
        .map_err(|status| explain(&status))
}
