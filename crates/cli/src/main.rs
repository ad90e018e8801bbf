//! Hands the command line to [`chatledger_cli`].

use std::process::ExitCode;

/// A message is a dozen small allocations on its way, and glibc's took a fifth of the server's time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    chatledger_cli::run(std::env::args_os())
}
