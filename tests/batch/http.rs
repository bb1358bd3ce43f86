//! Bulk writes over real connections.

use std::{convert::Infallible, net::SocketAddr};

use http::{Request, StatusCode};
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::Client,
    rt::{TokioExecutor, TokioIo},
};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tower::service_fn;
use tower_layer::Layer;
use tower_lock::{BatchLayer, Depth, MemoryStore, batch::RequestBody};

use crate::{
    records::{Records, Seen, ids},
    support::{
        Answer, Mode, Rigged, Text, lock, locks_of_users,
        loopback::{Wire, serve},
        until,
    },
};

struct World {
    store: MemoryStore,
    seen: Seen,
    address: SocketAddr,
}

/// A server whose `/records/1` is locked, which does what is not; on a store that answers at once and on one that answers
/// later.
async fn worlds(limit: usize) -> Vec<World> {
    let mut worlds = Vec::new();
    for mode in [Mode::Pass, Mode::Later] {
        let store = MemoryStore::new();
        let locks = locks_of_users(Rigged::all(store.clone(), mode)).build();
        lock(&locks, "/records/1", Depth::Infinity).await;
        let seen = Seen::default();
        let saved = seen.clone();
        let inner = service_fn(move |request: Request<RequestBody<Incoming>>| {
            let seen = saved.clone();
            async move { Ok::<_, Infallible>(seen.save(request).await.unwrap()) }
        });
        let layer = BatchLayer::new(locks, Records).forward_unlocked().body_limit(limit);
        let address = serve(layer.layer(inner)).await;
        worlds.push(World { store, seen, address });
    }
    worlds
}

fn head(fields: &str) -> String {
    format!("POST /records HTTP/1.1\r\nhost: h\r\ncontent-type: application/json\r\n{fields}\r\n\r\n")
}

#[tokio::test]
async fn a_chunked_body_with_trailers_is_cut_down_and_the_answer_has_its_length() {
    for World { store, seen, address } in worlds(1_000).await {
        let mut wire = Wire::to(address).await;
        for _ in 0..2 {
            wire.send(&head("transfer-encoding: chunked\r\ntrailer: x-sum")).await;
            wire.send("d\r\n[{\"id\": \"1\"},\r\n").await;
            tokio::task::yield_now().await;
            wire.send("e\r\n {\"id\": \"2\"}] \r\n0\r\nx-sum: 1\r\n\r\n").await;
            let (status, body) = wire.next().await.unwrap();
            let each: Value = serde_json::from_str(&body).unwrap();
            assert_eq!((status, &each[0]["refused"], &each[1]["done"]), (200, &json!("locked"), &json!(true)));
        }
        assert_eq!((seen.all(), store.stats().in_flight), (vec![vec!["2".to_owned()]; 2], 0));
    }
}

#[tokio::test]
async fn who_expects_a_100_gets_it_where_the_body_is_read_and_else_the_refusal() {
    for World { seen, address, .. } in worlds(100).await {
        let mut wire = Wire::to(address).await;
        let body = r#"[{"id": "2"}]"#;
        wire.send(&head(&format!("expect: 100-continue\r\ncontent-length: {}", body.len()))).await;
        assert_eq!(wire.next().await.unwrap().0, 100);
        wire.send(body).await;
        assert_eq!(wire.next().await.unwrap().0, 200);
        // Too long, or encoded: nobody need send it.
        for fields in ["content-length: 101", "content-length: 5\r\ncontent-encoding: gzip"] {
            let mut wire = Wire::to(address).await;
            wire.send(&head(&format!("expect: 100-continue\r\n{fields}"))).await;
            let status = wire.next().await.unwrap().0;
            assert_eq!(status, if fields.contains("gzip") { 415 } else { 413 });
        }
        assert_eq!(seen.count(), 1);
    }
}

#[tokio::test]
async fn a_client_that_leaves_in_the_middle_of_its_body_leaves_nothing() {
    for World { store, seen, address } in worlds(1_000).await {
        let mut wire = Wire::to(address).await;
        wire.send(&head("content-length: 50")).await;
        wire.send("[{\"id\": \"2\"}]").await;
        drop(wire);
        // The connection after it is served, and nothing was done.
        let mut wire = Wire::to(address).await;
        wire.send(&head("content-length: 2")).await;
        wire.send("[]").await;
        assert_eq!(wire.next().await.unwrap().0, 200);
        until("nothing is in flight", || store.stats().in_flight == 0).await;
        assert_eq!(seen.all(), [Vec::<String>::new()], "what was cut short never reaches the service");
    }
}

#[tokio::test]
async fn over_both_versions_of_http() {
    for World { seen, address, .. } in worlds(10_000).await {
        let ask = |uri: String| {
            let request = Request::post(uri).header("content-type", "application/json");
            request.body(Text::from(ids(["0", "1", "2"]).to_string())).unwrap()
        };
        let client = Client::builder(TokioExecutor::new()).build_http::<Text>();
        let first = Answer::of(client.request(ask(format!("http://{address}/records"))).await.unwrap()).await;
        let stream = TokioIo::new(TcpStream::connect(address).await.unwrap());
        let (mut second, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await.unwrap();
        tokio::spawn(connection);
        let second = Answer::of(second.send_request(ask(format!("http://{address}/records"))).await.unwrap()).await;
        for answer in [first, second] {
            assert_eq!((answer.status, &answer.json()[1]["refused"]), (StatusCode::OK, &json!("locked")));
        }
        assert_eq!(seen.all(), [["0", "2"], ["0", "2"]]);
    }
}
