//! Who may do what, and what strangers see.

use serde_json::json;
use tower_lock::{
    Access, Action, AuthorizeAsk, LockKind, LockRequest, Owner,
    locks::{Authorizer, DefaultAuthorizer},
};

use crate::kit::{Site, delete, get, patch, post, put};

#[tokio::test]
async fn strangers_see_that_there_is_a_lock_and_until_when() {
    let site = Site::new();
    let body = r#"{"reason": "secret plans", "client_ref": "tab", "owner": {"name": "Ann A."}}"#;
    site.held_as("ann", "/a", body).await;
    for stranger in [get("/a").user("bob"), get("/a")] {
        let seen = site.send(stranger).await.expect(200, "");
        let lock = &seen.json()["locks"][0];
        assert_eq!((&lock["expires_in"], &lock["mine"], &lock["can_break"]), (&json!(300), &json!(false), &json!(false)));
        for hidden in ["secret", "ann", "Ann", "tab"] {
            assert!(!seen.text.contains(hidden), "{hidden}: {}", seen.text);
        }
    }
    let refused = site.send(put("/a").user("bob")).await.expect(423, "locked");
    assert!(!refused.text.contains("secret") && !refused.text.contains("ann"), "{}", refused.text);
    let own = site.send(get("/a").user("ann")).await.expect(200, "").json();
    assert_eq!(own["locks"][0]["reason"], "secret plans");
    assert_eq!(own["locks"][0]["owner"], json!({"id": "ann", "name": "Ann A."}));
    assert_eq!(own["locks"][0]["mine"], true);
}

#[tokio::test]
async fn by_default_people_lock_below_the_root_for_a_while() {
    let site = Site::new();
    for (request, detail) in [
        (put("/?resource=/").user("ann"), "/"),
        (put("/.").user("ann"), "/"),
        (put("/a").user("ann").json(r#"{"kind": "freeze"}"#), "freeze"),
        (put("/a").user("ann").json(r#"{"kind": "job"}"#), "job"),
        (put("/a").user("ann").json(r#"{"kind": "review"}"#), "review"),
        (put("/a"), "authenticated"),
        (post("/").json(r#"{"resources": ["/a"]}"#), "authenticated"),
    ] {
        let refused = site.send(request).await.expect(403, "forbidden");
        assert!(refused.json()["detail"].as_str().unwrap().contains(detail), "{}", refused.text);
    }
    assert!(site.state().await.is_empty());
}

#[tokio::test]
async fn anonymous_callers_lock_where_that_is_allowed_and_prove_it_by_token() {
    let site = Site::with(tower_lock::LocksBuilder::allow_anonymous);
    let granted = site.send(put("/a").json(r#"{"reason": "no name"}"#)).await.expect(201, "").json();
    assert_eq!((&granted["reason"], &granted["mine"]), (&json!("no name"), &json!(true)));
    let token = granted["token"].as_str().unwrap();
    site.send(delete("/a")).await.expect(400, "bad_request");
    site.send(delete(&format!("/?id={}", granted["lock_id"].as_str().unwrap()))).await.expect(400, "bad_request");
    site.send(patch("/a").holding(token)).await.expect(200, "");
    site.send(patch("/a").user("ann").holding(token)).await.expect(403, "forbidden");
    site.send(delete("/a").holding(token)).await.expect(204, "");
}

#[tokio::test]
async fn nobody_locks_in_another_name() {
    let site = Site::new();
    for body in [r#"{"owner": {"id": "bob"}}"#, r#"{"owner": {"id": "bob", "name": "Bob"}}"#] {
        let refused = site.send(put("/a").user("ann").json(body)).await.expect(403, "forbidden");
        assert!(refused.json()["detail"].as_str().unwrap().contains("owner: id"), "{}", refused.text);
    }
    site.held_as("ann", "/a", r#"{"owner": {"id": "ann", "name": "Ann"}}"#).await;

    // Where the application says what its callers are called, they do not.
    let site = Site::with(|locks| locks.owner(|_| Some(Owner::id("u-17").named("Ann"))));
    for (name, status) in [("Bob", 403), ("Ann", 201)] {
        let body = json!({"owner": {"name": name}}).to_string();
        assert_eq!(site.send(put("/a").user("ann").json(&body)).await.status, status);
    }
    let seen = site.send(get("/a").user("ann")).await.json();
    assert_eq!(seen["locks"][0]["owner"], json!({"id": "u-17", "name": "Ann"}));
}

#[tokio::test]
async fn what_may_not_be_seen_is_not_there() {
    let site = Site::with(|locks| {
        locks.authorizer(|ask: &AuthorizeAsk<'_>| match (ask.action, ask.principal) {
            (Action::See, Some(who)) if who.as_str() == "spy" => Access::Denied,
            (Action::List, _) => Access::Allowed,
            _ => DefaultAuthorizer.authorize(ask),
        })
    });
    site.held("ann", "/hidden").await;
    let id = site.state().await[0].id();
    let seen = site.send(get("/hidden").user("spy")).await.expect(200, "").json();
    assert_eq!(seen, json!({"resource": "/hidden", "locked": false, "locks": []}));
    site.send(get(&format!("/?id={id}")).user("spy")).await.expect(404, "no_such_lock");
    assert_eq!(site.send(get("/").user("spy")).await.expect(200, "").json(), json!({"locks": []}));
    let refused = site.send(put("/hidden").user("spy")).await.expect(423, "locked").json();
    assert!(refused.get("locks").is_none() && refused.get("detail").is_none(), "{refused}");
}

#[tokio::test]
async fn the_authorizer_is_asked_about_the_real_resource() {
    let site = Site::with(|locks| {
        locks.authorizer(|ask: &AuthorizeAsk<'_>| match ask.action {
            Action::Acquire if ask.key.path().starts_with("/mine/") => Access::Allowed,
            Action::Acquire => Access::Denied,
            _ => DefaultAuthorizer.authorize(ask),
        })
    });
    site.send(put("/mine/a").user("ann")).await.expect(201, "");
    for uri in ["/yours/a", "/mine/a?resource=/yours/a", "/mine%2F..%2Fyours", "/mine"] {
        assert!(site.send(put(uri).user("ann")).await.status.is_client_error(), "{uri}");
    }
    site.send(post("/").user("ann").json(r#"{"resources": ["/mine/b", "/yours/b"]}"#)).await.expect(403, "forbidden");
    assert_eq!(site.keys().await, ["/mine/a"]);
}

#[tokio::test]
async fn nobody_but_a_break_ends_a_freeze() {
    let site = Site::new();
    let freeze = LockRequest::exclusive("/a").kind(LockKind::Freeze).principal("ann");
    let granted = site.locks.acquire(freeze).await.unwrap();
    let token = granted.token().urn().to_string();
    for request in [delete("/a").user("ann").holding(&token), patch("/a").user("ann").holding(&token)] {
        site.send(request).await.expect(403, "forbidden");
    }
    assert_eq!(site.keys().await, ["/a"]);
    let seen = site.send(get("/a").user("bob")).await.expect(200, "").json();
    assert_eq!((&seen["locks"][0]["kind"], &seen["locks"][0]["expires_at"]), (&json!("freeze"), &json!(null)));
    site.send(put("/a/b").user("bob")).await.expect(423, "frozen");
}

#[tokio::test]
async fn a_tenant_reaches_no_lock_of_another() {
    let site = Site::with(|locks| {
        locks
            .namespace(|request| request.headers.get("x-tenant")?.to_str().ok().map(str::to_owned))
            .authorizer(|_: &AuthorizeAsk<'_>| Access::Allowed)
    });
    let at = |ask: crate::kit::Ask, tenant: &str| ask.user("ann").header("x-tenant", tenant);
    let lock = site.send(at(put("/a"), "one")).await.expect(201, "").json();
    let (id, token) = (lock["lock_id"].as_str().unwrap(), lock["token"].as_str().unwrap());
    let url = format!("/?id={id}");
    // The same name is somebody else there.
    site.send(at(get(&url), "two")).await.expect(404, "no_such_lock");
    site.send(at(delete(&url), "two")).await.expect(404, "no_such_lock");
    site.send(at(delete("/a"), "two")).await.expect(400, "bad_request");
    site.send(at(delete("/a").holding(token), "two")).await.expect(409, "not_covered");
    site.send(at(patch(&url).holding(token), "two")).await.expect(404, "no_such_lock");
    let broken = json!({"replaces": [{"lock_id": id, "reason": "x"}]}).to_string();
    site.send(at(put("/b").json(&broken), "two")).await.expect(403, "forbidden");
    assert_eq!(site.send(at(get("/"), "two")).await.expect(200, "").json(), json!({"locks": []}));
    assert_eq!(site.send(at(get("/a"), "two")).await.expect(200, "").json()["locked"], false);
    site.send(at(get(&url), "one")).await.expect(200, "");
    site.send(at(put("/a"), "two")).await.expect(201, "");
    site.send(at(delete(&url), "one")).await.expect(204, "");
}
