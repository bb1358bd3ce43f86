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
//! | `GET …/{resource}` | the locks that cover it: `{"resource", "locked", "locks"}`, with an `ETag`; `Prefer: wait=n` [waits](#waiting) | 200, also when free; 304 |
//! | `GET …?id=` | one lock; `Prefer: wait=n` waits | 200; 304 |
//! | both, `Accept: text/event-stream` | a [stream of events](#events) | 200 |
//! | `GET …` | list, as far as the caller may see: `prefix`, `owner`, `kind`, `older_than` (seconds), `limit`, `cursor` | 200 |
//! | `PUT …/{resource}` | acquire; no body is all defaults; `Prefer: wait=n` stands in line | 201 with `Location`, `Lock-Token`; 200 when repeated |
//! | `PATCH …/{resource}` | refresh; nothing, or `{"timeout", "token"}` | 200; `"final": true` at the total-life cap |
//! | `DELETE …/{resource}` | release, through any resource that the lock covers | 204, also when that token's lock is gone |
//! | `POST …/{resource}` | `{"action": "release", "token"}`, for beacons as `text/plain` too, where the body may be the token alone | 200 |
//! | | `{"action": "break", "reason", "grace", "lock_id"}`: [ends somebody else's lock](#breaking) | 200; 202 while the grace runs |
//! | | `{"action": "transfer", "to", "token", "lock_id", "reason", "timeout"}`: [hands a lock over](#handing-over) | 200 |
//! | | `{"action": "claim", "lock_id", "timeout"}`: gets the token of what was handed over | 200 with `Location`, `Lock-Token` |
//! | `POST …` | acquire several `resources`, all or none; `Prefer: wait=n` stands in line | 201; 200 when repeated |
//! | | `{"action": "check", "resources": […]}`: [which of them are locked](#before-a-bulk-write) | 200 |
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
//! # Before a bulk write
//!
//! A POST to the list with `{"action": "check", "resources": ["/docs/7", "/docs/8"]}` tells of many resources at once what a GET
//! tells of each, in the order asked, without trying a write:
//! `{"locked": true, "resources": [{"resource": "/docs/7", "locked": true, "locks": [..], "retry_after": 840}, ..]}`. `locked` at
//! the top tells whether any is. `retry_after`, in seconds, is absent where a resource is free, and where nobody knows. A lock of
//! the caller's own counts, and says `"mine": true`; one that the caller may not see does not. Of what lies below a resource
//! nothing is told: a DELETE of it may be refused all the same. Nothing is changed by a check, and nothing is reserved.
//!
//! At most [`Limits::items`](crate::Limits::items) resources, else 400, and the limit of bodies holds
//! ([`Limits::body`](crate::Limits::body)). A path that cannot be read refuses the whole check. From Rust, [`Locks::check`](crate::Locks::check).
//!
//! # Waiting
//!
//! `Prefer: wait=n` (RFC 7240 section 4.3) asks to be kept waiting for up to `n` seconds, where that was
//! [allowed](crate::LocksBuilder::allow_waiting), and at most for [`Limits::wait`](crate::Limits::wait); else it is
//! ignored. What was applied is in `Preference-Applied`. Whoever leaves gives up its place. Past the limits of those
//! who wait, 429 `too_many_waiting`.
//!
//! - A GET with `If-None-Match` is held while that matches, so that `wait` and the `ETag` of the last answer follow a
//!   resource step by step; then 200, or 304 when the time is up. Without it, it is held while the resource is locked,
//!   or while the one lock lives (then 404). Only what the caller may see counts.
//! - An acquire stands in line with those who came before, and is granted in turn; else the last refusal, 423, when the
//!   time is up.
//!
//! # Events
//!
//! With `Accept: text/event-stream`, named and preferred to JSON, a GET of a resource or of a lock tells what becomes
//! of it, as a browser's `EventSource` reads it. `data` is one line of JSON.
//!
//! | `event` | told when | `data` |
//! |---|---|---|
//! | `snapshot` | first, and again after something was missed | as of a GET: `{"resource", "locked", "locks"}` |
//! | `locked` | a lock was granted | `{"resource", "locked", "lock"}` |
//! | `refreshed` | it lives on | the same |
//! | `breaking` | it is being broken, and ends at its `expires_at` | the same, with `by` and `reason` |
//! | `broken` | somebody ended it | the same, with `by` and `reason` |
//! | `released`, `expired`, `replaced`, `gone` | its holder ended it; its time was up; another lock of its holder's took its place; its resource went | as of `locked` |
//! | `unavailable` | the store cannot be asked: what was told may be old, and a snapshot follows | `{"resource", "code"}` |
//!
//! `locked` tells whether there still is a lock, this one or another. A caller is told as much as a GET would show: of
//! somebody else's lock neither owner nor reason, nor who broke it and why; of one that may not be seen nothing at all.
//! The stream of one lock (`?id=`) has no `resource`, ends after its end, and is 404 where there is none.
//!
//! `id` is the tag of the state after the event, as in the `ETag` of a GET. A client that connects again and sends it
//! as `Last-Event-ID` gets a snapshot only if the state is another one by now. After
//! [`Limits::heartbeat`](crate::Limits::heartbeat) without an event a comment is sent. Nothing piles up for a client
//! that reads slowly: it is told a snapshot instead of what it missed. Of streams there are at most
//! [`Limits::watchers`](crate::Limits::watchers), then 429 `too_many_waiting`. A browser opens few connections to one
//! host over HTTP/1.1, and a stream keeps one; over HTTP/2 that does not matter.
//!
//! A stream that was refused is over for an `EventSource`, also if it was 503: the page has to open it anew. And while
//! one is open, authorization is asked for what is told, not for the connection: where a session ends, end its
//! connections.
//!
//! # Breaking
//!
//! The [`Authorizer`](crate::Authorizer) decides who may break a lock ([`Action::Break`](crate::Action::Break)); nobody
//! may unless it says so. The lock is named by `lock_id`, by `?id=`, or as the only one rooted at the resource. A
//! `reason` is required: the former holder is told it, and by whom, in the 412 `lock_lost` of its next write or
//! refresh, and in its stream at once. With `grace`, in seconds, the holder may write so much longer, but not refresh,
//! and nobody acquires; a second break may shorten that. Freezes end only this way. To break and to acquire in one
//! step, name the lock in `replaces` of an acquire.
//!
//! # Handing over
//!
//! `transfer` gives a lock to another principal, `"to": "u-18"` or `"to": {"id": "u-18", "name": "Bob"}`, where the
//! authorizer allows it ([`Action::Transfer`](crate::Action::Transfer)): one's own, named by its token, by `lock_id`,
//! or as the only one of one's own rooted at the resource; or somebody else's, for a `reason`. In one step the old lock
//! ends with its token, once the writes under it have, and a new one stands in its place, with a larger generation and
//! without a token: its `state` is `offered`. Its principal claims the token, once, with `claim`; until then the lock
//! blocks everybody, and it expires as any other does.
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
mod check;
mod dispatch;
mod input;
mod inspect;
mod known;
mod layer;
mod manage;
mod reply;
mod route;
mod service;
mod stream;
mod wait;

use bytes::Bytes;
use http_body_util::Empty;

#[cfg(any(feature = "webdav", feature = "batch"))]
pub(crate) use self::body::Reading;
pub use self::{
    layer::{EndpointLayer, LayerFuture, WithEndpoint},
    service::{EndpointFuture, LockEndpoint},
};
use crate::respond::ResponseBody;

/// The body of the endpoint's answers: its own, never another service's.
pub type EndpointBody = ResponseBody<Empty<Bytes>>;
