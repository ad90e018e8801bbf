//! `CitationService`.

use tonic::{Request, Response, Status};

use super::{Api, caller, convert, page, pb};
use crate::domain::FieldPath;

/// `CitationService`.
#[derive(Clone, Debug)]
pub struct CitationApi(pub Api);

#[tonic::async_trait]
impl pb::citation_service_server::CitationService for CitationApi {
    async fn add_citations(
        &self,
        request: Request<pb::AddCitationsRequest>,
    ) -> Result<Response<pb::AddCitationsResponse>, Status> {
        let caller = caller(&request);
        let mut check = self.0.check();
        let read = convert::citations_to_add(&mut check, request.into_inner());
        let (session_id, message_id, citations) = check.finish(read)?;
        let added = self
            .0
            .store
            .add_citations(&caller, session_id, message_id, citations)
            .await?;
        let citations = added.into_iter().map(convert::placed_citation_to_pb).collect();
        Ok(Response::new(pb::AddCitationsResponse { citations }))
    }

    async fn list_citations(
        &self,
        request: Request<pb::ListCitationsRequest>,
    ) -> Result<Response<pb::ListCitationsResponse>, Status> {
        let caller = caller(&request);
        let mut check = self.0.check();
        let read = convert::citation_filter(&mut check, &caller, request.into_inner());
        let (filter, list) = check.finish(read)?;
        let citations = self.0.store.list_citations(&caller, &filter).await?;
        let found = citations.len();
        let page = page::finish(
            list,
            filter.page.size,
            citations,
            found,
            |placed| (placed.message_row_id, placed.citation.index),
            convert::placed_citation_to_pb,
        );
        Ok(Response::new(pb::ListCitationsResponse {
            citations: page.rows,
            next_page_token: page.next_page_token,
        }))
    }

    async fn delete_citation(
        &self,
        request: Request<pb::DeleteCitationRequest>,
    ) -> Result<Response<pb::DeleteCitationResponse>, Status> {
        let caller = caller(&request);
        let request = request.get_ref();
        let mut check = self.0.check();
        let session_id = convert::session_id(&mut check, &request.session_id);
        let message_id = check.uuid(&FieldPath::ROOT.field("message_id"), &request.message_id);
        if request.citation_index < 1 {
            check.violation(&FieldPath::ROOT.field("citation_index"), "must be at least 1");
        }
        let (session_id, message_id) = check.finish((session_id, message_id))?;
        self.0
            .store
            .delete_citation(&caller, session_id, message_id, request.citation_index)
            .await?;
        Ok(Response::new(pb::DeleteCitationResponse {}))
    }
}
