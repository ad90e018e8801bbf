//! Migrations beyond refinery: a schema is brought up to date, and back, while servers use it.
//!
//! refinery has the embedded migrations, their checksums and the form of the histories; what it lacks is here. What a
//! program brings along is passed in ([`Program`]): its sets of migrations, a constraint that waits for its rows, and the
//! statements that it runs. Texts for people name the commands and flags as a program is expected to have them, such as
//! `migrate up` and `--set`.
//!
//! # The walk of `up`
//!
//! 1. [`Migrator::new`] knows the sets: the program's embedded ones (`sets`), and a team's own, from a directory (`own`). A
//!    migration's SQL is a `script`, split into statements.
//! 2. [`Migrator::up`] (`change`) opens a run: one connection that migrates, and one that holds the `lock`, so that one at a
//!    time does.
//! 3. The history of each set is read, and compared with the files (`history`). `choose` says which migrations are meant.
//! 4. Each goes through refinery to the `driver`, which runs it in a transaction that waits for locks only briefly, and again
//!    and again; or, where the file is marked so, statement by statement (`unwrapped`). An `observer` sees from a second
//!    connection what is locked and how far an index is; a [`MigrationListener`] is told (`progress`).
//! 5. The late constraint is validated once every row keeps it.
//!
//! # The other modules
//!
//! - `program` is what is passed in; `migrator` the state that all commands share; `client` connects.
//! - `made` tells which tables and indexes the applied migrations have made, without running anything.
//! - `status` tells how far each set is; `plan` prints what `up` would run.
//! - `catalog` reads the tables as they are; `verify` compares them with what the migrations make (`difference`), in a
//!   `scratch` database; `mend` writes the SQL for what is missing.
//! - `dump` makes backups by pg_dump; `rehearse` runs the pending migrations on a copy.
//! - `privileges` takes back what default privileges give away, and tells who else may read what.
//! - `boot` is what a server does; `transaction` is all of it in one transaction, with work of the caller's.
//!
//! # Example
//!
//! ```no_run
//! # async fn f() -> anyhow::Result<()> {
//! use std::time::Duration;
//!
//! use chatledger_migrate::{LockPolicy, Migrator, Program, Settings, SetDescription, SetName, Until};
//! use chatledger_postgres::{connect::Connector, url::DatabaseUrl};
//!
//! const OWN: SetName = SetName::of(&SetDescription::from_directory("own", "songs_migrations"));
//! static PROGRAM: Program = Program {
//!     name: "songs",
//!     sets: &[OWN],
//!     late: None,
//!     secrets: &[],
//!     statements: Vec::new,
//!     table_exists: "it was made by hand",
//!     example_table: "songs",
//! };
//!
//! let settings = Settings {
//!     program: &PROGRAM,
//!     scope: vec![OWN],
//!     only: None,
//!     with: Vec::new(),
//!     migrations_dir: Some("migrations".into()),
//!     patience: Duration::from_secs(15),
//!     locks: LockPolicy::default(),
//!     pooled: false,
//! };
//! let url = DatabaseUrl::parse("postgresql://me@db.example/songs")?;
//! let migrator = Migrator::new(Connector::new(&url)?, settings)?;
//! for change in migrator.up(Until::Head, None, &|event| eprintln!("{event:?}")).await? {
//!     println!("{} took {} ms", change.migration, change.milliseconds);
//! }
//! # Ok(()) }
//! ```
//!
//! # What it promises
//!
//! - One at a time migrates, however many servers boot; the others wait, and find nothing left to do.
//! - No migration keeps others waiting for longer than [`LockPolicy`] says, index builds included.
//! - A migration is applied as a whole and recorded, or neither; without a transaction, running it again goes on.
//! - What was applied and then edited, or comes too late, is refused before anything runs.

mod boot;
mod catalog;
mod change;
mod choose;
mod client;
mod difference;
mod driver;
mod dump;
mod history;
mod lock;
mod made;
mod mend;
mod migrator;
mod observer;
mod own;
mod plan;
mod privileges;
mod program;
mod progress;
mod refinery_driver;
mod rehearse;
mod scratch;
mod script;
mod sets;
mod status;
mod transaction;
mod unwrapped;
mod verify;

pub use boot::{BootMode, BootedSchema, is_usable, prepare};
pub use change::{Backup, Change, StampReport};
pub use choose::Until;
pub use difference::Difference;
pub use driver::LockPolicy;
pub use dump::DumpPrograms;
pub use history::{Drift, Problem};
pub use made::{MadeIndex, MadeObjects};
pub use migrator::{Migrator, Settings};
pub use observer::TableLock;
pub use own::{NewFiles, new_files};
pub use plan::PlannedMigration;
pub use privileges::Exposure;
pub use program::{LateConstraint, Program};
pub use progress::{MigrationEvent, MigrationListener};
pub use rehearse::{Rehearsal, RehearsalCopy};
pub use sets::{SetDescription, SetName};
pub use status::{HistoryEntry, MigrationStatus, SetStatus};
pub use transaction::SchemaTransaction;
pub use verify::SchemaVerification;
