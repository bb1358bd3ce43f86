//! `ResponseFuture`: the service's own future, with what guards it.

use std::{
    fmt,
    future::Future,
    mem,
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::{HeaderValue, Request, Response, StatusCode};
use pin_project_lite::pin_project;
use tower_service::Service;

use super::{
    after::{After, prepare},
    held::{Held, Outcome, Place},
    layer::{Hold, Options},
};
use crate::{
    locks::{Locks, PendingVerdict, Refusal},
    request::RequestView,
    respond::{Format, Respond, outcome},
    store::{Admitted, Permit, StoreFuture},
};

pin_project! {
    /// The response of a [`LockService`](super::LockService).
    pub struct ResponseFuture<S, ReqBody, R>
    where
        S: Service<Request<ReqBody>>,
        R: Respond<ReqBody, <S::Response as Answer>::Body>,
        S::Response: Answer,
    {
        #[pin]
        state: State<S, ReqBody, S::Future, Response<R::Body>>,
        responder: R,
    }
}

/// A response, whatever its body: lets bounds name the body of `S::Response`.
pub trait Answer: sealed::Sealed {
    /// The body.
    type Body;
    /// The response itself.
    fn into_response(self) -> Response<Self::Body>;
}

mod sealed {
    pub trait Sealed {}
    impl<B> Sealed for http::Response<B> {}
}

impl<B> Answer for Response<B> {
    type Body = B;

    fn into_response(self) -> Self {
        self
    }
}

pin_project! {
    #[project = StateProj]
    enum State<S, ReqBody, F, A> {
        // The service runs. The common case, for reads and writes: the rest is behind boxes, so that it stays small.
        Running { #[pin] future: F, guard: Guard },
        // The store has been asked; the request and the ready service wait.
        Deciding { parked: Box<Parked<S, ReqBody>> },
        // A lock is in the way, and the client would rather wait.
        Waiting { held: Box<Held<S, ReqBody>> },
        // The service has answered, and something is done about locks before that is passed on.
        Clearing { clearing: Box<Clearing<A>> },
        // There is an answer, made before this future was.
        Done { answer: Option<Box<A>> },
    }
}

/// What comes of a future whose service does not run: an answer, or nothing yet.
type Apart<B, E> = Result<Option<Response<B>>, E>;

/// What an admitted write holds while its service runs.
struct Guard {
    /// One that is registered nowhere, for a read and once the write has ended.
    permit: Permit,
    after: Option<Box<After>>,
    hold: Hold,
    lease: Lease,
    /// How to answer, should it be stopped: the request is out of reach by then.
    protocol: Format,
}

/// Whether a write's lease must be looked at before the service is polled.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Lease {
    /// It was taken in this very poll.
    Fresh,
    /// Time has passed, how much nobody knows: the whole process may have stood still.
    Aged,
}

struct Parked<S, ReqBody> {
    verdict: PendingVerdict,
    /// Taken together, once the verdict is there.
    waiting: Option<(Request<ReqBody>, S)>,
    locks: Locks,
    options: Options,
}

struct Clearing<A> {
    cleared: Option<StoreFuture<usize>>,
    /// What becomes of the writer's own locks, once those of what is gone have ended.
    own: Option<StoreFuture<()>>,
    after: After,
    /// Held until the locks have ended: nobody is granted what is still being cleared.
    permit: Option<Permit>,
    status: StatusCode,
    answer: Option<A>,
}

impl<S, ReqBody, R> ResponseFuture<S, ReqBody, R>
where
    S: Service<Request<ReqBody>>,
    R: Respond<ReqBody, <S::Response as Answer>::Body> + Clone,
    S::Response: Answer,
{
    #[inline]
    pub(super) fn unguarded(future: S::Future, responder: &R) -> Self {
        let guard = Guard {
            permit: Permit::unguarded(0),
            after: None,
            hold: Hold::Answer,
            lease: Lease::Fresh,
            protocol: Format::Problem,
        };
        Self { state: State::Running { future, guard }, responder: responder.clone() }
    }

    #[inline]
    pub(super) fn guarded(
        future: S::Future,
        permit: Permit,
        after: Option<Box<After>>,
        (hold, protocol): (Hold, Format),
        responder: &R,
    ) -> Self {
        let guard = Guard { permit, after, hold, lease: Lease::Fresh, protocol };
        Self { state: State::Running { future, guard }, responder: responder.clone() }
    }

    pub(super) fn refused(answer: Response<R::Body>, responder: &R) -> Self {
        Self { state: State::Done { answer: Some(Box::new(answer)) }, responder: responder.clone() }
    }

    pub(super) fn held(held: Box<Held<S, ReqBody>>, responder: &R) -> Self {
        Self { state: State::Waiting { held }, responder: responder.clone() }
    }

    pub(super) fn deciding(
        verdict: PendingVerdict,
        request: Request<ReqBody>,
        ready: S,
        locks: Locks,
        options: Options,
        responder: &R,
    ) -> Self {
        let parked = Box::new(Parked { verdict, waiting: Some((request, ready)), locks, options });
        Self { state: State::Deciding { parked }, responder: responder.clone() }
    }
}

impl<S, ReqBody, R> Future for ResponseFuture<S, ReqBody, R>
where
    S: Service<Request<ReqBody>> + Clone,
    R: Respond<ReqBody, <S::Response as Answer>::Body> + Clone,
    S::Response: Answer,
{
    type Output = Result<Response<R::Body>, S::Error>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            let mut this = self.as_mut().project();
            if let StateProj::Running { future, guard } = this.state.as_mut().project() {
                // Before the service goes on: others may have been granted meanwhile what it would change.
                if guard.lease == Lease::Aged && guard.permit.poll_lapsed(cx).is_ready() {
                    self.as_mut().stop();
                    continue;
                }
                match future.poll(cx) {
                    // Reads and most writes. The response is moved once.
                    Poll::Ready(Ok(response))
                        if guard.after.as_ref().is_none_or(|after| after.is_nothing()) && guard.hold == Hold::Answer =>
                    {
                        guard.end();
                        return Poll::Ready(Ok(this.responder.pass(response.into_response(), None)));
                    }
                    Poll::Ready(Ok(response)) => {
                        if let Some(answer) = self.as_mut().end(response) {
                            return Poll::Ready(Ok(answer));
                        }
                    }
                    Poll::Ready(Err(error)) => {
                        // The write has ended, also by an error.
                        guard.end();
                        return Poll::Ready(Err(error));
                    }
                    // The lease wakes us as well: it was looked at above.
                    Poll::Pending if guard.lease == Lease::Aged => return Poll::Pending,
                    Poll::Pending => {
                        guard.lease = Lease::Aged;
                        if guard.permit.poll_lapsed(cx).is_pending() {
                            return Poll::Pending;
                        }
                        self.as_mut().stop();
                    }
                }
            } else if let Some(answer) = ready!(self.as_mut().poll_apart(cx))? {
                return Poll::Ready(Ok(answer));
            }
        }
    }
}

impl<S, ReqBody, R> ResponseFuture<S, ReqBody, R>
where
    S: Service<Request<ReqBody>> + Clone,
    R: Respond<ReqBody, <S::Response as Answer>::Body> + Clone,
    S::Response: Answer,
{
    /// The lease has lapsed, so others may be granted what the write would change: drops the service's future.
    #[cold]
    #[inline(never)]
    fn stop(self: Pin<&mut Self>) {
        let mut this = self.project();
        let mut refusal = Refusal::lease_lapsed();
        let mut protocol = Format::Problem;
        if let StateProj::Running { guard, .. } = this.state.as_mut().project() {
            protocol = guard.protocol;
            if let Some(after) = &guard.after {
                after.stopped(&mut refusal);
            }
        }
        let answer = this.responder.respond_to_none(&refusal, protocol);
        this.state.set(State::Done { answer: Some(Box::new(answer)) });
    }

    /// What a service has answered behind which something is still to be done. Nothing yet where that takes its time.
    #[cold]
    #[inline(never)]
    fn end(self: Pin<&mut Self>, response: S::Response) -> Option<Response<R::Body>> {
        let mut this = self.project();
        let StateProj::Running { guard, .. } = this.state.as_mut().project() else { return None };
        let mut response = response.into_response();
        let status = outcome(&response);
        let mut permit = guard.take_permit();
        let mut after = guard.after.take();
        let cleared = after.as_ref().and_then(|after| after.start_clearing(status, permit.id()));
        if let Some(after) = &after {
            after.mark(status, response.headers_mut());
        }
        if let (Some(after), Hold::Body) = (&mut after, guard.hold) {
            permit = after.release_at_the_end(status, permit);
        }
        let (kept, held) = hold(permit, guard.hold);
        let answer = this.responder.pass(response, kept);
        let Some(after) = after else { return Some(answer) };
        let clearing = Box::new(Clearing { cleared, own: None, after: *after, permit: held, status, answer: Some(answer) });
        this.state.set(State::Clearing { clearing });
        None
    }

    /// Where the service does not run, or not yet. Nothing is answered where it has been called now.
    #[cold]
    #[inline(never)]
    fn poll_apart(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Apart<R::Body, S::Error>> {
        let mut this = self.as_mut().project();
        match this.state.as_mut().project() {
            StateProj::Running { .. } => Poll::Ready(Ok(None)),
            StateProj::Deciding { parked } => {
                let verdict = ready!(Pin::new(&mut parked.verdict).poll(cx));
                let (request, service) = parked.waiting.take().expect("polled after it had answered");
                let (locks, options) = (parked.locks.clone(), parked.options);
                match verdict {
                    Ok(admitted) => Poll::Ready(Ok(self.go(cx, service, request, admitted, (&locks, options), None))),
                    Err(mut refusal) => match Place::take(&locks, &mut refusal, RequestView::of(&request)) {
                        Some(place) => {
                            let unready = service.clone();
                            drop(service);
                            let held = Held::new(place, &locks, refusal, request, unready, options);
                            this.state.set(State::Waiting { held });
                            Poll::Ready(Ok(None))
                        }
                        None => {
                            locks.answered_with(Some(RequestView::of(&request)), &mut refusal);
                            drop(service);
                            Poll::Ready(Ok(Some(this.responder.respond(&refusal, request))))
                        }
                    },
                }
            }
            StateProj::Waiting { held } => {
                let outcome = ready!(held.poll(cx))?;
                let heeded = held.heeded();
                match outcome {
                    Outcome::Go { service, request, admitted, options, locks } => {
                        Poll::Ready(Ok(self.go(cx, service, request, admitted, (&locks, options), Some(heeded))))
                    }
                    Outcome::Stop { mut refusal, request, locks } => {
                        locks.answered_with(Some(RequestView::of(&request)), &mut refusal);
                        let mut answer = this.responder.respond(&refusal, request);
                        answer.headers_mut().append("preference-applied", heeded);
                        Poll::Ready(Ok(Some(answer)))
                    }
                }
            }
            StateProj::Clearing { clearing } => {
                if let Some(clear) = &mut clearing.cleared {
                    let cleared = ready!(Pin::new(clear).poll(cx));
                    if let Err(error) = cleared {
                        clearing.after.failed(&error);
                    }
                    clearing.cleared = None;
                }
                drop(clearing.permit.take());
                if clearing.own.is_none() {
                    clearing.own = clearing.after.start_own(clearing.status);
                }
                if let Some(own) = &mut clearing.own {
                    // What failed has been told of.
                    let _told = ready!(Pin::new(own).poll(cx));
                }
                Poll::Ready(Ok(Some(clearing.answer.take().expect("polled after it had answered"))))
            }
            StateProj::Done { answer } => Poll::Ready(Ok(Some(*answer.take().expect("polled after it had answered")))),
        }
    }

    /// Calls the service with a write that was admitted some time ago. Answers where its lease has lapsed since.
    fn go(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut service: S,
        mut request: Request<ReqBody>,
        admitted: Admitted,
        (locks, options): (&Locks, Options),
        heeded: Option<HeaderValue>,
    ) -> Option<Response<R::Body>> {
        let mut this = self.project();
        if admitted.permit.poll_lapsed(cx).is_ready() {
            drop((admitted, service));
            let mut refusal = Refusal::lease_lapsed();
            locks.answered_with(Some(RequestView::of(&request)), &mut refusal);
            return Some(this.responder.respond(&refusal, request));
        }
        let after = prepare(&mut request, &admitted, locks, options, heeded);
        // Stores that give leases answer later: who is to be told, should this one lapse.
        let after = after.unwrap_or_else(|| Box::new(After::nothing(locks)));
        let protocol = Format::of_protocol(RequestView::of(&request));
        let guard = Guard { permit: admitted.permit, after: Some(after), hold: options.hold, lease: Lease::Aged, protocol };
        this.state.set(State::Running { future: service.call(request), guard });
        None
    }
}

impl Guard {
    #[inline]
    fn end(&mut self) {
        drop(self.take_permit());
    }

    #[inline]
    fn take_permit(&mut self) -> Permit {
        mem::replace(&mut self.permit, Permit::unguarded(0))
    }
}

/// Divides a permit: what the response's body keeps, and what this future does.
fn hold(permit: Permit, hold: Hold) -> (Option<Permit>, Option<Permit>) {
    match hold {
        Hold::Body => (Some(permit), None),
        Hold::Answer => (None, Some(permit)),
    }
}

impl<S, ReqBody, R> fmt::Debug for ResponseFuture<S, ReqBody, R>
where
    S: Service<Request<ReqBody>>,
    R: Respond<ReqBody, <S::Response as Answer>::Body>,
    S::Response: Answer,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.state {
            State::Running { .. } => "ResponseFuture(running)",
            State::Deciding { .. } => "ResponseFuture(deciding)",
            State::Waiting { .. } => "ResponseFuture(waiting)",
            State::Clearing { .. } => "ResponseFuture(clearing)",
            State::Done { .. } => "ResponseFuture(done)",
        })
    }
}
