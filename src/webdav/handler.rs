//! `Handler`: the service inside, called one request after the other, with the client's request and with some of the
//! layer's own.

use std::{
    borrow::Cow,
    error::Error,
    future::{Future, poll_fn},
    mem,
    pin::pin,
    task::Poll,
};

use bytes::Bytes;
use http::{HeaderName, Method, Request, Response, StatusCode, Uri, request::Parts, uri::PathAndQuery};
use http_body::Body;
use tower_service::Service;

use super::RequestBody;
use crate::{
    endpoint::Reading,
    locks::{Refusal, RefusalCode},
    store::Permit,
};

/// A WebDAV handler, as far as the layer needs to know it.
pub(super) trait Inner<B>:
    Service<Request<RequestBody<B>>, Response = Response<Self::ResBody>, Error = Self::Fault, Future: Send>
    + Clone
    + Send
    + 'static
{
    /// The body of its answers.
    type ResBody: Body<Error: Into<Box<dyn Error + Send + Sync>>, Data: Send> + Send + 'static;
    /// Its errors.
    type Fault: Send;
}

impl<S, B, R> Inner<B> for S
where
    S: Service<Request<RequestBody<B>>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Send,
    R: Body + Send + 'static,
    R::Data: Send,
    R::Error: Into<Box<dyn Error + Send + Sync>>,
{
    type ResBody = R;
    type Fault = S::Error;
}

/// The service inside. It is never called without having been ready.
pub(super) struct Handler<S> {
    service: S,
    readiness: Readiness,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Readiness {
    Ready,
    Unknown,
}

/// The lease of a write has lapsed while it ran.
pub(super) struct Lapsed;

impl<S> Handler<S> {
    /// A service that has just been polled ready.
    pub(super) fn ready(service: S) -> Self {
        Self { service, readiness: Readiness::Ready }
    }

    /// Waits until the service can be called. Done before a write is admitted, so that no write in flight waits for that.
    pub(super) async fn prepare<B>(&mut self) -> Result<(), S::Fault>
    where
        S: Inner<B>,
    {
        if self.readiness == Readiness::Unknown {
            poll_fn(|cx| self.service.poll_ready(cx)).await?;
            self.readiness = Readiness::Ready;
        }
        Ok(())
    }

    pub(super) async fn call<B>(&mut self, request: Request<RequestBody<B>>) -> Result<Response<S::ResBody>, S::Fault>
    where
        S: Inner<B>,
    {
        self.prepare().await?;
        self.readiness = Readiness::Unknown;
        self.service.call(request).await
    }

    /// Calls it as long as the write it is for may go on.
    pub(super) async fn call_under<B>(
        &mut self,
        permit: &Permit,
        request: Request<RequestBody<B>>,
    ) -> Result<Result<Response<S::ResBody>, S::Fault>, Lapsed>
    where
        S: Inner<B>,
    {
        under(permit, self.call(request)).await
    }

    /// Gives back the place that a ready service may hold: what now has to be waited for may itself wait for one.
    pub(super) fn rest(&mut self)
    where
        S: Clone,
    {
        let fresh = self.service.clone();
        drop(mem::replace(self, Self { service: fresh, readiness: Readiness::Unknown }));
    }
}

/// Goes on with what the service does for a write, as long as that may go on.
pub(super) async fn under<T>(permit: &Permit, work: impl Future<Output = T>) -> Result<T, Lapsed> {
    let mut work = pin!(work);
    poll_fn(|cx| {
        // Before the service goes on: others may have been granted meanwhile what it would change.
        if permit.poll_lapsed(cx).is_ready() {
            return Poll::Ready(Err(Lapsed));
        }
        work.as_mut().poll(cx).map(Ok)
    })
    .await
}

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
