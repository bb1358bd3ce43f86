//! What a refused caller is told, and what it is not.

use tonic::Code;
use tonic_types::{ErrorDetail, ErrorDetails, StatusExt};
use tower_lock::{
    Access, AuthorizeAsk, Limits, LockKind, LockLayer, LockRequest, MemoryStore, Owner, RefusalCode, locks::GrpcCode,
};

use crate::{
    kit::{World, call, documents_of, holding, refused, strangers_of, text},
    support::{Call, Mode, Rigged},
};

fn legal_desk() -> LockRequest {
    LockRequest::exclusive("/docs/7")
        .kind(LockKind::Job)
        .principal("legal")
        .owner(Owner::id("legal").named("the legal desk"))
        .reason("100 % café\nexport")
}

fn details(status: &tonic::Status) -> ErrorDetails {
    status.check_error_details().expect("details that can be read")
}

#[tokio::test]
async fn a_lock_in_the_way_is_told_with_who_why_and_until_when() {
    let locks = documents_of(MemoryStore::new()).endpoint_url("https://docs.example/locks").build();
    let granted = locks.acquire(legal_desk()).await.unwrap();
    let world = World::behind(LockLayer::new(locks)).await;

    let status = refused(world.save(call("ben", "7", text("x"))).await, Code::FailedPrecondition);
    assert_eq!(world.documents.calls(), 0);
    assert!(status.message().starts_with("/docs/7 is locked by the legal desk (100 % café export) until "), "{status:?}");
    assert_eq!(status.metadata().get("retry-after").unwrap(), "900");

    let details = details(&status);
    let info = details.error_info().unwrap();
    assert_eq!((info.reason.as_str(), info.domain.as_str()), ("LOCKED", "tower-lock"));
    for (name, value) in [
        ("code", "locked"),
        ("resource", "/docs/7"),
        ("lock_resource", "/docs/7"),
        ("lock_id", &granted.lock().id().to_string()),
        ("kind", "job"),
        ("scope", "exclusive"),
        ("depth", "infinity"),
        ("state", "held"),
        ("owner", "the legal desk"),
        ("reason", "100 % café\nexport"),
        ("expires_in", "900"),
        ("expires_at", &granted.lock().expires_at().unwrap().to_string()),
        ("generation", &granted.lock().generation().to_string()),
        ("mine", "false"),
        ("can_break", "true"),
        ("locks", "1"),
    ] {
        assert_eq!(info.metadata.get(name).map(String::as_str), Some(value), "{name}");
    }
    assert!(!info.metadata.contains_key("truncated"));
    assert_eq!(details.retry_info().unwrap().retry_delay.unwrap().as_secs(), 900);
    let [violation] = &details.precondition_failure().unwrap().violations[..] else { panic!("one lock: {details:?}") };
    assert_eq!((violation.r#type.as_str(), violation.subject.as_str()), ("LOCKED", "/docs/7"));
    assert!(violation.description.contains("by the legal desk (100 % café\nexport), until "), "{violation:?}");
    let resource = details.resource_info().unwrap();
    assert_eq!((resource.resource_name.as_str(), resource.owner.as_str()), ("/docs/7", "the legal desk"));
    let [link] = &details.help().unwrap().links[..] else { panic!("one link: {details:?}") };
    assert_eq!(link.url, format!("https://docs.example/locks/?id={}", granted.lock().id()));

    let all = format!("{status:?} {details:?}");
    assert!(
        !all.contains(&granted.token().urn().to_string()) && !all.contains("urn:uuid"),
        "the token is its holder's alone: {all}"
    );
    // One of each type, so that readers that keep the first and readers that keep the last agree.
    let types = status.get_error_details_vec();
    let mut kinds: Vec<_> = types.iter().map(std::mem::discriminant::<ErrorDetail>).collect();
    kinds.dedup();
    assert_eq!((types.len(), kinds.len()), (5, 5));
}

#[tokio::test]
async fn a_stranger_is_told_that_there_is_a_lock_and_until_when_alone() {
    let locks = strangers_of(MemoryStore::new()).build();
    drop(locks.acquire(legal_desk()).await.unwrap());
    let world = World::behind(LockLayer::new(locks)).await;
    let status = refused(world.save(call("ben", "7", text("x"))).await, Code::FailedPrecondition);
    let told = format!("{status:?} {:?}", details(&status));
    assert!(told.contains("/docs/7") && told.contains("expires_in"), "{told}");
    assert!(!told.contains("legal") && !told.contains("export"), "{told}");
}

#[tokio::test]
async fn who_may_not_see_a_lock_learns_no_more_than_that_it_is_not_to_be() {
    let locks = strangers_of(MemoryStore::new()).authorizer(|_: &AuthorizeAsk<'_>| Access::Denied);
    let locks = locks.endpoint_url("/locks").build();
    let granted = locks.acquire(legal_desk().kind(LockKind::Freeze)).await.unwrap();
    let world = World::behind(LockLayer::new(locks)).await;
    let status = refused(world.save(call("ben", "7", text("x"))).await, Code::FailedPrecondition);
    assert_eq!(status.message(), "Locked");
    let [ErrorDetail::ErrorInfo(info)] = &status.get_error_details_vec()[..] else { panic!("{status:?}") };
    let members: Vec<_> = info.metadata.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!((info.reason.as_str(), &members[..]), ("LOCKED", &[("code", "locked")][..]), "not even that it is frozen");
    let told = format!("{status:?}");
    assert!(!told.contains("/docs/7") && !told.contains(&granted.lock().id().to_string()), "{told}");
}

#[tokio::test]
async fn who_may_not_see_a_lock_learns_not_how_many_there_are() {
    let mut limits = Limits::default();
    limits.blockers_named = 1;
    let locks = strangers_of(MemoryStore::new()).authorizer(|_: &AuthorizeAsk<'_>| Access::Denied).limits(limits).build();
    for _ in 0..3 {
        drop(locks.acquire(LockRequest::shared("/docs/7").kind(LockKind::Freeze)).await.unwrap());
    }
    let world = World::behind(LockLayer::new(locks)).await;
    let status = refused(world.save(call("ben", "7", text("x"))).await, Code::FailedPrecondition);
    let [ErrorDetail::ErrorInfo(info)] = &status.get_error_details_vec()[..] else { panic!("{status:?}") };
    assert_eq!(info.metadata.keys().collect::<Vec<_>>(), ["code"]);
}

#[tokio::test]
async fn a_lock_that_was_lost_is_told_apart_from_one_in_the_way() {
    let locks = documents_of(MemoryStore::new()).build();
    let granted = locks.acquire(LockRequest::exclusive("/docs/7").principal("ann")).await.unwrap();
    let taken = LockRequest::exclusive("/docs/7").principal("ben").breaking(granted.lock().id(), "the minister comes");
    drop(locks.acquire(taken).await.unwrap());
    let world = World::behind(LockLayer::new(locks)).await;

    let status = refused(world.save(holding(call("ann", "7", text("x")), granted.token())).await, Code::Aborted);
    let details = details(&status);
    let info = details.error_info().unwrap();
    assert_eq!(info.reason, "LOCK_LOST");
    assert_eq!(info.metadata["lost_lock_id"], granted.lock().id().to_string());
    assert_eq!(info.metadata["lost_by"], "ben");
    let kinds: Vec<_> =
        details.precondition_failure().unwrap().violations.iter().map(|violation| violation.r#type.as_str()).collect();
    assert_eq!(kinds, ["LOCK_LOST", "LOCKED"]);
    assert_eq!(world.documents.calls(), 0);
}

#[tokio::test]
async fn the_code_of_a_refusal_can_be_chosen() {
    let locks = documents_of(MemoryStore::new()).grpc_codes(|code| match code {
        RefusalCode::Locked => GrpcCode::Unavailable,
        RefusalCode::StoreUnavailable => GrpcCode::Internal,
        code => GrpcCode::of(code),
    });
    let store = Rigged::new(MemoryStore::new());
    let down = documents_of(store.clone()).grpc_codes(|_| GrpcCode::DataLoss).build();
    let locks = locks.build();
    drop(locks.acquire(LockRequest::exclusive("/docs/7")).await.unwrap());
    drop(locks.acquire(LockRequest::exclusive("/docs/8").kind(LockKind::Freeze)).await.unwrap());
    let world = World::behind(LockLayer::new(locks)).await;
    let status = refused(world.save(call("ben", "7", text("x"))).await, Code::Unavailable);
    assert!(status.get_details_retry_info().is_some());
    let status = refused(world.save(call("ben", "8", text("x"))).await, Code::FailedPrecondition);
    assert_eq!(status.get_details_error_info().unwrap().reason, "FROZEN");
    assert!(status.get_details_retry_info().is_none(), "nobody knows when a freeze ends");

    store.set(Call::Admit, Mode::Fail);
    let world = World::behind(LockLayer::new(down)).await;
    refused(world.save(call("ben", "7", text("x"))).await, Code::DataLoss);
}

#[tokio::test]
async fn every_refusal_of_the_layer_has_its_code() {
    let store = Rigged::new(MemoryStore::new());
    let locks = documents_of(store.clone()).build();
    let world = World::behind(LockLayer::new(locks).require_lock()).await;

    let status = refused(world.save(call("ben", "7", text("x"))).await, Code::FailedPrecondition);
    assert_eq!(status.get_details_error_info().unwrap().reason, "LOCK_REQUIRED");
    let status = refused(world.save(call("ben", "a/../b", text("x"))).await, Code::InvalidArgument);
    assert_eq!(status.get_details_error_info().unwrap().reason, "AMBIGUOUS_PATH");
    store.set(Call::Admit, Mode::Fail);
    let status = refused(world.save(call("ben", "7", text("x"))).await, Code::Unavailable);
    assert_eq!(status.get_details_error_info().unwrap().reason, "STORE_UNAVAILABLE");
    assert_eq!(status.get_details_retry_info().unwrap().retry_delay.unwrap().as_secs(), 1);
    assert!(!status.message().contains("rigged"), "what the store said is not for callers");
    assert_eq!(world.documents.calls(), 0);
}
