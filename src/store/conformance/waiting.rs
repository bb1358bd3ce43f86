//! Waiting in line on a store: order of arrival, and no lost wake-up, by the events of the store alone.
//!
//! What is proved here is the store's part as much as the line's: a watch by id that is synced before anything is missed,
//! and that tells of every end but an expiry. Locks live for a day and the waits are longer, so a lost wake-up hangs.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{sync::Barrier, task::JoinSet};

use super::{fixture::Fixture, kit::*};
use crate::store::{
    Acquired, Clock, LockQuery, LockStore, ManualClock,
    waiting::{Again, Line, Order, Settled, Waiter, Wants},
};

const LONG: Duration = Duration::from_secs(7 * 86_400);

/// One node: its line, its clock, and what happened in it, in order.
#[derive(Clone)]
struct Node {
    store: Arc<dyn LockStore>,
    line: Arc<Line>,
    clock: Clock,
    log: Arc<Mutex<Vec<usize>>>,
}

impl Node {
    async fn new<F: Fixture>(fixture: &F, clock: Clock) -> Self {
        Self { store: Arc::new(fixture.fresh().await), line: Arc::default(), clock, log: Arc::default() }
    }

    /// Joins the line for what `ask` wants.
    fn join(&self, ask: &Ask) -> Waiter {
        let parts = &ask.locks[0].parts;
        let roots = ask.locks.iter().map(|lock| lock.parts.root.clone()).collect();
        let wants = Wants { roots, scope: parts.scope, depth: parts.depth, order: Order::InTurn };
        Waiter::join(&self.line, wants, self.store.clone(), self.clock.clone(), self.clock.now().after(LONG))
    }

    /// Waits until it is granted.
    async fn served(&self, mut waiter: Waiter, ask: &Ask) -> Held {
        while waiter.again().await == Again::Ask {
            let answer = ask.start(&self.store).await;
            if waiter.answered(&answer) == Settled::Yes {
                match answer {
                    Ok(Acquired::Granted(locks) | Acquired::Repeated(locks)) => return ask.held(locks).remove(0),
                    other => panic!("an acquire in line is granted in the end: {other:?}"),
                }
            }
        }
        panic!("the time is not up");
    }

    fn note(&self, number: usize) {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).push(number);
    }

    fn noted(&self) -> Vec<usize> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn all(mut tasks: JoinSet<()>) {
    while let Some(done) = tasks.join_next().await {
        done.expect("whoever waits is served");
    }
}

/// Whoever came first is granted first, one after the other, whatever the threads do.
pub async fn acquires_are_granted_in_order_of_arrival<F: Fixture>(fixture: &F) {
    let node = Node::new(fixture, Clock::system()).await;
    let held = Ask::exclusive(ANN, "/a").one(&node.store).await;
    let mut tasks = JoinSet::new();
    for number in 0..30 {
        let (node, ask) = (node.clone(), Ask::exclusive(BOB, "/a"));
        let waiter = node.join(&ask);
        tasks.spawn(async move {
            let held = node.served(waiter, &ask).await;
            node.note(number);
            for _ in 0..number % 3 {
                tokio::task::yield_now().await;
            }
            held.end(&node.store).await;
        });
    }
    held.end(&node.store).await;
    all(tasks).await;
    assert_eq!(node.noted(), (0..30).collect::<Vec<_>>(), "acquires of one resource are served in order of arrival");
}

/// Shared acquires that stand side by side are granted together; none passes an exclusive one that came before it.
pub async fn shared_acquires_go_together_and_pass_nobody<F: Fixture>(fixture: &F) {
    let node = Node::new(fixture, Clock::system()).await;
    let held = Ask::exclusive(ANN, "/a").one(&node.store).await;
    let side_by_side = Arc::new(Barrier::new(3));
    let mut tasks = JoinSet::new();
    for number in 0..9 {
        let ask = if number == 4 { Ask::exclusive(BOB, "/a") } else { Ask::shared(BOB, "/a") };
        let (node, side_by_side) = (node.clone(), side_by_side.clone());
        let waiter = node.join(&ask);
        tasks.spawn(async move {
            let held = node.served(waiter, &ask).await;
            node.note(number);
            if number < 3 {
                // Would hang if one of them were only granted after another's end.
                side_by_side.wait().await;
            }
            held.end(&node.store).await;
        });
    }
    held.end(&node.store).await;
    all(tasks).await;
    let noted = node.noted();
    let at = |number: usize| noted.iter().position(|noted| *noted == number).expect("everybody is served");
    assert!((0..4).all(|before| at(before) < at(4)), "the exclusive one waits for those before it: {noted:?}");
    assert!((5..9).all(|after| at(4) < at(after)), "and is passed by nobody: {noted:?}");
}

/// Several roots at once, in every order: nobody waits for one another in a circle.
pub async fn several_roots_never_wait_in_a_circle<F: Fixture>(fixture: &F) {
    let node = Node::new(fixture, Clock::system()).await;
    let mut tasks = JoinSet::new();
    for number in 0..24 {
        let paths: &[&str] = match number % 6 {
            0 => &["/a", "/b"],
            1 => &["/b", "/c"],
            2 => &["/c", "/a"],
            3 => &["/c", "/b", "/a"],
            4 => &["/a"],
            _ => &["/b", "/a"],
        };
        let (node, ask) = (node.clone(), Ask::several(BOB, paths));
        tasks.spawn(async move {
            let waiter = node.join(&ask);
            let held = node.served(waiter, &ask).await;
            node.note(number);
            // The first lock tells; the others end with it.
            for lock in &ask.locks {
                let _ended = release_as(&node.store, BOB, &lock.token).await;
            }
            assert_eq!(held.lock.id(), ask.id());
        });
    }
    all(tasks).await;
    assert_eq!(node.noted().len(), 24, "everybody is served");
}

/// A lock that ends at any moment around the refusal and the wait that follows it is not missed.
pub async fn no_end_is_missed_between_a_refusal_and_the_wait<F: Fixture>(fixture: &F) {
    let node = Node::new(fixture, Clock::system()).await;
    for round in 0..150 {
        let held = Ask::exclusive(ANN, "/a").one(&node.store).await;
        let waiting = tokio::spawn({
            let (node, ask) = (node.clone(), Ask::exclusive(BOB, "/a"));
            async move {
                let waiter = node.join(&ask);
                node.served(waiter, &ask).await.end(&node.store).await;
            }
        });
        for _ in 0..round % 13 {
            tokio::task::yield_now().await;
        }
        if round % 3 == 0 {
            let _ended = held.broken(&node.store, EVE, Duration::ZERO).await;
        } else {
            held.end(&node.store).await;
        }
        waiting.await.expect("whoever waits is served");
    }
}

/// A lock that takes the place of the one waited for is waited for in turn.
pub async fn the_successor_of_a_replaced_lock_is_waited_for<F: Fixture>(fixture: &F) {
    let node = Node::new(fixture, Clock::system()).await;
    let mut held = Ask::exclusive(ANN, "/a").one(&node.store).await;
    let ask = Ask::exclusive(BOB, "/a");
    let waiter = node.join(&ask);
    let waiting = tokio::spawn({
        let node = node.clone();
        async move { node.served(waiter, &ask).await }
    });
    for round in 0..10 {
        held = Ask::exclusive(ANN, "/a").replacing(Swap::Own(held.token)).one(&node.store).await;
        for _ in 0..round {
            tokio::task::yield_now().await;
        }
        assert!(!waiting.is_finished(), "nobody is granted what another holds");
    }
    held.end(&node.store).await;
    let served = waiting.await.expect("whoever waits is served");
    assert_eq!(find(&node.store, LockQuery::covering(key("/a"))).await.len(), 1);
    served.end(&node.store).await;
}

/// The end of a lifetime, which the store need not tell, is timed by whoever waits, and so is that of a grace period.
pub async fn an_expiry_is_waited_for<F: Fixture>(fixture: &F) {
    let (hand, grain) = (ManualClock::new(), fixture.grain());
    let node = Node::new(fixture, hand.clock()).await;
    for grace in [None, Some(grain * 20)] {
        let held = Ask::exclusive(ANN, "/a").living(grain * 40).one(&node.store).await;
        let ask = Ask::exclusive(BOB, "/a");
        let waiter = node.join(&ask);
        let waiting = tokio::spawn({
            let node = node.clone();
            async move { node.served(waiter, &ask).await }
        });
        // Until it has been refused, and knows what to wait for.
        tokio::time::sleep(Duration::from_millis(100)).await;
        let left = match grace {
            None => grain * 40,
            Some(grace) => {
                let _breaking = held.broken(&node.store, EVE, grace).await;
                tokio::time::sleep(Duration::from_millis(100)).await;
                grace
            }
        };
        assert!(!waiting.is_finished(), "nobody is granted what another holds");
        fixture.advance(left + grain).await;
        // In steps: on a real clock, what it waits for is a little later than what was read.
        while !waiting.is_finished() {
            hand.advance(left + grain);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        waiting.await.expect("whoever waits is served").end(&node.store).await;
    }
}
