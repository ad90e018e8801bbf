//! At a pseudo-terminal, which has a width.

use std::{fs::File, io::Read, process::Stdio};

use nix::pty::{Winsize, openpty};

use super::{hostile_session, look};
use crate::harness::*;

const COLUMNS: u16 = 60;

/// What a command shows at a terminal.
async fn at_terminal(server: &TestServer, args: &[&str], no_color: bool) -> String {
    let size = Winsize {
        ws_row: 24,
        ws_col: COLUMNS,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    let terminal = openpty(Some(&size), None).expect("a terminal");
    let mut command = look(server, args);
    command
        .env("TERM", "xterm")
        .env("TZ", "UTC")
        .env_remove("NO_COLOR")
        .stdout(Stdio::from(terminal.slave));
    if no_color {
        command.env("NO_COLOR", "1");
    }
    let mut child = command.spawn().expect("chatledger");
    // It holds the terminal's other end, without which reading ends.
    drop(command);
    let reading = tokio::task::spawn_blocking(move || {
        let mut shown = Vec::new();
        // Where nobody holds the other end any more, Linux answers EIO.
        let _ = File::from(terminal.master).read_to_end(&mut shown);
        (child.wait().expect("its end"), shown)
    });
    let (status, shown) = reading.await.expect("no panic");
    assert!(status.success());
    String::from_utf8(shown).expect("UTF-8").replace("\r\n", "\n")
}

/// The text without our own colours.
fn plain(shown: &str) -> String {
    let mut text = shown.to_owned();
    for code in [0, 1, 2, 31, 32, 33, 36] {
        text = text.replace(&format!("\x1b[{code}m"), "");
    }
    text
}

#[tokio::test]
async fn a_terminal_has_colours_and_lines_that_fit_and_no_color_has_none() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    let (user, session) = hostile_session(&server).await;
    let long = "漢字 and words that go on for longer than any line of this terminal has room for, ".repeat(3);
    append(&server, &session, text(&long)).await.expect("a receipt");

    for args in [
        &["messages", session.as_str()][..],
        &["sessions", "--user", user.as_str()],
    ] {
        let shown = at_terminal(&server, args, false).await;
        let text = plain(&shown);
        super::assert_harmless(&text);
        for line in text.lines() {
            // A Han character takes two columns.
            let wide = line
                .chars()
                .filter(|c| ('\u{2e80}'..='\u{9fff}').contains(c))
                .count();
            let columns = line.chars().count() + wide;
            assert!(columns <= usize::from(COLUMNS), "{columns}: {line:?}");
        }
    }
    let shown = at_terminal(&server, &["messages", &session], false).await;
    assert!(shown.contains("\x1b[32muser\x1b[0m"), "{shown:?}");
    let shown = at_terminal(&server, &["messages", &session], true).await;
    super::assert_harmless(&shown);
}
