//! The integration tests: one binary, one file a topic. Each test has a database of its own, in a cluster
//! that the whole run shares, and speaks to a real server over a socket.

// Pedantry that makes tests longer, and no better: helpers that answer what a field takes, a table's rows,
// a story told in one go, and time spans known to be positive.
#![allow(clippy::unnecessary_wraps, clippy::match_same_arms, clippy::too_many_lines)]
#![allow(clippy::unchecked_time_subtraction, clippy::large_stack_arrays)]

mod access;
mod adopt;
mod analytics;
mod append;
mod append_faults;
mod append_limits;
mod append_races;
mod append_stream;
mod append_units;
mod bench;
mod bench_compare;
mod bench_growth;
mod bench_verify;
mod black_hole;
mod cascades;
mod change_messages;
mod citations;
mod claims;
mod cli;
mod cli_mistakes;
mod connections;
mod documents;
mod embedded;
mod erasure;
mod export;
mod fairness;
mod filters;
mod group_commit;
mod harness;
mod health;
mod import;
mod intake;
mod isolation;
mod json_fields;
mod killed;
mod last_active;
mod list_messages;
mod load;
mod logs;
mod memory;
mod metrics;
mod migrate;
mod migrations;
mod odd_data;
mod outage;
mod paging;
mod passwords;
mod pgbouncer;
mod profiles;
mod rates;
mod read_messages;
mod refusals;
mod reports;
mod row_security;
mod same_id;
mod scopes;
mod search;
mod search_tenant;
mod server;
mod server_tls;
mod sessions;
mod silent_watch;
mod sql_by_hand;
mod sql_queries;
mod statements;
mod tls;
mod user_fields;
mod users;
mod watch;
mod watch_servers;
