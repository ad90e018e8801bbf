//! The integration tests: one binary, one file a topic. Each test has a database of its own, in a cluster
//! that the whole run shares, and speaks to a real server over a socket.

mod append;
mod append_limits;
mod append_races;
mod append_units;
mod change_messages;
mod citations;
mod cli;
mod cli_mistakes;
mod embedded;
mod harness;
mod list_messages;
mod load;
mod migrations;
mod outage;
mod pgbouncer;
mod same_id;
mod search;
mod server;
mod sql_by_hand;
mod sql_queries;
mod statements;
mod tls;
