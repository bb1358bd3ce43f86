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

    /// A text with its quotation marks.
    pub(super) fn string(&mut self, text: &str) {
        if is_plain(text.as_bytes()) {
            self.0.push(b'"');
            self.raw(text);
            self.0.push(b'"');
        } else {
            self.value(text);
        }
    }

    /// A text without quotation marks, inside of them.
    pub(super) fn part(&mut self, text: &str) {
        if is_plain(text.as_bytes()) {
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

    pub(super) fn boolean(&mut self, value: bool) {
        self.raw(if value { "true" } else { "false" });
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
        debug_assert!(is_plain(words.as_bytes()), "{words}");
        self.raw(words);
        Ok(())
    }

    fn text(&mut self, text: &str) -> fmt::Result {
        if is_plain(text.as_bytes()) && text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
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
fn is_plain(text: &[u8]) -> bool {
    // Byte by byte without a way out, so that several are looked at at once.
    !text.iter().fold(false, |special, byte| special | (*byte < b' ') | (*byte == b'"') | (*byte == b'\\'))
}
