//! A store that fails: nothing is written, nothing is claimed, and reads go on.

use super::{
    kit::{Ask, Client, Dav},
    shape::Shape,
    xml::Found,
};
use crate::support::{Call, Mode};

const CALLS: [Call; 6] = [Call::Admit, Call::Acquire, Call::Refresh, Call::Release, Call::Clear, Call::Find];

fn writes(client: &Client, token: &str) -> Vec<Ask> {
    vec![
        client.put("/a", "x"),
        client.put("/e/new", "x"),
        client.mkcol("/e/col"),
        client.delete("/c/"),
        client.move_("/a", "/e/a"),
        client.copy("/a", "/e/a"),
        client.proppatch("/a"),
        client.put("/b", "x").if_(&format!("(<{token}>)")),
        client.lock("/a"),
        client.lock("/e/new"),
        client.refresh("/b", token),
        client.unlock("/b", token),
        client.get("/b").if_(&format!("(<{token}>)")),
    ]
}

fn reads(client: &Client) -> Vec<Ask> {
    let other = "<D:propfind xmlns:D=\"DAV:\"><D:prop><D:getetag/></D:prop></D:propfind>";
    vec![
        client.get("/b"),
        client.ask("HEAD", "/b"),
        client.ask("OPTIONS", "/b"),
        client.ask("PROPFIND", "/b").depth("0").body(other),
        client.get("/b").if_("(Not [\"x\"])"),
    ]
}

/// G8, L-21: 503 for all that depends on locks.
#[tokio::test(start_paused = true)]
async fn while_the_store_is_down_writes_and_locks_are_503_and_reads_go_on() {
    for mode in [Mode::Fail, Mode::Never] {
        let dav = Dav::new();
        let token = dav.as_("ann").locked("/b", "0").await;
        let before = dav.handler.tree();
        for call in CALLS {
            dav.rigged.set(call, mode);
        }
        dav.handler.take_seen();
        for ask in writes(&dav.as_("ann"), &token) {
            let answer = ask.expect(503).await;
            assert!(answer.headers.contains_key("retry-after"), "{answer:?}");
            assert_eq!(answer.header("cache-control"), "no-store");
            answer.xml().named("{DAV:}error");
        }
        assert!(dav.handler.take_writes().is_empty());
        for ask in reads(&dav.as_("ann")) {
            assert!(ask.await.status.is_success());
        }
        for call in CALLS {
            dav.rigged.set(call, Mode::Pass);
        }
        assert_eq!(dav.handler.tree(), before);
        dav.assert_nothing_left(&["/b"], "outage").await;
        dav.as_("ann").put("/b", "x").if_(&format!("(<{token}>)")).expect(204).await;
    }
}

/// G8, L-21, L-93: an answer without the locks would say that there are none, and a listing is of more than locks: the one
/// property is 503.
#[tokio::test(start_paused = true)]
async fn while_the_store_is_down_lockdiscovery_alone_is_503_in_a_listing() {
    for mode in [Mode::Fail, Mode::Never] {
        for shape in Shape::all() {
            let dav = Dav::shaped(shape);
            dav.as_("ann").locked("/c/", "0").await;
            dav.rigged.set(Call::Find, mode);
            for ask in [dav.as_("ann").propfind("/c/", "1"), dav.as_("ann").ask("PROPFIND", "/c/").depth("1")] {
                let found = Found::of(&ask.header("host", "dav.example").expect(207).await.xml());
                assert_eq!(found.0.len(), 3);
                for href in found.hrefs() {
                    let (status, lockdiscovery) = found.property(href, "lockdiscovery");
                    assert_eq!((status, lockdiscovery.children.len()), (503, 0));
                    assert_eq!(found.property(href, "supportedlock").0, 200);
                }
            }
        }
    }
}

/// L-01, G8: a store that fails in the middle of a LOCK leaves neither a lock nor a resource that nobody asked for.
#[tokio::test]
async fn a_store_that_fails_before_a_lock_is_granted_has_nothing_made() {
    for call in [Call::Admit, Call::Acquire] {
        let dav = Dav::new();
        dav.rigged.set(call, Mode::Fail);
        dav.as_("ann").lock("/e/new").expect(503).await;
        assert_eq!(dav.handler.content("/e/new"), None, "{call:?}");
        dav.rigged.set(call, Mode::Pass);
        dav.assert_nothing_left(&[], "failed").await;
        dav.as_("bob").lock("/e/new").expect(201).await;
    }
}

/// L-07, L-42: the resource is gone, whatever becomes of its locks: the answer stands, and the operator hears of it.
#[tokio::test]
async fn when_locks_cannot_be_ended_after_a_delete_the_answer_stands_and_the_hook_hears_of_it() {
    use std::sync::{Arc, Mutex};
    let heard: Arc<Mutex<Vec<String>>> = Arc::default();
    let ear = heard.clone();
    let hook = move |incident: &tower_lock::locks::Incident<'_>| ear.lock().unwrap().push(incident.to_string());
    let dav = Dav::with(Shape::default(), |locks| locks.on_incident(hook));
    let token = dav.as_("ann").locked("/c/m", "0").await;
    dav.rigged.set(Call::Clear, Mode::Fail);
    dav.as_("ann").delete("/c/").tokens([token]).expect(204).await;
    assert_eq!(heard.lock().unwrap().len(), 1);
    dav.assert_nothing_left(&["/c/m"], "not ended, and to expire").await;
}

/// Where writes are let through without the store, so are they here, and LOCK is not.
#[tokio::test]
async fn a_policy_that_fails_open_lets_writes_through_and_grants_no_lock() {
    let dav = Dav::with(Shape::default(), |locks| locks.fail_open(|_: &tower_lock::locks::Incident<'_>| {}));
    for call in CALLS {
        dav.rigged.set(call, Mode::Fail);
    }
    dav.as_("ann").put("/a", "x").expect(204).await;
    dav.as_("ann").put("/e/new", "x").expect(201).await;
    dav.as_("ann").lock("/b").expect(503).await;
    let unmapped = dav.as_("ann").lock("/e/newer").expect(503).await;
    assert!(!unmapped.headers.contains_key("lock-token"));
}

/// Answers that come late are the same answers.
#[tokio::test]
async fn with_a_store_that_answers_later_everything_is_the_same() {
    let dav = Dav::new();
    for call in CALLS {
        dav.rigged.set(call, Mode::Later);
    }
    let ann = dav.as_("ann");
    let token = ann.locked("/c/", "0").await;
    dav.as_("bob").put("/c/new", "x").expect(423).await.locked_by(&["/c/"]);
    dav.as_("bob").put("/c/m", "x").expect(204).await;
    ann.put("/c/new", "x").if_(&format!("</c/> (<{token}>)")).expect(201).await;
    let new = ann.lock("/e/new").expect(201).await.token();
    dav.handler.fail("PUT", "/e/other", 500);
    ann.lock("/e/other").expect(500).await;
    ann.refresh("/e/new", &new).expect(200).await;
    ann.propfind("/c/", "infinity").expect(207).await;
    ann.unlock("/e/new", &new).expect(204).await;
    ann.delete("/c/").tokens([&token]).expect(204).await;
    dav.assert_nothing_left(&[], "later").await;
}

/// L-01, G8: the store was too slow to say so, and had granted the lock: nobody knows its token, so it ends.
#[tokio::test(start_paused = true)]
async fn a_lock_that_was_granted_too_late_to_be_answered_is_undone() {
    for uri in ["/a", "/e/new"] {
        let dav = Dav::new();
        dav.rigged.set(Call::Acquire, Mode::Gated);
        dav.as_("ann").lock(uri).expect(503).await;
        dav.rigged.set(Call::Acquire, Mode::Pass);
        dav.assert_nothing_left(&[], uri).await;
        assert_eq!(dav.handler.content("/e/new"), None);
        dav.as_("bob").lock(uri).depth("0").await;
        assert_eq!(dav.roots().await, [uri]);
    }
}
