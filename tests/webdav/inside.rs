//! What the handler is asked and told by the layer itself: as little as will do, and nothing that it could take wrongly.

use std::future::IntoFuture;

use tower_lock::{Locks, MemoryStore};

use super::{
    handler::{Broken, Fault, Handler},
    kit::{Client, Dav, sender},
    shape::Shape,
    xml::Found,
};
use crate::support::{poll_once, until};

/// L-71: where one strong entity tag of the target decides, the handler is told, so that nothing changes in between.
#[tokio::test]
async fn the_entity_tag_that_decides_goes_to_the_handler_as_if_match() {
    let dav = Dav::new();
    let token = dav.as_("ann").locked("/a", "0").await;
    let etag = dav.handler.etag("/a");
    for (condition, told) in [
        (format!("([{etag}])"), Some(etag.clone())),
        (format!("(<{token}> [{etag}])"), Some(etag.clone())),
        (format!("(Not [\"x\"] [{etag}])"), Some(etag.clone())),
        // Another list may be true when this one no longer is.
        (format!("([{etag}]) (<{token}>)"), None),
        (format!("(Not [\"{}\"])", "x"), None),
        (format!("</b> ([{}])", dav.handler.etag("/b")), None),
        (format!("(<{token}>)"), None),
    ] {
        dav.handler.fail("PUT", "/a", 418);
        dav.as_("ann").put("/a", "x").if_(&condition).header("lock-token", &format!("<{token}>")).expect(418).await;
        let seen = dav.handler.take_seen().pop().unwrap();
        let found = seen.headers.get("if-match").map(|tag| tag.to_str().unwrap().to_owned());
        assert_eq!(found, told, "{condition}");
    }
    dav.handler.heal();
    // The resource changes between the decision and the write.
    let gate = dav.handler.hold("PUT", "/a");
    let condition = format!("(<{token}> [{etag}])");
    let put = dav.as_("ann").put("/a", "late").if_(&condition).spawn();
    until("the PUT inside", || dav.handler.count("PUT", "/a") == 1).await;
    dav.handler.plant(["/a"]);
    gate.add_permits(1);
    assert_eq!(put.await.unwrap().status, 412);
    assert_eq!(dav.handler.content("/a").as_deref(), Some("/a"));
}

/// L-22: a member that goes while it is written is not made anew in a collection that is locked.
#[tokio::test]
async fn a_write_that_was_let_through_as_one_of_an_existing_member_makes_no_new_one() {
    let dav = Dav::new();
    dav.as_("ann").locked("/c/", "0").await;
    let gate = dav.handler.hold("PUT", "/c/m");
    let put = dav.as_("bob").put("/c/m", "x").spawn();
    until("the PUT inside", || dav.handler.count("PUT", "/c/m") == 1).await;
    let seen = dav.handler.take_seen();
    assert_eq!(seen.last().unwrap().headers["if-match"], "*");
    dav.handler.forget("/c/m");
    gate.add_permits(1);
    assert_eq!(put.await.unwrap().status, 412);
    assert_eq!(dav.handler.content("/c/m"), None);
    // What the client says itself is not overruled.
    dav.handler.heal();
    dav.handler.plant(["/c/m"]);
    dav.as_("bob").put("/c/m", "x").header("if-match", "\"stale\"").expect(412).await;
    // Nor is anything added where no such lock is in the way.
    dav.handler.take_seen();
    dav.as_("bob").put("/c/d/n", "x").expect(204).await;
    assert!(!dav.handler.take_seen().pop().unwrap().headers.contains_key("if-match"));
}

/// What is refused anyway costs the handler nothing.
#[tokio::test]
async fn a_write_that_is_refused_whatever_exists_asks_the_handler_nothing() {
    let dav = Dav::new();
    dav.as_("ann").locked("/c/", "infinity").await;
    dav.as_("ann").locked("/a", "0").await;
    dav.handler.take_seen();
    let bob = dav.as_("bob");
    for ask in [
        bob.put("/c/m", "x"),
        bob.put("/c/new", "x"),
        bob.put("/a", "x"),
        bob.delete("/c/m"),
        bob.mkcol("/c/new"),
        bob.proppatch("/a"),
    ] {
        ask.expect(423).await;
    }
    assert!(dav.handler.take_seen().is_empty());
}

/// L-71: HEAD without an entity tag is asked further by PROPFIND.
#[tokio::test]
async fn an_entity_tag_that_only_propfind_has_is_found() {
    for head in [true, false] {
        let dav = Dav::shaped(Shape { head, etag_in_head: false, ..Shape::default() });
        let etag = dav.handler.etag("/a");
        dav.as_("ann").get("/b").if_(&format!("</a> ([{etag}])")).expect(200).await;
        dav.as_("ann").get("/b").if_("</a> ([\"x\"])").expect(412).await;
    }
}

/// G10: each resource whose entity tag matters is one request inside, each asked once, and there are sixteen at most.
#[tokio::test]
async fn the_entity_tags_of_sixteen_resources_are_asked_for_and_no_more() {
    let dav = Dav::new();
    let header =
        |count: usize| -> String { (0..count).map(|at| format!("</x{at}> ([\"x\"]) (Not [\"y\"] [\"z\"]) ")).collect() };
    dav.as_("ann").put("/a", "x").if_(&header(16)).expect(412).await;
    assert_eq!(dav.handler.take_seen().iter().filter(|seen| seen.method == "HEAD").count(), 16);
    dav.as_("ann").put("/a", "x").if_(&header(17)).expect(400).await;
    assert!(dav.handler.take_seen().len() <= 16);
}

/// L-07, L-43: what a 207 names is there still, whatever the handler says when asked; of the rest only what is surely gone
/// loses its lock.
#[tokio::test]
async fn after_a_partial_delete_a_lock_ends_only_where_the_resource_is_surely_gone() {
    let dav = Dav::new();
    let ann = dav.as_("ann");
    let mut tokens = Vec::new();
    for uri in ["/c/", "/c/m", "/c/d/", "/c/d/n"] {
        tokens.push(ann.locked(uri, "0").await);
    }
    dav.handler.fault("DELETE", "/c", Fault::Keep(vec!["/c/d/n"], 403));
    // Named as failed, and hidden; above that; and one that the handler cannot speak for.
    dav.handler.fail("HEAD", "/c/d/n", 404);
    dav.handler.fail("HEAD", "/c/d", 404);
    for method in ["HEAD", "PROPFIND"] {
        dav.handler.fail(method, "/c/m", 500);
    }
    dav.handler.take_seen();
    ann.delete("/c/").tokens(&tokens).expect(207).await;
    assert_eq!(dav.roots().await, ["/c", "/c/d", "/c/d/n", "/c/m"]);
    assert_eq!(dav.handler.count("HEAD", "/c/d/n"), 0, "it was told already");
}

/// L-99: a handler may list what lies somewhere else.
#[tokio::test]
async fn locks_are_shown_on_whatever_the_handler_lists() {
    use tower_layer::Layer;
    let listing = "<D:multistatus xmlns:D=\"DAV:\"><D:response><D:href>/c/</D:href><D:propstat><D:prop/>\
        <D:status>HTTP/1.1 200 OK</D:status></D:propstat></D:response><D:response><D:href>/b/x</D:href>\
        <D:propstat><D:prop/><D:status>HTTP/1.1 200 OK</D:status></D:propstat></D:response></D:multistatus>";
    let inner = tower::service_fn(move |_: http::Request<tower_lock::webdav::RequestBody<super::kit::Sent>>| async move {
        let mut response = http::Response::new(http_body_util::Full::new(bytes::Bytes::from(listing)));
        *response.status_mut() = http::StatusCode::MULTI_STATUS;
        Ok::<_, Broken>(response)
    });
    let locks = Locks::new(MemoryStore::new());
    for path in ["/b", "/c"] {
        let _ = locks.acquire(tower_lock::LockRequest::exclusive(path)).await.unwrap();
    }
    let client = Client::through(sender(tower_lock::DavLayer::new(locks).layer(inner)), Some("ann"));
    for depth in ["0", "1", "infinity"] {
        let found = Found::of(&client.propfind("/c/", depth).expect(207).await.xml());
        assert_eq!(found.locks("/c/")[0].root, "/c", "{depth}");
        assert_eq!(found.locks("/b/x")[0].root, "/b", "{depth}");
    }
}

/// G3: a write counts as in flight when it can be called, not while it waits for its turn at the handler.
#[tokio::test(start_paused = true)]
async fn a_write_that_waits_for_its_turn_inside_keeps_no_lock_waiting() {
    let limited = |handler: Handler| tower::limit::ConcurrencyLimit::new(handler, 1);
    let dav = Dav::made(Shape::default(), |locks| locks, |layer| layer, limited);
    let etag = dav.handler.etag("/b");
    let asked = dav.handler.hold("HEAD", "/b");
    let first = dav.as_("bob").put("/a", "x").if_(&format!("</b> ([{etag}])")).spawn();
    until("the question", || dav.handler.count("HEAD", "/b") == 1).await;
    // The next has the place at the limit as soon as the question is answered.
    let running = dav.handler.hold("PUT", "/e/new");
    let second = dav.as_("bob").put("/e/new", "x").spawn();
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    asked.add_permits(1);
    until("the second inside", || dav.handler.count("PUT", "/e/new") == 1).await;
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert_eq!(dav.memory.stats().in_flight, 1, "the second alone");
    let granted = dav.locks.acquire(tower_lock::LockRequest::exclusive("/a").draining(std::time::Duration::ZERO)).await;
    assert!(granted.is_ok(), "{granted:?}");
    running.add_permits(1);
    assert_eq!(second.await.unwrap().status, 201);
    assert_eq!(first.await.unwrap().status, 423);
}

/// L-01: a LOCK that is refused has asked nothing of the handler that changes anything.
#[tokio::test]
async fn a_lock_that_waits_has_made_no_resource_yet() {
    let dav = Dav::new();
    let gate = dav.handler.hold("PUT", "/e/new");
    let put = dav.as_("bob").put("/e/new", "x").spawn();
    until("the PUT inside", || dav.handler.count("PUT", "/e/new") == 1).await;
    let mut lock = dav.as_("ann").lock("/e/new").into_future();
    for _ in 0..100 {
        assert!(poll_once(lock.as_mut()).is_pending());
        tokio::task::yield_now().await;
    }
    assert_eq!(dav.handler.count("PUT", "/e/new"), 1);
    gate.add_permits(2);
    assert_eq!(put.await.unwrap().status, 201);
    assert_eq!(lock.await.status, 200, "it is there by now");
    assert_eq!(dav.handler.count("PUT", "/e/new"), 1, "not every handler knows `If-None-Match`: nothing is put over it");
    assert_eq!(dav.handler.content("/e/new").as_deref(), Some("x"));
}

/// L-01, L-32: a LOCK that waited for the end of its resource makes another, rather than hold what is not there.
#[tokio::test]
async fn a_lock_that_waited_for_a_delete_makes_the_resource_anew() {
    for (method, path) in [("DELETE", "/c/m"), ("MOVE", "/c/m")] {
        let dav = Dav::new();
        let gate = dav.handler.hold(method, path);
        let (bob, end) = (dav.as_("bob"), dav.handler.clone());
        let gone = if method == "MOVE" { bob.move_(path, "/e/m").spawn() } else { bob.delete(path).spawn() };
        until("the end inside", || end.count(method, path) == 1).await;
        let mut lock = dav.as_("ann").lock(path).into_future();
        for _ in 0..100 {
            assert!(poll_once(lock.as_mut()).is_pending());
            tokio::task::yield_now().await;
        }
        gate.add_permits(2);
        assert!(gone.await.unwrap().status.is_success());
        assert_eq!(lock.await.status, 201);
        assert_eq!(dav.handler.content(path).as_deref(), Some(""));
        assert_eq!(dav.roots().await, [path]);
    }
}
