//! The operator's limits on calls, on attempts at passwords, and on what is stored, over the real server.

mod calls;
mod logins;
mod storage;

use chatledger::{
    rates::{RateLimits, RateSettings},
    watched::Watched,
};
use tonic::Status;

use crate::harness::*;

/// The limits of a file's text.
fn limits(text: &str) -> RateLimits {
    RateLimits::new(Watched::fixed(RateSettings::parse(text).expect("settings")))
}

/// A server with these limits, which asks for no credentials.
async fn limited(database: &TestDatabase, text: &str) -> TestServer {
    let rates = limits(text);
    start_with(database, |options| options.rates = rates).await
}

/// The limit by which a call was refused.
#[track_caller]
fn limit_of<T: std::fmt::Debug>(result: Result<T, Status>, reason: &str) -> String {
    let refusal = refusal(result);
    assert_eq!(refusal.code, tonic::Code::ResourceExhausted);
    assert_eq!(refusal.reason, reason);
    assert_eq!(refusal.retry, reason == "RATE_LIMITED");
    refusal.metadata["limit"].clone()
}
