//! chatledger: a ledger of chats. A stateless gRPC server in front of PostgreSQL.
//!
//! # How a request flows
//!
//! A request walks straight down through these modules, and its answer straight up:
//!
//! 1. [`server`]: the listener and the layers around every RPC: admission, the deadline, and details on
//!    every error. Also health, reflection and shutdown.
//! 2. [`api`]: one file a gRPC service. A handler decodes the request ([`api`]'s `convert` collects all
//!    that is wrong with it), calls one function, and encodes the answer. Errors become statuses in
//!    [`api::status`], and only there.
//! 3. [`domain`]: plain types, which values are allowed, and the one error enum. No prost, no SQL, no tonic.
//! 4. [`store`]: one file a resource, with the functions that run its [`statements`]; or
//!    [`ledger`]: the append path, which gives messages their place in a session; or
//!    [`watch`]: tells of messages as soon as they are committed.
//! 5. [`chatledger_postgres`]: the pool and its connections, URLs and TLS; a crate of its own, that knows nothing of
//!    chats.
//!
//! [`reports`] counts behind the commits, so that reports needn't. [`supervise`] keeps tasks running that must not end.
//! [`watched`] reads files of settings again when they change.
//! [`fair`] is how clients share what there is only so much of: permits, room, memory; [`memory`] is the budget of the
//! last of these. [`rates`] is what each caller and tenant may do, by the operator's file. [`deadline`] says how much of a request's time is kept back for its answer.
//!
//! Beside that walk: [`config`] has the flags, [`migrations`] the schema, [`auth`] says who calls, what that caller may do, and
//! checks passwords, and [`audit`] keeps what was done; [`telemetry`] has the spans, and sends them and the log. The commands, moving data in and out, and the load tester are crates over this one: see
//! `ARCHITECTURE.md`.
//!
//! For those who operate it: [`metrics`] counts what happens where it happens, and [`admin`] is the port that tells it.
//!
//! # The rules of the house
//!
//! - SQL lives in `store/sql/`, `ledger/sql/` and `migrations/`, and in the crates of migrations, of moving in and out and of
//!   the doctor; parameters are always bound. One function binds the [`Caller`](auth::Caller) of every statement.
//! - prost's types stay in `api/`, tonic's in `api/` and `server/`, and where telemetry is sent, in `telemetry/`.
//! - There is one error enum, [`domain::Error`], mapped to a status in one function. A constraint is mapped
//!   to a domain error by its name, in `store/error.rs`.
//! - No trait with a single implementation; no file above 500 lines; every constant says why it has its
//!   value.
//! - An append is acknowledged only after COMMIT, and nothing that was acknowledged is lost, doubled or out
//!   of order.
//! - No panic is reachable from a request. Secrets are neither logged nor shown.

pub mod admin;
pub mod api;
pub mod audit;
pub mod auth;
pub mod config;
pub mod deadline;
pub mod domain;
pub mod fair;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
pub mod ledger;
pub mod memory;
pub mod metrics;
pub mod migrations;
pub mod rates;
pub mod reports;
pub mod server;
pub mod statements;
pub mod store;
pub mod supervise;
pub mod telemetry;
pub mod watch;
pub mod watched;
