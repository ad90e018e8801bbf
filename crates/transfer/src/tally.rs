//! Checksums: what of each session the source has, to compare it with what the target has in the end.

use std::collections::HashMap;

use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::{
    report::SideComparison,
    statements::{run, tally::TallySessions},
};
use chatledger::{auth::Caller, domain::message::Identity};
use chatledger_postgres::{Db, DbError};

/// The number of sessions that are compared by one statement.
const AT_A_TIME: usize = 500;
/// The number of sessions that differ that are named.
const NAMED: usize = 20;

/// The source's side of a session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// The number of messages.
    pub messages: i64,
    /// The exclusive or of their digests. Each has its place in it, so that the order counts.
    digests: [i64; 2],
    citations: i64,
}

impl Tally {
    /// Adds the next message.
    pub(crate) fn add(&mut self, message: &Identity<'_>, citations: usize) {
        let seq = self.skip();
        let mut hash = Sha256::new();
        hash.update(format!("{seq}\n"));
        hash.update(message.digest());
        let digest = hash.finalize();
        for (sum, part) in self.digests.iter_mut().zip(digest.chunks_exact(8)) {
            *sum ^= part.iter().fold(0, |number, byte| number << 8 | i64::from(*byte));
        }
        self.citations += i64::try_from(citations).unwrap_or(i64::MAX);
    }

    /// Counts a message that has a place, but no content any more: it was deleted.
    pub(crate) fn skip(&mut self) -> i64 {
        self.messages += 1;
        self.messages
    }
}

/// Compares what the source had with what the target has. Citations that were added since are no difference.
pub(crate) async fn compare(
    db: &Db,
    caller: &Caller,
    tallies: &HashMap<Uuid, Tally>,
) -> Result<SideComparison, DbError> {
    let mut ids: Vec<Uuid> = tallies.keys().copied().collect();
    ids.sort_unstable();
    let mut found = SideComparison::default();
    for ids in ids.chunks(AT_A_TIME) {
        let counts: Vec<i64> = ids.iter().map(|id| tallies[id].messages).collect();
        let tally = TallySessions {
            ids,
            messages: &counts,
        };
        for row in run(db, caller, &tally).await? {
            let id = row.id;
            let target = Tally {
                messages: row.messages,
                digests: [row.high, row.low],
                citations: row.citations,
            };
            let source = tallies[&id];
            found.sessions += 1;
            found.source_messages += source.messages.unsigned_abs();
            found.target_messages += target.messages.unsigned_abs();
            found.source_citations += source.citations.unsigned_abs();
            found.target_citations += target.citations.unsigned_abs();
            let agrees = source.messages == target.messages
                && source.digests == target.digests
                && source.citations <= target.citations;
            if !agrees {
                found.differences += 1;
                if found.differing.len() < NAMED {
                    found.differing.push(id);
                }
            }
        }
    }
    Ok(found)
}
