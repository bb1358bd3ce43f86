//! `ResponseFuture`: the service's own future, with what guards it.

use std::{
    fmt,
    future::Future,
    mem,
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::{Request, Response};
use pin_project_lite::pin_project;
use tower_service::Service;

use super::{layer::Hold, slow::Slow};
use crate::{
    locks::Refusal,
    respond::{Format, Respond},
    store::Permit,
};

pin_project! {
    /// The response of a [`LockService`](super::LockService).
    ///
    /// It is the service's own future and 40 bytes, or less, unless the responder has data of its own.
    pub struct ResponseFuture<S, ReqBody, R>
    where
        S: Service<Request<ReqBody>>,
        R: Respond<ReqBody, <S::Response as Answer>::Body>,
        S::Response: Answer,
    {
        #[pin]
        state: State<S::Future, R, Slow<S, ReqBody, R>, Response<R::Body>>,
    }
}

/// A response, whatever its body: lets bounds name the body of `S::Response`.
pub trait Answer: sealed::Sealed {
    /// The body.
    type Body;
    /// The response itself.
    fn into_response(self) -> Response<Self::Body>;
    /// What a future has given, likewise: passed on without being taken apart, which would have it moved.
    fn polled<E>(polled: Poll<Result<Self, E>>) -> Poll<Result<Response<Self::Body>, E>>
    where
        Self: Sized;
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

    #[inline]
    fn polled<E>(polled: Poll<Result<Self, E>>) -> Poll<Result<Self, E>> {
        polled
    }
}

pin_project! {
    // Reads, and writes that a store decides about at once, are all that most services ever see. They pass on what they are given,
    // and whatever else there is, is behind one pointer: it costs them neither room nor time.
    #[project = StateProj]
    enum State<F, R, W, A> {
        // The service runs. A read, and a write that was never registered, has no guard.
        Running { #[pin] future: F, guard: Option<Guard<R>> },
        // Anything that has more to do than to pass on what the service answers, or has not come to call it.
        Slow { slow: Pin<Box<W>> },
        // The write was refused, or its answer has been given.
        Answered { answer: Option<Box<A>> },
        // The write was stopped.
        Over,
    }
}

/// What an admitted write holds while its service runs.
pub(super) struct Guard<R> {
    pub(super) permit: Permit,
    pub(super) hold: Hold,
    pub(super) lease: Lease,
    /// How to answer, should it be stopped: the request is out of reach by then.
    pub(super) protocol: Format,
    pub(super) responder: R,
}

/// Whether a write's lease must be looked at before the service is polled.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Lease {
    /// It was taken in this very poll.
    Fresh,
    /// Time has passed, how much nobody knows: the whole process may have stood still.
    Aged,
}

impl<R> Guard<R> {
    #[inline]
    pub(super) fn new(permit: Permit, hold: Hold, lease: Lease, protocol: Format, responder: R) -> Self {
        Self { permit, hold, lease, protocol, responder }
    }

    /// Before the service goes on: whether others may have been granted meanwhile what it would change.
    #[inline]
    pub(super) fn has_lapsed(&self, cx: &mut Context<'_>) -> bool {
        self.lease == Lease::Aged && self.permit.poll_lapsed(cx).is_ready()
    }

    /// The service has not answered: whether it must be stopped. The lease wakes us as well.
    #[inline]
    pub(super) fn lapses(&mut self, cx: &mut Context<'_>) -> bool {
        if self.lease == Lease::Aged {
            // Looked at before the service was polled.
            return false;
        }
        self.lease = Lease::Aged;
        self.permit.poll_lapsed(cx).is_ready()
    }

    #[inline]
    pub(super) fn take_permit(&mut self) -> Permit {
        mem::replace(&mut self.permit, Permit::unguarded(0))
    }
}

impl<S, ReqBody, R> ResponseFuture<S, ReqBody, R>
where
    S: Service<Request<ReqBody>>,
    R: Respond<ReqBody, <S::Response as Answer>::Body>,
    S::Response: Answer,
{
    #[inline]
    pub(super) fn free(future: S::Future) -> Self {
        Self { state: State::Running { future, guard: None } }
    }

    #[inline]
    pub(super) fn guarded(future: S::Future, guard: Guard<R>) -> Self {
        Self { state: State::Running { future, guard: Some(guard) } }
    }

    #[inline]
    pub(super) fn slow(slow: Pin<Box<Slow<S, ReqBody, R>>>) -> Self {
        Self { state: State::Slow { slow } }
    }

    pub(super) fn answered(answer: Box<Response<R::Body>>) -> Self {
        Self { state: State::Answered { answer: Some(answer) } }
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
        match self.as_mut().project().state.project() {
            StateProj::Running { future, guard: None } => R::pass_polled(Answer::polled(future.poll(cx)), None),
            _ => self.poll_guarded(cx),
        }
    }
}

impl<S, ReqBody, R> ResponseFuture<S, ReqBody, R>
where
    S: Service<Request<ReqBody>> + Clone,
    R: Respond<ReqBody, <S::Response as Answer>::Body> + Clone,
    S::Response: Answer,
{
    // Apart: where an answer may have to be dropped because something else panics, it stands in memory until that is done, and
    // those of reads would stand there with it.
    #[inline(never)]
    fn poll_guarded(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<Response<R::Body>, S::Error>> {
        let (future, guard) = match self.as_mut().project().state.project() {
            StateProj::Running { future, guard: Some(guard) } => (future, guard),
            StateProj::Running { future, guard: None } => return R::pass_polled(Answer::polled(future.poll(cx)), None),
            StateProj::Slow { slow } => {
                return match ready!(slow.as_mut().poll(cx)) {
                    // It is left in the box: one place where it could come from by itself would have every response moved there.
                    Ok(()) => Poll::Ready(Ok(slow.as_mut().take_answer())),
                    Err(error) => Poll::Ready(Err(error)),
                };
            }
            StateProj::Answered { answer } => {
                return Poll::Ready(Ok(*answer.take().expect("polled after it had answered")));
            }
            StateProj::Over => panic!("polled after it had answered"),
        };
        let mut lapsed = guard.has_lapsed(cx);
        let polled = if lapsed { Poll::Pending } else { future.poll(cx) };
        if polled.is_pending() {
            lapsed = lapsed || guard.lapses(cx);
            if !lapsed {
                return Poll::Pending;
            }
            // Others may be granted what the write would change: the service's future is dropped.
            let (responder, protocol) = (guard.responder.clone(), guard.protocol);
            self.project().state.set(State::Over);
            return Poll::Ready(Ok(stopped(&responder, protocol)));
        }
        // The write has ended, also by an error, unless the body of its answer is a part of it.
        let permit = guard.take_permit();
        let kept = match guard.hold {
            Hold::Answer => {
                drop(permit);
                None
            }
            Hold::Body => Some(permit),
        };
        R::pass_polled(Answer::polled(polled), kept)
    }
}

/// The answer of a write that was stopped.
#[cold]
#[inline(never)]
fn stopped<R: Respond<Q, B>, Q, B>(responder: &R, protocol: Format) -> Response<R::Body> {
    responder.respond_to_none(&Refusal::lease_lapsed(), protocol)
}

impl<S, ReqBody, R> fmt::Debug for ResponseFuture<S, ReqBody, R>
where
    S: Service<Request<ReqBody>>,
    R: Respond<ReqBody, <S::Response as Answer>::Body>,
    S::Response: Answer,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.state {
            State::Running { .. } => f.write_str("ResponseFuture(running)"),
            State::Slow { slow } => write!(f, "ResponseFuture({})", slow.step()),
            State::Answered { .. } => f.write_str("ResponseFuture(done)"),
            State::Over => f.write_str("ResponseFuture(stopped)"),
        }
    }
}
