//! Handing a lock over, and claiming it.

use std::time::Duration;

use serde_json::{Value, json};
use tower_lock::{
    Access, Action, AuthorizeAsk, Limits, LockKind, LockRequest, Principal,
    locks::{Authorizer, DefaultAuthorizer},
};

use crate::kit::{Ask, Site, delete, get, patch, post, put};

const SECOND: Duration = Duration::from_secs(1);

/// Everybody hands over what is their own; admins what is anybody's.
fn guarded(ask: &AuthorizeAsk<'_>) -> Access {
    match (ask.principal.map(Principal::as_str), ask.action) {
        (Some("admin"), _) => Access::Allowed,
        (Some("spy"), Action::See) => Access::Denied,
        (_, Action::Transfer) if ask.is_own() => Access::Allowed,
        _ => DefaultAuthorizer.authorize(ask),
    }
}

fn site() -> Site {
    Site::with(|locks| locks.authorizer(guarded))
}

fn hand(uri: &str, user: &str, to: &str) -> Ask {
    post(uri).user(user).json(&json!({"action": "transfer", "to": to}).to_string())
}

fn claim(uri: &str, user: &str) -> Ask {
    post(uri).user(user).json(r#"{"action": "claim"}"#)
}

fn token_of(answer: &Value) -> String {
    answer["token"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_lock_is_handed_over_and_claimed_once() {
    let site = site();
    let body = r#"{"reason": "chapter 3", "client_ref": "tab", "depth": "0", "timeout": 60}"#;
    let old = site.held_as("ann", "/a", body).await;
    let before = site.state().await.remove(0);
    let done = site.send(hand("/a", "ann", "bob").holding(&old)).await.expect(200, "");
    assert!(!done.text.contains("token") && !done.headers.contains_key("lock-token"), "{}", done.text);
    let done = done.json();
    assert_eq!((&done["action"], &done["lock"]["state"]), (&json!("transfer"), &json!("offered")));
    let offered = site.state().await.remove(0);
    assert_eq!(done["lock_id"], offered.id().to_string());
    assert_ne!(offered.id(), before.id());
    assert!(offered.generation() > before.generation());
    assert_eq!((offered.root(), offered.depth(), offered.reason()), (before.root(), before.depth(), before.reason()));
    assert_eq!(offered.principal().unwrap().as_str(), "bob");

    // Nobody has its token: the old one is gone, and the new holder has none yet.
    let lost = site.write(put("/a").user("ann").holding(&old)).await.expect(412, "lock_lost").json();
    assert_eq!(lost["lost"][0]["cause"], "replaced");
    for writer in ["ann", "bob", "eve"] {
        site.write(put("/a").user(writer)).await.expect(423, "locked");
    }
    assert_eq!(site.send(get("/a").user("bob")).await.json()["locks"][0]["mine"], true);

    for (who, status) in [("ann", 404), ("eve", 404), ("spy", 404)] {
        assert_eq!(site.send(claim("/a", who)).await.status, status, "{who}");
    }
    let url = format!("/?id={}", offered.id());
    for (who, status) in [("ann", 403), ("eve", 403), ("spy", 404)] {
        assert_eq!(site.send(claim(&url, who)).await.status, status, "{who}");
    }
    let claimed = site.send(claim("/a", "bob")).await.expect(200, "");
    let new = token_of(&claimed.json());
    assert_eq!(claimed.header("lock-token"), format!("<{new}>"));
    assert_eq!((&claimed.json()["state"], &claimed.json()["reason"]), (&json!("held"), &json!("chapter 3")));
    assert_ne!(claimed.json()["lock_id"], done["lock_id"]);
    site.write(put("/a").user("bob").holding(&new)).await.expect(200, "");
    site.send(claim("/a", "bob")).await.expect(404, "no_such_lock");
    site.send(claim(&url, "bob")).await.expect(404, "no_such_lock");
    let url = format!("/?id={}", claimed.json()["lock_id"].as_str().unwrap());
    site.send(claim(&url, "bob")).await.expect(404, "no_such_lock");
    site.send(patch("/a").user("bob").holding(&new)).await.expect(200, "");
    site.send(delete("/a").user("bob").holding(&new)).await.expect(204, "");
    let stats = site.locks.stats();
    assert_eq!((stats.transferred, stats.claimed), (1, 1));
}

#[tokio::test]
async fn the_holder_needs_no_token_to_hand_over_what_is_theirs() {
    let site = site();
    site.held("ann", "/a").await;
    site.send(hand("/a", "ann", "bob")).await.expect(200, "");
    // On offer, it is bob's to hand on, or to let go.
    site.send(hand("/a", "bob", "eve")).await.expect(200, "");
    site.send(claim("/a", "bob")).await.expect(404, "no_such_lock");
    site.send(delete("/a").user("eve")).await.expect(204, "");
    assert!(site.state().await.is_empty());

    // By its id, and back to who has lost the token.
    site.held("ann", "/a").await;
    let url = format!("/?id={}", site.state().await[0].id());
    site.send(hand(&url, "ann", "ann")).await.expect(200, "");
    let token = token_of(&site.send(claim("/a", "ann")).await.expect(200, "").json());
    site.write(put("/a").user("ann").holding(&token)).await.expect(200, "");
}

#[tokio::test]
async fn who_may_takes_it_from_one_and_gives_it_to_another_for_a_reason() {
    let site = site();
    let token = site.held("ann", "/a").await;
    let wanted =
        |reason: &str| json!({"action": "transfer", "to": {"id": "bob", "name": "Bob B."}, "reason": reason}).to_string();
    site.send(post("/a").user("admin").json(&wanted(" "))).await.expect(400, "bad_request");
    site.send(hand("/a", "admin", "bob")).await.expect(400, "bad_request");
    site.send(post("/a").user("eve").json(&wanted("x"))).await.expect(403, "forbidden");
    let mut events = site.open(get("/a").user("ann")).await;
    events.expect("snapshot");
    let done = site.send(post("/a").user("admin").json(&wanted("ann is ill"))).await.expect(200, "").json();
    assert_eq!(done["lock"]["owner"], json!({"id": "bob", "name": "Bob B."}));
    let lost = site.write(put("/a").user("ann").holding(&token)).await.expect(412, "lock_lost").json();
    let lost = &lost["lost"][0];
    assert_eq!((&lost["cause"], &lost["by"], &lost["reason"]), (&json!("broken"), &json!("admin"), &json!("ann is ill")));
    assert_eq!(events.expect("broken").data["reason"], "ann is ill");
    assert_eq!(events.expect("locked").data["lock"]["state"], "offered");
    site.send(claim("/a", "bob")).await.expect(200, "");
    events.expect("replaced");
    assert_eq!(events.expect("locked").data["lock"]["state"], "held");
}

#[tokio::test]
async fn what_is_not_clear_is_refused() {
    let site = site();
    let shared = site.held_as("ann", "/a", r#"{"scope": "shared"}"#).await;
    let first = site.state().await[0].id();
    let other = site.held_as("ann", "/a", r#"{"scope": "shared"}"#).await;
    site.held_as("bob", "/a", r#"{"scope": "shared"}"#).await;
    site.send(hand("/a", "ann", "eve")).await.expect(400, "bad_request");
    let with = |rest: &str| post("/a").user("ann").json(&format!(r#"{{"action": "transfer"{rest}}}"#));
    for (ask, status, code) in [
        (with(""), 400, "bad_request"),
        (with(r#", "to": """#), 400, "bad_request"),
        (with(r#", "to": {"name": "Bob"}"#), 400, "bad_request"),
        (with(r#", "to": 7"#), 400, "bad_request"),
        (with(r#", "to": "eve", "grace": 1"#), 400, "bad_request"),
        (with(r#", "to": "eve", "timeout": 0"#), 400, "bad_request"),
        (with(&format!(r#", "to": "eve", "lock_id": "{first}", "token": "{other}""#)), 400, "bad_request"),
        (with(r#", "to": "eve", "lock_id": "f81d4fae-7dec-11d0-a765-00a0c91e6bf6""#), 404, "no_such_lock"),
        (with(r#", "to": "eve", "token": "urn:uuid:f81d4fae-7dec-41d0-a765-00a0c91e6bf6""#), 412, "lock_lost"),
        (post("/b").user("ann").holding(&shared).json(r#"{"action": "transfer", "to": "eve"}"#), 412, "lock_lost"),
        (hand("/a", "bob", "eve").holding(&shared), 403, "forbidden"),
        (hand("/b", "ann", "eve"), 404, "no_such_lock"),
        (post("/a").user("ann").body("text/plain", r#"{"action": "transfer", "to": "eve"}"#), 415, "unsupported_media_type"),
        (post("/a").user("ann").body("text/plain", r#"{"action": "claim"}"#), 415, "unsupported_media_type"),
        (claim("/a", "ann").holding(&shared), 400, "bad_request"),
        (claim("/a", "ann"), 404, "no_such_lock"),
        (claim("/a", "nobody"), 404, "no_such_lock"),
        (post("/a").json(r#"{"action": "claim"}"#), 404, "no_such_lock"),
    ] {
        let shown = format!("{} {}", ask.0.uri(), ask.0.body());
        let answer = site.send(ask).await;
        assert_eq!(
            (answer.status.as_u16(), answer.json()["code"].as_str().unwrap()),
            (status, code),
            "{shown}: {}",
            answer.text
        );
    }
    assert_eq!(site.keys().await.len(), 3);
    assert_eq!(site.state().await.iter().filter(|lock| lock.principal().unwrap().as_str() == "ann").count(), 2);
    // By the token, of several.
    site.send(with(&format!(r#", "to": "eve", "token": "{shared}""#))).await.expect(200, "");
    site.send(with(&format!(r#", "to": "eve", "token": "{other}""#))).await.expect(200, "");
    site.send(claim("/a", "eve")).await.expect(400, "bad_request");
}

#[tokio::test]
async fn a_freeze_and_what_is_being_broken_are_not_handed_over() {
    let site = site();
    let _freeze = site.locks.acquire(LockRequest::exclusive("/f").kind(LockKind::Freeze).principal("ann")).await.unwrap();
    site.send(hand("/f", "ann", "bob")).await.expect(403, "forbidden");
    let token = site.held("ann", "/a").await;
    site.send(post("/a").user("admin").json(r#"{"action": "break", "reason": "x", "grace": 9}"#)).await.expect(202, "");
    let refused = site.send(hand("/a", "ann", "bob").holding(&token)).await.expect(412, "lock_lost").json();
    assert_eq!(refused["lost"][0]["by"], "admin");
    assert!(site.send(hand("/a", "ann", "bob")).await.status.is_client_error());
    assert_eq!(site.state().await[0].principal().unwrap().as_str(), "ann");
}

#[tokio::test]
async fn an_offer_ends_as_any_lock_does() {
    let site = site();
    site.held("ann", "/a").await;
    let body = r#"{"action": "transfer", "to": "bob", "timeout": 30}"#;
    site.send(post("/a").user("ann").json(body)).await.expect(200, "");
    let mut events = site.open(get("/a").user("bob")).await;
    assert_eq!(events.expect("snapshot").data["locks"][0]["expires_in"], 30);
    site.clock.advance(SECOND * 15);
    assert!(events.now().unwrap().comment);
    site.clock.advance(SECOND * 15);
    assert_eq!(events.expect("expired").data["locked"], false);
    site.send(claim("/a", "bob")).await.expect(404, "no_such_lock");
    site.send(put("/a").user("eve")).await.expect(201, "");
}

#[tokio::test]
async fn the_receivers_quota_counts_and_leave_to_lock_is_asked_for() {
    let site = Site::with(|locks| {
        let mut limits = Limits::default();
        limits.locks_per_principal = 1;
        locks.limits(limits).authorizer(|ask: &AuthorizeAsk<'_>| match (ask.principal.map(Principal::as_str), ask.action) {
            (Some("guest"), Action::Acquire) => Access::Denied,
            _ => guarded(ask),
        })
    });
    site.held("bob", "/b").await;
    site.held("ann", "/a").await;
    site.send(hand("/a", "ann", "bob")).await.expect(429, "lock_quota");
    assert_eq!(site.keys().await, ["/a", "/b"]);
    assert_eq!(site.state().await[0].principal().unwrap().as_str(), "ann", "nothing has happened");
    site.send(hand("/a", "ann", "guest")).await.expect(200, "");
    site.send(claim("/a", "guest")).await.expect(403, "forbidden");
}

#[tokio::test]
async fn of_many_claims_one_is_served() {
    let site = std::sync::Arc::new(site());
    for round in 0..20 {
        site.held("ann", "/a").await;
        let offered = site.send(hand("/a", "ann", "bob")).await.expect(200, "").json();
        let url = format!("/?id={}", offered["lock_id"].as_str().unwrap());
        let claims: Vec<_> = (0..8).map(|_| site.start(claim(&url, "bob"))).collect();
        let mut tokens = Vec::new();
        for claimed in claims {
            let claimed = claimed.await.unwrap();
            match claimed.status.as_u16() {
                200 => tokens.push(token_of(&claimed.json())),
                404 | 412 => {}
                _ => panic!("{round}: {}", claimed.text),
            }
        }
        assert_eq!(tokens.len(), 1, "{round}");
        site.send(delete("/a").user("bob").holding(&tokens[0])).await.expect(204, "");
    }
}

#[tokio::test]
async fn code_hands_over_and_claims_too() {
    let site = site();
    let granted = site.locks.acquire(LockRequest::exclusive("/a").principal("ann")).await.unwrap();
    let offered = site.locks.transfer(granted.lock().id(), "bob").await.unwrap();
    assert_eq!(site.locks.claim(offered.id(), "eve").await.unwrap_err().status(), 403);
    let claimed = site.locks.claim(offered.id(), "bob").await.unwrap();
    assert!(claimed.lock().generation() > offered.generation());
    assert_eq!(site.locks.claim(offered.id(), "bob").await.unwrap_err().status(), 404);
    site.locks.release(claimed.token()).await.unwrap();
    // One that nobody in particular holds.
    let granted = site.locks.acquire(LockRequest::exclusive("/a")).await.unwrap();
    let offered = site.locks.transfer(granted.lock().id(), "bob").await.unwrap();
    let _claimed = site.locks.claim(offered.id(), "bob").await.unwrap();
    assert_eq!(site.locks.refresh(granted.token(), None).await.unwrap_err().status(), 412);
}

#[tokio::test]
async fn a_lock_is_not_handed_over_through_a_resource_that_it_does_not_cover() {
    let site = site();
    site.held_as("ann", "/a", "{}").await;
    let id = site.state().await.remove(0).id().to_string();
    for (user, body) in [
        ("ann", json!({"action": "transfer", "to": "bob", "lock_id": id})),
        ("admin", json!({"action": "transfer", "to": "bob", "lock_id": id, "reason": "why"})),
    ] {
        site.send(post("/other").user(user).json(&body.to_string())).await.expect(409, "not_covered");
        assert_eq!(site.state().await.remove(0).id().to_string(), id, "{user}");
    }
    site.send(hand("/a", "ann", "bob")).await.expect(200, "");
    let id = site.state().await.remove(0).id().to_string();
    let body = json!({"action": "claim", "lock_id": id}).to_string();
    site.send(post("/other").user("bob").json(&body)).await.expect(409, "not_covered");
    site.send(post("/a/below").user("bob").json(&body)).await.expect(200, "");
}

#[tokio::test]
async fn a_claim_may_be_endless_where_its_kind_may() {
    let site = Site::with(|locks| {
        let mut lifetimes = tower_lock::locks::Lifetimes::default();
        lifetimes.user = tower_lock::locks::KindLifetime { default: Some(SECOND), most: None, total: None };
        locks.authorizer(guarded).lifetimes(lifetimes)
    });
    site.held_as("ann", "/a", "{}").await;
    site.send(hand("/a", "ann", "admin")).await.expect(200, "");
    let claim = post("/a").user("admin").json(r#"{"action": "claim", "timeout": "infinite"}"#);
    let claimed = site.send(claim).await.expect(200, "").json();
    assert_eq!(claimed["expires_at"], Value::Null);
}
