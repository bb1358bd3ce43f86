//! `Line`: who wants which lock, in order of arrival.
//!
//! A turn stands at each of its roots, under one ticket. It is in front once no earlier turn at one of its roots conflicts
//! with it (same root, not both shared), and stays there until it leaves: nobody arrives before it. Of all turns the one
//! with the lowest ticket is in front at all its roots, so turns with several roots never wait for one another in a circle.
//!
//! Turns at different roots know nothing of one another, even where their locks would overlap: whoever waits for a
//! collection may be passed over by those who lock its members, until its time is up.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt, mem,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
};

use parking_lot::Mutex;

use crate::lock::{Depth, LockScope, ResourceKey, rules};

/// Wakers are neither woken nor dropped while this is locked: either may run code that leaves the line.
#[derive(Default)]
pub(crate) struct Line {
    /// Looked at by those who want no place: most of the time nobody stands here.
    standing: AtomicUsize,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    next: u64,
    turns: HashMap<u64, Standing>,
    spots: HashMap<ResourceKey<'static>, Spot>,
}

/// What somebody in line wants.
#[derive(Clone, Debug)]
pub(crate) struct Wants {
    /// The roots of the locks; they do not overlap each other.
    pub(crate) roots: Arc<[ResourceKey<'static>]>,
    /// The scope of all of them.
    pub(crate) scope: LockScope,
    /// The depth of all of them.
    pub(crate) depth: Depth,
    /// Whether others go first.
    pub(crate) order: Order,
}

/// Whether those who came before go first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// They do.
    InTurn,
    /// They do not: it holds what they may be waiting for, to exchange it.
    AtOnce,
}

struct Standing {
    wants: Wants,
    front: bool,
    poked: bool,
    waker: Option<Waker>,
    /// How often the store was asked, and which of the questions was answered last.
    asked: u64,
    answered: u64,
    /// Whom the next answer concerns, by their number.
    observers: BTreeMap<u64, Waker>,
}

/// Those who stand at one root, by ticket.
#[derive(Default)]
struct Spot {
    all: BTreeSet<u64>,
    exclusive: BTreeSet<u64>,
}

/// A place in line. Dropping it leaves, and whoever is in front then is woken.
#[must_use = "the place is given up when this is dropped"]
pub(crate) struct Turn {
    line: Arc<Line>,
    ticket: u64,
}

impl Line {
    /// Joins the line, behind everybody who is there.
    pub(crate) fn join(self: &Arc<Self>, wants: Wants) -> Turn {
        let mut inner = self.inner.lock();
        let ticket = inner.number();
        for root in wants.roots.iter() {
            inner.spots.entry(root.clone()).or_default().enter(ticket, wants.scope);
        }
        let front = wants.order == Order::AtOnce || inner.is_front(ticket, &wants);
        let standing =
            Standing { wants, front, poked: false, waker: None, asked: 0, answered: 0, observers: BTreeMap::new() };
        inner.turns.insert(ticket, standing);
        self.standing.store(inner.turns.len(), Ordering::Release);
        drop(inner);
        Turn { line: self.clone(), ticket }
    }

    /// The first of `roots` at which somebody waits for a lock that conflicts with one of `scope`.
    pub(crate) fn taken<'r>(&self, roots: &'r [ResourceKey<'static>], scope: LockScope) -> Option<&'r ResourceKey<'static>> {
        if self.is_empty() {
            return None;
        }
        let inner = self.inner.lock();
        roots.iter().find(|root| inner.spots.get(*root).is_some_and(|spot| spot.first_against(scope).is_some()))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.standing.load(Ordering::Acquire) == 0
    }

    /// A number that no turn and no observer has.
    pub(super) fn number(&self) -> u64 {
        self.inner.lock().number()
    }

    /// Looks whether every turn that is in front and whose lock would cover one of `targets` has asked the store and been
    /// answered, in a question later than those which `seen` knows of: for each such turn `seen` says which answer it
    /// must have. Those that `seen` does not know yet are made to ask. If one is to be waited for, `waker` is left with it
    /// as `observer`, and its ticket is told.
    pub(super) fn unanswered(
        &self,
        targets: &[ResourceKey<'static>],
        seen: &mut HashMap<u64, u64>,
        observer: u64,
        waker: &Waker,
    ) -> Option<u64> {
        let mut inner = self.inner.lock();
        let mut wakers = Vec::new();
        let mut first = None;
        for ticket in inner.in_front_over(targets) {
            let Some(turn) = inner.turns.get_mut(&ticket) else { continue };
            let due = *seen.entry(ticket).or_insert_with(|| {
                turn.poked = true;
                wakers.extend(turn.waker.take());
                turn.asked + 1
            });
            if first.is_none() && turn.answered < due {
                first = Some(ticket);
            }
        }
        let old = first.and_then(|ticket| inner.turns.get_mut(&ticket)?.observers.insert(observer, waker.clone()));
        drop(inner);
        drop(old);
        wakers.into_iter().for_each(Waker::wake);
        first
    }

    /// `observer` waits for that turn no longer.
    pub(super) fn forget(&self, ticket: u64, observer: u64) {
        let mut inner = self.inner.lock();
        let waker = inner.turns.get_mut(&ticket).and_then(|turn| turn.observers.remove(&observer));
        drop(inner);
        drop(waker);
    }

    fn leave(&self, ticket: u64) {
        let mut inner = self.inner.lock();
        let Some(gone) = inner.turns.remove(&ticket) else { return };
        let mut next = Vec::new();
        for root in gone.wants.roots.iter() {
            let Some(spot) = inner.spots.get_mut(root) else { continue };
            spot.leave(ticket, gone.wants.scope, &mut next);
            if spot.all.is_empty() {
                inner.spots.remove(root);
            }
        }
        let mut wakers: Vec<Waker> = Vec::new();
        for ticket in next {
            let is_new = inner.turns.get(&ticket).is_some_and(|turn| !turn.front && inner.is_front(ticket, &turn.wants));
            if let Some(turn) = inner.turns.get_mut(&ticket).filter(|_| is_new) {
                turn.front = true;
                wakers.extend(turn.waker.take());
            }
        }
        self.standing.store(inner.turns.len(), Ordering::Release);
        drop(inner);
        drop(gone.waker);
        wakers.into_iter().chain(gone.observers.into_values()).for_each(Waker::wake);
    }
}

impl Inner {
    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn is_front(&self, ticket: u64, wants: &Wants) -> bool {
        wants.roots.iter().all(|root| {
            let first = self.spots.get(root).and_then(|spot| spot.first_against(wants.scope));
            first.is_none_or(|first| first >= ticket)
        })
    }

    /// The turns in front whose locks would cover one of `targets`: those at the targets themselves and above.
    fn in_front_over(&self, targets: &[ResourceKey<'static>]) -> BTreeSet<u64> {
        let mut found = BTreeSet::new();
        for target in targets {
            let mut at = Some(target.borrowed());
            while let Some(key) = at {
                if let Some(spot) = self.spots.get(&key) {
                    let over = |ticket: &&u64| {
                        self.turns
                            .get(*ticket)
                            .is_some_and(|turn| turn.front && rules::covers(&key, turn.wants.depth, target))
                    };
                    found.extend(spot.all.iter().filter(over));
                }
                at = above(target, &key);
            }
        }
        found
    }
}

/// The collection that `key` is a member of; `target` is at or below it.
fn above<'t>(target: &'t ResourceKey<'_>, key: &ResourceKey<'_>) -> Option<ResourceKey<'t>> {
    let length = key.parent_path()?.len();
    let parent = ResourceKey::from_canonical(&target.path()[..length]);
    Some(match target.namespace() {
        Some(namespace) => parent.in_namespace(namespace),
        None => parent,
    })
}

impl Spot {
    fn enter(&mut self, ticket: u64, scope: LockScope) {
        self.all.insert(ticket);
        if scope == LockScope::Exclusive {
            self.exclusive.insert(ticket);
        }
    }

    /// The first here whose lock would conflict with one of `scope`.
    fn first_against(&self, scope: LockScope) -> Option<u64> {
        match scope {
            LockScope::Exclusive => self.all.first().copied(),
            LockScope::Shared => self.exclusive.first().copied(),
        }
    }

    /// Takes a ticket out; `next` gets those who may be in front now and were not before.
    fn leave(&mut self, ticket: u64, scope: LockScope, next: &mut Vec<u64>) {
        self.all.remove(&ticket);
        let was_exclusive = scope == LockScope::Exclusive && self.exclusive.remove(&ticket);
        let (first, exclusive) = (self.all.first().copied(), self.exclusive.first().copied());
        if exclusive.is_some() && first == exclusive {
            next.extend(first);
        } else if was_exclusive && exclusive.is_none_or(|exclusive| exclusive > ticket) {
            // The shared ones up to the next exclusive one. Where a shared one leaves, they were in front before.
            next.extend(self.all.range(ticket..exclusive.unwrap_or(u64::MAX)));
        }
    }
}

impl Turn {
    /// Ready once it is in front, and from then on.
    pub(super) fn poll_front(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.poll(cx, |turn| turn.front)
    }

    /// Ready when it is to ask the store although nothing was heard.
    pub(super) fn poll_poked(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.poll(cx, |turn| turn.poked)
    }

    fn poll(&self, cx: &mut Context<'_>, ready: impl FnOnce(&Standing) -> bool) -> Poll<()> {
        let mut inner = self.line.inner.lock();
        let Some(turn) = inner.turns.get_mut(&self.ticket) else { return Poll::Pending };
        if ready(turn) {
            return Poll::Ready(());
        }
        let old = turn.waker.replace(cx.waker().clone());
        drop(inner);
        drop(old);
        Poll::Pending
    }

    /// The store is being asked, from now on.
    pub(super) fn asking(&self) {
        if let Some(turn) = self.line.inner.lock().turns.get_mut(&self.ticket) {
            turn.poked = false;
            turn.asked += 1;
        }
    }

    /// It has answered.
    pub(super) fn answered(&self) {
        let observers = {
            let mut inner = self.line.inner.lock();
            let Some(turn) = inner.turns.get_mut(&self.ticket) else { return };
            turn.answered = turn.asked;
            mem::take(&mut turn.observers)
        };
        observers.into_values().for_each(Waker::wake);
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.line.leave(self.ticket);
    }
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Line({})", self.standing.load(Ordering::Relaxed))
    }
}

impl fmt::Debug for Turn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Turn({})", self.ticket)
    }
}

#[cfg(test)]
mod tests;
