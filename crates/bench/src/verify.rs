//! Reads every session back, and compares it with what was acknowledged: each acknowledged message is there once,
//! at its acknowledged seq and with the content that was sent; the seqs have no gap; and nothing else is there, but
//! for messages whose fate the server could not tell.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use futures_util::{StreamExt, TryStreamExt, stream};
use serde::Serialize;

use super::{
    progress::BenchProgress,
    target,
    workload::{MessageKey, Workload},
};
use chatledger_client::ServerChannel;
use chatledger_protocol as pb;

/// The largest page.
const PAGE: i32 = 500;
/// How many sessions are read at a time: enough to keep the server busy.
const AT_A_TIME: usize = 8;
/// How many problems are told one by one.
const TOLD: usize = 20;

/// An acknowledged message. Millions of them are kept, hence small.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Acknowledgement {
    /// Its session's place in the workload.
    pub session: u32,
    /// Its acknowledged place in the session.
    pub seq: u32,
    /// Which message it is.
    pub key: MessageKey,
}

/// What a run is answered.
#[derive(Debug, Default)]
pub struct AnswerLog {
    /// Those that are stored.
    pub(crate) acked: Vec<Acknowledgement>,
    /// Those that may be stored: the connection was lost, or time was up.
    pub(crate) uncertain: HashSet<MessageKey>,
    /// What was wrong with the answers themselves.
    pub problems: Vec<String>,
}

impl AnswerLog {
    /// How many messages are acknowledged.
    #[must_use]
    pub fn acknowledged(&self) -> usize {
        self.acked.len()
    }

    /// Adds another sender's.
    pub fn add(&mut self, other: AnswerLog) {
        self.acked.extend(other.acked);
        self.uncertain.extend(other.uncertain);
        self.problems.extend(other.problems);
    }

    /// Looks at a receipt, and keeps what it says.
    pub fn receipt(
        &mut self,
        workload: &Workload,
        key: MessageKey,
        session: usize,
        receipt: Option<&pb::Receipt>,
    ) {
        let Some(receipt) = receipt else {
            return self.problem(|| format!("message {key:?}: an answer without a receipt"));
        };
        if workload.key_of(&receipt.message_id) != Some(key) {
            return self.problem(|| format!("the receipt is for {}, not for {key:?}", receipt.message_id));
        }
        if receipt.session_id != workload.session_text(session) {
            return self.problem(|| format!("message {}: stored in another session", receipt.message_id));
        }
        if receipt.deduplicated {
            return self.problem(|| format!("message {}: called a repetition", receipt.message_id));
        }
        match (u32::try_from(session), u32::try_from(receipt.seq)) {
            (Ok(session), Ok(seq)) if seq > 0 => self.acked.push(Acknowledgement { session, seq, key }),
            _ => self.problem(|| format!("message {}: seq {}", receipt.message_id, receipt.seq)),
        }
    }

    fn problem(&mut self, text: impl FnOnce() -> String) {
        if self.problems.len() < TOLD {
            self.problems.push(text());
        }
    }
}

/// What the comparison has found.
#[derive(Clone, Debug, Default, Serialize)]
pub struct LedgerVerification {
    /// Whether all is well.
    pub ok: bool,
    /// How many sessions were read.
    pub sessions: usize,
    /// How many messages were read.
    pub messages: u64,
    /// How many messages that were not acknowledged are stored all the same: their answers were lost.
    pub(crate) unacknowledged: u64,
    /// How many things are wrong.
    pub problem_count: u64,
    /// The first of them.
    pub problems: Vec<String>,
}

impl LedgerVerification {
    /// One more thing is wrong.
    pub(super) fn tell(&mut self, text: String) {
        self.problem(|| text);
    }

    fn problem(&mut self, text: impl FnOnce() -> String) {
        self.problem_count += 1;
        if self.problems.len() < TOLD {
            self.problems.push(text());
        }
    }

    /// Adds what another comparison has found.
    pub(super) fn add(&mut self, other: LedgerVerification) {
        self.sessions += other.sessions;
        self.messages += other.messages;
        self.unacknowledged += other.unacknowledged;
        self.problem_count += other.problem_count;
        let room = TOLD.saturating_sub(self.problems.len());
        self.problems.extend(other.problems.into_iter().take(room));
    }
}

/// Reads all sessions of the workload.
///
/// # Errors
/// A session that can't be read.
pub async fn verify(
    channel: &ServerChannel,
    workload: &Arc<Workload>,
    answers: AnswerLog,
    progress: &BenchProgress,
) -> anyhow::Result<LedgerVerification> {
    let AnswerLog {
        acked,
        uncertain,
        problems,
    } = answers;
    let mut by_session: Vec<Vec<(u32, MessageKey)>> = vec![Vec::new(); workload.sessions().len()];
    for Acknowledgement { session, seq, key } in acked {
        by_session[session as usize].push((seq, key));
    }
    let uncertain = Arc::new(uncertain);
    let mut sessions = stream::iter(by_session.into_iter().enumerate())
        .map(|(session, acked)| {
            let (channel, workload, uncertain) =
                (channel.clone(), Arc::clone(workload), Arc::clone(&uncertain));
            let progress = progress.clone();
            // A task each: comparing takes time as well.
            let task = tokio::spawn(async move {
                one_session(&channel, &workload, session, acked, &uncertain, &progress).await
            });
            async move { task.await? }
        })
        .buffer_unordered(AT_A_TIME);
    let mut verified = LedgerVerification::default();
    for problem in problems {
        verified.problem(|| problem);
    }
    while let Some(session) = sessions.try_next().await? {
        verified.add(session);
    }
    verified.ok = verified.problem_count == 0;
    Ok(verified)
}

async fn one_session(
    channel: &ServerChannel,
    workload: &Workload,
    session: usize,
    acked: Vec<(u32, MessageKey)>,
    uncertain: &HashSet<MessageKey>,
    progress: &BenchProgress,
) -> anyhow::Result<LedgerVerification> {
    let id = workload.session_text(session);
    let mut found = LedgerVerification {
        sessions: 1,
        ..LedgerVerification::default()
    };
    let mut expected = HashMap::with_capacity(acked.len());
    for (seq, key) in acked {
        if let Some(other) = expected.insert(seq, key) {
            found.problem(|| format!("session {id}: seq {seq} was given to {other:?} and to {key:?}"));
        }
    }
    let mut client = target::messages(channel);
    let mut request = pb::ListMessagesRequest {
        session_id: id.to_owned(),
        page_size: PAGE,
        ..Default::default()
    };
    let mut last = 0;
    loop {
        let page = client
            .list_messages(request.clone())
            .await
            .map_err(|status| chatledger_client::explain(&status))?
            .into_inner();
        progress.add(page.messages.len() as u64);
        for message in &page.messages {
            if message.seq != last + 1 {
                found.problem(|| format!("session {id}: seq {} comes after {last}", message.seq));
            }
            last = message.seq;
            check(workload, id, message, &mut expected, uncertain, &mut found);
        }
        found.messages += page.messages.len() as u64;
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    for (seq, key) in expected {
        found.problem(|| {
            format!("session {id}: message {key:?} was acknowledged at seq {seq} and isn't there")
        });
    }
    Ok(found)
}

/// One message that is stored.
fn check(
    workload: &Workload,
    session_id: &str,
    message: &pb::Message,
    expected: &mut HashMap<u32, MessageKey>,
    uncertain: &HashSet<MessageKey>,
    found: &mut LedgerVerification,
) {
    let (id, seq) = (&message.id, message.seq);
    let Some(key) = workload.key_of(id) else {
        return found.problem(|| format!("session {session_id}: message {id} at seq {seq} isn't ours"));
    };
    match u32::try_from(seq).ok().and_then(|seq| expected.remove(&seq)) {
        Some(acked) if acked == key => {}
        Some(acked) => {
            found.problem(|| format!("session {session_id}: at seq {seq} is {key:?} instead of {acked:?}"));
        }
        None if uncertain.contains(&key) => found.unacknowledged += 1,
        None => {
            found.problem(|| format!("session {session_id}: message {id} at seq {seq} was not acknowledged"));
        }
    }
    if message.content != workload.content_of(key) {
        found.problem(|| format!("session {session_id}: message {id} has another content than was sent"));
    }
    let (sent, stored) = (workload.citations_of(key), &message.citations);
    let same = |(sent, stored): (&pb::Citation, &pb::Citation)| {
        sent.document_id == stored.document_id && sent.chunk_id == stored.chunk_id
    };
    if sent.len() != stored.len() || !sent.iter().zip(stored).all(same) {
        found.problem(|| format!("session {session_id}: message {id} has other citations than were sent"));
    }
}
