//! Counts over all tables: from what is kept of them where it is, and else of the rows themselves.

use jiff::Timestamp;
use uuid::Uuid;

use super::{
    Store,
    reports::{ATTEMPTS, DOCUMENTS, LENGTHS, UTC, VOLUME},
    sql_count,
    user::first_id,
};
use crate::{
    auth::Caller,
    domain::{
        Error, Result,
        analytics::{DailyVolume, LengthBucket, TopDocument, UserActivity},
        page::Page,
    },
    statements::{
        analytics::{
            ActivityOfSessions, ActivityOfUsers, SessionLengths, TimeZone, TopDocuments, VolumeByDay,
        },
        reports::{KeptDayRow, KeptDocumentRow, KeptDocuments, KeptLengthRow, KeptLengths, KeptVolume},
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
        for _ in 0..ATTEMPTS {
            let Some(kept) = self.find_kept(caller, DOCUMENTS, UTC, since).await? else {
                break;
            };
            let read = KeptDocuments {
                time_zone: &kept.time_zone,
                folded_through: kept.folded_through,
                since,
                first_day: &kept.first_day,
                whole_from: kept.whole_from,
                limit,
            };
            let rows = self.run(caller, &read).await?;
            if !rows.is_empty() {
                return Ok(rows.into_iter().filter_map(kept_document).collect());
            }
        }
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
        for _ in 0..ATTEMPTS {
            let Some(kept) = self.find_kept(caller, VOLUME, time_zone, since).await? else {
                break;
            };
            let read = KeptVolume {
                time_zone: &kept.time_zone,
                folded_through: kept.folded_through,
                since,
                first_day: &kept.first_day,
                whole_from: kept.whole_from,
            };
            let rows = self.run(caller, &read).await?;
            if !rows.is_empty() {
                return Ok(rows.into_iter().filter_map(kept_day).collect());
            }
        }
        // Asked of the database, which does the conversion: its list of zones is the one that counts.
        let zone = self.first(caller, &TimeZone { name: time_zone }).await?;
        let Some(zone) = zone else {
            return Err(Error::invalid(
                "time_zone",
                "must be an IANA time zone such as Europe/Berlin",
            ));
        };
        self.want_zone(zone);
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
        for _ in 0..ATTEMPTS {
            let Some(kept) = self.find_kept(caller, LENGTHS, UTC, since).await? else {
                break;
            };
            let read = KeptLengths {
                time_zone: &kept.time_zone,
                folded_through: kept.folded_through,
                since,
                first_day: &kept.first_day,
                whole_from: kept.whole_from,
            };
            let rows = self.run(caller, &read).await?;
            if !rows.is_empty() {
                return Ok(rows.into_iter().map(kept_length).collect());
            }
        }
        let rows = self.run(caller, &SessionLengths { since }).await?;
        let buckets = rows.into_iter().map(|row| LengthBucket {
            label: row.label,
            session_count: row.sessions,
        });
        Ok(buckets.collect())
    }
}

/// A day; none where nothing is counted, of which what is kept has a row all the same.
fn kept_day(row: KeptDayRow) -> Option<DailyVolume> {
    Some(DailyVolume {
        date: row.day?,
        message_count: row.messages?,
        session_count: row.sessions?,
    })
}

/// A document, likewise.
fn kept_document(row: KeptDocumentRow) -> Option<TopDocument> {
    Some(TopDocument {
        document_id: row.document_id?,
        title: row.title,
        citation_count: row.citations?,
        mean_score: row.mean?,
    })
}

/// A range of lengths.
fn kept_length(row: KeptLengthRow) -> LengthBucket {
    LengthBucket {
        label: row.label,
        session_count: row.sessions,
    }
}
