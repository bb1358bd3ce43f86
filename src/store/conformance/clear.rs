//! Section 4, ends: which locks go with their resource.

use super::{
    fixture::{Fixture, Mode},
    kit::*,
};
use crate::{
    lock::{Gone, LostCause, Reach},
    store::{Acquired, LockStore},
};

const ROOTS: [&str; 6] = ["/", "/a", "/a/b", "/a/b/c", "/a/b!", "/ab"];

fn gone(path: &str, reach: Reach) -> Gone<'static> {
    Gone { key: key(path), reach }
}

/// Locks at, at or below, or strictly below a resource that is gone: no others, by whole segments.
pub async fn only_what_is_gone_is_cleared<F: Fixture>(fixture: &F) {
    let cases: [(&str, Reach, &[&str]); 8] = [
        ("/a", Reach::AtOrBelow, &["/a", "/a/b", "/a/b/c", "/a/b!"]),
        ("/a/b", Reach::AtOrBelow, &["/a/b", "/a/b/c"]),
        ("/a/b", Reach::Below, &["/a/b/c"]),
        ("/a/b", Reach::At, &["/a/b"]),
        ("/", Reach::AtOrBelow, &ROOTS),
        ("/", Reach::Below, &["/a", "/a/b", "/a/b/c", "/a/b!", "/ab"]),
        ("/", Reach::At, &["/"]),
        ("/a/b/c/d", Reach::AtOrBelow, &[]),
    ];
    for (path, reach, expected) in cases {
        let store = fixture.fresh().await;
        let mut locks = Vec::new();
        for root in ROOTS {
            locks.push(Ask::shallow(ANN, root).one(&store).await);
        }
        let elsewhere = Ask::shallow(ANN, "/a/b").with(|parts| parts.root = key("/a/b").in_namespace("n")).one(&store).await;
        let count = answer(store.clear(&[gone(path, reach)], None)).await;
        assert_eq!(count, expected.len(), "{path} {reach:?}: how many went");
        for lock in &locks {
            let went = expected.contains(&lock.lock.root().path());
            assert_eq!(seen(&store, lock).await.is_none(), went, "{path} {reach:?}: {}", lock.lock.root());
        }
        assert!(seen(&store, &elsewhere).await.is_some(), "a namespace is a world of its own");
        assert_eq!(answer(store.clear(&[gone(path, reach)], None)).await, 0, "what is gone is gone");
    }
}

/// Several resources at once, a lock met twice counted once; the dead are lost as resource gone.
pub async fn a_move_clears_both_ends<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    let locks = Ask::several(ANN, &["/from/x", "/to/y", "/other"]).all(&store).await;
    let at_target = Ask::shallow(ANN, "/to").one(&store).await;
    let write = Wr::of(ANN, rename("/from", "/to")).with(&locks[0]).with(&locks[1]).with(&at_target);
    let running = write.admitted(&store, "every lock is answered for").await;
    let ends = [gone("/from", Reach::AtOrBelow), gone("/to", Reach::Below), gone("/from/x", Reach::AtOrBelow)];
    assert_eq!(answer(store.clear(&ends, running.permit.id())).await, 2, "each lock goes once");
    drop(running);
    assert!(seen(&store, &at_target).await.is_some(), "what was overwritten keeps its own lock");
    assert!(seen(&store, &locks[2]).await.is_some(), "what is elsewhere stays");
    let header = format!("(<{}>)", locks[0].token.urn());
    let refused = Wr::put(ANN, "/from/x").header("If", header).refused(&store, "its token is gone").await;
    assert_eq!(only(&refused.lost).cause, LostCause::ResourceGone, "told apart (G8)");
    Ask::exclusive(BOB, "/from").one(&store).await;
}

/// Marks are spared: a lock that waits for the very write which removes its resource is granted afterwards.
pub async fn marks_are_spared<F: Fixture>(fixture: &F) {
    if fixture.mode() == Mode::CheckOnly {
        return;
    }
    let store = fixture.fresh().await;
    let lock = Ask::exclusive(ANN, "/a/b").one(&store).await;
    let running = Wr::delete(ANN, "/a").with(&lock).admitted(&store, "its own token").await;
    let ask = Ask::exclusive(BOB, "/a/c").draining(fixture.grain() * 100);
    let mut coming = marked(&store, &ask).await;
    let ends = [gone("/a", Reach::AtOrBelow)];
    assert_eq!(answer(store.clear(&ends, running.permit.id())).await, 1, "clearing spares marks");
    still_pending(&mut coming, "the write still runs (G3)").await;
    drop(running);
    assert!(matches!(answer(coming).await, Acquired::Granted(_)), "the mark was spared");
}
