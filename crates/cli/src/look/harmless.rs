//! Texts that anybody may have written, made harmless for a terminal. A terminal obeys escape sequences (it can be told to
//! change its title, answer as if the user had typed, or hide what follows), and shows text in another order where it is told to.
//!
//! What is taken out is shown by a sign, so that nobody mistakes the text for another.

/// The sign for what has none of its own.
const UNSEEN: char = '\u{fffd}';

/// The text as it may be shown in a block of lines: line feeds and tabs stay.
pub(crate) fn block(text: &str) -> String {
    // CRLF ends lines, and isn't meant to go back to their beginning.
    text.replace("\r\n", "\n")
        .chars()
        .flat_map(|c| {
            let (sign, count) = match c {
                '\n' => ('\n', 1),
                '\t' => (' ', 4),
                c => (seen(c), 1),
            };
            std::iter::repeat_n(sign, count)
        })
        .collect()
}

/// The text as it may be shown within a line.
pub(crate) fn line(text: &str) -> String {
    let text = text.replace("\r\n", "\n");
    text.chars()
        .map(|c| match c {
            '\n' | '\t' | '\u{2028}' | '\u{2029}' => ' ',
            c => seen(c),
        })
        .collect()
}

/// The character, or a sign for one that a terminal obeys.
fn seen(c: char) -> char {
    match c {
        // U+2400 and on are pictures of the control characters.
        '\0'..='\u{1f}' => char::from_u32(0x2400 + u32::from(c)).unwrap_or(UNSEEN),
        '\u{7f}' => '\u{2421}',
        // The second set of control characters, which some terminals obey; the order of writing; line ends of Unicode's own;
        // and what is never seen: soft hyphens apart, which are in plain texts.
        '\u{80}'..='\u{9f}'
        | '\u{61c}'
        | '\u{200e}'
        | '\u{200f}'
        | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}'
        | '\u{fff9}'..='\u{fffb}'
        | '\u{e0000}'..='\u{e007f}' => UNSEEN,
        c => c,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_left_that_a_terminal_obeys() {
        let hostile = "a\x1b[2J\x1b]0;title\x07b\u{9b}31m\u{202e}c\rd\x08e\u{e0041}\u{7f}";
        for text in [block(hostile), line(hostile)] {
            assert!(!text.chars().any(char::is_control), "{text:?}");
            assert_eq!(text, "a␛[2J␛]0;title␇b\u{fffd}31m\u{fffd}c␍d␈e\u{fffd}␡");
        }
    }

    #[test]
    fn plain_texts_stay_as_they_are() {
        let plain = "Grüße, 漢字, עברית, 👩\u{200d}💻\nzweite Zeile";
        assert_eq!(block(plain), plain);
        assert_eq!(line("a\nb\tc\r\nd"), "a b c d");
        assert_eq!(block("a\tb\r\nc"), "a    b\nc");
    }
}
