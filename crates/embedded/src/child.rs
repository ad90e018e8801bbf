//! How PostgreSQL's programs are run as children: as the right user, in their own process group, and never for
//! longer than we live.

use super::account::SystemAccount;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::ffi::OsStr;
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Mutex, PoisonError};

/// All that a child gets of our environment. The rest would do harm (`PG*` changes defaults) or is none of its
/// business (it may hold our secrets, and the child can belong to another user). These find shared libraries,
/// locales and the shell that `initdb` needs.
const INHERITED: [&str; 4] = ["PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "LOCALE_ARCHIVE"];

/// A command that runs `program` as `account`. Spawn it on a thread that lives at least as long as the child.
pub(super) fn command(program: &Path, account: &SystemAccount) -> Command {
    let mut command = Command::new(program);
    // Our own directory may be one that the account cannot enter. Ctrl-C at a terminal reaches a whole process
    // group: in its own one PostgreSQL stays up while the server finishes what it is doing.
    command
        .env_clear()
        .current_dir("/")
        .process_group(0)
        .stdin(Stdio::null());
    command.envs(
        INHERITED
            .iter()
            .filter_map(|name| Some((name, std::env::var_os(name)?))),
    );
    // Messages in English, since one of them is looked for. On macOS postgres even refuses to start without LC_ALL.
    // A time zone spares initdb the comparison of the system's with all that it knows.
    command.env("LC_ALL", "C").env("TZ", "UTC");
    if account.switch {
        // std also drops root's supplementary groups, and does all this before the pre_exec hook runs.
        command.uid(account.uid.as_raw()).gid(account.gid.as_raw());
    }
    die_with_us(&mut command);
    command
}

/// Makes the kernel send SIGINT (to `postgres`: fast shutdown) to the child when the thread that forked it ends,
/// which is also what kill -9 of our process does.
#[cfg(target_os = "linux")]
#[allow(unsafe_code)]
pub fn die_with_us(command: &mut Command) {
    use nix::sys::signal;
    let us = Pid::this();
    let hook = move || -> io::Result<()> {
        // A shell that runs us in the background has had us ignore it, and the child would inherit that.
        // SAFETY: the default disposition refers to no code of ours.
        unsafe { signal::signal(Signal::SIGINT, signal::SigHandler::SigDfl) }?;
        // Here, after std has changed the user: a change of user would clear the setting again.
        nix::sys::prctl::set_pdeathsig(Signal::SIGINT)?;
        // We may have died before the line above; then nobody would ever send the signal.
        if Pid::parent() == us {
            Ok(())
        } else {
            Err(nix::errno::Errno::ESRCH.into())
        }
    };
    // SAFETY: between fork and exec only async-signal-safe calls are allowed. The hook makes three plain system calls
    // (signal, prctl, getppid), allocates nothing (all errors are bare errno values), takes no lock and touches no
    // memory but its own copy of an integer.
    unsafe {
        command.pre_exec(hook);
    }
}

/// Other systems have nothing like it: after kill -9 the next start stops the PostgreSQL that was left behind.
#[cfg(not(target_os = "linux"))]
pub fn die_with_us(_: &mut Command) {}

/// Runs `command` to its end with `input`, and collects what it writes.
pub(super) fn run(command: &mut Command, input: &str) -> io::Result<Output> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        // A child that has already failed doesn't read: its own message tells more than our EPIPE.
        let _ = stdin.write_all(input.as_bytes());
    }
    child.wait_with_output()
}

/// `-c name=value` for `postgres`.
pub(super) fn setting(command: &mut Command, name: &str, value: impl AsRef<OsStr>) {
    let mut pair = std::ffi::OsString::from(name);
    pair.push("=");
    pair.push(value);
    command.arg("-c").arg(pair);
}

/// The running `postgres` as seen by those who send it signals, while its own thread waits for it.
#[derive(Debug)]
pub struct SignalTarget {
    /// The process.
    pub pid: Pid,
    /// False once the process is reaped: from then on its id may be somebody else's.
    alive: Mutex<bool>,
}

impl SignalTarget {
    /// A process that was not stopped yet.
    #[must_use]
    pub fn new(pid: Pid) -> Self {
        Self {
            pid,
            alive: Mutex::new(true),
        }
    }

    /// Does nothing when the process has ended.
    pub fn signal(&self, signal: Signal) {
        if *self.alive.lock().unwrap_or_else(PoisonError::into_inner) {
            let _ = kill(self.pid, signal); // fails only for a process that has ended by itself
        }
    }

    /// Waits for the end of `child`, whose target this is.
    #[cfg(target_os = "linux")]
    pub fn wait(&self, child: &mut Child) -> io::Result<ExitStatus> {
        use nix::sys::wait::{Id, WaitPidFlag, waitid};
        // First without reaping, so that reaping can exclude signals without keeping them waiting.
        while let Err(error) = waitid(Id::Pid(self.pid), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT) {
            if error != nix::errno::Errno::EINTR {
                return Err(error.into());
            }
        }
        let mut alive = self.alive.lock().unwrap_or_else(PoisonError::into_inner);
        *alive = false;
        child.wait()
    }

    /// Waits for the end of `child`, whose target this is. nix has no `waitid` here: look every now and then.
    #[cfg(not(target_os = "linux"))]
    pub fn wait(&self, child: &mut Child) -> io::Result<ExitStatus> {
        loop {
            let mut alive = self.alive.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(status) = child.try_wait()? {
                *alive = false;
                return Ok(status);
            }
            drop(alive);
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn us() -> SystemAccount {
        let (uid, gid) = (nix::unistd::Uid::effective(), nix::unistd::Gid::effective());
        SystemAccount {
            name: "us".into(),
            uid,
            gid,
            switch: false,
        }
    }

    #[test]
    fn children_get_their_input_and_little_of_our_environment() {
        let mut shell = command(Path::new("/bin/sh"), &us());
        let output = run(shell.args(["-c", "env; cat"]), "fed").unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let names: Vec<_> = text
            .lines()
            .filter_map(|line| line.split_once('='))
            .map(|(name, _)| name)
            .collect();
        let allowed = |name: &&str| {
            INHERITED.contains(name) || ["LC_ALL", "TZ", "PWD", "SHLVL", "_", "OLDPWD"].contains(name)
        };
        assert!(names.iter().all(allowed), "{names:?}");
        assert!(text.ends_with("fed"));
    }

    #[test]
    fn a_child_in_its_own_group_is_ended_by_a_signal() {
        let mut child = command(Path::new("/bin/sleep"), &us())
            .arg("600")
            .spawn()
            .unwrap();
        let target = SignalTarget::new(Pid::from_raw(child.id().cast_signed()));
        assert_eq!(nix::unistd::getpgid(Some(target.pid)), Ok(target.pid)); // its own process group
        target.signal(Signal::SIGINT);
        let status = target.wait(&mut child).unwrap();
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(2));
        target.signal(Signal::SIGINT);
        assert!(!*target.alive.lock().unwrap());
    }
}
