//! Where telemetry goes: the `OTEL_EXPORTER_OTLP_*` variables of each signal, and the resource that all signals are about.

use std::{fs, str::FromStr, time::Duration};

use anyhow::{Context as _, bail, ensure};
use http::{HeaderName, HeaderValue, Uri};
use opentelemetry::KeyValue;
use opentelemetry_sdk::{Resource, resource::TelemetryResourceDetector};
use percent_encoding::percent_decode_str;
use tonic::{
    metadata::MetadataMap,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};
use uuid::Uuid;

use super::Variables;

/// The name of the service where nobody gives it one.
const SERVICE_NAME: &str = "chatledger";
/// How long an export may take, by the specification.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How long an export hears nothing until it is asked whether the receiver still is there, and how long that may take: a
/// connection that delivers nothing is replaced. Asking sooner, or between exports, receivers may take for an attack.
const SILENCE: Duration = Duration::from_secs(5);

/// A kind of telemetry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Spans.
    Traces,
    /// Log records.
    Logs,
    /// Metrics.
    Metrics,
}

impl Signal {
    /// The name as variables have it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Signal::Traces => "TRACES",
            Signal::Logs => "LOGS",
            Signal::Metrics => "METRICS",
        }
    }
}

/// Where a signal goes, and how.
#[derive(Clone)]
pub struct OtlpSettings {
    /// The address, such as `http://collector:4317`.
    pub endpoint: String,
    /// The headers to send along. They may be secrets, and are never shown.
    pub headers: MetadataMap,
    /// How long an export may take.
    pub timeout: Duration,
    /// Whether requests are compressed.
    pub gzip: bool,
    tls: Option<ClientTlsConfig>,
}

impl std::fmt::Debug for OtlpSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OtlpSettings")
            .field("endpoint", &self.endpoint)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

impl OtlpSettings {
    /// Where this signal goes; `None`: nowhere, since no endpoint is given, or its exporter is `none`.
    ///
    /// # Errors
    /// A value that is wrong, by the name of its variable.
    pub fn read(variables: &Variables, signal: Signal) -> anyhow::Result<Option<OtlpSettings>> {
        let of = SignalVariables { variables, signal };
        let exporter = format!("OTEL_{}_EXPORTER", signal.name());
        let chosen = variables.text(&exporter)?;
        match chosen.as_deref() {
            Some("none") => return Ok(None),
            None | Some("otlp") => {}
            Some(other) => bail!("{exporter}={other}: must be otlp or none"),
        }
        if let Some((name, protocol)) = of.get("PROTOCOL")?
            && protocol != "grpc"
        {
            bail!("{name}={protocol}: must be grpc, which is the only protocol that is spoken here");
        }
        let Some((name, endpoint)) = of.get("ENDPOINT")? else {
            ensure!(
                chosen.is_none(),
                "{exporter}=otlp: OTEL_EXPORTER_OTLP_ENDPOINT must say where to"
            );
            return Ok(None);
        };
        let endpoint = endpoint_of(&name, &endpoint, of.insecure()?)?;
        let timeout = match of.name("TIMEOUT")? {
            Some(name) => variables.millis(&name)?.unwrap_or(TIMEOUT),
            None => TIMEOUT,
        };
        let gzip = match of.get("COMPRESSION")? {
            None => false,
            Some((_, value)) if value == "gzip" => true,
            Some((_, value)) if value == "none" => false,
            Some((name, value)) => bail!("{name}={value}: must be gzip or none"),
        };
        Ok(Some(OtlpSettings {
            tls: of.tls(&endpoint)?,
            headers: of.headers()?,
            endpoint,
            timeout,
            gzip,
        }))
    }

    /// A channel, which connects when it is used, and again whenever it has to. It belongs to the runtime that this is called
    /// in.
    ///
    /// # Errors
    /// Certificates that can't be used.
    pub fn channel(&self) -> anyhow::Result<Channel> {
        let endpoint = Endpoint::from_shared(self.endpoint.clone())
            .with_context(|| format!("the OTLP endpoint {}", self.endpoint))?;
        let endpoint = match &self.tls {
            Some(tls) => endpoint
                .tls_config(tls.clone())
                .with_context(|| format!("TLS to the OTLP endpoint {}", self.endpoint))?,
            None => endpoint,
        };
        Ok(endpoint
            .timeout(self.timeout)
            .connect_timeout(self.timeout)
            .http2_keep_alive_interval(SILENCE)
            .keep_alive_timeout(SILENCE)
            .connect_lazy())
    }
}

/// The variables of a signal, each of which goes before the one of all signals.
struct SignalVariables<'a> {
    variables: &'a Variables,
    signal: Signal,
}

impl SignalVariables<'_> {
    /// A variable's name and value.
    fn get(&self, what: &str) -> anyhow::Result<Option<(String, String)>> {
        let own = format!("OTEL_EXPORTER_OTLP_{}_{what}", self.signal.name());
        for name in [own, format!("OTEL_EXPORTER_OTLP_{what}")] {
            if let Some(value) = self.variables.text(&name)? {
                return Ok(Some((name, value)));
            }
        }
        Ok(None)
    }

    fn name(&self, what: &str) -> anyhow::Result<Option<String>> {
        Ok(self.get(what)?.map(|(name, _)| name))
    }

    /// Whether an endpoint without a scheme is one without TLS.
    fn insecure(&self) -> anyhow::Result<bool> {
        match self.name("INSECURE")? {
            Some(name) => Ok(self.variables.flag(&name)? == Some(true)),
            None => Ok(false),
        }
    }

    fn headers(&self) -> anyhow::Result<MetadataMap> {
        let mut headers = MetadataMap::new();
        let Some((name, text)) = self.get("HEADERS")? else {
            return Ok(headers);
        };
        for (number, pair) in (1..).zip(text.split(',').filter(|pair| !pair.trim().is_empty())) {
            // Neither the pair nor a part of it is shown: where it is malformed, nobody knows which part is the secret.
            let wrong = || format!("{name}: header {number} must be NAME=VALUE, percent-encoded");
            let (key, value) = pair.split_once('=').with_context(wrong)?;
            let key = HeaderName::from_str(key.trim()).map_err(|_| anyhow::anyhow!(wrong()))?;
            ensure!(is_percent_encoded(value), wrong());
            let value = percent_decode_str(value.trim()).collect::<Vec<u8>>();
            let mut value = HeaderValue::from_bytes(&value).map_err(|_| anyhow::anyhow!(wrong()))?;
            value.set_sensitive(true);
            ensure!(
                !key.as_str().starts_with("grpc-") && !key.as_str().ends_with("-bin"),
                "{name}: header {number}: {key} is gRPC's own, or binary"
            );
            headers.as_mut().append(key, value);
        }
        Ok(headers)
    }

    /// How the connection is encrypted: by the system's authorities, or by the file's.
    fn tls(&self, endpoint: &str) -> anyhow::Result<Option<ClientTlsConfig>> {
        let certificate = self.file("CERTIFICATE")?;
        let identity = match (self.file("CLIENT_CERTIFICATE")?, self.file("CLIENT_KEY")?) {
            (None, None) => None,
            (Some(certificate), Some(key)) => Some(Identity::from_pem(certificate, key)),
            _ => bail!(
                "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE and OTEL_EXPORTER_OTLP_CLIENT_KEY: give both, or neither"
            ),
        };
        if !endpoint.starts_with("https:") {
            return Ok(None);
        }
        let tls = match certificate {
            Some(pem) => ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem)),
            None => ClientTlsConfig::new().with_enabled_roots(),
        };
        Ok(Some(match identity {
            Some(identity) => tls.identity(identity),
            None => tls,
        }))
    }

    fn file(&self, what: &str) -> anyhow::Result<Option<Vec<u8>>> {
        let Some((name, path)) = self.get(what)? else {
            return Ok(None);
        };
        let bytes = fs::read(&path).with_context(|| format!("{name}={path}"))?;
        Ok(Some(bytes))
    }
}

/// Whether each percent sign has two hexadecimal digits behind it: what is decoded otherwise isn't what was meant.
fn is_percent_encoded(text: &str) -> bool {
    let is_code = |code: &str| code.len() >= 2 && code.bytes().take(2).all(|byte| byte.is_ascii_hexdigit());
    text.split('%').skip(1).all(is_code)
}

/// An endpoint with its scheme. Credentials in it would be shown by errors: they belong into the headers.
fn endpoint_of(name: &str, text: &str, is_insecure: bool) -> anyhow::Result<String> {
    ensure!(
        !text.contains('@'),
        "{name}: credentials belong into OTEL_EXPORTER_OTLP_HEADERS"
    );
    let endpoint = match (text.contains("://"), is_insecure) {
        (true, _) => text.to_owned(),
        (false, true) => format!("http://{text}"),
        (false, false) => format!("https://{text}"),
    };
    let uri = Uri::from_str(&endpoint).ok();
    let is_good = uri.is_some_and(|uri| {
        matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some_and(|host| !host.is_empty())
    });
    ensure!(
        is_good,
        "{name}={text}: must be a URL such as http://127.0.0.1:4317"
    );
    Ok(endpoint)
}

/// What all telemetry of this process is about: `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES`, before what is known here.
///
/// # Errors
/// A value that is wrong, by the name of its variable.
pub fn resource(variables: &Variables) -> anyhow::Result<Resource> {
    const ATTRIBUTES: &str = "OTEL_RESOURCE_ATTRIBUTES";
    let mut attributes = vec![
        KeyValue::new("service.name", SERVICE_NAME),
        KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
        KeyValue::new("service.instance.id", Uuid::now_v7().to_string()),
    ];
    let given = variables.text(ATTRIBUTES)?.unwrap_or_default();
    for pair in given.split(',').filter(|pair| !pair.trim().is_empty()) {
        let wrong = || format!("{ATTRIBUTES}: {pair}: must be KEY=VALUE, percent-encoded");
        let (key, value) = pair.split_once('=').with_context(wrong)?;
        ensure!(is_percent_encoded(value), wrong());
        let value = percent_decode_str(value.trim())
            .decode_utf8()
            .with_context(wrong)?;
        ensure!(!key.trim().is_empty(), wrong());
        attributes.push(KeyValue::new(key.trim().to_owned(), value.into_owned()));
    }
    if let Some(name) = variables.text("OTEL_SERVICE_NAME")? {
        attributes.push(KeyValue::new("service.name", name));
    }
    // The last one of a name counts.
    Ok(Resource::builder_empty()
        .with_detector(Box::new(TelemetryResourceDetector))
        .with_attributes(attributes)
        .build())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<Option<OtlpSettings>, String> {
        OtlpSettings::read(&Variables::of(pairs), Signal::Traces).map_err(|error| format!("{error:#}"))
    }

    const ENDPOINT: (&str, &str) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4317");

    #[test]
    fn nothing_is_sent_unless_an_endpoint_is_given() {
        assert!(read(&[]).expect("no error").is_none());
        assert!(
            read(&[("OTEL_EXPORTER_OTLP_ENDPOINT", " ")])
                .expect("no error")
                .is_none()
        );
        let none = read(&[ENDPOINT, ("OTEL_TRACES_EXPORTER", "none")]);
        assert!(none.expect("no error").is_none());
        let settings = read(&[ENDPOINT]).expect("no error").expect("settings");
        assert_eq!(settings.endpoint, "http://collector:4317");
        assert_eq!((settings.timeout, settings.gzip), (TIMEOUT, false));
    }

    #[test]
    fn a_signal_s_own_variable_goes_before() {
        let settings = read(&[
            ENDPOINT,
            ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "collector:1"),
            ("OTEL_EXPORTER_OTLP_TRACES_INSECURE", "TRUE"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "1500"),
            ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "api-key=a%20b, x=1"),
            ("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", "ftp://nobody"),
        ]);
        let settings = settings.expect("no error").expect("settings");
        assert_eq!(settings.endpoint, "http://collector:1");
        assert_eq!(
            (settings.timeout, settings.gzip),
            (Duration::from_millis(1500), true)
        );
        let value = settings.headers.get("api-key").expect("a header");
        assert_eq!(value.as_encoded_bytes(), b"a b");
        assert!(
            !format!("{settings:?} {:?}", settings.headers).contains("a b"),
            "the secret is shown"
        );
    }

    #[test]
    fn what_is_wrong_is_named_and_no_secret_shown() {
        for (name, value) in [
            ("OTEL_TRACES_EXPORTER", "console"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
            ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/json"),
            ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "ftp://collector"),
            ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://"),
            ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://u:hunter2@collector"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "soon"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "0"),
            ("OTEL_EXPORTER_OTLP_COMPRESSION", "zstd"),
            ("OTEL_EXPORTER_OTLP_INSECURE", "1"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "hunter2"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "a b=hunter2"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "a=hunter2%0A"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "a=hunter2%zz"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "grpc-timeout=hunter2"),
            ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/nowhere/ca.pem"),
            ("OTEL_EXPORTER_OTLP_CLIENT_KEY", "/nowhere/key.pem"),
        ] {
            let error = read(&[ENDPOINT, (name, value)]).expect_err(value);
            assert!(error.starts_with(name), "{error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
        let error = read(&[("OTEL_TRACES_EXPORTER", "otlp")]).expect_err("nowhere to send it");
        assert!(error.contains("OTEL_EXPORTER_OTLP_ENDPOINT"), "{error}");
    }

    #[test]
    fn the_resource_says_what_it_is_and_what_it_was_told() {
        let of = |pairs: &[(&str, &str)]| {
            let resource = resource(&Variables::of(pairs)).expect("a resource");
            move |key: &'static str| resource.get(&key.into()).map(|value| value.to_string())
        };
        let plain = of(&[]);
        assert_eq!(plain("service.name").as_deref(), Some("chatledger"));
        assert_eq!(
            plain("service.version").as_deref(),
            Some(env!("CARGO_PKG_VERSION"))
        );
        assert!(plain("service.instance.id").is_some_and(|id| id.parse::<Uuid>().is_ok()));
        assert_eq!(plain("telemetry.sdk.language").as_deref(), Some("rust"));
        let given = of(&[
            (
                "OTEL_RESOURCE_ATTRIBUTES",
                "service.name=other,service.instance.id=a, zone=a%2Cb",
            ),
            ("OTEL_SERVICE_NAME", "ledger"),
        ]);
        assert_eq!(given("service.name").as_deref(), Some("ledger"));
        assert_eq!(given("service.instance.id").as_deref(), Some("a"));
        assert_eq!(given("zone").as_deref(), Some("a,b"));
        let error = resource(&Variables::of(&[("OTEL_RESOURCE_ATTRIBUTES", "zone")]));
        let error = error.expect_err("no value").to_string();
        assert!(error.contains("OTEL_RESOURCE_ATTRIBUTES"), "{error}");
    }
}
