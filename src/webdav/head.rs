//! The header fields of a WebDAV request that locks depend on: `Depth`, `Timeout`, `Overwrite` (RFC 4918 section 10).

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::{lock::Depth, locks::Refusal, store::Span};

/// How far a LOCK reaches: `infinity` where nothing is said (section 9.10.3).
pub(super) fn depth_of_lock(headers: &HeaderMap) -> Result<Depth, Refusal> {
    let mut fields = headers.get_all("depth").iter();
    match (fields.next().map(|field| field.as_bytes().trim_ascii()), fields.next()) {
        (None, _) => Ok(Depth::Infinity),
        (Some(b"0"), None) => Ok(Depth::Zero),
        (Some(depth), None) if depth.eq_ignore_ascii_case(b"infinity") => Ok(Depth::Infinity),
        _ => Err(Refusal::bad_request("Depth: a lock has the depth `0` or `infinity` (RFC 4918 section 9.10.3)")),
    }
}

/// How far a listing reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// The resource alone.
    Itself,
    /// The resource and its members.
    Members,
    /// The resource and all below; also where nothing is said (section 9.1).
    Everything,
}

/// How far a PROPFIND reaches. What is malformed is for the handler to refuse.
pub(super) fn reach(headers: &HeaderMap) -> Reach {
    match headers.get("depth").map(|depth| depth.as_bytes().trim_ascii()) {
        Some(b"0") => Reach::Itself,
        Some(b"1") => Reach::Members,
        _ => Reach::Everything,
    }
}

/// The lifetime that a client asks for: the first of its list that can be had (section 10.7). Nothing in particular where
/// there is none; a server may ignore the field, so nothing in it is an error, and no lifetime of zero is granted.
pub(super) fn timeout(headers: &HeaderMap) -> Span {
    let fields = headers.get_all("timeout").iter().filter_map(|field| field.to_str().ok());
    fields.flat_map(|field| field.split(',')).find_map(|word| span(word.trim())).unwrap_or(Span::Same)
}

fn span(word: &str) -> Option<Span> {
    if word.eq_ignore_ascii_case("infinite") {
        return Some(Span::Endless);
    }
    let (name, digits) = word.split_once('-')?;
    if !name.eq_ignore_ascii_case("second") || digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    // Section 10.7 ends at 2^32 - 1; more is as good as that.
    match digits.parse::<u32>().unwrap_or(u32::MAX) {
        0 => None,
        seconds => Some(Span::For(Duration::from_secs(seconds.into()))),
    }
}

/// Whether a COPY or MOVE may overwrite what is at its destination (section 10.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Overwrite {
    /// `T`, also where nothing is said.
    Allowed,
    /// `F`.
    Forbidden,
}

/// What `Overwrite` says. Only the one word that forbids does, to the octet: HTTP/2 leaves spaces around a value, and a
/// handler may not know the word with those.
pub(super) fn overwrite(headers: &HeaderMap) -> Overwrite {
    let mut fields = headers.get_all("overwrite").iter();
    match (fields.next(), fields.next()) {
        (Some(field), None) if field.as_bytes() == b"F" => Overwrite::Forbidden,
        _ => Overwrite::Allowed,
    }
}

/// Adds `words` to a list in a header field, those that are not in it. A field that comes twice becomes one.
pub(super) fn add_to_list(headers: &mut HeaderMap, name: &HeaderName, words: &[&str]) {
    let fields: Vec<&str> = headers.get_all(name).iter().filter_map(|field| field.to_str().ok()).collect();
    let mut list = fields.join(", ");
    for word in words {
        if !has_word(&list, word) {
            if !list.trim().is_empty() {
                list.push_str(", ");
            }
            list.push_str(word);
        }
    }
    if let Ok(list) = HeaderValue::try_from(list) {
        headers.insert(name.clone(), list);
    }
}

/// Whether a list has this word.
pub(super) fn has_word(list: &str, word: &str) -> bool {
    list.split(',').any(|other| other.trim().eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &'static str, values: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(name, value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn a_lock_reaches_nowhere_or_everywhere() {
        let depth = |values: &[&str]| depth_of_lock(&headers("depth", values)).ok();
        assert_eq!(depth(&[]), Some(Depth::Infinity));
        assert_eq!(depth(&["0"]), Some(Depth::Zero));
        assert_eq!(depth(&["Infinity"]), Some(Depth::Infinity));
        for values in [&["1"][..], &[""], &["1,noroot"], &["infinity,noroot"], &["0", "0"], &["-1"], &["00"]] {
            assert_eq!(depth(values), None, "{values:?}");
        }
    }

    #[test]
    fn the_first_timeout_that_can_be_had() {
        let asked = |values: &[&str]| timeout(&headers("timeout", values));
        let seconds = |seconds| Span::For(Duration::from_secs(seconds));
        assert_eq!(asked(&[]), Span::Same);
        assert_eq!(asked(&["Second-3600"]), seconds(3600));
        assert_eq!(asked(&["Infinite, Second-4100000000"]), Span::Endless);
        assert_eq!(asked(&["Extend-5, Second-5, Infinite"]), seconds(5));
        assert_eq!(asked(&["Second-0, second-7"]), seconds(7));
        assert_eq!(asked(&["nonsense", "Second-9"]), seconds(9));
        assert_eq!(asked(&["Second-99999999999999999999"]), seconds(u64::from(u32::MAX)));
        for value in ["Second-0", "Second-", "Second--1", "Second-+5", "Second-1.5", "3600", "", ",,", "Second"] {
            assert_eq!(asked(&[value]), Span::Same, "{value}");
        }
    }

    #[test]
    fn only_a_clear_word_forbids_to_overwrite() {
        let read = |values: &[&str]| overwrite(&headers("overwrite", values));
        assert_eq!(read(&["F"]), Overwrite::Forbidden);
        for values in [&[][..], &["T"], &["f"], &["False"], &[""], &["F", "F"], &["F", "T"], &[" F"], &["F "]] {
            assert_eq!(read(values), Overwrite::Allowed, "{values:?}");
        }
    }

    #[test]
    fn a_list_grows_by_what_is_not_in_it() {
        let name = HeaderName::from_static("allow");
        for (before, after) in [
            (&["GET, PUT"][..], "GET, PUT, LOCK, UNLOCK"),
            (&["GET", "LOCK"], "GET, LOCK, UNLOCK"),
            (&["UNLOCK,lock"], "UNLOCK,lock"),
            (&[""], "LOCK, UNLOCK"),
        ] {
            let mut headers = headers("allow", before);
            add_to_list(&mut headers, &name, &["LOCK", "UNLOCK"]);
            assert_eq!(headers.get_all(&name).iter().collect::<Vec<_>>(), [after], "{before:?}");
        }
    }
}
