//! An item of a bulk write is refused exactly when the same write alone would be.

use proptest::{collection::vec, prelude::*};
use serde_json::{Value, json};
use tower_layer::Layer;
use tower_lock::{BatchLayer, Depth, LockLayer, LockRequest, MemoryStore};

use crate::{
    records::{Records, Seen, bulk_to, saving},
    support::{Text, by, locks_of_users, probe, request, send, with},
};

/// Paths of three levels, in which every relation comes up.
fn path() -> impl Strategy<Value = String> {
    vec(prop::sample::select(vec!["a", "b", "ab"]), 1..=3).prop_map(|segments| format!("/{}", segments.join("/")))
}

/// A lock: on what, how deep, whether the writer holds it, and whether they say so.
fn locks() -> impl Strategy<Value = Vec<(String, bool, bool, bool)>> {
    vec((path(), any::<bool>(), any::<bool>(), any::<bool>()), 0..6)
}

/// Items: which path, and whether it is removed.
fn items() -> impl Strategy<Value = Vec<(String, bool)>> {
    vec((path(), any::<bool>()), 0..8)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn an_item_is_refused_exactly_when_it_would_be_alone(locked in locks(), items in items()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let store = MemoryStore::new();
            let locks = locks_of_users(store.clone()).build();
            let mut tokens = String::new();
            for (path, deep, mine, said) in &locked {
                let depth = if *deep { Depth::Infinity } else { Depth::Zero };
                let holder = if *mine { "ann" } else { "eve" };
                // Those that conflict with one before are not had.
                let Ok(granted) = locks.acquire(LockRequest::exclusive(path.clone()).depth(depth).principal(holder)).await else {
                    continue;
                };
                if *said {
                    tokens += &format!("<{}> ", granted.token().urn());
                }
            }
            // The second list holds. The tokens of both count as submitted.
            let held = format!("({tokens}<urn:nobody:knows>) (Not <DAV:no-lock>)");

            let alone = probe(async |_: http::Request<Text>| {
                Ok::<_, crate::support::ProbeError>(crate::records::answer(http::StatusCode::ACCEPTED, ""))
            });
            let mut alone = LockLayer::new(locks.clone()).layer(alone);
            let mut expected = Vec::new();
            for (path, removed) in &items {
                let ask = request(if *removed { "DELETE" } else { "PUT" }, path);
                expected.push(send(&mut alone, by(with(ask, "if", &held), "ann")).await.status);
            }

            let seen = Seen::default();
            let records: Value =
                items.iter().map(|(path, removed)| json!({ "id": path, "delete": removed, "new": !removed })).collect();
            let layer = BatchLayer::new(locks.clone(), Records);
            let ask = || by(with(bulk_to("/elsewhere/inbox", &records), "if", &held), "ann");
            let whole = send(&mut saving(&layer, &seen), ask()).await;
            let any = expected.iter().any(|status| *status == 423);
            prop_assert_eq!(whole.status.as_u16(), if any { 423 } else { 200 }, "{}", whole.text());
            prop_assert_eq!(seen.count(), usize::from(!any));
            prop_assert_eq!(store.stats().in_flight, 0);
            if any {
                // Nothing was done, so it can be asked again.
                let some = send(&mut saving(&layer.forward_unlocked(), &seen), ask()).await;
                prop_assert_eq!(some.status.as_u16(), 200);
                let said: Vec<u16> = some.json().as_array().unwrap().iter().map(|item| if item["refused"] == "locked" { 423 } else { 202 }).collect();
                prop_assert_eq!(&said, &expected.iter().map(http::StatusCode::as_u16).collect::<Vec<_>>());
                let done: Vec<&String> =
                    items.iter().zip(&expected).filter(|(_, status)| **status == 202).map(|((path, _), _)| path).collect();
                let got = seen.all().concat();
                prop_assert_eq!(got.iter().collect::<Vec<_>>(), done);
            }
            Ok(())
        })?;
    }
}
