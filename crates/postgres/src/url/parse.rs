//! Splits a connection string into its parameters, by the rules of libpq's
//! `conninfo_uri_parse_options` and `conninfo_parse`.

use std::collections::BTreeMap;

use percent_encoding::percent_decode_str;

use super::UrlError;

/// The parameters by name; a later one overrides an earlier one, as in libpq. Values are bytes,
/// since a password may be in any encoding. The parts of a URI before the `?` are found under
/// `user`, `password`, `host`, `port` and `dbname`.
pub(super) type UrlParams = BTreeMap<String, Vec<u8>>;

/// Drivers that SQLAlchemy-style schemes name: `postgresql+asyncpg://`. Which it was doesn't matter
/// here.
const DRIVERS: [&str; 6] = [
    "asyncpg",
    "psycopg",
    "psycopg2",
    "psycopg_async",
    "psycopg2cffi",
    "pg8000",
];

pub(super) fn split(text: &str) -> Result<UrlParams, UrlError> {
    let text = unwrap_paste(text);
    match text.split_once("://") {
        // A DSN may have "://" in a value, but then there is a "=" before it.
        Some((scheme, rest)) if !scheme.contains('=') => {
            check_scheme(scheme)?;
            split_uri(rest)
        }
        _ if text.contains('=') => split_dsn(text),
        _ => Err(UrlError::NotAUrl),
    }
}

/// Takes off what gets copied along: blanks, the quotes of an .env file, and the `psql '…'` of
/// Neon's console.
fn unwrap_paste(text: &str) -> &str {
    let mut text = text.trim();
    if let Some(rest) = text.strip_prefix("psql ") {
        text = rest.trim();
    }
    for quote in ['\'', '"'] {
        if let Some(inner) = text.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote)) {
            return inner.trim();
        }
    }
    text
}

fn check_scheme(scheme: &str) -> Result<(), UrlError> {
    let (base, driver) = scheme
        .split_once('+')
        .map_or((scheme, None), |(base, driver)| (base, Some(driver)));
    if matches!(base, "postgres" | "postgresql") && driver.is_none_or(|driver| DRIVERS.contains(&driver)) {
        return Ok(());
    }
    // Shown only if it can't be anything but a scheme.
    let is_plain = scheme
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.' | '_'));
    if is_plain && scheme.len() <= 40 {
        Err(UrlError::Scheme(scheme.to_owned()))
    } else {
        Err(UrlError::NotAUrl)
    }
}

fn malformed(part: &'static str, why: &'static str) -> UrlError {
    UrlError::Malformed { part, why }
}

/// Everything after `scheme://`: `[user[:password]@][host[:port][,…]][/dbname][?name=value[&…]]`.
fn split_uri(rest: &str) -> Result<UrlParams, UrlError> {
    let mut params = UrlParams::new();
    // The first "@" ends the user part, unless a "/" comes before it. A "?" may stand in a
    // password.
    let rest = match rest.find(['@', '/']) {
        Some(at) if rest[at..].starts_with('@') => {
            let (user, password) = rest[..at].split_once(':').unwrap_or((&rest[..at], ""));
            set(&mut params, "user", decode("user", user)?);
            set(&mut params, "password", decode("password", password)?);
            &rest[at + 1..]
        }
        _ => rest,
    };
    let (before_query, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, path) = before_query.split_once('/').unwrap_or((before_query, ""));
    if before_query.contains('@') {
        return Err(malformed(
            "host or path",
            "contains an `@`: write `@` as %40 and `/` as %2F in the user and password",
        ));
    }
    split_hosts(authority, &mut params)?;
    set(&mut params, "dbname", decode("database name", path)?);
    split_query(query, &mut params)?;
    Ok(params)
}

/// Keeps an empty part out, so that it means the default.
fn set(params: &mut UrlParams, name: &str, value: Vec<u8>) {
    if !value.is_empty() {
        params.insert(name.to_owned(), value);
    }
}

/// `host[:port],host[:port]` becomes two lists of the same length, as libpq has them.
fn split_hosts(authority: &str, params: &mut UrlParams) -> Result<(), UrlError> {
    let (mut hosts, mut ports) = (Vec::new(), Vec::new());
    for (index, entry) in authority.split(',').enumerate() {
        let (host, port) = match entry.strip_prefix('[') {
            Some(bracketed) => {
                let (host, after) = bracketed
                    .split_once(']')
                    .ok_or(malformed("host", "has a `[` without a `]`"))?;
                (host, after.strip_prefix(':').or(after.is_empty().then_some("")))
            }
            None => entry
                .split_once(':')
                .map_or((entry, Some("")), |(host, port)| (host, Some(port))),
        };
        let port = port.ok_or(malformed("host", "has something other than a port after the `]`"))?;
        if index > 0 {
            hosts.push(b',');
            ports.push(b',');
        }
        hosts.extend(decode("host", host)?);
        ports.extend(decode("port", port)?);
    }
    // One empty port says nothing, a list with empty ones says which host has the default.
    if ports.iter().any(|&byte| byte != b',') {
        params.insert("port".to_owned(), ports);
    }
    set(params, "host", hosts);
    Ok(())
}

fn split_query(query: &str, params: &mut UrlParams) -> Result<(), UrlError> {
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair
            .split_once('=')
            .ok_or(malformed("query", "has a parameter without a `=`"))?;
        let name = String::from_utf8(decode("query", name)?)
            .map_err(|_| malformed("query", "has a name that isn't UTF-8"))?;
        // A value that is set to nothing overrides: `?host=` means the default host.
        params.insert(name, decode("query", value)?);
    }
    Ok(())
}

/// Undoes percent-encoding. As in libpq a `%` needs two hexadecimal digits after it, and %00 is
/// refused.
fn decode(part: &'static str, text: &str) -> Result<Vec<u8>, UrlError> {
    for (at, _) in text.match_indices('%') {
        let digits = text.as_bytes().get(at + 1..at + 3);
        if !digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit)) {
            return Err(malformed(
                part,
                "has a `%` that starts no %XX: a literal `%` is written as %25",
            ));
        }
    }
    let bytes: Vec<u8> = percent_decode_str(text).collect();
    if bytes.contains(&0) {
        Err(malformed(part, "contains %00"))
    } else {
        Ok(bytes)
    }
}

/// `name = value name='quoted value'`, with `\` before a quote, a backslash or a blank that is
/// meant literally.
fn split_dsn(text: &str) -> Result<UrlParams, UrlError> {
    let mut params = UrlParams::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let end = rest
            .find(|c: char| c == '=' || c.is_whitespace())
            .unwrap_or(rest.len());
        let (name, after) = rest.split_at(end);
        // The word isn't shown: it may be the second half of a password with a blank in it.
        let value = after.trim_start().strip_prefix('=').filter(|_| !name.is_empty());
        let value = value.ok_or(malformed(
            "list of key=value pairs",
            "has a word without a `=` (quote values with blanks)",
        ))?;
        let (value, after) = dsn_value(value.trim_start())?;
        params.insert(name.to_owned(), value.into_bytes());
        rest = after.trim_start();
    }
    Ok(params)
}

/// The value at the start of `text`, and what follows it.
fn dsn_value(text: &str) -> Result<(String, &str), UrlError> {
    let quoted = text.starts_with('\'');
    let mut value = String::new();
    let mut chars = text.char_indices().skip(usize::from(quoted));
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => value.extend(chars.next().map(|(_, escaped)| escaped)),
            '\'' if quoted => return Ok((value, &text[at + 1..])),
            c if c.is_whitespace() && !quoted => return Ok((value, &text[at..])),
            c => value.push(c),
        }
    }
    if quoted {
        Err(malformed(
            "list of key=value pairs",
            "has a `'` that isn't closed",
        ))
    } else {
        Ok((value, ""))
    }
}
