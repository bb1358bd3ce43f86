//! Fifth floor: [`LockLayer`], the middleware that asks before every write.
//!
//! ```
//! use http::{Request, Response};
//! use tower::{Service, ServiceBuilder, ServiceExt};
//! use tower_lock::{LockLayer, LockRequest, Locks, MemoryStore};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let locks = Locks::builder(MemoryStore::new()).build();
//! let mut service = ServiceBuilder::new()
//!     .layer(LockLayer::new(locks.clone()))
//!     .service_fn(async |_request: Request<String>| Ok::<_, std::convert::Infallible>(Response::new(String::from("saved"))));
//!
//! let _guard = locks.hold(LockRequest::exclusive("/docs/7").reason("nightly export")).await?;
//! let put = |path: &str| Request::put(path).body(String::from("text")).unwrap();
//! assert_eq!(service.ready().await?.call(put("/docs/7")).await?.status(), 423);
//! assert_eq!(service.ready().await?.call(put("/docs/8")).await?.status(), 200);
//! # Ok(()) }
//! ```
//!
//! # Where it belongs
//!
//! Inside the authentication, whose findings tell the principal; inside CORS, so that a browser can read a refusal; and
//! outside of everything that writes. Where the handler itself decides 403, a caller whom it would turn away learns from
//! a 423 that there is a lock: let the [`Authorizer`](crate::Authorizer) deny [`Action::See`](crate::Action::See) there.
//!
//! # What it does to a request
//!
//! - A read costs one comparison of the method and goes straight on.
//! - A write is judged by [`Locks::judge`](crate::Locks::judge). Where the store knows the answer, the service is called
//!   in place; where it has to be asked, the request waits beside the ready service.
//! - The permit of an admitted write lives until the service has answered or the future is dropped (with
//!   [`LockLayer::until_body_ends`], until the response's body has ended).
//! - After a DELETE or MOVE that succeeded, the locks of what is gone end before the answer is passed on.
//! - A refused write whose client would wait (`Prefer: wait=n`) is held, unread, where that is allowed
//!   ([`LocksBuilder::allow_waiting`](crate::LocksBuilder::allow_waiting)): it goes on as soon as it may, after the acquires
//!   that wait for the same resource, or is refused when the time is up. It holds no readiness of the service meanwhile.
//! - A refused request is dropped unread before the refusal is built. `Expect: 100-continue` gets no 100, and a server
//!   that drains what has arrived keeps the connection.
//! - A write whose lease has lapsed is dropped, and answered 503: it must not outlive what guards it.

mod admission;
mod after;
#[cfg(any(feature = "webdav", feature = "batch"))]
mod body;
mod ending;
mod future;
mod held;
#[cfg(any(feature = "webdav", feature = "batch"))]
mod inner;
mod layer;
mod service;
mod slow;

#[cfg(any(feature = "webdav", feature = "batch"))]
#[cfg_attr(docsrs, doc(cfg(any(feature = "webdav", feature = "batch"))))]
pub use self::body::RequestBody;
#[cfg(feature = "batch")]
pub(crate) use self::layer::Options;
pub use self::{admission::Admission, future::ResponseFuture, layer::LockLayer, service::LockService};
#[cfg(any(feature = "webdav", feature = "batch"))]
pub(crate) use self::{
    after::After,
    inner::{Handler, Inner, Lapsed, under},
};
#[cfg(feature = "webdav")]
pub(crate) use self::{after::tell_cleared, held::Place};
