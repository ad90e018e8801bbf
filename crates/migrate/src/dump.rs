//! Backups and copies, by PostgreSQL's own pg_dump and pg_restore.

use std::{
    path::{Path, PathBuf},
    process::{Output, Stdio},
};

use anyhow::Context;
use tokio::process::Command;

use crate::{client::text_of, migrator::Migrator};
use chatledger_embedded::find_binaries;
use chatledger_postgres::url::DatabaseUrl;

/// pg_dump and pg_restore, new enough for the server.
#[derive(Clone, Debug)]
pub struct DumpPrograms {
    dir: PathBuf,
}

impl Migrator {
    /// Finds them: in `pg_bin`, or where the embedded PostgreSQL is looked for. pg_dump refuses servers that are
    /// newer than itself.
    ///
    /// # Errors
    /// There are none, or they are too old.
    pub async fn programs(&self, pg_bin: Option<&Path>) -> anyhow::Result<DumpPrograms> {
        let client = self.connect().await?;
        let version = text_of(&client, "SHOW server_version_num").await?;
        let major = version.parse::<u32>().context("the server's version")? / 10_000;
        let pg_bin = pg_bin.map(Path::to_path_buf);
        let found = tokio::task::spawn_blocking(move || DumpPrograms::find(pg_bin.as_deref(), major));
        found.await?
    }
}

impl DumpPrograms {
    fn find(pg_bin: Option<&Path>, server: u32) -> anyhow::Result<DumpPrograms> {
        let mut found = Vec::new();
        for major in chatledger_embedded::SUPPORTED.rev() {
            let Ok(binaries) = find_binaries(pg_bin, Some(major)) else {
                continue;
            };
            let has = |program: &str| binaries.dir.join(program).is_file();
            if !has("pg_dump") || !has("pg_restore") {
                found.push(format!(
                    "{} without pg_dump ({})",
                    binaries.version,
                    binaries.dir.display()
                ));
            } else if major < server {
                found.push(format!("{} ({})", binaries.version, binaries.dir.display()));
            } else {
                return Ok(DumpPrograms { dir: binaries.dir });
            }
        }
        let found = if found.is_empty() {
            "none".to_owned()
        } else {
            found.join(", ")
        };
        anyhow::bail!(
            "the server is PostgreSQL {server}, and pg_dump must be of that version or newer; found {found}: install \
             PostgreSQL {server}'s programs, or name their directory with --pg-bin"
        )
    }

    /// A program with the URL in the environment, where other users don't see it, and nothing else of ours that would count.
    fn command(&self, program: &str, url: &DatabaseUrl) -> Command {
        let mut command = Command::new(self.dir.join(program));
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if text.starts_with("PG") || text.contains("DATABASE") {
                command.env_remove(name);
            }
        }
        command
            .envs(url.libpq_env())
            .stdin(Stdio::null())
            .kill_on_drop(true);
        command
    }

    /// Writes a dump in pg_dump's custom format, for pg_restore. It is complete or isn't there.
    pub(crate) async fn dump_to(&self, url: &DatabaseUrl, file: &Path) -> anyhow::Result<()> {
        let here = || format!("--backup {}", file.display());
        anyhow::ensure!(
            !file.exists(),
            "{}: exists already; it is not overwritten",
            here()
        );
        let mut unfinished = file.as_os_str().to_owned();
        unfinished.push(".unfinished");
        let unfinished = PathBuf::from(unfinished);
        create_private(&unfinished).with_context(here)?;
        let mut dump = self.command("pg_dump", url);
        let ran = dump
            .arg("--format=custom")
            .arg("--file")
            .arg(&unfinished)
            .output()
            .await;
        let done = succeeded("pg_dump", ran);
        if done.is_err() {
            let _ = std::fs::remove_file(&unfinished);
        }
        done.with_context(here)?;
        std::fs::rename(&unfinished, file).with_context(here)
    }

    /// Copies everything in a database into an empty one.
    ///
    /// # Errors
    /// What pg_dump or pg_restore says.
    pub async fn copy(&self, from: &DatabaseUrl, to: &DatabaseUrl) -> anyhow::Result<()> {
        let mut dump = self.command("pg_dump", from);
        dump.args(["--format=custom", "--compress=0", "--no-owner", "--no-acl"]);
        let mut dump = dump
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("pg_dump")?;
        let pipe: Stdio = dump.stdout.take().context("pg_dump")?.try_into()?;
        let mut restore = self.command("pg_restore", to);
        restore.args(["--no-owner", "--no-acl", "--exit-on-error"]);
        // The database is named in PGDATABASE as well, but without this pg_restore would only print.
        restore.arg("--dbname").arg(to.database());
        let restored = restore.stdin(pipe).output();
        let (dumped, restored) = tokio::join!(dump.wait_with_output(), restored);
        // The first failure told is the one that the other's follows from.
        succeeded("pg_dump", dumped)?;
        succeeded("pg_restore", restored)
    }
}

/// A dump holds everything: only its owner may read it.
fn create_private(file: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    options.open(file).map(drop)
}

fn succeeded(program: &str, ran: std::io::Result<Output>) -> anyhow::Result<()> {
    let output = ran.with_context(|| program.to_owned())?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said: Vec<&str> = said
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    anyhow::bail!(
        "{program}: {}",
        if said.is_empty() {
            output.status.to_string()
        } else {
            said.join(" ")
        }
    )
}
