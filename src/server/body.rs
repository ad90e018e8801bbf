//! The bodies of requests and responses, with what the server adds to them: time limits, what is held until their end,
//! and a status where making them panics.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Response};
use http_body::{Frame, SizeHint};
use tokio::time::{self, Instant, Sleep};
use tonic::{Status, body::Body};

use super::link::{ClientDebt, OpenCall};
use crate::{api::AnswerCharges, domain::Error, supervise::panic_text};

/// The status of a call that has panicked, which is logged.
pub(super) fn panic_status(rpc: &str, panic: &(dyn Any + Send)) -> Status {
    tracing::error!(rpc, panic = panic_text(panic), "a request panicked");
    Status::from(Error::Internal)
}

/// How long a request's body may take to arrive.
#[derive(Clone, Copy)]
pub(super) struct BodyTimeout {
    limit: Duration,
    /// Whether that is for each part of it.
    is_for_parts: bool,
}

impl BodyTimeout {
    pub(super) fn new(limit: Duration, is_for_parts: bool) -> Self {
        BodyTimeout { limit, is_for_parts }
    }

    /// A body that ends DEADLINE_EXCEEDED when its time is over.
    pub(super) fn body(self, body: Body) -> Body {
        Body::new(TimeLimitedBody {
            body,
            timeout: self,
            late: Box::pin(time::sleep(self.limit)),
        })
    }
}

struct TimeLimitedBody {
    body: Body,
    timeout: BodyTimeout,
    late: Pin<Box<Sleep>>,
}

impl http_body::Body for TimeLimitedBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            if self.timeout.is_for_parts {
                let until = Instant::now() + self.timeout.limit;
                self.late.as_mut().reset(until);
            }
            return Poll::Ready(frame);
        }
        ready!(self.late.as_mut().poll(cx));
        Poll::Ready(Some(Err(Error::DeadlineExceeded.into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A response whose body has something until its end. A frame that it has handed over is untaken until the next is asked
/// for. Where it panics, it ends INTERNAL.
pub(super) fn holding_body<T: Send + Sync + Unpin + 'static>(
    owned: T,
    call: Option<OpenCall>,
    rpc: String,
    response: Response<Body>,
) -> HeldResponse<T> {
    let (mut parts, body) = response.into_parts();
    let charges = parts.extensions.remove().unwrap_or_default();
    let body = HoldingBody {
        body,
        rpc,
        untaken: None,
        call,
        charges,
        until: None,
        _owned: owned,
    };
    HeldResponse { parts, body }
}

/// A response whose body has something until its end.
pub(super) struct HeldResponse<T> {
    parts: http::response::Parts,
    body: HoldingBody<T>,
}

impl<T: Send + Sync + Unpin + 'static> HeldResponse<T> {
    /// The response, whose body goes on for as long as it likes.
    pub(super) fn unlimited(self) -> Response<Body> {
        Response::from_parts(self.parts, Body::new(self.body))
    }

    /// The response, whose body ends at the latest with the status that this answers.
    pub(super) fn until(mut self, end: impl Future<Output = Status> + Send + 'static) -> Response<Body> {
        self.body.until = Some(Box::pin(end));
        self.unlimited()
    }
}

struct HoldingBody<T> {
    body: Body,
    rpc: String,
    untaken: Option<ClientDebt>,
    call: Option<OpenCall>,
    /// The memory of what is handed over.
    charges: AnswerCharges,
    /// Ends it before its own end.
    until: Option<Pin<Box<dyn Future<Output = Status> + Send>>>,
    _owned: T,
}

impl<T: Unpin> http_body::Body for HoldingBody<T> {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        self.untaken = None;
        if let Some(until) = &mut self.until
            && let Poll::Ready(status) = until.as_mut().poll(cx)
        {
            self.until = None;
            self.body = Body::empty();
            return Poll::Ready(Some(Ok(Frame::trailers(trailers(&status)))));
        }
        let polled = catch_unwind(AssertUnwindSafe(|| Pin::new(&mut self.body).poll_frame(cx)));
        let mut frame = match polled {
            Ok(polled) => ready!(polled),
            Err(panic) => {
                self.body = Body::empty();
                Some(Ok(Frame::trailers(trailers(&panic_status(&self.rpc, &panic)))))
            }
        };
        if let Some(Ok(frame)) = &mut frame
            && let Some(data) = frame.data_mut()
            && let Some(charge) = self.charges.take()
        {
            *data = charge.attach(std::mem::take::<Bytes>(data), ());
        }
        if frame.is_some() {
            self.untaken = self.call.as_ref().map(OpenCall::handed_over);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A status as a stream ends with it.
fn trailers(status: &Status) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    // It fails for values that can't be in a header, of which an error of this service has none.
    let _ = status.add_header(&mut trailers);
    trailers
}

#[cfg(test)]
mod tests {
    use futures_util::{StreamExt, stream};
    use http_body_util::{BodyExt, StreamBody};
    use tonic::Code;
    use tonic_types::StatusExt;

    use super::*;

    #[allow(clippy::unnecessary_wraps)] // it is what a stream of a body has
    fn data(text: &'static str) -> Result<Frame<Bytes>, Status> {
        Ok(Frame::data(Bytes::from_static(text.as_bytes())))
    }

    #[tokio::test]
    async fn a_stream_that_panics_ends_internal_with_details() {
        let panics = stream::iter(["a", "b", "c"]).map(|text| {
            assert!(text == "a", "planted");
            data(text)
        });
        let response = Response::new(Body::new(StreamBody::new(panics)));
        let mut body = holding_body((), None, "/x/Y".to_owned(), response)
            .unlimited()
            .into_body();
        let first = body.frame().await.expect("a frame").expect("no error");
        assert_eq!(first.into_data().expect("data"), "a");
        let last = body.frame().await.expect("a frame").expect("no error");
        let trailers = last.into_trailers().expect("trailers");
        let status = Status::from_header_map(&trailers).expect("a status");
        assert_eq!(status.code(), Code::Internal);
        let details = status.get_details_error_info().expect("details");
        assert_eq!(details.reason, "INTERNAL");
        assert!(body.frame().await.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_doesn_t_come_ends_in_time() {
        for (is_for_parts, expected) in [(false, 1), (true, 2)] {
            let parts = stream::iter([8, 8, 12]).then(|seconds| async move {
                time::sleep(Duration::from_secs(seconds)).await;
                data("x")
            });
            let body = Body::new(StreamBody::new(Box::pin(parts)));
            let mut body = BodyTimeout::new(Duration::from_secs(10), is_for_parts).body(body);
            let mut count = 0;
            let late = loop {
                match body.frame().await.expect("no end") {
                    Ok(_) => count += 1,
                    Err(status) => break status,
                }
            };
            assert_eq!((count, late.code()), (expected, Code::DeadlineExceeded));
        }
    }
}
