//! Sixth floor: [`BatchLayer`], locks for each item of a bulk write (feature `batch`).
//!
//! A nightly job sends `PUT /api/v23.2/vobjects/capa__c` with a JSON array of five hundred records. Three of them are
//! locked, because somebody reviews them. A [`LockLayer`](crate::LockLayer) sees one path and lets the request through, or
//! stops all of it. This layer reads which records the request changes, asks the store about all of them at once, and then
//! refuses the whole with a list of what stands in the way, or lets the service do the others.
//!
//! ```
//! use http::{Request, Response};
//! use http_body_util::{BodyExt, Full};
//! use tower::{Service, ServiceBuilder, ServiceExt};
//! use tower_lock::{BatchLayer, LockRequest, Locks, MemoryStore, batch::{RequestBody, VaultBatch}};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! type Body = Full<bytes::Bytes>;
//!
//! async fn save(request: Request<RequestBody<Body>>) -> Result<Response<Body>, std::convert::Infallible> {
//!     // It gets the second record alone, and answers for that.
//!     let records = request.into_body().collect().await?.to_bytes();
//!     assert_eq!(records, r#"[{"id":"V2","state__v":"closed"}]"#);
//!     let answer = r#"{"responseStatus": "SUCCESS", "data": [{"responseStatus": "SUCCESS", "data": {"id": "V2"}}]}"#;
//!     Ok(Response::builder().header("content-type", "application/json").body(answer.into()).unwrap())
//! }
//!
//! let locks = Locks::builder(MemoryStore::new()).build();
//! let mut service = ServiceBuilder::new()
//!     .layer(BatchLayer::new(locks.clone(), VaultBatch::new()).forward_unlocked())
//!     .service_fn(save);
//!
//! let _guard = locks.hold(LockRequest::exclusive("/api/v23.2/vobjects/capa__c/V1").reason("under review")).await?;
//! let records = r#"[{"id":"V1","state__v":"closed"}, {"id":"V2","state__v":"closed"}]"#;
//! let request = Request::put("/api/v23.2/vobjects/capa__c").header("content-type", "application/json").body(records.into())?;
//! let answer = service.ready().await?.call(request).await?;
//! assert_eq!(answer.status(), 200);
//! let answer: serde_json::Value = serde_json::from_slice(&answer.into_body().collect().await?.to_bytes())?;
//! assert_eq!(answer["data"][0]["errors"][0]["type"], "RECORD_LOCKED");
//! assert_eq!(answer["data"][1]["responseStatus"], "SUCCESS");
//! # Ok(()) }
//! ```
//!
//! The example `bulk` is a whole service. Where the items are, and what a refusal looks like in an answer, is for a codec
//! to say: [`VaultBatch`], [`ResponsesBatch`], or a [`BatchCodec`] of one's own.
//!
//! # Where some items are refused
//!
//! | mode | the service gets | the client gets |
//! |---|---|---|
//! | unless told otherwise | nothing | 423 over every lock in the way, with an entry in `items` for each refused item |
//! | [`forward_unlocked`](BatchLayer::forward_unlocked) | the other items, and nothing where there are none | the service's answer, with the refusals at their positions |
//! | [`forward_all`](BatchLayer::forward_all) | the request as it is, and [`Verdicts`] in its extensions | what the service makes of both |
//!
//! An item is refused when one of the resources that it changes is locked (423), or when it [depends](Item::after) on one
//! that is refused (424). Each refusal names the holder, the end and the id of the locks in that item's way, as far as the
//! caller may see them, and counts as one of its own for [`stats`](crate::Locks::stats) and the hook; a refusal of the
//! whole counts once. That names every lock in the way, up to [`Limits::items`](crate::Limits::items) of them, and is
//! `"truncated"` past that.
//!
//! In every mode the request is refused as a whole where a lock is on what it is sent to: the collection, and what is
//! above that. That is a write of the collection's members as a POST or PUT of that path is, by a DELETE too: it removes
//! the items, not the collection.
//!
//! # What is asked, and when more than once
//!
//! One question: what the request is sent to and all that the items change, each once. The store decides and registers
//! that in one step, and an acquire waits for the whole of it. Where nothing is locked that is all. Where something is,
//! and the rest is to be done, a second question is about the rest, because a store registers all of a write or nothing.
//! More are needed only where a lock is granted in between, or locks by the thousand are in the way; after six the whole
//! is refused.
//!
//! Tokens in `If` and `Lock-Token` answer for the items under their locks. Conditions are about the request, not about an
//! item: a false one is 412 for the whole, in every mode. A list of `If` without a tag is about the collection, so a job
//! names its records: `If: </records/7> (<urn:uuid:…>) (<urn:uuid:…>)`; the first list holds, and all tokens count as
//! submitted. A token of a shared lock answers for another shared lock only if it covers all that this covers of the whole
//! request.
//!
//! # How long it counts as in flight
//!
//! From its admission until the service has answered, that answer has been read and written anew, and the locks of removed
//! records have ended. What was left out is not registered. If a lease lapses, the service is stopped and the answer is
//! 503. The service is not kept ready while the body is read; once it is there the service becomes ready first, and only
//! then the store is asked.
//!
//! Once the service has answered, those [unlinking](Item::unlink) items that it has done take their locks with them;
//! [`BatchCodec::done`] says which. To know it, the answer is read; one that is too long for that, or compressed, is
//! passed on, and the locks expire.
//!
//! # Statuses
//!
//! | status | `code` | when |
//! |---|---|---|
//! | 400 | `bad_request`, `ambiguous_path` | the codec cannot read the body, or it broke off; a path without a key; a dependency on what there is not; items that change more than four times [`Limits::items`](crate::Limits::items) resources, or whose paths have more than 64 times as many levels |
//! | 412 | `lock_lost` | a condition is false |
//! | 413 | `content_too_large` | more than [`Limits::items`](crate::Limits::items) items (1,000), or more than [`body_limit`](BatchLayer::body_limit) bytes (10 MiB), by `Content-Length` or counted |
//! | 415 | `unsupported_media_type` | a `Content-Encoding`, or a form that the codec does not read |
//! | 423 | `locked`, `frozen` | refused as a whole |
//! | 428 | `lock_required` | the layer [demands locks](crate::LockLayer::require_lock), and an item has none |
//! | 500 | `unreadable_answer` | the service has answered 2xx with what the refusals cannot be written into: not in the codec's form, without a body, compressed, longer than [`answer_limit`](BatchLayer::answer_limit) (32 MiB), broken off. It names the refused items and says that the others may be done |
//! | 503 | `store_unavailable` | the store is down, or the lease has lapsed |
//!
//! An error of the service is passed on as it is: nothing was done, it says. So are 307 and 308, after which the client sends
//! all of it again. Where items are refused, no 2xx is passed on without the refusals, and no other redirection either: a 303
//! after a POST is a success. An answer without a body of its own (204, 205, 206, 3xx) is an `unreadable_answer`.
//!
//! # What is changed on the way
//!
//! The body is read in full before anything is asked, so a bulk write that expects a 100 gets it. Where items are left
//! out, `Content-Length` is that of the new body, and other framing, digests and trailers go. `If-Match` and its like
//! stay, and are about the rest then. Where the answer is to be read, `Accept-Encoding` is `identity`. Trailers of the
//! request are dropped in every mode. A signature over the body does not survive that items are left out.
//! An `Idempotency-Key` goes on as it is, though the same request sent again may have other items left out: a service that
//! goes by it has to compare the body as well. Preferences go on too; a service that honours `Prefer: return=minimal` with an
//! empty answer leaves no room for refusals.
//!
//! Of an answer with refusals in it the framing, the digests and the validators go, and `Cache-Control` is `no-store`.
//!
//! # What is not heeded
//!
//! `Prefer: wait` on a bulk write: its client has the answer at once, and tries again what was refused. `Prefer:
//! lock=release` releases those locks of which every item was done.
//!
//! # Where it belongs
//!
//! In the place of the [`LockLayer`](crate::LockLayer), whose work it does for all other requests: a read costs a
//! comparison, a write that is no bulk write one more question to the codec. Options of the other writes come with
//! [`BatchLayer::around`]. Inside the authentication and inside whatever decompresses requests and compresses answers. Not
//! two of them around each other: the inner one would not know that the outer one has refused some.
//!
//! # A codec of one's own
//!
//! ```
//! use bytes::Bytes;
//! use http::Response;
//! use tower_lock::{Refusal, RequestView, batch::{BatchCodec, Item, Unmergeable, Verdicts}};
//!
//! /// `DELETE /files` with a path on each line, answered with a word on each line.
//! struct Lines;
//!
//! fn lines(body: &Bytes) -> Result<Vec<&str>, Refusal> {
//!     let text = std::str::from_utf8(body).map_err(|_| Refusal::bad_request("The body is no text."))?;
//!     Ok(text.lines().collect())
//! }
//!
//! impl BatchCodec for Lines {
//!     fn is_bulk(&self, request: RequestView<'_>) -> bool {
//!         request.method == http::Method::DELETE && request.uri.path() == "/files"
//!     }
//!
//!     fn read(&self, _: RequestView<'_>, body: &Bytes) -> Result<Vec<Item>, Refusal> {
//!         Ok(lines(body)?.into_iter().map(|line| Item::unlink(Item::segment(line)).named(line)).collect())
//!     }
//!
//!     fn keep(&self, _: RequestView<'_>, body: &Bytes, kept: &[usize]) -> Result<Bytes, Refusal> {
//!         let lines = lines(body)?;
//!         Ok(kept.iter().map(|at| format!("{}\n", lines[*at])).collect::<String>().into())
//!     }
//!
//!     fn merge(&self, verdicts: &Verdicts, answer: Option<Response<Bytes>>) -> Result<Response<Bytes>, Unmergeable> {
//!         let (head, body) = answer.unwrap_or_default().into_parts();
//!         let mut words = std::str::from_utf8(&body).unwrap_or_default().lines();
//!         let mut merged = String::new();
//!         for at in 0..verdicts.len() {
//!             match verdicts.refusal(at) {
//!                 Some(refusal) => merged.push_str(&refusal.to_string()),
//!                 None => merged.push_str(words.next().ok_or_else(|| Unmergeable::new("the service's answer is too short"))?),
//!             }
//!             merged.push('\n');
//!         }
//!         Ok(Response::from_parts(head, merged.into()))
//!     }
//!
//!     fn done(&self, verdicts: &Verdicts, answer: &Response<Bytes>) -> Vec<usize> {
//!         let words = std::str::from_utf8(answer.body()).unwrap_or_default().lines();
//!         verdicts.admitted().zip(words).filter(|(_, word)| *word == "gone").map(|(at, _)| at).collect()
//!     }
//! }
//! ```
//!
//! What a codec does not see is not guarded. So:
//!
//! - **Everything that the service takes for a bulk write is one.** What [`BatchCodec::is_bulk`] does not recognise passes
//!   with the locks of its path alone: another spelling of the path or the media type, a method in a header, a form.
//! - **Everything that an item changes is named**: records in other collections, a second id, a member that moves it.
//! - **What can be read in two ways is refused**: a member twice, an id that is a number here and a text there, a list that
//!   the service would take further than the codec. The service reads the very bytes that the codec read.
//! - **A record has one key**, in a bulk write and alone. [`Item`] says how a path becomes one.
//! - **A merged answer is complete**: one entry for each item, or [`Unmergeable`].

mod answer;
mod codec;
mod exchange;
mod head;
mod item;
mod json;
mod layer;
mod responses;
mod service;
mod vault;
mod verdicts;

pub use self::{
    codec::{BatchCodec, Unmergeable},
    item::Item,
    layer::BatchLayer,
    responses::ResponsesBatch,
    service::{BatchFuture, BatchService},
    vault::VaultBatch,
    verdicts::Verdicts,
};
pub use crate::middleware::RequestBody;
