use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::lock::{Claim, LockId, LockLife, LockState, Owner, Timestamp};

use Depth::{Infinity, Zero};
use LockScope::{Exclusive, Shared};

fn key(path: &str) -> ResourceKey<'static> {
    ResourceKey::from_canonical(path.to_owned())
}

fn parts(root: &str, depth: Depth, scope: LockScope) -> LockParts {
    LockParts {
        id: LockId::random(),
        root: key(root),
        scope,
        depth,
        kind: LockKind::User,
        principal: Some("ann".into()),
        owner: Owner::default(),
        reason: None,
        client_ref: None,
        claim: Claim::Made,
    }
}

fn lock_of(parts: LockParts, state: LockState) -> Lock {
    let life = LockLife {
        state,
        created_at: Timestamp::EPOCH,
        seen_at: Timestamp::EPOCH,
        expires_at: None,
        generation: 1,
        in_use: false,
    };
    Lock::new(Arc::new(parts), life)
}

fn lock(root: &str, depth: Depth, scope: LockScope) -> Lock {
    lock_of(parts(root, depth, scope), LockState::Held)
}

#[test]
fn a_lock_covers_its_root_and_with_infinity_what_is_below_by_whole_segments() {
    for (root, depth, path, covered) in [
        ("/a", Zero, "/a", true),
        ("/a", Zero, "/a/b", false),
        ("/a", Zero, "/", false),
        ("/a", Infinity, "/a", true),
        ("/a", Infinity, "/a/b/c", true),
        ("/a", Infinity, "/ab", false),
        ("/a", Infinity, "/", false),
        ("/a/b", Infinity, "/a", false),
        ("/", Infinity, "/", true),
        ("/", Infinity, "/a/b", true),
        ("/", Zero, "/a", false),
    ] {
        assert_eq!(covers(&key(root), depth, &key(path)), covered, "{root} {depth} {path}");
    }
    let tenant = key("/a").in_namespace("t");
    assert!(!covers(&key("/a"), Infinity, &tenant) && !covers(&tenant, Infinity, &key("/a")));
    assert!(covers(&tenant, Infinity, &key("/a/b").in_namespace("t")));
}

#[test]
fn locks_conflict_when_they_overlap_and_are_not_both_shared() {
    for (a, b, meet) in [
        (("/a", Zero), ("/a", Zero), true),
        (("/a", Infinity), ("/a/b", Zero), true),
        (("/a", Zero), ("/a/b", Zero), false),
        (("/a", Zero), ("/a/b", Infinity), false),
        (("/a", Zero), ("/", Infinity), true),
        (("/a", Infinity), ("/ab", Infinity), false),
        (("/a/b", Infinity), ("/a/c", Infinity), false),
    ] {
        assert_eq!(overlap((&key(a.0), a.1), (&key(b.0), b.1)), meet, "{a:?} {b:?}");
        for (one, other) in [(a, b), (b, a)] {
            for (scopes, possible) in [
                ((Exclusive, Exclusive), true),
                ((Exclusive, Shared), true),
                ((Shared, Exclusive), true),
                ((Shared, Shared), false),
            ] {
                let found = conflict(&parts(one.0, one.1, scopes.0), &parts(other.0, other.1, scopes.1));
                assert_eq!(found, meet && possible, "{one:?} {other:?} {scopes:?}");
            }
        }
    }
}

#[test]
fn a_write_touches_the_locks_on_what_it_changes() {
    let write = Target::write(key("/a/b"));
    let member = Target::write_member(key("/a/b"));
    let unlink = Target::unlink(key("/a/b"));
    for (root, depth, by_write, by_member, by_unlink) in [
        ("/a/b", Zero, true, true, true),
        ("/a", Infinity, true, true, true),
        ("/", Infinity, true, true, true),
        // Depth zero on the parent protects its membership, not the content of its members.
        ("/a", Zero, false, true, true),
        ("/", Zero, false, false, false),
        ("/a/b/c", Zero, false, false, true),
        ("/a/b/c/d", Infinity, false, false, true),
        ("/a/c", Infinity, false, false, false),
        ("/a/bc", Infinity, false, false, false),
    ] {
        for (target, touched) in [(&write, by_write), (&member, by_member), (&unlink, by_unlink)] {
            assert_eq!(touches(&key(root), depth, target), touched, "{root} {depth} {target:?}");
        }
    }
    assert!(!touches(&key("/a/b").in_namespace("t"), Infinity, &unlink));
    assert!(touches(&key("/"), Zero, &Target::unlink(key("/"))), "the root has no parent, and is itself");
}

#[test]
fn a_shared_lock_vouches_for_another_of_what_the_write_changes() {
    let write = [Target::write(key("/a/b/c"))];
    let member = [Target::write_member(key("/a/b/c"))];
    let unlink = [Target::unlink(key("/a/b"))];
    for (other, first, targets, vouched) in [
        // Both cover the one resource that changes: how far each reaches beside that does not matter.
        (("/a/b/c", Zero), ("/", Infinity), &write[..], true),
        (("/", Infinity), ("/a/b/c", Zero), &write, true),
        // The first also protects the parent's membership, the other does not.
        (("/a/b/c", Zero), ("/a", Infinity), &member, false),
        (("/a/b", Infinity), ("/", Infinity), &member, true),
        (("/a/b", Zero), ("/a/b/c", Zero), &member, false),
        (("/a/b/c", Infinity), ("/a/b", Zero), &member, false),
        // A tree goes: the other has to cover all of it that the first covers.
        (("/a/b/x", Zero), ("/a/b/y", Zero), &unlink, false),
        (("/a", Infinity), ("/a/b/y", Infinity), &unlink, true),
        (("/a/b", Infinity), ("/a", Infinity), &unlink, false),
        (("/a/b", Infinity), ("/a/b", Zero), &unlink, true),
        (("/a/b", Zero), ("/a/b", Infinity), &unlink, false),
    ] {
        let (o, f) = (key(other.0), key(first.0));
        assert_eq!(vouches((&o, other.1), (&f, first.1), targets), vouched, "{other:?} for {first:?}");
    }
    assert!(!vouches((&key("/a").in_namespace("t"), Infinity), (&key("/a"), Infinity), &write));
}

/// The answers to a write of `targets` by `principal` that submits the tokens of the locks at `submitted`.
fn asked(locks: &[Lock], targets: &[Target<'_>], principal: Option<&str>, submitted: &[usize]) -> Vec<Answer> {
    let principal = principal.map(Principal::new);
    let ids: Vec<_> = submitted.iter().map(|at| locks[*at].id()).collect();
    let answers = answers(locks, targets, principal.as_ref(), &HolderProof::default(), |lock| ids.contains(&lock.id()));
    assert_eq!(answers.admit(), !answers.each.contains(&Answer::Refused));
    answers.each
}

#[test]
fn a_lock_is_answered_for_by_its_own_token_from_its_own_principal() {
    let locks = [lock("/a", Infinity, Exclusive)];
    let write = [Target::write(key("/a"))];
    assert_eq!(asked(&locks, &write, Some("ann"), &[0]), [Answer::Own]);
    assert_eq!(asked(&locks, &write, Some("ann"), &[]), [Answer::Refused], "the principal alone is no proof");
    assert_eq!(asked(&locks, &write, Some("bob"), &[0]), [Answer::Refused], "a stolen token does not work");
    assert_eq!(asked(&locks, &write, None, &[0]), [Answer::Refused], "nor without a principal");
    let anonymous = [lock_of(LockParts { principal: None, ..parts("/a", Zero, Exclusive) }, LockState::Held)];
    assert_eq!(asked(&anonymous, &write, None, &[0]), [Answer::Own], "two anonymous callers are equal");
    assert_eq!(asked(&anonymous, &write, Some("ann"), &[0]), [Answer::Refused]);
    assert!(answers(&[], &write, None, &HolderProof::default(), |_| false).admit());
}

#[test]
fn a_token_answers_for_its_own_lock_only() {
    let unlink = [Target::unlink(key("/a"))];
    let locks = [lock("/a/b", Zero, Exclusive), lock("/a/c", Zero, Exclusive)];
    assert_eq!(asked(&locks, &unlink, Some("ann"), &[0]), [Answer::Own, Answer::Refused]);
    assert_eq!(asked(&locks, &unlink, Some("ann"), &[0, 1]), [Answer::Own, Answer::Own]);
}

#[test]
fn a_shared_lock_is_also_answered_for_by_the_token_of_one_that_covers_as_much_of_the_change() {
    let strangers = LockParts { principal: Some("bob".into()), ..parts("/a", Infinity, Shared) };
    let locks = [lock("/a/b", Zero, Shared), lock_of(strangers, LockState::Held)];
    let write = [Target::write(key("/a/b"))];
    let member = [Target::write_member(key("/a/b"))];
    assert_eq!(asked(&locks, &write, Some("ann"), &[0]), [Answer::Own, Answer::Shared]);
    assert_eq!(asked(&locks, &member, Some("ann"), &[0]), [Answer::Own, Answer::Refused], "the parent is bob's as well");
    assert_eq!(asked(&locks, &member, Some("bob"), &[1]), [Answer::Shared, Answer::Own]);
    assert_eq!(asked(&locks, &write, Some("eve"), &[0, 1]), [Answer::Refused, Answer::Refused]);
    // An exclusive lock vouches for none and none vouches for it; a lock vouched for does not vouch in turn.
    let mixed = [lock("/a/b", Zero, Exclusive), lock("/a/b", Zero, Shared)];
    assert_eq!(asked(&mixed, &write, Some("ann"), &[0]), [Answer::Own, Answer::Refused]);
    assert_eq!(asked(&mixed, &write, Some("ann"), &[1]), [Answer::Refused, Answer::Own]);
    let chain = [lock("/a/b", Zero, Shared), lock("/a/b", Infinity, Shared), lock("/a/b/c", Zero, Shared)];
    let unlink = [Target::unlink(key("/a/b"))];
    assert_eq!(asked(&chain, &unlink, Some("ann"), &[0]), [Answer::Own, Answer::Refused, Answer::Refused]);
    assert_eq!(asked(&chain, &unlink, Some("ann"), &[1]), [Answer::Shared, Answer::Own, Answer::Shared]);
}

#[test]
fn nobody_answers_for_a_freeze() {
    let write = [Target::write(key("/a"))];
    let freeze = LockParts { kind: LockKind::Freeze, ..parts("/a", Zero, Shared) };
    let locks = [lock_of(freeze, LockState::Held), lock("/a", Zero, Shared)];
    assert_eq!(asked(&locks, &write, Some("ann"), &[0, 1]), [Answer::Refused, Answer::Own]);
    assert_eq!(asked(&locks, &write, Some("ann"), &[0]), [Answer::Refused, Answer::Refused], "nor does it vouch");
}

#[test]
fn the_token_of_a_lock_still_coming_answers_for_nothing() {
    let write = [Target::write(key("/a"))];
    let locks = [lock_of(parts("/a", Zero, Shared), LockState::Pending), lock("/a", Zero, Shared)];
    assert_eq!(asked(&locks, &write, Some("ann"), &[0]), [Answer::Refused, Answer::Refused]);
    assert_eq!(asked(&locks, &write, Some("ann"), &[1]), [Answer::Shared, Answer::Own], "it is refused as it would be");
    let breaking = [lock_of(parts("/a", Zero, Exclusive), LockState::Breaking)];
    assert_eq!(asked(&breaking, &write, Some("ann"), &[0]), [Answer::Own], "a holder writes on in its grace");
}

// The model. A tree of all names over `a` and `b` down to depth 3, and below each leaf one node that stands for all
// that is deeper. What a write changes and what a lock protects are sets of facts about nodes, made by walking up from
// each node with no thought of prefixes.

type Node = Vec<u8>;
const LEAF: u8 = b'z';

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fact {
    Content(Node),
    Membership(Node),
}

fn nodes() -> Vec<Node> {
    let mut nodes: Vec<Node> = vec![vec![]];
    let mut level = nodes.clone();
    for _ in 0..3 {
        level = level.iter().flat_map(|node| [b'a', b'b'].map(|name| [&node[..], &[name]].concat())).collect();
        nodes.extend(level.clone());
    }
    nodes.extend(level.iter().map(|node| [&node[..], &[LEAF]].concat()));
    nodes
}

fn path(node: &[u8]) -> String {
    if node.is_empty() { "/".into() } else { node.iter().flat_map(|name| ['/', char::from(*name)]).collect() }
}

fn descends(node: &[u8], from: &[u8]) -> bool {
    let mut at = node;
    loop {
        if at == from {
            return true;
        }
        match at.split_last() {
            Some((_, up)) => at = up,
            None => return false,
        }
    }
}

fn in_reach(root: &[u8], depth: Depth) -> impl Iterator<Item = Node> {
    nodes().into_iter().filter(move |node| node == root || (depth == Infinity && descends(node, root)))
}

/// A lock protects the content of what it covers, and which members that has.
fn protected(root: &[u8], depth: Depth) -> BTreeSet<Fact> {
    in_reach(root, depth).flat_map(|node| [Fact::Content(node.clone()), Fact::Membership(node)]).collect()
}

/// A write changes content; what is unlinked goes with its members and all below; and the parent may gain or lose one.
fn changed(node: &[u8], effect: Effect, membership: Membership) -> BTreeSet<Fact> {
    let mut facts: BTreeSet<Fact> = match effect {
        Effect::Write => [Fact::Content(node.to_vec())].into(),
        Effect::Unlink => in_reach(node, Infinity).map(Fact::Content).collect(),
    };
    if let (Membership::Changed, Some((_, up))) = (membership, node.split_last()) {
        facts.insert(Fact::Membership(up.to_vec()));
    }
    facts
}

fn node() -> impl Strategy<Value = Node> {
    // Locks and targets at depth 3 at most, so that the representatives below stay representatives.
    prop::sample::select(nodes().into_iter().filter(|node| node.len() < 4).collect::<Vec<_>>())
}

fn depth() -> impl Strategy<Value = Depth> {
    prop::sample::select(vec![Zero, Infinity])
}

fn write() -> impl Strategy<Value = (Node, Effect, Membership)> {
    let effect = prop::sample::select(vec![Effect::Write, Effect::Unlink]);
    (node(), effect, prop::sample::select(vec![Membership::Kept, Membership::Changed]))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn the_rules_agree_with_sets_of_facts(
        a in (node(), depth()),
        b in (node(), depth()),
        writes in proptest::collection::vec(write(), 1..4),
    ) {
        let (root_a, root_b) = (key(&path(&a.0)), key(&path(&b.0)));
        let (facts_a, facts_b) = (protected(&a.0, a.1), protected(&b.0, b.1));

        for node in nodes() {
            let covered = facts_a.contains(&Fact::Content(node.clone()));
            prop_assert_eq!(covers(&root_a, a.1, &key(&path(&node))), covered, "covers {}", path(&node));
        }
        let meet = !facts_a.is_disjoint(&facts_b);
        prop_assert_eq!(overlap((&root_a, a.1), (&root_b, b.1)), meet);
        let lock = |lock: &(Node, Depth), scope| parts(&path(&lock.0), lock.1, scope);
        prop_assert_eq!(conflict(&lock(&a, Exclusive), &lock(&b, Shared)), meet);
        prop_assert!(!conflict(&lock(&a, Shared), &lock(&b, Shared)));

        let targets: Vec<_> = writes.iter().map(|(node, effect, membership)| Target {
            key: key(&path(node)), effect: *effect, membership: *membership,
        }).collect();
        let mut all = BTreeSet::new();
        for ((node, effect, membership), target) in writes.iter().zip(&targets) {
            let facts = changed(node, *effect, *membership);
            prop_assert_eq!(touches(&root_a, a.1, target), !facts.is_disjoint(&facts_a), "touches {:?}", target);
            all.extend(facts);
        }
        let of_the_first: BTreeSet<_> = all.intersection(&facts_b).cloned().collect();
        let vouched = of_the_first.is_subset(&facts_a);
        prop_assert_eq!(vouches((&root_a, a.1), (&root_b, b.1), &targets), vouched);

        // What an acquire waits for is what its mark refuses.
        let own = [Arc::new(lock(&a, Shared))];
        prop_assert_eq!(would_refuse(&lock(&b, Exclusive), &targets, &own), !of_the_first.is_empty());
        prop_assert_eq!(would_refuse(&lock(&b, Shared), &targets, &own), !of_the_first.is_empty() && !vouched);
        prop_assert_eq!(would_refuse(&lock(&b, Shared), &targets, &[]), !of_the_first.is_empty());
    }
}
