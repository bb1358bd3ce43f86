//! The memory store with a file keeps every rule: plain, as `Arc<dyn LockStore>`, and check-only.
#![cfg(all(feature = "conformance", feature = "redb"))]

use std::{
    marker::PhantomData,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tempfile::TempDir;
use tower_lock::{
    LockStore, MemoryStore,
    store::{
        ManualClock,
        conformance::{self, Fixture, Mode, Needs, SteppedBack, races},
    },
};

/// Stores with files of their own, on a clock that is moved by hand, in the shape of `S`.
struct Files<S> {
    hand: ManualClock,
    mode: Mode,
    folder: TempDir,
    next: AtomicUsize,
    shape: PhantomData<fn() -> S>,
}

/// A folder on a file system in memory, where a sync costs nothing; the usual one where there is none.
fn quick() -> TempDir {
    let memory = Path::new("/dev/shm");
    tempfile::Builder::new().tempdir_in(memory).or_else(|_| tempfile::tempdir()).unwrap()
}

impl<S> Files<S> {
    fn new(mode: Mode) -> Self {
        Self::within(quick(), mode)
    }

    fn within(folder: TempDir, mode: Mode) -> Self {
        Self { hand: ManualClock::new(), mode, folder, next: AtomicUsize::new(0), shape: PhantomData }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join(self.next.fetch_add(1, Ordering::Relaxed).to_string())
    }
}

/// What a store is made into.
trait Shape: LockStore {
    fn of(store: MemoryStore) -> Self;
}

impl Shape for MemoryStore {
    fn of(store: MemoryStore) -> Self {
        store
    }
}

impl Shape for Arc<dyn LockStore> {
    fn of(store: MemoryStore) -> Self {
        Arc::new(store)
    }
}

impl<S: Shape> Fixture for Files<S> {
    type Store = S;

    async fn fresh(&self) -> S {
        let builder = MemoryStore::builder().clock(self.hand.clock());
        let builder = match self.mode {
            Mode::Guarded => builder,
            Mode::CheckOnly => builder.check_only(),
        };
        S::of(builder.open(self.path()).unwrap())
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

// On whatever the machine's temporary files are on: with real syncs.
tower_lock::conformance_suite!(plain, Files::<MemoryStore>::within(tempfile::tempdir().unwrap(), Mode::Guarded));
tower_lock::conformance_suite!(behind_dyn, Files::<Arc<dyn LockStore>>::new(Mode::Guarded));
tower_lock::conformance_suite!(check_only, Files::<MemoryStore>::new(Mode::CheckOnly));

/// The negative control: without registered writes, the hammer that the store passes finds acquires that overtake.
#[test]
fn a_check_only_store_fails_the_hammer() {
    conformance::run(&Files::<MemoryStore>::new(Mode::CheckOnly), Needs::Any, async |fixture| {
        let found = races::hammer(fixture, &races::Config::new(races::Mix::Crowded)).await;
        assert!(found.overtaken > 0, "nothing stops an acquire from overtaking a write (G3): {found:?}");
        assert_eq!((found.conflicting, found.generations), (0, 0), "G4 and G6 hold all the same: {found:?}");
    });
}
