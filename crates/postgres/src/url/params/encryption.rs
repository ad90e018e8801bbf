//! TLS, and what else decides how safe a connection is.

use std::path::PathBuf;

use tokio_postgres::Config;
use tokio_postgres::config::{ChannelBinding, SslMode, SslNegotiation};

use super::{UrlError, UrlParams, number, take, word, wrong};
use crate::tls::{ClientCert, ProtocolVersions, RootCerts, TlsMode, TlsOptions};

const MODES: [(&str, TlsMode); 7] = [
    ("disable", TlsMode::Disable),
    ("allow", TlsMode::Allow),
    ("prefer", TlsMode::Prefer),
    ("require", TlsMode::Require),
    ("verify-ca", TlsMode::VerifyCa),
    ("verify-full", TlsMode::VerifyFull),
    // node-postgres' word; that it turns verification off is done below.
    ("no-verify", TlsMode::Require),
];

pub(super) fn read(params: &mut UrlParams) -> Result<TlsOptions, UrlError> {
    let no_verify = params.get("sslmode").is_some_and(|mode| mode == b"no-verify");
    let modes = "must be disable, allow, prefer, require, verify-ca or verify-full";
    let mode = word(params, "sslmode", &MODES, modes)?;
    // asyncpg takes the same words in `ssl`, JDBC and node-postgres true or false. `sslmode` wins,
    // whichever comes later.
    let switches = [
        ("true", TlsMode::Require),
        ("1", TlsMode::Require),
        ("false", TlsMode::Disable),
        ("0", TlsMode::Disable),
    ];
    let ssl = word(params, "ssl", &[&MODES[..], &switches].concat(), modes)?;
    let strict = [("strict", true), ("accept_invalid_certs", false)];
    let strict = word(
        params,
        "sslaccept",
        &strict,
        "must be strict or accept_invalid_certs",
    )?
    .unwrap_or(false);

    let root = match take(params, "sslrootcert")?.as_deref() {
        _ if no_verify => RootCerts::None,
        None => RootCerts::Default,
        Some("system") => RootCerts::System,
        Some(path) => RootCerts::File(path.into()),
    };
    // libpq: public authorities certify anybody, so that without the host's name their word is
    // worth nothing.
    let default = if root == RootCerts::System {
        TlsMode::VerifyFull
    } else {
        TlsMode::Prefer
    };
    let mode = match mode.or(ssl).unwrap_or(default) {
        TlsMode::Disable => TlsMode::Disable,
        // Prisma's "strict" verifies both, and its modes end at require.
        _ if strict => TlsMode::VerifyFull,
        mode if root == RootCerts::System && mode != TlsMode::VerifyFull => {
            return Err(wrong(
                "sslrootcert",
                "can be `system` only with sslmode=verify-full",
            ));
        }
        mode => mode,
    };
    let direct = [("postgres", false), ("direct", true)];
    let direct = word(params, "sslnegotiation", &direct, "must be postgres or direct")?.unwrap_or(false);
    if direct && mode < TlsMode::Require {
        return Err(wrong(
            "sslnegotiation",
            "can be `direct` only with sslmode=require or stricter",
        ));
    }
    let sni = number(params, "sslsni")?.is_none_or(|sni| sni != 0);
    Ok(TlsOptions {
        mode,
        root,
        client: client_cert(params)?,
        versions: versions(params)?,
        sni,
        direct,
    })
}

fn client_cert(params: &mut UrlParams) -> Result<ClientCert, UrlError> {
    let cert = take(params, "sslcert")?.map(PathBuf::from);
    let key = take(params, "sslkey")?.map(PathBuf::from);
    // libpq's `require` makes the server ask for the certificate, which rustls doesn't tell.
    let modes = [("allow", true), ("disable", false)];
    let send = word(
        params,
        "sslcertmode",
        &modes,
        "must be allow or disable (require isn't supported)",
    )?
    .unwrap_or(true);
    Ok(if send {
        ClientCert::Files { cert, key }
    } else {
        ClientCert::None
    })
}

fn versions(params: &mut UrlParams) -> Result<ProtocolVersions, UrlError> {
    // rustls starts at 1.2, which is libpq's default as well: a lower minimum is met, a lower
    // maximum can't be.
    let minimum = [
        ("TLSv1", false),
        ("TLSv1.1", false),
        ("TLSv1.2", false),
        ("TLSv1.3", true),
    ];
    let only_13 = word(
        params,
        "ssl_min_protocol_version",
        &minimum,
        "must be TLSv1.2 or TLSv1.3",
    )?
    .unwrap_or(false);
    let maximum = [("TLSv1.2", true), ("TLSv1.3", false)];
    let only_12 = word(
        params,
        "ssl_max_protocol_version",
        &maximum,
        "must be TLSv1.2 or TLSv1.3",
    )?
    .unwrap_or(false);
    match (only_12, only_13) {
        (false, false) => Ok(ProtocolVersions::All),
        (true, false) => Ok(ProtocolVersions::Only12),
        (false, true) => Ok(ProtocolVersions::Only13),
        (true, true) => Err(wrong(
            "ssl_max_protocol_version",
            "is below `ssl_min_protocol_version`",
        )),
    }
}

/// What `tokio_postgres` itself has to know about encryption.
pub(super) fn tell_driver(
    params: &mut UrlParams,
    tls: &TlsOptions,
    base: &mut Config,
) -> Result<(), UrlError> {
    base.ssl_mode(match tls.mode {
        TlsMode::Disable => SslMode::Disable,
        TlsMode::Allow | TlsMode::Prefer => SslMode::Prefer,
        TlsMode::Require | TlsMode::VerifyCa | TlsMode::VerifyFull => SslMode::Require,
    });
    base.ssl_negotiation(if tls.direct {
        SslNegotiation::Direct
    } else {
        SslNegotiation::Postgres
    });
    let words = [
        ("disable", ChannelBinding::Disable),
        ("prefer", ChannelBinding::Prefer),
        ("require", ChannelBinding::Require),
    ];
    if let Some(binding) = word(
        params,
        "channel_binding",
        &words,
        "must be disable, prefer or require",
    )? {
        base.channel_binding(binding);
    }
    let words = [("disable", false), ("prefer", false), ("require", true)];
    if word(params, "gssencmode", &words, "must be disable, prefer or require")?.unwrap_or(false) {
        return Err(wrong(
            "gssencmode",
            "can't be `require` (no Kerberos): use sslmode",
        ));
    }
    Ok(())
}
