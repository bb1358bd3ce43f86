//! `text/event-stream`: what becomes of locks, told as it happens, and to whom.

use std::time::Duration;

use serde_json::json;
use tower_lock::{
    Access, Action, AuthorizeAsk, Caller, Limits, LockRequest, Principal, ResourceKey,
    locks::{Authorizer, DefaultAuthorizer},
};

use crate::kit::{Site, delete, get, patch, post, put};

const SECOND: Duration = Duration::from_secs(1);

/// Admins may do everything; `spy` sees nothing; what people may do by default is left to the rest.
fn guarded(ask: &AuthorizeAsk<'_>) -> Access {
    match (ask.principal.map(Principal::as_str), ask.action) {
        (Some("admin"), _) => Access::Allowed,
        (Some("spy"), Action::See) => Access::Denied,
        _ => DefaultAuthorizer.authorize(ask),
    }
}

fn site() -> Site {
    Site::with(|locks| locks.authorizer(guarded))
}

#[tokio::test]
async fn a_stream_starts_with_the_state_and_goes_on_with_what_happens() {
    let site = site();
    let mut events = site.open(get("/a/b").user("ann")).await;
    assert_eq!(events.headers["content-type"], "text/event-stream");
    assert_eq!(events.headers["cache-control"], "no-store");
    assert_eq!(events.headers["x-accel-buffering"], "no");
    assert!(!events.headers.contains_key("content-length"));
    let first = events.expect("snapshot");
    assert_eq!(first.retry.as_deref(), Some("2000"));
    assert_eq!(first.data, json!({"resource": "/a/b", "locked": false, "locks": []}));
    events.expect_nothing();

    let token = site.held_as("ann", "/a", r#"{"reason": "proof-reading"}"#).await;
    let locked = events.expect("locked");
    assert_eq!(locked.data["resource"], "/a/b");
    assert_eq!(locked.data["locked"], true);
    assert_eq!(locked.data["lock"]["resource"], "/a");
    assert_eq!(locked.data["lock"]["reason"], "proof-reading");
    assert_eq!(locked.data["lock"]["mine"], true);
    assert!(!locked.data.to_string().contains("token"), "{locked:?}");

    site.clock.advance(SECOND * 10);
    site.send(patch("/a").user("ann").holding(&token)).await.expect(200, "");
    let refreshed = events.expect("refreshed");
    assert_eq!(refreshed.data["lock"]["expires_in"], 300);
    assert_ne!(refreshed.id, locked.id);

    // What does not cover the resource is not told.
    site.held("ann", "/a2").await;
    site.held("ann", "/b").await;
    site.send(delete("/a").user("ann").holding(&token)).await.expect(204, "");
    let released = events.expect("released");
    assert_eq!(released.data["locked"], false);
    assert_eq!(released.id, first.id, "free as before");
    events.expect_nothing();
}

#[tokio::test]
async fn an_expiry_is_told_once_and_when_it_is_time() {
    let site = site();
    site.held_as("ann", "/a", r#"{"timeout": 60}"#).await;
    let mut streams = Vec::new();
    for _ in 0..3 {
        let mut events = site.open(get("/a").user("bob")).await;
        assert_eq!(events.expect("snapshot").data["locks"][0]["expires_in"], 60);
        streams.push(events);
    }
    site.clock.advance(SECOND * 59);
    for events in &mut streams {
        // Four heartbeats' time in one step is one heartbeat.
        assert!(events.now().unwrap().comment);
        events.expect_nothing();
    }
    site.clock.advance(SECOND);
    let again = site.held("bob", "/a").await;
    for events in &mut streams {
        assert_eq!(events.expect("expired").data["locked"], false);
        assert_eq!(events.expect("locked").data["lock"]["mine"], true);
        events.expect_nothing();
    }
    site.send(delete("/a").user("bob").holding(&again)).await.expect(204, "");
    for events in &mut streams {
        events.expect("released");
        events.expect_nothing();
    }
}

#[tokio::test]
async fn the_id_of_an_event_is_the_tag_of_the_state_after_it() {
    let site = site();
    let tag = async || site.send(get("/a").user("ann")).await.header("etag").to_owned();
    let mut events = site.open(get("/a").user("ann")).await;
    let mut ids = vec![events.expect("snapshot").id.unwrap()];
    assert_eq!(tag().await, format!("W/\"{}\"", ids[0]));
    let token = site.held("ann", "/a").await;
    ids.push(events.expect("locked").id.unwrap());
    assert_eq!(tag().await, format!("W/\"{}\"", ids[1]));
    site.clock.advance(SECOND);
    assert_eq!(tag().await, format!("W/\"{}\"", ids[1]), "time alone changes nothing");
    site.send(patch("/a").user("ann").holding(&token).json(r#"{"timeout": 9}"#)).await.expect(200, "");
    ids.push(events.expect("refreshed").id.unwrap());
    assert_eq!(tag().await, format!("W/\"{}\"", ids[2]));

    // Whoever comes back with the tag of the present state has missed nothing.
    let mut resumed = site.open(get("/a").user("ann").header("last-event-id", &ids[2])).await;
    assert_eq!(resumed.now().unwrap().retry.as_deref(), Some("2000"));
    resumed.expect_nothing();
    for old in [ids[0].as_str(), &ids[1], "nonsense", ""] {
        let mut resumed = site.open(get("/a").user("ann").header("last-event-id", old)).await;
        assert_eq!(resumed.expect("snapshot").id.as_ref(), Some(&ids[2]), "{old}");
    }
    site.clock.advance(SECOND * 9);
    for events in [&mut events, &mut resumed] {
        assert_eq!(events.expect("expired").id.as_ref(), Some(&ids[0]));
    }
}

#[tokio::test]
async fn a_quiet_stream_has_a_heart() {
    let site = site();
    let mut events = site.open(get("/a").user("ann")).await;
    events.expect("snapshot");
    events.expect_nothing();
    for _ in 0..3 {
        site.clock.advance(SECOND * 14);
        events.expect_nothing();
        site.clock.advance(SECOND);
        assert!(events.now().unwrap().comment);
        events.expect_nothing();
    }
    // An event is as good as a heartbeat.
    site.clock.advance(SECOND * 10);
    site.held("ann", "/a").await;
    events.expect("locked");
    site.clock.advance(SECOND * 10);
    events.expect_nothing();
    let quiet = Site::with(|locks| {
        let mut limits = Limits::default();
        limits.heartbeat = Duration::ZERO;
        locks.limits(limits)
    });
    let mut events = quiet.open(get("/a").user("ann")).await;
    events.expect("snapshot");
    quiet.clock.advance(SECOND * 10_000);
    events.expect_nothing();
}

#[tokio::test]
async fn a_stranger_learns_neither_who_nor_why() {
    let site = site();
    let mut stranger = site.open(get("/a").user("bob")).await;
    let mut holder = site.open(get("/a").user("ann")).await;
    for events in [&mut stranger, &mut holder] {
        events.expect("snapshot");
    }
    let body = r#"{"reason": "secret plans", "client_ref": "tab", "owner": {"name": "Ann A."}}"#;
    site.held_as("ann", "/a", body).await;
    let lock = &stranger.expect("locked").data["lock"];
    holder.expect("locked");
    let broken = r#"{"action": "break", "reason": "confidential", "grace": 30}"#;
    site.send(post("/a").user("admin").json(broken)).await.expect(202, "");
    let breaking = stranger.expect("breaking").data;
    let known = holder.expect("breaking").data;
    assert_eq!((&known["by"], &known["reason"]), (&json!("admin"), &json!("confidential")));
    assert_eq!((&known["lock"]["state"], &known["lock"]["expires_in"]), (&json!("breaking"), &json!(30)));
    site.clock.advance(SECOND * 30);
    let heartbeat = stranger.now().unwrap();
    let end = if heartbeat.comment { stranger.expect("broken").data } else { heartbeat.data };
    let known = loop {
        let event = holder.now().unwrap();
        if !event.comment {
            break event;
        }
    };
    assert_eq!(known.name, "broken");
    assert_eq!((&known.data["by"], &known.data["reason"]), (&json!("admin"), &json!("confidential")));
    for told in [lock, &breaking, &end] {
        let text = told.to_string();
        for hidden in ["secret", "ann", "Ann", "tab", "admin", "confidential"] {
            assert!(!text.contains(hidden), "{hidden}: {text}");
        }
    }
}

#[tokio::test]
async fn what_may_not_be_seen_leaves_no_trace() {
    let site = site();
    let mut spied = site.open(get("/a").user("spy")).await;
    let mut idle = site.open(get("/b").user("spy")).await;
    let snapshot = spied.expect("snapshot");
    idle.expect("snapshot");
    assert_eq!(snapshot.data["locked"], false);
    // More than any queue holds, and every sort of event.
    for _ in 0..200 {
        let token = site.held_as("ann", "/a", r#"{"timeout": 60}"#).await;
        site.send(patch("/a").user("ann").holding(&token)).await.expect(200, "");
        site.send(delete("/a").user("ann").holding(&token)).await.expect(204, "");
    }
    site.held_as("ann", "/a", r#"{"timeout": 5}"#).await;
    spied.expect_nothing();
    site.clock.advance(SECOND * 5);
    spied.expect_nothing();
    for _ in 0..3 {
        site.clock.advance(SECOND * 15);
        for events in [&mut spied, &mut idle] {
            assert!(events.now().unwrap().comment);
            events.expect_nothing();
        }
    }
    // One that is there when the stream is opened.
    let token = site.held("ann", "/a").await;
    let mut late = site.open(get("/a").user("spy").header("last-event-id", &snapshot.id.unwrap())).await;
    assert!(late.now().unwrap().data.is_null());
    site.send(delete("/a").user("ann").holding(&token)).await.expect(204, "");
    late.expect_nothing();
}

#[tokio::test]
async fn one_lock_is_followed_to_its_end() {
    let site = site();
    let token = site.held("ann", "/a").await;
    let id = site.state().await[0].id();
    let url = format!("/?id={id}");
    let mut events = site.open(get(&url).user("bob")).await;
    let first = events.expect("snapshot");
    assert_eq!(first.data["locks"][0]["lock_id"], id.to_string());
    assert!(first.data.get("resource").is_none());
    assert_eq!(site.send(get(&url).user("bob")).await.header("etag"), format!("W/\"{}\"", first.id.unwrap()));
    site.send(patch("/a").user("ann").holding(&token).json(r#"{"timeout": 9}"#)).await.expect(200, "");
    events.expect("refreshed");
    site.send(delete("/a").user("ann").holding(&token)).await.expect(204, "");
    assert_eq!(events.expect("released").data["locked"], false);
    events.expect_end();
    assert_eq!(site.locks.watching(), 1, "until it is dropped");
    drop(events);
    assert_eq!(site.locks.watching(), 0);

    // What is gone, what never was, and what may not be seen.
    site.held("ann", "/a").await;
    let hidden = site.state().await[0].id();
    for (url, user) in
        [(url, "bob"), ("/?id=f81d4fae-7dec-11d0-a765-00a0c91e6bf6".to_owned(), "bob"), (format!("/?id={hidden}"), "spy")]
    {
        let refused = site.send(get(&url).user(user).header("accept", "text/event-stream")).await;
        refused.expect(404, "no_such_lock");
    }
    assert_eq!(site.locks.watching(), 0);
}

#[tokio::test]
async fn a_tenant_follows_no_lock_of_another() {
    let site = Site::with(|locks| {
        locks
            .namespace(|request| request.headers.get("x-tenant")?.to_str().ok().map(str::to_owned))
            .authorizer(|_: &AuthorizeAsk<'_>| Access::Allowed)
    });
    let mut other = site.open(get("/a").user("ann").header("x-tenant", "two")).await;
    other.expect("snapshot");
    site.send(put("/a").user("ann").header("x-tenant", "one")).await.expect(201, "");
    other.expect_nothing();
    let id = {
        let all = ResourceKey::from_canonical("/").in_namespace("one");
        let query = tower_lock::store::LockQuery::at_or_below(all);
        site.locks.store().find(&query).await.unwrap().locks[0].id()
    };
    let stream = get(&format!("/?id={id}")).user("ann").header("accept", "text/event-stream");
    site.send(stream.header("x-tenant", "two")).await.expect(404, "no_such_lock");
    site.open(get(&format!("/?id={id}")).user("ann").header("x-tenant", "one")).await.expect("snapshot");
}

#[tokio::test]
async fn so_many_streams_and_no_more() {
    let site = Site::with(|locks| {
        let mut limits = Limits::default();
        limits.watchers = 3;
        locks.limits(limits)
    });
    let key = ResourceKey::from_canonical("/a");
    let mut open = vec![site.open(get("/a").user("ann")).await, site.open(get("/b").user("ann")).await];
    let in_code = site.locks.watch(&key).unwrap();
    let one_more = || get("/a").user("ann").header("accept", "text/event-stream");
    let refused = site.send(one_more()).await.expect(429, "too_many_waiting");
    assert_eq!(refused.header("retry-after"), "1");
    assert_eq!(site.locks.watch(&key).unwrap_err().status(), 429);
    assert_eq!((site.locks.watching(), site.locks.stats().watching), (3, 3));
    drop(in_code);
    open.push(site.open(get("/a").user("ann")).await);
    site.send(one_more()).await.expect(429, "too_many_waiting");
    drop(open);
    assert_eq!(site.locks.watching(), 0);

    // A HEAD says what a GET would, and holds nothing.
    let head = site.send(crate::kit::ask("HEAD", "/a").user("ann").header("accept", "text/event-stream")).await;
    assert_eq!((head.status.as_u16(), head.header("content-type")), (200, "text/event-stream"));
    assert!(head.text.is_empty() && !head.headers.contains_key("content-length"));
    assert_eq!(site.locks.watching(), 0);
    // What is not worth a stream does not open one.
    assert_eq!(site.send(get("/a").user("ann").header("accept", "text/event-stream, */*")).await.json()["locked"], false);
}

#[tokio::test]
async fn a_reader_that_is_too_slow_is_told_the_state() {
    let site = site();
    let mut events = site.open(get("/a").user("ann")).await;
    events.expect("snapshot");
    for _ in 0..1_000 {
        let token = site.held("ann", "/a").await;
        site.send(delete("/a").user("ann").holding(&token)).await.expect(204, "");
    }
    site.held("ann", "/a").await;
    // However much was dropped, what is told in the end is true.
    let mut told = Vec::new();
    while let Some(event) = events.now() {
        told.push(event);
    }
    assert!(told.len() < 500, "{} events were kept for it", told.len());
    let last = told.last().unwrap();
    assert_eq!(last.data["locked"], true, "{last:?}");
    assert_eq!(format!("W/\"{}\"", last.id.as_ref().unwrap()), site.send(get("/a").user("ann")).await.header("etag"));
}

#[tokio::test]
async fn code_watches_too() {
    let site = site();
    let key = ResourceKey::from_canonical("/a");
    let mut news = site.locks.watch(&key).unwrap();
    assert_eq!(news.next().await.unwrap().as_str(), "snapshot");
    let granted = site.locks.acquire(LockRequest::exclusive("/a").principal("ann").reason("export")).await.unwrap();
    let told = news.next().await.unwrap();
    assert_eq!(told.lock().unwrap().reason.as_deref(), Some("export"), "the application sees everything");
    assert_eq!(news.locks().len(), 1);
    let spy = Caller::remote(Some(Principal::new("spy")));
    let mut hidden = site.locks.watch_for(&spy, &key).unwrap();
    assert!(matches!(hidden.next().await.unwrap(), tower_lock::locks::News::Snapshot(locks) if locks.is_empty()));
    let mut one = site.locks.watch_lock_for(&Caller::application(None), granted.lock().id()).unwrap();
    assert_eq!(one.next().await.unwrap().as_str(), "snapshot");
    site.locks.release(granted.token()).await.unwrap();
    for news in [&mut news, &mut one] {
        assert_eq!(news.next().await.unwrap().as_str(), "released");
    }
    assert!(one.next().await.is_none());
}

#[tokio::test]
async fn what_people_write_makes_no_events_of_its_own() {
    let site = site();
    let evil = "x\r\n\r\nevent: released\nid: 7\ndata: {}\n\n\u{0}\u{2028}";
    let forged = "9".repeat(16_000);
    let path = "/a%0A%0Aevent:%20released%0A%0A";
    let mut events = site.open(get(path).user("admin").header("last-event-id", &forged)).await;
    events.expect("snapshot");
    site.held_as("ann", path, &json!({"reason": evil, "client_ref": evil}).to_string()).await;
    let locked = events.expect("locked");
    assert_eq!((&locked.data["lock"]["reason"], &locked.data["lock"]["client_ref"]), (&json!(evil), &json!(evil)));
    let body = json!({"action": "break", "reason": evil}).to_string();
    site.send(post(path).user("admin").json(&body)).await.expect(200, "");
    let broken = events.expect("broken");
    assert_eq!(broken.data["reason"], evil);
    events.expect_nothing();
}
