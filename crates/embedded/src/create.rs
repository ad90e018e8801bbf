//! Making a new cluster with the database in it.

use super::binaries::Binaries;
use super::child::{self, command, setting};
use super::data_dir::{DataDir, SUPERUSER, last_words};
use crate::error::EmbeddedError;
use std::fs::{self, DirBuilder};
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::process::{Command, Output};
use std::thread;

/// What unfinished clusters' names begin with.
const UNFINISHED: &str = "pg.new-";

/// The major version of the cluster in `pgdata`; none where there is no cluster yet.
pub(super) fn major_of(pgdata: &Path) -> Result<Option<u32>, EmbeddedError> {
    let not_ours = |reason: &str| EmbeddedError::NotOurs {
        dir: pgdata.to_path_buf(),
        reason: reason.to_owned(),
    };
    match fs::read_to_string(pgdata.join("PG_VERSION")) {
        Ok(version) => version
            .trim()
            .parse()
            .map(Some)
            .map_err(|_| not_ours("has a PG_VERSION that is no number")),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            match fs::read_dir(pgdata).map(|mut dir| dir.next()) {
                Ok(Some(_)) => Err(not_ours("holds files, but no PostgreSQL cluster")),
                _ => Ok(None), // an empty directory can be renamed over
            }
        }
        Err(error) => Err(EmbeddedError::io("read", &pgdata.join("PG_VERSION"))(error)),
    }
}

/// Makes the cluster, complete or not at all: it is made under another name and renamed when the database is in it.
pub(super) fn create(place: &DataDir, binaries: &Binaries) -> Result<(), EmbeddedError> {
    tracing::info!(version = %binaries.version, dir = %place.dir.display(), "creating a PostgreSQL cluster");
    // A name that was never used: programs of an owner who was killed may still write below theirs.
    let unfinished = place
        .dir
        .join(format!("{UNFINISHED}{}-{}", std::process::id(), nonce()));
    DirBuilder::new()
        .mode(0o700)
        .create(&unfinished)
        .map_err(EmbeddedError::io("create", &unfinished))?;
    place.account.own(&unfinished)?;
    let made = initdb(place, binaries, &unfinished)
        .and_then(|()| create_database(place, binaries, &unfinished))
        .and_then(|()| {
            fs::rename(&unfinished, &place.pgdata).map_err(EmbeddedError::io("rename", &unfinished))
        });
    if made.is_err() {
        let _ = fs::remove_dir_all(&unfinished); // what remains is removed by the next start
    }
    made
}

fn initdb(place: &DataDir, binaries: &Binaries, dir: &Path) -> Result<(), EmbeddedError> {
    let program = binaries.dir.join("initdb");
    // UTF-8 in the order of code points, the same on every system. From 17 on PostgreSQL brings it itself, before it
    // is up to the C library, and where that has no C.UTF-8 (macOS), C does it, but for the case of other letters.
    let locales: &[&[&str]] = if binaries.major >= 17 {
        &[&[
            "--locale-provider=builtin",
            "--builtin-locale=C.UTF-8",
            "--locale=C",
        ]]
    } else {
        &[&["--locale=C.UTF-8"], &["--locale=C"]]
    };
    let mut result = Ok(());
    for locale in locales {
        let mut initdb = command(&program, &place.account);
        initdb
            .arg("-D")
            .arg(dir)
            .arg(format!("--username={SUPERUSER}"))
            .arg("--encoding=UTF8")
            .args(*locale);
        // The directory of the socket keeps others out, so whoever gets there is trusted. TCP is off; rejecting it
        // here too means that a change of listen_addresses alone opens nothing.
        initdb.args(["--auth-local=trust", "--auth-host=reject"]);
        // The default from 18 on; pg_upgrade wants the old and the new cluster to agree.
        initdb.arg("--data-checksums");
        // Syncing takes longer than all the rest (2 s of 3): `sync_later` does it while the server is already up.
        initdb.args(["--no-sync", "--no-instructions"]);
        result = succeed(&program, &mut initdb, "");
        if !matches!(&result, Err(error) if error.to_string().contains("invalid locale")) {
            break;
        }
    }
    result
}

/// The server's role can make scratch databases for `migrate verify` and `rehearse`, and otherwise nothing beyond its own: whoever
/// gets hold of its connection reads no files, runs no programs and makes no roles. A statement a line, as single-user mode reads.
const MAKE_DATABASE: &str =
    "CREATE ROLE chatledger LOGIN CREATEDB\nCREATE DATABASE chatledger OWNER chatledger\n";

/// By single-user mode rather than a connection after the start: so the cluster is renamed with the database in it,
/// and no later start has to see whether it is there.
fn create_database(place: &DataDir, binaries: &Binaries, dir: &Path) -> Result<(), EmbeddedError> {
    let program = binaries.dir.join("postgres");
    let mut postgres = command(&program, &place.account);
    postgres.args(["--single", "-F"]).arg("-D").arg(dir); // -F: no fsync, as initdb above
    setting(&mut postgres, "exit_on_error", "on"); // otherwise it ends with success all the same
    setting(&mut postgres, "log_checkpoints", "off");
    succeed(&program, postgres.arg("template1"), MAKE_DATABASE)
}

fn succeed(program: &Path, command: &mut Command, input: &str) -> Result<(), EmbeddedError> {
    let failed = |reason| EmbeddedError::Create {
        program: program.to_path_buf(),
        reason,
    };
    match child::run(command, input) {
        Ok(Output { status, .. }) if status.success() => Ok(()),
        Ok(Output { status, stderr, .. }) if stderr.is_empty() => Err(failed(status.to_string())),
        Ok(Output { stderr, .. }) => Err(failed(last_words(&String::from_utf8_lossy(&stderr)))),
        Err(error) => Err(failed(error.to_string())),
    }
}

/// Writes a new cluster through to the disk, in the background. `postgres` syncs what it writes itself, from its
/// first commit on, but not the files that `initdb` left in the system's cache. If the machine (not just a process)
/// goes down within these first seconds, the cluster, and what was stored in it until then, may be lost.
pub(super) fn sync_later(place: &DataDir, binaries: &Binaries) {
    let (place, program) = (place.clone(), binaries.dir.join("initdb"));
    let sync = move || {
        let mut initdb = command(&program, &place.account);
        if let Err(error) = succeed(
            &program,
            initdb.arg("--sync-only").arg("-D").arg(&place.pgdata),
            "",
        ) {
            tracing::debug!(%error, "the new cluster was not synced"); // stopped meanwhile, as a rule
        }
    };
    if let Err(error) = thread::Builder::new()
        .name("embedded-sync".to_owned())
        .spawn(sync)
    {
        tracing::warn!(%error, "the new cluster was not synced");
    }
}

/// Removes what owners that were killed during their first start have left. At every start, because right after the
/// kill the owner's programs may still be writing; then it fails, which harms nobody.
pub(super) fn remove_unfinished(place: &DataDir) {
    for entry in fs::read_dir(&place.dir).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(UNFINISHED) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// Process ids come round again, in containers with every start: this makes the name different still.
fn nonce() -> u128 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map(|since| since.as_nanos()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_of_a_cluster_is_read_from_its_directory() {
        let top = tempfile::tempdir().unwrap();
        let pgdata = top.path().join("pg");
        assert_eq!(major_of(&pgdata).unwrap(), None);
        fs::create_dir(&pgdata).unwrap();
        assert_eq!(major_of(&pgdata).unwrap(), None);
        fs::write(pgdata.join("PG_VERSION"), "15\n").unwrap();
        assert_eq!(major_of(&pgdata).unwrap(), Some(15));
        fs::write(pgdata.join("PG_VERSION"), "new\n").unwrap();
        assert!(major_of(&pgdata).is_err());
        fs::remove_file(pgdata.join("PG_VERSION")).unwrap();
        fs::write(pgdata.join("letter.txt"), "dear").unwrap();
        let error = major_of(&pgdata).unwrap_err().to_string();
        assert!(error.contains("holds files"), "{error}");
    }
}
