//! `WatchMessages`: what a watch says, as a response stream. It is asked only when the client takes more,
//! so a slow client costs nothing.

use futures_util::{Stream, stream};
use tokio::sync::watch;
use tonic::Status;

use super::{convert, pb};
use crate::{
    domain::{Error, Result},
    watch::{Event, Watcher},
};

/// A watch, until it fails or the server stops.
struct Watch {
    watcher: Watcher,
    /// Becomes true when the server stops.
    stopping: watch::Receiver<bool>,
}

/// The events of a watch.
pub(super) fn events(
    watcher: Watcher,
    stopping: watch::Receiver<bool>,
) -> impl Stream<Item = Result<pb::WatchMessagesResponse, Status>> + Send {
    let watch = Watch { watcher, stopping };
    stream::unfold(Some(watch), |watch| async {
        let mut watch = watch?;
        match watch.next().await {
            Ok(event) => Some((Ok(event_to_pb(event)), Some(watch))),
            Err(error) => Some((Err(error.into()), None)),
        }
    })
}

impl Watch {
    async fn next(&mut self) -> Result<Event> {
        tokio::select! {
            // Stopping comes first: a watch that is far behind must not keep the server up.
            biased;
            _ = self.stopping.wait_for(|stopping| *stopping) => Err(Error::ShuttingDown),
            event = self.watcher.next() => event,
        }
    }
}

fn event_to_pb(event: Event) -> pb::WatchMessagesResponse {
    use pb::watch_messages_response::Event as Of;

    let event = match event {
        Event::Message(message) => Of::Message(convert::message_to_pb(message)),
        Event::CaughtUp(last_seq) => Of::CaughtUp(pb::CaughtUp { last_seq }),
        Event::Heartbeat(last_seq) => Of::Heartbeat(pb::Heartbeat { last_seq }),
    };
    pb::WatchMessagesResponse { event: Some(event) }
}
