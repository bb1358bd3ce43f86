//! `LockService`: decides first, then moves.

use std::{
    fmt, mem,
    task::{Context, Poll},
};

use http::{Request, Response};
use tower_service::Service;

use super::{
    after::{After, prepare},
    future::{Guard, Lease, ResponseFuture},
    held::{Held, Place},
    layer::{LockLayer, Options},
    slow::Slow,
};
use crate::{
    locks::{Judgement, Locks, PendingVerdict, Refusal},
    request::RequestView,
    respond::{Format, Respond},
    store::Permit,
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
    fn call(&mut self, request: Request<ReqBody>) -> Self::Future {
        if self.locks.methods().surely_reads(request.method()) {
            return ResponseFuture::free(self.inner.call(request));
        }
        self.write(request)
    }
}

/// What becomes of a request that may be a write.
enum Decision<R> {
    /// It goes on, and there is nothing to guard: it reads, or the store does not register writes.
    Free,
    /// It goes on, and ends with the answer.
    Go(Guard<R>),
    /// It goes on, and something is to be done once it has been answered.
    Then(Guard<R>, Box<After>),
    Stop(Refusal),
    Wait(PendingVerdict),
}

impl<S, R> LockService<S, R> {
    // The service is called here, where its future is to stay, and not in a function that would have to hand it on. What such
    // functions give is small.
    #[inline(never)]
    fn write<ReqBody, ResBody>(&mut self, request: Request<ReqBody>) -> ResponseFuture<S, ReqBody, R>
    where
        S: Service<Request<ReqBody>, Response = Response<ResBody>> + Clone,
        R: Respond<ReqBody, ResBody> + Clone,
    {
        if self.options.ask_no_more()
            && let Some(permit) = self.locks.let_through(request.method(), request.uri(), request.headers())
        {
            // Most writes: no lock stood in the way, and nothing is told to the service.
            if permit.id().is_none() {
                return ResponseFuture::free(self.inner.call(request));
            }
            let guard = self.guard(permit, RequestView::of(&request));
            return ResponseFuture::guarded(self.inner.call(request), guard);
        }
        self.look(request)
    }

    #[inline(never)]
    fn look<ReqBody, ResBody>(&mut self, mut request: Request<ReqBody>) -> ResponseFuture<S, ReqBody, R>
    where
        S: Service<Request<ReqBody>, Response = Response<ResBody>> + Clone,
        R: Respond<ReqBody, ResBody> + Clone,
    {
        match self.decide(&mut request) {
            Decision::Free => ResponseFuture::free(self.inner.call(request)),
            Decision::Go(guard) => ResponseFuture::guarded(self.inner.call(request), guard),
            decision => self.follow(decision, request),
        }
    }

    #[inline(never)]
    fn decide<ReqBody>(&self, request: &mut Request<ReqBody>) -> Decision<R>
    where
        R: Clone,
    {
        let view = RequestView::of(request);
        let judgement = match () {
            () if self.locks.is_read(view.method) => return Decision::Free,
            () if self.options.ask_no_more() => self.locks.judge_further(view, self.options.demand),
            () => self.locks.judge(view, self.options.demand),
        };
        match judgement {
            Judgement::Ready(Ok(admitted)) => {
                let after = prepare(request, &admitted, &self.locks, self.options, None);
                let guard = self.guard(admitted.permit, RequestView::of(request));
                match after {
                    None => Decision::Go(guard),
                    Some(after) => Decision::Then(guard, after),
                }
            }
            Judgement::Ready(Err(refusal)) => Decision::Stop(refusal),
            Judgement::Pending(verdict) => Decision::Wait(verdict),
        }
    }

    #[inline(always)]
    fn guard(&self, permit: Permit, request: RequestView<'_>) -> Guard<R>
    where
        R: Clone,
    {
        let protocol = Format::of_protocol(request);
        Guard::new(permit, self.options.hold, Lease::Fresh, protocol, self.responder.clone())
    }

    #[cold]
    #[inline(never)]
    fn follow<ReqBody, ResBody>(&mut self, decision: Decision<R>, request: Request<ReqBody>) -> ResponseFuture<S, ReqBody, R>
    where
        S: Service<Request<ReqBody>, Response = Response<ResBody>> + Clone,
        R: Respond<ReqBody, ResBody> + Clone,
    {
        let responder = self.responder.clone();
        ResponseFuture::slow(Box::pin(match decision {
            Decision::Free | Decision::Go(_) => unreachable!("such a request goes on"),
            Decision::Then(guard, after) => Slow::running(self.inner.call(request), guard, after, responder),
            Decision::Stop(refusal) => return self.refuse(refusal, request),
            Decision::Wait(verdict) => {
                // The service that was polled ready must be the one that is called; the clone left behind is polled anew before
                // its first call.
                let clone = self.inner.clone();
                let ready = mem::replace(&mut self.inner, clone);
                Slow::deciding(verdict, request, ready, (self.locks.clone(), self.options), responder)
            }
        }))
    }

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
            return ResponseFuture::slow(Box::pin(Slow::held(held, self.responder.clone())));
        }
        self.locks.answered_with(Some(RequestView::of(&request)), &mut refusal);
        ResponseFuture::answered(Box::new(self.responder.respond(&refusal, request)))
    }
}

impl<S: fmt::Debug, R> fmt::Debug for LockService<S, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LockService").field("inner", &self.inner).field("locks", &self.locks).finish_non_exhaustive()
    }
}
