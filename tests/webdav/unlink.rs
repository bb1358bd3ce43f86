//! DELETE, MOVE and COPY over locked resources, and what becomes of the locks.

use tower_lock::LockRequest;

use super::{
    handler::Fault,
    kit::{Ask, Client, Dav},
    xml::Found,
};

/// What takes `/c/` away, whole.
fn removals(client: &Client) -> Vec<Ask> {
    vec![
        client.delete("/c"),
        client.delete("/c/"),
        client.move_("/c/", "/e/c/"),
        client.copy("/e/", "/c/"),
        client.move_("/e/", "http://dav.example/%63/").header("host", "dav.example"),
        client.copy("/a", "/c"),
    ]
}

/// L-26, L-43, L-45, L-47, L-48, L-93.
#[tokio::test]
async fn a_collection_with_a_locked_member_is_neither_deleted_nor_moved_nor_overwritten() {
    for locked in ["/c/m", "/c/d/n", "/c/d/", "/c/", "/c/d/not-there-yet"] {
        for depth in ["0", "infinity"] {
            let dav = Dav::new();
            dav.as_("ann").locked(locked, depth).await;
            let before = dav.handler.tree();
            dav.handler.take_seen();
            for write in removals(&dav.as_("bob")).into_iter().chain(removals(&dav.as_("ann"))) {
                let answer = write.expect(423).await;
                answer.locked_by(&[locked]);
                assert!(!answer.text.contains("multistatus"));
            }
            assert_eq!(dav.handler.tree(), before, "{locked}");
            assert!(dav.handler.take_writes().is_empty());
        }
    }
}

/// L-26, L-46, L-91: all tokens in one header, under whatever tags; the refusal names every lock that is still missing.
#[tokio::test]
async fn whoever_submits_the_tokens_of_all_members_may() {
    for at in 0..6 {
        let dav = Dav::new();
        let ann = dav.as_("ann");
        let (one, two) = (ann.locked("/c/m", "0").await, ann.locked("/c/d/n", "0").await);
        removals(&ann).swap_remove(at).expect(423).await.locked_by(&["/c/d/n", "/c/m"]);
        removals(&ann).swap_remove(at).tokens([&one]).expect(423).await.locked_by(&["/c/d/n"]);
        removals(&ann).swap_remove(at).tokens([&two]).expect(423).await.locked_by(&["/c/m"]);
        let tagged = format!("</c/m> (<{one}>) </c/d/n> (<{two}>)");
        assert!(removals(&ann).swap_remove(at).if_(&tagged).await.status.is_success(), "{at}");
        assert!(dav.state().await.is_empty(), "{at}: the locks went with what they were on");
    }
}

/// L-07, L-42.
#[tokio::test]
async fn a_delete_ends_the_locks_on_the_resource_and_below() {
    let dav = Dav::new();
    let ann = dav.as_("ann");
    let (all, other) = (ann.locked("/c/", "infinity").await, ann.locked("/a", "0").await);
    ann.delete("/c/").if_(&format!("(<{all}>)")).expect(204).await;
    assert_eq!(dav.roots().await, ["/a"]);
    dav.as_("bob").mkcol("/c/").expect(201).await;
    ann.unlock("/c/", &all).expect(409).await;
    ann.delete("/a").if_(&format!("(<{other}>)")).expect(204).await;
    assert!(dav.state().await.is_empty());
    dav.as_("bob").lock("/a").expect(201).await;
}

/// L-07: what failed took nothing with it.
#[tokio::test]
async fn a_delete_or_move_that_fails_or_is_not_done_yet_ends_no_lock() {
    for status in [202, 301, 403, 404, 412, 500, 503] {
        let dav = Dav::new();
        let token = dav.as_("ann").locked("/c/m", "0").await;
        for path in ["/c", "/c/m"] {
            dav.handler.fail("DELETE", path, status);
            dav.handler.fail("MOVE", path, status);
            dav.as_("ann").delete(path).tokens([&token]).expect(status).await;
            dav.as_("ann").move_(path, "/e/c").tokens([&token]).expect(status).await;
        }
        assert_eq!(dav.roots().await, ["/c/m"], "{status}");
    }
}

/// L-28.
#[tokio::test]
async fn copy_copies_no_locks_and_needs_no_token_of_its_source() {
    let dav = Dav::new();
    dav.as_("ann").locked("/c/", "infinity").await;
    dav.as_("bob").copy("/c/", "/e/c/").expect(201).await;
    dav.as_("bob").copy("/c/m", "/e/m").expect(201).await;
    assert_eq!(dav.roots().await, ["/c"]);
    let found = Found::of(&dav.as_("bob").propfind("/e/", "infinity").expect(207).await.xml());
    for href in found.hrefs() {
        assert!(found.locks(href).is_empty(), "{href}");
    }
    dav.as_("bob").delete("/e/c/").expect(204).await;
}

/// L-04, L-07, L-29.
#[tokio::test]
async fn move_leaves_its_locks_behind_and_they_end() {
    let dav = Dav::new();
    let ann = dav.as_("ann");
    let token = ann.locked("/c/m", "0").await;
    ann.move_("/c/m", "/e/m").if_(&format!("(<{token}>)")).expect(201).await;
    assert!(dav.state().await.is_empty());
    dav.as_("bob").put("/e/m", "x").expect(204).await;
    dav.as_("bob").put("/c/m", "x").expect(201).await;
    ann.put("/e/m", "x").if_(&format!("(<{token}>)")).expect(412).await;
}

/// L-03, L-04, L-29, L-99: protection is a matter of where a resource is.
#[tokio::test]
async fn what_comes_into_a_locked_collection_is_locked_and_what_leaves_it_is_not() {
    let dav = Dav::new();
    let ann = dav.as_("ann");
    let token = ann.locked("/c/", "infinity").await;
    let tag = format!("</c/> (<{token}>)");
    dav.as_("bob").move_("/a", "/c/a").expect(423).await.locked_by(&["/c/"]);
    dav.as_("bob").copy("/a", "/c/d/a").expect(423).await.locked_by(&["/c/"]);
    ann.move_("/a", "/c/a").if_(&tag).expect(201).await;
    ann.copy("/b", "/c/d/b").if_(&tag).expect(201).await;
    for uri in ["/c/a", "/c/d/b"] {
        dav.as_("bob").put(uri, "x").expect(423).await.locked_by(&["/c/"]);
        let found = Found::of(&dav.as_("bob").propfind(uri, "0").expect(207).await.xml());
        assert_eq!(found.locks(uri)[0].root, "/c/");
    }
    ann.move_("/c/a", "/c/d/a").if_(&tag).expect(201).await;
    dav.as_("bob").put("/c/d/a", "x").expect(423).await;
    ann.move_("/c/d/a", "/a").if_(&tag).expect(201).await;
    dav.as_("bob").put("/a", "x").expect(204).await;
    assert_eq!(dav.roots().await, ["/c"], "the lock is still where it was");
}

/// L-47, L-63, L-64.
#[tokio::test]
async fn over_a_locked_destination_the_lock_at_it_stays_and_those_below_it_go() {
    for (moving, source) in [(true, "/e/"), (false, "/e/"), (true, "/b"), (false, "/b")] {
        let dav = Dav::new();
        let ann = dav.as_("ann");
        let tokens = [
            ann.locked("/c/", "0").await,
            ann.locked("/c/m", "0").await,
            ann.locked("/c/d/", "infinity").await,
            ann.locked("/a", "0").await,
        ];
        let ask = |client: &Client| if moving { client.move_(source, "/c/") } else { client.copy(source, "/c/") };
        ask(&ann).tokens(&tokens[1..]).expect(423).await.locked_by(&["/c/"]);
        ask(&ann).tokens(&tokens[..2]).expect(423).await.locked_by(&["/c/d/"]);
        ask(&ann).tokens(&tokens[..3]).expect(204).await;
        assert_eq!(dav.roots().await, ["/a", "/c"], "{moving} {source}");
        dav.as_("bob").proppatch("/c").expect(423).await;
        ann.unlock("/c", &tokens[0]).expect(204).await;
    }
}

/// L-63: where nothing was overwritten, nothing below ended either.
#[tokio::test]
async fn a_copy_or_move_that_fails_ends_no_lock_at_its_destination() {
    for status in [202, 403, 409, 500, 502, 507] {
        let dav = Dav::new();
        let token = dav.as_("ann").locked("/c/m", "0").await;
        dav.handler.fail("COPY", "/e", status);
        dav.handler.fail("MOVE", "/e", status);
        dav.as_("ann").copy("/e/", "/c/").tokens([&token]).expect(status).await;
        dav.as_("ann").move_("/e/", "/c/").tokens([&token]).expect(status).await;
        assert_eq!(dav.roots().await, ["/c/m"], "{status}");
    }
}

/// L-79.
#[tokio::test]
async fn with_overwrite_f_an_existing_destination_is_412_and_keeps_its_locks() {
    let dav = Dav::new();
    let ann = dav.as_("ann");
    let token = ann.locked("/c/m", "0").await;
    let before = dav.handler.tree();
    for (from, to) in [("/a", "/c/m"), ("/e/", "/c/")] {
        for ask in [ann.copy(from, to), ann.move_(from, to)] {
            ask.header("overwrite", "F").tokens([&token]).expect(412).await;
        }
        for ask in [dav.as_("bob").copy(from, to), dav.as_("bob").move_(from, to)] {
            ask.header("overwrite", "F").expect(412).await;
        }
    }
    assert_eq!((dav.handler.tree(), dav.roots().await), (before, vec![String::from("/c/m")]));
    // Onto nothing it is the membership that counts, and what may come to be below.
    dav.taken(LockRequest::exclusive("/e/other/below")).await;
    dav.as_("bob").copy("/a", "/e/other").header("overwrite", "F").expect(423).await.locked_by(&["/e/other/below"]);
    dav.as_("bob").copy("/a", "/e/new").header("overwrite", "F").expect(201).await;
    let collection = ann.locked("/e/", "0").await;
    dav.as_("bob").copy("/a", "/e/newer").header("overwrite", "F").expect(423).await.locked_by(&["/e/"]);
    ann.copy("/a", "/e/newer").header("overwrite", "F").tokens([collection]).expect(201).await;
}

/// L-07, L-43: a partial DELETE keeps the locks of what is still there and ends the others.
#[tokio::test]
async fn after_a_partial_207_the_locks_of_what_is_still_there_stay_and_the_others_go() {
    for hrefs in [super::shape::Hrefs::Path, super::shape::Hrefs::Absolute, super::shape::Hrefs::Encoded] {
        for (method, failure) in [("DELETE", 403), ("MOVE", 403), ("DELETE", 500), ("DELETE", 424)] {
            let dav = Dav::shaped(super::shape::Shape { hrefs, ..Default::default() });
            let ann = dav.as_("ann");
            let mut tokens = Vec::new();
            for uri in ["/c/", "/c/m", "/c/d/", "/c/d/n"] {
                tokens.push(ann.locked(uri, "0").await);
            }
            dav.handler.fault(method, "/c", Fault::Keep(vec!["/c/d/n"], failure));
            let ask = ann.ask(method, "/c/").header("host", "dav.example");
            let ask = if method == "MOVE" { ask.header("destination", "/e/c/") } else { ask };
            let answer = ask.tokens(&tokens).expect(207).await;
            assert!(answer.text.contains("multistatus"), "passed on as it is: {answer:?}");
            assert_eq!(dav.handler.content("/c/m"), None);
            assert_eq!(dav.roots().await, ["/c", "/c/d", "/c/d/n"], "{method} {hrefs:?}");
            dav.as_("bob").put("/c/d/n", "x").expect(423).await;
            dav.assert_nothing_left(&["/c", "/c/d", "/c/d/n"], "partial").await;
        }
    }
}

/// A handler that fails when it is asked what is left has answered the write all the same: that answer stands, and nothing
/// is taken for gone.
#[tokio::test]
async fn a_partial_207_stands_where_nobody_can_be_asked_what_is_left() {
    let dav = Dav::new();
    let ann = dav.as_("ann");
    let tokens = [ann.locked("/c/m", "0").await, ann.locked("/c/d/n", "0").await];
    dav.handler.fault("DELETE", "/c", Fault::Keep(vec!["/c/d/n"], 403));
    dav.handler.fault("HEAD", "/c/m", Fault::Error);
    let answer = ann.ask("DELETE", "/c/").tokens(&tokens).expect(207).await;
    assert!(answer.text.contains("multistatus"), "passed on as it is: {answer:?}");
    dav.handler.heal();
    assert_eq!(dav.roots().await, ["/c/d/n", "/c/m"]);
    dav.assert_nothing_left(&["/c/d/n", "/c/m"], "partial").await;
}

/// L-63: the same below the destination of a partial COPY, where the handler removed what was there.
#[tokio::test]
async fn after_a_partial_copy_the_locks_below_its_destination_are_asked_for() {
    let dav = Dav::new();
    let ann = dav.as_("ann");
    dav.handler.plant(["/e/m", "/e/x"]);
    let (kept, gone) = (ann.locked("/c/m", "0").await, ann.locked("/c/d/n", "0").await);
    dav.handler.fault("COPY", "/e", Fault::Keep(vec!["/e/x"], 507));
    ann.copy("/e/", "/c/").tokens([&kept, &gone]).expect(207).await;
    assert_eq!(dav.handler.content("/c/d/n"), None);
    let roots = dav.roots().await;
    assert!(!roots.contains(&"/c/d/n".into()), "nothing is there any more: {roots:?}");
}

/// The end of locks is before the answer: who has it and locks again finds nothing in the way.
#[tokio::test]
async fn locks_end_before_the_answer_is_passed_on() {
    use crate::support::{Call, Mode, poll_once, until};
    use std::future::IntoFuture;
    let dav = Dav::new();
    let token = dav.as_("ann").locked("/c/m", "0").await;
    dav.rigged.set(Call::Clear, Mode::Gated);
    let mut delete = dav.as_("ann").delete("/c/").tokens([&token]).into_future();
    until("the locks are to end", || {
        assert!(poll_once(delete.as_mut()).is_pending(), "answered before the locks were ended");
        dav.rigged.calls(Call::Clear) == 1
    })
    .await;
    assert_eq!(dav.memory.stats().in_flight, 1, "and with the write still in flight");
    dav.rigged.open();
    assert_eq!(delete.await.status, 204);
    dav.assert_nothing_left(&[], "deleted").await;
}

/// L-26: the root has no parent, and all below it counts.
#[tokio::test]
async fn a_delete_of_the_root_is_refused_for_any_lock() {
    let dav = Dav::new();
    dav.as_("ann").locked("/c/d/n", "0").await;
    dav.as_("ann").locked("/a", "0").await;
    dav.as_("bob").delete("/").expect(423).await.locked_by(&["/a", "/c/d/n"]);
}
