//! `RequestView`: the head of a request, without its body.

use http::{Extensions, HeaderMap, Method, Request, Uri, Version, request::Parts};

/// The head of a request, borrowed. Everything that decides about a lock reads this, so the body is never looked at.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct RequestView<'a> {
    /// The method.
    pub method: &'a Method,
    /// The request target, as the layer got it: a router outside may have stripped a prefix.
    pub uri: &'a Uri,
    /// The version of the protocol.
    pub version: Version,
    /// The header fields.
    pub headers: &'a HeaderMap,
    /// What layers outside left: a principal, the original URI, route parameters.
    pub extensions: &'a Extensions,
}

impl<'a> RequestView<'a> {
    /// The head of `request`.
    #[must_use]
    pub fn of<B>(request: &'a Request<B>) -> Self {
        Self {
            method: request.method(),
            uri: request.uri(),
            version: request.version(),
            headers: request.headers(),
            extensions: request.extensions(),
        }
    }

    /// A head that was taken apart from its body.
    #[must_use]
    pub fn from_parts(parts: &'a Parts) -> Self {
        Self {
            method: &parts.method,
            uri: &parts.uri,
            version: parts.version,
            headers: &parts.headers,
            extensions: &parts.extensions,
        }
    }
}
