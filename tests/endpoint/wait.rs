//! `Prefer: wait`: a GET that is held until something changes, and an acquire that stands in line.

use std::time::Duration;

use serde_json::json;
use tower_lock::{
    Access, Action, AuthorizeAsk, Limits, LocksBuilder, Principal,
    locks::{Authorizer, DefaultAuthorizer},
};

use crate::kit::{Site, ask, delete, get, patch, post, put};

const SECOND: Duration = Duration::from_secs(1);

fn site() -> Site {
    Site::with(LocksBuilder::allow_waiting)
}

#[tokio::test]
async fn a_get_is_held_while_the_resource_is_locked() {
    let site = site();
    let token = site.held("ann", "/a").await;
    let held = site.start(get("/a/b").user("bob").header("prefer", "wait=20"));
    site.until_waiting(1).await;
    site.send(patch("/a").user("ann").holding(&token)).await.expect(200, "");
    site.until_waiting(1).await;
    assert!(!held.is_finished(), "it is still locked");
    site.send(delete("/a").user("ann").holding(&token)).await.expect(204, "");
    let answer = held.await.unwrap().expect(200, "");
    assert_eq!(answer.header("preference-applied"), "wait=20");
    assert_eq!(answer.json(), json!({"resource": "/a/b", "locked": false, "locks": []}));
    assert_eq!(site.locks.waiting(), 0);
    // Where nothing is to be waited for, nothing is.
    let free = site.send(get("/a/b").user("bob").header("prefer", "wait=20")).await.expect(200, "");
    assert_eq!(free.header("preference-applied"), "wait=20");
}

#[tokio::test]
async fn a_get_is_held_while_its_tag_is_the_present_one() {
    let site = site();
    let tag = site.send(get("/a").user("bob")).await.header("etag").to_owned();
    let conditional = |tag: &str| get("/a").user("bob").header("prefer", "wait=10").header("if-none-match", tag);
    let held = site.start(conditional(&tag));
    site.until_waiting(1).await;
    let token = site.held_as("ann", "/a", r#"{"timeout": 60}"#).await;
    let locked = held.await.unwrap().expect(200, "");
    assert_eq!(locked.json()["locked"], true);
    // The old tag is no reason to wait any more.
    site.send(conditional(&tag)).await.expect(200, "");
    for change in
        [patch("/a").user("ann").holding(&token).json(r#"{"timeout": 50}"#), delete("/a").user("ann").holding(&token)]
    {
        let tag = site.send(get("/a").user("bob")).await.header("etag").to_owned();
        let held = site.start(conditional(&tag));
        site.until_waiting(1).await;
        assert!(site.send(change).await.status.is_success());
        let answer = held.await.unwrap().expect(200, "");
        assert_ne!(answer.header("etag"), tag);
    }
    assert_eq!(site.locks.waiting(), 0);
}

#[tokio::test]
async fn when_the_time_is_up_a_get_answers_what_there_is() {
    let site = site();
    site.held_as("ann", "/a", r#"{"timeout": 60}"#).await;
    let tag = site.send(get("/a").user("bob")).await.header("etag").to_owned();
    let held = [
        site.start(get("/a").user("bob").header("prefer", "wait=10")),
        site.start(get("/a").user("bob").header("prefer", "wait=10").header("if-none-match", &tag)),
        site.start(ask("HEAD", "/a").user("bob").header("prefer", "wait=10")),
    ];
    site.until_waiting(3).await;
    site.clock.advance(SECOND * 9);
    site.until_waiting(3).await;
    site.clock.advance(SECOND);
    let [full, unchanged, head] = held;
    let full = full.await.unwrap().expect(200, "").json();
    assert_eq!((&full["locked"], &full["locks"][0]["expires_in"]), (&json!(true), &json!(50)), "as of now");
    let unchanged = unchanged.await.unwrap().expect(304, "");
    assert_eq!((unchanged.header("etag"), unchanged.header("preference-applied")), (&*tag, "wait=10"));
    assert!(head.await.unwrap().text.is_empty());

    // Longer than one may is as long as one may, and the end of a lock by itself is an end.
    let held = site.start(get("/a").user("bob").header("prefer", "wait=999"));
    site.until_waiting(1).await;
    site.clock.advance(SECOND * 30);
    assert_eq!(held.await.unwrap().expect(200, "").header("preference-applied"), "wait=30");
    let held = site.start(get("/a").user("bob").header("prefer", "wait=30"));
    site.until_waiting(1).await;
    site.clock.advance(SECOND * 20);
    assert_eq!(held.await.unwrap().expect(200, "").json()["locked"], false);
}

#[tokio::test]
async fn one_lock_is_waited_for_by_its_id() {
    let site = site();
    let token = site.held("ann", "/a").await;
    let url = format!("/?id={}", site.state().await[0].id());
    let tag = site.send(get(&url).user("bob")).await.header("etag").to_owned();
    let gone = site.start(get(&url).user("bob").header("prefer", "wait=20"));
    let changed = site.start(get(&url).user("bob").header("prefer", "wait=20").header("if-none-match", &tag));
    site.until_waiting(2).await;
    site.send(patch("/a").user("ann").holding(&token).json(r#"{"timeout": 50}"#)).await.expect(200, "");
    assert_eq!(changed.await.unwrap().expect(200, "").json()["expires_in"], 50);
    site.until_waiting(1).await;
    site.send(delete("/a").user("ann").holding(&token)).await.expect(204, "");
    gone.await.unwrap().expect(404, "no_such_lock");
    site.send(get(&url).user("bob").header("prefer", "wait=20")).await.expect(404, "no_such_lock");
    assert_eq!(site.locks.waiting(), 0);
}

#[tokio::test]
async fn what_may_not_be_seen_is_not_waited_for() {
    let site = Site::with(|locks| {
        locks.allow_waiting().authorizer(|ask: &AuthorizeAsk<'_>| match (ask.action, ask.principal.map(Principal::as_str)) {
            (Action::See, Some("spy")) => Access::Denied,
            _ => DefaultAuthorizer.authorize(ask),
        })
    });
    let token = site.held("ann", "/a").await;
    let spied = site.send(get("/a").user("spy").header("prefer", "wait=20")).await.expect(200, "");
    assert_eq!(spied.json()["locked"], false);
    let tag = spied.header("etag");
    let held = site.start(get("/a").user("spy").header("prefer", "wait=20").header("if-none-match", tag));
    site.until_waiting(1).await;
    site.send(delete("/a").user("ann").holding(&token)).await.expect(204, "");
    site.held("ann", "/a").await;
    site.until_waiting(1).await;
    assert!(!held.is_finished());
    site.clock.advance(SECOND * 20);
    held.await.unwrap().expect(304, "");
}

#[tokio::test]
async fn without_leave_nobody_waits() {
    let site = Site::new();
    site.held("ann", "/a").await;
    for waits in [get("/a").user("bob"), put("/a").user("bob"), post("/").user("bob").json(r#"{"resources": ["/a"]}"#)] {
        let answer = site.send(waits.header("prefer", "wait=20")).await;
        assert!(!answer.headers.contains_key("preference-applied"), "{answer:?}");
    }
}

#[tokio::test]
async fn so_many_wait_and_no_more_and_who_leaves_makes_room() {
    let site = Site::with(|locks| {
        let mut limits = Limits::default();
        (limits.waiters_per_resource, limits.waiters) = (2, 3);
        locks.allow_waiting().limits(limits)
    });
    site.held("ann", "/a").await;
    site.held("ann", "/b").await;
    let waiting = |path: &str| get(path).user("bob").header("prefer", "wait=20");
    let first = site.start(waiting("/a"));
    let _second = site.start(waiting("/a"));
    site.until_waiting(2).await;
    let refused = site.send(waiting("/a")).await.expect(429, "too_many_waiting");
    assert_eq!(refused.header("preference-applied"), "wait=20");
    let _third = site.start(waiting("/b"));
    site.until_waiting(3).await;
    site.send(waiting("/b")).await.expect(429, "too_many_waiting");
    first.abort();
    site.until_waiting(2).await;
    let _fourth = site.start(waiting("/a"));
    site.until_waiting(3).await;
    // What need not wait needs no room.
    site.send(waiting("/c")).await.expect(200, "");
}

#[tokio::test]
async fn an_acquire_waits_in_line() {
    let site = site();
    let token = site.held("ann", "/a").await;
    let bob = site.start(put("/a").user("bob").header("prefer", "wait=20").json(r#"{"reason": "next"}"#));
    site.until_waiting(1).await;
    let eve = site.start(post("/").user("eve").header("prefer", "wait=20").json(r#"{"resources": ["/a"]}"#));
    site.until_waiting(2).await;
    // Nobody jumps the queue.
    site.send(put("/a").user("dan")).await.expect(423, "locked");
    site.send(delete("/a").user("ann").holding(&token)).await.expect(204, "");
    let granted = bob.await.unwrap();
    let granted = granted.expect(201, "");
    assert_eq!((granted.header("preference-applied"), &granted.json()["reason"]), ("wait=20", &json!("next")));
    let token = granted.json()["token"].as_str().unwrap().to_owned();
    site.until_waiting(1).await;
    site.send(delete("/a").user("bob").holding(&token)).await.expect(204, "");
    assert_eq!(eve.await.unwrap().expect(201, "").json()["locks"][0]["resource"], "/a");

    let late = site.start(put("/a").user("bob").header("prefer", "wait=5"));
    site.until_waiting(1).await;
    site.clock.advance(SECOND * 5);
    let refused = late.await.unwrap().expect(423, "locked");
    assert_eq!(refused.header("preference-applied"), "wait=5");
    assert_eq!(site.locks.waiting(), 0);
}

#[tokio::test]
async fn an_acquire_whose_client_leaves_takes_nothing() {
    let site = site();
    let token = site.held("ann", "/a").await;
    let bob = site.start(put("/a").user("bob").header("prefer", "wait=20"));
    site.until_waiting(1).await;
    bob.abort();
    site.until_waiting(0).await;
    site.send(delete("/a").user("ann").holding(&token)).await.expect(204, "");
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert!(site.state().await.is_empty());
}
