//! The export: the records of one of our own databases as lines of JSON, in an order that is always the same:
//! documents, users and profiles by id, then each session, by id, with its messages by seq.

use std::io::Write;

use anyhow::{Context, bail};

use super::{
    progress::TransferProgress,
    record::Record,
    source::{Source, SourceItem},
};

/// Writes all that the source has, and answers how many records that were.
///
/// # Errors
/// The source can't be read, a row can't be written as a record, or the output fails.
pub async fn export(
    source: &mut Source,
    output: &mut impl Write,
    progress: &TransferProgress,
) -> anyhow::Result<u64> {
    let mut records = 0;
    while let Some(item) = source.next().await? {
        let record = match item {
            SourceItem::Record(record) => record,
            // A lost row ends the export: nothing is left out of it without a word.
            SourceItem::Lost { kind, key, reason } => bail!("a row of {} ({key}): {reason}", kind.plural()),
        };
        serde_json::to_writer(&mut *output, &record).context("writing")?;
        output.write_all(b"\n").context("writing")?;
        records += 1;
        if matches!(record, Record::Message(_)) {
            progress.add(1);
        }
    }
    output.flush().context("writing")?;
    Ok(records)
}
