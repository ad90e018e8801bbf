//! Whether the database is what its migrations make.

use std::time::Instant;

use serde::Serialize;

use crate::{
    catalog,
    change::MigrationRun,
    choose::Until,
    difference::{Difference, compare},
    history::{Drift, Problem, SetState},
    mend,
    migrator::Migrator,
    privileges::{self, Exposure},
    progress::{MigrationEvent, MigrationListener},
    scratch,
    sets::Set,
};
use chatledger_postgres::connect::Connector;

/// The answer of `migrate verify`.
#[derive(Debug, Serialize)]
pub struct SchemaVerification {
    /// The differences between the histories and the files.
    pub problems: Vec<Problem>,
    /// The differences between the tables and what the migrations make.
    pub differences: Vec<Difference>,
    /// Who else may do what with the tables, or read the secrets in them.
    pub exposures: Vec<Exposure>,
    /// The SQL for what can be mended by adding.
    #[serde(skip)]
    pub fix_plan: String,
}

impl SchemaVerification {
    /// Whether the database is what its migrations make, and the web can't read its secrets.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.problems.is_empty()
            && self.differences.is_empty()
            && !self.exposures.iter().any(Exposure::is_grave)
    }
}

impl Migrator {
    /// Makes what the histories say was applied in a scratch database (of `place`'s server, or else the same one),
    /// and compares. All sets that are installed, whatever the scope.
    ///
    /// # Errors
    /// A scratch database that can't be made; migrations that aren't known here.
    pub async fn verify(
        &self,
        place: Option<&Connector>,
        listener: &MigrationListener,
    ) -> anyhow::Result<SchemaVerification> {
        let client = self.connect().await?;
        let states = self.states(&client).await?;
        let problems: Vec<Problem> = states.iter().flat_map(SetState::problems).collect();
        if let Some(newer) = problems.iter().find(|problem| problem.drift == Drift::Newer) {
            anyhow::bail!("{newer}: verify with the one that applied it");
        }
        anyhow::ensure!(
            !states.iter().any(|state| state.drift() == Drift::Unread),
            "the team's own migrations have been applied: give --migrations-dir, so that it is known what they make"
        );
        anyhow::ensure!(
            states.iter().any(|state| !state.applied.is_empty()),
            "no migration was applied to this database: there is nothing to compare it with; `migrate up` \
             applies them"
        );
        let found = catalog::read(&client, self.settings.program).await?;
        let sets: Vec<Set> = states.iter().map(applied).collect();
        let patience = self.settings.patience;
        listener(&MigrationEvent::Began(
            "compare with what the migrations make".to_owned(),
        ));
        let began = Instant::now();
        let expected = scratch::with(
            self.settings.program.name,
            place.unwrap_or(&self.connector),
            &client,
            patience,
            async |scratch| self.on_scratch(scratch, sets).await,
        )
        .await?;
        listener(&MigrationEvent::Done(began.elapsed()));
        let tables = expected
            .iter()
            .filter(|thing| thing.key.kind == catalog::ObjectKind::Table);
        let tables: Vec<&str> = tables.map(|thing| thing.key.table.as_str()).collect();
        let exposures = privileges::exposures(&client, self.settings.program, &tables).await?;
        let differences = compare(&expected, &found, self.settings.program.late.as_ref());
        Ok(SchemaVerification {
            problems,
            fix_plan: mend::script(&expected, &found, &differences),
            differences,
            exposures,
        })
    }

    async fn on_scratch(
        &self,
        scratch: &Connector,
        sets: Vec<Set>,
    ) -> anyhow::Result<Vec<catalog::SchemaObject>> {
        let mut settings = self.settings.clone();
        settings.scope = settings.program.sets.to_vec();
        settings.only = None;
        settings.with = settings
            .scope
            .iter()
            .copied()
            .filter(|set| set.is_optional())
            .collect();
        settings.pooled = false;
        let migrator = Migrator {
            connector: scratch.clone(),
            settings,
            sets,
        };
        // The scratch migrator's words on its migrations are of interest to nobody here.
        let session = MigrationRun::open(&migrator, &|_| {}, false).await?;
        session.up(Until::Head, None).await?;
        let client = session.close().await?;
        catalog::read(&client, self.settings.program).await
    }
}

/// The set with those migrations only that were applied.
fn applied(state: &SetState<'_>) -> Set {
    let mut set = state.set.clone();
    set.steps.retain(|step| state.has(step.version()));
    set
}
