//! The process that keeps the shared cluster running. It is this test program, started once more to run
//! the one ignored "test" in this file.

use std::{
    env, fs, thread,
    time::{Duration, Instant},
};

use chatledger_embedded::{Cluster, ClusterOptions};

use super::cluster::ClusterDir;

/// The name of the test below.
pub const TEST: &str = "harness::keeper::keep";
/// Names the cluster's directory; without it the "test" does nothing.
pub const VARIABLE: &str = "CHATLEDGER_TEST_KEEPER";

/// Longer than a runner's pause between two tests.
const IDLE: Duration = Duration::from_secs(10);

#[test]
#[ignore = "is started by the other tests"]
fn keep() {
    let Ok(dir) = env::var(VARIABLE) else { return };
    let place = ClusterDir { dir: dir.into() };
    let alone = place.keeper();
    if alone.try_lock().is_err() {
        return;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async move {
        drop(fs::remove_dir_all(place.data_dir()));
        // Nothing here outlives the run, so nothing needs to reach the disk.
        let settings = [
            ("fsync", "off"),
            ("synchronous_commit", "off"),
            ("full_page_writes", "off"),
            ("max_connections", "300"),
        ];
        let options = ClusterOptions {
            data_dir: place.data_dir(),
            pg_bin: env::var_os("CHATLEDGER_PG_BIN").map(Into::into),
            settings: settings
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
        };
        let cluster = Cluster::start(&options).await.expect("a cluster");
        // Tests make roles, and look at what only a superuser sees.
        fs::write(place.url_file(), format!("{}\n", cluster.superuser_url())).expect("the URL file");
        // Held from now on: whoever comes next waits until all is cleared away.
        let users = tokio::task::block_in_place(|| wait_until_unused(&place));
        fs::remove_file(place.url_file()).expect("the URL file");
        cluster.stop().await.expect("a stop");
        drop(fs::remove_dir_all(place.data_dir()));
        // In this order: who gets the users' lock must not find a keeper that is about to end.
        drop(alone);
        drop(users);
    });
}

/// Answers the users' lock, once nobody has held it for a while.
fn wait_until_unused(place: &ClusterDir) -> fs::File {
    let users = place.users();
    let mut last_used = Instant::now();
    loop {
        thread::sleep(Duration::from_millis(200));
        if users.try_lock().is_err() {
            last_used = Instant::now();
        } else if last_used.elapsed() > IDLE {
            return users;
        } else {
            users.unlock().expect("the users' lock");
        }
    }
}
