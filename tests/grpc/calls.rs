//! Which calls go on: those of holders, reads, and those that somebody has said about what they write.

use std::time::Duration;

use futures_util::stream;
use tonic::Code;
use tower::Layer;
use tower_lock::{
    LockEndpoint, LockLayer, LockRequest, MemoryStore, RequestView, ResourceKey, request::Preferences, store::ManualClock,
};

use crate::{
    kit::{ERASE, GET, SAVE, World, call, documents_of, holding, plain, refused, text, with},
    support::{self, Call, Mode, Rigged, poll_once, request, until},
};

#[tokio::test]
async fn a_holder_passes_with_its_token_and_nobody_else_does() {
    let locks = documents_of(MemoryStore::new()).build();
    let granted = locks.acquire(LockRequest::exclusive("/docs/7").principal("ann")).await.unwrap();
    let world = World::behind(LockLayer::new(locks)).await;

    let answer = world.save(holding(call("ann", "7", text("x")), granted.token())).await.unwrap();
    // Which the handler found in the request's extensions.
    assert_eq!(answer.into_inner().text, format!("Some(({}, 1))", granted.lock().generation()));
    refused(world.save(call("ann", "7", text("x"))).await, Code::FailedPrecondition);
    refused(world.save(holding(call("ben", "7", text("x")), granted.token())).await, Code::Aborted);
    refused(world.save(with(call("ann", "7", text("x")), "lock-token", "nonsense")).await, Code::InvalidArgument);
    assert!(world.save(call("ben", "8", text("x"))).await.is_ok(), "another document");
    assert_eq!(world.documents.calls(), 2);
}

#[tokio::test]
async fn every_write_can_know_its_generation() {
    let locks = documents_of(MemoryStore::new()).build();
    let world = World::behind(LockLayer::new(locks).fence_all()).await;
    let answer = world.save(call("ben", "7", text("x"))).await.unwrap().into_inner().text;
    assert!(answer.starts_with("Some(("), "{answer}");
}

#[tokio::test]
async fn reads_ask_no_store_and_go_on_while_it_is_down() {
    let store = Rigged::new(MemoryStore::new());
    let locks = documents_of(store.clone()).build();
    drop(locks.acquire(LockRequest::exclusive("/docs")).await.unwrap());
    store.set(Call::Admit, Mode::Fail);
    let world = World::behind(LockLayer::new(locks).require_lock()).await;
    assert!(world.unary(GET, call("ben", "7", text("x"))).await.is_ok());
    assert_eq!(store.calls(Call::Admit), 0);
}

#[tokio::test]
async fn a_method_that_nobody_knows_is_refused_not_let_through() {
    let locks = documents_of(MemoryStore::new()).build();
    let world = World::behind(LockLayer::new(locks)).await;
    // The service has it: nothing but the layer stops it.
    for method in [ERASE, "/docs.v1.Documents/save", "/docs.v1.Documents/Save/", "/docs.v1.Documents/%53ave"] {
        let status = refused(world.unary(method, call("ben", "7", text("x"))).await, Code::InvalidArgument);
        assert!(status.message().contains("does not say which resource"), "{status:?}");
    }
    assert_eq!(world.documents.calls(), 0);
}

#[tokio::test]
async fn metadata_that_leaves_doubt_about_the_document_is_refused() {
    let locks = documents_of(MemoryStore::new()).build();
    drop(locks.acquire(LockRequest::exclusive("/docs/7")).await.unwrap());
    let world = World::behind(LockLayer::new(locks)).await;
    refused(world.save(tonic::Request::new(text("x"))).await, Code::InvalidArgument);
    refused(world.save(with(call("ben", "8", text("x")), "document-id", "7")).await, Code::InvalidArgument);
    // Spellings that a handler might take for the same one.
    for spelling in ["7/", "/7", "%37", "./7", "7//"] {
        refused(world.save(call("ben", spelling, text("x"))).await, Code::FailedPrecondition);
    }
    assert_eq!(world.documents.calls(), 0);
}

#[tokio::test]
async fn streams_of_a_client_are_refused_before_their_first_message() {
    let locks = documents_of(MemoryStore::new()).build();
    let granted = locks.acquire(LockRequest::exclusive("/docs/7").principal("ann")).await.unwrap();
    let world = World::behind(LockLayer::new(locks)).await;
    // A stream that never ends nor says anything: who waits for it waits for ever.
    refused(world.upload(call("ben", "7", stream::pending())).await, Code::FailedPrecondition);
    let parts = || stream::iter(["a", "b", "c"].map(text));
    refused(world.upload(call("ben", "7", parts())).await, Code::FailedPrecondition);
    let answer = world.upload(holding(call("ann", "7", parts()), granted.token())).await.unwrap();
    assert_eq!(answer.into_inner().text, "a+b+c");
    assert_eq!(world.documents.calls(), 1);
}

#[tokio::test]
async fn a_streamed_answer_keeps_its_write_in_flight_to_the_end() {
    let store = MemoryStore::new();
    let locks = documents_of(store.clone()).build();
    let world = World::behind(LockLayer::new(locks.clone()).until_body_ends()).await;
    let mut answers = world.rewrite(call("ben", "7", text("x"))).await.unwrap().into_inner();
    assert_eq!(answers.message().await.unwrap().unwrap().text, "first");

    let acquire = LockRequest::exclusive("/docs/7").principal("ann");
    let mut acquiring = std::pin::pin!(locks.acquire(acquire));
    assert!(poll_once(acquiring.as_mut()).is_pending(), "a lock waits for the write");
    refused(world.rewrite(call("cid", "7", text("x"))).await, Code::FailedPrecondition);
    world.documents.open();
    assert_eq!(answers.message().await.unwrap().unwrap().text, "second");
    assert!(answers.message().await.unwrap().is_none());
    drop(acquiring.await.unwrap());
    refused(world.rewrite(call("ben", "7", text("x"))).await, Code::FailedPrecondition);
}

#[tokio::test]
async fn a_call_waits_for_a_lock_where_its_client_would() {
    let locks = documents_of(MemoryStore::new()).allow_waiting().build();
    let guard = locks.hold(LockRequest::exclusive("/docs/7")).await.unwrap();
    let world = World::behind(LockLayer::new(locks.clone())).await;
    refused(world.save(call("ben", "7", text("x"))).await, Code::FailedPrecondition);
    let (answer, ()) = tokio::join!(world.save(with(call("ben", "7", text("x")), "prefer", "wait=30")), async {
        until_waiting(&locks, 1).await;
        guard.release().await.unwrap();
    });
    assert_eq!(answer.unwrap().metadata().get("preference-applied").unwrap(), "wait=30");
}

async fn until_waiting(locks: &tower_lock::Locks, many: usize) {
    while locks.waiting() != many {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn a_call_that_waits_is_told_before_its_own_deadline() {
    let clock = ManualClock::new();
    let locks = documents_of(support::stores::memory(clock.clock())).clock(clock.clock()).allow_waiting().build();
    drop(locks.acquire(LockRequest::exclusive("/docs/7")).await.unwrap());
    let mut service = LockLayer::new(locks.clone()).layer(plain(""));
    let mut save = request("POST", SAVE);
    let head = [("content-type", "application/grpc"), ("te", "trailers"), ("document-id", "7")];
    for (name, value) in head.into_iter().chain([("prefer", "wait=30"), ("grpc-timeout", "10S")]) {
        save = support::with(save, name, value);
    }
    assert_eq!(Preferences::of(RequestView::of(&save).headers).wait, Some(Duration::from_secs(30)));
    let waiting = tokio::spawn(async move { support::send(&mut service, save).await });
    until("it waits", || locks.waiting() == 1).await;
    clock.advance(Duration::from_millis(8_999));
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert!(!waiting.is_finished());
    clock.advance(Duration::from_millis(1));
    let answer = waiting.await.unwrap();
    assert_eq!((answer.header("grpc-status"), answer.header("preference-applied")), (Some("9"), Some("wait=9")));
}

async fn locked(locks: &tower_lock::Locks) -> usize {
    let docs = ["/docs/7", "/docs/8"].map(ResourceKey::from_canonical);
    locks.covering(&docs[0]).await.unwrap().len() + locks.covering(&docs[1]).await.unwrap().len()
}

#[tokio::test]
async fn a_lock_is_released_with_a_call_that_succeeded_and_with_no_other() {
    let locks = documents_of(MemoryStore::new()).build();
    let granted = locks.acquire(LockRequest::exclusive("/docs/7").principal("ann")).await.unwrap();
    let world = World::behind(LockLayer::new(locks.clone()).release_on_success()).await;
    let save = |message| holding(call("ann", "7", text(message)), granted.token());
    // The HTTP status of both is 200.
    refused(world.save(save("badly")).await, Code::InvalidArgument);
    assert_eq!(locked(&locks).await, 1);
    assert!(world.save(save("well")).await.is_ok());
    assert_eq!(locked(&locks).await, 0);

    let granted = locks.acquire(LockRequest::exclusive("/docs/8").principal("ann")).await.unwrap();
    let world = World::behind(LockLayer::new(locks.clone())).await;
    let save = |message| with(holding(call("ann", "8", text(message)), granted.token()), "prefer", "lock=release");
    let status = refused(world.save(save("badly")).await, Code::InvalidArgument);
    assert!(status.metadata().get("preference-applied").is_none());
    let answer = world.save(save("well")).await.unwrap();
    assert_eq!(answer.metadata().get("preference-applied").unwrap(), "lock=release");
    assert_eq!(locked(&locks).await, 0);
}

#[tokio::test]
async fn what_is_no_grpc_call_gets_a_problem_document_as_ever() {
    let locks = documents_of(MemoryStore::new()).build();
    drop(locks.acquire(LockRequest::exclusive("/docs/7")).await.unwrap());
    let answer = plain("");
    let mut service = LockLayer::new(locks).layer(answer);
    let (old, new) = (http::Version::HTTP_11, http::Version::HTTP_2);
    for (method, content_type, version, te, grpc) in [
        ("POST", "application/grpc", new, "trailers", true),
        ("POST", "application/grpc+proto", new, "trailers", true),
        ("POST", "application/grpc+json", new, "trailers", true),
        // Where a proxy has taken it away.
        ("POST", "application/grpc", new, "", true),
        // What a translation of another protocol hands on.
        ("POST", "application/grpc", old, "trailers", true),
        ("POST", "application/grpc-web+proto", new, "trailers", false),
        ("POST", "application/json", new, "trailers", false),
        // An upload of what somebody calls so: its client looks at the status of HTTP.
        ("PUT", "application/grpc", new, "trailers", false),
        ("POST", "application/grpc", old, "", false),
        ("POST", "application/grpc", old, "gzip", false),
    ] {
        let mut write = support::with(request(method, "/docs/7"), "content-type", content_type);
        *write.version_mut() = version;
        let write = if te.is_empty() { write } else { support::with(write, "te", te) };
        let answer = support::send(&mut service, write).await;
        if grpc {
            assert_eq!((answer.status.as_u16(), answer.header("content-type")), (200, Some("application/grpc")));
            assert_eq!((answer.header("grpc-status"), answer.body.len()), (Some("9"), 0));
        } else {
            assert_eq!((answer.status.as_u16(), answer.code().as_str()), (423, "locked"));
            assert!(answer.header("grpc-status").is_none());
        }
        assert_eq!(answer.extensions.get::<tower_lock::Refusal>().map(|refusal| refusal.status().as_u16()), Some(423));
    }
}

#[tokio::test]
async fn the_endpoint_speaks_http_to_everybody() {
    let locks = documents_of(MemoryStore::new()).build();
    let post = support::with(request("POST", "/"), "content-type", "application/grpc");
    let answer = support::send(&mut LockEndpoint::new(locks), post).await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (400, "bad_request"));
}
