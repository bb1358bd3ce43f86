//! `Slow`: the way of a request that has more to do than to pass on what the service answers, or that is not let to it at once.

use std::{
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
    future::{Answer, Guard, Lease},
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
    /// A write that waits for something: the store, a lock, the service with something to do after it.
    pub(super) struct Slow<S, ReqBody, R>
    where
        S: Service<Request<ReqBody>>,
        R: Respond<ReqBody, <S::Response as Answer>::Body>,
        S::Response: Answer,
    {
        // None but while the service runs. Dropped before what guards it.
        #[pin]
        future: Option<S::Future>,
        step: Step<S, ReqBody, R>,
        responder: R,
        // What is passed on, once there is nothing else to do.
        answer: Option<Response<R::Body>>,
    }
}

enum Step<S, ReqBody, R> {
    /// The store has been asked; the request and the ready service wait.
    Deciding(Parked<S, ReqBody>),
    /// A lock is in the way, and the client would rather wait.
    Waiting(Box<Held<S, ReqBody>>),
    /// The service runs.
    Running(Guard<R>, Box<After>),
    /// The service has answered, and something is done about locks before that is passed on.
    Clearing(Clearing),
    /// There is an answer.
    Done,
}

struct Parked<S, ReqBody> {
    verdict: PendingVerdict,
    /// Taken together, once the verdict is there.
    waiting: Option<(Request<ReqBody>, S)>,
    locks: Locks,
    options: Options,
}

struct Clearing {
    cleared: Option<StoreFuture<usize>>,
    /// What becomes of the writer's own locks, once those of what is gone have ended.
    own: Option<StoreFuture<()>>,
    after: Box<After>,
    /// Held until the locks have ended: nobody is granted what is still being cleared.
    permit: Option<Permit>,
    status: StatusCode,
}

impl<S, ReqBody, R> Slow<S, ReqBody, R>
where
    S: Service<Request<ReqBody>>,
    R: Respond<ReqBody, <S::Response as Answer>::Body>,
    S::Response: Answer,
{
    /// The service runs, and after that there is something to do.
    pub(super) fn running(future: S::Future, guard: Guard<R>, after: Box<After>, responder: R) -> Self {
        Self { future: Some(future), step: Step::Running(guard, after), responder, answer: None }
    }

    /// A lock is in the way.
    pub(super) fn held(held: Box<Held<S, ReqBody>>, responder: R) -> Self {
        Self { future: None, step: Step::Waiting(held), responder, answer: None }
    }

    /// The store has been asked.
    pub(super) fn deciding(
        verdict: PendingVerdict,
        request: Request<ReqBody>,
        ready: S,
        (locks, options): (Locks, Options),
        responder: R,
    ) -> Self {
        let parked = Parked { verdict, waiting: Some((request, ready)), locks, options };
        Self { future: None, step: Step::Deciding(parked), responder, answer: None }
    }

    /// What it is at, in a word.
    pub(super) fn step(&self) -> &'static str {
        match &self.step {
            Step::Deciding(_) => "deciding",
            Step::Waiting(_) => "waiting",
            Step::Running(..) => "running",
            Step::Clearing(_) => "clearing",
            Step::Done => "done",
        }
    }
}

impl<S, ReqBody, R> Future for Slow<S, ReqBody, R>
where
    S: Service<Request<ReqBody>> + Clone,
    R: Respond<ReqBody, <S::Response as Answer>::Body> + Clone,
    S::Response: Answer,
{
    /// The answer is to be taken.
    type Output = Result<(), S::Error>;

    #[cold]
    #[inline(never)]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            ready!(match &self.step {
                Step::Running(..) => self.as_mut().poll_running(cx),
                Step::Deciding(_) | Step::Waiting(_) => self.as_mut().poll_decision(cx),
                Step::Clearing(_) => self.as_mut().poll_clearing(cx),
                Step::Done => return Poll::Ready(Ok(())),
            })?;
        }
    }
}

impl<S, ReqBody, R> Slow<S, ReqBody, R>
where
    S: Service<Request<ReqBody>> + Clone,
    R: Respond<ReqBody, <S::Response as Answer>::Body> + Clone,
    S::Response: Answer,
{
    /// The answer, once it is there.
    #[inline]
    pub(super) fn take_answer(self: Pin<&mut Self>) -> Response<R::Body> {
        self.project().answer.take().expect("polled after it had answered")
    }

    /// There is nothing to do any more but to answer.
    fn done(self: Pin<&mut Self>, answer: Response<R::Body>) {
        let mut this = self.project();
        // In this order: what guards the service's future outlives it.
        this.future.set(None);
        *this.step = Step::Done;
        *this.answer = Some(answer);
    }

    fn poll_running(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        let this = self.as_mut().project();
        let (Some(future), Step::Running(guard, _)) = (this.future.as_pin_mut(), this.step) else {
            unreachable!("the service runs");
        };
        if guard.has_lapsed(cx) {
            self.stop();
            return Poll::Ready(Ok(()));
        }
        match future.poll(cx) {
            Poll::Ready(Ok(response)) => self.end(response.into_response()),
            Poll::Ready(Err(error)) => {
                // The write has ended, also by an error.
                drop(guard.take_permit());
                return Poll::Ready(Err(error));
            }
            Poll::Pending if guard.lapses(cx) => self.stop(),
            Poll::Pending => return Poll::Pending,
        }
        Poll::Ready(Ok(()))
    }

    /// The lease has lapsed, so others may be granted what the write would change: drops the service's future.
    fn stop(mut self: Pin<&mut Self>) {
        let this = self.as_mut().project();
        let Step::Running(guard, after) = this.step else { unreachable!("a write that is stopped was running") };
        let mut refusal = Refusal::lease_lapsed();
        after.stopped(&mut refusal);
        let answer = this.responder.respond_to_none(&refusal, guard.protocol);
        self.done(answer);
    }

    /// The service has answered.
    fn end(self: Pin<&mut Self>, mut response: Response<<S::Response as Answer>::Body>) {
        let mut this = self.project();
        let Step::Running(Guard { mut permit, hold, .. }, mut after) = mem::replace(this.step, Step::Done) else {
            unreachable!("a service that has answered was running");
        };
        let status = outcome(&response);
        let cleared = after.start_clearing(status, permit.id());
        after.mark(status, response.headers_mut());
        if hold == Hold::Body {
            permit = after.release_at_the_end(status, permit);
        }
        let (kept, held) = divide(permit, hold);
        *this.answer = Some(R::pass(response, kept));
        this.future.set(None);
        *this.step = Step::Clearing(Clearing { cleared, own: None, after, permit: held, status });
    }

    /// Where the service does not run yet.
    fn poll_decision(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        let this = self.as_mut().project();
        match this.step {
            Step::Deciding(parked) => {
                let verdict = ready!(Pin::new(&mut parked.verdict).poll(cx));
                let (request, service) = parked.waiting.take().expect("polled after it had answered");
                let (locks, options) = (parked.locks.clone(), parked.options);
                match verdict {
                    Ok(admitted) => self.go(cx, service, request, admitted, (&locks, options), None),
                    Err(mut refusal) => match Place::take(&locks, &mut refusal, RequestView::of(&request)) {
                        Some(place) => {
                            let unready = service.clone();
                            drop(service);
                            *this.step = Step::Waiting(Held::new(place, &locks, refusal, request, unready, options));
                        }
                        None => {
                            locks.answered_with(Some(RequestView::of(&request)), &mut refusal);
                            drop(service);
                            let answer = this.responder.respond(&refusal, request);
                            self.done(answer);
                        }
                    },
                }
            }
            Step::Waiting(held) => {
                let outcome = ready!(held.poll(cx))?;
                let heeded = held.heeded();
                match outcome {
                    Outcome::Go { service, request, admitted, options, locks } => {
                        self.go(cx, service, request, admitted, (&locks, options), Some(heeded));
                    }
                    Outcome::Stop { mut refusal, request, locks } => {
                        locks.answered_with(Some(RequestView::of(&request)), &mut refusal);
                        let mut answer = this.responder.respond(&refusal, request);
                        answer.headers_mut().append("preference-applied", heeded);
                        self.done(answer);
                    }
                }
            }
            Step::Running(..) | Step::Clearing(_) | Step::Done => {}
        }
        Poll::Ready(Ok(()))
    }

    /// Where the service has answered.
    fn poll_clearing(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        let this = self.project();
        let Step::Clearing(clearing) = this.step else { return Poll::Ready(Ok(())) };
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
        *this.step = Step::Done;
        Poll::Ready(Ok(()))
    }

    /// Calls the service with a write that was admitted some time ago. Answers where its lease has lapsed since.
    fn go(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut service: S,
        mut request: Request<ReqBody>,
        admitted: Admitted,
        (locks, options): (&Locks, Options),
        heeded: Option<HeaderValue>,
    ) {
        let mut this = self.as_mut().project();
        if admitted.permit.poll_lapsed(cx).is_ready() {
            drop((admitted, service));
            let mut refusal = Refusal::lease_lapsed();
            locks.answered_with(Some(RequestView::of(&request)), &mut refusal);
            let answer = this.responder.respond(&refusal, request);
            return self.done(answer);
        }
        let after = prepare(&mut request, &admitted, locks, options, heeded);
        // Stores that give leases answer later: who is to be told, should this one lapse.
        let after = after.unwrap_or_else(|| Box::new(After::nothing(locks)));
        let protocol = Format::of_protocol(RequestView::of(&request));
        let guard = Guard::new(admitted.permit, options.hold, Lease::Aged, protocol, this.responder.clone());
        this.future.set(Some(service.call(request)));
        *this.step = Step::Running(guard, after);
    }
}

/// Divides a permit: what the response's body keeps, and what this future does.
fn divide(permit: Permit, hold: Hold) -> (Option<Permit>, Option<Permit>) {
    match hold {
        Hold::Body => (Some(permit), None),
        Hold::Answer => (None, Some(permit)),
    }
}
