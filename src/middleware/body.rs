//! `RequestBody`: what a service is sent by a layer that may have read the body: the client's own, or one of the layer's.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use crate::respond::ResponseBody;

pin_project! {
    /// The body of a request to the service inside: the client's own, frame by frame, or one that the layer has read or
    /// made, as the WebDAV layer does to ask a resource for its entity tag, and the one for bulk writes to leave out items.
    pub struct RequestBody<B> {
        // Bodies are the same either way; only their names say where they go.
        #[pin]
        body: ResponseBody<B>,
    }
}

impl<B> RequestBody<B> {
    /// The client's own body.
    pub(crate) fn passed(body: B) -> Self {
        Self { body: ResponseBody::passed(body) }
    }

    /// A body that is all there.
    pub(crate) fn own(body: impl Into<Bytes>) -> Self {
        Self { body: ResponseBody::own(body) }
    }
}

impl<B: Body> Body for RequestBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        self.project().body.poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl<B> fmt::Debug for RequestBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RequestBody({:?})", self.body)
    }
}
