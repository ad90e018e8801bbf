//! SIGTERM, Ctrl-C and SIGHUP.

use nix::sys::signal::{SigSet, Signal as SignalNumber};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Holds SIGHUP back, which would end a process that doesn't listen to it yet. Before there are other threads: they take
/// after this one.
pub(super) fn hold_hangups() {
    // It fails for signals that there aren't.
    let _ = hangups().thread_block();
}

/// Lets SIGHUP come again, in this thread, with what has come since.
pub(super) fn release_hangups() {
    let _ = hangups().thread_unblock();
}

fn hangups() -> SigSet {
    SigSet::from(SignalNumber::SIGHUP)
}

/// The exit code of a program that Ctrl-C ended, by the shells' convention: 128 + SIGINT.
const INTERRUPTED: i32 = 130;

/// The two signals that ask the server to stop.
pub(super) struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignals {
    /// From here on, the signals don't end the process.
    pub(super) fn listen() -> std::io::Result<Self> {
        Ok(StopSignals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Waits for one of them.
    pub(super) async fn asked(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }

    /// Waits for another one, and ends the process at once.
    pub(super) async fn insisted(mut self) {
        self.asked().await;
        std::process::exit(INTERRUPTED);
    }
}

/// The signal that asks for the settings to be read again.
pub(super) struct ReloadSignal(Signal);

impl ReloadSignal {
    /// From here on, the signal doesn't end the process.
    pub(super) fn listen() -> std::io::Result<Self> {
        signal(SignalKind::hangup()).map(ReloadSignal)
    }

    /// Waits for it.
    pub(super) async fn asked(&mut self) {
        self.0.recv().await;
    }
}
