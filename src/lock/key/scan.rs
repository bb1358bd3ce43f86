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
///
/// Each byte is compared beside the one that follows it, sixteen of them at once where the processor can.
#[inline]
pub(super) fn is_plain_path(path: &[u8]) -> bool {
    let [_, .., last] = path else { return !matches!(path, [b'%' | 0]) };
    let (here, next) = (&path[..path.len() - 1], &path[1..]);
    let mut odd = [0; BLOCK];
    match (here.last_chunk(), next.last_chunk()) {
        // The last block once more, or part of it: to find something twice does no harm.
        (Some(last_here), Some(last_next)) => {
            for (here, next) in here.as_chunks().0.iter().zip(next.as_chunks().0) {
                mark_odd(here, next, &mut odd);
            }
            mark_odd(last_here, last_next, &mut odd);
        }
        _ => {
            // Filled up with what nothing is odd about.
            let (mut short, mut after) = ([b'a'; BLOCK], [b'a'; BLOCK]);
            short[..here.len()].copy_from_slice(here);
            after[..next.len()].copy_from_slice(next);
            mark_odd(&short, &after, &mut odd);
        }
    }
    u128::from_ne_bytes(odd) == 0 && !matches!(last, b'%' | 0)
}

const BLOCK: usize = 16;

/// Sets those bytes of `odd` where one of `here`, followed by that of `next`, needs a closer look.
#[inline]
fn mark_odd(here: &[u8; BLOCK], next: &[u8; BLOCK], odd: &mut [u8; BLOCK]) {
    for at in 0..BLOCK {
        // A dot and a slash differ in the lowest bit alone.
        let starts_a_segment = (here[at] == b'/') & (next[at] | 1 == b'/');
        odd[at] |= u8::from(starts_a_segment | (here[at] == b'%') | (here[at] == 0));
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
