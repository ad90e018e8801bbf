//! Moving in and out: `chatledger import`, `chatledger export`, `chatledger migrate adopt` and `chatledger schema`.
//!
//! # The walk of an import
//!
//! 1. A [`Source`] (`source`) tells records: of a database, whose [`SourceLayout`] (`layouts`) says by which statements its
//!    tables are read and `row` reads a row; or of lines of JSON. A `record` is what travels: one a row, one a line.
//! 2. [`ImportRun::run`] (`import`) takes them in chunks, checks each by the service's own rules (`check`), and stores them
//!    (`target`). Messages (`messages`) go through the service's [`ledger`](chatledger::ledger), as every append does.
//! 3. In the end both sides are compared (`tally`), and the [`ImportReport`] (`report`) says what became of each record.
//!    [`TransferProgress`] (`progress`) shows how far it is.
//!
//! [`export()`] writes the records of a source down as lines. [`adopt()`] converts tables in the database where they are, in one
//! transaction. A [`Schema`] is written down as models for other tools ([`SchemaFormat`]; `schema`).
//!
//! # Example
//!
//! ```no_run
//! # async fn f() -> anyhow::Result<()> {
//! use chatledger_transfer::{LineSource, Source, TransferProgress, export};
//!
//! // Reads an export, and writes it down again.
//! let mut source = Source::Lines(LineSource::open("export.jsonl").await?);
//! let progress = TransferProgress::hidden();
//! let records = export(&mut source, &mut std::io::stdout(), &progress).await?;
//! eprintln!("{records} records");
//! # Ok(()) }
//! ```
//!
//! # What it promises
//!
//! - An import can be stopped and run again: ids are kept, or derived from the source's keys, so nothing is stored twice.
//! - What isn't stored as it was is named in the report; counts and checksums of both sides are compared in the end.
//! - A source is read in one transaction that writes nothing.
//! - Adopting is one transaction: all of it, or nothing; the old tables are kept.
//!
//! Its statements on a source are made from the names that the source's catalog has.

mod adopt;
mod check;
mod export;
mod import;
mod layouts;
mod messages;
mod progress;
mod record;
mod report;
mod row;
mod schema;
mod source;
mod statements;
mod tally;
mod target;

pub use adopt::{Adoption, adopt};
pub use export::export;
pub use import::ImportRun;
pub use layouts::{SourceLayout, chatledger::ExportPart};
pub use progress::TransferProgress;
pub use report::ImportReport;
pub use row::Origin;
pub use schema::{SchemaFormat, catalog::Schema};
pub use source::{LineSource, Source, TableSource, identity};

/// Every statement on a target, for the test that prepares them all.
pub fn statements() -> impl Iterator<Item = &'static chatledger::statements::Description> {
    statements::ALL.iter().copied()
}
