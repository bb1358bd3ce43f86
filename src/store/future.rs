//! `StoreFuture`: an answer that is either at hand or boxed.

use std::{
    fmt,
    future::Future,
    mem,
    pin::Pin,
    task::{Context, Poll},
};

use super::StoreError;

/// What a store answers: at once, or later.
///
/// An answer at hand costs no allocation and no timer: whoever asks looks for it before building any future of its own.
/// A network store boxes its work once, with [`StoreFuture::new`].
// Open, so that an answer is looked at where the store has put it: it is as large as a few cache lines are wide, and
// being moved about costs more than many an answer.
#[must_use = "futures do nothing unless polled"]
pub enum StoreFuture<T> {
    /// The answer, at hand.
    Ready(Result<T, StoreError>),
    /// It is still to come.
    Pending(PendingAnswer<T>),
}

/// An answer that is still to come.
#[must_use = "futures do nothing unless polled"]
pub struct PendingAnswer<T>(Option<Work<T>>);

type Work<T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send>>;

impl<T> StoreFuture<T> {
    /// An answer at hand.
    #[inline]
    pub fn ready(answer: T) -> Self {
        Self::Ready(Ok(answer))
    }

    /// A failure at hand.
    pub fn failed(error: StoreError) -> Self {
        Self::Ready(Err(error))
    }

    /// An answer to come.
    pub fn new<F>(work: F) -> Self
    where
        F: Future<Output = Result<T, StoreError>> + Send + 'static,
    {
        Self::Pending(PendingAnswer(Some(Box::pin(work))))
    }

    /// The answer if it is at hand, else what is left to wait for.
    ///
    /// # Errors
    /// The rest of the future, when the answer is still to come.
    #[inline]
    pub fn into_ready(self) -> Result<Result<T, StoreError>, PendingAnswer<T>> {
        match self {
            Self::Ready(answer) => Ok(answer),
            Self::Pending(pending) => Err(pending),
        }
    }
}

// Nothing in it is ever pinned in place: the answer is moved out, the work has a box of its own.
impl<T> Unpin for StoreFuture<T> {}

impl<T> Future for StoreFuture<T> {
    type Output = Result<T, StoreError>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut *self {
            Self::Pending(pending) => Pin::new(pending).poll(cx),
            ready => match mem::replace(ready, Self::Pending(PendingAnswer(None))) {
                Self::Ready(answer) => Poll::Ready(answer),
                Self::Pending(_) => unreachable!("an answer is at hand"),
            },
        }
    }
}

impl<T> Future for PendingAnswer<T> {
    type Output = Result<T, StoreError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let work = self.0.as_mut().expect("`StoreFuture` polled after it had answered");
        let answer = std::task::ready!(work.as_mut().poll(cx));
        self.0 = None;
        Poll::Ready(answer)
    }
}

impl<T> From<Result<T, StoreError>> for StoreFuture<T> {
    fn from(answer: Result<T, StoreError>) -> Self {
        Self::Ready(answer)
    }
}

impl<T> From<PendingAnswer<T>> for StoreFuture<T> {
    fn from(pending: PendingAnswer<T>) -> Self {
        Self::Pending(pending)
    }
}

impl<T> fmt::Debug for StoreFuture<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ready(_) => "StoreFuture(ready)",
            Self::Pending(PendingAnswer(None)) => "StoreFuture(taken)",
            Self::Pending(_) => "StoreFuture(pending)",
        })
    }
}

impl<T> fmt::Debug for PendingAnswer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PendingAnswer")
    }
}
