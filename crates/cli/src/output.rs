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

/// Writes it for somebody who looks. Once nobody does any more, there is nothing left to do: the program ends, and well.
pub(super) fn tell(text: &str) {
    let mut out = stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    match written {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::BrokenPipe => std::process::exit(0),
        Err(error) => failed(&error),
    }
}

/// Writes it, if somebody reads it.
pub(super) fn put(text: fmt::Arguments<'_>) {
    let written = stdout().lock().write_fmt(text);
    if let Err(error) = written
        && error.kind() != ErrorKind::BrokenPipe
    {
        failed(&error);
    }
}

fn failed(error: &std::io::Error) -> ! {
    eprintln!("chatledger: standard output: {error}");
    std::process::exit(1);
}
