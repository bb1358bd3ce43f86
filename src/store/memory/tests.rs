//! What the store does, method by method; races have a test file of their own.

mod ends;
mod grants;
pub(super) mod instant;
mod writes;

use std::{future::Future, sync::Arc, task::Context, time::Duration};

use super::MemoryStore;
use crate::{
    lock::{
        Claim, Depth, HolderProof, Lock, LockId, LockKind, LockParts, LockScope, LockToken, LostCause, LostLock, Owner,
        Principal, ResourceKey, Target,
    },
    request::Conditions,
    store::{
        Acquire, Acquired, Admitted, Authority, Lifetime, LockQuery, LockStore, ManualClock, NewLock, Refresh, Refreshed,
        Refused, Release, Released, Span, StoreFuture, Verdict, Which, Write,
    },
};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);

/// A store with a clock to move, and short words for what is asked of it.
struct Bench {
    store: MemoryStore,
    hand: ManualClock,
}

fn key(path: &str) -> ResourceKey<'static> {
    ResourceKey::from_canonical(path.to_owned())
}

fn who(name: &str) -> Principal {
    Principal::new(name)
}

fn new(path: &str, scope: LockScope, depth: Depth, principal: &str) -> NewLock {
    let parts = LockParts {
        id: LockId::random(),
        root: key(path),
        scope,
        depth,
        kind: LockKind::User,
        principal: Some(who(principal)),
        owner: Owner::default(),
        reason: None,
        client_ref: None,
        claim: Claim::Made,
    };
    NewLock { parts: Arc::new(parts), token: LockToken::random() }
}

fn exclusive(path: &str, principal: &str) -> NewLock {
    new(path, LockScope::Exclusive, Depth::Infinity, principal)
}

fn shared(path: &str, principal: &str) -> NewLock {
    new(path, LockScope::Shared, Depth::Infinity, principal)
}

fn lifetime(span: Duration, total: Duration) -> Lifetime {
    Lifetime { span: Some(span), most: Some(total), total: Some(total) }
}

/// The answer of a future that has one at hand.
fn at_once<T>(future: StoreFuture<T>) -> T {
    future.into_ready().expect("answered at once").expect("the memory store does not fail")
}

/// Polls once; none while it waits.
fn poll<T>(future: &mut StoreFuture<T>) -> Option<T> {
    let mut cx = Context::from_waker(std::task::Waker::noop());
    match std::pin::Pin::new(future).poll(&mut cx) {
        std::task::Poll::Ready(answer) => Some(answer.expect("the memory store does not fail")),
        std::task::Poll::Pending => None,
    }
}

fn submitting(tokens: &[&LockToken]) -> Conditions<'static> {
    let mut conditions = Conditions::default();
    for token in tokens {
        conditions.submit(**token).expect("few");
    }
    conditions
}

impl Bench {
    fn new() -> Self {
        let hand = ManualClock::new();
        Self { store: MemoryStore::builder().clock(hand.clock()).build(), hand }
    }

    fn try_acquire(&self, locks: &[NewLock]) -> Acquired {
        at_once(self.store.acquire(&Acquire::new(locks, locks[0].parts.principal.as_ref())))
    }

    fn acquire(&self, lock: &NewLock) -> Lock {
        match self.try_acquire(std::slice::from_ref(lock)) {
            Acquired::Granted(mut locks) => locks.remove(0),
            other => panic!("{other:?}"),
        }
    }

    fn living(&self, lock: &NewLock, lifetime: Lifetime) -> Lock {
        let locks = std::slice::from_ref(lock);
        let request = Acquire::new(locks, lock.parts.principal.as_ref()).living(lifetime);
        match at_once(self.store.acquire(&request)) {
            Acquired::Granted(mut locks) => locks.remove(0),
            other => panic!("{other:?}"),
        }
    }

    fn admit(&self, targets: &[Target<'_>], tokens: &[&LockToken], principal: &str) -> Verdict {
        let (conditions, principal) = (submitting(tokens), who(principal));
        at_once(self.store.admit(&Write::new(targets, &conditions).by(Some(&principal))))
    }

    fn put(&self, path: &str, tokens: &[&LockToken], principal: &str) -> Verdict {
        self.admit(&[Target::write(key(path))], tokens, principal)
    }

    fn admitted(&self, path: &str) -> Admitted {
        self.put(path, &[], "nobody").admitted().expect("admitted")
    }

    fn refused(&self, targets: &[Target<'_>], tokens: &[&LockToken], principal: &str) -> Refused {
        match self.admit(targets, tokens, principal) {
            Verdict::Refused(refused) => *refused,
            Verdict::Admitted(_) => panic!("admitted"),
        }
    }

    fn release(&self, token: &LockToken, principal: &str) -> Released {
        let principal = who(principal);
        let authority = Authority::Holder { principal: Some(&principal), proof: &HolderProof::TokenAndPrincipal };
        at_once(self.store.release(&Release::new(Which::Token(token), authority)))
    }

    fn refresh(&self, token: &LockToken, principal: &str, span: Span) -> Refreshed {
        let principal = who(principal);
        let authority = Authority::Holder { principal: Some(&principal), proof: &HolderProof::TokenAndPrincipal };
        at_once(self.store.refresh(&Refresh::new(Which::Token(token), authority, span)))
    }

    fn break_it(&self, id: LockId, grace: Duration) -> Released {
        let admin = who("admin");
        let authority = Authority::Break { actor: Some(&admin), reason: "night work", grace };
        at_once(self.store.release(&Release::new(Which::Id(id), authority)))
    }

    /// The roots of the locks at or below `/`, in order.
    fn roots(&self) -> Vec<String> {
        let page = at_once(self.store.find(&LockQuery::at_or_below(key("/")).limit(usize::MAX)));
        page.locks.iter().map(|lock| lock.root().path().to_owned()).collect()
    }
}

fn cause(lost: &LostLock) -> LostCause {
    lost.cause
}
