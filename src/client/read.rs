//! `ReadRefusals`: reads what a refusal says, and leaves it in the response's extensions.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use http::{Response, StatusCode, header, response::Parts};
use http_body::Body;
use pin_project_lite::pin_project;
use tokio::time::Sleep;
use tower_layer::Layer;
use tower_service::Service;

use super::{
    ReadBody, Refused,
    body::{Begun, End},
    refused::is_json,
};

/// A layer for a client: where an answer is a refusal in JSON (409, 412, 423, 428, 429, 503), it is read, and a
/// [`Refused`] is left in the extensions of the response. The body is handed on as it came. See the [module
/// docs](super).
///
/// A body is not looked at where it says that it is longer than the [limit](Self::limit), is encoded (put what decodes
/// it inside of this layer), or is not JSON. One that turns out longer, breaks off or takes too long is handed on as
/// far as it goes, without a [`Refused`].
///
/// # Panics
/// The future does, where it has a body to read and there is no tokio runtime with timers.
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct ReadRefusals {
    limit: usize,
    within: Duration,
}

impl ReadRefusals {
    /// A layer that reads up to 256 KiB of each refusal, for up to 5 seconds.
    pub const fn new() -> Self {
        Self { limit: 256 * 1024, within: Duration::from_secs(5) }
    }

    /// Reads so many bytes at most.
    pub const fn limit(mut self, bytes: usize) -> Self {
        self.limit = bytes;
        self
    }

    /// Waits so long for the end of a body.
    pub const fn within(mut self, span: Duration) -> Self {
        self.within = span;
        self
    }

    /// Whether it is worth reading what has such a head.
    fn reads(&self, head: &Parts) -> bool {
        let refuses = matches!(
            head.status,
            StatusCode::CONFLICT
                | StatusCode::PRECONDITION_FAILED
                | StatusCode::LOCKED
                | StatusCode::PRECONDITION_REQUIRED
                | StatusCode::TOO_MANY_REQUESTS
                | StatusCode::SERVICE_UNAVAILABLE
        );
        let length = head.headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.trim().parse().ok());
        refuses && is_json(&head.headers) && length.is_none_or(|length: u64| length <= self.limit as u64)
    }
}

impl Default for ReadRefusals {
    fn default() -> Self {
        Self::new()
    }
}

impl<S> Layer<S> for ReadRefusals {
    type Service = RefusalReader<S>;

    fn layer(&self, inner: S) -> RefusalReader<S> {
        RefusalReader { inner, options: *self }
    }
}

/// The service of [`ReadRefusals`].
#[derive(Clone, Copy, Debug)]
pub struct RefusalReader<S> {
    inner: S,
    options: ReadRefusals,
}

impl<S, Req, B> Service<Req> for RefusalReader<S>
where
    S: Service<Req, Response = Response<B>>,
    B: Body,
{
    type Response = Response<ReadBody<B>>;
    type Error = S::Error;
    type Future = ReadFuture<S::Future, B>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Req) -> Self::Future {
        ReadFuture { state: State::Called { future: self.inner.call(request) }, options: self.options }
    }
}

pin_project! {
    /// The response of a [`RefusalReader`].
    pub struct ReadFuture<F, B: Body> {
        #[pin]
        state: State<F, B>,
        options: ReadRefusals,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<F, B: Body> {
        // The service inside has yet to answer.
        Called { #[pin] future: F },
        // It has refused, and its reasons are being read.
        Reading { refusal: Option<(Parts, Begun<B>)>, #[pin] time_up: Sleep },
    }
}

impl<F, B, E> Future for ReadFuture<F, B>
where
    F: Future<Output = Result<Response<B>, E>>,
    B: Body,
{
    type Output = Result<Response<ReadBody<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            match this.state.as_mut().project() {
                StateProj::Called { future } => {
                    let (head, body) = ready!(future.poll(cx))?.into_parts();
                    if body.is_end_stream() || !this.options.reads(&head) {
                        return Poll::Ready(Ok(Response::from_parts(head, ReadBody::unread(body))));
                    }
                    let time_up = tokio::time::sleep(this.options.within);
                    this.state.set(State::Reading { refusal: Some((head, Begun::new(body))), time_up });
                }
                StateProj::Reading { refusal, time_up } => {
                    let (head, body) = refusal.as_mut().expect("polled no more once it has answered");
                    match body.poll_end(cx, this.options.limit) {
                        Poll::Ready(End::Whole) => {
                            if let Some(refused) = Refused::read(head.status, &head.headers, &body.whole()) {
                                head.extensions.insert(refused);
                            }
                        }
                        Poll::Ready(End::TooLong | End::Failed) => {}
                        Poll::Pending => ready!(time_up.poll(cx)),
                    }
                    let (head, body) = refusal.take().expect("it was there just now");
                    return Poll::Ready(Ok(Response::from_parts(head, ReadBody::begun(body))));
                }
            }
        }
    }
}

impl<F, B: Body> fmt::Debug for ReadFuture<F, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadFuture").field("options", &self.options).finish_non_exhaustive()
    }
}
