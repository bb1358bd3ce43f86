//! `LockGuard`: what it keeps alive stays alive, what it has lost it tells, and what it held ends with it.

mod support;

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use support::{Call, Mode, Rigged, SECOND, poll_once};
use tower_lock::{
    Caller, Limits, LockGuard, LockKind, LockRequest, Locks, MemoryStore, Principal, Refusal, RefusalCode, ResourceKey,
    lock::{Gone, LostCause, Reach},
    locks::{ActivityKind, Lifetimes},
    store::{LockStore, ManualClock},
};

const MINUTE: Duration = Duration::from_secs(60);

/// A rigged memory store and a hub, both by one clock that is moved by hand.
struct World {
    clock: ManualClock,
    store: Rigged,
    locks: Locks,
}

impl World {
    fn new() -> Self {
        Self::with(|builder| builder)
    }

    fn with(build: impl FnOnce(tower_lock::LocksBuilder) -> tower_lock::LocksBuilder) -> Self {
        let clock = ManualClock::new();
        let store = Rigged::new(support::stores::memory(clock.clock()));
        let locks = build(Locks::builder(store.clone()).clock(clock.clock())).build();
        Self { clock, store, locks }
    }

    async fn hold(&self, path: &str) -> LockGuard {
        let guard = self.locks.hold(a_minute(path)).await.expect(path);
        settle().await;
        guard
    }

    /// Moves the clock on, a second at a time, and lets everything happen that is due.
    async fn pass(&self, span: Duration) {
        for _ in 0..span.as_secs() {
            self.clock.advance(SECOND);
            settle().await;
        }
    }

    async fn break_it(&self, guard: &LockGuard, grace: Duration) {
        let admin = Caller::application(Some(Principal::new("admin")));
        _ = self.locks.break_for(&admin, guard.lock().id().into(), "maintenance", grace).await.expect("broken");
        settle().await;
    }

    async fn is_locked(&self, path: &'static str) -> bool {
        !self.locks.covering(&ResourceKey::from_canonical(path)).await.expect("an answer").is_empty()
    }
}

fn a_minute(path: &str) -> LockRequest {
    LockRequest::exclusive(path).principal("ann").lifetime(MINUTE)
}

/// Lets every task go on as far as it can without time passing.
async fn settle() {
    for _ in 0..40 {
        tokio::task::yield_now().await;
    }
}

fn tasks() -> usize {
    tokio::runtime::Handle::current().metrics().num_alive_tasks()
}

fn lost_by(refusal: &Refusal) -> (LostCause, Option<&str>, Option<&str>) {
    assert_eq!((refusal.code(), refusal.status().as_u16()), (RefusalCode::LockLost, 412), "{refusal}");
    let lost = refusal.lost().first().expect("what was lost");
    (lost.cause, lost.by.as_deref(), lost.reason.as_deref())
}

#[tokio::test]
async fn a_lock_is_kept_alive_as_long_as_its_guard_lives() {
    let world = World::new();
    let guard = world.hold("/a").await;
    world.pass(30 * MINUTE).await;
    assert!(guard.is_held() && world.is_locked("/a").await);
    guard.checkpoint().expect("held");
    let refreshed = world.store.calls(Call::Refresh);
    assert!((80..=100).contains(&refreshed), "thrice a minute, more or less: {refreshed}");
    let again = world.locks.acquire(LockRequest::exclusive("/a")).await.expect_err("locked");
    assert_eq!(again.code(), RefusalCode::Locked);
    assert_eq!(world.locks.stats().refreshed, refreshed as u64);
}

#[tokio::test]
async fn locks_taken_at_one_moment_are_not_refreshed_at_one_moment() {
    let refreshed = Arc::new(Mutex::new(Vec::new()));
    let clock = ManualClock::new();
    let (seen, shown) = (refreshed.clone(), clock.clock());
    let begun = shown.now();
    let store = support::stores::memory(clock.clock());
    let locks = Locks::builder(store)
        .clock(clock.clock())
        .on_activity(move |activity| {
            if activity.kind == ActivityKind::Refreshed {
                seen.lock().unwrap().push(shown.now().since(begun).as_millis());
            }
        })
        .build();
    let mut guards = Vec::new();
    for at in 0..200 {
        guards.push(locks.hold(a_minute(&format!("/{at}"))).await.unwrap());
    }
    for _ in 0..230 {
        settle().await;
        clock.advance(Duration::from_millis(100));
    }
    let mut times = refreshed.lock().unwrap().clone();
    assert_eq!(times.len(), 200, "each once, before two thirds of a half are over");
    assert!(times.iter().all(|time| (18_000..=22_100).contains(time)), "a third, ten per cent more or less: {times:?}");
    times.sort_unstable();
    times.dedup();
    assert!(times.len() > 20, "spread out: {times:?}");
}

#[tokio::test]
async fn an_outage_shorter_than_what_is_left_is_survived() {
    for mode in [Mode::Fail, Mode::Never] {
        let world = World::new();
        let guard = world.hold("/a").await;
        world.pass(25 * SECOND).await;
        let left = guard.deadline().unwrap().since(world.clock.clock().now());
        assert!(left > 50 * SECOND, "refreshed at about twenty seconds");
        world.store.set(Call::Refresh, mode);
        world.pass(left - 5 * SECOND).await;
        assert!(guard.is_held());
        world.store.set(Call::Refresh, Mode::Pass);
        world.pass(10 * MINUTE).await;
        assert!(guard.is_held() && world.is_locked("/a").await, "{mode:?}");
    }
}

#[tokio::test]
async fn an_outage_longer_than_what_is_left_is_a_loss_when_the_time_is_up_and_for_good() {
    for mode in [Mode::Fail, Mode::Never] {
        let world = World::new();
        let guard = world.hold("/a").await;
        world.store.set(Call::Refresh, mode);
        world.store.set(Call::Find, mode);
        let mut lost = std::pin::pin!(guard.lost());
        world.pass(59 * SECOND).await;
        assert!(guard.is_held() && poll_once(lost.as_mut()).is_pending(), "{mode:?}");
        world.pass(SECOND).await;
        assert!(!guard.is_held(), "{mode:?}");
        assert_eq!(lost_by(&lost.await), (LostCause::Expired, None, None));
        world.store.set(Call::Refresh, Mode::Pass);
        world.store.set(Call::Find, Mode::Pass);
        world.pass(MINUTE).await;
        assert_eq!(lost_by(&guard.checkpoint().unwrap_err()).0, LostCause::Expired, "what is lost stays lost");
    }
}

#[tokio::test]
async fn asking_a_failing_store_grows_rarer_and_then_more_frequent_towards_the_end() {
    let world = World::new();
    let _guard = world.hold("/a").await;
    world.store.set(Call::Refresh, Mode::Fail);
    world.pass(MINUTE).await;
    let asked = world.store.calls(Call::Refresh);
    assert!((8..80).contains(&asked), "neither once nor all the time: {asked}");
}

#[tokio::test]
async fn what_is_left_counts_from_before_the_store_was_asked() {
    let world = World::new();
    let guard = world.hold("/a").await;
    let begun = world.clock.clock().now();
    assert_eq!(guard.deadline(), Some(begun.after(MINUTE)));
    world.store.set(Call::Refresh, Mode::Gated);
    while world.store.calls(Call::Refresh) == 0 {
        world.pass(SECOND).await;
    }
    let asked = world.clock.clock().now();
    world.pass(4 * SECOND).await;
    assert_eq!((world.store.calls(Call::Refresh), guard.deadline()), (1, Some(begun.after(MINUTE))));
    world.store.open();
    settle().await;
    assert_eq!(guard.deadline(), Some(asked.after(MINUTE)), "from when it was asked, not answered");
}

#[tokio::test]
async fn without_a_task_the_reckoning_alone_tells_the_loss() {
    // Made outside of any runtime.
    let clock = ManualClock::new();
    let locks = Locks::builder(support::stores::memory(clock.clock())).clock(clock.clock()).build();
    let made = locks.clone();
    let guard = std::thread::spawn(move || {
        let mut held = std::pin::pin!(made.hold(a_minute("/a")));
        match poll_once(held.as_mut()) {
            std::task::Poll::Ready(guard) => guard.unwrap(),
            std::task::Poll::Pending => panic!("a memory store answers at once"),
        }
    })
    .join()
    .unwrap();
    let mut lost = std::pin::pin!(guard.lost());
    clock.advance(59 * SECOND);
    assert!(guard.is_held() && poll_once(lost.as_mut()).is_pending());
    clock.advance(SECOND);
    assert!(guard.checkpoint().is_err());
    assert_eq!(lost_by(&lost.await).0, LostCause::Expired);
}

#[tokio::test]
async fn a_runtime_that_is_gone_keeps_nothing_alive_and_the_guard_tells_it() {
    let clock = ManualClock::new();
    let locks = Locks::builder(support::stores::memory(clock.clock())).clock(clock.clock()).build();
    let made = locks.clone();
    let guard = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(made.hold(a_minute("/a"))).unwrap()
    })
    .join()
    .unwrap();
    let mut lost = std::pin::pin!(guard.lost());
    assert!(poll_once(lost.as_mut()).is_pending());
    clock.advance(MINUTE);
    assert_eq!(lost_by(&lost.await).0, LostCause::Expired);
    drop(guard);
    assert_eq!(locks.stats().guards, 0);
}

#[tokio::test]
async fn a_break_is_told_at_once_to_all_who_wait_with_who_and_why() {
    let world = World::new();
    let guard = world.hold("/a").await;
    let waiting: Vec<_> = (0..10).map(|_| tokio::spawn(guard.lost())).collect();
    drop(guard.lost());
    world.break_it(&guard, Duration::ZERO).await;
    for lost in waiting {
        let refusal = lost.await.unwrap();
        assert_eq!(lost_by(&refusal), (LostCause::Broken, Some("admin"), Some("maintenance")));
        assert_eq!(refusal.resource(), Some("/a"));
    }
    assert!(!guard.is_held());
    assert_eq!(guard.checkpoint().unwrap_err().to_string(), guard.lost().await.to_string());
    assert_eq!(lost_by(&guard.breaking().await).0, LostCause::Broken);
    assert_eq!(tasks(), 0, "there is nothing left to keep alive");
}

#[tokio::test]
async fn every_other_end_is_told_at_once() {
    let world = World::new();
    let replaced = world.hold("/replaced").await;
    let released = world.hold("/released").await;
    let cleared = world.hold("/cleared").await;
    let taken = LockRequest::exclusive("/replaced").principal("bob").breaking(replaced.lock().id(), "mine");
    let _taken = world.locks.acquire(taken).await.unwrap();
    world.locks.release(released.token()).await.unwrap();
    let gone = Gone { key: ResourceKey::from_canonical("/cleared"), reach: Reach::AtOrBelow };
    assert_eq!(world.store.clear(&[gone], None).await.unwrap(), 1);
    settle().await;
    assert_eq!(lost_by(&replaced.checkpoint().unwrap_err()), (LostCause::Broken, Some("bob"), Some("mine")));
    assert_eq!(lost_by(&released.checkpoint().unwrap_err()).0, LostCause::Released);
    assert_eq!(lost_by(&cleared.checkpoint().unwrap_err()).0, LostCause::ResourceGone);
}

#[tokio::test]
async fn a_break_before_the_guard_watches_is_found_all_the_same() {
    for grace in [Duration::ZERO, 10 * SECOND] {
        let world = World::new();
        let granted = world.locks.acquire(a_minute("/a")).await.unwrap();
        let admin = Caller::application(Some(Principal::new("admin")));
        _ = world.locks.break_for(&admin, granted.lock().id().into(), "maintenance", grace).await.unwrap();
        let guard = world.locks.guard(granted);
        assert_eq!(lost_by(&guard.breaking().await), (LostCause::Broken, Some("admin"), Some("maintenance")));
        assert_eq!(guard.is_held(), !grace.is_zero());
        world.pass(grace).await;
        assert_eq!(lost_by(&guard.lost().await), (LostCause::Broken, Some("admin"), Some("maintenance")));
    }
}

#[tokio::test]
async fn during_a_grace_period_it_is_held_and_the_deadline_is_told() {
    let world = World::new();
    let guard = world.hold("/a").await;
    world.pass(SECOND).await;
    world.break_it(&guard, 30 * SECOND).await;
    let warned = guard.breaking().await;
    assert_eq!(lost_by(&warned), (LostCause::Broken, Some("admin"), Some("maintenance")));
    let now = world.clock.clock().now();
    assert_eq!(warned.lost()[0].at, Some(now.after(30 * SECOND)));
    assert_eq!(guard.deadline(), Some(now.after(30 * SECOND)));
    world.pass(10 * SECOND).await;
    guard.checkpoint().expect("until the deadline");
    // Somebody is in a hurry.
    world.break_it(&guard, 5 * SECOND).await;
    assert_eq!(guard.deadline(), Some(now.after(15 * SECOND)));
    world.pass(4 * SECOND).await;
    let mut lost = std::pin::pin!(guard.lost());
    assert!(guard.is_held() && poll_once(lost.as_mut()).is_pending());
    world.pass(SECOND).await;
    assert_eq!(lost_by(&lost.await), (LostCause::Broken, Some("admin"), Some("maintenance")));
    assert!(!world.is_locked("/a").await);
}

#[tokio::test]
async fn a_lock_ends_with_its_total_life_however_often_it_was_refreshed() {
    let mut lifetimes = Lifetimes::default();
    lifetimes.user.total = Some(150 * SECOND);
    let world = World::with(|builder| builder.lifetimes(lifetimes));
    let guard = world.hold("/a").await;
    world.pass(149 * SECOND).await;
    assert!(guard.is_held());
    let asked = world.store.calls(Call::Refresh);
    assert!((5..=8).contains(&asked), "not again after the last time: {asked}");
    world.pass(SECOND).await;
    assert_eq!(lost_by(&guard.lost().await).0, LostCause::Expired);
    assert!(!world.is_locked("/a").await);
}

#[tokio::test]
async fn an_endless_lock_is_watched_and_not_refreshed() {
    let world = World::new();
    let guard = world.locks.hold(LockRequest::exclusive("/a").kind(LockKind::Freeze)).await.unwrap();
    assert_eq!(guard.deadline(), None);
    world.pass(10 * MINUTE).await;
    assert!(guard.is_held());
    assert_eq!(world.store.calls(Call::Refresh), 0);
    world.break_it(&guard, 10 * SECOND).await;
    assert_eq!(lost_by(&guard.breaking().await).1, Some("admin"));
    world.pass(10 * SECOND).await;
    assert_eq!(lost_by(&guard.lost().await), (LostCause::Broken, Some("admin"), Some("maintenance")));
}

#[tokio::test]
async fn somebody_else_who_has_the_token_may_shorten_it_and_the_guard_heeds_that() {
    let world = World::new();
    let guard = world.hold("/a").await;
    world.locks.refresh(guard.token(), Some(6 * SECOND)).await.unwrap();
    settle().await;
    let now = world.clock.clock().now();
    assert_eq!(guard.deadline(), Some(now.after(6 * SECOND)));
    world.pass(MINUTE).await;
    assert!(guard.is_held() && world.is_locked("/a").await);
}

#[tokio::test]
async fn of_several_locks_the_first_one_lost_counts_and_the_others_are_kept() {
    let world = World::new();
    let guard = world.locks.hold(a_minute("/a").and("/b").and("/c")).await.unwrap();
    settle().await;
    let admin = Caller::application(None);
    _ = world.locks.break_for(&admin, guard.locks()[1].id().into(), "b alone", Duration::ZERO).await.unwrap();
    let refusal = guard.lost().await;
    assert_eq!((refusal.resource(), lost_by(&refusal).2), (Some("/b"), Some("b alone")));
    world.pass(5 * MINUTE).await;
    assert!(world.is_locked("/a").await && !world.is_locked("/b").await && world.is_locked("/c").await);
    drop(guard);
    assert!(!world.is_locked("/a").await && !world.is_locked("/c").await);
}

#[tokio::test]
async fn a_drop_ends_the_locks_and_the_task_and_tells_whoever_waits() {
    let world = World::new();
    let guard = world.hold("/a").await;
    assert_eq!((world.locks.stats().guards, tasks()), (1, 1));
    let lost = guard.lost();
    drop(guard);
    assert!(!world.is_locked("/a").await);
    assert_eq!(lost_by(&lost.await).0, LostCause::Released);
    settle().await;
    assert_eq!((world.locks.stats().guards, tasks()), (0, 0));
    assert_eq!(world.locks.stats().released, 1);
}

#[tokio::test]
async fn what_is_kept_lives_on_without_the_guard_until_it_expires() {
    let world = World::new();
    let guard = world.hold("/a").await;
    let lost = guard.lost();
    let granted = guard.keep();
    assert_eq!(lost.await.code(), RefusalCode::LockLost);
    settle().await;
    assert_eq!((world.locks.stats().guards, tasks()), (0, 0));
    world.pass(30 * SECOND).await;
    assert!(world.is_locked("/a").await);
    // And comes back under a guard, late but in time.
    let guard = world.locks.guard(granted);
    assert!(guard.is_held());
    world.pass(5 * MINUTE).await;
    assert!(guard.is_held() && world.is_locked("/a").await);
    let _kept = guard.keep();
    world.pass(MINUTE).await;
    assert!(!world.is_locked("/a").await);
}

#[tokio::test]
async fn a_drop_outside_of_a_runtime_ends_the_locks_on_the_one_of_the_guard() {
    let world = World::new();
    let guard = world.hold("/a").await;
    world.store.set(Call::Release, Mode::Later);
    std::thread::spawn(move || drop(guard)).join().unwrap();
    settle().await;
    assert!(!world.is_locked("/a").await);
    assert_eq!((world.locks.stats().released, tasks()), (1, 0));
}

#[tokio::test]
async fn a_grant_that_took_longer_than_a_third_of_its_lifetime_is_refreshed_before_it_is_handed_out() {
    let world = World::new();
    world.store.set(Call::Acquire, Mode::Gated);
    let locks = world.locks.clone();
    let holding = tokio::spawn(async move { locks.hold(LockRequest::exclusive("/a").lifetime(4 * SECOND)).await });
    settle().await;
    world.clock.advance(3 * SECOND);
    world.store.open();
    let guard = holding.await.unwrap().unwrap();
    assert_eq!(guard.deadline(), Some(world.clock.clock().now().after(4 * SECOND)));
    // And one that is over by then is none.
    let locks = world.locks.clone();
    let holding = tokio::spawn(async move { locks.hold(LockRequest::exclusive("/b").lifetime(4 * SECOND)).await });
    settle().await;
    world.clock.advance(5 * SECOND);
    world.store.open();
    assert_eq!(lost_by(&holding.await.unwrap().unwrap_err()).0, LostCause::Expired);
}

#[tokio::test]
async fn dropped_at_any_moment_it_leaves_no_lock_no_guard_and_no_task() {
    for polls in 0..60 {
        let world = World::new();
        let store = Rigged::all(support::stores::memory(world.clock.clock()), Mode::Later);
        let locks = Locks::builder(store.clone()).clock(world.clock.clock()).build();
        let finished = AtomicUsize::new(0);
        {
            let work = async {
                let guard = locks.hold(a_minute("/a").and("/b")).await.unwrap();
                world.clock.advance(25 * SECOND);
                tokio::task::yield_now().await;
                let mut lost = std::pin::pin!(guard.lost());
                for _ in 0..5 {
                    assert!(poll_once(lost.as_mut()).is_pending());
                    tokio::task::yield_now().await;
                }
                let again = locks.acquire(LockRequest::exclusive("/c")).await.unwrap();
                let other = locks.guard(again);
                guard.release().await.unwrap();
                other.release().await.unwrap();
                finished.fetch_add(1, Ordering::Relaxed);
            };
            let mut work = std::pin::pin!(work);
            for _ in 0..polls {
                if poll_once(work.as_mut()).is_ready() {
                    break;
                }
                tokio::task::yield_now().await;
            }
        }
        settle().await;
        for path in ["/a", "/b", "/c"] {
            let key = ResourceKey::from_canonical(path);
            // A grant that was not yet in a guard is the caller's own, and expires.
            if path != "/c" {
                assert!(locks.covering(&key).await.unwrap().is_empty(), "{path} after {polls} polls");
            }
        }
        assert_eq!((locks.stats().guards, tasks()), (0, 0), "after {polls} polls");
        if polls == 59 {
            assert_eq!(finished.into_inner(), 1, "so many polls are enough for all of it");
        }
    }
}

#[tokio::test]
async fn a_guard_over_a_store_that_knows_nothing_of_it_is_lost() {
    let world = World::new();
    let other = World::new();
    let stray = world.locks.acquire(a_minute("/b")).await.unwrap();
    let guard = other.locks.guard(stray);
    assert_eq!(lost_by(&guard.lost().await).0, LostCause::Unknown);
}

#[tokio::test]
async fn many_guards_live_through_an_hour() {
    let clock = ManualClock::new();
    let mut limits = Limits::default();
    limits.locks_per_principal = usize::MAX;
    let store: Arc<dyn LockStore> = Arc::new(MemoryStore::builder().clock(clock.clock()).build());
    let locks = Locks::builder(store).clock(clock.clock()).limits(limits).build();
    let mut guards = Vec::new();
    for at in 0..300 {
        guards.push(locks.hold(LockRequest::exclusive(format!("/{at}"))).await.unwrap());
    }
    for _ in 0..240 {
        clock.advance(15 * SECOND);
        settle().await;
    }
    assert!(guards.iter().all(LockGuard::is_held));
    drop(guards);
    settle().await;
    assert_eq!((locks.stats().guards, locks.stats().released, tasks()), (0, 300, 0));
}

#[tokio::test]
async fn what_was_waited_for_long_is_held_however_short_it_lives() {
    for mode in [Mode::Pass, Mode::Later] {
        let clock = ManualClock::new();
        let store = Rigged::all(support::stores::memory(clock.clock()), mode);
        let locks = Locks::builder(store.clone()).clock(clock.clock()).build();
        let blocker = locks.acquire(LockRequest::exclusive("/a").lifetime(10 * MINUTE)).await.unwrap();
        let short = LockRequest::exclusive("/a").lifetime(3 * SECOND).waiting(5 * MINUTE);
        let holding = tokio::spawn({
            let locks = locks.clone();
            async move { locks.hold(short).await }
        });
        settle().await;
        for _ in 0..60 {
            clock.advance(SECOND);
            settle().await;
        }
        locks.release(blocker.token()).await.unwrap();
        let guard = holding.await.unwrap().unwrap();
        guard.checkpoint().unwrap();
        for _ in 0..20 {
            // Before the task of the guard has heard of the state that it asked for.
            clock.advance(SECOND);
            settle().await;
            guard.checkpoint().unwrap();
        }
    }
}

#[tokio::test]
async fn nobody_is_told_of_a_break_before_it_is_known_by_whom() {
    let world = World::new();
    let granted = world.locks.acquire(a_minute("/a")).await.unwrap();
    let admin = Caller::application(Some(Principal::new("admin")));
    // Before the guard watches, so that it sees that somebody breaks the lock, and has to ask who.
    _ = world.locks.break_for(&admin, granted.lock().id().into(), "maintenance", 10 * SECOND).await.unwrap();
    world.store.set(Call::Refresh, Mode::Gated);
    let guard = world.locks.guard(granted);
    let mut breaking = std::pin::pin!(guard.breaking());
    settle().await;
    assert!(support::poll_once(breaking.as_mut()).is_pending(), "the store has not said who");
    assert!(guard.is_held());
    world.store.open();
    assert_eq!(lost_by(&breaking.await), (LostCause::Broken, Some("admin"), Some("maintenance")));

    // Where it never says, the lock is over in time all the same, and known to be broken.
    let granted = world.locks.acquire(a_minute("/b")).await.unwrap();
    _ = world.locks.break_for(&admin, granted.lock().id().into(), "maintenance", 10 * SECOND).await.unwrap();
    world.store.set(Call::Refresh, Mode::Never);
    let guard = world.locks.guard(granted);
    settle().await;
    world.pass(10 * SECOND).await;
    assert_eq!(lost_by(&guard.checkpoint().unwrap_err()).0, LostCause::Broken);
}
