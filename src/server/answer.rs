//! The memory of answers: what one may take is taken from the budget before the database is asked, what it does take
//! is known when it is encoded, and stays charged until the client has taken all of it.

use bytes::Bytes;
use futures_util::stream;
use http::Response;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use tokio::time::Instant;
use tonic::{Status, body::Body};

use super::intake::CALL_BYTES;
use crate::{
    domain::{Error, page::MAX_PAGE_BYTES},
    fair::Holder,
    memory::{Charge, LARGEST_MESSAGE, MemoryBudget},
};

/// The bytes that are read for a page: the rows that it shows, and the one row more that was too much for it. (Where
/// limits were raised, the rows that are read are still few: a page ends with the first that is too large.)
const READ: usize = MAX_PAGE_BYTES + LARGEST_MESSAGE;
/// The memory of a page at most: as it came from the database, and as the rows that are made of it. When it is encoded,
/// the first is gone. (A page of messages is encoded from what came, row by row, and may have citations instead.)
const PAGE: usize = 2 * READ;
/// The memory of one row at most: as it came from the database, and as it is encoded.
const ONE: usize = 2 * LARGEST_MESSAGE;

/// Takes the memory that the answer to a request may need at most. Numbers, and single rows that are no messages, are part
/// of what every call takes.
pub(super) async fn take(
    memory: &MemoryBudget,
    path: &str,
    holder: Holder,
    deadline: Instant,
) -> Result<Option<Charge>, Error> {
    let method = path.rsplit('/').next().unwrap_or_default();
    let bytes = match method {
        "GetMessage" | "UpdateMessage" => ONE,
        _ if method.starts_with("List") || method.starts_with("Search") => PAGE,
        // Streams among them: a watch takes one message at a time, by itself.
        _ => return Ok(None),
    };
    let bytes = bytes.min(memory.largest());
    memory.take_soon(holder, bytes, Some(deadline)).await.map(Some)
}

/// A unary answer, encoded.
pub(super) struct CollectedAnswer {
    parts: http::response::Parts,
    frames: Vec<Result<Frame<Bytes>, Status>>,
}

/// Encodes a unary answer at once, which frees what it was built of.
pub(super) async fn collect(response: Response<Body>) -> CollectedAnswer {
    let (parts, mut body) = response.into_parts();
    let mut frames = Vec::new();
    // None of it has to be waited for.
    while let Some(frame) = body.frame().await {
        frames.push(frame);
    }
    CollectedAnswer { parts, frames }
}

/// An answer that is charged, besides the call, until the client has taken it. `request` and `room` are what was taken
/// for the request and for this, and `other` is what else is held as long.
pub(super) fn finish<T: Send + 'static>(
    collected: CollectedAnswer,
    room: Option<Charge>,
    request: Charge,
    other: T,
) -> Response<Body> {
    let CollectedAnswer { parts, mut frames } = collected;
    if frames.is_empty() {
        // An error: its status is in the headers, which then have to be the end of the stream. Clients of grpc's C core
        // take an empty frame behind them for a broken answer.
        return Response::from_parts(parts, Body::empty());
    }
    let mut charge = request;
    if let Some(room) = room {
        charge.join(room);
    }
    let mut owned = Some((charge, other));
    for frame in frames.iter_mut().flatten() {
        if let Some(data) = frame.data_mut()
            && let Some((mut charge, other)) = owned.take()
        {
            charge.shrink_to(CALL_BYTES + data.len());
            *data = charge.attach(std::mem::take::<Bytes>(data), other);
        }
    }
    Response::from_parts(parts, Body::new(StreamBody::new(stream::iter(frames))))
}
