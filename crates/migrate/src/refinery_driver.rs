//! The driver as refinery knows it: a migration goes into a transaction ([`driver`](crate::driver)), or, where the file is
//! marked, is run statement by statement without one ([`unwrapped`](crate::unwrapped)).

use refinery::Migration;
use refinery_core::traits::r#async::{AsyncMigrate, AsyncQuery, AsyncTransaction};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::{
    driver::{Driver, MigrationFailure},
    script::Script,
};

impl AsyncTransaction for Driver<'_> {
    type Error = MigrationFailure;

    async fn execute<'a, T: Iterator<Item = &'a str> + Send + 'a>(
        &mut self,
        queries: T,
    ) -> Result<usize, MigrationFailure> {
        let texts: Vec<&str> = queries.collect();
        let result = match texts.split_first() {
            // A migration's text, and then what records it.
            Some((text, record)) if !Script::new(*text).in_transaction => {
                let ran = self.run_unwrapped(text).await;
                match ran {
                    Ok(()) => self.run_in_transaction(record).await,
                    Err(failure) => Err(failure),
                }
            }
            _ => self.run_in_transaction(&texts).await,
        };
        match result {
            Ok(()) => Ok(texts.len()),
            Err(failure) => {
                self.failure = Some(failure.clone());
                Err(failure)
            }
        }
    }
}

impl AsyncQuery<Vec<Migration>> for Driver<'_> {
    async fn query(&mut self, query: &str) -> Result<Vec<Migration>, MigrationFailure> {
        let rows = self
            .client
            .query_typed(query, &[])
            .await
            .map_err(MigrationFailure::of)?;
        let migrations = rows.iter().map(|row| {
            // A history that somebody has written by hand is no reason to stop: only version, name and checksum count.
            let applied_on: Option<String> = row.get(2);
            let applied_on = OffsetDateTime::parse(&applied_on.unwrap_or_default(), &Rfc3339);
            let checksum: Option<String> = row.get(3);
            Migration::applied(
                row.get(0),
                row.get::<_, Option<String>>(1).unwrap_or_default(),
                applied_on.unwrap_or(OffsetDateTime::UNIX_EPOCH),
                checksum
                    .and_then(|checksum| checksum.parse().ok())
                    .unwrap_or_default(),
            )
        });
        Ok(migrations.collect())
    }
}

impl AsyncMigrate for Driver<'_> {}
