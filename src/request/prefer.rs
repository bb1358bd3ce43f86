//! `Preferences`: what a client would like, by `Prefer` (RFC 7240), as far as locks go.

use std::{fmt, time::Duration};

use http::{HeaderMap, HeaderName};

/// What a request prefers. What cannot be read is left out, as RFC 7240 section 2 has it: a preference can always be
/// ignored, so a malformed one is never an error.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Preferences {
    /// `wait=n` (section 4.3): for how long, in whole seconds, an answer may be waited for.
    pub wait: Option<Duration>,
    /// `lock=renew`, `lock=release` or `lock=keep`: what is to become of the locks that a write answered for. Our own preference.
    pub lock: Option<LockPreference>,
}

/// What becomes of the locks that a write answered for, once it has run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LockPreference {
    /// Their lifetime starts anew: who writes is alive.
    Renew,
    /// They end, if the write succeeded: it was the last one.
    Release,
    /// Nothing, whatever the service does otherwise.
    Keep,
}

impl LockPreference {
    /// The word in `Prefer` and `Preference-Applied`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Renew => "renew",
            Self::Release => "release",
            Self::Keep => "keep",
        }
    }
}

impl fmt::Display for LockPreference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Header fields of which each is looked at for its name, rather than that looked up.
const FEW: usize = 24;

// Made once: as a text it would be parsed again on every write.
static PREFER: HeaderName = HeaderName::from_static("prefer");

impl Preferences {
    /// Whether there are any in `headers`, well-formed or not.
    #[inline]
    pub(crate) fn are_in(headers: &HeaderMap) -> bool {
        // To look at each name is quicker than to hash this one, as long as there are as few as most requests have.
        if headers.len() <= FEW { headers.keys().any(|name| *name == PREFER) } else { headers.contains_key(&PREFER) }
    }

    /// What the fields named `Prefer` say. Of a preference that comes more than once the first counts (section 2).
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Self {
        let (mut preferences, mut waits, mut locks) = (Self::default(), true, true);
        for field in headers.get_all(&PREFER) {
            let Ok(text) = field.to_str() else { continue };
            for item in split(text, ',') {
                // Parameters, of which neither has one, come after a semicolon.
                let Some(preference) = split(item, ';').next() else { continue };
                let (name, value) = match preference.split_once('=') {
                    Some((name, value)) => (name.trim(), unquoted(value.trim())),
                    None => (preference.trim(), ""),
                };
                if name.eq_ignore_ascii_case("wait") && std::mem::take(&mut waits) {
                    preferences.wait = seconds(value);
                } else if name.eq_ignore_ascii_case("lock") && std::mem::take(&mut locks) {
                    preferences.lock = match value {
                        "renew" => Some(LockPreference::Renew),
                        "release" => Some(LockPreference::Release),
                        "keep" => Some(LockPreference::Keep),
                        _ => None,
                    };
                }
            }
        }
        preferences
    }
}

/// The pieces of `text` between separators that stand outside of quoted strings.
fn split(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let (mut quoted, mut escaped) = (false, false);
    text.split(move |letter| {
        if escaped {
            escaped = false;
            return false;
        }
        match letter {
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            letter => return letter == separator && !quoted,
        }
        false
    })
}

/// A quoted string without its quotes. No value of ours has anything in it that needs escaping.
fn unquoted(word: &str) -> &str {
    word.strip_prefix('"').and_then(|word| word.strip_suffix('"')).unwrap_or(word)
}

/// `delta-seconds` (RFC 9111 section 1.2.2): digits alone, and what is too large is very long.
fn seconds(text: &str) -> Option<Duration> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| Duration::from_secs(text.parse().unwrap_or(u64::from(u32::MAX))))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn of(fields: &[&str]) -> Preferences {
        let mut headers = HeaderMap::new();
        for field in fields {
            headers.append("prefer", HeaderValue::from_str(field).unwrap());
        }
        Preferences::of(&headers)
    }

    #[test]
    fn a_wait_is_read_wherever_it_stands() {
        for field in [
            "wait=10",
            "WAIT=10",
            "wait = 10",
            "wait=\"10\"",
            "respond-async, wait=10",
            "wait=10;x=1",
            "a=\",wait=3\", wait=10",
            "a=\"\\\",wait=3\", wait=10",
            "handling=lenient; wait=3, wait=10",
            "wait=10, wait=20",
            ", ,wait=10",
        ] {
            assert_eq!(of(&[field]).wait, Some(Duration::from_secs(10)), "{field}");
        }
        assert_eq!(of(&["return=minimal", "wait=10", "wait=20"]).wait, Some(Duration::from_secs(10)));
        assert_eq!(of(&["wait=0"]).wait, Some(Duration::ZERO));
        assert_eq!(of(&["wait=99999999999999999999999"]).wait, Some(Duration::from_secs(u32::MAX.into())));
    }

    #[test]
    fn what_cannot_be_read_is_left_out() {
        for field in
            ["", "wait", "wait=", "wait=-1", "wait=+1", "wait=1.5", "wait=soon", "waiting=10", "\"wait=10", "x;wait=10"]
        {
            assert_eq!(of(&[field]), Preferences::default(), "{field}");
        }
        // The first counts, though it says nothing.
        assert_eq!(of(&["wait=x, wait=10"]).wait, None);
    }

    #[test]
    fn preferences_are_found_among_however_many_fields() {
        for others in [0, 1, 23, 24, 25, 60] {
            let mut headers = HeaderMap::new();
            for other in 0..others {
                headers.append(HeaderName::try_from(format!("x-{other}")).unwrap(), other.into());
                headers.append("preference-applied", other.into());
            }
            assert!(!Preferences::are_in(&headers), "{others}");
            headers.append("Prefer", http::HeaderValue::from_static("garbage"));
            assert!(Preferences::are_in(&headers), "{others}");
        }
    }

    #[test]
    fn a_preference_about_locks_is_read() {
        assert_eq!(of(&["lock=renew"]).lock, Some(LockPreference::Renew));
        assert_eq!(of(&["wait=3, lock=\"release\""]).lock, Some(LockPreference::Release));
        assert_eq!(of(&["lock=keep"]).lock, Some(LockPreference::Keep));
        assert_eq!(of(&["lock=Renew"]).lock, None);
    }
}
