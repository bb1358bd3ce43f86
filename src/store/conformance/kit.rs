//! What every case needs: short ways to ask a store, and to say which rule its answer breaks.

use std::{future::Future, pin::pin, sync::Arc, time::Duration};

use crate::{
    lock::{
        Claim, Depth, Effect, HolderProof, Lock, LockId, LockKind, LockParts, LockScope, LockState, LockToken, LostLock,
        Membership, Owner, Principal, ResourceKey, Target,
    },
    request::{Conditions, RequestView},
    store::{
        Acquire, Acquired, Admitted, Authority, Lifetime, LockQuery, LockStore, NewLock, Permit, Quota, Refresh, Refreshed,
        Refused, Release, Released, Replaces, Span, StoreFuture, Verdict, Which, Write, WriteId, write::Sight,
    },
};

/// The two who quarrel in most cases, and a third.
pub(super) const ANN: Option<&str> = Some("ann");
pub(super) const BOB: Option<&str> = Some("bob");
pub(super) const EVE: Option<&str> = Some("eve");
pub(super) const NOBODY: Option<&str> = None;

pub(super) type Who = Option<&'static str>;

/// How many times over the random cases run: `TOWER_LOCK_SOAK`, once unless set.
pub(super) fn soak() -> u64 {
    std::env::var("TOWER_LOCK_SOAK").ok().and_then(|times| times.parse().ok()).unwrap_or(1).max(1)
}

pub(super) fn key(path: &str) -> ResourceKey<'static> {
    ResourceKey::from_canonical(path.to_owned())
}

pub(super) fn principal(who: Who) -> Option<Principal> {
    who.map(Principal::new)
}

/// A target that is written and leaves its parent alone.
pub(super) fn put(path: &str) -> Target<'static> {
    Target::write(key(path))
}

/// A target that may be new to its parent.
pub(super) fn create(path: &str) -> Target<'static> {
    Target::write_member(key(path))
}

/// A target that goes with all below.
pub(super) fn delete(path: &str) -> Target<'static> {
    Target::unlink(key(path))
}

/// What MOVE changes: the source goes, and what was at the destination too.
pub(super) fn rename(from: &str, to: &str) -> [Target<'static>; 2] {
    [delete(from), delete(to)]
}

/// A subtree that goes while its parent stays as it is.
pub(super) fn replace_below(path: &str) -> Target<'static> {
    Target { key: key(path), effect: Effect::Unlink, membership: Membership::Kept }
}

/// A lock as its holder knows it.
#[derive(Clone)]
pub(super) struct Held {
    pub(super) lock: Lock,
    pub(super) token: LockToken,
    pub(super) who: Who,
}

/// A request for locks, in the words of a case.
#[derive(Clone)]
pub(super) struct Ask {
    pub(super) who: Who,
    pub(super) locks: Vec<NewLock>,
    pub(super) replaces: Vec<Swap>,
    pub(super) lifetime: Lifetime,
    pub(super) drain: Duration,
    pub(super) quota: Quota,
    pub(super) within: Option<WriteId>,
    pub(super) proof: HolderProof,
    pub(super) blockers: usize,
}

/// A lock to be replaced.
#[derive(Clone, Copy)]
pub(super) enum Swap {
    Own(LockToken),
    /// One's own without its token.
    Id(LockId),
    Break(LockId),
}

pub(super) fn parts(who: Who, path: &str, scope: LockScope, depth: Depth) -> LockParts {
    LockParts {
        id: LockId::random(),
        root: key(path),
        scope,
        depth,
        kind: LockKind::User,
        principal: principal(who),
        owner: who.map(Owner::id).unwrap_or_default(),
        reason: Some("conformance".into()),
        client_ref: None,
        claim: Claim::Made,
    }
}

pub(super) fn fresh(parts: LockParts) -> NewLock {
    NewLock { parts: Arc::new(parts), token: LockToken::random() }
}

impl Ask {
    pub(super) fn of(who: Who, locks: Vec<NewLock>) -> Self {
        let day = Duration::from_secs(86_400);
        Self {
            who,
            locks,
            replaces: Vec::new(),
            lifetime: Lifetime { span: Some(day), most: None, total: None },
            drain: Duration::from_secs(5),
            quota: Quota::UNLIMITED,
            within: None,
            proof: HolderProof::default(),
            blockers: 100,
        }
    }

    pub(super) fn new(who: Who, path: &str, scope: LockScope, depth: Depth) -> Self {
        Self::of(who, vec![fresh(parts(who, path, scope, depth))])
    }

    /// An exclusive lock on a resource and all below.
    pub(super) fn exclusive(who: Who, path: &str) -> Self {
        Self::new(who, path, LockScope::Exclusive, Depth::Infinity)
    }

    /// A shared lock on a resource and all below.
    pub(super) fn shared(who: Who, path: &str) -> Self {
        Self::new(who, path, LockScope::Shared, Depth::Infinity)
    }

    /// An exclusive lock on one resource.
    pub(super) fn shallow(who: Who, path: &str) -> Self {
        Self::new(who, path, LockScope::Exclusive, Depth::Zero)
    }

    /// Exclusive locks on several resources, all or none.
    pub(super) fn several(who: Who, paths: &[&str]) -> Self {
        let lock = |path: &&str| fresh(parts(who, path, LockScope::Exclusive, Depth::Infinity));
        Self::of(who, paths.iter().map(lock).collect())
    }

    /// The same, with the first lock changed.
    pub(super) fn with(mut self, change: impl FnOnce(&mut LockParts)) -> Self {
        change(Arc::make_mut(&mut self.locks[0].parts));
        self
    }

    pub(super) fn kind(self, kind: LockKind) -> Self {
        self.with(|parts| parts.kind = kind)
    }

    pub(super) fn token(mut self, token: LockToken) -> Self {
        self.locks[0].token = token;
        self
    }

    pub(super) fn living(mut self, span: Duration) -> Self {
        self.lifetime = Lifetime { span: Some(span), most: None, total: None };
        self
    }

    pub(super) fn lifetime(mut self, span: Option<Duration>, most: Option<Duration>, total: Option<Duration>) -> Self {
        self.lifetime = Lifetime { span, most, total };
        self
    }

    pub(super) fn draining(mut self, drain: Duration) -> Self {
        self.drain = drain;
        self
    }

    pub(super) fn replacing(mut self, swap: Swap) -> Self {
        self.replaces.push(swap);
        self
    }

    pub(super) fn quota(mut self, principal: usize, store: usize) -> Self {
        self.quota = Quota { principal, store };
        self
    }

    pub(super) fn within(mut self, permit: &Permit) -> Self {
        self.within = permit.id();
        self
    }

    pub(super) fn id(&self) -> LockId {
        self.locks[0].parts.id
    }

    /// Asks.
    pub(super) fn start<S: LockStore>(&self, store: &S) -> StoreFuture<Acquired> {
        let who = principal(self.who);
        let replaces: Vec<Replaces<'_>> = self
            .replaces
            .iter()
            .map(|swap| match swap {
                Swap::Own(token) => Replaces::Held(token),
                Swap::Id(id) => Replaces::Own { id: *id },
                Swap::Break(id) => Replaces::Broken { id: *id, reason: "because" },
            })
            .collect();
        let mut request = Acquire::new(&self.locks, who.as_ref())
            .living(self.lifetime)
            .draining(self.drain)
            .replacing(&replaces)
            .within_quota(self.quota)
            .within(self.within)
            .proven_by(&self.proof);
        request.blockers = self.blockers;
        store.acquire(&request)
    }

    /// Asks, and expects an answer.
    pub(super) async fn go<S: LockStore>(&self, store: &S) -> Acquired {
        answer(self.start(store)).await
    }

    /// Asks, and expects the locks.
    pub(super) async fn all<S: LockStore>(&self, store: &S) -> Vec<Held> {
        match self.go(store).await {
            Acquired::Granted(locks) => self.held(locks),
            other => panic!("an acquire with nothing in its way was not granted: {other:?}"),
        }
    }

    /// Asks, and expects one lock.
    pub(super) async fn one<S: LockStore>(&self, store: &S) -> Held {
        self.all(store).await.remove(0)
    }

    /// The answered locks with their tokens.
    pub(super) fn held(&self, locks: Vec<Lock>) -> Vec<Held> {
        assert_eq!(locks.len(), self.locks.len(), "all locks asked for are granted, or none");
        locks
            .into_iter()
            .zip(&self.locks)
            .map(|(lock, new)| {
                assert_eq!(lock.id(), new.parts.id, "granted locks come in the order they were asked for");
                Held { lock, token: new.token, who: self.who }
            })
            .collect()
    }
}

/// A write, in the words of a case.
#[derive(Clone)]
pub(super) struct Wr {
    pub(super) who: Who,
    pub(super) targets: Vec<Target<'static>>,
    pub(super) tokens: Vec<LockToken>,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) proof: HolderProof,
    pub(super) limit: usize,
}

impl Wr {
    pub(super) fn of(who: Who, targets: impl IntoIterator<Item = Target<'static>>) -> Self {
        Self {
            who,
            targets: targets.into_iter().collect(),
            tokens: Vec::new(),
            headers: Vec::new(),
            proof: HolderProof::default(),
            limit: 100,
        }
    }

    /// A write of one resource that exists.
    pub(super) fn put(who: Who, path: &str) -> Self {
        Self::of(who, [put(path)])
    }

    /// A removal of one resource with all below.
    pub(super) fn delete(who: Who, path: &str) -> Self {
        Self::of(who, [delete(path)])
    }

    /// The same, with this lock's token submitted.
    pub(super) fn with(mut self, held: &Held) -> Self {
        self.tokens.push(held.token);
        self
    }

    /// The same, with a header field.
    pub(super) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub(super) fn proof(mut self, proof: HolderProof) -> Self {
        self.proof = proof;
        self
    }

    pub(super) fn naming(mut self, limit: usize) -> Self {
        self.limit = limit;
        self
    }

    /// Asks.
    pub(super) fn start<S: LockStore>(&self, store: &S) -> StoreFuture<Verdict> {
        self.asked(store, Sight::Unseen)
    }

    /// Asks as the layer does: whether the write is let through, and further where it is not.
    pub(super) fn start_by_let_through<S: LockStore>(&self, store: &S) -> StoreFuture<Verdict> {
        match self.let_through(store) {
            Some(permit) => StoreFuture::ready(Verdict::Admitted(Admitted { permit, answered: None })),
            None => self.asked(store, Sight::NotLetThrough),
        }
    }

    fn asked<S: LockStore>(&self, store: &S, sight: Sight) -> StoreFuture<Verdict> {
        let path = self.targets.first().map_or_else(|| "/".to_owned(), |target| target.key.uri().into_owned());
        let mut request = http::Request::builder().method("PUT").uri(path);
        for (name, value) in &self.headers {
            request = request.header(*name, value);
        }
        let request = request.body(()).expect("a case writes sound header fields");
        let mut conditions = Conditions::parse(RequestView::of(&request), &crate::lock::KeyRules::new(), None)
            .expect("a case writes sound conditions");
        for token in &self.tokens {
            conditions.submit(*token).expect("a case submits few tokens");
        }
        let who = principal(self.who);
        let write = Write::new(&self.targets, &conditions).by(who.as_ref()).proven_by(&self.proof).naming(self.limit);
        match sight {
            Sight::Unseen => store.admit(&write),
            Sight::NotLetThrough => store.admit(&write.not_let_through()),
        }
    }

    pub(super) async fn verdict<S: LockStore>(&self, store: &S) -> Verdict {
        let through = self.let_through(store).map(|permit| (permit.id().is_some(), permit.generation()));
        let verdict = answer(self.start(store)).await;
        if let Some(through) = through {
            let rule = "a store lets through what it would admit without an answer";
            let Verdict::Admitted(admitted) = &verdict else { panic!("{rule}: {:?} is {verdict:?}", self.targets) };
            assert!(admitted.answered.is_none(), "{rule}: {:?} is {verdict:?}", self.targets);
            assert_eq!((admitted.permit.id().is_some(), admitted.permit.generation()), through, "{rule}: the same permit");
        }
        verdict
    }

    /// Asks the short way, if the write stands under no conditions.
    pub(super) fn let_through<S: LockStore>(&self, store: &S) -> Option<Permit> {
        let unconditional = self.tokens.is_empty() && self.headers.is_empty();
        unconditional.then(|| store.let_through(&self.targets)).flatten()
    }

    /// Asks, and expects to be admitted; `rule` says why it should be.
    pub(super) async fn admitted<S: LockStore>(&self, store: &S, rule: &str) -> Admitted {
        match self.verdict(store).await {
            Verdict::Admitted(admitted) => admitted,
            Verdict::Refused(refused) => panic!("{rule}: {:?} was refused: {refused:?}", self.targets),
        }
    }

    /// Asks, and expects to be refused; `rule` says why it should be.
    pub(super) async fn refused<S: LockStore>(&self, store: &S, rule: &str) -> Refused {
        match self.verdict(store).await {
            Verdict::Refused(refused) => *refused,
            Verdict::Admitted(_) => panic!("{rule}: {:?} was admitted", self.targets),
        }
    }

    /// Asks, and expects a 423 that names exactly these locks.
    pub(super) async fn blocked<S: LockStore>(&self, store: &S, by: &[&Held], rule: &str) -> Refused {
        let refused = self.refused(store, rule).await;
        assert!(!refused.condition_failed, "{rule}: a lock in the way is no false condition: {refused:?}");
        same_ids(&refused.blockers, by.iter().map(|held| held.lock.id()), rule);
        refused
    }
}

/// The answer of a store that is expected to have one.
pub(super) async fn answer<T>(future: StoreFuture<T>) -> T {
    future.await.unwrap_or_else(|error| panic!("the store failed: {error}"))
}

/// Whether a future answers at once. It is polled a few times, so that a network store had its chance.
pub(super) async fn still_pending<T>(future: &mut StoreFuture<T>, rule: &str) {
    for _ in 0..20 {
        let polled = std::future::poll_fn(|cx| std::task::Poll::Ready(pin!(&mut *future).poll(cx).is_ready())).await;
        assert!(!polled, "{rule}");
        tokio::task::yield_now().await;
    }
}

/// Starts an acquire that has to wait, and comes back once its mark is there.
pub(super) async fn marked<S: LockStore>(store: &S, ask: &Ask) -> StoreFuture<Acquired> {
    let mut coming = ask.start(store);
    for _ in 0..10_000 {
        still_pending(&mut coming, "an acquire over a write in flight waits for it (G3)").await;
        if find(store, LockQuery::id(ask.id())).await.iter().any(|lock| lock.state() == LockState::Pending) {
            return coming;
        }
        // Looking without a pause keeps the processor from the engine that is to set it.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("an acquire that waits sets a mark, which `find` shows as pending");
}

pub(super) fn same_ids(locks: &[Lock], expected: impl IntoIterator<Item = LockId>, rule: &str) {
    let sorted = |mut ids: Vec<LockId>| {
        ids.sort();
        ids
    };
    let found = sorted(locks.iter().map(Lock::id).collect());
    assert_eq!(found, sorted(expected.into_iter().collect()), "{rule}");
}

pub(super) async fn find<S: LockStore>(store: &S, query: LockQuery<'_>) -> Vec<Lock> {
    answer(store.find(&query)).await.locks
}

/// A live lock by its id.
pub(super) async fn seen<S: LockStore>(store: &S, held: &Held) -> Option<Lock> {
    find(store, LockQuery::id(held.lock.id())).await.pop()
}

impl Held {
    /// Releases it as its holder.
    pub(super) async fn release<S: LockStore>(&self, store: &S) -> Released {
        release_as(store, self.who, &self.token).await
    }

    /// Releases it as its holder, and expects it to end.
    pub(super) async fn end<S: LockStore>(&self, store: &S) {
        let ended = self.release(store).await;
        assert!(matches!(ended, Released::Released(_)), "a live lock ends by its holder's token: {ended:?}");
    }

    /// Refreshes it as its holder.
    pub(super) async fn refresh<S: LockStore>(&self, store: &S, span: Span) -> Refreshed {
        refresh_as(store, self.who, &self.token, span).await
    }

    /// Breaks it.
    pub(super) async fn broken<S: LockStore>(&self, store: &S, actor: Who, grace: Duration) -> Released {
        let actor = principal(actor);
        let authority = Authority::Break { actor: actor.as_ref(), reason: "because", grace };
        answer(store.release(&Release::new(Which::Id(self.lock.id()), authority))).await
    }
}

pub(super) async fn release_as<S: LockStore>(store: &S, who: Who, token: &LockToken) -> Released {
    let who = principal(who);
    let authority = Authority::Holder { principal: who.as_ref(), proof: &HolderProof::TokenAndPrincipal };
    answer(store.release(&Release::new(Which::Token(token), authority))).await
}

pub(super) async fn refresh_as<S: LockStore>(store: &S, who: Who, token: &LockToken, span: Span) -> Refreshed {
    let who = principal(who);
    let authority = Authority::Holder { principal: who.as_ref(), proof: &HolderProof::TokenAndPrincipal };
    answer(store.refresh(&Refresh::new(Which::Token(token), authority, span))).await
}

/// The one lost lock of an answer.
pub(super) fn only(lost: &[LostLock]) -> &LostLock {
    assert_eq!(lost.len(), 1, "one lock was lost: {lost:?}");
    &lost[0]
}
