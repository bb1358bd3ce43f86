//! What a refused client gets: the body of section 7 field by field, headers, forms, and what strangers are not told.

mod support;

use std::time::Duration;

use http::{Request, Response};
use serde_json::{Value, json};
use support::{
    Answer, Mode, ProbeError, Rigged, Text, bodies::Untouchable, by, holding, locks_of_users, poll_once, probe, request,
    send, stores::memory, with,
};
use tower::{Service, ServiceExt};
use tower_layer::Layer;
use tower_lock::{
    Access, AuthorizeAsk, Depth, Granted, LockKind, LockLayer, LockRequest, Locks, MemoryStore, Owner, Refusal, RefusalCode,
    store::ManualClock,
};

fn saved() -> impl Service<Request<Text>, Response = Response<Text>, Error = ProbeError, Future: Send> + Clone {
    probe(async |_: Request<Text>| Ok(Response::new(Text::default())))
}

/// A PUT to `path` by `user`, refused.
async fn refused(locks: &Locks, path: &str, user: &'static str) -> Answer {
    let mut service = LockLayer::new(locks.clone()).layer(saved());
    send(&mut service, by(request("PUT", path), user)).await
}

fn seeing_all(_: &AuthorizeAsk<'_>) -> Access {
    Access::Allowed
}

fn seeing_nothing(_: &AuthorizeAsk<'_>) -> Access {
    Access::Denied
}

/// The legal desk's lock on `/cases/4711`, for 14 minutes from 2026-01-01T00:00:00Z.
async fn legal_desk(locks: &Locks) -> Granted {
    let request = LockRequest::exclusive("/cases/4711")
        .kind(LockKind::Job)
        .principal("u-17")
        .owner(Owner::id("u-17").named("Legal desk"))
        .reason("nightly export")
        .lifetime(Duration::from_secs(840));
    locks.acquire(request).await.unwrap()
}

#[tokio::test]
async fn the_body_is_that_of_section_7_field_by_field() {
    for mode in [Mode::Pass, Mode::Later] {
        let clock = ManualClock::new();
        let locks = locks_of_users(Rigged::all(memory(clock.clock()), mode)).authorizer(seeing_all).build();
        let granted = legal_desk(&locks).await;
        clock.advance(Duration::from_millis(500));
        let answer = refused(&locks, "/cases/4711/files//a%20b/", "u-2").await;
        assert_eq!(
            answer.json(),
            json!({
                "type": "about:blank",
                "title": "Locked",
                "status": 423,
                "detail": "/cases/4711/files/a b is locked through /cases/4711 by Legal desk (nightly export) \
                           until 2026-01-01T00:14:00Z.",
                "code": "locked",
                "resource": "/cases/4711/files/a b",
                "retry_after": 840,
                "locks": [{
                    "lock_id": granted.lock().id().to_string(),
                    "resource": "/cases/4711",
                    "scope": "exclusive",
                    "depth": "infinity",
                    "kind": "job",
                    "owner": { "id": "u-17", "name": "Legal desk" },
                    "reason": "nightly export",
                    "state": "held",
                    "in_use": false,
                    "created_at": "2026-01-01T00:00:00Z",
                    "expires_at": "2026-01-01T00:14:00Z",
                    "expires_in": 840,
                    "generation": granted.lock().generation(),
                    "mine": false,
                    "can_break": true
                }]
            })
        );
        let headers: Vec<&str> = answer.headers.keys().map(http::HeaderName::as_str).collect();
        assert_eq!(answer.headers.len(), 5, "{headers:?}");
        assert_eq!(answer.header("content-length"), Some(&*answer.text().len().to_string()));
        for (name, value) in [
            ("content-type", "application/problem+json"),
            ("cache-control", "no-store"),
            ("vary", "accept"),
            ("retry-after", "840"),
        ] {
            assert_eq!(answer.header(name), Some(value));
        }
        let refusal = answer.extensions.get::<Refusal>().expect("left for layers outside");
        assert_eq!((refusal.code(), refusal.locks().len()), (RefusalCode::Locked, 1));
    }
}

#[tokio::test]
async fn strangers_are_told_that_there_is_a_lock_and_until_when() {
    let locks = locks_of_users(memory(ManualClock::new().clock())).build();
    drop(legal_desk(&locks).await);
    let body = refused(&locks, "/cases/4711", "u-2").await.json();
    let lock = body["locks"][0].as_object().unwrap();
    for hidden in ["owner", "reason", "client_ref"] {
        assert!(!lock.contains_key(hidden), "{body}");
    }
    assert_eq!((&lock["expires_in"], &lock["mine"], &lock["can_break"]), (&json!(840), &json!(false), &json!(false)));
    assert_eq!(body["detail"], "/cases/4711 is locked until 2026-01-01T00:14:00Z.");
    assert!(!body.to_string().contains("u-17") && !body.to_string().contains("nightly"), "{body}");

    // One's own, without the token, is shown whole.
    let body = refused(&locks, "/cases/4711", "u-17").await.json();
    assert_eq!((&body["locks"][0]["mine"], &body["locks"][0]["reason"]), (&json!(true), &json!("nightly export")));
    // Nothing tells an anonymous caller from another one.
    let mut service = LockLayer::new(locks.clone()).layer(saved());
    let body = send(&mut service, request("PUT", "/cases/4711")).await.json();
    assert_eq!(body["locks"][0]["mine"], false);
}

#[tokio::test]
async fn who_may_not_see_a_lock_gets_a_bare_body() {
    for accept in ["*/*", "text/html", "text/plain", "application/json"] {
        let builder = locks_of_users(memory(ManualClock::new().clock())).endpoint_url("/locks");
        let locks = builder.authorizer(seeing_nothing).build();
        let granted = legal_desk(&locks).await;
        let freeze = LockRequest::exclusive("/frozen").kind(LockKind::Freeze).reason("nightly export");
        drop(locks.acquire(freeze).await.unwrap());
        let mut service = LockLayer::new(locks.clone()).layer(saved());
        for path in ["/cases/4711", "/frozen"] {
            let answer = send(&mut service, with(by(request("PUT", path), "u-2"), "accept", accept)).await;
            assert_eq!((answer.status.as_u16(), answer.header("link")), (423, None));
            let secrets =
                ["4711", "u-17", "Legal", "nightly", "frozen", "Frozen", "freeze", &granted.lock().id().to_string()];
            for secret in secrets {
                assert!(!answer.text().contains(secret), "{accept}: {secret} in {}", answer.text());
            }
            if accept == "*/*" {
                let mut bare = json!({ "type": "about:blank", "title": "Locked", "status": 423, "code": "locked" });
                if path == "/cases/4711" {
                    bare["retry_after"] = json!(840);
                }
                assert_eq!(answer.json(), bare);
            }
        }
    }
}

#[tokio::test]
async fn a_lock_that_may_be_seen_hides_one_that_may_not() {
    let seeing_shared = |ask: &AuthorizeAsk<'_>| if ask.key.path() == "/a" { Access::Denied } else { Access::Allowed };
    let locks = locks_of_users(MemoryStore::new()).authorizer(seeing_shared).build();
    for path in ["/a", "/a/b"] {
        drop(locks.acquire(LockRequest::exclusive(path).depth(Depth::Zero).reason(format!("over {path}"))).await.unwrap());
    }
    let mut service = LockLayer::new(locks.clone()).layer(saved());
    let body = send(&mut service, by(request("DELETE", "/a"), "u-2")).await.json();
    assert_eq!(body["locks"].as_array().unwrap().len(), 1);
    assert!(!body.to_string().contains("over /a\""), "{body}");
}

#[tokio::test]
async fn no_token_is_in_any_refusal() {
    let locks = locks_of_users(MemoryStore::new()).authorizer(seeing_all).endpoint_url("/locks").build();
    let granted = legal_desk(&locks).await;
    let token = granted.token().urn().to_string();
    let digits = token.trim_start_matches("urn:uuid:").to_owned();
    let mut service = LockLayer::new(locks.clone()).layer(saved());
    for accept in ["*/*", "text/html", "text/plain"] {
        for request in [
            by(request("PUT", "/cases/4711"), "u-2"),
            by(request("PUT", "/cases/4711"), "u-17"),
            holding(by(request("PUT", "/cases/4711"), "u-2"), granted.token()),
            holding(by(request("PUT", "/elsewhere"), "u-17"), granted.token()),
        ] {
            let answer = send(&mut service, with(request, "accept", accept)).await;
            assert!(answer.status == 423 || answer.status == 412);
            let whole = format!("{answer:?} {}", answer.text());
            assert!(!whole.contains(&digits), "{whole}");
        }
    }
    let shown = format!("{granted:?} {:?} {:?} {:?}", granted.token(), locks, granted.lock());
    assert!(!shown.contains(&digits), "{shown}");
}

#[tokio::test]
async fn retry_after_is_the_latest_end_of_what_blocks_and_absent_where_nobody_knows() {
    let clock = ManualClock::new();
    let locks = locks_of_users(memory(clock.clock())).build();
    let shared =
        |user: &'static str, seconds| LockRequest::shared("/a").principal(user).lifetime(Duration::from_secs(seconds));
    let short = locks.acquire(shared("u-1", 60)).await.unwrap();
    drop(locks.acquire(shared("u-2", 120)).await.unwrap());
    clock.advance(Duration::from_micros(1));
    assert_eq!(refused(&locks, "/a", "u-9").await.header("retry-after"), Some("120"), "rounded up");
    clock.advance(Duration::from_secs(59));
    assert_eq!(refused(&locks, "/a", "u-9").await.header("retry-after"), Some("61"));

    // In use: its end moves as long as the write runs.
    let running = LockLayer::new(locks.clone()).layer(probe(async |_: Request<Text>| {
        std::future::pending::<()>().await;
        Ok::<_, ProbeError>(Response::new(Text::default()))
    }));
    let mut write = Box::pin(running.oneshot(holding(by(request("PUT", "/a"), "u-1"), short.token())));
    assert!(poll_once(write.as_mut()).is_pending() && poll_once(write.as_mut()).is_pending());
    let answer = refused(&locks, "/a", "u-9").await;
    assert_eq!(answer.header("retry-after"), None, "{answer:?}");
    assert_eq!(answer.json().get("retry_after"), None);
    assert!(answer.json()["locks"].as_array().unwrap().iter().any(|lock| lock["in_use"] == true));
    drop(write);
    assert!(refused(&locks, "/a", "u-9").await.header("retry-after").is_some());

    drop(locks.acquire(LockRequest::exclusive("/b").kind(LockKind::Freeze)).await.unwrap());
    let answer = refused(&locks, "/b", "u-9").await;
    assert_eq!((answer.code().as_str(), answer.header("retry-after")), ("frozen", None));
    assert_eq!(answer.json()["title"], "Frozen");
    assert_eq!(answer.json()["locks"][0]["expires_at"], Value::Null);
    assert_eq!(answer.json()["detail"], "/b is frozen until further notice.");
}

#[tokio::test]
async fn a_refusal_links_to_the_locks_and_types_its_problem_where_that_is_configured() {
    let builder = locks_of_users(MemoryStore::new()).endpoint_url("https://api.example/locks/");
    let locks = builder.problem_types("https://api.example/problems/").build();
    let granted = legal_desk(&locks).await;
    let answer = refused(&locks, "/cases/4711", "u-2").await;
    let link = format!("<https://api.example/locks/?id={}>; rel=\"monitor\"", granted.lock().id());
    assert_eq!(answer.header("link"), Some(link.as_str()));
    assert_eq!(answer.json()["type"], "https://api.example/problems/locked");
    let answer = refused(&locks, "/a/../b", "u-2").await;
    assert_eq!(answer.json()["type"], "https://api.example/problems/ambiguous_path");
}

#[tokio::test]
async fn more_locks_than_the_limit_are_counted_and_not_named() {
    let locks = Locks::new(MemoryStore::new());
    for at in 0..103 {
        drop(locks.acquire(LockRequest::exclusive(format!("/a/{at}"))).await.unwrap());
    }
    let mut service = LockLayer::new(locks.clone()).layer(saved());
    let body = send(&mut service, request("DELETE", "/a")).await.json();
    assert_eq!((body["locks"].as_array().unwrap().len(), &body["truncated"]), (100, &json!(true)));
    let body = send(&mut service, request("DELETE", "/a/7")).await.json();
    assert_eq!((body["locks"].as_array().unwrap().len(), body.get("truncated")), (1, None));
}

#[tokio::test]
async fn the_client_chooses_the_form() {
    let locks = locks_of_users(memory(ManualClock::new().clock())).authorizer(seeing_all).build();
    drop(legal_desk(&locks).await);
    let mut service = LockLayer::new(locks).layer(saved());
    for (accept, form, starts) in [
        ("*/*", "application/problem+json", "{"),
        ("image/png", "application/problem+json", "{"),
        ("application/json", "application/json", "{"),
        ("text/html,application/xhtml+xml,*/*;q=0.8", "text/html; charset=utf-8", "<!doctype html>"),
        ("text/plain", "text/plain; charset=utf-8", "/cases/4711 is locked by Legal desk (nightly export) until"),
    ] {
        for method in ["PUT", "DELETE"] {
            let answer = send(&mut service, with(by(request(method, "/cases/4711"), "u-2"), "accept", accept)).await;
            assert_eq!((answer.status.as_u16(), answer.header("content-type")), (423, Some(form)), "{accept}");
            assert!(answer.text().starts_with(starts), "{accept}: {}", answer.text());
            assert_eq!(answer.header("retry-after"), Some("840"), "in every form");
        }
    }
}

#[tokio::test]
async fn nothing_that_a_holder_wrote_runs_in_a_page() {
    let locks = locks_of_users(MemoryStore::new()).authorizer(seeing_all).build();
    let nasty = "<script>alert('x')</script>\"&\r\nSet-Cookie: a=b";
    let request_of = LockRequest::exclusive("/a/%3Cimg%20src=x%20onerror=y%3E").principal("u-1");
    drop(locks.acquire(request_of.owner(Owner::id(nasty).named(nasty)).reason(nasty)).await.unwrap());
    let mut service = LockLayer::new(locks).layer(saved());
    let sent = || by(request("PUT", "/a/%3Cimg%20src=x%20onerror=y%3E"), "u-2");
    let page = send(&mut service, with(sent(), "accept", "text/html")).await;
    assert!(!page.text().contains("<script") && !page.text().contains("<img"), "{}", page.text());
    assert!(page.text().contains("&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;&quot;&amp;"));
    assert!(page.headers.values().all(|value| !value.as_bytes().contains(&b'\n')));
    let body = send(&mut service, sent()).await.json();
    assert_eq!((&body["locks"][0]["reason"], &body["locks"][0]["owner"]["name"]), (&json!(nasty), &json!(nasty)));
}

#[tokio::test]
async fn a_lock_that_was_lost_is_told_from_one_that_another_holds() {
    let clock = ManualClock::new();
    let locks = locks_of_users(memory(clock.clock())).build();
    let take =
        |path: &'static str| locks.acquire(LockRequest::exclusive(path).principal("u-1").lifetime(support::SECOND * 60));
    let (expired, released) = (take("/expired").await.unwrap(), take("/released").await.unwrap());
    locks.release(released.token()).await.unwrap();
    clock.advance(support::SECOND * 61);
    let live = take("/live").await.unwrap();
    let mut service = LockLayer::new(locks.clone()).layer(saved());
    for (path, granted, cause, detail) in [
        ("/expired", &expired, "expired", "Your lock on /expired has expired at 2026-01-01T00:01:00Z."),
        ("/released", &released, "released", "Your lock on /released was released at 2026-01-01T00:00:00Z."),
        ("/elsewhere", &live, "out_of_scope", "Your lock on /live does not cover this."),
    ] {
        let write = || by(request("PUT", path), "u-1");
        for write in [holding(write(), granted.token()), with(write(), "lock-token", format!("<{}>", granted.token().urn()))]
        {
            let body = send(&mut service, write).await.json();
            assert_eq!(
                (&body["status"], &body["code"], &body["title"]),
                (&json!(412), &json!("lock_lost"), &json!("Lock lost"))
            );
            assert_eq!((&body["lost"][0]["cause"], &body["detail"]), (&json!(cause), &json!(detail)), "{body}");
            assert_eq!((&body["lost"][0]["lock_id"], &body["locks"]), (&json!(granted.lock().id().to_string()), &json!([])));
        }
        // Somebody else who shows the token learns nothing.
        let body = send(&mut service, holding(by(request("PUT", path), "u-2"), granted.token())).await.json();
        assert_eq!(body["lost"], json!([{ "cause": "unknown" }]), "{body}");
    }
}

#[tokio::test]
async fn a_refused_body_is_dropped_unread() {
    for mode in [Mode::Pass, Mode::Later] {
        let locks = Locks::new(Rigged::all(MemoryStore::new(), mode));
        drop(locks.acquire(LockRequest::exclusive("/a")).await.unwrap());
        let service = LockLayer::new(locks)
            .layer(probe(async |_: Request<Untouchable>| Ok::<_, ProbeError>(Response::new(Text::default()))));
        for path in ["/a", "/a/../b"] {
            let answer = service.clone().oneshot(request("PUT", path).map(|_| Untouchable)).await.unwrap();
            assert!(matches!(answer.status().as_u16(), 423 | 400));
        }
    }
}

#[tokio::test]
async fn a_malformed_head_is_named_for_what_it_is() {
    let mut service = LockLayer::new(MemoryStore::new()).layer(saved());
    let many: String = (0..65).map(|at| format!("(<urn:uuid:00000000-0000-4000-8000-0000000000{at:02}>)")).collect();
    for (name, value, code, says) in [
        ("if", "(", "bad_request", "If"),
        ("if", "(<no uri>)", "bad_request", "If"),
        ("if", many.as_str(), "bad_request", "64"),
        ("lock-token", "<>", "bad_request", "Lock-Token"),
        ("destination", "//h/a", "ambiguous_path", "Destination"),
        ("destination", "a", "bad_request", "Destination"),
    ] {
        let answer = send(&mut service, with(request("MOVE", "/a"), name, value)).await;
        assert_eq!((answer.status.as_u16(), answer.code().as_str()), (400, code), "{name}: {value}");
        assert!(answer.json()["detail"].as_str().unwrap().contains(says), "{}", answer.text());
    }
    for value in [&b"(<urn:uuid:\xFF>)"[..], b"\xFF\xFE", b"([\"\x80\"])("] {
        let answer = send(&mut service, with(request("PUT", "/a"), "if", value)).await;
        // A token of octets that no token has may also be one that matches nothing.
        assert!(matches!(answer.status.as_u16(), 400 | 412), "{value:?}: {answer:?}");
    }
}
