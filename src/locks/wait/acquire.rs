//! Acquires in line: who waits is served in order of arrival, and nobody passes those who wait.

use std::{sync::Arc, time::Duration};

use super::{
    super::{Caller, LockRequest, Locks, Refusal, RefusalCode, acquire::new_locks, stats::CountedWait},
    Patience,
};
use crate::{
    lock::{Lock, LockScope, ResourceKey},
    store::{
        Acquired, Lifetime, LockPage, LockQuery, NewLock, StoreError,
        waiting::{Again, Order, Settled, Waiter, Wants},
    },
};

/// The locks that were asked for in the end, and what the store answered.
type Asked = (Vec<NewLock>, Result<Acquired, StoreError>);

impl Locks {
    /// Acquires, waiting in line until what is in the way has gone. The last answer of the store, when the time is up.
    pub(in super::super) async fn acquire_in_line(
        &self,
        caller: &Caller,
        request: &LockRequest,
        keys: Vec<ResourceKey<'static>>,
        lifetime: Lifetime,
        drain: Duration,
        patience: Patience,
    ) -> Result<Asked, Refusal> {
        let keys: Arc<[ResourceKey<'static>]> = keys.into();
        let mut locks = new_locks(caller, request, keys.to_vec());
        // A repeat of what was granted before is to be told so, not to wait for itself.
        if proposes(request) && self.passed(caller, request, &keys).await?.is_some_and(|passed| passed.repeats) {
            let answer = self.ask(caller, request, &locks, lifetime, drain).await;
            if !matches!(answer, Ok(Acquired::Conflict(_) | Acquired::Busy { .. })) {
                return Ok((locks, answer));
            }
        }
        let place = self.room().seats.take(keys.clone());
        let _place = match place {
            Ok(place) => place,
            Err(full) if self.passes(request, &keys).is_some() => return Err(self.too_many(full)),
            Err(full) => {
                // What is free needs no waiting for.
                let answer = self.ask(caller, request, &locks, lifetime, drain).await;
                return match answer {
                    Ok(Acquired::Conflict(_) | Acquired::Busy { .. }) => Err(self.too_many(full)),
                    answer => Ok((locks, answer)),
                };
            }
        };
        // Whoever gives something up for it does not wait for those who may be waiting for just that.
        let order = if request.replaces.is_empty() { Order::InTurn } else { Order::AtOnce };
        let wants = Wants { roots: keys.clone(), scope: request.scope, depth: request.depth, order };
        let mut counted = self.passes(request, &keys).map(|_| CountedWait::new(self.clone()));
        let line = &self.room().line;
        let mut waiter = Waiter::join(line, wants, self.store().clone(), self.clock().clone(), patience.until);
        let mut last = None;
        let answer = loop {
            match (waiter.again().await, last) {
                (Again::Ask, _) => {}
                // What is told is to be of now: another lock may be in the way than was then, or none.
                (Again::TimeUp, Some(Ok(Acquired::Conflict(_)))) => {
                    break self.ask(caller, request, &locks, lifetime, Duration::ZERO).await;
                }
                (Again::TimeUp, Some(answer)) => break answer,
                (Again::TimeUp, None) if waiter.is_front() => {
                    break self.ask(caller, request, &locks, lifetime, Duration::ZERO).await;
                }
                (Again::TimeUp, None) => {
                    let passed = self.passed(caller, request, &keys).await?;
                    return Err(passed.map_or_else(|| self.others_wait(&keys[0]), |passed| passed.refusal));
                }
            }
            let drain = waiter.within(drain);
            let answer = self.ask(caller, request, &locks, lifetime, drain).await;
            if waiter.answered(&answer) == Settled::Yes {
                break answer;
            }
            counted.get_or_insert_with(|| CountedWait::new(self.clone()));
            if answer.is_err() {
                // Nobody knows what became of these: if they were granted they are being ended, and their tokens are used up.
                locks = new_locks(caller, request, keys.to_vec());
            }
            last = Some(answer);
        };
        if let (Some(counted), Ok(Acquired::Granted(_) | Acquired::Repeated(_))) = (&mut counted, &answer) {
            counted.served();
        }
        Ok((locks, answer))
    }

    /// Refuses an acquire that does not wait and would pass those who do.
    pub(in super::super) async fn keep_the_order(
        &self,
        caller: &Caller,
        request: &LockRequest,
        keys: &[ResourceKey<'static>],
    ) -> Result<(), Refusal> {
        match self.passed(caller, request, keys).await? {
            Some(passed) if !passed.repeats => Err(passed.refusal),
            _ => Ok(()),
        }
    }

    /// The first of `keys` at which this acquire would pass somebody.
    fn passes<'k>(&self, request: &LockRequest, keys: &'k [ResourceKey<'static>]) -> Option<&'k ResourceKey<'static>> {
        let key = self.room().line.taken(keys, request.scope)?;
        request.replaces.is_empty().then_some(key)
    }

    /// What is to be told to an acquire that would pass somebody.
    async fn passed(
        &self,
        caller: &Caller,
        request: &LockRequest,
        keys: &[ResourceKey<'static>],
    ) -> Result<Option<Passed>, Refusal> {
        let Some(key) = self.passes(request, keys) else { return Ok(None) };
        let query = LockQuery::covering(key.borrowed()).limit(self.limits().blockers_named);
        let LockPage { mut locks, next } = self.found(&query).await?;
        let same = |lock: &Lock| {
            lock.root() == key
                && (lock.scope(), lock.depth(), lock.principal()) == (request.scope, request.depth, caller.principal())
        };
        let repeats = proposes(request) && locks.iter().any(same);
        locks.retain(|lock| !(lock.scope() == LockScope::Shared && request.scope == LockScope::Shared));
        let refusal =
            if locks.is_empty() { self.others_wait(key) } else { self.locked(caller, Some(key), locks, next.is_some()) };
        Ok(Some(Passed { repeats, refusal }))
    }

    fn others_wait(&self, key: &ResourceKey<'_>) -> Refusal {
        let refusal = Refusal::new(RefusalCode::Locked, "Others are waiting for this lock.");
        self.signed(refusal.about(key).retry_in(1))
    }
}

/// Whether all tokens were proposed, as in a repeat they are.
fn proposes(request: &LockRequest) -> bool {
    request.roots.iter().all(|root| root.token.is_some())
}

/// An acquire that finds others in line before it.
struct Passed {
    /// Whether its locks may have been granted to an acquire with the same tokens before.
    repeats: bool,
    /// What it is told if it does not wait.
    refusal: Refusal,
}
