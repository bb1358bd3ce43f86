//! A layer that does nothing: the least that any middleware costs.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use pin_project_lite::pin_project;
use tower::{Layer, Service};

/// Passes requests and responses on, in a future of its own.
#[derive(Clone, Copy, Debug)]
pub struct DoNothingLayer;

/// See [`DoNothingLayer`].
#[derive(Clone, Debug)]
pub struct DoNothing<S>(S);

pin_project! {
    /// See [`DoNothingLayer`].
    pub struct DoNothingFuture<F> {
        #[pin]
        inner: F,
    }
}

impl<S> Layer<S> for DoNothingLayer {
    type Service = DoNothing<S>;

    fn layer(&self, inner: S) -> DoNothing<S> {
        DoNothing(inner)
    }
}

impl<R, S: Service<R>> Service<R> for DoNothing<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = DoNothingFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: R) -> Self::Future {
        DoNothingFuture { inner: self.0.call(request) }
    }
}

impl<F: Future> Future for DoNothingFuture<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        self.project().inner.poll(cx)
    }
}
