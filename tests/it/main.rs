//! The integration tests: one binary, one file a topic. Each test has a database of its own, in a cluster
//! that the whole run shares, and speaks to a real server over a socket.

mod cli;
mod cli_mistakes;
mod embedded;
mod harness;
mod load;
mod migrations;
mod outage;
mod pgbouncer;
mod server;
mod smoke;
mod statements;
mod tls;
