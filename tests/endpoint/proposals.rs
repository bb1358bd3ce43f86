//! Proposed tokens and ids: repeats, conflicts, and tokens that are used up (section 4 of the design).

use std::time::Duration;

use serde_json::json;

use crate::kit::{Site, delete, get, post, put};

const TOKEN: &str = "urn:uuid:f81d4fae-7dec-41d0-a765-00a0c91e6bf6";
const OTHER: &str = "urn:uuid:6ba7b810-9dad-41d1-80b4-00c04fd430c8";
const ID: &str = "0e8ba3a5-2d37-4c53-9b11-4d0f0f2e9c11";

fn proposal() -> String {
    json!({"token": TOKEN, "lock_id": ID}).to_string()
}

#[tokio::test]
async fn a_repeated_acquire_is_answered_with_the_same_lock() {
    let site = Site::new();
    let first = site.send(put("/a").user("ann").json(&proposal())).await.expect(201, "");
    assert_eq!((&first.json()["token"], &first.json()["lock_id"]), (&json!(TOKEN), &json!(ID)));
    site.clock.advance(Duration::from_secs(100));
    let again = site.send(put("/a").user("ann").json(&proposal())).await.expect(200, "");
    assert_eq!(again.header("lock-token"), format!("<{TOKEN}>"));
    assert_eq!(again.json()["lock_id"], ID);
    // Repeating is no refresh.
    assert_eq!(again.json()["expires_in"], 200);
    assert_eq!(again.json()["generation"], first.json()["generation"]);
}

#[tokio::test]
async fn a_token_or_id_in_use_for_something_else_is_a_conflict() {
    let site = Site::new();
    site.held_as("ann", "/a", &proposal()).await;
    let before = site.state().await;
    for (user, path, body) in [
        ("ann", "/b", json!({"token": TOKEN})),
        ("bob", "/a", json!({"token": TOKEN})),
        ("ann", "/a", json!({"token": TOKEN, "depth": "0"})),
        ("ann", "/a", json!({"token": TOKEN, "scope": "shared"})),
        ("ann", "/b", json!({"lock_id": ID})),
        ("ann", "/b", json!({"token": OTHER, "lock_id": ID})),
    ] {
        let refused = site.send(put(path).user(user).json(&body.to_string())).await.expect(409, "proposal_conflict");
        // Whose it is, and on what, is nobody's business.
        assert!(!refused.text.contains("ann"), "{}", refused.text);
    }
    assert_eq!(site.state().await, before);
}

#[tokio::test]
async fn a_used_token_is_not_granted_again() {
    let site = Site::new();
    site.held_as("ann", "/a", &proposal()).await;
    site.send(delete("/a").user("ann").holding(TOKEN)).await.expect(204, "");
    let lost = site.send(put("/a").user("ann").json(&proposal())).await.expect(412, "lock_lost");
    assert_eq!(lost.json()["lost"][0]["cause"], "released");
    assert!(site.state().await.is_empty());
    // The id alone is used up as well.
    site.send(put("/a").user("ann").json(&json!({"lock_id": ID}).to_string())).await.expect(412, "lock_lost");
}

#[tokio::test]
async fn an_undo_may_overtake_its_acquire() {
    let site = Site::new();
    site.send(delete("/a").user("ann").holding(TOKEN)).await.expect(204, "");
    site.send(put("/a").user("ann").json(&proposal())).await.expect(412, "lock_lost");
    assert!(site.state().await.is_empty());
    // By its own URL too, and as a beacon.
    site.send(delete(&format!("/?id={ID}")).user("ann").holding(OTHER)).await.expect(204, "");
    site.send(put("/a").user("ann").json(&json!({"token": OTHER}).to_string())).await.expect(412, "lock_lost");
}

#[tokio::test]
async fn an_expired_lock_tells_its_holder_so() {
    let site = Site::new();
    site.held_as("ann", "/a", &proposal()).await;
    site.clock.advance(Duration::from_secs(301));
    let lost = site.send(put("/a").user("ann").json(&proposal())).await.expect(412, "lock_lost").json();
    assert_eq!(lost["lost"][0]["cause"], "expired");
    assert_eq!(lost["lost"][0]["resource"], "/a");
    // Somebody else learns nothing of it from the token alone.
    let lost = site.send(put("/a").user("bob").json(&proposal())).await.expect(412, "lock_lost").json();
    assert_eq!(lost["lost"][0]["cause"], "unknown");
}

#[tokio::test]
async fn several_locks_have_a_proposal_each() {
    let site = Site::new();
    let body = json!({"resources": [{"resource": "/a", "token": TOKEN, "lock_id": ID}, {"resource": "/b", "token": OTHER}]});
    let ask = || post("/").user("ann").json(&body.to_string());
    let granted = site.send(ask()).await.expect(201, "").json();
    assert_eq!((&granted["locks"][0]["token"], &granted["locks"][1]["token"]), (&json!(TOKEN), &json!(OTHER)));
    assert_eq!(granted["locks"][0]["lock_id"], ID);
    let again = site.send(ask()).await.expect(200, "").json();
    assert_eq!(again["locks"][1]["lock_id"], granted["locks"][1]["lock_id"]);
    let before = site.state().await;
    let twice = json!({"resources": [{"resource": "/c", "token": TOKEN}, {"resource": "/d", "token": TOKEN}]});
    site.send(post("/").user("ann").json(&twice.to_string())).await.expect(400, "bad_request");
    let half = json!({"resources": ["/c", {"resource": "/b", "token": OTHER}]});
    site.send(post("/").user("ann").json(&half.to_string())).await.expect(409, "proposal_conflict");
    assert_eq!(site.state().await, before);
}

#[tokio::test]
async fn a_proposed_id_yields_no_token() {
    let site = Site::new();
    site.held_as("ann", "/a", &proposal()).await;
    for user in ["ann", "bob"] {
        let seen = site.send(get(&format!("/?id={ID}")).user(user)).await.expect(200, "");
        assert!(!seen.text.contains("urn:uuid"), "{}", seen.text);
    }
}
