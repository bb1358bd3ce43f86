//! Fifth floor: [`LockEndpoint`], lock management over HTTP. A leaf service, which answers by itself.
//!
//! ```
//! use http::Request;
//! use tower::ServiceExt;
//! use tower_lock::{LockEndpoint, Locks, MemoryStore, Principal};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let locks = Locks::builder(MemoryStore::new())
//!     .principal(|request| request.extensions.get::<Principal>().cloned())
//!     .build();
//! let endpoint = LockEndpoint::new(locks).mount("/locks");
//!
//! let body = String::from(r#"{"reason": "proof-reading", "timeout": 600}"#);
//! let mut request = Request::put("/locks/docs/7").header("content-type", "application/json").body(body)?;
//! request.extensions_mut().insert(Principal::new("u-17"));
//! let response = endpoint.oneshot(request).await?;
//! assert_eq!(response.status(), 201);
//! assert!(response.headers()["lock-token"].to_str()?.starts_with("<urn:uuid:"));
//! # Ok(()) }
//! ```
//!
//! # Verbs
//!
//! | verb | does | success |
//! |---|---|---|
//! | `GET …/{resource}` | the locks that cover it: `{"resource", "locked", "locks"}`, with an `ETag` | 200, also when free; 304 |
//! | `GET …?id=` | one lock | 200; 304 |
//! | `GET …` | list, as far as the caller may see: `prefix`, `owner`, `kind`, `older_than` (seconds), `limit`, `cursor` | 200 |
//! | `PUT …/{resource}` | acquire; no body is all defaults | 201 with `Location`, `Lock-Token`; 200 when repeated |
//! | `PATCH …/{resource}` | refresh; nothing, or `{"timeout", "token"}` | 200; `"final": true` at the total-life cap |
//! | `DELETE …/{resource}` | release, through any resource that the lock covers | 204, also when that token's lock is gone |
//! | `POST …/{resource}` | `{"action": "release", "token"}`, for beacons as `text/plain` too, where the body may be the token alone | 200 |
//! | `POST …` | acquire several `resources`, all or none | 201; 200 when repeated |
//! | `OPTIONS` | names the verbs | 204 |
//!
//! PATCH, DELETE and POST go to `?id=` as well. HEAD is GET without the body. Refusals are problem documents (section 7
//! of the design), or what the client prefers of HTML and plain text; nothing is ever to be stored.
//!
//! # An acquire
//!
//! All fields may be left out, and an unknown one is 400: `scope` (`"exclusive"`, `"shared"`), `depth` (`"infinity"`,
//! `"0"`), `timeout` (seconds, or `"infinite"`; clamped to what the kind allows, and then `"clamped": true`), `kind`,
//! `owner` (`{"name"}`; an `id` other than the caller's own is 403), `reason`, `client_ref`, `token` and `lock_id`
//! (proposals, so that an acquire whose answer was lost can be repeated), `replaces` (a list of tokens of one's own
//! locks, and of `{"lock_id", "reason"}` for locks that the caller may break), `drain` (how many seconds to wait for
//! writes in flight). Of several: `resources`, each a path or `{"resource", "token", "lock_id"}`.
//!
//! A holder proves itself by `If: (<urn:uuid:…>)`, by `Lock-Token: <urn:uuid:…>` or by `token` in the body, and by being
//! the same principal. Without a token, DELETE and POST end the caller's only lock rooted at the resource.
//!
//! # Where it is, and what is a resource
//!
//! Mounted (`nest_service("/locks", endpoint)` in axum, or [`LockEndpoint::mount`] where nothing strips the prefix), the
//! rest of the path is the resource, and the mount's own path, with or without slash, is the list. As a suffix
//! (`route_service("/cases/{id}/lock", endpoint.suffix("lock"))`) the resource is the path without its last segment;
//! a resource of the guarded service by that name is shadowed. Any resource, the root too, can be named as
//! `?resource=/…`, and any lock as `?id=…`, on whatever path. So do not decide by the path of a management request who
//! may do what: that is for the [`Authorizer`](crate::Authorizer), who is asked about the real resource.
//!
//! A resource is named by its path in a request target, percent-encoded as there; `?resource=` holds that path as one
//! form-encoded value. `/locks/a%20b` and `?resource=/a%2520b` are what `PUT /a%20b` writes. A literal `?` or blank in
//! the value is part of the name. Both name the resource in full, as refusals do, and go through the resolver of the
//! [`Locks`](crate::Locks) as [`Role::Root`](crate::request::Role::Root). The path of the suffix form comes through the
//! same routers as a write to the resource, which may have stripped it, and so is resolved as
//! [`Role::Target`](crate::request::Role::Target), in a view of the request from which the suffix is taken.
//!
//! Never put the endpoint behind the layer that it serves, or nobody could release. Where it cannot stand beside the
//! guarded routes, [`LockEndpoint::in_front_of`] puts it before them.

mod acquire;
mod actions;
mod body;
mod call;
mod dispatch;
mod input;
mod inspect;
mod layer;
mod manage;
mod reply;
mod route;
mod service;
mod stream;
mod wait;

use bytes::Bytes;
use http_body_util::Empty;

#[cfg(feature = "webdav")]
pub(crate) use self::body::Reading;
pub use self::{
    layer::{EndpointLayer, LayerFuture, WithEndpoint},
    service::{EndpointFuture, LockEndpoint},
};
use crate::respond::ResponseBody;

/// The body of the endpoint's answers: its own, never another service's.
pub type EndpointBody = ResponseBody<Empty<Bytes>>;
