//! A gRPC client that knows nothing: no deadlines of its own, no limits, no stubs.

use std::net::SocketAddr;

use bytes::Bytes;
use h2::{
    SendStream,
    client::{ResponseFuture, SendRequest},
};
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
    let mut client = RawClient::connect(address).await;
    client.call(path, headers, frame(&message.encode_to_vec())).await
}

/// A message as gRPC frames it: not compressed, its length, its bytes.
pub fn frame(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).expect("a short message");
    [&[0], length.to_be_bytes().as_slice(), message].concat()
}

/// The same, packed with gzip.
pub fn packed_frame(message: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    gzip.write_all(message).expect("in memory");
    let mut frame = frame(&gzip.finish().expect("in memory"));
    frame[0] = 1;
    frame
}

/// A connection, of which streams are read only when asked to.
pub struct RawClient {
    address: SocketAddr,
    send: SendRequest<Bytes>,
}

/// A call that has begun.
pub struct RawCall {
    response: ResponseFuture,
    pub body: SendStream<Bytes>,
}

impl RawClient {
    pub async fn connect(address: SocketAddr) -> RawClient {
        let stream = TcpStream::connect(address).await.expect("a connection");
        let (send, connection) = h2::client::handshake(stream).await.expect("HTTP/2");
        tokio::spawn(connection);
        RawClient { address, send }
    }

    /// Calls a method with a whole body, and answers its status.
    pub async fn call(&mut self, path: &str, headers: &[(&str, &str)], body: Vec<u8>) -> Status {
        self.begin(path, headers, body, true).await.status().await
    }

    /// Sends a body, or the beginning of one.
    pub async fn begin(&mut self, path: &str, headers: &[(&str, &str)], body: Vec<u8>, end: bool) -> RawCall {
        let mut client = self.send.clone().ready().await.expect("a ready connection");
        let mut request = http::Request::post(format!("http://{}{path}", self.address))
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (response, mut stream) = client
            .send_request(request.body(()).expect("a request"), false)
            .expect("a stream");
        // h2 sends it as the server takes it. An error is that the server has answered already.
        if end || !body.is_empty() {
            let _ = stream.send_data(Bytes::from(body), end);
        }
        RawCall {
            response,
            body: stream,
        }
    }
}

impl RawCall {
    /// Reads to the end.
    pub async fn status(self) -> Status {
        let response = self.response.await.expect("a response, and no reset");
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

    /// Reads the first of what is answered, or the error that is instead of it.
    pub async fn first_answer(self) -> (Option<Status>, Vec<u8>) {
        let is_error = |status: &Status| status.code() != tonic::Code::Ok;
        let response = self.response.await.expect("a response, and no reset");
        if let Some(status) = Status::from_header_map(response.headers()) {
            return (Some(status).filter(is_error), Vec::new());
        }
        let mut body = response.into_body();
        let mut read = Vec::new();
        while let Some(data) = body.data().await {
            let data = data.expect("data");
            body.flow_control()
                .release_capacity(data.len())
                .expect("flow control");
            read.extend_from_slice(&data);
            let length = read
                .get(1..5)
                .and_then(|length| length.try_into().ok())
                .map(u32::from_be_bytes);
            if length.is_some_and(|length| read.len() >= 5 + length as usize) {
                return (None, read);
            }
        }
        let trailers = body.trailers().await.expect("trailers").expect("trailers");
        (Status::from_header_map(&trailers).filter(is_error), read)
    }

    /// Waits for the response's headers only; what comes behind them stays where it is while this lives.
    pub async fn unread(self) -> http::Response<h2::RecvStream> {
        self.response.await.expect("a response, and no reset")
    }
}
