//! Citations: the sources of a message.

use std::collections::HashSet;

use jiff::Timestamp;
use uuid::Uuid;

use super::{Check, FieldPath, page::Page};

/// One source of a message.
#[derive(Clone, Debug, PartialEq)]
pub struct Citation {
    /// The document's key.
    pub document_id: String,
    /// The chunk within it; may be empty.
    pub chunk_id: String,
    /// The retrieval score; finite.
    pub score: f64,
    /// The number that the message cites it by, from 1; 0 in a request: to be assigned.
    pub index: i32,
}

/// One source of a message, whose texts are somebody else's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CitationRef<'a> {
    /// The document's key.
    pub document_id: &'a str,
    /// The chunk within it; may be empty.
    pub chunk_id: &'a str,
    /// The retrieval score.
    pub score: f64,
    /// The number that the message cites it by, from 1.
    pub index: i32,
}

/// The largest score: PostgreSQL sums squares for a mean, and those of 1e154 overflow.
pub const MAX_SCORE: f64 = 1e100;

impl Citation {
    /// The bytes that it holds in memory, about.
    #[must_use]
    pub fn weight(&self) -> usize {
        weight(&self.document_id, &self.chunk_id)
    }
}

/// The weight of a citation: the bytes that it holds in memory, about.
#[must_use]
pub fn weight(document_id: &str, chunk_id: &str) -> usize {
    size_of::<Citation>() + document_id.len() + chunk_id.len()
}

/// A citation, and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct PlacedCitation {
    /// The citation.
    pub citation: Citation,
    /// The message's session.
    pub session_id: Uuid,
    /// The message, by the id that its client knows.
    pub message_id: Uuid,
    /// The message's key in the table, which the order goes by.
    pub message_row_id: Uuid,
    /// The moment when the citation was stored.
    pub created_at: Timestamp,
}

/// The citations to list: a message's, or those of a document.
#[derive(Clone, Debug)]
pub enum CitationSource {
    /// The citations of a message.
    Message {
        /// The message's session.
        session_id: Uuid,
        /// The message's id.
        message_id: Uuid,
    },
    /// The citations that name a document.
    Document(String),
}

/// Which citations to list.
#[derive(Debug)]
pub struct CitationFilter {
    /// Which page, by the message's row id and the citation's index.
    pub page: Page<(Uuid, i32)>,
    /// The source of the citations.
    pub source: CitationSource,
}

/// Checks the citations of one message. `at` is that message.
pub fn check_all(check: &mut Check<'_>, at: &FieldPath<'_>, citations: &[Citation]) {
    let max = check.limits.max_citations;
    if citations.len() > max {
        check.violation(
            &at.field("citations"),
            format!("must have at most {max} elements, has {}", citations.len()),
        );
        return;
    }
    let mut indexes = HashSet::new();
    for (i, citation) in citations.iter().enumerate() {
        let at = at.item("citations", i);
        check.document_id(&at.field("document_id"), &citation.document_id);
        let max = check.limits.max_source_id_bytes;
        check.text_bytes(&at.field("chunk_id"), &citation.chunk_id, max);
        if !(-MAX_SCORE..=MAX_SCORE).contains(&citation.score) {
            check.violation(
                &at.field("score"),
                "must be a finite number between -1e100 and 1e100",
            );
        }
        let index = at.field("citation_index");
        if citation.index < 0 {
            check.violation(&index, "must not be negative");
        } else if citation.index > 0 && !indexes.insert(citation.index) {
            check.violation(&index, "is given twice");
        }
    }
}

/// Gives each citation without an index the lowest one that is free above `taken`, in order. Where there is
/// none, the index stays 0.
pub fn assign_indexes(citations: &mut [Citation], taken: i32) {
    let given: HashSet<i32> = citations.iter().map(|citation| citation.index).collect();
    let mut free = (taken..=i32::MAX).skip(1).filter(|index| !given.contains(index));
    for citation in citations.iter_mut().filter(|citation| citation.index == 0) {
        citation.index = free.next().unwrap_or(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_indexes_are_given_in_order_around_those_that_are_taken() {
        for (given, taken, expected) in [
            (vec![0, 0, 0], 0, vec![1, 2, 3]),
            (vec![0, 1, 0], 0, vec![2, 1, 3]),
            (vec![0, 5, 0], 4, vec![6, 5, 7]),
            (vec![2, 0], 0, vec![2, 1]),
            (vec![0, 0], i32::MAX - 1, vec![i32::MAX, 0]),
            (vec![0, 1], i32::MAX, vec![0, 1]),
        ] {
            let mut citations: Vec<Citation> = given
                .into_iter()
                .map(|index| Citation {
                    document_id: "d".into(),
                    chunk_id: String::new(),
                    score: 0.0,
                    index,
                })
                .collect();
            assign_indexes(&mut citations, taken);
            let indexes: Vec<i32> = citations.iter().map(|citation| citation.index).collect();
            assert_eq!(indexes, expected);
        }
    }
}
