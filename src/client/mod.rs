//! For callers of a 423: a retry policy, and locks held over HTTP. Feature `client`.
//!
//! All of it works with any server that answers as this crate does, and needs nothing else of the crate. What a server
//! says beyond what is known here is passed over; a code or a word that is new is [`RefusedCode::Other`], or missing.
//!
//! # Meeting a lock
//!
//! [`ReadRefusals`] reads the problem document of a refusal and leaves a [`Refused`] in the extensions of the response:
//! who is in the way, why, until when. [`RetryLocked`] is a [`tower::retry::Policy`] that tries again when the way
//! should be free. It goes outside of [`ReadRefusals`], or all it has to go by is the header `Retry-After`.
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use bytes::Bytes;
//! use http::Request;
//! use http_body_util::Full;
//! use hyper_util::{client::legacy::Client, rt::TokioExecutor};
//! use tower::{Service, ServiceBuilder, ServiceExt};
//! use tower_lock::client::{ReadRefusals, Refused, RetryLocked};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
//! let mut client = ServiceBuilder::new()
//!     .retry(RetryLocked::new().patience(Duration::from_secs(60)))
//!     .layer(ReadRefusals::new())
//!     .service(Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>());
//!
//! let request = Request::put("http://docs.example/docs/7").body(Full::from("new text"))?;
//! let response = client.ready().await?.call(request).await?;
//! if let Some(refused) = response.extensions().get::<Refused>() {
//!     // For instance: "/docs/7 is locked by Legal desk (nightly export) until 2026-11-21T04:00:00Z."
//!     println!("{refused}");
//!     for lock in refused.locks() {
//!         println!("{:?}, for {:?} more", lock.owner, lock.expires_in);
//!     }
//! }
//! # Ok(()) }
//! ```
//!
//! A client that speaks other types is adapted inside of these layers. `reqwest::Client` is a service of its own
//! requests, and both ways are conversions that reqwest has: `.map_response(http::Response::from)`, and
//! `.map_request(|request: http::Request<Bytes>| reqwest::Request::try_from(request).expect("a URL"))`. For
//! [`RemoteLocks`], whose bodies are `Full<Bytes>`, it is
//! `reqwest::Request::try_from(request.map(reqwest::Body::wrap))`.
//!
//! # Holding a lock
//!
//! [`RemoteLocks`] acquires over HTTP what [`LockTerms`] say. The [`RemoteGuard`] keeps it alive as long as it lives,
//! tells when it is lost, and ends it.
//!
//! ```
//! use tower_lock::client::{LockTerms, Loss, RemoteLocks};
//! # use std::time::Duration;
//! # use tower_lock::{LockEndpoint, Locks, MemoryStore, Principal};
//! # async fn export(_: u32) {}
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let locks = Locks::builder(MemoryStore::new()).principal(|_| Some(Principal::new("exporter"))).build();
//! # let client = LockEndpoint::new(locks).mount("/locks");
//!
//! // `client` is any tower client service; credentials are a layer of it.
//! let locks = RemoteLocks::new(client, "http://docs.example/locks")?;
//! let terms = LockTerms::exclusive("/docs/7").reason("nightly export").lifetime(Duration::from_secs(60));
//! let guard = locks.acquire(terms).await?;
//!
//! let job = async {
//!     for page in 0..3 {
//!         guard.checkpoint()?;
//!         export(page).await;
//!     }
//!     Ok::<_, Loss>(())
//! };
//! tokio::select! {
//!     done = job => done?,
//!     // Who broke it and why, where that is so.
//!     loss = guard.lost() => return Err(loss.into()),
//! }
//!
//! // A write under the lock carries its token.
//! let mut write = http::Request::put("http://docs.example/docs/7").body("done")?;
//! guard.authorize(&mut write);
//! assert!(write.headers().contains_key("if"));
//!
//! guard.release().await?;
//! # Ok(()) }
//! ```
//!
//! To wait for a lock that is held, [`LockTerms::waiting`] stands in the server's line, if the server lets anybody
//! wait. Otherwise put [`RetryLocked`] into the service of [`RemoteLocks`], as above: a refused acquire is repeated
//! then as any other request. All of its patience has to fit into [`RemoteLocks::answer_within`].

mod acquire;
mod body;
mod code;
mod error;
mod guard;
mod hint;
mod jitter;
mod read;
mod refused;
mod remote;
mod retry;
mod seen;
mod terms;
mod transport;
mod wire;

pub use self::{
    body::ReadBody,
    code::RefusedCode,
    error::{BoxError, RemoteError},
    guard::RemoteGuard,
    jitter::Jitter,
    read::{ReadFuture, ReadRefusals, RefusalReader},
    refused::Refused,
    remote::{BadUrl, RemoteLocks},
    retry::{Pause, RetryLocked},
    seen::{Loss, SeenLock},
    terms::LockTerms,
};
