//! `HeldBody`: a response's body that keeps the permit of its write, and is cut when the write must stop.

use std::{
    error::Error,
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use super::{Format, Respond};
use crate::{locks::Refusal, store::Permit};

/// Another responder, with bodies that keep the permit of their write until they end: made by
/// [`LockLayer::until_body_ends`](crate::LockLayer::until_body_ends).
#[derive(Clone, Debug)]
pub struct UntilBodyEnds<R> {
    inner: R,
}

impl<R> UntilBodyEnds<R> {
    pub(crate) const fn new(inner: R) -> Self {
        Self { inner }
    }
}

impl<ReqBody, ResBody, R: Respond<ReqBody, ResBody>> Respond<ReqBody, ResBody> for UntilBodyEnds<R> {
    type Body = HeldBody<R::Body>;

    fn respond(&self, refusal: &Refusal, request: Request<ReqBody>) -> Response<Self::Body> {
        self.inner.respond(refusal, request).map(|body| HeldBody::new(body, None))
    }

    fn respond_to_none(&self, refusal: &Refusal, format: Format) -> Response<Self::Body> {
        self.inner.respond_to_none(refusal, format).map(|body| HeldBody::new(body, None))
    }

    fn pass(response: Response<ResBody>, permit: Option<Permit>) -> Response<Self::Body> {
        let protocol = Format::of_answer(response.headers());
        R::pass(response, None).map(|body| HeldBody { protocol, ..HeldBody::new(body, permit) })
    }
}

pin_project! {
    /// A body whose write counts as in flight until it has ended or is dropped.
    ///
    /// When the lease of the write lapses before that, the body inside is dropped, which stops what writes while it
    /// streams, and the stream fails with [`LeaseLapsed`]: the client must not take it for whole. A gRPC stream ends with the
    /// status `UNAVAILABLE` instead. Errors of the body inside are passed on, boxed.
    pub struct HeldBody<B> {
        // None once it was cut.
        #[pin]
        body: Option<B>,
        permit: Option<Permit>,
        // Which decides how it is cut.
        protocol: Format,
    }
}

impl<B> HeldBody<B> {
    fn new(body: B, permit: Option<Permit>) -> Self {
        Self { body: Some(body), permit, protocol: Format::Problem }
    }
}

impl<B> Body for HeldBody<B>
where
    B: Body,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    type Data = B::Data;
    type Error = Box<dyn Error + Send + Sync>;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, Self::Error>>> {
        let mut this = self.project();
        // Before the body is polled: others may have been granted meanwhile what it would go on to change.
        if this.permit.as_ref().is_some_and(|permit| permit.poll_lapsed(cx).is_ready()) {
            this.body.set(None);
            *this.permit = None;
            return Poll::Ready(Some(match *this.protocol {
                #[cfg(feature = "grpc")]
                Format::Grpc => Ok(Frame::trailers(super::grpc::trailers(&Refusal::lease_lapsed()))),
                _ => Err(LeaseLapsed(()).into()),
            }));
        }
        let Some(body) = this.body.as_pin_mut() else { return Poll::Ready(None) };
        let frame = std::task::ready!(body.poll_frame(cx));
        if frame.is_none() {
            *this.permit = None;
        }
        Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map(Body::size_hint).unwrap_or_default()
    }
}

impl<B: Default> Default for HeldBody<B> {
    fn default() -> Self {
        Self::new(B::default(), None)
    }
}

impl<B> fmt::Debug for HeldBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HeldBody").field("permit", &self.permit).finish_non_exhaustive()
    }
}

/// Why a [`HeldBody`] was cut: the lease of its write lapsed, because the lock store could not be told in time that the
/// write goes on. It may be half done.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LeaseLapsed(());

impl fmt::Display for LeaseLapsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the lock store could not be told in time that this write goes on, so it was stopped")
    }
}

impl Error for LeaseLapsed {}
