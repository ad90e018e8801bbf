//! Moving in and out: `chatledger import` and `chatledger export`.
//!
//! - [`record`] is what travels: a record a row, a line of JSON a record.
//! - [`source`] tells records, of a database ([`layouts`] says how its tables are read, [`row`] reads a row) or of
//!   lines.
//! - [`import`] checks them by the service's rules (`check`), stores them (`target`; `messages` through the
//!   [`ledger`](chatledger::ledger)), and compares both sides in the end ([`tally`]). [`report`] says what became of them.
//! - [`export`] writes them down. [`adopt`] converts tables in the database where they are.
//! - [`schema`] writes the tables down as models for other tools.
//!
//! Its statements on a source are made from the names that the source's catalog has.

pub mod adopt;
mod check;
pub mod export;
pub mod import;
pub mod layouts;
mod messages;
pub mod progress;
pub mod record;
pub mod report;
pub mod row;
pub mod schema;
pub mod source;
mod tally;
mod target;

pub use import::Import;
pub use layouts::{Layout, chatledger::Part};
pub use progress::Progress;
pub use report::Report;
pub use source::Source;

use chatledger_postgres::Sql;

/// Every statement on a target, for the test that prepares them all.
pub fn statements() -> impl Iterator<Item = &'static Sql> {
    target::ALL.iter().chain(tally::ALL).copied()
}
