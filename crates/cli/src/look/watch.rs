//! `chatledger watch`: a session as it goes on. The watch is taken up again where the connection is lost, behind the last
//! message that was shown, so that each is shown once.

use std::time::Duration;

use clap::Args;
use tokio::time;
use tonic::{Code, Status};
use uuid::Uuid;

use super::{conversation, harmless, json, messages::newest, messages_of, refused, screen::Screen};
use crate::server_target::ServerFlags;
use chatledger_client::ServerChannel;
use chatledger_protocol::{self as pb, watch_messages_response::Event};

/// The first pause before a watch is opened again, and the longest; each is twice the one before.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// Which session.
#[derive(Debug, Args)]
pub(crate) struct SessionWatchArgs {
    /// The session
    #[arg(value_name = "SESSION")]
    session: Uuid,
    /// How many of the messages that there are to show first, the newest
    #[arg(
        long,
        short = 'n',
        value_name = "N",
        default_value_t = 10,
        conflicts_with = "after"
    )]
    last: usize,
    /// Show all with a seq above this; 0: all
    #[arg(long, value_name = "SEQ", value_parser = clap::value_parser!(i64).range(0..))]
    after: Option<i64>,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerFlags,
}

pub(crate) fn run(args: &SessionWatchArgs) -> anyhow::Result<()> {
    super::run(follow(args))
}

async fn follow(args: &SessionWatchArgs) -> anyhow::Result<()> {
    let channel = args.server.connect().await?;
    let screen = Screen::of_stdout();
    let show = |message: &pb::Message| {
        if args.json {
            json::print(&json::message(message));
        } else {
            conversation::print(screen, message);
        }
    };
    let mut seen = match args.after {
        Some(after) => after,
        None => {
            // One more than is shown: its seq is where the watch begins, also where none is to be shown.
            let found = newest(&channel, args.session, args.last.max(1), &[]).await?;
            found.iter().take(args.last).for_each(&show);
            found.last().map_or(0, |message| message.seq)
        }
    };
    let mut pause = PAUSES.0;
    loop {
        let before = seen;
        let status = watch(&channel, args.session, &mut seen, &show).await;
        if is_final(status.code()) {
            return Err(refused(&status));
        }
        if seen > before {
            pause = PAUSES.0;
        }
        let reason = chatledger_client::explain(&status).to_string();
        tracing::warn!(
            reason = harmless::line(&reason),
            "the watch was lost; it is taken up again"
        );
        time::sleep(pause).await;
        pause = (pause * 2).min(PAUSES.1);
    }
}

/// Shows what comes until the watch ends, and answers why it did.
async fn watch(
    channel: &ServerChannel,
    session: Uuid,
    seen: &mut i64,
    show: &impl Fn(&pb::Message),
) -> Status {
    let request = pb::WatchMessagesRequest {
        session_id: session.to_string(),
        after_seq: *seen,
    };
    let mut events = match messages_of(channel).watch_messages(request).await {
        Ok(answer) => answer.into_inner(),
        Err(status) => return status,
    };
    loop {
        match events.message().await {
            Ok(Some(answer)) => match answer.event {
                Some(Event::Message(message)) => {
                    *seen = message.seq;
                    show(&message);
                }
                Some(Event::CaughtUp(_) | Event::Heartbeat(_)) | None => {}
            },
            Ok(None) => return Status::unavailable("the server has ended the watch"),
            Err(status) => return status,
        }
    }
}

/// Whether another try would be refused as well.
fn is_final(code: Code) -> bool {
    matches!(
        code,
        Code::NotFound
            | Code::InvalidArgument
            | Code::Unauthenticated
            | Code::PermissionDenied
            | Code::Unimplemented
            | Code::FailedPrecondition
    )
}
