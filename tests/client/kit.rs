//! A server whose clock goes with tokio's paused one, and clients of it.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use tokio::time::Instant;
use tower::{Service, ServiceBuilder, service_fn, util::BoxCloneSyncService};
use tower_lock::{
    LockEndpoint, LockLayer, Locks, LocksBuilder, MemoryStore, Principal, ResourceKey,
    endpoint::EndpointBody,
    store::{LockStore, ManualClock},
};

use crate::support::Text;

/// How finely the server's clock follows.
pub(crate) const TICK: Duration = Duration::from_millis(50);

/// A hub whose clock is moved by tokio's: as that one jumps from timer to timer, so does this one, a tick behind at most.
pub(crate) struct Server {
    pub(crate) locks: Locks,
    pub(crate) writes: Arc<AtomicUsize>,
    clock: tokio::task::AbortHandle,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.clock.abort();
    }
}

impl Server {
    pub(crate) fn new() -> Self {
        Self::with(|builder| builder)
    }

    pub(crate) fn with(policy: impl FnOnce(LocksBuilder) -> LocksBuilder) -> Self {
        let clock = ManualClock::new();
        let store = MemoryStore::builder().clock(clock.clock()).build();
        Self::over(store, &clock, policy)
    }

    pub(crate) fn over(
        store: impl LockStore,
        clock: &ManualClock,
        policy: impl FnOnce(LocksBuilder) -> LocksBuilder,
    ) -> Self {
        let builder = Locks::builder(store)
            .clock(clock.clock())
            .principal(|request| request.headers.get("x-user")?.to_str().ok().map(Principal::new));
        let clock = clock.clone();
        let clock = tokio::spawn(async move {
            let mut last = Instant::now();
            loop {
                tokio::time::sleep(TICK).await;
                let now = Instant::now();
                clock.advance(now - last);
                last = now;
            }
        });
        Self { locks: policy(builder).build(), writes: Arc::default(), clock: clock.abort_handle() }
    }

    /// What is guarded.
    pub(crate) fn guarded(
        &self,
    ) -> impl Service<Request<Text>, Response = Response<Text>, Error = Infallible, Future: Send> + Clone + Send + use<>
    {
        let writes = self.writes.clone();
        let write = service_fn(move |_: Request<Text>| {
            writes.fetch_add(1, Ordering::SeqCst);
            async { Ok::<_, Infallible>(Response::new(Text::from("written"))) }
        });
        let layer = LockLayer::new(self.locks.clone());
        let guarded = ServiceBuilder::new().layer(layer).service(write);
        // The body that every client of these tests reads.
        ServiceBuilder::new().and_then(async |answer: Response<_>| Ok(read_whole(answer).await)).service(guarded)
    }

    /// Its endpoint at `/locks`, for this user.
    pub(crate) fn endpoint(&self, user: &'static str) -> Client {
        self.endpoint_at("/locks", user)
    }

    pub(crate) fn endpoint_at(&self, mount: &str, user: &'static str) -> Client {
        let endpoint = LockEndpoint::new(self.locks.clone()).mount(mount);
        BoxCloneSyncService::new(service_fn(move |mut request: Request<Full<Bytes>>| {
            request.headers_mut().insert("x-user", user.parse().unwrap());
            let mut endpoint = endpoint.clone();
            async move {
                let answer = endpoint.call(request).await.unwrap_or_else(|never| match never {});
                Ok(answer)
            }
        }))
    }

    pub(crate) fn writes(&self) -> usize {
        self.writes.load(Ordering::SeqCst)
    }

    pub(crate) async fn is_locked(&self, path: &'static str) -> bool {
        !self.locks.covering(&ResourceKey::from_canonical(path)).await.expect("an answer").is_empty()
    }
}

/// What a `RemoteLocks` is made over.
pub(crate) type Client = BoxCloneSyncService<Request<Full<Bytes>>, Response<EndpointBody>, Cut>;

/// A connection that was cut.
#[derive(Debug)]
pub(crate) struct Cut;

impl std::fmt::Display for Cut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("cut")
    }
}

impl std::error::Error for Cut {}

async fn read_whole<B>(answer: Response<B>) -> Response<Text>
where
    B: http_body::Body,
    B::Error: std::fmt::Debug,
{
    let (head, body) = answer.into_parts();
    let body = http_body_util::BodyExt::collect(body).await.expect("a body").to_bytes();
    Response::from_parts(head, Full::new(body))
}

/// An answer made by hand.
pub(crate) fn answer(status: u16, fields: &[(&'static str, &str)], body: &str) -> Response<Text> {
    let mut answer = Response::new(Text::from(body.to_owned()));
    *answer.status_mut() = StatusCode::from_u16(status).unwrap();
    for (name, value) in fields {
        answer.headers_mut().append(*name, value.parse().unwrap());
    }
    answer
}

/// A problem document as it is sent.
pub(crate) fn problem(status: u16, body: &str) -> Response<Text> {
    answer(status, &[("content-type", "application/problem+json")], body)
}
