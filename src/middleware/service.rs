//! `LockService`: decides first, then moves.

use std::{
    fmt, mem,
    task::{Context, Poll},
};

use http::{Request, Response};
use tower_service::Service;

use super::{
    after::{After, prepare},
    future::ResponseFuture,
    held::{Held, Place},
    layer::{Fence, LockLayer, Options},
};
use crate::{
    locks::{Judgement, Locks, PendingVerdict, Refusal},
    request::RequestView,
    respond::{Format, Respond},
    store::{Admitted, Permit},
};

/// A service behind locks; made by [`LockLayer`](super::LockLayer). See the [module docs](super).
#[derive(Clone)]
pub struct LockService<S, R = crate::respond::Problems> {
    inner: S,
    locks: Locks,
    options: Options,
    responder: R,
}

impl<S, R> LockService<S, R> {
    pub(super) fn new(inner: S, locks: Locks, options: Options, responder: R) -> Self {
        Self { inner, locks, options, responder }
    }

    /// The service inside. What is called here is not guarded.
    pub fn get_ref(&self) -> &S {
        &self.inner
    }

    /// The service inside. What is called here is not guarded.
    pub fn get_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// The service inside. What is called here is not guarded.
    pub fn into_inner(self) -> S {
        self.inner
    }
}

impl<S> LockService<S> {
    /// `inner` behind `locks`, as by [`LockLayer::new`].
    pub fn wrap(inner: S, locks: impl Into<Locks>) -> Self {
        use tower_layer::Layer;
        LockLayer::new(locks).layer(inner)
    }
}

impl<S, R, ReqBody, ResBody> Service<Request<ReqBody>> for LockService<S, R>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>> + Clone,
    R: Respond<ReqBody, ResBody> + Clone,
{
    type Response = Response<R::Body>;
    type Error = S::Error;
    type Future = ResponseFuture<S, ReqBody, R>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        // The store is no part of readiness: reads go on while it is down.
        self.inner.poll_ready(cx)
    }

    #[inline]
    fn call(&mut self, mut request: Request<ReqBody>) -> Self::Future {
        if self.locks.is_read(request.method()) {
            return ResponseFuture::unguarded(self.inner.call(request), &self.responder);
        }
        // Looked at where it lies: a request is large, and is moved once, into the service.
        match self.decide(&mut request) {
            Decision::Go(permit, after) => {
                let protocol = Format::of_protocol(RequestView::of(&request));
                let hold = self.options.hold;
                ResponseFuture::guarded(self.inner.call(request), permit, after, (hold, protocol), &self.responder)
            }
            Decision::Stop(refusal) => self.refuse(refusal, request),
            Decision::Wait(verdict) => self.wait(verdict, request),
        }
    }
}

/// What becomes of a write.
enum Decision {
    Go(Permit, Option<Box<After>>),
    Stop(Refusal),
    Wait(PendingVerdict),
}

impl<S, R> LockService<S, R> {
    /// Apart from `call`, and never part of it: a read would have to make room for all that this moves about.
    #[inline(never)]
    fn decide<ReqBody>(&self, request: &mut Request<ReqBody>) -> Decision {
        match self.locks.judge(RequestView::of(request), self.options.demand) {
            // Most writes: no lock stood in the way, and nothing is told to the service.
            Judgement::Ready(Ok(Admitted { permit, answered: None })) if self.options.fence == Fence::Held => {
                Decision::Go(permit, None)
            }
            Judgement::Ready(Ok(admitted)) => {
                let after = prepare(request, &admitted, &self.locks, self.options, None);
                Decision::Go(admitted.permit, after)
            }
            Judgement::Ready(Err(refusal)) => Decision::Stop(refusal),
            Judgement::Pending(verdict) => Decision::Wait(verdict),
        }
    }

    #[cold]
    #[inline(never)]
    fn refuse<ReqBody, ResBody>(&mut self, mut refusal: Refusal, request: Request<ReqBody>) -> ResponseFuture<S, ReqBody, R>
    where
        S: Service<Request<ReqBody>, Response = Response<ResBody>> + Clone,
        R: Respond<ReqBody, ResBody> + Clone,
    {
        if let Some(place) = Place::take(&self.locks, &mut refusal, RequestView::of(&request)) {
            // The readiness is given back, whoever keeps this service while the request waits.
            let unready = self.inner.clone();
            self.inner = unready.clone();
            let held = Held::new(place, &self.locks, refusal, request, unready, self.options);
            return ResponseFuture::held(held, &self.responder);
        }
        self.locks.answered_with(Some(RequestView::of(&request)), &mut refusal);
        ResponseFuture::refused(self.responder.respond(&refusal, request), &self.responder)
    }

    #[cold]
    #[inline(never)]
    fn wait<ReqBody, ResBody>(&mut self, verdict: PendingVerdict, request: Request<ReqBody>) -> ResponseFuture<S, ReqBody, R>
    where
        S: Service<Request<ReqBody>, Response = Response<ResBody>> + Clone,
        R: Respond<ReqBody, ResBody> + Clone,
    {
        // The service that was polled ready must be the one that is called; the clone left behind is polled anew before
        // its first call.
        let clone = self.inner.clone();
        let ready = mem::replace(&mut self.inner, clone);
        ResponseFuture::deciding(verdict, request, ready, self.locks.clone(), self.options, &self.responder)
    }
}

impl<S: fmt::Debug, R> fmt::Debug for LockService<S, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LockService").field("inner", &self.inner).field("locks", &self.locks).finish_non_exhaustive()
    }
}
