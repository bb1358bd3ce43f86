//! `If-None-Match`: what the client knows already (RFC 9110 section 13.1.2).

use http::{HeaderMap, HeaderValue, Response, StatusCode, header};

use super::{EndpointBody, call::Call, reply};

/// The answer with its tag, or 304 where the client has it already. The tag is weak: what counts
/// down while nothing has happened is left out of it.
pub(super) fn tagged(call: &Call, tag: &str, full: impl FnOnce() -> Response<EndpointBody>) -> Response<EndpointBody> {
    let mut response = if is_known(&call.parts.headers, tag) { reply::empty(StatusCode::NOT_MODIFIED) } else { full() };
    if let Ok(tag) = HeaderValue::try_from(format!("W/\"{tag}\"")) {
        response.headers_mut().insert(header::ETAG, tag);
    }
    response
}

/// Whether `If-None-Match` has the tag, compared as weak ones are. Ours has no comma and no quote in it.
pub(super) fn is_known(headers: &HeaderMap, tag: &str) -> bool {
    headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok()).any(|value| {
        value.trim() == "*"
            || value.split(',').any(|item| {
                let item = item.trim();
                item.strip_prefix("W/").unwrap_or(item).trim_matches('"') == tag
            })
    })
}
