//! Which migrations a command means: all the sets are one sequence, in the order in which they are installed.

use crate::{
    history::SetState,
    sets::{MigrationStep, SetName},
};

/// The distance to go up or down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// The whole way.
    Head,
    /// Until this version is the newest.
    Version(i64),
    /// A number of migrations.
    Steps(usize),
}

/// The pending migrations up to there.
pub(crate) fn up<'a>(states: &[SetState<'a>], until: Until) -> anyhow::Result<Vec<&'a MigrationStep>> {
    let mut pending: Vec<&MigrationStep> = states.iter().flat_map(SetState::pending).collect();
    match until {
        Until::Head => {}
        Until::Steps(count) => pending.truncate(count),
        Until::Version(version) => {
            let at: Vec<usize> = (0..pending.len())
                .filter(|&i| pending[i].version() == version)
                .collect();
            if at.is_empty() && states.iter().any(|state| state.has(version)) {
                return Ok(Vec::new());
            }
            let sets: Vec<SetName> = at.iter().map(|&i| pending[i].set).collect();
            let at = at
                .get(only(&sets, "--to", version, "pending migration")?)
                .copied();
            pending.truncate(at.map_or(0, |at| at + 1));
        }
    }
    Ok(pending)
}

/// The applied migrations to take back, newest first, until there.
pub(crate) fn down<'a>(
    chosen: &[SetState<'a>],
    all: &[SetState<'a>],
    until: Until,
) -> anyhow::Result<Vec<&'a MigrationStep>> {
    let applied: Vec<(&SetState<'a>, i64)> = chosen
        .iter()
        .rev()
        .flat_map(|state| {
            state
                .applied
                .iter()
                .rev()
                .map(move |applied| (state, applied.version))
        })
        .collect();
    let count = match until {
        Until::Head => 0,
        Until::Steps(count) => count,
        Until::Version(0) => applied.len(),
        Until::Version(version) => {
            let at: Vec<usize> = (0..applied.len()).filter(|&i| applied[i].1 == version).collect();
            let sets: Vec<SetName> = at.iter().map(|&i| applied[i].0.set.name).collect();
            let which = only(&sets, "--to", version, "applied migration")?;
            at.get(which).copied().unwrap_or_default()
        }
    };
    let taken = &applied[..count.min(applied.len())];
    stands_alone(taken, all)?;
    taken
        .iter()
        .map(|(state, version)| way_back(state, *version))
        .collect()
}

fn way_back<'a>(state: &SetState<'a>, version: i64) -> anyhow::Result<&'a MigrationStep> {
    let set = state.set.name;
    let Some(step) = state.set.step(version) else {
        anyhow::bail!(
            "{set} V{version}: there is no file for it here, so there is no way back: use the program or the \
             directory that applied it"
        );
    };
    anyhow::ensure!(
        step.down.is_some(),
        "{step}: there is no way back: write {}.down.sql",
        step.file()
    );
    Ok(step)
}

/// Fails where what is taken back is needed by what stays.
fn stands_alone(taken: &[(&SetState<'_>, i64)], all: &[SetState<'_>]) -> anyhow::Result<()> {
    for (state, _) in taken {
        let below = state.set.name;
        for other in all.iter().filter(|other| other.set.name.stands_on(below)) {
            let above = other.set.name;
            let stays = other.applied.iter().any(|applied| {
                !taken
                    .iter()
                    .any(|(state, version)| state.set.name == above && *version == applied.version)
            });
            let how = if above.is_own() && !other.set.is_known {
                "give --migrations-dir, so that it goes first".to_owned()
            } else {
                format!("take it back first: migrate down --set {above} --to 0")
            };
            anyhow::ensure!(!stays, "the set {above} stands on {below}: {how}");
        }
    }
    Ok(())
}

/// The place of the one set that has a version.
pub(crate) fn only(sets: &[SetName], flag: &str, version: i64, what: &str) -> anyhow::Result<usize> {
    match sets {
        [_] => Ok(0),
        [] => anyhow::bail!("{flag} {version}: no {what} has this version; `migrate history` lists them"),
        _ => {
            let mut names: Vec<&str> = sets.iter().map(|set| set.as_str()).collect();
            names.sort_unstable();
            anyhow::bail!(
                "{flag} {version}: the sets {} have this version: say which with --set",
                names.join(", ")
            )
        }
    }
}
