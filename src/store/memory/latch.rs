//! `Latch`: what an acquire waits on until the writes that its marks refuse have ended.

use std::{
    panic::{self, AssertUnwindSafe},
    sync::Arc,
    task::{Context, Poll, Waker},
};

use super::sync::Mutex;
use crate::lock::LockParts;

#[derive(Debug)]
pub(super) struct Latch {
    /// The locks that are to come.
    pub(super) coming: Box<[Arc<LockParts>]>,
    left: Mutex<Left>,
}

#[derive(Debug, Default)]
struct Left {
    writes: usize,
    waker: Option<Waker>,
}

impl Latch {
    pub(super) fn new(coming: Box<[Arc<LockParts>]>) -> Arc<Self> {
        Arc::new(Self { coming, left: Mutex::default() })
    }

    /// One more write has to end.
    pub(super) fn add(&self) {
        self.left.lock().writes += 1;
    }

    /// One of the writes has ended. Who is to be woken, if it was the last.
    fn count_down(&self) -> Option<Waker> {
        let mut left = self.left.lock();
        left.writes -= 1;
        if left.writes == 0 { left.waker.take() } else { None }
    }

    /// Ready once all have ended.
    pub(super) fn poll(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut left = self.left.lock();
        if left.writes == 0 {
            return Poll::Ready(());
        }
        match &mut left.waker {
            Some(waker) => waker.clone_from(cx.waker()),
            None => left.waker = Some(cx.waker().clone()),
        }
        Poll::Pending
    }
}

/// A write has ended that all of these waited for.
pub(super) fn done(latches: &[Arc<Latch>]) {
    // Outside of every mutex, and all counted before: what a waker does is not ours to know.
    let wakers: Vec<Waker> = latches.iter().filter_map(|latch| latch.count_down()).collect();
    let mut wakers = Wakers(wakers.into_iter());
    wakers.0.by_ref().for_each(Waker::wake);
}

/// Wakes those that are left also where one of them has panicked.
struct Wakers(std::vec::IntoIter<Waker>);

impl Drop for Wakers {
    fn drop(&mut self) {
        for waker in self.0.by_ref() {
            // The first panic is the one that is told.
            _ = panic::catch_unwind(AssertUnwindSafe(|| waker.wake()));
        }
    }
}
