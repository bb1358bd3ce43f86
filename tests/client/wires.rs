//! Over real connections, which are cut.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use tower::{Service, ServiceBuilder, ServiceExt, service_fn};
use tower_lock::{
    LockEndpoint, LockLayer, LockRequest, Locks, MemoryStore, Principal, ResourceKey,
    client::{LockTerms, ReadRefusals, Refused, RefusedCode, RemoteLocks, RetryLocked},
};

use crate::support::{Text, cable::Cable, loopback, request};

fn client() -> Client<HttpConnector, Text> {
    Client::builder(TokioExecutor::new()).build_http()
}

fn hub() -> Locks {
    Locks::builder(MemoryStore::new())
        .principal(|request| request.headers.get("x-user")?.to_str().ok().map(Principal::new))
        .build()
}

/// Credentials are a layer of the client.
fn as_ann(mut request: Request<Full<Bytes>>) -> Request<Full<Bytes>> {
    request.headers_mut().insert("x-user", "ann".parse().unwrap());
    request
}

#[tokio::test]
async fn a_lock_that_was_granted_over_a_connection_that_was_cut_is_held_by_the_repeat() {
    let locks = hub();
    let endpoint = LockEndpoint::new(locks.clone()).mount("/locks");
    let (asked, cable) = (Arc::new(AtomicUsize::new(0)), Arc::new(std::sync::OnceLock::<Cable>::new()));
    let (count, knife) = (asked.clone(), cable.clone());
    let address = loopback::serve(service_fn(move |request: Request<Incoming>| {
        let (mut endpoint, first, knife) = (endpoint.clone(), count.fetch_add(1, Ordering::SeqCst) == 0, knife.clone());
        async move {
            let answer = endpoint.call(request).await.unwrap_or_else(|never| match never {});
            if first {
                assert_eq!(answer.status(), 201);
                knife.get().unwrap().pull();
                // Whoever comes next comes by another connection.
                tokio::spawn(async move {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    knife.get().unwrap().plug();
                });
                std::future::pending::<()>().await;
            }
            Ok::<_, Infallible>(answer)
        }
    }))
    .await;
    _ = cable.set(Cable::to(address.port()).await);
    let url = cable.get().unwrap().through(&format!("http://{address}/locks"), address.port());

    let service = ServiceBuilder::new().map_request(as_ann).service(client());
    let remote = RemoteLocks::new(service, &url).unwrap();
    let guard = remote.acquire(LockTerms::exclusive("/docs/7").lifetime(Duration::from_secs(60))).await.unwrap();
    assert!(asked.load(Ordering::SeqCst) >= 2, "it was repeated");
    let held = locks.covering(&ResourceKey::from_canonical("/docs/7")).await.unwrap();
    assert_eq!(held.iter().map(|lock| Some(lock.id())).collect::<Vec<_>>(), [guard.lock().lock_id], "one lock, ours");
    guard.checkpoint().unwrap();
    guard.release().await.unwrap();
    assert!(locks.covering(&ResourceKey::from_canonical("/docs/7")).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_client_of_a_real_server_reads_and_retries_over_one_connection() {
    let locks = hub();
    let connections = Arc::new(AtomicUsize::new(0));
    let write = service_fn(async |_: Request<Incoming>| Ok::<_, Infallible>(Response::new(Text::from("written"))));
    let guarded = ServiceBuilder::new().layer(LockLayer::new(locks.clone())).service(write);
    let address = loopback::serve(guarded).await;
    let granted = locks.acquire(LockRequest::exclusive("/docs").reason("export").lifetime(Duration::from_secs(60))).await;
    let token = granted.unwrap().token();

    let seen = connections.clone();
    let counted = service_fn(move |uri: http::Uri| {
        seen.fetch_add(1, Ordering::SeqCst);
        HttpConnector::new().call(uri)
    });
    let client = Client::builder(TokioExecutor::new()).build::<_, Text>(counted);
    let put = || request("PUT", &format!("http://{address}/docs/7"));
    let mut reading = ServiceBuilder::new().layer(ReadRefusals::new()).service(client);
    for _ in 0..3 {
        let response = reading.ready().await.unwrap().call(put()).await.unwrap();
        let refused = response.extensions().get::<Refused>().expect("read");
        assert_eq!((response.status().as_u16(), refused.code()), (423, &RefusedCode::Locked));
    }
    // Its body was read to the end, so the connection serves the next one too.
    assert_eq!(connections.load(Ordering::SeqCst), 1);

    // It goes early, and is looked after at the cap.
    let policy = RetryLocked::new().cap(Duration::from_millis(100)).attempts(usize::MAX);
    let retrying = ServiceBuilder::new().retry(policy).service(reading);
    let retried = tokio::spawn(retrying.oneshot(put()));
    tokio::task::yield_now().await;
    locks.release(token).await.unwrap();
    assert_eq!(retried.await.unwrap().unwrap().status(), 200);
}

#[tokio::test]
async fn a_router_in_the_same_process_is_a_client_service_too() {
    let locks = hub();
    let app: axum::Router = axum::Router::new().nest_service("/api/locks", LockEndpoint::new(locks.clone()));
    let service = ServiceBuilder::new().map_request(as_ann).service(app);
    let guard = RemoteLocks::new(service, "/api/locks").unwrap().acquire(LockTerms::exclusive("/docs/7")).await.unwrap();
    assert_eq!(guard.lock().resource.as_deref(), Some("/docs/7"));
    guard.release().await.unwrap();
}

#[tokio::test]
async fn a_server_that_is_not_there_is_an_error_and_not_a_refusal() {
    let port = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let remote = RemoteLocks::new(client(), &format!("http://127.0.0.1:{port}/locks")).unwrap().attempts(2);
    let error = remote.acquire(LockTerms::exclusive("/docs/7")).await.unwrap_err();
    assert!(error.refused().is_none() && std::error::Error::source(&error).is_some(), "{error:?}");
}
