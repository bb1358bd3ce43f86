//! `Json`: a document that is written from front to end into one buffer, without a detour over `serde`'s data model.
//!
//! The documents of refusals are defined by what `serde` makes of them; this writes the same bytes sooner, and tests
//! compare the two.

use std::fmt;

use bytes::Bytes;

use crate::{
    lock::{LockId, Timestamp},
    locks::{Words, visible},
};

/// A document under way.
pub(super) struct Json(Vec<u8>);

impl Json {
    pub(super) fn with_capacity(bytes: usize) -> Self {
        Self(Vec::with_capacity(bytes))
    }

    pub(super) fn into_bytes(self) -> Bytes {
        self.0.into()
    }

    /// How long it is so far.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// A piece of the document as it is.
    #[inline]
    pub(super) fn raw(&mut self, piece: &str) {
        self.0.extend_from_slice(piece.as_bytes());
    }

    /// A text without quotation marks, inside of them.
    pub(super) fn part(&mut self, text: &str) {
        if is_plain(text) {
            self.raw(text);
        } else {
            let at = self.0.len();
            self.value(text);
            self.0.remove(at);
            self.0.pop();
        }
    }

    /// Whatever it is, as `serde` has it.
    pub(super) fn value<T: serde::Serialize + ?Sized>(&mut self, value: &T) {
        // Strings, numbers and words: nothing in it can fail to be written.
        serde_json::to_writer(&mut self.0, value).expect("plain data");
    }

    pub(super) fn integer(&mut self, number: u64) {
        self.raw(itoa::Buffer::new().format(number));
    }

    pub(super) fn id(&mut self, id: LockId) {
        self.raw(id.as_uuid().hyphenated().encode_lower(&mut [0; 36]));
    }

    pub(super) fn instant(&mut self, time: Timestamp) {
        self.0.extend_from_slice(&time.rfc3339());
    }
}

/// A sentence, inside of a string.
impl Words for Json {
    fn words(&mut self, words: &'static str) -> fmt::Result {
        debug_assert!(is_plain_ascii(words), "{words}");
        self.raw(words);
        Ok(())
    }

    fn text(&mut self, text: &str) -> fmt::Result {
        if is_plain_ascii(text) {
            self.raw(text);
            return Ok(());
        }
        for letter in text.chars().map(visible) {
            // Of what has to be escaped, that is all that can be seen.
            if matches!(letter, '"' | '\\') {
                self.0.push(b'\\');
            }
            self.raw(letter.encode_utf8(&mut [0; 4]));
        }
        Ok(())
    }

    fn number(&mut self, number: usize) -> fmt::Result {
        self.integer(number as u64);
        Ok(())
    }

    fn time(&mut self, time: Timestamp) -> fmt::Result {
        self.instant(time);
        Ok(())
    }
}

/// Whether a text stands in a document as it is: without quotation marks, backslashes and control characters.
fn is_plain(text: &str) -> bool {
    !any_word(text.as_bytes(), |word| below_blank(word) | has(word, b'"') | has(word, b'\\'))
}

/// Whether it also stands in a sentence as it is: printable ASCII.
fn is_plain_ascii(text: &str) -> bool {
    let hidden = |word| word | has(word, 0x7f);
    !any_word(text.as_bytes(), |word| below_blank(word) | has(word, b'"') | has(word, b'\\') | hidden(word))
}

/// Whether the highest bit of any byte is set in what `of` makes of a text, eight bytes at a time.
#[inline(always)]
fn any_word(text: &[u8], of: impl Fn(u64) -> u64) -> bool {
    let (words, rest) = text.as_chunks::<8>();
    let found = words.iter().fold(0, |found, word| found | of(u64::from_ne_bytes(*word)));
    let last = match text.last_chunk() {
        // Some of them for the second time.
        Some(last) => u64::from_ne_bytes(*last),
        None => rest.iter().fold(each(b' '), |word, byte| word << 8 | u64::from(*byte)),
    };
    (found | of(last)) & each(0x80) != 0
}

const fn each(byte: u8) -> u64 {
    u64::from_ne_bytes([byte; 8])
}

// The highest bit of each byte for which it is so. What is borrowed from the next byte can only set more bits where one is set
// already.

const fn below_blank(word: u64) -> u64 {
    word.wrapping_sub(each(b' ')) & !word
}

const fn has(word: u64, byte: u8) -> u64 {
    let word = word ^ each(byte);
    word.wrapping_sub(each(1)) & !word
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(write: impl FnOnce(&mut Json)) -> String {
        let mut json = Json::with_capacity(0);
        write(&mut json);
        String::from_utf8(json.into_bytes().into()).unwrap()
    }

    #[test]
    fn every_letter_is_looked_at_wherever_it_stands() {
        let letters = (0..0x500).chain([0x2028, 0x202e, 0xfeff, 0xfffd, 0x1f512, 0x10_ffff]).filter_map(char::from_u32);
        for letter in letters {
            for at in 0..20 {
                let text = format!("{}{letter}{}", "x".repeat(at), "y".repeat(19 - at));
                let plain = !matches!(letter, '"' | '\\' | '\0'..='\u{1f}');
                assert_eq!(is_plain(&text), plain, "{text:?}");
                assert_eq!(is_plain_ascii(&text), plain && matches!(letter, ' '..='~'), "{text:?}");
            }
        }
        assert!(is_plain("") && is_plain_ascii(""));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn strings_are_written_as_serde_has_them(text in any::<String>(), more in "[ -~\"\\\\\r\n\t\u{0}\u{7f}\u{85}ü\u{202e}]{0,40}") {
            for text in [text, more] {
                let expected = serde_json::to_string(&text).unwrap();
                prop_assert_eq!(written(|json| json.part(&text)), &expected[1..expected.len() - 1]);
                // In a sentence, what is not to be seen is replaced first.
                let seen: String = text.chars().map(visible).collect();
                let expected = serde_json::to_string(&seen).unwrap();
                prop_assert_eq!(written(|json| json.text(&text).unwrap()), &expected[1..expected.len() - 1]);
            }
        }
    }
}
