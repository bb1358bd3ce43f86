//! `ResponseBody`: the service's own body, or one of ours.

use std::{
    collections::VecDeque,
    convert::Infallible,
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Buf, Bytes};
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use parking_lot::Mutex;
use pin_project_lite::pin_project;

pin_project! {
    /// The body of a response that came through the layer: the service's own, frame by frame, or a refusal's.
    pub struct ResponseBody<B> {
        #[pin]
        kind: Kind<B>,
    }
}

pin_project! {
    #[project = KindProj]
    enum Kind<B> {
        Passed { #[pin] body: B },
        Own { #[pin] body: Full<Bytes> },
        // Of the service's own, what has been read, and what has not.
        Resumed { read: VecDeque<Frame<Bytes>>, rest: Option<Pin<Box<B>>> },
        // Never contended: a body is polled by `&mut`. The mutex makes the whole `Sync` where the service's body is, which
        // boxing it asks for.
        Streamed { stream: Mutex<Pin<Box<dyn Body<Data = Bytes, Error = Infallible> + Send>>> },
    }
}

impl<B> ResponseBody<B> {
    /// The service's own body.
    pub(crate) fn passed(body: B) -> Self {
        Self { kind: Kind::Passed { body } }
    }

    /// A body that is all there.
    pub(crate) fn own(body: impl Into<Bytes>) -> Self {
        Self { kind: Kind::Own { body: Full::new(body.into()) } }
    }

    /// The service's own body, of which these frames have been read already.
    #[cfg(feature = "batch")]
    pub(crate) fn resumed(read: impl IntoIterator<Item = Frame<Bytes>>, rest: Option<Pin<Box<B>>>) -> Self {
        Self { kind: Kind::Resumed { read: read.into_iter().collect(), rest } }
    }

    /// The same body, beside those of another service.
    pub(crate) fn beside<C>(self) -> ResponseBody<C>
    where
        B: Body<Data = Bytes, Error = Infallible> + Send + 'static,
    {
        match self.kind {
            Kind::Passed { body } => ResponseBody::streamed(body),
            Kind::Resumed { .. } => ResponseBody::streamed(self),
            Kind::Own { body } => ResponseBody { kind: Kind::Own { body } },
            Kind::Streamed { stream } => ResponseBody { kind: Kind::Streamed { stream } },
        }
    }

    /// A body that comes bit by bit.
    pub(crate) fn streamed<S>(stream: S) -> Self
    where
        S: Body<Data = Bytes, Error = Infallible> + Send + 'static,
    {
        Self { kind: Kind::Streamed { stream: Mutex::new(Box::pin(stream)) } }
    }
}

impl<B: Default> Default for ResponseBody<B> {
    fn default() -> Self {
        Self::passed(B::default())
    }
}

impl<B: Body> Body for ResponseBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        match self.project().kind.project() {
            // For `Bytes` this is a move: no copy.
            KindProj::Passed { body } => body.poll_frame(cx).map_ok(in_one),
            KindProj::Resumed { read, rest } => match (read.pop_front(), rest) {
                (Some(frame), _) => Poll::Ready(Some(Ok(frame))),
                (None, Some(rest)) => rest.as_mut().poll_frame(cx).map_ok(in_one),
                (None, None) => Poll::Ready(None),
            },
            KindProj::Own { body } => body.poll_frame(cx).map_err(|never| match never {}),
            KindProj::Streamed { stream } => stream.get_mut().as_mut().poll_frame(cx).map_err(|never| match never {}),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Passed { body } => body.is_end_stream(),
            Kind::Resumed { read, rest } => read.is_empty() && rest.as_ref().is_none_or(Body::is_end_stream),
            Kind::Own { body } => body.is_end_stream(),
            Kind::Streamed { stream } => stream.lock().is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Passed { body } => body.size_hint(),
            Kind::Resumed { read, rest } => {
                let read = read.iter().filter_map(Frame::data_ref).map(|data| data.len() as u64).sum::<u64>();
                let rest = rest.as_ref().map_or(SizeHint::with_exact(0), Body::size_hint);
                let mut hint = SizeHint::new();
                hint.set_lower(read.saturating_add(rest.lower()));
                if let Some(upper) = rest.upper() {
                    hint.set_upper(read.saturating_add(upper));
                }
                hint
            }
            Kind::Own { body } => body.size_hint(),
            Kind::Streamed { stream } => stream.lock().size_hint(),
        }
    }
}

/// The same frame with its data in one piece.
pub(crate) fn in_one<D: Buf>(frame: Frame<D>) -> Frame<Bytes> {
    frame.map_data(|mut data| data.copy_to_bytes(data.remaining()))
}

impl<B> fmt::Debug for ResponseBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.kind {
            Kind::Passed { .. } => "ResponseBody(passed)",
            Kind::Resumed { .. } => "ResponseBody(resumed)",
            Kind::Own { .. } => "ResponseBody(own)",
            Kind::Streamed { .. } => "ResponseBody(streamed)",
        })
    }
}
