//! The Redis store keeps every rule: plain, as `Arc<dyn LockStore>`, and check-only.
//!
//! The time by which the store decides stands still and is moved by hand, so that the store can be held beside the model.
//! It moves in steps of a third of a lease, and after each the node renews the leases of its writes, as it would have.
#![cfg(all(feature = "conformance", feature = "redis"))]

mod support;

use std::{
    marker::PhantomData,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use support::engines::RedisServer;
use tower_lock::{
    LockStore,
    lock::LockId,
    store::{
        RedisStore,
        conformance::{self, Fixture, Lapse, Mode, Needs, SteppedBack, races},
    },
};

/// The hammer's clock runs a thousand times faster than the messages do: within a short lease a write would lapse between its
/// admission at the server and the answer.
const LEASE: Duration = Duration::from_secs(3_600);

/// Redis stores, each with a namespace of its own on one server, on a clock that is moved by hand, in the shape of `S`.
struct Redis<S> {
    micros: Arc<AtomicI64>,
    mode: Mode,
    stores: Mutex<Vec<RedisStore>>,
    /// How long ago the leases were last renewed.
    since: Mutex<Duration>,
    shape: PhantomData<fn() -> S>,
}

impl<S> Redis<S> {
    fn new(mode: Mode) -> Self {
        let start = 1_767_225_600_000_000;
        Self {
            micros: Arc::new(AtomicI64::new(start)),
            mode,
            stores: Mutex::default(),
            since: Mutex::default(),
            shape: PhantomData,
        }
    }

    fn pass(&self, span: Duration) {
        self.micros.fetch_add(i64::try_from(span.as_micros()).unwrap(), Ordering::AcqRel);
    }

    async fn renew(&self) {
        *self.since.lock() = Duration::ZERO;
        let stores = self.stores.lock().clone();
        for store in stores {
            store.renew_now().await.expect("the server is there");
        }
    }
}

/// What a Redis store is made into.
trait Shape: LockStore {
    fn of(store: RedisStore) -> Self;
}

impl Shape for RedisStore {
    fn of(store: RedisStore) -> Self {
        store
    }
}

impl Shape for Arc<dyn LockStore> {
    fn of(store: RedisStore) -> Self {
        Arc::new(store)
    }
}

impl<S: Shape> Fixture for Redis<S> {
    type Store = S;

    async fn fresh(&self) -> S {
        let builder = RedisStore::builder(&RedisServer::shared().url())
            .namespace(format!("conformance {}", LockId::random()))
            .write_lease(LEASE)
            .time_limit(Duration::from_secs(20))
            .clock_at(self.micros.clone());
        let store = match self.mode {
            Mode::Guarded => builder,
            Mode::CheckOnly => builder.check_only(),
        };
        let store = store.build().expect("a sound URL");
        self.stores.lock().push(store.clone());
        S::of(store)
    }

    async fn advance(&self, mut span: Duration) {
        let third = LEASE / 3;
        while !span.is_zero() {
            let step = span.min(third);
            span -= step;
            self.pass(step);
            let due = {
                let mut since = self.since.lock();
                *since += step;
                *since >= third
            };
            if due {
                self.renew().await;
            }
        }
    }

    async fn step_back(&self, span: Duration) -> SteppedBack {
        self.micros.fetch_sub(i64::try_from(span.as_micros()).unwrap(), Ordering::AcqRel);
        SteppedBack::Done
    }

    async fn lapse(&self) -> Lapse {
        self.pass(LEASE);
        self.renew().await;
        Lapse::Done
    }

    fn mode(&self) -> Mode {
        self.mode
    }
}

tower_lock::conformance_suite!(plain, Redis::<RedisStore>::new(Mode::Guarded));
tower_lock::conformance_suite!(behind_dyn, Redis::<Arc<dyn LockStore>>::new(Mode::Guarded));
tower_lock::conformance_suite!(check_only, Redis::<RedisStore>::new(Mode::CheckOnly));

/// The negative control: without registered writes, the hammer that the store passes finds acquires that overtake, a
/// hundred of them in a few seconds.
#[test]
fn a_check_only_store_fails_the_hammer() {
    conformance::run(&Redis::<RedisStore>::new(Mode::CheckOnly), Needs::Any, async |fixture| {
        let (mut overtaken, mut seed) = (0, 0);
        while overtaken < 100 && seed < 8 {
            seed += 1;
            let config = races::Config::new(races::Mix::Crowded).seeded(seed);
            let found = races::hammer(fixture, &config).await;
            assert_eq!((found.conflicting, found.generations), (0, 0), "G4 and G6 hold all the same: {found:?}");
            overtaken += found.overtaken;
        }
        assert!(overtaken >= 100, "nothing stops an acquire from overtaking a write (G3): {overtaken}");
    });
}
