//! One watch: reads the table until it is live, is told of news then, and reads the table again whenever it
//! was too slow for that.

use std::{sync::Arc, time::Duration, vec};

use tokio::{
    sync::broadcast::error::RecvError,
    time::{self, Instant},
};
use uuid::Uuid;

use super::{
    Hub,
    sessions::{SharedPage, Subscription, WatchNotice},
};
use crate::{
    auth::Caller,
    domain::{Error, Resource, Result, message::Message},
    memory::{Charge, LARGEST_MESSAGE, MemoryBudget},
    metrics::metrics,
    store::{NewsRequest, PageSize, Store},
};

/// The page that a watch reads by itself at a time, and holds while its client takes it: some messages of usual size
/// for a statement, or one that is large.
const PAGE: PageSize = PageSize {
    rows: 500,
    bytes: 128 << 10,
    large: true,
};
/// The memory that reading such a page may take: one large message, as a row and as a message.
const READ_BYTES: usize = 2 * LARGEST_MESSAGE;
/// A message of a page that others share is this watch's own as soon as it is to be sent; a small one is part of what
/// every stream is charged.
const SMALL: usize = 4 << 10;

/// How much later than it is due a look may come on a busy machine.
const LOOK_MARGIN: Duration = Duration::from_secs(2);

/// An event that a watch tells its client.
#[derive(Debug, PartialEq)]
pub enum WatchEvent {
    /// A message.
    Message(Message),
    /// The mark that everything has been told that was stored when the watch began. The session's last seq at that
    /// moment.
    CaughtUp(i64),
    /// A sign of life after a quiet while: the table was looked at meanwhile, and had nothing new. The last seq that
    /// the watch has passed.
    Heartbeat(i64),
}

/// One watch of one session.
pub struct SessionWatcher {
    store: Store,
    subscription: Subscription,
    heartbeat: Duration,
    /// How long a look at the table is waited for when a heartbeat is due. Then the watch ends.
    look_within: Duration,
    /// The question to the table. All up to `known` has been told, or is at hand.
    asked: NewsRequest,
    /// The last seq that the client has been told, or doesn't want.
    passed: i64,
    at_hand: MessagesAtHand,
    /// Whether the table may have messages above `known` that this watch isn't told of.
    behind: bool,
    /// The session's last seq, as the table last said.
    last_seq: i64,
    has_said_caught_up: bool,
    memory: MemoryBudget,
    /// The memory of what is at hand, and on its way to the client.
    charge: Option<Charge>,
}

/// Messages that are to be told next.
enum MessagesAtHand {
    /// The watch's own.
    Own(vec::IntoIter<Message>),
    /// Shared with other watches, from an index on.
    Shared(Arc<SharedPage>, usize),
}

impl SessionWatcher {
    /// Begins with a read of the table, so that a session that isn't there is refused at once.
    pub(super) async fn begin(
        hub: &Hub,
        caller: Caller,
        session_id: Uuid,
        after_seq: i64,
    ) -> Result<SessionWatcher> {
        // It reads long after the request's deadline.
        let caller = Caller {
            deadline: None,
            ..caller
        };
        let mut watcher = SessionWatcher {
            store: hub.store.clone(),
            // Before anything is read: what is committed after the read is told.
            subscription: hub.sessions.subscribe(caller.clone(), session_id),
            heartbeat: hub.options.heartbeat,
            look_within: hub.options.safety_poll + LOOK_MARGIN,
            asked: NewsRequest {
                caller,
                session_id,
                known: after_seq,
            },
            passed: after_seq,
            at_hand: MessagesAtHand::Own(Vec::new().into_iter()),
            behind: true,
            last_seq: 0,
            has_said_caught_up: false,
            memory: hub.options.memory.clone(),
            charge: None,
        };
        watcher.read().await?;
        Ok(watcher)
    }

    /// Waits for the next event. After an error the watch is over.
    ///
    /// # Errors
    /// [`Error::NotFound`] where the session is gone, and the store's.
    pub async fn next(&mut self) -> Result<WatchEvent> {
        loop {
            self.charge_shared().await;
            if let Some(message) = self.at_hand.next(self.passed) {
                self.passed = message.seq;
                metrics().watch.events.inc();
                return Ok(WatchEvent::Message(message));
            }
            if self.behind {
                self.read().await?;
            } else if !self.has_said_caught_up {
                self.has_said_caught_up = true;
                return Ok(WatchEvent::CaughtUp(self.last_seq));
            } else {
                // What was at hand is not kept while nothing happens.
                self.at_hand = MessagesAtHand::Own(Vec::new().into_iter());
                self.charge = None;
                if let Some(heartbeat) = self.wait().await? {
                    return Ok(heartbeat);
                }
            }
        }
    }

    /// Hears of news, or answers a heartbeat. That says that there was nothing new since the last event, and so needs
    /// somebody to have looked since then.
    async fn wait(&mut self) -> Result<Option<WatchEvent>> {
        let since = Instant::now();
        let Subscription {
            notices, looked_at, ..
        } = &mut self.subscription;
        let quiet = async {
            time::sleep(self.heartbeat).await;
            time::timeout(self.look_within, looked_at.wait_for(|&as_of| as_of >= since)).await
        };
        let notice = tokio::select! {
            biased;
            notice = notices.recv() => notice,
            looked = quiet => {
                // An error of the inner kind is the sender's end, which is part of self.
                let looked = looked.map(|_| Some(WatchEvent::Heartbeat(self.asked.known)));
                return looked.map_err(|_| Error::DatabaseUnavailable);
            }
        };
        self.hear(notice)?;
        Ok(None)
    }

    /// Takes what the next message holds where others have it as well: the copy that is sent is this watch's own.
    /// Those of its own page hold that already.
    async fn charge_shared(&mut self) {
        let weight = self.at_hand.shared(self.passed).map_or(0, Message::weight);
        if weight > SMALL {
            // The message before has left, or nobody would ask for this one.
            self.charge = None;
            self.charge = Some(self.memory.take(self.asked.caller.holder, weight).await);
        }
    }

    async fn read(&mut self) -> Result<()> {
        self.at_hand = MessagesAtHand::Own(Vec::new().into_iter());
        self.charge = None;
        let bytes = READ_BYTES.min(self.memory.largest());
        let mut charge = self.memory.take(self.asked.caller.holder, bytes).await;
        let news = self.store.news(std::slice::from_ref(&self.asked), PAGE).await?;
        let news = news.into_iter().next().flatten().ok_or(GONE)?;
        self.last_seq = news.last_seq;
        self.behind = news.more;
        // A client may begin above what there is so far.
        self.asked.known = self.asked.known.max(news.reach());
        if !self.behind {
            self.subscription.live(news.last_seq);
        }
        // Once as messages, of which one at a time is encoded as well.
        let weights = || news.messages.iter().map(Message::weight);
        charge.shrink_to(weights().sum::<usize>() + weights().max().unwrap_or(0));
        self.charge = Some(charge);
        self.at_hand = MessagesAtHand::Own(news.messages.into_iter());
        Ok(())
    }

    fn hear(&mut self, notice: Result<WatchNotice, RecvError>) -> Result<()> {
        match notice {
            Ok(WatchNotice::Page(page)) if page.above <= self.asked.known => {
                self.asked.known = self.asked.known.max(page.news.reach());
                self.at_hand = MessagesAtHand::Shared(page, 0);
            }
            Ok(WatchNotice::Page(_) | WatchNotice::Look) | Err(RecvError::Lagged(_)) => self.behind = true,
            Ok(WatchNotice::Gone) => return Err(GONE),
            // The subscription keeps the channel open.
            Err(RecvError::Closed) => return Err(Error::Internal),
        }
        Ok(())
    }
}

const GONE: Error = Error::NotFound(Resource::Session);

impl MessagesAtHand {
    /// The next message above `passed`, where it is shared.
    fn shared(&self, passed: i64) -> Option<&Message> {
        match self {
            MessagesAtHand::Own(_) => None,
            MessagesAtHand::Shared(page, next) => {
                let rest = page.news.messages.get(*next..)?;
                rest.iter().find(|message| message.seq > passed)
            }
        }
    }

    /// The next message above `passed`.
    fn next(&mut self, passed: i64) -> Option<Message> {
        match self {
            MessagesAtHand::Own(messages) => messages.find(|message| message.seq > passed),
            MessagesAtHand::Shared(page, next) => loop {
                let message = page.news.messages.get(*next)?;
                *next += 1;
                if message.seq > passed {
                    return Some(message.clone());
                }
            },
        }
    }
}
