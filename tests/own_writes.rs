//! What becomes of a holder's lock once it has written: it stays as it is, lives anew, or ends; by the layer's word or by the
//! client's.

mod support;

use std::{sync::Arc, time::Duration};

use http::{Request, Response, StatusCode};
use support::{
    Call, Mode, ProbeError, Rigged, SECOND, Text, by, holding, lock_for, locks_of_users, probe, request, send, with,
};
use tower::Service;
use tower_layer::Layer;
use tower_lock::{
    HolderProof, LockLayer, LockRequest, LockScope, Locks, MemoryStore, ResourceKey, locks::Incident, store::ManualClock,
};

/// A service that answers a write with the status that stands in the header `answer`.
fn service(
    layer: &LockLayer,
) -> impl Service<Request<Text>, Response = Response<impl http_body::Body<Error: std::fmt::Debug> + use<>>, Error = ProbeError>
+ use<> {
    layer.layer(probe(async |request: Request<Text>| {
        let status = request
            .headers()
            .get("answer")
            .map_or(StatusCode::NO_CONTENT, |status| StatusCode::from_bytes(status.as_bytes()).expect("a status"));
        Ok::<_, ProbeError>(Response::builder().status(status).body(Text::default()).unwrap())
    }))
}

/// Locks by a clock that is moved by hand, on a store that answers at once and on one that answers later.
fn both() -> Vec<(ManualClock, Rigged, Locks)> {
    let each = [Mode::Pass, Mode::Later].map(|mode| {
        let clock = ManualClock::new();
        let store = Rigged::all(support::stores::memory(clock.clock()), mode);
        (clock, store.clone(), locks_of_users(store).build())
    });
    each.into()
}

async fn left(locks: &Locks, path: &str) -> Vec<u64> {
    let found = locks.covering(&ResourceKey::parse(path).unwrap()).await.unwrap();
    found.iter().map(|lock| lock.expires_in().expect("an end")).collect()
}

#[tokio::test]
async fn a_write_leaves_its_lock_as_it_is_unless_told() {
    for (clock, _, locks) in both() {
        let token = lock_for(&locks, "ann", "/a", LockScope::Exclusive).await;
        clock.advance(100 * SECOND);
        let mut service = service(&LockLayer::new(locks.clone()));
        let answer = send(&mut service, by(holding(request("PUT", "/a"), token), "ann")).await;
        assert_eq!((answer.status.as_u16(), answer.header("preference-applied")), (204, None));
        assert_eq!(left(&locks, "/a").await, [200]);
    }
}

#[tokio::test]
async fn a_holder_that_writes_is_alive() {
    for (clock, _, locks) in both() {
        let asked = LockRequest::exclusive("/a").principal("ann").lifetime(120 * SECOND);
        let token = locks.acquire(asked).await.unwrap().token();
        let mut by_layer = service(&LockLayer::new(locks.clone()).renew_on_write());
        let mut by_word = service(&LockLayer::new(locks.clone()));
        // Whatever comes of the write.
        for status in ["204", "202", "404", "500"] {
            clock.advance(100 * SECOND);
            let write = with(by(holding(request("PATCH", "/a/x"), token), "ann"), "answer", status);
            assert_eq!(send(&mut by_layer, write).await.status.as_str(), status);
            assert_eq!(left(&locks, "/a").await, [120], "{status}");
            clock.advance(100 * SECOND);
            let write = with(by(holding(request("PATCH", "/a/x"), token), "ann"), "answer", status);
            let answer = send(&mut by_word, with(write, "prefer", "lock=renew")).await;
            assert_eq!(answer.header("preference-applied"), Some("lock=renew"));
            assert_eq!(left(&locks, "/a").await, [120], "{status}");
        }
        clock.advance(100 * SECOND);
        let kept = with(by(holding(request("PUT", "/a"), token), "ann"), "prefer", "lock=keep");
        assert_eq!(send(&mut by_layer, kept).await.header("preference-applied"), Some("lock=keep"));
        assert_eq!(left(&locks, "/a").await, [20]);
    }
}

#[tokio::test]
async fn a_lock_ends_with_the_write_that_it_was_for() {
    for (_, _, locks) in both() {
        let mut by_layer = service(&LockLayer::new(locks.clone()).release_on_success());
        let mut by_word = service(&LockLayer::new(locks.clone()));
        for round in ["layer", "word"] {
            let token = lock_for(&locks, "ann", "/a", LockScope::Exclusive).await;
            let write = |status| {
                let write = with(by(holding(request("PUT", "/a"), token), "ann"), "answer", status);
                if round == "word" { with(write, "prefer", "lock=release") } else { write }
            };
            let kept = with(write("204"), "prefer", "lock=keep");
            if round == "layer" {
                assert_eq!(send(&mut by_layer, kept).await.status, 204);
                assert_eq!(left(&locks, "/a").await.len(), 1, "kept by the client's word");
            }
            for status in ["202", "207", "302", "404", "500", "204"] {
                assert_eq!(left(&locks, "/a").await.len(), 1, "before {status}");
                let answer = match round {
                    "layer" => send(&mut by_layer, write(status)).await,
                    _ => send(&mut by_word, write(status)).await,
                };
                assert_eq!(answer.status.as_str(), status);
            }
            assert_eq!(left(&locks, "/a").await.len(), 0, "by the {round}");
            // The token is known as released, not as something else.
            let answer = send(&mut by_word, write("204")).await;
            assert_eq!((answer.status.as_u16(), &*answer.code()), (412, "lock_lost"));
            assert_eq!(answer.json()["lost"][0]["cause"], "released");
        }
    }
}

#[tokio::test]
async fn nobody_ends_the_shared_locks_of_others() {
    for (_, _, locks) in both() {
        let mut service = service(&LockLayer::new(locks.clone()).release_on_success());
        let ann = lock_for(&locks, "ann", "/a", LockScope::Shared).await;
        lock_for(&locks, "ben", "/a", LockScope::Shared).await;
        // Another session of ann's own: its token did not come with the write.
        lock_for(&locks, "ann", "/a", LockScope::Shared).await;
        assert_eq!(send(&mut service, by(holding(request("PUT", "/a"), ann), "ann")).await.status, 204);
        let rest = locks.covering(&ResourceKey::parse("/a").unwrap()).await.unwrap();
        let mut holders: Vec<_> = rest.iter().map(|lock| lock.principal().unwrap().as_str()).collect();
        holders.sort_unstable();
        assert_eq!(holders, ["ann", "ben"], "one of ann's and ben's are left");
        // What the write did not answer for is not touched, though its token came along.
        let other = lock_for(&locks, "ann", "/other", LockScope::Exclusive).await;
        let own = lock_for(&locks, "ann", "/b", LockScope::Shared).await;
        let both = with(request("PUT", "/b"), "if", format!("</other> (<{}>) </b> (<{}>)", other.urn(), own.urn()));
        assert_eq!(send(&mut service, by(both, "ann")).await.status, 204);
        assert_eq!((left(&locks, "/b").await.len(), left(&locks, "/other").await.len()), (0, 1));
    }
}

#[tokio::test]
async fn where_the_principal_proves_a_holder_no_token_is_needed() {
    let store = MemoryStore::new();
    let locks = locks_of_users(store).holder_proof(HolderProof::Principal).build();
    let mut service = service(&LockLayer::new(locks.clone()).release_on_success());
    lock_for(&locks, "ann", "/a", LockScope::Exclusive).await;
    lock_for(&locks, "ann", "/b", LockScope::Shared).await;
    lock_for(&locks, "ben", "/b", LockScope::Shared).await;
    for path in ["/a", "/b"] {
        assert_eq!(send(&mut service, by(request("PUT", path), "ann")).await.status, 204);
    }
    assert_eq!((left(&locks, "/a").await.len(), left(&locks, "/b").await.len()), (0, 1));
}

#[tokio::test]
async fn an_unlocked_write_asks_the_store_for_nothing_more() {
    for (_, store, locks) in both() {
        let mut service = service(&LockLayer::new(locks).renew_on_write());
        let asked = store.all_calls();
        let answer = send(&mut service, with(request("PUT", "/a"), "prefer", "lock=release")).await;
        assert_eq!((answer.status.as_u16(), answer.header("preference-applied")), (204, None), "there is no lock to end");
        assert_eq!(store.all_calls(), asked + 1, "but for the admission");
    }
}

#[tokio::test]
async fn where_the_store_fails_the_answer_stands_and_the_hook_hears_of_it() {
    let heard = Arc::new(parking_lot::Mutex::new(Vec::new()));
    for mode in [Mode::Fail, Mode::Never] {
        let store = Rigged::new(MemoryStore::new());
        let told = heard.clone();
        let mut limits = tower_lock::Limits::default();
        limits.answer_within = Duration::from_millis(10);
        let locks = locks_of_users(store.clone())
            .limits(limits)
            .on_incident(move |incident| {
                if matches!(incident, Incident::NotAfterWrite { .. }) {
                    told.lock().push(incident.to_string());
                }
            })
            .build();
        let mut service = service(&LockLayer::new(locks.clone()));
        for (preference, call) in [("lock=renew", Call::Refresh), ("lock=release", Call::Release)] {
            let token = lock_for(&locks, "ann", "/a", LockScope::Exclusive).await;
            store.set(call, mode);
            let write = with(by(holding(request("PUT", "/a"), token), "ann"), "prefer", preference);
            assert_eq!(send(&mut service, write).await.status, 204, "{mode:?} {preference}");
            assert_eq!(std::mem::take(&mut *heard.lock()).len(), 1, "{mode:?} {preference}");
            store.set(call, Mode::Pass);
            locks.release(token).await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_delete_takes_what_is_gone_and_ends_the_lock_above_if_told() {
    for (_, _, locks) in both() {
        let mut service = service(&LockLayer::new(locks.clone()));
        let token = lock_for(&locks, "ann", "/a", LockScope::Exclusive).await;
        let delete = |preference| with(by(holding(request("DELETE", "/a/b"), token), "ann"), "prefer", preference);
        assert_eq!(send(&mut service, delete("lock=keep")).await.status, 204);
        assert_eq!(left(&locks, "/a").await.len(), 1);
        assert_eq!(send(&mut service, delete("lock=release")).await.status, 204);
        assert_eq!(left(&locks, "/a").await.len(), 0);
        // Gone with its resource, it is not released once more: its holder is told what became of it.
        let token = lock_for(&locks, "ann", "/a", LockScope::Exclusive).await;
        let delete = with(by(holding(request("DELETE", "/a"), token), "ann"), "prefer", "lock=release");
        assert_eq!(send(&mut service, delete).await.status, 204);
        let answer = send(&mut service, by(holding(request("PUT", "/a"), token), "ann")).await;
        assert_eq!(answer.json()["lost"][0]["cause"], "resource_gone");
    }
}
