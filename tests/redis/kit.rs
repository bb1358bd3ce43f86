//! Short ways to ask a store, and to look at its engine from beside it.

use std::{fmt::Debug, future::Future, sync::Arc, time::Duration};

use tower_lock::{
    LockStore,
    lock::{
        Claim, Depth, HolderProof, Lock, LockId, LockKind, LockParts, LockScope, LockToken, Owner, Principal, ResourceKey,
        Target,
    },
    request::Conditions,
    store::{
        Acquire, Acquired, Authority, LockQuery, NewLock, RedisStore, RedisStoreBuilder, Release, Released, StoreError,
        StoreErrorKind, Verdict, Which, Write,
    },
};

use crate::support::engines::RedisServer;

/// A store in a namespace of its own, with a limit that a busy machine keeps.
pub(crate) fn builder(server: &RedisServer) -> RedisStoreBuilder {
    RedisStore::builder(&server.url()).namespace(LockId::random().to_string()).time_limit(Duration::from_secs(10))
}

pub(crate) fn store(server: &RedisServer) -> RedisStore {
    builder(server).build().expect("a sound URL")
}

/// A connection beside the store's.
pub(crate) fn beside(server: &RedisServer) -> redis::Connection {
    redis::Client::open(server.url()).unwrap().get_connection().unwrap()
}

pub(crate) fn tell(server: &RedisServer, words: &[&str]) -> redis::Value {
    let mut command = redis::cmd(words[0]);
    for word in &words[1..] {
        command.arg(*word);
    }
    command.query(&mut beside(server)).unwrap()
}

pub(crate) fn key(path: &str) -> ResourceKey<'static> {
    ResourceKey::from_canonical(path.to_owned())
}

pub(crate) fn new(root: ResourceKey<'static>) -> NewLock {
    let parts = LockParts {
        id: LockId::random(),
        root,
        scope: LockScope::Exclusive,
        depth: Depth::Infinity,
        kind: LockKind::User,
        principal: Some(ann()),
        owner: Owner::id("ann"),
        reason: Some("a test".into()),
        client_ref: None,
        claim: Claim::Made,
    };
    NewLock { parts: Arc::new(parts), token: LockToken::random() }
}

pub(crate) fn ann() -> Principal {
    Principal::new("ann")
}

pub(crate) async fn acquire(store: &impl LockStore, locks: &[NewLock]) -> Result<Acquired, StoreError> {
    store.acquire(&Acquire::new(locks, Some(&ann())).draining(Duration::ZERO)).await
}

/// Asks for one lock, and expects it.
pub(crate) async fn lock(store: &impl LockStore, path: &str) -> (Lock, LockToken) {
    granted(store, new(key(path))).await
}

pub(crate) async fn granted(store: &impl LockStore, new: NewLock) -> (Lock, LockToken) {
    match acquire(store, std::slice::from_ref(&new)).await {
        Ok(Acquired::Granted(mut locks)) => (locks.remove(0), new.token),
        other => panic!("not granted: {other:?}"),
    }
}

pub(crate) async fn release(store: &impl LockStore, token: &LockToken) -> Result<Released, StoreError> {
    let ann = ann();
    let authority = Authority::Holder { principal: Some(&ann), proof: &HolderProof::TokenAndPrincipal };
    store.release(&Release::new(Which::Token(token), authority)).await
}

pub(crate) async fn write(store: &impl LockStore, targets: &[Target<'_>]) -> Result<Verdict, StoreError> {
    store.admit(&Write::new(targets, &Conditions::NONE)).await
}

pub(crate) async fn put(store: &impl LockStore, path: &str) -> Result<Verdict, StoreError> {
    write(store, &[Target::write(key(path))]).await
}

pub(crate) async fn with_token(
    store: &impl LockStore,
    targets: &[Target<'_>],
    token: LockToken,
) -> Result<Verdict, StoreError> {
    let mut conditions = Conditions::NONE;
    conditions.submit(token).unwrap();
    store.admit(&Write::new(targets, &conditions).by(Some(&ann()))).await
}

pub(crate) async fn all(store: &impl LockStore) -> Vec<Lock> {
    store.find(&LockQuery::at_or_below(key("/")).limit(10_000)).await.expect("the server answers").locks
}

/// That it failed, so, and with the error that caused it.
pub(crate) fn failed<T: Debug>(answer: Result<T, StoreError>, kind: StoreErrorKind) -> StoreError {
    use std::error::Error;
    match answer {
        Err(error) => {
            assert_eq!(error.kind(), kind, "{error:?}");
            assert!(kind == StoreErrorKind::Incompatible || error.source().is_some(), "the source is kept: {error:?}");
            error
        }
        Ok(answer) => panic!("expected {kind:?}, not {answer:?}"),
    }
}

/// Runs a case on a runtime of its own; one that hangs fails.
pub(crate) fn run(case: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(Duration::from_secs(120), case).await }).expect("it hangs");
}

/// Asks again and again until the answer is the one hoped for.
pub(crate) async fn until<T: Debug, F: Future<Output = T>>(mut ask: impl FnMut() -> F, hoped: impl Fn(&T) -> bool) -> T {
    for _ in 0..10_000 {
        let answer = ask().await;
        if hoped(&answer) {
            return answer;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    panic!("it never comes to that");
}

/// Releases a lock, and expects it to end.
pub(crate) async fn end(store: &impl LockStore, token: &LockToken) {
    let ended = release(store, token).await;
    assert!(matches!(ended, Ok(Released::Released(_))), "{ended:?}");
}

/// Waits until a write is admitted again.
pub(crate) async fn back(store: &impl LockStore) {
    let _ = until(|| async { put(store, "/free").await.map(drop) }, Result::is_ok).await;
}
