//! `Latch`: what an acquire waits on until the writes that its marks refuse have ended.

use std::{
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

    /// One of the writes has ended.
    pub(super) fn done(&self) {
        let waker = {
            let mut left = self.left.lock();
            left.writes -= 1;
            if left.writes == 0 { left.waker.take() } else { None }
        };
        // Outside of the mutex: what a waker does is not ours to know.
        if let Some(waker) = waker {
            waker.wake();
        }
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
