//! What an earlier owner may have left behind: after kill -9 of the server its PostgreSQL may still be shutting
//! down, and files of one that is long gone may look alive. Called by the holder of the data directory's lock.

use super::data_dir::DataDir;
use crate::error::EmbeddedError;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

/// A fast shutdown writes everything to disk first: for a busy cluster on a slow disk this takes seconds.
const FAST_SHUTDOWN: Duration = Duration::from_secs(20);
/// After SIGQUIT nothing is written; postgres itself kills what is left after 5 s.
const IMMEDIATE_SHUTDOWN: Duration = Duration::from_secs(10);
/// How often to look: short against the 50 ms of a start.
const PAUSE: Duration = Duration::from_millis(5);

/// Waits for an earlier PostgreSQL to end, and removes what would keep a new one from starting.
pub(super) fn clear(place: &DataDir, socket_dir: &Path) -> Result<(), EmbeddedError> {
    if let Some(postmaster) = recorded_pid(&place.pgdata) {
        end(postmaster, &place.pgdata)?;
        remove_false_pid(postmaster, &place.pgdata)?;
    } else {
        remove_torn_pid(&place.pgdata)?;
    }
    remove_sockets(socket_dir)
}

/// The first line of `postmaster.pid`, which exists from `postgres`'s start to its orderly end.
fn recorded_pid(pgdata: &Path) -> Option<Pid> {
    let content = fs::read_to_string(pgdata.join("postmaster.pid")).ok()?;
    let pid = content.lines().next()?.trim().parse::<i32>().ok()?;
    (pid > 1).then_some(Pid::from_raw(pid))
}

fn end(postmaster: Pid, pgdata: &Path) -> Result<(), EmbeddedError> {
    let start = Instant::now();
    let mut asked = false;
    let mut forced = false;
    loop {
        let alive = processes_in(pgdata, postmaster);
        let Some(first) = alive.first() else {
            return Ok(());
        };
        if !asked && alive.contains(&postmaster) {
            tracing::info!(pid = %postmaster, "waiting for the PostgreSQL of an earlier server to stop");
            let _ = kill(postmaster, Signal::SIGINT); // fails when it has just ended, which the next look shows
            asked = true;
        }
        if !forced && start.elapsed() > FAST_SHUTDOWN {
            for pid in &alive {
                let _ = kill(*pid, Signal::SIGQUIT);
            }
            forced = true;
        }
        if start.elapsed() > FAST_SHUTDOWN + IMMEDIATE_SHUTDOWN {
            return Err(EmbeddedError::StillRunning {
                pid: first.as_raw(),
                dir: pgdata.to_path_buf(),
            });
        }
        thread::sleep(PAUSE);
    }
}

/// A `postmaster.pid` whose process is gone is left to `postgres`, which then makes sure that nobody is attached to
/// the old shared memory. But it takes any process with that id for another `postgres`, and refuses to start: a
/// zombie, or one that got the number after a restart of the machine or container. We have seen that it is none.
fn remove_false_pid(postmaster: Pid, pgdata: &Path) -> Result<(), EmbeddedError> {
    let path = pgdata.join("postmaster.pid");
    if recorded_pid(pgdata) == Some(postmaster) && kill(postmaster, None) != Err(nix::errno::Errno::ESRCH) {
        tracing::warn!(pid = %postmaster, "removing a postmaster.pid that names another process");
        fs::remove_file(&path).map_err(EmbeddedError::io("remove", &path))?;
    }
    Ok(())
}

/// A `postmaster.pid` that names nobody, since the machine went down while it was written: `postgres` refuses to start
/// over it. Whoever wrote it would be found by its working directory.
fn remove_torn_pid(pgdata: &Path) -> Result<(), EmbeddedError> {
    let path = pgdata.join("postmaster.pid");
    if !path.exists() {
        return Ok(());
    }
    end(Pid::from_raw(0), pgdata)?;
    tracing::warn!("removing a postmaster.pid that names no process");
    fs::remove_file(&path).map_err(EmbeddedError::io("remove", &path))
}

/// `postgres` would take the id in a left-over `.s.PGSQL.5432.lock` for alive just as well.
fn remove_sockets(socket_dir: &Path) -> Result<(), EmbeddedError> {
    for suffix in ["", ".lock"] {
        let path = socket_dir.join(format!("{}{suffix}", super::data_dir::SOCKET_NAME));
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(EmbeddedError::io("remove", &path)(error));
            }
            _ => {}
        }
    }
    Ok(())
}

/// The processes of the cluster in `pgdata`: its `postmaster`, and any that outlived it. They are called `postgres`,
/// and have the directory as their working directory. A zombie has none, so it isn't taken for alive.
#[cfg(target_os = "linux")]
fn processes_in(pgdata: &Path, postmaster: Pid) -> Vec<Pid> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| {
            Some((
                entry.path(),
                Pid::from_raw(entry.file_name().to_str()?.parse().ok()?),
            ))
        })
        .filter(|(proc, pid)| match fs::read_link(proc.join("cwd")) {
            Ok(cwd) => cwd == pgdata && fs::read(proc.join("comm")).is_ok_and(|name| name == b"postgres\n"),
            // A container's root without CAP_SYS_PTRACE may not look at another user's process, but everybody may
            // see with which arguments it was started, and ours are `-D` and the directory.
            Err(error) if error.kind() == ErrorKind::PermissionDenied && *pid == postmaster => {
                fs::read(proc.join("cmdline")).is_ok_and(|line| serves(&line, pgdata))
            }
            Err(_) => false,
        })
        .map(|(_, pid)| pid)
        .collect()
}

#[cfg(target_os = "linux")]
fn serves(command_line: &[u8], pgdata: &Path) -> bool {
    use std::os::unix::ffi::OsStrExt;
    command_line
        .split(|byte| *byte == 0)
        .any(|argument| argument == pgdata.as_os_str().as_bytes())
}

/// Without /proc: does the process with that id have the command line of a `postgres` for this directory?
#[cfg(not(target_os = "linux"))]
fn processes_in(pgdata: &Path, postmaster: Pid) -> Vec<Pid> {
    let output = std::process::Command::new("ps")
        .args(["-ww", "-o", "command=", "-p", &postmaster.to_string()])
        .output();
    let line = output
        .map(|output| String::from_utf8_lossy(&output.stdout).into_owned())
        .unwrap_or_default();
    let ours = line.contains("postgres") && line.contains(&*pgdata.to_string_lossy());
    ours.then_some(postmaster).into_iter().collect()
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::super::child::die_with_us;
    use super::*;
    use std::os::unix::process::CommandExt;
    use std::process::{Child, Command};

    /// A process called `postgres` that works in `dir`.
    fn sleeper_in(dir: &Path) -> (Child, Pid) {
        let (home, postgres) = (tempfile::tempdir().unwrap(), "postgres");
        std::os::unix::fs::symlink("/bin/sleep", home.path().join(postgres)).unwrap();
        let mut sleep = Command::new(home.path().join(postgres));
        // Also sees to it that SIGINT ends it.
        die_with_us(&mut sleep);
        let child = sleep.arg0("sleep").arg("600").current_dir(dir).spawn().unwrap();
        let pid = Pid::from_raw(child.id().cast_signed());
        (child, pid)
    }

    #[test]
    fn a_process_in_the_directory_is_ended() {
        let top = tempfile::tempdir().unwrap();
        let pgdata = top.path().canonicalize().unwrap();
        let (mut child, pid) = sleeper_in(&pgdata);
        assert_eq!(processes_in(&pgdata, pid), [pid]);
        end(pid, &pgdata).unwrap(); // by then it is a zombie, for nobody has waited for it
        assert!(kill(pid, None).is_ok());
        fs::write(
            pgdata.join("postmaster.pid"),
            format!("{pid}\n{}\n", pgdata.display()),
        )
        .unwrap();
        remove_false_pid(pid, &pgdata).unwrap();
        assert!(!pgdata.join("postmaster.pid").exists());
        child.wait().unwrap();
    }

    #[test]
    fn a_process_elsewhere_with_the_recorded_id_is_left_alone() {
        let (top, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let pgdata = top.path().canonicalize().unwrap();
        let (mut child, pid) = sleeper_in(elsewhere.path());
        fs::write(pgdata.join("postmaster.pid"), format!("{pid}\n")).unwrap();
        assert_eq!(recorded_pid(&pgdata), Some(pid));
        end(pid, &pgdata).unwrap();
        assert!(child.try_wait().unwrap().is_none());
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn the_file_of_a_dead_process_is_left_to_postgres() {
        let top = tempfile::tempdir().unwrap();
        let (mut child, pid) = sleeper_in(top.path());
        child.kill().unwrap();
        child.wait().unwrap();
        fs::write(top.path().join("postmaster.pid"), format!("{pid}\n")).unwrap();
        remove_false_pid(pid, top.path()).unwrap();
        assert!(top.path().join("postmaster.pid").exists());
    }

    #[test]
    fn command_lines_are_compared_by_whole_arguments() {
        assert!(serves(b"/bin/postgres\0-D\0/data/pg\0", Path::new("/data/pg")));
        assert!(!serves(b"/bin/postgres\0-D\0/data/pg2\0", Path::new("/data/pg")));
    }
}
