//! How much a tenant has stored.

use super::{Store, sql_count};
use crate::{
    auth::Caller,
    domain::{Result, usage::StoredAmounts},
    statements::usage::Count,
};

/// The most sessions of which messages are looked at, chosen at random.
const SAMPLED_SESSIONS: usize = 100;
/// The most messages of each: together as many as are read in some tens of milliseconds. A tenant with no more than that is
/// counted exactly.
const SAMPLED_MESSAGES: usize = 50;

impl Store {
    /// How much the caller's tenant has stored: its sessions and messages, and about how many bytes.
    pub async fn stored_amounts(&self, caller: &Caller) -> Result<StoredAmounts> {
        let count = Count {
            most_sessions: sql_count(SAMPLED_SESSIONS),
            most_messages: sql_count(SAMPLED_MESSAGES),
        };
        let row = self.first(caller, &count).await?;
        // Always a row, of numbers that aren't negative.
        Ok(row.map_or_else(StoredAmounts::default, |row| StoredAmounts {
            sessions: u64::try_from(row.sessions).unwrap_or_default(),
            messages: u64::try_from(row.messages).unwrap_or_default(),
            bytes: u64::try_from(row.bytes).unwrap_or_default(),
        }))
    }
}
