//! Which servers.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use tokio_postgres::config::Host;

use super::super::DEFAULT_PORT;
use super::{ServerAddress, UrlError, UrlParams, take, wrong};

/// `host`, `hostaddr` and `port`, all of them lists.
pub(super) fn read(params: &mut UrlParams) -> Result<Vec<ServerAddress>, UrlError> {
    let hosts = take(params, "host")?;
    let addrs = take(params, "hostaddr")?;
    let ports = take(params, "port")?.unwrap_or_default();
    let addrs: Option<Vec<IpAddr>> = addrs
        .map(|list| list.split(',').map(str::parse).collect::<Result<_, _>>())
        .transpose()
        .map_err(|_| wrong("hostaddr", "must be a list of IP addresses"))?;
    let hosts: Vec<String> = match (hosts, &addrs) {
        (Some(list), _) => list.split(',').map(str::to_owned).collect(),
        // The address is then also the name that a certificate must have.
        (None, Some(addrs)) => addrs.iter().map(ToString::to_string).collect(),
        (None, None) => vec![String::new()],
    };
    if addrs.as_ref().is_some_and(|addrs| addrs.len() != hosts.len()) {
        return Err(wrong("hostaddr", "must have as many entries as `host`"));
    }
    let ports: Vec<u16> = ports.split(',').map(port).collect::<Result<_, _>>()?;
    if ports.len() > 1 && ports.len() != hosts.len() {
        return Err(wrong("port", "must have one entry, or as many as `host`"));
    }
    let target = |(index, host): (usize, String)| {
        let host = host_of(host)?;
        let addr = addrs.as_ref().map(|addrs| addrs[index]);
        Ok(ServerAddress {
            host,
            addr,
            port: *ports.get(index).unwrap_or(&ports[0]),
        }) // split() yields at least one
    };
    hosts.into_iter().enumerate().map(target).collect()
}

fn host_of(host: String) -> Result<Host, UrlError> {
    // Passwords end up here when an "@" in them isn't encoded, and hosts are shown.
    if host.contains('@') || host.contains(char::is_whitespace) {
        return Err(wrong("host", "contains an `@` or a blank"));
    }
    Ok(match host {
        host if host.is_empty() => Host::Unix(default_socket_dir()),
        host if host.starts_with('/') => Host::Unix(host.into()),
        host => Host::Tcp(host),
    })
}

/// Without a host libpq uses the socket directory that it was built with: Debian's and Red Hat's,
/// else PostgreSQL's own.
fn default_socket_dir() -> PathBuf {
    let distribution = Path::new("/var/run/postgresql");
    if distribution.is_dir() {
        distribution.into()
    } else {
        "/tmp".into()
    }
}

fn port(text: &str) -> Result<u16, UrlError> {
    let port = if text.is_empty() {
        Some(DEFAULT_PORT)
    } else {
        text.trim().parse().ok().filter(|port| *port > 0)
    };
    port.ok_or(wrong(
        "port",
        "must be a number from 1 to 65535 (in a user or password write `:` as %3A, `/` as %2F)",
    ))
}
