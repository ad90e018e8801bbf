//! A gRPC client that knows nothing: no deadlines of its own, no limits, no stubs.

use std::net::SocketAddr;

use bytes::Bytes;
use prost::Message;
use tokio::net::TcpStream;
use tonic::Status;

/// Calls a unary method, and answers the status that comes back.
pub async fn call(
    address: SocketAddr,
    path: &str,
    headers: &[(&str, &str)],
    message: &impl Message,
) -> Status {
    let stream = TcpStream::connect(address).await.expect("a connection");
    let (client, connection) = h2::client::handshake(stream).await.expect("HTTP/2");
    tokio::spawn(connection);
    let mut client = client.ready().await.expect("a ready connection");
    let mut request = http::Request::post(format!("http://{address}{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let (response, mut body) = client
        .send_request(request.body(()).expect("a request"), false)
        .expect("a stream");
    // One frame: not compressed, its length, the message.
    let message = message.encode_to_vec();
    let length = u32::try_from(message.len()).expect("a short message");
    let frame = [&[0], length.to_be_bytes().as_slice(), &message].concat();
    body.send_data(Bytes::from(frame), true).expect("a frame");

    let response = response.await.expect("a response");
    if let Some(status) = Status::from_header_map(response.headers()) {
        return status;
    }
    let mut body = response.into_body();
    while let Some(data) = body.data().await {
        let length = data.expect("data").len();
        body.flow_control()
            .release_capacity(length)
            .expect("flow control");
    }
    let trailers = body.trailers().await.expect("trailers").expect("trailers");
    Status::from_header_map(&trailers).expect("a status")
}
