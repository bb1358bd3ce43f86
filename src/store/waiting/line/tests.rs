//! The order of turns, without a store: against a naive model, and with counted wake-ups.

use std::{
    sync::atomic::{AtomicUsize, Ordering as Atomic},
    task::Wake,
};

use proptest::prelude::*;

use super::*;
use crate::store::waiting::Deference;

#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Atomic::SeqCst);
    }
}

impl Wakes {
    fn count(&self) -> usize {
        self.0.load(Atomic::SeqCst)
    }

    fn poll<T>(self: &Arc<Self>, poll: impl FnOnce(&mut Context<'_>) -> Poll<T>) -> Poll<T> {
        poll(&mut Context::from_waker(&Waker::from(self.clone())))
    }
}

fn keys(paths: &[&str]) -> Arc<[ResourceKey<'static>]> {
    paths.iter().map(|path| ResourceKey::from_canonical((*path).to_owned())).collect()
}

fn wants(paths: &[&str], scope: LockScope) -> Wants {
    Wants { roots: keys(paths), scope, depth: Depth::Infinity, order: super::Order::InTurn }
}

fn exclusive(line: &Arc<Line>, path: &str) -> Turn {
    line.join(wants(&[path], LockScope::Exclusive))
}

/// Whether a turn may ask, as its task sees it.
fn front(turn: &Turn, wakes: &Arc<Wakes>) -> bool {
    wakes.poll(|cx| turn.poll_front(cx)).is_ready()
}

impl Line {
    /// How much is remembered; nothing once all have left.
    fn size(&self) -> (usize, usize, usize) {
        let inner = self.inner.lock();
        (self.standing.load(Ordering::SeqCst), inner.turns.len(), inner.spots.len())
    }
}

#[test]
fn whoever_leaves_wakes_the_next_and_nobody_else() {
    let line = Arc::new(Line::default());
    let turns: Vec<Turn> = (0..5).map(|_| exclusive(&line, "/a")).collect();
    let wakes: Vec<Arc<Wakes>> = turns.iter().map(|_| Arc::default()).collect();
    let woken = || wakes.iter().map(|wakes| wakes.count()).collect::<Vec<_>>();
    let fronts: Vec<bool> = turns.iter().zip(&wakes).map(|(turn, wakes)| front(turn, wakes)).collect();
    assert_eq!(fronts, [true, false, false, false, false]);
    let mut turns: Vec<Option<Turn>> = turns.into_iter().map(Some).collect();
    turns[2] = None;
    assert_eq!(woken(), [0; 5], "whoever leaves from the middle concerns nobody");
    turns[0] = None;
    assert_eq!(woken(), [0, 1, 0, 0, 0]);
    turns[1] = None;
    assert_eq!(woken(), [0, 1, 0, 1, 0]);
    turns.clear();
    assert_eq!(line.size(), (0, 0, 0));
}

#[test]
fn shared_turns_are_in_front_together() {
    let line = Arc::new(Line::default());
    let wakes: Arc<Wakes> = Arc::default();
    let join = |scope| line.join(wants(&["/a"], scope));
    let first = exclusive(&line, "/a");
    let shared: Vec<Turn> = (0..3).map(|_| join(LockScope::Shared)).collect();
    let last = exclusive(&line, "/a");
    let late = join(LockScope::Shared);
    assert!(shared.iter().all(|turn| !front(turn, &wakes)));
    drop(first);
    assert_eq!(wakes.count(), 3, "all three at once");
    assert!(shared.iter().all(|turn| front(turn, &wakes)) && !front(&last, &wakes) && !front(&late, &wakes));
    drop(shared);
    assert!(front(&last, &wakes) && !front(&late, &wakes), "a shared one does not pass an exclusive one");
    drop(last);
    assert!(front(&late, &wakes));
}

#[test]
fn an_exchange_waits_for_nobody_and_is_passed_by_nobody() {
    let line = Arc::new(Line::default());
    let wakes: Arc<Wakes> = Arc::default();
    let first = exclusive(&line, "/a");
    let exchange = line.join(Wants { order: super::Order::AtOnce, ..wants(&["/a"], LockScope::Exclusive) });
    let late = exclusive(&line, "/a");
    assert!(front(&exchange, &wakes) && front(&first, &wakes) && !front(&late, &wakes));
    drop(first);
    assert!(!front(&late, &wakes));
    drop(exchange);
    assert!(front(&late, &wakes));
}

#[test]
fn newcomers_are_told_whom_they_would_pass() {
    let line = Arc::new(Line::default());
    let roots = keys(&["/x", "/a", "/b"]);
    assert_eq!(line.taken(&roots, LockScope::Exclusive), None);
    let shared = line.join(wants(&["/a"], LockScope::Shared));
    assert_eq!(line.taken(&roots, LockScope::Exclusive).map(ResourceKey::path), Some("/a"));
    assert_eq!(line.taken(&roots, LockScope::Shared), None, "shared ones pass each other");
    let exclusive = exclusive(&line, "/b");
    assert_eq!(line.taken(&roots, LockScope::Shared).map(ResourceKey::path), Some("/b"));
    assert_eq!(line.taken(&keys(&["/b/c", "/"]), LockScope::Exclusive), None, "other roots are not looked at");
    let elsewhere: Vec<ResourceKey<'static>> = roots.iter().map(|key| key.clone().in_namespace("other")).collect();
    assert_eq!(line.taken(&elsewhere, LockScope::Exclusive), None);
    drop((shared, exclusive));
    assert_eq!(line.taken(&roots, LockScope::Exclusive), None);
}

/// Somebody in the line, and what the model knows of them.
struct Present {
    turn: Turn,
    roots: Vec<usize>,
    scope: LockScope,
    wakes: Arc<Wakes>,
    /// How often they are to be woken when they come to the front.
    due: usize,
}

/// What a step of the model does: somebody joins at some roots, or the one at this place of those present leaves.
#[derive(Clone, Debug)]
enum Step {
    Join(Vec<usize>, LockScope),
    Leave(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let roots = prop::collection::hash_set(0..4usize, 1..4).prop_map(|roots| roots.into_iter().collect::<Vec<_>>());
    let scope = prop_oneof![Just(LockScope::Exclusive), Just(LockScope::Shared)];
    let step = prop_oneof![
        3 => (roots, scope).prop_map(|(roots, scope)| Step::Join(roots, scope)),
        2 => (0..16usize).prop_map(Step::Leave),
    ];
    prop::collection::vec(step, 1..60)
}

proptest! {
    /// Whoever is in front by the rule is in front, nobody else is, everybody who comes to the front is woken exactly once,
    /// and somebody is always in front.
    #[test]
    fn the_line_keeps_step_with_a_naive_one(steps in steps()) {
        let names = ["/a", "/b", "/c", "/d"];
        let line = Arc::new(Line::default());
        let mut present: Vec<Present> = Vec::new();
        for step in steps {
            match step {
                Step::Join(roots, scope) => {
                    let paths: Vec<&str> = roots.iter().map(|root| names[*root]).collect();
                    let turn = line.join(wants(&paths, scope));
                    let wakes: Arc<Wakes> = Arc::default();
                    let due = usize::from(!front(&turn, &wakes));
                    present.push(Present { turn, roots, scope, wakes, due });
                }
                Step::Leave(at) if !present.is_empty() => {
                    let gone = present.remove(at % present.len());
                    prop_assert!(gone.wakes.count() <= gone.due);
                }
                Step::Leave(_) => {}
            }
            for at in 0..present.len() {
                let Present { turn, roots, scope, wakes, due } = &present[at];
                let free = present[..at].iter().all(|other| {
                    (*scope, other.scope) == (LockScope::Shared, LockScope::Shared)
                        || other.roots.iter().all(|root| !roots.contains(root))
                });
                // Asked without a waker of its own: only those who waited are owed a wake-up.
                let is_front = turn.poll_front(&mut Context::from_waker(Waker::noop())).is_ready();
                prop_assert_eq!(is_front, free);
                prop_assert!(wakes.count() <= 1);
                if is_front {
                    prop_assert_eq!(wakes.count(), *due, "woken when it came to the front");
                } else {
                    prop_assert!(!front(turn, wakes));
                }
            }
            prop_assert!(present.is_empty() || present.iter().any(|present| front(&present.turn, &Arc::default())));
        }
        present.clear();
        prop_assert_eq!(line.size(), (0, 0, 0));
    }
}

fn write(line: &Arc<Line>, path: &str) -> (Deference, Arc<Wakes>) {
    (Deference::new(line.clone(), keys(&[path])), Arc::default())
}

#[test]
fn a_write_waits_until_those_in_front_have_asked_after_it() {
    let line = Arc::new(Line::default());
    let (turn, behind) = (exclusive(&line, "/a"), exclusive(&line, "/a"));
    let (asker, other): (Arc<Wakes>, Arc<Wakes>) = Default::default();
    assert!(front(&turn, &asker) && !front(&behind, &other));
    turn.asking();
    assert!(asker.poll(|cx| turn.poll_poked(cx)).is_pending());
    let (mut write, writer) = write(&line, "/a/b");
    assert!(writer.poll(|cx| write.poll(cx)).is_pending());
    assert_eq!((asker.count(), other.count()), (1, 0), "the one in front is made to ask, and nobody else");
    turn.answered();
    assert_eq!(writer.count(), 1);
    assert!(writer.poll(|cx| write.poll(cx)).is_pending(), "that answer may be from before the lock ended");
    assert!(asker.poll(|cx| turn.poll_poked(cx)).is_ready());
    turn.asking();
    assert!(asker.poll(|cx| turn.poll_poked(cx)).is_pending(), "asked once, not for ever");
    turn.answered();
    assert_eq!(writer.count(), 2);
    assert!(writer.poll(|cx| write.poll(cx)).is_ready(), "it stays, but has had its turn");
    write.begin();
    assert!(writer.poll(|cx| write.poll(cx)).is_pending(), "the next lock that ends is another matter");
    drop(turn);
    assert_eq!((writer.count(), other.count()), (3, 1));
    assert!(writer.poll(|cx| write.poll(cx)).is_pending(), "whoever came to the front goes before it too");
    behind.asking();
    behind.answered();
    assert!(writer.poll(|cx| write.poll(cx)).is_ready());
}

#[test]
fn a_write_lets_only_those_go_first_whose_lock_would_cover_it() {
    let line = Arc::new(Line::default());
    let shallow = Wants { depth: Depth::Zero, ..wants(&["/a"], LockScope::Shared) };
    let others = [exclusive(&line, "/a/b/c"), exclusive(&line, "/ab"), line.join(shallow)];
    let (mut write, writer) = write(&line, "/a/b");
    assert!(writer.poll(|cx| write.poll(cx)).is_ready());
    let root = exclusive(&line, "/");
    assert!(writer.poll(|cx| write.poll(cx)).is_pending(), "a lock on the root would cover it");
    drop(root);
    assert!(writer.poll(|cx| write.poll(cx)).is_ready());
    let elsewhere: Arc<[ResourceKey<'static>]> = keys(&["/a/b/c"]).iter().map(|key| key.clone().in_namespace("n")).collect();
    let mut write = Deference::new(line.clone(), elsewhere);
    assert!(writer.poll(|cx| write.poll(cx)).is_ready(), "another namespace is another tree");
    drop(others);
}

#[test]
fn a_write_that_leaves_is_forgotten() {
    let line = Arc::new(Line::default());
    let turn = exclusive(&line, "/a");
    let (mut leaves, writer) = write(&line, "/a");
    assert!(writer.poll(|cx| leaves.poll(cx)).is_pending());
    assert_eq!(Arc::strong_count(&writer), 2, "its waker is in the line");
    drop(leaves);
    assert_eq!(Arc::strong_count(&writer), 1);
    drop(turn);
    assert_eq!(writer.count(), 0);
}

/// A waker that owns the only handle to another turn: dropping or waking it leaves the line.
struct Owner(parking_lot::Mutex<Option<Turn>>);

impl Wake for Owner {
    fn wake(self: Arc<Self>) {
        self.0.lock().take();
    }
}

#[test]
fn a_waker_may_leave_the_line_itself() {
    let line = Arc::new(Line::default());
    let owner = |path: &str| Waker::from(Arc::new(Owner(parking_lot::Mutex::new(Some(exclusive(&line, path))))));
    let first = exclusive(&line, "/a");
    let second = exclusive(&line, "/a");
    // Replaced by another waker, woken, and dropped with its turn: each would hang if the line were locked meanwhile.
    assert!(second.poll_front(&mut Context::from_waker(&owner("/x"))).is_pending());
    assert!(second.poll_front(&mut Context::from_waker(&owner("/y"))).is_pending());
    let mut write = Deference::new(line.clone(), keys(&["/a"]));
    assert!(write.poll(&mut Context::from_waker(&owner("/z"))).is_pending());
    assert!(write.poll(&mut Context::from_waker(&owner("/z"))).is_pending());
    drop(first);
    assert!(second.poll_poked(&mut Context::from_waker(&owner("/w"))).is_pending());
    drop((second, write));
    assert_eq!(line.size(), (0, 0, 0));
}
