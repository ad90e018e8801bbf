//! The admin port of a program, asked by hand.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{eventually, process::ServerProcess};

/// An answer over HTTP.
#[derive(Debug)]
pub struct HttpAnswer {
    pub status: u16,
    pub headers: String,
    pub body: String,
}

/// Where a program's admin port is, as its log says.
pub async fn admin_address(server: &ServerProcess) -> SocketAddr {
    eventually("an admin port", async || {
        let log = server.stderr();
        let line = log.lines().find(|line| line.contains("the admin port answers"))?;
        line.rsplit_once("address=")?.1.trim().parse().ok()
    })
    .await
}

/// Asks for a path; `None`: nobody answers there.
pub async fn get(address: SocketAddr, path: &str, accept: &str) -> Option<HttpAnswer> {
    let mut stream = TcpStream::connect(address).await.ok()?;
    let request =
        format!("GET {path} HTTP/1.1\r\nhost: {address}\r\naccept: {accept}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok()?;
    let (headers, body) = answer.split_once("\r\n\r\n")?;
    Some(HttpAnswer {
        status: headers.split(' ').nth(1)?.parse().ok()?,
        headers: headers.to_ascii_lowercase(),
        body: body.to_owned(),
    })
}
