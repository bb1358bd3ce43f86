//! Guards and the hook over two nodes with one engine: what one node does to a lock the other's guard is told at once, an
//! outage shorter than what is left is survived, a longer one is a loss, and an expiry is told once.
//!
//! The engine's own clock decides, so lifetimes are a few seconds here and pass as they do.
#![cfg(all(unix, feature = "redis", feature = "postgres"))]

mod support;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use support::{
    SECOND,
    cable::Cable,
    engines::{PostgresServer, RedisServer},
};
use tower_lock::{
    ActivityKind, Caller, LockRequest, LockStore, Locks, Principal, Refusal,
    lock::LostCause,
    locks::Named,
    store::{PostgresStore, RedisStore},
};

/// One node that can be cut off, and one that cannot.
struct Fleet {
    far: Locks,
    near: Locks,
    cable: Cable,
    trail: Trail,
}

/// What the far node's hook was told.
type Trail = Arc<Mutex<Vec<(ActivityKind, String)>>>;

impl Fleet {
    async fn redis() -> Self {
        let server = RedisServer::shared();
        let cable = Cable::to(server.port()).await;
        let name = uuid::Uuid::new_v4().to_string();
        let node = |url: &str| RedisStore::builder(url).namespace(&name).time_limit(2 * SECOND).build().unwrap();
        Self::of(Arc::new(node(&cable.through(&server.url(), server.port()))), Arc::new(node(&server.url())), cable)
    }

    async fn postgres() -> Self {
        let server = PostgresServer::shared();
        let cable = Cable::to(server.port()).await;
        let name = uuid::Uuid::new_v4().to_string();
        let node = |url: &str| PostgresStore::builder(url).namespace(&name).time_limit(2 * SECOND).build().unwrap();
        let near = node(&server.url());
        near.migrate().await.expect("the schema is made");
        Self::of(Arc::new(node(&cable.through(&server.url(), server.port()))), Arc::new(near), cable)
    }

    fn of(far: Arc<dyn LockStore>, near: Arc<dyn LockStore>, cable: Cable) -> Self {
        let trail = Trail::default();
        let log = trail.clone();
        let told = move |activity: &tower_lock::Activity<'_>| {
            log.lock().unwrap().push((activity.kind, activity.resource.unwrap_or_default().to_owned()));
        };
        Self { far: Locks::builder(far).on_activity(told).build(), near: Locks::new(near), cable, trail }
    }

    async fn break_it(&self, id: tower_lock::LockId, grace: Duration) {
        let admin = Caller::application(Some(Principal::new("admin")));
        let _broken = self.near.break_for(&admin, Named::id(id), "maintenance", grace).await.expect("broken");
    }

    fn told(&self, kind: ActivityKind, path: &str) -> usize {
        self.trail.lock().unwrap().iter().filter(|told| **told == (kind, path.to_owned())).count()
    }

    /// Until the far node is heard again.
    async fn plug(&self) {
        self.cable.plug();
        while self.far.covering(&tower_lock::ResourceKey::from_canonical("/free")).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

fn lost_by(refusal: &Refusal) -> (LostCause, Option<&str>, Option<&str>) {
    let lost = refusal.lost().first().expect("what was lost");
    (lost.cause, lost.by.as_deref(), lost.reason.as_deref())
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(20 * SECOND, future).await.expect("it hangs")
}

async fn a_break_elsewhere_is_told_with_who_and_why(fleet: &Fleet) {
    let guard = fleet.far.hold(LockRequest::exclusive("/broken").principal("ann")).await.unwrap();
    let lost = tokio::spawn(guard.lost());
    fleet.break_it(guard.lock().id(), Duration::ZERO).await;
    assert_eq!(lost_by(&within(lost).await.unwrap()), (LostCause::Broken, Some("admin"), Some("maintenance")));
    assert!(!guard.is_held());

    let guard = fleet.far.hold(LockRequest::exclusive("/breaking").principal("ann")).await.unwrap();
    fleet.break_it(guard.lock().id(), 2 * SECOND).await;
    assert_eq!(lost_by(&within(guard.breaking()).await), (LostCause::Broken, Some("admin"), Some("maintenance")));
    guard.checkpoint().expect("until the grace is over");
    assert_eq!(lost_by(&within(guard.lost()).await), (LostCause::Broken, Some("admin"), Some("maintenance")));

    let guard = fleet.far.hold(LockRequest::exclusive("/taken").principal("ann")).await.unwrap();
    let taken = LockRequest::exclusive("/taken").principal("bob").breaking(guard.lock().id(), "mine now");
    let _taken = fleet.near.acquire(taken).await.unwrap();
    assert_eq!(lost_by(&within(guard.lost()).await), (LostCause::Broken, Some("bob"), Some("mine now")));
}

async fn a_break_during_an_outage_is_found_after_it(fleet: &Fleet) {
    let guard = fleet.far.hold(LockRequest::exclusive("/apart").principal("ann")).await.unwrap();
    fleet.cable.pull();
    fleet.break_it(guard.lock().id(), Duration::ZERO).await;
    fleet.plug().await;
    assert_eq!(lost_by(&within(guard.lost()).await), (LostCause::Broken, Some("admin"), Some("maintenance")));
}

async fn an_outage_shorter_than_what_is_left_is_survived(fleet: &Fleet) {
    let guard = fleet.far.hold(LockRequest::exclusive("/outage").lifetime(6 * SECOND)).await.unwrap();
    tokio::time::sleep(3 * SECOND).await;
    fleet.cable.pull();
    tokio::time::sleep(2 * SECOND).await;
    fleet.plug().await;
    tokio::time::sleep(6 * SECOND).await;
    guard.checkpoint().expect("it was refreshed");
    assert!(fleet.near.acquire(LockRequest::exclusive("/outage")).await.is_err(), "and the engine says so too");
    guard.release().await.unwrap();
}

async fn an_outage_longer_than_what_is_left_is_a_loss_before_anybody_else_can_have_it(fleet: &Fleet) {
    let guard = fleet.far.hold(LockRequest::exclusive("/long").lifetime(2 * SECOND)).await.unwrap();
    fleet.cable.pull();
    let next = LockRequest::exclusive("/long").waiting(20 * SECOND);
    let _next = within(fleet.near.acquire(next)).await.expect("once it has expired");
    assert!(!guard.is_held(), "by its own reckoning it was over no later");
    assert_eq!(lost_by(&guard.checkpoint().unwrap_err()).0, LostCause::Expired);
    fleet.plug().await;
}

async fn an_expiry_is_told_once_and_nothing_else_as_one(fleet: &Fleet) {
    let short = |path: &str| LockRequest::exclusive(path).principal("ann").lifetime(SECOND);
    let _expires = fleet.far.acquire(short("/expires")).await.unwrap();
    let released = fleet.far.acquire(short("/released")).await.unwrap();
    let broken = fleet.far.acquire(short("/cut")).await.unwrap();
    fleet.near.release(released.token()).await.unwrap();
    fleet.break_it(broken.lock().id(), Duration::ZERO).await;
    within(async {
        while fleet.told(ActivityKind::Expired, "/expires") == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    tokio::time::sleep(SECOND).await;
    assert_eq!(fleet.told(ActivityKind::Expired, "/expires"), 1);
    assert_eq!((fleet.told(ActivityKind::Expired, "/released"), fleet.told(ActivityKind::Expired, "/cut")), (0, 0));
}

async fn all(fleet: Fleet) {
    a_break_elsewhere_is_told_with_who_and_why(&fleet).await;
    a_break_during_an_outage_is_found_after_it(&fleet).await;
    an_outage_shorter_than_what_is_left_is_survived(&fleet).await;
    an_outage_longer_than_what_is_left_is_a_loss_before_anybody_else_can_have_it(&fleet).await;
    an_expiry_is_told_once_and_nothing_else_as_one(&fleet).await;
    assert_eq!(fleet.far.stats().guards, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn guards_over_two_nodes_with_redis() {
    all(Fleet::redis().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn guards_over_two_nodes_with_postgres() {
    all(Fleet::postgres().await).await;
}
