//! How much: items, bytes, questions, locks named.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use http::Request;
use http_body::{Body, Frame, SizeHint};
use serde_json::{Value, json};
use tower_layer::Layer;
use tower_lock::{BatchLayer, Depth, Limits, LockRequest, Locks, MemoryStore, batch::RequestBody};

use crate::{
    records::{Records, Seen, answer, bulk, modes, saving},
    support::{Call, ProbeError, Rigged, lock, locks_of_users, poll_once, probe, send, with},
};

fn numbered(count: usize) -> Value {
    (0..count).map(|at| json!({ "id": at.to_string() })).collect()
}

fn hub(store: Rigged) -> Locks {
    let mut limits = Limits::default();
    limits.locks_per_principal = usize::MAX;
    locks_of_users(store).limits(limits).build()
}

#[tokio::test]
async fn five_hundred_items_of_which_half_are_locked() {
    let store = Rigged::new(MemoryStore::new());
    let locks = hub(store.clone());
    for at in (0..500).step_by(2) {
        lock(&locks, &format!("/records/{at}"), Depth::Infinity).await;
    }
    let seen = Seen::default();
    let mut service = saving(&BatchLayer::new(locks.clone(), Records).forward_unlocked(), &seen);
    let answer = send(&mut service, bulk(&numbered(500))).await;
    assert_eq!(answer.status, 200);
    let each = answer.json();
    for at in 0..500 {
        let expected = if at % 2 == 0 { json!("locked") } else { Value::Null };
        assert_eq!(each[at]["refused"], expected, "{at}");
    }
    assert_eq!((seen.all()[0].len(), store.calls(Call::Admit)), (250, 2));
    let mut service = saving(&BatchLayer::new(locks.clone(), Records), &seen);
    let answer = send(&mut service, bulk(&numbered(500))).await.json();
    assert_eq!(answer["items"].as_array().unwrap().len(), 250, "every item is named");
    assert_eq!((answer["locks"].as_array().unwrap().len(), &answer["truncated"]), (250, &Value::Null), "and every lock");
    assert!(answer["items"].as_array().unwrap().iter().all(|item| item["lock_ids"].as_array().unwrap().len() == 1));
}

#[tokio::test]
async fn a_thousand_items_are_taken_and_no_more() {
    let locks = hub(Rigged::new(MemoryStore::new()));
    for (mode, layer) in modes(&locks) {
        let seen = Seen::default();
        let mut service = saving(&layer, &seen);
        assert_eq!(send(&mut service, bulk(&numbered(1_000))).await.status, 200, "{mode}");
        let answer = send(&mut service, bulk(&numbered(1_001))).await;
        assert_eq!((answer.status.as_u16(), answer.code().as_str()), (413, "content_too_large"), "{mode}");
        assert_eq!(seen.count(), 1, "{mode}");
        assert_eq!(send(&mut service, bulk(&json!([]))).await.status, 200, "{mode}: none at all is a request as well");
    }
}

#[tokio::test]
async fn many_locks_on_one_item_hide_none_on_another() {
    let store = Rigged::new(MemoryStore::new());
    let locks = hub(store.clone());
    for _ in 0..300 {
        _ = locks.acquire(LockRequest::shared("/records/1")).await.unwrap();
    }
    lock(&locks, "/records/9", Depth::Infinity).await;
    let seen = Seen::default();
    let mut service = saving(&BatchLayer::new(locks.clone(), Records).forward_unlocked(), &seen);
    let records = json!([{"id": "1"}, {"id": "5"}, {"id": "9"}]);
    let answer = send(&mut service, bulk(&records)).await.json();
    assert_eq!((&answer[0]["refused"], &answer[2]["refused"]), (&json!("locked"), &json!("locked")));
    assert!(answer[0]["lock_ids"].as_array().unwrap().len() <= 100, "a refusal stays of a size");
    assert_eq!(seen.all(), [["5"]]);
}

#[tokio::test]
async fn a_refusal_of_the_whole_names_as_many_locks_as_there_may_be_items() {
    let locks = hub(Rigged::new(MemoryStore::new()));
    for at in 0..1_000 {
        lock(&locks, &format!("/records/{at}"), Depth::Infinity).await;
    }
    let ask = async |items: usize| {
        let mut service = saving(&BatchLayer::new(locks.clone(), Records), &Seen::default());
        let answer = send(&mut service, bulk(&numbered(items))).await.json();
        let named: std::collections::HashSet<_> =
            answer["locks"].as_array().unwrap().iter().map(|lock| lock["lock_id"].to_string()).collect();
        for item in answer["items"].as_array().unwrap() {
            assert!(named.contains(&item["lock_ids"][0].to_string()), "what an item names is told of");
        }
        (answer["items"].as_array().unwrap().len(), named.len(), answer["truncated"].clone())
    };
    assert_eq!(ask(1_000).await, (1_000, 1_000, Value::Null));
    _ = locks.acquire(LockRequest::shared("/records/x/1")).await.unwrap();
    let mut records = numbered(1_000).as_array().unwrap()[1..].to_vec();
    for _ in 0..3 {
        _ = locks.acquire(LockRequest::shared("/records/x")).await.unwrap();
    }
    records.push(json!({"id": "x", "delete": true}));
    let mut service = saving(&BatchLayer::new(locks.clone(), Records), &Seen::default());
    let answer = send(&mut service, bulk(&records.into())).await.json();
    assert_eq!((answer["locks"].as_array().unwrap().len(), &answer["truncated"]), (1_000, &json!(true)), "and no more");
    assert_eq!(answer["items"].as_array().unwrap().len(), 1_000);
}

#[tokio::test]
async fn the_hint_when_to_try_again_is_about_all_locks_named_or_not() {
    let mut limits = Limits::default();
    (limits.items, limits.blockers_named) = (100, 100);
    let locks = locks_of_users(MemoryStore::new()).limits(limits).build();
    for at in 0..102 {
        let lifetime = std::time::Duration::from_secs(if at == 101 { 900 } else { 60 });
        _ = locks.acquire(LockRequest::exclusive(format!("/records/1/{at:03}")).lifetime(lifetime)).await.unwrap();
    }
    let mut service = saving(&BatchLayer::new(locks, Records), &Seen::default());
    let answer = send(&mut service, bulk(&json!([{"id": "1", "delete": true}]))).await;
    assert_eq!((answer.header("retry-after"), &answer.json()["truncated"]), (Some("900"), &json!(true)));
    assert_eq!(answer.json()["items"][0]["retry_after"], 900);
}

#[tokio::test]
async fn an_answer_in_which_all_items_name_all_locks_stays_of_a_size() {
    let locks = hub(Rigged::new(MemoryStore::new()));
    let many: Value = (0..1_000).map(|at| json!({ "id": format!("/shelf/{at}") })).collect();
    for _ in 0..100 {
        _ = locks.acquire(LockRequest::shared("/shelf").reason("r".repeat(500))).await.unwrap();
    }
    let mut service = saving(&BatchLayer::new(locks.clone(), Records).forward_unlocked(), &Seen::default());
    let answer = send(&mut service, bulk(&many)).await;
    assert!(answer.json().as_array().unwrap().iter().all(|item| item["lock_ids"].as_array().unwrap().len() == 1));
    let mut service = saving(&BatchLayer::new(locks.clone(), Records), &Seen::default());
    let answer = send(&mut service, bulk(&many)).await;
    assert!(answer.body.len() < 500_000, "{}", answer.body.len());
}

/// A body that comes in frames, without a length unless it says one.
struct Frames {
    frames: usize,
    each: &'static [u8],
    end: End,
    says: SizeHint,
    polled: Arc<AtomicUsize>,
}

#[derive(Clone, Copy, PartialEq)]
enum End {
    Whole,
    Broken,
    Never,
}

impl Body for Frames {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.polled.fetch_add(1, Ordering::SeqCst);
        if self.frames > 0 {
            self.frames -= 1;
            return Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(self.each)))));
        }
        match self.end {
            End::Whole => Poll::Ready(None),
            End::Broken => Poll::Ready(Some(Err("the client has gone".into()))),
            End::Never => Poll::Pending,
        }
    }

    fn size_hint(&self) -> SizeHint {
        self.says
    }
}

#[tokio::test]
async fn bodies_that_are_too_long_break_off_or_never_end() {
    let memory = MemoryStore::new();
    let store = Rigged::new(memory.clone());
    let locks = hub(store.clone());
    let inner = || probe(async |_: Request<RequestBody<Frames>>| Ok::<_, ProbeError>(answer(http::StatusCode::OK, "[]")));
    let layer = BatchLayer::new(locks.clone(), Records).body_limit(1_000);
    let polled = Arc::new(AtomicUsize::new(0));
    let ask = |frames, each, end, length: Option<&str>, says: Option<u64>| {
        let says = says.map_or_else(SizeHint::new, SizeHint::with_exact);
        polled.store(0, Ordering::SeqCst);
        let request = bulk(&json!([])).map(|_| Frames { frames, each, end, says, polled: polled.clone() });
        match length {
            Some(length) => with(request, "content-length", length),
            None => request,
        }
    };
    for (request, status, most_polls) in [
        (ask(1, b"[]", End::Whole, Some("1001"), None), 413, 0),
        (ask(1, b"[]", End::Whole, Some("99999999999999999999"), None), 200, 9),
        (ask(1, b"[]", End::Whole, None, Some(1_001)), 413, 0),
        (ask(1_000_000, b"[ , , ,    ", End::Never, None, None), 413, 91),
        (ask(1_000_000, b"[ , , ,    ", End::Never, Some("5"), None), 413, 91),
        (ask(1, b"[", End::Broken, None, None), 400, 2),
        (ask(1, b"{}", End::Whole, None, None), 400, 2),
        (ask(100, b"          ", End::Whole, None, None), 400, 101),
        (ask(1, b"[]", End::Whole, None, None), 200, 9),
    ] {
        polled.store(0, Ordering::SeqCst);
        let answer = send(&mut layer.layer(inner()), request).await;
        assert_eq!(answer.status.as_u16(), status, "{}", answer.text());
        assert!(polled.load(Ordering::SeqCst) <= most_polls);
    }
    // One that never ends: nothing is asked and nothing registered, and dropped, nothing is left.
    use tower::{Service, ServiceExt};
    let mut service = layer.layer(inner());
    let asked = store.calls(Call::Admit);
    let request = ask(1, b"[", End::Never, None, None);
    let mut future = Box::pin(service.ready().await.unwrap().call(request));
    for _ in 0..10 {
        assert!(poll_once(future.as_mut()).is_pending());
    }
    assert_eq!((store.calls(Call::Admit), memory.stats().in_flight), (asked, 0));
    drop(future);
    // Encoded bodies are not read.
    for coding in ["gzip", "br, identity"] {
        let request = with(ask(1, b"[]", End::Whole, None, None), "content-encoding", coding);
        let answer = send(&mut layer.layer(inner()), request).await;
        assert_eq!((answer.status.as_u16(), answer.code().as_str()), (415, "unsupported_media_type"));
    }
    let plain = with(ask(1, b"[]", End::Whole, None, None), "content-encoding", "identity");
    assert_eq!(send(&mut layer.layer(inner()), plain).await.status, 200);
}

#[tokio::test]
async fn items_that_are_deep_down_each_are_refused() {
    let store = Rigged::new(MemoryStore::new());
    let mut service = saving(&BatchLayer::new(hub(store.clone()), Records), &Seen::default());
    for (levels, status) in [(64, 200), (65, 400)] {
        let records: Value = (0..1_000).map(|at| json!({ "id": format!("{}/{at}", "/a".repeat(levels - 1)) })).collect();
        let asked = store.calls(Call::Admit);
        assert_eq!(send(&mut service, bulk(&records)).await.status, status, "{levels}");
        assert_eq!(
            store.calls(Call::Admit) - asked,
            usize::from(status == 200),
            "a store looks at every level of every path"
        );
    }
    // One may be as deep as it would be alone.
    assert_eq!(send(&mut service, bulk(&json!([{ "id": "/a".repeat(30_000) }]))).await.status, 200);
}

#[tokio::test]
async fn items_that_all_depend_on_all_are_refused() {
    let locks = hub(Rigged::new(MemoryStore::new()));
    let mut service = saving(&BatchLayer::new(locks, Records), &Seen::default());
    for (dependencies, status) in [(16, 200), (17, 400)] {
        let after: Vec<usize> = (0..dependencies).collect();
        let twice: Vec<usize> = after.iter().chain(&after).copied().collect();
        let records: Value = (0..1_000).map(|at| json!({ "id": at.to_string(), "after": twice })).collect();
        assert_eq!(send(&mut service, bulk(&records)).await.status, status, "{dependencies}");
    }
}

#[tokio::test]
async fn items_that_change_a_great_deal_each_are_refused() {
    let locks = locks_of_users(MemoryStore::new())
        .keys_fn(|ask| {
            let keys = (0..100).map(|at| tower_lock::ResourceKey::from_canonical(format!("{}/{at}", ask.path)));
            Ok(tower_lock::request::Resolved::keys(keys))
        })
        .build();
    let mut service = saving(&BatchLayer::new(locks, Records), &Seen::default());
    let many: Value = (0..41).map(|at| json!({ "id": format!("/x/{at}") })).collect();
    let answer = send(&mut service, bulk(&many)).await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (400, "bad_request"));
    assert_eq!(send(&mut service, bulk(&many.as_array().unwrap()[..40].iter().cloned().collect())).await.status, 200);
    // Relative to what cannot be told.
    let answer = send(&mut service, bulk(&json!([{"id": "1"}]))).await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (400, "bad_request"));
}
