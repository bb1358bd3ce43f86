//! What the integration tests share: a probe service, rigged stores, bodies, and short ways to send and read.
#![allow(dead_code, unused_imports, unreachable_pub, reason = "every test binary uses a part of it")]

pub mod bodies;
pub mod cable;
#[cfg(unix)]
pub mod engines;
#[cfg(unix)]
pub mod example;
pub mod leases;
pub mod loopback;
pub mod probe;
pub mod spellings;
pub mod stores;

use std::{fmt::Debug, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use serde_json::Value;
use tower::{Service, ServiceExt};
use tower_lock::{
    LockRequest, Locks,
    lock::{Depth, LockScope, LockToken, Principal},
};

pub use self::{
    probe::{Probe, ProbeError, probe},
    stores::{Call, Mode, Rigged},
};

/// The body that most requests and answers have here.
pub type Text = Full<Bytes>;

/// Who sends a request: what an authentication outside the layer would leave in its extensions.
#[derive(Clone)]
pub struct User(pub &'static str);

/// Locks whose callers are the [`User`]s of the requests.
pub fn locks_of_users(store: impl tower_lock::store::LockStore) -> tower_lock::locks::LocksBuilder {
    Locks::builder(store).principal(|request| request.extensions.get::<User>().map(|user| Principal::new(user.0)))
}

/// A request without a body.
pub fn request(method: &str, target: &str) -> Request<Text> {
    Request::builder().method(method).uri(target).body(Text::default()).expect(target)
}

/// The same request with a header field.
pub fn with<B>(mut request: Request<B>, name: &'static str, value: impl AsRef<[u8]>) -> Request<B> {
    request.headers_mut().append(name, http::HeaderValue::from_bytes(value.as_ref()).expect("a field value"));
    request
}

/// The same request, sent by `user`.
pub fn by<B>(mut request: Request<B>, user: &'static str) -> Request<B> {
    request.extensions_mut().insert(User(user));
    request
}

/// The same request, submitting a token.
pub fn holding<B>(request: Request<B>, token: LockToken) -> Request<B> {
    with(request, "if", format!("(<{}>)", token.urn()))
}

/// An answer with its body read.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
    pub extensions: http::Extensions,
}

impl Answer {
    pub async fn of<B>(response: Response<B>) -> Self
    where
        B: http_body::Body,
        B::Error: Debug,
    {
        let (parts, body) = response.into_parts();
        let body = body.collect().await.expect("a body").to_bytes();
        Self { status: parts.status, headers: parts.headers, body, extensions: parts.extensions }
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {:?}", self.body))
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("text")
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().expect("a readable field"))
    }

    /// The `code` of a refusal.
    pub fn code(&self) -> String {
        self.json()["code"].as_str().expect("a code").to_owned()
    }
}

/// Makes `service` ready, calls it, and reads the answer.
pub async fn send<S, Q, B>(service: &mut S, request: Request<Q>) -> Answer
where
    S: Service<Request<Q>, Response = Response<B>>,
    S::Error: Debug,
    B: http_body::Body,
    B::Error: Debug,
{
    let response = service.ready().await.expect("ready").call(request).await.expect("an answer");
    Answer::of(response).await
}

/// Locks `path` for as long as the kind gives; the lock stays, nobody in particular holds it.
pub async fn lock(locks: &Locks, path: &str, depth: Depth) -> LockToken {
    locks.acquire(LockRequest::exclusive(path).depth(depth)).await.expect(path).token()
}

/// Locks `path` and all below for `user`.
pub async fn lock_for(locks: &Locks, user: &'static str, path: &str, scope: LockScope) -> LockToken {
    let request = match scope {
        LockScope::Exclusive => LockRequest::exclusive(path),
        LockScope::Shared => LockRequest::shared(path),
    };
    locks.acquire(request.principal(user)).await.expect(path).token()
}

/// Polls `future` once, with a waker that does nothing.
pub fn poll_once<F: Future + ?Sized>(future: std::pin::Pin<&mut F>) -> std::task::Poll<F::Output> {
    future.poll(&mut std::task::Context::from_waker(std::task::Waker::noop()))
}

/// Lets other tasks run until `reached`; a test whose guarantee is broken fails here instead of waiting for ever.
pub async fn until(what: &str, mut reached: impl FnMut() -> bool) {
    for _ in 0..10_000 {
        if reached() {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("never: {what}");
}

pub const SECOND: Duration = Duration::from_secs(1);
