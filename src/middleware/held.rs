//! `Held`: a refused write whose client would rather wait (`Prefer: wait=n`, RFC 7240 section 4.3), unread, until it may go on.
//!
//! It holds no readiness while it waits: the service that was polled ready is given back, and a clone becomes ready anew once
//! there is something to ask. Otherwise a few held writes would use up a concurrency limit inside, and reads with it.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::{HeaderValue, Request, StatusCode};
use tower_service::Service;

use super::layer::Options;
use crate::{
    locks::{Judgement, Locks, Patience, PendingVerdict, Refusal, Waiting},
    request::RequestView,
    store::{Admitted, ClockSleep, waiting::Again},
};

/// A write that waits. Dropped, it gives up its place.
pub(super) struct Held<S, B> {
    waiting: Waiting,
    patience: Patience,
    time_up: ClockSleep,
    /// Why it may not go on, as of the last time that the store was asked.
    refusal: Refusal,
    request: Option<Request<B>>,
    /// Not ready but while something is asked.
    service: S,
    step: Step,
    locks: Locks,
    options: Options,
}

enum Step {
    /// Something is in the way.
    Waiting,
    /// Perhaps nothing is: the service is to be ready before the store is asked.
    Readying,
    /// The store has been asked.
    Deciding(PendingVerdict),
    /// The time is up. It is asked once more, ready or not, so that what the client is told is of now.
    Last(Judgement),
}

/// What becomes of a held write.
pub(super) enum Outcome<S, B> {
    /// It may go on: the service is ready.
    Go { service: S, request: Request<B>, admitted: Admitted, options: Options, locks: Locks },
    /// Its time is up, or something else is wrong by now.
    Stop { refusal: Refusal, request: Request<B>, locks: Locks },
}

/// A place to wait at.
pub(crate) struct Place {
    pub(crate) waiting: Waiting,
    pub(crate) patience: Patience,
}

impl Place {
    /// A place for a write that was refused, where its client would wait and may, and waiting can help. Where there is none
    /// left, that is the refusal.
    pub(crate) fn take(locks: &Locks, refusal: &mut Refusal, request: RequestView<'_>) -> Option<Self> {
        if refusal.status() != StatusCode::LOCKED {
            return None;
        }
        let patience = locks.patience(request.headers)?;
        match locks.wait_behind(refusal, locks.keys_written(request), &patience) {
            Ok(waiting) => Some(Self { waiting, patience }),
            Err(too_many) => {
                *refusal = too_many;
                None
            }
        }
    }
}

impl<S, B> Held<S, B> {
    /// Holds `request` at `place`. `service` need not be ready.
    pub(super) fn new(
        Place { waiting, patience }: Place,
        locks: &Locks,
        refusal: Refusal,
        request: Request<B>,
        service: S,
        options: Options,
    ) -> Box<Self> {
        Box::new(Self {
            waiting,
            time_up: locks.clock().sleep_until(patience.until()),
            patience,
            refusal,
            request: Some(request),
            service,
            step: Step::Waiting,
            locks: locks.clone(),
            options,
        })
    }

    /// That it was made to wait, for `Preference-Applied`.
    pub(super) fn heeded(&self) -> HeaderValue {
        self.patience.applied()
    }
}

impl<S, B> Held<S, B>
where
    S: Service<Request<B>> + Clone,
{
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Outcome<S, B>, S::Error>> {
        loop {
            let verdict = match &mut self.step {
                Step::Waiting => {
                    self.step = match ready!(self.waiting.poll_again(cx)) {
                        Again::Ask => Step::Readying,
                        Again::TimeUp => Step::Last(self.judge()),
                    };
                    continue;
                }
                Step::Readying => match self.service.poll_ready(cx) {
                    Poll::Ready(readied) => {
                        readied?;
                        self.judge()
                    }
                    Poll::Pending if Pin::new(&mut self.time_up).poll(cx).is_ready() => {
                        self.step = Step::Last(self.judge());
                        continue;
                    }
                    Poll::Pending => return Poll::Pending,
                },
                Step::Deciding(verdict) => {
                    let verdict = ready!(Pin::new(verdict).poll(cx));
                    Judgement::Ready(verdict)
                }
                Step::Last(judgement) => {
                    let verdict = match judgement {
                        Judgement::Pending(verdict) => ready!(Pin::new(verdict).poll(cx)),
                        Judgement::Ready(verdict) => std::mem::replace(verdict, Err(self.refusal.clone())),
                    };
                    return match verdict {
                        Err(refusal) => {
                            self.refusal = refusal;
                            Poll::Ready(Ok(self.stop()))
                        }
                        // What is not ready at once is too late.
                        Ok(admitted) => match self.service.poll_ready(cx) {
                            Poll::Ready(readied) => Poll::Ready(readied.map(|()| self.go(admitted))),
                            Poll::Pending => Poll::Ready(Ok(self.stop())),
                        },
                    };
                }
            };
            match verdict {
                Judgement::Pending(verdict) => self.step = Step::Deciding(verdict),
                Judgement::Ready(Ok(admitted)) => return Poll::Ready(Ok(self.go(admitted))),
                Judgement::Ready(Err(refusal)) => {
                    // Still locked, or the store cannot say: that may pass as well.
                    let waits = matches!(refusal.status(), StatusCode::LOCKED | StatusCode::SERVICE_UNAVAILABLE);
                    self.waiting.behind(&refusal);
                    self.refusal = refusal;
                    if !waits || Pin::new(&mut self.time_up).poll(cx).is_ready() {
                        return Poll::Ready(Ok(self.stop()));
                    }
                    // The readiness is given back.
                    self.service = self.service.clone();
                    self.step = Step::Waiting;
                }
            }
        }
    }

    fn judge(&self) -> Judgement {
        let request = self.request.as_ref().expect("held until there is an outcome");
        self.locks.judge(RequestView::of(request), self.options.demand)
    }

    fn go(&mut self, admitted: Admitted) -> Outcome<S, B> {
        self.waiting.served();
        let clone = self.service.clone();
        Outcome::Go {
            service: std::mem::replace(&mut self.service, clone),
            request: self.request.take().expect("held until there is an outcome"),
            admitted,
            options: self.options,
            locks: self.locks.clone(),
        }
    }

    fn stop(&mut self) -> Outcome<S, B> {
        let request = self.request.take().expect("held until there is an outcome");
        Outcome::Stop { refusal: self.refusal.clone(), request, locks: self.locks.clone() }
    }
}
