//! An issuer's keys by its URL: asked for when they are needed, not too often, and kept while the issuer is away.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use chatledger::{
    auth::token::{RemoteKeys, TokenRules, TokenVerifier, keys::KeySource},
    domain::Error,
};
use jiff::Timestamp;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use rcgen::KeyPair;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    task::JoinHandle,
};

use crate::harness::*;

/// A key of the issuer's.
struct IssuerKey {
    name: &'static str,
    key: EncodingKey,
    public: Value,
}

impl IssuerKey {
    fn new(name: &'static str) -> Self {
        let pair = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).expect("a pair");
        let (x, y) = pair.public_key_raw()[1..].split_at(32);
        let part = |bytes| URL_SAFE_NO_PAD.encode(bytes);
        IssuerKey {
            name,
            public: json!({"kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": name, "x": part(x), "y": part(y)}),
            key: EncodingKey::from_ec_der(pair.serialized_der()),
        }
    }

    fn token(&self) -> String {
        let header = Header {
            kid: Some(self.name.to_owned()),
            ..Header::new(Algorithm::ES256)
        };
        let claims = json!({"sub": "ada", "exp": Timestamp::now().as_second() + 600, "jti": id()});
        encode(&header, &claims, &self.key).expect("a token")
    }
}

/// An issuer's web server.
struct TestIssuer {
    address: SocketAddr,
    asked: Arc<AtomicUsize>,
    set: Arc<Mutex<Vec<Value>>>,
    task: JoinHandle<()>,
}

impl TestIssuer {
    async fn at(address: &str, keys: &[&IssuerKey]) -> Self {
        let listener = TcpListener::bind(address).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let asked = Arc::new(AtomicUsize::new(0));
        let set = Arc::new(Mutex::new(keys.iter().map(|key| key.public.clone()).collect()));
        let (counts, answers) = (Arc::clone(&asked), Arc::clone(&set));
        let task = tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.expect("a connection");
                // One question a connection, which is closed.
                let mut request = [0; 1024];
                let _ = stream.read(&mut request).await;
                counts.fetch_add(1, Ordering::Relaxed);
                let body = json!({"keys": *answers.lock().expect("no panic")}).to_string();
                let head = format!(
                    "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                    body.len()
                );
                let _ = stream.write_all(format!("{head}{body}").as_bytes()).await;
            }
        });
        TestIssuer {
            address,
            asked,
            set,
            task,
        }
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }

    async fn stop(self) {
        self.task.abort();
        let _ = self.task.await;
    }

    fn verifier(address: SocketAddr) -> TokenVerifier {
        let keys = RemoteKeys::new(&format!("http://{address}/jwks.json")).expect("a URL");
        let rules = TokenRules {
            leeway: Duration::from_secs(30),
            ..TokenRules::default()
        };
        TokenVerifier::new(KeySource::Remote(keys), rules)
    }
}

async fn is_taken(verifier: &TokenVerifier, token: &str) -> bool {
    verifier.verify(token, Timestamp::now()).await.is_ok()
}

#[tokio::test]
async fn new_keys_are_asked_for_and_names_that_nobody_knows_are_not_the_issuers_trouble() {
    let (first, second) = (IssuerKey::new("first"), IssuerKey::new("second"));
    let issuer = TestIssuer::at("127.0.0.1:0", &[&first]).await;
    let verifier = TestIssuer::verifier(issuer.address);
    assert_eq!(issuer.asked(), 0, "an idle server asks nothing");
    let all = (0..50).map(|_| async { is_taken(&verifier, &first.token()).await });
    assert!(
        futures_util::future::join_all(all)
            .await
            .into_iter()
            .all(|taken| taken)
    );
    assert_eq!(issuer.asked(), 1);
    issuer.set.lock().expect("no panic").push(second.public.clone());
    let began = std::time::Instant::now();
    let all = (0..50).map(|_| async { is_taken(&verifier, &second.token()).await });
    futures_util::future::join_all(all).await;
    assert!(issuer.asked() <= 2);
    // Once the pause is over, it is asked again, and knows it.
    eventually("the second key", || async {
        is_taken(&verifier, &second.token()).await.then_some(())
    })
    .await;
    let most = 2 + usize::try_from(began.elapsed().as_secs() / 10).expect("seconds");
    assert!(
        issuer.asked() <= most,
        "{} in {:?}",
        issuer.asked(),
        began.elapsed()
    );
    assert!(is_taken(&verifier, &first.token()).await);
}

#[tokio::test]
async fn the_last_good_keys_survive_an_outage() {
    let (first, second) = (IssuerKey::new("first"), IssuerKey::new("second"));
    let issuer = TestIssuer::at("127.0.0.1:0", &[&first]).await;
    let verifier = TestIssuer::verifier(issuer.address);
    assert!(is_taken(&verifier, &first.token()).await);
    issuer.stop().await;
    assert!(!is_taken(&verifier, &second.token()).await);
    assert!(is_taken(&verifier, &first.token()).await);
}

#[tokio::test]
async fn without_keys_it_is_not_the_token_s_fault() {
    let first = IssuerKey::new("first");
    let issuer = TestIssuer::at("127.0.0.1:0", &[&first]).await;
    let address = issuer.address;
    issuer.stop().await;
    let verifier = TestIssuer::verifier(address);
    let refused = verifier.verify(&first.token(), Timestamp::now()).await;
    assert!(matches!(refused, Err(Error::KeysUnavailable)), "{refused:?}");
    let issuer = TestIssuer::at(&address.to_string(), &[&first]).await;
    eventually("the keys", || async {
        is_taken(&verifier, &first.token()).await.then_some(())
    })
    .await;
    issuer.stop().await;
}

#[test]
fn keys_are_not_asked_for_in_the_clear() {
    for (url, expected) in [
        ("http://issuer.example/jwks.json", "must be https"),
        ("ftp://issuer.example/jwks.json", "must begin with https://"),
        ("https://", ""),
        ("nothing", ""),
    ] {
        let error = RemoteKeys::new(url).expect_err("no URL for this");
        assert!(format!("{error:#}").contains(expected), "{error:#}");
    }
    assert!(RemoteKeys::new("https://issuer.example/jwks.json").is_ok());
}
