//! The scan that finds a path canonical, many bytes at a time.

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

/// Whether nothing in a path needs a closer look: no escape, no NUL, no empty segment or one that starts with a dot. A slash at the
/// end is not looked at.
#[inline]
pub(super) fn is_plain_path(path: &[u8]) -> bool {
    is_usual_path(path) || is_plain_word_by_word(path)
}

// Apart, so that what most paths go through is short.
#[inline(never)]
fn is_plain_word_by_word(path: &[u8]) -> bool {
    all_words(path, is_plain)
}

/// Whether that is plain to see: of paths without `!`, `"`, `#`, `$` and what is no visible ASCII.
///
/// Each byte is compared beside the one that follows it, eight of them at once, and the marks of all words are looked at together.
#[inline]
fn is_usual_path(path: &[u8]) -> bool {
    let [_, .., last] = path else { return false };
    let (here, next) = (&path[..path.len() - 1], &path[1..]);
    // The last word once more, or part of it: to find something twice does no harm.
    let (Some(last_here), Some(last_next)) = (here.last_chunk(), next.last_chunk()) else { return false };
    let words = here.as_chunks().0.iter().zip(next.as_chunks().0);
    let unusual = words.fold(unusual(last_here, last_next), |all, (here, next)| all | unusual(here, next));
    unusual & (LOWEST << 7) == 0 && *last > b'%'
}

/// A word with a high bit somewhere if any byte of `here`, followed by that of `next`, needs a closer look, or is not usual.
#[inline(always)]
const fn unusual(here: &[u8; 8], next: &[u8; 8]) -> u64 {
    const SLASHES: u64 = LOWEST * b'/' as u64;
    let (here, next) = (u64::from_le_bytes(*here), u64::from_le_bytes(*next));
    // A dot and a slash differ in the lowest bit alone. 0 in each byte where a slash is followed by one of them.
    let starts = (here ^ SLASHES) | ((next | LOWEST) ^ SLASHES);
    // What is less than is taken from it borrows from the high bit; what borrows from the byte above has set its own.
    starts.wrapping_sub(LOWEST) | here.wrapping_sub(LOWEST * (b'%' as u64 + 1)) | here
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
    fn what_is_usual_is_plain_and_most_paths_are_usual() {
        for path in
            ["/tenants/acme/projects/apollo/doc-0000000001", "/docs/4711", "/a/b.c/~D_e-f/g", "/cases/4711/exhibits/"]
        {
            assert!(is_usual_path(path.as_bytes()), "{path}");
        }
        for path in ["/docs/!4711", "/docs/$meta", "/docs/ä/4711", "/docs"] {
            assert!(!is_usual_path(path.as_bytes()) && is_plain_path(path.as_bytes()), "{path}");
        }
        // Every byte at every place, beside those that it is compared with.
        for length in 9..28 {
            for at in 0..length {
                for byte in 0..=u8::MAX {
                    for beside in *b"/.%a\0\xff&" {
                        let mut path = vec![b'x'; length];
                        path[at] = byte;
                        path[(at + 1) % length] = beside;
                        assert!(!is_usual_path(&path) || all_words(&path, is_plain), "{path:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn what_needs_a_closer_look_is_found_wherever_it_stands() {
        for length in 1..70 {
            let plain: String = std::iter::once('/').chain("a.b-c/D\u{1}.~".chars().cycle()).take(length).collect();
            assert!(all_words(plain.as_bytes(), is_plain) && is_plain_path(plain.as_bytes()), "{plain}");
            for odd in ["//", "/.", "/..", "%", "\0", "%\u{1}"] {
                for at in 0..(length + 1).saturating_sub(odd.len()) {
                    let mut path = plain.clone();
                    path.replace_range(at..at + odd.len(), odd);
                    assert!(!all_words(path.as_bytes(), is_plain) && !is_plain_path(path.as_bytes()), "{path}");
                }
            }
        }
    }
}
