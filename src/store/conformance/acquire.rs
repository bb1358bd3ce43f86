//! Section 4, conflict and replacement: which locks can live at once (G4), and how one takes the place of another.

use std::time::Duration;

use super::{fixture::Fixture, kit::*};
use crate::{
    lock::{Depth, LockId, LockKind, LockScope, LockState, LostCause, Owner},
    store::{Acquired, LockQuery},
};

fn conflict_with(answer: &Acquired, by: &[&Held], rule: &str) {
    let Acquired::Conflict(conflict) = answer else { panic!("{rule}: expected a conflict, not {answer:?}") };
    same_ids(&conflict.blockers, by.iter().map(|held| held.lock.id()), rule);
}

/// A granted lock is what was asked for, starts now, and is found.
pub async fn a_granted_lock_is_what_was_asked_for<F: Fixture>(fixture: &F) {
    let (store, span) = (fixture.fresh().await, fixture.grain() * 60);
    let ask = Ask::exclusive(ANN, "/a/b").living(span).kind(LockKind::Other("tape".into())).with(|parts| {
        parts.owner = Owner::id("ann").named("Ann").xml("<href>mailto:a@b</href>");
        parts.reason = Some("nightly \"export\" \u{1F512} \\ ' --".into());
        parts.client_ref = Some("ref=1".into());
    });
    let lock = ask.one(&store).await.lock;
    let found = find(&store, LockQuery::id(lock.id())).await.pop().expect("a granted lock is found");
    for lock in [&lock, &found] {
        assert_eq!(**lock.parts(), *ask.locks[0].parts, "a lock keeps every word it was given");
        assert_eq!(lock.state(), LockState::Held, "it is held");
        assert_eq!(lock.expires_at(), Some(lock.created_at().after(span)), "its lifetime starts at the grant");
        assert!(lock.generation() > 0, "a granted lock has a generation (G6)");
        assert!(!lock.in_use(), "nobody writes yet");
    }
}

/// The table of conflicts: overlap, and not both shared; the same caller's own count too.
pub async fn the_table_of_conflicts<F: Fixture>(fixture: &F) {
    use Depth::{Infinity, Zero};
    use LockScope::{Exclusive, Shared};
    let free = [
        (("/a", Exclusive, Infinity), ("/ab", Exclusive, Infinity)),
        (("/a", Exclusive, Infinity), ("/b", Exclusive, Infinity)),
        (("/a", Exclusive, Zero), ("/a/b", Exclusive, Infinity)),
        (("/a", Exclusive, Zero), ("/", Exclusive, Zero)),
        (("/", Exclusive, Zero), ("/a", Exclusive, Infinity)),
        (("/a/b", Exclusive, Infinity), ("/a", Shared, Zero)),
        (("/a", Shared, Infinity), ("/a/b", Shared, Infinity)),
        (("/a", Shared, Infinity), ("/a", Shared, Infinity)),
        (("/a", Shared, Zero), ("/a", Shared, Infinity)),
        (("/a/b", Exclusive, Infinity), ("/a!", Exclusive, Infinity)),
    ];
    let clash = [
        (("/a", Exclusive, Infinity), ("/a", Exclusive, Infinity)),
        (("/a", Exclusive, Infinity), ("/a", Shared, Infinity)),
        (("/a", Exclusive, Zero), ("/a", Exclusive, Zero)),
        (("/a", Shared, Zero), ("/a", Exclusive, Zero)),
        (("/a", Exclusive, Infinity), ("/a/b/c/d", Exclusive, Zero)),
        (("/a", Shared, Infinity), ("/a/b/c/d", Exclusive, Zero)),
        (("/a", Exclusive, Infinity), ("/a/b", Shared, Infinity)),
        (("/", Exclusive, Infinity), ("/a/b", Shared, Zero)),
        (("/", Shared, Infinity), ("/a", Exclusive, Zero)),
        (("/", Exclusive, Zero), ("/", Exclusive, Infinity)),
    ];
    let ask = |who: Who, (path, scope, depth): (&'static str, LockScope, Depth)| Ask::new(who, path, scope, depth);
    for (one, two) in free.into_iter().flat_map(|(one, two)| [(one, two), (two, one)]) {
        let store = fixture.fresh().await;
        ask(ANN, one).one(&store).await;
        ask(BOB, two).one(&store).await;
        ask(ANN, ("/unrelated", LockScope::Exclusive, Depth::Infinity)).one(&store).await;
    }
    for (one, two) in clash.into_iter().flat_map(|(one, two)| [(one, two), (two, one)]) {
        let store = fixture.fresh().await;
        let lock = ask(ANN, one).one(&store).await;
        for who in [BOB, ANN, NOBODY] {
            let rule = format!("two conflicting locks never live at once (G4), {one:?} and {two:?}");
            conflict_with(&ask(who, two).go(&store).await, &[&lock], &rule);
        }
        lock.end(&store).await;
        ask(BOB, two).one(&store).await;
    }
}

/// A conflict names the locks in the way, up to a limit.
pub async fn a_conflict_names_its_blockers<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    for at in 0..5 {
        Ask::exclusive(ANN, &format!("/a/{at}/x")).one(&store).await;
    }
    for (limit, named) in [(1, 1), (4, 4), (5, 5), (6, 5)] {
        let mut ask = Ask::exclusive(BOB, "/a");
        ask.blockers = limit;
        match ask.go(&store).await {
            Acquired::Conflict(conflict) => {
                assert_eq!(conflict.blockers.len(), named, "at most {limit} blockers are named (G10)");
                assert_eq!(conflict.truncated, named < 5, "a list cut short says so (G10)");
            }
            other => panic!("locks below conflict (G4), not {other:?}"),
        }
    }
}

/// Several roots are all granted or none.
pub async fn several_roots_all_or_none<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    let locks = Ask::several(ANN, &["/a", "/b", "/c/d"]).all(&store).await;
    assert_eq!(locks.len(), 3, "a lock for each root");
    for (lock, path) in locks.iter().zip(["/a/1", "/b/1", "/c/d/1"]) {
        Wr::put(BOB, path).blocked(&store, &[lock], "each root is locked").await;
        Wr::put(ANN, path).with(lock).admitted(&store, "each lock has a token of its own").await;
    }
    Wr::put(ANN, "/a").with(&locks[1]).blocked(&store, &[&locks[0]], "each lock has a token of its own").await;

    let clash = Ask::several(BOB, &["/x", "/b/deep", "/y"]);
    conflict_with(&clash.go(&store).await, &[&locks[1]], "one root in the way refuses all");
    for path in ["/x", "/y"] {
        Wr::put(EVE, path).admitted(&store, "none is granted where one is refused").await;
        Ask::exclusive(EVE, path).one(&store).await;
    }
    locks[1].end(&store).await;
    let clash = Ask::several(BOB, &["/b/deep", "/z"]).go(&store).await;
    assert!(matches!(clash, Acquired::Granted(_)), "nothing was used up by the refusal: {clash:?}");
}

/// A lock replaced counts as absent, and ends in the same step: shared becomes exclusive, and back.
pub async fn a_lock_changes_scope_in_one_step<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    let shared = Ask::shared(ANN, "/a").one(&store).await;
    let up = Ask::exclusive(ANN, "/a").replacing(Swap::Own(shared.token)).one(&store).await;
    assert!(seen(&store, &shared).await.is_none(), "the replaced lock ends in the same step");
    assert!(up.lock.generation() > shared.lock.generation(), "a replacement has a generation of its own (G6)");
    Wr::put(ANN, "/a").with(&shared).blocked(&store, &[&up], "the old token is gone").await;
    Wr::put(ANN, "/a").with(&up).admitted(&store, "the new token answers").await;
    let down = Ask::shared(ANN, "/a").replacing(Swap::Own(up.token)).one(&store).await;
    Ask::shared(BOB, "/a/b").one(&store).await;
    let refused = Ask::exclusive(ANN, "/a").replacing(Swap::Own(down.token)).go(&store).await;
    assert!(matches!(refused, Acquired::Conflict(_)), "somebody else's shared lock is in the way of an upgrade");
    assert!(seen(&store, &down).await.is_some(), "a replacement that fails ends nothing");
    Wr::put(ANN, "/a/b").with(&down).admitted(&store, "and the old token still answers").await;
}

/// One lock may take the place of several, below and above.
pub async fn one_lock_replaces_several<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    let locks = Ask::several(ANN, &["/a/x", "/a/y"]).all(&store).await;
    let half = Ask::exclusive(ANN, "/a").replacing(Swap::Own(locks[0].token)).go(&store).await;
    conflict_with(&half, &[&locks[1]], "only what is replaced counts as absent");
    let ask = Ask::exclusive(ANN, "/a").replacing(Swap::Own(locks[0].token)).replacing(Swap::Own(locks[1].token));
    let wide = ask.one(&store).await;
    let mut narrow = Ask::several(ANN, &["/a/1", "/a/2"]);
    narrow.replaces.push(Swap::Own(wide.token));
    let two = narrow.all(&store).await;
    Wr::put(BOB, "/a/1").blocked(&store, &[&two[0]], "the narrower lock protects").await;
    Wr::put(BOB, "/a/x").admitted(&store, "the wider one is gone").await;
}

/// A lock to be replaced is proven as any other: by its token, from its principal.
pub async fn only_its_holder_replaces_a_lock<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    let lock = Ask::exclusive(ANN, "/a").one(&store).await;
    let stolen = Ask::exclusive(BOB, "/a").replacing(Swap::Own(lock.token)).go(&store).await;
    assert_eq!(stolen, Acquired::NotHolder, "a token does not work for another principal (G9)");
    assert!(seen(&store, &lock).await.is_some(), "and the lock lives on");
    lock.end(&store).await;
    let ask = Ask::exclusive(ANN, "/a").replacing(Swap::Own(lock.token));
    match ask.go(&store).await {
        Acquired::Lost(lost) => assert_eq!(only(&lost).cause, LostCause::Released, "it is told why (G8)"),
        other => panic!("a lock to be replaced that is gone is 412, not {other:?}"),
    }
    match Ask::exclusive(BOB, "/a").replacing(Swap::Own(lock.token)).go(&store).await {
        Acquired::Lost(lost) => assert_eq!(only(&lost).cause, LostCause::Unknown, "and told to its holder alone"),
        other => panic!("a lock to be replaced that is gone is 412, not {other:?}"),
    }
    Wr::put(BOB, "/a").admitted(&store, "a failed replacement grants nothing").await;
}

/// A principal replaces a lock of its own without the token, by its id: nobody else does, and it does not get around a break.
pub async fn its_principal_replaces_a_lock_by_its_id<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    let lock = Ask::exclusive(ANN, "/a").one(&store).await;
    for who in [BOB, NOBODY] {
        let stolen = Ask::exclusive(who, "/a").replacing(Swap::Id(lock.lock.id())).go(&store).await;
        assert_eq!(stolen, Acquired::NotHolder, "an id works for the lock's own principal alone");
    }
    let new = Ask::exclusive(ANN, "/a").replacing(Swap::Id(lock.lock.id())).one(&store).await;
    assert!(new.lock.generation() > lock.lock.generation(), "a replacement has a generation of its own (G6)");
    assert!(seen(&store, &lock).await.is_none(), "the replaced lock ends in the same step");
    Wr::put(ANN, "/a").with(&lock).blocked(&store, &[&new], "the old token is gone").await;
    Wr::put(ANN, "/a").with(&new).admitted(&store, "the new token answers").await;
    for gone in [lock.lock.id(), LockId::random()] {
        match Ask::exclusive(ANN, "/b").replacing(Swap::Id(gone)).go(&store).await {
            Acquired::Lost(lost) => assert_eq!(only(&lost).cause, LostCause::Unknown, "an id proves nothing"),
            other => panic!("a lock to be replaced that is gone is 412, not {other:?}"),
        }
    }
    let nobodys = Ask::exclusive(NOBODY, "/n").one(&store).await;
    let stolen = Ask::exclusive(NOBODY, "/n").replacing(Swap::Id(nobodys.lock.id())).go(&store).await;
    assert_eq!(stolen, Acquired::NotHolder, "nobody in particular owns a lock by its id");
    let freeze = Ask::exclusive(ANN, "/f").kind(LockKind::Freeze).one(&store).await;
    let thawed = Ask::exclusive(ANN, "/f").replacing(Swap::Id(freeze.lock.id())).go(&store).await;
    assert_eq!(thawed, Acquired::NotHolder, "a freeze is removed by a break alone");
    let _ = new.broken(&store, BOB, fixture.grain() * 100).await;
    let slipped = Ask::exclusive(ANN, "/a").replacing(Swap::Id(new.lock.id())).go(&store).await;
    assert!(matches!(slipped, Acquired::Lost(_)), "nobody slips out of a break, not even so: {slipped:?}");
}

/// Another's lock is replaced by a break, and its holder hears who and why.
pub async fn a_break_replaces_anothers_lock<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    let lock = Ask::exclusive(ANN, "/a").one(&store).await;
    let new = Ask::exclusive(BOB, "/a").replacing(Swap::Break(lock.lock.id())).one(&store).await;
    Wr::put(ANN, "/a").with(&lock).blocked(&store, &[&new], "the broken lock is gone").await;
    let header = format!("(<{}>)", lock.token.urn());
    let refused = Wr::put(ANN, "/a").header("If", header).refused(&store, "its token is gone").await;
    let lost = only(&refused.lost);
    assert!(matches!(lost.cause, LostCause::Broken | LostCause::Replaced), "it was broken (G8): {lost:?}");
    assert_eq!(lost.actor, principal(BOB), "its holder hears who broke it");
    assert_eq!(lost.reason.as_deref(), Some("because"), "and why");
    let unknown = Ask::exclusive(EVE, "/b").replacing(Swap::Break(LockId::random())).go(&store).await;
    assert!(matches!(unknown, Acquired::Lost(_)), "a lock to be broken that is not there is 412, not {unknown:?}");
    let freeze = Ask::exclusive(ANN, "/f").kind(LockKind::Freeze).one(&store).await;
    let thawed = Ask::exclusive(ANN, "/f").replacing(Swap::Own(freeze.token)).go(&store).await;
    assert_eq!(thawed, Acquired::NotHolder, "a freeze is removed by a break, and by nobody's token");
    Ask::exclusive(BOB, "/f").replacing(Swap::Break(freeze.lock.id())).one(&store).await;
}

/// A lock that was replaced is lost as replaced.
pub async fn a_replaced_lock_is_lost_as_replaced<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    let old = Ask::exclusive(ANN, "/a").one(&store).await;
    Ask::exclusive(ANN, "/a").replacing(Swap::Own(old.token)).one(&store).await;
    let header = format!("(<{}>)", old.token.urn());
    let refused = Wr::put(ANN, "/a").header("If", header).refused(&store, "its token is gone").await;
    assert_eq!(only(&refused.lost).cause, LostCause::Replaced, "another lock took its place (G8)");
    let again = Ask::exclusive(ANN, "/b").token(old.token).go(&store).await;
    assert!(matches!(again, Acquired::Lost(_)), "a replaced token is used up, not {again:?}");
}

/// An acquire with no time at all over nothing in flight is simply granted.
pub async fn no_drain_is_needed_where_nobody_writes<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    let locks = Ask::several(ANN, &["/a", "/b"]).draining(Duration::ZERO).all(&store).await;
    assert_eq!(locks.len(), 2, "nothing is waited for");
}
