//! The integration tests: one binary, one file a topic. Each test has a database of its own, in a cluster
//! that the whole run shares, and speaks to a real server over a socket.

mod embedded;
mod harness;
mod smoke;
mod statements;
mod tls;
