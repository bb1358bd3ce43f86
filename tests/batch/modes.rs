//! The three modes: what the service gets, and what the client is told.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::BodyExt;
use serde_json::json;
use tower_layer::Layer;
use tower_lock::{
    BatchLayer, Depth, LockLayer, LockRequest, LockScope, MemoryStore, Refusal,
    batch::{RequestBody, Verdicts},
};

use crate::{
    records::{Records, Seen, answer, bulk, ids, modes, saving, tagged},
    support::{Call, Mode, Rigged, Text, by, lock, lock_for, locks_of_users, probe, request, send, with},
};

#[tokio::test]
async fn one_locked_record_refuses_all_and_every_blocker_is_named() {
    let store = Rigged::new(MemoryStore::new());
    let locks = locks_of_users(store.clone()).endpoint_url("/locks").build();
    let seen = Seen::default();
    let mut service = saving(&BatchLayer::new(locks.clone(), Records), &seen);
    let token = lock_for(&locks, "ann", "/records/2", LockScope::Exclusive).await;
    lock_for(&locks, "eve", "/records/4", LockScope::Exclusive).await;
    let before = store.calls(Call::Admit);
    let refused = send(&mut service, by(bulk(&ids(["1", "2", "3", "4", "5"])), "ben")).await;
    assert_eq!(store.calls(Call::Admit) - before, 1, "it is asked once");
    assert_eq!((refused.status.as_u16(), refused.code().as_str()), (423, "locked"));
    assert_eq!(refused.header("content-type"), Some("application/problem+json"));
    assert_eq!((refused.header("retry-after"), refused.header("cache-control")), (Some("300"), Some("no-store")));
    let body = refused.json();
    let [first, second] = &body["items"].as_array().unwrap()[..] else { panic!("{body}") };
    assert_eq!(
        (&first["index"], &first["name"], &first["resource"], &first["status"], &first["code"]),
        (&json!(1), &json!("2"), &json!("/records/2"), &json!(423), &json!("locked"))
    );
    assert_eq!((&second["index"], &second["resource"]), (&json!(3), &json!("/records/4")));
    assert_eq!(body["locks"].as_array().unwrap().len(), 2);
    assert_eq!(first["lock_ids"], json!([body["locks"][0]["lock_id"]]));
    assert_eq!(refused.extensions.get::<Refusal>().unwrap().locks().len(), 2);
    assert_eq!((seen.count(), locks.stats().refused.locked), (0, 1), "one request, one refusal");
    // Who holds both tokens goes on; one of them is not enough.
    assert_eq!(send(&mut service, by(tagged(bulk(&ids(["1", "2", "4"])), "/records/2", token), "ann")).await.status, 423);
    assert_eq!(send(&mut service, by(tagged(bulk(&ids(["1", "2"])), "/records/2", token), "ann")).await.status, 200);
    assert_eq!(seen.all(), [["1", "2"]]);
    // In other forms as ever.
    let page = send(&mut service, with(bulk(&ids(["2"])), "accept", "text/html")).await;
    assert_eq!((page.status.as_u16(), page.header("content-type")), (423, Some("text/html; charset=utf-8")));
}

#[tokio::test]
async fn the_service_gets_exactly_the_others_and_the_refusals_stand_at_their_positions() {
    let store = Rigged::new(MemoryStore::new());
    let locks = locks_of_users(store.clone()).build();
    let seen = Seen::default();
    let mut service = saving(&BatchLayer::new(locks.clone(), Records).forward_unlocked(), &seen);
    for id in ["0", "2", "5"] {
        lock_for(&locks, "ann", &format!("/records/{id}"), LockScope::Exclusive).await;
    }
    let answer = send(&mut service, bulk(&ids(["0", "1", "2", "3", "4", "5"]))).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(store.calls(Call::Admit), 2, "once about all, once about the rest");
    assert_eq!(seen.all(), [["1", "3", "4"]]);
    let each = answer.json();
    assert_eq!(each.as_array().unwrap().len(), 6);
    for (at, expected) in [None, Some("1"), None, Some("3"), Some("4"), None].into_iter().enumerate() {
        match expected {
            Some(id) => assert_eq!(each[at], json!({ "id": id, "done": true })),
            None => {
                assert_eq!((&each[at]["refused"], &each[at]["retry_after"]), (&json!("locked"), &json!(300)));
                assert_eq!(each[at]["resource"], format!("/records/{at}"), "each refusal is about its own record");
                assert_eq!(each[at]["lock_ids"].as_array().unwrap().len(), 1);
            }
        }
    }
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert_eq!(locks.stats().refused.locked, 3, "each is counted");
    // Nothing is locked: one question.
    assert_eq!(send(&mut service, bulk(&ids(["1", "3"]))).await.status, 200);
    assert_eq!(store.calls(Call::Admit), 3);
}

#[tokio::test]
async fn where_all_are_refused_the_service_is_not_called() {
    let store = Rigged::new(MemoryStore::new());
    let locks = locks_of_users(store.clone()).build();
    let seen = Seen::default();
    let mut service = saving(&BatchLayer::new(locks.clone(), Records).forward_unlocked(), &seen);
    lock(&locks, "/records/1", Depth::Infinity).await;
    lock(&locks, "/records/2", Depth::Infinity).await;
    let answer = send(&mut service, bulk(&ids(["1", "2", "1"]))).await;
    assert_eq!(answer.status, 200);
    let each = answer.json();
    assert!(each.as_array().unwrap().iter().all(|item| item["refused"] == "locked"), "{each}");
    assert_eq!(each.as_array().unwrap().len(), 3, "what stands twice is refused twice");
    assert_eq!((seen.count(), store.calls(Call::Admit)), (0, 1));
}

#[tokio::test]
async fn forwarding_all_the_service_gets_the_request_as_it_is_and_the_verdicts() {
    let store = MemoryStore::new();
    let locks = locks_of_users(store.clone()).build();
    let got: Arc<Mutex<Vec<(Verdicts, Bytes, usize)>>> = Arc::default();
    let (into, memory) = (got.clone(), store.clone());
    let inner = probe(move |request: Request<RequestBody<Text>>| {
        let (into, memory) = (into.clone(), memory.clone());
        async move {
            let verdicts = request.extensions().get::<Verdicts>().cloned().expect("the verdicts");
            assert!(!request.headers().contains_key("accept-encoding"));
            let body = request.into_body().collect().await.unwrap().to_bytes();
            into.lock().unwrap().push((verdicts, body, memory.stats().in_flight));
            Ok::<_, crate::support::ProbeError>(answer(StatusCode::MULTI_STATUS, "whatever it says"))
        }
    });
    let mut service = BatchLayer::new(locks.clone(), Records).forward_all().layer(inner);
    lock(&locks, "/records/1", Depth::Infinity).await;
    let odd = r#"  [ {"id":"1"},{"id" : "2"}, {"id":"1"} ]"#;
    let sent = |body: &'static str| bulk(&json!([])).map(|_| Text::from(body));
    let answer = send(&mut service, sent(odd)).await;
    assert_eq!((answer.status.as_u16(), answer.text()), (207, "whatever it says"));
    for (body, refused) in [(odd, vec![0, 2]), (r#"[{"id":"3"}]"#, vec![]), (r#"[{"id":"1"}]"#, vec![0]), ("[]", vec![])] {
        send(&mut service, sent(body)).await;
        let (verdicts, got, in_flight) = got.lock().unwrap().pop().unwrap();
        assert_eq!((verdicts.refused().map(|(at, _)| at).collect::<Vec<_>>(), &*got), (refused, body.as_bytes()));
        assert_eq!(in_flight, 1, "the rest is registered");
    }
    assert_eq!(locks.stats().refused.locked, 5, "each refusal that the service was told of is counted");
    assert_eq!(store.stats().in_flight, 0);
}

#[tokio::test]
async fn what_is_forwarded_fits_its_head() {
    let locks = locks_of_users(MemoryStore::new()).build();
    let inner = probe(async |request: Request<RequestBody<Text>>| {
        let (head, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        assert_eq!(head.headers["content-length"], body.len().to_string());
        for stale in ["transfer-encoding", "content-md5", "digest", "content-digest", "repr-digest", "trailer"] {
            assert!(!head.headers.contains_key(stale), "{stale}");
        }
        assert_eq!(
            (head.headers["accept-encoding"].as_bytes(), head.headers["if-match"].as_bytes()),
            (&b"identity"[..], &b"\"1\""[..])
        );
        let mut answer = answer(StatusCode::OK, r#"[{"id":"2","done":true}]"#);
        for stale in ["etag", "last-modified", "content-md5", "digest", "content-digest", "repr-digest", "content-length"] {
            answer.headers_mut().insert(stale, "24".parse().unwrap());
        }
        answer.headers_mut().insert("x-kept", "kept".parse().unwrap());
        Ok::<_, crate::support::ProbeError>(answer)
    });
    let mut service = BatchLayer::new(locks.clone(), Records).forward_unlocked().layer(inner);
    lock(&locks, "/records/1", Depth::Infinity).await;
    let mut request = bulk(&ids(["1", "2"]));
    for (name, value) in [
        ("transfer-encoding", "chunked"),
        ("content-md5", "old"),
        ("digest", "old"),
        ("content-digest", "old"),
        ("repr-digest", "old"),
        ("trailer", "x"),
        ("accept-encoding", "gzip"),
        ("if-match", "\"1\""),
    ] {
        request = with(request, name, value);
    }
    let merged = send(&mut service, request).await;
    assert_eq!((merged.status.as_u16(), merged.header("x-kept")), (200, Some("kept")));
    for stale in ["etag", "last-modified", "content-md5", "digest", "content-digest", "repr-digest", "content-length"] {
        assert_eq!(merged.header(stale), None, "{stale}");
    }
}

#[tokio::test]
async fn reads_and_other_writes_go_as_by_a_lock_layer() {
    let store = Rigged::new(MemoryStore::new());
    let locks = locks_of_users(store.clone()).build();
    for (mode, layer) in modes(&locks) {
        let seen = Seen::default();
        let mut service = saving(&layer, &seen);
        let token = lock(&locks, "/records/1", Depth::Infinity).await;
        let asked = store.calls(Call::Admit);
        assert_eq!(
            send(&mut service, with(request("GET", "/records/1"), "content-type", "application/json")).await.status,
            200
        );
        assert_eq!(store.calls(Call::Admit), asked, "{mode}: a read asks nobody");
        let refused = send(&mut service, request("PUT", "/records/1")).await;
        assert_eq!((refused.status.as_u16(), refused.json()["items"].is_null()), (423, true), "{mode}");
        assert_eq!(send(&mut service, crate::support::holding(request("PUT", "/records/1"), token)).await.status, 200);
        assert_eq!(store.calls(Call::Admit), asked + 2, "{mode}");
        locks.release(token).await.unwrap();
    }
}

#[tokio::test]
async fn an_admission_is_there_when_locks_answered_and_always_where_the_layer_says_so() {
    let locks = locks_of_users(MemoryStore::new()).build();
    let token = lock_for(&locks, "ann", "/records/1", LockScope::Exclusive).await;
    for (layer, always) in [(LockLayer::new(locks.clone()), false), (LockLayer::new(locks.clone()).fence_all(), true)] {
        let got: Arc<Mutex<Vec<Option<usize>>>> = Arc::default();
        let into = got.clone();
        let inner = probe(move |request: Request<RequestBody<Text>>| {
            let admission = request.extensions().get::<tower_lock::Admission>();
            into.lock().unwrap().push(admission.map(|admission| admission.locks().len()));
            std::future::ready(Ok::<_, crate::support::ProbeError>(answer(StatusCode::OK, "[]")))
        });
        let mut service = BatchLayer::around(layer, Records).layer(inner);
        send(&mut service, by(tagged(bulk(&ids(["1", "2"])), "/records/1", token), "ann")).await;
        send(&mut service, by(bulk(&ids(["2"])), "ann")).await;
        assert_eq!(*got.lock().unwrap(), [Some(1), always.then_some(0)]);
    }
}

#[tokio::test]
async fn a_store_that_is_down_or_slow_closes_bulk_writes_and_leaves_reads_alone() {
    for (mode, opened) in [(Mode::Fail, false), (Mode::Never, false), (Mode::Fail, true)] {
        let store = Rigged::all(MemoryStore::new(), mode);
        let told = Arc::new(Mutex::new(0));
        let mut builder = locks_of_users(store.clone());
        if opened {
            let told = told.clone();
            builder = builder.fail_open(move |_| *told.lock().unwrap() += 1);
        }
        let mut limits = tower_lock::Limits::default();
        limits.admit_within = std::time::Duration::from_millis(5);
        let locks = builder.limits(limits).build();
        for (name, layer) in modes(&locks) {
            let seen = Seen::default();
            let mut service = saving(&layer, &seen);
            let answer = send(&mut service, bulk(&ids(["1", "2"]))).await;
            if opened {
                assert_eq!(
                    (answer.status.as_u16(), seen.all()),
                    (200, vec![vec!["1".to_owned(), "2".to_owned()]]),
                    "{name}"
                );
            } else {
                assert_eq!((answer.status.as_u16(), answer.code().as_str()), (503, "store_unavailable"), "{name}");
                assert_eq!((answer.header("retry-after"), seen.count()), (Some("1"), 0));
                assert!(answer.json()["items"].is_null(), "it is nobody's fault");
            }
            assert_eq!(send(&mut service, request("GET", "/records/1")).await.status, 200);
        }
        assert_eq!(*told.lock().unwrap(), if opened { 3 } else { 0 });
    }
}

#[tokio::test]
async fn the_second_question_fails_closed_as_well() {
    let store = Rigged::new(MemoryStore::new());
    let locks = locks_of_users(store.clone()).build();
    lock(&locks, "/records/1", Depth::Infinity).await;
    for (name, layer) in modes(&locks).into_iter().skip(1) {
        let seen = Seen::default();
        let mut service = saving(&layer, &seen);
        store.set(Call::Admit, Mode::Gated);
        let rigged = store.clone();
        let (answer, ()) = tokio::join!(send(&mut service, bulk(&ids(["1", "2"]))), async move {
            crate::support::until("it is asked", || rigged.calls(Call::Admit) % 2 == 1).await;
            rigged.set(Call::Admit, Mode::Fail);
            rigged.open();
        });
        assert_eq!((answer.status.as_u16(), seen.count()), (503, 0), "{name}");
        store.set(Call::Admit, Mode::Pass);
    }
}

#[tokio::test]
async fn waiting_is_not_heeded_for_bulk_writes() {
    let locks = locks_of_users(MemoryStore::new()).allow_waiting().build();
    let mut service = saving(&BatchLayer::new(locks.clone(), Records), &Seen::default());
    _ = locks.acquire(LockRequest::exclusive("/records/1")).await.unwrap();
    let answer = send(&mut service, with(bulk(&ids(["1"])), "prefer", "wait=10")).await;
    assert_eq!((answer.status.as_u16(), answer.header("preference-applied"), locks.waiting()), (423, None, 0));
}
