//! The PostgreSQL store keeps every rule: plain, as `Arc<dyn LockStore>`, and check-only.
#![cfg(all(feature = "conformance", feature = "postgres"))]

mod support;

use std::{
    marker::PhantomData,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use support::engines::PostgresServer;
use tokio::sync::OnceCell;
use tower_lock::{
    LockStore,
    store::{
        PostgresStore,
        conformance::{self, Fixture, Lapse, Mode, Needs, SteppedBack, races},
    },
};
use uuid::Uuid;

const LEASE: Duration = Duration::from_secs(30);

/// Stores on one server, by a clock that stands still until it is moved.
struct Postgres<S> {
    hand: Arc<AtomicI64>,
    /// What the clock showed when leases were renewed last.
    renewed: AtomicI64,
    stores: Mutex<Vec<PostgresStore>>,
    mode: Mode,
    shape: PhantomData<fn() -> S>,
}

impl<S> Postgres<S> {
    fn new(mode: Mode) -> Self {
        let start = 1_767_225_600_000_000;
        Self {
            hand: Arc::new(AtomicI64::new(start)),
            renewed: AtomicI64::new(start),
            stores: Mutex::default(),
            mode,
            shape: PhantomData,
        }
    }

    async fn between_steps(&self, change: impl FnOnce() + Send) {
        let store = self.stores.lock().unwrap_or_else(PoisonError::into_inner).first().cloned();
        match store {
            Some(store) => store.between_steps(change).await,
            None => change(),
        }
    }

    async fn renew(&self) {
        self.renewed.store(self.hand.load(Ordering::SeqCst), Ordering::SeqCst);
        let stores = self.stores.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for store in stores {
            store.renew_now().await.expect("leases are renewed");
        }
    }
}

/// What a store is made into.
trait Shape: LockStore {
    fn of(store: PostgresStore) -> Self;
}

impl Shape for PostgresStore {
    fn of(store: PostgresStore) -> Self {
        store
    }
}

impl Shape for Arc<dyn LockStore> {
    fn of(store: PostgresStore) -> Self {
        Arc::new(store)
    }
}

async fn migrated() {
    static MIGRATED: OnceCell<()> = OnceCell::const_new();
    MIGRATED
        .get_or_init(|| async {
            let store = PostgresStore::new(&PostgresServer::shared().url()).expect("a URL");
            store.migrate().await.expect("the schema is made");
        })
        .await;
}

impl<S: Shape> Fixture for Postgres<S> {
    type Store = S;

    async fn fresh(&self) -> S {
        migrated().await;
        let builder = PostgresStore::builder(&PostgresServer::shared().url());
        let builder = builder
            .namespace(Uuid::new_v4().to_string())
            .write_lease(LEASE)
            .time_limit(Duration::from_secs(30))
            // An acquire that is not polled, as the suite has many, may keep one to itself.
            .connections(64)
            .clock_offset(self.hand.clone());
        let store = match self.mode {
            Mode::Guarded => builder.build(),
            Mode::CheckOnly => builder.check_only().build(),
        }
        .expect("a URL");
        let mut stores = self.stores.lock().unwrap_or_else(PoisonError::into_inner);
        // Those of earlier rounds of a case are not used any more.
        stores.truncate(1);
        stores.insert(0, store.clone());
        S::of(store)
    }

    // In steps, so that the leases of writes in flight can be renewed.
    async fn advance(&self, span: Duration) {
        let third = i64::try_from((LEASE / 3).as_micros()).expect("a short time");
        let mut left = i64::try_from(span.as_micros()).expect("a short time");
        while left > 0 {
            let step = left.min(third);
            self.between_steps(|| _ = self.hand.fetch_add(step, Ordering::SeqCst)).await;
            left -= step;
            if self.hand.load(Ordering::SeqCst) - self.renewed.load(Ordering::SeqCst) >= third {
                self.renew().await;
            }
        }
    }

    async fn step_back(&self, span: Duration) -> SteppedBack {
        self.hand.fetch_sub(i64::try_from(span.as_micros()).expect("a short time"), Ordering::SeqCst);
        SteppedBack::Done
    }

    async fn lapse(&self) -> Lapse {
        if self.mode == Mode::CheckOnly {
            return Lapse::Never;
        }
        self.hand.fetch_add(i64::try_from(LEASE.as_micros()).expect("a short time"), Ordering::SeqCst);
        self.renew().await;
        Lapse::Done
    }

    fn mode(&self) -> Mode {
        self.mode
    }
}

tower_lock::conformance_suite!(plain, Postgres::<PostgresStore>::new(Mode::Guarded));
tower_lock::conformance_suite!(behind_dyn, Postgres::<Arc<dyn LockStore>>::new(Mode::Guarded));
tower_lock::conformance_suite!(check_only, Postgres::<PostgresStore>::new(Mode::CheckOnly));

/// The negative control: without registered writes, the hammer that the store passes finds acquires that overtake.
#[test]
fn a_check_only_store_fails_the_hammer() {
    conformance::run(&Postgres::<PostgresStore>::new(Mode::CheckOnly), Needs::Any, async |fixture| {
        let mut overtaken = 0;
        for seed in 1.. {
            let found = races::hammer(fixture, &races::Config::new(races::Mix::Crowded).seeded(seed)).await;
            assert_eq!((found.conflicting, found.generations), (0, 0), "G4 and G6 hold all the same: {found:?}");
            overtaken += found.overtaken;
            if overtaken >= 100 {
                break;
            }
            assert!(seed < 20, "nothing stops an acquire from overtaking a write (G3): {overtaken}");
        }
    });
}
