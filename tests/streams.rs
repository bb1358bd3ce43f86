//! Streams and waits of the endpoint over real HTTP/1.1 and HTTP/2, clients that leave at any moment, readers that do not
//! read, and a store that fails in between.

mod support;

use std::{convert::Infallible, future::poll_fn, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use support::{Call, Mode, Rigged, loopback::serve, poll_once};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tower::ServiceExt;
use tower_layer::Layer;
use tower_lock::{
    Access, AuthorizeAsk, LockEndpoint, LockLayer, LockRequest, LockStore, Locks, MemoryStore, Principal,
    locks::LocksBuilder, store::ManualClock,
};

/// Long enough for whatever a loaded machine does meanwhile.
const LONG: Duration = Duration::from_secs(60);

fn hub(store: impl LockStore) -> LocksBuilder {
    Locks::builder(store)
        .allow_waiting()
        .principal(|request| request.headers.get("x-user")?.to_str().ok().map(Principal::new))
        .authorizer(|_: &AuthorizeAsk<'_>| Access::Allowed)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Http {
    One,
    Two,
}

const BOTH: [Http; 2] = [Http::One, Http::Two];

/// Sends a GET on a connection of its own, which lives as long as what is answered.
async fn send(http: Http, address: SocketAddr, path: &str, header: (&str, &str)) -> (Response<Incoming>, Connection) {
    let stream = TokioIo::new(TcpStream::connect(address).await.unwrap());
    let request = Request::get(format!("http://{address}{path}")).header(header.0, header.1).header("x-user", "bob");
    let request = request.header("host", "h").body(Empty::<Bytes>::new()).unwrap();
    let (sent, task) = match http {
        Http::One => {
            let (mut client, connection) = hyper::client::conn::http1::handshake(stream).await.unwrap();
            let task = tokio::spawn(async move { drop(connection.await) });
            (client.send_request(request).await, task)
        }
        Http::Two => {
            let (mut client, connection) =
                hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await.unwrap();
            let task = tokio::spawn(async move { drop(connection.await) });
            (client.send_request(request).await, task)
        }
    };
    (sent.unwrap(), Connection(task))
}

/// Is cut when this is dropped.
struct Connection(tokio::task::JoinHandle<()>);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The next frame of a stream.
async fn frame(response: &mut Response<Incoming>) -> String {
    let frame = tokio::time::timeout(LONG, response.body_mut().frame()).await.expect("a frame").unwrap().unwrap();
    String::from_utf8(frame.into_data().unwrap().to_vec()).unwrap()
}

async fn until(what: &str, reached: impl Fn() -> bool) {
    let wait = async {
        while !reached() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(LONG, wait).await.unwrap_or_else(|_| panic!("never: {what}"));
}

const EVENTS: (&str, &str) = ("accept", "text/event-stream");

#[tokio::test]
async fn events_arrive_as_they_happen_over_either_protocol() {
    for http in BOTH {
        let hand = ManualClock::new();
        let locks = hub(MemoryStore::builder().clock(hand.clock()).build()).clock(hand.clock()).build();
        let endpoint = LockEndpoint::new(locks.clone());
        let beside = LockLayer::new(locks.clone()).layer(tower::service_fn(async |_: Request<Incoming>| {
            Ok::<_, Infallible>(Response::new(Full::<Bytes>::default()))
        }));
        // By itself, and before a service.
        for (address, path) in
            [(serve(endpoint.clone()).await, "/a"), (serve(endpoint.in_front_of("/locks").layer(beside)).await, "/locks/a")]
        {
            let (mut events, _connection) = send(http, address, path, EVENTS).await;
            assert_eq!(events.status(), 200);
            assert_eq!(events.headers()["content-type"], "text/event-stream");
            assert!(frame(&mut events).await.contains("event: snapshot\n"), "{http:?}");
            let granted = locks.acquire(LockRequest::exclusive("/a").lifetime(LONG)).await.unwrap();
            assert!(frame(&mut events).await.starts_with("event: locked\nid: "), "{http:?}");
            locks.release(granted.token()).await.unwrap();
            assert!(frame(&mut events).await.starts_with("event: released\n"), "{http:?}");
            let _expires = locks.acquire(LockRequest::exclusive("/a").lifetime(Duration::from_secs(5))).await.unwrap();
            assert!(frame(&mut events).await.starts_with("event: locked\n"), "{http:?}");
            hand.advance(Duration::from_secs(5));
            assert!(frame(&mut events).await.starts_with("event: expired\n"), "{http:?}");
            hand.advance(Duration::from_secs(15));
            assert_eq!(frame(&mut events).await, ":\n\n", "{http:?}");
        }
    }
}

#[tokio::test]
async fn who_leaves_is_forgotten_over_either_protocol() {
    let locks = hub(MemoryStore::new()).build();
    let address = serve(LockEndpoint::new(locks.clone())).await;
    let _lock = locks.acquire(LockRequest::exclusive("/a")).await.unwrap();
    for http in BOTH {
        let mut open = Vec::new();
        for _ in 0..5 {
            open.push(send(http, address, "/a", EVENTS).await);
        }
        until("all watch", || locks.watching() == 5).await;
        drop(open);
        until("nobody watches", || locks.watching() == 0).await;

        // Of a connection that goes on, one stream alone.
        if http == Http::Two {
            let stream = TokioIo::new(TcpStream::connect(address).await.unwrap());
            let (mut client, connection) =
                hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await.unwrap();
            tokio::spawn(connection);
            let get = |header: (&'static str, &'static str)| {
                let request = Request::get(format!("http://{address}/a")).header(header.0, header.1);
                request.body(Empty::<Bytes>::new()).unwrap()
            };
            let events = client.send_request(get(EVENTS)).await.unwrap();
            let held = tokio::spawn(client.send_request(get(("prefer", "wait=20"))));
            until("both are there", || (locks.watching(), locks.waiting()) == (1, 1)).await;
            drop(events);
            held.abort();
            until("both are forgotten", || (locks.watching(), locks.waiting()) == (0, 0)).await;
            poll_fn(|cx| client.poll_ready(cx)).await.unwrap();
            assert_eq!(client.send_request(get(("accept", "*/*"))).await.unwrap().status(), 200);
        }

        let waiting = tokio::spawn(async move { send(http, address, "/a", ("prefer", "wait=20")).await.1 });
        until("it waits", || locks.waiting() == 1).await;
        waiting.abort();
        drop(waiting.await);
        until("nobody waits", || locks.waiting() == 0).await;
    }
}

#[tokio::test]
async fn one_stream_over_http_1_is_readable_to_the_letter() {
    let locks = hub(MemoryStore::new()).build();
    let address = serve(LockEndpoint::new(locks.clone())).await;
    let mut wire = TcpStream::connect(address).await.unwrap();
    wire.write_all(b"GET /a HTTP/1.1\r\nhost: h\r\naccept: text/event-stream\r\n\r\n").await.unwrap();
    let mut read = String::new();
    while !read.contains("event: snapshot") {
        let mut part = [0; 4096];
        let count = tokio::time::timeout(LONG, wire.read(&mut part)).await.unwrap().unwrap();
        read.push_str(std::str::from_utf8(&part[..count]).unwrap());
    }
    let head = read.to_lowercase();
    assert!(head.starts_with("http/1.1 200") && head.contains("transfer-encoding: chunked"), "{read}");
    assert!(read.contains("retry: 2000\nevent: snapshot\nid: "), "{read}");
    // A client that closes its side only is told of events all the same, or is gone; either way nothing is left of it.
    drop(wire);
    until("nobody watches", || locks.watching() == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_read_costs_little_and_hears_the_truth_in_the_end() {
    const EVENTS_TOLD: usize = 60_000;
    let locks = hub(MemoryStore::new()).build();
    let address = serve(LockEndpoint::new(locks.clone())).await;
    let (mut events, _connection) = send(Http::Two, address, "/a", EVENTS).await;
    assert!(frame(&mut events).await.contains("snapshot"));
    for at in 0..EVENTS_TOLD / 2 {
        let granted = locks.acquire(LockRequest::exclusive("/a").reason(format!("{at}"))).await.unwrap();
        locks.release(granted.token()).await.unwrap();
        if at % 64 == 0 {
            tokio::task::yield_now().await;
        }
    }
    let last = locks.acquire(LockRequest::exclusive("/a").reason("the last")).await.unwrap();
    let id = last.lock().id().to_string();
    // What was dropped for it is made good by a state.
    let (mut told, mut text) = (0, String::new());
    while !text.contains(&id) {
        text = frame(&mut events).await;
        told += text.matches("event: ").count();
    }
    assert!(told < EVENTS_TOLD / 2, "{told} events were kept for a reader that did not read");
}

#[tokio::test]
async fn a_store_that_fails_in_between_is_told_and_then_the_state() {
    let store = Rigged::new(MemoryStore::new());
    let hand = ManualClock::new();
    let locks = hub(store.clone()).clock(hand.clock()).build();
    let address = serve(LockEndpoint::new(locks.clone())).await;
    let (mut events, _connection) = send(Http::One, address, "/a", EVENTS).await;
    assert!(frame(&mut events).await.contains("event: snapshot"));
    let waiting = tokio::spawn(async move {
        let (response, _connection) = send(Http::One, address, "/b", ("prefer", "wait=20")).await;
        response.into_body().collect().await.unwrap().to_bytes()
    });
    // Its time is up, and the store cannot say whether it is gone.
    let _a = locks.acquire(LockRequest::exclusive("/a").lifetime(Duration::from_secs(5))).await.unwrap();
    assert!(frame(&mut events).await.contains("event: locked"));
    assert!(waiting.await.unwrap().starts_with(b"{\"resource\":\"/b\",\"locked\":false"));
    store.set(Call::Find, Mode::Fail);
    hand.advance(Duration::from_secs(5));
    let told = frame(&mut events).await;
    assert!(told.contains("event: unavailable\ndata: ") && told.contains("store_unavailable"), "{told}");
    assert!(!told.contains("id: "), "the client keeps the id of what it was told last: {told}");
    store.set(Call::Find, Mode::Pass);
    hand.advance(Duration::from_secs(5));
    assert!(frame(&mut events).await.contains("event: snapshot"));
}

/// Polls what `start` makes `n` times and drops it, for every `n` until it is done; `check` looks at what is left.
async fn at_every_step<T>(what: &str, mut start: impl AsyncFnMut() -> T, check: impl Fn(&str))
where
    T: Future,
{
    for polls in 0.. {
        let mut work = Box::pin(start().await);
        let mut done = false;
        for _ in 0..polls {
            if poll_once(work.as_mut()).is_ready() {
                done = true;
                break;
            }
            tokio::task::yield_now().await;
        }
        drop(work);
        check(&format!("{what}, dropped after {polls} polls"));
        if done || polls > 60 {
            assert!(polls > 1, "{what} has to be waited for");
            return;
        }
    }
}

#[tokio::test]
async fn whatever_is_dropped_at_whatever_moment_leaves_nothing() {
    for mode in [Mode::Pass, Mode::Later] {
        let locks = hub(Rigged::all(MemoryStore::new(), mode)).build();
        let endpoint = LockEndpoint::new(locks.clone());
        let _held = locks.acquire(LockRequest::exclusive("/held")).await.unwrap();
        let none = |what: &str| assert_eq!((locks.watching(), locks.waiting()), (0, 0), "{what}, {mode:?}");
        let ask = |method: &str, path: &str, header: (&'static str, &'static str), body: &'static str| {
            let request = Request::builder().method(method).uri(path).header(header.0, header.1).header("x-user", "bob");
            let request = request.header("content-type", "application/json").body(body.to_owned()).unwrap();
            endpoint.clone().oneshot(request)
        };
        let waits = ("prefer", "wait=20");
        at_every_step(
            "a stream with its body",
            async || async {
                let mut body = ask("GET", "/held", EVENTS, "").await.unwrap().into_body();
                while let Some(frame) = body.frame().await {
                    drop(frame);
                }
            },
            none,
        )
        .await;
        at_every_step("a held GET", async || ask("GET", "/held", waits, ""), none).await;
        at_every_step("a held acquire", async || ask("PUT", "/held", waits, "{}"), none).await;
        at_every_step("several", async || ask("POST", "/", waits, r#"{"resources": ["/free", "/held"]}"#), none).await;
    }
}

#[tokio::test]
async fn a_dropped_handover_is_done_or_not_and_a_dropped_claim_leaves_no_lock_without_a_token() {
    let store = MemoryStore::new();
    let locks = Arc::new(hub(Rigged::all(store.clone(), Mode::Later)).build());
    let endpoint = LockEndpoint::new((*locks).clone());
    let post = |user: &'static str, body: &'static str| {
        let request = Request::post("/a").header("x-user", user).header("content-type", "application/json");
        endpoint.clone().oneshot(request.body(body.to_owned()).unwrap())
    };
    let holders = async || {
        let key = tower_lock::ResourceKey::from_canonical("/a");
        locks
            .covering(&key)
            .await
            .unwrap()
            .iter()
            .map(|lock| (lock.principal().unwrap().to_string(), lock.state()))
            .collect::<Vec<_>>()
    };
    for (who, body) in [("ann", r#"{"action": "transfer", "to": "bob"}"#), ("bob", r#"{"action": "claim"}"#)] {
        for polls in 0..40 {
            let held = locks.acquire(LockRequest::exclusive("/a").principal("ann")).await.unwrap();
            if who == "bob" {
                locks.transfer(held.lock().id(), "bob").await.unwrap();
            }
            let mut answered = false;
            {
                let mut work = pin!(post(who, body));
                for _ in 0..polls {
                    answered = poll_once(work.as_mut()).is_ready();
                    if answered {
                        break;
                    }
                    tokio::task::yield_now().await;
                }
            }
            // What is undone is undone in the background.
            for _ in 0..20 {
                tokio::task::yield_now().await;
            }
            let left = holders().await;
            let expected: &[(&str, &str)] = match who {
                "ann" => &[("ann", "held"), ("bob", "offered")],
                // Nobody would know the token.
                _ if !answered => &[("bob", "offered")],
                _ => &[("bob", "held")],
            };
            for (principal, state) in &left {
                assert!(expected.contains(&(principal, state.as_str())), "{who}, {polls}: {left:?}");
            }
            assert!(left.len() <= 1, "{who}, {polls}: {left:?}");
            assert!(who == "bob" || left.len() == 1, "a transfer leaves a lock, the old one or the new one");
            for lock in locks.covering(&tower_lock::ResourceKey::from_canonical("/a")).await.unwrap() {
                let _ended = locks.break_lock(lock.id(), "next round", Duration::ZERO).await.unwrap();
            }
        }
    }
    let done = locks.stats();
    assert!(done.transferred > 40 && done.claimed >= 1, "both come to their end too: {done:?}");
}
