//! A request a message: a sender waits for each answer.

use std::time::Instant;

use tonic::Code;

use super::Sender;
use crate::{target, verify::AnswerLog};
use chatledger_client::ServerChannel;
use chatledger_protocol as pb;

pub(super) async fn send(mut sender: Sender, channel: ServerChannel) -> AnswerLog {
    let mut client = target::messages(&channel);
    let give_up = sender.schedule.clock().give_up();
    while let Some(due) = sender.schedule.next().await {
        let key = sender.next_key();
        let session = sender.workload.session_of(key);
        let request = pb::AppendMessageRequest {
            session_id: sender.workload.session_text(session).to_owned(),
            message: Some(sender.workload.message(key)),
        };
        match tokio::time::timeout_at(give_up, client.append_message(request)).await {
            Ok(Ok(response)) => {
                sender.recorder.stored(due, Instant::now());
                if sender.keep {
                    let receipt = response.into_inner().receipt;
                    sender
                        .answers
                        .receipt(&sender.workload, key, session, receipt.as_ref());
                }
            }
            Ok(Err(status)) => {
                sender.failed(key, status.code());
                sender.pause().await;
            }
            Err(_) => sender.failed(key, Code::DeadlineExceeded),
        }
    }
    sender.answers
}
