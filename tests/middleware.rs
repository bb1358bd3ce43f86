//! The contract of a middleware: readiness, errors, bodies, cancellation, leases, admission, and stores that fail.

mod support;

use std::{
    sync::{Arc, Mutex, atomic::Ordering},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::Body;
use http_body_util::{BodyExt, Either, Empty, Full, combinators::BoxBody};
use support::{
    Answer, Call, Mode, ProbeError, Rigged, Text,
    bodies::{Odd, Untouchable},
    holding,
    leases::Leases,
    lock, poll_once, probe, request, send, with,
};
use tower::{Service, ServiceExt};
use tower_layer::Layer;
use tower_lock::{Admission, Depth, LockLayer, LockRequest, LockService, Locks, MemoryStore, Refusal, locks::Incident};

/// A memory store that answers at once, and one that answers later.
fn stores() -> [(MemoryStore, Locks); 2] {
    [Mode::Pass, Mode::Later].map(|mode| {
        let store = MemoryStore::new();
        (store.clone(), Locks::new(Rigged::all(store, mode)))
    })
}

fn saved() -> impl Service<Request<Text>, Response = Response<Text>, Error = ProbeError, Future: Send> + Clone {
    probe(async |_: Request<Text>| Ok(Response::new(Text::default())))
}

#[tokio::test]
async fn the_service_that_was_polled_ready_is_the_one_that_is_called() {
    for (_, locks) in stores() {
        lock(&locks, "/locked", Depth::Infinity).await;
        let probe = probe(async |_: Request<Text>| Ok::<_, ProbeError>(Response::new(Text::default())));
        let counts = probe.counts();
        // Behind a concurrency limit of one, whose clones have no place: a layer that parks one would wait for ever.
        let limited = tower::limit::ConcurrencyLimit::new(probe, 1);
        let mut service = LockLayer::new(locks).layer(limited);
        for (method, path, status) in [
            ("GET", "/locked", 200),
            ("PUT", "/locked", 423),
            ("PUT", "/free", 200),
            ("PUT", "/locked", 423),
            ("PUT", "/a/../b", 400),
        ] {
            assert_eq!(send(&mut service, request(method, path)).await.status, status);
        }
        assert_eq!(counts.calls(), 2);
    }
}

#[tokio::test]
async fn an_answer_at_hand_clones_nothing() {
    let locks = Locks::new(MemoryStore::new());
    lock(&locks, "/locked", Depth::Infinity).await;
    let probe = probe(async |_: Request<Text>| Ok::<_, ProbeError>(Response::new(Text::default())));
    let counts = probe.counts();
    let mut service = LockLayer::new(locks).layer(probe);
    for (method, path) in [("GET", "/locked"), ("PUT", "/free"), ("PUT", "/locked")] {
        send(&mut service, request(method, path)).await;
    }
    assert_eq!(counts.clones(), 0);
}

#[tokio::test]
async fn readiness_is_that_of_the_service_whatever_the_store_does() {
    for mode in [Mode::Pass, Mode::Fail, Mode::Never] {
        let store = Rigged::all(MemoryStore::new(), mode);
        let probe = probe(async |_: Request<Text>| Ok::<_, ProbeError>(Response::new(Text::default())));
        let counts = probe.counts();
        let mut service = LockLayer::new(Locks::new(store.clone())).layer(probe);
        let mut ready =
            || Service::<Request<Text>>::poll_ready(&mut service, &mut Context::from_waker(std::task::Waker::noop()));
        assert!(ready().is_pending());
        assert_eq!(ready(), Poll::Ready(Ok(())));
        assert_eq!((counts.polls(), store.all_calls()), (2, 0));
    }
}

#[tokio::test]
async fn the_services_error_is_passed_on_as_it_is_and_ends_the_write() {
    for (store, locks) in stores() {
        let failing = probe(async |_: Request<Text>| Err::<Response<Text>, _>(ProbeError("of its own type")));
        let service = LockLayer::new(locks).layer(failing);
        for method in ["GET", "PUT", "DELETE"] {
            let error: ProbeError = service.clone().oneshot(request(method, "/a")).await.unwrap_err();
            assert_eq!(error, ProbeError("of its own type"));
            assert_eq!(store.stats().in_flight, 0);
        }
    }
}

#[tokio::test]
async fn an_error_of_readiness_is_passed_on_as_it_is() {
    #[derive(Clone)]
    struct Broken;
    impl Service<Request<Text>> for Broken {
        type Response = Response<Text>;
        type Error = ProbeError;
        type Future = std::future::Pending<Result<Response<Text>, ProbeError>>;
        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ProbeError>> {
            Poll::Ready(Err(ProbeError("not ready")))
        }
        fn call(&mut self, _: Request<Text>) -> Self::Future {
            panic!("called although it is broken")
        }
    }
    let mut service = LockService::wrap(Broken, MemoryStore::new());
    assert_eq!(service.ready().await.err(), Some(ProbeError("not ready")));
}

/// Sends a read, an admitted and a refused write with this request body; the answers' bodies are read as `Bytes`.
async fn through<Q, B>(request_body: impl Fn() -> Q, response_body: impl Fn() -> B + Clone)
where
    B: Body,
    B::Error: std::fmt::Debug,
{
    for (_, locks) in stores() {
        lock(&locks, "/locked", Depth::Infinity).await;
        let respond = response_body.clone();
        let service = LockLayer::new(locks)
            .layer(probe(move |_: Request<Q>| std::future::ready(Ok::<_, ProbeError>(Response::new(respond())))));
        for (method, path, status, text) in
            [("GET", "/a", 200, "hello"), ("PUT", "/a", 200, "hello"), ("PUT", "/locked", 423, "\"code\":\"locked\"")]
        {
            let request = request(method, path).map(|_| request_body());
            let answer = Answer::of(service.clone().oneshot(request).await.unwrap()).await;
            assert_eq!(answer.status, status);
            assert!(answer.text().contains(text), "{method} {path}: {}", answer.text());
        }
    }
}

#[tokio::test]
async fn bodies_of_any_type_go_through() {
    let full = || Full::new(Bytes::from("hello"));
    through(full, full).await;
    through(|| String::from("text"), || String::from("hello")).await;
    through(Empty::<&[u8]>::new, full).await;
    through(|| (), || Box::pin(full())).await;
    through(full, || BoxBody::new(full())).await;
    through(full, || full().boxed_unsync()).await;
    through(axum::body::Body::empty, || axum::body::Body::from("hello")).await;
    through(|| Odd::new(["x"], None), || Odd::new(["he", "llo"], None)).await;
    through(|| Untouchable, full).await;
    // Neither `Send` nor a body at all.
    through(|| std::rc::Rc::new(()), || Either::<_, Full<Bytes>>::Left(full())).await;
}

#[tokio::test]
async fn a_body_is_passed_on_frame_by_frame() {
    let trailers = HeaderMap::from_iter([(http::HeaderName::from_static("checksum"), "7".parse().unwrap())]);
    for (_, locks) in stores() {
        let trailers = trailers.clone();
        let service = LockLayer::new(locks).until_body_ends().layer(probe(move |_: Request<Text>| {
            std::future::ready(Ok::<_, ProbeError>(Response::new(Odd::new(["one", "two"], Some(trailers.clone())))))
        }));
        for method in ["GET", "PUT"] {
            let mut body = Box::pin(service.clone().oneshot(request(method, "/a")).await.unwrap().into_body());
            assert_eq!((body.size_hint().exact(), body.is_end_stream()), (Some(6), false));
            assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "one");
            assert_eq!(body.size_hint().exact(), Some(3));
            assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "two");
            assert!(!body.is_end_stream());
            assert_eq!(body.frame().await.unwrap().unwrap().into_trailers().unwrap()["checksum"], "7");
            assert!(body.is_end_stream() && body.frame().await.is_none());
        }
    }
}

#[test]
fn a_response_body_is_default_where_the_services_body_is() {
    let body = tower_lock::respond::ResponseBody::<Text>::default();
    assert!(body.is_end_stream() && body.size_hint().exact() == Some(0));
}

#[tokio::test]
async fn a_closure_for_refusals_leaves_the_type_of_bodies_alone() {
    for (_, locks) in stores() {
        lock(&locks, "/locked", Depth::Infinity).await;
        let layer = LockLayer::new(locks).respond_with(|refusal: &Refusal, head: &http::request::Parts| {
            Response::builder().status(409).body(format!("{} {} {}", head.method, head.uri, refusal.code())).unwrap()
        });
        let service = layer.layer(probe(async |_: Request<Text>| Ok::<_, ProbeError>(Response::new(String::from("saved")))));
        for (path, status, text) in [("/a", 200, "saved"), ("/locked", 409, "PUT /locked locked")] {
            let response: Response<String> = service.clone().oneshot(request("PUT", path)).await.unwrap();
            assert_eq!((response.status().as_u16(), response.body().as_str()), (status, text));
            assert_eq!(response.extensions().get::<Refusal>().is_some(), status == 409);
        }
    }
}

#[tokio::test]
async fn the_permit_ends_wherever_the_response_is_dropped() {
    // A service with two awaits, a store with one before it, a body after it.
    for mode in [Mode::Pass, Mode::Later] {
        for polls in 0..8 {
            let store = MemoryStore::new();
            let rigged = Rigged::all(store.clone(), mode);
            let locks = Locks::new(rigged.clone());
            let token = lock(&locks, "/a", Depth::Infinity).await;
            let service = LockLayer::new(locks.clone()).layer(probe(async |_: Request<Text>| {
                tokio::task::yield_now().await;
                tokio::task::yield_now().await;
                Ok::<_, ProbeError>(Response::new(Text::default()))
            }));
            for write in [request("PUT", "/free"), holding(request("DELETE", "/a"), token)] {
                let mut service = service.clone();
                let mut future = Box::pin(service.ready().await.unwrap().call(write));
                for _ in 0..polls {
                    if poll_once(future.as_mut()).is_ready() {
                        break;
                    }
                    assert_eq!(store.stats().in_flight, 1, "{mode:?}, {polls} polls");
                }
                drop(future);
                assert_eq!(store.stats().in_flight, 0, "{mode:?}, {polls} polls");
            }
            rigged.set(Call::Acquire, Mode::Pass);
            let next = locks.acquire(LockRequest::exclusive("/free").draining(Duration::ZERO)).await;
            assert!(next.is_ok(), "{mode:?}, {polls} polls: {next:?}");
        }
    }
}

#[tokio::test]
async fn a_write_is_in_flight_until_its_body_ends_where_the_layer_says_so() {
    for (store, locks) in stores() {
        let odd = probe(async |_: Request<Text>| Ok::<_, ProbeError>(Response::new(Odd::new(["one", "two"], None))));
        let short = LockLayer::new(locks.clone()).layer(odd.clone());
        let response = short.oneshot(request("PUT", "/a")).await.unwrap();
        assert_eq!(store.stats().in_flight, 0, "not for the body, unless said");
        drop(response);

        let long = LockLayer::new(locks.clone()).until_body_ends().layer(odd);
        let read = long.clone().oneshot(request("GET", "/a")).await.unwrap();
        assert_eq!(store.stats().in_flight, 0);
        let response = long.clone().oneshot(request("PUT", "/a")).await.unwrap();
        assert_eq!(store.stats().in_flight, 1);
        let busy = locks.acquire(LockRequest::exclusive("/a").draining(Duration::ZERO)).await.unwrap_err();
        assert_eq!(busy.status(), 409);
        let mut body = Box::pin(response.into_body());
        for expected in ["one", "two"] {
            assert_eq!(store.stats().in_flight, 1);
            assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), expected);
        }
        assert!(body.frame().await.is_none());
        assert_eq!(store.stats().in_flight, 0, "a body that has ended keeps nothing, however long it is kept");
        drop(body);

        let response = long.clone().oneshot(request("PUT", "/b")).await.unwrap();
        drop(response);
        assert_eq!(store.stats().in_flight, 0, "a body that is dropped has ended");
        drop(read);
    }
}

#[tokio::test]
async fn a_closure_for_refusals_keeps_the_permit_as_long() {
    for (store, locks) in stores() {
        let layer = LockLayer::new(locks.clone());
        let layer = layer.respond_with(|_: &Refusal, _: &http::request::Parts| Response::new(Text::from("no")));
        let service = layer.until_body_ends().layer(saved());
        let response = service.clone().oneshot(request("PUT", "/a")).await.unwrap();
        assert_eq!(store.stats().in_flight, 1);
        assert_eq!(Answer::of(response).await.body, "");
        assert_eq!(store.stats().in_flight, 0);
        lock(&locks, "/locked", Depth::Infinity).await;
        assert_eq!(Answer::of(service.oneshot(request("PUT", "/locked")).await.unwrap()).await.body, "no");
    }
}

#[tokio::test]
async fn the_permit_is_held_while_locks_are_ended() {
    let memory = MemoryStore::new();
    let rigged = Rigged::new(memory.clone());
    let locks = Locks::new(rigged.clone());
    let token = lock(&locks, "/a", Depth::Infinity).await;
    rigged.set(Call::Clear, Mode::Gated);
    let mut service = LockLayer::new(locks).layer(saved());
    let mut future = Box::pin(service.ready().await.unwrap().call(holding(request("DELETE", "/a"), token)));
    assert!(poll_once(future.as_mut()).is_pending());
    assert_eq!(memory.stats().in_flight, 1, "the permit is held while locks are ended");
    rigged.open();
    future.await.unwrap();
    assert_eq!(memory.stats().in_flight, 0);
}

/// What a service finds of an admission.
type Found = Arc<Mutex<Vec<Option<Admission>>>>;

fn finding(
    found: &Found,
) -> impl Service<Request<Text>, Response = Response<Text>, Error = ProbeError, Future: Send> + Clone {
    let found = found.clone();
    probe(move |request: Request<Text>| {
        found.lock().unwrap().push(request.extensions().get::<Admission>().cloned());
        std::future::ready(Ok(Response::new(Text::default())))
    })
}

#[tokio::test]
async fn an_admission_is_there_when_locks_were_held_and_always_where_the_layer_says_so() {
    for (_, locks) in stores() {
        let held = locks.acquire(LockRequest::exclusive("/held")).await.unwrap();
        let requests = || [request("GET", "/held"), request("PUT", "/free"), holding(request("PUT", "/held"), held.token())];
        for (layer, expected) in [
            (LockLayer::new(locks.clone()), [false, false, true]),
            (LockLayer::new(locks.clone()).fence_all(), [false, true, true]),
        ] {
            let found = Found::default();
            let mut service = layer.layer(finding(&found));
            for request in requests() {
                send(&mut service, request).await;
            }
            let found = found.lock().unwrap();
            assert_eq!(found.iter().map(Option::is_some).collect::<Vec<_>>(), expected);
            let admission = found[2].as_ref().unwrap();
            assert_eq!(admission.locks(), [held.lock().id()]);
            assert!(admission.generation() >= held.lock().generation() && admission.write_id().is_some());
        }
    }
    let found = Found::default();
    let mut service = LockLayer::new(Leases::default()).fence_all().layer(finding(&found));
    send(&mut service, request("PUT", "/a")).await;
    assert_eq!(found.lock().unwrap()[0].as_ref().unwrap().generation(), 42, "that of the permit");
}

#[tokio::test]
async fn a_handler_locks_its_own_path_without_waiting_for_itself() {
    for (_, locks) in stores() {
        let own = locks.clone();
        let mut service = LockLayer::new(locks).fence_all().layer(probe(move |request: Request<Text>| {
            let locks = own.clone();
            let write = request.extensions().get::<Admission>().unwrap().write_id();
            async move {
                let ask = || LockRequest::exclusive("/docs").draining(Duration::ZERO);
                assert_eq!(locks.acquire(ask()).await.unwrap_err().status(), 409, "without the handle it waits for itself");
                // The failed attempt cools down; a store without such a rule would grant at once as well.
                let guard = locks.hold(LockRequest::exclusive("/docs").draining(Duration::ZERO).within(write)).await;
                Ok::<_, ProbeError>(Response::new(Text::from(
                    guard.map_or_else(|refusal| refusal.to_string(), |_| "locked".into()),
                )))
            }
        }));
        assert_eq!(send(&mut service, request("PUT", "/docs/7")).await.body, "locked");
    }
}

#[tokio::test]
async fn a_route_that_demands_a_lock_admits_its_holder_alone() {
    for (store, locks) in stores() {
        let token = lock(&locks, "/held", Depth::Infinity).await;
        let probe = probe(async |_: Request<Text>| Ok::<_, ProbeError>(Response::new(Text::default())));
        let counts = probe.counts();
        let mut service = LockLayer::new(locks).require_lock().layer(probe);
        for (request, status) in [
            (request("PUT", "/free"), 428),
            (request("PUT", "/held"), 428),
            (holding(request("PUT", "/free"), token), 412),
            (holding(request("PUT", "/held"), token), 200),
            (request("GET", "/free"), 200),
        ] {
            let answer = send(&mut service, request).await;
            assert_eq!(answer.status, status);
            assert!(status != 428 || answer.code() == "lock_required");
        }
        assert_eq!((counts.calls(), store.stats().in_flight), (2, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_fails_or_never_answers_closes_writes_within_the_limit_and_leaves_reads_alone() {
    for mode in [Mode::Fail, Mode::Never] {
        let store = Rigged::all(MemoryStore::new(), mode);
        let locks = Locks::new(store.clone());
        let limit = locks.limits().admit_within;
        let probe = probe(async |_: Request<Text>| Ok::<_, ProbeError>(Response::new(Text::default())));
        let counts = probe.counts();
        let mut service = LockLayer::new(locks).layer(probe);
        let before = tokio::time::Instant::now();
        let answer = send(&mut service, request("PUT", "/a")).await;
        assert_eq!((answer.status.as_u16(), answer.code().as_str()), (503, "store_unavailable"), "{mode:?}");
        assert_eq!(answer.header("retry-after"), Some("1"));
        assert!(answer.extensions.get::<Refusal>().unwrap().store_error().is_some());
        // The clock is paused: it moves only when there is nothing to do but wait.
        let waited = before.elapsed();
        assert!(waited <= limit + Duration::from_millis(1), "{mode:?}: {waited:?}");
        assert_eq!(counts.calls(), 0);
        for _ in 0..3 {
            assert_eq!(send(&mut service, request("GET", "/a")).await.status, 200);
        }
        assert_eq!((before.elapsed(), store.all_calls()), (waited, 1), "reads ask nothing and wait for nothing");
    }
}

#[tokio::test(start_paused = true)]
async fn open_writes_go_on_without_the_store_and_each_one_is_told_of() {
    for mode in [Mode::Fail, Mode::Never] {
        let heard: Arc<Mutex<Vec<String>>> = Arc::default();
        let ear = heard.clone();
        let hook = move |incident: &Incident<'_>| {
            assert!(matches!(incident, Incident::AdmittedUnchecked { .. }));
            ear.lock().unwrap().push(incident.to_string());
        };
        let locks = Locks::builder(Rigged::all(MemoryStore::new(), mode)).fail_open(hook).build();
        let found = Found::default();
        let mut service = LockLayer::new(locks).fence_all().layer(finding(&found));
        assert_eq!(send(&mut service, request("PUT", "/a")).await.status, 200, "{mode:?}");
        assert_eq!(send(&mut service, request("DELETE", "/a")).await.status, 200, "{mode:?}");
        assert_eq!(send(&mut service, request("PUT", "/a/../b")).await.status, 400, "what is ambiguous stays refused");
        let heard = heard.lock().unwrap();
        assert!(heard.len() == 2 && heard[0].starts_with("write to /a let through unchecked: "), "{heard:?}");
        assert_eq!(found.lock().unwrap()[0].as_ref().unwrap().write_id(), None);
    }
}

#[tokio::test]
async fn a_refused_body_is_read_on_only_where_the_layer_says_so_and_the_client_is_not_waiting_for_a_100() {
    for (_, locks) in stores() {
        lock(&locks, "/locked", Depth::Infinity).await;
        let plain = LockLayer::new(locks.clone()).layer(probe(async |_: Request<Odd>| saved_odd()));
        let reading = LockLayer::new(locks).read_on(8).layer(probe(async |_: Request<Odd>| saved_odd()));
        for (name, path, expect, polls) in [
            ("plain", "/locked", false, 0),
            ("reading", "/locked", false, 3),
            ("reading", "/locked", true, 0),
            ("reading", "/free", false, 0),
        ] {
            let body = Odd::new(["four", "more", "over", "and on"], None);
            let polled = body.polled();
            let request = request("PUT", path).map(|_| body);
            let request = if expect { with(request, "expect", "100-continue") } else { request };
            let service = if name == "plain" { Either::Left(plain.clone()) } else { Either::Right(reading.clone()) };
            let response = match service {
                Either::Left(service) => service.oneshot(request).await.unwrap().status(),
                Either::Right(service) => service.oneshot(request).await.unwrap().status(),
            };
            assert_eq!(response.as_u16(), if path == "/locked" { 423 } else { 200 });
            for _ in 0..20 {
                tokio::task::yield_now().await;
            }
            // Past the limit it stops: at the third frame here.
            assert_eq!(polled.load(Ordering::SeqCst), polls, "{name} {path} {expect}");
        }
    }
}

fn saved_odd() -> Result<Response<Text>, ProbeError> {
    Ok(Response::new(Text::default()))
}

#[tokio::test]
async fn the_request_reaches_the_service_as_it_was() {
    for (_, locks) in stores() {
        let token = lock(&locks, "/held", Depth::Infinity).await;
        let seen: Arc<Mutex<Option<http::request::Parts>>> = Arc::default();
        let sink = seen.clone();
        let mut service = LockLayer::new(locks).layer(probe(move |request: Request<Text>| {
            let (parts, body) = request.into_parts();
            *sink.lock().unwrap() = Some(parts);
            std::future::ready(Ok::<_, ProbeError>(Response::new(body)))
        }));
        let mut sent = holding(request("PUT", "/held//a%2Fb?c=%2F").map(|_| Text::from("content")), token);
        *sent.version_mut() = http::Version::HTTP_2;
        sent.extensions_mut().insert(7_u8);
        let (uri, headers) = (sent.uri().clone(), sent.headers().clone());
        assert_eq!(send(&mut service, sent).await.body, "content");
        let seen = seen.lock().unwrap().take().unwrap();
        assert_eq!((seen.uri, seen.headers, seen.version), (uri, headers, http::Version::HTTP_2));
        assert_eq!(seen.extensions.get::<u8>(), Some(&7));
    }
}
