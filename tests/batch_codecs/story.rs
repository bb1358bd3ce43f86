//! The nightly job: a bulk write of records of which some are under review, against a service with axum.

use http::Method;
use serde_json::{Value, json};
use tower_lock::{
    Depth, LockKind, LockRequest, LockScope, MemoryStore, Owner, ResourceKey,
    batch::{BatchLayer, ResponsesBatch, VaultBatch, Verdicts},
    lock::KeyError,
    locks::Checked,
};

use super::site::{Site, bulk};
use crate::support::{Answer, by, lock_for, request, with};

const CAPA: &str = "/api/v23.2/objects/capa__c";

fn records(ids: impl IntoIterator<Item = usize>) -> Value {
    ids.into_iter().map(|id| json!({"id": format!("V{id}"), "state__v": "closed"})).collect()
}

/// Puts a record under review.
async fn review(site: &Site, id: &str) -> Value {
    let request = LockRequest::exclusive(format!("{CAPA}/{id}"))
        .principal("qa")
        .owner(Owner::id("u-17").named("QA"))
        .kind(LockKind::Job)
        .reason("under review");
    let granted = site.locks.acquire(request).await.expect("it is free");
    json!(granted.lock().id())
}

fn statuses(answer: &Answer) -> Vec<String> {
    let results = answer.json()["data"].as_array().unwrap_or_else(|| panic!("no results: {answer:?}")).clone();
    results.iter().map(|result| result["responseStatus"].as_str().expect("a status").to_owned()).collect()
}

#[tokio::test]
async fn some_under_review_refuse_the_nightly_job_with_every_blocker() {
    let site = Site::new(|locks| BatchLayer::new(locks, VaultBatch::new()));
    let ids = [review(&site, "V1").await, review(&site, "V3").await];
    let refused = site.bulk("job", "PUT", CAPA, &records(0..5)).await;
    assert_eq!((refused.status.as_u16(), refused.header("content-type")), (423, Some("application/problem+json")));
    let body = refused.json();
    assert_eq!((&body["code"], body["locks"].as_array().unwrap().len()), (&json!("locked"), 2));
    assert!(refused.header("retry-after").is_some() && body["retry_after"].is_u64(), "{body}");
    let items = body["items"].as_array().unwrap();
    for (item, (index, lock_id)) in items.iter().zip([(1, &ids[0]), (3, &ids[1])]) {
        assert_eq!(item["index"], index);
        assert_eq!(
            (&item["name"], &item["status"], &item["code"]),
            (&json!(format!("V{index}")), &json!(423), &json!("locked"))
        );
        assert_eq!((&item["resource"], &item["lock_ids"]), (&json!(format!("{CAPA}/V{index}")), &json!([lock_id])));
    }
    assert_eq!((items.len(), site.seen().len()), (2, 0));

    // With those left out that are named, it goes through.
    let done = site.bulk("job", "PUT", CAPA, &records([0, 2, 4])).await;
    assert_eq!((done.status.as_u16(), statuses(&done)), (200, vec!["SUCCESS".to_owned(); 3]));
    assert_eq!(site.seen(), [(Method::PUT, vec![json!("V0"), json!("V2"), json!("V4")])]);
}

#[tokio::test]
async fn the_others_are_done_and_each_refused_record_says_who_until_when_and_when_to_ask_again() {
    let site = Site::new(|locks| BatchLayer::new(locks, VaultBatch::new()).forward_unlocked());
    let ids = [review(&site, "V0").await, review(&site, "V3").await];
    let mut body = records(0..5);
    body[4]["fails"] = json!(true);
    let answer = site.bulk("job", "PUT", CAPA, &body).await;
    assert_eq!((answer.status.as_u16(), answer.header("cache-control")), (200, Some("no-store")));
    assert_eq!(statuses(&answer), ["FAILURE", "SUCCESS", "SUCCESS", "FAILURE", "FAILURE"]);
    assert_eq!(site.seen(), [(Method::PUT, vec![json!("V1"), json!("V2"), json!("V4")])]);
    let told = answer.json();
    assert_eq!((&told["responseStatus"], &told["data"][2]["data"]["id"]), (&json!("SUCCESS"), &json!("V2")));
    assert_eq!(told["data"][4]["errors"][0]["type"], "INVALID_DATA", "the service's own word");
    for (at, lock_id) in [(0, &ids[0]), (3, &ids[1])] {
        let error = &told["data"][at]["errors"][0];
        assert_eq!((&error["type"], &error["lock_id"]), (&json!("RECORD_LOCKED"), lock_id));
        assert_eq!((&error["owner"], &error["reason"]), (&json!({"id": "u-17", "name": "QA"}), &json!("under review")));
        assert_eq!(error["resource"], format!("{CAPA}/V{at}"));
        assert!(error["expires_at"].as_str().is_some_and(|time| time.ends_with('Z')), "{error}");
        assert!(error["retry_after"].as_u64().is_some_and(|seconds| (1..=900).contains(&seconds)), "{error}");
        let message = error["message"].as_str().unwrap();
        assert!(message.starts_with(&format!("{CAPA}/V{at} is locked by QA (under review) until ")), "{message}");
    }
}

#[tokio::test]
async fn where_all_are_refused_the_service_is_not_called() {
    let site = Site::new(|locks| BatchLayer::new(locks, VaultBatch::new()).forward_unlocked());
    for id in ["V0", "V1"] {
        review(&site, id).await;
    }
    let answer = site.bulk("job", "DELETE", CAPA, &records(0..2)).await;
    assert_eq!((answer.status.as_u16(), statuses(&answer)), (200, vec!["FAILURE".to_owned(); 2]));
    assert_eq!((site.seen(), answer.header("content-type")), (vec![], Some("application/json")));
}

#[tokio::test]
async fn the_holder_writes_the_records_under_review_in_bulk() {
    let site = Site::new(|locks| BatchLayer::new(locks, VaultBatch::new()));
    let token = lock_for(&site.locks, "qa", &format!("{CAPA}/V1"), LockScope::Exclusive).await;
    let body = records(0..3);
    assert_eq!(site.bulk("qa", "PUT", CAPA, &body).await.status, 423, "the token is missing");
    // An untagged list would be about what the request is sent to (RFC 4918 section 10.4.2).
    for (name, value) in [("lock-token", format!("<{}>", token.urn())), ("if", format!("<{CAPA}/V1> (<{}>)", token.urn()))] {
        assert_eq!(site.send(with(bulk("qa", "PUT", CAPA, &body), name, &value)).await.status, 200, "{name}");
        let stranger = site.send(with(bulk("eve", "PUT", CAPA, &body), name, &value)).await;
        assert!(matches!(stranger.status.as_u16(), 412 | 423), "{name}: {stranger:?}");
    }
}

#[tokio::test]
async fn a_record_that_is_made_has_no_lock_but_its_collection_may_have_one() {
    let site = Site::new(|locks| BatchLayer::new(locks, VaultBatch::new()).forward_unlocked());
    review(&site, "V1").await;
    let new = json!([{"name": "x"}, {"id": "V1"}, {"name": "y"}]);
    assert_eq!(statuses(&site.bulk("job", "POST", CAPA, &new).await), ["SUCCESS", "FAILURE", "SUCCESS"]);
    let _all = site.locks.acquire(LockRequest::exclusive(CAPA).depth(Depth::Zero).principal("qa")).await.unwrap();
    let refused = site.bulk("job", "POST", CAPA, &json!([{"name": "x"}])).await;
    assert_eq!((refused.status.as_u16(), refused.code().as_str()), (423, "locked"), "in every mode");
}

#[tokio::test]
async fn a_bulk_delete_leaves_other_records_alone_and_ends_the_locks_of_those_that_are_gone() {
    let site = Site::new(|locks| BatchLayer::new(locks, VaultBatch::new()).forward_unlocked());
    let others = format!("{CAPA}/V9");
    lock_for(&site.locks, "qa", &others, LockScope::Exclusive).await;
    let mut tokens = Vec::new();
    for id in ["V0", "V1"] {
        tokens.push(lock_for(&site.locks, "job", &format!("{CAPA}/{id}"), LockScope::Exclusive).await);
    }
    let mut body = records([0, 1, 2, 9]);
    body[1]["fails"] = json!(true);
    let conditions = format!("<{CAPA}/V0> (<{}>) <{CAPA}/V1> (<{}>)", tokens[0].urn(), tokens[1].urn());
    let answer = site.send(with(bulk("job", "DELETE", CAPA, &body), "if", conditions)).await;
    assert_eq!(statuses(&answer), ["SUCCESS", "FAILURE", "SUCCESS", "FAILURE"]);
    let keys = ["V0", "V1", "V2", "V9"].map(|id| ResourceKey::from_canonical(format!("{CAPA}/{id}")));
    let left: Vec<bool> = site.locks.check(&keys).await.unwrap().iter().map(Checked::is_locked).collect();
    assert_eq!(left, [false, true, false, true], "what was done is gone; what failed, and what was refused, is not");
}

#[tokio::test]
async fn five_hundred_records_are_one_request_and_one_more_is_too_many() {
    let site = Site::new(|locks| BatchLayer::new(locks, VaultBatch::new()).forward_unlocked());
    for id in (0..500).step_by(10) {
        review(&site, &format!("V{id}")).await;
    }
    let answer = site.bulk("job", "PUT", CAPA, &records(0..500)).await;
    let expected: Vec<&str> = (0..500).map(|id| if id % 10 == 0 { "FAILURE" } else { "SUCCESS" }).collect();
    assert_eq!(statuses(&answer), expected);
    let told = answer.json();
    for id in 0..500 {
        let result = &told["data"][id];
        match id % 10 {
            0 => assert_eq!(result["errors"][0]["resource"], format!("{CAPA}/V{id}")),
            _ => assert_eq!(result["data"]["id"], format!("V{id}")),
        }
    }
    assert_eq!(site.seen()[0].1.len(), 450);
    let refused = site.bulk("job", "PUT", CAPA, &records(0..501)).await;
    assert_eq!((refused.status.as_u16(), refused.code().as_str()), (413, "content_too_large"));
    assert!(site.seen().is_empty());
}

#[tokio::test]
async fn a_record_that_stands_twice_is_answered_twice() {
    let site = Site::new(|locks| BatchLayer::new(locks, VaultBatch::new()).forward_unlocked());
    review(&site, "V1").await;
    let answer = site.bulk("job", "PUT", CAPA, &records([1, 0, 1, 0])).await;
    assert_eq!(statuses(&answer), ["FAILURE", "SUCCESS", "FAILURE", "SUCCESS"]);
    assert_eq!(answer.json()["data"][0], answer.json()["data"][2]);
    assert_eq!(site.seen()[0].1.len(), 2, "what the service makes of two is its own affair");
}

#[tokio::test]
async fn wrong_shapes_reach_no_service() {
    let site = Site::new(|locks| BatchLayer::new(locks, VaultBatch::new()).forward_all());
    review(&site, "V1").await;
    for (body, status) in [
        ("", 400),
        ("[", 400),
        (r#"{"id":"V1"}"#, 400),
        (r#"[{"id":"V2","ID":"V1"}]"#, 400),
        (r#"[{"id":"V2","id":"V1"}]"#, 400),
        (r#"[{"id":"../capa__c/V1"}]"#, 400),
        (r#"[{"id":" V1"}]"#, 400),
        ("\u{feff}[{\"id\":\"V1\"}]", 400),
    ] {
        let mut request = bulk("job", "PUT", CAPA, &Value::Null);
        *request.body_mut() = body.to_owned().into();
        assert_eq!(site.send(request).await.status, status, "{body}");
    }
    for (name, value, status) in [
        ("content-type", "text/csv", 415),
        ("content-type", "application/json; charset=utf-16", 415),
        ("content-encoding", "gzip", 415),
        ("x-http-method-override", "DELETE", 400),
    ] {
        let mut request = bulk("job", "POST", CAPA, &records([1]));
        request.headers_mut().insert(name, value.parse().unwrap());
        assert_eq!(site.send(request).await.status, status, "{name}: {value}");
    }
    assert_eq!(site.bulk("job", "PUT", &format!("{CAPA}?idParam=name__v"), &records([1])).await.status, 400);
    assert_eq!(site.bulk("job", "MERGE", CAPA, &records([1])).await.status, 400);
    assert!(site.seen().is_empty());
}

#[tokio::test]
async fn no_spelling_of_the_path_or_of_an_id_is_a_way_round() {
    let site = Site::new(|locks| BatchLayer::new(locks, VaultBatch::new()).forward_unlocked());
    lock_for(&site.locks, "qa", &format!("{CAPA}/7"), LockScope::Exclusive).await;
    for target in [CAPA, "/api/v23.2/objects/capa%5F_c", "/api/v23.2/objects/capa__c?x"] {
        for record in [r#"{"id":"7"}"#, r#"{"id":7}"#, r#"{"\u0069d":"\u0037"}"#] {
            let mut request = bulk("job", "PUT", target, &Value::Null);
            *request.body_mut() = format!("[{record},{{\"id\":8}}]").into();
            let answer = site.send(request).await;
            assert_eq!(statuses(&answer), ["FAILURE", "SUCCESS"], "{target} {record}");
        }
    }
    assert!(site.seen().iter().all(|(_, ids)| *ids == [json!(8)]));
    // What is no bulk write is guarded as ever.
    assert_eq!(site.send(by(request("PUT", &format!("{CAPA}/7")), "job")).await.status, 423);
    assert_eq!(site.send(by(request("PUT", &format!("{CAPA}/8")), "job")).await.status, 200);
    assert_eq!(site.send(by(request("GET", &format!("{CAPA}/7")), "job")).await.status, 200);
}

#[tokio::test]
async fn several_paths_to_a_record_are_one_where_the_resolver_says_so() {
    let site = Site::with(
        |builder| {
            builder.keys_fn(|ask| {
                let key = ResourceKey::parse(ask.path)?;
                match key.path().split('/').collect::<Vec<_>>()[1..] {
                    ["records", ..] => Ok(key.clone().into()),
                    ["api", _, "objects" | "vobjects", object, id] => {
                        // Ids are numbers to this service.
                        let id: u64 = id.parse().map_err(|_| KeyError::Unresolved)?;
                        Ok(ResourceKey::from_canonical(format!("/records/{object}/{id}")).into())
                    }
                    ["api", _, "objects" | "vobjects", object] => {
                        Ok(ResourceKey::from_canonical(format!("/records/{object}")).into())
                    }
                    _ => Err(KeyError::Unresolved),
                }
            })
        },
        |locks| BatchLayer::new(locks, VaultBatch::new()).forward_unlocked(),
    );
    let locked = request("PUT", "/locks/api/v24.1/vobjects/capa__c/7");
    assert_eq!(site.send(by(locked, "qa")).await.status, 201);
    for target in [CAPA, "/api/v24.1/vobjects/capa__c", "/api/v99/vobjects/capa__c/"] {
        let answer = site.bulk("job", "PUT", target, &json!([{"id": 7}, {"id": "8"}])).await;
        if answer.status == 200 {
            assert_eq!(statuses(&answer), ["FAILURE", "SUCCESS"], "{target}");
            assert_eq!(answer.json()["data"][0]["errors"][0]["resource"], "/records/capa__c/7");
        } else {
            // axum knows no path with a slash at its end.
            assert_eq!((answer.status.as_u16(), target.ends_with('/')), (404, true));
        }
    }
}

#[tokio::test]
async fn a_prefix_that_a_router_strips_is_no_way_round() {
    for (prefix, rest) in
        [("/vault", "/api/v23.2/objects"), ("/vault/api", "/v23.2/objects"), ("/vault/api/v23.2", "/objects")]
    {
        let keys = tower_lock::KeyRules::new().prefix(prefix);
        let locks = crate::support::locks_of_users(MemoryStore::new()).keys_by(keys).build();
        let inner = axum::Router::new()
            .route(&format!("{rest}/{{object}}"), axum::routing::any(async || "done"))
            .layer(BatchLayer::new(locks.clone(), VaultBatch::new()));
        let mut app = axum::Router::new().nest(prefix, inner);
        lock_for(&locks, "qa", &format!("/vault{CAPA}/V1"), LockScope::Exclusive).await;
        let target = format!("/vault{CAPA}");
        let mut write = async |id| crate::support::send(&mut app, bulk("job", "PUT", &target, &records([id]))).await;
        assert_eq!(write(1).await.status, 423, "{prefix}");
        assert_eq!(write(2).await.status, 200, "{prefix}");
    }
}

#[tokio::test]
async fn the_service_is_told_the_verdicts_where_everything_is_forwarded() {
    let locks = crate::support::locks_of_users(MemoryStore::new()).build();
    let told = async |verdicts: axum::Extension<Verdicts>| format!("{:?}", verdicts.admitted().collect::<Vec<_>>());
    let mut app = axum::Router::new()
        .route("/api/{version}/objects/{object}", axum::routing::any(told))
        .layer(BatchLayer::new(locks.clone(), VaultBatch::new()).forward_all());
    lock_for(&locks, "qa", &format!("{CAPA}/V1"), LockScope::Exclusive).await;
    let answer = crate::support::send(&mut app, bulk("job", "PUT", CAPA, &records(0..3))).await;
    assert_eq!((answer.status.as_u16(), answer.text()), (200, "[0, 2]"));
}

#[tokio::test]
async fn what_depends_on_a_refused_item_is_424_however_far_away() {
    let site = Site::new(|locks| BatchLayer::new(locks, ResponsesBatch::at(["/records"])).forward_unlocked());
    lock_for(&site.locks, "qa", "/records/a", LockScope::Exclusive).await;
    let body = json!([
        {"id": "d", "dependsOn": ["c", "x"]},
        {"id": "x"},
        {"id": "c", "dependsOn": "b"},
        {"id": "b", "dependsOn": ["a"]},
        {"id": "a"},
        {"id": "p", "dependsOn": "q"},
        {"id": "q", "dependsOn": "p"},
        {"id": "r", "dependsOn": ["a", "s"]},
        {"id": "s", "dependsOn": "r"},
    ]);
    let answer = site.bulk("job", "PUT", "/records", &body).await;
    assert_eq!(answer.status, 207);
    let told = answer.json();
    let each: Vec<(&str, u64)> = told["responses"]
        .as_array()
        .unwrap()
        .iter()
        .map(|result| (result["id"].as_str().unwrap(), result["status"].as_u64().unwrap()))
        .collect();
    let expected =
        [("d", 424), ("x", 204), ("c", 424), ("b", 424), ("a", 423), ("p", 204), ("q", 204), ("r", 424), ("s", 424)];
    assert_eq!(each, expected);
    assert_eq!(told["responses"][0]["body"]["code"], "failed_dependency");
    assert_eq!(told["responses"][4]["body"]["locks"][0]["owner"]["id"], "qa");
    assert_eq!(site.seen(), [(Method::PUT, vec![json!("x"), json!("p"), json!("q")])]);
}

#[tokio::test]
async fn of_a_group_all_are_done_or_none() {
    let site = Site::new(|locks| BatchLayer::new(locks, ResponsesBatch::at(["/records"])).forward_unlocked());
    lock_for(&site.locks, "qa", "/records/b", LockScope::Exclusive).await;
    let grouped = |id: &str, group: &str| json!({"id": id, "atomicityGroup": group});
    let body = json!([grouped("a", "g"), grouped("x", "h"), grouped("b", "g"), grouped("c", "g"), grouped("y", "h")]);
    let answer = site.bulk("job", "PUT", "/records", &body).await.json();
    let statuses: Vec<&Value> = answer["responses"].as_array().unwrap().iter().map(|result| &result["status"]).collect();
    assert_eq!(statuses, [424, 204, 423, 424, 204]);
    assert_eq!(site.seen(), [(Method::PUT, vec![json!("x"), json!("y")])]);
}

#[tokio::test]
async fn an_answer_that_cannot_be_merged_says_what_was_refused() {
    let locks = crate::support::locks_of_users(MemoryStore::new()).build();
    let mut app = axum::Router::new()
        .route("/api/{version}/objects/{object}", axum::routing::any(async || "done"))
        .layer(BatchLayer::new(locks.clone(), VaultBatch::new()).forward_unlocked());
    lock_for(&locks, "qa", &format!("{CAPA}/V1"), LockScope::Exclusive).await;
    let answer = crate::support::send(&mut app, bulk("job", "PUT", CAPA, &records(0..3))).await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (500, "unreadable_answer"));
    assert_eq!(answer.json()["items"][0]["index"], 1);
}
