//! What there is too little of, where a request is refused as OVERLOADED.

use std::fmt;

/// Something that the server, or its database, has only so much of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Shortage {
    /// Places for requests.
    Requests,
    /// Places for streams.
    Streams,
    /// Places for calls of health and reflection.
    Probes,
    /// Memory.
    Memory,
    /// Room among the messages that wait to be appended.
    Queue,
    /// Connections to the database.
    Pool,
    /// A lock that another writer holds.
    Locks,
    /// Processor time for passwords.
    Passwords,
    /// Connections that read histories.
    Histories,
    /// Patience with a client that doesn't take its history.
    HistoryPatience,
}

impl Shortage {
    /// Its name: the metadata `limit` of an error, and a label of the metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Shortage::Requests => "requests",
            Shortage::Streams => "streams",
            Shortage::Probes => "probes",
            Shortage::Memory => "memory",
            Shortage::Queue => "queue",
            Shortage::Pool => "pool",
            Shortage::Locks => "locks",
            Shortage::Passwords => "passwords",
            Shortage::Histories => "histories",
            Shortage::HistoryPatience => "history_patience",
        }
    }
}

impl fmt::Display for Shortage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Shortage::Requests => "the server has as many requests as it can hold",
            Shortage::Streams => "the server has as many streams as it can hold",
            Shortage::Probes => "too many calls of health and reflection",
            Shortage::Memory => "the server's memory is in use",
            Shortage::Queue => "too many messages wait to be appended",
            Shortage::Pool => "all database connections are in use",
            Shortage::Locks => "another writer holds what this request needs",
            Shortage::Passwords => "too many passwords wait to be hashed",
            Shortage::Histories => "as many histories are read as can be at a time",
            Shortage::HistoryPatience => {
                "the history wasn't taken for long, and its moment was given up; read on with after_seq"
            }
        })
    }
}
