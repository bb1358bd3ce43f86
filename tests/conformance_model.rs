//! The model that other stores are compared with keeps every rule itself.
#![cfg(feature = "conformance")]

use std::time::Duration;

use tower_lock::store::{
    ManualClock,
    conformance::{Fixture, Mode, ModelStore, SteppedBack, races},
};

struct Model {
    hand: ManualClock,
    mode: Mode,
}

impl Model {
    fn new(mode: Mode) -> Self {
        Self { hand: ManualClock::new(), mode }
    }
}

impl Fixture for Model {
    type Store = ModelStore;

    async fn fresh(&self) -> ModelStore {
        ModelStore::in_mode(self.hand.clock(), self.mode)
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

tower_lock::conformance_suite!(guarded, Model::new(Mode::Guarded));
tower_lock::conformance_suite!(check_only, Model::new(Mode::CheckOnly));

/// The negative control: a store that registers no writes is found out by the very hammer that the others pass.
#[test]
fn a_check_only_store_fails_the_hammer() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build().unwrap();
    let found = runtime.block_on(races::hammer(&Model::new(Mode::CheckOnly), &races::Config::new(races::Mix::Crowded)));
    assert!(found.overtaken > 0, "nothing stops an acquire from overtaking a write (G3): {found:?}");
    assert_eq!((found.conflicting, found.generations), (0, 0), "G4 and G6 hold all the same: {found:?}");
}
