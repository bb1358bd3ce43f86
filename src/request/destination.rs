//! The path of a URI reference that stands in a header: the `Destination`, or a tag of `If`.
//!
//! The service behind reads the same header with a parser of its own. Whatever two parsers read as two paths is refused:
//! under one of the readings it would go round a lock.

use std::borrow::Cow;

use http::HeaderMap;

use super::RequestError;

const DESTINATION: &str = "Destination";

/// The path of the `Destination` header (RFC 4918 section 10.3), percent-encoded; none where there is no such header.
///
/// It borrows from the header, unless that holds octets that are not UTF-8.
pub(crate) fn destination_path(headers: &HeaderMap) -> Result<Option<Cow<'_, str>>, RequestError> {
    let mut fields = headers.get_all("destination").iter();
    let Some(field) = fields.next() else { return Ok(None) };
    if fields.next().is_some() {
        return Err(RequestError::malformed(DESTINATION, "there is more than one"));
    }
    reference_path(DESTINATION, field.as_bytes().trim_ascii()).map(Some)
}

/// The authority of the `Destination` header, if it is an absolute URI that has one. What is malformed otherwise is for
/// [`destination_path`] to refuse.
pub(super) fn destination_authority(headers: &HeaderMap) -> Option<&[u8]> {
    let reference = headers.get("destination")?.as_bytes().trim_ascii();
    if reference.starts_with(b"/") {
        return None;
    }
    let start = reference.windows(3).position(|three| three == b"://")? + 3;
    let rest = &reference[start..];
    Some(&rest[..rest.iter().position(|byte| matches!(byte, b'/' | b'?' | b'#')).unwrap_or(rest.len())])
}

/// The path of `reference`, an absolute URI or an absolute path (a `Simple-ref`, RFC 4918 section 8.3). Scheme and
/// authority are not compared with anything: to lock too much is safe. The query is cut; it is no part of a key.
pub(crate) fn reference_path<'r>(what: &'static str, reference: &'r [u8]) -> Result<Cow<'r, str>, RequestError> {
    let malformed = |why: &'static str| Err(RequestError::malformed(what, why));
    let ambiguous = |why: &'static str| Err(RequestError::ambiguous(what, why));
    if reference.is_empty() {
        return malformed("it is empty");
    }
    if reference.iter().any(|byte| *byte <= b' ' || *byte == 0x7F) {
        // Some parsers drop tabs, so that `/lo<tab>cked` becomes `/locked`.
        return malformed("a URI has no spaces and no control characters");
    }
    if reference.contains(&b'#') {
        // Section 8.3 allows none, and whoever does not cut it takes it for a part of the name.
        return ambiguous("a fragment, which some services take for a part of the path");
    }
    let hierarchy = match reference.iter().position(|byte| *byte == b'?') {
        Some(query) => &reference[..query],
        None => reference,
    };
    if hierarchy.contains(&b'\\') {
        // URL parsers of browsers take it for a slash, also in the authority; the others do not.
        return ambiguous("a backslash, which some services take for a slash");
    }
    if hierarchy.starts_with(b"//") {
        return ambiguous("`//` at the start, after which there is a host to some services and a path to others");
    }
    if hierarchy.starts_with(b"/") {
        return Ok(as_text(hierarchy));
    }

    let Some(colon) = hierarchy.iter().position(|byte| *byte == b':').filter(|colon| is_scheme(&hierarchy[..*colon])) else {
        return malformed("neither an absolute URI nor an absolute path");
    };
    let Some(rest) = hierarchy[colon + 1..].strip_prefix(b"//") else {
        return match hierarchy.get(colon + 1) {
            Some(b'/') => ambiguous("a scheme and one slash, after which some services look for a host"),
            _ => malformed("neither an absolute URI with an authority nor an absolute path"),
        };
    };
    let (authority, path) = match rest.iter().position(|byte| *byte == b'/') {
        Some(slash) => rest.split_at(slash),
        None => (rest, &b""[..]),
    };
    if authority.is_empty() {
        return ambiguous("an absolute URI without an authority, for which some services take the first segment");
    }
    if !authority.iter().all(|byte| is_authority(*byte)) {
        // `h%2Flocked/free` is `/locked/free` to whoever decodes first.
        return ambiguous("an authority with characters that hosts do not have");
    }
    if path.is_empty() {
        if hierarchy.len() < reference.len() {
            return ambiguous("a query right after the authority, in which some services look for the path");
        }
        return Ok(Cow::Borrowed("/"));
    }
    Ok(as_text(path))
}

fn is_scheme(text: &[u8]) -> bool {
    text.first().is_some_and(u8::is_ascii_alphabetic)
        && text.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'))
}

/// Whether `text` begins as an absolute URI does: with a scheme, and something after it.
pub(super) fn is_absolute_uri(text: &[u8]) -> bool {
    text.iter().position(|byte| *byte == b':').is_some_and(|colon| is_scheme(&text[..colon]) && colon + 1 < text.len())
        && text.iter().all(|byte| *byte > b' ' && *byte != 0x7F)
}

/// `unreserved`, `sub-delims` and what else stands in an authority (RFC 3986 section 3.2), without the percent sign.
fn is_authority(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@[]".contains(&byte)
}

/// Octets that are not UTF-8 are percent-encoded, so that an octet means the same whichever way it was sent.
fn as_text(path: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(path) {
        Ok(path) => Cow::Borrowed(path),
        Err(_) => {
            let mut text = String::with_capacity(path.len() + 16);
            for byte in path {
                match byte {
                    0..0x80 => text.push(char::from(*byte)),
                    _ => text.push_str(percent_encoding::percent_encode_byte(*byte)),
                }
            }
            Cow::Owned(text)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn path(value: &str) -> Result<String, &'static str> {
        bytes(value.as_bytes())
    }

    fn bytes(value: &[u8]) -> Result<String, &'static str> {
        let mut headers = HeaderMap::new();
        headers.insert("destination", HeaderValue::from_bytes(value).unwrap());
        match destination_path(&headers) {
            Ok(path) => Ok(path.unwrap().into_owned()),
            Err(error) => Err(error.code()),
        }
    }

    #[test]
    fn every_honest_spelling_of_a_destination_has_its_path() {
        for (value, expected) in [
            ("/a/b", "/a/b"),
            ("/a//b/", "/a//b/"),
            ("http://h/a/b", "/a/b"),
            ("HTTPS://user@h:8443/a%20b?q", "/a%20b"),
            ("http://[::1]:80/a", "/a"),
            ("http://h//a", "//a"),
            ("dav+x://h/a", "/a"),
            ("http://h", "/"),
            ("http://h/", "/"),
            (" /a\t", "/a"),
            ("/a?b/c", "/a"),
            ("/a?b\\c", "/a"),
            ("/a:b", "/a:b"),
            ("/http://h/a", "/http://h/a"),
            ("/ä", "/ä"),
        ] {
            assert_eq!(path(value).as_deref(), Ok(expected), "{value}");
        }
        assert_eq!(destination_path(&HeaderMap::new()), Ok(None));
    }

    #[test]
    fn a_destination_with_a_second_reading_is_refused() {
        for value in [
            "//h/a",
            "///a",
            "////h/a",
            "http:/a",
            "http:/h/a",
            "http:///a",
            "http:////h/a",
            "/free\\..\\a",
            "/a\\b",
            "\\a",
            "\\\\h\\a",
            "http://h\\@x/a",
            "http:\\\\h\\a",
            "http://h%2Fa/b",
            "http://h%5Ca/b",
            "http://h\"/a",
            "http://hä/a",
            "http://h?x/a",
            "http://h?",
            "http://h#x/a",
            "/a#b",
            "/a?b#c",
            "#",
        ] {
            assert_eq!(path(value), Err("ambiguous_path"), "{value}");
        }
    }

    #[test]
    fn what_is_no_destination() {
        for value in [
            "",
            " ",
            "a",
            "a/b",
            "./a",
            "../a",
            "?a",
            "*",
            "http:",
            "http:a",
            "1a://h/a",
            "://h/a",
            "<http://h/a>",
            ":",
            "%2Fa",
        ] {
            assert_eq!(path(value), Err("bad_request"), "{value}");
        }
        for value in ["/a b", "/a\tb", "/a /b", "http://h /a"] {
            assert_eq!(path(value), Err("bad_request"), "{value}");
        }
        let mut headers = HeaderMap::new();
        headers.append("destination", HeaderValue::from_static("/a"));
        headers.append("destination", HeaderValue::from_static("/a"));
        assert_eq!(destination_path(&headers).unwrap_err().to_string(), "malformed Destination: there is more than one");
    }

    #[test]
    fn an_octet_means_the_same_whichever_way_it_was_sent() {
        assert_eq!(bytes(b"/\xFF\xC3%A4"), Ok("/%FF%C3%A4".to_owned()));
        assert_eq!(bytes(b"http://h/a\xE4b"), Ok("/a%E4b".to_owned()));
    }

    #[test]
    fn a_path_in_utf_8_borrows_from_the_header() {
        let mut headers = HeaderMap::new();
        headers.insert("destination", HeaderValue::from_static("http://h/a/b"));
        assert!(matches!(destination_path(&headers), Ok(Some(Cow::Borrowed("/a/b")))));
    }
}
