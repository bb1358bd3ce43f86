//! `BatchService`: which requests are bulk writes.

use std::{
    error::Error,
    fmt,
    future::Future,
    mem,
    pin::Pin,
    task::{Context, Poll},
};

use http::{Request, Response};
use http_body::Body;
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::{
    BatchCodec,
    exchange::{Bulk, run},
    layer::Settings,
};
use crate::{
    locks::Locks,
    middleware::{Handler, LockLayer, LockService, Options, RequestBody, ResponseFuture},
    request::RequestView,
    respond::{Problems, ResponseBody},
};

/// A service behind locks that knows bulk writes; made by [`BatchLayer`](super::BatchLayer). See the [module docs](super).
pub struct BatchService<S, C> {
    inner: LockService<S>,
    locks: Locks,
    options: Options,
    settings: Settings<C>,
}

impl<S: Clone, C> BatchService<S, C> {
    pub(super) fn new(layer: &LockLayer, inner: S, settings: Settings<C>) -> Self {
        let (locks, options) = layer.parts();
        Self { inner: layer.layer(inner), locks: locks.clone(), options, settings }
    }
}

impl<S, C> BatchService<S, C> {
    /// The service inside. What is called here is not guarded.
    pub fn get_ref(&self) -> &S {
        self.inner.get_ref()
    }

    /// The service inside. What is called here is not guarded.
    pub fn get_mut(&mut self) -> &mut S {
        self.inner.get_mut()
    }

    /// The service inside. What is called here is not guarded.
    pub fn into_inner(self) -> S {
        self.inner.into_inner()
    }
}

impl<S, C, B, ResBody> Service<Request<B>> for BatchService<S, C>
where
    S: Service<Request<RequestBody<B>>, Response = Response<ResBody>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Send,
    C: BatchCodec,
    B: Body + Send + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
    ResBody: Body + Send + 'static,
    ResBody::Data: Send,
    ResBody::Error: Into<Box<dyn Error + Send + Sync>>,
{
    type Response = Response<ResponseBody<ResBody>>;
    type Error = S::Error;
    type Future = BatchFuture<ResponseFuture<S, RequestBody<B>, Problems>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        // The store is no part of readiness: reads go on while it is down.
        Service::<Request<RequestBody<B>>>::poll_ready(&mut self.inner, cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        if self.locks.is_read(request.method()) || !self.settings.codec.is_bulk(RequestView::of(&request)) {
            let future = self.inner.call(request.map(RequestBody::passed));
            return BatchFuture { state: State::Passed { future } };
        }
        // The service that was polled ready must be the one that is called; the clone left behind is polled anew.
        let inner = self.inner.get_mut();
        let clone = inner.clone();
        let handler = Handler::ready(mem::replace(inner, clone));
        let bulk = Bulk { locks: self.locks.clone(), options: self.options, settings: self.settings.clone() };
        BatchFuture { state: State::Working { work: Box::pin(run(bulk, handler, request)) } }
    }
}

// By hand: a codec need not be one that can be cloned.
impl<S: Clone, C> Clone for BatchService<S, C> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), locks: self.locks.clone(), options: self.options, settings: self.settings.clone() }
    }
}

impl<S: fmt::Debug, C> fmt::Debug for BatchService<S, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BatchService").field("inner", &self.inner).finish_non_exhaustive()
    }
}

pin_project! {
    /// The answer of a [`BatchService`] to come.
    #[must_use = "futures do nothing unless polled"]
    pub struct BatchFuture<F: Future> {
        #[pin]
        state: State<F>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<F: Future> {
        // A read, or a write that is no bulk write.
        Passed { #[pin] future: F },
        Working { work: Pin<Box<dyn Future<Output = F::Output> + Send>> },
    }
}

impl<F: Future> Future for BatchFuture<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateProj::Passed { future } => future.poll(cx),
            StateProj::Working { work } => work.as_mut().poll(cx),
        }
    }
}

impl<F: Future> fmt::Debug for BatchFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.state {
            State::Passed { .. } => "BatchFuture(passed)",
            State::Working { .. } => "BatchFuture(working)",
        })
    }
}
