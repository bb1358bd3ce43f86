//! Section 4, admission: which locks a write has to answer for, and what answers.

use super::{
    fixture::{Fixture, Mode},
    kit::*,
};
use crate::{
    lock::{Depth, HolderProof, Lock, LockKind, LockScope, LockToken, LostCause, Membership, Target},
    store::Verdict,
};

/// An unlocked resource takes any write by anybody, and nothing is said to be answered for.
pub async fn nothing_refuses_where_no_lock_is<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    for write in [Wr::put(ANN, "/a"), Wr::put(NOBODY, "/"), Wr::delete(BOB, "/a"), Wr::of(ANN, rename("/a/x", "/b/x"))] {
        let admitted = write.admitted(&store, "no lock, no refusal").await;
        assert!(admitted.answered.is_none(), "nothing stood in the way, so nothing was answered for");
        assert_eq!(admitted.permit.id().is_some(), fixture.mode() == Mode::Guarded, "the mode says whether writes register");
    }
}

/// What a store lets through without a look at conditions and callers is touched by no lock: not by the writer's own, and not
/// by one that a bare principal answers for.
pub async fn what_a_lock_touches_is_not_let_through<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    let locks = [Ask::exclusive(ANN, "/a/b").one(&store).await, Ask::shared(ANN, "/c").one(&store).await];
    let flat = Ask::shallow(NOBODY, "/d").one(&store).await;
    let writes = [
        Wr::put(ANN, "/a/b"),
        Wr::put(ANN, "/a/b/c/d"),
        Wr::delete(ANN, "/a"),
        Wr::of(ANN, [replace_below("/")]),
        Wr::put(ANN, "/c"),
        Wr::put(NOBODY, "/d"),
        Wr::of(NOBODY, [create("/d/new")]),
        Wr::of(ANN, rename("/x", "/d/new")),
        Wr::of(ANN, [put("/x"), put("/a/b")]),
    ];
    for write in &writes {
        assert!(write.let_through(&store).is_none(), "{:?} touches a lock", write.targets);
        let further = answer(write.start_by_let_through(&store)).await;
        let refused = further.refused().unwrap_or_else(|| panic!("{:?} was admitted", write.targets));
        let anew = write.refused(&store, "nothing answers for the locks").await;
        same_ids(&refused.blockers, anew.blockers.iter().map(Lock::id), "it makes no difference what was asked before");
    }
    // Where they touch none, it may be; and may not be where a store has no such short way.
    for write in [
        Wr::put(ANN, "/a"),
        Wr::put(ANN, "/a/bc"),
        Wr::put(ANN, "/d/x"),
        Wr::of(ANN, [Target::write(key("/a/b").in_namespace("n"))]),
    ] {
        let permit = write.let_through(&store);
        let registered = permit.as_ref().map(|permit| permit.id().is_some());
        assert!(registered.is_none_or(|registered| registered == (fixture.mode() == Mode::Guarded)), "as `admit` registers");
    }
    for held in locks.iter().chain([&flat]) {
        held.end(&store).await;
    }
    for write in &writes {
        write.admitted(&store, "the locks are gone").await;
    }
}

/// A lock covers its root; with depth infinity everything below, by whole segments.
pub async fn coverage_goes_by_whole_segments<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    let deep = Ask::exclusive(ANN, "/a/b").one(&store).await;
    for path in ["/a/b", "/a/b/c", "/a/b/c/d/e", "/a/b/-", "/a/b/!"] {
        Wr::put(BOB, path).blocked(&store, &[&deep], "a lock of depth infinity covers its root and all below").await;
    }
    for path in ["/", "/a", "/a/bc", "/a/b-", "/a/b!", "/a/b.c", "/a/b c", "/b", "/A/b", "/a/c", "/b/a/b"] {
        Wr::put(BOB, path).admitted(&store, "coverage goes by whole segments").await;
    }
}

/// A lock on `/` covers everything.
pub async fn a_lock_on_the_root_covers_everything<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    let all = Ask::exclusive(ANN, "/").one(&store).await;
    for path in ["/", "/a", "/a/b/c"] {
        Wr::put(BOB, path).blocked(&store, &[&all], "`/` with depth infinity covers everything").await;
        Wr::delete(BOB, path).blocked(&store, &[&all], "`/` with depth infinity covers everything").await;
        Wr::put(ANN, path).with(&all).admitted(&store, "its holder writes everywhere").await;
    }
}

/// A depth-zero lock protects the content and the membership of its root, not the content of its members.
pub async fn depth_zero_protects_membership_and_not_members<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    let parent = Ask::shallow(ANN, "/a").one(&store).await;
    let rule = "a depth-zero lock protects the membership of its root";
    for write in [
        Wr::put(BOB, "/a"),
        Wr::of(BOB, [create("/a/new")]),
        Wr::delete(BOB, "/a/old"),
        Wr::delete(BOB, "/a"),
        Wr::delete(BOB, "/"),
        Wr::of(BOB, rename("/a/old", "/b/x")),
        Wr::of(BOB, rename("/b/x", "/a/new")),
    ] {
        write.blocked(&store, &[&parent], rule).await;
        write.with(&parent).blocked(&store, &[&parent], "a token does not work for another principal (G9)").await;
    }
    let rule = "a depth-zero lock does not protect the content of members";
    for write in [
        Wr::put(BOB, "/a/old"),
        Wr::of(BOB, [create("/a/old/new")]),
        Wr::delete(BOB, "/a/old/x"),
        Wr::of(BOB, [replace_below("/a/old")]),
        Wr::of(BOB, [create("/b")]),
        Wr::put(BOB, "/"),
    ] {
        write.admitted(&store, rule).await;
    }
    Wr::of(ANN, [create("/a/new")]).with(&parent).admitted(&store, "its token answers for the membership").await;
    Wr::delete(ANN, "/a/old").with(&parent).admitted(&store, "its token answers for the membership").await;
}

/// A depth-zero lock on `/` protects the members of `/` alone.
pub async fn depth_zero_on_the_root<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    let root = Ask::shallow(ANN, "/").one(&store).await;
    Wr::of(BOB, [create("/a")]).blocked(&store, &[&root], "`/` is the parent of `/a`").await;
    Wr::delete(BOB, "/a").blocked(&store, &[&root], "`/` is the parent of `/a`").await;
    Wr::of(BOB, [create("/a/b")]).admitted(&store, "`/` is not the parent of `/a/b`").await;
    Wr::delete(BOB, "/a/b").admitted(&store, "`/` is not the parent of `/a/b`").await;
}

/// A write that unlinks has to answer for every lock rooted below, however deep, whatever its depth.
pub async fn unlinking_meets_every_lock_below<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    let near = Ask::shallow(ANN, "/a/b").one(&store).await;
    let far = Ask::exclusive(EVE, "/a/c/d/e/f").one(&store).await;
    let other = Ask::exclusive(EVE, "/ab").one(&store).await;
    for write in [Wr::delete(BOB, "/a"), Wr::of(BOB, [replace_below("/a")]), Wr::of(BOB, rename("/a", "/z"))] {
        write.blocked(&store, &[&near, &far], "a lock below an unlinked resource must be answered for").await;
    }
    Wr::delete(BOB, "/").blocked(&store, &[&near, &far, &other], "everything is below `/`").await;
    Wr::delete(ANN, "/a").with(&near).blocked(&store, &[&far], "one token answers for one lock").await;
    Wr::put(BOB, "/a").admitted(&store, "a write that unlinks nothing does not reach below").await;
    far.end(&store).await;
    Wr::delete(ANN, "/a").with(&near).admitted(&store, "every lock below was answered for").await;
}

/// MOVE answers for what lies below its source, below its destination, and for both parents.
pub async fn a_move_meets_locks_at_both_ends<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    let source = Ask::exclusive(ANN, "/from/x/deep").one(&store).await;
    let target = Ask::exclusive(ANN, "/to/y/deep").one(&store).await;
    let parent = Ask::shallow(ANN, "/to").one(&store).await;
    let write = Wr::of(BOB, rename("/from/x", "/to/y"));
    write
        .blocked(&store, &[&source, &target, &parent], "MOVE unlinks source and destination and changes both parents")
        .await;
    let write = Wr::of(ANN, rename("/from/x", "/to/y")).with(&source).with(&target);
    write.blocked(&store, &[&parent], "each lock by its own token").await;
    write.with(&parent).admitted(&store, "everything is answered for").await;
}

/// One lock that several targets meet is named once.
pub async fn a_lock_met_twice_is_named_once<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    let lock = Ask::exclusive(ANN, "/a").one(&store).await;
    let write = Wr::of(BOB, [create("/a/x"), create("/a/y"), delete("/a/z"), delete("/a")]);
    write.blocked(&store, &[&lock], "a lock is named once").await;
    let admitted = Wr { who: ANN, ..write }.with(&lock).admitted(&store, "answered for once, answered for").await;
    let answered = admitted.answered.unwrap_or_default();
    same_ids(&answered, [lock.lock.id()], "a lock is answered for once");
}

/// A token answers for its own lock only, and only when its own principal submits it.
pub async fn a_token_answers_for_its_own_lock_only<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    let here = Ask::exclusive(ANN, "/a").one(&store).await;
    let there = Ask::exclusive(ANN, "/b").one(&store).await;
    Wr::put(ANN, "/a").blocked(&store, &[&here], "being the principal is not enough").await;
    Wr::put(ANN, "/a").with(&there).blocked(&store, &[&here], "a token answers for its own lock only").await;
    Wr::put(BOB, "/a").with(&here).blocked(&store, &[&here], "a token works for its principal only (G9)").await;
    Wr::put(NOBODY, "/a").with(&here).blocked(&store, &[&here], "a token works for its principal only (G9)").await;
    let stranger = Held { token: LockToken::random(), ..here.clone() };
    Wr::put(ANN, "/a").with(&stranger).blocked(&store, &[&here], "an unknown token answers for nothing").await;
    let admitted = Wr::put(ANN, "/a").with(&there).with(&here).admitted(&store, "the right token is among them").await;
    same_ids(&admitted.answered.unwrap_or_default(), [here.lock.id()], "what the write touches was answered for");
}

/// Two absent principals are equal, and differ from every present one.
pub async fn anonymous_callers_are_one<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    let lock = Ask::exclusive(NOBODY, "/a").one(&store).await;
    Wr::put(NOBODY, "/a").with(&lock).admitted(&store, "two absent principals are equal").await;
    Wr::put(ANN, "/a").with(&lock).blocked(&store, &[&lock], "a present principal is not the absent one").await;
    Wr::put(Some(""), "/a").with(&lock).blocked(&store, &[&lock], "an empty name is a principal").await;
}

/// The token of one shared lock answers for others that cover no more of what the write changes.
pub async fn a_shared_token_answers_for_other_shared_locks<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    let wide = Ask::shared(ANN, "/a").one(&store).await;
    let narrow = Ask::shared(BOB, "/a/b").one(&store).await;
    let rule = "a shared lock is answered for by another that covers what it covers of this write";
    Wr::put(ANN, "/a/b/c").with(&wide).admitted(&store, rule).await;
    Wr::put(BOB, "/a/b/c").with(&narrow).admitted(&store, rule).await;
    Wr::put(BOB, "/a/x").with(&narrow).blocked(&store, &[&wide], "a token that does not cover the write is none").await;
    Wr::put(EVE, "/a/b/c").blocked(&store, &[&wide, &narrow], "no token, no answer").await;
    Wr::put(EVE, "/a/b").with(&wide).blocked(&store, &[&wide, &narrow], "somebody else's token does not vouch").await;
}

/// … of what this write changes: a narrow lock vouches for a wide one where the write stays inside the narrow one, and
/// not where it goes beyond.
pub async fn vouching_counts_what_the_write_changes<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    let wide = Ask::shared(ANN, "/a").one(&store).await;
    let narrow = Ask::shared(BOB, "/a/b").one(&store).await;
    let flat = Ask::new(EVE, "/a/b", LockScope::Shared, Depth::Zero).one(&store).await;
    let rule = "the token covers less than the other lock does of what this write changes";
    Wr::of(BOB, [put("/a/b"), put("/a/c")]).with(&narrow).blocked(&store, &[&wide], rule).await;
    Wr::delete(BOB, "/a/b").with(&narrow).blocked(&store, &[&wide], "the parent changes too").await;
    Wr::of(BOB, [create("/a/b")]).with(&narrow).blocked(&store, &[&wide], "the parent changes too").await;
    Wr::of(EVE, [replace_below("/a/b")]).with(&flat).blocked(&store, &[&wide, &narrow], rule).await;
    let rule = "of what this write changes, the token covers all";
    Wr::of(BOB, [replace_below("/a/b")]).with(&narrow).admitted(&store, rule).await;
    Wr::of(BOB, [put("/a/b"), put("/a/b/c")]).with(&narrow).admitted(&store, rule).await;
    Wr::put(EVE, "/a/b").with(&flat).admitted(&store, rule).await;
    Wr::delete(ANN, "/a/b").with(&wide).admitted(&store, rule).await;
    let below = Ask::shared(BOB, "/a/b/c/d").one(&store).await;
    Wr::delete(ANN, "/a/b").with(&wide).admitted(&store, rule).await;
    Wr::delete(BOB, "/").with(&below).blocked(&store, &[&wide, &narrow, &flat], "the subtree is more than one lock").await;
}

/// An exclusive lock is never vouched for, and vouches for nothing.
pub async fn exclusive_locks_vouch_for_nothing<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    let one = Ask::exclusive(ANN, "/a/x").one(&store).await;
    let two = Ask::exclusive(ANN, "/a/y").one(&store).await;
    let shared = Ask::shared(ANN, "/a/z").one(&store).await;
    let rule = "an exclusive lock answers for itself";
    Wr::delete(ANN, "/a").with(&one).with(&shared).blocked(&store, &[&two], rule).await;
    Wr::delete(ANN, "/a").with(&one).with(&two).blocked(&store, &[&shared], rule).await;
    Wr::delete(ANN, "/a").with(&one).with(&two).with(&shared).admitted(&store, "each by its own").await;
}

/// A freeze is answered for by nobody's token, and by no other shared lock.
pub async fn nobody_answers_for_a_freeze<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    let freeze = Ask::shared(ANN, "/a").kind(LockKind::Freeze).one(&store).await;
    let other = Ask::shared(ANN, "/a").one(&store).await;
    let rule = "a freeze is answered for by nobody's token";
    Wr::put(ANN, "/a/x").with(&freeze).blocked(&store, &[&freeze, &other], rule).await;
    Wr::put(ANN, "/a/x").with(&freeze).with(&other).blocked(&store, &[&freeze], rule).await;
    Wr::put(ANN, "/a/x").with(&other).proof(HolderProof::Principal).blocked(&store, &[&freeze], rule).await;
}

/// The proof of a holder is the caller's to choose: token alone, principal alone, a function.
pub async fn other_proofs_of_a_holder<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    let lock = Ask::exclusive(ANN, "/a").one(&store).await;
    Wr::put(BOB, "/a").with(&lock).proof(HolderProof::Token).admitted(&store, "the token alone").await;
    Wr::put(ANN, "/a").proof(HolderProof::Token).blocked(&store, &[&lock], "the token alone").await;
    Wr::put(ANN, "/a").proof(HolderProof::Principal).admitted(&store, "the principal alone").await;
    Wr::put(BOB, "/a").with(&lock).proof(HolderProof::Principal).blocked(&store, &[&lock], "the principal alone").await;
    let by_ref = HolderProof::by(|claim| claim.lock.reason() == Some("conformance") && claim.principal.is_none());
    Wr::put(NOBODY, "/a").proof(by_ref.clone()).admitted(&store, "a function").await;
    Wr::put(ANN, "/a").with(&lock).proof(by_ref).blocked(&store, &[&lock], "a function").await;
}

/// A refusal names blocking locks up to a limit, and says when there are more.
pub async fn blockers_are_listed_up_to_a_limit<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    let mut locks = Vec::new();
    for at in 0..7 {
        locks.push(Ask::exclusive(ANN, &format!("/a/{at}")).one(&store).await.lock.id());
    }
    for (limit, named) in [(1, 1), (6, 6), (7, 7), (8, 7)] {
        let refused = Wr::delete(BOB, "/a").naming(limit).refused(&store, "locks below refuse").await;
        assert_eq!(refused.blockers.len(), named, "at most {limit} blockers are named (G10)");
        assert_eq!(refused.truncated, named < 7, "a list cut short says so (G10)");
        assert!(refused.blockers.iter().all(|lock| locks.contains(&lock.id())), "blockers are locks that block");
    }
}

/// Keys of different namespaces have nothing to do with each other.
pub async fn namespaces_are_worlds_apart<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    let in_ns = |namespace: &'static str| {
        move |parts: &mut crate::lock::LockParts| {
            parts.root = key("/a").in_namespace(namespace);
        }
    };
    let one = Ask::exclusive(ANN, "/a").with(in_ns("one")).one(&store).await;
    let prefix = Ask::exclusive(BOB, "/a").with(in_ns("on")).one(&store).await;
    let longer = Ask::exclusive(BOB, "/a").with(in_ns("one/a")).one(&store).await;
    let none = Ask::exclusive(BOB, "/a").one(&store).await;
    let empty = Ask::exclusive(BOB, "/a").with(in_ns("")).one(&store).await;
    for (namespace, lock) in
        [(Some("one"), &one), (Some("on"), &prefix), (Some("one/a"), &longer), (Some(""), &empty), (None, &none)]
    {
        let target = match namespace {
            Some(namespace) => key("/a/b").in_namespace(namespace),
            None => key("/a/b"),
        };
        let write = Target { key: target, effect: crate::lock::Effect::Unlink, membership: Membership::Changed };
        Wr::of(EVE, [write]).blocked(&store, &[lock], "a namespace is a world of its own").await;
    }
    let free = Target::unlink(key("/").in_namespace("o"));
    Wr::of(EVE, [free]).admitted(&store, "a namespace is a world of its own").await;
}

/// `If` is a condition: a token that is not live there is 412, with what blocks.
pub async fn a_false_condition_comes_before_locks<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    let lock = Ask::exclusive(ANN, "/a").one(&store).await;
    let gone = Ask::exclusive(ANN, "/b").one(&store).await;
    gone.end(&store).await;
    let tagged = |held: &Held| format!("(<{}>)", held.token.urn());
    Wr::put(ANN, "/a").header("If", tagged(&lock)).admitted(&store, "a true condition submits its token").await;

    let refused = Wr::put(ANN, "/a").header("If", tagged(&gone)).refused(&store, "a token that is gone is 412").await;
    assert!(refused.condition_failed, "a false `If` is 412 `lock_lost`, not 423");
    assert_eq!(only(&refused.lost).cause, LostCause::Released, "what was lost is told apart (G8)");
    assert_eq!(only(&refused.lost).id, Some(gone.lock.id()), "its former holder hears which");
    same_ids(&refused.blockers, [lock.lock.id()], "a 412 still lists current blockers");

    let refused = Wr::put(ANN, "/free").header("If", tagged(&lock)).refused(&store, "`If` about a resource elsewhere").await;
    assert!(refused.condition_failed && refused.blockers.is_empty(), "the condition is false though nothing blocks");
    assert_eq!(only(&refused.lost).cause, LostCause::OutOfScope, "the lock lives, but not here");

    let refused = Wr::put(BOB, "/free").header("If", tagged(&gone)).refused(&store, "a token that is gone is 412").await;
    assert_eq!(only(&refused.lost).cause, LostCause::Unknown, "dead locks are told to their principal only");

    let either = format!("{} {}", tagged(&gone), tagged(&lock));
    Wr::put(ANN, "/a").header("If", either).admitted(&store, "one true list is enough").await;
    let not = format!("(Not <{}>)", gone.token.urn());
    Wr::put(ANN, "/free").header("If", not).admitted(&store, "`Not` a token that is gone is true").await;
    let not = format!("(Not <{}>)", lock.token.urn());
    let refused = Wr::put(ANN, "/a").header("If", not).refused(&store, "`Not` a live token is false").await;
    assert!(refused.condition_failed, "`Not` a live token is false");
    let never = "(<DAV:no-lock>)";
    let refused = Wr::put(ANN, "/free").header("If", never).refused(&store, "`DAV:no-lock` matches nothing").await;
    assert!(refused.condition_failed && refused.lost.is_empty(), "`DAV:no-lock` is no token, so none was lost");
    let tag = format!("(<{}> [\"etag\"])", lock.token.urn());
    Wr::put(ANN, "/a").header("If", tag).admitted(&store, "entity tags count true in the core").await;
}

/// A token counts as submitted wherever it stands in `If`: also in a list about another resource.
pub async fn tokens_count_wherever_they_stand<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    let here = Ask::exclusive(ANN, "/a").one(&store).await;
    let there = Ask::exclusive(ANN, "/b").one(&store).await;
    let header = format!("</b> (<{}>) </a> (<{}>)", there.token.urn(), here.token.urn());
    Wr::of(ANN, rename("/a", "/b")).header("If", header).admitted(&store, "both tokens stand in `If`").await;
    let header = format!("</b> (<{}>)", there.token.urn());
    Wr::put(ANN, "/a").header("If", header).blocked(&store, &[&here], "`If` is true, but `/a` is not answered for").await;
    let header = format!("(<DAV:no-lock>) (Not <DAV:no-lock>) (<{}>)", here.token.urn());
    Wr::put(ANN, "/a").header("If", header).admitted(&store, "also in a list that need not be true").await;
}

/// `Lock-Token` on a write: that token is live, the caller's, and covers something this write changes.
pub async fn lock_token_on_a_write_is_a_condition<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    let lock = Ask::exclusive(ANN, "/a").one(&store).await;
    let coded = |held: &Held| format!("<{}>", held.token.urn());
    Wr::put(ANN, "/a/x").header("Lock-Token", coded(&lock)).admitted(&store, "`Lock-Token` submits its token").await;
    let refused =
        Wr::put(ANN, "/b").header("Lock-Token", coded(&lock)).refused(&store, "it covers nothing of this write").await;
    assert!(refused.condition_failed, "`Lock-Token` is one more condition");
    assert_eq!(only(&refused.lost).cause, LostCause::OutOfScope, "the lock lives, but not here");
    let refused = Wr::put(BOB, "/a").header("Lock-Token", coded(&lock)).refused(&store, "it is not the caller's").await;
    assert!(refused.condition_failed, "a token of somebody else's makes the condition false");
    assert_eq!(only(&refused.lost).cause, LostCause::Unknown, "nobody hears of another's lock by its token (G9)");
    lock.end(&store).await;
    let refused = Wr::put(ANN, "/a").header("Lock-Token", coded(&lock)).refused(&store, "it is gone").await;
    assert!(refused.condition_failed, "a token that is gone makes the condition false");
    assert_eq!(only(&refused.lost).cause, LostCause::Released, "it is told why (G8)");
}

/// What a verdict refuses leaves no trace: nobody is held up by a write that did not happen.
pub async fn a_refused_write_is_not_registered<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    let lock = Ask::exclusive(ANN, "/a/b").one(&store).await;
    let verdict: Verdict = Wr::delete(BOB, "/a").verdict(&store).await;
    assert!(verdict.refused().is_some(), "the lock below refuses");
    let refused = Wr::of(BOB, [put("/z")]).header("If", "(<DAV:no-lock>)").refused(&store, "a false condition").await;
    assert!(refused.condition_failed, "a false condition");
    Ask::exclusive(ANN, "/a/c").one(&store).await;
    Ask::exclusive(ANN, "/z").one(&store).await;
    lock.end(&store).await;
    drop(verdict);
}

/// A request that changes nothing may have conditions all the same (a read with `If`): they alone decide, whatever is
/// locked, and nothing is in its way or in anybody's.
pub async fn conditions_are_decided_without_a_write<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    let lock = Ask::exclusive(ANN, "/a").one(&store).await;
    let urn = lock.token.urn();
    let nothing = |header: String| Wr::of(BOB, []).header("If", header);
    for header in [format!("</a> (<{urn}>)"), format!("</a/b> (<{urn}>)"), "</a> (Not <DAV:no-lock>)".to_owned()] {
        let admitted = nothing(header).admitted(&store, "a true condition lets a request pass that changes nothing").await;
        assert!(admitted.answered.is_none(), "what changes nothing meets no lock");
        let over = Ask::exclusive(EVE, "/z").one(&store).await;
        over.end(&store).await;
    }
    for header in [format!("</b> (<{urn}>)"), format!("</a> (Not <{urn}>)"), "</a> (<DAV:no-lock>)".to_owned()] {
        let refused = nothing(header).refused(&store, "a false condition refuses it").await;
        assert!(refused.condition_failed && refused.blockers.is_empty(), "by the condition alone: {refused:?}");
    }
    Wr::of(BOB, []).admitted(&store, "nothing at all is refused by nothing").await;
}
