//! Tokens that come in a way of the application's own: as a credential, and as a condition.

mod support;

use std::time::Duration;

use http::{Request, Response};
use support::{Answer, Mode, ProbeError, Rigged, Text, by, locks_of_users, probe, request, send, with};
use tower_layer::Layer;
use tower_lock::{
    Caller, HolderProof, LockLayer, LockRequest, LockToken, Locks, LocksBuilder, MemoryStore, Principal, RequestView,
    locks::Named,
};

fn from_query(request: &RequestView<'_>) -> Option<LockToken> {
    let name = request.uri.query()?.strip_prefix("lock=")?;
    Some(LockToken::derive(&[name]))
}

/// Locks whose tokens come as `?lock=name`, on a store that answers at once and on one that answers later.
fn both(build: impl Fn(LocksBuilder) -> LocksBuilder) -> Vec<Locks> {
    let each = [Mode::Pass, Mode::Later].map(|mode| build(locks_of_users(Rigged::all(MemoryStore::new(), mode))).build());
    each.into()
}

async fn write(layer: &LockLayer, request: Request<Text>) -> Answer {
    let mut service = layer.layer(probe(async |_: Request<Text>| Ok::<_, ProbeError>(Response::new(Text::default()))));
    send(&mut service, request).await
}

async fn take(locks: &Locks, path: &str, name: &str) {
    let request = LockRequest::exclusive(path).principal("ann").propose_token(LockToken::derive(&[name]));
    let _granted = locks.acquire(request).await.unwrap();
}

#[tokio::test]
async fn a_token_in_the_query_answers_for_its_lock() {
    for build in [|locks: LocksBuilder| locks.token(from_query), |locks: LocksBuilder| locks.token_as_condition(from_query)]
    {
        for locks in both(build) {
            take(&locks, "/a", "one").await;
            for layer in [LockLayer::new(locks.clone()), LockLayer::new(locks.clone()).require_lock()] {
                assert_eq!(write(&layer, by(request("PUT", "/a?lock=one"), "ann")).await.status, 200);
                assert_ne!(write(&layer, by(request("PUT", "/a?lock=one"), "ben")).await.status, 200);
                assert_ne!(write(&layer, by(request("PUT", "/a?lock=two"), "ann")).await.status, 200);
                assert_ne!(write(&layer, by(request("PUT", "/a"), "ann")).await.status, 200);
            }
        }
    }
}

#[tokio::test]
async fn a_submitted_token_of_no_lock_is_as_good_as_none() {
    for locks in both(|locks| locks.token(from_query)) {
        let write = async |layer, target| write(&layer, by(request("PUT", target), "ann")).await;
        assert_eq!(write(LockLayer::new(locks.clone()), "/a?lock=one").await.status, 200);
        let refused = write(LockLayer::new(locks.clone()).require_lock(), "/a?lock=one").await;
        assert_eq!((refused.status.as_u16(), &*refused.code()), (428, "lock_required"));
        take(&locks, "/a", "two").await;
        let refused = write(LockLayer::new(locks.clone()), "/a?lock=one").await;
        assert_eq!((refused.status.as_u16(), &*refused.code()), (423, "locked"));
    }
}

#[tokio::test]
async fn who_writes_under_a_lock_that_is_gone_is_told_what_became_of_it() {
    for locks in both(|locks| locks.token_as_condition(from_query)) {
        for layer in [LockLayer::new(locks.clone()), LockLayer::new(locks.clone()).require_lock()] {
            let refused = async |target, user, cause: &str| {
                let answer = write(&layer, by(request("PUT", target), user)).await;
                assert_eq!((answer.status.as_u16(), &*answer.code()), (412, "lock_lost"), "{target}");
                assert_eq!(answer.json()["lost"][0]["cause"], cause, "{target} {user}");
                answer.json()
            };
            let name = LockToken::random().urn().to_string();
            let target = format!("/a?lock={name}");
            refused(&*target, "ann", "unknown").await;

            take(&locks, "/a", &name).await;
            let elsewhere = target.replace("/a", "/b");
            refused(&*elsewhere, "ann", "out_of_scope").await;
            let token = LockToken::derive(&[&*name]);
            let lock = locks.refresh(token, None).await.unwrap().lock;
            let admin = Caller::application(Some(Principal::new("admin")));
            let broken = locks.break_for(&admin, Named::id(lock.id()), "it was forgotten", Duration::ZERO).await;
            assert!(broken.is_ok());
            let told = refused(&*target, "ann", "broken").await;
            assert_eq!((&told["lost"][0]["by"], &told["lost"][0]["reason"]), (&"admin".into(), &"it was forgotten".into()));
            refused(&*target, "ben", "unknown").await;

            take(&locks, "/a", &format!("{name} again")).await;
            let told = refused(&*target, "ann", "broken").await;
            assert_eq!(told["locks"][0]["resource"], "/a", "what is in the way now is told as well");
            let again = LockToken::derive(&[&*format!("{name} again")]);
            assert!(locks.release(again).await.unwrap().is_some());
            assert_eq!(
                write(&layer, by(request("GET", &target), "ann")).await.status,
                200,
                "a condition on a read is nobody's business"
            );
        }
    }
}

#[tokio::test]
async fn the_header_is_the_condition_where_both_are_there() {
    for locks in both(|locks| locks.token_as_condition(from_query)) {
        let layer = LockLayer::new(locks.clone());
        take(&locks, "/a", "one").await;
        let header = format!("<{}>", LockToken::derive(&["one"]).urn());
        let both = with(by(request("PUT", "/a?lock=gone"), "ann"), "lock-token", &header);
        assert_eq!(write(&layer, both).await.status, 200);
        let both = with(by(request("PUT", "/a?lock=one"), "ann"), "lock-token", header.replace('0', "1"));
        assert_eq!(write(&layer, both).await.code(), "lock_lost");
    }
}

#[tokio::test]
async fn a_token_alone_is_proof_where_that_is_said() {
    for locks in both(|locks| locks.token_as_condition(from_query).holder_proof(HolderProof::Token)) {
        take(&locks, "/a", "one").await;
        let layer = LockLayer::new(locks.clone()).require_lock();
        for user in ["ann", "ben"] {
            assert_eq!(write(&layer, by(request("PUT", "/a?lock=one"), user)).await.status, 200, "{user}");
        }
    }
}
