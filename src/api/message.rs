//! `MessageService`.

use std::pin::Pin;

use futures_util::Stream;
use tokio::sync::watch;
use tonic::{Request, Response, Status, Streaming};
use uuid::Uuid;

use super::{
    AnswerCharges, Api,
    append_stream::AppendStream,
    caller, convert, page, pb,
    read_stream::{FrameStream, Histories},
    watch::events,
};
use crate::{
    auth::Caller,
    domain::{
        Error, FieldPath,
        message::{NewMessage, Receipt},
        page::MAX_PAGE_BYTES,
    },
    ledger::{Ledger, Unit},
    watch::Hub,
};

/// The room that a page begins with, in bytes: enough for most.
const PAGE_BYTES: usize = 64 << 10;

/// `MessageService`.
#[derive(Clone, Debug)]
pub struct MessageApi {
    /// The parts that all services share.
    pub api: Api,
    /// The append path.
    pub ledger: Ledger,
    /// Watches sessions.
    pub hub: Hub,
    /// Reads histories.
    pub histories: Histories,
    /// Becomes true when the server stops: streams, which have no end of their own, end then.
    pub stopping: watch::Receiver<bool>,
}

impl MessageApi {
    async fn append(
        &self,
        caller: Caller,
        session_id: Uuid,
        messages: Vec<NewMessage>,
        expected_last_seq: Option<i64>,
    ) -> Result<Vec<Receipt>, Error> {
        let _lease = self.api.admit_messages(&caller, session_id, &messages).await?;
        let unit = Unit {
            caller,
            session_id,
            messages,
            expected_last_seq,
        };
        self.ledger.append(unit).await
    }

    /// The session and the message that a request names.
    fn key(&self, session_id: &str, message_id: &str) -> Result<(Uuid, Uuid), Error> {
        let mut check = self.api.check();
        let session_id = convert::session_id(&mut check, session_id);
        let message_id = check.uuid(&FieldPath::ROOT.field("message_id"), message_id);
        check.finish((session_id, message_id))
    }
}

#[tonic::async_trait]
impl pb::message_service_server::MessageService for MessageApi {
    type StreamAppendMessagesStream =
        Pin<Box<dyn Stream<Item = Result<pb::StreamAppendMessagesResponse, Status>> + Send>>;
    type ReadMessagesStream = FrameStream;
    type WatchMessagesStream = Pin<Box<dyn Stream<Item = Result<pb::WatchMessagesResponse, Status>> + Send>>;

    async fn append_message(
        &self,
        request: Request<pb::AppendMessageRequest>,
    ) -> Result<Response<pb::AppendMessageResponse>, Status> {
        let caller = caller(&request);
        let request = request.into_inner();
        let mut check = self.api.check();
        let session_id = convert::session_id(&mut check, &request.session_id);
        let message = convert::new_message(&mut check, &FieldPath::ROOT.field("message"), request.message);
        let message = check.finish(message)?;
        let receipts = self.append(caller, session_id, vec![message], None).await?;
        let receipt = receipts.into_iter().next().map(convert::receipt_to_pb);
        Ok(Response::new(pb::AppendMessageResponse { receipt }))
    }

    async fn batch_append_messages(
        &self,
        request: Request<pb::BatchAppendMessagesRequest>,
    ) -> Result<Response<pb::BatchAppendMessagesResponse>, Status> {
        let caller = caller(&request);
        let request = request.into_inner();
        let mut check = self.api.check();
        let session_id = convert::session_id(&mut check, &request.session_id);
        let messages = convert::new_messages(&mut check, request.messages);
        if request.expected_last_seq.is_some_and(|seq| seq < 0) {
            check.violation(
                &FieldPath::ROOT.field("expected_last_seq"),
                "must not be negative",
            );
        }
        let messages = check.finish(messages)?;
        let receipts = self
            .append(caller, session_id, messages, request.expected_last_seq)
            .await?;
        let receipts = receipts.into_iter().map(convert::receipt_to_pb).collect();
        Ok(Response::new(pb::BatchAppendMessagesResponse { receipts }))
    }

    async fn stream_append_messages(
        &self,
        request: Request<Streaming<pb::StreamAppendMessagesRequest>>,
    ) -> Result<Response<Self::StreamAppendMessagesStream>, Status> {
        let stream = AppendStream {
            api: self.api.clone(),
            ledger: self.ledger.clone(),
            caller: caller(&request),
            charges: request.extensions().get().cloned().unwrap_or_default(),
            stopping: self.stopping.clone(),
        };
        Ok(Response::new(Box::pin(stream.answer(request.into_inner()))))
    }

    async fn get_message(
        &self,
        request: Request<pb::GetMessageRequest>,
    ) -> Result<Response<pb::GetMessageResponse>, Status> {
        let caller = caller(&request);
        let request = request.get_ref();
        let (session_id, message_id) = self.key(&request.session_id, &request.message_id)?;
        let message = self.api.store.message(&caller, session_id, message_id).await?;
        Ok(Response::new(pb::GetMessageResponse {
            message: Some(convert::message_to_pb(message)),
        }))
    }

    async fn list_messages(
        &self,
        request: Request<pb::ListMessagesRequest>,
    ) -> Result<Response<pb::Encoded<pb::ListMessagesResponse>>, Status> {
        let caller = caller(&request);
        let mut check = self.api.check();
        let read = convert::message_filter(&mut check, &caller, request.get_ref());
        let (filter, list) = check.finish(read)?;
        let found = self.api.store.list_messages(&caller, &filter, MAX_PAGE_BYTES);
        let found = found.await?;
        let available = found.available();
        let mut messages = convert::MessageList::with_capacity(PAGE_BYTES);
        let mut reached = None;
        for rows in found.into_messages().take(filter.page.size) {
            let message = rows.read(filter.range.session_id)?;
            messages.push(&message);
            if messages.bytes() > MAX_PAGE_BYTES && messages.len() > 1 {
                messages.pop();
                break;
            }
            reached = Some(message.seq);
        }
        let next_page_token = match reached {
            Some(seq) if messages.len() < available => page::token(list, &(seq,)),
            _ => String::new(),
        };
        if filter.descending && filter.chronological {
            messages.reverse();
        }
        Ok(Response::new(messages.into_page(&next_page_token)))
    }

    async fn read_messages(
        &self,
        request: Request<pb::ReadMessagesRequest>,
    ) -> Result<Response<Self::ReadMessagesStream>, Status> {
        let caller = caller(&request);
        let mut check = self.api.check();
        let range = convert::message_range(&mut check, request.into_inner());
        let range = check.finish(range)?;
        let charges = AnswerCharges::default();
        let frames = self.histories.read(&caller, range, charges.clone()).await?;
        let mut response = Response::new(frames);
        response.extensions_mut().insert(charges);
        Ok(response)
    }

    async fn update_message(
        &self,
        request: Request<pb::UpdateMessageRequest>,
    ) -> Result<Response<pb::UpdateMessageResponse>, Status> {
        let caller = caller(&request);
        let mut check = self.api.check();
        let change = convert::message_change(&mut check, request.into_inner());
        let change = check.finish(change)?;
        let message = self.api.store.update_message(&caller, &change).await?;
        Ok(Response::new(pb::UpdateMessageResponse {
            message: Some(convert::message_to_pb(message)),
        }))
    }

    async fn delete_message(
        &self,
        request: Request<pb::DeleteMessageRequest>,
    ) -> Result<Response<pb::DeleteMessageResponse>, Status> {
        let caller = caller(&request);
        let request = request.get_ref();
        let (session_id, message_id) = self.key(&request.session_id, &request.message_id)?;
        self.api
            .store
            .delete_message(&caller, session_id, message_id)
            .await?;
        Ok(Response::new(pb::DeleteMessageResponse {}))
    }

    async fn clear_messages(
        &self,
        request: Request<pb::ClearMessagesRequest>,
    ) -> Result<Response<pb::ClearMessagesResponse>, Status> {
        let caller = caller(&request);
        let mut check = self.api.check();
        let session_id = convert::session_id(&mut check, &request.get_ref().session_id);
        let session_id = check.finish(session_id)?;
        let deleted_count = self.api.store.clear_messages(&caller, session_id).await?;
        Ok(Response::new(pb::ClearMessagesResponse { deleted_count }))
    }

    async fn search_messages(
        &self,
        request: Request<pb::SearchMessagesRequest>,
    ) -> Result<Response<pb::SearchMessagesResponse>, Status> {
        let caller = caller(&request);
        let mut check = self.api.check();
        let read = convert::search(&mut check, &caller, request.into_inner());
        let (search, list) = check.finish(read)?;
        let found = self.api.store.search_messages(&caller, &search).await?;
        let page = page::finish(
            list,
            search.page.size,
            found.hits,
            found.available,
            |hit| (hit.rank.to_bits(), hit.message.session_id, hit.message.seq),
            convert::search_hit_to_pb,
        );
        Ok(Response::new(pb::SearchMessagesResponse {
            hits: page.rows,
            next_page_token: page.next_page_token,
        }))
    }

    async fn watch_messages(
        &self,
        request: Request<pb::WatchMessagesRequest>,
    ) -> Result<Response<Self::WatchMessagesStream>, Status> {
        let caller = caller(&request);
        let request = request.get_ref();
        let mut check = self.api.check();
        let session_id = convert::session_id(&mut check, &request.session_id);
        if request.after_seq < 0 {
            check.violation(&FieldPath::ROOT.field("after_seq"), "must not be negative");
        }
        let session_id = check.finish(session_id)?;
        let watcher = self.hub.watch(caller, session_id, request.after_seq).await?;
        Ok(Response::new(Box::pin(events(watcher, self.stopping.clone()))))
    }
}
