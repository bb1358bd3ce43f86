//! A service that insists on being polled ready before each call, and whose clones are never ready.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use tower::Service;

/// What a [`Probe`] fails with: no type that anything else could have made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeError(pub &'static str);

impl fmt::Display for ProbeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for ProbeError {}

/// A service from a function. It panics when called un-ready; a clone starts un-ready, as one of a concurrency limit does
/// that took its place at the limit in `poll_ready`.
pub struct Probe<F> {
    answer: F,
    ready: bool,
    /// Says once that it is not ready yet, so that a layer which does not forward is found out.
    hesitated: bool,
    counts: Arc<Counts>,
}

#[derive(Default)]
pub struct Counts {
    pub polls: AtomicUsize,
    pub calls: AtomicUsize,
    pub clones: AtomicUsize,
}

impl Counts {
    pub fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }

    pub fn polls(&self) -> usize {
        self.polls.load(Ordering::SeqCst)
    }

    pub fn clones(&self) -> usize {
        self.clones.load(Ordering::SeqCst)
    }
}

/// A probe that answers with `answer`.
pub fn probe<F>(answer: F) -> Probe<F> {
    Probe { answer, ready: false, hesitated: false, counts: Arc::default() }
}

impl<F> Probe<F> {
    pub fn counts(&self) -> Arc<Counts> {
        self.counts.clone()
    }
}

impl<F: Clone> Clone for Probe<F> {
    fn clone(&self) -> Self {
        self.counts.clones.fetch_add(1, Ordering::SeqCst);
        Self { answer: self.answer.clone(), ready: false, hesitated: false, counts: self.counts.clone() }
    }
}

impl<F, Fut, Request, Response, Error> Service<Request> for Probe<F>
where
    F: Fn(Request) -> Fut,
    Fut: Future<Output = Result<Response, Error>>,
{
    type Response = Response;
    type Error = Error;
    type Future = Fut;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.counts.polls.fetch_add(1, Ordering::SeqCst);
        if !self.hesitated {
            self.hesitated = true;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.ready = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Fut {
        assert!(self.ready, "called without having been polled ready");
        self.ready = false;
        self.hesitated = false;
        self.counts.calls.fetch_add(1, Ordering::SeqCst);
        (self.answer)(request)
    }
}
