//! Resource locking for HTTP as tower middleware.
//!
//! [`LockLayer`] wraps any tower HTTP service. Before a write it asks a lock store whether somebody else holds a lock on
//! what the write would change. If so, the service is never called, and the client gets `423 Locked` with a body that
//! says who, why, until when, and where to ask for the lock. Reads are untouched. [`LockEndpoint`] lets clients acquire,
//! inspect, refresh, release, watch, break and hand over locks over HTTP; [`Locks`] lets your own code do the same.
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
//!     .service_fn(async |_: Request<String>| Ok::<_, std::convert::Infallible>(Response::new(String::from("done"))));
//!
//! let guard = locks.hold(LockRequest::exclusive("/docs/7").reason("nightly export")).await?;
//!
//! let request = |method: &str| Request::builder().method(method).uri("/docs/7").body(String::new()).unwrap();
//! assert_eq!(service.ready().await?.call(request("GET")).await?.status(), 200);
//! assert_eq!(service.ready().await?.call(request("PUT")).await?.status(), 423);
//!
//! drop(guard);
//! assert_eq!(service.ready().await?.call(request("PUT")).await?.status(), 200);
//! # Ok(()) }
//! ```
//!
//! With axum, authentication outside and the endpoint beside what is guarded:
//!
//! ```
//! use axum::{Router, extract::Request, middleware::{self, Next}, response::Response, routing::put};
//! use tower_lock::{LockEndpoint, LockLayer, Locks, MemoryStore, Principal};
//!
//! #[derive(Clone)]
//! struct User(String);
//!
//! async fn authenticate(mut request: Request, next: Next) -> Response {
//!     // Whatever tells you who the caller is; here everybody is ann.
//!     request.extensions_mut().insert(User("ann".into()));
//!     next.run(request).await
//! }
//!
//! async fn save() -> &'static str {
//!     "saved"
//! }
//!
//! let locks = Locks::builder(MemoryStore::new())
//!     .principal(|request| request.extensions.get::<User>().map(|user| Principal::new(&user.0)))
//!     .endpoint_url("/locks")
//!     .build();
//! let app: Router = Router::new()
//!     .route("/docs/{id}", put(save))
//!     .layer(LockLayer::new(locks.clone()))
//!     // After the layer, so not guarded by it: else nobody could release a lock.
//!     .nest_service("/locks", LockEndpoint::new(locks))
//!     .layer(middleware::from_fn(authenticate));
//! ```
//!
//! The example `axum` is a whole service, `editor` a page where people edit documents together, `hyper` a service without a
//! framework, `custom_store` a store of one's own, `bulk` a service with bulk writes, `grpc` one behind tonic, `client` the other
//! end. `terraform` and `git_lfs` are for clients that have lock protocols of their own.
//!
//! # Where to start
//!
//! - [`Locks`] is the hub: a store and the policy over it (keys, principal, lifetimes, limits, who may do what). Make one
//!   with [`Locks::builder`] and give clones of it to everything else. [`Locks::hold`] locks from Rust.
//! - [`LockLayer`] guards a service. The [`middleware`] module says where it belongs among other layers.
//! - [`LockEndpoint`] is lock management over HTTP. It is mounted beside the guarded routes, inside authentication.
//! - [`MemoryStore`] keeps locks in this process, and with the feature `redb` in a file too. For a fleet there are
//!   `RedisStore` (feature `redis`) and `PostgresStore` (feature `postgres`). Another store implements [`LockStore`].
//! - `DavLayer` (feature `webdav`) gives a WebDAV handler that knows nothing of locks the whole of RFC 4918 locking.
//! - `BatchLayer` (feature `batch`) takes the place of [`LockLayer`] where a request carries many records, of which some are locked.
//! - [`recipes`] say which lock for what: an editor, a frozen account, a check-out, a saga, an export; and when 409, 412 or 428 is
//!   the better answer.
//! - Behind tonic, refusals are gRPC statuses with the lock as details (feature `grpc`): `respond::grpc`, and the example `grpc`.
//! - [`LockGuard`], from [`Locks::hold`], keeps a lock alive and tells when it is lost.
//! - [`LocksBuilder::on_activity`] hears of every acquire, refresh, release, expiry, break and refusal; [`Locks::stats`] counts
//!   them; `LocksBuilder::traced` (feature `tracing`) makes events of them.
//! - [`Admission`] tells a handler the fencing number of its write.
//!
//! # After a 423
//!
//! - **Wait.** With [`LocksBuilder::allow_waiting`] a client may send `Prefer: wait=n` (RFC 7240): a write is held with its
//!   body unread and goes on when the lock goes, an acquire stands in line ([`LockRequest::waiting`] from Rust), a GET at the
//!   endpoint answers when something has changed.
//! - **Watch.** The endpoint tells what becomes of locks as an event stream; from Rust, [`Locks::watch`].
//! - **Break.** Who may is for the [`Authorizer`] to say. With a reason, and with a grace period if wanted; or in one step with
//!   an acquire ([`LockRequest::breaking`]). The former holder is told who and why. [`Locks::transfer`] hands a lock over.
//! - **Keep.** A [`LockGuard`] refreshes its locks, and tells when one is lost. Over HTTP a write can renew or end its own lock
//!   ([`LockLayer::renew_on_write`], [`LockLayer::release_on_success`], `Prefer: lock=renew`).
//! - **Know.** [`LocksBuilder::on_activity`] hears of all of it, [`Locks::stats`] counts.
//! - **From the other end.** The feature `client` has what a caller needs: refusals read, a tower retry policy that goes by
//!   them, and a guard for locks held over HTTP. The example `client` uses all three.
//!
//! # Guarantees
//!
//! Each has a test that fails when it is broken. G3 and G7 need a store that registers writes in flight, as
//! [`MemoryStore`] does unless told otherwise; G3, G4 and G6 hold as far as the store keeps what it acknowledged.
//!
//! - **G1, no bypass.** No request with a write method reaches the service while a lock that the caller does not answer
//!   for covers any resource it may change, however the URI is spelled, whichever header names the second resource.
//! - **G2, free reads.** A read costs one comparison of the method: no store call, no allocation, no clone, no box.
//! - **G3, no overtaking.** When an acquire is granted, no write that the lock would refuse is still running. Ordinary
//!   writers never refuse or delay one another.
//! - **G4, one holder.** Two conflicting locks never live at once, parents and children included.
//! - **G5, no zombie.** Every lock ends: when it expires, or with the last write it answers for, never past its total
//!   life; only policy in code allows endless ones. An ended lock is absent from every answer at once.
//! - **G6, fencing.** Every grant carries a generation larger than that of every overlapping lock before it, and every
//!   write knows the generation current at its admission.
//! - **G7, no lapse under way.** A lock does not end under a write that its holder has in flight, up to its total life.
//! - **G8, truth.** Store down or too slow: 503, never 423, never silently open, and reads go on. A lock that was lost is
//!   told apart from one that somebody else holds.
//! - **G9, secrets.** A token is shown to its holder alone and does not work for another principal. Stores keep a digest.
//! - **G10, bounded.** Locks, waiters, watchers, tokens, roots, bodies, texts, blockers listed, dead locks remembered: all have limits with
//!   defaults ([`Limits`]), and a clear refusal past them.
//!
//! # What no middleware can promise
//!
//! - **Aliases that only the service knows.** Two paths that it maps to one resource by a symbolic link, a second
//!   decoding, a rewrite, a database key: the layer sees two resources. Say how the service reads paths with
//!   [`KeyRules`], or name the resource yourself with [`LocksBuilder::keys_fn`].
//! - **Methods that are not what they say.** A handler that writes on GET, or that lets a header or a form field replace
//!   the method *inside* the layer, writes unasked. Put such overrides outside of it, or say with
//!   [`LocksBuilder::methods`] that the method writes.
//! - **Changes behind its back.** A job, another service, a person with a database client: what does not come through the
//!   layer is not seen, unless it takes its lock from the same store ([`Locks::hold`]).
//! - **A handler that goes on writing after it answered.** A write counts as over with the answer (with
//!   [`LockLayer::until_body_ends`], with the end of its body). What it spawned and left behind is guarded by the
//!   fencing number alone.
//! - **A tunnel once open.** After CONNECT or an upgrade (WebSocket) nothing that goes through it is seen.
//! - **The locks of another process.** Those in a [`MemoryStore`] are unknown to every other process. Two nodes need a
//!   store that they share.
//! - **A process that stands still** for longer than its write lease, between the admission of a write and its effect.
//!   When it goes on the write is stopped, but not what it had sent before. A database that refuses a smaller
//!   [generation](Admission::generation) than it has seen closes that gap.
//! - **What an engine forgets.** A Redis that fails over to a replica may lose locks that it had acknowledged.
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(feature = "batch")]
#[cfg_attr(docsrs, doc(cfg(feature = "batch")))]
pub mod batch;
#[cfg(feature = "client")]
#[cfg_attr(docsrs, doc(cfg(feature = "client")))]
pub mod client;
pub mod endpoint;
pub mod lock;
pub mod locks;
pub mod middleware;
pub mod recipes;
pub mod request;
pub mod respond;
pub mod store;
#[cfg(feature = "webdav")]
#[cfg_attr(docsrs, doc(cfg(feature = "webdav")))]
pub mod webdav;

#[cfg(feature = "batch")]
#[cfg_attr(docsrs, doc(cfg(feature = "batch")))]
pub use self::batch::BatchLayer;
#[cfg(feature = "webdav")]
#[cfg_attr(docsrs, doc(cfg(feature = "webdav")))]
pub use self::webdav::DavLayer;
pub use self::{
    endpoint::{EndpointLayer, LockEndpoint},
    lock::{Depth, HolderProof, KeyRules, Lock, LockId, LockKind, LockScope, LockToken, Owner, Principal, ResourceKey},
    locks::{
        Access, Action, Activity, ActivityKind, AuthorizeAsk, Authorizer, Caller, DefaultAuthorizer, Granted, Lifetimes,
        Limits, LockGuard, LockRequest, LockStats, Locks, LocksBuilder, Refusal, RefusalCode,
    },
    middleware::{Admission, LockLayer, LockService},
    request::{RequestView, ResolveTargets},
    store::{LockStore, MemoryStore},
};

/// The examples of the README compile.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
