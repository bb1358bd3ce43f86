//! The method table of the rules, row by row through the layer: for every method and every place of a lock, whether the
//! write is refused; the order of answers; and which locks end with a resource that went.

mod support;

use std::sync::{Arc, Mutex};

use http::{Request, Response, StatusCode};
use support::{Call, Mode, ProbeError, Rigged, Text, holding, lock, poll_once, probe, request, send, stores::memory, with};
use tower::{Service, ServiceExt};
use tower_layer::Layer;
use tower_lock::{
    Depth, LockLayer, LockRequest, Locks, MemoryStore,
    locks::Incident,
    store::{Clock, LockStore},
};

const TARGET: &str = "/a/b/target";
const DESTINATION: &str = "/x/y/destination";

/// Every place of a lock that a row of the table tells apart.
const PLACES: &[(&str, &str, Depth)] = &[
    ("on the target", TARGET, Depth::Infinity),
    ("on the target alone", TARGET, Depth::Zero),
    ("below the target", "/a/b/target/child", Depth::Infinity),
    ("deep below the target", "/a/b/target/child/grandchild", Depth::Zero),
    ("on the parent", "/a/b", Depth::Infinity),
    ("on the parent alone", "/a/b", Depth::Zero),
    ("on the grandparent", "/a", Depth::Infinity),
    ("on the grandparent alone", "/a", Depth::Zero),
    ("beside the target", "/a/b/other", Depth::Infinity),
    ("on a name that starts alike", "/a/b/target2", Depth::Infinity),
    ("on the destination", DESTINATION, Depth::Infinity),
    ("on the destination alone", DESTINATION, Depth::Zero),
    ("below the destination", "/x/y/destination/child", Depth::Zero),
    ("on the destination's parent", "/x/y", Depth::Infinity),
    ("on the destination's parent alone", "/x/y", Depth::Zero),
    ("on the destination's grandparent", "/x", Depth::Infinity),
    ("on the destination's grandparent alone", "/x", Depth::Zero),
    ("beside the destination", "/x/y/other", Depth::Infinity),
    ("on the root", "/", Depth::Infinity),
    ("on the root alone", "/", Depth::Zero),
    ("elsewhere", "/elsewhere", Depth::Infinity),
];

/// What covers the target itself.
const COVERING: &[&str] = &["on the target", "on the target alone", "on the parent", "on the grandparent", "on the root"];
/// What lies below the target.
const BELOW: &[&str] = &["below the target", "deep below the target"];
/// What protects the membership of the target's parent, and does not cover the target.
const MEMBERSHIP: &[&str] = &["on the parent alone"];
/// The same three for the destination.
const DESTINATION_ALL: &[&str] = &[
    "on the destination",
    "on the destination alone",
    "below the destination",
    "on the destination's parent",
    "on the destination's parent alone",
    "on the destination's grandparent",
    "on the root",
];

fn saved() -> impl Service<Request<Text>, Response = Response<Text>, Error = ProbeError, Future: Send> + Clone {
    probe(async |_: Request<Text>| Ok(Response::new(Text::default())))
}

/// Sends `method` with a lock in every place, one at a time; exactly the places of `refused` refuse it, and the holder
/// of the lock is admitted in all of them.
async fn check_row(method: &str, destination: Option<&str>, refused: &[&[&str]]) {
    let refused = refused.concat();
    for mode in [Mode::Pass, Mode::Later] {
        for (place, path, depth) in PLACES {
            let store = MemoryStore::new();
            let locks = Locks::new(Rigged::all(store.clone(), mode));
            let token = lock(&locks, path, *depth).await;
            let write = || {
                let write = request(method, TARGET);
                if let Some(path) = destination { with(write, "destination", path) } else { write }
            };
            let mut service = LockLayer::new(locks.clone()).layer(saved());
            let answer = send(&mut service, write()).await;
            let expected = if refused.contains(place) { 423 } else { 200 };
            assert_eq!(answer.status, expected, "{method} with a lock {place}: {answer:?}");
            // `If` is true of no resource here that the lock does not cover: the token comes untagged with a way out.
            let held = with(write(), "if", format!("(<{}>) (Not <DAV:no-lock>)", token.urn()));
            assert_eq!(send(&mut service, held).await.status, 200, "{method} by the holder of a lock {place}");
            assert_eq!(store.stats().in_flight, 0);
        }
    }
}

#[tokio::test]
async fn row_put() {
    check_row("PUT", Some(DESTINATION), &[COVERING, MEMBERSHIP]).await;
}

#[tokio::test]
async fn row_patch() {
    check_row("PATCH", Some(DESTINATION), &[COVERING, MEMBERSHIP]).await;
}

#[tokio::test]
async fn row_post() {
    check_row("POST", Some(DESTINATION), &[COVERING, MEMBERSHIP]).await;
}

#[tokio::test]
async fn row_proppatch() {
    check_row("PROPPATCH", Some(DESTINATION), &[COVERING]).await;
}

#[tokio::test]
async fn row_mkcol() {
    check_row("MKCOL", Some(DESTINATION), &[COVERING, MEMBERSHIP]).await;
}

#[tokio::test]
async fn row_delete() {
    check_row("DELETE", Some(DESTINATION), &[COVERING, MEMBERSHIP, BELOW]).await;
}

#[tokio::test]
async fn row_copy() {
    check_row("COPY", Some(DESTINATION), &[DESTINATION_ALL]).await;
    check_row("COPY", Some("http://other.example/x//y/%64estination/"), &[DESTINATION_ALL]).await;
    check_row("COPY", None, &[COVERING, MEMBERSHIP, BELOW]).await;
}

#[tokio::test]
async fn row_move() {
    check_row("MOVE", Some(DESTINATION), &[COVERING, MEMBERSHIP, BELOW, DESTINATION_ALL]).await;
    check_row("MOVE", None, &[COVERING, MEMBERSHIP, BELOW]).await;
}

#[tokio::test]
async fn row_unknown() {
    for method in ["LOCK", "BIND", "put", "Delete", "get", "X-HEARD-OF-NOWHERE", "MKCALENDAR"] {
        check_row(method, Some(DESTINATION), &[COVERING, MEMBERSHIP, BELOW, DESTINATION_ALL]).await;
        check_row(method, None, &[COVERING, MEMBERSHIP, BELOW]).await;
    }
}

#[tokio::test]
async fn row_reads() {
    for method in ["GET", "HEAD", "OPTIONS", "TRACE", "CONNECT", "PROPFIND", "REPORT", "SEARCH", "QUERY"] {
        check_row(method, Some(DESTINATION), &[]).await;
        let store = Rigged::new(MemoryStore::new());
        let mut service = LockLayer::new(Locks::new(store.clone())).layer(saved());
        // Not even a malformed one is anything to the layer.
        for target in [TARGET, "/a/../b", "/%zz"] {
            let read = with(with(request(method, target), "destination", "//h/a"), "if", "(((");
            assert_eq!(send(&mut service, read).await.status, 200, "{method} {target}");
        }
        assert_eq!(store.all_calls(), 0, "{method}");
    }
}

#[tokio::test]
async fn answers_come_in_the_order_400_503_428_412_423() {
    let store = Rigged::new(MemoryStore::new());
    let locks = Locks::new(store.clone());
    let token = lock(&locks, "/a", Depth::Infinity).await;
    let lost = lock(&locks, "/lost", Depth::Zero).await;
    locks.release(lost).await.unwrap();
    let mut plain = LockLayer::new(locks.clone()).layer(saved());
    let mut demanding = LockLayer::new(locks.clone()).require_lock().layer(saved());
    let asked = |target, tokens: &str| {
        let write = request("PUT", target);
        if tokens.is_empty() { write } else { with(write, "if", tokens) }
    };
    let lost = format!("(<{}>)", lost.urn());
    let held = format!("(<{}>)", token.urn());

    for (target, tokens, store_mode, without, with_demand) in [
        // Everything is wrong at once, then one thing less in each line.
        ("/a/../b", "((", Mode::Fail, 400, 400),
        ("/a/b", "((", Mode::Fail, 400, 400),
        ("/a/b", "(<DAV:no-lock>)", Mode::Fail, 503, 503),
        ("/a/b", "(<DAV:no-lock>)", Mode::Pass, 412, 428),
        ("/a/b", lost.as_str(), Mode::Pass, 412, 412),
        ("/a/b", "", Mode::Pass, 423, 428),
        ("/free", "", Mode::Pass, 200, 428),
        ("/a/b", held.as_str(), Mode::Pass, 200, 200),
    ] {
        store.set(Call::Admit, store_mode);
        for (mode, name) in
            [(store_mode, "at once"), (if store_mode == Mode::Pass { Mode::Later } else { store_mode }, "later")]
        {
            store.set(Call::Admit, mode);
            let answer = send(&mut plain, asked(target, tokens)).await;
            assert_eq!(answer.status, without, "{target} {tokens} {name}: {answer:?}");
            let answer = send(&mut demanding, asked(target, tokens)).await;
            assert_eq!(answer.status, with_demand, "{target} {tokens} {name}, lock required: {answer:?}");
        }
    }
    // What was lost and what blocks are both in a 412.
    store.set(Call::Admit, Mode::Pass);
    let answer = send(&mut plain, asked("/a/b", &lost)).await.json();
    assert_eq!((&answer["code"], &answer["locks"][0]["resource"]), (&"lock_lost".into(), &"/a".into()), "{answer}");
}

/// The roots of all locks, in order.
async fn roots(locks: &Locks) -> Vec<String> {
    let query = tower_lock::store::LockQuery::at_or_below(tower_lock::ResourceKey::from_canonical("/"));
    let page = locks.store().find(&query).await.unwrap();
    let mut roots: Vec<String> = page.locks.iter().map(|lock| lock.root().path().to_owned()).collect();
    roots.sort();
    roots
}

/// Who holds locks on all of `paths` sends a request; which of the locks are left after an answer with `status`.
async fn left_after(status: u16, method: &str, destination: Option<&str>, paths: &[&str], mode: Mode) -> Vec<String> {
    let locks = Locks::new(Rigged::all(MemoryStore::new(), mode));
    let mut write = request(method, "/a");
    if let Some(destination) = destination {
        write = with(write, "destination", destination);
    }
    let mut tokens = String::from("(Not <DAV:no-lock>)");
    for path in paths {
        let token = lock(&locks, path, Depth::Zero).await;
        tokens += &format!(" (<{}>)", token.urn());
    }
    let status = StatusCode::from_u16(status).unwrap();
    let mut service = LockLayer::new(locks.clone()).layer(probe(move |_: Request<Text>| async move {
        let mut response = Response::new(Text::default());
        *response.status_mut() = status;
        Ok::<_, ProbeError>(response)
    }));
    assert_eq!(send(&mut service, with(write, "if", tokens)).await.status, status);
    roots(&locks).await
}

const TREE: &[&str] = &["/a", "/a/1", "/a/1/2", "/ab", "/d", "/d/1", "/d/1/2", "/de"];

#[tokio::test]
async fn the_locks_of_what_is_gone_end_with_it() {
    for mode in [Mode::Pass, Mode::Later] {
        for status in [200, 201, 204, 299] {
            let left = left_after(status, "DELETE", None, TREE, mode).await;
            assert_eq!(left, ["/ab", "/d", "/d/1", "/d/1/2", "/de"], "DELETE {status}");
            let left = left_after(status, "MOVE", Some("/d"), TREE, mode).await;
            assert_eq!(left, ["/ab", "/d", "/de"], "MOVE {status}: a lock on the destination protects what is there now");
            let left = left_after(status, "COPY", Some("/d"), TREE, mode).await;
            assert_eq!(left, ["/a", "/a/1", "/a/1/2", "/ab", "/d", "/de"], "COPY {status}");
        }
    }
}

#[tokio::test]
async fn no_lock_ends_with_what_is_still_there() {
    for status in [202, 207, 300, 304, 400, 404, 412, 423, 500, 503] {
        for (method, destination) in [("DELETE", None), ("MOVE", Some("/d")), ("COPY", Some("/d"))] {
            assert_eq!(left_after(status, method, destination, TREE, Mode::Pass).await, TREE, "{method} {status}");
        }
    }
    for method in ["PUT", "PATCH", "POST", "PROPPATCH", "MKCOL", "X-UNKNOWN"] {
        assert_eq!(left_after(200, method, Some("/d"), TREE, Mode::Pass).await, TREE, "{method}");
    }
    let exact = tower_lock::KeyRules::new().exact();
    let locks = Locks::builder(MemoryStore::new()).keys_by(exact).build();
    let own = lock(&locks, "/a", Depth::Zero).await;
    lock(&locks, "/a/1", Depth::Zero).await;
    let mut service = LockLayer::new(locks.clone()).layer(saved());
    assert_eq!(send(&mut service, holding(request("DELETE", "/a"), own)).await.status, 200);
    assert_eq!(roots(&locks).await, ["/a/1"], "with exact keys a DELETE does not reach below");
}

#[tokio::test]
async fn locks_end_before_the_answer_is_passed_on_and_under_the_permit() {
    let memory = memory(Clock::system());
    let store = Rigged::new(memory.clone());
    let locks = Locks::new(store.clone());
    let token = lock(&locks, "/a", Depth::Infinity).await;
    let mut service = LockLayer::new(locks.clone()).layer(saved());
    store.set(Call::Clear, Mode::Gated);

    let answer = service.ready().await.unwrap().call(holding(request("DELETE", "/a"), token));
    let mut answer = std::pin::pin!(answer);
    assert!(poll_once(answer.as_mut()).is_pending());
    assert_eq!((store.calls(Call::Clear), memory.stats().in_flight), (1, 1), "the service has answered, the write goes on");
    let busy = locks.acquire(LockRequest::exclusive("/").draining(std::time::Duration::ZERO)).await;
    assert_eq!(busy.unwrap_err().status(), 409, "nobody is granted what is still being cleared");
    store.open();
    assert_eq!(answer.await.unwrap().status(), 200);
    assert_eq!(memory.stats().in_flight, 0);
    assert!(locks.acquire(LockRequest::exclusive("/a/new")).await.is_ok());
}

#[tokio::test]
async fn an_unlocked_delete_has_no_second_trip() {
    let store = Rigged::new(MemoryStore::new());
    let locks = Locks::new(store.clone());
    lock(&locks, "/elsewhere", Depth::Infinity).await;
    let mut service = LockLayer::new(locks.clone()).layer(saved());
    for (method, destination) in [("DELETE", None), ("MOVE", Some("/d")), ("COPY", Some("/d"))] {
        let write = request(method, "/a");
        let write = if let Some(path) = destination { with(write, "destination", path) } else { write };
        assert_eq!(send(&mut service, write).await.status, 200);
    }
    // Nor has one that answered for a lock which stays: on the parent, here.
    let token = lock(&locks, "/p", Depth::Zero).await;
    let under_parent = with(request("DELETE", "/p/1"), "if", format!("</p> (<{}>)", token.urn()));
    assert_eq!(send(&mut service, under_parent).await.status, 200);
    assert_eq!((store.calls(Call::Admit), store.calls(Call::Clear)), (4, 0));
}

#[tokio::test(start_paused = true)]
async fn when_locks_cannot_be_ended_the_answer_stands_and_the_operator_hears_of_it() {
    for mode in [Mode::Fail, Mode::Never] {
        let memory = memory(Clock::system());
        let store = Rigged::new(memory.clone());
        let heard: Arc<Mutex<Vec<String>>> = Arc::default();
        let ear = heard.clone();
        let hook = move |incident: &Incident<'_>| {
            assert!(matches!(incident, Incident::LocksLeft { .. }));
            ear.lock().unwrap().push(incident.to_string());
        };
        let locks = Locks::builder(store.clone()).on_incident(hook).build();
        let token = lock(&locks, "/a", Depth::Infinity).await;
        store.set(Call::Clear, mode);
        let mut service = LockLayer::new(locks.clone()).layer(saved());
        // The clock is paused: an hour passes at once where nothing else is left to wait for.
        let delete = send(&mut service, holding(request("DELETE", "/a"), token));
        let answer = tokio::time::timeout(std::time::Duration::from_secs(60 * 60), delete).await.expect("an answer");
        assert_eq!(answer.status, 200, "{mode:?}");
        let heard = heard.lock().unwrap().clone();
        assert!(heard.len() == 1 && heard[0].starts_with("/a is gone, its locks are not"), "{mode:?}: {heard:?}");
        assert_eq!(memory.stats().in_flight, 0);
        assert_eq!(roots(&locks).await, ["/a"], "it is left to expire");
    }
}
