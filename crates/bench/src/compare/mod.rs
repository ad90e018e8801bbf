//! `bench compare`: the service beside what an application would do itself, in one run and on one database.
//!
//! - [`direct`]: BEGIN, raise the session's counter, INSERT, COMMIT, prepared, over several connections.
//! - [`copy`]: COPY over one connection.
//! - [`service`]: appends through the service, unary and streamed; and a lone append beside a lone direct one.
//! - [`list`]: pages of messages with their citations, through the service and by a SELECT.
//! - [`large_session`]: appends to a session that holds a million messages, and to an empty one.
//!
//! Rounds are interleaved: each competitor runs once a round, in an order that rotates, so that a machine that is
//! slower for a while is slower for all. Before each round, outside of what is measured, there is a VACUUM (ANALYZE)
//! and a CHECKPOINT, so that they don't fall on one of the competitors; and then some appends, so that nobody pays for
//! the full-page writes that follow a checkpoint. The median of the rounds counts. [`report`] has the ratios.

mod copy;
mod database;
mod direct;
mod large_session;
mod list;
mod options;
pub(crate) mod report;
mod service;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use jiff::Timestamp;
use tonic::transport::Channel;
use uuid::Uuid;

pub use options::CompareOptions;

use self::{
    database::BenchDatabase,
    direct::{DIRECT_CONNECTIONS, DirectAppends},
    report::{BenchComparison, Metric, Summary},
};
use super::{
    append::AppendMode,
    halt::Halt,
    progress::BenchProgress,
    schedule::RunClock,
    target::{self, BenchTarget},
    usage::{CpuSeconds, Machine, Parties},
    workload::{Workload, WorkloadOptions},
};

/// How far the order rotates from round to round.
const ROTATION: usize = 5;
/// How long the appends last that nobody measures: long enough to touch every session several times.
const SETTLING: Duration = Duration::from_secs(1);
/// How many citations the stream with citations has.
const CITATIONS: usize = 2;

/// Who is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Competitor {
    Direct(usize),
    Copy,
    Unary,
    Stream,
    StreamWithCitations,
    Lone,
    ListService,
    ListSelect,
    LargeSessionLone,
    LargeSession,
    EmptySession,
}

impl Competitor {
    fn all() -> Vec<Self> {
        let mut all: Vec<Self> = DIRECT_CONNECTIONS.map(Self::Direct).into();
        all.extend([
            Self::Copy,
            Self::Unary,
            Self::Stream,
            Self::StreamWithCitations,
            Self::Lone,
            Self::ListService,
            Self::ListSelect,
            Self::LargeSessionLone,
            Self::LargeSession,
            Self::EmptySession,
        ]);
        all
    }

    fn name(self) -> &'static str {
        match self {
            Self::Direct(8) => "direct, 8 connections",
            Self::Direct(16) => "direct, 16 connections",
            Self::Direct(_) => "direct, 32 connections",
            Self::Copy => "copy",
            Self::Unary => "unary",
            Self::Stream => "stream",
            Self::StreamWithCitations => "stream with citations",
            Self::Lone => "lone appends",
            Self::ListService => "list",
            Self::ListSelect => "select",
            Self::LargeSessionLone => "large session, lone",
            Self::LargeSession => "large session",
            Self::EmptySession => "empty session",
        }
    }
}

/// What all competitors use.
struct ComparisonParts {
    options: CompareOptions,
    halt: Halt,
    channels: Vec<Channel>,
    database: BenchDatabase,
    direct: DirectAppends,
    workload: Arc<Workload>,
    cited: Arc<Workload>,
    list: list::ListedSessions,
    large: Uuid,
    /// Every session that was made, to be checked at the end.
    made: Vec<Uuid>,
}

/// Runs the comparison, or as many rounds of it as there are until it is halted.
///
/// # Errors
/// The server or the database can't be used.
pub async fn compare(
    server: &BenchTarget,
    database_url: &str,
    parties: Parties,
    options: CompareOptions,
    halt: &Halt,
) -> anyhow::Result<BenchComparison> {
    let memory_before = parties.server_memory();
    let mut field = halt
        .unless_asked(Box::pin(ComparisonParts::prepare(
            server,
            database_url,
            options,
            halt,
        )))
        .await?;
    let mut measured: BTreeMap<Metric, Vec<f64>> = BTreeMap::new();
    let mut cpu: BTreeMap<&'static str, Vec<CpuSeconds>> = BTreeMap::new();
    let mut order = Competitor::all();
    let rounds = field.options.rounds;
    'rounds: for round in 0..rounds {
        field.settle().await?;
        for &competitor in &order {
            let label = format!("{}/{rounds} {}", round + 1, competitor.name());
            let before = parties.cpu();
            let results = field.measure(competitor, &BenchProgress::timed(label)).await?;
            // What was interrupted is no measurement.
            if halt.is_asked() {
                break 'rounds;
            }
            cpu.entry(competitor.name())
                .or_default()
                .push(parties.cpu().since(&before));
            for (metric, value) in results {
                measured.entry(metric).or_default().push(value);
            }
        }
        // By a number that has no factor in common with theirs: five rounds see five far places.
        order.rotate_left(ROTATION);
    }
    let metrics = measured
        .into_iter()
        .map(|(metric, values)| (metric, Summary::of(values)))
        .collect();
    let broken_sessions = field.database.broken_sessions(&field.made).await?;
    Ok(BenchComparison {
        version: env!("CARGO_PKG_VERSION"),
        time: Timestamp::now(),
        interrupted: halt.is_asked(),
        machine: Machine::here(),
        database: field.database.settings().await?,
        options: field.options.clone(),
        ratios: report::ratios(&metrics),
        metrics,
        cpu_seconds: cpu,
        server_memory_before: memory_before,
        server_memory_after: parties.server_memory(),
        broken_sessions,
    })
}

impl ComparisonParts {
    async fn prepare(
        server: &BenchTarget,
        database_url: &str,
        options: CompareOptions,
        halt: &Halt,
    ) -> anyhow::Result<ComparisonParts> {
        let progress = BenchProgress::waiting("preparing sessions");
        let mut channels = Vec::new();
        for _ in 0..service::connections(&options) {
            channels.push(server.connect().await?);
        }
        let workload = Arc::new(Workload::new(&WorkloadOptions {
            seed: options.seed,
            sessions: options.sessions,
            content: options.content_bytes,
            citations: 0,
        }));
        target::create_sessions(&channels[0], &workload).await?;
        let database = BenchDatabase::connect(database_url).await?;
        database.has_session(workload.sessions()[0]).await?;
        let cited = Arc::new(workload.with_citations(CITATIONS));
        let list = list::ListedSessions::prepare(&channels[0], &cited).await?;
        let direct = DirectAppends::connect(&database).await?;
        progress.clear();
        let large = large_session::prepare(&channels[0], &database, &workload, &options).await?;
        let made = [workload.sessions(), list.sessions(), &[large]].concat();
        Ok(ComparisonParts {
            direct,
            list,
            large,
            made,
            cited,
            workload,
            database,
            channels,
            halt: halt.clone(),
            options,
        })
    }

    /// What has to be done now and then, and what follows from it, so that it falls on nobody.
    async fn settle(&self) -> anyhow::Result<()> {
        let progress = BenchProgress::waiting("VACUUM and CHECKPOINT");
        self.database.vacuum().await?;
        self.database.checkpoint().await?;
        progress.clear();
        self.unmeasured(SETTLING.min(self.options.round)).await
    }

    fn clock(&self) -> RunClock {
        RunClock::start(self.options.warm_up, self.options.round)
    }

    async fn measure(
        &mut self,
        competitor: Competitor,
        progress: &BenchProgress,
    ) -> anyhow::Result<Vec<(Metric, f64)>> {
        use Metric as M;
        let one = |metric, value| Ok(vec![(metric, value)]);
        match competitor {
            Competitor::Direct(connections) => {
                let metric = match connections {
                    8 => M::Direct8,
                    16 => M::Direct16,
                    _ => M::Direct32,
                };
                let rate = self
                    .direct
                    .rate(&self.workload, connections, self.clock(), &self.halt);
                one(metric, rate.await?)
            }
            Competitor::Copy => one(
                M::Copy,
                copy::rate(&self.database, &self.workload, self.clock(), &self.halt).await?,
            ),
            Competitor::Unary => one(
                M::Unary,
                self.appends(AppendMode::Unary, &self.workload, progress).await?,
            ),
            Competitor::Stream => one(
                M::Stream,
                self.appends(AppendMode::Stream, &self.workload, progress).await?,
            ),
            Competitor::StreamWithCitations => one(
                M::StreamWithCitations,
                self.appends(AppendMode::Stream, &self.cited, progress).await?,
            ),
            Competitor::Lone => self.lone().await,
            Competitor::ListService => one(
                M::List,
                self.list
                    .through_service(&self.channels, self.clock(), &self.halt)
                    .await?,
            ),
            Competitor::ListSelect => one(
                M::Select,
                self.list
                    .by_select(&self.database, self.clock(), &self.halt)
                    .await?,
            ),
            Competitor::LargeSessionLone => self.large_session_lone().await,
            Competitor::LargeSession => one(M::AppendLarge, self.appends_to_one(self.large, progress).await?),
            Competitor::EmptySession => {
                let empty = self.new_session().await?;
                one(M::AppendEmpty, self.appends_to_one(empty, progress).await?)
            }
        }
    }

    /// One more session, without messages.
    async fn new_session(&mut self) -> anyhow::Result<Uuid> {
        let session = Uuid::now_v7();
        let workload = self.workload.over(vec![session]);
        target::create_sessions(&self.channels[0], &workload).await?;
        self.made.push(session);
        Ok(session)
    }
}
