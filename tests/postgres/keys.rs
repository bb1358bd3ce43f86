//! Keys and texts that nobody would choose.

use std::sync::Arc;

use tower_lock::{
    LockStore,
    lock::{Lock, LockKind, Owner, Principal, ResourceKey, Target},
    store::{Acquire, Acquired, LockQuery, NewLock},
};
use uuid::Uuid;

use crate::kit::*;

/// Text that no compression makes shorter.
fn noise(bytes: usize) -> String {
    let mut text = String::new();
    while text.len() < bytes {
        text.push_str(&Uuid::new_v4().simple().to_string());
    }
    text.truncate(bytes);
    text
}

fn hostile() -> Vec<ResourceKey<'static>> {
    let mut paths: Vec<String> = [
        "/'; DROP SCHEMA tower_lock CASCADE; --",
        "/%",
        "/_",
        "/\\",
        "/\\x41",
        "/%00",
        "/\n",
        "/$1",
        "/$tower_lock$",
        "/{a,b}",
    ]
    .map(str::to_owned)
    .to_vec();
    paths.push(format!("/{}", noise(ResourceKey::MAX_ROOT - 1)));
    // Three whose first kilobytes are the same.
    let head = noise(2_000);
    paths.extend([format!("/{head}"), format!("/{head}x"), format!("/{head}!")]);
    paths.push("/d".repeat(ResourceKey::MAX_ROOT / 2));
    paths.push("/ä/\u{1F512}".repeat(500));
    let mut keys: Vec<_> = paths.iter().map(|path| key(path)).collect();
    keys.extend(["\0", "+", "n\0n", "'", "%00"].map(|namespace| key("/a").in_namespace(namespace)));
    keys
}

#[tokio::test(flavor = "multi_thread")]
async fn every_key_is_only_a_name() {
    let store = fresh().await;
    let locks: Vec<NewLock> = hostile().into_iter().map(on).collect();
    for lock in &locks {
        granted(&store, lock).await;
    }
    for lock in &locks {
        let root = &lock.parts.root;
        let below = ResourceKey::from_canonical(format!("{}/x", root.path()));
        let below = match root.namespace() {
            Some(namespace) => below.in_namespace(namespace.to_owned()),
            None => below,
        };
        for target in [Target::write(root.clone()), Target::unlink(root.clone()), Target::write(below)] {
            let refused = write(&store, std::slice::from_ref(&target), None).await.expect("an answer");
            let blockers = &refused.refused().unwrap_or_else(|| panic!("{root:.80?} is locked")).blockers;
            assert_eq!(blockers.iter().map(Lock::id).collect::<Vec<_>>(), [lock.parts.id], "{root:.80?}");
            let admitted = write(&store, &[target], Some(lock.token)).await.expect("an answer");
            assert!(admitted.admitted().is_some(), "its own token answers: {root:.80?}");
        }
        let found = store.find(&LockQuery::at_or_below(root.borrowed())).await.expect("an answer");
        assert!(found.locks.iter().map(Lock::root).eq([root]), "{root:.80?} is found");
    }
    for lock in &locks {
        release(&store, &lock.token).await.expect("an answer");
        let free = write(&store, &[Target::unlink(lock.parts.root.clone())], None).await.expect("an answer");
        assert!(free.admitted().is_some(), "it was released");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_text_comes_back_as_it_went_in() {
    let store = fresh().await;
    for text in ["", "\0", "a\0b", "'\"\\", "\u{1F512}\u{FFFD}", "\r\n", &noise(8_000)] {
        let mut lock = on(key("/a").in_namespace("n\0"));
        let parts = Arc::make_mut(&mut lock.parts);
        parts.principal = Some(Principal::new(text));
        parts.owner = Owner::id(text).named(text).xml(text);
        parts.reason = Some(text.into());
        parts.client_ref = Some(text.into());
        parts.kind = LockKind::Other(text.to_owned().into());
        let who = parts.principal.clone();
        let locks = [lock];
        let answer = store.acquire(&Acquire::new(&locks, who.as_ref())).await.expect("an answer");
        assert!(matches!(answer, Acquired::Granted(_)), "{answer:?}");
        let query = LockQuery::covering(key("/a/b").in_namespace("n\0")).held_by(who.as_ref()).kind(&locks[0].parts.kind);
        let found = store.find(&query).await.expect("an answer").locks;
        assert_eq!(found.iter().map(|lock| lock.parts().clone()).collect::<Vec<_>>(), [locks[0].parts.clone()]);
        let authority =
            tower_lock::store::Authority::Break { actor: who.as_ref(), reason: text, grace: std::time::Duration::ZERO };
        let which = tower_lock::store::Which::Id(locks[0].parts.id);
        drop(store.release(&tower_lock::store::Release::new(which, authority)).await.expect("an answer"));
        match store.acquire(&Acquire::new(&locks, who.as_ref())).await.expect("an answer") {
            Acquired::Lost(lost) => {
                assert_eq!(
                    (lost[0].actor.clone(), lost[0].reason.as_deref()),
                    (who.clone(), Some(text)),
                    "who broke it, and why"
                );
                assert_eq!(lost[0].root.as_ref(), Some(&locks[0].parts.root), "what it was on");
            }
            other => panic!("its token is used up, not {other:?}"),
        }
    }
}
