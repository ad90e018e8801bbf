//! Parses the command line, dispatches, and chooses the exit code: 0, 1 for what went wrong, 2 for a wrong
//! command line.

use std::process::ExitCode;

use clap::Parser;

/// A message is a dozen small allocations on its way, and glibc's took a fifth of the server's time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match chatledger_cli::Cli::parse().run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            chatledger_cli::last_words(format!("chatledger: {error:#}"));
            ExitCode::FAILURE
        }
    }
}
