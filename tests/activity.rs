//! The hook hears of everything that happens to locks, once, with who did it and why; and the counters agree.

mod support;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use support::{Call, Mode, ProbeError, Rigged, SECOND, Text, by, holding, poll_once, probe, request, send, with};
use tower::Layer;
use tower_lock::{
    Activity, ActivityKind, Caller, LockEndpoint, LockId, LockKind, LockLayer, LockRequest, LockToken, Locks, Principal,
    Refusal,
    locks::{Named, Origin},
    store::{ManualClock, Span},
};

const MINUTE: Duration = Duration::from_secs(60);

/// What the hook was told, in short: `acquired ann remote /a (why)`.
#[derive(Clone, Default)]
struct Trail(Arc<Mutex<Vec<String>>>);

impl Trail {
    fn hook(&self) -> impl Fn(&Activity<'_>) + Send + Sync + 'static {
        let trail = self.clone();
        move |activity| trail.0.lock().unwrap().push(short(activity))
    }

    /// What was told since the last time.
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

fn short(activity: &Activity<'_>) -> String {
    let actor = activity.actor.map_or("-", Principal::as_str);
    let resource = activity.resource.unwrap_or("-");
    let mut text = format!("{} {actor} {} {resource}", activity.kind, activity.origin);
    if let Some(code) = activity.code() {
        text += &format!(" {code}");
    }
    if let Some(reason) = activity.reason {
        text += &format!(" ({reason})");
    }
    let without = matches!(activity.kind, ActivityKind::Refused | ActivityKind::Replaced);
    assert!(activity.lock_id.is_some() || without, "{activity:?}");
    if let Some(lock) = activity.lock {
        assert_eq!((Some(lock.id()), Some(lock.root().path())), (activity.lock_id, activity.resource));
    }
    text
}

struct World {
    trail: Trail,
    clock: ManualClock,
    store: Rigged,
    locks: Locks,
}

impl World {
    fn new() -> Self {
        Self::with(|builder| builder)
    }

    fn with(build: impl FnOnce(tower_lock::LocksBuilder) -> tower_lock::LocksBuilder) -> Self {
        let (trail, clock) = (Trail::default(), ManualClock::new());
        let store = Rigged::new(support::stores::memory(clock.clock()));
        let builder = support::locks_of_users(store.clone()).clock(clock.clock()).on_activity(trail.hook());
        Self { trail, clock, store, locks: build(builder).build() }
    }

    async fn lock(&self, path: &str) -> (LockToken, LockId) {
        let request = LockRequest::exclusive(path).principal("ann").lifetime(MINUTE).reason("editing");
        let granted = self.locks.acquire(request).await.unwrap();
        (granted.token(), granted.lock().id())
    }

    async fn pass(&self, span: Duration) {
        for _ in 0..span.as_secs() {
            self.clock.advance(SECOND);
            settle().await;
        }
    }

    fn told(&self, expected: &[&str]) {
        assert_eq!(self.trail.take(), expected);
    }
}

/// A service that does whatever is asked.
fn service() -> impl tower::Service<
    http::Request<Text>,
    Response = http::Response<Text>,
    Error = ProbeError,
    Future = impl Future<Output = Result<http::Response<Text>, ProbeError>>,
> + Clone {
    probe(|_: http::Request<Text>| std::future::ready(Ok::<_, ProbeError>(http::Response::new(Text::default()))))
}

fn admin() -> Caller {
    Caller::application(Some(Principal::new("root")))
}

async fn settle() {
    for _ in 0..40 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn everything_done_in_code_is_told() {
    let world = World::new();
    let (token, id) = world.lock("/a").await;
    world.locks.refresh(token, None).await.unwrap();
    let _ = world.locks.break_for(&admin(), Named::id(id), "soon", 10 * SECOND).await.unwrap();
    let _ = world.locks.break_for(&admin(), Named::id(id), "now", Duration::ZERO).await.unwrap();
    world.locks.refresh(token, None).await.unwrap_err();
    world.told(&[
        "acquired ann in_process /a (editing)",
        "refreshed - in_process /a (editing)",
        "breaking root in_process /a (soon)",
        "broken root in_process /a (now)",
        "refused - in_process - lock_lost",
    ]);
    let proposed = LockToken::random();
    let twice = || LockRequest::exclusive("/b").and("/c").propose_token(LockToken::random());
    let _two = world.locks.acquire(twice()).await.unwrap();
    let once = || LockRequest::exclusive("/d").propose_token(proposed);
    let _one = world.locks.acquire(once()).await.unwrap();
    let _again = world.locks.acquire(once()).await.unwrap();
    world.locks.release(proposed).await.unwrap();
    world.locks.release(proposed).await.unwrap();
    world.told(&[
        "acquired - in_process /b",
        "acquired - in_process /c",
        "acquired - in_process /d",
        "repeated - in_process /d",
        "released - in_process /d",
    ]);
    let stats = world.locks.stats();
    assert_eq!((stats.granted, stats.repeated, stats.refreshed, stats.released), (4, 1, 1, 1));
    assert_eq!((stats.breaking, stats.broken, stats.refused.lost, stats.refused.total()), (1, 1, 1, 1));
}

#[tokio::test]
async fn a_guard_tells_what_it_does() {
    let world = World::new();
    let guard = world.locks.hold(LockRequest::exclusive("/a").principal("ann").lifetime(MINUTE)).await.unwrap();
    world.pass(30 * SECOND).await;
    drop(guard);
    world.told(&["acquired ann in_process /a", "refreshed ann in_process /a", "released ann in_process /a"]);
    world.pass(5 * MINUTE).await;
    world.told(&[]);
}

#[tokio::test]
async fn what_is_replaced_is_told_before_what_takes_its_place() {
    let world = World::new();
    let (token, _) = world.lock("/a").await;
    let wider = LockRequest::exclusive("/").principal("ann").replacing(token);
    let wider = world.locks.acquire(wider).await.unwrap();
    let taken = LockRequest::exclusive("/").principal("bob").breaking(wider.lock().id(), "mine now");
    let _taken = world.locks.acquire(taken).await.unwrap();
    world.told(&[
        "acquired ann in_process /a (editing)",
        "replaced ann in_process /",
        "acquired ann in_process /",
        "broken bob in_process / (mine now)",
        "acquired bob in_process /",
    ]);
    world.pass(2 * MINUTE).await;
    world.told(&[]);
}

#[tokio::test]
async fn refusals_of_writes_are_told_once_they_are_answers() {
    let world = World::new();
    let mut service = LockLayer::new(world.locks.clone()).layer(service());
    let (token, _) = world.lock("/a").await;
    world.trail.take();
    assert_eq!(send(&mut service, by(request("PUT", "/a"), "bob")).await.status, 423);
    assert_eq!(send(&mut service, holding(by(request("PUT", "/b"), "bob"), token)).await.status, 412);
    assert_eq!(send(&mut service, by(request("PUT", "/a/../b"), "bob")).await.status, 400);
    assert_eq!(send(&mut service, request("PUT", "/a/x")).await.status, 423);
    // What goes on is not told, nor what is read.
    assert_eq!(send(&mut service, holding(by(request("PUT", "/a"), "ann"), token)).await.status, 200);
    assert_eq!(send(&mut service, by(request("GET", "/a"), "bob")).await.status, 200);
    world.told(&[
        "refused bob remote /a locked",
        "refused bob remote /b lock_lost",
        "refused bob remote - ambiguous_path",
        "refused - remote /a/x locked",
    ]);
    for mode in [Mode::Later, Mode::Fail] {
        world.store.set(Call::Admit, mode);
        send(&mut service, by(request("PUT", "/a"), "bob")).await;
    }
    world.told(&["refused bob remote /a locked", "refused bob remote - store_unavailable"]);
    let refused = world.locks.stats().refused;
    assert_eq!((refused.locked, refused.lost, refused.malformed, refused.unavailable), (3, 1, 1, 1));
    assert_eq!(refused.total(), 6);
}

#[tokio::test]
async fn a_write_that_waited_and_went_on_was_never_refused() {
    let world = World::with(tower_lock::LocksBuilder::allow_waiting);
    let (token, _) = world.lock("/a").await;
    world.trail.take();
    for release in [true, false] {
        let locks = world.locks.clone();
        let writing = tokio::spawn(async move {
            let mut service = LockLayer::new(locks).layer(service());
            send(&mut service, with(by(request("PUT", "/a"), "bob"), "prefer", "wait=5")).await.status
        });
        settle().await;
        world.told(&[]);
        assert_eq!(world.locks.stats().waiting, 1);
        if release {
            world.locks.release(token).await.unwrap();
            assert_eq!(writing.await.unwrap(), 200);
            world.told(&["released - in_process /a (editing)"]);
            world.lock("/a").await;
            world.trail.take();
        } else {
            world.pass(6 * SECOND).await;
            assert_eq!(writing.await.unwrap(), 423);
            world.told(&["refused bob remote /a locked"]);
        }
    }
    let stats = world.locks.stats();
    assert_eq!((stats.waits_begun, stats.waits_served, stats.waits_given_up, stats.waiting), (2, 1, 1, 0));
    assert_eq!(stats.refused.total(), 1);
}

#[tokio::test]
async fn acquires_in_line_are_counted_when_they_wait() {
    let world = World::new();
    let (token, _) = world.lock("/a").await;
    let wait = |path: &str| {
        let (locks, request) = (world.locks.clone(), LockRequest::exclusive(path).waiting(10 * SECOND));
        tokio::spawn(async move { locks.acquire(request).await.is_ok() })
    };
    assert!(wait("/free").await.unwrap());
    assert_eq!(world.locks.stats().waits_begun, 0, "what is free is not waited for");
    let first = wait("/a");
    settle().await;
    let second = wait("/a");
    settle().await;
    assert_eq!((world.locks.stats().waits_begun, world.locks.stats().waiting), (2, 2));
    world.locks.release(token).await.unwrap();
    assert!(first.await.unwrap());
    second.abort();
    assert!(second.await.is_err());
    let stats = world.locks.stats();
    assert_eq!((stats.waits_served, stats.waits_given_up, stats.waiting), (1, 1, 0));
}

#[tokio::test]
async fn the_locks_of_what_is_gone_are_told_and_counted() {
    for mode in [Mode::Pass, Mode::Later] {
        let world = World::new();
        world.store.set(Call::Clear, mode);
        let mut service = LockLayer::new(world.locks.clone()).layer(service());
        let (token, _) = world.lock("/a").await;
        world.trail.take();
        assert_eq!(send(&mut service, holding(by(request("DELETE", "/a"), "ann"), token)).await.status, 200);
        world.told(&["cleared ann remote /a (editing)"]);
        assert_eq!(world.locks.stats().cleared, 1);
        // Which failed is not told to have happened.
        let (token, _) = world.lock("/b").await;
        world.store.set(Call::Clear, Mode::Fail);
        world.trail.take();
        assert_eq!(send(&mut service, holding(by(request("DELETE", "/b"), "ann"), token)).await.status, 200);
        world.told(&[]);
    }
}

#[tokio::test]
async fn what_a_holders_write_does_to_its_lock_is_told() {
    for mode in [Mode::Pass, Mode::Later] {
        let world = World::new();
        world.store.set(Call::Refresh, mode);
        world.store.set(Call::Release, mode);
        let mut service = LockLayer::new(world.locks.clone()).layer(service());
        let (token, _) = world.lock("/a").await;
        world.trail.take();
        for preference in ["lock=renew", "lock=release"] {
            let write = with(holding(by(request("PUT", "/a"), "ann"), token), "prefer", preference);
            assert_eq!(send(&mut service, write).await.status, 200);
        }
        world.told(&["refreshed ann remote /a (editing)", "released ann remote /a (editing)"]);
    }
}

#[tokio::test]
async fn what_is_done_over_http_is_told_as_remote_and_refused_once() {
    let world = World::with(|builder| {
        builder.authorizer(|ask: &tower_lock::AuthorizeAsk<'_>| match ask.key.path() {
            "/secret" => tower_lock::Access::Denied,
            _ => tower_lock::Access::Allowed,
        })
    });
    let mut endpoint = LockEndpoint::new(world.locks.clone());
    let acquired = send(&mut endpoint, by(request("PUT", "/a"), "ann")).await;
    let token: LockToken = acquired.json()["token"].as_str().unwrap().parse().unwrap();
    assert_eq!(acquired.status, 201);
    assert_eq!(send(&mut endpoint, by(request("PUT", "/a"), "bob")).await.status, 423);
    assert_eq!(send(&mut endpoint, by(request("PUT", "/secret"), "bob")).await.status, 403);
    assert_eq!(send(&mut endpoint, by(request("BREW", "/a"), "bob")).await.status, 405);
    assert_eq!(send(&mut endpoint, by(request("PATCH", "/a"), "bob")).await.status, 400);
    assert_eq!(send(&mut endpoint, by(request("GET", "/?id=nonsense"), "bob")).await.status, 400);
    assert_eq!(send(&mut endpoint, by(request("GET", "/a"), "bob")).await.status, 200);
    assert_eq!(send(&mut endpoint, holding(by(request("PATCH", "/a"), "ann"), token)).await.status, 200);
    assert_eq!(send(&mut endpoint, holding(by(request("DELETE", "/a"), "ann"), token)).await.status, 204);
    world.told(&[
        "acquired ann remote /a",
        "refused bob remote /a locked",
        "refused bob remote - forbidden",
        "refused bob remote - method_not_allowed",
        "refused bob remote /a bad_request",
        "refused bob remote - bad_request",
        "refreshed ann remote /a",
        "released ann remote /a",
    ]);
    assert_eq!(world.locks.stats().refused.total(), 5);
}

#[tokio::test]
async fn an_expiry_is_told_once_when_the_time_is_up() {
    let world = World::new();
    world.lock("/a").await;
    let (token, _) = world.lock("/b").await;
    world.pass(30 * SECOND).await;
    world.locks.refresh(token, None).await.unwrap();
    world.trail.take();
    world.pass(29 * SECOND).await;
    world.told(&[]);
    world.pass(SECOND).await;
    world.told(&["expired - in_process /a (editing)"]);
    world.pass(30 * SECOND).await;
    world.told(&["expired - in_process /b (editing)"]);
    world.pass(10 * MINUTE).await;
    world.told(&[]);
    assert_eq!(world.locks.stats().expired, 2);
    assert_eq!(tasks(), 0, "nothing is left to be told");
    world.lock("/c").await;
    world.pass(MINUTE).await;
    world.told(&["acquired ann in_process /c (editing)", "expired - in_process /c (editing)"]);
}

fn tasks() -> usize {
    tokio::runtime::Handle::current().metrics().num_alive_tasks()
}

#[tokio::test]
async fn what_another_node_did_to_a_lock_is_not_told_as_an_expiry() {
    let world = World::new();
    let other = Trail::default();
    let node = Locks::builder(world.store.clone()).clock(world.clock.clock()).on_activity(other.hook()).build();
    let (released, _) = world.lock("/released").await;
    let (_, broken) = world.lock("/broken").await;
    let (replaced, _) = world.lock("/replaced").await;
    let (refreshed, _) = world.lock("/refreshed").await;
    world.trail.take();
    node.release(released).await.unwrap();
    let _ = node.break_for(&admin(), Named::id(broken), "now", Duration::ZERO).await.unwrap();
    let _by = node.acquire(LockRequest::exclusive("/replaced").principal("ann").replacing(replaced)).await.unwrap();
    world.pass(30 * SECOND).await;
    node.refresh(refreshed, None).await.unwrap();
    world.pass(31 * SECOND).await;
    world.told(&[]);
    other.take();
    world.pass(30 * SECOND).await;
    // One node or the other tells it, whoever granted it or knows its token: at least once, and here by both.
    world.told(&["expired - in_process /refreshed (editing)"]);
}

#[tokio::test]
async fn the_end_of_a_grace_period_is_told_by_whoever_began_it() {
    let world = World::new();
    let other = Trail::default();
    let node = Locks::builder(world.store.clone()).clock(world.clock.clock()).on_activity(other.hook()).build();
    let (_, here) = world.lock("/here").await;
    let (_, there) = world.lock("/there").await;
    let (token, given_up) = world.lock("/given-up").await;
    world.trail.take();
    let _ = world.locks.break_for(&admin(), Named::id(here), "soon", 10 * SECOND).await.unwrap();
    let _ = world.locks.break_for(&admin(), Named::id(given_up), "soon", 10 * SECOND).await.unwrap();
    let _ = node.break_for(&admin(), Named::id(there), "soon", 10 * SECOND).await.unwrap();
    world.locks.release(token).await.unwrap();
    world.pass(9 * SECOND).await;
    world.told(&[
        "breaking root in_process /here (soon)",
        "breaking root in_process /given-up (soon)",
        "released - in_process /given-up (editing)",
    ]);
    world.pass(2 * MINUTE).await;
    world.told(&["broken root in_process /here (soon)"]);
    assert_eq!(other.take(), ["breaking root in_process /there (soon)", "broken root in_process /there (soon)"]);
}

#[tokio::test]
async fn an_expiry_during_an_outage_is_told_after_it() {
    for mode in [Mode::Fail, Mode::Never] {
        let world = World::new();
        world.lock("/a").await;
        world.trail.take();
        for call in [Call::Find, Call::Refresh] {
            world.store.set(call, mode);
            tokio::time::pause();
            world.pass(90 * SECOND).await;
            world.told(&[]);
            world.store.set(call, Mode::Pass);
            tokio::time::advance(10 * SECOND).await;
            tokio::time::resume();
        }
        world.pass(5 * SECOND).await;
        world.told(&["expired - in_process /a (editing)"]);
    }
}

#[tokio::test]
async fn an_endless_lock_and_a_dropped_hub_leave_no_task() {
    let world = World::new();
    let _frozen = world.locks.acquire(LockRequest::exclusive("/frozen").kind(LockKind::Freeze)).await.unwrap();
    settle().await;
    assert_eq!(tasks(), 0);
    world.lock("/a").await;
    assert_eq!(tasks(), 1, "one for all");
    world.lock("/b").await;
    assert_eq!(tasks(), 1, "one for all");
    drop(world.locks);
    settle().await;
    assert_eq!(tasks(), 0);
}

#[tokio::test]
async fn locks_granted_outside_of_a_runtime_are_told_once_there_is_one() {
    let world = World::new();
    let locks = world.locks.clone();
    std::thread::spawn(move || {
        let mut acquiring = std::pin::pin!(locks.acquire(LockRequest::exclusive("/a").lifetime(MINUTE)));
        assert!(poll_once(acquiring.as_mut()).is_ready());
    })
    .join()
    .unwrap();
    world.pass(2 * MINUTE).await;
    world.told(&["acquired - in_process /a"]);
    world.lock("/b").await;
    settle().await;
    world.told(&["acquired ann in_process /b (editing)", "expired - in_process /a"]);
}

#[tokio::test]
async fn a_lock_that_writes_keep_alive_expires_when_they_end() {
    let world = World::new();
    let (token, _) = world.lock("/a").await;
    let endless = probe(|_: http::Request<Text>| std::future::pending::<Result<http::Response<Text>, ProbeError>>());
    let mut service = LockLayer::new(world.locks.clone()).layer(endless);
    futures_util::future::poll_fn(|cx| tower::Service::poll_ready(&mut service, cx)).await.unwrap();
    world.trail.take();
    let mut writing = Box::pin(tower::Service::call(&mut service, holding(by(request("PUT", "/a"), "ann"), token)));
    assert!(poll_once(writing.as_mut()).is_pending());
    world.pass(5 * MINUTE).await;
    world.told(&[]);
    drop(writing);
    world.pass(MINUTE).await;
    world.told(&["expired - in_process /a (editing)"]);
}

#[tokio::test]
async fn a_hook_may_ask_the_locks_themselves() {
    let slot: Arc<Mutex<Option<Locks>>> = Arc::default();
    let (hub, heard) = (slot.clone(), Arc::new(Mutex::new(0)));
    let seen = heard.clone();
    let locks = Locks::builder(tower_lock::MemoryStore::new())
        .on_activity(move |_| {
            let locks = hub.lock().unwrap().clone().expect("built");
            *seen.lock().unwrap() += locks.stats().granted;
            let key = tower_lock::ResourceKey::from_canonical("/a");
            let mut asking = std::pin::pin!(locks.covering(&key));
            assert!(poll_once(asking.as_mut()).is_ready(), "no lock of the hub's own is held");
        })
        .build();
    *slot.lock().unwrap() = Some(locks.clone());
    locks.hold(LockRequest::exclusive("/a")).await.unwrap().release().await.unwrap();
    assert_eq!(*heard.lock().unwrap(), 2);
    *slot.lock().unwrap() = None;
}

#[tokio::test]
async fn a_refused_function_tells_it_before_anything_is_answered() {
    let world = World::new();
    let bob = Caller::remote(Some("bob".into()));
    let job = LockRequest::exclusive("/x").kind(LockKind::Job);
    let refusal: Refusal = world.locks.acquire_for(&bob, job).await.unwrap_err();
    assert_eq!(refusal.code().as_str(), "forbidden");
    let refusal = world.locks.refresh_for(&bob, Named::nothing(), Span::Same).await.unwrap_err();
    assert_eq!(refusal.code().as_str(), "bad_request");
    world.told(&["refused bob remote - forbidden", "refused bob remote - bad_request"]);
    assert_eq!(Origin::Remote.as_str(), "remote");
}

#[tokio::test]
async fn without_a_hook_nothing_is_remembered_and_no_task_runs() {
    let clock = ManualClock::new();
    let locks = Locks::builder(support::stores::memory(clock.clock())).clock(clock.clock()).build();
    let _kept = locks.acquire(LockRequest::exclusive("/a").lifetime(MINUTE)).await.unwrap();
    assert_eq!(tasks(), 0);
    clock.advance(2 * MINUTE);
    settle().await;
    assert_eq!((locks.stats().granted, locks.stats().expired, tasks()), (1, 0, 0));
}
