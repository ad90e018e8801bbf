//! `chatledger watch`: messages as they come, through lost connections, until Ctrl-C.

use std::{net::SocketAddr, sync::mpsc::RecvTimeoutError};

use nix::sys::signal::Signal;
use serde_json::Value;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::broadcast,
};

use super::look;
use crate::harness::*;

/// A way to the server that can be cut.
async fn way_to(server: SocketAddr) -> (SocketAddr, broadcast::Sender<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let (cut, _) = broadcast::channel(1);
    let sender = cut.clone();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let mut ended = sender.subscribe();
            tokio::spawn(async move {
                let mut upstream = TcpStream::connect(server).await.expect("the server");
                tokio::select! {
                    _ = tokio::io::copy_bidirectional(&mut client, &mut upstream) => {}
                    _ = ended.recv() => {}
                }
            });
        }
    });
    (address, cut)
}

/// The seq of the next message that it shows.
async fn next_seq(watch: &ServerProcess) -> i64 {
    let line = eventually("a line", async || match watch.next_line() {
        Ok(line) => Some(line),
        Err(RecvTimeoutError::Timeout) => None,
        Err(RecvTimeoutError::Disconnected) => panic!("it has ended: {}", watch.stderr()),
    })
    .await;
    let object: Value = serde_json::from_str(&line).expect("an object a line");
    object["seq"].as_i64().expect("a seq")
}

#[tokio::test]
async fn each_message_is_shown_once_through_a_lost_connection_until_ctrl_c() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    let session = new_session(&server).await;
    for content in ["one", "two", "three"] {
        append(&server, &session, text(content)).await.expect("a receipt");
    }
    let (address, cut) = way_to(server.address).await;
    let mut command = look(&server, &["watch", &session, "--last", "2", "--json"]);
    command.env("CHATLEDGER_TARGET", format!("http://{address}"));
    let mut watch = ServerProcess::start(&mut command);
    assert_eq!(next_seq(&watch).await, 2);
    assert_eq!(next_seq(&watch).await, 3);
    append(&server, &session, text("four")).await.expect("a receipt");
    assert_eq!(next_seq(&watch).await, 4);

    cut.send(()).expect("a connection");
    append(&server, &session, text("five")).await.expect("a receipt");
    assert_eq!(next_seq(&watch).await, 5);
    append(&server, &session, text("six")).await.expect("a receipt");
    assert_eq!(next_seq(&watch).await, 6);
    watch.says("taken up again").await;

    watch.signal(Signal::SIGINT);
    let status = watch.ended().await;
    assert_eq!(status.code(), Some(0), "{}", watch.stderr());
    assert_eq!(watch.rest_of_stdout(), "");
}

#[tokio::test]
async fn it_ends_where_nobody_reads_any_more_and_where_the_session_is_deleted() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    let session = new_session(&server).await;
    append(&server, &session, text("one")).await.expect("a receipt");

    let mut piped = look(&server, &["watch", &session]).spawn().expect("chatledger");
    drop(piped.stdout.take());
    let ended = tokio::task::spawn_blocking(move || piped.wait());
    let status = ended.await.expect("no panic").expect("its end");
    assert_eq!(status.code(), Some(0));

    let mut command = look(&server, &["watch", &session, "--after", "0", "--json"]);
    let mut watch = ServerProcess::start(&mut command);
    assert_eq!(next_seq(&watch).await, 1);
    let request = pb::DeleteSessionRequest { session_id: session };
    server
        .sessions()
        .delete_session(request)
        .await
        .expect("a deletion");
    assert_eq!(watch.ended().await.code(), Some(1));
    watch.says("NOT_FOUND").await;
}
