//! `race`: the first of two futures to be ready. The other is dropped.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    task::Poll,
};

/// Which was first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum First<A, B> {
    One(A),
    Other(B),
}

/// Where both are ready, `one` is first.
pub(super) async fn race<A, B>(one: impl Future<Output = A>, other: impl Future<Output = B>) -> First<A, B> {
    let (mut one, mut other) = (pin!(one), pin!(other));
    poll_fn(|cx| match one.as_mut().poll(cx) {
        Poll::Ready(answer) => Poll::Ready(First::One(answer)),
        Poll::Pending => other.as_mut().poll(cx).map(First::Other),
    })
    .await
}
