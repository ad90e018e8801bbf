//! The keys of an issuer, by its URL. They are asked for when calls come, and never by an idle server: in the background when
//! they are old, and at once, though not often, when a token names one that isn't among them. The last good ones stay while the
//! issuer is away.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use http::{Request, Uri, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use tokio::{
    sync::Mutex as AsyncMutex,
    time::{self, Instant},
};

use super::keys::TokenKeys;
use crate::domain::{Error, Result};

/// How old the keys become before they are asked for again: issuers announce new ones hours before they use them.
const OLD: Duration = Duration::from_mins(5);
/// The least time between two questions: tokens with names that nobody knows must not become the issuer's trouble.
const PAUSE: Duration = Duration::from_secs(10);
/// How long an answer may take: a call waits for it.
const ANSWER_TIME: Duration = Duration::from_secs(5);
/// The most bytes of a set: one key has one or two thousand.
const MOST_BYTES: usize = 1 << 20;

/// The keys of an issuer. A clone is the same.
#[derive(Clone)]
pub struct RemoteKeys(Arc<RemoteState>);

struct RemoteState {
    uri: Uri,
    client: Client<HttpsConnector<HttpConnector>, Empty<Bytes>>,
    known: Mutex<KnownKeys>,
    /// Whoever asks the issuer holds it: one question serves all who wait.
    asking: AsyncMutex<()>,
}

#[derive(Default)]
struct KnownKeys {
    keys: Option<Arc<TokenKeys>>,
    /// When the issuer was last asked, whatever came of it.
    asked_at: Option<Instant>,
    /// When it last answered.
    loaded_at: Option<Instant>,
}

impl fmt::Debug for RemoteKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RemoteKeys").field(&self.0.uri).finish()
    }
}

impl RemoteKeys {
    /// The keys at an https URL; or http, on this machine.
    ///
    /// # Errors
    /// A URL that is none, or would ask in the clear; no root certificates.
    pub fn new(url: &str) -> anyhow::Result<Self> {
        let uri: Uri = url.parse().context("is no URL")?;
        let host = uri.host().context("has no host")?;
        let is_here = matches!(host, "localhost" | "127.0.0.1" | "[::1]");
        match uri.scheme_str() {
            Some("https") => {}
            Some("http") if is_here => {}
            Some("http") => bail!("must be https: whoever is between could give us keys of his own"),
            _ => bail!("must begin with https://"),
        }
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let connector = HttpsConnectorBuilder::new()
            .with_provider_and_native_roots(provider)
            .context("the system's root certificates can't be read")?
            .https_or_http()
            .enable_http1()
            .build();
        Ok(RemoteKeys(Arc::new(RemoteState {
            uri,
            client: Client::builder(TokioExecutor::new()).build(connector),
            known: Mutex::default(),
            asking: AsyncMutex::default(),
        })))
    }

    /// The keys; of old ones others are asked for behind the call.
    pub(super) async fn keys(&self) -> Result<Arc<TokenKeys>> {
        let (keys, is_old) = {
            let known = self.known();
            let is_old = known.loaded_at.is_none_or(|at| at.elapsed() > OLD) && known.may_ask();
            (known.keys.clone(), is_old)
        };
        match keys {
            Some(keys) => {
                if is_old {
                    let this = self.clone();
                    tokio::spawn(async move { this.ask_unless(None).await });
                }
                Ok(keys)
            }
            None => {
                self.ask_unless(None).await;
                self.known().keys.clone().ok_or(Error::KeysUnavailable)
            }
        }
    }

    /// The keys, asked for anew unless they were a moment ago.
    pub(super) async fn newer_keys(&self, than: &Arc<TokenKeys>) -> Result<Arc<TokenKeys>> {
        self.ask_unless(Some(than)).await;
        self.known().keys.clone().ok_or(Error::KeysUnavailable)
    }

    /// Asks the issuer, unless it was asked a moment ago, or others have got newer keys than `than` meanwhile.
    async fn ask_unless(&self, than: Option<&Arc<TokenKeys>>) {
        let _asking = self.0.asking.lock().await;
        {
            let mut known = self.known();
            let is_newer = match (than, &known.keys) {
                (Some(than), Some(keys)) => !Arc::ptr_eq(than, keys),
                _ => false,
            };
            if is_newer || !known.may_ask() {
                return;
            }
            known.asked_at = Some(Instant::now());
        }
        match self.ask().await {
            Ok(keys) => {
                let mut known = self.known();
                known.loaded_at = Some(Instant::now());
                known.keys = Some(Arc::new(keys));
            }
            Err(error) => tracing::warn!(
                jwks = %self.0.uri,
                error = format!("{error:#}"),
                "the keys of tokens can't be had; those that are known stay"
            ),
        }
    }

    async fn ask(&self) -> anyhow::Result<TokenKeys> {
        let asked = async {
            let request = Request::get(self.0.uri.clone())
                .header(header::ACCEPT, "application/json")
                .body(Empty::new())?;
            let response = self.0.client.request(request).await?;
            ensure!(response.status().is_success(), "it answers {}", response.status());
            let body = Limited::new(response.into_body(), MOST_BYTES).collect().await;
            let body = body.map_err(|error| anyhow::anyhow!("{error}"))?;
            TokenKeys::of_set(&body.to_bytes())
        };
        time::timeout(ANSWER_TIME, asked)
            .await
            .context("no answer in time")?
    }

    fn known(&self) -> std::sync::MutexGuard<'_, KnownKeys> {
        self.0.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl KnownKeys {
    fn may_ask(&self) -> bool {
        self.asked_at.is_none_or(|at| at.elapsed() >= PAUSE)
    }
}
