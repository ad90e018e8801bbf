//! `bench watch`: how soon does a message reach those who watch its session? One stream appends at a rate, watchers
//! time what they are sent; both are in this process, so there is one clock. And every watcher has to see every message
//! of its session once, in order.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context;
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time,
};
use tonic::Streaming;

use super::{
    append::{self, AppendMode, AppendOutcome, Load},
    delivery::DeliveryTimes,
    halt::Halt,
    measure::{Collector, Measurement, Recorder},
    progress::BenchProgress,
    schedule::RunClock,
    target,
    verify::{AnswerLog, LedgerVerification},
    workload::Workload,
};
use chatledger_client::{ServerChannel, ServerTarget};
use chatledger_protocol::{self as pb, watch_messages_response::Event};

/// Streams of one connection: half of what servers commonly allow (hyper: 200).
const A_CONNECTION: usize = 100;
/// How long deliveries are waited for after the last receipt.
const PATIENCE: Duration = Duration::from_secs(30);
/// The most messages that are unanswered: no limit at a rate that the server can keep.
const IN_FLIGHT: usize = 8192;
/// How many problems of a watcher are told.
const TOLD: usize = 3;

/// What to watch.
#[derive(Clone, Debug)]
pub struct WatchLoad {
    /// How many watchers; they share the sessions evenly.
    pub watchers: usize,
    /// Messages a second, over all sessions.
    pub rate: f64,
    /// How long to send before measuring.
    pub warm_up: Duration,
    /// How long to measure.
    pub duration: Duration,
}

/// What was found.
#[derive(Debug)]
pub struct WatchOutcome {
    /// The time from when a message was due to its delivery.
    pub deliveries: Measurement,
    /// The time from its receipt to its delivery; 0 where the delivery came first.
    pub from_receipt: Measurement,
    /// The appends.
    pub appends: AppendOutcome,
    /// What the watchers saw; `sessions` counts the watchers, `messages` the deliveries.
    pub verified: LedgerVerification,
}

/// Runs it to its end, or until it is halted.
///
/// # Errors
/// The server can't be reached, or doesn't let watch.
pub async fn watch(
    server: &ServerTarget,
    workload: &Arc<Workload>,
    options: &WatchLoad,
    halt: &Halt,
    progress: BenchProgress,
) -> anyhow::Result<WatchOutcome> {
    let mut streams = Vec::new();
    let mut channel = server.connect().await?;
    for watcher in 0..options.watchers {
        if watcher % A_CONNECTION == A_CONNECTION - 1 {
            channel = server.connect().await?;
        }
        let session = watcher % workload.sessions().len();
        streams.push((session, open(&channel, workload.session_text(session)).await?));
    }
    let sender = server.connect().await?;

    let clock = RunClock::start(options.warm_up, options.duration);
    let times = Arc::new(DeliveryTimes::new(clock, options.rate));
    let [deliveries, from_receipt] = [0, 1].map(|_| Collector::new(clock));
    let (finals, known) = watch::channel(None);
    let (report, mut reports) = mpsc::unbounded_channel();
    let mut watchers = JoinSet::new();
    for (session, stream) in streams {
        let watcher = BenchWatcher {
            session,
            workload: Arc::clone(workload),
            times: Arc::clone(&times),
            deliveries: deliveries.recorder(),
            from_receipt: from_receipt.recorder(),
            last: 0,
            found: LedgerVerification {
                sessions: 1,
                ..LedgerVerification::default()
            },
        };
        let (report, known) = (report.clone(), known.clone());
        watchers.spawn(async move {
            let _ = report.send(watcher.watch(stream, known).await);
        });
    }
    drop(report);
    let collecting = [
        tokio::spawn(deliveries.collect(progress)),
        tokio::spawn(from_receipt.collect(BenchProgress::hidden())),
    ];
    let load = Load {
        mode: AppendMode::Stream,
        in_flight: IN_FLIGHT,
        streams: 1,
        connections: 1,
        frame_entries: append::FRAME_ENTRIES,
        batch_messages: 1,
        rate: Some(options.rate),
        warm_up: options.warm_up,
        duration: options.duration,
    };
    let appends = append::run_timed(&[sender], workload, &load, clock, Some(times), halt).await?;
    // Nobody else appends, so what was acknowledged is what has to come.
    finals.send_replace(Some(Arc::new(last_seqs(&appends.answers, workload))));
    let mut verified = LedgerVerification::default();
    while let Some(found) = reports.recv().await {
        verified.add(found);
    }
    verified.ok = verified.problem_count == 0;
    let [deliveries, from_receipt] = collecting;
    Ok(WatchOutcome {
        deliveries: deliveries.await?,
        from_receipt: from_receipt.await?,
        appends,
        verified,
    })
}

/// A watch that has caught up.
async fn open(
    channel: &ServerChannel,
    session_id: &str,
) -> anyhow::Result<Streaming<pb::WatchMessagesResponse>> {
    let request = pb::WatchMessagesRequest {
        session_id: session_id.to_owned(),
        after_seq: 0,
    };
    let opening = async {
        let mut stream = target::messages(channel)
            .watch_messages(request)
            .await?
            .into_inner();
        while let Some(response) = stream.message().await? {
            if let Some(Event::CaughtUp(_)) = response.event {
                return Ok(stream);
            }
        }
        Err(tonic::Status::unavailable("the watch ended at once"))
    };
    opening
        .await
        .map_err(|status| chatledger_client::explain(&status))
        .context("WatchMessages")
}

/// The last acknowledged seq of each session.
fn last_seqs(answers: &AnswerLog, workload: &Workload) -> Vec<i64> {
    let mut last = vec![0; workload.sessions().len()];
    for acked in &answers.acked {
        let last = &mut last[acked.session as usize];
        *last = i64::from(acked.seq).max(*last);
    }
    last
}

type FinalSeqs = watch::Receiver<Option<Arc<Vec<i64>>>>;

struct BenchWatcher {
    session: usize,
    workload: Arc<Workload>,
    times: Arc<DeliveryTimes>,
    deliveries: Recorder,
    from_receipt: Recorder,
    last: i64,
    found: LedgerVerification,
}

impl BenchWatcher {
    /// Until all has come that has to.
    async fn watch(
        mut self,
        mut stream: Streaming<pb::WatchMessagesResponse>,
        mut finals: FinalSeqs,
    ) -> LedgerVerification {
        let mut wanted = None;
        while wanted.is_none_or(|wanted| self.last < wanted) {
            // Before the end there may be nothing to see for any time.
            let patience = wanted.map_or(Duration::MAX, |_| PATIENCE);
            tokio::select! {
                known = finals.wait_for(Option::is_some), if wanted.is_none() => {
                    // An error is the end of the run, which has failed elsewhere.
                    let Ok(known) = known else { break };
                    wanted = known.as_ref().and_then(|last| last.get(self.session).copied());
                }
                response = time::timeout(patience, stream.message()) => {
                    if !self.take(response.unwrap_or(Ok(None))) {
                        break;
                    }
                }
            }
        }
        if let Some(wanted) = wanted
            && self.last < wanted
        {
            let (session, last) = (self.workload.session_text(self.session), self.last);
            self.found.tell(format!(
                "a watcher of session {session} saw seq {last} last, and not {wanted}"
            ));
        }
        self.found
    }

    /// False where the watch has ended.
    fn take(&mut self, response: Result<Option<pb::WatchMessagesResponse>, tonic::Status>) -> bool {
        let now = Instant::now();
        match response {
            Ok(Some(response)) => {
                if let Some(Event::Message(message)) = response.event {
                    self.message(&message, now);
                }
                true
            }
            Ok(None) => false,
            Err(status) => {
                self.deliveries.failed(status.code(), now);
                self.found.tell(format!(
                    "a watch has ended: {}",
                    chatledger_client::explain(&status)
                ));
                false
            }
        }
    }

    fn message(&mut self, message: &pb::Message, now: Instant) {
        let id = &message.id;
        if message.seq != self.last + 1 && self.found.problems.len() < TOLD {
            let (session, last) = (&message.session_id, self.last);
            self.found.tell(format!(
                "session {session}: a watcher saw seq {} after {last}",
                message.seq
            ));
        }
        self.last = message.seq;
        self.found.messages += 1;
        match self.workload.key_of(id) {
            Some(key) => {
                self.deliveries.stored(self.times.due(key.number), now);
                let receipt = self.times.receipt(key.number).unwrap_or(now);
                self.from_receipt.stored(receipt, now);
            }
            None => self
                .found
                .tell(format!("a watcher saw message {id}, which isn't ours")),
        }
    }
}
