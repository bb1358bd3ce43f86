//! `Respond`: what makes a response of a refusal, and its three forms.

use std::{
    fmt,
    pin::Pin,
    sync::{Arc, LazyLock},
    task::Poll,
    time::Duration,
};

use bytes::{Buf, Bytes};
use http::{HeaderMap, HeaderValue, Request, Response, header, request::Parts};
use http_body::Body;

use super::{Format, Problem, ResponseBody, html};
use crate::{locks::Refusal, request::RequestView, store::Permit};

/// Makes the responses of a layer. Two forms are enough for most: [`Problems`], and a closure given to
/// [`LockLayer::respond_with`](crate::LockLayer::respond_with).
pub trait Respond<ReqBody, ResBody> {
    /// The body of what leaves the layer.
    type Body;

    /// The response of a refusal. Drop the request's body before the response is made: a server that drains what has
    /// arrived then keeps the connection.
    fn respond(&self, refusal: &Refusal, request: Request<ReqBody>) -> Response<Self::Body>;

    /// The response of a refusal when there is no request any more: its write was stopped under way. `format` is the one
    /// that the protocol of the request asks for: [`Format::Problem`], but for gRPC.
    fn respond_to_none(&self, refusal: &Refusal, format: Format) -> Response<Self::Body>;

    /// The service's own response. `permit` is to live as long as the body, where there is one: only [`UntilBodyEnds`](super::UntilBodyEnds) is
    /// given one.
    fn pass(response: Response<ResBody>, permit: Option<Permit>) -> Response<Self::Body>;

    /// What polling the service's future gave, passed on: by [`pass`](Self::pass) where it is a response, unless this says
    /// otherwise. Every read comes through here. Where responses pass as they are, return what is given: a response that is
    /// taken apart and put together again is moved twice.
    #[inline]
    fn pass_polled<E>(
        polled: Poll<Result<Response<ResBody>, E>>,
        permit: Option<Permit>,
    ) -> Poll<Result<Response<Self::Body>, E>> {
        polled.map_ok(|response| Self::pass(response, permit))
    }
}

/// Refusals as section 7 of the design has them: `application/problem+json` (RFC 9457), or what the client prefers of
/// HTML and plain text; with the feature `grpc`, a status for gRPC calls.
#[derive(Clone, Debug, Default)]
pub struct Problems(());

impl Problems {
    /// Refusals as problem documents.
    #[must_use]
    pub const fn new() -> Self {
        Self(())
    }
}

impl<ReqBody, ResBody> Respond<ReqBody, ResBody> for Problems {
    type Body = ResponseBody<ResBody>;

    fn respond(&self, refusal: &Refusal, request: Request<ReqBody>) -> Response<Self::Body> {
        let (parts, body) = request.into_parts();
        drop(body);
        render(refusal, &parts)
    }

    fn respond_to_none(&self, refusal: &Refusal, format: Format) -> Response<Self::Body> {
        render_as(refusal, format)
    }

    #[inline]
    fn pass(response: Response<ResBody>, _permit: Option<Permit>) -> Response<Self::Body> {
        response.map(ResponseBody::passed)
    }
}

/// Refusals made by a closure from the refusal and the head of the request; bodies pass unwrapped.
#[derive(Clone)]
pub struct RespondWith<F>(F);

impl<F> RespondWith<F> {
    pub(crate) fn new(respond: F) -> Self {
        Self(respond)
    }
}

impl<F, ReqBody, ResBody> Respond<ReqBody, ResBody> for RespondWith<F>
where
    F: Fn(&Refusal, &Parts) -> Response<ResBody>,
{
    type Body = ResBody;

    fn respond(&self, refusal: &Refusal, request: Request<ReqBody>) -> Response<ResBody> {
        let (parts, body) = request.into_parts();
        drop(body);
        with_refusal((self.0)(refusal, &parts), refusal)
    }

    fn respond_to_none(&self, refusal: &Refusal, format: Format) -> Response<ResBody> {
        let mut parts = Request::new(()).into_parts().0;
        // What is left of the head: which protocol it spoke.
        if format != Format::Problem {
            parts.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(format.content_type()));
        }
        with_refusal((self.0)(refusal, &parts), refusal)
    }

    #[inline]
    fn pass(response: Response<ResBody>, _permit: Option<Permit>) -> Response<ResBody> {
        response
    }

    #[inline]
    fn pass_polled<E>(
        polled: Poll<Result<Response<ResBody>, E>>,
        _permit: Option<Permit>,
    ) -> Poll<Result<Response<ResBody>, E>> {
        polled
    }
}

impl<F> fmt::Debug for RespondWith<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RespondWith(…)")
    }
}

/// [`Problems`], with the body of a refused request read on in the background.
#[derive(Clone, Debug)]
pub struct ReadOn {
    limit: u64,
}

impl ReadOn {
    /// The longest that a refused request is read on.
    const WITHIN: Duration = Duration::from_secs(30);

    pub(crate) const fn new(limit: u64) -> Self {
        Self { limit }
    }
}

impl<ReqBody, ResBody> Respond<ReqBody, ResBody> for ReadOn
where
    ReqBody: Body + Send + 'static,
    ReqBody::Data: Send,
{
    type Body = ResponseBody<ResBody>;

    fn respond(&self, refusal: &Refusal, request: Request<ReqBody>) -> Response<Self::Body> {
        let (parts, body) = request.into_parts();
        // Polling the body of such a request would send for it.
        if parts.headers.contains_key(header::EXPECT) || body.is_end_stream() {
            drop(body);
        } else {
            let limit = self.limit;
            tokio::spawn(async move { tokio::time::timeout(Self::WITHIN, read_away(body, limit)).await });
        }
        render(refusal, &parts)
    }

    fn respond_to_none(&self, refusal: &Refusal, format: Format) -> Response<Self::Body> {
        render_as(refusal, format)
    }

    #[inline]
    fn pass(response: Response<ResBody>, _permit: Option<Permit>) -> Response<Self::Body> {
        response.map(ResponseBody::passed)
    }
}

async fn read_away<B: Body>(body: B, limit: u64) {
    let mut body: Pin<Box<B>> = Box::pin(body);
    let mut left = limit;
    while let Some(Ok(frame)) = std::future::poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
        let read = frame.data_ref().map_or(0, |data| data.remaining() as u64);
        if read > left {
            return;
        }
        left -= read;
    }
}

/// The response of a refusal, in the form that the client prefers.
fn render<B>(refusal: &Refusal, request: &Parts) -> Response<ResponseBody<B>> {
    render_as(refusal, Format::of(RequestView::from_parts(request)))
}

/// The response of a refusal in one form.
pub(crate) fn render_as<B>(refusal: &Refusal, format: Format) -> Response<ResponseBody<B>> {
    let body: Bytes = match format {
        Format::Problem | Format::Json => {
            let document = Problem::of(refusal).document();
            return filled(refusal, format, document.body(), document.length(), document.seconds());
        }
        Format::Html => html::page(refusal).into(),
        Format::Text => format!("{refusal}\n").into(),
        #[cfg(feature = "webdav")]
        Format::Xml => super::dav::document(refusal, None, &[], &super::dav::Plain),
        #[cfg(feature = "grpc")]
        Format::Grpc => return with_refusal(super::grpc::answer(refusal), refusal),
    };
    written(refusal, format, body)
}

/// The response of a refusal that is written already.
pub(crate) fn written<B>(refusal: &Refusal, format: Format, body: Bytes) -> Response<ResponseBody<B>> {
    let length = HeaderValue::from(body.len());
    filled(refusal, format, body, length, refusal.retry_after().map(HeaderValue::from))
}

fn filled<B>(
    refusal: &Refusal,
    format: Format,
    body: Bytes,
    length: HeaderValue,
    seconds: Option<HeaderValue>,
) -> Response<ResponseBody<B>> {
    let mut response = Response::new(ResponseBody::own(body));
    *response.status_mut() = refusal.status();
    *response.headers_mut() = match (seconds, refusal.endpoint_url()) {
        (Some(seconds), None) if format == Format::Problem => most(seconds, length),
        (seconds, endpoint) => {
            let mut headers = fields(refusal, format, seconds, endpoint);
            headers.insert(header::CONTENT_LENGTH, length);
            headers
        }
    };
    with_refusal(response, refusal)
}

/// The fields of most refusals. To copy those that are always the same costs a third of putting them in one by one; and a copy has
/// no room for any more, so that a server which added the length would have to move them all.
fn most(seconds: HeaderValue, length: HeaderValue) -> HeaderMap {
    static MOST: LazyLock<HeaderMap> = LazyLock::new(|| {
        let any = HeaderValue::from_static("");
        let mut headers = fields(&Refusal::bad_request(""), Format::Problem, Some(any.clone()), None);
        headers.insert(header::CONTENT_LENGTH, any);
        headers
    });
    let mut headers = MOST.clone();
    let (mut seconds, mut length) = (Some(seconds), Some(length));
    for (name, value) in &mut headers {
        let known = match *name {
            header::RETRY_AFTER => seconds.take(),
            header::CONTENT_LENGTH => length.take(),
            _ => None,
        };
        if let Some(known) = known {
            *value = known;
        }
    }
    headers
}

fn fields(refusal: &Refusal, format: Format, seconds: Option<HeaderValue>, endpoint: Option<&str>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::VARY, HeaderValue::from_static("accept"));
    if let Some(seconds) = seconds {
        headers.insert(header::RETRY_AFTER, seconds);
    }
    if let Some(endpoint) = endpoint {
        link(&mut headers, refusal, endpoint);
    }
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(format.content_type()));
    headers
}

/// Where each of the locks in the way is to be asked about.
fn link(headers: &mut HeaderMap, refusal: &Refusal, endpoint: &str) {
    // A refusal may name a hundred locks; the first few are links enough.
    for shown in refusal.shown().take(8) {
        let link = format!("<{endpoint}/?id={}>; rel=\"monitor\"", shown.lock.id());
        if let Ok(link) = HeaderValue::try_from(link) {
            headers.append(header::LINK, link);
        }
    }
}

/// Leaves the refusal in the extensions, for layers outside.
fn with_refusal<B>(mut response: Response<B>, refusal: &Refusal) -> Response<B> {
    response.extensions_mut().insert(refusal.clone());
    response
}

// The closure form shares nothing that would stop a layer from being sent.
const _: fn() = || {
    fn is_send<T: Send + Sync>() {}
    is_send::<Problems>();
    is_send::<ReadOn>();
    is_send::<RespondWith<Arc<str>>>();
};

#[cfg(test)]
mod tests {
    use std::{
        cell::Cell,
        convert::Infallible,
        future::Future,
        rc::Rc,
        task::{Context, Waker},
    };

    use http_body::Frame;

    use super::*;

    /// Ten bytes at a time, without an end.
    struct Endless(Rc<Cell<u64>>);

    impl Body for Endless {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            self.0.set(self.0.get() + 10);
            assert!(self.0.get() < 1_000, "it is read without a limit");
            Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"0123456789")))))
        }
    }

    #[test]
    fn a_refused_body_is_read_on_no_further_than_the_limit() {
        for (limit, read) in [(0, 10), (25, 30), (30, 40)] {
            let counted = Rc::new(Cell::new(0));
            let mut reading = std::pin::pin!(read_away(Endless(counted.clone()), limit));
            assert!(reading.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready());
            assert_eq!(counted.get(), read, "it stops with the first frame past {limit} bytes");
        }
    }
}
