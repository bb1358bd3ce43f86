//! What each verb does, and its statuses.

use std::time::Duration;

use serde_json::json;

use crate::kit::{Site, ask, delete, get, patch, post, put};

#[tokio::test]
async fn a_lock_is_acquired_inspected_refreshed_and_released() {
    let site = Site::new();
    let body =
        r#"{"reason": "proof-reading", "timeout": 600, "depth": "0", "client_ref": "tab 3", "owner": {"name": "Ann"}}"#;
    let granted = site.send(put("/docs/7").user("ann").json(body)).await.expect(201, "");
    let lock = granted.json();
    let token = lock["token"].as_str().unwrap();
    assert_eq!(granted.header("lock-token"), format!("<{token}>"));
    assert_eq!(granted.header("location"), format!("?id={}", lock["lock_id"].as_str().unwrap()));
    assert_eq!(granted.header("content-type"), "application/json");
    for (field, value) in [
        ("resource", json!("/docs/7")),
        ("scope", json!("exclusive")),
        ("depth", json!("0")),
        ("kind", json!("user")),
        ("owner", json!({"id": "ann", "name": "Ann"})),
        ("reason", json!("proof-reading")),
        ("client_ref", json!("tab 3")),
        ("state", json!("held")),
        ("expires_in", json!(600)),
        ("mine", json!(true)),
        ("clamped", json!(null)),
    ] {
        assert_eq!(lock[field], value, "{field}");
    }

    let seen = site.send(get("/docs/7").user("ann")).await.expect(200, "").json();
    assert_eq!((&seen["resource"], &seen["locked"]), (&json!("/docs/7"), &json!(true)));
    assert_eq!(seen["locks"][0]["lock_id"], lock["lock_id"]);
    assert!(!seen.to_string().contains("urn:uuid"), "a token is shown once");

    site.clock.advance(Duration::from_secs(500));
    let refreshed = site.send(patch("/docs/7").user("ann").holding(token)).await.expect(200, "");
    assert_eq!(refreshed.json()["expires_in"], 600);
    assert!(!refreshed.headers.contains_key("lock-token"));
    assert!(!refreshed.text.contains("urn:uuid"));

    let released = site.send(delete("/docs/7").user("ann").header("lock-token", &format!("<{token}>"))).await;
    assert_eq!(released.expect(204, "").text, "");
    let free = site.send(get("/docs/7")).await.expect(200, "").json();
    assert_eq!(free, json!({"resource": "/docs/7", "locked": false, "locks": []}));
}

#[tokio::test]
async fn an_acquire_without_a_body_is_all_defaults() {
    let site = Site::new();
    for request in [put("/a").user("ann"), put("/b").user("ann").json("{}"), put("/c").user("ann").body("text/html", "")] {
        let lock = site.send(request).await.expect(201, "").json();
        assert_eq!((&lock["scope"], &lock["depth"]), (&json!("exclusive"), &json!("infinity")));
        assert_eq!((&lock["kind"], &lock["expires_in"]), (&json!("user"), &json!(300)));
        assert_eq!(lock["owner"], json!({"id": "ann"}));
    }
}

#[tokio::test]
async fn all_ways_to_say_a_depth_or_a_timeout() {
    let site = Site::new();
    for (path, body, field, value) in [
        ("/a", r#"{"depth": 0}"#, "depth", json!("0")),
        ("/b", r#"{"depth": "Infinity"}"#, "depth", json!("infinity")),
        ("/c", r#"{"depth": null, "timeout": null}"#, "expires_in", json!(300)),
        ("/d", r#"{"timeout": "infinite"}"#, "expires_in", json!(3600)),
        ("/e", r#"{"timeout": "Infinite"}"#, "clamped", json!(true)),
        ("/f", r#"{"timeout": 18446744073709551615}"#, "clamped", json!(true)),
        ("/g", r#"{"timeout": 1}"#, "expires_in", json!(1)),
    ] {
        let lock = site.send(put(path).user("ann").json(body)).await.expect(201, "").json();
        assert_eq!(lock[field], value, "{body}");
    }
}

#[tokio::test]
async fn the_location_is_absolute_where_the_address_is_known() {
    let site = Site::with(|locks| locks.endpoint_url("https://api.example/locks/"));
    let granted = site.send(put("/docs/7").user("ann")).await.expect(201, "");
    let id = granted.json()["lock_id"].as_str().unwrap().to_owned();
    assert_eq!(granted.header("location"), format!("https://api.example/locks/?id={id}"));
}

#[tokio::test]
async fn somebody_elses_lock_refuses_an_acquire() {
    let site = Site::new();
    site.held("ann", "/docs").await;
    let refused = site.send(put("/docs/7").user("bob")).await.expect(423, "locked");
    assert_eq!(refused.json()["resource"], "/docs/7");
    assert_eq!(refused.json()["locks"][0]["resource"], "/docs");
    assert_eq!(refused.header("retry-after"), "300");
    site.send(put("/docs").user("ann")).await.expect(423, "locked");
    assert_eq!(site.state().await.len(), 1);
}

#[tokio::test]
async fn shared_locks_live_beside_each_other() {
    let site = Site::new();
    site.held_as("ann", "/docs", r#"{"scope": "shared"}"#).await;
    site.held_as("bob", "/docs", r#"{"scope": "shared"}"#).await;
    site.send(put("/docs").user("cat")).await.expect(423, "locked");
    let seen = site.send(get("/docs").user("ann")).await.expect(200, "").json();
    assert_eq!(seen["locks"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn a_lock_of_ones_own_is_replaced_in_one_step() {
    let site = Site::new();
    let token = site.held_as("ann", "/docs/7", r#"{"scope": "shared"}"#).await;
    site.send(put("/docs").user("bob").json(&json!({"replaces": [token]}).to_string())).await.expect(403, "forbidden");
    assert_eq!(site.keys().await, ["/docs/7"]);
    let body = json!({"replaces": [token]}).to_string();
    site.send(put("/docs").user("ann").json(&body)).await.expect(201, "");
    assert_eq!(site.keys().await, ["/docs"]);
    let gone = site.send(put("/x").user("ann").json(&body)).await.expect(412, "lock_lost");
    assert_eq!(gone.json()["lost"][0]["cause"], "replaced");
    assert_eq!(site.keys().await, ["/docs"]);
}

#[tokio::test]
async fn a_lock_is_broken_only_by_who_may() {
    use tower_lock::{
        Access, Action, AuthorizeAsk,
        locks::{Authorizer, DefaultAuthorizer},
    };
    let site = Site::with(|locks| {
        locks.authorizer(|ask: &AuthorizeAsk<'_>| match (ask.action, ask.principal) {
            (Action::Break, Some(who)) if who.as_str() == "admin" => Access::Allowed,
            _ => DefaultAuthorizer.authorize(ask),
        })
    });
    site.held("ann", "/docs/7").await;
    let id = site.state().await[0].id().to_string();
    let body = json!({"replaces": [{"lock_id": id, "reason": "urgent"}]}).to_string();
    site.send(put("/docs/7").user("bob").json(&body)).await.expect(403, "forbidden");
    let before = site.state().await;
    assert_eq!(before[0].id().to_string(), id);
    site.send(put("/docs/7").user("admin").json(&body)).await.expect(201, "");
    assert_ne!(site.state().await[0].id().to_string(), id);
}

#[tokio::test]
async fn a_refresh_is_clamped_and_says_when_it_was_the_last() {
    let site = Site::new();
    let token = site.held("ann", "/a").await;
    let refresh = |body: &str| patch("/a").user("ann").holding(&token).json(body);
    let lock = site.send(refresh(r#"{"timeout": 7200}"#)).await.expect(200, "").json();
    assert_eq!((&lock["expires_in"], &lock["clamped"], &lock["final"]), (&json!(3600), &json!(true), &json!(null)));
    let lock = site.send(refresh(r#"{"timeout": "infinite"}"#)).await.expect(200, "").json();
    assert_eq!((&lock["expires_in"], &lock["clamped"]), (&json!(3600), &json!(true)));
    for _ in 0..23 {
        site.clock.advance(Duration::from_secs(3_590));
        site.send(refresh(r#"{"timeout": 3600}"#)).await.expect(200, "");
    }
    site.clock.advance(Duration::from_secs(3_590));
    let lock = site.send(refresh(r#"{"timeout": 3600}"#)).await.expect(200, "").json();
    assert_eq!((&lock["final"], &lock["clamped"], &lock["expires_in"]), (&json!(true), &json!(true), &json!(240)));
    let same = site.send(refresh("")).await.expect(200, "").json();
    assert_eq!(same["final"], true);
    site.clock.advance(Duration::from_secs(241));
    site.send(refresh("{}")).await.expect(412, "lock_lost");
}

#[tokio::test]
async fn a_refresh_needs_the_token_of_a_lock_that_covers_the_resource() {
    let site = Site::new();
    let token = site.held("ann", "/a").await;
    let other = site.held("ann", "/b").await;
    site.clock.advance(Duration::from_secs(10));
    let before = site.state().await;
    site.send(patch("/a").user("ann")).await.expect(400, "bad_request");
    site.send(patch("/a").user("bob").holding(&token)).await.expect(403, "forbidden");
    site.send(patch("/a").holding(&token)).await.expect(403, "forbidden");
    let lost = site.send(patch("/a").user("ann").holding(&other)).await.expect(412, "lock_lost");
    assert_eq!(lost.json()["lost"][0]["cause"], "out_of_scope");
    site.send(patch("/free").user("ann")).await.expect(400, "bad_request");
    assert_eq!(site.state().await, before);
    site.send(patch("/a/below").user("ann").holding(&token)).await.expect(200, "");
    let body = json!({"token": token}).to_string();
    site.send(patch("/a").user("ann").json(&body)).await.expect(200, "");
    site.send(patch("/a").user("ann").json(&body).holding(&token)).await.expect(200, "");
}

#[tokio::test]
async fn a_release_goes_through_any_resource_that_the_lock_covers() {
    let site = Site::new();
    let token = site.held("ann", "/a").await;
    site.held("ann", "/b").await;
    let before = site.state().await;
    site.send(delete("/b").user("ann").holding(&token)).await.expect(409, "not_covered");
    site.send(delete("/a").user("bob").holding(&token)).await.expect(403, "forbidden");
    assert_eq!(site.state().await, before);
    site.send(delete("/a/b/c").user("ann").holding(&token)).await.expect(204, "");
    assert_eq!(site.keys().await, ["/b"]);
    site.send(delete("/a").user("ann").holding(&token)).await.expect(204, "");
    let body = json!({"token": token}).to_string();
    site.send(delete("/a").user("ann").json(&body)).await.expect(204, "");
}

#[tokio::test]
async fn without_a_token_the_only_lock_rooted_there_is_released() {
    let site = Site::new();
    site.held("ann", "/a").await;
    site.send(delete("/a/below").user("ann")).await.expect(400, "bad_request");
    site.send(delete("/a").user("bob")).await.expect(400, "bad_request");
    site.send(delete("/a")).await.expect(400, "bad_request");
    assert_eq!(site.keys().await, ["/a"]);
    site.send(delete("/a").user("ann")).await.expect(204, "");
    let shared = r#"{"scope": "shared"}"#;
    site.held_as("ann", "/a", shared).await;
    site.held_as("ann", "/a", shared).await;
    let refused = site.send(delete("/a").user("ann")).await.expect(400, "bad_request");
    assert!(refused.json()["detail"].as_str().unwrap().contains("several"), "{}", refused.text);
    assert_eq!(site.keys().await, ["/a", "/a"]);
}

#[tokio::test]
async fn a_lock_has_a_url_of_its_own() {
    let site = Site::new();
    let granted = site.send(put("/a").user("ann")).await.expect(201, "").json();
    let (id, token) = (granted["lock_id"].as_str().unwrap(), granted["token"].as_str().unwrap());
    let url = format!("/?id={id}");
    let lock = site.send(get(&url).user("ann")).await.expect(200, "");
    assert_eq!(lock.json()["resource"], "/a");
    let tag = lock.header("etag").to_owned();
    site.send(get(&url).user("ann").header("if-none-match", &tag)).await.expect(304, "");
    site.send(get(&format!("/what/ever?id={id}"))).await.expect(200, "");
    site.clock.advance(Duration::from_secs(10));
    site.send(patch(&url).user("ann")).await.expect(400, "bad_request");
    let refreshed = site.send(patch(&url).user("ann").holding(token)).await.expect(200, "").json();
    assert_eq!(refreshed["expires_in"], 300);
    let put = site.send(put(&url).user("ann")).await.expect(405, "method_not_allowed");
    assert_eq!(put.header("allow"), "GET, HEAD, PATCH, DELETE, POST, OPTIONS");
    site.send(delete(&url).user("bob")).await.expect(403, "forbidden");
    site.send(delete(&url)).await.expect(400, "bad_request");
    assert_eq!(site.keys().await, ["/a"]);
    site.send(delete(&url).user("ann")).await.expect(204, "");
    for gone in [get(&url), delete(&url).user("ann"), patch(&url).user("ann").holding(token)] {
        site.send(gone).await.expect(404, "no_such_lock");
    }
    site.send(delete(&url).user("ann").holding(token)).await.expect(204, "");
}

#[tokio::test]
async fn a_token_with_an_id_ends_no_lock_elsewhere() {
    let site = Site::new();
    let token = site.held("ann", "/a").await;
    let other = site.send(put("/b").user("ann")).await.json();
    let url = format!("/?id={}", other["lock_id"].as_str().unwrap());
    site.send(delete(&url).user("ann").holding(&token)).await.expect(409, "not_covered");
    site.send(patch(&url).user("ann").holding(&token)).await.expect(412, "lock_lost");
    assert_eq!(site.keys().await, ["/a", "/b"]);
}

#[tokio::test]
async fn a_post_releases() {
    let site = Site::new();
    for (media, braces) in [("application/json", true), ("text/plain;charset=UTF-8", true), ("text/plain", false)] {
        let token = site.held("ann", "/a").await;
        let body = json!({"action": "release", "token": token}).to_string();
        let body = if braces { body } else { format!("{token}\n") };
        let done = site.send(post("/a").user("ann").body(media, &body)).await.expect(200, "").json();
        assert_eq!((&done["action"], done["lock_id"].is_string()), (&json!("release"), true));
        assert!(site.keys().await.is_empty());
        let again = site.send(post("/a").user("ann").body(media, &body)).await.expect(200, "").json();
        assert_eq!(again, json!({"action": "release"}));
    }
    site.held("ann", "/a").await;
    site.send(post("/a").user("ann").json(r#"{"action": "release"}"#)).await.expect(200, "");
    assert!(site.keys().await.is_empty());
}

#[tokio::test]
async fn what_a_cross_site_form_can_send_releases_with_the_token_alone() {
    let site = Site::new();
    let token = site.held("ann", "/a").await;
    let before = site.state().await;
    for (media, body, status) in [
        ("text/plain", r#"{"action": "release"}"#, 400),
        ("text/plain", r#"{"action": "break", "reason": "x"}"#, 415),
        ("text/plain", "action=release", 400),
        ("text/plain", "", 400),
        ("application/x-www-form-urlencoded", "action=release", 415),
        ("multipart/form-data; boundary=x", "--x--", 415),
        ("", r#"{"action": "release"}"#, 415),
    ] {
        for uri in ["/a", "/?resource=/a"] {
            let answer = site.send(post(uri).user("ann").body(media, body)).await;
            assert_eq!(answer.status, status, "{media} {body}: {}", answer.text);
        }
    }
    // To the list a form can send nothing at all.
    for media in ["text/plain", "application/x-www-form-urlencoded", ""] {
        let answer = site.send(post("/").user("ann").body(media, r#"{"resources": ["/b"]}"#)).await;
        answer.expect(415, "unsupported_media_type");
    }
    // Nor does the token in a header make a plain text what it is not.
    let header = post("/a").user("ann").holding(&token).body("text/plain", r#"{"action": "release"}"#);
    site.send(header).await.expect(400, "bad_request");
    assert_eq!(site.state().await, before);
}

#[tokio::test]
async fn unknown_actions_are_told_the_known_ones() {
    let site = Site::new();
    site.held("ann", "/a").await;
    for body in [r#"{"action": "steal", "reason": "x"}"#, r#"{"action": "Break"}"#, r#"{"action": ""}"#] {
        let refused = site.send(post("/a").user("ann").json(body)).await.expect(400, "bad_request");
        assert!(refused.json()["detail"].as_str().unwrap().contains("`release`"), "{}", refused.text);
    }
    assert_eq!(site.keys().await, ["/a"]);
}

#[tokio::test]
async fn several_are_acquired_all_or_none() {
    let site = Site::new();
    let body = r#"{"resources": ["/a", {"resource": "/b"}], "reason": "both", "timeout": 7200}"#;
    let granted = site.send(post("/").user("ann").json(body)).await.expect(201, "").json();
    assert_eq!(granted["clamped"], true);
    let locks = granted["locks"].as_array().unwrap();
    assert_eq!(locks.iter().map(|lock| &lock["resource"]).collect::<Vec<_>>(), ["/a", "/b"]);
    assert!(locks.iter().all(|lock| lock["token"].is_string() && lock["reason"] == "both"));
    assert_ne!(locks[0]["token"], locks[1]["token"]);
    let before = site.state().await;
    let refused = site.send(post("/").user("bob").json(r#"{"resources": ["/c", "/b/below"]}"#)).await;
    assert_eq!(refused.expect(423, "locked").json()["locks"][0]["resource"], "/b");
    let overlap = site.send(post("/?x").user("bob").json(r#"{"resources": ["/d", "/d/e"]}"#)).await;
    assert!(overlap.expect(400, "bad_request").text.contains("overlap"));
    site.send(post("/").json(r#"{"resources": ["/c"]}"#)).await.expect(403, "forbidden");
    site.send(post("/").user("bob").json(r#"{"resources": ["/"]}"#)).await.expect(403, "forbidden");
    assert_eq!(site.state().await, before);
}

#[tokio::test]
async fn options_name_the_verbs() {
    let site = Site::new();
    for (uri, allow, post) in [
        ("/", "GET, HEAD, POST, OPTIONS", "application/json"),
        ("/a", "GET, HEAD, PUT, PATCH, DELETE, POST, OPTIONS", "application/json, text/plain"),
        ("/?resource=/", "GET, HEAD, PUT, PATCH, DELETE, POST, OPTIONS", "application/json, text/plain"),
    ] {
        let answer = site.send(ask("OPTIONS", uri)).await.expect(204, "");
        assert_eq!((answer.header("allow"), answer.header("accept-post")), (allow, post), "{uri}");
    }
}

#[tokio::test]
async fn other_methods_are_told_those_that_there_are() {
    let site = Site::new();
    for (method, uri) in [("PUT", "/"), ("DELETE", "/"), ("PATCH", "/"), ("LOCK", "/a"), ("get", "/a"), ("TRACE", "/a")] {
        let refused = site.send(ask(method, uri).user("ann")).await.expect(405, "method_not_allowed");
        assert!(refused.header("allow").starts_with("GET, HEAD"), "{method} {uri}");
        assert!(refused.json()["detail"].as_str().unwrap().starts_with(method), "{}", refused.text);
    }
}

#[tokio::test]
async fn head_is_get_without_the_body() {
    let site = Site::new();
    site.held("ann", "/a").await;
    for uri in ["/a", "/", "/free", "/?id=f81d4fae-7dec-11d0-a765-00a0c91e6bf6", "/../x"] {
        let full = site.send(get(uri).user("ann")).await;
        let head = site.send(ask("HEAD", uri).user("ann")).await;
        assert_eq!((head.status, head.text.as_str()), (full.status, ""), "{uri}");
        assert_eq!(head.header("content-length"), full.text.len().to_string());
        for (name, value) in &full.headers {
            assert_eq!(head.headers[name], value);
        }
    }
}

#[tokio::test]
async fn an_inspection_is_not_repeated_to_who_knows_it() {
    let site = Site::new();
    let free = site.send(get("/a")).await.expect(200, "").header("etag").to_owned();
    let token = site.held("ann", "/a").await;
    let locked = site.send(get("/a")).await.expect(200, "").header("etag").to_owned();
    assert_ne!(free, locked);
    assert_ne!(free, site.send(get("/b")).await.header("etag"));
    let known = |tag: &str| get("/a").header("if-none-match", tag);
    site.clock.advance(Duration::from_secs(1));
    for tag in [locked.as_str(), "*", &format!("\"x\", {locked}"), locked.strip_prefix("W/").unwrap()] {
        let answer = site.send(known(tag)).await.expect(304, "");
        assert_eq!((answer.text.as_str(), answer.header("etag")), ("", locked.as_str()));
    }
    for tag in [free.as_str(), "\"\"", "", "W/"] {
        site.send(known(tag)).await.expect(200, "");
    }
    site.send(patch("/a").user("ann").holding(&token)).await.expect(200, "");
    site.send(known(&locked)).await.expect(200, "");
    // What a stranger sees is another representation than what the holder does.
    assert_ne!(locked, site.send(get("/a").user("ann")).await.header("etag"));
}

#[tokio::test]
async fn refusals_come_in_the_form_that_the_client_prefers() {
    let site = Site::new();
    for (accept, media) in [("text/html", "text/html; charset=utf-8"), ("text/plain", "text/plain; charset=utf-8")] {
        let refused = site.send(delete("/a").user("ann").header("accept", accept)).await;
        assert_eq!((refused.status.as_u16(), refused.header("content-type")), (400, media));
    }
}

#[tokio::test]
async fn a_token_in_a_header_is_marked_as_a_secret() {
    use tower::ServiceExt;
    let locks = tower_lock::Locks::builder(tower_lock::MemoryStore::new()).allow_anonymous().build();
    let request = http::Request::put("/a").body(http_body_util::Empty::<bytes::Bytes>::new()).unwrap();
    let response = tower_lock::LockEndpoint::new(locks).oneshot(request).await.unwrap();
    // A compressing or a logging layer leaves such a header alone (RFC 7541 section 7.1.3).
    assert!(response.headers()["lock-token"].is_sensitive());
}
