//! Refusals as gRPC statuses, for services behind tonic or any other gRPC server over tower.
//!
//! A call of `application/grpc` that is refused gets a *trailers-only* answer, as the gRPC protocol over HTTP/2 has it:
//! HTTP status 200, no body, and in the one block of headers `grpc-status`, `grpc-message` and `grpc-status-details-bin`.
//! Other requests to the same server get problem documents as ever, also those that say `application/grpc` and are no POST. The status for a lock in the way is
//! `FAILED_PRECONDITION`, that of other refusals as in [`GrpcCode::of`]; [`LocksBuilder::grpc_codes`] changes it.
//!
//! # Which resources a call writes
//!
//! Every gRPC call is a POST of a path that names a method, so nothing says by itself what is a read, or which document a
//! call is about. Tell it with [`LocksBuilder::keys_fn`], from the path and the metadata, which are header fields:
//!
//! ```
//! use tower_lock::{Locks, MemoryStore, Principal, ResourceKey, lock::KeyError, request::{Resolved, Role}};
//!
//! let locks = Locks::builder(MemoryStore::new())
//!     .keys_fn(|ask| match (ask.role, ask.path) {
//!         // Reads, and calls that change nothing that can be locked: the store is not asked.
//!         (Role::Target, "/docs.v1.Documents/Get" | "/docs.v1.Documents/Watch") => Ok(Resolved::nothing()),
//!         (Role::Target, "/docs.v1.Documents/Save" | "/docs.v1.Documents/Upload") => {
//!             let path = format!("/docs/{}", ask.field("document-id")?);
//!             Ok(Resolved::key(ResourceKey::parse(&path)?.into_owned()))
//!         }
//!         // A method that was added later, or is spelled otherwise: refused until somebody says what it writes.
//!         (Role::Target, _) => Err(KeyError::Unresolved),
//!         // Roots that are named to the lock endpoint.
//!         (_, path) => ResourceKey::parse(path).map(Resolved::key),
//!     })
//!     // From metadata here; better, from what the authentication left in the extensions.
//!     .principal(|request| request.headers.get("x-user")?.to_str().ok().map(Principal::new))
//!     .build();
//! # let save = http::Request::post("/docs.v1.Documents/Save").header("document-id", "7").body(()).unwrap();
//! # let known = locks.judge(tower_lock::RequestView::of(&save), Default::default());
//! # assert!(matches!(known, tower_lock::locks::Judgement::Ready(Ok(_))));
//! # let erase = http::Request::post("/docs.v1.Documents/Erase").header("document-id", "7").body(()).unwrap();
//! # let unknown = locks.judge(tower_lock::RequestView::of(&erase), Default::default());
//! # assert!(matches!(unknown, tower_lock::locks::Judgement::Ready(Err(_))));
//! ```
//!
//! The layer sees no message, so the id has to be in the metadata, and **the handler has to take it from there**, or compare
//! it with the one in the message: a call that names one document in its metadata and another in its message would
//! otherwise go round the lock. [`Ask::field`](crate::request::Ask::field) refuses a field that comes twice.
//!
//! # Tokens, waiting, fencing
//!
//! - A holder sends its token as the metadata `lock-token: <urn:uuid:…>`.
//! - `prefer: wait=10` holds a refused call, where that is [allowed](crate::LocksBuilder::allow_waiting); never for more than
//!   nine tenths of its `grpc-timeout`, so that the caller is told who is in the way before its own deadline strikes.
//! - A handler finds [`Admission`](crate::Admission) in `request.extensions()`, with the fencing number of its call.
//! - A call that streams its answer goes on writing after its head is out: use
//!   [`LockLayer::until_body_ends`](crate::LockLayer::until_body_ends). Where the lease of such a write lapses, its stream
//!   ends with the status `UNAVAILABLE`.
//! - [`LockLayer::release_on_success`](crate::LockLayer::release_on_success) takes a call whose answer begins with an error
//!   for one that failed. An error after the first message comes too late for that.
//!
//! # Where the layer belongs
//!
//! `Server::builder().layer(LockLayer::new(locks))` in tonic, inside the authentication. The layer of `tonic-web` goes
//! outside of it: `application/grpc-web` is not gRPC before that has translated it. Lock management over HTTP can live on
//! the same port (the example `grpc`), or be a gRPC service of your own over [`Locks`](crate::Locks), whose refusals
//! become statuses by way of [`GrpcStatus`]:
//!
//! ```
//! use tower_lock::{Refusal, respond::GrpcStatus};
//!
//! fn status(refusal: &Refusal) -> tonic::Status {
//!     let status = GrpcStatus::of(refusal);
//!     tonic::Status::with_details((status.code() as i32).into(), status.message(), status.details().clone())
//! }
//! # assert_eq!(status(&Refusal::forbidden("no")).code(), tonic::Code::PermissionDenied);
//! ```
//!
//! [`LocksBuilder::keys_fn`]: crate::LocksBuilder::keys_fn
//! [`LocksBuilder::grpc_codes`]: crate::LocksBuilder::grpc_codes

mod messages;

use std::{borrow::Cow, collections::BTreeMap};

use base64::prelude::{BASE64_STANDARD_NO_PAD, Engine};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, Version, header};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use prost::Message;

use self::messages::{Any, ErrorInfo, Help, Link, PreconditionFailure, ResourceInfo, RetryInfo, Span, Status, Violation};
use super::ResponseBody;
use crate::{
    lock::{LockKind, LockState, Owner},
    locks::{GrpcCode, LockView, LostView, Refusal},
    request::RequestView,
};

const CONTENT_TYPE: &str = "application/grpc";
const STATUS: HeaderName = HeaderName::from_static("grpc-status");
const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const DETAILS: HeaderName = HeaderName::from_static("grpc-status-details-bin");

/// What a [`GrpcStatus`] may weigh: clients take 8 KiB of metadata by default, and the details grow by a third on the wire.
const MOST_DETAILS: usize = 3 * 1024;
const MOST_MESSAGE: usize = 512;
/// For a text of somebody's: a path, a name, a reason.
const MOST_TEXT: usize = 160;

/// Of visible ASCII only the percent sign is encoded in `grpc-message`.
const ENCODED: &AsciiSet = &CONTROLS.add(b'%');

/// A refusal as a gRPC status. What the caller may not know is not in it.
///
/// The details are a `google.rpc.Status` with one each of these, which `tonic-types` and its like decode:
///
/// | message | what |
/// |---|---|
/// | `ErrorInfo` | `reason`: the [code](crate::RefusalCode) in capitals (`LOCKED`); `domain`: `tower-lock`; `metadata`: what the problem document says of the first lock, by the same names (`lock_id`, `owner`, `expires_at`, `expires_in`, ..), with its root as `lock_resource`; and of the first lock that was lost as `lost_cause`, `lost_by`, .. |
/// | `RetryInfo` | when it is worth trying again, where anybody knows |
/// | `PreconditionFailure` | a violation for each lock in the way or lost: `LOCKED`, `FROZEN`, `LOCK_PENDING` or `LOCK_LOST`, its root, and who, why and until when |
/// | `ResourceInfo` | the resource, and the holder of the first lock |
/// | `Help` | where the first lock is at the endpoint, if one was [named](crate::LocksBuilder::endpoint_url) |
///
/// They take 3 KiB or a little more: long texts are cut, and locks that find no room are left out; `truncated` in the metadata
/// says so of locks.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct GrpcStatus {
    code: GrpcCode,
    message: String,
    details: Bytes,
}

impl GrpcStatus {
    /// The status that `refusal` is.
    pub fn of(refusal: &Refusal) -> Self {
        let code = refusal.grpc_code();
        let message = match refusal.is_bare() {
            true => refusal.code().title().to_owned(),
            false => bounded(refusal.to_string(), MOST_MESSAGE),
        };
        let details = details(refusal, code, &message).encode_to_vec().into();
        Self { code, message, details }
    }

    /// `grpc-status`.
    #[must_use]
    pub fn code(&self) -> GrpcCode {
        self.code
    }

    /// `grpc-message`, before it is encoded: one sentence for a person.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// `grpc-status-details-bin`, before it is encoded: a `google.rpc.Status`.
    #[must_use]
    pub fn details(&self) -> &Bytes {
        &self.details
    }

    fn write(&self, headers: &mut HeaderMap) {
        headers.insert(STATUS, HeaderValue::from(self.code as i32));
        let message: Cow<'_, str> = utf8_percent_encode(&self.message, ENCODED).into();
        let details = BASE64_STANDARD_NO_PAD.encode(&self.details);
        for (name, value) in [(MESSAGE, &*message), (DETAILS, &details)] {
            headers.insert(name, HeaderValue::from_str(value).expect("visible ASCII"));
        }
    }
}

/// Whether a request is a call. Whoever sends something else than a POST looks at the status of HTTP, and would take 200 for a
/// success; so would a program that has called its upload so, but speaks an HTTP that gRPC does not run over. What a
/// translation to gRPC hands on may be of any version, and says that it reads trailers.
#[inline]
pub(super) fn is_call(request: RequestView<'_>) -> bool {
    *request.method == Method::POST
        && is_grpc(request.headers)
        && (request.version >= Version::HTTP_2 || request.headers.get(header::TE).is_some_and(|te| te == "trailers"))
}

/// Whether a message with these headers speaks gRPC: `application/grpc`, alone or with `+proto` or the like.
pub(super) fn is_grpc(headers: &HeaderMap) -> bool {
    let Some(content_type) = headers.get(header::CONTENT_TYPE) else { return false };
    let Some((name, rest)) = content_type.as_bytes().split_at_checked(CONTENT_TYPE.len()) else { return false };
    name.eq_ignore_ascii_case(CONTENT_TYPE.as_bytes()) && matches!(rest.first(), None | Some(b'+' | b';' | b' ' | b'\t'))
}

/// Whether an answer is an error from its head on.
pub(super) fn is_error(headers: &HeaderMap) -> bool {
    headers.get(STATUS).is_some_and(|status| status != "0") && is_grpc(headers)
}

/// A trailers-only answer.
pub(super) fn answer<B>(refusal: &Refusal) -> Response<ResponseBody<B>> {
    let mut response = Response::new(ResponseBody::own(Bytes::new()));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE));
    GrpcStatus::of(refusal).write(headers);
    if let Some(seconds) = refusal.retry_after() {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// The trailers of a stream that ends with `refusal`.
pub(super) fn trailers(refusal: &Refusal) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    GrpcStatus::of(refusal).write(&mut trailers);
    trailers
}

fn details(refusal: &Refusal, code: GrpcCode, message: &str) -> Status {
    let mut metadata = BTreeMap::from([("code".to_owned(), refusal.code().to_string())]);
    let mut others = Vec::new();
    if let Some(seconds) = refusal.retry_after() {
        metadata.insert("retry_after".to_owned(), seconds.to_string());
        // The longest that the type has: ten thousand years.
        let seconds = i64::try_from(seconds).unwrap_or(i64::MAX).min(315_576_000_000);
        others.push(Any::of(&RetryInfo { retry_delay: Some(Span { seconds, nanos: 0 }) }));
    }
    if let Some(resource) = refusal.resource() {
        metadata.insert("resource".to_owned(), text(resource));
    }
    let first = refusal.locks().first();
    if let Some(lock) = first {
        tell_lock(lock, &mut metadata);
        metadata.insert("locks".to_owned(), refusal.locks().len().to_string());
    }
    if let Some(lost) = refusal.lost().first() {
        tell_lost(lost, &mut metadata);
    }
    if let Some(named) = refusal.resource().or(first.map(|lock| &*lock.resource)) {
        others.push(Any::of(&ResourceInfo {
            resource_type: "resource".to_owned(),
            resource_name: text(named),
            owner: first.and_then(|lock| owner(lock.owner.as_ref())).unwrap_or_default(),
            description: first.and_then(|lock| lock.reason.as_deref()).map(text).unwrap_or_default(),
        }));
    }
    if let (Some(endpoint), Some(lock)) = (refusal.endpoint_url(), first) {
        let url = format!("{endpoint}/?id={}", lock.lock_id);
        if url.len() <= 2 * MOST_TEXT {
            others.push(Any::of(&Help { links: vec![Link { description: "The lock".to_owned(), url }] }));
        }
    }
    let info = ErrorInfo { reason: refusal.code().as_str().to_uppercase(), domain: "tower-lock".to_owned(), metadata };
    let mut status = Status { code: code as i32, message: message.to_owned(), details: others };
    with_violations(refusal, &mut status, info);
    status
}

/// Adds the locks to `status` as far as there is room, and `info`, which says whether there was.
fn with_violations(refusal: &Refusal, status: &mut Status, mut info: ErrorInfo) {
    /// For names and lengths, and for `truncated`.
    const AROUND: usize = 192;

    let all = refusal.lost().iter().map(lost_violation).chain(refusal.locks().iter().map(lock_violation));
    let mut room = MOST_DETAILS.saturating_sub(status.encoded_len() + info.encoded_len() + AROUND);
    let mut violations = Vec::new();
    let mut truncated = refusal.is_truncated() && !refusal.is_bare();
    for violation in all {
        // With its own tag and length.
        match room.checked_sub(violation.encoded_len() + 4) {
            Some(left) => room = left,
            // The first is told in any case.
            None if violations.is_empty() => room = 0,
            None => {
                truncated = true;
                break;
            }
        }
        violations.push(violation);
    }
    if truncated {
        info.metadata.insert("truncated".to_owned(), "true".to_owned());
    }
    status.details.insert(0, Any::of(&info));
    if !violations.is_empty() {
        status.details.insert(1, Any::of(&PreconditionFailure { violations }));
    }
}

fn tell_lock(lock: &LockView, metadata: &mut BTreeMap<String, String>) {
    let entries = [
        ("lock_id", Some(lock.lock_id.to_string())),
        ("lock_resource", Some(text(&lock.resource))),
        ("scope", Some(text(lock.scope.as_str()))),
        ("depth", Some(text(lock.depth.as_str()))),
        ("kind", Some(text(lock.kind.as_str()))),
        ("state", Some(text(lock.state.as_str()))),
        ("owner", owner(lock.owner.as_ref())),
        ("reason", lock.reason.as_deref().map(text)),
        ("expires_at", lock.expires_at.map(|time| time.to_string())),
        ("expires_in", lock.expires_in.map(|seconds| seconds.to_string())),
        ("generation", Some(lock.generation.to_string())),
        ("mine", Some(lock.mine.to_string())),
        ("can_break", Some(lock.can_break.to_string())),
    ];
    metadata.extend(entries.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))));
}

fn tell_lost(lost: &LostView, metadata: &mut BTreeMap<String, String>) {
    let entries = [
        ("lost_cause", Some(text(lost.cause.as_str()))),
        ("lost_lock_id", lost.lock_id.map(|id| id.to_string())),
        ("lost_resource", lost.resource.as_deref().map(text)),
        ("lost_at", lost.at.map(|time| time.to_string())),
        ("lost_by", lost.by.as_deref().map(text)),
        ("lost_reason", lost.reason.as_deref().map(text)),
    ];
    metadata.extend(entries.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))));
}

fn lock_violation(lock: &LockView) -> Violation {
    let kind = match (lock.state, &lock.kind) {
        (LockState::Pending, _) => "LOCK_PENDING",
        (_, LockKind::Freeze) => "FROZEN",
        _ => "LOCKED",
    };
    let mut description = format!("Lock {}", lock.lock_id);
    if let Some(owner) = owner(lock.owner.as_ref()) {
        description += &format!(", by {owner}");
    }
    if let Some(reason) = &lock.reason {
        description += &format!(" ({})", text(reason));
    }
    description += &match lock.expires_at {
        Some(time) => format!(", until {time}."),
        None => ", until further notice.".to_owned(),
    };
    Violation { kind: kind.to_owned(), subject: text(&lock.resource), description }
}

fn lost_violation(lost: &LostView) -> Violation {
    let mut description = match lost.lock_id {
        Some(id) => format!("Lock {id} is gone"),
        None => "The lock is gone".to_owned(),
    };
    if let Some(by) = &lost.by {
        description += &format!(", by {}", text(by));
    }
    if let Some(reason) = &lost.reason {
        description += &format!(" ({})", text(reason));
    }
    description.push('.');
    let subject = lost.resource.as_deref().map(text).unwrap_or_default();
    Violation { kind: "LOCK_LOST".to_owned(), subject, description }
}

fn owner(owner: Option<&Owner>) -> Option<String> {
    owner?.display_name().map(text)
}

fn text(text: &str) -> String {
    bounded(text.to_owned(), MOST_TEXT)
}

/// `text`, cut where it is longer than `most` bytes.
fn bounded(mut text: String, most: usize) -> String {
    if text.len() > most {
        let mut end = most.saturating_sub('…'.len_utf8());
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests;
