//! The layer under real HTTP, over loopback: when a refusal is sent, what it does to the connection, and what nested
//! routers make of a path.

mod support;

use std::{convert::Infallible, future::poll_fn, net::SocketAddr, time::Duration};

use axum::{Router, extract::OriginalUri, routing};
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, Empty, Full, StreamBody, combinators::BoxBody};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use support::{
    Mode, Rigged, lock,
    loopback::{Wire, serve},
};
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
};
use tower::service_fn;
use tower_layer::Layer;
use tower_lock::{Depth, KeyRules, LockLayer, Locks, MemoryStore, ResourceKey, request::Role};

/// Reads the whole body, then answers with its length.
async fn measure(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let length = request.into_body().collect().await.map_or(0, |body| body.to_bytes().len());
    Ok(Response::new(Full::from(format!("{length} bytes"))))
}

/// `/locked` and all below it is locked; once with a store that answers at once, once with one that answers later.
async fn layers() -> Vec<LockLayer> {
    let mut layers = Vec::new();
    for mode in [Mode::Pass, Mode::Later] {
        let locks = Locks::new(Rigged::all(MemoryStore::new(), mode));
        lock(&locks, "/locked", Depth::Infinity).await;
        layers.push(LockLayer::new(locks));
    }
    layers
}

#[tokio::test]
async fn a_refusal_keeps_the_connection_where_a_small_body_came_with_the_head() {
    for layer in layers().await {
        let address = serve(layer.layer(service_fn(measure))).await;
        let mut wire = Wire::to(address).await;
        for _ in 0..3 {
            wire.send("PUT /locked HTTP/1.1\r\nhost: h\r\ncontent-length: 5\r\n\r\nhello").await;
            let (status, body) = wire.next().await.unwrap();
            assert!(status == 423 && body.contains("\"code\":\"locked\""), "{status} {body}");
            wire.send("PUT /locked HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n").await;
            assert_eq!(wire.next().await.unwrap().0, 423);
            wire.send("DELETE /locked HTTP/1.1\r\nhost: h\r\n\r\n").await;
            assert_eq!(wire.next().await.unwrap().0, 423);
            wire.send("PUT /free HTTP/1.1\r\nhost: h\r\ncontent-length: 5\r\n\r\nhello").await;
            assert_eq!(wire.next().await.unwrap(), (200, "5 bytes".to_owned()));
        }
        // All at once, pipelined.
        let put = |path| format!("PUT {path} HTTP/1.1\r\nhost: h\r\ncontent-length: 2\r\n\r\nhi");
        wire.send(&[put("/locked"), put("/free"), put("/locked/7"), put("//free")].concat()).await;
        for status in [423, 200, 423, 200] {
            assert_eq!(wire.next().await.unwrap().0, status);
        }
    }
}

#[tokio::test]
async fn a_refusal_is_sent_before_a_large_body_is_read() {
    for layer in layers().await {
        let address = serve(layer.layer(service_fn(measure))).await;
        for start in ["", "the first few octets of a hundred million"] {
            let mut wire = Wire::to(address).await;
            wire.send(&format!("PUT /locked HTTP/1.1\r\nhost: h\r\ncontent-length: 100000000\r\n\r\n{start}")).await;
            assert_eq!(wire.next().await.unwrap().0, 423, "while the client is still sending");
        }
        let mut wire = Wire::to(address).await;
        wire.send("PUT /locked HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhel").await;
        assert_eq!(wire.next().await.unwrap().0, 423, "in the middle of a chunk");
    }
}

#[tokio::test]
async fn expect_100_continue_gets_the_refusal_and_no_100() {
    for layer in layers().await {
        for read_on in [false, true] {
            let address = match read_on {
                false => serve(layer.layer(service_fn(measure))).await,
                true => serve(layer.clone().read_on(1 << 20).layer(service_fn(measure))).await,
            };
            let head = |path| format!("PUT {path} HTTP/1.1\r\nhost: h\r\ncontent-length: 5\r\nexpect: 100-continue\r\n\r\n");
            for path in ["/locked", "/a/../locked"] {
                let mut wire = Wire::to(address).await;
                wire.send(&head(path)).await;
                let (status, _) = wire.next().await.unwrap();
                assert!(status == 423 || status == 400, "{path}: {status}");
                wire.stream.shutdown().await.unwrap();
                assert_eq!(wire.next().await, None, "no 100 afterwards either");
            }
            // The same to a free resource is asked for its body.
            let mut wire = Wire::to(address).await;
            wire.send(&head("/free")).await;
            assert_eq!(wire.next().await.unwrap().0, 100);
            wire.send("hello").await;
            assert_eq!(wire.next().await.unwrap(), (200, "5 bytes".to_owned()));
        }
    }
}

#[tokio::test]
async fn reading_on_keeps_the_connection_of_a_client_that_sends_everything_first() {
    // More than the sockets hold, so that a server which does not read stops the client.
    const LARGE: usize = 16 << 20;
    let body = "x".repeat(LARGE);
    for layer in layers().await {
        let address = serve(layer.read_on(32 << 20).layer(service_fn(measure))).await;
        let mut wire = Wire::to(address).await;
        for _ in 0..2 {
            wire.send(&format!("PUT /locked HTTP/1.1\r\nhost: h\r\ncontent-length: {LARGE}\r\n\r\n")).await;
            wire.send(&body).await;
            assert_eq!(wire.next().await.unwrap().0, 423);
            wire.send("PUT /free HTTP/1.1\r\nhost: h\r\ncontent-length: 5\r\n\r\nhello").await;
            assert_eq!(wire.next().await.unwrap(), (200, "5 bytes".to_owned()));
        }
    }
}

#[tokio::test]
async fn reading_on_ends_at_its_limit() {
    for layer in layers().await {
        let address = serve(layer.read_on(1_000).layer(service_fn(measure))).await;
        let mut wire = Wire::to(address).await;
        wire.send("PUT /locked HTTP/1.1\r\nhost: h\r\ncontent-length: 100000000\r\n\r\n").await;
        assert_eq!(wire.next().await.unwrap().0, 423);
        // Somebody who never stops sending is cut off.
        let octets = [b'x'; 64 * 1024];
        let cut =
            tokio::time::timeout(Duration::from_secs(20), async { while wire.stream.write_all(&octets).await.is_ok() {} });
        cut.await.expect("the connection ends");
    }
}

#[tokio::test]
async fn http_2_gets_the_refusal_while_its_body_is_on_the_way_and_other_streams_go_on() {
    for layer in layers().await {
        let address = serve(layer.layer(service_fn(measure))).await;
        let stream = TokioIo::new(TcpStream::connect(address).await.unwrap());
        let (mut client, connection) =
            hyper::client::conn::http2::handshake::<_, _, BoxBody<Bytes, Infallible>>(TokioExecutor::new(), stream)
                .await
                .unwrap();
        tokio::spawn(connection);
        for path in ["/locked", "//locked/", "/%6Cocked/7"] {
            // One frame, and then nothing for ever.
            let endless = StreamBody::new(futures_util::StreamExt::chain(
                futures_util::stream::iter([Ok(Frame::data(Bytes::from("start")))]),
                futures_util::stream::pending::<Result<Frame<Bytes>, Infallible>>(),
            ));
            let mut send = async |body: BoxBody<Bytes, Infallible>, path: &str| {
                let uri = format!("http://{address}{path}");
                poll_fn(|cx| client.poll_ready(cx)).await.unwrap();
                let sent = client.send_request(Request::put(uri).body(body).unwrap());
                let response = tokio::time::timeout(Duration::from_secs(20), sent).await.expect("an answer").unwrap();
                let status = response.status();
                (status, response.into_body().collect().await.unwrap().to_bytes())
            };
            let (status, body) = send(BoxBody::new(endless), path).await;
            assert_eq!(status, 423);
            assert!(body.starts_with(b"{\"type\""), "{body:?}");
            let (status, body) = send(BoxBody::new(Full::from("hello")), "/free").await;
            assert_eq!((status, &body[..]), (StatusCode::OK, &b"5 bytes"[..]));
        }
    }
}

/// A client that asks for one answer.
async fn status(address: SocketAddr, method: &str, path: &str, destination: Option<&str>) -> u16 {
    let client = hyper_util::client::legacy::Client::builder(TokioExecutor::new()).build_http();
    let mut request =
        Request::builder().method(Method::from_bytes(method.as_bytes()).unwrap()).uri(format!("http://{address}{path}"));
    if let Some(destination) = destination {
        request = request.header("destination", destination);
    }
    client.request(request.body(Empty::<Bytes>::new()).unwrap()).await.unwrap().status().as_u16()
}

#[tokio::test]
async fn nested_routers_give_the_same_key() {
    let store = MemoryStore::new();
    let full = Locks::new(store.clone());
    lock(&full, "/api/docs/7", Depth::Infinity).await;

    let routes = || Router::new().route("/docs/{*id}", routing::any(async || "done"));
    let prefixed = |prefix| Locks::builder(store.clone()).keys_by(KeyRules::new().prefix(prefix)).build();
    let original = Locks::builder(store.clone())
        .keys_fn(|ask| {
            let path = match (ask.role, ask.request.extensions.get::<OriginalUri>()) {
                (Role::Target, Some(original)) => original.0.path(),
                _ => ask.path,
            };
            ResourceKey::parse(path).map(Into::into)
        })
        .build();
    for (name, app) in [
        ("outside of the nest", Router::new().nest("/api", routes()).layer(LockLayer::new(full))),
        ("inside, with the prefix", Router::new().nest("/api", routes().layer(LockLayer::new(prefixed("/api"))))),
        (
            "inside of two, with the prefix of both",
            Router::new().nest(
                "/api",
                Router::new().nest(
                    "/docs",
                    Router::new()
                        .route("/{*id}", routing::any(async || "done"))
                        .layer(LockLayer::new(prefixed("/api/docs"))),
                ),
            ),
        ),
        ("inside, by the original URI", Router::new().nest("/{version}", routes().layer(LockLayer::new(original.clone())))),
        ("around a service", Router::new().nest_service("/api", LockLayer::new(original).layer(routes()))),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, app).await });
        for (method, path, destination, expected) in [
            ("PUT", "/api/docs/7", None, 423),
            ("PUT", "/api/docs/7/pages/1", None, 423),
            ("PUT", "/api/docs//7/", None, 423),
            ("PUT", "/api/docs/%37", None, 423),
            ("DELETE", "/api/docs/7", None, 423),
            ("PUT", "/api/docs/8", None, 200),
            ("PUT", "/api/docs/api/docs/7", None, 200),
            ("GET", "/api/docs/7", None, 200),
            // A header field has the whole path: no router strips it.
            ("COPY", "/api/docs/8", Some("/api/docs/7"), 423),
            ("COPY", "/api/docs/8", Some("http://example.org/api//docs/%37"), 423),
            ("COPY", "/api/docs/8", Some("/api/docs/9"), 200),
        ] {
            assert_eq!(
                status(address, method, path, destination).await,
                expected,
                "{name}: {method} {path} {destination:?}"
            );
        }
    }
}

#[tokio::test]
async fn a_destination_without_the_prefix_is_that_of_the_service_behind_the_router() {
    let locks = Locks::builder(MemoryStore::new()).keys_by(KeyRules::new().prefix("/api")).build();
    lock(&locks, "/api/docs/7", Depth::Infinity).await;
    let routes = Router::new().route("/docs/{id}", routing::any(async || "done")).layer(LockLayer::new(locks));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, Router::new().nest("/api", routes)).await });
    assert_eq!(status(address, "MOVE", "/api/docs/8", Some("/docs/7")).await, 423);
    assert_eq!(status(address, "MOVE", "/api/docs/8", Some("/docs/9")).await, 200);
}
