//! `Format`: which form of an answer a client prefers (RFC 9110 section 12.5.1).

use http::{HeaderMap, Response, StatusCode, header};
use mediatype::{MediaType, MediaTypeList, Name, ReadParams};

use crate::request::RequestView;

/// The forms of a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Format {
    /// `application/problem+json`: the default.
    Problem,
    /// The same document as `application/json`, for clients that ask for just that.
    Json,
    /// `text/html`, for a person whose browser sent a form.
    Html,
    /// `text/plain`: one sentence.
    Text,
    /// `application/xml` with the precondition that failed (RFC 4918 section 16), for WebDAV callers.
    #[cfg(feature = "webdav")]
    Xml,
    /// A gRPC status in the head of an answer without a body, for gRPC calls: see [`grpc`](super::grpc).
    #[cfg(feature = "grpc")]
    Grpc,
}

impl Format {
    /// The form that a client with these headers prefers; [`Format::Problem`] where it accepts none of ours, for a
    /// refusal in the wrong form is better than none.
    #[must_use]
    pub fn wanted(headers: &HeaderMap) -> Self {
        Self::wanted_of(&[Self::Problem, Self::Json, Self::Html, Self::Text], headers)
    }

    /// The form in which a request is refused: that of its protocol, where it has one, else what it [prefers](Self::wanted).
    #[must_use]
    pub fn of(request: RequestView<'_>) -> Self {
        match Self::of_protocol(request) {
            Self::Problem => Self::wanted(request.headers),
            format => format,
        }
    }

    /// The form that the protocol of a request asks for, whatever else is preferred; [`Format::Problem`] where it asks for none.
    /// Cheap enough to be asked of every write.
    #[inline]
    pub(crate) fn of_protocol(request: RequestView<'_>) -> Self {
        #[cfg(feature = "grpc")]
        if super::grpc::is_call(request) {
            return Self::Grpc;
        }
        #[cfg(not(feature = "grpc"))]
        let _none = request;
        Self::Problem
    }

    /// The form that the protocol of an answer asks for.
    pub(crate) fn of_answer(headers: &HeaderMap) -> Self {
        #[cfg(feature = "grpc")]
        if super::grpc::is_grpc(headers) {
            return Self::Grpc;
        }
        #[cfg(not(feature = "grpc"))]
        let _none = headers;
        Self::Problem
    }

    /// The same as [`Format::wanted`] for a WebDAV caller: XML, unless the client prefers one of the others.
    #[cfg(feature = "webdav")]
    pub(crate) fn wanted_in_dav(headers: &HeaderMap) -> Self {
        Self::wanted_of(&[Self::Xml, Self::Problem, Self::Json, Self::Html, Self::Text], headers)
    }

    /// Of `ours`, in the order of our own preference, which decides where the client has none.
    fn wanted_of(ours: &[Self], headers: &HeaderMap) -> Self {
        let mut best = (ours[0], 0.0);
        if !headers.contains_key(header::ACCEPT) {
            return best.0;
        }
        for format in ours.iter().copied() {
            let (main, sub) = format.media_type();
            let quality = wanted(headers, main, sub).map_or(0.0, |(_, quality)| quality);
            if quality > best.1 {
                best = (format, quality);
            }
        }
        best.0
    }

    fn media_type(self) -> (&'static str, &'static str) {
        match self {
            Self::Problem => ("application", "problem+json"),
            Self::Json => ("application", "json"),
            Self::Html => ("text", "html"),
            Self::Text => ("text", "plain"),
            #[cfg(feature = "webdav")]
            Self::Xml => ("application", "xml"),
            #[cfg(feature = "grpc")]
            Self::Grpc => ("application", "grpc"),
        }
    }

    /// The `Content-Type` of this form.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Problem => "application/problem+json",
            Self::Json => "application/json",
            Self::Html => "text/html; charset=utf-8",
            Self::Text => "text/plain; charset=utf-8",
            #[cfg(feature = "webdav")]
            Self::Xml => "application/xml; charset=utf-8",
            #[cfg(feature = "grpc")]
            Self::Grpc => "application/grpc",
        }
    }
}

/// What a service has made of a request: its status, but for gRPC, where the status of HTTP says nothing.
#[inline]
pub(crate) fn outcome<B>(response: &Response<B>) -> StatusCode {
    #[cfg(feature = "grpc")]
    if super::grpc::is_error(response.headers()) {
        return StatusCode::INTERNAL_SERVER_ERROR;
    }
    response.status()
}

/// Whether a client would rather have a stream of events than JSON: it names `text/event-stream`, and does not like JSON as
/// well.
pub(crate) fn prefers_events(headers: &HeaderMap) -> bool {
    let named = wanted(headers, "text", "event-stream").filter(|(specificity, _)| *specificity == NAMED);
    let json = wanted(headers, "application", "json").map_or(0.0, |(_, quality)| quality);
    named.is_some_and(|(_, quality)| quality > json)
}

/// How exactly a client names `main/sub`, and how much it wants it; nothing where it accepts none.
fn wanted(headers: &HeaderMap, main: &str, sub: &str) -> Option<(u8, f32)> {
    headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|accept| accept.to_str().ok())
        .flat_map(|accept| MediaTypeList::new(accept).filter_map(Result::ok))
        .filter_map(|range| specificity(&range, main, sub).map(|specificity| (specificity, quality(&range))))
        // The most specific range decides (`text/html;q=0, */*` does not accept HTML).
        .max_by(|a, b| a.0.cmp(&b.0))
}

/// The specificity of a range that names a type and nothing else.
const NAMED: u8 = 2;

/// How exactly `range` names `main/sub`; nothing where it does not.
fn specificity(range: &MediaType<'_>, main: &str, sub: &str) -> Option<u8> {
    let full_sub: String = match range.suffix {
        Some(suffix) => format!("{}+{suffix}", range.subty),
        None => range.subty.to_string(),
    };
    match (range.ty.as_str(), full_sub.as_str()) {
        ("*", "*") => Some(0),
        (ty, "*") if ty.eq_ignore_ascii_case(main) => Some(1),
        (ty, subty) if ty.eq_ignore_ascii_case(main) && subty.eq_ignore_ascii_case(sub) => Some(NAMED),
        _ => None,
    }
}

fn quality(range: &MediaType<'_>) -> f32 {
    const Q: Name<'static> = Name::new_unchecked("q");
    range.get_param(Q).map_or(1.0, |value| value.as_str().parse().unwrap_or(0.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepting(accept: &str) -> HeaderMap {
        HeaderMap::from_iter([(header::ACCEPT, accept.parse().unwrap())])
    }

    fn wanted(accept: &str) -> Format {
        Format::wanted(&accepting(accept))
    }

    #[cfg(feature = "webdav")]
    #[test]
    fn webdav_callers_get_xml_unless_they_prefer_something_else() {
        let wanted = |accept| Format::wanted_in_dav(&accepting(accept));
        assert_eq!(Format::wanted_in_dav(&HeaderMap::new()), Format::Xml);
        for (accept, format) in [
            ("*/*", Format::Xml),
            ("application/*", Format::Xml),
            ("application/xml, text/xml", Format::Xml),
            ("application/json", Format::Json),
            ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", Format::Html),
            ("image/png", Format::Xml),
        ] {
            assert_eq!(wanted(accept), format, "{accept}");
        }
    }

    #[test]
    fn a_stream_is_for_those_who_name_it_and_like_it_better_than_json() {
        for (accept, stream) in [
            ("text/event-stream", true),
            ("text/event-stream, application/json;q=0.5", true),
            ("text/event-stream;q=0.9, */*;q=0.1", true),
            ("TEXT/Event-Stream", true),
            ("text/event-stream, application/json", false),
            ("text/event-stream, */*", false),
            ("text/event-stream;q=0", false),
            ("text/*", false),
            ("*/*", false),
            ("", false),
        ] {
            assert_eq!(prefers_events(&accepting(accept)), stream, "{accept}");
        }
        assert!(!prefers_events(&HeaderMap::new()));
    }

    #[test]
    fn clients_get_what_they_prefer() {
        assert_eq!(Format::wanted(&HeaderMap::new()), Format::Problem);
        for (accept, format) in [
            ("*/*", Format::Problem),
            ("application/*", Format::Problem),
            ("application/json", Format::Json),
            ("application/json, application/problem+json", Format::Problem),
            ("application/problem+json;q=0.5, application/json", Format::Json),
            ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", Format::Html),
            ("text/plain", Format::Text),
            ("text/*;q=0.3, text/html;q=0", Format::Text),
            ("TEXT/HTML", Format::Html),
            ("image/png", Format::Problem),
            ("", Format::Problem),
            (";;;,,,q=", Format::Problem),
            ("text/html;q=nonsense", Format::Problem),
        ] {
            assert_eq!(wanted(accept), format, "{accept}");
        }
    }
}
