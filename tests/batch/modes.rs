//! The three modes: what the service gets, and what the client is told.

use serde_json::json;
use tower_layer::Layer;
use tower_lock::{BatchLayer, Depth, LockScope, MemoryStore, batch::RequestBody};

use crate::{
    records::{Records, Seen, bulk, ids},
    support::{Text, by, holding, lock, lock_for, locks_of_users, probe, request, send},
};

#[tokio::test]
async fn one_locked_record_refuses_all_and_is_named() {
    let locks = locks_of_users(MemoryStore::new()).build();
    let seen = Seen::default();
    let saved = seen.clone();
    let inner = probe(move |request: http::Request<RequestBody<Text>>| saved.clone().save(request));
    let mut service = BatchLayer::new(locks.clone(), Records).layer(inner);
    let token = lock_for(&locks, "ann", "/records/2", LockScope::Exclusive).await;
    let refused = send(&mut service, by(bulk(&ids(["1", "2", "3"])), "ben")).await;
    assert_eq!((refused.status.as_u16(), refused.code().as_str()), (423, "locked"));
    let body = refused.json();
    assert_eq!(body["items"].as_array().unwrap().len(), 1, "{body}");
    assert_eq!(body["items"][0]["index"], 1);
    assert_eq!(body["items"][0]["name"], "2");
    assert_eq!(body["items"][0]["resource"], "/records/2");
    assert_eq!(body["locks"].as_array().unwrap().len(), 1);
    assert_eq!(seen.count(), 0);
    let done = send(&mut service, by(holding(bulk(&ids(["1", "2", "3"])), token), "ann")).await;
    assert_eq!(done.status, 412, "a list without a tag is about what the request is sent to");
    let tagged = crate::support::with(bulk(&ids(["1", "2", "3"])), "if", format!("</records/2> (<{}>)", token.urn()));
    let done = send(&mut service, by(tagged, "ann")).await;
    assert_eq!(done.status, 200, "{}", done.text());
    assert_eq!(seen.all(), [["1", "2", "3"]]);
    assert_eq!(send(&mut service, request("GET", "/records/2")).await.status, 200);
    assert_eq!(send(&mut service, request("PUT", "/records/2")).await.status, 423);
}

#[tokio::test]
async fn the_service_gets_exactly_the_others_and_the_refusals_stand_at_their_positions() {
    let locks = locks_of_users(MemoryStore::new()).build();
    let seen = Seen::default();
    let saved = seen.clone();
    let inner = probe(move |request: http::Request<RequestBody<Text>>| saved.clone().save(request));
    let mut service = BatchLayer::new(locks.clone(), Records).forward_unlocked().layer(inner);
    for id in ["0", "2", "5"] {
        lock(&locks, &format!("/records/{id}"), Depth::Infinity).await;
    }
    let answer = send(&mut service, bulk(&ids(["0", "1", "2", "3", "4", "5"]))).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(seen.all(), [["1", "3", "4"]]);
    let each = answer.json();
    for (at, expected) in [None, Some("1"), None, Some("3"), Some("4"), None].into_iter().enumerate() {
        match expected {
            Some(id) => assert_eq!(each[at], json!({ "id": id, "done": true })),
            None => assert_eq!(each[at]["refused"], "locked"),
        }
    }
}
