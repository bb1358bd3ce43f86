//! `DavService`: which method goes which way.

use std::{
    error::Error,
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::{Request, Response};
use http_body::Body;
use pin_project_lite::pin_project;
use tower_service::Service;

use super::RequestBody;
use crate::{locks::Locks, respond::ResponseBody};

/// A WebDAV handler behind locks; made by [`DavLayer`](super::DavLayer). See the [module docs](super).
#[derive(Clone)]
pub struct DavService<S> {
    inner: S,
    locks: Locks,
}

impl<S> DavService<S> {
    pub(super) fn new(inner: S, locks: Locks) -> Self {
        Self { inner, locks }
    }
}

impl<S, B, ResBody> Service<Request<B>> for DavService<S>
where
    S: Service<Request<RequestBody<B>>, Response = Response<ResBody>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Send,
    B: Body + Send + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
    ResBody: Body + Send + 'static,
    ResBody::Error: Into<Box<dyn Error + Send + Sync>>,
{
    type Response = Response<ResponseBody<ResBody>>;
    type Error = S::Error;
    type Future = DavFuture<S::Future, ResBody, S::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        DavFuture { state: State::Passed { future: self.inner.call(request.map(RequestBody::passed)) } }
    }
}

impl<S: fmt::Debug> fmt::Debug for DavService<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DavService").field("inner", &self.inner).field("locks", &self.locks).finish_non_exhaustive()
    }
}

type Answer<B, E> = Result<Response<ResponseBody<B>>, E>;

pin_project! {
    /// The answer of a [`DavService`] to come.
    #[must_use = "futures do nothing unless polled"]
    pub struct DavFuture<F, B, E> {
        #[pin]
        state: State<F, B, E>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<F, B, E> {
        // A read that nothing is known to stand against: the handler's own future.
        Passed { #[pin] future: F },
        // Everything else.
        Working { work: Pin<Box<dyn Future<Output = Answer<B, E>> + Send>> },
    }
}

impl<F, B, E> Future for DavFuture<F, B, E>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = Answer<B, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateProj::Passed { future } => Poll::Ready(Ok(ready!(future.poll(cx))?.map(ResponseBody::passed))),
            StateProj::Working { work } => work.as_mut().poll(cx),
        }
    }
}

impl<F, B, E> fmt::Debug for DavFuture<F, B, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.state {
            State::Passed { .. } => "DavFuture(passed)",
            State::Working { .. } => "DavFuture(working)",
        })
    }
}
