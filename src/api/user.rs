//! `UserService`.

use tonic::{Request, Response, Status};

use super::{Api, audited, caller, convert, page, pb, peer};
use crate::{
    audit::AuditEvent,
    auth::{
        Passwords,
        sign_in::{self, HashRenewal, SignIn},
    },
    domain::{Error, FieldPath, user::check_password},
};

/// `UserService`.
#[derive(Clone, Debug)]
pub struct UserApi {
    /// The parts that all services share.
    pub api: Api,
    /// Hashes passwords.
    pub passwords: Passwords,
}

#[tonic::async_trait]
impl pb::user_service_server::UserService for UserApi {
    async fn create_user(
        &self,
        request: Request<pb::CreateUserRequest>,
    ) -> Result<Response<pb::CreateUserResponse>, Status> {
        let caller = caller(&request);
        let mut check = self.api.check();
        let read = convert::new_user(&mut check, request.into_inner());
        let (new, password) = check.finish(read)?;
        let hash = match password {
            Some(password) => Some(self.passwords.hash(password).await?),
            None => None,
        };
        let user = self.api.store.create_user(&caller, &new, hash.as_deref()).await?;
        Ok(Response::new(pb::CreateUserResponse {
            user: Some(convert::user_to_pb(user)),
        }))
    }

    async fn get_user(
        &self,
        request: Request<pb::GetUserRequest>,
    ) -> Result<Response<pb::GetUserResponse>, Status> {
        let caller = caller(&request);
        let mut check = self.api.check();
        let key = convert::user_key(&mut check, request.into_inner());
        let key = check.finish(key)?;
        let user = self.api.store.user(&caller, &key).await?;
        Ok(Response::new(pb::GetUserResponse {
            user: Some(convert::user_to_pb(user)),
        }))
    }

    async fn update_user(
        &self,
        request: Request<pb::UpdateUserRequest>,
    ) -> Result<Response<pb::UpdateUserResponse>, Status> {
        let caller = caller(&request);
        let mut check = self.api.check();
        let read = convert::user_change(&mut check, request.into_inner());
        let (id, change) = check.finish(read)?;
        let user = self.api.store.update_user(&caller, id, &change).await?;
        self.api.access.users.forget();
        Ok(Response::new(pb::UpdateUserResponse {
            user: Some(convert::user_to_pb(user)),
        }))
    }

    async fn delete_user(
        &self,
        request: Request<pb::DeleteUserRequest>,
    ) -> Result<Response<pb::DeleteUserResponse>, Status> {
        let caller = caller(&request);
        let mut check = self.api.check();
        let id = check.uuid(&FieldPath::ROOT.field("user_id"), &request.get_ref().user_id);
        let id = check.finish(id)?;
        self.api.store.delete_user(&caller, id).await?;
        self.api.access.users.forget();
        let audited = audited(AuditEvent::UserDeleted, "DeleteUser", &request);
        self.api.access.audit.record(audited.to(id));
        Ok(Response::new(pb::DeleteUserResponse {}))
    }

    async fn list_users(
        &self,
        request: Request<pb::ListUsersRequest>,
    ) -> Result<Response<pb::ListUsersResponse>, Status> {
        let caller = caller(&request);
        let mut check = self.api.check();
        let read = convert::user_filter(&mut check, &caller, request.into_inner());
        let (filter, list) = check.finish(read)?;
        let users = self.api.store.list_users(&caller, &filter).await?;
        let found = users.len();
        let page = page::finish(
            list,
            filter.page.size,
            users,
            found,
            |user| (user.id,),
            convert::user_to_pb,
        );
        Ok(Response::new(pb::ListUsersResponse {
            users: page.rows,
            next_page_token: page.next_page_token,
        }))
    }

    async fn set_password(
        &self,
        request: Request<pb::SetPasswordRequest>,
    ) -> Result<Response<pb::SetPasswordResponse>, Status> {
        let caller = caller(&request);
        let request = request.into_inner();
        let mut check = self.api.check();
        let id = check.uuid(&FieldPath::ROOT.field("user_id"), &request.user_id);
        check_password(&mut check, &FieldPath::ROOT.field("password"), &request.password);
        let id = check.finish(id)?;
        let hash = self.passwords.hash(request.password).await?;
        self.api.store.set_password(&caller, id, &hash).await?;
        Ok(Response::new(pb::SetPasswordResponse {}))
    }

    async fn verify_password(
        &self,
        request: Request<pb::VerifyPasswordRequest>,
    ) -> Result<Response<pb::VerifyPasswordResponse>, Status> {
        let caller = caller(&request);
        let failed = audited(AuditEvent::SignInFailed, "VerifyPassword", &request);
        let peer = peer(&request).map(|peer| peer.ip());
        let request = request.into_inner();
        let mut check = self.api.check();
        check_password(&mut check, &FieldPath::ROOT.field("password"), &request.password);
        if request.email.is_empty() {
            check.violation(&FieldPath::ROOT.field("email"), "is required");
        }
        check.finish(())?;
        let logins = self.api.rates.logins();
        let attempt = logins.begin(&caller.tenant, &request.email, peer)?;
        let mut subject = None;
        let signed_in = async {
            let found = if sign_in::may_be_stored(&request.email) {
                self.api.store.credentials(&caller, &request.email).await?
            } else {
                None
            };
            let (user, hash) = found.map_or((None, None), |found| (Some(found.user), found.hash));
            subject = user.as_ref().map(|user| user.id);
            self.passwords.sign_in(user, hash, request.password).await
        };
        let signed_in = signed_in.await;
        attempt.settle(&signed_in);
        if let Err(Error::InvalidCredentials) = &signed_in {
            self.api.access.audit.record(match subject {
                Some(user) => failed.to(user),
                None => failed,
            });
        }
        let SignIn { user, renewal } = signed_in?;
        if let Some(HashRenewal { old, new }) = renewal {
            self.api.store.replace_hash(&caller, user.id, &old, &new).await?;
        }
        Ok(Response::new(pb::VerifyPasswordResponse {
            user: Some(convert::user_to_pb(user)),
        }))
    }
}
