//! A team's own migrations: a directory of files in the same form, read strictly, and new ones in it.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context;
use jiff::{Timestamp, tz::TimeZone};
use refinery::Migration;
use serde::Serialize;

use crate::{
    program::Program,
    script::Script,
    sets::{MigrationStep, Set, SetName},
};

const UP: &str = include_str!("templates/up.sql");
const DOWN: &str = include_str!("templates/down.sql");

/// The ending of a way back.
const DOWN_ENDING: &str = ".down.sql";

/// Reads the directory. What isn't `.sql` is passed over; everything else must be a migration or its way back; what is wrong is
/// named, with what to do about it.
pub(crate) fn read(name: SetName, dir: &Path) -> anyhow::Result<Set> {
    let files = files(dir)?;
    let mut downs: HashMap<String, Script> = HashMap::new();
    let mut ups = Vec::new();
    for (name, path) in &files {
        let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
        match name.strip_suffix(DOWN_ENDING) {
            Some(stem) => {
                downs.insert(stem.to_owned(), Script::new(text));
            }
            None => ups.push((name.trim_end_matches(".sql").to_owned(), path, text)),
        }
    }
    let mut steps: BTreeMap<i64, MigrationStep> = BTreeMap::new();
    for (stem, path, text) in ups {
        let step =
            step(name, &stem, &text, downs.remove(&stem)).with_context(|| path.display().to_string())?;
        if let Some(other) = steps.insert(step.version(), step) {
            anyhow::bail!(
                "{}: {} has this version as well; versions must be unique",
                path.display(),
                other.file()
            );
        }
    }
    if let Some(stem) = downs.into_keys().next() {
        anyhow::bail!(
            "{}/{stem}{DOWN_ENDING}: there is no {stem}.sql that it would take back",
            dir.display()
        );
    }
    Ok(Set {
        name,
        steps: steps.into_values().collect(),
        is_known: true,
    })
}

/// The SQL files, by name.
// refinery reads no `.SQL` either.
#[allow(clippy::case_sensitive_file_extension_comparisons)]
fn files(dir: &Path) -> anyhow::Result<BTreeMap<String, PathBuf>> {
    let here = || format!("--migrations-dir {}", dir.display());
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(dir).with_context(here)? {
        let path = entry.with_context(here)?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
            continue;
        };
        if name.ends_with(".sql") && path.is_file() {
            files.insert(name.to_owned(), path);
        }
    }
    Ok(files)
}

fn step(set: SetName, stem: &str, text: &str, down: Option<Script>) -> anyhow::Result<MigrationStep> {
    // refinery reads as much of a name as it knows; the rest would be lost silently.
    let is_whole = stem
        .strip_prefix('V')
        .and_then(|rest| rest.split_once("__"))
        .is_some_and(|(version, name)| {
            version.bytes().all(|byte| byte.is_ascii_digit())
                && !name.is_empty()
                && name.chars().all(|c| c.is_alphanumeric() || c == '_')
        });
    let migration = Migration::unapplied(stem, text).ok().filter(|_| is_whole).with_context(
        || "must be named V<version>__<what>.sql, such as V20260131120000__add_time_zone.sql (letters, digits and _)",
    )?;
    let up = Script::new(text);
    up.check().map_err(anyhow::Error::msg)?;
    if let Some(down) = &down {
        down.check()
            .map_err(|why| anyhow::anyhow!("its {DOWN_ENDING} file {why}"))?;
    }
    Ok(MigrationStep {
        set,
        migration,
        up,
        down,
    })
}

/// The two files of a new migration.
#[derive(Debug, Serialize)]
pub struct NewFiles {
    /// The way there.
    pub up: PathBuf,
    /// The way back.
    pub down: PathBuf,
}

/// Writes a new migration, to be filled in, and its way back. Makes the directory where there is none.
///
/// # Errors
/// A description without letters or digits; a directory that can't be written.
pub fn new_files(
    program: &Program,
    dir: &Path,
    description: &str,
    now: Timestamp,
) -> anyhow::Result<NewFiles> {
    let name = slug(description);
    anyhow::ensure!(
        !name.is_empty(),
        "the description needs letters or digits a-z, such as \"add user time zone\""
    );
    fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
    let newest = files(dir)?
        .keys()
        .filter_map(|name| name.strip_prefix('V')?.split_once("__")?.0.parse::<i64>().ok())
        .max();
    let version = version_at(now).max(newest.map_or(0, |newest| newest + 1));
    let file = |ending: &str| dir.join(format!("V{version}__{name}{ending}"));
    let files = NewFiles {
        up: file(".sql"),
        down: file(DOWN_ENDING),
    };
    for (path, template) in [(&files.up, UP), (&files.down, DOWN)] {
        let text = template
            .replace("{program}", program.name)
            .replace("{table}", program.example_table)
            .replace("{description}", &description.replace('\n', " "));
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(path)
            .with_context(|| path.display().to_string())?;
        std::io::Write::write_all(&mut file, text.as_bytes()).with_context(|| path.display().to_string())?;
    }
    Ok(files)
}

/// The time in UTC as a number: 20260131120000.
fn version_at(now: Timestamp) -> i64 {
    let text = now.to_zoned(TimeZone::UTC).strftime("%Y%m%d%H%M%S").to_string();
    text.parse().unwrap_or_default()
}

fn slug(description: &str) -> String {
    let words = description
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty());
    words.map(str::to_ascii_lowercase).collect::<Vec<_>>().join("_")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sets::SetDescription;

    const OWN: SetName = SetName::of(&SetDescription::from_directory("own", "own_migrations"));

    static PROGRAM: Program = Program {
        name: "program",
        sets: &[OWN],
        late: None,
        secrets: &[],
        statements: Vec::new,
        table_exists: "it is there",
        example_table: "songs",
    };

    fn dir_with(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("a directory");
        for (name, text) in files {
            fs::write(dir.path().join(name), text).expect("a file");
        }
        dir
    }

    #[test]
    fn files_are_read_in_order_with_their_ways_back() {
        let dir = dir_with(&[
            ("V10__b.sql", "SELECT 1"),
            ("V9__a.sql", "SELECT 1"),
            ("V9__a.down.sql", "SELECT 2"),
            ("README.md", "not SQL"),
        ]);
        let set = read(OWN, dir.path()).expect("a set");
        let found: Vec<_> = set
            .steps
            .iter()
            .map(|step| (step.version(), step.down.is_some()))
            .collect();
        assert_eq!(found, [(9, true), (10, false)]);
    }

    #[test]
    fn a_wrong_file_is_refused_by_name() {
        for (files, expected) in [
            (&[("add.sql", "SELECT 1")][..], "add.sql: must be named"),
            (&[("V1_a.sql", "SELECT 1")], "V1_a.sql: must be named"),
            (&[("V1.5__a.sql", "SELECT 1")], "V1.5__a.sql: must be named"),
            (&[("V1__a-b.sql", "SELECT 1")], "V1__a-b.sql: must be named"),
            (&[("U1__a.sql", "SELECT 1")], "U1__a.sql: must be named"),
            (&[("V1__a.sql", "-- nothing")], "V1__a.sql: has no statement yet"),
            (&[("V1__a.sql", "SELECT 1"), ("V01__b.sql", "SELECT 1")], "unique"),
            (&[("V1__a.down.sql", "SELECT 1")], "no V1__a.sql"),
            (
                &[("V1__a.sql", "SELECT 1"), ("V1__a.down.sql", "")],
                "down.sql file has no",
            ),
            (&[("V99999999999999999999__a.sql", "SELECT 1")], "must be named"),
        ] {
            let dir = dir_with(files);
            let error = format!("{:#}", read(OWN, dir.path()).expect_err(expected));
            assert!(error.contains(expected), "{error}");
        }
        let error = format!(
            "{:#}",
            read(OWN, Path::new("/no/such/dir")).expect_err("no directory")
        );
        assert!(error.contains("--migrations-dir /no/such/dir"), "{error}");
    }

    #[test]
    fn a_new_migration_is_newer_than_all_and_says_how_to_fill_it_in() {
        let dir = tempfile::tempdir().expect("a directory");
        let dir = dir.path().join("made");
        let now: Timestamp = "2026-01-31T12:00:00Z".parse().expect("a time");
        let first = new_files(&PROGRAM, &dir, "Add user's time zone!", now).expect("files");
        assert_eq!(first.up, dir.join("V20260131120000__add_user_s_time_zone.sql"));
        assert_eq!(
            first.down,
            dir.join("V20260131120000__add_user_s_time_zone.down.sql")
        );
        let second = new_files(&PROGRAM, &dir, "again", now).expect("files");
        assert_eq!(second.up, dir.join("V20260131120001__again.sql"));
        let text = fs::read_to_string(first.up).expect("the file");
        assert!(text.contains("ALTER TABLE songs ADD"), "{text}");
        assert!(text.contains("Add user's time zone!") && Script::new(&text).statements().is_empty());
        assert!(read(OWN, &dir).is_err(), "it isn't filled in yet");
        assert!(new_files(&PROGRAM, &dir, "!?", now).is_err());
    }
}
