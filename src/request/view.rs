//! `RequestView`: the head of a request, without its body.

use http::{Extensions, HeaderMap, Method, Request, Uri, Version, header::HOST, request::Parts, uri::Authority};

use super::{RequestError, destination::destination_authority};

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
    #[inline]
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

    /// The host that the request is for, as services select by it: that of the request target (RFC 9112 section 3.2.2,
    /// RFC 9113 section 8.3.1), or of `Host`; lower-cased, without a trailing dot and without the port 80 or 443. A
    /// request that names none is for the empty host.
    ///
    /// # Errors
    /// `Host` comes twice or is no host, or the target names another one: services may read either. Answered 400.
    pub fn host(&self) -> Result<String, RequestError> {
        let target = self.uri.authority().map(host_of);
        let mut fields = self.headers.get_all(HOST).iter();
        let Some(field) = fields.next() else { return Ok(target.unwrap_or_default()) };
        if fields.next().is_some() {
            return Err(RequestError::malformed("Host", "there is more than one"));
        }
        let field = match field.as_bytes() {
            b"" => String::new(),
            bytes => Authority::try_from(bytes)
                .map(|authority| host_of(&authority))
                .map_err(|_| RequestError::malformed("Host", "it is no host"))?,
        };
        match target {
            Some(target) if target != field => Err(RequestError::ambiguous("Host", "the request target names another host")),
            _ => Ok(field),
        }
    }

    /// The same host, where it decides which resource is meant: a `Destination` on another one is refused, for its key
    /// would be in the wrong namespace.
    pub(crate) fn host_of_all(&self) -> Result<String, RequestError> {
        let host = self.host()?;
        match destination_authority(self.headers) {
            Some(authority) if !Authority::try_from(authority).is_ok_and(|authority| host_of(&authority) == host) => {
                Err(RequestError::ambiguous("Destination", "it is on another host than the request target"))
            }
            _ => Ok(host),
        }
    }
}

fn host_of(authority: &Authority) -> String {
    let host = authority.host().to_ascii_lowercase();
    let host = host.strip_suffix('.').unwrap_or(&host);
    match authority.port_u16() {
        None | Some(80 | 443) => host.to_owned(),
        Some(port) => format!("{host}:{port}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(target: &str, fields: &[&str]) -> Result<String, RequestError> {
        let mut request = Request::put(target).body(()).unwrap();
        for field in fields {
            request.headers_mut().append(HOST, field.parse().unwrap());
        }
        RequestView::of(&request).host()
    }

    #[test]
    fn spellings_of_one_host() {
        for (target, fields) in [
            ("/a", &["Example.ORG"][..]),
            ("/a", &["example.org."]),
            ("/a", &["example.org:80"]),
            ("/a", &["EXAMPLE.org.:443"]),
            ("http://example.org/a", &["EXAMPLE.org:80"]),
            ("http://user@Example.org:80/a", &[]),
        ] {
            assert_eq!(host(target, fields).as_deref(), Ok("example.org"), "{target} {fields:?}");
        }
        assert_eq!(host("/a", &["example.org:8080"]).as_deref(), Ok("example.org:8080"));
        assert_eq!(host("/a", &["[::1]:80"]).as_deref(), Ok("[::1]"));
        assert_eq!(host("/a", &[]).as_deref(), Ok(""));
    }

    #[test]
    fn a_host_that_can_be_read_in_two_ways_is_refused() {
        assert!(host("/a", &["a.example", "b.example"]).is_err());
        assert!(host("/a", &["a.example, b.example"]).is_err());
        assert!(host("http://a.example/a", &["b.example"]).is_err());
        assert!(host("http://a.example/a", &[""]).is_err());
    }

    #[test]
    fn a_destination_on_another_host_is_refused_where_the_host_is_the_namespace() {
        for (destination, same) in [
            ("/b", true),
            ("http://A.example:80/b", true),
            ("http://user@a.example./b", true),
            ("http://b.example/b", false),
            ("http://a.example:8080/b", false),
            ("http:///b", false),
        ] {
            let request = Request::builder().method("MOVE").uri("/a").header(HOST, "a.example");
            let request = request.header("destination", destination).body(()).unwrap();
            assert_eq!(RequestView::of(&request).host_of_all().is_ok(), same, "{destination}");
        }
    }
}
