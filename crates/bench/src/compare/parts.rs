//! What all competitors use, made before anything is measured.

use std::{sync::Arc, time::Duration};

use uuid::Uuid;

use super::{
    direct::DirectAppends,
    options::CompareOptions,
    select::PageSelect,
    sessions::{CITATIONS, ReadSessions, make_large},
    uncached::UncachedSessions,
};
use crate::{
    append::{self, AppendMode, Load},
    database::BenchDatabase,
    halt::Halt,
    progress::BenchProgress,
    schedule::RunClock,
    target,
    workload::{Workload, WorkloadOptions},
};
use chatledger_client::{ServerChannel, ServerTarget};

/// How long the appends last that nobody measures: long enough to touch every session several times.
const SETTLING: Duration = Duration::from_secs(1);

/// What all competitors use.
pub(super) struct ComparisonParts {
    pub(super) options: CompareOptions,
    pub(super) halt: Halt,
    pub(super) server: ServerTarget,
    pub(super) channels: Vec<ServerChannel>,
    pub(super) database: BenchDatabase,
    pub(super) direct: DirectAppends,
    pub(super) workload: Arc<Workload>,
    /// The same with citations.
    pub(super) cited: Arc<Workload>,
    pub(super) read: ReadSessions,
    pub(super) uncached: UncachedSessions,
    /// Whether the kernel forgets the uncached sessions as well; none before the first time.
    pub(super) leaves_page_cache: Option<bool>,
    /// The connections of the last run of SELECTs, kept until the next: the processor time of one that has just been closed
    /// is nobody's for a moment.
    pub(super) selecting: Vec<Arc<PageSelect>>,
    pub(super) large: Uuid,
    /// Every session that was made, to be checked at the end.
    pub(super) made: Vec<Uuid>,
}

impl ComparisonParts {
    pub(super) async fn prepare(
        server: &ServerTarget,
        database_url: &str,
        options: CompareOptions,
        halt: &Halt,
    ) -> anyhow::Result<ComparisonParts> {
        let progress = BenchProgress::waiting("preparing sessions");
        let mut channels = Vec::new();
        for _ in 0..options.connections() {
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
        let read = ReadSessions::make(&channels[0], &workload, &cited, &options).await?;
        let direct = DirectAppends::connect(&database).await?;
        progress.clear();
        let uncached = UncachedSessions::make(&channels[0], &database, &workload, &options).await?;
        let large = make_large(&channels[0], &database, &workload, &options).await?;
        let made = [workload.sessions(), &read.ids(), &uncached.ids, &[large]].concat();
        Ok(ComparisonParts {
            direct,
            read,
            uncached,
            leaves_page_cache: None,
            selecting: Vec::new(),
            large,
            made,
            cited,
            workload,
            database,
            channels,
            server: server.clone(),
            halt: halt.clone(),
            options,
        })
    }

    /// What has to be done now and then, and what follows from it, so that it falls on nobody.
    pub(super) async fn settle(&self) -> anyhow::Result<()> {
        let progress = BenchProgress::waiting("VACUUM and CHECKPOINT");
        self.database.vacuum().await?;
        self.database.checkpoint().await?;
        progress.clear();
        let load = Load {
            warm_up: Duration::ZERO,
            duration: SETTLING.min(self.options.round),
            ..self.load(AppendMode::Stream, self.options.stream_in_flight)
        };
        let (channels, hidden) = (&self.channels, BenchProgress::hidden());
        append::run_over(channels, &self.cited, &load, false, &self.halt, hidden)
            .await
            .map(drop)
    }

    /// The times of a run that begins now.
    pub(super) fn clock(&self) -> RunClock {
        RunClock::start(self.options.warm_up, self.options.round)
    }

    /// Appends for the time of a run.
    pub(super) fn load(&self, mode: AppendMode, in_flight: usize) -> Load {
        Load {
            mode,
            in_flight,
            streams: self.options.streams,
            connections: self.channels.len(),
            frame_entries: self.options.frame_entries,
            batch_messages: 1,
            rate: None,
            warm_up: self.options.warm_up,
            duration: self.options.round,
        }
    }

    /// One more session, without messages.
    pub(super) async fn new_session(&mut self) -> anyhow::Result<Uuid> {
        let session = Uuid::now_v7();
        let workload = self.workload.over(vec![session]);
        target::create_sessions(&self.channels[0], &workload).await?;
        self.made.push(session);
        Ok(session)
    }
}
