//! What is asked of every store: the same writes and locks on the same hundred thousand others.

use std::{sync::Arc, time::Duration};

use tower_lock::{
    lock::{Claim, Depth, LockKind, LockParts, LockScope, LockToken, Owner, Principal, ResourceKey, Target},
    request::Conditions,
    store::{Acquire, Acquired, Authority, Lifetime, LockStore, NewLock, Release, Released, Verdict, Which, Write},
};

/// The store under test.
pub(crate) type Store = Arc<dyn LockStore>;

/// A day: none of the locks ends while it is measured.
const LIFETIME: Lifetime =
    Lifetime { span: Some(Duration::from_secs(86_400)), most: None, total: Some(Duration::from_secs(7 * 86_400)) };

/// A path at depth six. All share their first four segments with a thousand others.
fn path(kind: &str, at: u64) -> String {
    format!("/tenants/{}/cases/{}/{kind}/{at}", at % 10, at / 10 % 100)
}

pub(crate) fn new(root: String) -> NewLock {
    let (token, id) = LockToken::random_with_id();
    let parts = LockParts {
        id,
        root: ResourceKey::from_canonical(root),
        scope: LockScope::Exclusive,
        depth: Depth::Infinity,
        kind: LockKind::Job,
        principal: Some(Principal::new("bench")),
        owner: Owner::id("bench").named("A bench"),
        reason: Some("measuring".into()),
        client_ref: None,
        claim: Claim::Made,
    };
    NewLock { parts: Arc::new(parts), token }
}

/// Holds `count` locks, a hundred by each acquire.
pub(crate) async fn hold(store: &Store, count: u64) {
    let principal = Principal::new("bench");
    let mut at = 0;
    while at < count {
        let upto = (at + 100).min(count);
        let locks: Vec<NewLock> = (at..upto).map(|at| new(path("held", at))).collect();
        let acquired = store.acquire(&Acquire::new(&locks, Some(&principal)).living(LIFETIME)).await;
        assert!(matches!(acquired, Ok(Acquired::Granted(_))), "{acquired:?}");
        at = upto;
    }
}

/// A write that no lock is in the way of, all of whose parents it shares with locked resources.
pub(crate) async fn write(store: Store, at: u64) {
    let path = path("free", at);
    let targets = [Target::write_member(ResourceKey::from_canonical(path))];
    admit(&store, &targets).await;
}

/// A DELETE of a collection without locks, so that what is below it has to be looked at too.
pub(crate) async fn delete(store: Store, at: u64) {
    let path = path("free", at);
    let targets = [Target::unlink(ResourceKey::from_canonical(path))];
    admit(&store, &targets).await;
}

async fn admit(store: &Store, targets: &[Target<'_>]) {
    let conditions = Conditions::default();
    let verdict = store.admit(&Write::new(targets, &conditions)).await;
    assert!(matches!(verdict, Ok(Verdict::Admitted(_))), "{verdict:?}");
}

/// A write of a locked resource.
pub(crate) async fn refused(store: Store, at: u64) {
    let path = path("held", at % 1_000);
    let targets = [Target::write_member(ResourceKey::from_canonical(path))];
    let conditions = Conditions::default();
    let verdict = store.admit(&Write::new(&targets, &conditions)).await;
    assert!(matches!(verdict, Ok(Verdict::Refused(_))), "{verdict:?}");
}

/// A lock is set and released.
pub(crate) async fn lock(store: Store, at: u64) {
    let principal = Principal::new("bench");
    let locks = [new(path("mine", at))];
    let acquired = store.acquire(&Acquire::new(&locks, Some(&principal)).living(LIFETIME)).await;
    assert!(matches!(acquired, Ok(Acquired::Granted(_))), "{acquired:?}");
    let released = store.release(&Release::new(Which::Token(&locks[0].token), Authority::Guard)).await;
    assert!(matches!(released, Ok(Released::Released(_))), "{released:?}");
}
