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
    fn wanted_of<const N: usize>(ours: &[Self; N], headers: &HeaderMap) -> Self {
        // What most programs send, or nothing.
        if headers.get(header::ACCEPT).is_none_or(|accept| accept == "*/*") && at_most_once(headers) {
            return ours[0];
        }
        let qualities = wanted(headers, &ours.map(Self::media_type));
        let mut best = (ours[0], 0.0);
        for (format, quality) in ours.iter().zip(qualities) {
            let quality = quality.map_or(0.0, |(_, quality)| quality);
            if quality > best.1 {
                best = (*format, quality);
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
    let [events, json] = wanted(headers, &[("text", "event-stream"), ("application", "json")]);
    let named = events.filter(|(specificity, _)| *specificity == NAMED);
    named.is_some_and(|(_, quality)| quality > json.map_or(0.0, |(_, quality)| quality))
}

fn at_most_once(headers: &HeaderMap) -> bool {
    headers.get_all(header::ACCEPT).iter().nth(1).is_none()
}

/// How exactly a client names each of `types`, and how much it wants it; nothing where it accepts none.
fn wanted<const N: usize>(headers: &HeaderMap, types: &[(&str, &str); N]) -> [Option<(u8, f32)>; N] {
    let mut found = [None; N];
    let fields = headers.get_all(header::ACCEPT).iter().filter_map(|accept| accept.to_str().ok());
    for range in fields.flat_map(|accept| MediaTypeList::new(accept).filter_map(Result::ok)) {
        for (found, (main, sub)) in found.iter_mut().zip(types) {
            // The most specific range decides (`text/html;q=0, */*` does not accept HTML), of several the last one.
            if let Some(specificity) = specificity(&range, main, sub)
                && found.is_none_or(|(most, _)| most <= specificity)
            {
                *found = Some((specificity, quality(&range)));
            }
        }
    }
    found
}

/// The specificity of a range that names a type and nothing else.
const NAMED: u8 = 2;

/// How exactly `range` names `main/sub`; nothing where it does not.
fn specificity(range: &MediaType<'_>, main: &str, sub: &str) -> Option<u8> {
    let (ty, any) = (range.ty.as_str(), range.subty == "*" && range.suffix.is_none());
    let is_sub = || match (range.suffix, sub.rsplit_once('+')) {
        (None, _) => range.subty.as_str().eq_ignore_ascii_case(sub),
        (Some(suffix), Some((sub, of_sub))) => {
            range.subty.as_str().eq_ignore_ascii_case(sub) && suffix.as_str().eq_ignore_ascii_case(of_sub)
        }
        (Some(_), None) => false,
    };
    match ty {
        "*" if any => Some(0),
        ty if !ty.eq_ignore_ascii_case(main) => None,
        _ if any => Some(1),
        _ => is_sub().then_some(NAMED),
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
