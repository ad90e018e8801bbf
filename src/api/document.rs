//! `DocumentService`.

use tonic::{Request, Response, Status};

use super::{Api, caller, convert, page, pb};
use crate::domain::{FieldPath, document::Document};

/// `DocumentService`.
#[derive(Clone, Debug)]
pub struct DocumentApi(pub Api);

#[tonic::async_trait]
impl pb::document_service_server::DocumentService for DocumentApi {
    async fn upsert_document(
        &self,
        request: Request<pb::UpsertDocumentRequest>,
    ) -> Result<Response<pb::UpsertDocumentResponse>, Status> {
        let caller = caller(&request);
        let mut check = self.0.check();
        let new = convert::new_document(&mut check, request.into_inner());
        let new = check.finish(new)?;
        let document = self.0.store.upsert_document(&caller, &new).await?;
        Ok(Response::new(pb::UpsertDocumentResponse {
            document: Some(convert::document_to_pb(document)),
        }))
    }

    async fn get_document(
        &self,
        request: Request<pb::GetDocumentRequest>,
    ) -> Result<Response<pb::GetDocumentResponse>, Status> {
        let caller = caller(&request);
        let id = request.into_inner().document_id;
        let mut check = self.0.check();
        check.document_id(&FieldPath::ROOT.field("document_id"), &id);
        check.finish(())?;
        let document = self.0.store.document(&caller, &id).await?;
        Ok(Response::new(pb::GetDocumentResponse {
            document: Some(convert::document_to_pb(document)),
        }))
    }

    async fn list_documents(
        &self,
        request: Request<pb::ListDocumentsRequest>,
    ) -> Result<Response<pb::ListDocumentsResponse>, Status> {
        let caller = caller(&request);
        let mut check = self.0.check();
        let read = convert::document_filter(&mut check, &caller, request.into_inner());
        let (mut filter, list) = check.finish(read)?;
        let key = |document: &Document| (document.fields.id.clone(),);
        let mut documents = page::Portions::new(&filter.page);
        while let Some(portion) = documents.next() {
            filter.page = portion;
            let read = self.0.store.list_documents(&caller, &filter).await?;
            documents.add(read, key, |document| document.fields.metadata.len());
        }
        let found = documents.rows.len();
        let page = page::finish(
            list,
            documents.size,
            documents.rows,
            found,
            key,
            convert::document_to_pb,
        );
        Ok(Response::new(pb::ListDocumentsResponse {
            documents: page.rows,
            next_page_token: page.next_page_token,
        }))
    }

    async fn delete_document(
        &self,
        request: Request<pb::DeleteDocumentRequest>,
    ) -> Result<Response<pb::DeleteDocumentResponse>, Status> {
        let caller = caller(&request);
        let id = request.into_inner().document_id;
        let mut check = self.0.check();
        check.document_id(&FieldPath::ROOT.field("document_id"), &id);
        check.finish(())?;
        self.0.store.delete_document(&caller, &id).await?;
        Ok(Response::new(pb::DeleteDocumentResponse {}))
    }
}
