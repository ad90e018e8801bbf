//! What an import did, in numbers, and what it left out.

use std::{
    collections::BTreeMap,
    fmt,
    fs::File,
    io::{BufWriter, Write},
    path::Path,
};

use anyhow::Context;
use serde::Serialize;

use super::record::RecordKind;

/// The number of examples of each reason that are shown.
const EXAMPLES: usize = 3;

/// The counts of what became of the records of a kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// The records read from the source.
    pub read: u64,
    /// The records stored now.
    pub stored: u64,
    /// The records stored before.
    pub already: u64,
    /// The records left out.
    pub skipped: u64,
}

/// The news that is told of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Notice {
    /// The record was not stored.
    Skipped,
    /// The record is stored with other content. A difference.
    Conflict,
    /// The record was stored, but for something.
    Changed,
}

#[derive(Default)]
struct Reason {
    count: u64,
    examples: Vec<String>,
}

/// The findings of the comparison at the end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SideComparison {
    /// Sessions compared.
    pub sessions: u64,
    /// Messages that the source has, of those that were not left out.
    pub(crate) source_messages: u64,
    /// Messages that the target has in their places.
    pub(crate) target_messages: u64,
    /// Citations that the source has.
    pub(crate) source_citations: u64,
    /// Citations that the target has.
    pub(crate) target_citations: u64,
    /// Some of the sessions that differ.
    pub(crate) differing: Vec<uuid::Uuid>,
    /// The number of all that differ.
    pub differences: u64,
}

/// An account of what an import did.
#[derive(Default)]
pub struct ImportReport {
    counts: BTreeMap<RecordKind, Counts>,
    reasons: BTreeMap<(Notice, RecordKind, String), Reason>,
    file: Option<BufWriter<File>>,
    /// The findings of the comparison, once it is done.
    pub comparison: Option<SideComparison>,
}

#[derive(Serialize)]
struct ReportLine<'a> {
    notice: Notice,
    kind: RecordKind,
    key: &'a str,
    reason: &'a str,
    detail: &'a str,
}

impl ImportReport {
    /// A report that also writes every notice to a file, as lines of JSON.
    ///
    /// # Errors
    /// The file can't be written.
    pub fn new(file: Option<&Path>) -> anyhow::Result<ImportReport> {
        let open = |path: &Path| {
            let file = File::create(path).with_context(|| format!("--report {}", path.display()));
            file.map(BufWriter::new)
        };
        Ok(ImportReport {
            file: file.map(open).transpose()?,
            ..ImportReport::default()
        })
    }

    /// The counts of a kind, to add to.
    pub(crate) fn of(&mut self, kind: RecordKind) -> &mut Counts {
        self.counts.entry(kind).or_default()
    }

    /// Notes what became of a record. `reason` is the same for all alike, `detail` may not be.
    ///
    /// # Errors
    /// The file can't be written.
    pub fn note(
        &mut self,
        notice: Notice,
        kind: RecordKind,
        key: &str,
        reason: &str,
        detail: &str,
    ) -> anyhow::Result<()> {
        if notice != Notice::Changed {
            self.of(kind).skipped += 1;
        }
        let entry = self.reasons.entry((notice, kind, reason.to_owned())).or_default();
        entry.count += 1;
        if entry.examples.len() < EXAMPLES {
            let detail = if detail.is_empty() {
                String::new()
            } else {
                format!(" ({detail})")
            };
            entry.examples.push(format!("{key}{detail}"));
        }
        if let Some(file) = &mut self.file {
            let line = ReportLine {
                notice,
                kind,
                key,
                reason,
                detail,
            };
            serde_json::to_writer(&mut *file, &line)?;
            writeln!(file)?;
        }
        Ok(())
    }

    /// Whether all that was not left out is stored as it was in the source.
    #[must_use]
    pub fn agrees(&self) -> bool {
        let conflicts = self
            .reasons
            .keys()
            .any(|(notice, ..)| *notice == Notice::Conflict);
        !conflicts
            && self
                .comparison
                .as_ref()
                .is_none_or(|found| found.differences == 0)
    }

    /// Writes out what is left of the file.
    ///
    /// # Errors
    /// It can't be written.
    pub fn finish(&mut self) -> anyhow::Result<()> {
        self.file.as_mut().map_or(Ok(()), |file| Ok(file.flush()?))
    }
}

impl fmt::Display for ImportReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<10} {:>10} {:>10} {:>14} {:>10}",
            "", "read", "stored", "already there", "skipped"
        )?;
        for kind in RecordKind::ALL {
            let Some(counts) = self.counts.get(&kind) else {
                continue;
            };
            let Counts {
                read,
                stored,
                already,
                skipped,
            } = counts;
            writeln!(
                f,
                "{:<10} {read:>10} {stored:>10} {already:>14} {skipped:>10}",
                kind.plural()
            )?;
        }
        for ((notice, kind, reason), found) in &self.reasons {
            let word = match notice {
                Notice::Skipped => "skipped",
                Notice::Conflict => "conflict",
                Notice::Changed => "changed",
            };
            writeln!(f, "{word}: {} {}: {reason}", found.count, kind.plural())?;
            for example in &found.examples {
                writeln!(f, "    {example}")?;
            }
            if found.count > EXAMPLES as u64 {
                writeln!(f, "    ...")?;
            }
        }
        let Some(found) = &self.comparison else {
            return Ok(());
        };
        for session in &found.differing {
            writeln!(f, "differs: session {session}")?;
        }
        write!(
            f,
            "compared: {} sessions, {} messages in the source, {} in the target, {} citations and {}: ",
            found.sessions,
            found.source_messages,
            found.target_messages,
            found.source_citations,
            found.target_citations
        )?;
        match found.differences {
            0 => writeln!(f, "counts and checksums agree"),
            differing => writeln!(f, "{differing} sessions differ"),
        }
    }
}
