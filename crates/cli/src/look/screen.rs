//! What stdout is: a terminal with a width and colours, or a file or pipe that takes plain text.

use std::io::{IsTerminal, stdout};

use comfy_table::{ContentArrangement, Table, presets};
use jiff::{Timestamp, tz::TimeZone};

/// The narrowest terminal that lines are fitted to: below, words would be cut to letters.
const NARROWEST: u16 = 20;

/// Where a command's output goes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Screen {
    /// How many columns a terminal has; nothing where stdout is none: then lines are as long as they are.
    width: Option<u16>,
    colours: bool,
}

/// How a piece of text looks.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Look {
    /// What matters.
    Bold,
    /// What is beside the point.
    Dim,
    /// All is well; a person's words.
    Green,
    /// A thing to look at; a tool's words.
    Yellow,
    /// What is wrong.
    Red,
    /// A model's words.
    Cyan,
}

impl Look {
    /// The parameter of Select Graphic Rendition (ECMA-48).
    fn code(self) -> u8 {
        match self {
            Look::Bold => 1,
            Look::Dim => 2,
            Look::Red => 31,
            Look::Green => 32,
            Look::Yellow => 33,
            Look::Cyan => 36,
        }
    }
}

impl Screen {
    /// What stdout is. Colours are for terminals, unless NO_COLOR is set, to whatever but nothing (no-color.org), or the
    /// terminal is a dumb one.
    pub(crate) fn of_stdout() -> Screen {
        let is_terminal = stdout().is_terminal();
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let is_dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let mut probe = Table::new();
        probe.set_content_arrangement(ContentArrangement::Dynamic);
        Screen {
            width: is_terminal
                .then(|| probe.width())
                .flatten()
                .map(|width| width.max(NARROWEST)),
            colours: is_terminal && !no_color && !is_dumb,
        }
    }

    /// A table without lines around it, which fits the terminal.
    pub(crate) fn table(self) -> Table {
        let mut table = Table::new();
        table.load_preset(presets::NOTHING);
        // Its own idea of the terminal and of colours would be another one.
        table.force_no_tty();
        if let Some(width) = self.width {
            table
                .set_content_arrangement(ContentArrangement::Dynamic)
                .set_width(width);
        }
        table
    }

    /// The text in a colour, where there are some.
    pub(crate) fn paint(self, look: Look, text: &str) -> String {
        if self.colours {
            format!("\x1b[{}m{text}\x1b[0m", look.code())
        } else {
            text.to_owned()
        }
    }

    /// The lines of a text below one another, indented, and wrapped between words where a terminal is too narrow for them.
    pub(crate) fn indented(self, text: &str) -> String {
        let mut shown = String::new();
        for line in text.lines() {
            if line.is_empty() {
                shown.push('\n');
                continue;
            }
            let mut table = self.table();
            table.add_row([line]);
            if let Some(column) = table.column_mut(0) {
                column.set_padding((4, 0));
            }
            for line in table.lines() {
                shown.push_str(line.trim_end());
                shown.push('\n');
            }
        }
        shown
    }
}

/// A table's text, without the blanks at the ends of lines.
pub(crate) fn trimmed(table: &Table) -> String {
    let lines = table.lines().map(|line| line.trim_end().to_owned() + "\n");
    lines.collect()
}

/// A time as people read it, in the time zone of the machine.
pub(crate) fn local_time(time: Option<&prost_types::Timestamp>) -> String {
    let Some(time) = time.and_then(timestamp) else {
        return "-".to_owned();
    };
    let zoned = time.to_zoned(TimeZone::system());
    zoned.strftime("%Y-%m-%d %H:%M:%S").to_string()
}

/// A time of the contract.
pub(crate) fn timestamp(time: &prost_types::Timestamp) -> Option<Timestamp> {
    Timestamp::new(time.seconds, time.nanos).ok()
}
