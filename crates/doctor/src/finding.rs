//! The catalogue of checks, and what a check finds.

use serde::Serialize;

use crate::line::Unknown;

/// How grave a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// All is well.
    Ok,
    /// Worth knowing; nothing has to be done. Also what couldn't be looked at.
    Notice,
    /// It works, and won't always, or not well.
    Warning,
    /// It doesn't work, or what is acknowledged isn't safe.
    Error,
}

impl Severity {
    /// The word that people and programs see.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Severity::Ok => "ok",
            Severity::Notice => "notice",
            Severity::Warning => "warning",
            Severity::Error => "error",
        }
    }
}

/// A check. What stands before the dot of its id is its group.
#[derive(Debug, PartialEq, Eq)]
pub struct DatabaseCheck {
    /// The id, which stays.
    pub id: &'static str,
    /// The question that it answers.
    pub about: &'static str,
}

impl DatabaseCheck {
    /// The group, which is the id up to its dot.
    #[must_use]
    pub fn group(&self) -> &'static str {
        self.id.split_once('.').map_or(self.id, |(group, _)| group)
    }

    pub(crate) fn ok(&self, found: impl Into<String>) -> Finding {
        self.finding(Severity::Ok, found.into(), None)
    }

    pub(crate) fn notice(&self, found: impl Into<String>, advice: impl Into<String>) -> Finding {
        self.finding(Severity::Notice, found.into(), Some(advice.into()))
    }

    pub(crate) fn warning(&self, found: impl Into<String>, advice: impl Into<String>) -> Finding {
        self.finding(Severity::Warning, found.into(), Some(advice.into()))
    }

    pub(crate) fn error(&self, found: impl Into<String>, advice: impl Into<String>) -> Finding {
        self.finding(Severity::Error, found.into(), Some(advice.into()))
    }

    /// What is found where it couldn't be looked.
    pub(crate) fn unknown(&self, reason: &Unknown) -> Finding {
        Finding {
            looked: false,
            ..self.finding(
                Severity::Notice,
                format!("couldn't look: {reason}"),
                reason.advice(),
            )
        }
    }

    /// What was found, or why it couldn't be looked.
    pub(crate) fn settle(&self, asked: Result<Finding, Unknown>) -> Finding {
        asked.unwrap_or_else(|reason| self.unknown(&reason))
    }

    fn finding(&self, severity: Severity, found: String, advice: Option<String>) -> Finding {
        Finding {
            id: self.id,
            group: self.group(),
            severity,
            looked: true,
            found,
            advice,
        }
    }
}

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The check's id.
    pub id: &'static str,
    /// The check's group.
    pub group: &'static str,
    /// How grave it is.
    pub severity: Severity,
    /// Whether it could be looked at; where not, `found` says why.
    pub looked: bool,
    /// What was found, in a line.
    pub found: String,
    /// What to do, where something is to be done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
}

macro_rules! catalogue {
    ($($name:ident: $id:literal, $about:literal;)*) => {
        $(pub(crate) const $name: DatabaseCheck = DatabaseCheck { id: $id, about: $about };)*
        /// Every check, in the order in which they are told.
        pub static CHECKS: &[DatabaseCheck] = &[$($name),*];
    };
}

catalogue! {
    REACHABLE: "connection.reachable", "can the database be reached, and does it let us in";
    TLS: "connection.tls", "is the way to it encrypted, and is its certificate verified";
    POOLER: "connection.pooler", "is there a transaction pooler between, and does the server know";
    DIRECT: "connection.direct", "is there a way past the pooler, to the same database";
    PREPARED: "connection.prepared", "do prepared statements last, where the server counts on it";
    LISTEN: "connection.listen", "can notifications between servers be heard";
    LATENCY: "connection.latency", "how long does a question take that costs nothing";
    VERSION: "server.version", "is it a PostgreSQL that is supported";
    PRIMARY: "server.primary", "can it be written to";
    ENCODING: "server.encoding", "can it hold every text";
    CLOCK: "server.clock", "does its clock agree with this machine's";
    CONNECTIONS: "server.connections", "has it as many connections as the servers may want";
    EXTENSIONS: "server.extensions", "which extensions are there";
    FSYNC: "durability.fsync", "does a commit outlive a crash of the machine";
    FULL_PAGE_WRITES: "durability.full_page_writes", "can a torn page be mended after a crash";
    SYNCHRONOUS_COMMIT: "durability.synchronous_commit", "is a commit on disk when it is acknowledged";
    WAL_LEVEL: "durability.wal_level", "can there be replicas, and backups to any point in time";
    STATEMENT_TIMEOUT: "timeouts.statement", "are long statements left to end";
    LOCK_TIMEOUT: "timeouts.lock", "is waiting for locks left to the server";
    IDLE_SESSION: "timeouts.idle_session", "are idle connections left open";
    IDLE_IN_TRANSACTION: "timeouts.idle_in_transaction", "are abandoned transactions ended";
    TRANSACTION_TIMEOUT: "timeouts.transaction", "are long transactions left to end";
    MIGRATIONS: "schema.migrations", "is the schema what this program needs";
    HISTORY: "schema.history", "do the migrations that were applied agree with this program's";
    STATEMENTS: "schema.statements", "can every statement of the server be prepared over the tables";
    INDEXES_MISSING: "schema.indexes_missing", "is every index there that the migrations made";
    INDEXES_INVALID: "schema.indexes_invalid", "can every index be used";
    CONSTRAINTS: "schema.constraints", "is every constraint validated";
    TABLE_PRIVILEGES: "privileges.tables", "may the role read and write the tables";
    MIGRATION_PRIVILEGES: "privileges.migrations", "may the role bring the schema up to date";
    SECRETS: "privileges.secrets", "who else may read secrets, or do something with the tables";
    ROLE: "privileges.role", "has the role no more power than it needs";
    AUTOVACUUM: "vacuum.autovacuum", "does autovacuum run at all";
    AUTOVACUUM_TABLES: "vacuum.tables", "is it left on for our tables";
    DEAD_ROWS: "vacuum.dead_rows", "does it keep up";
    BLOAT: "vacuum.bloat", "are tables much larger than their rows";
    WRAPAROUND: "vacuum.wraparound", "are transaction ids far from running out";
    TRANSACTIONS: "vacuum.transactions", "does an old transaction hold dead rows back";
    REPLICAS: "replication.replicas", "do replicas keep up";
    SLOTS: "replication.slots", "does a replication slot keep WAL for nobody";
    SIZE: "room.size", "how large is the database, and what of it is ours";
    DISK: "room.disk", "how much disk is free";
    TEN_TIMES: "room.ten_times", "is there room for ten times the data";
    NUMBERS: "room.numbers", "are numbers far from running out at ten times the data";
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn ids_are_unique_and_those_of_a_group_are_together() {
        let ids: BTreeSet<&str> = CHECKS.iter().map(|check| check.id).collect();
        assert_eq!(ids.len(), CHECKS.len());
        let mut groups: Vec<&str> = CHECKS.iter().map(DatabaseCheck::group).collect();
        groups.dedup();
        let distinct: BTreeSet<&str> = groups.iter().copied().collect();
        assert_eq!(distinct.len(), groups.len(), "{groups:?}");
    }
}
