//! The model that other stores are compared with keeps every rule itself.
#![cfg(feature = "conformance")]

use std::time::Duration;

use tower_lock::store::{
    ManualClock,
    conformance::{Fixture, Mode, ModelStore, SteppedBack},
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
