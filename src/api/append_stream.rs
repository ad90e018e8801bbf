//! `StreamAppendMessages`: reads entries as fast as they can be queued, and answers each, in order.
//!
//! A reader task turns each entry into an answer to come, and puts it on a queue of bounded length; the
//! response stream takes them from there in the same order. So a client that doesn't read its answers isn't
//! read from either.

use std::{collections::HashMap, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures_util::{FutureExt, Stream, stream};
use tokio::{
    sync::{mpsc, watch},
    time,
};
use tonic::{Status, Streaming};

use super::{Api, Charges, convert, pb, status};
use crate::{
    auth::Caller,
    domain::{Error, FieldPath},
    ledger::{Ledger, Outcome, PendingOutcome, StreamOrder, Unit},
    memory::Charge,
    rates::StorageLease,
    supervise::panic_text,
    telemetry,
};

/// The most entries of a stream that are on their way: enough to fill a batch while another commits.
const IN_FLIGHT: usize = 2048;
/// The most answers in a response frame: a receipt has about 100 bytes, and clients take 4 MiB.
const MAX_RESULTS: usize = 1024;

/// How long a client that still sends is read from after the end has been sent: many round trips.
const LINGER: Duration = Duration::from_secs(1);

/// An answer that is to be sent, and the memory that its frame of entries holds until it is.
type QueuedAnswer = (EntryAnswer, Option<Arc<Charge>>);

/// The next thing that the response stream sends.
enum EntryAnswer {
    /// An entry's outcome, which is known.
    Known(Outcome),
    /// An entry's outcome, which will be, and what the tenant is storing until then.
    Pending(PendingOutcome, Option<StorageLease>),
    /// The end of the stream, with an error.
    End(Status),
    /// The end of the stream, all of whose entries have been answered. Without it a reader that has died would look
    /// like one that is done.
    Complete,
}

/// The parts that one stream of entries works with.
pub(super) struct AppendStream {
    pub(super) api: Api,
    pub(super) ledger: Ledger,
    pub(super) caller: Caller,
    /// The memory that the frames hold.
    pub(super) charges: Charges,
    /// Becomes true when the server stops.
    pub(super) stopping: watch::Receiver<bool>,
}

impl AppendStream {
    /// Answers a stream of entries.
    pub(super) fn answer(
        self,
        entries: Streaming<pb::StreamAppendMessagesRequest>,
    ) -> impl Stream<Item = Result<pb::StreamAppendMessagesResponse, Status>> + Send {
        let (answers, queue) = mpsc::channel(IN_FLIGHT);
        let order = Arc::new(StreamOrder::default());
        let answering = AnswerQueue {
            queue,
            head: None,
            charges: Vec::new(),
            has_ended: false,
            order: Arc::clone(&order),
        };
        tokio::spawn(telemetry::carry(async move {
            let reading = AssertUnwindSafe(self.read(entries, &answers, &order)).catch_unwind();
            let end = match reading.await {
                Ok(()) => EntryAnswer::Complete,
                Err(panic) => {
                    tracing::error!(panic = panic_text(&panic), "reading a stream of entries panicked");
                    EntryAnswer::End(Error::Internal.into())
                }
            };
            // Nobody to tell where the client is gone.
            let _ = answers.send((end, None)).await;
        }));
        stream::unfold(answering, |mut answering| async move {
            let frame = answering.next().await?;
            Some((frame, answering))
        })
    }

    /// Reads entries until the client has sent its last one, has gone, or the server stops.
    async fn read(
        mut self,
        mut entries: Streaming<pb::StreamAppendMessagesRequest>,
        answers: &mpsc::Sender<QueuedAnswer>,
        order: &Arc<StreamOrder>,
    ) {
        let end = loop {
            let frame = tokio::select! {
                // Stopping comes first: a client that never pauses must not keep the server up.
                biased;
                _ = self.stopping.wait_for(|stopping| *stopping) => {
                    break Some(Status::from(Error::ShuttingDown));
                }
                () = answers.closed() => return,
                frame = entries.message() => frame,
            };
            let entries = match frame {
                Ok(Some(frame)) => frame.entries,
                Ok(None) => break None,
                Err(status) => break Some(status::complete(status, self.api.limits.max_request_bytes)),
            };
            let charge = self.charges.next();
            for entry in entries {
                let answer = self.accept(entry, order).await;
                if answers.send((answer, charge.clone())).await.is_err() {
                    return;
                }
            }
        };
        if let Some(status) = end {
            // Nobody to tell where the client is gone.
            let _ = answers.send((EntryAnswer::End(status), None)).await;
            // A client that still sends hears of the end first. Not reading on would reset the stream, and
            // in a graceful shutdown h2 then closes the connection before it has sent what is queued.
            let read_on = async {
                while let Ok(Some(_)) = entries.message().await {
                    drop(self.charges.next());
                }
            };
            let _ = time::timeout(LINGER, read_on).await;
        }
    }

    async fn accept(&self, entry: pb::AppendEntry, order: &Arc<StreamOrder>) -> EntryAnswer {
        let mut check = self.api.check();
        let session_id = check.uuid(&FieldPath::ROOT.field("session_id"), &entry.session_id);
        let message = convert::new_message(&mut check, &FieldPath::ROOT.field("message"), entry.message);
        let message = match check.finish(message) {
            Ok(message) => message,
            Err(error) => return EntryAnswer::Known(Err(error)),
        };
        let messages = vec![message];
        let admitted = self.api.admit_messages(&self.caller, session_id, &messages);
        let lease = match admitted.await {
            Ok(lease) => lease,
            Err(error) => return EntryAnswer::Known(Err(error)),
        };
        let unit = Unit {
            caller: self.caller.clone(),
            session_id,
            messages,
            expected_last_seq: None,
        };
        EntryAnswer::Pending(self.ledger.submit(unit, order).await, lease)
    }
}

/// The response side of a stream.
struct AnswerQueue {
    queue: mpsc::Receiver<QueuedAnswer>,
    /// Taken from the queue, and not sent yet. It stays here also while it is waited for: what drops this drops all
    /// of the stream's entries, in a moment when their order is known to be over.
    head: Option<QueuedAnswer>,
    /// The memory that the entries of the last answered frame hold: the answer may be on its way until the next is
    /// asked for.
    charges: Vec<Arc<Charge>>,
    has_ended: bool,
    order: Arc<StreamOrder>,
}

impl Drop for AnswerQueue {
    fn drop(&mut self) {
        if !self.has_ended {
            self.order.leave();
        }
    }
}

impl AnswerQueue {
    /// The next frame: waits for the first answer, and adds those that are known by then.
    async fn next(&mut self) -> Option<Result<pb::StreamAppendMessagesResponse, Status>> {
        if self.has_ended {
            return None;
        }
        self.charges.clear();
        if self.head.is_none() {
            self.head = self.queue.recv().await;
        }
        let waited = match self.head.as_mut() {
            Some((EntryAnswer::Pending(pending, _), _)) => Some(pending.await),
            _ => None,
        };
        let (outcome, charge) = match (waited, self.head.take()) {
            (Some(outcome), Some((_, charge))) | (None, Some((EntryAnswer::Known(outcome), charge))) => {
                (outcome, charge)
            }
            (None, Some((EntryAnswer::Complete, _))) => {
                self.has_ended = true;
                return None;
            }
            (None, Some((EntryAnswer::End(status), _))) => {
                self.has_ended = true;
                return Some(Err(status));
            }
            // The reader ends with one of those two, unless the runtime is going down.
            _ => return Some(Err(Error::ShuttingDown.into())),
        };
        self.keep(charge);
        let mut results = vec![result(outcome)];
        while results.len() < MAX_RESULTS {
            let Ok((answer, charge)) = self.queue.try_recv() else {
                break;
            };
            match outcome_by_now(answer) {
                Ok(outcome) => {
                    self.keep(charge);
                    results.push(result(outcome));
                }
                Err(answer) => {
                    self.head = Some((answer, charge));
                    break;
                }
            }
        }
        Some(Ok(pb::StreamAppendMessagesResponse { results }))
    }

    fn keep(&mut self, charge: Option<Arc<Charge>>) {
        // Those of a frame come one after the other.
        let is_kept =
            |charge: &Arc<Charge>| self.charges.last().is_some_and(|last| Arc::ptr_eq(last, charge));
        if let Some(charge) = charge.filter(|charge| !is_kept(charge)) {
            self.charges.push(charge);
        }
    }
}

/// The outcome, if it is known by now.
fn outcome_by_now(answer: EntryAnswer) -> Result<Outcome, EntryAnswer> {
    match answer {
        EntryAnswer::Known(outcome) => Ok(outcome),
        EntryAnswer::Pending(mut pending, lease) => match pending.try_outcome() {
            Some(outcome) => Ok(outcome),
            None => Err(EntryAnswer::Pending(pending, lease)),
        },
        end @ (EntryAnswer::End(_) | EntryAnswer::Complete) => Err(end),
    }
}

fn result(outcome: Outcome) -> pb::AppendResult {
    use pb::append_result::Result as Of;

    let receipt = outcome.and_then(|receipts| receipts.into_iter().next().ok_or(Error::Internal));
    let result = match receipt {
        Ok(receipt) => Of::Receipt(convert::receipt_to_pb(receipt)),
        Err(error) => Of::Error(append_error(&error)),
    };
    pb::AppendResult { result: Some(result) }
}

fn append_error(error: &Error) -> pb::AppendError {
    let status::ErrorDescription {
        code,
        reason,
        metadata,
    } = status::describe(error);
    pb::AppendError {
        code: code.into(),
        message: error.to_string(),
        reason,
        metadata: metadata.into_iter().collect::<HashMap<_, _>>(),
    }
}
