//! How much is stored for a tenant.

use std::ops::{Add, Sub};

/// Amounts of what a tenant has, or adds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoredAmounts {
    /// The sessions.
    pub sessions: u64,
    /// The messages, erased ones included, whose rows stay.
    pub messages: u64,
    /// The bytes of their contents, selected texts and payloads.
    pub bytes: u64,
}

impl StoredAmounts {
    /// One session.
    pub const SESSION: StoredAmounts = StoredAmounts {
        sessions: 1,
        messages: 0,
        bytes: 0,
    };
}

impl Add for StoredAmounts {
    type Output = StoredAmounts;

    fn add(self, other: StoredAmounts) -> StoredAmounts {
        StoredAmounts {
            sessions: self.sessions.saturating_add(other.sessions),
            messages: self.messages.saturating_add(other.messages),
            bytes: self.bytes.saturating_add(other.bytes),
        }
    }
}

impl Sub for StoredAmounts {
    type Output = StoredAmounts;

    fn sub(self, other: StoredAmounts) -> StoredAmounts {
        StoredAmounts {
            sessions: self.sessions.saturating_sub(other.sessions),
            messages: self.messages.saturating_sub(other.messages),
            bytes: self.bytes.saturating_sub(other.bytes),
        }
    }
}
