//! Certificates of clients: what they say of their owner, and which service that is.
//!
//! A certificate is read here after TLS has verified it. Which service it is for says a file of the server's
//! (`--client-certificates-file`), since authorities give certificates to more than those who may come in.

use std::collections::HashMap;

use jiff::Timestamp;
use serde::Deserialize;
use toml::Spanned;
use x509_cert::{
    Certificate,
    der::Decode,
    ext::pkix::{SubjectAltName, name::GeneralName},
    name::Name,
};

use crate::{
    domain::access::{AccessScope, AccessScopes},
    watched::{line_at, parse_toml},
};

/// The parts of a client's verified certificate that say who it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    /// The subject, as RFC 4514 writes it: `CN=rag-worker,O=Acme`. Empty where it has none.
    pub subject: String,
    /// The subject's alternative names: DNS names in lower case, URIs such as those of SPIFFE, and emails.
    pub sans: Vec<String>,
    /// The last moment of its validity.
    pub not_after: Timestamp,
}

impl ClientCertificate {
    /// Reads a certificate; `None` where it can't be read. Alternative names of other kinds are passed over, and so are
    /// those that don't look like their kind.
    #[must_use]
    pub fn from_der(der: &[u8]) -> Option<Self> {
        let certificate = Certificate::from_der(der).ok()?.tbs_certificate;
        // More than once isn't allowed, and more than one kind of odd.
        let names = match certificate.get::<SubjectAltName>() {
            Ok(Some((_, SubjectAltName(names)))) => names,
            _ => Vec::new(),
        };
        let ends_at = certificate.validity.not_after.to_unix_duration().as_secs();
        Some(ClientCertificate {
            subject: certificate.subject.to_string(),
            sans: names.iter().filter_map(san).collect(),
            // The year 9999 stands for no end, and its last day is beyond what a timestamp can be.
            not_after: i64::try_from(ends_at)
                .ok()
                .and_then(|seconds| Timestamp::from_second(seconds).ok())
                .unwrap_or(Timestamp::MAX),
        })
    }
}

/// An alternative name, where it is of a kind that is matched, and can't be taken for one of another kind.
fn san(name: &GeneralName) -> Option<String> {
    match name {
        GeneralName::DnsName(name) => is_dns(name.as_str()).then(|| name.as_str().to_ascii_lowercase()),
        GeneralName::Rfc822Name(name) => is_email(name.as_str()).then(|| name.as_str().to_owned()),
        GeneralName::UniformResourceIdentifier(name) => {
            is_uri(name.as_str()).then(|| name.as_str().to_owned())
        }
        _ => None,
    }
}

fn is_dns(name: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b".-_*".contains(&byte);
    !name.is_empty() && name.bytes().all(is_part)
}

fn is_email(name: &str) -> bool {
    name.contains('@') && !name.contains([':', '/']) && name.bytes().all(|byte| byte.is_ascii_graphic())
}

fn is_uri(name: &str) -> bool {
    let scheme = name.split_once(':').map_or("", |(scheme, _)| scheme);
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
    !scheme.is_empty() && scheme.bytes().all(is_part) && name.bytes().all(|byte| byte.is_ascii_graphic())
}

/// A service that a certificate stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MappedService {
    /// The service's name, as logs tell it.
    pub name: String,
    /// Its scopes.
    pub scopes: AccessScopes,
    /// Its tenant, where it isn't the default one.
    pub tenant: Option<String>,
}

/// The services by the names in certificates.
#[derive(Clone, Debug, Default)]
pub struct CertificateMap {
    /// The services in the file's order.
    services: Vec<MappedService>,
    by_subject: HashMap<String, usize>,
    by_san: HashMap<String, usize>,
}

/// The file, as TOML has it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MapFile {
    #[serde(default)]
    client_certificates: Vec<Spanned<MapEntry>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MapEntry {
    subject: Option<String>,
    san: Option<String>,
    name: String,
    scopes: Vec<String>,
    tenant: Option<String>,
}

impl CertificateMap {
    /// Reads a file: `[[client_certificates]]` with `subject` or `san`, `name`, `scopes`, and `tenant` where there are
    /// several.
    ///
    /// # Errors
    /// What is wrong, with the number of its line.
    pub fn parse(text: &str) -> Result<Self, String> {
        let file: MapFile = parse_toml(text)?;
        let mut map = CertificateMap::default();
        for entry in file.client_certificates {
            let line = line_at(text, entry.span().start);
            map.add(entry.into_inner())
                .map_err(|reason| format!("line {line}: {reason}"))?;
        }
        Ok(map)
    }

    fn add(&mut self, entry: MapEntry) -> Result<(), String> {
        let number = self.services.len();
        let earlier = match (entry.subject, entry.san) {
            (Some(subject), None) => self.by_subject.insert(normal_subject(&subject)?, number),
            (None, Some(san)) => self.by_san.insert(normal_san(&san)?, number),
            _ => return Err("a client certificate has either a subject or a san".to_owned()),
        };
        if let Some(service) = earlier.and_then(|number| self.services.get(number)) {
            return Err(format!("the certificate is that of {:?} already", service.name));
        }
        if entry.name.is_empty() || entry.tenant.as_deref() == Some("") {
            return Err("name and tenant must not be empty".to_owned());
        }
        let scope = |name: &String| {
            let known = AccessScopes::ALL.names().join(", ");
            let scope = name.parse::<AccessScope>();
            scope.map_err(|_| format!("there is no scope {name:?}; there are {known}"))
        };
        let scopes: AccessScopes = entry.scopes.iter().map(scope).collect::<Result<_, _>>()?;
        if scopes.is_empty() {
            return Err("scopes must name at least one".to_owned());
        }
        self.services.push(MappedService {
            name: entry.name,
            scopes,
            tenant: entry.tenant,
        });
        Ok(())
    }

    /// The service that a certificate stands for: the first in the file that names its subject or one of its alternative
    /// names.
    #[must_use]
    pub fn find(&self, certificate: &ClientCertificate) -> Option<&MappedService> {
        let by_san = certificate.sans.iter().filter_map(|san| self.by_san.get(san));
        let by_subject = self.by_subject.get(&certificate.subject);
        let first = by_san.chain(by_subject).min()?;
        self.services.get(*first)
    }
}

/// A subject as certificates' subjects are written, whatever spaces, escapes and names of attributes it was given with.
fn normal_subject(text: &str) -> Result<String, String> {
    // `openssl x509 -subject` and people put a space behind the comma.
    let mut unspaced = String::with_capacity(text.len());
    let (mut is_escaped, mut is_behind_comma) = (false, false);
    for c in text.trim().chars() {
        if is_behind_comma && c == ' ' {
            continue;
        }
        is_behind_comma = c == ',' && !is_escaped;
        is_escaped = c == '\\' && !is_escaped;
        unspaced.push(c);
    }
    let name: Result<Name, _> = unspaced.parse();
    match name {
        Ok(name) if !unspaced.is_empty() => Ok(name.to_string()),
        _ => Err(format!(
            "subject {text:?} must be like \"CN=rag-worker,O=Acme\" (RFC 4514)"
        )),
    }
}

fn normal_san(text: &str) -> Result<String, String> {
    if is_dns(text) {
        Ok(text.to_ascii_lowercase())
    } else if is_email(text) || is_uri(text) {
        Ok(text.to_owned())
    } else {
        Err(format!("san {text:?} must be a DNS name, a URI or an email"))
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair, SanType, string::Ia5String};

    use super::*;

    fn ia5(text: &str) -> Ia5String {
        Ia5String::try_from(text).expect("IA5")
    }

    fn certificate(change: impl FnOnce(&mut CertificateParams)) -> Vec<u8> {
        let mut params = CertificateParams::default();
        params.distinguished_name.remove(DnType::CommonName);
        change(&mut params);
        let key = KeyPair::generate().expect("a key");
        params.self_signed(&key).expect("a certificate").der().to_vec()
    }

    fn read(change: impl FnOnce(&mut CertificateParams)) -> ClientCertificate {
        ClientCertificate::from_der(&certificate(change)).expect("a certificate")
    }

    #[test]
    fn a_certificate_says_who_it_is() {
        let read = read(|params| {
            let name = &mut params.distinguished_name;
            name.push(DnType::OrganizationName, "Acme, Inc.");
            name.push(DnType::CommonName, "rag-worker");
            params.subject_alt_names = vec![
                SanType::DnsName(ia5("Rag.Acme.Internal")),
                SanType::URI(ia5("spiffe://acme.internal/rag")),
                SanType::Rfc822Name(ia5("rag@acme.example")),
                SanType::IpAddress([127, 0, 0, 1].into()),
            ];
            params.not_after = rcgen::date_time_ymd(2031, 2, 3);
        });
        assert_eq!(read.subject, "CN=rag-worker,O=Acme\\, Inc.");
        let sans = [
            "rag.acme.internal",
            "spiffe://acme.internal/rag",
            "rag@acme.example",
        ];
        assert_eq!(read.sans, sans);
        assert_eq!(read.not_after.to_string(), "2031-02-03T00:00:00Z");
    }

    #[test]
    fn no_name_passes_for_one_of_another_kind() {
        let read = read(|params| {
            params.subject_alt_names = vec![
                SanType::DnsName(ia5("spiffe://acme.internal/rag")),
                SanType::DnsName(ia5("rag@acme.example")),
                SanType::Rfc822Name(ia5("spiffe://acme@internal")),
                SanType::Rfc822Name(ia5("rag.acme.internal")),
                SanType::URI(ia5("rag.acme.internal")),
                SanType::URI(ia5("rag@acme.example")),
            ];
        });
        assert_eq!((read.subject.as_str(), read.sans), ("", Vec::new()));
    }

    #[test]
    fn odd_certificates_are_no_panic() {
        let whole = certificate(|params| {
            let name = &mut params.distinguished_name;
            name.push(
                DnType::CommonName,
                rcgen::DnValue::TeletexString("x".try_into().expect("T.61")),
            );
            name.push(DnType::CustomDnType(vec![1, 2, 3, 4]), "\0 a+b=#c\\");
            params.subject_alt_names = vec![SanType::OtherName((vec![1, 3, 6], "x".to_owned().into()))];
            params.not_after = rcgen::date_time_ymd(9999, 12, 31);
        });
        let read = ClientCertificate::from_der(&whole).expect("a certificate");
        assert!(read.subject.ends_with(",CN=x"), "{}", read.subject);
        assert!(read.not_after >= "9999-12-30T00:00:00Z".parse().expect("a time"));
        for cut in 0..whole.len() {
            assert_eq!(ClientCertificate::from_der(&whole[..cut]), None);
        }
        for index in 0..whole.len() {
            for bit in 0..8 {
                let mut odd = whole.clone();
                odd[index] ^= 1 << bit;
                let _ = ClientCertificate::from_der(&odd);
            }
        }
    }

    const MAP: &str = r#"
[[client_certificates]]
subject = "CN=rag-worker, O=Acme\\, Inc."
name = "rag-worker"
scopes = ["read", "write"]

[[client_certificates]]
san = "spiffe://acme.internal/admin"
name = "admin"
scopes = ["admin"]
tenant = "acme"

[[client_certificates]]
san = "Reports.Acme.Internal"
name = "reports"
scopes = ["read"]
"#;

    fn named(subject: &str, sans: &[&str]) -> ClientCertificate {
        ClientCertificate {
            subject: subject.to_owned(),
            sans: sans.iter().map(|san| (*san).to_owned()).collect(),
            not_after: Timestamp::MAX,
        }
    }

    #[test]
    fn services_are_found_by_subject_and_by_san() {
        let map = CertificateMap::parse(MAP).expect("a map");
        let found = |certificate| map.find(&certificate).map(|service| service.name.as_str());
        assert_eq!(
            found(named("CN=rag-worker,O=Acme\\, Inc.", &[])),
            Some("rag-worker")
        );
        assert_eq!(found(named("CN=rag-worker", &[])), None);
        assert_eq!(
            found(named("", &["x", "spiffe://acme.internal/admin"])),
            Some("admin")
        );
        assert_eq!(found(named("", &["reports.acme.internal"])), Some("reports"));
        assert_eq!(found(named("spiffe://acme.internal/admin", &[])), None);
        // Of several the first in the file, whatever the certificate's order.
        let both = named("", &["reports.acme.internal", "spiffe://acme.internal/admin"]);
        assert_eq!(found(both), Some("admin"));
        let admin = map
            .find(&named("", &["spiffe://acme.internal/admin"]))
            .expect("a service");
        assert_eq!(admin.tenant.as_deref(), Some("acme"));
    }

    #[test]
    fn the_example_of_the_documents_is_read() {
        let document = include_str!("../../docs/security.md");
        let example = document
            .split("```toml\n")
            .find(|block| block.contains("client_certificates"));
        let (example, _) = example.expect("an example").split_once("```").expect("its end");
        let map = CertificateMap::parse(example).expect("a map");
        let reports = map.find(&named("", &["spiffe://acme.internal/reports"]));
        assert_eq!(reports.expect("a service").tenant.as_deref(), Some("acme"));
    }

    #[test]
    fn mistakes_are_told_with_their_line() {
        let rest = "name = \"x\"\nscopes = [\"read\"]";
        for (text, expected) in [
            (
                format!("[[client_certificates]]\n{rest}"),
                "line 1: a client certificate has either",
            ),
            (
                format!("\n[[client_certificates]]\nsan = \"a\"\nsubject = \"CN=a\"\n{rest}"),
                "line 2: a client certificate has either",
            ),
            (
                format!("[[client_certificates]]\nsan = \"a\"\nrole = \"x\"\n{rest}"),
                "line 3: unknown field `role`",
            ),
            (
                format!("[[client_certificate]]\nsan = \"a\"\n{rest}"),
                "line 1: unknown field `client_certificate`",
            ),
            (
                "[[client_certificates]]\nsan = \"a\"\nname = \"x\"\nscopes = [\"root\"]".to_owned(),
                "line 1: there is no scope \"root\"",
            ),
            (
                "[[client_certificates]]\nsan = \"a\"\nname = \"x\"\nscopes = []".to_owned(),
                "line 1: scopes must",
            ),
            (
                "[[client_certificates]]\nsan = \"a\"\nscopes = [\"read\"]".to_owned(),
                "line 1: missing field `name`",
            ),
            (
                format!("[[client_certificates]]\nsubject = \"rag\"\n{rest}"),
                "line 1: subject \"rag\" must",
            ),
            (
                format!("[[client_certificates]]\nsubject = \"\"\n{rest}"),
                "line 1: subject \"\" must",
            ),
            (
                format!("[[client_certificates]]\nsan = \"a b\"\n{rest}"),
                "line 1: san \"a b\" must",
            ),
            (
                format!("{MAP}[[client_certificates]]\nsan = \"reports.acme.internal\"\n{rest}"),
                "line 17: the certificate is that of \"reports\" already",
            ),
        ] {
            let error = CertificateMap::parse(&text).expect_err("a mistake");
            assert!(error.starts_with(expected), "{error}");
        }
    }
}
