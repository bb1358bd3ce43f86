//! However many locks are in the way, and whatever is written on them, a refusal fits into the metadata that clients take.

use std::time::Duration;

use tonic::Code;
use tonic_types::StatusExt;
use tower_lock::{
    Caller, KeyRules, LockLayer, LockRequest, MemoryStore, Owner, Principal, ResourceKey,
    request::{Resolved, Role},
};

use crate::{
    kit::{World, call, documents_of, plain, refused, text},
    support::{self, request},
};
use tower::Layer;

/// What most clients take unless told otherwise.
const MOST: usize = 8 * 1024;

#[tokio::test]
async fn a_refusal_over_many_locks_with_long_texts_is_cut_and_says_so() {
    let path = |number: i32| format!("/docs/7/{}/{number}", "ü".repeat(3_000));
    let locks = documents_of(MemoryStore::new()).endpoint_url(format!("/{}", "x".repeat(9_000)));
    // A call that writes them all.
    let locks = locks.keys_fn(move |ask| match ask.role {
        Role::Target => Ok(Resolved::keys((0..150).map(|number| ResourceKey::from_canonical(path(number))))),
        _ => ResourceKey::parse(ask.path).map(Resolved::key),
    });
    let locks = locks.build();
    for number in 0..150 {
        let reason = if number % 2 == 0 { "é%\n".repeat(1_000) } else { "日本".repeat(800) };
        let owner = Owner::id("ann").named("ß".repeat(1_000));
        drop(
            locks.acquire(LockRequest::exclusive(path(number)).principal("ann").owner(owner).reason(reason)).await.unwrap(),
        );
    }
    let answer = plain("");
    let mut service = LockLayer::new(locks.clone()).layer(answer);
    let call_all =
        support::with(support::with(request("POST", "/docs/7"), "content-type", "application/grpc"), "te", "trailers");
    let answer = support::send(&mut service, call_all).await;
    assert_eq!(answer.header("grpc-status"), Some("9"));
    // As HTTP/2 counts (RFC 9113 section 6.5.2).
    let size: usize = answer.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum();
    assert!(size < MOST, "{size}");

    let status = tonic::Status::from_header_map(&answer.headers).expect("a status");
    let details = status.check_error_details().expect("whole details");
    let info = details.error_info().unwrap();
    assert_eq!((info.metadata["locks"].as_str(), info.metadata["truncated"].as_str()), ("100", "true"));
    let told = details.precondition_failure().unwrap().violations.len();
    assert!((1..100).contains(&told), "{told}");
    assert!(details.help().is_none(), "half a link leads nowhere");
    assert!(status.message().ends_with('…') && info.metadata["reason"].ends_with('…'), "{status:?}");
}

#[tokio::test]
async fn a_lost_lock_with_long_texts_beside_one_in_the_way_fits_as_well() {
    let path = format!("/docs/{}", "ü".repeat(3_000));
    let url = format!("/{}", "x".repeat(250));
    let locks = documents_of(MemoryStore::new()).endpoint_url(url).keys_by(KeyRules::new()).build();
    let granted = locks.acquire(LockRequest::exclusive(path.as_str()).principal("ann")).await.unwrap();
    let ben = Principal::new("ß".repeat(1_000));
    let breaker = Caller::application(Some(ben.clone()));
    let reason = "日本%".repeat(1_000);
    drop(locks.break_for(&breaker, granted.lock().id().into(), &reason, Duration::ZERO).await.unwrap());
    let owner = Owner::id("ben").named("ß".repeat(1_000));
    let next = LockRequest::exclusive(path.as_str()).principal(ben).owner(owner).reason(reason);
    drop(locks.acquire(next).await.unwrap());

    let mut service = LockLayer::new(locks).layer(plain(""));
    let uri = ResourceKey::from_canonical(path.as_str());
    let save =
        support::with(support::with(request("POST", &uri.uri()), "content-type", "application/grpc"), "te", "trailers");
    let save = support::holding(support::with(save, "x-user", "ann"), granted.token());
    let answer = support::send(&mut service, save).await;
    let size: usize = answer.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum();
    assert!(size < MOST, "{size}");
    let status = tonic::Status::from_header_map(&answer.headers).expect("a status");
    assert_eq!(status.code(), Code::Aborted);
    let details = status.check_error_details().expect("whole details");
    assert_eq!(details.error_info().unwrap().metadata["lost_cause"], "broken");
    assert_eq!(details.precondition_failure().unwrap().violations[0].r#type, "LOCK_LOST");
    assert_eq!(details.help().unwrap().links.len(), 1);
}

#[tokio::test]
async fn several_short_locks_are_all_told() {
    let locks = documents_of(MemoryStore::new()).build();
    for principal in ["ann", "ben", "cid"] {
        drop(locks.acquire(LockRequest::shared("/docs/7").principal(principal)).await.unwrap());
    }
    let world = World::behind(LockLayer::new(locks)).await;
    let status = refused(world.save(call("dan", "7", text("x"))).await, Code::FailedPrecondition);
    let details = status.check_error_details().unwrap();
    assert_eq!(details.precondition_failure().unwrap().violations.len(), 3);
    assert!(!details.error_info().unwrap().metadata.contains_key("truncated"));
}
