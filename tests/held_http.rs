//! Held writes under real HTTP, over loopback: what is sent meanwhile, and how soon the place of a client that leaves is free.

mod support;

use std::{convert::Infallible, time::Duration};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use support::{
    Mode, Rigged, SECOND, lock,
    loopback::{Wire, serve},
};
use tokio::net::TcpStream;
use tower::service_fn;
use tower_layer::Layer;
use tower_lock::{Depth, LockLayer, Locks, lock::LockToken, store::ManualClock};

struct World {
    clock: ManualClock,
    locks: Locks,
    token: LockToken,
    address: std::net::SocketAddr,
}

/// A server whose `/locked` is locked, on a store that answers at once and on one that answers later. Its clock stands still.
async fn worlds() -> Vec<World> {
    let mut worlds = Vec::new();
    for mode in [Mode::Pass, Mode::Later] {
        let clock = ManualClock::new();
        let store = Rigged::all(support::stores::memory(clock.clock()), mode);
        let locks = Locks::builder(store).clock(clock.clock()).allow_waiting().build();
        let token = lock(&locks, "/locked", Depth::Infinity).await;
        let address = serve(LockLayer::new(locks.clone()).layer(service_fn(measure))).await;
        worlds.push(World { clock, locks, token, address });
    }
    worlds
}

async fn measure(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let length = request.into_body().collect().await.map_or(0, |body| body.to_bytes().len());
    Ok(Response::new(Full::from(format!("{length} bytes"))))
}

async fn waiting(world: &World, expected: usize) {
    for _ in 0..60_000 {
        if world.locks.waiting() == expected {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("{} wait, never {expected}", world.locks.waiting());
}

#[tokio::test]
async fn a_held_write_keeps_its_body_and_its_connection() {
    for world in worlds().await {
        let mut wire = Wire::to(world.address).await;
        wire.send("PUT /locked HTTP/1.1\r\nhost: h\r\nprefer: wait=20\r\ncontent-length: 5\r\n\r\nhello").await;
        waiting(&world, 1).await;
        world.locks.release(world.token).await.unwrap();
        assert_eq!(wire.next().await.unwrap(), (200, "5 bytes".to_owned()));
        wire.send("PUT /free HTTP/1.1\r\nhost: h\r\ncontent-length: 2\r\n\r\nhi").await;
        assert_eq!(wire.next().await.unwrap(), (200, "2 bytes".to_owned()));
        // And where the time is up.
        lock(&world.locks, "/locked", Depth::Infinity).await;
        wire.send("PUT /locked HTTP/1.1\r\nhost: h\r\nprefer: wait=20\r\ncontent-length: 5\r\n\r\nhello").await;
        waiting(&world, 1).await;
        world.clock.advance(20 * SECOND);
        assert_eq!(wire.next().await.unwrap().0, 423);
        wire.send("PUT /free HTTP/1.1\r\nhost: h\r\ncontent-length: 2\r\n\r\nhi").await;
        assert_eq!(wire.next().await.unwrap(), (200, "2 bytes".to_owned()));
    }
}

#[tokio::test]
async fn no_100_is_sent_before_the_lock_goes() {
    for world in worlds().await {
        let ask = "PUT /locked HTTP/1.1\r\nhost: h\r\nprefer: wait=20\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n";
        let mut wire = Wire::to(world.address).await;
        wire.send(ask).await;
        waiting(&world, 1).await;
        world.locks.release(world.token).await.unwrap();
        // The first that comes is the 100, for which the service asked by reading.
        assert_eq!(wire.next().await.unwrap().0, 100);
        wire.send("hello").await;
        assert_eq!(wire.next().await.unwrap(), (200, "5 bytes".to_owned()));

        lock(&world.locks, "/locked", Depth::Infinity).await;
        let mut wire = Wire::to(world.address).await;
        wire.send(ask).await;
        waiting(&world, 1).await;
        world.clock.advance(20 * SECOND);
        assert_eq!(wire.next().await.unwrap().0, 423, "the refusal comes first, and no 100");
    }
}

#[tokio::test]
async fn over_http_2_a_client_that_leaves_gives_up_its_place_at_once() {
    for world in worlds().await {
        let stream = TokioIo::new(TcpStream::connect(world.address).await.unwrap());
        let (client, connection) =
            hyper::client::conn::http2::handshake::<_, _, Full<Bytes>>(TokioExecutor::new(), stream).await.unwrap();
        tokio::spawn(connection);
        let mut sends: Vec<_> = (0..5)
            .map(|_| {
                let mut client = client.clone();
                let request = Request::put(format!("http://{}/locked", world.address))
                    .header("prefer", "wait=20")
                    .body(Full::from("hello"))
                    .unwrap();
                tokio::spawn(async move { client.send_request(request).await.map(|response| response.status()) })
            })
            .collect();
        waiting(&world, 5).await;
        sends.pop().unwrap().abort();
        waiting(&world, 4).await;
        // A connection that goes takes all its requests along.
        drop(client);
        sends.drain(1..).for_each(|send| send.abort());
        waiting(&world, 1).await;
        world.locks.release(world.token).await.unwrap();
        assert_eq!(sends.pop().unwrap().await.unwrap().unwrap(), 200);
    }
}

#[tokio::test]
async fn over_http_1_the_place_of_a_client_that_left_is_free_when_the_time_is_up() {
    for world in worlds().await {
        let mut wire = Wire::to(world.address).await;
        // The server reads no more until the service does, so it cannot see that nobody is there.
        wire.send("PUT /locked HTTP/1.1\r\nhost: h\r\nprefer: wait=20\r\ncontent-length: 500\r\n\r\nhello").await;
        waiting(&world, 1).await;
        drop(wire);
        world.clock.advance(20 * SECOND);
        waiting(&world, 0).await;
        // Without a body it does.
        let mut wire = Wire::to(world.address).await;
        wire.send("DELETE /locked HTTP/1.1\r\nhost: h\r\nprefer: wait=20\r\n\r\n").await;
        waiting(&world, 1).await;
        drop(wire);
        waiting(&world, 0).await;
    }
}
