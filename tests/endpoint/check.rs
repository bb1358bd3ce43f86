//! `{"action": "check"}`: which of many resources are locked, without trying a write.

use std::time::Duration;

use serde_json::{Value, json};
use tower_lock::{
    Access, Action, AuthorizeAsk, Authorizer, Caller, DefaultAuthorizer, Depth, KeyRules, Limits, LockEndpoint, LockKind,
    LockRequest, Locks, MemoryStore, Principal, ResourceKey,
};

use crate::{
    kit::{Answer, Ask, Site, ask, delete, get, post, put},
    support::{Call, Mode, Rigged, poll_once},
};

fn check(resources: &[&str]) -> Ask {
    post("/").json(&json!({"action": "check", "resources": resources}).to_string())
}

async fn checked(site: &Site, user: &str, resources: &[&str]) -> Value {
    site.send(check(resources).user(user)).await.expect(200, "").json()
}

#[tokio::test]
async fn a_check_tells_of_each_resource_what_a_get_tells_of_it() {
    let site = Site::new();
    site.held_as("ann", "/a", r#"{"reason": "secret", "timeout": 60}"#).await;
    site.held_as("ann", "/b", r#"{"depth": "0", "timeout": 90}"#).await;
    site.held_as("bob", "/c", r#"{"scope": "shared", "timeout": 60}"#).await;
    site.held_as("ann", "/c", r#"{"scope": "shared"}"#).await;
    let resources = ["/a", "/free", "/a/b/c", "/b", "/b/c", "/c", "/"];
    for user in ["ann", "bob", "eve"] {
        let all = checked(&site, user, &resources).await;
        assert_eq!(all["locked"], true);
        for (told, resource) in all["resources"].as_array().unwrap().iter().zip(resources) {
            let mut alone = site.send(get(resource).user(user)).await.json();
            if resource == "/" {
                alone = json!({"resource": "/", "locked": false, "locks": []});
            }
            let mut told = told.clone();
            told.as_object_mut().unwrap().remove("retry_after");
            assert_eq!(told, alone, "{user} {resource}");
        }
    }
    let told = checked(&site, "bob", &resources).await;
    let after: Vec<&Value> = told["resources"].as_array().unwrap().iter().map(|told| &told["retry_after"]).collect();
    assert_eq!(after, [&json!(60), &Value::Null, &json!(60), &json!(90), &Value::Null, &json!(300), &Value::Null]);
    assert!(!told.to_string().contains("secret") && !told.to_string().contains("ann"), "{told}");
    assert_eq!(checked(&site, "ann", &["/a"]).await["resources"][0]["locks"][0]["reason"], "secret");
}

#[tokio::test]
async fn the_order_asked_and_what_is_asked_twice_are_kept() {
    let site = Site::new();
    site.held("ann", "/b").await;
    let told = checked(&site, "ann", &["/z", "/b", "/a", "//b/", "/%62", "/b?x", "/z"]).await;
    let each: Vec<(&str, bool)> = told["resources"]
        .as_array()
        .unwrap()
        .iter()
        .map(|told| (told["resource"].as_str().unwrap(), told["locked"].as_bool().unwrap()))
        .collect();
    assert_eq!(
        each,
        [("/z", false), ("/b", true), ("/a", false), ("/b", true), ("/b", true), ("/b?x", false), ("/z", false)]
    );
    let told = checked(&site, "ann", &["/z", "/a"]).await;
    assert_eq!(told["locked"], false);
    assert_eq!(checked(&site, "ann", &[]).await, json!({"locked": false, "resources": []}));
}

#[tokio::test]
async fn when_to_ask_again_is_not_told_where_nobody_knows() {
    let site = Site::new();
    let freeze = LockRequest::shared("/a").kind(LockKind::Freeze).reason("audit");
    let _freeze = site.locks.acquire(freeze).await.unwrap();
    let _shared = site.locks.acquire(LockRequest::shared("/a").principal("ann")).await.unwrap();
    let told = checked(&site, "ann", &["/a"]).await;
    let told = &told["resources"][0];
    assert_eq!((told["locks"].as_array().unwrap().len(), told.get("retry_after")), (2, None));
}

#[tokio::test]
async fn what_may_not_be_seen_is_not_told_of() {
    let blind = |ask: &AuthorizeAsk<'_>| match ask.action {
        Action::See if ask.principal.is_some_and(|principal| principal.as_str() == "eve") => Access::Denied,
        _ => DefaultAuthorizer.authorize(ask),
    };
    let site = Site::with(|builder| builder.authorizer(blind));
    site.held("ann", "/a").await;
    assert_eq!(
        checked(&site, "eve", &["/a"]).await,
        json!({"locked": false, "resources": [{"resource": "/a", "locked": false, "locks": []}]})
    );
    assert_eq!(site.send(get("/a").user("eve")).await.json()["locked"], false, "as a GET has it");
    assert_eq!(checked(&site, "bob", &["/a"]).await["locked"], true);
}

#[tokio::test]
async fn a_check_changes_nothing_and_reserves_nothing() {
    let site = Site::new();
    site.held("ann", "/a").await;
    let before = site.state().await;
    checked(&site, "bob", &["/a", "/b"]).await;
    checked(&site, "ann", &["/a", "/b"]).await;
    assert_eq!(site.state().await, before);
    assert_eq!(site.locks.stats().refused.total(), 0);
    site.send(put("/b").user("eve")).await.expect(201, "");
}

#[tokio::test]
async fn resources_are_read_in_the_namespace_and_by_the_rules_of_the_application() {
    let site = Site::with(|builder| {
        builder
            .namespace(|request| request.headers.get("x-tenant")?.to_str().ok().map(str::to_owned))
            .keys_by(KeyRules::new().fold_case().prefix("/api"))
    });
    site.send(put("/API/A").user("ann").header("x-tenant", "one")).await.expect(201, "");
    for (tenant, locked) in [("one", true), ("two", false)] {
        let told = site.send(check(&["/api/a"]).user("bob").header("x-tenant", tenant)).await.expect(200, "").json();
        assert_eq!((&told["locked"], &told["resources"][0]["resource"]), (&json!(locked), &json!("/api/a")), "{tenant}");
    }
    let told = site.send(check(&["/a"]).user("bob").header("x-tenant", "one")).await.json();
    assert_eq!(told["locked"], false, "a resource is named in full");
}

#[tokio::test]
async fn one_path_that_cannot_be_read_refuses_the_check_and_is_named() {
    let site = Site::new();
    for (resources, code, told) in [
        (r#"["/a", "b"]"#, "bad_request", "(resources: 1)"),
        (r#"[""]"#, "bad_request", "(resources: 0)"),
        (r#"["/a", "/b", "/a/../b"]"#, "ambiguous_path", "(resources: 2)"),
        (r#"["/a/%2e%2e"]"#, "ambiguous_path", "(resources: 0)"),
        (r#"[7]"#, "bad_request", "resources: "),
        (r#"[{"resource": "/a"}]"#, "bad_request", "resources: "),
        (r#"[["/a"]]"#, "bad_request", "resources: "),
        (r#""/a""#, "bad_request", "resources: "),
        (r#"{"0": "/a"}"#, "bad_request", "resources: "),
        ("null", "bad_request", "resources: "),
    ] {
        let body = format!(r#"{{"action": "check", "resources": {resources}}}"#);
        let refused = site.send(post("/").user("ann").json(&body)).await.expect(400, code);
        assert!(refused.json()["detail"].as_str().unwrap().contains(told), "{}", refused.text);
    }
    for body in [
        r#"{"action": "check"}"#,
        r#"{"action": "check", "resources": [], "timeout": 7}"#,
        r#"{"action": "check", "resources": [], "resources": ["/a"]}"#,
        r#"{"action": "check", "action": "check", "resources": []}"#,
        r#"{"action": "check", "resources": []"#,
        r#"{"action": "release", "resources": ["/a"]}"#,
        r#"{"action": "Check", "resources": ["/a"]}"#,
        r#"{"action": null, "resources": ["/a"]}"#,
        r#"{"action": 7, "resources": ["/a"]}"#,
        r#"["check", ["/a"]]"#,
    ] {
        site.send(post("/").user("ann").json(body)).await.expect(400, "bad_request");
    }
    assert!(site.state().await.is_empty());
    site.send(post("/").user("ann").json(r#"{"resources": ["/a", "/b"]}"#)).await.expect(201, "");
}

#[tokio::test]
async fn only_the_list_takes_a_check_and_only_as_json() {
    let site = Site::new();
    let body = r#"{"action": "check", "resources": ["/a"]}"#;
    for media in ["text/plain", "", "application/x-www-form-urlencoded", "text/plain; x=application/json"] {
        site.send(post("/").user("ann").body(media, body)).await.expect(415, "unsupported_media_type");
    }
    site.send(post("/a").user("ann").json(body)).await.expect(400, "bad_request");
    site.send(put("/a").user("ann").json(body)).await.expect(400, "bad_request");
    site.send(delete("/").user("ann").json(body)).await.expect(405, "method_not_allowed");
    let options = site.send(ask("OPTIONS", "/")).await.expect(204, "");
    assert_eq!((options.header("allow"), options.header("accept-post")), ("GET, HEAD, POST, OPTIONS", "application/json"));
    for (name, value) in [("if", "(<urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6>)"), ("lock-token", "<urn:uuid:x>")] {
        site.send(check(&["/a"]).user("ann").header(name, value)).await.expect(400, "bad_request");
    }
    let mounted = site.endpoint.clone().mount("/locks");
    for path in ["/locks", "/locks/"] {
        site.send_to(&mounted, post(path).user("ann").json(body)).await.expect(200, "");
    }
}

#[tokio::test]
async fn a_check_does_not_wait() {
    let site = Site::with(tower_lock::LocksBuilder::allow_waiting);
    site.held("ann", "/a").await;
    let told = site.send(check(&["/a"]).user("bob").header("prefer", "wait=10")).await.expect(200, "");
    assert!(!told.headers.contains_key("preference-applied"), "{told:?}");
}

#[tokio::test]
async fn there_is_a_limit_to_resources_and_to_the_body() {
    let mut limits = Limits::default();
    limits.items = 2;
    let site = Site::with(|builder| builder.limits(limits));
    site.send(check(&["/a", "/b"])).await.expect(200, "");
    site.send(check(&["/a", "/b", "/a"])).await.expect(400, "bad_request");
    let keys = ["/a", "/b", "/a"].map(ResourceKey::from_canonical);
    assert_eq!(site.locks.check(&keys).await.unwrap_err().status(), 400);

    let site = Site::new();
    let long = format!("/{}", "x".repeat(64 << 10));
    site.send(check(&[&long])).await.expect(413, "content_too_large");
}

#[tokio::test]
async fn five_hundred_resources_are_checked_at_once() {
    let site = Site::new();
    let paths: Vec<String> = (0..500).map(|at| format!("/api/v23.2/objects/capa__c/V0B{at:015}")).collect();
    for path in paths.iter().step_by(7) {
        let _lock = site.locks.acquire(LockRequest::exclusive(path.as_str()).depth(Depth::Zero)).await.unwrap();
    }
    let told = checked(&site, "ann", &paths.iter().map(String::as_str).collect::<Vec<_>>()).await;
    for (at, told) in told["resources"].as_array().unwrap().iter().enumerate() {
        assert_eq!((&told["resource"], &told["locked"]), (&json!(paths[at]), &json!(at % 7 == 0)));
    }
}

/// An endpoint over a store that is rigged in its searches.
fn rigged(mode: Mode) -> (Rigged, LockEndpoint) {
    let store = Rigged::new(MemoryStore::new());
    store.set(Call::Find, mode);
    (store.clone(), LockEndpoint::new(Locks::new(store)))
}

async fn sent(endpoint: &LockEndpoint, ask: Ask) -> Answer {
    use tower::ServiceExt;
    Answer::of(endpoint.clone().oneshot(ask.0).await.unwrap()).await
}

#[tokio::test(start_paused = true)]
async fn a_store_that_fails_or_is_silent_is_503_and_no_free_resource() {
    for mode in [Mode::Fail, Mode::Never] {
        let (_, endpoint) = rigged(mode);
        let started = tokio::time::Instant::now();
        let refused = sent(&endpoint, check(&["/a", "/b"])).await.expect(503, "store_unavailable");
        assert_eq!(refused.header("retry-after"), "1");
        let waited = if mode == Mode::Fail { Duration::ZERO } else { Duration::from_secs(5) };
        assert_eq!(started.elapsed(), waited, "one limit for all of them");
    }
}

#[tokio::test]
async fn a_store_that_takes_its_time_is_asked_a_few_things_at_a_time_and_each_once() {
    let (store, endpoint) = rigged(Mode::Later);
    let paths: Vec<String> = (0..100).map(|at| format!("/{}", at % 50)).collect();
    let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
    let locks = Locks::new(store.clone());
    let _lock = locks.acquire(LockRequest::exclusive("/49")).await.unwrap();
    let told = sent(&endpoint, check(&paths)).await.expect(200, "").json();
    let locked: Vec<usize> = (0..100).filter(|at| told["resources"][*at]["locked"] == true).collect();
    assert_eq!((store.calls(Call::Find), locked), (50, vec![49, 99]));

    store.set(Call::Find, Mode::Gated);
    let keys: Vec<ResourceKey<'_>> = paths.iter().map(|path| ResourceKey::from_canonical(*path)).collect();
    let mut checking = std::pin::pin!(locks.check(&keys));
    assert!(poll_once(checking.as_mut()).is_pending());
    assert_eq!(store.calls(Call::Find), 50 + 16);
    store.open();
    assert!(poll_once(checking.as_mut()).is_pending());
    assert_eq!(store.calls(Call::Find), 50 + 17, "one answered, one more is asked");
}

#[tokio::test]
async fn an_answer_in_which_all_resources_name_all_locks_stays_of_a_size() {
    let mut limits = Limits::default();
    limits.answer_within = Duration::from_secs(60);
    let site = Site::with(|builder| builder.limits(limits));
    for at in 0..100 {
        let request = LockRequest::shared("/shelf").principal("ann").reason("r".repeat(1_000));
        _ = site.locks.acquire(request.lifetime(Duration::from_secs(100 + at))).await.unwrap();
    }
    let all: Vec<String> = (0..1_000).map(|at| format!("/shelf/{at}")).collect();
    let told = site.send(check(&all.iter().map(String::as_str).collect::<Vec<_>>()).user("ann")).await.expect(200, "");
    assert!(told.text.len() < 2_000_000, "{}", told.text.len());
    let told = told.json();
    for told in told["resources"].as_array().unwrap() {
        assert_eq!((told["locks"].as_array().unwrap().len(), &told["truncated"]), (1, &json!(true)));
        assert_eq!(told["retry_after"], 199, "that of all, not of those that are named");
    }
    // A few are told in full, and what a page has no room for is not passed over in silence.
    for (more, retry_after, truncated) in [(0, json!(199), Value::Null), (1, Value::Null, json!(true))] {
        for _ in 0..more {
            _ = site.locks.acquire(LockRequest::shared("/shelf").principal("ann")).await.unwrap();
        }
        let told = &checked(&site, "ann", &["/shelf/1", "/shelf/2"]).await["resources"][1];
        assert_eq!(told["locks"].as_array().unwrap().len(), 100);
        assert_eq!((&told["retry_after"], &told["truncated"]), (&retry_after, &truncated));
    }
}

#[tokio::test]
async fn code_may_check_as_itself_and_on_behalf_of_others() {
    let locks = Locks::new(MemoryStore::new());
    let _held = locks.acquire(LockRequest::exclusive("/a").principal("ann").reason("secret")).await.unwrap();
    let keys = ["/a/b", "/b"].map(ResourceKey::from_canonical);
    let all = locks.check(&keys).await.unwrap();
    assert_eq!((all[0].is_locked(), all[1].is_locked(), all[1].retry_after()), (true, false, None));
    assert_eq!(all[0].locks[0].reason.as_deref(), Some("secret"));
    assert!(all[0].retry_after().is_some_and(|left| (1..=300).contains(&left)));
    let bob = Caller::remote(Some(Principal::new("bob")));
    let seen = locks.check_for(&bob, &keys).await.unwrap();
    assert_eq!((seen[0].is_locked(), &seen[0].locks[0].reason), (true, &None));
    assert_eq!(serde_json::to_value(&seen[1]).unwrap(), json!({"resource": "/b", "locked": false, "locks": []}));
}

/// Other tests run beside these.
#[cfg(all(unix, any(feature = "redis", feature = "postgres")))]
const PATIENCE: Duration = Duration::from_secs(20);

/// Five hundred resources of a real engine, of which every tenth is locked.
#[cfg(all(unix, any(feature = "redis", feature = "postgres")))]
async fn checked_on(store: impl tower_lock::LockStore) {
    let mut limits = Limits::default();
    limits.answer_within = PATIENCE;
    let locks = Locks::builder(store).limits(limits).build();
    let paths: Vec<String> = (0..500).map(|at| format!("/records/{at}")).collect();
    for batch in paths.iter().step_by(10).collect::<Vec<_>>().chunks(25) {
        let mut request = LockRequest::exclusive(batch[0].as_str());
        for path in &batch[1..] {
            request = request.and(path.as_str());
        }
        let _held = locks.acquire(request).await.unwrap();
    }
    let keys: Vec<ResourceKey<'_>> = paths.iter().map(|path| ResourceKey::from_canonical(path.as_str())).collect();
    let told = locks.check(&keys).await.unwrap();
    for (at, told) in told.iter().enumerate() {
        assert_eq!((told.resource.path(), told.is_locked()), (&*paths[at], at % 10 == 0));
    }
}

#[cfg(all(unix, feature = "redis"))]
#[tokio::test(flavor = "multi_thread")]
async fn five_hundred_resources_are_checked_in_redis() {
    let name = uuid::Uuid::new_v4().to_string();
    let url = crate::support::engines::RedisServer::shared().url();
    checked_on(tower_lock::store::RedisStore::builder(&url).namespace(&name).time_limit(PATIENCE).build().unwrap()).await;
}

#[cfg(all(unix, feature = "postgres"))]
#[tokio::test(flavor = "multi_thread")]
async fn five_hundred_resources_are_checked_in_postgres() {
    let name = uuid::Uuid::new_v4().to_string();
    let url = crate::support::engines::PostgresServer::shared().url();
    let store = tower_lock::store::PostgresStore::builder(&url).namespace(&name).time_limit(PATIENCE).build().unwrap();
    store.migrate().await.expect("the schema is made");
    checked_on(store).await;
}
