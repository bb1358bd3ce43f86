//! What a store's author gives to the suite: empty stores, and a hand on their clock.

use std::{future::Future, time::Duration};

use crate::store::LockStore;

/// How to come by the stores under test.
///
/// ```
/// use std::time::Duration;
/// use tower_lock::store::{LockStore, ManualClock, conformance::{Fixture, ModelStore}};
///
/// struct Mine(ManualClock);
///
/// impl Fixture for Mine {
///     type Store = ModelStore;
///
///     async fn fresh(&self) -> ModelStore {
///         ModelStore::new(self.0.clock())
///     }
///
///     async fn advance(&self, span: Duration) {
///         self.0.advance(span);
///     }
/// }
/// ```
pub trait Fixture: Send + Sync + 'static {
    /// The store under test; an `Arc<dyn LockStore>` is one.
    type Store: LockStore;

    /// A store without locks, on the clock of this fixture. A network store takes a namespace or a database of its own.
    fn fresh(&self) -> impl Future<Output = Self::Store> + Send;

    /// Lets `span` pass on the stores' clock: moves it, or waits.
    fn advance(&self, span: Duration) -> impl Future<Output = ()> + Send;

    /// Moves the stores' clock back by `span`, where that can be done.
    fn step_back(&self, span: Duration) -> impl Future<Output = SteppedBack> + Send {
        let _ = span;
        async { SteppedBack::Unable }
    }

    /// Lets the leases of all writes in flight run out, as if their node had stood still for so long, and then lets the node
    /// go on: it renews what it still can. For stores whose writes have leases.
    fn lapse(&self) -> impl Future<Output = Lapse> + Send {
        async { Lapse::Never }
    }

    /// Whether the stores register writes; G3 and G7 are asked only of those that do.
    fn mode(&self) -> Mode {
        Mode::Guarded
    }

    /// What the suite counts time in. All its lifetimes are multiples of this, up to a few thousand. A second, unless
    /// [`Fixture::advance`] waits and a smaller one is exact enough.
    fn grain(&self) -> Duration {
        Duration::from_secs(1)
    }

    /// The longest time that [`Fixture::advance`] is asked to let pass at once; what takes longer is not asked.
    fn patience(&self) -> Duration {
        Duration::MAX
    }

    /// How long a lock may outlive its own end after the last write that it answered for: the store's write lease. Zero
    /// for stores that hear at once of the end of a write.
    fn write_lease(&self) -> Duration {
        Duration::ZERO
    }
}

/// Whether a store registers the writes that it admits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// It does, so that an acquire waits for those which its lock would refuse.
    Guarded,
    /// It does not: what was admitted before a lock was granted may still run.
    CheckOnly,
}

/// What became of [`Fixture::lapse`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lapse {
    /// The leases have run out.
    Done,
    /// Writes have none: the store hears at once of the end of every write.
    Never,
}

/// What became of [`Fixture::step_back`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SteppedBack {
    /// The clock was moved back.
    Done,
    /// It cannot be.
    Unable,
}
