//! Sixth floor: [`DavLayer`], RFC 4918 locking for a WebDAV handler that knows nothing of locks (feature `webdav`).
//!
//! Wrapped by it, a handler of class 1 becomes a server of class 2, over any store:
//!
//! ```
//! use dav_server::{DavHandler, memfs::MemFs};
//! use http::Request;
//! use http_body_util::Empty;
//! use tower::{Service, ServiceBuilder, ServiceExt};
//! use tower_lock::{DavLayer, Locks, MemoryStore, Principal, webdav::RequestBody};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! #[derive(Clone)]
//! struct User(String);
//!
//! let locks = Locks::builder(MemoryStore::new())
//!     .principal(|request| request.extensions.get::<User>().map(|user| Principal::new(&user.0)))
//!     .build();
//! // Files in memory, without the lock system that this crate has of its own.
//! let files = DavHandler::builder().filesystem(MemFs::new()).build_handler();
//! let mut service = ServiceBuilder::new().layer(DavLayer::new(locks)).service_fn(
//!     move |request: Request<RequestBody<Empty<bytes::Bytes>>>| {
//!         let files = files.clone();
//!         async move { Ok::<_, std::convert::Infallible>(files.handle(request).await) }
//!     },
//! );
//!
//! let options = Request::builder().method("OPTIONS").uri("/").body(Empty::new())?;
//! let answer = service.ready().await?.call(options).await?;
//! assert!(answer.headers()["allow"].to_str()?.contains("UNLOCK"));
//! # Ok(()) }
//! ```
//!
//! The example `webdav` is a whole server, against which `tests/litmus.rs` runs the lock suite of litmus.
//!
//! # Where it belongs
//!
//! Around the handler and nothing else: no [`LockLayer`](crate::LockLayer) stands before it, for it does all that one
//! does. Inside the authentication, which tells the principal and whose refusals come first; inside compression, because
//! it reads multistatus bodies; inside CORS. A handler that decides by itself who may write still does: a token is no
//! permission. Who may lock, and so keep others from writing, is for the authorizer to say: by default everybody may who has
//! a name and can look at the resource. An outer layer that decides by path sees no path but the target: `If` and
//! `Destination` have the handler asked about others, of which an answer tells whether an entity tag was guessed. What a
//! router outside strips off the path is told to [`KeyRules::prefix`](crate::KeyRules::prefix).
//!
//! # What it does
//!
//! - **LOCK, UNLOCK** are answered here; the handler never sees them. A LOCK of a URL without a resource makes an empty one
//!   by a PUT with `If-None-Match: *`, which the locks admit first; when that fails, no lock is left.
//! - **`If`** is decided in full and taken off the request. Entity tags are asked from the handler, by HEAD and else by
//!   PROPFIND, on behalf of the caller; lock tokens are decided by the store, in the step that admits the write. Where one
//!   strong entity tag of the target decides, the handler gets it as `If-Match`.
//! - **Writes** are decided by the rules of the core. Only where nothing but a depth-zero lock on the collection stands in
//!   the way of a PUT or PATCH, the handler is asked whether the resource exists, and then told so (`If-Match: *`). A write
//!   that no lock concerns costs the handler no other request.
//! - **PROPFIND** gets `lockdiscovery` and `supportedlock` wherever they were asked for, whatever the handler says of them;
//!   the rest of its answer stays to the byte. **PROPPATCH** of either is refused as a whole, with 207.
//! - **OPTIONS** says class 2 where the handler says class 1, and names the two methods.
//! - **DELETE, MOVE, COPY** end the locks of what is gone, also where 207 says that some of it is left. A write that answers
//!   207 is in flight until the handler's answer ends: some do the work as that is read.
//! - **Prefer** (RFC 7240): `wait=n` holds a write that locks stand in the way of, where that is allowed
//!   ([`allow_waiting`](crate::LocksBuilder::allow_waiting)); `lock=renew` and `lock=release` say what becomes of the locks that
//!   answered for one. A LOCK does not wait.
//! - A request without `If` that reads is passed on in place: no store call, no allocation, no box.
//!
//! # What a refusal says
//!
//! `DAV:error` with the precondition of RFC 4918 section 16 and the URLs of the locks in the way, and beside it an element
//! `refusal` of the namespace `tower-lock:`, with what the problem document of [`Problem`](crate::respond::Problem) says:
//! code, sentence, and for each lock its holder, reason and end, as far as the caller may see them. A client whose
//! `Accept` prefers JSON, HTML or text gets those.
//!
//! | status | precondition | when |
//! |---|---|---|
//! | 423 | `lock-token-submitted` | a lock stands in the way of a write, or of a new member |
//! | 423 | `no-conflicting-lock` | a lock stands in the way of a LOCK |
//! | 412 | | `If` is false, `Overwrite: F` and there is a resource |
//! | 412 | `lock-token-matches-request-uri` | a refresh of a lock that is gone, or does not cover the URL |
//! | 409 | `lock-token-matches-request-uri` | an UNLOCK of one |
//! | 409 | | a LOCK gave up waiting for writes in flight, with `Retry-After`; a collection on the way is missing |
//! | 403 | | a refresh or UNLOCK of somebody else's lock, token or not; the authorizer said no |
//! | 403 | `no-external-entities`, `propfind-finite-depth` | a body refers to what is not in it; a listing is too long |
//! | 400 | | a malformed header field or body, any other document type declaration |
//! | 413, 422 | | a body that is too long; a scope or type of lock that there is not |
//! | 429 | | as many writes are held as may |
//! | 503 | | the store is down or too slow. Reads go on: `lockdiscovery` is then a property with status 503 |
//! | 507 | | a multistatus of the handler's is too long; where the locks are, `lockdiscovery` is a property with it |
//!
//! # Where RFC 4918 leaves a choice
//!
//! - **A token is shown to its holder.** Stores keep digests, so the layer makes tokens that it can find again
//!   ([`DavLayer::token_secret`]). `lockdiscovery` shows one to the principal that holds the lock, so that a client which
//!   has lost it, or a second one of the same person, goes on; never to others, never to anonymous callers, and not of
//!   locks that were taken some other way (section 6.5 and 20.4). Owners are shown as the authorizer says.
//! - **Principals count.** The right token from somebody else is refused (section 6.4). Anonymous callers are one
//!   principal, told apart by their tokens; they lock where
//!   [`allow_anonymous`](crate::LocksBuilder::allow_anonymous) lets them.
//! - **A LOCK of infinite depth over a locked member is 423**, as sections 7.4 and 9.10.6 have it, not the 207 of section
//!   9.10.3: clients take that for an error.
//! - **A lock at an overwritten destination stays**, because its holder has submitted the token (section 7.6); those below
//!   it go (section 9.9.3).
//! - **COPY and MOVE change the membership of the collection they go to**, also over a resource: overwriting is deleting
//!   first (section 9.8.4).
//! - **`Timeout`** asks: zero, and what is no time, is passed over; more than
//!   [`Lifetimes`](crate::Lifetimes) allow is cut, and the answer says what was granted. Only a refresh restarts it.
//! - **`Lock-Token`** is understood without its brackets, and on a write is one more condition.
//! - **`lockroot`** is the URL that was locked, in its canonical spelling, with the slash at its end if there was one.
//! - **The entity tags of at most 16 resources** are asked for one `If`; more is 400.
//!
//! # What it cannot do
//!
//! Beside what [no middleware can](crate#what-no-middleware-can-promise): give dead properties to a handler that has none;
//! see a second resource that a method names in its body (REBIND, RFC 5842); heed `If-Match` and its like on a LOCK where
//! the handler does not on a HEAD; put lock properties into the answers of REPORT and SEARCH; read a multistatus that was compressed inside of it; make
//! the decision over an entity tag and the write one step where the handler ignores `If-Match`.

mod answer;
mod conditions;
mod discovery;
mod exchange;
mod gone;
mod handler;
mod head;
mod layer;
mod lock;
mod lockinfo;
mod look;
mod mint;
mod multistatus;
mod own;
mod propfind;
mod proppatch;
mod read;
mod refresh;
mod refusal;
mod service;
mod settings;
mod unlock;
mod wanted;
mod write;
mod xml;

pub use self::{
    layer::DavLayer,
    service::{DavFuture, DavService},
};
pub use crate::middleware::RequestBody;
