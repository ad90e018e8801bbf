//! The contract of chatledger, `proto/` at the top of the repository, compiled once for all who speak it: the service, the
//! load tester, and tests. `proto/` is where every element is described; what is here is generated.
//!
//! ```no_run
//! # async fn f() -> Result<(), Box<dyn std::error::Error>> {
//! use chatledger_protocol::{CreateSessionRequest, session_service_client::SessionServiceClient};
//!
//! let mut sessions = SessionServiceClient::connect("http://127.0.0.1:50051").await?;
//! let created = sessions.create_session(CreateSessionRequest::default()).await?;
//! # Ok(()) }
//! ```

mod codec;

#[allow(clippy::all, clippy::pedantic, missing_docs)]
mod generated {
    tonic::include_proto!("chatledger.v1");
}

pub use generated::*;

/// The descriptors of the contract, for reflection and for whoever walks messages by them.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
