//! `ProfileService`.

use tonic::{Request, Response, Status};

use super::{Api, caller, convert, page, pb};
use crate::domain::{FieldPath, profile::Profile};

/// `ProfileService`.
#[derive(Clone, Debug)]
pub struct ProfileApi(pub Api);

#[tonic::async_trait]
impl pb::profile_service_server::ProfileService for ProfileApi {
    async fn get_profile(
        &self,
        request: Request<pb::GetProfileRequest>,
    ) -> Result<Response<pb::GetProfileResponse>, Status> {
        let caller = caller(&request);
        let mut check = self.0.check();
        let id = check.uuid(&FieldPath::ROOT.field("user_id"), &request.get_ref().user_id);
        let id = check.finish(id)?;
        let profile = self.0.store.profile(&caller, id).await?;
        Ok(Response::new(pb::GetProfileResponse {
            profile: Some(convert::profile_to_pb(profile)),
        }))
    }

    async fn update_profile(
        &self,
        request: Request<pb::UpdateProfileRequest>,
    ) -> Result<Response<pb::UpdateProfileResponse>, Status> {
        let caller = caller(&request);
        let mut check = self.0.check();
        let change = convert::profile_change(&mut check, request.into_inner());
        let change = check.finish(change)?;
        let profile = self.0.store.update_profile(&caller, &change).await?;
        Ok(Response::new(pb::UpdateProfileResponse {
            profile: Some(convert::profile_to_pb(profile)),
        }))
    }

    async fn delete_profile(
        &self,
        request: Request<pb::DeleteProfileRequest>,
    ) -> Result<Response<pb::DeleteProfileResponse>, Status> {
        let caller = caller(&request);
        let mut check = self.0.check();
        let id = check.uuid(&FieldPath::ROOT.field("user_id"), &request.get_ref().user_id);
        let id = check.finish(id)?;
        self.0.store.delete_profile(&caller, id).await?;
        Ok(Response::new(pb::DeleteProfileResponse {}))
    }

    async fn list_profiles(
        &self,
        request: Request<pb::ListProfilesRequest>,
    ) -> Result<Response<pb::ListProfilesResponse>, Status> {
        let caller = caller(&request);
        let mut check = self.0.check();
        let read = convert::profile_filter(&mut check, &caller, request.into_inner());
        let (mut filter, list) = check.finish(read)?;
        let key = |profile: &Profile| (profile.user_id,);
        let mut profiles = page::Portions::new(&filter.page);
        while let Some(portion) = profiles.next() {
            filter.page = portion;
            let read = self.0.store.list_profiles(&caller, &filter).await?;
            profiles.add(read, key, |profile| profile.preferences.len());
        }
        let found = profiles.rows.len();
        let page = page::finish(
            list,
            profiles.size,
            profiles.rows,
            found,
            key,
            convert::profile_to_pb,
        );
        Ok(Response::new(pb::ListProfilesResponse {
            profiles: page.rows,
            next_page_token: page.next_page_token,
        }))
    }
}
