//! Pages of 50 messages with two citations each: through the service, and by the SELECTs that an application would write.
//! Both have the same number of readers, which read sessions at random.

use std::{hint::black_box, sync::Arc, time::Instant};

use anyhow::ensure;
use tokio::task::JoinSet;
use uuid::Uuid;

use super::{
    parts::ComparisonParts,
    select::{PageForm, PageSelect},
    sessions::{FilledSessions, PAGE},
    uncached::leave_page_cache,
};
use crate::{
    halt::Halt,
    measure::{Collector, Measurement, Recorder},
    progress::BenchProgress,
    schedule::RunClock,
    target,
    turns::TurnTimer,
};
use chatledger_client::ServerChannel;
use chatledger_protocol as pb;

/// Readers at a time: more than there are processors, so that none is idle.
pub(super) const READERS: usize = 8;
/// The connections that many readers of an application share: what its pool might have. PostgreSQL lets 100 connect, and
/// is slower with them. A reader doesn't wait for those before it on its connection: requests are pipelined.
const POOL: usize = 32;

/// Where a page comes from: the first one of a session.
enum PageSource {
    Service(ServerChannel),
    Select(Arc<PageSelect>),
}

impl PageSource {
    /// How many messages it has.
    async fn read(&self, session: Uuid) -> anyhow::Result<usize> {
        match self {
            PageSource::Service(channel) => {
                let request = pb::ListMessagesRequest {
                    session_id: session.to_string(),
                    page_size: PAGE.cast_signed(),
                    ..Default::default()
                };
                let answer = target::messages(channel).list_messages(request).await;
                let page = answer
                    .map_err(|status| chatledger_client::explain(&status))?
                    .into_inner();
                Ok(black_box(page).messages.len())
            }
            PageSource::Select(select) => select.read(session).await,
        }
    }
}

impl ComparisonParts {
    /// Pages through the service.
    pub(super) async fn pages(
        &self,
        sessions: &Arc<FilledSessions>,
        readers: usize,
    ) -> anyhow::Result<Measurement> {
        let mut run = PageRun::new(self.clock());
        for reader in 0..readers {
            let channel = self.channels[reader % self.channels.len()].clone();
            run.add(self.reader(reader, PageSource::Service(channel), sessions, &run));
        }
        run.finish().await
    }

    /// Pages by SELECT.
    pub(super) async fn selected_pages(
        &mut self,
        sessions: &Arc<FilledSessions>,
        readers: usize,
        form: PageForm,
    ) -> anyhow::Result<Measurement> {
        let mut pool = Vec::new();
        for _ in 0..readers.min(POOL) {
            pool.push(Arc::new(
                PageSelect::prepare(self.database.client().await?, form).await?,
            ));
        }
        let mut run = PageRun::new(self.clock());
        for reader in 0..readers {
            let select = Arc::clone(&pool[reader % pool.len()]);
            run.add(self.reader(reader, PageSource::Select(select), sessions, &run));
        }
        let measured = run.finish().await?;
        self.selecting = pool;
        Ok(measured)
    }

    /// Lone pages that nobody has read before, one through the service and one by SELECT in turn. Answers both.
    pub(super) async fn uncached_pages(&mut self) -> anyhow::Result<[Measurement; 2]> {
        let select = PageSelect::prepare(self.database.client().await?, PageForm::Lateral).await?;
        let select = PageSource::Select(Arc::new(select));
        let service = PageSource::Service(self.channels[0].clone());
        self.leaves_page_cache = Some(leave_page_cache(&self.database).await?);
        let clock = self.clock();
        let [mut listed, mut selected] = [0, 1].map(|_| TurnTimer::new(clock));
        while Instant::now() < clock.end && !self.halt.is_asked() {
            let [one, other] = [self.uncached.next(), self.uncached.next()];
            let pages = [
                listed.time(service.read(one)).await?,
                selected.time(select.read(other)).await?,
            ];
            ensure!(
                pages == [PAGE as usize; 2],
                "pages of {pages:?} messages instead of {PAGE}"
            );
        }
        Ok([listed.finish().await, selected.finish().await])
    }

    fn reader(
        &self,
        reader: usize,
        source: PageSource,
        sessions: &Arc<FilledSessions>,
        run: &PageRun,
    ) -> PageReader {
        PageReader {
            source,
            rng: fastrand::Rng::with_seed(reader as u64),
            sessions: Arc::clone(sessions),
            clock: run.clock,
            halt: self.halt.clone(),
            recorder: run.collector.recorder(),
        }
    }
}

/// Readers at work.
struct PageRun {
    clock: RunClock,
    collector: Collector,
    readers: JoinSet<anyhow::Result<()>>,
}

impl PageRun {
    fn new(clock: RunClock) -> Self {
        PageRun {
            clock,
            collector: Collector::new(clock),
            readers: JoinSet::new(),
        }
    }

    fn add(&mut self, reader: PageReader) {
        self.readers.spawn(reader.read());
    }

    async fn finish(mut self) -> anyhow::Result<Measurement> {
        let collecting = tokio::spawn(self.collector.collect(BenchProgress::hidden()));
        while let Some(reader) = self.readers.join_next().await {
            reader??;
        }
        Ok(collecting.await?)
    }
}

struct PageReader {
    source: PageSource,
    rng: fastrand::Rng,
    sessions: Arc<FilledSessions>,
    clock: RunClock,
    halt: Halt,
    recorder: Recorder,
}

impl PageReader {
    /// Reads page after page until the end.
    async fn read(mut self) -> anyhow::Result<()> {
        let ids = &self.sessions.ids;
        while Instant::now() < self.clock.end && !self.halt.is_asked() {
            let began = Instant::now();
            let session = ids[self.rng.usize(..ids.len())];
            let messages = self.source.read(session).await?;
            self.recorder.stored(began, Instant::now());
            ensure!(
                messages == PAGE as usize,
                "a page of {messages} messages instead of {PAGE}"
            );
        }
        Ok(())
    }
}
