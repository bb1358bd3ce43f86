//! Breaking: who may, why it must be said, and what the former holder learns.

use std::time::Duration;

use serde_json::json;
use tower_lock::{
    Access, Action, AuthorizeAsk, LockKind, LockRequest, Principal,
    locks::{Authorizer, Broken, DefaultAuthorizer},
};

use crate::kit::{Ask, Site, delete, get, patch, post, put};

const SECOND: Duration = Duration::from_secs(1);

fn site() -> Site {
    Site::with(|locks| {
        locks.authorizer(|ask: &AuthorizeAsk<'_>| match (ask.principal.map(Principal::as_str), ask.action) {
            (Some("admin"), _) => Access::Allowed,
            (Some("spy"), Action::See) => Access::Denied,
            _ => DefaultAuthorizer.authorize(ask),
        })
    })
}

/// `admin` breaks what is rooted there.
fn break_it(uri: &str, rest: &str) -> Ask {
    post(uri).user("admin").json(&format!(r#"{{"action": "break", "reason": "server moves"{rest}}}"#))
}

#[tokio::test]
async fn a_break_ends_a_lock_and_its_holder_learns_who_and_why() {
    let site = site();
    let token = site.held("ann", "/a").await;
    let id = site.state().await[0].id().to_string();
    let done = site.send(break_it("/a", "")).await.expect(200, "").json();
    assert_eq!((&done["action"], &done["lock_id"]), (&json!("break"), &json!(id)));
    assert_eq!(done["lock"]["owner"]["id"], "ann");
    assert!(site.state().await.is_empty());
    for next in [site.write(put("/a").user("ann").holding(&token)), site.write(put("/a/b").user("ann").holding(&token))] {
        let lost = next.await.expect(412, "lock_lost").json();
        assert_eq!(lost["lost"][0]["cause"], "broken");
        assert_eq!((&lost["lost"][0]["by"], &lost["lost"][0]["reason"]), (&json!("admin"), &json!("server moves")));
    }
    let refused = site.send(patch("/a").user("ann").holding(&token)).await.expect(412, "lock_lost").json();
    assert!(refused["detail"].as_str().unwrap().contains("broken by admin (server moves)"), "{refused}");
    // Somebody else who knows the token learns nothing.
    let other = site.send(patch("/a").user("bob").holding(&token)).await;
    assert!(!other.text.contains("server moves"), "{}", other.text);
    site.send(delete("/a").user("ann").holding(&token)).await.expect(204, "");
}

#[tokio::test]
async fn a_grace_lets_the_holder_finish_and_nobody_else_begin() {
    let site = site();
    let token = site.held("ann", "/a").await;
    let breaking = site.send(break_it("/a", r#", "grace": 30"#)).await.expect(202, "").json();
    assert_eq!((&breaking["lock"]["state"], &breaking["lock"]["expires_in"]), (&json!("breaking"), &json!(30)));
    site.write(put("/a").user("ann").holding(&token)).await.expect(200, "");
    let refused = site.send(patch("/a").user("ann").holding(&token)).await.expect(412, "lock_lost").json();
    assert_eq!((&refused["lost"][0]["by"], &refused["lost"][0]["reason"]), (&json!("admin"), &json!("server moves")));
    assert_eq!(refused["lost"][0]["at"], breaking["lock"]["expires_at"], "until when it may write");
    let refused = site.send(put("/a").user("bob")).await.expect(423, "locked");
    assert_eq!(refused.json()["locks"][0]["state"], "breaking");

    // A second break shortens, and never lengthens.
    let longer = site.send(break_it("/a", r#", "grace": 3000"#)).await.expect(202, "").json();
    assert_eq!(longer["lock"]["expires_in"], 30);
    let shorter = site.send(break_it("/a", r#", "grace": 10"#)).await.expect(202, "").json();
    assert_eq!(shorter["lock"]["expires_in"], 10);
    site.clock.advance(SECOND * 10);
    let lost = site.write(put("/a").user("ann").holding(&token)).await.expect(412, "lock_lost").json();
    assert_eq!(lost["lost"][0]["cause"], "broken");
    site.send(put("/a").user("bob")).await.expect(201, "");

    // And one at once.
    site.send(break_it("/a", r#", "grace": 30"#)).await.expect(202, "");
    site.send(break_it("/a", "")).await.expect(200, "");
    assert!(site.state().await.is_empty());
}

#[tokio::test]
async fn only_who_may_breaks_and_only_with_a_reason() {
    let site = site();
    site.held("ann", "/a").await;
    let id = site.state().await[0].id();
    let url = format!("/?id={id}");
    let wanted = r#"{"action": "break", "reason": "mine"}"#;
    for (ask, status, code) in [
        (post("/a").user("bob").json(wanted), 403, "forbidden"),
        (post(&url).user("bob").json(wanted), 403, "forbidden"),
        // One's own, too.
        (post("/a").user("ann").json(wanted), 403, "forbidden"),
        (post("/a").json(wanted), 403, "forbidden"),
        (post("/a").user("spy").json(wanted), 404, "no_such_lock"),
        (post(&url).user("spy").json(wanted), 404, "no_such_lock"),
        (post("/a/b").user("admin").json(wanted), 404, "no_such_lock"),
        (post("/?id=f81d4fae-7dec-11d0-a765-00a0c91e6bf6").user("admin").json(wanted), 404, "no_such_lock"),
        (post("/a").user("admin").json(r#"{"action": "break"}"#), 400, "bad_request"),
        (post("/a").user("admin").json(r#"{"action": "break", "reason": " \n "}"#), 400, "bad_request"),
        (post("/a").user("admin").json(r#"{"action": "break", "reason": 1}"#), 400, "bad_request"),
        (post("/a").user("admin").json(r#"{"action": "break", "reason": "x", "grace": -1}"#), 400, "bad_request"),
        (post("/a").user("admin").json(r#"{"action": "break", "reason": "x", "grace": "1"}"#), 400, "bad_request"),
        (post("/a").user("admin").json(r#"{"action": "break", "reason": "x", "token": "y"}"#), 400, "bad_request"),
        (break_it("/a", "").header("if", "(<urn:uuid:f81d4fae-7dec-41d0-a765-00a0c91e6bf6>)"), 400, "bad_request"),
        (break_it(&url, r#", "lock_id": "f81d4fae-7dec-11d0-a765-00a0c91e6bf6""#), 400, "bad_request"),
        (break_it("/b", &format!(r#", "lock_id": "{id}""#)), 409, "not_covered"),
        (post("/a").user("admin").body("text/plain", wanted), 415, "unsupported_media_type"),
        (
            post("/a").user("admin").json(&json!({"action": "break", "reason": "x".repeat(9_000)}).to_string()),
            400,
            "bad_request",
        ),
        (put("/a").user("admin").json(&json!({"replaces": [{"lock_id": id.to_string()}]}).to_string()), 400, "bad_request"),
        (
            put("/a").user("admin").json(&json!({"replaces": [{"lock_id": id.to_string(), "reason": ""}]}).to_string()),
            400,
            "bad_request",
        ),
    ] {
        let shown = format!("{} {} {}", ask.0.method(), ask.0.uri(), ask.0.body());
        let answer = site.send(ask).await;
        assert_eq!(
            (answer.status.as_u16(), answer.json()["code"].as_str().unwrap()),
            (status, code),
            "{shown}: {}",
            answer.text
        );
    }
    assert_eq!(site.state().await[0].id(), id);
    let refused = site.send(post("/a").user("admin").json(r#"{"action": "break"}"#)).await.json();
    assert!(refused["detail"].as_str().unwrap().starts_with("reason"), "{refused}");
    // Through any resource that it covers.
    site.send(break_it("/a/b/c", &format!(r#", "lock_id": "{id}""#))).await.expect(200, "");
}

#[tokio::test]
async fn of_several_locks_one_is_named() {
    let site = site();
    site.held_as("ann", "/a", r#"{"scope": "shared"}"#).await;
    let first = site.state().await[0].id();
    site.held_as("bob", "/a", r#"{"scope": "shared"}"#).await;
    // What lies above and below does not count.
    site.held_as("bob", "/a/b", r#"{"scope": "shared"}"#).await;
    let refused = site.send(break_it("/a", "")).await.expect(400, "bad_request").json();
    assert!(refused["detail"].as_str().unwrap().starts_with("lock_id"), "{refused}");
    site.send(break_it("/a", &format!(r#", "lock_id": "{first}""#))).await.expect(200, "");
    site.send(break_it("/a", "")).await.expect(200, "");
    assert_eq!(site.keys().await, ["/a/b"]);
}

#[tokio::test]
async fn a_freeze_ends_by_a_break() {
    let site = site();
    let freeze = LockRequest::exclusive("/a").kind(LockKind::Freeze).reason("year end");
    let granted = site.locks.acquire(freeze).await.unwrap();
    site.send(put("/a").user("ann")).await.expect(423, "frozen");
    site.send(break_it("/a", "")).await.expect(200, "");
    site.send(put("/a").user("ann")).await.expect(201, "");
    let again = site.state().await[0].id();
    // The application needs no leave, but a reason too.
    assert_eq!(site.locks.break_lock(again, "", Duration::ZERO).await.unwrap_err().status(), 400);
    assert!(matches!(site.locks.break_lock(again, "restart", SECOND).await.unwrap(), Broken::Breaking(_)));
    assert!(matches!(site.locks.break_lock(again, "restart", Duration::ZERO).await.unwrap(), Broken::Ended(_)));
    assert_eq!(site.locks.break_lock(granted.lock().id(), "restart", SECOND).await.unwrap_err().status(), 404);
    let stats = site.locks.stats();
    assert_eq!((stats.broken, stats.breaking), (2, 1));
}

#[tokio::test]
async fn a_break_and_an_acquire_are_one_step() {
    let site = site();
    let token = site.held("ann", "/a").await;
    let id = site.state().await[0].id();
    let mut events = site.open(get("/a").user("ann")).await;
    events.expect("snapshot");
    let body = json!({"replaces": [{"lock_id": id.to_string(), "reason": "ann is ill"}]}).to_string();
    site.send(put("/a").user("bob").json(&body)).await.expect(403, "forbidden");
    site.send(put("/a").user("admin").json(&body)).await.expect(201, "");
    let broken = events.expect("broken");
    assert_eq!((&broken.data["by"], &broken.data["reason"]), (&json!("admin"), &json!("ann is ill")));
    let locked = events.expect("locked");
    assert_eq!(locked.data["lock"]["mine"], false);
    let lost = site.write(put("/a").user("ann").holding(&token)).await.expect(412, "lock_lost").json();
    assert_eq!((&lost["lost"][0]["by"], &lost["lost"][0]["reason"]), (&json!("admin"), &json!("ann is ill")));
}
