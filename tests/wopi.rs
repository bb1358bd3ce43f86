//! A WOPI host's locks (the protocol by which Office and Collabora edit files in place) over the crate's extension points:
//! a small adapter, and every row of what it has to answer.
//!
//! In WOPI the client makes up the lock: a string in `X-WOPI-Lock`. That string is **public by protocol**: the host shows it
//! to whoever it refuses, because it is by this string that editors find each other and edit together. It keeps applications
//! apart, not people; who may open a file at all is for its access token to say. For the same reason the string alone is the
//! right proof ([`HolderProof::Token`]): people who edit together send the same string, each under an access token of their
//! own, and the one who took the lock may be the first to leave.
//!
//! A string comes again: unlocked, the same editor locks with it anew. Tokens are used once, so the one of a lock is derived
//! from the string *and* the lock's id. The adapter finds the lock, compares its `client_ref` with what was sent, and derives
//! the token; for a write it leaves that in the request's extensions, where the layer looks for it.

mod support;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{
    Extension, Router,
    body::{Body, Bytes},
    extract::{Path, Request, State},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use http::{HeaderMap, HeaderValue, StatusCode, request::Parts};
use support::{Answer, Mode, Rigged, SECOND};
use tokio::sync::Semaphore;
use tower::ServiceExt;
use tower_lock::{
    Access, Admission, AuthorizeAsk, Caller, HolderProof, Lifetimes, Lock, LockId, LockKind, LockLayer, LockRequest,
    LockToken, Locks, Principal, Refusal, RefusalCode, RequestView, ResourceKey,
    locks::{KindLifetime, Named},
    store::{ManualClock, Span},
};

const LOCK: &str = "x-wopi-lock";
const OLD_LOCK: &str = "x-wopi-oldlock";
const TIMEOUT: &str = "x-wopi-lockexpirationtimeout";
const MINUTE: Duration = Duration::from_secs(60);

// --- the adapter ---------------------------------------------------------------------------------------------------

/// The token of a lock that was taken with this string.
fn token(id: LockId, string: &str) -> LockToken {
    LockToken::derive(&["wopi", &id.to_string(), string])
}

/// The string of a lock; none where somebody locked who is no WOPI client.
fn string_of(lock: &Lock) -> Option<&str> {
    lock.client_ref().filter(|_| lock.kind().as_str() == "wopi")
}

/// Why an operation does not succeed.
enum No {
    /// 409, with the string that it is locked by; an empty one where there is none.
    Locked(Option<Lock>),
    Malformed(&'static str),
    Refused(Refusal),
}

impl From<Refusal> for No {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl IntoResponse for No {
    fn into_response(self) -> Response {
        match self {
            Self::Locked(lock) => {
                let string = lock.as_ref().and_then(string_of).unwrap_or_default();
                let user = lock.as_ref().and_then(|lock| lock.owner().display_name()).unwrap_or_default();
                (StatusCode::CONFLICT, [(LOCK, string), ("x-wopi-conflictinglockusername", user)]).into_response()
            }
            Self::Malformed(why) => (StatusCode::BAD_REQUEST, why).into_response(),
            Self::Refused(refusal) => refused(&refusal),
        }
    }
}

/// What the locks refuse: a locked file is 409 here, with the string in any case. Of what went wrong (the store is down, a write
/// under way does not end) clients know nothing but 500, and ask again.
fn refused(refusal: &Refusal) -> Response {
    match refusal.code() {
        RefusalCode::Locked | RefusalCode::Frozen => {
            let lock = refusal.locks().first().filter(|lock| lock.kind.as_str() == "wopi");
            (StatusCode::CONFLICT, [(LOCK, lock.and_then(|lock| lock.client_ref.clone()).unwrap_or_default())])
                .into_response()
        }
        RefusalCode::BadRequest | RefusalCode::AmbiguousPath => {
            (StatusCode::BAD_REQUEST, refusal.to_string()).into_response()
        }
        _ => (StatusCode::INTERNAL_SERVER_ERROR, refusal.to_string()).into_response(),
    }
}

/// A lock string of a request: 1 to 1,024 printable characters of ASCII.
fn string<'h>(headers: &'h HeaderMap, name: &str) -> Result<&'h str, No> {
    let mut values = headers.get_all(name).iter();
    let string = values.next().and_then(|value| value.to_str().ok()).filter(|text| (1..=1024).contains(&text.len()));
    match (string, values.next()) {
        (Some(string), None) if string.bytes().all(|byte| (b' '..=b'~').contains(&byte)) => Ok(string),
        _ => Err(No::Malformed("a lock is 1 to 1,024 characters of ASCII")),
    }
}

/// How long the lock is to live: half an hour, or as the client says.
fn lifetime(headers: &HeaderMap) -> Result<Duration, No> {
    let Some(value) = headers.get(TIMEOUT) else { return Ok(30 * MINUTE) };
    let seconds = value.to_str().ok().and_then(|text| text.parse().ok()).filter(|seconds| (60..=3600).contains(seconds));
    seconds.map(Duration::from_secs).ok_or(No::Malformed("a lock lives for 60 to 3,600 seconds"))
}

async fn current(locks: &Locks, path: &str) -> Result<Option<Lock>, Refusal> {
    let key = ResourceKey::parse(path).map_err(|error| Refusal::bad_request(error.to_string()))?;
    Ok(locks.covering(&key).await?.into_iter().next())
}

/// The operations on a file's lock, by `X-WOPI-Override`.
async fn operation(State(host): State<Host>, request: Request) -> Response {
    let (head, _) = request.into_parts();
    let name = head.headers.get("x-wopi-override").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let done = match name {
        "GET_LOCK" => get_lock(&host.locks, &head).await,
        "LOCK" | "REFRESH_LOCK" | "UNLOCK" => change(&host.locks, name, &head).await,
        _ => return StatusCode::NOT_IMPLEMENTED.into_response(),
    };
    done.unwrap_or_else(IntoResponse::into_response)
}

async fn get_lock(locks: &Locks, head: &Parts) -> Result<Response, No> {
    let lock = current(locks, head.uri.path()).await?;
    Ok([(LOCK, lock.as_ref().and_then(string_of).unwrap_or_default())].into_response())
}

/// Looks, decides, and does it by the token of the very lock that it has looked at. Where that has ended in between, or another
/// one has come, it looks again, and does so as often as can be meant well.
async fn change(locks: &Locks, name: &str, head: &Parts) -> Result<Response, No> {
    let (path, string, lifetime) = (head.uri.path(), string(&head.headers, LOCK)?, lifetime(&head.headers)?);
    let old = head.headers.contains_key(OLD_LOCK).then(|| self::string(&head.headers, OLD_LOCK)).transpose()?;
    let caller = locks.caller(&RequestView::from_parts(head))?;
    let fresh = || {
        let id = LockId::random();
        let request = LockRequest::exclusive(path).kind(LockKind::from("wopi")).lifetime(lifetime);
        request.client_ref(string).propose_id(id).propose_token(token(id, string))
    };
    for _ in 0..20 {
        let lock = current(locks, path).await?;
        let held = lock.as_ref().and_then(|lock| Some((token(lock.id(), string_of(lock)?), string_of(lock)?)));
        let done = match (name, held) {
            // UnlockAndRelock, in one step.
            ("LOCK", Some((token, held))) if old == Some(held) => acquire(locks, &caller, fresh().replacing(token)).await,
            ("LOCK", Some((token, held))) if old.is_none() && held == string => {
                refresh(locks, &caller, token, lifetime).await
            }
            ("LOCK", None) if old.is_none() && lock.is_none() => acquire(locks, &caller, fresh()).await,
            ("REFRESH_LOCK", Some((token, held))) if held == string => refresh(locks, &caller, token, lifetime).await,
            ("UNLOCK", Some((token, held))) if held == string => {
                locks.release_for(&caller, Named::token(token)).await.map(|released| released.is_some())
            }
            _ => return Err(No::Locked(lock)),
        };
        if done? {
            return Ok(StatusCode::OK.into_response());
        }
    }
    Ok(StatusCode::INTERNAL_SERVER_ERROR.into_response())
}

/// Whether it was granted; not where somebody was faster.
async fn acquire(locks: &Locks, caller: &Caller, request: LockRequest) -> Result<bool, Refusal> {
    match locks.acquire_for(caller, request).await {
        Ok(_granted) => Ok(true),
        Err(refusal) if matches!(refusal.code(), RefusalCode::Locked | RefusalCode::LockLost) => Ok(false),
        Err(refusal) => Err(refusal),
    }
}

/// Whether it lives on.
async fn refresh(locks: &Locks, caller: &Caller, token: LockToken, lifetime: Duration) -> Result<bool, Refusal> {
    match locks.refresh_for(caller, Named::token(token), Span::For(lifetime)).await {
        Ok(_refreshed) => Ok(true),
        Err(refusal) if refusal.code() == RefusalCode::LockLost => Ok(false),
        Err(refusal) => Err(refusal),
    }
}

/// Outside the layer: finds the lock that the string of a PutFile means, and leaves its token where the layer looks for it.
async fn find_token(State(host): State<Host>, mut request: Request, next: Next) -> Response {
    if let Some(sent) = request.headers().get(LOCK).cloned() {
        let lock = match current(&host.locks, request.uri().path()).await {
            Ok(lock) => lock,
            Err(refusal) => return refused(&refusal),
        };
        if let Some(lock) = lock.filter(|lock| string_of(lock).is_some_and(|string| sent == string)) {
            request.extensions_mut().insert(token(lock.id(), string_of(&lock).unwrap_or_default()));
        }
    }
    next.run(request).await
}

/// PutFile, inside the layer: nobody else has locked the file. Without a lock only an empty one may be written, for that is
/// how a new file comes by its first content.
async fn put_file(
    State(host): State<Host>,
    Path(id): Path<String>,
    admission: Option<Extension<Admission>>,
    content: Bytes,
) -> Response {
    let is_held = admission.is_some_and(|Extension(admission)| !admission.locks().is_empty());
    if !is_held && !host.file(&id).is_empty() {
        return No::Locked(None).into_response();
    }
    host.writing.add_permits(1);
    drop(host.gate.acquire().await);
    host.files.lock().unwrap_or_else(PoisonError::into_inner).insert(id, content);
    StatusCode::OK.into_response()
}

async fn get_file(State(host): State<Host>, Path(id): Path<String>) -> Bytes {
    host.file(&id)
}

/// The user that an access token is of; here it is the user's name.
#[derive(Clone)]
struct User(String);

async fn authenticate(mut request: Request, next: Next) -> Response {
    let user = request.uri().query().and_then(|query| query.strip_prefix("access_token=")).map(str::to_owned);
    let Some(user) = user else { return StatusCode::UNAUTHORIZED.into_response() };
    request.extensions_mut().insert(User(user));
    next.run(request).await
}

#[derive(Clone)]
struct Host {
    locks: Locks,
    files: Arc<Mutex<HashMap<String, Bytes>>>,
    /// One more with each write that has begun.
    writing: Arc<Semaphore>,
    /// Closed, writes stay under way.
    gate: Arc<Semaphore>,
}

impl Host {
    fn over(store: Rigged) -> Self {
        let mut lifetimes = Lifetimes::default();
        // That of kinds of one's own. An editor that stays open for days refreshes for days.
        lifetimes.app = KindLifetime { default: Some(30 * MINUTE), most: Some(60 * MINUTE), total: None };
        let locks = Locks::builder(store)
            .principal(|request| request.extensions.get::<User>().map(|user| Principal::new(&user.0)))
            .token(|request| request.extensions.get::<LockToken>().copied())
            .holder_proof(HolderProof::Token)
            .lifetimes(lifetimes)
            // Whoever may open the file may lock it, and is shown by what it is locked.
            .authorizer(|_: &AuthorizeAsk<'_>| Access::Allowed)
            .build();
        Self { locks, files: Arc::default(), writing: Arc::new(Semaphore::new(0)), gate: Arc::new(Semaphore::new(1)) }
    }

    fn file(&self, id: &str) -> Bytes {
        self.files.lock().unwrap_or_else(PoisonError::into_inner).get(id).cloned().unwrap_or_default()
    }

    fn router(&self) -> Router {
        let layer = LockLayer::new(self.locks.clone()).respond_with(|refusal, _request| refused(refusal));
        Router::new()
            .route("/wopi/files/{id}/contents", get(get_file).post(put_file))
            .layer(layer)
            .layer(middleware::from_fn_with_state(self.clone(), find_token))
            // Beside the layer, not below it: locking is no write.
            .route("/wopi/files/{id}", post(operation))
            .layer(middleware::from_fn(authenticate))
            .with_state(self.clone())
    }

    async fn send(&self, user: &str, target: &str, fields: &[(&str, &str)], body: &str) -> Answer {
        let mut request = Request::post(format!("{target}?access_token={user}")).body(Body::from(body.to_owned())).unwrap();
        for (name, value) in fields {
            let name: http::HeaderName = name.parse().unwrap();
            request.headers_mut().append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        Answer::of(self.router().oneshot(request).await.unwrap()).await
    }

    /// An operation on the lock of the file 7.
    async fn ask(&self, user: &str, operation: &str, fields: &[(&str, &str)]) -> Answer {
        self.send(user, "/wopi/files/7", &[&[("x-wopi-override", operation)], fields].concat(), "").await
    }

    async fn put(&self, user: &str, fields: &[(&str, &str)], content: &str) -> Answer {
        self.send(user, "/wopi/files/7/contents", &[&[("x-wopi-override", "PUT")], fields].concat(), content).await
    }

    async fn locked_by(&self) -> String {
        let answer = self.ask("reader", "GET_LOCK", &[]).await;
        assert_eq!(answer.status, 200);
        answer.header(LOCK).expect("always there").to_owned()
    }
}

// --- what it has to answer -----------------------------------------------------------------------------------------

/// On a store that answers at once, and on one that answers later.
fn hosts() -> Vec<(Host, ManualClock)> {
    let each = [Mode::Pass, Mode::Later].map(|mode| {
        let clock = ManualClock::new();
        (Host::over(Rigged::all(support::stores::memory(clock.clock()), mode)), clock)
    });
    each.into()
}

#[track_caller]
fn done(answer: &Answer) {
    assert_eq!(answer.status, 200, "{answer:?}");
}

/// 409, and what it is locked by.
#[track_caller]
fn conflict(answer: &Answer, string: &str) {
    assert_eq!((answer.status.as_u16(), answer.header(LOCK)), (409, Some(string)), "{answer:?}");
}

#[tokio::test]
async fn each_operation_succeeds_or_tells_the_current_lock() {
    for (host, _) in hosts() {
        // Unlocked: whatever relies on a lock is told that there is none.
        assert_eq!(host.locked_by().await, "");
        for operation in ["REFRESH_LOCK", "UNLOCK"] {
            conflict(&host.ask("ann", operation, &[(LOCK, "one")]).await, "");
        }
        conflict(&host.ask("ann", "LOCK", &[(LOCK, "two"), (OLD_LOCK, "one")]).await, "");
        assert_eq!(host.locked_by().await, "");

        // Locked: with the same string each operation succeeds, with another one none does.
        done(&host.ask("ann", "LOCK", &[(LOCK, "one")]).await);
        assert_eq!(host.locked_by().await, "one");
        let refused = host.ask("ben", "LOCK", &[(LOCK, "two")]).await;
        conflict(&refused, "one");
        assert_eq!(refused.header("x-wopi-conflictinglockusername"), Some("ann"));
        for operation in ["REFRESH_LOCK", "UNLOCK"] {
            for other in ["two", "ONE", "one ", "on"] {
                conflict(&host.ask("ann", operation, &[(LOCK, other)]).await, "one");
            }
        }
        conflict(&host.ask("ann", "LOCK", &[(LOCK, "three"), (OLD_LOCK, "two")]).await, "one");
        conflict(&host.ask("ann", "LOCK", &[(LOCK, "one"), (OLD_LOCK, "two")]).await, "one");
        assert_eq!(host.locked_by().await, "one");
        done(&host.ask("ann", "LOCK", &[(LOCK, "one")]).await);
        done(&host.ask("ann", "REFRESH_LOCK", &[(LOCK, "one")]).await);

        // Unlocked and locked again in one step, and the old string is worth nothing any more.
        done(&host.ask("ann", "LOCK", &[(LOCK, "two"), (OLD_LOCK, "one")]).await);
        assert_eq!(host.locked_by().await, "two");
        for operation in ["LOCK", "REFRESH_LOCK", "UNLOCK"] {
            conflict(&host.ask("ann", operation, &[(LOCK, "one")]).await, "two");
        }
        done(&host.ask("ann", "LOCK", &[(LOCK, "two"), (OLD_LOCK, "two")]).await);
        done(&host.ask("ann", "UNLOCK", &[(LOCK, "two")]).await);
        conflict(&host.ask("ann", "UNLOCK", &[(LOCK, "two")]).await, "");
    }
}

#[tokio::test]
async fn people_who_edit_together_share_a_string_and_any_of_them_may_leave_first() {
    for (host, _) in hosts() {
        done(&host.ask("ann", "LOCK", &[(LOCK, "together")]).await);
        for user in ["ben", "cleo"] {
            done(&host.ask(user, "LOCK", &[(LOCK, "together")]).await);
            done(&host.put(user, &[(LOCK, "together")], user).await);
            done(&host.ask(user, "REFRESH_LOCK", &[(LOCK, "together")]).await);
        }
        done(&host.ask("cleo", "LOCK", &[(LOCK, "next"), (OLD_LOCK, "together")]).await);
        done(&host.ask("ben", "UNLOCK", &[(LOCK, "next")]).await);
        assert_eq!((host.locked_by().await.as_str(), &*host.file("7")), ("", &b"cleo"[..]));
    }
}

#[tokio::test]
async fn a_string_can_be_used_again_once_it_has_been_unlocked_or_has_expired() {
    for (host, clock) in hosts() {
        for round in 0..3 {
            done(&host.ask("ann", "LOCK", &[(LOCK, "mine")]).await);
            done(&host.put("ann", &[(LOCK, "mine")], "text").await);
            match round {
                0 => done(&host.ask("ann", "UNLOCK", &[(LOCK, "mine")]).await),
                1 => clock.advance(31 * MINUTE),
                _ => done(&host.ask("ann", "LOCK", &[(LOCK, "other"), (OLD_LOCK, "mine")]).await),
            }
        }
        done(&host.ask("ann", "LOCK", &[(LOCK, "mine"), (OLD_LOCK, "other")]).await);
        assert_eq!(host.locked_by().await, "mine");
    }
}

#[tokio::test]
async fn what_is_malformed_is_400_and_changes_nothing() {
    for (host, _) in hosts() {
        let (long, longest) = ("x".repeat(1025), "x".repeat(1024));
        for locked in ["", "one"] {
            if !locked.is_empty() {
                done(&host.ask("ann", "LOCK", &[(LOCK, locked)]).await);
            }
            for operation in ["LOCK", "REFRESH_LOCK", "UNLOCK"] {
                for fields in [
                    &[][..],
                    &[(LOCK, "")],
                    &[(LOCK, &*long)],
                    &[(LOCK, "é")],
                    &[(LOCK, "a\tb")],
                    &[(LOCK, "one"), (LOCK, "two")],
                    &[(LOCK, "one"), (OLD_LOCK, "")],
                    &[(LOCK, "one"), (OLD_LOCK, &*long)],
                ] {
                    assert_eq!(host.ask("ann", operation, fields).await.status, 400, "{operation} {fields:?}");
                }
            }
            for seconds in ["59", "3601", "0", "-60", "6e2", "", "soon", "60.5", "99999999999999999999"] {
                for operation in ["LOCK", "REFRESH_LOCK"] {
                    let answer = host.ask("ann", operation, &[(LOCK, "one"), (TIMEOUT, seconds)]).await;
                    assert_eq!(answer.status, 400, "{operation} {seconds}");
                }
            }
            assert_eq!(host.locked_by().await, locked);
        }
        done(&host.ask("ann", "LOCK", &[(LOCK, &longest), (OLD_LOCK, "one")]).await);
        conflict(&host.ask("ben", "LOCK", &[(LOCK, "one")]).await, &longest);
        // What is no operation on a lock, and who is nobody.
        assert_eq!(host.ask("ann", "LOCKS", &[(LOCK, "one")]).await.status, 501);
        let anonymous = Request::post("/wopi/files/7").header("x-wopi-override", "GET_LOCK").body(Body::empty()).unwrap();
        assert_eq!(host.router().oneshot(anonymous).await.unwrap().status(), 401);
    }
}

#[tokio::test]
async fn a_lock_expires_after_half_an_hour_or_when_the_client_says() {
    for (host, clock) in hosts() {
        let left = async |minutes: u32| {
            assert_eq!(host.locked_by().await, "one");
            clock.advance(minutes * MINUTE - SECOND);
            assert_eq!(host.locked_by().await, "one", "a second before");
            clock.advance(SECOND);
            assert_eq!(host.locked_by().await, "", "it has expired");
            conflict(&host.ask("ann", "REFRESH_LOCK", &[(LOCK, "one")]).await, "");
        };
        done(&host.ask("ann", "LOCK", &[(LOCK, "one")]).await);
        left(30).await;

        // Each that refreshes begins the half hour anew, and however often.
        done(&host.ask("ann", "LOCK", &[(LOCK, "one")]).await);
        for _ in 0..100 {
            clock.advance(29 * MINUTE);
            done(&host.ask("ann", "REFRESH_LOCK", &[(LOCK, "one")]).await);
            clock.advance(29 * MINUTE);
            done(&host.ask("ann", "LOCK", &[(LOCK, "one")]).await);
        }
        left(30).await;

        for (seconds, minutes) in [("60", 1), ("600", 10), ("3600", 60)] {
            done(&host.ask("ann", "LOCK", &[(LOCK, "one"), (TIMEOUT, seconds)]).await);
            left(minutes).await;
            done(&host.ask("ann", "LOCK", &[(LOCK, "one")]).await);
            done(&host.ask("ann", "REFRESH_LOCK", &[(LOCK, "one"), (TIMEOUT, seconds)]).await);
            left(minutes).await;
        }
        // A write does not keep it alive.
        done(&host.ask("ann", "LOCK", &[(LOCK, "one")]).await);
        clock.advance(29 * MINUTE);
        done(&host.put("ann", &[(LOCK, "one")], "text").await);
        left(1).await;
    }
}

#[tokio::test]
async fn a_file_is_written_under_its_lock_or_while_it_is_empty() {
    for (host, clock) in hosts() {
        // Empty and unlocked, with or without a string; then no longer empty.
        done(&host.put("ann", &[], "").await);
        done(&host.put("ann", &[(LOCK, "one")], "first").await);
        for fields in [&[][..], &[(LOCK, "one")]] {
            conflict(&host.put("ann", fields, "second").await, "");
        }
        assert_eq!(&*host.file("7"), b"first");

        done(&host.ask("ann", "LOCK", &[(LOCK, "one")]).await);
        for fields in [&[][..], &[(LOCK, "two")], &[(LOCK, "")], &[(LOCK, "two"), (LOCK, "one")]] {
            conflict(&host.put("ann", fields, "second").await, "one");
        }
        done(&host.put("ben", &[(LOCK, "one")], "second").await);
        let read = Request::get("/wopi/files/7/contents?access_token=ben").body(Body::empty()).unwrap();
        assert_eq!(Answer::of(host.router().oneshot(read).await.unwrap()).await.text(), "second", "reads go on");

        // Emptied under the lock, it is locked still.
        done(&host.put("ann", &[(LOCK, "one")], "").await);
        conflict(&host.put("ben", &[], "third").await, "one");
        done(&host.put("ann", &[(LOCK, "one")], "third").await);
        clock.advance(31 * MINUTE);
        conflict(&host.put("ann", &[(LOCK, "one")], "fourth").await, "");
        assert_eq!(&*host.file("7"), b"third");
    }
}

#[tokio::test]
async fn a_lock_that_has_no_string_is_a_conflict_with_an_empty_one() {
    for (host, _) in hosts() {
        done(&host.put("ann", &[], "text").await);
        let freeze = host.locks.hold(LockRequest::exclusive("/wopi/files/7").kind(LockKind::Freeze)).await.unwrap();
        assert_eq!(host.locked_by().await, "");
        for operation in ["LOCK", "REFRESH_LOCK", "UNLOCK"] {
            conflict(&host.ask("ann", operation, &[(LOCK, "one")]).await, "");
        }
        conflict(&host.ask("ann", "LOCK", &[(LOCK, "one"), (OLD_LOCK, "two")]).await, "");
        conflict(&host.put("ann", &[(LOCK, "one")], "other").await, "");
        freeze.release().await.unwrap();
        done(&host.ask("ann", "LOCK", &[(LOCK, "one")]).await);
    }
}

#[tokio::test]
async fn a_store_that_is_down_is_500_and_never_a_conflict() {
    let host = Host::over(Rigged::all(tower_lock::MemoryStore::new(), Mode::Fail));
    for operation in ["GET_LOCK", "LOCK", "REFRESH_LOCK", "UNLOCK"] {
        assert_eq!(host.ask("ann", operation, &[(LOCK, "one")]).await.status, 500, "{operation}");
    }
    for fields in [&[][..], &[(LOCK, "one")]] {
        assert_eq!(host.put("ann", fields, "text").await.status, 500);
    }
    assert!(host.file("7").is_empty());
}

// --- at once -------------------------------------------------------------------------------------------------------

async fn at_once(host: &Host, each: impl IntoIterator<Item = Vec<(&'static str, String)>>) -> Vec<Answer> {
    let tasks = each.into_iter().map(|fields| {
        let host = host.clone();
        tokio::spawn(async move {
            let fields: Vec<_> = fields.iter().map(|(name, value)| (*name, &**value)).collect();
            host.send("ann", "/wopi/files/7", &fields, "").await
        })
    });
    let mut answers = Vec::new();
    for task in tasks.collect::<Vec<_>>() {
        answers.push(task.await.unwrap());
    }
    answers
}

fn operation_by(name: &str, string: &str) -> Vec<(&'static str, String)> {
    vec![("x-wopi-override", name.to_owned()), (LOCK, string.to_owned())]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_strings_that_lock_at_once_one_does_and_the_others_are_told_which() {
    for round in 0..100 {
        let (host, _) = hosts().swap_remove(round % 2);
        let answers = at_once(&host, (0..6).map(|number| operation_by("LOCK", &format!("s{}", number / 2)))).await;
        let winner = host.locked_by().await;
        for (number, answer) in answers.iter().enumerate() {
            if format!("s{}", number / 2) == winner { done(answer) } else { conflict(answer, &winner) }
        }
        // One of them unlocks it, or swaps it for its own; by then it is no longer what the others rely on.
        let swaps =
            (0..4).map(|number| [operation_by("LOCK", &format!("n{number}")), vec![(OLD_LOCK, winner.clone())]].concat());
        let answers = at_once(&host, swaps).await;
        let next = host.locked_by().await;
        assert_eq!(answers.iter().filter(|answer| answer.status == 200).count(), 1);
        answers.iter().filter(|answer| answer.status != 200).for_each(|answer| conflict(answer, &next));
        let answers = at_once(&host, (0..4).map(|_| operation_by("UNLOCK", &next))).await;
        assert_eq!(answers.iter().filter(|answer| answer.status == 200).count(), 1);
        answers.iter().filter(|answer| answer.status != 200).for_each(|answer| conflict(answer, ""));
    }
}

#[tokio::test]
async fn a_lock_is_not_granted_over_the_first_write_of_an_empty_file() {
    for (host, clock) in hosts() {
        let closed = host.gate.clone().acquire_owned().await.unwrap();
        let write = tokio::spawn({
            let host = host.clone();
            async move { host.put("ann", &[], "first").await }
        });
        host.writing.acquire().await.unwrap().forget();
        let lock = || {
            let host = host.clone();
            tokio::spawn(async move { host.ask("ben", "LOCK", &[(LOCK, "one")]).await })
        };
        let impatient = lock();
        while !impatient.is_finished() {
            tokio::task::yield_now().await;
            clock.advance(SECOND / 10);
        }
        assert_eq!((impatient.await.unwrap().status.as_u16(), &*host.locked_by().await), (500, ""));

        clock.advance(MINUTE);
        let patient = lock();
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        assert!(!patient.is_finished() && host.file("7").is_empty(), "it waits for the write");
        drop(closed);
        done(&write.await.unwrap());
        done(&patient.await.unwrap());
        assert_eq!((&*host.file("7"), &*host.locked_by().await), (&b"first"[..], "one"));
    }
}
