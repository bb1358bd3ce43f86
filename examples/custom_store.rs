//! A lock store of one's own: a list behind a mutex, and the whole of `LockStore` over it.
//!
//!     cargo run --example custom_store [address [store]]
//!     cargo test --example custom_store --all-features
//!
//! It is of the check-only kind: `admit` looks and registers nothing, so a lock may be granted while a write that was
//! admitted before still runs (no G3), and may expire under its holder's write (no G7). All else it keeps, and the suite
//! of the feature `conformance` proves it, at the end of this file. A store that registers its writes gives out
//! `Permit::new`, and waits in `acquire` until the writes that the lock would refuse (`rules::would_refuse`) have ended.
//!
//! It runs on the store of this file, `list:`, unless a second argument names another by its URL.
//!
//! What to take along: the rules come from `lock::rules` and the limits with each request; a store decides and changes in
//! one step, under one lock here; it keeps digests of tokens; what has run out is gone before anybody looks; and what
//! has ended is remembered for an hour, for those who held it.

#[path = "common/store_url.rs"]
mod store_url;

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    routing::{any, put},
};
use futures_util::{StreamExt, stream};
use parking_lot::Mutex;
use tokio::sync::broadcast::{self, error::RecvError};
use tower_lock::{
    LockEndpoint, LockLayer, LockStore, Locks, Principal,
    lock::{
        Gone, HolderClaim, Lock, LockId, LockKind, LockLife, LockParts, LockState, LockToken, LostCause, LostLock,
        ResourceKey, Timestamp, TokenDigest, TokenKey,
        rules::{self, Answer},
    },
    request::StateToken,
    store::{
        Acquire, Acquired, Admitted, Authority, Clock, Conflict, Cursor, FinalTerm, Lifetime, LockEvent, LockPage,
        LockQuery, Permit, QuotaExceeded, Refresh, Refreshed, Refused, Release, Released, Replaces, Select, StoreFuture,
        Verdict, Watch, Which, Write, WriteId,
    },
};

/// How long a lock that has ended is remembered, and how many are.
const REMEMBERED: Duration = Duration::from_secs(3_600);
const GRAVES: usize = 10_000;

/// Locks in a list.
#[derive(Clone)]
struct ListStore(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    clock: Clock,
    key: TokenKey,
    events: broadcast::Sender<LockEvent>,
}

#[derive(Default)]
struct State {
    locks: Vec<Held>,
    graves: Vec<Grave>,
    generation: u64,
    /// What has happened in this step.
    news: Vec<LockEvent>,
}

struct Held {
    parts: Arc<LockParts>,
    digest: TokenDigest,
    created_at: Timestamp,
    expires_at: Option<Timestamp>,
    /// The end of its total life, or of the grace of a break.
    last_end: Option<Timestamp>,
    span: Option<Duration>,
    most: Option<Duration>,
    generation: u64,
    breaking: Option<LostLock>,
}

/// A lock that has ended; one without parts is a token that was released before its lock came.
struct Grave {
    digest: TokenDigest,
    parts: Option<Arc<LockParts>>,
    lost: LostLock,
    at: Timestamp,
}

impl ListStore {
    fn new(clock: Clock) -> Self {
        Self(Arc::new(Shared { state: Mutex::default(), clock, key: TokenKey::random(), events: broadcast::channel(256).0 }))
    }

    /// One atomic step. What has run out is gone before anybody looks, and watchers hear in the order of the steps.
    fn step<T>(&self, work: impl FnOnce(&mut State, &TokenKey, Timestamp) -> T) -> StoreFuture<T> {
        let mut state = self.0.state.lock();
        let now = self.0.clock.now();
        while let Some(at) = state.locks.iter().position(|lock| lock.expires_at.is_some_and(|end| end <= now)) {
            let lost = state.locks[at].breaking.clone().unwrap_or(LostLock::new(LostCause::Expired));
            state.end(at, lost, now);
        }
        state.graves.retain(|grave| now < grave.at.after(REMEMBERED));
        let answer = work(&mut state, &self.0.key, now);
        for event in state.news.drain(..) {
            // Nobody may be watching.
            let _ = self.0.events.send(event);
        }
        StoreFuture::ready(answer)
    }
}

impl LockStore for ListStore {
    fn admit(&self, write: &Write<'_>) -> StoreFuture<Verdict> {
        self.step(|state, key, now| state.admit(write, key, now))
    }

    fn acquire(&self, request: &Acquire<'_>) -> StoreFuture<Acquired> {
        self.step(|state, key, now| state.acquire(request, key, now).unwrap_or_else(|refused| refused))
    }

    fn refresh(&self, refresh: &Refresh<'_>) -> StoreFuture<Refreshed> {
        self.step(|state, key, now| {
            match state.asked(refresh.which, &refresh.authority, refresh.covering, key, now) {
                // A break ends locks and refreshes none.
                Ok(_) if matches!(refresh.authority, Authority::Break { .. }) => Refreshed::NotHolder,
                Ok(at) => state.refresh(at, refresh, now),
                Err(Some(lost)) => Refreshed::Lost(lost),
                Err(None) => Refreshed::NotHolder,
            }
        })
    }

    fn release(&self, release: &Release<'_>) -> StoreFuture<Released> {
        self.step(|state, key, now| match state.asked(release.which, &release.authority, release.covering, key, now) {
            Ok(at) => state.release(at, &release.authority, now),
            Err(Some(lost)) => {
                if let Which::Token(token) = release.which {
                    state.burn(key.digest(token), now);
                }
                Released::Lost(lost)
            }
            Err(None) => Released::NotHolder,
        })
    }

    fn clear(&self, gone: &[Gone<'_>], _: Option<WriteId>) -> StoreFuture<usize> {
        self.step(|state, _, now| {
            let taken = |lock: &Held| gone.iter().any(|gone| gone.takes(&lock.parts.root));
            let mut count = 0;
            while let Some(at) = state.locks.iter().position(taken) {
                state.end(at, LostLock::new(LostCause::ResourceGone), now);
                count += 1;
            }
            count
        })
    }

    fn find(&self, query: &LockQuery<'_>) -> StoreFuture<LockPage> {
        self.step(|state, _, now| {
            let mut locks: Vec<Lock> = state.locks.iter().map(|lock| lock.seen(now)).collect();
            locks.retain(|lock| query.fits(lock) && query.after.as_ref().is_none_or(|cursor| cursor.precedes(lock)));
            locks.sort_by(|a, b| (a.root().path(), a.id()).cmp(&(b.root().path(), b.id())));
            let more = locks.len() > query.limit;
            locks.truncate(query.limit);
            LockPage { next: locks.last().filter(|_| more).map(Cursor::of), locks }
        })
    }

    fn watch(&self, query: &LockQuery<'_>) -> Watch {
        let fits = filter(query);
        let events = stream::unfold(self.0.events.subscribe(), move |mut events| {
            let fits = fits.clone();
            async move {
                loop {
                    match events.recv().await {
                        Ok(event) if event.lock().is_none_or(|lock| fits(lock)) => return Some((Ok(event), events)),
                        Ok(_) => {}
                        // Too slow: read the state again.
                        Err(RecvError::Lagged(_)) => return Some((Ok(LockEvent::Synced), events)),
                        Err(RecvError::Closed) => return None,
                    }
                }
            }
        });
        Watch::new(stream::iter([Ok(LockEvent::Synced)]).chain(events))
    }
}

/// A query that owns what it asks.
fn filter(query: &LockQuery<'_>) -> Arc<dyn Fn(&Lock) -> bool + Send + Sync> {
    let select = match &query.select {
        Select::Covering(key) => Select::Covering(key.clone().into_owned()),
        Select::AtOrBelow(key) => Select::AtOrBelow(key.clone().into_owned()),
        Select::Id(id) => Select::Id(*id),
        // A kind of query that is newer than this store: everything, rather than too little.
        _ => return Arc::new(|_| true),
    };
    let (principal, kind) = (query.principal.map(Option::<&Principal>::cloned), query.kind.cloned());
    Arc::new(move |lock| {
        let mut query = LockQuery::new(select.clone());
        query.principal = principal.as_ref().map(Option::as_ref);
        query.kind = kind.as_ref();
        query.fits(lock)
    })
}

impl Held {
    fn seen(&self, now: Timestamp) -> Lock {
        let life = LockLife {
            state: if self.breaking.is_some() { LockState::Breaking } else { LockState::Held },
            created_at: self.created_at,
            expires_at: self.expires_at,
            generation: self.generation,
            in_use: false,
            seen_at: now,
        };
        Lock::new(self.parts.clone(), life)
    }
}

impl State {
    fn by_token(&self, digest: TokenDigest) -> Option<usize> {
        self.locks.iter().position(|lock| lock.digest == digest)
    }

    fn by_id(&self, id: LockId) -> Option<usize> {
        self.locks.iter().position(|lock| lock.parts.id == id)
    }

    fn admit(&self, write: &Write<'_>, key: &TokenKey, now: Timestamp) -> Verdict {
        let touches = |lock: &Lock| write.targets.iter().any(|target| rules::touches(lock.root(), lock.depth(), target));
        let touched: Vec<Lock> = self.locks.iter().map(|lock| lock.seen(now)).filter(touches).collect();
        let tokens: Vec<TokenDigest> = write.conditions.tokens().iter().map(|token| key.digest(token)).collect();
        let submitted = |lock: &Lock| self.by_id(lock.id()).is_some_and(|at| tokens.contains(&self.locks[at].digest));
        let answers = rules::answers(&touched, write.targets, write.principal, write.proof, submitted);

        let lost = self.false_conditions(write, key, now);
        if lost.is_none() && answers.admit() {
            let answered = (!touched.is_empty()).then(|| touched.into_boxed_slice());
            return Verdict::Admitted(Admitted { permit: Permit::unguarded(self.generation), answered });
        }
        let refusing = touched.into_iter().zip(&answers.each).filter(|(_, answer)| **answer == Answer::Refused);
        let mut blockers: Vec<Lock> = refusing.map(|(lock, _)| lock).collect();
        let truncated = blockers.len() > write.blockers;
        blockers.truncate(write.blockers);
        let condition_failed = lost.is_some();
        Verdict::Refused(Box::new(Refused { blockers, truncated, condition_failed, lost: lost.unwrap_or_default() }))
    }

    /// What was lost, if `If` or `Lock-Token` is false.
    fn false_conditions(&self, write: &Write<'_>, key: &TokenKey, now: Timestamp) -> Option<Vec<LostLock>> {
        let live = |token: &LockToken| Some(self.locks[self.by_token(key.digest(token))?].seen(now));
        let mine =
            |token: &LockToken| live(token).filter(|lock| write.proof.holds(&HolderClaim::new(lock, true, write.principal)));
        let covers = |lock: Lock, key: &ResourceKey<'_>| rules::covers(lock.root(), lock.depth(), key);
        let held = write.conditions.holds(|token, key| live(token).is_some_and(|lock| covers(lock, key)));
        let (mut holds, mut failed) = (held.is_true(), held.failed().to_vec());
        match write.conditions.lock_token() {
            None => {}
            Some(StateToken::Lock(token)) => {
                let touches = |lock: Lock| write.targets.iter().any(|it| rules::touches(lock.root(), lock.depth(), it));
                if !mine(&token).is_some_and(touches) {
                    holds = false;
                    failed.retain(|other| *other != token);
                    failed.push(token);
                }
            }
            Some(_) => holds = false,
        }
        let why = |token: &LockToken| match mine(token) {
            Some(lock) => LostLock::out_of_scope(&lock),
            None => self.lost(key.digest(token), write.principal),
        };
        (!holds).then(|| failed.iter().map(why).collect())
    }

    /// Used tokens and ids, locks to be replaced, conflicts, quotas: in this order, and then the grant.
    fn acquire(&mut self, request: &Acquire<'_>, key: &TokenKey, now: Timestamp) -> Result<Acquired, Acquired> {
        let new: Vec<(&Arc<LockParts>, TokenDigest)> =
            request.locks.iter().map(|lock| (&lock.parts, key.digest(&lock.token))).collect();
        if let Some(answer) = self.used(&new, now) {
            return Err(answer);
        }
        let replaced = self.replaced(request, key, now)?;
        let stays = |lock: &&Held| !replaced.iter().any(|(id, _)| *id == lock.parts.id);

        let conflicts = |lock: &&Held| new.iter().any(|(parts, _)| rules::conflict(parts, &lock.parts));
        let mut blockers: Vec<Lock> = self.locks.iter().filter(stays).filter(conflicts).map(|lock| lock.seen(now)).collect();
        if !blockers.is_empty() {
            let truncated = blockers.len() > request.blockers;
            blockers.truncate(request.blockers);
            return Err(Acquired::Conflict(Conflict { blockers, truncated }));
        }

        let whose = new.first().and_then(|(parts, _)| parts.principal.as_ref());
        let theirs = |lock: &&Held| lock.parts.principal.as_ref() == whose;
        if self.locks.iter().filter(stays).filter(theirs).count() + new.len() > request.quota.principal {
            return Err(Acquired::OverQuota(QuotaExceeded::Principal));
        }
        if self.locks.iter().filter(stays).count() + new.len() > request.quota.store {
            return Err(Acquired::OverQuota(QuotaExceeded::Store));
        }

        for (id, lost) in replaced {
            if let Some(at) = self.by_id(id) {
                self.end(at, lost, now);
            }
        }
        Ok(Acquired::Granted(
            new.into_iter().map(|(parts, digest)| self.grant(parts, digest, request.lifetime, now)).collect(),
        ))
    }

    fn grant(&mut self, parts: &Arc<LockParts>, digest: TokenDigest, lifetime: Lifetime, now: Timestamp) -> Lock {
        self.generation += 1;
        let last_end = lifetime.total.map(|total| now.after(total));
        let lock = Held {
            parts: parts.clone(),
            digest,
            created_at: now,
            expires_at: earlier(lifetime.span.map(|span| now.after(span)), last_end),
            last_end,
            span: lifetime.span,
            most: lifetime.most,
            generation: self.generation,
            breaking: None,
        };
        let seen = lock.seen(now);
        self.locks.push(lock);
        self.news.push(LockEvent::Granted(seen.clone()));
        seen
    }

    /// What proposed tokens and ids that were seen before decide.
    fn used(&self, new: &[(&Arc<LockParts>, TokenDigest)], now: Timestamp) -> Option<Acquired> {
        let same = |(parts, digest): &(&Arc<LockParts>, TokenDigest)| {
            let lock = &self.locks[self.by_token(*digest)?];
            let old = &lock.parts;
            let equal = (&old.principal, &old.root, old.scope, old.depth)
                == (&parts.principal, &parts.root, parts.scope, parts.depth);
            equal.then(|| lock.seen(now))
        };
        let repeated: Vec<Lock> = new.iter().filter_map(same).collect();
        if repeated.len() == new.len() {
            return Some(Acquired::Repeated(repeated));
        }
        let mut lost = Vec::new();
        for (parts, digest) in new {
            let id_used = |grave: &Grave| grave.parts.as_ref().is_some_and(|dead| dead.id == parts.id);
            if self.graves.iter().any(|grave| grave.digest == *digest || id_used(grave)) {
                lost.push(self.lost(*digest, parts.principal.as_ref()));
            }
        }
        if !lost.is_empty() {
            return Some(Acquired::Lost(lost));
        }
        let taken = new.iter().any(|(parts, digest)| self.by_token(*digest).is_some() || self.by_id(parts.id).is_some());
        taken.then_some(Acquired::Taken)
    }

    /// The locks to be replaced, and how they will have ended.
    fn replaced(&self, request: &Acquire<'_>, key: &TokenKey, now: Timestamp) -> Result<Vec<(LockId, LostLock)>, Acquired> {
        let mut replaced = Vec::new();
        for replaces in request.replaces {
            let (at, lost) = match replaces {
                Replaces::Held(token) => {
                    let digest = key.digest(token);
                    // Nobody slips out of a break by replacing what is being broken.
                    let at = self.by_token(digest).filter(|at| self.locks[*at].breaking.is_none());
                    let Some(at) = at else {
                        return Err(Acquired::Lost(vec![self.lost(digest, request.principal)]));
                    };
                    let claim = self.locks[at].seen(now);
                    if !request.proof.answers(&HolderClaim::new(&claim, true, request.principal)) {
                        return Err(Acquired::NotHolder);
                    }
                    (Some(at), LostLock::new(LostCause::Replaced))
                }
                Replaces::Own { id } => {
                    let at = self.by_id(*id).filter(|at| self.locks[*at].breaking.is_none());
                    let theirs = |at: usize| {
                        let parts = &self.locks[at].parts;
                        parts.principal.as_ref() == request.principal && parts.kind != LockKind::Freeze
                    };
                    if at.is_some_and(|at| request.principal.is_none() || !theirs(at)) {
                        return Err(Acquired::NotHolder);
                    }
                    (at, LostLock::new(LostCause::Replaced))
                }
                Replaces::Broken { id, reason } => (self.by_id(*id), broken(request.principal, reason)),
                _ => (None, LostLock::new(LostCause::Unknown)),
            };
            let Some(at) = at else { return Err(Acquired::Lost(vec![LostLock::new(LostCause::Unknown)])) };
            replaced.push((self.locks[at].parts.id, lost));
        }
        Ok(replaced)
    }

    /// The lock that is meant, if whoever asks may touch it and it covers what it must; else why not, and nothing for one
    /// who does not hold it.
    fn asked(
        &self,
        which: Which<'_>,
        authority: &Authority<'_>,
        covering: Option<&ResourceKey<'_>>,
        key: &TokenKey,
        now: Timestamp,
    ) -> Result<usize, Option<LostLock>> {
        let principal = match *authority {
            Authority::Holder { principal, .. } => principal,
            Authority::Principal(principal) => Some(principal),
            _ => None,
        };
        let at = match which {
            Which::Token(token) => self.by_token(key.digest(token)).ok_or_else(|| self.lost(key.digest(token), principal)),
            Which::Id(id) => self.by_id(id).ok_or(LostLock::new(LostCause::Unknown)),
        }?;
        let lock = self.locks[at].seen(now);
        let may = match *authority {
            Authority::Holder { principal, proof } => {
                proof.answers(&HolderClaim::new(&lock, matches!(which, Which::Token(_)), principal))
            }
            Authority::Principal(principal) => lock.principal() == Some(principal) && *lock.kind() != LockKind::Freeze,
            Authority::Guard | Authority::Break { .. } => true,
            _ => false,
        };
        match covering {
            _ if !may => Err(None),
            Some(key) if !rules::covers(lock.root(), lock.depth(), key) => Err(Some(LostLock::out_of_scope(&lock))),
            _ => Ok(at),
        }
    }

    fn refresh(&mut self, at: usize, refresh: &Refresh<'_>, now: Timestamp) -> Refreshed {
        let lock = &mut self.locks[at];
        if let Some(breaking) = &lock.breaking {
            let mut lost = breaking.clone();
            (lost.id, lost.root, lost.at) = (Some(lock.parts.id), Some(lock.parts.root.clone()), lock.expires_at);
            return Refreshed::Lost(lost);
        }
        lock.span = Lifetime::refreshed(lock.most, lock.span, refresh.span);
        lock.expires_at = earlier(lock.span.map(|span| now.after(span)), lock.last_end);
        let capped = lock.last_end.is_some() && lock.expires_at == lock.last_end;
        let seen = lock.seen(now);
        self.news.push(LockEvent::Refreshed(seen.clone()));
        Refreshed::Refreshed(seen, if capped { FinalTerm::Yes } else { FinalTerm::No })
    }

    fn release(&mut self, at: usize, authority: &Authority<'_>, now: Timestamp) -> Released {
        let Authority::Break { actor, reason, grace } = *authority else {
            return Released::Released(self.end(at, LostLock::new(LostCause::Released), now));
        };
        if grace.is_zero() {
            return Released::Released(self.end(at, broken(actor, reason), now));
        }
        let lock = &mut self.locks[at];
        lock.last_end = earlier(lock.last_end, Some(now.after(grace)));
        lock.expires_at = earlier(lock.expires_at, lock.last_end);
        lock.breaking = Some(broken(actor, reason));
        let seen = lock.seen(now);
        let actor = actor.cloned();
        self.news.push(LockEvent::Breaking { lock: seen.clone(), actor, reason: Some(reason.into()) });
        Released::Breaking(seen)
    }

    fn end(&mut self, at: usize, mut lost: LostLock, now: Timestamp) -> Lock {
        let Held { parts, digest, .. } = &self.locks[at];
        (lost.id, lost.root, lost.at) = (Some(parts.id), Some(parts.root.clone()), Some(now));
        let grave = Grave { digest: *digest, parts: Some(parts.clone()), lost: lost.clone(), at: now };
        let seen = self.locks.remove(at).seen(now);
        self.remember(grave);
        let LostLock { cause, actor, reason, .. } = lost;
        self.news.push(LockEvent::Ended { lock: seen.clone(), cause, actor, reason });
        seen
    }

    /// A token that is released before its acquire came is used up.
    fn burn(&mut self, digest: TokenDigest, now: Timestamp) {
        let known = self.by_token(digest).is_some() || self.graves.iter().any(|grave| grave.digest == digest);
        if !known {
            self.remember(Grave { digest, parts: None, lost: LostLock::new(LostCause::Unknown), at: now });
        }
    }

    fn remember(&mut self, grave: Grave) {
        if self.graves.len() == GRAVES {
            self.graves.remove(0);
        }
        self.graves.push(grave);
    }

    /// What `principal` may hear of the lock that this token had.
    fn lost(&self, digest: TokenDigest, principal: Option<&Principal>) -> LostLock {
        let grave = self.graves.iter().find(|grave| grave.digest == digest);
        let own = |grave: &&Grave| grave.parts.as_ref().is_some_and(|parts| parts.principal.as_ref() == principal);
        grave.filter(own).map_or(LostLock::new(LostCause::Unknown), |grave| grave.lost.clone())
    }
}

fn broken(actor: Option<&Principal>, reason: &str) -> LostLock {
    let mut lost = LostLock::new(LostCause::Broken);
    (lost.actor, lost.reason) = (actor.cloned(), Some(reason.into()));
    lost
}

/// The earlier of two ends, of which either may never come.
fn earlier(one: Option<Timestamp>, other: Option<Timestamp>) -> Option<Timestamp> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:3000".into());
    let listener = tokio::net::TcpListener::bind(&address).await?;
    let store: Arc<dyn LockStore> = match std::env::args().nth(2) {
        Some(url) if url != "list:" => store_url::open(Some(url)).await?,
        _ => Arc::new(ListStore::new(Clock::system())),
    };
    // Whoever says a name has it: a real service authenticates.
    let locks = Locks::builder(store)
        .principal(|request| Some(Principal::new(request.headers.get("x-user")?.to_str().ok()?)))
        .endpoint_url("/locks")
        .build();
    let app = Router::new()
        .route("/docs/{id}", put(async || "saved\n").fallback(async || "not here\n"))
        .layer(LockLayer::new(locks.clone()))
        .nest_service("/locks", LockEndpoint::new(locks))
        .fallback(any(async || "nothing\n"));
    let host = format!("http://{}", listener.local_addr()?);
    println!("listening on {host}\n{}", STORY.replace("HOST", &host));
    Ok(axum::serve(listener, app).await?)
}

const STORY: &str = r#"
# ann locks a document and is shown the token
TOKEN=$(curl -si -H 'x-user: ann' -X PUT HOST/locks/docs/1 | tr -d '\r' | sed -n 's/^lock-token: *//p'); echo "$TOKEN"

# ben writes and is refused with 423
curl -siw '\n' -H 'x-user: ben' -X PUT HOST/docs/1 -d 'mine'

# ann writes under her lock
curl -siw '\n' -H 'x-user: ann' -X PUT HOST/docs/1 -H "If: ($TOKEN)" -d 'mine'

# ann is done
curl -siw '\n' -H 'x-user: ann' -X DELETE HOST/locks/docs/1 -H "Lock-Token: $TOKEN"

# and ben may write
curl -siw '\n' -H 'x-user: ben' -X PUT HOST/docs/1 -d 'mine'

# ctrl-c ends the server
"#;

#[cfg(all(test, feature = "conformance"))]
mod tests {
    use tower_lock::store::{
        ManualClock,
        conformance::{Fixture, Mode, SteppedBack},
    };

    use super::*;

    #[derive(Default)]
    struct Lists(ManualClock);

    impl Fixture for Lists {
        type Store = ListStore;

        async fn fresh(&self) -> ListStore {
            ListStore::new(self.0.clock())
        }

        async fn advance(&self, span: Duration) {
            self.0.advance(span);
        }

        async fn step_back(&self, span: Duration) -> SteppedBack {
            self.0.step_back(span);
            SteppedBack::Done
        }

        fn mode(&self) -> Mode {
            Mode::CheckOnly
        }
    }

    tower_lock::conformance_suite!(list_store, Lists::default());
}
