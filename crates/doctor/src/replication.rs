//! Replicas, and the slots that keep WAL for them.

use std::time::Duration;

use tokio_postgres::Row;

use crate::{
    Finding,
    finding::{REPLICAS, SLOTS},
    line::{Asked, Line, Unknown, cell},
    units::{bytes, count, span},
};

/// A replica that is further behind isn't a copy of now.
const FAR_BEHIND: i64 = 1 << 30;
const LONG_BEHIND: Duration = Duration::from_mins(1);
/// A slot that keeps more is filling the disk.
const MUCH_WAL: i64 = 1 << 30;

const REPLICAS_SQL: &str = include_str!("sql/replicas.sql");
const SLOTS_SQL: &str = include_str!("sql/slots.sql");

/// Looks at replicas and slots.
pub(crate) async fn look(line: &mut Line) -> Vec<Finding> {
    vec![
        REPLICAS.settle(replicas(line).await),
        SLOTS.settle(slots(line).await),
    ]
}

/// A replica, as the primary sees it.
#[derive(Debug)]
struct Replica {
    name: String,
    /// Such as `streaming`; nothing where the role may not see it.
    state: Option<String>,
    bytes: i64,
    seconds: f64,
}

async fn replicas(line: &mut Line) -> Asked<Finding> {
    let rows = line.ask(REPLICAS_SQL, &[]).await?;
    let read = |row: &Row| {
        Ok(Replica {
            name: cell(row, 0)?,
            state: cell(row, 1)?,
            bytes: cell(row, 2)?,
            seconds: cell(row, 3)?,
        })
    };
    judge_replicas(&rows.iter().map(read).collect::<Asked<Vec<_>>>()?)
}

fn judge_replicas(replicas: &[Replica]) -> Asked<Finding> {
    if replicas.is_empty() {
        return Ok(REPLICAS.ok("there are none"));
    }
    if replicas.iter().any(|it| it.state.is_none()) {
        return Err(Unknown::Denied);
    }
    let mut is_behind = false;
    let told: Vec<String> = replicas
        .iter()
        .map(|it| {
            let lag = Duration::try_from_secs_f64(it.seconds).unwrap_or_default();
            let state = it.state.as_deref().unwrap_or_default();
            is_behind |= it.bytes > FAR_BEHIND || lag > LONG_BEHIND || state != "streaming";
            format!(
                "{} ({state}) is {} and {} behind",
                it.name,
                bytes(it.bytes),
                span(lag)
            )
        })
        .collect();
    Ok(if is_behind {
        REPLICAS.warning(
            told.join("; "),
            "see to its disk, its network and long queries on it; a failover would lose as much",
        )
    } else {
        REPLICAS.ok(told.join("; "))
    })
}

/// A replication slot.
#[derive(Debug)]
struct Slot {
    name: String,
    is_active: bool,
    /// How much WAL it keeps.
    kept: i64,
    /// PostgreSQL's word: `reserved`, `extended`, `unreserved`, `lost`.
    status: String,
}

async fn slots(line: &mut Line) -> Asked<Finding> {
    let rows = line.ask(SLOTS_SQL, &[]).await?;
    let read = |row: &Row| {
        Ok(Slot {
            name: cell(row, 0)?,
            is_active: cell(row, 1)?,
            kept: cell(row, 2)?,
            status: cell(row, 3)?,
        })
    };
    Ok(judge_slots(&rows.iter().map(read).collect::<Asked<Vec<_>>>()?))
}

fn judge_slots(slots: &[Slot]) -> Finding {
    if slots.is_empty() {
        return SLOTS.ok("there are none");
    }
    let bad: Vec<String> = slots
        .iter()
        .filter(|it| {
            !it.is_active || it.kept > MUCH_WAL || ["unreserved", "lost"].contains(&it.status.as_str())
        })
        .map(|it| {
            let used = if it.is_active { "used" } else { "used by nobody" };
            format!(
                "{} is {used} and keeps {} of WAL ({})",
                it.name,
                bytes(it.kept),
                it.status
            )
        })
        .collect();
    if bad.is_empty() {
        SLOTS.ok(format!("{}, all in use", count(slots.len(), "slot")))
    } else {
        SLOTS.warning(
            bad.join("; "),
            "SELECT pg_drop_replication_slot(…) where nobody comes for it any more; max_slot_wal_keep_size bounds it",
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Severity::{Ok as Well, Warning};

    #[test]
    fn replicas_that_lag_and_slots_that_nobody_uses_are_told() {
        let replica = |bytes, seconds| Replica {
            name: "walreceiver".to_owned(),
            state: Some("streaming".to_owned()),
            bytes,
            seconds,
        };
        let judged = |it| judge_replicas(&[it]).map(|found| found.severity);
        assert_eq!(judged(replica(1 << 20, 0.1)), Ok(Well));
        assert_eq!(judged(replica(2 << 30, 0.1)), Ok(Warning));
        assert_eq!(judged(replica(0, 90.0)), Ok(Warning));
        assert_eq!(
            judged(Replica {
                state: None,
                ..replica(0, 0.0)
            }),
            Err(Unknown::Denied)
        );

        let slot = |is_active, kept| Slot {
            name: "s".to_owned(),
            is_active,
            kept,
            status: "reserved".to_owned(),
        };
        assert_eq!(judge_slots(&[slot(true, 1 << 20)]).severity, Well);
        assert_eq!(judge_slots(&[slot(false, 0)]).severity, Warning);
        assert_eq!(judge_slots(&[slot(true, 5 << 30)]).severity, Warning);
    }
}
