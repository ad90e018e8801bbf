//! Checksums: what of each session the source has, to compare it with what the target has in the end.

use std::collections::HashMap;

use sha2::{Digest, Sha256};
use tokio_postgres::types::Type;
use uuid::Uuid;

use super::report::SideComparison;
use chatledger_postgres::{Db, DbError, Sql};

/// How many sessions are compared by one statement.
const AT_A_TIME: usize = 500;
/// How many sessions that differ are named.
const NAMED: usize = 20;

/// Of the first `$2` messages of each session: how many there are, the digests of those that aren't
/// deleted, and how many citations. A digest is that of [`Tally::add`].
static TALLY: Sql = Sql {
    text: "SELECT t.id, count(m.id)::bigint, coalesce(bit_xor(m.high), 0), coalesce(bit_xor(m.low), 0),
            coalesce(sum(m.citations), 0)::bigint
        FROM unnest($1, $2) AS t (id, messages)
        LEFT JOIN LATERAL (
            SELECT d.id, ('x' || encode(substr(d.digest, 1, 8), 'hex'))::bit(64)::bigint AS high,
                ('x' || encode(substr(d.digest, 9, 8), 'hex'))::bit(64)::bigint AS low,
                (SELECT count(*) FROM message_citations c WHERE c.message_id = d.id) AS citations
            FROM (
                SELECT m.id, CASE WHEN m.deleted_at IS NULL THEN
                    sha256(convert_to(m.seq || E'\\n' || m.role || E'\\n' || m.content, 'UTF8')) END AS digest
                FROM messages m WHERE m.session_id = t.id AND m.seq <= t.messages
            ) d
        ) m ON true
        GROUP BY t.id",
    params: &[Type::UUID_ARRAY, Type::INT8_ARRAY],
};

/// What of a session the source has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// How many messages.
    pub messages: i64,
    /// The exclusive or of their digests. Each has its place in it, so that the order counts.
    digests: [i64; 2],
    citations: i64,
}

impl Tally {
    /// Adds the next message.
    pub(crate) fn add(&mut self, role: &str, content: &str, citations: usize) {
        let seq = self.skip();
        let mut hash = Sha256::new();
        hash.update(seq.to_string());
        for text in [role, content] {
            hash.update(b"\n");
            hash.update(text);
        }
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
pub(crate) async fn compare(db: &Db, tallies: &HashMap<Uuid, Tally>) -> Result<SideComparison, DbError> {
    let mut ids: Vec<Uuid> = tallies.keys().copied().collect();
    ids.sort_unstable();
    let mut found = SideComparison::default();
    for ids in ids.chunks(AT_A_TIME) {
        let counts: Vec<i64> = ids.iter().map(|id| tallies[id].messages).collect();
        for row in db.read(None, &TALLY, &[&ids, &counts]).await? {
            let id: Uuid = row.get(0);
            let target = Tally {
                messages: row.get(1),
                digests: [row.get(2), row.get(3)],
                citations: row.get(4),
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

/// The statements, for the test that prepares them all.
pub(super) static ALL: &[&Sql] = &[&TALLY];
