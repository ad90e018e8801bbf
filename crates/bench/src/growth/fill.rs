//! Fills a database with many millions of messages, in minutes: in the database itself, without the keys of the table, which
//! are made afterwards.

use super::{GrowthOptions, side::StoredSide};
use crate::{
    database::told,
    halt::Halt,
    progress::BenchProgress,
    rows::{Filling, IdKind},
};

const CONSTRAINTS: &str = include_str!("../sql/growth_constraints.sql");
/// Messages of a statement: few enough to be sorted in memory, and to show how far it is.
const A_STATEMENT: usize = 500_000;

/// Fills it up to so many messages at least, evenly over its sessions. Answers how many it has then.
pub(super) async fn fill_to(
    side: &StoredSide,
    messages: u64,
    ids: IdKind,
    options: &GrowthOptions,
    progress: &BenchProgress,
    halt: &Halt,
) -> anyhow::Result<u64> {
    let client = side.database.client().await?;
    let is_random = ids == IdKind::V4;
    let constraints = client.query(CONSTRAINTS, &[&is_random]).await.map_err(told)?;
    for constraint in &constraints {
        client.batch_execute(constraint.get(0)).await.map_err(told)?;
    }
    let filled = fill(side, messages, ids, options, progress, halt).await;
    // More than the default lets sort in memory, and little for a machine that holds such a table.
    let more_memory = client.batch_execute("SET maintenance_work_mem = '256MB'");
    more_memory.await.map_err(told)?;
    for constraint in constraints.iter().rev() {
        client.batch_execute(constraint.get(1)).await.map_err(told)?;
    }
    filled?;
    side.database.vacuum().await?;
    side.stored().await
}

async fn fill(
    side: &StoredSide,
    messages: u64,
    ids: IdKind,
    options: &GrowthOptions,
    progress: &BenchProgress,
    halt: &Halt,
) -> anyhow::Result<()> {
    let workload = side.workload(ids);
    let sessions = workload.sessions();
    let stored = side.stored().await?;
    progress.add(stored);
    let mut left = messages.saturating_sub(stored).div_ceil(sessions.len() as u64);
    let most = (A_STATEMENT / sessions.len()).max(1) as u64;
    while left > 0 && !halt.is_asked() {
        let each = left.min(most);
        let filling = Filling {
            each: each.cast_signed(),
            content_bytes: options.content_bytes,
            ids,
        };
        side.database.fill(sessions, &filling).await?;
        left -= each;
        progress.add(each * sessions.len() as u64);
    }
    Ok(())
}
