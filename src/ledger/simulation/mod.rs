//! The ledger under seeded schedules: its real lanes, queue, order and aside path over a database in memory that
//! stalls, drops, reorders and is killed ([`database`]), and its decisions beside a model of what they should be
//! ([`model`]).
//!
//! `cargo test` runs some thousand schedules. For a longer run, whose failures name their seeds:
//!
//! ```text
//! CHATLEDGER_SCHEDULES=100000 cargo test --release --lib simulation
//! CHATLEDGER_SEED=4711 cargo test --lib simulation
//! ```

mod clients;
mod database;
mod decisions;
mod model;
mod promises;
mod schedule;
mod state;
mod table;

use std::{env, panic};

/// How many schedules a `cargo test` runs.
const SCHEDULES: u64 = 2_000;

#[test]
fn every_schedule_keeps_the_promises() {
    let number = |name| {
        let text = env::var(name).ok()?;
        Some(
            text.parse::<u64>()
                .unwrap_or_else(|_| panic!("{name} must be a number")),
        )
    };
    let (first, count) = match number("CHATLEDGER_SEED") {
        Some(seed) => (seed, 1),
        None => (0, number("CHATLEDGER_SCHEDULES").unwrap_or(SCHEDULES)),
    };
    for seed in first..first + count {
        if let Err(panic) = panic::catch_unwind(|| schedule::run(seed)) {
            eprintln!("the schedule of CHATLEDGER_SEED={seed} breaks a promise");
            panic::resume_unwind(panic);
        }
    }
}

#[test]
fn a_seed_is_a_schedule() {
    for seed in 0..50 {
        assert_eq!(schedule::run(seed), schedule::run(seed), "seed {seed}");
    }
}
