//! Short ways to wait.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
};

use tower_lock::{LockRequest, Locks, Refusal, locks::Granted};

/// How long those wait who are not meant to give up.
pub(crate) const LONG: std::time::Duration = std::time::Duration::from_secs(600);

/// A future that a test polls by hand, with a count of its wake-ups.
pub(crate) struct Hand<T> {
    future: Pin<Box<dyn Future<Output = T> + Send>>,
    wakes: Arc<Wakes>,
}

#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl<T> Hand<T> {
    pub(crate) fn new(future: impl Future<Output = T> + Send + 'static) -> Self {
        Self { future: Box::pin(future), wakes: Arc::default() }
    }

    pub(crate) fn poll(&mut self) -> Poll<T> {
        let waker = Waker::from(self.wakes.clone());
        self.future.as_mut().poll(&mut Context::from_waker(&waker))
    }

    /// Polls as long as it is woken.
    pub(crate) fn run(&mut self) -> Poll<T> {
        loop {
            let before = self.wakes();
            if let Poll::Ready(done) = self.poll() {
                return Poll::Ready(done);
            }
            if self.wakes() == before {
                return Poll::Pending;
            }
        }
    }

    pub(crate) fn wakes(&self) -> usize {
        self.wakes.0.load(Ordering::SeqCst)
    }
}

/// An acquire in line.
pub(crate) fn waiting(locks: &Locks, request: LockRequest) -> Hand<Result<Granted, Refusal>> {
    let locks = locks.clone();
    Hand::new(async move { locks.acquire(request.waiting(LONG)).await })
}

/// What came of it, which must be there.
pub(crate) fn granted(poll: Poll<Result<Granted, Refusal>>) -> Granted {
    match poll {
        Poll::Ready(Ok(granted)) => granted,
        other => panic!("not granted: {other:?}"),
    }
}
