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
/// An answer at hand costs no allocation and no timer; the middleware takes it apart with [`StoreFuture::into_ready`]
/// before it builds any future of its own. A network store boxes its work once, with [`StoreFuture::new`].
#[must_use = "futures do nothing unless polled"]
pub struct StoreFuture<T>(State<T>);

enum State<T> {
    Ready(Result<T, StoreError>),
    Taken,
    Pending(Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send>>),
}

impl<T> StoreFuture<T> {
    /// An answer at hand.
    pub fn ready(answer: T) -> Self {
        Self(State::Ready(Ok(answer)))
    }

    /// A failure at hand.
    pub fn failed(error: StoreError) -> Self {
        Self(State::Ready(Err(error)))
    }

    /// An answer to come.
    pub fn new<F>(work: F) -> Self
    where
        F: Future<Output = Result<T, StoreError>> + Send + 'static,
    {
        Self(State::Pending(Box::pin(work)))
    }

    /// The answer if it is at hand, else the future again.
    ///
    /// # Errors
    /// The future itself, when the answer is still to come.
    pub fn into_ready(self) -> Result<Result<T, StoreError>, Self> {
        match self.0 {
            State::Ready(answer) => Ok(answer),
            state => Err(Self(state)),
        }
    }
}

// Nothing in it is ever pinned in place: the answer is moved out, the work has a box of its own.
impl<T> Unpin for StoreFuture<T> {}

impl<T> Future for StoreFuture<T> {
    type Output = Result<T, StoreError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            State::Pending(work) => {
                let answer = std::task::ready!(work.as_mut().poll(cx));
                self.0 = State::Taken;
                Poll::Ready(answer)
            }
            state => match mem::replace(state, State::Taken) {
                State::Ready(answer) => Poll::Ready(answer),
                _ => panic!("`StoreFuture` polled after it had answered"),
            },
        }
    }
}

impl<T> From<Result<T, StoreError>> for StoreFuture<T> {
    fn from(answer: Result<T, StoreError>) -> Self {
        Self(State::Ready(answer))
    }
}

impl<T> fmt::Debug for StoreFuture<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            State::Ready(_) => "StoreFuture(ready)",
            State::Taken => "StoreFuture(taken)",
            State::Pending(_) => "StoreFuture(pending)",
        })
    }
}
