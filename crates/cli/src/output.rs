//! What is printed to stdout. A reader that has seen enough, such as `head`, isn't an error; the standard library's
//! `println!` panics there.

use std::{
    fmt,
    io::{ErrorKind, Write, stdout},
};

/// The same as `print!`.
macro_rules! show {
    ($($text:tt)*) => { $crate::output::put(format_args!($($text)*)) };
}
/// The same as `println!`.
macro_rules! say {
    () => { $crate::output::show!("\n") };
    ($($text:tt)*) => { $crate::output::show!("{}\n", format_args!($($text)*)) };
}
pub(super) use {say, show};

/// Writes it, if somebody reads it.
pub(super) fn put(text: fmt::Arguments<'_>) {
    let written = stdout().lock().write_fmt(text);
    if let Err(error) = written
        && error.kind() != ErrorKind::BrokenPipe
    {
        eprintln!("chatledger: standard output: {error}");
        std::process::exit(1);
    }
}
