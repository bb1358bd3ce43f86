//! What one task of a hammer does: it writes, locks, replaces, breaks, clears, and changes its mind.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use tokio::task::yield_now;

use super::{
    super::{
        kit::{Ask, Held, Swap, Who, Wr, answer, create, delete, fresh, parts, put, release_as, rename, replace_below},
        rng::Rng,
    },
    Config, Mix,
    history::History,
};
use crate::{
    lock::{Depth, Gone, LockScope, LockState, Reach, Target},
    store::{Acquired, Admitted, LockStore, Refreshed, Span, Verdict},
};

/// Four levels of a binary tree, fifteen resources.
const TREE: [&str; 15] = [
    "/", "/a", "/b", "/a/a", "/a/b", "/b/a", "/b/b", "/a/a/a", "/a/a/b", "/a/b/a", "/a/b/b", "/b/a/a", "/b/a/b", "/b/b/a",
    "/b/b/b",
];

struct Worker<S> {
    store: Arc<S>,
    history: Arc<History>,
    rng: Rng,
    who: Who,
    mix: Mix,
    lifetime: Option<Duration>,
    grain: Duration,
    mine: Vec<Held>,
}

/// Takes the steps of one task, and gives back what it holds at the end.
pub(super) async fn work<S: LockStore>(
    store: Arc<S>,
    history: Arc<History>,
    config: Config,
    at: usize,
    lifetime: Option<Duration>,
    grain: Duration,
) {
    const NAMES: [Who; 4] = [Some("ann"), Some("bob"), Some("eve"), None];
    let rng = Rng::new(config.seed.wrapping_mul(1_000).wrapping_add(at as u64));
    let who = NAMES[at % NAMES.len()];
    let mut worker = Worker { store, history, rng, who, mix: config.mix, lifetime, grain, mine: Vec::new() };
    for _ in 0..config.steps {
        worker.step().await;
    }
    while !worker.mine.is_empty() {
        worker.release().await;
    }
}

impl<S: LockStore> Worker<S> {
    async fn step(&mut self) {
        match self.rng.below(100) {
            0..50 => self.write().await,
            50..75 => self.acquire().await,
            75..80 => self.give_up_acquiring().await,
            80..84 if self.mix != Mix::Crowded => self.break_something().await,
            84..88 => self.refresh().await,
            _ => self.release().await,
        }
        // Nobody keeps so much that the others only hear no.
        while self.mine.len() > 2 {
            self.release().await;
        }
        if self.rng.chance(30) {
            yield_now().await;
        }
    }

    fn path(&mut self) -> &'static str {
        match self.mix {
            Mix::Crowded => self.rng.pick(&TREE[3..5]),
            // Deep resources more often: a lock on the root stops everybody.
            _ => TREE[self.rng.below(15).max(self.rng.below(15))],
        }
    }

    fn targets(&mut self) -> Vec<Target<'static>> {
        let path = self.path();
        match self.rng.below(12) {
            0..4 => vec![put(path)],
            4..7 => vec![create(path)],
            7..9 => vec![delete(path)],
            9 => vec![replace_below(path)],
            10 => rename(path, self.path()).to_vec(),
            _ => vec![put(path), create(self.path())],
        }
    }

    async fn write(&mut self) {
        let mut write = Wr::of(self.who, self.targets());
        let submitted: Vec<Held> = if self.rng.chance(80) { self.mine.clone() } else { Vec::new() };
        write.tokens = submitted.iter().map(|held| held.token).collect();
        let before = self.history.before_write(&write.targets);
        let asked = if self.rng.chance(50) { write.start_by_let_through(&self.store) } else { write.start(&self.store) };
        if self.rng.chance(5) {
            // A client that hangs up: the registration ends with the future or with the permit in it.
            drop(asked);
            return;
        }
        let admitted = match answer(asked).await {
            Verdict::Admitted(admitted) => admitted,
            Verdict::Refused(refused) => {
                self.history.refused(&write.targets, &refused);
                return;
            }
        };
        let own = submitted.iter().map(|held| held.lock.parts().clone()).collect();
        let serial = self.history.enters(before, &write.targets, own, admitted.permit.generation());
        for _ in 0..self.rng.below(6) {
            yield_now().await;
        }
        if self.rng.chance(4) {
            self.acquire_within(&admitted, serial, &write.targets).await;
        }
        // Beside a write that a shared lock answers for, or that is not registered, locks may be granted which the history
        // has not heard of yet; such writes clear nothing here.
        let vouched = submitted.iter().any(|held| held.lock.scope() == LockScope::Shared);
        if !vouched && admitted.permit.id().is_some() && self.rng.chance(30) {
            self.clear(&write.targets, &admitted).await;
        }
        self.history.leaves(serial);
        drop(admitted);
    }

    /// What was deleted takes its locks along.
    async fn clear(&self, targets: &[Target<'static>], admitted: &Admitted) {
        let unlinked = targets.iter().filter(|target| target.effect == crate::lock::Effect::Unlink);
        let gone: Vec<Gone<'_>> = unlinked.map(|target| Gone { key: target.key.clone(), reach: Reach::AtOrBelow }).collect();
        if !gone.is_empty() {
            self.history.ends(|lock| gone.iter().any(|gone| gone.takes(lock.root())));
            answer(self.store.clear(&gone, admitted.permit.id())).await;
        }
    }

    fn ask(&mut self) -> Ask {
        let path = self.path();
        let scope = if self.mix != Mix::Crowded && self.rng.chance(50) { LockScope::Shared } else { LockScope::Exclusive };
        let depth = if self.rng.chance(40) { Depth::Zero } else { Depth::Infinity };
        let mut ask = Ask::new(self.who, path, scope, depth);
        if self.rng.chance(20) {
            let second = parts(self.who, self.path(), scope, depth);
            let first = &ask.locks[0].parts;
            if !crate::lock::rules::overlap((&first.root, first.depth), (&second.root, second.depth)) {
                ask.locks.push(fresh(second));
            }
        }
        ask.lifetime = crate::store::Lifetime { span: self.lifetime, most: None, total: None };
        let drains = [Duration::ZERO, self.grain / 50, self.grain / 5, self.grain * 100];
        ask.draining(self.rng.pick(&drains))
    }

    async fn acquire(&mut self) {
        let mut ask = self.ask();
        if !self.mine.is_empty() && self.rng.chance(35) {
            let at = self.rng.below(self.mine.len());
            let old = self.mine.swap_remove(at);
            self.history.ends(|lock| lock.id() == old.lock.id());
            // An upgrade or a downgrade as often as a move.
            if self.rng.chance(50) {
                let root = old.lock.root().clone();
                ask = ask.with(|parts| parts.root = root);
                ask.locks.truncate(1);
            }
            ask = ask.replacing(Swap::Own(old.token));
            let granted = self.take(&ask, None).await;
            if granted {
                self.history.count(|found| found.replaced += 1);
            } else {
                // It may live on, unknown to the history.
                let _ = release_as(&self.store, old.who, &old.token).await;
            }
            return;
        }
        self.take(&ask, None).await;
    }

    async fn acquire_within(&mut self, admitted: &Admitted, serial: u64, targets: &[Target<'static>]) {
        let path = targets[0].key.path().to_owned();
        let mut ask = Ask::exclusive(self.who, &path).within(&admitted.permit).draining(self.grain / 20);
        ask.lifetime = crate::store::Lifetime { span: self.lifetime, most: None, total: None };
        self.take(&ask, Some(serial)).await;
    }

    /// Asks for locks, and tells whether they were granted.
    async fn take(&mut self, ask: &Ask, within: Option<u64>) -> bool {
        let wanted: Vec<_> = ask.locks.iter().map(|lock| lock.parts.clone()).collect();
        let before = self.history.before_acquire(&wanted);
        match answer(ask.start(&self.store)).await {
            Acquired::Granted(locks) => {
                self.history.granted(before, &locks, within);
                self.mine.extend(ask.held(locks));
                return true;
            }
            Acquired::Conflict(conflict) => {
                let conflicts = |parts: &crate::lock::LockParts| {
                    conflict.blockers.iter().any(|lock| crate::lock::rules::conflict(parts, lock.parts()))
                };
                assert!(ask.locks.iter().any(|lock| conflicts(&lock.parts)), "a conflict names what conflicts");
                self.history.count(|found| found.conflicts += 1);
            }
            Acquired::Busy { .. } => self.history.count(|found| found.busy += 1),
            Acquired::Lost(_) if !ask.replaces.is_empty() => {}
            other => panic!("an acquire of fresh tokens is granted, in conflict or busy, not {other:?}"),
        }
        false
    }

    /// Starts to acquire, and drops the future after a few polls.
    async fn give_up_acquiring(&mut self) {
        let ask = self.ask();
        let mut coming = ask.start(&self.store);
        for _ in 0..self.rng.below(4) {
            let polled = poll_fn(|cx| Poll::Ready(Pin::new(&mut coming).poll(cx).is_ready())).await;
            if polled {
                break;
            }
            yield_now().await;
        }
        drop(coming);
        self.history.count(|found| found.dropped += 1);
        // It may have been granted in that moment: undo it by its tokens, as `Locks` does.
        for lock in &ask.locks {
            let _ = release_as(&self.store, self.who, &lock.token).await;
        }
    }

    async fn break_something(&mut self) {
        let at = self.rng.below(1_000);
        if let Some(id) = self.history.any_held(at) {
            self.history.ends(|lock| lock.id() == id);
            let authority = crate::store::Authority::Break { actor: None, reason: "race", grace: Duration::ZERO };
            let release = crate::store::Release::new(crate::store::Which::Id(id), authority);
            let _ = answer(self.store.release(&release)).await;
        }
    }

    async fn refresh(&mut self) {
        if let Some(held) = self.mine.last() {
            match held.refresh(&self.store, Span::Same).await {
                Refreshed::Refreshed(lock, _) => {
                    assert_eq!(lock.state(), LockState::Held, "what is refreshed is held");
                    self.history.refreshed(&lock);
                }
                Refreshed::Lost(_) => {
                    self.mine.pop();
                }
                Refreshed::NotHolder => panic!("a holder's own token and principal prove it"),
            }
        }
    }

    async fn release(&mut self) {
        if self.mine.is_empty() {
            return;
        }
        let at = self.rng.below(self.mine.len());
        let held = self.mine.swap_remove(at);
        self.history.ends(|lock| lock.id() == held.lock.id());
        let _ = held.release(&self.store).await;
    }
}
