//! `AnalyticsService`.

use tonic::{Request, Response, Status};

use super::{Api, caller, convert, page, pb};
use crate::domain::{
    FieldPath,
    analytics::{DEFAULT_TIME_ZONE, check_time_zone},
    page as pages,
};

/// `AnalyticsService`.
#[derive(Clone, Debug)]
pub struct AnalyticsApi(pub Api);

#[tonic::async_trait]
impl pb::analytics_service_server::AnalyticsService for AnalyticsApi {
    async fn list_top_documents(
        &self,
        request: Request<pb::ListTopDocumentsRequest>,
    ) -> Result<Response<pb::ListTopDocumentsResponse>, Status> {
        let caller = caller(&request);
        let request = request.into_inner();
        let mut check = self.0.check();
        let since = convert::time(&mut check, &FieldPath::ROOT.field("since"), request.since);
        let limit = pages::size(&mut check, &FieldPath::ROOT.field("limit"), request.limit);
        check.finish(())?;
        let documents = self.0.store.top_documents(&caller, since, limit).await?;
        let documents = documents.into_iter().map(|document| pb::TopDocument {
            document_id: document.document_id,
            title: document.title,
            citation_count: document.citation_count,
            mean_score: document.mean_score,
        });
        Ok(Response::new(pb::ListTopDocumentsResponse {
            documents: documents.collect(),
        }))
    }

    async fn list_user_activity(
        &self,
        request: Request<pb::ListUserActivityRequest>,
    ) -> Result<Response<pb::ListUserActivityResponse>, Status> {
        let caller = caller(&request);
        let mut check = self.0.check();
        let read = page::read(&mut check, &caller, request.get_ref());
        let (asked, list) = check.finish(read)?;
        let users = self.0.store.user_activity(&caller, &asked).await?;
        let found = users.len();
        let page = page::finish(
            list,
            asked.size,
            users,
            found,
            |user| (user.user_id,),
            |user| pb::UserActivity {
                user_id: user.user_id.to_string(),
                email: user.email,
                session_count: user.session_count,
                message_count: user.message_count,
                last_active_time: user.last_active_at.map(convert::time_to_pb),
            },
        );
        Ok(Response::new(pb::ListUserActivityResponse {
            users: page.rows,
            next_page_token: page.next_page_token,
        }))
    }

    async fn list_daily_volume(
        &self,
        request: Request<pb::ListDailyVolumeRequest>,
    ) -> Result<Response<pb::ListDailyVolumeResponse>, Status> {
        let caller = caller(&request);
        let request = request.into_inner();
        let mut check = self.0.check();
        let since = convert::time(&mut check, &FieldPath::ROOT.field("since"), request.since);
        let time_zone = request.time_zone.unwrap_or_else(|| DEFAULT_TIME_ZONE.to_owned());
        check_time_zone(&mut check, &FieldPath::ROOT.field("time_zone"), &time_zone);
        check.finish(())?;
        let days = self.0.store.daily_volume(&caller, since, &time_zone).await?;
        let days = days.into_iter().map(|day| pb::DailyVolume {
            date: day.date,
            message_count: day.message_count,
            session_count: day.session_count,
        });
        Ok(Response::new(pb::ListDailyVolumeResponse {
            days: days.collect(),
        }))
    }

    async fn get_session_length_distribution(
        &self,
        request: Request<pb::GetSessionLengthDistributionRequest>,
    ) -> Result<Response<pb::GetSessionLengthDistributionResponse>, Status> {
        let caller = caller(&request);
        let mut check = self.0.check();
        let since = convert::time(
            &mut check,
            &FieldPath::ROOT.field("since"),
            request.into_inner().since,
        );
        check.finish(())?;
        let buckets = self.0.store.session_lengths(&caller, since).await?;
        let buckets = buckets.into_iter().map(|bucket| pb::SessionLengthBucket {
            label: bucket.label,
            session_count: bucket.session_count,
        });
        Ok(Response::new(pb::GetSessionLengthDistributionResponse {
            buckets: buckets.collect(),
        }))
    }
}
