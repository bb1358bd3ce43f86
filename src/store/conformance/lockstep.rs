//! Random operations on the store and on the model, step by step: the same outcomes, and the invariants after each.
//!
//! Both are asked the very same: the same locks, ids and tokens, the same clock. Compared are outcomes, the locks named
//! in them, causes of loss, what is pending, and everything that `find` shows; generations only by their order, which is
//! a store's own; and what a watcher of everything is told stands to reason. A floor on how often each operation and each outcome came up keeps the test from proving nothing.

mod heard;
mod late;
mod pair;
mod tally;
mod words;

use super::{
    fixture::{Fixture, SteppedBack},
    kit::soak,
};

/// Seeds and steps of one run.
const RUNS: [(u64, usize); 2] = [(0x5EED, 10_000), (0xD1CE, 10_000)];

/// The store answers as the model does, whatever is asked in whatever order.
pub async fn the_store_keeps_step_with_the_model<F: Fixture>(fixture: &F) {
    // The model's clock is moved by hand, beside the store's. A store whose time passes by itself, or which hears late of
    // the end of a write, is ahead of it; the other cases have to do for that one.
    let exact = fixture.step_back(std::time::Duration::ZERO).await == SteppedBack::Done && fixture.write_lease().is_zero();
    if !exact {
        return;
    }
    let mut tally = tally::Tally::default();
    for (seed, steps) in (0..soak()).flat_map(|more| RUNS.map(|(seed, steps)| (seed + more, steps))) {
        let mut pair = pair::Pair::new(fixture, seed).await;
        for step in 0..steps {
            pair.step(&mut tally, step).await;
        }
        pair.finish().await;
    }
    tally.expect_floor(20);
}
