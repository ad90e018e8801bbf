//! Clients that speak TLS: tonic's, and one by hand that shows what was negotiated.

use std::{io, net::SocketAddr, sync::Arc};

use bytes::Bytes;
use prost::Message;
use rustls::{
    ClientConfig, HandshakeKind, ProtocolVersion, RootCertStore, SupportedProtocolVersion,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
    version::{TLS12, TLS13},
};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::TlsConnector;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic_health::pb::HealthCheckRequest;

use super::pki::{Authority, Issued};
use crate::harness::{PATIENCE, TestServer, raw};

/// A channel that trusts an authority, and shows a certificate if it has one.
pub fn channel(server: &TestServer, authority: &Authority, identity: Option<&Issued>) -> Channel {
    let mut tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(&authority.pem));
    if let Some(identity) = identity {
        tls = tls.identity(Identity::from_pem(&identity.cert_pem, &identity.key_pem));
    }
    Endpoint::from_shared(format!("https://{}", server.address))
        .expect("an endpoint")
        .tls_config(tls)
        .expect("TLS")
        .connect_lazy()
}

/// A client by hand.
pub struct HandClient {
    pub config: ClientConfig,
}

/// What came of a connection by hand.
#[derive(Debug)]
pub struct Shaken {
    pub version: ProtocolVersion,
    pub kind: HandshakeKind,
    /// The server's certificate.
    pub certificate: Vec<u8>,
}

pub const BOTH: &[&SupportedProtocolVersion] = &[&TLS13, &TLS12];

impl HandClient {
    pub fn new(
        authority: &Authority,
        versions: &[&'static SupportedProtocolVersion],
        identity: Option<&Issued>,
    ) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(authority.der.clone().into()).expect("an authority");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .expect("versions")
            .with_root_certificates(roots);
        let mut config = match identity {
            Some(issued) => {
                let chain = vec![CertificateDer::from(issued.der.clone())];
                let key = PrivateKeyDer::from_pem_slice(issued.key_pem.as_bytes()).expect("a key");
                builder.with_client_auth_cert(chain, key).expect("an identity")
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        HandClient { config }
    }

    /// Connects, and asks for the server's health: over TLS 1.3, only an answer tells a client that it is let in.
    pub async fn call(&self, address: SocketAddr) -> io::Result<Shaken> {
        timeout(PATIENCE, self.call_in_time(address))
            .await
            .expect("an end")
    }

    async fn call_in_time(&self, address: SocketAddr) -> io::Result<Shaken> {
        let tcp = TcpStream::connect(address).await?;
        let name = ServerName::try_from("localhost").expect("a name");
        let connector = TlsConnector::from(Arc::new(self.config.clone()));
        let stream = connector.connect(name, tcp).await?;
        let session = stream.get_ref().1;
        assert_eq!(session.alpn_protocol(), Some(b"h2".as_slice()));
        let shaken = Shaken {
            version: session.protocol_version().expect("a version"),
            kind: session.handshake_kind().expect("a handshake"),
            certificate: session.peer_certificates().expect("certificates")[0].to_vec(),
        };
        let (client, connection) = h2::client::handshake(stream).await.map_err(io::Error::other)?;
        let connection = tokio::spawn(connection);
        let answered = async {
            let request = http::Request::post(format!("https://{address}/grpc.health.v1.Health/Check"))
                .header("content-type", "application/grpc")
                .header("te", "trailers");
            let mut client = client.ready().await?;
            let (response, mut body) = client.send_request(request.body(()).expect("a request"), false)?;
            let message = raw::frame(&HealthCheckRequest::default().encode_to_vec());
            body.send_data(Bytes::from(message), true)?;
            let mut body = response.await?.into_body();
            while body.data().await.transpose()?.is_some() {}
            body.trailers().await
        };
        let answered: Result<_, h2::Error> = answered.await;
        connection.abort();
        let trailers = answered.map_err(io::Error::other)?.expect("trailers");
        assert_eq!(trailers["grpc-status"], "0");
        Ok(shaken)
    }
}
