//! `chatledger migrate`, by the program itself.

mod at_once;
mod commands;
mod drift;
mod own;
mod privileges;
mod rehearse;
mod serve;
mod there_and_back;

use std::{
    path::Path,
    process::{Command, Output},
};

use serde_json::Value;

use crate::harness::{process::chatledger, *};

/// What a command came to.
struct CommandOutcome {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl CommandOutcome {
    fn of(output: Output) -> CommandOutcome {
        CommandOutcome {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).expect("text"),
            stderr: String::from_utf8(output.stderr).expect("text"),
        }
    }

    /// The answer of one that must succeed.
    #[track_caller]
    fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "{}\n{}", self.stderr, self.stdout);
        self.stdout
    }

    /// The answer in JSON.
    #[track_caller]
    fn json(self) -> Value {
        serde_json::from_str(&self.ok()).expect("one JSON document")
    }

    /// The one line in which it fails, with all of these words.
    #[track_caller]
    fn fails_with(self, words: &[&str]) -> String {
        assert_eq!(self.code, Some(1), "{}\n{}", self.stderr, self.stdout);
        let line = self.stderr.lines().last().unwrap_or_default().to_owned();
        assert!(line.starts_with("chatledger: "), "{}", self.stderr);
        for word in words {
            assert!(line.contains(word), "no `{word}` in {line}");
        }
        self.stdout
    }
}

/// `chatledger migrate` over a database.
fn command(database: &TestDatabase, args: &[&str]) -> Command {
    let mut command = chatledger();
    command
        .env("DATABASE_URL", database.url())
        .arg("migrate")
        .args(args);
    command
}

/// Runs it to its end.
fn migrate(database: &TestDatabase, args: &[&str]) -> CommandOutcome {
    CommandOutcome::of(command(database, args).output().expect("chatledger"))
}

/// The same with a directory of own migrations.
fn migrate_own(database: &TestDatabase, dir: &Path, args: &[&str]) -> CommandOutcome {
    let mut command = command(database, args);
    CommandOutcome::of(
        command
            .arg("--migrations-dir")
            .arg(dir)
            .output()
            .expect("chatledger"),
    )
}

/// A directory with these files.
fn own(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    for (name, text) in files {
        std::fs::write(dir.path().join(name), text).expect("a file");
    }
    dir
}

/// The version that each set has, as `status` tells it: `auth 2, chat 6`.
fn versions(database: &TestDatabase) -> String {
    let status = migrate(database, &["status", "--json"]).json();
    let sets = status["sets"].as_array().expect("sets").iter();
    let there = sets.filter(|set| !set["current"].is_null());
    let text = there.map(|set| format!("{} {}", set["set"].as_str().expect("a name"), set["current"]));
    text.collect::<Vec<_>>().join(", ")
}

/// The names of the migrations in an answer of `up` or `down`.
fn names(changes: &Value) -> Vec<String> {
    let changes = changes.as_array().expect("changes").iter();
    let name = |change: &Value| {
        let text = |field: &str| change[field].as_str().expect("a text").to_owned();
        format!("{} {}", text("set"), text("migration"))
    };
    changes.map(name).collect()
}

/// How many scratch databases there are of this one.
async fn scratch_databases(database: &TestDatabase) -> i64 {
    let sql = "SELECT count(*) FROM pg_shdescription
        WHERE description = 'a scratch database of chatledger migrate, for ' || current_database()";
    database
        .client()
        .await
        .query_one(sql, &[])
        .await
        .expect("a count")
        .get(0)
}

/// Everything that there is after all migrations.
const HEADS: &str = "access 2, auth 2, chat 6, link 1";
