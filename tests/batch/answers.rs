//! What the service answers, and what becomes of it: never a success without the refusals.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower_layer::Layer;
use tower_lock::{BatchLayer, Depth, LockScope, Locks, MemoryStore, batch::RequestBody};

use crate::{
    records::{Records, answer, answering, bulk, ids, modes, tagged},
    support::{Answer, ProbeError, Text, by, lock, lock_for, locks_of_users, probe, send, with},
};

struct World {
    store: MemoryStore,
    locks: Locks,
    layer: BatchLayer<Records>,
}

/// `/records/1` is locked.
async fn world() -> World {
    let store = MemoryStore::new();
    let locks = locks_of_users(store.clone()).build();
    lock(&locks, "/records/1", Depth::Infinity).await;
    let layer = BatchLayer::new(locks.clone(), Records).forward_unlocked();
    World { store, locks, layer }
}

/// That the answer says what was refused, and that the others may be done.
fn assert_unreadable(answer: &Answer, why: &str) {
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (500, "unreadable_answer"), "{}", answer.text());
    let body = answer.json();
    let detail = body["detail"].as_str().unwrap();
    assert!(detail.contains(why) && detail.contains("1 items were refused. The others may be done"), "{detail}");
    assert_eq!((&body["items"][0]["index"], &body["items"][0]["code"]), (&json!(0), &json!("locked")));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
}

#[tokio::test]
async fn what_is_no_success_is_passed_on_as_it_is() {
    let World { locks, layer, store } = world().await;
    for status in [500, 400, 404, 409, 422, 503, 307, 308] {
        let status = StatusCode::from_u16(status).unwrap();
        let mut service = answering(&layer, move || with_header(answer(status, "the service says so"), "etag", "\"1\""));
        let answer = send(&mut service, bulk(&ids(["1", "2"]))).await;
        assert_eq!((answer.status, answer.text(), answer.header("etag")), (status, "the service says so", Some("\"1\"")));
    }
    assert_eq!(locks.stats().refused.total(), 0, "no refusal became an answer");
    assert_eq!(store.stats().in_flight, 0);
}

#[tokio::test]
async fn every_success_has_the_refusals_in_it_or_is_none() {
    let World { locks, layer, store } = world().await;
    for status in [200, 201, 202, 207] {
        let status = StatusCode::from_u16(status).unwrap();
        let mut service = answering(&layer, move || answer(status, r#"[{"done": true}]"#));
        let answer = send(&mut service, bulk(&ids(["1", "2"]))).await;
        assert_eq!((answer.status, &answer.json()[0]["refused"]), (status, &json!("locked")));
        assert_eq!(answer.json()[1], json!({"done": true}));
    }
    let done = r#"[{"done": true}]"#;
    for (status, body) in [
        (200, ""),
        (204, ""),
        (205, ""),
        // Whoever answers over a network leaves these bodies out.
        (204, done),
        (205, done),
        // Part of an answer, and answers that send the client to where the success is: `303` after a POST most of all.
        (206, done),
        (300, done),
        (301, done),
        (302, done),
        (303, done),
        (304, ""),
        (305, ""),
        (200, "garbage"),
        (200, "[]"),
        (200, r#"[{"done": true}, {"done": true}]"#),
        (200, r#"{"done": true}"#),
        (200, "[{\"done\": true}"),
    ] {
        let status = StatusCode::from_u16(status).unwrap();
        let mut service = answering(&layer, move || answer(status, body));
        let answer = send(&mut service, bulk(&ids(["1", "2"]))).await;
        assert_unreadable(&answer, "");
    }
    let mut service = answering(&layer, || with_header(answer(StatusCode::OK, "[]"), "content-encoding", "gzip"));
    assert_unreadable(&send(&mut service, bulk(&ids(["1", "2"]))).await, "compressed");
    let mut service =
        answering(&layer, || with_header(answer(StatusCode::OK, r#"[{"done": true}]"#), "content-encoding", "Identity"));
    assert_eq!(send(&mut service, bulk(&ids(["1", "2"]))).await.status, 200);
    assert_eq!(locks.stats().refused.locked, 4 + 18 + 1, "each became an answer once");
    assert_eq!(store.stats().in_flight, 0);
}

#[tokio::test]
async fn the_answer_is_read_up_to_its_limit_and_no_byte_more() {
    let World { layer, .. } = world().await;
    let body = r#"[{"done": true}]"#;
    for (limit, fits) in [(body.len(), true), (body.len() - 1, false), (0, false)] {
        let mut service = answering(&layer.clone().answer_limit(limit), move || answer(StatusCode::OK, body));
        let answer = send(&mut service, bulk(&ids(["1", "2"]))).await;
        if fits {
            assert_eq!(answer.status, 200);
        } else {
            assert_unreadable(&answer, "too long");
        }
    }
}

fn with_header(mut response: Response<Text>, name: &'static str, value: &'static str) -> Response<Text> {
    response.headers_mut().insert(name, value.parse().unwrap());
    response
}

/// A body of an unknown length that comes in pieces, and then ends, or breaks off.
struct Pieces {
    left: Vec<&'static str>,
    trailers: Option<HeaderMap>,
    breaks: bool,
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if self.left.is_empty() {
            let trailers = self.trailers.take().map(|trailers| Ok(Frame::trailers(trailers)));
            return Poll::Ready(if self.breaks { Some(Err("it broke off".into())) } else { trailers });
        }
        match self.left.remove(0) {
            "" => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            piece => Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(piece.as_bytes()))))),
        }
    }
}

async fn sent(layer: &BatchLayer<Records>, pieces: fn() -> Pieces, request: Request<Text>) -> Response<Vec<Frame<Bytes>>> {
    use tower::ServiceExt;
    let inner = probe(move |_: Request<RequestBody<Text>>| std::future::ready(Ok::<_, ProbeError>(Response::new(pieces()))));
    let (head, body) = layer.layer(inner).oneshot(request).await.unwrap().into_parts();
    let (mut body, mut frames) = (Box::pin(body), Vec::new());
    while let Some(frame) = body.frame().await {
        frames.push(frame.expect("it does not break off"));
    }
    Response::from_parts(head, frames)
}

fn text(frames: &[Frame<Bytes>]) -> String {
    frames.iter().filter_map(Frame::data_ref).map(|data| std::str::from_utf8(data).unwrap()).collect()
}

#[tokio::test]
async fn an_answer_in_pieces_is_merged_and_one_that_breaks_off_is_none() {
    let World { layer, .. } = world().await;
    let whole = || Pieces { left: vec!["[{\"do", "", "ne\": true}]"], trailers: None, breaks: false };
    let answer = sent(&layer, whole, bulk(&ids(["1", "2"]))).await;
    let each: Value = serde_json::from_str(&text(answer.body())).unwrap();
    assert_eq!((answer.status().as_u16(), &each[1]), (200, &json!({"done": true})));
    let broken = || Pieces { left: vec!["[{\"done\": true}]"], trailers: None, breaks: true };
    let answer = sent(&layer, broken, bulk(&ids(["1", "2"]))).await;
    assert_eq!(answer.status().as_u16(), 500);
    assert!(text(answer.body()).contains("broke off"));
    let endless = || Pieces { left: vec!["0123456789"; 100], trailers: None, breaks: false };
    let answer = sent(&layer.clone().answer_limit(500), endless, bulk(&ids(["1", "2"]))).await;
    assert!(answer.status().as_u16() == 500 && text(answer.body()).contains("too long"));
}

/// Where the answer is read only to know what was done, it is passed on as it came, however it came.
#[tokio::test]
async fn an_answer_without_refusals_is_passed_on_to_the_byte() {
    let locks = locks_of_users(MemoryStore::new()).build();
    for (_, layer) in modes(&locks) {
        for (limit, ends) in [(100, true), (16, true), (15, false), (8, false), (3, false), (0, false)] {
            let token = lock_for(&locks, "ann", "/records/1", LockScope::Exclusive).await;
            let pieces = || {
                let trailers = HeaderMap::from_iter([("x-sum".parse().unwrap(), "24".parse().unwrap())]);
                Pieces { left: vec!["[{\"do", "", "ne\": true}]"], trailers: Some(trailers), breaks: false }
            };
            let ask = tagged(bulk(&json!([{"id": "1", "delete": true}])), "/records/1", token);
            let answer = sent(&layer.clone().answer_limit(limit), pieces, by(ask, "ann")).await;
            assert_eq!((answer.status().as_u16(), &*text(answer.body())), (200, r#"[{"done": true}]"#));
            assert_eq!(answer.body().last().unwrap().trailers_ref().unwrap()["x-sum"], "24");
            let left = locks.release(token).await.unwrap().is_some();
            assert_eq!(left, !ends, "nobody knows what was done where the answer was not read: {limit}");
        }
    }
}

#[tokio::test]
async fn the_services_error_is_passed_on_as_it_is_and_ends_the_write() {
    let World { layer, store, .. } = world().await;
    use tower::ServiceExt;
    let inner = probe(async |_: Request<RequestBody<Text>>| Err::<Response<Text>, _>(ProbeError("its own")));
    let error = layer.layer(inner).oneshot(bulk(&ids(["1", "2"]))).await.unwrap_err();
    assert_eq!((error, store.stats().in_flight), (ProbeError("its own"), 0));
}

#[tokio::test]
async fn what_a_codec_says_of_a_whole_refusal_is_the_answer() {
    use tower_lock::{
        Refusal, RequestView,
        batch::{BatchCodec, Item, Unmergeable, Verdicts},
    };
    struct Own;
    impl BatchCodec for Own {
        fn is_bulk(&self, _: RequestView<'_>) -> bool {
            true
        }
        fn read(&self, _: RequestView<'_>, _: &Bytes) -> Result<Vec<Item>, Refusal> {
            Ok(vec![Item::write("1"), Item::write("2")])
        }
        fn keep(&self, _: RequestView<'_>, _: &Bytes, _: &[usize]) -> Result<Bytes, Refusal> {
            Err(Refusal::bad_request("it cannot be taken apart"))
        }
        fn merge(&self, _: &Verdicts, _: Option<Response<Bytes>>) -> Result<Response<Bytes>, Unmergeable> {
            Err(Unmergeable::new("never"))
        }
        fn done(&self, _: &Verdicts, _: &Response<Bytes>) -> Vec<usize> {
            vec![0, 1, 2, 1_000]
        }
        fn refuse(&self, verdicts: &Verdicts, refusal: &Refusal) -> Option<Response<Bytes>> {
            assert_eq!((verdicts.len(), verdicts.refused().count(), refusal.locks().len()), (2, 1, 1));
            Some(Response::builder().status(409).body(Bytes::from_static(b"in its own words")).unwrap())
        }
    }
    let store = MemoryStore::new();
    let locks = locks_of_users(store.clone()).build();
    lock(&locks, "/records/1", Depth::Infinity).await;
    let inner = || probe(async |_: Request<RequestBody<Text>>| Ok::<_, ProbeError>(answer(StatusCode::OK, "done")));
    let refused = send(&mut BatchLayer::new(locks.clone(), Own).layer(inner()), bulk(&json!([]))).await;
    assert_eq!((refused.status.as_u16(), refused.text()), (409, "in its own words"));
    assert_eq!(refused.header("cache-control"), Some("no-store"));
    assert_eq!(refused.extensions.get::<Refusal>().unwrap().status(), 423);
    // The body cannot be cut down: refused, and nothing is left in flight.
    let refused = send(&mut BatchLayer::new(locks.clone(), Own).forward_unlocked().layer(inner()), bulk(&json!([]))).await;
    assert_eq!((refused.status.as_u16(), store.stats().in_flight), (400, 0));
    // All are refused, and that cannot be written.
    lock(&locks, "/records/2", Depth::Infinity).await;
    let refused = send(&mut BatchLayer::new(locks.clone(), Own).forward_unlocked().layer(inner()), bulk(&json!([]))).await;
    assert_eq!((refused.status.as_u16(), refused.code().as_str()), (500, "unreadable_answer"));
    assert!(refused.text().contains("nothing was done"), "{}", refused.text());
}

#[tokio::test]
async fn bodies_that_never_fail_and_bodies_that_do_are_taken() {
    // That it compiles for bodies whose error is `Infallible`, and for axum's.
    let locks = locks_of_users(MemoryStore::new()).build();
    let inner = tower::service_fn(async |_: Request<RequestBody<axum::body::Body>>| {
        Ok::<_, Infallible>(Response::new(axum::body::Body::empty()))
    });
    let mut service = BatchLayer::new(locks, Records).layer(inner);
    let request = with(bulk(&ids(["1"])), "x", "y").map(axum::body::Body::new);
    assert_eq!(send(&mut service, request).await.status, 200);
}
