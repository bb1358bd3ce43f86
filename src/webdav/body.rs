//! `RequestBody`: what the handler inside is sent: the client's own body, or one of the layer's.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Buf, Bytes};
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use pin_project_lite::pin_project;

pin_project! {
    /// The body of a request to the handler inside: the client's own, frame by frame, or one that the layer has read or
    /// made, as it does to ask a resource for its entity tag or to create the empty resource of a LOCK.
    pub struct RequestBody<B> {
        #[pin]
        kind: Kind<B>,
    }
}

pin_project! {
    #[project = KindProj]
    enum Kind<B> {
        Passed { #[pin] body: B },
        Own { #[pin] body: Full<Bytes> },
    }
}

impl<B> RequestBody<B> {
    /// The client's own body.
    pub(super) fn passed(body: B) -> Self {
        Self { kind: Kind::Passed { body } }
    }

    /// A body that is all there.
    #[allow(dead_code, reason = "what makes inner requests comes next")]
    pub(super) fn own(body: impl Into<Bytes>) -> Self {
        Self { kind: Kind::Own { body: Full::new(body.into()) } }
    }
}

impl<B: Body> Body for RequestBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        match self.project().kind.project() {
            // For `Bytes` this is a move: no copy.
            KindProj::Passed { body } => {
                body.poll_frame(cx).map_ok(|frame| frame.map_data(|mut data| data.copy_to_bytes(data.remaining())))
            }
            KindProj::Own { body } => body.poll_frame(cx).map_err(|never| match never {}),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Passed { body } => body.is_end_stream(),
            Kind::Own { body } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Passed { body } => body.size_hint(),
            Kind::Own { body } => body.size_hint(),
        }
    }
}

impl<B> fmt::Debug for RequestBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.kind {
            Kind::Passed { .. } => "RequestBody(passed)",
            Kind::Own { .. } => "RequestBody(own)",
        })
    }
}
