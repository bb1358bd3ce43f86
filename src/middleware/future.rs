//! `ResponseFuture`: the service's own future, with what guards it.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::{Request, Response};
use pin_project_lite::pin_project;
use tower_service::Service;

use super::{
    after::{After, prepare},
    layer::{Hold, Options},
};
use crate::{
    locks::{Incident, Locks, PendingVerdict, Refusal},
    respond::Respond,
    store::{Permit, StoreFuture},
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
        // The service has deleted or moved something, and the locks on it are being ended.
        Clearing { clearing: Box<Clearing<A>> },
        // There is an answer, made before this future was.
        Done { answer: Option<Box<A>> },
    }
}

/// What an admitted write holds while its service runs.
struct Guard {
    permit: Option<Permit>,
    after: Option<Box<After>>,
    hold: Hold,
}

struct Parked<S, ReqBody> {
    verdict: PendingVerdict,
    /// Taken together, once the verdict is there.
    waiting: Option<(Request<ReqBody>, S)>,
    locks: Locks,
    options: Options,
}

struct Clearing<A> {
    cleared: StoreFuture<usize>,
    after: After,
    /// Held until the locks have ended: nobody is granted what is still being cleared.
    permit: Option<Permit>,
    answer: Option<A>,
}

impl<S, ReqBody, R> ResponseFuture<S, ReqBody, R>
where
    S: Service<Request<ReqBody>>,
    R: Respond<ReqBody, <S::Response as Answer>::Body> + Clone,
    S::Response: Answer,
{
    pub(super) fn unguarded(future: S::Future, responder: &R) -> Self {
        Self::running(future, Guard { permit: None, after: None, hold: Hold::Answer }, responder)
    }

    pub(super) fn guarded(future: S::Future, permit: Permit, after: Option<Box<After>>, hold: Hold, responder: &R) -> Self {
        Self::running(future, Guard { permit: Some(permit), after, hold }, responder)
    }

    pub(super) fn refused(answer: Response<R::Body>, responder: &R) -> Self {
        Self { state: State::Done { answer: Some(Box::new(answer)) }, responder: responder.clone() }
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

    fn running(future: S::Future, guard: Guard, responder: &R) -> Self {
        Self { state: State::Running { future, guard }, responder: responder.clone() }
    }
}

impl<S, ReqBody, R> Future for ResponseFuture<S, ReqBody, R>
where
    S: Service<Request<ReqBody>>,
    R: Respond<ReqBody, <S::Response as Answer>::Body> + Clone,
    S::Response: Answer,
{
    type Output = Result<Response<R::Body>, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            let next = match this.state.as_mut().project() {
                StateProj::Running { future, guard } => {
                    let Poll::Ready(answer) = future.poll(cx) else {
                        if guard.permit.as_ref().is_none_or(|permit| permit.poll_lapsed(cx).is_pending()) {
                            return Poll::Pending;
                        }
                        // Others may be granted now what this write would change: stop it here.
                        let answer = this.responder.respond_to_none(&Refusal::lease_lapsed());
                        this.state.set(State::Done { answer: Some(Box::new(answer)) });
                        continue;
                    };
                    // Taken first: the write has ended, also by an error.
                    let permit = guard.permit.take();
                    let response = answer?.into_response();
                    match guard.after.take() {
                        Some(after) if After::is_due(response.status()) => {
                            let cleared = after.clear(permit.as_ref().and_then(Permit::id));
                            let (kept, held) = hold(permit, guard.hold);
                            let answer = Some(this.responder.pass(response, kept));
                            State::Clearing { clearing: Box::new(Clearing { cleared, after: *after, permit: held, answer }) }
                        }
                        _ => {
                            let (kept, _ended) = hold(permit, guard.hold);
                            return Poll::Ready(Ok(this.responder.pass(response, kept)));
                        }
                    }
                }
                StateProj::Deciding { parked } => {
                    let verdict = ready!(Pin::new(&mut parked.verdict).poll(cx));
                    let (mut request, mut service) = parked.waiting.take().expect("polled after it had answered");
                    match verdict {
                        Ok(admitted) => {
                            let after = prepare(&mut request, &admitted, &parked.locks, parked.options);
                            let guard = Guard { permit: Some(admitted.permit), after, hold: parked.options.hold };
                            State::Running { future: service.call(request), guard }
                        }
                        Err(refusal) => {
                            drop(service);
                            return Poll::Ready(Ok(this.responder.respond(&refusal, request)));
                        }
                    }
                }
                StateProj::Clearing { clearing } => {
                    let cleared = ready!(Pin::new(&mut clearing.cleared).poll(cx));
                    if let Err(error) = cleared {
                        // The resource is gone all the same, so the answer stands; the locks expire.
                        for gone in &clearing.after.gone {
                            clearing.after.locks.report(&Incident::LocksLeft { path: gone.key.path(), error: &error });
                        }
                    }
                    drop(clearing.permit.take());
                    return Poll::Ready(Ok(clearing.answer.take().expect("polled after it had answered")));
                }
                StateProj::Done { answer } => {
                    return Poll::Ready(Ok(*answer.take().expect("polled after it had answered")));
                }
            };
            this.state.set(next);
        }
    }
}

/// Divides a permit: what the response's body keeps, and what this future does.
fn hold(permit: Option<Permit>, hold: Hold) -> (Option<Permit>, Option<Permit>) {
    match hold {
        Hold::Body => (permit, None),
        Hold::Answer => (None, permit),
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
            State::Clearing { .. } => "ResponseFuture(clearing)",
            State::Done { .. } => "ResponseFuture(done)",
        })
    }
}
