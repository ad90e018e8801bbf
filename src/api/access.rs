//! `AccessService`.

use tonic::{Request, Response, Status};

use super::{Api, audited, caller, convert, page, pb, principal};
use crate::{
    audit::AuditEvent,
    auth::{NewSecret, PrincipalKind},
    domain::{Error, FieldPath, access::ApiKey},
    store::internal,
};

/// `AccessService`.
#[derive(Clone, Debug)]
pub struct AccessApi(pub Api);

#[tonic::async_trait]
impl pb::access_service_server::AccessService for AccessApi {
    async fn who_am_i(
        &self,
        request: Request<pb::WhoAmIRequest>,
    ) -> Result<Response<pb::WhoAmIResponse>, Status> {
        Ok(Response::new(convert::principal_to_pb(&principal(&request))))
    }

    async fn create_api_key(
        &self,
        request: Request<pb::CreateApiKeyRequest>,
    ) -> Result<Response<pb::CreateApiKeyResponse>, Status> {
        let (caller, principal) = (caller(&request), principal(&request));
        let audited = audited(AuditEvent::KeyCreated, "CreateApiKey", &request);
        let mut check = self.0.check();
        let new = convert::new_api_key(&mut check, request.into_inner());
        let is_foreign = new
            .tenant
            .as_deref()
            .is_some_and(|tenant| *tenant != *caller.tenant);
        if is_foreign && principal.kind != PrincipalKind::Local {
            check.violation(
                &FieldPath::ROOT.field("tenant"),
                "must be your own, which is the default",
            );
        }
        let new = check.finish(new)?;
        let secret = NewSecret::generate().map_err(|error| Status::from(internal(error)))?;
        let key = self.0.store.create_key(&caller, &new, &secret).await?;
        self.0.access.keys_have_changed();
        self.0.access.audit.record(audited.to(&key.id));
        Ok(Response::new(pb::CreateApiKeyResponse {
            api_key: Some(convert::api_key_to_pb(key)),
            secret: secret.key,
        }))
    }

    async fn list_api_keys(
        &self,
        request: Request<pb::ListApiKeysRequest>,
    ) -> Result<Response<pb::ListApiKeysResponse>, Status> {
        let caller = caller(&request);
        let mut check = self.0.check();
        let read = convert::api_key_page(&mut check, &caller, &request.into_inner());
        let (page, list) = check.finish(read)?;
        let keys = self.0.store.list_keys(&caller, &page).await?;
        let found = keys.len();
        let key = |key: &ApiKey| (key.created_at.as_microsecond(), key.id.clone());
        let page = page::finish(list, page.size, keys, found, key, convert::api_key_to_pb);
        Ok(Response::new(pb::ListApiKeysResponse {
            api_keys: page.rows,
            next_page_token: page.next_page_token,
        }))
    }

    async fn revoke_api_key(
        &self,
        request: Request<pb::RevokeApiKeyRequest>,
    ) -> Result<Response<pb::RevokeApiKeyResponse>, Status> {
        let caller = caller(&request);
        let audited = audited(AuditEvent::KeyRevoked, "RevokeApiKey", &request);
        let id = request.into_inner().api_key_id;
        if id.is_empty() {
            return Err(Error::invalid("api_key_id", "is required").into());
        }
        let key = self.0.store.revoke_key(&caller, &id).await?;
        self.0.access.keys_have_changed();
        self.0.access.audit.record(audited.to(key.id));
        Ok(Response::new(pb::RevokeApiKeyResponse {}))
    }
}
