//! Several messages to one session in a request. Latencies are a batch's, counted once for each of its messages.

use std::time::Instant;

use tonic::Code;

use super::Sender;
use crate::{target, verify::AnswerLog};
use chatledger_client::ServerChannel;
use chatledger_protocol as pb;

pub(super) async fn send(mut sender: Sender, channel: ServerChannel, messages: usize) -> AnswerLog {
    let mut client = target::messages(&channel);
    let give_up = sender.schedule.clock().give_up();
    while let Some(due) = sender.schedule.next().await {
        let keys: Vec<_> = (0..messages).map(|_| sender.next_key()).collect();
        let session = sender.workload.session_of(keys[0]);
        let request = pb::BatchAppendMessagesRequest {
            session_id: sender.workload.session_text(session).to_owned(),
            messages: keys.iter().map(|&key| sender.workload.message(key)).collect(),
            expected_last_seq: None,
        };
        let code = match tokio::time::timeout_at(give_up, client.batch_append_messages(request)).await {
            Ok(Ok(response)) => {
                let now = Instant::now();
                let receipts = response.into_inner().receipts;
                for (place, &key) in keys.iter().enumerate() {
                    sender.recorder.stored(due, now);
                    if sender.keep {
                        sender
                            .answers
                            .receipt(&sender.workload, key, session, receipts.get(place));
                    }
                }
                continue;
            }
            Ok(Err(status)) => status.code(),
            Err(_) => Code::DeadlineExceeded,
        };
        for &key in &keys {
            sender.failed(key, code);
        }
        sender.pause().await;
    }
    sender.answers
}
