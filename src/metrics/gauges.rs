//! The gauges: what is asked of the server's parts when somebody looks.

use prometheus::{GaugeVec, IntGauge, IntGaugeVec, Opts};

use super::{Counters, view::ServerState};

/// All gauges that follow from the state of a server.
#[derive(Debug)]
pub struct Gauges {
    ready: IntGauge,
    queue_rows: IntGaugeVec,
    queue_bytes: IntGaugeVec,
    oldest_unit: GaugeVec,
    pool_connections: IntGaugeVec,
    pool_max: IntGaugeVec,
    pool_waiting: IntGaugeVec,
    watches: IntGauge,
    connections: IntGauge,
    memory_budget: IntGauge,
    memory_held: IntGauge,
    memory_waiting: IntGauge,
    migration_version: IntGaugeVec,
    replica_seconds: GaugeVec,
    replica_bytes: GaugeVec,
    /// Without labels, and absent where it isn't known.
    database_size: IntGaugeVec,
    disk_free: IntGaugeVec,
    disk_size: IntGaugeVec,
}

impl Gauges {
    pub(super) fn new(counters: Counters<'_>) -> Self {
        let one = |name: &str, help: &str| counters.add(IntGauge::new(name, help));
        let many = |name: &str, help: &str, labels: &[&str]| {
            counters.add(IntGaugeVec::new(Opts::new(name, help), labels))
        };
        let seconds = |name: &str, help: &str, labels: &[&str]| {
            counters.add(GaugeVec::new(Opts::new(name, help), labels))
        };
        Gauges {
            ready: one(
                "chatledger_ready",
                "1 while the server takes requests, as /readyz says; else 0.",
            ),
            queue_rows: many(
                "chatledger_append_queue_rows",
                "Messages that wait in a lane or are being appended by it.",
                &["lane"],
            ),
            queue_bytes: many(
                "chatledger_append_queue_bytes",
                "Bytes of the messages that wait in a lane or are being appended by it.",
                &["lane"],
            ),
            oldest_unit: seconds(
                "chatledger_append_oldest_unit_age_seconds",
                "Age of the lane's oldest unit without an answer, to a quarter of a second; 0 where there is none.",
                &["lane"],
            ),
            pool_connections: many(
                "chatledger_pool_connections",
                "Connections to the database, by pool and state.",
                &["pool", "state"],
            ),
            pool_max: many(
                "chatledger_pool_connections_max",
                "The most connections that a pool may have.",
                &["pool"],
            ),
            pool_waiting: many(
                "chatledger_pool_waiting",
                "Requests that wait for a connection, by pool.",
                &["pool"],
            ),
            watches: one("chatledger_watches", "Watches that are open."),
            connections: one("chatledger_connections", "Connections of clients."),
            memory_budget: one(
                "chatledger_memory_budget_bytes",
                "The memory that requests, answers and watches may hold.",
            ),
            memory_held: one("chatledger_memory_held_bytes", "The memory that they hold."),
            memory_waiting: one(
                "chatledger_memory_waiting",
                "1 while somebody waits for memory; else 0.",
            ),
            migration_version: many(
                "chatledger_migration_version",
                "The newest migration that was applied when the server booted, by set.",
                &["set"],
            ),
            replica_seconds: seconds(
                "chatledger_replica_lag_seconds",
                "Time until a standby has replayed what the primary commits (replay_lag of pg_stat_replication).",
                &["replica"],
            ),
            replica_bytes: seconds(
                "chatledger_replica_lag_bytes",
                "Write-ahead log that a standby has not replayed.",
                &["replica"],
            ),
            database_size: many(
                "chatledger_database_size_bytes",
                "Size of the database on disk.",
                &[],
            ),
            disk_free: many(
                "chatledger_disk_free_bytes",
                "Free space of the disk with the embedded PostgreSQL's data.",
                &[],
            ),
            disk_size: many(
                "chatledger_disk_size_bytes",
                "Size of the disk with the embedded PostgreSQL's data.",
                &[],
            ),
        }
    }

    pub(super) fn set(&self, state: &ServerState) {
        self.ready.set(i64::from(state.ready));
        for (number, lane) in state.lanes.iter().enumerate() {
            let lane_label = number.to_string();
            self.queue_rows
                .with_label_values(&[&lane_label])
                .set(signed(lane.rows));
            self.queue_bytes
                .with_label_values(&[&lane_label])
                .set(signed(lane.bytes));
            let age = lane.oldest.as_secs_f64();
            self.oldest_unit.with_label_values(&[&lane_label]).set(age);
        }
        for pool in &state.pools {
            let states = [("in_use", pool.in_use), ("idle", pool.idle)];
            for (state, count) in states {
                self.pool_connections
                    .with_label_values(&[pool.name, state])
                    .set(signed(count));
            }
            self.pool_max
                .with_label_values(&[pool.name])
                .set(signed(pool.max));
            self.pool_waiting
                .with_label_values(&[pool.name])
                .set(signed(pool.waiting));
        }
        self.watches.set(signed(state.watches));
        self.connections.set(signed(state.connections));
        self.memory_budget.set(signed(state.memory_budget));
        self.memory_held.set(signed(state.memory_held));
        self.memory_waiting.set(i64::from(state.memory_waiting));
        for (set, version) in &state.migrations {
            self.migration_version
                .with_label_values(&[set.as_str()])
                .set(*version);
        }
        self.set_database(state);
    }

    fn set_database(&self, state: &ServerState) {
        // A replica that is gone isn't one without a lag.
        self.replica_seconds.reset();
        self.replica_bytes.reset();
        for replica in &state.database.replicas {
            let label = [replica.name.as_str()];
            self.replica_seconds
                .with_label_values(&label)
                .set(replica.seconds);
            self.replica_bytes.with_label_values(&label).set(replica.bytes);
        }
        let unlabelled: [&str; 0] = [];
        if let Some(bytes) = state.database.size_bytes {
            self.database_size.with_label_values(&unlabelled).set(bytes);
        }
        if let Some(disk) = state.disk {
            self.disk_free.with_label_values(&unlabelled).set(disk.free);
            self.disk_size.with_label_values(&unlabelled).set(disk.size);
        }
    }
}

fn signed(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
