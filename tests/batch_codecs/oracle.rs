//! A record in a bulk write fares as it would alone: random locks, random records, held beside a `LockLayer`.

use std::cell::Cell;

use http::{Request, Response, StatusCode};
use proptest::{collection::vec, prelude::*, sample::select, test_runner::TestRunner};
use serde_json::{Value, json};
use tower::{Service, ServiceExt};
use tower_lock::{
    Depth, HolderProof, LockLayer, LockRequest, LockScope, Locks,
    batch::{BatchLayer, ResponsesBatch, VaultBatch},
};

use super::site::Site;
use crate::support::{ProbeError, Text, User, request};

const CAPA: &str = "/api/v23.2/objects/capa__c";
const USERS: [&str; 3] = ["ann", "ben", "eve"];

/// A lock that somebody may hold.
#[derive(Clone, Debug)]
struct Held {
    path: String,
    depth: Depth,
    scope: LockScope,
    user: &'static str,
}

/// What is above a record; most locks are on records, or below.
const ABOVE: [&str; 4] = ["", "/..", "/../capa__c", "/../x"];

fn held(collection: &'static str) -> impl Strategy<Value = Held> {
    let record = (0..5_u32).prop_map(|id| format!("/{id}"));
    let below = (0..5_u32).prop_map(|id| format!("/{id}/x"));
    let path = prop_oneof![8 => record, 2 => below, 1 => select(ABOVE.to_vec()).prop_map(str::to_owned)];
    let path = path.prop_map(move |rest| {
        // As a client would have resolved it.
        let mut segments = Vec::new();
        for segment in format!("{collection}{rest}").split('/').filter(|segment| !segment.is_empty()) {
            match segment {
                ".." => _ = segments.pop(),
                segment => segments.push(segment.to_owned()),
            }
        }
        format!("/{}", segments.join("/"))
    });
    let depth = select(vec![Depth::Zero, Depth::Infinity]);
    let scope = prop_oneof![7 => Just(LockScope::Exclusive), 1 => Just(LockScope::Shared)];
    (path, depth, scope, select(USERS[..2].to_vec())).prop_map(|(path, depth, scope, user)| Held {
        path,
        depth,
        scope,
        user,
    })
}

async fn acquire(locks: &Locks, all: &[Held]) {
    for Held { path, depth, scope, user } in all {
        let request = match scope {
            LockScope::Exclusive => LockRequest::exclusive(path.as_str()),
            LockScope::Shared => LockRequest::shared(path.as_str()),
        };
        // Some are in each other's way.
        _ = locks.acquire(request.depth(*depth).principal(*user)).await;
    }
}

/// What becomes of one write alone. It is accepted, so that no lock goes with what it removes.
async fn alone(locks: &Locks, user: &'static str, method: &str, path: &str) -> StatusCode {
    let accepted = async |_: Request<Text>| {
        Ok::<_, ProbeError>(Response::builder().status(202).body(Text::default()).expect("an answer"))
    };
    let mut guarded = tower::ServiceBuilder::new().layer(LockLayer::new(locks.clone())).service_fn(accepted);
    let mut request = request(method, path);
    request.extensions_mut().insert(User(user));
    guarded.ready().await.expect("ready").call(request).await.expect("an answer").status()
}

/// What a bulk write of `ids` is told of each, or the status of a refusal of the whole.
fn told(status: StatusCode, body: &Value) -> Result<Vec<bool>, u16> {
    let results = body["data"].as_array().or(body["responses"].as_array());
    let Some(results) = results else { return Err(status.as_u16()) };
    Ok(results.iter().map(|result| result["responseStatus"] == "SUCCESS" || result["status"] == 204).collect())
}

#[test]
fn a_record_in_bulk_fares_as_it_would_alone() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let principal = |builder: tower_lock::LocksBuilder| builder.holder_proof(HolderProof::Principal);
    let (mixed, whole) = (Cell::new(0_usize), Cell::new(0_usize));
    let config = ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() };
    for collection in [CAPA, "/records"] {
        let all = (
            vec(held(collection), 0..6),
            vec(0..6_u32, 1..7),
            select(vec!["PUT", "POST", "PATCH", "DELETE"]),
            select(USERS.to_vec()),
        );
        let outcome = TestRunner::new(config.clone()).run(&all, |(held, ids, method, user)| {
            runtime.block_on(async {
                for forwards in [true, false] {
                    let site = match (collection, forwards) {
                        (CAPA, true) => {
                            Site::with(principal, |locks| BatchLayer::new(locks, VaultBatch::new()).forward_unlocked())
                        }
                        (CAPA, false) => Site::with(principal, |locks| BatchLayer::new(locks, VaultBatch::new())),
                        (_, true) => Site::with(principal, |locks| {
                            BatchLayer::new(locks, ResponsesBatch::at(["/records"])).forward_unlocked()
                        }),
                        (_, false) => {
                            Site::with(principal, |locks| BatchLayer::new(locks, ResponsesBatch::at(["/records"])))
                        }
                    };
                    acquire(&site.locks, &held).await;
                    let may_write = alone(&site.locks, user, "PUT", collection).await == 202;
                    let mut each = Vec::new();
                    for id in &ids {
                        each.push(alone(&site.locks, user, method, &format!("{collection}/{id}")).await == 202);
                    }
                    let body: Value = ids.iter().map(|id| json!({ "id": id })).collect();
                    let answer = site.bulk(user, method, collection, &body).await;
                    let expected = match (may_write, forwards, each.iter().all(|done| *done)) {
                        (true, true, _) | (true, false, true) => Ok(each.clone()),
                        _ => Err(423),
                    };
                    if expected.is_err() {
                        whole.set(whole.get() + 1);
                    } else if each.contains(&true) && each.contains(&false) {
                        mixed.set(mixed.get() + 1);
                    }
                    let told = told(answer.status, &answer.json());
                    let sent: Vec<Value> = site.seen().into_iter().flat_map(|(_, ids)| ids).collect();
                    let left = |done: &[bool]| -> Vec<Value> {
                        ids.iter().zip(done).filter(|(_, done)| **done).map(|(id, _)| json!(id)).collect()
                    };
                    prop_assert_eq!(
                        &sent,
                        &left(told.as_deref().unwrap_or_default()),
                        "as the client is told, so it was done"
                    );
                    if held.iter().all(|held| held.scope == LockScope::Exclusive) {
                        prop_assert_eq!(told, expected);
                    } else {
                        // One shared lock answers for another only where it covers all of the request that this one does.
                        prop_assert!(sent.is_empty() || may_write);
                        prop_assert!(sent.iter().all(|sent| left(&each).contains(sent)), "{sent:?} of {each:?}");
                    }
                }
                Ok(())
            })
        });
        outcome.unwrap();
    }
    // Enough of both kinds, or the test shows nothing.
    assert!(mixed.get() > 50 && whole.get() > 50, "{} mixed, {} whole", mixed.get(), whole.get());
}
