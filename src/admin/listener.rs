//! The connections of the admin port, which must never take what the gRPC port needs: they are few, short, and answer one
//! question each.

use std::{collections::VecDeque, time::Duration};

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use tokio::{
    net::{TcpListener, TcpStream},
    task::AbortHandle,
    time,
};

/// The most connections at a time: some scrapers, probes and people. Whoever comes then takes the place of the oldest, so that a
/// probe is answered whatever the others do.
const MOST: usize = 64;
/// How long one may take, from its first byte to its last: a scrape takes milliseconds, and its scraper gives up after as long.
const LONGEST: Duration = Duration::from_secs(10);
/// How long nothing is accepted where nothing can be, as when there is no file descriptor left.
const PAUSE: Duration = Duration::from_millis(100);

/// Answers by these routes, for ever.
pub(super) async fn serve(listener: TcpListener, routes: Router) {
    let mut open: VecDeque<AbortHandle> = VecDeque::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            time::sleep(PAUSE).await;
            continue;
        };
        open.retain(|connection| !connection.is_finished());
        if open.len() >= MOST
            && let Some(oldest) = open.pop_front()
        {
            oldest.abort();
        }
        open.push_back(tokio::spawn(answer(stream, routes.clone())).abort_handle());
    }
}

async fn answer(stream: TcpStream, routes: Router) {
    let connection = http1::Builder::new()
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(routes));
    // Whatever goes wrong, nobody is there to be told.
    let _ = time::timeout(LONGEST, connection).await;
}
