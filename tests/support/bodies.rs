//! Bodies that a layer must not assume anything about.

use std::{
    collections::VecDeque,
    convert::Infallible,
    marker::PhantomPinned,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use bytes::{Buf, Bytes};
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

pin_project! {
    /// A body in several frames of a data type of its own, with trailers, that cannot be moved once polled, is not `Send`
    /// where its data is not, and counts how often it was polled.
    pub struct Odd {
        frames: VecDeque<&'static str>,
        trailers: Option<HeaderMap>,
        polled: Arc<AtomicUsize>,
        #[pin]
        pinned: PhantomPinned,
    }
}

impl Odd {
    pub fn new(frames: impl IntoIterator<Item = &'static str>, trailers: Option<HeaderMap>) -> Self {
        Self { frames: frames.into_iter().collect(), trailers, polled: Arc::default(), pinned: PhantomPinned }
    }

    /// How often it was polled.
    pub fn polled(&self) -> Arc<AtomicUsize> {
        self.polled.clone()
    }
}

/// Data that is no `Bytes` and comes in two pieces.
pub struct TwoPieces(&'static str, &'static str);

impl TwoPieces {
    fn new(text: &'static str) -> Self {
        let (first, second) = text.split_at(text.len() / 2);
        Self(first, second)
    }
}

impl Buf for TwoPieces {
    fn remaining(&self) -> usize {
        self.0.len() + self.1.len()
    }

    fn chunk(&self) -> &[u8] {
        if self.0.is_empty() { self.1.as_bytes() } else { self.0.as_bytes() }
    }

    fn advance(&mut self, count: usize) {
        let first = count.min(self.0.len());
        self.0 = &self.0[first..];
        self.1 = &self.1[count - first..];
    }
}

impl Body for Odd {
    type Data = TwoPieces;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<TwoPieces>, Infallible>>> {
        let this = self.project();
        this.polled.fetch_add(1, Ordering::SeqCst);
        let data = this.frames.pop_front().map(|text| Frame::data(TwoPieces::new(text)));
        Poll::Ready(data.or_else(|| this.trailers.take().map(Frame::trailers)).map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.frames.is_empty() && self.trailers.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.frames.iter().map(|text| text.len() as u64).sum())
    }
}

/// A body that panics when it is polled: for requests that must be refused unread.
#[derive(Debug, Default)]
pub struct Untouchable;

impl Body for Untouchable {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        panic!("the body of a refused request was polled")
    }
}
