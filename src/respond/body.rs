//! `ResponseBody`: the service's own body, or one of ours.

use std::{
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

    /// The same body, beside those of another service.
    pub(crate) fn beside<C>(self) -> ResponseBody<C>
    where
        B: Body<Data = Bytes, Error = Infallible> + Send + 'static,
    {
        match self.kind {
            Kind::Passed { body } => ResponseBody::streamed(body),
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
            KindProj::Passed { body } => {
                body.poll_frame(cx).map_ok(|frame| frame.map_data(|mut data| data.copy_to_bytes(data.remaining())))
            }
            KindProj::Own { body } => body.poll_frame(cx).map_err(|never| match never {}),
            KindProj::Streamed { stream } => stream.get_mut().as_mut().poll_frame(cx).map_err(|never| match never {}),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Passed { body } => body.is_end_stream(),
            Kind::Own { body } => body.is_end_stream(),
            Kind::Streamed { stream } => stream.lock().is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Passed { body } => body.size_hint(),
            Kind::Own { body } => body.size_hint(),
            Kind::Streamed { stream } => stream.lock().size_hint(),
        }
    }
}

impl<B> fmt::Debug for ResponseBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.kind {
            Kind::Passed { .. } => "ResponseBody(passed)",
            Kind::Own { .. } => "ResponseBody(own)",
            Kind::Streamed { .. } => "ResponseBody(streamed)",
        })
    }
}
