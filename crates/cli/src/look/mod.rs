//! The commands for people at a terminal, who look at what a server has: `sessions`, `messages`, `watch`, `search`, and
//! `health`, which also probes use. They are clients like any other: they see what their key may see.
//!
//! - `sessions`, `messages`, `watch` and `search` are a command each: its flags, its calls, what it shows.
//! - `screen` knows whether somebody looks, how wide that is, and whether in colours.
//! - `harmless` takes what a terminal would obey out of texts that anybody may have written.
//! - `conversation` shows messages; `json` writes what `--json` gives, a line each, without loss.

mod conversation;
pub(super) mod harmless;
pub(super) mod health;
mod json;
pub(super) mod messages;
pub(super) mod screen;
pub(super) mod search;
pub(super) mod sessions;
pub(super) mod watch;

use clap::ValueEnum;
use tonic::Status;

use super::{logs::Logs, signals::StopSignals};
use chatledger::config::LogFormat;
use chatledger_client::ServerChannel;
use chatledger_protocol::{self as pb, message_service_client::MessageServiceClient};

/// Who said a message.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum RoleName {
    /// The person.
    User,
    /// The model.
    Assistant,
    /// Instructions.
    System,
    /// What a tool gave.
    Tool,
}

impl RoleName {
    fn numbers(roles: &[RoleName]) -> Vec<i32> {
        let number = |role: &RoleName| match role {
            RoleName::User => pb::Role::User,
            RoleName::Assistant => pb::Role::Assistant,
            RoleName::System => pb::Role::System,
            RoleName::Tool => pb::Role::Tool,
        };
        roles.iter().map(|role| i32::from(number(role))).collect()
    }
}

/// Runs what a command asks of a server, until that is done, or Ctrl-C: then it ends at once, and well, since whoever
/// looks has seen enough.
fn run(work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    let _logs = Logs::start(LogFormat::Text, "warn");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let done = runtime.block_on(async {
        let mut stop = StopSignals::listen()?;
        tokio::select! {
            done = work => done,
            () = stop.asked() => Ok(()),
        }
    });
    // Looking up a name isn't waited for.
    runtime.shutdown_background();
    done
}

/// A client of messages, without a limit on what it receives: a page may be as long as the server makes it.
fn messages_of(channel: &ServerChannel) -> MessageServiceClient<ServerChannel> {
    MessageServiceClient::new(channel.clone()).max_decoding_message_size(usize::MAX)
}

/// A refusal in one line. The server may be anybody's, so that its words are made harmless as well.
fn refused(status: &Status) -> anyhow::Error {
    let words = chatledger_client::explain(status).to_string();
    anyhow::anyhow!("{}", harmless::line(&words))
}

/// How many to ask for in the next page; the server answers 500 at most.
fn page_size(wanted: usize) -> i32 {
    i32::try_from(wanted.min(500)).unwrap_or(500)
}
