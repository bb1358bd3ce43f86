//! Leases over locks: a state, an operation, and what comes of them.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, request::Parts};
use http_body_util::BodyExt;
use tokio::sync::Semaphore;
use tower::{Layer, ServiceExt, service_fn};
use tower_lock::{
    Access, Action, Admission, AuthorizeAsk, Caller, Depth, HolderProof, KeyRules, Lifetimes, Lock, LockId, LockKind,
    LockLayer, LockRequest, LockScope, LockToken, Locks, MemoryStore, Refusal, RefusalCode, RequestView, ResourceKey,
    lock::{KeyError, LockState, LostCause},
    locks::{Broken, KindLifetime, Named},
    request::{ResolveFn, Resolved},
    store::{ManualClock, Span},
};
use uuid::Uuid;

use crate::support::{Answer, SECOND, Text, locks_of_users};

pub(crate) const ID: &str = "x-ms-lease-id";
pub(crate) const PROPOSED: &str = "x-ms-proposed-lease-id";
pub(crate) const TIME: &str = "x-ms-lease-time";

/// The blobs of an account, and the locks that their leases are.
#[derive(Clone)]
pub(crate) struct Account {
    pub(crate) locks: Locks,
    blobs: Blobs,
}

type Blobs = Arc<Mutex<BTreeMap<String, Blob>>>;

struct Blob {
    content: Bytes,
    lease: Option<Lease>,
}

/// The lease that a blob had last, if nobody has released it, or written since it ended.
#[derive(Clone, Copy)]
pub(crate) struct Lease {
    lock: LockId,
    id: Uuid,
    span: Option<Duration>,
    generation: u64,
    is_broken: bool,
}

/// What the lease on a blob is right now.
pub(crate) enum Now {
    Available,
    Leased(Lock),
    Breaking(Lock),
    Broken(Lease),
    Expired(Lease),
}

/// What is asked of a lease, by its id.
#[derive(Clone, Copy)]
enum Wanted {
    Acquire(Uuid, Option<Duration>),
    Renew(Uuid),
    Change(Uuid, Uuid),
    Release(Uuid),
    Break(Option<Duration>),
}

/// A status, and a header field.
type Done = (StatusCode, (&'static str, String));

const NO_FIELD: (&str, String) = ("", String::new());

/// What a new lease takes the place of.
enum Over {
    Nothing,
    /// One that has expired, if the blob is still as it left it.
    Expired(LockId),
    /// One that is held.
    Held(LockToken),
}

/// The token that a request shows; a lease id that fits no lease makes one that fits none.
#[derive(Clone)]
struct Shown(LockToken);

/// An error code of Azure's, with its status.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Failure(StatusCode, &'static str);

const BUSY: Failure = Failure(StatusCode::SERVICE_UNAVAILABLE, "ServerBusy");
const NO_BLOB: Failure = Failure(StatusCode::NOT_FOUND, "BlobNotFound");
const BAD_HEADER: Failure = Failure(StatusCode::BAD_REQUEST, "InvalidHeaderValue");
const NO_HEADER: Failure = Failure(StatusCode::BAD_REQUEST, "MissingRequiredHeader");

fn token(lock: LockId, id: Uuid) -> LockToken {
    LockToken::derive(&[&lock.to_string(), &id.to_string()])
}

fn is(lock: &Lock, id: Uuid) -> bool {
    lock.client_ref() == Some(&id.to_string())
}

/// A blob's name is one word, whatever slashes are in it: nothing lies below a blob, and none is a member of another.
pub(crate) fn key_of(path: &str) -> Result<ResourceKey<'static>, KeyError> {
    let key = KeyRules::new().exact().key(path)?;
    let (container, name) = key.path()[1..].split_once('/').ok_or(KeyError::Unresolved)?;
    Ok(ResourceKey::from_canonical(format!("/{container}/{}", name.replace('/', "%2F"))))
}

impl Account {
    pub(crate) fn new(clock: &ManualClock) -> Self {
        let as_asked = KindLifetime { default: None, most: None, total: None };
        let mut lifetimes = Lifetimes::default();
        lifetimes.app = as_asked;
        let locks = locks_of_users(MemoryStore::builder().clock(clock.clock()).build())
            .clock(clock.clock())
            .keys_by(ResolveFn::new(|ask| key_of(ask.path).map(Resolved::key)).exact())
            .holder_proof(HolderProof::Token)
            .token_as_condition(|request| request.extensions.get::<Shown>().map(|shown| shown.0))
            // Whoever may use the account may break any lease in it.
            .authorizer(|ask: &AuthorizeAsk<'_>| match ask.action {
                Action::Acquire | Action::Break | Action::See if ask.principal.is_some() => Access::Allowed,
                _ => Access::Denied,
            })
            .lifetimes(lifetimes)
            .build();
        Self { locks, blobs: Blobs::default() }
    }

    fn blobs(&self) -> MutexGuard<'_, BTreeMap<String, Blob>> {
        self.blobs.lock().unwrap()
    }

    pub(crate) async fn answer(&self, request: Request<Text>) -> Answer {
        // Only this spelling is a lease operation. Any other is a write, and guarded.
        let is_lease = *request.method() == Method::PUT && request.uri().query() == Some("comp=lease");
        let answered = if is_lease { self.lease(&request).await } else { self.blob(request).await };
        Answer::of(answered.unwrap_or_else(Failure::into_response)).await
    }

    /// A read or write of a blob.
    async fn blob(&self, mut request: Request<Text>) -> Result<Response<Text>, Failure> {
        if let Some(id) = guid(request.headers(), ID)? {
            let key = key_of(request.uri().path()).map_err(|_| NO_BLOB)?;
            let live = self.locks.covering(&key).await.map_err(|_| BUSY)?.into_iter().find(|lock| is(lock, id));
            let last = self.blobs().get(key.path()).and_then(|blob| blob.lease).filter(|lease| lease.id == id);
            let lock = live.map(|lock| lock.id()).or(last.map(|lease| lease.lock)).unwrap_or_else(LockId::random);
            request.extensions_mut().insert(Shown(token(lock, id)));
        }
        let blobs = Arc::clone(&self.blobs);
        let service = service_fn(move |request| serve(Arc::clone(&blobs), request));
        let layer = LockLayer::new(self.locks.clone()).respond_with(refused);
        let mut response = layer.layer(service).oneshot(request).await.unwrap_or_else(|never| match never {});
        // Azure says 202 to a DELETE that is done. Inside the layer that would say that it has yet to be, and the lease would
        // outlive the blob.
        if response.status() == StatusCode::NO_CONTENT {
            *response.status_mut() = StatusCode::ACCEPTED;
        }
        Ok(response)
    }

    async fn lease(&self, request: &Request<Text>) -> Result<Response<Text>, Failure> {
        let caller = self.locks.caller(&RequestView::of(request)).map_err(|_| BUSY)?;
        let key = key_of(request.uri().path()).map_err(|_| NO_BLOB)?;
        let wanted = Wanted::read(request.headers())?;
        // Somebody may be quicker, so that things have to be looked at anew. That cannot go on for long.
        for _ in 0..100 {
            let now = self.now(&key).await?;
            let Some((status, (name, value))) = self.step(&caller, &key, wanted, now).await? else { continue };
            let response = Response::builder().status(status);
            let response = if name.is_empty() { response } else { response.header(name, value) };
            return Ok(response.body(Text::default()).unwrap());
        }
        Err(BUSY)
    }

    /// What becomes of an operation in a state; nothing, where that state is over. This is the table.
    async fn step(&self, by: &Caller, key: &ResourceKey<'_>, wanted: Wanted, now: Now) -> Result<Option<Done>, Failure> {
        use Wanted::{Acquire, Break, Change, Release, Renew};
        let held = |status, id: Uuid| (status, (ID, id.to_string()));
        let (created, ok) = (StatusCode::CREATED, StatusCode::OK);
        let code = match (wanted, now) {
            (Acquire(id, span), Now::Leased(lock)) if is(&lock, id) => {
                let is_done = self.refreshed(by, &lock, id, span.map_or(Span::Endless, Span::For)).await?;
                self.last(key, lock.id(), |lease| lease.span = span);
                return Ok(is_done.then(|| held(created, id)));
            }
            (Acquire(id, _), Now::Breaking(lock)) if is(&lock, id) => "LeaseIsBreakingAndCannotBeAcquired",
            (Acquire(..), Now::Leased(_) | Now::Breaking(_)) => "LeaseAlreadyPresent",
            (Acquire(id, span), _) => {
                let is_done = self.granted(by, key, id, (span, span), Over::Nothing).await?;
                return Ok(is_done.then(|| held(created, id)));
            }

            (Renew(id), Now::Leased(lock)) if is(&lock, id) => {
                let span = self.span(key, &lock).map_or(Span::Same, |span| span.map_or(Span::Endless, Span::For));
                return Ok(self.refreshed(by, &lock, id, span).await?.then(|| held(ok, id)));
            }
            (Renew(id), Now::Expired(lease)) if lease.id == id => {
                let is_done = self.granted(by, key, id, (lease.span, lease.span), Over::Expired(lease.lock)).await?;
                return Ok(is_done.then(|| held(ok, id)));
            }
            (Renew(id), Now::Breaking(lock)) if is(&lock, id) => "LeaseIsBrokenAndCannotBeRenewed",
            (Renew(id), Now::Broken(lease)) if lease.id == id => "LeaseIsBrokenAndCannotBeRenewed",

            // Somebody repeats what they were not answered.
            (Change(_, to), Now::Leased(lock)) if is(&lock, to) => return Ok(Some(held(ok, to))),
            (Change(id, to), Now::Leased(lock)) if is(&lock, id) => {
                let left = lock.expires_at().map(|end| end.since(lock.life().seen_at));
                let spans = (left, self.span(key, &lock).unwrap_or(left));
                let is_done = self.granted(by, key, to, spans, Over::Held(token(lock.id(), id))).await?;
                return Ok(is_done.then(|| held(ok, to)));
            }
            (Change(id, _), Now::Breaking(lock)) if is(&lock, id) => "LeaseIsBreakingAndCannotBeChanged",
            (Change(..), Now::Available | Now::Broken(_) | Now::Expired(_)) => "LeaseNotPresentWithLeaseOperation",

            (Release(id), Now::Leased(lock) | Now::Breaking(lock)) if is(&lock, id) => {
                let released = self.locks.release_for(by, Named::token(token(lock.id(), id))).await.map_err(|_| BUSY)?;
                self.forget(key, lock.id());
                return Ok(released.map(|_| (ok, NO_FIELD)));
            }
            (Release(id), Now::Broken(lease) | Now::Expired(lease)) if lease.id == id => {
                self.forget(key, lease.lock);
                return Ok(Some((ok, NO_FIELD)));
            }
            (Release(_), Now::Available) => "LeaseNotPresentWithLeaseOperation",

            (Break(period), Now::Leased(lock) | Now::Breaking(lock)) => {
                // Unless somebody says, as long as it would have gone on. No break lengthens a lease, so the longest will do.
                let grace = period.unwrap_or(if lock.expires_at().is_some() { 60 * SECOND } else { Duration::ZERO });
                let left = match self.locks.break_for(by, Named::id(lock.id()), "break", grace).await {
                    Ok(Broken::Ended(_)) => Some(0),
                    Ok(Broken::Breaking(lock)) => Some(lock.expires_in().unwrap_or(0)),
                    Err(refusal) => look_again(&refusal).map(|()| None)?,
                };
                self.last(key, lock.id(), |lease| lease.is_broken |= left.is_some());
                return Ok(left.map(|left| (StatusCode::ACCEPTED, (TIME, left.to_string()))));
            }
            (Break(_), Now::Expired(lease)) => {
                self.last(key, lease.lock, |lease| lease.is_broken = true);
                return Ok(Some((StatusCode::ACCEPTED, (TIME, "0".to_owned()))));
            }
            (Break(_), Now::Broken(_)) => "LeaseAlreadyBroken",
            (Break(_), Now::Available) => "LeaseNotPresentWithLeaseOperation",

            (Renew(_) | Change(..) | Release(_), _) => "LeaseIdMismatchWithLeaseOperation",
        };
        Err(Failure(StatusCode::CONFLICT, code))
    }

    pub(crate) async fn now(&self, key: &ResourceKey<'_>) -> Result<Now, Failure> {
        let last = self.blobs().get(key.path()).ok_or(NO_BLOB)?.lease;
        let locks = self.locks.covering(key).await.map_err(|_| BUSY)?;
        // One that is about to be granted is none yet.
        let live = locks.into_iter().find(|lock| lock.state() != LockState::Pending);
        Ok(match (live, last) {
            (Some(lock), _) if lock.state() == LockState::Breaking => Now::Breaking(lock),
            (Some(lock), _) => Now::Leased(lock),
            (None, None) => Now::Available,
            (None, Some(lease)) if lease.is_broken => Now::Broken(lease),
            (None, Some(lease)) => {
                // The store remembers for an hour how a lock ended, the blob for ever that it has not been touched since.
                let ended = Named::token(token(lease.lock, lease.id));
                let ended = self.locks.refresh_for(&Caller::application(None), ended, Span::Same).await;
                match ended.err().and_then(|refusal| refusal.lost().first().map(|lost| lost.cause)) {
                    Some(LostCause::Expired | LostCause::Unknown) => Now::Expired(lease),
                    Some(LostCause::Broken) => Now::Broken(lease),
                    _ => Now::Available,
                }
            }
        })
    }

    /// Whether the lease was still there to be refreshed.
    async fn refreshed(&self, by: &Caller, lock: &Lock, id: Uuid, span: Span) -> Result<bool, Failure> {
        match self.locks.refresh_for(by, Named::token(token(lock.id(), id)), span).await {
            Ok(_) => Ok(true),
            Err(refusal) => look_again(&refusal).map(|()| false),
        }
    }

    /// A new lease with so long to go, and so long with every renewal; false where things are no longer as they were.
    async fn granted(
        &self,
        by: &Caller,
        key: &ResourceKey<'_>,
        id: Uuid,
        (left, span): (Option<Duration>, Option<Duration>),
        over: Over,
    ) -> Result<bool, Failure> {
        let lock = LockId::random();
        let mut request = LockRequest::on(LockScope::Exclusive, key.clone().into_owned())
            .depth(Depth::Zero)
            .kind(LockKind::App)
            .client_ref(id.to_string())
            .propose_id(lock)
            .propose_token(token(lock, id));
        request = left.map_or(request.clone().endless(), |left| request.lifetime(left));
        if let Over::Held(token) = over {
            request = request.replacing(token);
        }
        let generation = match self.locks.acquire_for(by, request).await {
            Ok(granted) => granted.lock().generation(),
            Err(refusal) => return look_again(&refusal).map(|()| false),
        };
        // Whoever wrote before this has done so by now: the grant has waited for it.
        let kept = match (self.blobs().get_mut(key.path()), over) {
            (None, _) => Err(NO_BLOB),
            (Some(blob), Over::Expired(before)) if blob.lease.is_none_or(|lease| lease.lock != before) => Ok(false),
            (Some(blob), _) => {
                if blob.lease.is_none_or(|lease| lease.generation < generation) {
                    blob.lease = Some(Lease { lock, id, span, generation, is_broken: false });
                }
                Ok(true)
            }
        };
        if !matches!(kept, Ok(true)) {
            self.locks.release(token(lock, id)).await.map_err(|_| BUSY)?;
        }
        kept
    }

    /// Changes what is written down of the blob's last lease, if that is still this one.
    fn last(&self, key: &ResourceKey<'_>, lock: LockId, change: impl FnOnce(&mut Lease)) {
        let mut blobs = self.blobs();
        let lease = blobs.get_mut(key.path()).and_then(|blob| blob.lease.as_mut());
        lease.filter(|lease| lease.lock == lock).map(change);
    }

    /// How long each renewal of this lease lasts, where that is written down already.
    fn span(&self, key: &ResourceKey<'_>, lock: &Lock) -> Option<Option<Duration>> {
        let lease = self.blobs().get(key.path()).and_then(|blob| blob.lease);
        lease.filter(|lease| lease.lock == lock.id()).map(|lease| lease.span)
    }

    fn forget(&self, key: &ResourceKey<'_>, lock: LockId) {
        if let Some(blob) = self.blobs().get_mut(key.path()) {
            blob.lease = blob.lease.filter(|lease| lease.lock != lock);
        }
    }
}

/// Whether somebody else was quicker, so that things have to be looked at anew.
fn look_again(refusal: &Refusal) -> Result<(), Failure> {
    let is_coming = refusal.locks().iter().any(|lock| lock.state == LockState::Pending);
    match refusal.code() {
        // Another lease is about to be granted, and waits for a write.
        RefusalCode::Locked if is_coming => Err(BUSY),
        RefusalCode::Locked | RefusalCode::LockLost | RefusalCode::NoSuchLock => Ok(()),
        _ => Err(BUSY),
    }
}

/// The responder of the layer: what a refusal is called here.
fn refused(refusal: &Refusal, request: &Parts) -> Response<Text> {
    let status = StatusCode::PRECONDITION_FAILED;
    let failure = match refusal.code() {
        RefusalCode::Locked if !request.headers.contains_key(ID) => Failure(status, "LeaseIdMissing"),
        RefusalCode::Locked => Failure(status, "LeaseIdMismatchWithBlobOperation"),
        // The lock that the request is made under is gone. Another one may be in its place.
        RefusalCode::LockLost if refusal.locks().is_empty() => Failure(status, "LeaseNotPresentWithBlobOperation"),
        RefusalCode::LockLost => Failure(status, "LeaseIdMismatchWithBlobOperation"),
        RefusalCode::BadRequest | RefusalCode::AmbiguousPath => Failure(StatusCode::BAD_REQUEST, "InvalidUri"),
        _ => BUSY,
    };
    failure.into_response()
}

impl Wanted {
    fn read(headers: &HeaderMap) -> Result<Self, Failure> {
        let id = || guid(headers, ID)?.ok_or(NO_HEADER);
        match headers.get("x-ms-lease-action").ok_or(NO_HEADER)?.as_bytes() {
            b"acquire" => {
                let span = match number(headers, "x-ms-lease-duration")?.ok_or(NO_HEADER)? {
                    -1 => None,
                    seconds @ 15..=60 => Some(Duration::from_secs(seconds.unsigned_abs())),
                    _ => return Err(BAD_HEADER),
                };
                Ok(Self::Acquire(guid(headers, PROPOSED)?.unwrap_or_else(Uuid::new_v4), span))
            }
            b"renew" => Ok(Self::Renew(id()?)),
            b"change" => Ok(Self::Change(id()?, guid(headers, PROPOSED)?.ok_or(NO_HEADER)?)),
            b"release" => Ok(Self::Release(id()?)),
            b"break" => match number(headers, "x-ms-lease-break-period")? {
                Some(seconds @ 0..=60) => Ok(Self::Break(Some(Duration::from_secs(seconds.unsigned_abs())))),
                Some(_) => Err(BAD_HEADER),
                None => Ok(Self::Break(None)),
            },
            _ => Err(BAD_HEADER),
        }
    }
}

impl Failure {
    fn into_response(self) -> Response<Text> {
        let body = format!("<?xml version=\"1.0\" encoding=\"utf-8\"?><Error><Code>{}</Code></Error>", self.1);
        let response = Response::builder().status(self.0).header("x-ms-error-code", self.1);
        response.header("content-type", "application/xml").body(body.into()).unwrap()
    }
}

/// A GUID in any of its spellings.
fn guid(headers: &HeaderMap, name: &str) -> Result<Option<Uuid>, Failure> {
    let Some(value) = headers.get(name) else { return Ok(None) };
    let text = value.to_str().map_err(|_| BAD_HEADER)?;
    Uuid::try_parse(text).map(Some).map_err(|_| BAD_HEADER)
}

fn number(headers: &HeaderMap, name: &str) -> Result<Option<i64>, Failure> {
    let Some(value) = headers.get(name) else { return Ok(None) };
    value.to_str().ok().and_then(|text| text.parse().ok()).map(Some).ok_or(BAD_HEADER)
}

/// In the extensions of a request whose handler is to take its time.
#[derive(Clone)]
pub(crate) struct Slow {
    pub(crate) begun: Arc<Semaphore>,
    pub(crate) go_on: Arc<Semaphore>,
}

/// The service that is guarded. It knows of leases only that an expired one cannot be renewed once somebody else has written.
async fn serve(blobs: Blobs, request: Request<Text>) -> Result<Response<Text>, Infallible> {
    let (parts, body) = request.into_parts();
    if let Some(slow) = parts.extensions.get::<Slow>() {
        slow.begun.add_permits(1);
        slow.go_on.acquire().await.unwrap().forget();
    }
    let name = key_of(parts.uri.path()).unwrap().path().to_owned();
    let content = body.collect().await.unwrap().to_bytes();
    let is_leased = parts.extensions.get::<Admission>().is_some();
    let mut blobs = blobs.lock().unwrap();
    let (status, body) = match parts.method {
        Method::PUT => {
            let lease = blobs.get(&name).and_then(|blob| blob.lease).filter(|_| is_leased);
            blobs.insert(name, Blob { content, lease });
            (StatusCode::CREATED, Bytes::new())
        }
        Method::DELETE if blobs.remove(&name).is_some() => (StatusCode::NO_CONTENT, Bytes::new()),
        Method::GET if blobs.contains_key(&name) => (StatusCode::OK, blobs[&name].content.clone()),
        _ => return Ok(NO_BLOB.into_response()),
    };
    Ok(Response::builder().status(status).body(body.into()).unwrap())
}
