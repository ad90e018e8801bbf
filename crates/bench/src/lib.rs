//! The load tester: `chatledger bench`, for users against their own deployment and for us against ourselves.
//!
//! It is a client: it uses the generated types of the contract as clients do, and nothing of the server's insides.
//!
//! # The walk of `bench append`
//!
//! 1. [`ServerTarget`](chatledger_client::ServerTarget) is the server under test (`target` prepares it), or [`OwnServer`] (`own_server`) one of our own where none is given.
//! 2. [`Workload`] (`workload`) decides what is sent, from a seed: to which session, with which content. A `schedule` decides
//!    when: as soon as there is room (closed loop), or at a rate (open loop).
//! 3. [`append()`] sends, one file a mode; `measure` counts and times the answers without a lock.
//! 4. [`verify()`] reads everything back, and compares it with what was acknowledged.
//! 5. [`BenchReport`] (`report`) shows it as text, JSON or a page.
//!
//! # The other runs, and what they share
//!
//! - [`watch()`] measures how soon a message reaches those who watch (`delivery` has the times).
//! - [`compare()`] sets the service beside what an application would do itself, on one database.
//! - [`growth()`] measures what appends and lists cost as messages gather, beside an empty table.
//! - `database` and `rows` are what speaks SQL for the two; the statements are in `sql/`.
//! - `usage` is what the parties use of the machine; [`BenchProgress`] (`progress`) what is shown meanwhile; [`Halt`] (`halt`)
//!   says that the user has asked to stop.
//!
//! # Example
//!
//! ```no_run
//! # async fn f(halt: chatledger_bench::Halt) -> anyhow::Result<()> {
//! use std::{sync::Arc, time::Duration};
//!
//! use chatledger_client::ServerTarget;
//! use chatledger_bench::{
//!     AppendMode, BenchProgress, ContentSizes, Load, Workload, WorkloadOptions, append, create_sessions, verify,
//! };
//!
//! let target = ServerTarget::parse("http://127.0.0.1:50051")?;
//! let workload = Arc::new(Workload::new(&WorkloadOptions {
//!     seed: 1,
//!     sessions: 100,
//!     content: ContentSizes::Fixed(512),
//!     citations: 0,
//! }));
//! let channel = target.connect().await?;
//! create_sessions(&channel, &workload).await?;
//! let load = Load {
//!     mode: AppendMode::Stream,
//!     in_flight: 1024,
//!     streams: 4,
//!     connections: 1,
//!     frame_entries: 256,
//!     batch_messages: 1,
//!     rate: None,
//!     warm_up: Duration::from_secs(1),
//!     duration: Duration::from_secs(10),
//! };
//! let outcome = append(&target, &workload, &load, true, &halt, BenchProgress::hidden()).await?;
//! let verification = verify(&channel, &workload, outcome.answers, &BenchProgress::hidden()).await?;
//! assert!(verification.ok);
//! # Ok(()) }
//! ```
//!
//! # What it promises
//!
//! - In an open loop, times count from when a message was due, so a server that falls behind can't hide it.
//! - What is acknowledged and not found afterwards, or found twice or out of order, is told.
//! - The same seed sends the same contents to the same sessions.

mod append;
mod compare;
mod database;
mod delivery;
mod growth;
mod halt;
mod measure;
mod own_server;
mod page_cache;
mod progress;
mod report;
mod rows;
mod schedule;
mod summary;
mod target;
mod turns;
mod usage;
mod verify;
mod wanted;
mod watch;
mod workload;

pub use append::{AppendMode, AppendOutcome, Load, append};
pub use compare::{CompareOptions, compare, report::BenchComparison};
pub use growth::{GrowthOptions, GrowthReport, LISTED, growth};
pub use halt::Halt;
pub use measure::Measurement;
pub use own_server::OwnServer;
pub use progress::BenchProgress;
pub use report::{
    BenchReport, Circumstances, Latency, html::page as report_page, text::summary as report_summary,
};
pub use rows::IdKind;
pub use target::{create_sessions, delete_sessions};
pub use usage::{CpuSeconds, Parties};
pub use verify::{AnswerLog, LedgerVerification, verify};
pub use watch::{WatchLoad, WatchOutcome, watch};
pub use workload::{ContentSizes, Workload, WorkloadOptions};
