//! Whether the database is what its migrations make.

use std::time::Instant;

use serde::Serialize;

use super::{
    Migrator, Until, catalog,
    change::Session,
    difference::{Difference, compare},
    history::{Drift, Problem, State},
    mend,
    progress::{Event, Listener},
    scratch,
    sets::Set,
};
use chatledger_postgres::connect::Connector;

/// The answer of `migrate verify`.
#[derive(Debug, Serialize)]
pub struct Verdict {
    /// How the histories and the files differ.
    pub problems: Vec<Problem>,
    /// How the tables and what the migrations make differ.
    pub differences: Vec<Difference>,
    /// The SQL for what can be mended by adding.
    #[serde(skip)]
    pub fix_plan: String,
}

impl Verdict {
    /// Whether there is nothing to tell.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.problems.is_empty() && self.differences.is_empty()
    }
}

impl Migrator {
    /// Makes what the histories say was applied in a scratch database (of `place`'s server, or else the same one),
    /// and compares. All sets that are installed, whatever the scope.
    ///
    /// # Errors
    /// A scratch database that can't be made; migrations that aren't known here.
    pub async fn verify(&self, place: Option<&Connector>, listener: &Listener) -> anyhow::Result<Verdict> {
        let client = self.connect().await?;
        let states = self.states(&client).await?;
        let problems: Vec<Problem> = states.iter().flat_map(State::problems).collect();
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
        listener(&Event::Began("compare with what the migrations make".to_owned()));
        let began = Instant::now();
        let expected = scratch::with(
            self.settings.program.name,
            place.unwrap_or(&self.connector),
            &client,
            patience,
            async |scratch| self.on_scratch(scratch, sets).await,
        )
        .await?;
        listener(&Event::Done(began.elapsed()));
        Ok(Verdict {
            problems,
            differences: compare(&expected, &found),
            fix_plan: mend::script(&expected, &found),
        })
    }

    async fn on_scratch(&self, scratch: &Connector, sets: Vec<Set>) -> anyhow::Result<Vec<catalog::Thing>> {
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
        // What it says of its migrations is of interest to nobody here.
        let session = Session::open(&migrator, &|_| {}, false).await?;
        session.up(Until::Head, None).await?;
        let client = session.close().await?;
        catalog::read(&client, self.settings.program).await
    }
}

/// The set with those migrations only that were applied.
fn applied(state: &State<'_>) -> Set {
    let mut set = state.set.clone();
    set.steps.retain(|step| state.has(step.version()));
    set
}
