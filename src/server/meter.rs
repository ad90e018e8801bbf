//! The bodies of a call as they are counted: messages in and out, and the status at the end.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt;
use tonic::{Code, Status, body::Body};
use tonic_types::StatusExt;

use crate::metrics::{
    metrics,
    rpc::{CallMeter, RequestMeter},
};

/// A request whose messages are counted as they come.
pub(super) fn metered_request(request: Request<Body>, mut meter: RequestMeter) -> Request<Body> {
    request.map(|body| {
        Body::new(body.inspect_frame(move |frame| {
            if let Some(data) = frame.data_ref() {
                meter.received(data);
            }
        }))
    })
}

/// An answer whose messages are counted as they are taken, and whose status ends the call.
pub(super) fn metered_answer(response: Response<Body>, mut meter: CallMeter) -> Response<Body> {
    if note_status(&mut meter, response.headers()) {
        // The headers are all of it.
        return response;
    }
    response.map(|body| Body::new(MeteredAnswer { body, meter }))
}

struct MeteredAnswer {
    body: Body,
    meter: CallMeter,
}

impl http_body::Body for MeteredAnswer {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        match &frame {
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    self.meter.sent(data);
                } else if let Some(trailers) = frame.trailers_ref() {
                    note_status(&mut self.meter, trailers);
                }
            }
            Some(Err(status)) => self.meter.ends(status.code()),
            None => {}
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

/// Notes the status in headers or trailers; whether there is one.
fn note_status(meter: &mut CallMeter, headers: &HeaderMap) -> bool {
    let Some(code) = headers.get("grpc-status") else {
        return false;
    };
    let code = Code::from_bytes(code.as_bytes());
    meter.ends(code);
    if code == Code::ResourceExhausted {
        let info = Status::from_header_map(headers).and_then(|status| status.get_details_error_info());
        let limit = info.as_ref().and_then(|info| info.metadata.get("limit"));
        // Only messages that are larger than any may be have none.
        let limit = limit.map_or("message_size", String::as_str);
        metrics()
            .shed
            .with_label_values(&[limit, meter.caller_kind()])
            .inc();
    }
    true
}
