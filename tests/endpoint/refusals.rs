//! What the store and the limits refuse, over HTTP.

use std::time::Duration;

use serde_json::json;
use tower_lock::{
    Limits, LockEndpoint, LockStore, Locks, MemoryStore, Principal,
    lock::Gone,
    locks::Demand,
    store::{
        Acquire, Acquired, LockPage, LockQuery, Refresh, Refreshed, Release, Released, StoreError, StoreErrorKind,
        StoreFuture, Verdict, Watch, Write, WriteId,
    },
};

use crate::kit::{Answer, Ask, Site, delete, get, patch, post, put};

/// A store that is of no use.
#[derive(Clone, Copy)]
enum Sick {
    Fails,
    FailsLater,
    NeverAnswers,
}

impl Sick {
    fn answer<T: Send + 'static>(self) -> StoreFuture<T> {
        let error = || StoreError::new(StoreErrorKind::Unavailable, "trying").caused_by("no route to 10.0.0.7");
        match self {
            Self::Fails => StoreFuture::failed(error()),
            Self::FailsLater => StoreFuture::new(async move {
                tokio::task::yield_now().await;
                Err(error())
            }),
            Self::NeverAnswers => StoreFuture::new(std::future::pending()),
        }
    }
}

impl LockStore for Sick {
    fn admit(&self, _: &Write<'_>) -> StoreFuture<Verdict> {
        self.answer()
    }

    fn acquire(&self, _: &Acquire<'_>) -> StoreFuture<Acquired> {
        self.answer()
    }

    fn refresh(&self, _: &Refresh<'_>) -> StoreFuture<Refreshed> {
        self.answer()
    }

    fn release(&self, _: &Release<'_>) -> StoreFuture<Released> {
        self.answer()
    }

    fn clear(&self, _: &[Gone<'_>], _: Option<WriteId>) -> StoreFuture<usize> {
        self.answer()
    }

    fn find(&self, _: &LockQuery<'_>) -> StoreFuture<LockPage> {
        self.answer()
    }

    fn watch(&self, query: &LockQuery<'_>) -> Watch {
        MemoryStore::new().watch(query)
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_cannot_answer_is_503_in_time_for_every_verb() {
    const TOKEN: &str = "urn:uuid:f81d4fae-7dec-41d0-a765-00a0c91e6bf6";
    for sick in [Sick::Fails, Sick::FailsLater, Sick::NeverAnswers] {
        let locks = Locks::builder(sick).principal(|_| Some(Principal::new("ann"))).build();
        let endpoint = LockEndpoint::new(locks);
        let id = "/?id=f81d4fae-7dec-41d0-a765-00a0c91e6bf6";
        for ask in [
            get("/a"),
            get("/"),
            get(id),
            put("/a"),
            put("/a").json(&json!({"token": TOKEN}).to_string()),
            put("/a").json(r#"{"replaces": [{"lock_id": "f81d4fae-7dec-41d0-a765-00a0c91e6bf6", "reason": "x"}]}"#),
            post("/").json(r#"{"resources": ["/a"]}"#),
            patch("/a").holding(TOKEN),
            patch(id).holding(TOKEN),
            delete("/a"),
            delete("/a").holding(TOKEN),
            delete(id),
            post("/a").body("text/plain", TOKEN),
            post("/a").json(r#"{"action": "break", "reason": "x"}"#),
            post(id).json(r#"{"action": "break", "reason": "x"}"#),
            get("/a").header("accept", "text/event-stream"),
            get(id).header("accept", "text/event-stream"),
        ] {
            let shown = format!("{} {}", ask.0.method(), ask.0.uri());
            let started = tokio::time::Instant::now();
            let answer = Answer::of(tower::ServiceExt::oneshot(endpoint.clone(), ask.0).await.unwrap()).await;
            // Ten seconds: five to answer, and five that an acquire may wait for writes.
            assert!(started.elapsed() <= Duration::from_secs(10), "{shown}");
            let answer = answer.expect(503, "store_unavailable");
            assert_eq!(answer.header("retry-after"), "1", "{shown}");
            assert!(!answer.text.contains("10.0.0.7"), "{}", answer.text);
        }
    }
}

#[tokio::test]
async fn an_acquire_over_a_running_write_is_busy() {
    let site = Site::new();
    let write = http::Request::put("/docs/7").body(()).unwrap();
    let tower_lock::locks::Judgement::Ready(Ok(admitted)) =
        site.locks.judge(tower_lock::RequestView::of(&write), Demand::None)
    else {
        panic!("an unlocked write is admitted at once")
    };
    let busy = site.send(put("/docs").user("ann").json(r#"{"drain": 0}"#)).await.expect(409, "write_in_progress");
    assert!(busy.header("retry-after").parse::<u64>().is_ok());
    assert!(site.state().await.is_empty());
    drop(admitted);
    site.send(put("/docs").user("ann").json(r#"{"drain": 0}"#)).await.expect(201, "");
}

#[tokio::test]
async fn quotas_are_told_apart() {
    let mut limits = Limits::default();
    limits.locks_per_principal = 2;
    limits.locks_in_store = 3;
    let site = Site::with(|locks| locks.limits(limits));
    site.held("ann", "/a").await;
    site.send(post("/").user("ann").json(r#"{"resources": ["/b", "/c"]}"#)).await.expect(429, "lock_quota");
    let token = site.held("ann", "/b").await;
    site.send(put("/c").user("ann")).await.expect(429, "lock_quota");
    site.held("bob", "/c").await;
    site.send(put("/d").user("bob")).await.expect(503, "store_full");
    assert_eq!(site.keys().await, ["/a", "/b", "/c"]);
    // What is given up makes room.
    site.send(put("/d").user("ann").json(&json!({"replaces": [token]}).to_string())).await.expect(201, "");
    assert_eq!(site.keys().await, ["/a", "/c", "/d"]);
}

#[tokio::test]
async fn a_refused_write_leads_to_the_lock_and_its_holder_writes() {
    let site = Site::with(|locks| locks.endpoint_url("/locks"));
    let token = site.held("ann", "/docs/7").await;
    let refused = site.write(put("/docs/7").user("bob")).await.expect(423, "locked");
    let link = refused.header("link").to_owned();
    let url = link.strip_prefix('<').unwrap().split('>').next().unwrap().to_owned();
    let under = site.endpoint.clone().mount("/locks");
    let lock = site.send_to(&under, get(&url).user("bob")).await.expect(200, "").json();
    assert_eq!(lock["resource"], "/docs/7");
    assert_eq!(site.write(put("/docs/7").user("ann").holding(&token)).await.status, 200);
    site.send(delete("/docs/7").user("ann").holding(&token)).await.expect(204, "");
    assert_eq!(site.write(put("/docs/7").user("bob")).await.status, 200);
    assert_eq!(site.write(put("/docs/7").user("ann").holding(&token)).await.status, 412);
}

#[tokio::test]
async fn problem_types_and_refusals_in_extensions_are_as_the_layers() {
    let site = Site::with(|locks| locks.problem_types("https://api.example/problems/"));
    let Ask(request) = put("/a").user("ann").json("[]");
    let response = tower::ServiceExt::oneshot(site.endpoint.clone(), request).await.unwrap();
    assert!(response.extensions().get::<tower_lock::Refusal>().is_some());
    let problem = Answer::of(response).await.expect(400, "bad_request").json();
    assert_eq!(problem["type"], "https://api.example/problems/bad_request");
}
