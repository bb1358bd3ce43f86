//! The ten guarantees of the crate, one test each, through the layer over a memory store. The tables and the races behind
//! them have files of their own: `spellings`, `servers`, `methods`, `middleware`, `refusals`, `allocations`, `http`, and
//! the conformance suite.

mod support;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use http::{Request, Response};
use support::{
    Call, Mode, ProbeError, Rigged, SECOND, Text, by, holding, lock, lock_for, locks_of_users, poll_once, probe, request,
    send, stores::memory, until, with,
};
use tokio::sync::Semaphore;
use tower::{Service, ServiceExt};
use tower_layer::Layer;
use tower_lock::{
    Admission, Caller, Depth, KeyRules, Limits, LockLayer, LockRequest, LockScope, Locks, MemoryStore, Owner, Principal,
    ResourceKey,
    lock::Dots,
    locks::{Broken, Named},
    store::{Clock, LockQuery, ManualClock},
};

const HOUR: Duration = Duration::from_secs(60 * 60);

fn saved() -> impl Service<Request<Text>, Response = Response<Text>, Error = ProbeError, Future: Send> + Clone {
    probe(async |_: Request<Text>| Ok(Response::new(Text::default())))
}

/// A service whose writes run until the test lets one go on.
fn stalled(
    gate: &Arc<Semaphore>,
) -> impl Service<Request<Text>, Response = Response<Text>, Error = ProbeError, Future: Send> + Clone + use<> {
    let gate = gate.clone();
    probe(move |_: Request<Text>| {
        let gate = gate.clone();
        async move {
            gate.acquire().await.expect("open").forget();
            Ok(Response::new(Text::default()))
        }
    })
}

async fn status<S>(service: &mut S, request: Request<Text>) -> u16
where
    S: Service<Request<Text>, Error = ProbeError>,
    S::Response: Into<Response<tower_lock::respond::ResponseBody<Text>>>,
{
    service.ready().await.unwrap().call(request).await.unwrap().into().status().as_u16()
}

#[tokio::test]
async fn g1_no_bypass_however_the_uri_is_spelled_and_whichever_header_names_it() {
    let probe = probe(async |_: Request<Text>| Ok::<_, ProbeError>(Response::new(Text::default())));
    let counts = probe.counts();
    let locks = Locks::new(MemoryStore::new());
    lock(&locks, "/docs/locked", Depth::Infinity).await;
    let mut service = LockLayer::new(locks).layer(probe);
    for target in [
        "/docs/locked",
        "/docs//locked/",
        "/%64ocs%2F./locked",
        "//docs/locked?x#y",
        "http://elsewhere/docs/locked/below",
        "/docs/x/../locked",
        "/docs/x%2f%2E%2e/locked",
    ] {
        for method in ["PUT", "PATCH", "POST", "DELETE", "PROPPATCH", "MKCOL", "MOVE", "put", "X-NEW"] {
            assert!(matches!(status(&mut service, request(method, target)).await, 423 | 400), "{method} {target}");
        }
        for method in ["COPY", "MOVE", "X-NEW"] {
            let write = with(request(method, "/docs/free"), "destination", target);
            assert!(matches!(status(&mut service, write).await, 423 | 400), "{method} to {target}");
        }
    }
    // From above, with all below.
    for method in ["DELETE", "MOVE", "X-NEW"] {
        assert_eq!(status(&mut service, request(method, "/docs")).await, 423, "{method}");
    }
    assert_eq!(counts.calls(), 0, "nothing reached the service");
}

#[tokio::test]
async fn g2_free_reads_ask_the_store_nothing_and_clone_nothing() {
    let store = Rigged::all(MemoryStore::new(), Mode::Fail);
    let probe = probe(async |_: Request<Text>| Ok::<_, ProbeError>(Response::new(Text::default())));
    let counts = probe.counts();
    let mut service = LockLayer::new(Locks::new(store.clone())).layer(probe);
    for method in ["GET", "HEAD", "OPTIONS", "TRACE", "PROPFIND", "REPORT", "SEARCH", "QUERY"] {
        assert_eq!(status(&mut service, request(method, "/docs/../x")).await, 200, "{method}");
    }
    assert_eq!((counts.calls(), counts.clones(), store.all_calls()), (8, 0, 0));
}

#[tokio::test]
async fn g3_no_overtaking_a_lock_is_granted_only_after_the_writes_that_it_would_refuse() {
    let store = MemoryStore::new();
    let locks = Locks::new(store.clone());
    let gate = Arc::new(Semaphore::new(0));
    let service = LockLayer::new(locks.clone()).layer(stalled(&gate));
    // Two ordinary writers of one resource: neither refuses nor delays the other.
    let writes = [(); 2].map(|()| tokio::spawn(service.clone().oneshot(request("PUT", "/docs/7"))));
    until("two writes in flight", || store.stats().in_flight == 2).await;
    let acquirer = locks.clone();
    let ask = LockRequest::exclusive("/docs").draining(HOUR);
    let acquiring = tokio::spawn(async move { acquirer.acquire(ask).await });
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert!(!acquiring.is_finished(), "granted over writes in flight");
    let answer = send(&mut LockLayer::new(locks.clone()).layer(saved()), request("PUT", "/docs/8")).await;
    assert_eq!(answer.status, 423, "what comes later waits for the lock, not the lock for it");
    assert_eq!(answer.json()["locks"][0]["state"], "pending");
    assert_eq!(status(&mut LockLayer::new(locks.clone()).layer(saved()), request("PUT", "/free")).await, 200);

    gate.add_permits(1);
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert!(!acquiring.is_finished(), "granted over the other write");
    gate.add_permits(1);
    let granted = acquiring.await.unwrap().unwrap();
    assert_eq!((granted.lock().root().path(), store.stats().in_flight), ("/docs", 0));
    for write in writes {
        assert_eq!(write.await.unwrap().unwrap().status(), 200);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn g4_one_holder_of_what_overlaps_under_any_interleaving() {
    let locks = Locks::new(MemoryStore::new());
    for _ in 0..200 {
        let start = Arc::new(tokio::sync::Barrier::new(6));
        let tasks = ["/a", "/a/b", "/a/b/c", "/a/b", "/", "/a"].map(|path| {
            let (locks, start) = (locks.clone(), start.clone());
            tokio::spawn(async move {
                start.wait().await;
                locks.acquire(LockRequest::exclusive(path)).await
            })
        });
        let mut granted = Vec::new();
        for task in tasks {
            match task.await.unwrap() {
                Ok(held) => granted.push(held),
                Err(refusal) => assert_eq!(refusal.status(), 423),
            }
        }
        assert_eq!(granted.len(), 1, "{granted:?}");
        locks.release(granted[0].token()).await.unwrap();
    }
}

#[tokio::test]
async fn g5_no_zombie_an_ended_lock_is_absent_from_every_answer_at_once() {
    let clock = ManualClock::new();
    let locks = Locks::new(memory(clock.clock()));
    let mut service = LockLayer::new(locks.clone()).layer(saved());
    let key = ResourceKey::parse("/a").unwrap();
    let granted = locks.acquire(LockRequest::exclusive("/a").lifetime(SECOND * 60)).await.unwrap();
    clock.advance(SECOND * 60 - Duration::from_micros(1));
    assert_eq!(status(&mut service, request("PUT", "/a")).await, 423);
    assert_eq!(locks.covering(&key).await.unwrap().len(), 1);
    clock.advance(Duration::from_micros(1));
    assert_eq!(status(&mut service, request("PUT", "/a")).await, 200);
    assert_eq!(status(&mut service, holding(request("PUT", "/a"), granted.token())).await, 412);
    assert!(locks.covering(&key).await.unwrap().is_empty());
    assert!(locks.inspect_id(&Caller::application(None), granted.lock().id()).await.unwrap().is_none());
    assert!(locks.store().find(&LockQuery::id(granted.lock().id())).await.unwrap().locks.is_empty());
    assert_eq!(locks.refresh(granted.token(), None).await.unwrap_err().status(), 412);
    // A clock that is set back revives nothing that an acquire disregarded.
    let next = locks.acquire(LockRequest::exclusive("/a").lifetime(SECOND * 60)).await.unwrap();
    clock.step_back(SECOND * 30);
    assert_eq!(locks.covering(&key).await.unwrap().iter().map(tower_lock::Lock::id).collect::<Vec<_>>(), [next.lock().id()]);
    clock.advance(SECOND * 90);

    // Never past its total life, however often it is refreshed; and a user's lock is never endless.
    let granted = locks.acquire(LockRequest::exclusive("/a").endless()).await.unwrap();
    assert!(granted.is_clamped() && granted.lock().expires_in() == Some(60 * 60));
    for _ in 0..23 {
        clock.advance(HOUR - SECOND);
        locks.refresh(granted.token(), Some(HOUR)).await.unwrap();
    }
    let started = granted.lock().created_at();
    let last = locks.refresh(granted.token(), Some(HOUR)).await.unwrap();
    assert!(last.lock.expires_at().unwrap() <= started.after(24 * HOUR));
    clock.advance(HOUR);
    while clock.clock().now() < started.after(24 * HOUR) {
        clock.advance(SECOND);
    }
    assert_eq!(status(&mut service, request("PUT", "/a")).await, 200);
}

#[tokio::test]
async fn g6_fencing_every_grant_has_a_larger_generation_and_every_write_knows_the_one_it_was_admitted_at() {
    let locks = Locks::new(MemoryStore::new());
    let seen: Arc<Mutex<Vec<u64>>> = Arc::default();
    let sink = seen.clone();
    let mut service = LockLayer::new(locks.clone()).fence_all().layer(probe(move |request: Request<Text>| {
        sink.lock().unwrap().push(request.extensions().get::<Admission>().unwrap().generation());
        std::future::ready(Ok::<_, ProbeError>(Response::new(Text::default())))
    }));
    let mut largest = 0;
    for path in ["/a", "/a/b", "/", "/a/b/c", "/a"] {
        assert_eq!(status(&mut service, request("PUT", "/a/b/c")).await, 200);
        let before = *seen.lock().unwrap().last().unwrap();
        let granted = locks.acquire(LockRequest::exclusive(path)).await.unwrap();
        let generation = granted.lock().generation();
        assert!(generation > largest, "{path}: {generation} after {largest}");
        assert!(before < generation, "{path}: a write admitted before the grant is told from one after it");
        let held = with(request("PUT", "/a/b/c"), "if", format!("<{path}> (<{}>)", granted.token().urn()));
        assert_eq!(status(&mut service, held).await, 200);
        assert!(*seen.lock().unwrap().last().unwrap() >= generation);
        largest = generation;
        locks.release(granted.token()).await.unwrap();
    }
}

#[tokio::test]
async fn g7_no_lapse_under_way_a_lock_outlives_its_end_while_its_holder_writes() {
    let clock = ManualClock::new();
    let store = memory(clock.clock());
    let locks = Locks::new(store.clone());
    let granted = locks.acquire(LockRequest::exclusive("/a").lifetime(SECOND * 60)).await.unwrap();
    let gate = Arc::new(Semaphore::new(0));
    let upload = LockLayer::new(locks.clone()).layer(stalled(&gate)).oneshot(holding(request("PUT", "/a"), granted.token()));
    let mut upload = Box::pin(upload);
    // The probe hesitates once.
    assert!(poll_once(upload.as_mut()).is_pending() && poll_once(upload.as_mut()).is_pending());
    assert_eq!(store.stats().in_flight, 1);
    clock.advance(2 * HOUR);
    let mut others = LockLayer::new(locks.clone()).layer(saved());
    let answer = send(&mut others, request("PUT", "/a")).await;
    assert_eq!((answer.status.as_u16(), &answer.json()["locks"][0]["in_use"]), (423, &true.into()));
    gate.add_permits(1);
    assert_eq!(upload.await.unwrap().status(), 200, "a two-hour upload under a sixty-second lock");
    assert_eq!(status(&mut others, request("PUT", "/a")).await, 200, "it ended with the write");

    // Its total life is the bound.
    let granted = locks.acquire(LockRequest::exclusive("/b").lifetime(SECOND * 60)).await.unwrap();
    let endless =
        LockLayer::new(locks.clone()).layer(stalled(&gate)).oneshot(holding(request("PUT", "/b"), granted.token()));
    let mut endless = Box::pin(endless);
    assert!(poll_once(endless.as_mut()).is_pending() && poll_once(endless.as_mut()).is_pending());
    clock.advance(24 * HOUR - SECOND);
    assert_eq!(status(&mut others, request("PUT", "/b")).await, 423);
    clock.advance(SECOND);
    assert_eq!(status(&mut others, request("PUT", "/b")).await, 200);
}

#[tokio::test(start_paused = true)]
async fn g8_truth_a_store_that_cannot_answer_is_503_and_a_lost_lock_is_told_from_a_held_one() {
    let store = Rigged::new(MemoryStore::new());
    let locks = Locks::new(store.clone());
    let (held, lost) = (lock(&locks, "/held", Depth::Infinity).await, lock(&locks, "/lost", Depth::Infinity).await);
    locks.release(lost).await.unwrap();
    let mut service = LockLayer::new(locks).layer(saved());
    for mode in [Mode::Fail, Mode::Never] {
        store.set(Call::Admit, mode);
        for (path, token) in [("/held", None), ("/held", Some(held)), ("/lost", Some(lost)), ("/free", None)] {
            let write = request("PUT", path);
            let write = if let Some(token) = token { holding(write, token) } else { write };
            let answer = send(&mut service, write).await;
            assert_eq!((answer.status.as_u16(), answer.code().as_str()), (503, "store_unavailable"), "{mode:?} {path}");
            assert_eq!(send(&mut service, request("GET", path)).await.status, 200);
        }
    }
    store.set(Call::Admit, Mode::Pass);
    for (write, status, code) in [
        (request("PUT", "/held"), 423, "locked"),
        (holding(request("PUT", "/lost"), lost), 412, "lock_lost"),
        (holding(request("PUT", "/held"), lost), 412, "lock_lost"),
    ] {
        let answer = send(&mut service, write).await;
        assert_eq!((answer.status.as_u16(), answer.code().as_str()), (status, code));
        assert_eq!(
            answer.json()["locks"].as_array().is_some_and(|locks| !locks.is_empty()),
            answer.json()["resource"] == "/held"
        );
    }
    assert_eq!(send(&mut service, holding(request("PUT", "/held"), held)).await.status, 200);
}

#[tokio::test]
async fn g9_secrets_a_token_works_for_its_principal_alone_and_is_shown_to_nobody_else() {
    let store = MemoryStore::new();
    let locks = locks_of_users(store.clone()).build();
    let token = lock_for(&locks, "ann", "/a", LockScope::Exclusive).await;
    let other = lock_for(&locks, "ann", "/b", LockScope::Exclusive).await;
    let digits = token.as_uuid().simple().to_string();
    let mut service = LockLayer::new(locks.clone()).layer(saved());
    for (write, expected) in [
        (by(holding(request("PUT", "/a"), token), "ann"), 200),
        // It is the token of a lock that is there, so `If` is true; it answers for nothing.
        (by(holding(request("PUT", "/a"), token), "bob"), 423),
        (holding(request("PUT", "/a"), token), 423),
        // `Lock-Token` asks for a lock of the caller's own.
        (by(with(request("PUT", "/a"), "lock-token", format!("<{}>", token.urn())), "bob"), 412),
        (by(with(request("PUT", "/a"), "if", format!("(<{}>) (Not <DAV:no-lock>)", token.urn())), "bob"), 423),
        // Nor does the token of another lock of one's own, or no token.
        (by(with(request("PUT", "/a"), "if", format!("(<{}>) (Not <DAV:no-lock>)", other.urn())), "ann"), 423),
        (by(request("PUT", "/a"), "ann"), 423),
    ] {
        let answer = send(&mut service, write).await;
        assert_eq!(answer.status, expected);
        let shown = format!("{answer:?}").replace('-', "");
        assert!(!shown.contains(&digits), "{shown}");
    }
    let seen = locks.store().find(&LockQuery::covering(ResourceKey::parse("/a").unwrap())).await.unwrap();
    let shown = format!("{seen:?} {store:?} {locks:?} {token:?}").replace('-', "");
    assert!(!shown.contains(&digits), "{shown}");
    // Two tokens have nothing in common but what every UUID of version 4 has.
    assert_ne!(token, other);
    assert_eq!(token.as_uuid().get_version_num(), 4);
}

#[tokio::test]
async fn g10_bounded_everything_has_a_limit_and_a_clear_refusal_past_it() {
    let mut limits = Limits::default();
    limits.locks_per_principal = 3;
    limits.locks_in_store = 5;
    limits.blockers_named = 2;
    let store = MemoryStore::builder().clock(Clock::system()).remember(10).build();
    let locks = Locks::builder(store.clone()).limits(limits).keys_by(KeyRules::new().dots(Dots::Refuse)).build();
    let ask = async |user: &'static str, request: LockRequest| {
        locks.acquire(request.principal(user)).await.map_err(|refusal| (refusal.status().as_u16(), refusal.code().as_str()))
    };
    // Locks, of a principal and in the store.
    for path in ["/a/1", "/a/2", "/a/3"] {
        drop(ask("ann", LockRequest::exclusive(path)).await.unwrap());
    }
    assert_eq!(ask("ann", LockRequest::exclusive("/a/4")).await.unwrap_err(), (429, "lock_quota"));
    drop(ask("bob", LockRequest::exclusive("/b/1").and("/b/2")).await.unwrap());
    assert_eq!(ask("cyd", LockRequest::exclusive("/c")).await.unwrap_err(), (503, "store_full"));
    // Roots, and texts.
    let many = (0..100).fold(LockRequest::exclusive("/x"), |request, at| request.and(format!("/y/{at}")));
    for request in [
        many,
        LockRequest::exclusive(format!("/{}", "x".repeat(ResourceKey::MAX_ROOT))),
        LockRequest::exclusive("/x").owner(Owner::id("x".repeat(8 * 1024 + 1))),
        LockRequest::exclusive("/x").reason("x".repeat(8 * 1024 + 1)),
        LockRequest::exclusive("/x").client_ref("x".repeat(1024 + 1)),
        LockRequest::exclusive("/x").kind("x".repeat(65).as_str().into()),
        LockRequest::exclusive("/x").lifetime(Duration::ZERO),
    ] {
        assert_eq!(ask("dan", request).await.unwrap_err(), (400, "bad_request"));
    }
    // Tokens and conditions of a request, and the locks that a refusal names.
    let mut service = LockLayer::new(locks.clone()).layer(saved());
    let tokens =
        |count: usize| -> String { (0..count).map(|at| format!("(<urn:uuid:00000000-0000-4000-8000-{at:012}>)")).collect() };
    let etags = |count| format!("({})", "[\"x\"]".repeat(count));
    for (header, expected) in [(tokens(64), 412), (tokens(65), 400), (etags(256), 200), (etags(257), 400)] {
        assert_eq!(send(&mut service, with(request("PUT", "/free"), "if", header)).await.status, expected);
    }
    let body = send(&mut service, request("DELETE", "/a")).await.json();
    assert_eq!((body["locks"].as_array().unwrap().len(), &body["truncated"]), (2, &true.into()));
    // Resources of one write.
    let wide = |count: u64| {
        let keys = Locks::builder(MemoryStore::new()).keys_fn(move |_| {
            Ok(tower_lock::request::Resolved::keys((0..count).map(|at| ResourceKey::from_canonical(format!("/{at}")))))
        });
        LockLayer::new(keys.build()).layer(saved())
    };
    assert_eq!(send(&mut wide(1_000), request("PUT", "/")).await.status, 200);
    assert_eq!(send(&mut wide(1_001), request("PUT", "/")).await.status, 400);
    // Dead locks remembered.
    let ann = Principal::new("eve");
    for _ in 0..3 {
        for lock in locks.store().find(&LockQuery::at_or_below(ResourceKey::from_canonical("/"))).await.unwrap().locks {
            let named = Named::id(lock.id());
            let broken = locks.break_for(&Caller::application(Some(ann.clone())), named, "room", Duration::ZERO).await;
            assert!(matches!(broken, Ok(Broken::Ended(_))), "{broken:?}");
        }
        for path in 0..5 {
            drop(locks.acquire(LockRequest::exclusive(format!("/{path}")).principal(format!("p{path}"))).await.unwrap());
        }
    }
    assert_eq!((store.stats().locks, store.stats().dead), (5, 10));
}
