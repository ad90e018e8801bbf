//! Who a server's certificate is accepted from.

use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{
    WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
    verify_tls13_signature_with_raw_key,
};
use rustls::pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use x509_cert::Certificate;
use x509_cert::der::{Decode, Encode};

/// rustls' own verifier always checks both the chain and the name; libpq's weaker modes don't.
#[derive(Debug)]
pub(super) struct Verifier {
    algorithms: WebPkiSupportedAlgorithms,
    /// `None`: anybody is accepted.
    trust: Option<Trust>,
}

#[derive(Debug)]
struct Trust {
    store: RootCertStore,
    certs: Vec<CertificateDer<'static>>,
    check_name: bool,
}

impl Verifier {
    /// Encrypts against eavesdroppers only; anyone in between can pretend to be the server.
    pub(crate) fn trusting_anybody(algorithms: WebPkiSupportedAlgorithms) -> Self {
        Self {
            algorithms,
            trust: None,
        }
    }

    /// Accepts certificates that `store` vouches for or that are among `certs`.
    pub(crate) fn trusting(
        algorithms: WebPkiSupportedAlgorithms,
        store: RootCertStore,
        certs: Vec<CertificateDer<'static>>,
        check_name: bool,
    ) -> Self {
        Self {
            algorithms,
            trust: Some(Trust {
                store,
                certs,
                check_name,
            }),
        }
    }
}

impl Trust {
    fn verify(
        &self,
        algorithms: &WebPkiSupportedAlgorithms,
        cert: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<(), Error> {
        let parsed = ParsedCertificate::try_from(cert)?;
        if self.certs.iter().any(|trusted| trusted.as_ref() == cert.as_ref()) {
            // A self-signed server whose own certificate is the root file: OpenSSL accepts it,
            // webpki would call it an authority that is used as a server.
            verify_dates(cert, now)?;
        } else {
            verify_server_cert_signed_by_trust_anchor(
                &parsed,
                &self.store,
                intermediates,
                now,
                algorithms.all,
            )?;
        }
        if self.check_name {
            verify_server_name(&parsed, name)
        } else {
            Ok(())
        }
    }
}

fn parse(cert: &CertificateDer<'_>) -> Result<Certificate, Error> {
    Certificate::from_der(cert).map_err(|_| CertificateError::BadEncoding.into())
}

fn verify_dates(cert: &CertificateDer<'_>, now: UnixTime) -> Result<(), Error> {
    let validity = parse(cert)?.tbs_certificate.validity;
    let now = Duration::from_secs(now.as_secs());
    if now < validity.not_before.to_unix_duration() {
        Err(CertificateError::NotValidYet.into())
    } else if now > validity.not_after.to_unix_duration() {
        Err(CertificateError::Expired.into())
    } else {
        Ok(())
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if let Some(trust) = &self.trust {
            trust.verify(&self.algorithms, end_entity, intermediates, server_name, now)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    // Also without trust the server must prove that it holds the certificate's key: SCRAM's channel
    // binding hashes the certificate, and would bind to nothing if it could be shown by someone
    // without the key.
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let verified = verify_tls13_signature(message, cert, dss, &self.algorithms);
        match (verified, &self.trust) {
            // webpki can't read X.509 version 1, which `openssl x509 -req` makes and PostgreSQL's
            // manual used to show. The key is enough here.
            (
                Err(Error::InvalidCertificate(CertificateError::Other(_) | CertificateError::BadEncoding)),
                None,
            ) => {
                let key = parse(cert)?.tbs_certificate.subject_public_key_info.to_der();
                let key = key.map_err(|_| Error::from(CertificateError::BadEncoding))?;
                verify_tls13_signature_with_raw_key(
                    message,
                    &SubjectPublicKeyInfoDer::from(key),
                    dss,
                    &self.algorithms,
                )
            }
            (verified, _) => verified,
        }
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
