//! Every interleaving: writers and acquirers hammer a small tree, and a history tells whether a rule was broken.
//!
//! The history is exact in one direction: a write counts as running from after `admit` answered until just before its
//! permit is dropped, a lock as held from after `acquire` answered until just before its end is asked for or its expiry
//! is reached. What overlaps in the history overlapped in the store. [`hammer`] gives the counts, so it serves as a
//! negative control too: a store that does not register its writes is found out.

mod history;
mod workers;

use std::{sync::Arc, time::Duration};

use self::history::History;
pub use self::history::Violations;
use super::{
    fixture::Fixture,
    kit::{Ask, EVE, Wr, find, key, put, soak},
};
use crate::store::LockQuery;

/// How hard to hammer.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// What the random choices start from.
    pub seed: u64,
    /// How many tasks there are.
    pub workers: usize,
    /// How many steps each takes.
    pub steps: usize,
    /// What they do.
    pub mix: Mix,
}

/// What the workers of a hammer do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Mix {
    /// Everything there is: plain, subtree and membership writes; locks of every scope and depth, one or several;
    /// replacements, breaks, refreshes, clears, dropped futures. Locks do not expire.
    Everything,
    /// The same, with locks that expire under it.
    Expiring,
    /// Writes and exclusive locks on few resources: the shortest way to find an acquire that overtakes a write.
    Crowded,
}

impl Config {
    /// Eight tasks of a thousand steps each.
    #[must_use]
    pub const fn new(mix: Mix) -> Self {
        Self { seed: 0x10C4, workers: 8, steps: 1_000, mix }
    }

    /// The same with another seed.
    #[must_use]
    pub const fn seeded(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// The same with so many steps for each task.
    #[must_use]
    pub const fn steps(mut self, steps: usize) -> Self {
        self.steps = steps;
        self
    }
}

/// Lets the workers loose on a fresh store while its clock runs, and answers what the history shows.
pub async fn hammer<F: Fixture>(fixture: &F, config: &Config) -> Violations {
    let store = Arc::new(fixture.fresh().await);
    let epoch = Ask::exclusive(EVE, "/").one(&store).await;
    let history = Arc::new(History::new(epoch.lock.life().seen_at));
    epoch.end(&store).await;
    // A clock that is waited out cannot be read exactly, so nothing may expire by it.
    let lifetime = match config.mix {
        Mix::Expiring if fixture.patience() == Duration::MAX => Some(fixture.grain() * 2),
        _ => None,
    };
    let tasks: Vec<_> = (0..config.workers)
        .map(|at| tokio::spawn(workers::work(store.clone(), history.clone(), config.clone(), at, lifetime, fixture.grain())))
        .collect();
    let step = fixture.grain() / 100;
    while !tasks.iter().all(tokio::task::JoinHandle::is_finished) {
        history.passes(step);
        fixture.advance(step).await;
        tokio::task::yield_now().await;
    }
    for task in tasks {
        if let Err(panic) = task.await {
            std::panic::resume_unwind(panic.into_panic());
        }
    }
    // Nothing is left behind: no lock, no mark, no registration.
    let rest = find(&store, LockQuery::at_or_below(key("/"))).await;
    let endless = rest.iter().filter(|lock| lock.expires_at().is_none()).count();
    assert_eq!(endless, 0, "everything was given back: {rest:?}");
    if lifetime.is_some() {
        fixture.advance(fixture.grain() * 3 + fixture.write_lease()).await;
    }
    Ask::exclusive(EVE, "/").one(&store).await;
    drop(Wr::of(EVE, [put("/")]).verdict(&store).await);
    history.close()
}

async fn unbroken<F: Fixture>(fixture: &F, mix: Mix) -> Violations {
    let mut total = Violations::default();
    for seed in 1..=3 * soak() {
        let config = Config::new(mix).seeded(seed);
        let found = hammer(fixture, &config).await;
        assert!(found.none(), "a rule was broken under {config:?}: {found:#?}");
        total.add(&found);
    }
    total
}

/// G3, G4 and G6 hold under writes, locks, replacements, breaks and dropped futures in any order.
pub async fn nothing_is_broken_under_a_hammer<F: Fixture>(fixture: &F) {
    let found = unbroken(fixture, Mix::Everything).await;
    for (what, count) in [
        ("writes admitted", found.admitted),
        ("writes refused", found.refused),
        ("locks granted", found.granted),
        ("conflicts", found.conflicts),
        ("acquires dropped", found.dropped),
        ("replacements", found.replaced),
    ] {
        assert!(count >= 100, "a hammer that does not hit proves nothing: {what} {count}");
    }
}

/// The same while locks expire, and G7: none ends under its holder's write.
pub async fn nothing_is_broken_while_locks_expire<F: Fixture>(fixture: &F) {
    let found = unbroken(fixture, Mix::Expiring).await;
    assert!(found.admitted >= 100 && found.granted >= 100, "a hammer that does not hit proves nothing: {found:?}");
}

/// Where all want the same few resources, acquires wait their turn, and both sides get on.
pub async fn nothing_is_broken_in_a_crowd<F: Fixture>(fixture: &F) {
    let found = unbroken(fixture, Mix::Crowded).await;
    assert!(found.admitted >= 100 && found.granted >= 100, "both sides get on: {found:?}");
}
