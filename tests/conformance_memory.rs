//! The memory store keeps every rule: plain, in an `Arc`, and as `Arc<dyn LockStore>`.
#![cfg(feature = "conformance")]

use std::{marker::PhantomData, sync::Arc, time::Duration};

use tower_lock::{
    LockStore, MemoryStore,
    store::{
        ManualClock,
        conformance::{self, Fixture, Mode, Needs, SteppedBack, races},
    },
};

/// Memory stores on a clock that is moved by hand, in the shape of `S`.
struct Memory<S> {
    hand: ManualClock,
    mode: Mode,
    shape: PhantomData<fn() -> S>,
}

impl<S> Memory<S> {
    fn new(mode: Mode) -> Self {
        Self { hand: ManualClock::new(), mode, shape: PhantomData }
    }
}

/// What a memory store is made into.
trait Shape: LockStore {
    fn of(store: MemoryStore) -> Self;
}

impl Shape for MemoryStore {
    fn of(store: MemoryStore) -> Self {
        store
    }
}

impl Shape for Arc<MemoryStore> {
    fn of(store: MemoryStore) -> Self {
        Self::new(store)
    }
}

impl Shape for Arc<dyn LockStore> {
    fn of(store: MemoryStore) -> Self {
        Arc::new(store)
    }
}

impl<S: Shape> Fixture for Memory<S> {
    type Store = S;

    async fn fresh(&self) -> S {
        let builder = MemoryStore::builder().clock(self.hand.clock());
        S::of(match self.mode {
            Mode::Guarded => builder.build(),
            Mode::CheckOnly => builder.check_only().build(),
        })
    }

    async fn advance(&self, span: Duration) {
        self.hand.advance(span);
    }

    async fn step_back(&self, span: Duration) -> SteppedBack {
        self.hand.step_back(span);
        SteppedBack::Done
    }

    fn mode(&self) -> Mode {
        self.mode
    }
}

tower_lock::conformance_suite!(plain, Memory::<MemoryStore>::new(Mode::Guarded));
tower_lock::conformance_suite!(in_an_arc, Memory::<Arc<MemoryStore>>::new(Mode::Guarded));
tower_lock::conformance_suite!(behind_dyn, Memory::<Arc<dyn LockStore>>::new(Mode::Guarded));
tower_lock::conformance_suite!(check_only, Memory::<MemoryStore>::new(Mode::CheckOnly));

/// The negative control: without registered writes, the hammer that the store passes finds acquires that overtake.
#[test]
fn a_check_only_store_fails_the_hammer() {
    conformance::run(&Memory::<MemoryStore>::new(Mode::CheckOnly), Needs::Any, async |fixture| {
        let found = races::hammer(fixture, &races::Config::new(races::Mix::Crowded)).await;
        assert!(found.overtaken > 0, "nothing stops an acquire from overtaking a write (G3): {found:?}");
        assert_eq!((found.conflicting, found.generations), (0, 0), "G4 and G6 hold all the same: {found:?}");
    });
}
