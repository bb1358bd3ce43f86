//! `Finish`: a question that is seen through once it was sent.
//!
//! A server carries out what it was sent whether or not anybody waits for the answer. Were the question forgotten when its
//! caller hangs up, the end of what it registered could overtake it, and the registration would stand until its lease runs
//! out. So a dropped question goes on by itself, and what comes of it is dropped when it is there.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::runtime::Handle;

pub(super) struct Finish<F: Future<Output: Send> + Send + 'static> {
    work: Option<Pin<Box<F>>>,
    /// Where it was begun.
    runtime: Option<Handle>,
}

impl<F: Future<Output: Send> + Send + 'static> Finish<F> {
    pub(super) fn new(work: F) -> Self {
        Self { work: Some(Box::pin(work)), runtime: None }
    }
}

impl<F: Future<Output: Send> + Send + 'static> Future for Finish<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = &mut *self;
        if this.runtime.is_none() {
            this.runtime = Handle::try_current().ok();
        }
        let Some(work) = &mut this.work else { return Poll::Pending };
        let answer = std::task::ready!(work.as_mut().poll(cx));
        this.work = None;
        Poll::Ready(answer)
    }
}

impl<F: Future<Output: Send> + Send + 'static> Drop for Finish<F> {
    fn drop(&mut self) {
        // One that was never polled was never sent.
        if let (Some(work), Some(runtime)) = (self.work.take(), self.runtime.take()) {
            runtime.spawn(async move { drop(work.await) });
        }
    }
}
