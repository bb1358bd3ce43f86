//! `Transport`: whatever service sends the requests, without its type.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
};

use bytes::Bytes;
use http::{Request, Response, response::Parts};
use http_body::Body;
use http_body_util::Full;
use parking_lot::Mutex;
use tower_service::Service;

use super::{
    BoxError, RemoteError,
    body::{Begun, End},
};

/// The most that is read of an answer. A refusal may name a hundred locks, with texts of some KiB each.
const MOST: usize = 2 * 1024 * 1024;

/// An answer, read.
pub(super) type Answer = (Parts, Bytes);

pub(super) trait Transport: Send + Sync + 'static {
    fn send(&self, request: Request<Full<Bytes>>) -> Pin<Box<dyn Future<Output = Result<Answer, RemoteError>> + Send>>;
}

/// A service of which each request gets a clone, made ready for it.
pub(super) struct Cloned<S>(Mutex<S>);

impl<S> Cloned<S> {
    pub(super) fn new(service: S) -> Self {
        Self(Mutex::new(service))
    }
}

impl<S, B> Transport for Cloned<S>
where
    S: Service<Request<Full<Bytes>>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Into<BoxError>,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError> + Send,
{
    fn send(&self, request: Request<Full<Bytes>>) -> Pin<Box<dyn Future<Output = Result<Answer, RemoteError>> + Send>> {
        let mut service = self.0.lock().clone();
        Box::pin(async move {
            poll_fn(|cx| service.poll_ready(cx)).await.map_err(|error| RemoteError::Transport(error.into()))?;
            let response = service.call(request).await.map_err(|error| RemoteError::Transport(error.into()))?;
            let (head, body) = response.into_parts();
            let mut body = Begun::new(body);
            let end = poll_fn(|cx| body.poll_end(cx, MOST)).await;
            match end {
                End::Whole => Ok((head, body.whole())),
                End::TooLong => {
                    Err(RemoteError::Unreadable { status: head.status, why: "it is longer than anybody reads".into() })
                }
                End::Failed => Err(body.take_error().map_or_else(
                    || RemoteError::Unreadable { status: head.status, why: "it breaks off".into() },
                    |error| RemoteError::Transport(error.into()),
                )),
            }
        })
    }
}
