//! `WatchMessages`: what a watch says, as a response stream. It is asked only when the client takes more,
//! so a slow client costs nothing.

use futures_util::{Stream, stream};
use tokio::sync::watch;
use tonic::Status;

use super::{convert, pb};
use crate::{
    domain::{Error, Result},
    watch::{SessionWatcher, WatchEvent},
};

/// A watch, until it fails or the server stops.
struct EventStream {
    watcher: SessionWatcher,
    /// Becomes true when the server stops.
    stopping: watch::Receiver<bool>,
}

/// The events of a watch.
pub(super) fn events(
    watcher: SessionWatcher,
    stopping: watch::Receiver<bool>,
) -> impl Stream<Item = Result<pb::WatchMessagesResponse, Status>> + Send {
    let watch = EventStream { watcher, stopping };
    stream::unfold(Some(watch), |watch| async {
        let mut watch = watch?;
        match watch.next().await {
            Ok(event) => Some((Ok(event_to_pb(event)), Some(watch))),
            Err(error) => Some((Err(error.into()), None)),
        }
    })
}

impl EventStream {
    async fn next(&mut self) -> Result<WatchEvent> {
        tokio::select! {
            // Stopping comes first: a watch that is far behind must not keep the server up.
            biased;
            _ = self.stopping.wait_for(|stopping| *stopping) => Err(Error::ShuttingDown),
            event = self.watcher.next() => event,
        }
    }
}

fn event_to_pb(event: WatchEvent) -> pb::WatchMessagesResponse {
    use pb::watch_messages_response::Event as Of;

    let event = match event {
        WatchEvent::Message(message) => Of::Message(convert::message_to_pb(message)),
        WatchEvent::CaughtUp(last_seq) => Of::CaughtUp(pb::CaughtUp { last_seq }),
        WatchEvent::Heartbeat(last_seq) => Of::Heartbeat(pb::Heartbeat { last_seq }),
    };
    pb::WatchMessagesResponse { event: Some(event) }
}
