//! LOCK of a URL that nothing is at.

use std::{future::IntoFuture, sync::Arc};

use tower_lock::{Depth, LockRequest};

use super::{
    handler::Fault,
    kit::{Dav, EXCLUSIVE},
    xml::{Active, Found},
};
use crate::support::{Call, Mode, poll_once, until};

/// L-01, L-31.
#[tokio::test]
async fn a_lock_of_an_unmapped_url_makes_an_empty_locked_resource_and_answers_201() {
    let dav = Dav::new();
    let answer = dav.as_("ann").lock("/e/new").depth("0").expect(201).await;
    let active = Active::only(&answer.xml());
    assert_eq!((active.root.as_str(), active.token), ("/e/new", Some(answer.token())));
    let seen = dav.handler.take_seen();
    let put = seen.iter().find(|seen| seen.method == "PUT").expect("an inner PUT");
    assert_eq!((put.uri.as_str(), put.body.len()), ("/e/new", 0));
    assert_eq!(put.headers["if-none-match"], "*", "what came meanwhile is not overwritten");
    for name in ["depth", "timeout", "content-type", "transfer-encoding"] {
        assert!(!put.headers.contains_key(name), "a header of the LOCK: {name}");
    }
    assert_eq!(put.headers["content-length"], "0", "some handlers want to be told");
    assert_eq!(put.user, Some("ann"), "it is the client's own PUT to the handler");
    assert_eq!(dav.handler.content("/e/new").as_deref(), Some(""));
    dav.as_("bob").put("/e/new", "x").expect(423).await.locked_by(&["/e/new"]);
    dav.as_("ann").put("/e/new", "x").tokens([answer.token()]).expect(204).await;
}

/// L-32.
#[tokio::test]
async fn the_empty_resource_is_like_any_other() {
    let dav = Dav::new();
    let ann = dav.as_("ann");
    let token = ann.locked("/e/new", "0").await;
    let read = ann.get("/e/new").await;
    assert!(read.status == 204 || (read.status == 200 && read.text.is_empty()), "{read:?}");
    let found = Found::of(&ann.propfind("/e/", "1").expect(207).await.xml());
    assert_eq!(found.hrefs(), ["/e/", "/e/new"], "a member of its collection");
    assert_eq!(found.locks("/e/new").len(), 1);
    assert_eq!(found.property("/e/new", "supportedlock").0, 200);
    ann.mkcol("/e/new").tokens([&token]).expect(405).await;
    ann.unlock("/e/new", &token).expect(204).await;
    ann.get("/e/new").expect(200).await;
    let token = ann.locked("/e/new", "0").await;
    ann.move_("/e/new", "/e/moved").tokens([&token]).expect(201).await;
    assert!(dav.state().await.is_empty());
    let token = ann.locked("/e/other", "0").await;
    ann.delete("/e/other").tokens([token]).expect(204).await;
    assert_eq!(dav.handler.paths(), ["/", "/a", "/b", "/c", "/c/d", "/c/d/n", "/c/m", "/e", "/e/moved"]);
    assert!(dav.state().await.is_empty());
}

/// L-33.
#[tokio::test]
async fn without_a_parent_it_is_409_and_nothing_is_made() {
    let dav = Dav::new();
    let before = dav.handler.tree();
    for uri in ["/nowhere/new", "/nowhere/deeper/new/", "/a/new"] {
        let answer = dav.as_("ann").lock(uri).expect(409).await;
        assert!(!answer.headers.contains_key("lock-token"));
    }
    assert_eq!(dav.handler.tree(), before);
    dav.assert_nothing_left(&[], "409").await;
}

/// L-01, L-33: a PUT that fails leaves no lock.
#[tokio::test]
async fn where_the_put_inside_fails_there_is_no_lock() {
    for (inside, answered) in
        [(403, 403), (404, 409), (409, 409), (500, 500), (507, 507), (401, 401), (503, 503), (400, 400)]
    {
        let dav = Dav::new();
        dav.handler.fail("PUT", "/e/new", inside);
        let answer = dav.as_("ann").lock("/e/new").expect(answered).await;
        assert!(!answer.headers.contains_key("lock-token"), "{answer:?}");
        dav.assert_nothing_left(&[], &inside.to_string()).await;
        dav.handler.heal();
        dav.as_("bob").lock("/e/new").expect(201).await;
    }
}

/// The same where the handler fails as a service.
#[tokio::test]
async fn where_the_put_inside_ends_in_an_error_there_is_no_lock() {
    let dav = Dav::new();
    dav.handler.fault("PUT", "/e/new", Fault::Error);
    assert!(dav.as_("ann").lock("/e/new").sending().await.is_err(), "the error is the handler's own");
    dav.assert_nothing_left(&[], "error").await;
    dav.handler.heal();
    dav.as_("bob").lock("/e/new").expect(201).await;
}

/// The same where nobody waits for the answer any more.
#[tokio::test]
async fn where_the_put_inside_is_dropped_there_is_no_lock() {
    for fault in [Fault::Hold, Fault::HoldAnswer] {
        let dav = Dav::new();
        dav.handler.fault("PUT", "/e/new", fault(Arc::new(tokio::sync::Semaphore::new(0))));
        let mut lock = dav.as_("ann").lock("/e/new").into_future();
        until("the PUT inside", || {
            assert!(poll_once(lock.as_mut()).is_pending());
            dav.handler.count("PUT", "/e/new") == 1
        })
        .await;
        drop(lock);
        dav.assert_nothing_left(&[], "dropped").await;
        dav.handler.heal();
        let next = dav.as_("bob").lock("/e/new").await;
        assert!(next.status == 200 || next.status == 201, "{next:?}");
    }
}

/// L-31: what is there by the time of the PUT is locked as it is.
#[tokio::test]
async fn a_resource_that_was_made_meanwhile_is_locked_as_it_is_and_answered_200() {
    let dav = Dav::new();
    let gate = dav.handler.hold("PUT", "/e/new");
    let lock = dav.as_("ann").lock("/e/new").spawn();
    until("the PUT inside", || dav.handler.count("PUT", "/e/new") == 1).await;
    dav.handler.plant(["/e/new"]);
    gate.add_permits(1);
    let answer = lock.await.unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(Active::only(&answer.xml()).token, Some(answer.token()));
    assert_eq!(dav.handler.content("/e/new").as_deref(), Some("/e/new"), "not emptied");
    dav.assert_nothing_left(&["/e/new"], "locked").await;
    dav.as_("bob").put("/e/new", "x").expect(423).await;
}

/// The lock is there before the resource is: nobody writes in between.
#[tokio::test]
async fn while_the_put_inside_runs_nobody_else_writes_there() {
    let dav = Dav::new();
    let gate = dav.handler.hold("PUT", "/e/new");
    let lock = dav.as_("ann").lock("/e/new").spawn();
    until("the PUT inside", || dav.handler.count("PUT", "/e/new") == 1).await;
    let write = dav.as_("bob").put("/e/new", "x").await;
    assert_eq!(write.status, 423, "{write:?}");
    let other = dav.as_("bob").lock("/e/new").await;
    assert!(other.status == 423 || other.status == 409, "{other:?}");
    gate.add_permits(1);
    assert_eq!(lock.await.unwrap().status, 201);
    dav.assert_nothing_left(&["/e/new"], "locked").await;
}

/// L-03, L-22.
#[tokio::test]
async fn a_new_member_of_a_locked_collection_needs_the_token_of_the_collection() {
    let dav = Dav::new();
    let token = dav.as_("ann").locked("/c/", "0").await;
    let before = dav.handler.tree();
    dav.as_("bob").lock("/c/new").expect(423).await.locked_by(&["/c/"]);
    dav.as_("ann").lock("/c/new").expect(423).await.locked_by(&["/c/"]);
    assert_eq!(dav.handler.tree(), before);
    dav.assert_nothing_left(&["/c"], "refused").await;
    dav.as_("bob").lock("/c/m").depth("0").expect(200).await;
    dav.as_("ann").lock("/c/new").if_(&format!("</c/> (<{token}>)")).expect(201).await;
    assert_eq!(dav.roots().await, ["/c", "/c/m", "/c/new"]);
}

/// L-03, L-55: under an infinite lock nothing else fits, not for its holder either, and nothing is made for it.
#[tokio::test]
async fn a_new_member_below_an_infinite_lock_is_a_conflict() {
    let dav = Dav::new();
    let token = dav.as_("ann").locked("/c/", "infinity").await;
    let before = dav.handler.tree();
    for uri in ["/c/new", "/c/d/new"] {
        let answer = dav.as_("bob").lock(uri).expect(423).await;
        assert_eq!(answer.blocked_by("no-conflicting-lock"), ["/c/"]);
        let answer = dav.as_("ann").lock(uri).tokens([&token]).expect(423).await;
        assert_eq!(answer.blocked_by("no-conflicting-lock"), ["/c/"]);
    }
    assert_eq!(dav.handler.tree(), before);
    dav.assert_nothing_left(&["/c"], "refused").await;
}

/// L-03: a shared lock above lets another shared one in, for a holder of the first.
#[tokio::test]
async fn a_new_shared_member_below_a_shared_lock_is_for_its_holder() {
    let dav = Dav::new();
    let token = dav.as_("ann").share("/c/").expect(200).await.token();
    dav.as_("bob").share("/c/new").expect(423).await;
    dav.as_("ann").share("/c/new").if_(&format!("</c/> (<{token}>)")).expect(201).await;
    assert_eq!(dav.roots().await, ["/c", "/c/new"]);
}

/// Locks from elsewhere count as well: one store, one truth.
#[tokio::test]
async fn a_lock_of_the_application_protects_the_membership_from_a_lock() {
    let dav = Dav::new();
    dav.taken(LockRequest::exclusive("/e").depth(Depth::Zero)).await;
    dav.as_("ann").ask("LOCK", "/e/new").body(EXCLUSIVE).expect(423).await;
    dav.assert_nothing_left(&["/e"], "refused").await;
    assert_eq!(dav.handler.content("/e/new"), None);
}

/// L-01, L-02: the resource is made once, and one of them has it.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_eight_parallel_locks_of_an_unmapped_url_one_wins() {
    for _ in 0..20 {
        let dav = Dav::new();
        let asks = [(); 8].map(|()| dav.as_("ann").lock("/e/new").spawn());
        let mut statuses = Vec::new();
        for ask in asks {
            statuses.push(ask.await.unwrap().status.as_u16());
        }
        statuses.sort_unstable();
        assert!([200, 201].contains(&statuses[0]), "{statuses:?}");
        assert!(statuses[1..].iter().all(|status| *status == 423), "{statuses:?}");
        dav.assert_nothing_left(&["/e/new"], "one").await;
    }
}

/// L-08: shared locks of a URL that nothing is at do not wait for one another. Who comes while the resource is being made
/// may find it locked, and gets its own lock when it asks again.
#[tokio::test]
async fn parallel_shared_locks_of_an_unmapped_url_never_wait_for_one_another() {
    for mode in [Mode::Pass, Mode::Later] {
        for slow in 0..4 {
            let dav = Dav::new();
            dav.rigged.set(Call::Admit, mode);
            dav.rigged.set(Call::Acquire, mode);
            for method in ["HEAD", "PUT"] {
                dav.handler.fault(method, "/e/new", Fault::Slow(slow));
            }
            let asks = ["ann", "bob", "cid"].map(|user| dav.as_(user).share("/e/new").spawn());
            until("all three answered", || asks.iter().all(tokio::task::JoinHandle::is_finished)).await;
            let mut granted = 0;
            for ask in asks {
                let answer = ask.await.unwrap();
                assert!([200, 201, 423].contains(&answer.status.as_u16()), "{mode:?} {slow}: {answer:?}");
                granted += usize::from(answer.status != 423);
            }
            assert!(granted > 0);
            dav.assert_nothing_left(&["/e/new"; 3][..granted], "shared").await;
            dav.as_("dan").share("/e/new").expect(200).await;
        }
    }
}

/// L-40: whom the handler does not let look, it tells itself; a handler that cannot say makes no lock of a resource.
#[tokio::test]
async fn what_the_handler_does_not_let_the_caller_see_is_not_locked() {
    for status in [401, 403] {
        let dav = Dav::new();
        dav.handler.fail("HEAD", "/a", status);
        dav.as_("ann").lock("/a").expect(status).await;
        dav.assert_nothing_left(&[], "not seen").await;
    }
}
