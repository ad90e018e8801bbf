//! What the tests share: a cluster ([`cluster`]), a database for each test ([`database`]), servers over it
//! ([`server`]), and short words for common requests ([`requests`]).

pub mod admin;
pub mod cluster;
pub mod database;
pub mod keeper;
pub mod locks;
pub mod process;
pub mod proxy;
pub mod raw;
pub mod requests;
pub mod server;

use std::{
    future::Future,
    time::{Duration, Instant},
};

pub use chatledger_protocol as pb;
pub use database::TestDatabase;
pub use locks::{SessionLock, waiting};
pub use process::ServerProcess;
pub use proxy::Proxy;
pub use requests::*;
pub use server::{ServerOptions, TestServer, start, start_with};

/// Longer than anything here takes on a slow and busy machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Asks again and again until there is an answer.
pub async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, mut ask: impl FnMut() -> F) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < end, "never happened: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
