//! Answers that come at once, or later.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    task::Poll,
};

use crate::store::StoreFuture;

/// The store's answer where the model has one, however late it comes: a store may have to write it down, or to ask for it.
pub(super) async fn answered_as<T>(model: &Option<T>, store: &mut StoreFuture<T>) -> Option<T> {
    match model {
        Some(_) => Some(store.await.unwrap_or_else(|error| panic!("the store failed: {error}"))),
        None => poll_once(store).await,
    }
}

pub(super) async fn poll_once<T>(future: &mut StoreFuture<T>) -> Option<T> {
    poll_fn(|cx| {
        Poll::Ready(match Pin::new(&mut *future).poll(cx) {
            Poll::Ready(answered) => Some(answered.unwrap_or_else(|error| panic!("the store failed: {error}"))),
            Poll::Pending => None,
        })
    })
    .await
}
