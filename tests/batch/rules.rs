//! By which rules items are refused: tokens and conditions, depth, kinds, dependants, demands, what strangers see.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tower_lock::{
    Access, Action, Authorizer, BatchLayer, Depth, HolderProof, KeyRules, LockKind, LockLayer, LockRequest, LockScope,
    Locks, MemoryStore, locks::AuthorizeAsk,
};

use crate::{
    records::{Records, Seen, bulk, bulk_to, ids, modes, saving, tagged},
    support::{Call, Rigged, by, holding, lock, lock_for, locks_of_users, send, with},
};

fn forwarding(locks: &Locks) -> BatchLayer<Records> {
    BatchLayer::new(locks.clone(), Records).forward_unlocked()
}

/// What the merged answer says of each item: the code of its refusal, or `done`.
fn said(answer: &crate::support::Answer) -> Vec<String> {
    assert_eq!(answer.status, 200, "{}", answer.text());
    let each = answer.json();
    let said = |item: &Value| item["refused"].as_str().unwrap_or("done").to_owned();
    each.as_array().expect("a list").iter().map(said).collect()
}

#[tokio::test]
async fn a_holders_token_answers_for_its_items_and_nobody_elses_does() {
    for (_, proof) in [("token and principal", HolderProof::TokenAndPrincipal), ("token", HolderProof::Token)] {
        let anybody = matches!(proof, HolderProof::Token);
        let locks = locks_of_users(MemoryStore::new()).holder_proof(proof).build();
        let mut service = saving(&forwarding(&locks), &Seen::default());
        let one = lock_for(&locks, "ann", "/records/1", LockScope::Exclusive).await;
        lock_for(&locks, "ann", "/records/2", LockScope::Exclusive).await;
        let ask = || tagged(bulk(&ids(["1", "2", "3"])), "/records/1", one);
        assert_eq!(said(&send(&mut service, by(ask(), "ann")).await), ["done", "locked", "done"]);
        let theirs = if anybody { ["done", "locked", "done"] } else { ["locked", "locked", "done"] };
        assert_eq!(said(&send(&mut service, by(ask(), "ben")).await), theirs);
        assert_eq!(said(&send(&mut service, by(bulk(&ids(["1", "2", "3"])), "ann")).await), ["locked", "locked", "done"]);
    }
}

#[tokio::test]
async fn a_false_condition_refuses_the_whole_in_every_mode() {
    let locks = locks_of_users(MemoryStore::new()).build();
    let lost = lock_for(&locks, "ann", "/records/9", LockScope::Exclusive).await;
    locks.release(lost).await.unwrap();
    let elsewhere = lock_for(&locks, "ann", "/others/1", LockScope::Exclusive).await;
    lock_for(&locks, "eve", "/records/2", LockScope::Exclusive).await;
    for (mode, layer) in modes(&locks) {
        let seen = Seen::default();
        let mut service = saving(&layer, &seen);
        for request in [
            tagged(bulk(&ids(["1", "2"])), "/records/9", lost),
            with(bulk(&ids(["1", "2"])), "lock-token", format!("<{}>", lost.urn())),
            with(bulk(&ids(["1", "2"])), "lock-token", format!("<{}>", elsewhere.urn())),
            with(bulk(&ids(["1", "2"])), "if", "(<DAV:no-lock>)"),
            // Of the target itself, which it does not cover.
            holding(bulk(&ids(["1", "2"])), elsewhere),
        ] {
            let answer = send(&mut service, by(request, "ann")).await;
            assert_eq!((answer.status.as_u16(), answer.code().as_str()), (412, "lock_lost"), "{mode}: {}", answer.text());
            assert!(answer.json()["items"].is_null(), "{mode}: it is not about an item");
            assert_eq!(answer.json()["locks"].as_array().unwrap().len(), 1, "{mode}: who blocks is listed all the same");
        }
        assert_eq!(seen.count(), 0, "{mode}");
    }
}

#[tokio::test]
async fn a_lock_token_that_covers_only_what_is_left_out_does_not_fail_the_rest() {
    for proof in [HolderProof::TokenAndPrincipal, HolderProof::Token] {
        let store = Rigged::new(MemoryStore::new());
        let locks = locks_of_users(store.clone()).holder_proof(proof).build();
        let seen = Seen::default();
        let mut service = saving(&forwarding(&locks), &seen);
        let mine = lock_for(&locks, "ann", "/records/1", LockScope::Exclusive).await;
        lock_for(&locks, "eve", "/records/2", LockScope::Exclusive).await;
        // Its own item depends on one that is locked.
        let records = json!([{"id": "1", "after": [1]}, {"id": "2"}, {"id": "3"}]);
        let ask = with(bulk(&records), "lock-token", format!("<{}>", mine.urn()));
        assert_eq!(said(&send(&mut service, by(ask, "ann")).await), ["failed_dependency", "locked", "done"]);
        assert_eq!(seen.all(), [["3"]]);
        // A condition on a record that is left out is still one.
        let ask = tagged(with(bulk(&records), "lock-token", format!("<{}>", mine.urn())), "/records/1", mine);
        assert_eq!(said(&send(&mut service, by(ask, "ann")).await), ["failed_dependency", "locked", "done"]);
    }
}

#[tokio::test]
async fn a_lock_that_is_lost_between_the_questions_fails_the_whole() {
    let store = Rigged::new(MemoryStore::new());
    let locks = locks_of_users(store.clone()).build();
    for covers_the_rest in [true, false] {
        let seen = Seen::default();
        let mut service = saving(&forwarding(&locks), &seen);
        let mine = lock_for(&locks, "ann", "/records/1", LockScope::Exclusive).await;
        let other = lock_for(&locks, "eve", "/records/2", LockScope::Exclusive).await;
        let records =
            if covers_the_rest { ids(["1", "2"]) } else { json!([{"id": "1", "after": [1]}, {"id": "2"}, {"id": "3"}]) };
        store.set(Call::Admit, crate::support::Mode::Gated);
        let (rigged, hub, before) = (store.clone(), locks.clone(), store.calls(Call::Admit));
        let ask = by(with(bulk(&records), "lock-token", format!("<{}>", mine.urn())), "ann");
        let (answer, ()) = tokio::join!(send(&mut service, ask), async move {
            crate::support::until("the first", || rigged.calls(Call::Admit) == before + 1).await;
            hub.release(mine).await.unwrap();
            rigged.set(Call::Admit, crate::support::Mode::Pass);
            rigged.open();
        });
        assert_eq!((answer.status.as_u16(), answer.code().as_str()), (412, "lock_lost"));
        assert_eq!(seen.count(), 0);
        locks.release(other).await.unwrap();
    }
}

#[tokio::test]
async fn a_lock_on_the_collection_refuses_the_whole_in_every_mode() {
    for (root, depth, kind) in [
        ("/records", Depth::Infinity, LockKind::User),
        ("/records", Depth::Zero, LockKind::User),
        ("/", Depth::Infinity, LockKind::User),
        // A POST may make a member of what it is sent to.
        ("/", Depth::Zero, LockKind::User),
        ("/records", Depth::Infinity, LockKind::Freeze),
    ] {
        let locks = locks_of_users(MemoryStore::new()).build();
        let request = LockRequest::exclusive(root).depth(depth).kind(kind.clone()).principal("eve");
        let token = locks.acquire(request).await.unwrap().token();
        for (mode, layer) in modes(&locks) {
            let seen = Seen::default();
            let mut service = saving(&layer, &seen);
            let answer = send(&mut service, by(bulk(&ids(["1", "2"])), "ann")).await;
            let code = if kind == LockKind::Freeze { "frozen" } else { "locked" };
            assert_eq!((answer.status.as_u16(), answer.code().as_str()), (423, code), "{mode}, {root} {depth:?}");
            assert_eq!((&answer.json()["resource"], seen.count()), (&json!("/records"), 0), "{mode}, {root} {depth:?}");
            let held = by(tagged(bulk(&ids(["1", "2"])), root, token), "eve");
            let held = send(&mut service, held).await;
            assert_eq!(held.status, if kind == LockKind::Freeze { 423 } else { 200 }, "{mode}, {root} {depth:?}");
        }
    }
}

#[tokio::test]
async fn an_item_is_refused_by_what_lies_above_it_and_where_it_goes_with_all_below_by_that_too() {
    let locks = locks_of_users(MemoryStore::new()).build();
    let mut service = saving(&forwarding(&locks), &Seen::default());
    lock(&locks, "/x", Depth::Infinity).await;
    lock(&locks, "/y", Depth::Zero).await;
    lock(&locks, "/z/deep/down", Depth::Infinity).await;
    let records = json!([
        {"id": "/x/1"}, {"id": "/x"}, {"id": "/xx"},
        {"id": "/y/1"}, {"id": "/y/1", "new": true}, {"id": "/y/1", "delete": true}, {"id": "/y/1/2", "new": true},
        {"id": "/z/deep"}, {"id": "/z/deep", "delete": true}, {"id": "/z/d", "delete": true}, {"id": "/", "delete": true},
        {}
    ]);
    let expected = [
        "locked", "locked", "done", //
        "done", "locked", "locked", "done", //
        "done", "locked", "done", "locked", //
        "done",
    ];
    assert_eq!(said(&send(&mut service, bulk(&records)).await), expected);
}

#[tokio::test]
async fn however_a_record_is_spelled_its_lock_holds() {
    let locks = locks_of_users(MemoryStore::new()).build();
    let mut service = saving(&forwarding(&locks), &Seen::default());
    lock(&locks, "/records/a b", Depth::Infinity).await;
    lock(&locks, "/records/7", Depth::Infinity).await;
    let records = ids(["a b", "7", "/records/%37", "/records//7/", "/records/./7", "/%72ecords/a%20b", "/Records/7"]);
    let expected = ["locked", "locked", "locked", "locked", "locked", "locked", "done"];
    assert_eq!(said(&send(&mut service, bulk(&records)).await), expected);
    for target in ["/records/", "//records", "/%72ecords?x=/y"] {
        assert_eq!(said(&send(&mut service, bulk_to(target, &ids(["7"]))).await), ["locked"], "{target}");
    }
    // Two servers read this in two ways.
    for id in ["..", "/records/../x", "/records/%2e%2e/x"] {
        let answer = send(&mut service, bulk(&ids(["1", id]))).await;
        assert_eq!((answer.status.as_u16(), answer.code().as_str()), (400, "ambiguous_path"), "{id}");
        assert!(answer.text().contains("Item 1"), "{}", answer.text());
    }
}

#[tokio::test]
async fn what_depends_on_a_refused_item_is_refused_however_far() {
    let locks = locks_of_users(MemoryStore::new()).build();
    let seen = Seen::default();
    let mut service = saving(&forwarding(&locks), &seen);
    lock(&locks, "/records/3", Depth::Infinity).await;
    // 0 after 1 after 2 after 3, which is locked; 4 and 5 after each other, and 5 after 0; 6 and 7 after each other.
    let records = json!([
        {"id": "0", "after": [1]}, {"id": "1", "after": [2]}, {"id": "2", "after": [3, 6]}, {"id": "3"},
        {"id": "4", "after": [5]}, {"id": "5", "after": [4, 0]},
        {"id": "6", "after": [7]}, {"id": "7", "after": [6, 7]}
    ]);
    let answer = send(&mut service, bulk(&records)).await;
    let failed = "failed_dependency";
    assert_eq!(said(&answer), [failed, failed, failed, "locked", failed, failed, "done", "done"]);
    assert_eq!(seen.all(), [["6", "7"]]);
    assert_eq!(answer.json()[0]["resource"], "/records/0");
    // In a whole refusal they are named as well.
    let mut service = saving(&BatchLayer::new(locks, Records), &seen);
    let whole = send(&mut service, bulk(&records)).await;
    assert_eq!((whole.status.as_u16(), whole.json()["items"].as_array().unwrap().len()), (423, 6));
    assert_eq!(whole.json()["items"][0]["status"], 424);
    // On what there is not, nothing can depend.
    let answer = send(&mut service, bulk(&json!([{"id": "1", "after": [0, 1]}]))).await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (400, "bad_request"));
    assert_eq!(seen.count(), 1);
}

#[tokio::test]
async fn a_route_that_demands_a_lock_demands_one_for_each_item() {
    let store = Rigged::new(MemoryStore::new());
    let locks = locks_of_users(store.clone()).build();
    let layer = || BatchLayer::around(LockLayer::new(locks.clone()).require_lock(), Records);
    let mine = lock_for(&locks, "ann", "/records/1", LockScope::Exclusive).await;
    lock_for(&locks, "eve", "/records/2", LockScope::Exclusive).await;
    let ask = |records: &Value| by(tagged(bulk(records), "/records/1", mine), "ann");

    let seen = Seen::default();
    let mut service = saving(&layer(), &seen);
    assert_eq!(send(&mut service, ask(&ids(["1"]))).await.status, 200);
    for records in [ids(["1", "3"]), ids(["3"]), json!([]), json!([{}])] {
        let answer = send(&mut service, ask(&records)).await;
        assert_eq!((answer.status.as_u16(), answer.code().as_str()), (428, "lock_required"), "{records}");
    }
    assert_eq!(send(&mut service, ask(&ids(["1", "2"]))).await.status, 423);
    assert_eq!(send(&mut service, by(bulk(&ids(["1", "2"])), "ann")).await.status, 428);
    assert_eq!(seen.count(), 1);

    let mut service = saving(&layer().forward_unlocked(), &seen);
    let records = json!([{"id": "3"}, {"id": "1"}, {"id": "2"}, {"id": "4", "after": [0]}, {}]);
    let expected = ["lock_required", "done", "locked", "lock_required", "lock_required"];
    assert_eq!(said(&send(&mut service, ask(&records)).await), expected);
    let none = ["lock_required"; 5];
    assert_eq!(said(&send(&mut service, by(bulk(&records), "ann")).await), none, "without a token nobody holds anything");
    assert_eq!(seen.count(), 2);
    // Dropped between the questions, nothing stays registered.
    assert_eq!(locks.stats().refused.required, 3 + 1 + 1 + 3 + 5);
}

#[tokio::test]
async fn who_may_not_see_locks_is_told_nothing_of_them_for_any_item() {
    struct Blind;
    impl Authorizer for Blind {
        fn authorize(&self, ask: &AuthorizeAsk<'_>) -> Access {
            if ask.action == Action::See { Access::Denied } else { Access::Allowed }
        }
    }
    let locks = locks_of_users(MemoryStore::new()).authorizer(Blind).build();
    let request = LockRequest::exclusive("/records/1").principal("eve").reason("takeover").kind(LockKind::Freeze);
    _ = locks.acquire(request).await.unwrap();
    let mut service = saving(&BatchLayer::new(locks.clone(), Records), &Seen::default());
    let whole = send(&mut service, by(bulk(&ids(["1", "2"])), "ann")).await;
    assert_eq!(
        whole.json()["items"],
        json!([{"index": 0, "name": "1", "status": 423, "code": "locked"}]),
        "{}",
        whole.text()
    );
    let mut service = saving(&forwarding(&locks), &Seen::default());
    let some = send(&mut service, by(bulk(&ids(["1", "2"])), "ann")).await;
    let refused = json!({"refused": "locked", "resource": null, "owner": null, "lock_ids": [], "retry_after": null});
    assert_eq!(some.json()[0], refused);
    for answer in [whole, some] {
        for secret in ["eve", "takeover", "freeze", "frozen", "lock_id\""] {
            assert!(!answer.text().contains(secret), "{secret}: {}", answer.text());
        }
    }
}

#[tokio::test]
async fn a_lock_that_may_not_be_seen_shows_neither_through_others_nor_through_dependants() {
    /// Freezes are nobody's business.
    struct Discreet;
    impl Authorizer for Discreet {
        fn authorize(&self, ask: &AuthorizeAsk<'_>) -> Access {
            if ask.action == Action::See && *ask.kind == LockKind::Freeze { Access::Denied } else { Access::Allowed }
        }
    }
    let locks = locks_of_users(MemoryStore::new())
        .authorizer(Discreet)
        // What the service calls a record is not what clients do.
        .keys_fn(|ask| Ok(tower_lock::ResourceKey::from_canonical(ask.path.replace("/4711", "/real-name")).into()))
        .build();
    _ = locks.acquire(LockRequest::exclusive("/records/1").kind(LockKind::Freeze).principal("eve")).await.unwrap();
    lock_for(&locks, "eve", "/records/2", LockScope::Exclusive).await;
    let records = json!([{"id": "1"}, {"id": "2"}, {"id": "4711", "after": [0]}]);
    let mut service = saving(&BatchLayer::new(locks.clone(), Records), &Seen::default());
    let whole = send(&mut service, by(bulk(&records), "ann")).await;
    assert_eq!((whole.status.as_u16(), whole.code().as_str()), (423, "locked"), "{}", whole.text());
    let mut service = saving(&forwarding(&locks), &Seen::default());
    let some = send(&mut service, by(bulk(&records), "ann")).await;
    assert_eq!(said(&some), ["locked", "locked", "failed_dependency"]);
    for answer in [whole, some] {
        for secret in ["frozen", "freeze", "real-name", "/records/1\""] {
            assert!(!answer.text().contains(secret), "{secret}: {}", answer.text());
        }
    }
}

#[tokio::test]
async fn each_refusal_is_counted_and_told_when_it_becomes_an_answer() {
    let told: Arc<Mutex<Vec<String>>> = Arc::default();
    let into = told.clone();
    let locks = locks_of_users(MemoryStore::new())
        .on_activity(move |activity| {
            let what = activity.to_string();
            into.lock().unwrap().push(what.split(" (").next().unwrap().to_owned());
        })
        .build();
    lock_for(&locks, "eve", "/records/1", LockScope::Exclusive).await;
    lock_for(&locks, "eve", "/records/2", LockScope::Exclusive).await;
    let refusals = || {
        let mut told = told.lock().unwrap();
        let refused = told.drain(..).filter(|told| told.contains("refused")).collect::<Vec<_>>();
        refused
            .iter()
            .map(|told| told.split(": 4").next().unwrap().split(": locked").next().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    refusals();
    let records = ids(["1", "2", "3"]);
    let mut service = saving(&BatchLayer::new(locks.clone(), Records), &Seen::default());
    send(&mut service, by(bulk(&records), "ann")).await;
    assert_eq!(refusals(), ["/records: refused by ann"], "one request, one refusal");
    let each = ["/records/1: refused by ann", "/records/2: refused by ann"];
    let mut service = saving(&forwarding(&locks), &Seen::default());
    send(&mut service, by(bulk(&records), "ann")).await;
    assert_eq!(refusals(), each);
    let mut service = saving(&BatchLayer::new(locks.clone(), Records).forward_all(), &Seen::default());
    send(&mut service, by(bulk(&records), "ann")).await;
    assert_eq!(refusals(), each);
    assert_eq!(locks.stats().refused.locked, 5);
}

#[tokio::test]
async fn items_are_in_the_namespace_of_their_request() {
    let locks = Locks::builder(MemoryStore::new()).namespace_by_host().build();
    let mut service = saving(&forwarding(&locks), &Seen::default());
    _ = locks.acquire(LockRequest::exclusive("/records/1").namespace("a.example")).await.unwrap();
    let sent = |host: &'static str| with(bulk(&ids(["1", "/records/1", "2"])), "host", host);
    assert_eq!(said(&send(&mut service, sent("A.example:80")).await), ["locked", "locked", "done"]);
    assert_eq!(said(&send(&mut service, sent("b.example")).await), ["done", "done", "done"]);
    let two = with(sent("a.example"), "host", "b.example");
    assert_eq!(send(&mut service, two).await.status, 400);
}

#[tokio::test]
async fn locks_of_removed_records_end_where_the_service_says_that_it_was_done() {
    for exact in [false, true] {
        let rules = if exact { KeyRules::new().exact() } else { KeyRules::new() };
        let store = Rigged::new(MemoryStore::new());
        let locks = locks_of_users(store.clone()).keys_by(rules).build();
        for (mode, layer) in modes(&locks) {
            let one = lock_for(&locks, "ann", "/records/1", LockScope::Exclusive).await;
            let two = lock_for(&locks, "ann", "/records/2", LockScope::Exclusive).await;
            let three = lock_for(&locks, "ann", "/records/3", LockScope::Exclusive).await;
            let records =
                json!([{"id": "1", "delete": true}, {"id": "2", "delete": true}, {"id": "3"}, {"id": "4", "delete": true}]);
            let done = r#"[{"done": true}, {"done": false}, {"done": true}, {"done": true}]"#;
            let mut service =
                crate::records::answering(&layer, move || crate::records::answer(http::StatusCode::MULTI_STATUS, done));
            let held = format!("</records/1> (<{}> <{}> <{}>)", one.urn(), two.urn(), three.urn());
            // A list is false where it asks for what does not cover its resource; the last one holds.
            let ask = || with(bulk(&records), "if", format!("{held} </records/1> (<{}>)", one.urn()));
            let before = store.calls(Call::Clear);
            let answer = send(&mut service, by(ask(), "ann")).await;
            assert_eq!((answer.status.as_u16(), answer.text()), (207, done), "{mode}: as it came");
            assert_eq!(store.calls(Call::Clear) - before, 1, "{mode}");
            assert!(locks.release(one).await.unwrap().is_none(), "{mode}: it went with its record");
            assert!(locks.release(two).await.unwrap().is_some(), "not done, so it is there");
            assert!(locks.release(three).await.unwrap().is_some(), "not removed, so it is there");
            // Of what was not locked nothing is asked.
            send(&mut service, by(bulk(&json!([{"id": "4", "delete": true}])), "ann")).await;
            assert_eq!(store.calls(Call::Clear) - before, 1, "{mode}");
        }
    }
}

#[tokio::test]
async fn where_nothing_reaches_below_a_removed_record_takes_nothing_below_with_it() {
    let locks = locks_of_users(MemoryStore::new()).keys_by(KeyRules::new().exact()).build();
    let seen = Seen::default();
    let mut service = saving(&forwarding(&locks), &seen);
    let record = LockRequest::exclusive("/records/1").depth(Depth::Zero).principal("ann");
    let record = locks.acquire(record).await.unwrap().token();
    let below = lock_for(&locks, "eve", "/records/1/part", LockScope::Exclusive).await;
    lock_for(&locks, "eve", "/records/2/part", LockScope::Exclusive).await;
    let records = json!([{"id": "1", "delete": true}, {"id": "2", "delete": true}]);
    let answer = send(&mut service, by(tagged(bulk(&records), "/records/1", record), "ann")).await;
    assert_eq!(said(&answer), ["done", "done"]);
    assert!(locks.release(record).await.unwrap().is_none(), "it went with its record");
    assert!(locks.release(below).await.unwrap().is_some(), "what is below has not gone");
}

#[tokio::test]
async fn a_resolver_that_knows_that_a_record_is_there_spares_its_collection() {
    for exists in [false, true] {
        let locks = locks_of_users(MemoryStore::new())
            .keys_fn(move |ask| {
                let resolved = tower_lock::request::Resolved::from(tower_lock::ResourceKey::parse(ask.path)?.into_owned());
                Ok(if exists { resolved.existing() } else { resolved })
            })
            .build();
        lock(&locks, "/others", Depth::Zero).await;
        let mut service = saving(&forwarding(&locks), &Seen::default());
        let records = json!([{"id": "/others/1", "new": true}, {"id": "/others/2", "delete": true}]);
        let expected = [if exists { "done" } else { "locked" }, "locked"];
        assert_eq!(said(&send(&mut service, bulk(&records)).await), expected);
    }
}

#[tokio::test]
async fn a_destination_of_the_request_is_one_of_a_bulk_write_too() {
    let locks = locks_of_users(MemoryStore::new()).build();
    lock(&locks, "/elsewhere", Depth::Infinity).await;
    for (mode, layer) in modes(&locks) {
        let seen = Seen::default();
        let mut service = saving(&layer, &seen);
        let mut ask = with(bulk(&ids(["1"])), "destination", "/elsewhere/7");
        *ask.method_mut() = http::Method::from_bytes(b"MOVE").unwrap();
        assert_eq!((send(&mut service, ask).await.status.as_u16(), seen.count()), (423, 0), "{mode}");
    }
}

#[tokio::test]
async fn what_is_only_accepted_ends_no_lock_whatever_is_said_of_its_items() {
    let locks = locks_of_users(MemoryStore::new()).build();
    for (mode, layer) in modes(&locks) {
        let token = lock_for(&locks, "ann", "/records/1", LockScope::Exclusive).await;
        let mut service =
            crate::records::answering(&layer, || crate::records::answer(http::StatusCode::ACCEPTED, r#"[{"done": true}]"#));
        let ask = tagged(bulk(&json!([{"id": "1", "delete": true}])), "/records/1", token);
        let answer = send(&mut service, by(with(ask, "prefer", "lock=release"), "ann")).await;
        assert_eq!((answer.status.as_u16(), answer.header("preference-applied")), (202, None), "{mode}");
        assert!(locks.release(token).await.unwrap().is_some(), "{mode}: it is not gone yet");
    }
}

/// Where the service got everything, its answer is about everything: it says nothing of an item what it says of another one.
#[tokio::test]
async fn what_was_done_of_all_that_was_forwarded_is_read_off_an_answer_about_all() {
    let locks = locks_of_users(MemoryStore::new()).build();
    lock_for(&locks, "eve", "/records/0", LockScope::Exclusive).await;
    let one = lock_for(&locks, "ann", "/records/1", LockScope::Exclusive).await;
    let two = lock_for(&locks, "ann", "/records/2", LockScope::Exclusive).await;
    let records = json!([{"id": "0", "delete": true}, {"id": "1", "delete": true}, {"id": "2", "delete": true}]);
    let layer = BatchLayer::new(locks.clone(), Records).forward_all();
    let done = r#"[{"done": true}, {"done": false}, {"done": true}]"#;
    let mut service =
        crate::records::answering(&layer, move || crate::records::answer(http::StatusCode::MULTI_STATUS, done));
    let held = format!("</records/1> (<{}>) (<{}>)", one.urn(), two.urn());
    let answer = send(&mut service, by(with(bulk(&records), "if", held), "ann")).await;
    assert_eq!((answer.status.as_u16(), answer.text()), (207, done));
    assert!(locks.release(one).await.unwrap().is_some(), "it was not done");
    assert!(locks.release(two).await.unwrap().is_none(), "it was");
    // Whatever the service says of what it had to leave alone, that lock is somebody else's.
    assert_eq!(send(&mut service, by(bulk(&ids(["0"])), "ann")).await.status, 207);
    assert_eq!(locks.check(&[tower_lock::ResourceKey::from_canonical("/records/0")]).await.unwrap()[0].locks.len(), 1);
}

#[tokio::test]
async fn a_lock_is_released_with_its_last_item_alone() {
    let locks = locks_of_users(MemoryStore::new()).build();
    let layer = BatchLayer::around(LockLayer::new(locks.clone()).release_on_success(), Records).forward_unlocked();
    let first = lock_for(&locks, "ann", "/records/1", LockScope::Exclusive).await;
    let second = lock_for(&locks, "ann", "/records/2", LockScope::Exclusive).await;
    let third = lock_for(&locks, "ann", "/records/3", LockScope::Exclusive).await;
    lock_for(&locks, "eve", "/records/9", LockScope::Exclusive).await;
    // Of the second record a part is not done, of the third one part is refused.
    let records = json!([
        {"id": "1"}, {"id": "2"}, {"id": "/records/2/part"}, {"id": "3"}, {"id": "/records/3/part", "after": [5]}, {"id": "9"}
    ]);
    let results = r#"[{"done": true}, {"done": true}, {"done": false}, {"done": true}]"#;
    let mut service = crate::records::answering(&layer, move || crate::records::answer(http::StatusCode::OK, results));
    let ask = tagged(bulk(&records), "/records/1", first);
    let tokens = format!("</records/1> (<{}>) (<{}> <{}>)", first.urn(), second.urn(), third.urn());
    let mut ask = by(ask, "ann");
    ask.headers_mut().insert("if", tokens.parse().unwrap());
    let answer = send(&mut service, ask).await;
    assert_eq!(said(&answer), ["done", "done", "done", "done", "failed_dependency", "locked"]);
    assert!(locks.release(first).await.unwrap().is_none(), "all of it was done");
    assert!(locks.release(second).await.unwrap().is_some(), "some of it was not");
    assert!(locks.release(third).await.unwrap().is_some(), "some of it was refused");
}
