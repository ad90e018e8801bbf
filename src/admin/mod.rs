//! The admin port: plain HTTP for those who operate the server, apart from the port for clients.
//!
//! - `/livez`: 200 as long as the process answers. What fails here is started again.
//! - `/readyz`: 200 while requests should be sent here, else 503 with the reason in words. It turns before the server stops
//!   taking requests, so that balancers have gone elsewhere by then.
//! - `/metrics`: [`metrics`], as Prometheus' text or as OpenMetrics.
//!
//! It is there while the database is still being opened, and until the last request has been finished.

mod listener;
mod readiness;

use std::sync::{Arc, OnceLock};

use axum::{
    Router,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::IntoResponse,
    routing::get,
};
use tokio::net::TcpListener;

pub use readiness::{NotReady, Readiness};

use crate::metrics::{self, text, view::ServerView};

/// What the admin port tells about.
#[derive(Clone, Debug, Default)]
pub struct AdminState {
    /// Whether requests should be sent here.
    pub readiness: Readiness,
    /// The server, as soon as there is one.
    view: Arc<OnceLock<ServerView>>,
}

impl AdminState {
    /// Tells of this server from now on.
    pub fn show(&self, view: ServerView) {
        // A process has one server.
        let _ = self.view.set(view);
    }

    /// The server, if there is one by now.
    #[must_use]
    pub fn view(&self) -> Option<&ServerView> {
        self.view.get()
    }
}

/// Answers on the admin port, for ever.
pub async fn serve(listener: TcpListener, state: AdminState) {
    let routes = Router::new()
        .route("/livez", get(async || "alive\n"))
        .route("/readyz", get(ready))
        .route("/metrics", get(scraped))
        .with_state(state);
    listener::serve(listener, routes).await;
}

async fn ready(State(state): State<AdminState>) -> impl IntoResponse {
    match state.readiness.reason() {
        None => (StatusCode::OK, "ready\n".to_owned()),
        Some(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {reason}\n")),
    }
}

async fn scraped(State(state): State<AdminState>, headers: HeaderMap) -> impl IntoResponse {
    let families = metrics::gather(state.view());
    let accepted = headers
        .get(header::ACCEPT)
        .and_then(|accept| accept.to_str().ok());
    if accepted.is_some_and(|accept| accept.contains("application/openmetrics-text")) {
        (
            [(header::CONTENT_TYPE, text::OPENMETRICS)],
            text::openmetrics(&families),
        )
    } else {
        (
            [(header::CONTENT_TYPE, text::PROMETHEUS)],
            text::prometheus(&families),
        )
    }
}
