//! `ReadMessages`: a history as a response stream. A task reads ahead of the client, a few frames at most, so that the database
//! works while the client does; and gives the connection back when the last row has been read, not when it has been taken.

use std::{pin::Pin, time::Duration};

use bytes::Bytes;
use futures_util::{Stream, stream};
use tokio::{
    sync::{mpsc, watch},
    time::{self, Instant},
};
use tonic::Status;

use super::{AnswerCharges, convert, pb};
use crate::{
    auth::Caller,
    domain::{Error, Result, Shortage, message::MessageRange},
    fair::{FairPool, Lease},
    memory::{Charge, LARGEST_MESSAGE, MemoryBudget},
    store::{History, Store, StoredRows},
    telemetry,
};

/// The bytes of a frame, about: large enough that its price is that of its messages, small enough that a client has the first
/// one soon.
const FRAME: usize = 256 << 10;
/// The largest frame, but for one of a single message.
const LARGEST_FRAME: usize = 1 << 20;
/// What a frame may take while it is made: what is encoded, the message that is the last one of it, and its rows.
const FRAME_MEMORY: usize = FRAME + 2 * LARGEST_MESSAGE;
/// How many frames are made that the client hasn't asked for.
const AHEAD: usize = 3;
/// The bytes of the first frame, about: whoever asks waits for it, and works on it while the second is made.
const FIRST: usize = 32 << 10;

/// How long a client takes nothing, while others wait to read, until its history is given up.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long it takes nothing, while nobody waits: PostgreSQL keeps what others have deleted for as long as somebody reads.
const MOST_PATIENCE: Duration = Duration::from_mins(1);

/// The part of the pool's connections that read histories at a time.
const POOL_PART: usize = 2;

/// Who reads histories.
#[derive(Clone, Debug)]
pub struct Histories {
    store: Store,
    memory: MemoryBudget,
    /// A permit for each that is open: a part of the connections stays free for everybody else.
    permits: FairPool<1>,
    /// Becomes true when the server stops.
    stopping: watch::Receiver<bool>,
}

/// The frames of a history.
pub(super) type FrameStream =
    Pin<Box<dyn Stream<Item = Result<pb::Encoded<pb::ReadMessagesResponse>, Status>> + Send>>;

/// A frame, and its memory.
struct Frame {
    bytes: Bytes,
    charge: Charge,
}

/// What the reading task says.
enum Reading {
    Frame(Frame),
    Failed(Error),
    /// All has been read. A channel that ends without it is that of a task that has panicked.
    Done,
}

impl Histories {
    /// Reads of this store's histories.
    #[must_use]
    pub fn new(store: Store, memory: MemoryBudget, stopping: watch::Receiver<bool>) -> Self {
        // A connection of a client can have half of it.
        let permits = (store.db().pool_size() / POOL_PART).max(2);
        Histories {
            store,
            memory,
            permits: FairPool::new([permits]),
            stopping,
        }
    }

    /// The frames of a session's messages as of now. The first one has been read when this returns.
    pub(super) async fn read(
        &self,
        caller: &Caller,
        range: MessageRange,
        charges: AnswerCharges,
    ) -> Result<FrameStream> {
        let permit = self.permits.take(caller.holder, [1]);
        let permit = match caller.deadline {
            Some(deadline) => time::timeout_at(deadline, permit)
                .await
                .map_err(|_| Error::Overloaded(Shortage::Histories))?,
            None => permit.await,
        };
        let mut reader = HistoryReader {
            history: self.store.open_history(caller, range).await?,
            held: None,
            bytes: FIRST,
            histories: self.clone(),
            caller: caller.clone(),
            _permit: permit,
        };
        let first = reader.next().await?;
        let (frames, taken) = mpsc::channel(AHEAD);
        // The channel is new: there is room.
        let _ = frames.try_send(first.map_or(Reading::Done, Reading::Frame));
        tokio::spawn(telemetry::carry(reader.run(frames)));
        Ok(Box::pin(stream_of(taken, charges)))
    }
}

/// A history, and whatever is needed to make frames of it.
struct HistoryReader {
    history: History,
    /// A message that was too much for the frame before.
    held: Option<StoredRows>,
    /// The bytes of the next frame, about.
    bytes: usize,
    histories: Histories,
    caller: Caller,
    _permit: Lease<1>,
}

impl HistoryReader {
    /// The next frame; `None` at the end.
    async fn next(&mut self) -> Result<Option<Frame>> {
        let memory = &self.histories.memory;
        let bytes = FRAME_MEMORY.min(memory.largest());
        let mut charge = memory
            .take_soon(self.caller.holder, bytes, self.caller.deadline)
            .await?;
        let mut list = convert::MessageList::with_capacity(self.bytes);
        while list.bytes() < self.bytes
            && let Some(message) = self.next_message().await?
        {
            list.push(&message.read(self.history.session_id)?);
            if list.bytes() > LARGEST_FRAME && list.len() > 1 {
                list.pop();
                self.held = Some(message);
                break;
            }
        }
        self.bytes = FRAME;
        if list.len() == 0 {
            return Ok(None);
        }
        charge.shrink_to(list.capacity());
        let bytes = list.into_bytes();
        Ok(Some(Frame { bytes, charge }))
    }

    async fn next_message(&mut self) -> Result<Option<StoredRows>> {
        match self.held.take() {
            Some(message) => Ok(Some(message)),
            None => self.history.next().await,
        }
    }

    /// Makes frames until the end, or until nobody takes them.
    async fn run(mut self, frames: mpsc::Sender<Reading>) {
        // The caller's deadline was for the first.
        self.caller.deadline = None;
        loop {
            let next = match self.next().await {
                Ok(frame) => frame.map_or(Reading::Done, Reading::Frame),
                Err(error) => Reading::Failed(error),
            };
            let is_last = !matches!(next, Reading::Frame(_));
            if is_last {
                // Before the client hears of the end: the connection is free again then.
                break self.end(frames, next).await;
            }
            if let Err(last) = self.hand_on(&frames, next).await {
                break self.end(frames, last).await;
            }
        }
    }

    /// Gives back what the reading has, and says how it ended.
    async fn end(self, frames: mpsc::Sender<Reading>, last: Reading) {
        drop(self);
        // An error is that nobody takes it.
        let _ = frames.send(last).await;
    }

    /// Hands a frame on, as soon as the client has taken one. The error is how the reading ends instead.
    async fn hand_on(&self, frames: &mpsc::Sender<Reading>, frame: Reading) -> Result<(), Reading> {
        tokio::select! {
            room = frames.reserve() => room.map(|room| room.send(frame)).map_err(|_| Reading::Done),
            error = self.loss() => Err(Reading::Failed(error)),
        }
    }

    /// The reason to go on no longer, while the client takes nothing.
    async fn loss(&self) -> Error {
        let began = Instant::now();
        loop {
            time::sleep(PATIENCE).await;
            if *self.histories.stopping.borrow() {
                return Error::ShuttingDown;
            }
            if self.histories.permits.is_contended() || began.elapsed() >= MOST_PATIENCE {
                return Error::Overloaded(Shortage::HistoryPatience);
            }
        }
    }
}

/// What a task has read, as a response stream. The memory of a frame goes where its bytes go.
fn stream_of(
    taken: mpsc::Receiver<Reading>,
    charges: AnswerCharges,
) -> impl Stream<Item = Result<pb::Encoded<pb::ReadMessagesResponse>, Status>> + Send {
    stream::unfold(Some((taken, charges)), |state| async {
        let (mut taken, charges) = state?;
        match taken.recv().await {
            Some(Reading::Frame(frame)) => {
                charges.put(frame.charge);
                Some((Ok(pb::Encoded::new(frame.bytes)), Some((taken, charges))))
            }
            Some(Reading::Failed(error)) => Some((Err(error.into()), None)),
            Some(Reading::Done) => None,
            None => Some((Err(Error::Internal.into()), None)),
        }
    })
}
