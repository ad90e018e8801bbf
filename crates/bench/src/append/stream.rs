//! Streams: a sender keeps a window of messages unanswered, and fills it again, as many in a frame as there is room
//! for, whenever answers come.

use std::{collections::VecDeque, time::Instant};

use futures_util::stream;
use tokio::sync::mpsc;
use tonic::{Code, Status, Streaming};

use super::Sender;
use crate::{target, verify::AnswerLog, workload::MessageKey};
use chatledger_client::ServerChannel;
use chatledger_protocol::{self as pb, append_result::Result as Outcome};

/// A frame with more content than this is sent as it is: far below the largest request that servers take.
const FRAME_BYTES: usize = 1 << 20;

/// What one stream may do.
#[derive(Clone, Copy, Debug)]
pub(super) struct StreamShare {
    /// The most messages that are unanswered.
    pub(super) window: usize,
    /// The most messages of a frame.
    pub(super) frame_entries: usize,
}

/// A message without an answer.
struct OpenMessage {
    key: MessageKey,
    session: usize,
    due: Instant,
}

type FrameSender = mpsc::UnboundedSender<pb::StreamAppendMessagesRequest>;

pub(super) async fn send(mut sender: Sender, channel: ServerChannel, share: StreamShare) -> AnswerLog {
    let give_up = sender.schedule.clock().give_up();
    // A stream that fails is followed by another.
    while let Some(due) = sender.schedule.next().await {
        let mut unanswered = VecDeque::with_capacity(share.window);
        let streamed = one_stream(&mut sender, &channel, share, due, &mut unanswered);
        let code = match tokio::time::timeout_at(give_up, streamed).await {
            Ok(Ok(())) => Code::Unknown, // ended OK, without all the answers, if there are any left
            Ok(Err(status)) => status.code(),
            Err(_) => Code::DeadlineExceeded,
        };
        if !unanswered.is_empty() {
            for message in &unanswered {
                sender.failed(message.key, code);
            }
            sender.pause().await;
        }
    }
    sender.answers
}

/// Ends when the schedule does and all is answered, or when the stream fails.
async fn one_stream(
    sender: &mut Sender,
    channel: &ServerChannel,
    share: StreamShare,
    first: Instant,
    unanswered: &mut VecDeque<OpenMessage>,
) -> Result<(), Status> {
    // Unbounded, but for the window: waiting for room here while the server waits for its answers to be read
    // would be for ever.
    let (frames, queue) = mpsc::unbounded_channel();
    let requests = stream::unfold(
        queue,
        |mut queue| async move { Some((queue.recv().await?, queue)) },
    );
    send_frame(sender, share, first, unanswered, &frames);
    let mut client = target::messages(channel);
    let mut answers = client.stream_append_messages(requests).await?.into_inner();
    let mut frames = Some(frames);
    loop {
        while unanswered.len() < share.window
            && let Some(open) = &frames
            && let Some(due) = sender.schedule.ready()
        {
            send_frame(sender, share, due, unanswered, open);
        }
        if frames.is_some() && unanswered.len() < share.window {
            tokio::select! {
                due = sender.schedule.next() => match due {
                    Some(due) => {
                        if let Some(open) = &frames {
                            send_frame(sender, share, due, unanswered, open);
                        }
                    }
                    // Half-close: what was sent is still answered.
                    None => frames = None,
                },
                more = take_answers(&mut answers) => {
                    let Some(results) = more? else { return Ok(()) };
                    take(sender, results, unanswered);
                }
            }
        } else {
            let Some(results) = take_answers(&mut answers).await? else {
                return Ok(());
            };
            take(sender, results, unanswered);
        }
    }
}

async fn take_answers(
    answers: &mut Streaming<pb::StreamAppendMessagesResponse>,
) -> Result<Option<Vec<pb::AppendResult>>, Status> {
    Ok(answers.message().await?.map(|frame| frame.results))
}

/// Sends the message that is due, and all others that are and for which there is room.
fn send_frame(
    sender: &mut Sender,
    share: StreamShare,
    first: Instant,
    unanswered: &mut VecDeque<OpenMessage>,
    frames: &FrameSender,
) {
    let mut entries = Vec::new();
    let mut bytes = 0;
    let mut next = Some(first);
    while let Some(due) = next {
        let key = sender.next_key();
        let session = sender.workload.session_of(key);
        let message = sender.workload.message(key);
        bytes += message.content.len();
        entries.push(pb::AppendEntry {
            session_id: sender.workload.session_text(session).to_owned(),
            message: Some(message),
        });
        unanswered.push_back(OpenMessage { key, session, due });
        let has_room =
            unanswered.len() < share.window && entries.len() < share.frame_entries && bytes < FRAME_BYTES;
        next = has_room.then(|| sender.schedule.ready()).flatten();
    }
    // Closed only with the stream, whose end is seen where answers are read.
    let _ = frames.send(pb::StreamAppendMessagesRequest { entries });
}

fn take(sender: &mut Sender, results: Vec<pb::AppendResult>, unanswered: &mut VecDeque<OpenMessage>) {
    let now = Instant::now();
    for result in results {
        let Some(OpenMessage { key, session, due }) = unanswered.pop_front() else {
            sender
                .answers
                .problems
                .push("more answers than messages on a stream".to_owned());
            return;
        };
        match result.result {
            Some(Outcome::Receipt(receipt)) => {
                sender.recorder.stored(due, now);
                if let Some(times) = &sender.times {
                    times.received(key.number, now);
                }
                if sender.keep {
                    sender
                        .answers
                        .receipt(&sender.workload, key, session, Some(&receipt));
                }
            }
            Some(Outcome::Error(error)) => sender.failed(key, Code::from_i32(error.code)),
            None => sender.failed(key, Code::Unknown),
        }
    }
}
