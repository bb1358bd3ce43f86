//! The scan that finds a path canonical, eight bytes at a time.

/// Whether `plain` says so of all of `path`, eight bytes at a time. Its second argument is the high bit of the lowest byte
/// where the byte before the word is a slash; it leaves that of the next word there.
#[inline]
pub(super) fn all_words(path: &[u8], mut plain: impl FnMut(u64, &mut u64) -> bool) -> bool {
    let mut before = 0;
    let (words, rest) = path.as_chunks::<8>();
    for word in words {
        if !plain(u64::from_le_bytes(*word), &mut before) {
            return false;
        }
    }
    if rest.is_empty() {
        return true;
    }
    // The last eight bytes. Some were looked at before, the first of them too, so what comes before it does not matter.
    match path.last_chunk::<8>() {
        Some(word) => plain(u64::from_le_bytes(*word), &mut 0),
        None => {
            let mut word = [b'a'; 8];
            word[..rest.len()].copy_from_slice(rest);
            plain(u64::from_le_bytes(word), &mut 0)
        }
    }
}

/// Whether nothing in eight bytes of a path needs a closer look: no escape, no NUL, no empty segment or one that starts
/// with a dot.
#[inline]
pub(super) fn is_plain(word: u64, before: &mut u64) -> bool {
    let slashes = bytes_equal(word, b'/');
    // A dot and a slash differ in the lowest bit alone.
    let slashes_and_dots = bytes_equal(word | LOWEST, b'/');
    let starts = (slashes << 8) | *before;
    *before = slashes >> 56;
    ((starts & slashes_and_dots) | bytes_equal(word, b'%') | bytes_equal(word, 0)) == 0
}

/// The lowest bit of each byte.
const LOWEST: u64 = 0x0101_0101_0101_0101;

/// The high bit of each byte of `word` that is `byte`. Of others it may set that of one that differs from `byte` in the
/// lowest bit alone and comes right after one that is set: of no byte where none is `byte`.
#[inline]
pub(super) const fn bytes_equal(word: u64, byte: u8) -> u64 {
    let differs = word ^ (LOWEST * byte as u64);
    differs.wrapping_sub(LOWEST) & !differs & (LOWEST << 7)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_needs_a_closer_look_is_found_wherever_it_stands() {
        for length in 1..40 {
            let plain: String = std::iter::once('/').chain("a.b-c/D\u{1}.~".chars().cycle()).take(length).collect();
            assert!(all_words(plain.as_bytes(), is_plain), "{plain}");
            for odd in ["//", "/.", "/..", "%", "\0", "%\u{1}"] {
                for at in 0..length.saturating_sub(odd.len()) {
                    let mut path = plain.clone();
                    path.replace_range(at..at + odd.len(), odd);
                    assert!(!all_words(path.as_bytes(), is_plain), "{path}");
                }
            }
        }
    }
}
