//! What is kept of what was done.

use jiff::Timestamp;

use super::Store;
use crate::{
    audit::AuditRecord,
    domain::Result,
    statements::audit::{Forget, Insert},
};

impl Store {
    /// Keeps some records.
    pub async fn keep_audit(&self, records: &[AuditRecord]) -> Result<()> {
        let texts = |of: fn(&AuditRecord) -> &str| records.iter().map(of).collect::<Vec<_>>();
        let optional = |of: fn(&AuditRecord) -> Option<&str>| records.iter().map(of).collect::<Vec<_>>();
        let insert = Insert {
            tenants: &texts(|record| &record.tenant),
            times: &records.iter().map(|record| record.at).collect::<Vec<_>>(),
            events: &texts(|record| record.event.name()),
            actors: &texts(|record| &record.actor),
            subjects: &optional(|record| record.subject.as_deref()),
            methods: &optional(|record| record.method.as_deref()),
            peers: &optional(|record| record.peer.as_deref()),
            causes: &optional(|record| record.cause),
        };
        self.run_for_nobody(&insert).await.map(drop)
    }

    /// Deletes some of what is older than that; whether there may be more.
    pub async fn forget_audit(&self, before: Timestamp, most: usize) -> Result<bool> {
        let forget = Forget {
            before,
            limit: super::sql_count(most),
        };
        let gone = self.run_for_nobody(&forget).await?;
        Ok(gone.len() >= most)
    }
}
