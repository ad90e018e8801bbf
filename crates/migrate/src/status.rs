//! What was applied and what is pending, told to people: `status` and `history`.

use serde::Serialize;

use crate::{
    history::{Drift, Problem, SetState},
    migrator::Migrator,
    sets::SetName,
};

impl Migrator {
    /// The state of each set of the scope.
    ///
    /// # Errors
    /// A database that can't be reached.
    pub async fn status(&self) -> anyhow::Result<MigrationStatus> {
        let client = self.connect().await?;
        let states = self.states(&client).await?;
        let shown = states.iter().filter(|state| {
            let name = state.set.name;
            self.settings.scope.contains(&name)
                && self.settings.only.is_none_or(|only| only == name)
                && (state.set.is_known || !state.applied.is_empty())
        });
        let sets: Vec<SetStatus> = shown.map(SetStatus::of).collect();
        Ok(MigrationStatus {
            up_to_date: sets.iter().all(|set| !set.installed || set.pending.is_empty()),
            sets,
        })
    }

    /// Every migration that was applied, as it was, and those that are pending.
    ///
    /// # Errors
    /// A database that can't be reached.
    pub async fn history(&self) -> anyhow::Result<Vec<HistoryEntry>> {
        let client = self.connect().await?;
        let states = self.states(&client).await?;
        let mut entries = Vec::new();
        for state in self.chosen(&states) {
            let problems = state.problems();
            for applied in &state.applied {
                let problem = problems
                    .iter()
                    .find(|problem| problem.migration == applied.file());
                entries.push(HistoryEntry {
                    set: state.set.name,
                    version: applied.version,
                    migration: applied.file(),
                    applied_at: Some(seconds(&applied.at)),
                    drift: problem.map_or(Drift::None, |problem| problem.drift),
                });
            }
            entries.extend(
                state
                    .set
                    .steps
                    .iter()
                    .filter(|step| !state.has(step.version()))
                    .map(|step| HistoryEntry {
                        set: state.set.name,
                        version: step.version(),
                        migration: step.file(),
                        applied_at: None,
                        drift: problems
                            .iter()
                            .find(|problem| {
                                problem.drift == Drift::OutOfOrder && problem.migration == step.file()
                            })
                            .map_or(Drift::None, |problem| problem.drift),
                    }),
            );
        }
        Ok(entries)
    }
}

/// The answer of `migrate status`.
#[derive(Debug, Serialize)]
pub struct MigrationStatus {
    /// Whether nothing is pending in the sets that are installed.
    pub up_to_date: bool,
    /// The sets of the scope.
    pub sets: Vec<SetStatus>,
}

/// The state of a set.
#[derive(Debug, Serialize)]
pub struct SetStatus {
    /// The set's name.
    pub set: SetName,
    /// Whether servers of this scope need it, or somebody wanted it: all but optional ones, and those that are there.
    pub installed: bool,
    /// The newest version that was applied.
    pub current: Option<i64>,
    /// The newest that there is.
    pub head: Option<i64>,
    /// The migrations that `up` would apply, such as `V2__messages`.
    pub pending: Vec<String>,
    /// The time at which the newest was applied, in RFC 3339.
    pub applied_at: Option<String>,
    /// The difference between history and files.
    pub drift: Drift,
    /// The same difference at length.
    pub problems: Vec<Problem>,
}

impl SetStatus {
    fn of(state: &SetState<'_>) -> SetStatus {
        SetStatus {
            set: state.set.name,
            installed: !state.set.name.is_optional() || !state.applied.is_empty(),
            current: state.current(),
            head: state.set.head(),
            pending: state.pending().iter().map(|step| step.file()).collect(),
            applied_at: state.applied.last().map(|applied| seconds(&applied.at)),
            drift: state.drift(),
            problems: state.problems(),
        }
    }
}

/// A line of `migrate history`.
#[derive(Debug, Serialize)]
pub struct HistoryEntry {
    /// The set.
    pub set: SetName,
    /// The version.
    pub version: i64,
    /// The migration's full name, such as `V2__messages`.
    pub migration: String,
    /// The time at which it was applied, in RFC 3339; `None`: it is pending.
    pub applied_at: Option<String>,
    /// The migration's difference from its file.
    pub drift: Drift,
}

/// A time in RFC 3339 without the fractions; as it is where it is none.
fn seconds(text: &str) -> String {
    let time = text.parse::<jiff::Timestamp>();
    time.map_or_else(
        |_| text.to_owned(),
        |time| time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
    )
}
