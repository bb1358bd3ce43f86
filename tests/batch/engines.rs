//! The same on every store: two questions, everything named, tokens, the end of what is gone, acquires that wait.

use std::{sync::Arc, time::Duration};

use http::{Request, StatusCode};
use serde_json::json;
use tower_layer::Layer;
use tower_lock::{BatchLayer, Depth, Limits, LockRequest, LockScope, LockStore, MemoryStore, batch::RequestBody};

use crate::{
    records::{Records, Seen, answering, bulk, bulk_to, ids, saving, tagged},
    support::{Call, ProbeError, Rigged, Text, by, lock, lock_for, locks_of_users, probe, send, with},
};

/// Other tests run beside these.
const PATIENCE: Duration = Duration::from_secs(20);

async fn bulk_writes_are_guarded_item_by_item(store: Arc<dyn LockStore>) {
    let store = Rigged::new(store);
    let mut limits = Limits::default();
    limits.admit_within = PATIENCE;
    let locks = locks_of_users(store.clone()).limits(limits).build();
    let numbers: Vec<String> = (0..200).map(|id| id.to_string()).collect();
    let all = ids(numbers.iter().map(String::as_str));
    let mut mine = Vec::new();
    for at in (0..200).step_by(20) {
        lock_for(&locks, "eve", &format!("/records/{at}"), LockScope::Exclusive).await;
        mine.push(lock_for(&locks, "ann", &format!("/records/{}", at + 1), LockScope::Exclusive).await);
    }
    _ = locks.acquire(LockRequest::shared("/records/5").principal("eve")).await.unwrap();
    _ = locks.acquire(LockRequest::shared("/records/5").principal("ben")).await.unwrap();
    lock(&locks, "/records/7", Depth::Zero).await;

    // As many as are taken at once.
    let many: Vec<String> = (1_000..2_000).map(|id| id.to_string()).collect();
    let many = bulk_to("/others", &ids(many.iter().map(String::as_str)));
    assert_eq!(send(&mut saving(&BatchLayer::new(locks.clone(), Records), &Seen::default()), many).await.status, 200);
    let asked = store.calls(Call::Admit);

    // Everything is named, and nothing is registered.
    let seen = Seen::default();
    let whole = BatchLayer::new(locks.clone(), Records);
    let tokens: String = mine.iter().map(|token| format!("<{}> ", token.urn())).collect();
    // The first list holds; the tokens of the second count as submitted all the same.
    let held = format!("</records/1> (<{}>) ({tokens})", mine[0].urn());
    let ask = |records| by(with(bulk(records), "if", &held), "ann");
    let refused = send(&mut saving(&whole, &seen), ask(&all)).await;
    assert_eq!((refused.status.as_u16(), store.calls(Call::Admit)), (423, asked + 1), "{}", refused.text());
    let items: Vec<u64> =
        refused.json()["items"].as_array().unwrap().iter().map(|item| item["index"].as_u64().unwrap()).collect();
    let expected: Vec<u64> = (0..200).filter(|at| at % 20 == 0 || [5, 7].contains(at)).collect();
    assert_eq!((items, refused.json()["locks"].as_array().unwrap().len()), (expected.clone(), 13));

    // The others are done, in two questions.
    let some = whole.clone().forward_unlocked();
    let merged = send(&mut saving(&some, &seen), ask(&all)).await;
    assert_eq!((merged.status.as_u16(), store.calls(Call::Admit), seen.all()[0].len()), (200, asked + 3, 200 - 12));
    for at in 0..200u64 {
        let refused = expected.contains(&at).then_some("locked");
        assert_eq!(merged.json()[at as usize]["refused"].as_str(), refused, "{at}");
    }

    // A false condition, also of one who has lost the lock.
    let lost = mine.pop().unwrap();
    locks.release(lost).await.unwrap();
    for ask in [
        tagged(bulk(&all), "/records/181", lost),
        with(bulk(&all), "lock-token", format!("<{}>", lost.urn())),
        with(bulk(&ids(["2"])), "lock-token", format!("<{}>", mine[0].urn())),
    ] {
        let answer = send(&mut saving(&some, &seen), by(ask, "ann")).await;
        assert_eq!((answer.status.as_u16(), answer.code().as_str()), (412, "lock_lost"));
    }
    let dropped = json!([{"id": "1", "after": [1]}, {"id": "0"}, {"id": "2"}]);
    let ask = with(bulk(&dropped), "lock-token", format!("<{}>", mine[0].urn()));
    let answer = send(&mut saving(&some, &seen), by(ask, "ann")).await;
    assert_eq!((answer.status.as_u16(), seen.all()[1].as_slice()), (200, ["2".to_owned()].as_slice()), "{}", answer.text());

    // What is gone takes its lock along; what is not done does not.
    let done = r#"[{"done": true}, {"done": false}]"#;
    let mut service = answering(&some, move || crate::records::answer(StatusCode::OK, done));
    let records = json!([{"id": "1", "delete": true}, {"id": "21", "delete": true}, {"id": "0", "delete": true}]);
    let held = format!("</records/1> (<{}>) (<{}>)", mine[0].urn(), mine[1].urn());
    let answer = send(&mut service, by(with(bulk(&records), "if", held), "ann")).await;
    assert_eq!(answer.json()[2]["refused"], "locked", "{}", answer.text());
    assert!(locks.release(mine[0]).await.unwrap().is_none(), "gone with its record");
    assert!(locks.release(mine[1]).await.unwrap().is_some(), "its record was not removed");

    // An acquire waits for the handler of what was forwarded, and for nothing else.
    let hub = locks.clone();
    let inner = probe(move |_: Request<RequestBody<Text>>| {
        let hub = hub.clone();
        async move {
            let at_once =
                |path: &str| hub.acquire(LockRequest::exclusive(path.to_owned()).draining(std::time::Duration::ZERO));
            assert_eq!(at_once("/records/150").await.unwrap_err().status(), 409, "it is being written");
            let _granted = at_once("/records/left-out").await.expect("it is not");
            Ok::<_, ProbeError>(crate::records::answer(StatusCode::OK, r#"[{"done": true}]"#))
        }
    });
    let mut service = some.layer(inner);
    let records = json!([{"id": "150"}, {"id": "left-out", "after": [2]}, {"id": "0"}]);
    assert_eq!(send(&mut service, by(bulk(&records), "ann")).await.status, 200);
    let _granted = locks.acquire(LockRequest::exclusive("/records/151")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory() {
    bulk_writes_are_guarded_item_by_item(Arc::new(MemoryStore::new())).await;
}

#[cfg(all(unix, feature = "redis"))]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis() {
    let server = crate::support::engines::RedisServer::shared();
    let name = uuid::Uuid::new_v4().to_string();
    let store = tower_lock::store::RedisStore::builder(&server.url()).namespace(&name).time_limit(PATIENCE);
    let store = store.build().expect("a sound URL");
    bulk_writes_are_guarded_item_by_item(Arc::new(store)).await;
}

#[cfg(all(unix, feature = "postgres"))]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres() {
    let server = crate::support::engines::PostgresServer::shared();
    let name = uuid::Uuid::new_v4().to_string();
    let store = tower_lock::store::PostgresStore::builder(&server.url()).namespace(&name).time_limit(PATIENCE);
    let store = store.build().expect("a sound URL");
    store.migrate().await.expect("the schema is made");
    bulk_writes_are_guarded_item_by_item(Arc::new(store)).await;
}
