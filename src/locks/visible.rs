//! `Visible`: what people have written, in a sentence for other people.

use std::fmt::{self, Write};

/// A text without what is not to be seen and yet does something: control characters, which a terminal obeys and which begin
/// lines, and marks that turn the direction of what follows. Each stands as U+FFFD, the end of a line as a blank. What
/// programs read, the members of a problem document, stays as it is.
pub(super) struct Visible<'t>(pub(super) &'t str);

impl fmt::Display for Visible<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
            return f.write_str(self.0);
        }
        self.0.chars().try_for_each(|letter| f.write_char(visible(letter)))
    }
}

/// What stands for a letter.
pub(crate) fn visible(letter: char) -> char {
    match letter {
        '\n' | '\r' | '\t' => ' ',
        letter if is_unseen(letter) => char::REPLACEMENT_CHARACTER,
        letter => letter,
    }
}

fn is_unseen(letter: char) -> bool {
    letter.is_control() || matches!(letter, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_obeys_is_not_told() {
        for (text, told) in [
            ("nightly export", "nightly export"),
            ("Überarbeitung \u{1f512}", "Überarbeitung \u{1f512}"),
            ("a\u{1b}[2Jb\r\nc\u{85}", "a\u{fffd}[2Jb  c\u{fffd}"),
            ("txt.\u{202e}exe\u{2066}\u{2028}", "txt.\u{fffd}exe\u{fffd}\u{fffd}"),
        ] {
            assert_eq!(Visible(text).to_string(), told);
        }
    }
}
