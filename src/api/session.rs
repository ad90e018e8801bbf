//! `SessionService`.

use tonic::{Request, Response, Status};

use super::{Api, caller, convert, page, pb};
use crate::{domain::session::Session, telemetry, watch::Hub};

/// `SessionService`.
#[derive(Clone, Debug)]
pub struct SessionApi {
    /// The parts that all services share.
    pub api: Api,
    /// Hears that a session is gone.
    pub hub: Hub,
}

#[tonic::async_trait]
impl pb::session_service_server::SessionService for SessionApi {
    async fn create_session(
        &self,
        request: Request<pb::CreateSessionRequest>,
    ) -> Result<Response<pb::CreateSessionResponse>, Status> {
        let caller = caller(&request);
        let mut check = self.api.check();
        let new = convert::new_session(&mut check, &caller, request.into_inner());
        let new = check.finish(new)?;
        telemetry::note_conversation(&new.id.to_string());
        let _lease = self.api.admit_session(&caller, new.id).await?;
        let session = self.api.store.create_session(&caller, &new).await?;
        Ok(Response::new(pb::CreateSessionResponse {
            session: Some(convert::session_to_pb(session)),
        }))
    }

    async fn get_session(
        &self,
        request: Request<pb::GetSessionRequest>,
    ) -> Result<Response<pb::GetSessionResponse>, Status> {
        let caller = caller(&request);
        let mut check = self.api.check();
        let id = convert::session_id(&mut check, &request.get_ref().session_id);
        let id = check.finish(id)?;
        let session = self.api.store.session(&caller, id).await?;
        Ok(Response::new(pb::GetSessionResponse {
            session: Some(convert::session_to_pb(session)),
        }))
    }

    async fn list_sessions(
        &self,
        request: Request<pb::ListSessionsRequest>,
    ) -> Result<Response<pb::ListSessionsResponse>, Status> {
        let caller = caller(&request);
        let mut check = self.api.check();
        let read = convert::session_filter(&mut check, &caller, request.into_inner());
        let (mut filter, list) = check.finish(read)?;
        let order = filter.order;
        let key = |session: &Session| (order.time(session).as_microsecond(), session.id);
        let mut sessions = page::Portions::new(&filter.page);
        while let Some(portion) = sessions.next() {
            filter.page = portion;
            let read = self.api.store.list_sessions(&caller, &filter).await?;
            sessions.add(read, key, |session| session.metadata.len());
        }
        let found = sessions.rows.len();
        let page = page::finish(
            list,
            sessions.size,
            sessions.rows,
            found,
            key,
            convert::session_to_pb,
        );
        Ok(Response::new(pb::ListSessionsResponse {
            sessions: page.rows,
            next_page_token: page.next_page_token,
        }))
    }

    async fn update_session(
        &self,
        request: Request<pb::UpdateSessionRequest>,
    ) -> Result<Response<pb::UpdateSessionResponse>, Status> {
        let caller = caller(&request);
        let mut check = self.api.check();
        let change = convert::session_change(&mut check, request.into_inner());
        let change = check.finish(change)?;
        let session = self.api.store.update_session(&caller, &change).await?;
        Ok(Response::new(pb::UpdateSessionResponse {
            session: Some(convert::session_to_pb(session)),
        }))
    }

    async fn delete_session(
        &self,
        request: Request<pb::DeleteSessionRequest>,
    ) -> Result<Response<pb::DeleteSessionResponse>, Status> {
        let caller = caller(&request);
        let mut check = self.api.check();
        let id = convert::session_id(&mut check, &request.get_ref().session_id);
        let id = check.finish(id)?;
        self.api.store.delete_session(&caller, id).await?;
        self.hub.changed(&[id]);
        Ok(Response::new(pb::DeleteSessionResponse {}))
    }

    async fn claim_sessions(
        &self,
        request: Request<pb::ClaimSessionsRequest>,
    ) -> Result<Response<pb::ClaimSessionsResponse>, Status> {
        let caller = caller(&request);
        let mut check = self.api.check();
        let claim = convert::claim(&mut check, &caller, request.get_ref());
        let claim = check.finish(claim)?;
        let claimed = self.api.store.claim_sessions(&caller, &claim).await?;
        let claimed_session_ids = claimed.iter().map(ToString::to_string).collect();
        Ok(Response::new(pb::ClaimSessionsResponse { claimed_session_ids }))
    }
}
