//! What the handler inside is asked by the layer itself, and how its answers are read.

use std::{borrow::Cow, error::Error, future::poll_fn};

use bytes::Bytes;
use http::{HeaderName, Method, Request, Response, StatusCode, Uri, request::Parts, uri::PathAndQuery};
use http_body::Body;

use super::RequestBody;
pub(super) use crate::middleware::{Handler, Inner, Lapsed, under};
use crate::{
    endpoint::Reading,
    locks::{Refusal, RefusalCode},
};

/// Where a request of the layer's own goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place<'p> {
    /// To the target of the client's, with its query.
    Target,
    /// To this path, percent-encoded.
    Path(&'p str),
}

/// A request of the layer's own, on behalf of the caller of `parts`: with all that says who that is. Nothing where the
/// path is none that a target can have.
pub(super) fn inner<B>(
    parts: &Parts,
    method: Method,
    place: Place<'_>,
    body: RequestBody<B>,
) -> Option<Request<RequestBody<B>>> {
    let uri = match place {
        Place::Target => parts.uri.clone(),
        Place::Path(path) => at(&parts.uri, path)?,
    };
    let mut request = Request::new(body);
    *request.method_mut() = method;
    *request.uri_mut() = uri;
    *request.version_mut() = parts.version;
    *request.extensions_mut() = parts.extensions.clone();
    for (name, value) in parts.headers.iter().filter(|(name, _)| !is_of_its_own(name)) {
        request.headers_mut().append(name.clone(), value.clone());
    }
    Some(request)
}

/// Whether a header field is about the client's request, not about the client.
fn is_of_its_own(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "accept"
            | "accept-encoding"
            | "connection"
            | "content-digest"
            | "content-encoding"
            | "content-language"
            | "content-length"
            | "content-md5"
            | "content-range"
            | "content-type"
            | "depth"
            | "destination"
            | "digest"
            | "expect"
            | "if"
            | "if-match"
            | "if-modified-since"
            | "if-none-match"
            | "if-range"
            | "if-unmodified-since"
            | "lock-token"
            | "overwrite"
            | "prefer"
            | "range"
            | "repr-digest"
            | "te"
            | "timeout"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
    )
}

/// The same target with another path.
fn at(uri: &Uri, path: &str) -> Option<Uri> {
    // A header field may hold octets as they are, which a target does not.
    let path: Cow<'_, str> = percent_encoding::utf8_percent_encode(path, percent_encoding::CONTROLS).into();
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::try_from(&*path).ok()?);
    Uri::from_parts(parts).ok()
}

/// Why the body of an answer of the handler's could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unread {
    /// It is longer than the layer reads.
    TooLong,
    /// It broke off.
    Broken,
}

impl Unread {
    /// What a client is told.
    pub(super) const fn status(self) -> StatusCode {
        match self {
            Self::TooLong => StatusCode::INSUFFICIENT_STORAGE,
            Self::Broken => StatusCode::BAD_GATEWAY,
        }
    }
}

/// An answer of the handler's with all of its body, at most `limit` bytes.
pub(super) async fn buffered<B>(response: Response<B>, limit: usize) -> Result<Response<Bytes>, Unread>
where
    B: Body,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let (head, body) = response.into_parts();
    let unread = |refusal: Refusal| match refusal.code() {
        RefusalCode::ContentTooLarge => Unread::TooLong,
        _ => Unread::Broken,
    };
    let mut reading = Reading::new(body, &head.headers, limit).map_err(unread)?;
    let body = poll_fn(|cx| reading.poll(cx)).await.map_err(unread)?;
    Ok(Response::from_parts(head, body))
}
