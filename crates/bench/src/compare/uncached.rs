//! Sessions whose rows aren't cached: more than PostgreSQL's shared buffers hold, in the order of time (a session's messages
//! are far from each other), and none is read twice before all are read. The kernel is told to forget them as well, where
//! this process may open PostgreSQL's files.

use uuid::Uuid;

use super::{options::CompareOptions, sessions::PAGE};
use crate::{
    database::BenchDatabase,
    page_cache,
    progress::BenchProgress,
    rows::{Filling, IdKind},
    target,
    workload::Workload,
};
use chatledger_client::ServerChannel;

/// Sessions to read once.
pub(super) struct UncachedSessions {
    pub(super) ids: Vec<Uuid>,
    /// What they take in the database, indexes included.
    pub(super) bytes: i64,
    next: usize,
}

impl UncachedSessions {
    /// Makes them, with a page of messages each.
    pub(super) async fn make(
        channel: &ServerChannel,
        database: &BenchDatabase,
        workload: &Workload,
        options: &CompareOptions,
    ) -> anyhow::Result<Self> {
        let mut ids: Vec<Uuid> = (0..options.uncached_sessions).map(|_| Uuid::now_v7()).collect();
        let progress = BenchProgress::waiting("filling sessions for uncached pages");
        target::create_sessions(channel, &workload.over(ids.clone())).await?;
        let filling = Filling {
            each: PAGE.into(),
            content_bytes: options.content_bytes.median(),
            ids: IdKind::V7,
        };
        let before = database.read_bytes().await?;
        database.fill_with_citations(&ids, &filling).await?;
        let bytes = database.read_bytes().await? - before;
        progress.clear();
        fastrand::Rng::with_seed(0).shuffle(&mut ids);
        Ok(UncachedSessions { ids, bytes, next: 0 })
    }

    /// The next one to read.
    pub(super) fn next(&mut self) -> Uuid {
        let id = self.ids[self.next % self.ids.len()];
        self.next += 1;
        id
    }
}

/// Has the kernel forget the messages and citations. Answers whether it could: by the paths that PostgreSQL tells, which
/// not everybody may ask for, and only on its own machine.
pub(super) async fn leave_page_cache(database: &BenchDatabase) -> anyhow::Result<bool> {
    // Only what is written is forgotten.
    database.checkpoint().await?;
    Ok(match database.read_files().await? {
        Some(files) => page_cache::forget(&files),
        None => false,
    })
}
