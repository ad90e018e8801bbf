//! Counts over all tables.

use jiff::Timestamp;
use uuid::Uuid;

use super::{Store, sql_count, user::first_id};
use crate::{
    auth::Caller,
    domain::{
        Error, Result,
        analytics::{DailyVolume, LengthBucket, TopDocument, UserActivity},
        page::Page,
    },
    statements::analytics::{
        ActivityOfSessions, ActivityOfUsers, SessionLengths, TimeZoneExists, TopDocuments, VolumeByDay,
    },
};

impl Store {
    /// The most cited documents.
    pub async fn top_documents(
        &self,
        caller: &Caller,
        since: Option<Timestamp>,
        limit: usize,
    ) -> Result<Vec<TopDocument>> {
        let limit = sql_count(limit);
        let rows = self.run(caller, &TopDocuments { since, limit }).await?;
        let documents = rows.into_iter().map(|row| TopDocument {
            document_id: row.document_id,
            title: row.title,
            citation_count: row.citations,
            mean_score: row.mean,
        });
        Ok(documents.collect())
    }

    /// One more user than the page holds, if there are as many.
    pub async fn user_activity(&self, caller: &Caller, page: &Page<(Uuid,)>) -> Result<Vec<UserActivity>> {
        let Some(first_id) = first_id(page.after) else {
            return Ok(Vec::new());
        };
        let activity = ActivityOfUsers {
            first_id,
            limit: page.fetch(),
        };
        let rows = if self.scope.has_auth() {
            self.run(caller, &activity).await?
        } else {
            self.run(caller, &ActivityOfSessions(activity)).await?
        };
        let users = rows.into_iter().map(|row| UserActivity {
            user_id: row.user_id,
            email: row.email,
            session_count: row.sessions,
            message_count: row.messages,
            last_active_at: row.last_active,
        });
        Ok(users.collect())
    }

    /// Messages by day.
    pub async fn daily_volume(
        &self,
        caller: &Caller,
        since: Option<Timestamp>,
        time_zone: &str,
    ) -> Result<Vec<DailyVolume>> {
        // Asked of the database, which does the conversion: its list of zones is the one that counts.
        let zone = self.first(caller, &TimeZoneExists { name: time_zone }).await?;
        if zone.is_none() {
            return Err(Error::invalid(
                "time_zone",
                "must be an IANA time zone such as Europe/Berlin",
            ));
        }
        let rows = self.run(caller, &VolumeByDay { since, time_zone }).await?;
        let days = rows.into_iter().map(|row| DailyVolume {
            date: row.day,
            message_count: row.messages,
            session_count: row.sessions,
        });
        Ok(days.collect())
    }

    /// Sessions by length.
    pub async fn session_lengths(
        &self,
        caller: &Caller,
        since: Option<Timestamp>,
    ) -> Result<Vec<LengthBucket>> {
        let rows = self.run(caller, &SessionLengths { since }).await?;
        let buckets = rows.into_iter().map(|row| LengthBucket {
            label: row.label,
            session_count: row.sessions,
        });
        Ok(buckets.collect())
    }
}
