//! Writes in flight: what a LOCK waits for, what ends a write, and what is left when nobody waits for an answer.

use std::{future::IntoFuture, time::Duration};

use bytes::Bytes;
use http_body::Frame;
use http_body_util::StreamBody;
use tower_lock::{Depth, LockRequest};

use super::{
    handler::{Fault, Handler},
    kit::{Ask, Client, Dav},
    shape::Shape,
};
use crate::support::{Call, Mode, poll_once, until};

const CALLS: [Call; 6] = [Call::Admit, Call::Acquire, Call::Refresh, Call::Release, Call::Clear, Call::Find];

type Part = Result<Frame<Bytes>, std::convert::Infallible>;

/// A body that comes as it is sent.
fn uploading() -> (
    tokio::sync::mpsc::UnboundedSender<&'static str>,
    impl http_body::Body<Data = Bytes, Error = std::convert::Infallible> + Send,
) {
    let (sender, mut parts) = tokio::sync::mpsc::unbounded_channel::<&'static str>();
    let stream = futures_util::stream::poll_fn(move |cx| {
        parts.poll_recv(cx).map(|part| part.map(|text| Part::Ok(Frame::data(Bytes::from(text)))))
    });
    (sender, StreamBody::new(stream))
}

async fn settle() {
    for _ in 0..200 {
        tokio::task::yield_now().await;
    }
}

/// G3, L-02.
#[tokio::test]
async fn a_lock_waits_for_the_put_whose_body_is_still_coming() {
    for uri in ["/a", "/"] {
        let dav = Dav::with(Shape::default(), |locks| {
            locks.authorizer(|_: &tower_lock::AuthorizeAsk<'_>| tower_lock::Access::Allowed)
        });
        let (body, stream) = uploading();
        body.send("first ").unwrap();
        let put = dav.as_("bob").ask("PUT", "/a").stream(stream).spawn();
        until("the PUT in flight", || dav.memory.stats().in_flight == 1).await;
        let lock = dav.as_("ann").lock(uri).spawn();
        settle().await;
        assert!(!lock.is_finished(), "granted over a write in flight");
        // Who comes now waits for the lock, and sees no lock yet.
        let answer = dav.as_("cid").put("/a", "x").expect(423).await;
        answer.refused("lock-token-submitted");
        assert!(dav.as_("cid").propfind("/a", "0").expect(207).await.xml().deep("activelock").is_empty());
        body.send("last").unwrap();
        drop(body);
        assert_eq!(put.await.unwrap().status, 204);
        assert_eq!(lock.await.unwrap().status, 200);
        assert_eq!(dav.handler.content("/a").as_deref(), Some("first last"));
        dav.as_("bob").put("/a", "x").expect(423).await;
        dav.assert_nothing_left(&[uri], "granted").await;
    }
}

/// G3: past the limit it is 409 with a time to come again, and nothing stays.
#[tokio::test]
async fn a_lock_gives_up_waiting_with_409_and_retry_after() {
    for uri in ["/a", "/c/", "/c/new"] {
        let dav = Dav::new();
        let (body, stream) = uploading();
        let put = dav.as_("bob").ask("PUT", if uri == "/a" { "/a" } else { "/c/new" }).stream(stream).spawn();
        until("the PUT in flight", || dav.memory.stats().in_flight == 1).await;
        let lock = dav.as_("ann").lock(uri).spawn();
        settle().await;
        assert!(!lock.is_finished());
        dav.clock.advance(Duration::from_secs(6));
        let answer = lock.await.unwrap();
        assert_eq!(answer.status, 409, "{uri}: {answer:?}");
        assert!(answer.headers.contains_key("retry-after") && answer.header("cache-control") == "no-store");
        assert!(dav.roots().await.is_empty());
        drop(body);
        assert!(put.await.unwrap().status.is_success());
        dav.assert_nothing_left(&[], "gave up").await;
    }
}

/// G3: ordinary writers never wait for one another.
#[tokio::test]
async fn two_overlapping_puts_both_succeed() {
    let dav = Dav::new();
    let uploads = ["/a", "/a", "/c/new", "/c/new"].map(|uri| {
        let (body, stream) = uploading();
        (body, dav.as_("bob").ask("PUT", uri).stream(stream).spawn())
    });
    until("four in flight", || dav.memory.stats().in_flight == 4).await;
    for (body, put) in uploads {
        drop(body);
        assert!(put.await.unwrap().status.is_success());
    }
    let held = dav.as_("ann").locked("/a", "0").await;
    let uploads = [(); 2].map(|()| {
        let (body, stream) = uploading();
        (body, dav.as_("ann").ask("PUT", "/a").stream(stream).if_(&format!("(<{held}>)")).spawn())
    });
    until("two in flight", || dav.memory.stats().in_flight == 2).await;
    for (body, put) in uploads {
        drop(body);
        assert_eq!(put.await.unwrap().status, 204);
    }
}

/// G7: a lock does not run out under a write of its holder.
#[tokio::test]
async fn a_lock_does_not_run_out_under_the_put_that_it_answers_for() {
    let dav = Dav::new();
    let token = dav.as_("ann").lock("/a").timeout("Second-10").expect(200).await.token();
    let (body, stream) = uploading();
    let put = dav.as_("ann").ask("PUT", "/a").stream(stream).if_(&format!("(<{token}>)")).spawn();
    until("the PUT in flight", || dav.memory.stats().in_flight == 1).await;
    dav.clock.advance(Duration::from_secs(60));
    dav.as_("bob").put("/a", "x").expect(423).await;
    drop(body);
    assert_eq!(put.await.unwrap().status, 204);
}

/// What is read delays nobody.
#[tokio::test]
async fn reads_and_writes_elsewhere_delay_no_lock() {
    let dav = Dav::new();
    let gates = [dav.handler.hold("GET", "/c/m"), dav.handler.hold("PUT", "/b"), dav.handler.hold("PROPFIND", "/c")];
    let slow = [
        dav.as_("bob").get("/c/m").spawn(),
        dav.as_("bob").put("/b", "x").spawn(),
        dav.as_("bob").propfind("/c", "1").spawn(),
    ];
    until("all three inside", || {
        ["GET /c/m", "PUT /b", "PROPFIND /c"].iter().all(|seen| {
            let (method, path) = seen.split_once(' ').unwrap();
            dav.handler.count(method, path) == 1
        })
    })
    .await;
    dav.as_("ann").lock("/c/").expect(200).await;
    for (gate, slow) in gates.into_iter().zip(slow) {
        gate.add_permits(1);
        assert!(slow.await.unwrap().status.is_success());
    }
}

/// A handler that fails as a service ends the write.
#[tokio::test]
async fn an_error_of_the_service_ends_the_write_and_keeps_the_locks() {
    let dav = Dav::new();
    let token = dav.as_("ann").locked("/c/m", "0").await;
    for (method, path) in [
        ("PUT", "/c/m"),
        ("DELETE", "/c/m"),
        ("MOVE", "/c/m"),
        ("COPY", "/c/m"),
        ("PROPPATCH", "/c/m"),
        ("MKCOL", "/e/new"),
        ("PUT", "/e/new"),
        ("GET", "/a"),
        ("PROPFIND", "/a"),
    ] {
        dav.handler.fault(method, path, Fault::Error);
        let ask = dav.as_("ann").ask(method, path).header("destination", "/e/m").body(if method == "PROPPATCH" {
            super::kit::SET_COLOUR
        } else {
            ""
        });
        assert!(ask.tokens([&token]).sending().await.is_err(), "{method} {path}");
        dav.assert_nothing_left(&["/c/m"], method).await;
    }
}

/// The next request is served: an error or a refusal keeps no readiness.
#[tokio::test(start_paused = true)]
async fn under_a_concurrency_limit_of_one_inside_nothing_waits_for_itself() {
    let limited = |handler: Handler| tower::limit::ConcurrencyLimit::new(handler, 1);
    let dav = Dav::made(Shape::default(), |locks| locks, |layer| layer, limited);
    let within = Duration::from_secs(60);
    let etag = dav.handler.etag("/b");
    let token = dav.as_("ann").locked("/c/", "0").await;
    let bob = dav.as_("bob");
    let ann = dav.as_("ann");
    for (at, ask) in [
        bob.put("/c/m", "x"),
        bob.put("/c/new", "x"),
        bob.put("/a", "x").if_(&format!("</b> ([{etag}]) </c/m> ([\"x\"]) </c/d/n> ([\"y\"])")),
        bob.lock("/e/new"),
        bob.lock("/e/new"),
        bob.lock("/nowhere/new"),
        bob.propfind("/", "infinity"),
        bob.put("/a", "x").if_("(<DAV:no-lock>)"),
        bob.get("/a").if_(&format!("</b> ([{etag}])")),
        bob.ask("OPTIONS", "/a"),
        ann.delete("/c/").tokens([&token]),
        bob.unlock("/a", &token),
        bob.put("/a", "y"),
    ]
    .into_iter()
    .enumerate()
    {
        let answer = tokio::time::timeout(within, ask.into_future()).await;
        assert!(answer.is_ok_and(|answer| answer.status.as_u16() < 500), "request {at} waits for itself");
    }
    dav.handler.fault("PUT", "/b", Fault::Error);
    let failed = tokio::time::timeout(within, dav.as_("bob").put("/b", "x").sending()).await.expect("an answer");
    assert!(failed.is_err());
    tokio::time::timeout(within, dav.as_("bob").get("/b").into_future()).await.expect("a place at the limit");
}

/// A LOCK that waits for a write must not hold the place that the write needs to go on.
#[tokio::test(start_paused = true)]
async fn a_lock_that_waits_for_a_write_holds_no_place_that_the_write_needs() {
    for round in 0..10 {
        let limited = |handler: Handler| tower::limit::ConcurrencyLimit::new(handler, 1);
        let dav = Dav::made(Shape::default(), |locks| locks, |layer| layer, limited);
        for path in ["/c/m", "/c/d", "/e/new"] {
            for method in ["HEAD", "PUT", "PROPFIND"] {
                dav.handler.fault(method, path, Fault::Slow(round));
            }
        }
        dav.as_("zed").locked("/c/", "0").await;
        let etag = dav.handler.etag("/b");
        let mut running = Vec::new();
        for _ in 0..4 {
            let condition = format!("</b> ([{etag}]) </a> (Not [\"x\"])");
            running.push(dav.as_("bob").put("/c/m", "x").if_(&condition).spawn());
            running.push(dav.as_("ann").lock("/c/m").spawn());
            running.push(dav.as_("cid").lock("/e/new").spawn());
            running.push(dav.as_("bob").put("/e/new", "x").spawn());
            running.push(dav.as_("bob").delete("/c/m").spawn());
        }
        for (at, task) in running.into_iter().enumerate() {
            let answer = tokio::time::timeout(Duration::from_secs(60), task).await;
            let answer = answer.unwrap_or_else(|_| panic!("round {round}: request {at} is stuck")).unwrap();
            assert!([200, 201, 204, 409, 423].contains(&answer.status.as_u16()), "{at}: {answer:?}");
        }
        assert_eq!(dav.memory.stats().in_flight, 0);
    }
}

/// What a test of dropping sends. Those after the first eight are by the holder of `/c/`, of depth 0, and `/c/m`.
fn requests(client: &Client, tokens: &[String]) -> Vec<Ask> {
    let all = |ask: Ask| if tokens.is_empty() { ask } else { ask.tokens(tokens) };
    vec![
        all(client.put("/a", "x")),
        all(client.put("/e/new", "x")),
        all(client.mkcol("/e/col")),
        all(client.delete("/c/")),
        all(client.move_("/c/", "/e/c")),
        all(client.copy("/e/", "/c/")),
        all(client.proppatch("/c/m")),
        all(client.lock("/a")),
        all(client.lock("/e/unmapped")),
        all(client.put("/c/m", "x")),
        all(client.propfind("/c/", "1")),
    ]
}

/// Sends the request of `make`, polls it `polls` times and drops it, on a site where every store call and every answer
/// of the handler comes late. Whether there was an answer.
async fn dropped(dav: &Dav, ask: Ask, polls: usize) -> bool {
    let mut future = ask.into_future();
    for _ in 0..polls {
        if poll_once(future.as_mut()).is_ready() {
            return true;
        }
        // What others do for it in the meantime.
        tokio::task::yield_now().await;
    }
    drop(future);
    settle().await;
    assert_eq!(dav.memory.stats().in_flight, 0, "dropped after {polls} polls");
    false
}

fn slow() -> Dav {
    let dav = Dav::new();
    for method in ["PUT", "HEAD", "MKCOL", "DELETE", "MOVE", "COPY", "PROPPATCH", "PROPFIND"] {
        for path in ["/a", "/b", "/c", "/c/m", "/e", "/e/new", "/e/col", "/e/unmapped"] {
            dav.handler.fault(method, path, Fault::Slow(2));
        }
    }
    dav
}

/// L-01, G3: wherever a request is dropped, nothing of it stays.
#[tokio::test]
async fn a_request_dropped_at_any_point_leaves_no_write_in_flight_and_no_lock() {
    for at in 0..11 {
        for polls in 0..200 {
            let dav = slow();
            for call in CALLS {
                dav.rigged.set(call, Mode::Later);
            }
            let etag = dav.handler.etag("/b");
            let ask = requests(&dav.as_("bob"), &[]).swap_remove(at).if_(&format!("</b> ([{etag}])"));
            if dropped(&dav, ask, polls).await {
                assert!(polls > 2, "request {at} came to no await");
                break;
            }
            assert!(dav.roots().await.is_empty(), "request {at} after {polls} polls: {:?}", dav.roots().await);
            let next = dav.locks.acquire(LockRequest::exclusive("/").draining(Duration::ZERO)).await;
            assert!(next.is_ok(), "request {at} after {polls} polls: {next:?}");
            assert!(polls < 199, "request {at} never ends");
        }
    }
}

/// The same where locks were there before, and are answered for.
#[tokio::test]
async fn a_request_of_a_holder_dropped_at_any_point_leaves_no_write_in_flight() {
    for at in 0..13 {
        for polls in 0..200 {
            let dav = slow();
            let tokens = vec![dav.as_("bob").locked("/c/", "0").await, dav.as_("bob").locked("/c/m", "0").await];
            for call in CALLS {
                dav.rigged.set(call, Mode::Later);
            }
            let ask = match at {
                11 => dav.as_("bob").unlock("/c/m", &tokens[1]),
                12 => dav.as_("bob").refresh("/c/m", &tokens[1]),
                _ => requests(&dav.as_("bob"), &tokens).swap_remove(at),
            };
            if dropped(&dav, ask, polls).await {
                break;
            }
            for root in dav.roots().await {
                assert!(["/c", "/c/m"].contains(&root.as_str()), "request {at} after {polls} polls: {root}");
            }
            for (uri, token) in [("/c/", &tokens[0]), ("/c/m", &tokens[1])] {
                dav.as_("bob").unlock(uri, token).await;
            }
            let next = dav.locks.acquire(LockRequest::exclusive("/c").depth(Depth::Infinity).draining(Duration::ZERO)).await;
            assert!(next.is_ok(), "request {at} after {polls} polls: {next:?}");
            assert!(polls < 199, "request {at} never ends");
        }
    }
}
