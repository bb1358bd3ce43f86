//! `EndpointLayer`: an endpoint before a service, for servers that have no router to mount it with.

use std::{
    error::Error,
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use http::{Request, Response};
use http_body::Body;
use percent_encoding::percent_decode_str;
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::{EndpointFuture, LockEndpoint};
use crate::respond::ResponseBody;

/// Answers the paths at and below one with a [`LockEndpoint`], and passes everything else on.
///
/// Only canonically spelled paths are the endpoint's: `//locks/a`, `/%6Cocks/a` and `/locks/../a` go on to the service
/// inside, and through the layer that guards it. So nothing that the layer has not seen ever reaches the service. What
/// the service has below that path is shadowed.
///
/// ```
/// use tower::ServiceBuilder;
/// use tower_lock::{LockEndpoint, LockLayer, Locks, MemoryStore};
///
/// let locks = Locks::new(MemoryStore::new());
/// let layers = ServiceBuilder::new()
///     .layer(LockEndpoint::new(locks.clone()).in_front_of("/locks"))
///     .layer(LockLayer::new(locks));
/// # let _ = layers;
/// ```
#[derive(Clone, Debug)]
#[must_use = "a layer does nothing until it is put before a service"]
pub struct EndpointLayer {
    endpoint: LockEndpoint,
    path: Arc<str>,
}

impl EndpointLayer {
    /// Puts `endpoint` at `path`, `/locks`, where it is then mounted. The root leaves nothing for the service inside.
    pub fn new(endpoint: LockEndpoint, path: &str) -> Self {
        let path = match path.trim_matches('/') {
            "" => String::new(),
            path => format!("/{path}"),
        };
        Self { endpoint: endpoint.mount(&path), path: path.into() }
    }
}

impl<S> Layer<S> for EndpointLayer {
    type Service = WithEndpoint<S>;

    fn layer(&self, inner: S) -> WithEndpoint<S> {
        WithEndpoint { inner, endpoint: self.endpoint.clone(), path: Arc::clone(&self.path) }
    }
}

/// A service with an endpoint before it. See [`EndpointLayer`].
#[derive(Clone, Debug)]
pub struct WithEndpoint<S> {
    inner: S,
    endpoint: LockEndpoint,
    path: Arc<str>,
}

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for WithEndpoint<S>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>>,
    ReqBody: Body,
    ReqBody::Error: Into<Box<dyn Error + Send + Sync>>,
{
    type Response = Response<ResponseBody<ResBody>>;
    type Error = S::Error;
    type Future = LayerFuture<S::Future, ReqBody>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<ReqBody>) -> Self::Future {
        let kind = if is_canonical_at(&self.path, request.uri().path()) {
            Kind::Endpoint { future: self.endpoint.call(request) }
        } else {
            Kind::Inner { future: self.inner.call(request) }
        };
        LayerFuture { kind }
    }
}

/// Whether `path` lies at or below `mount` in the one spelling that counts: the mount to the letter, then segments of
/// which none is empty or, decoded, a step to somewhere else.
fn is_canonical_at(mount: &str, path: &str) -> bool {
    let Some(rest) = path.strip_prefix(mount) else { return false };
    if rest.is_empty() || rest == "/" {
        return true;
    }
    let Some(below) = rest.strip_prefix('/') else { return false };
    let decoded = percent_decode_str(below).collect::<Vec<u8>>();
    let mut segments = decoded.split(|byte| matches!(byte, b'/' | b'\\')).peekable();
    while let Some(segment) = segments.next() {
        match segment {
            b"." | b".." => return false,
            // A trailing slash is part of a name, where the service makes a difference.
            b"" if segments.peek().is_some() => return false,
            _ => {}
        }
    }
    true
}

pin_project! {
    /// The answer of a [`WithEndpoint`] to come.
    #[must_use = "futures do nothing unless polled"]
    pub struct LayerFuture<F, B> {
        #[pin]
        kind: Kind<F, B>,
    }
}

pin_project! {
    #[project = KindProj]
    enum Kind<F, B> {
        Inner { #[pin] future: F },
        Endpoint { #[pin] future: EndpointFuture<B> },
    }
}

impl<F, ReqBody, ResBody, E> Future for LayerFuture<F, ReqBody>
where
    F: Future<Output = Result<Response<ResBody>, E>>,
    ReqBody: Body,
    ReqBody::Error: Into<Box<dyn Error + Send + Sync>>,
{
    type Output = Result<Response<ResponseBody<ResBody>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().kind.project() {
            KindProj::Inner { future } => {
                let response = ready!(future.poll(cx))?;
                Poll::Ready(Ok(response.map(ResponseBody::passed)))
            }
            KindProj::Endpoint { future } => {
                let Ok(response) = ready!(future.poll(cx));
                Poll::Ready(Ok(response.map(ResponseBody::beside)))
            }
        }
    }
}

impl<F, B> fmt::Debug for LayerFuture<F, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.kind {
            Kind::Inner { .. } => "LayerFuture(inner)",
            Kind::Endpoint { .. } => "LayerFuture(endpoint)",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::is_canonical_at;

    #[test]
    fn only_one_spelling_is_the_endpoints() {
        for path in ["/locks", "/locks/", "/locks/a", "/locks/a%20b/c", "/locks/a/", "/locks/..a", "/locks/%2525"] {
            assert!(is_canonical_at("/locks", path), "{path}");
        }
        for path in [
            "",
            "/",
            "*",
            "/locksmith",
            "//locks",
            "//locks/a",
            "/%6Cocks/a",
            "/LOCKS/a",
            "/x/../locks/a",
            "/./locks",
            "/locks//",
            "/locks//a",
            "/locks/../x",
            "/locks/a/..",
            "/locks/%2e%2E/x",
            "/locks/a%2f..%2Fx",
            "/locks/.",
            "/locks/./a",
            "/locks%2Fa",
            "/locks/..%5Cx",
            "/locks\\a",
            "/a/locks",
        ] {
            assert!(!is_canonical_at("/locks", path), "{path}");
        }
    }
}
