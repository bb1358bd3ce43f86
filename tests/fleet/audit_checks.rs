//! The oracle sees every break that it is there for, and nothing where all is in order.

use std::{fs, path::PathBuf};

use tower_lock::lock::{Claim, Depth, LockId, LockKind, LockParts, LockScope, Owner, Principal, Target};

use super::{
    audit::{Findings, audit},
    book::{Held, Pages, Sent, key},
};

fn held(root: &str, scope: LockScope, granted: u64, until: u64, generation: u64) -> Held {
    let parts = LockParts {
        id: LockId::random(),
        root: key(root),
        scope,
        depth: Depth::Infinity,
        kind: LockKind::User,
        principal: Some(Principal::new("ann")),
        owner: Owner::default(),
        reason: None,
        client_ref: None,
        claim: Claim::Made,
    };
    Held { parts, generation, asked: granted - 5, granted, until, released: None, lost: None }
}

fn exclusive(root: &str, granted: u64, until: u64, generation: u64) -> Held {
    held(root, LockScope::Exclusive, granted, until, generation)
}

fn sent(target: Target<'static>, own: &[usize], at: u64) -> Sent {
    Sent { targets: vec![target], own: own.to_vec(), sent: at, answer: Some((204, at + 50)) }
}

/// What is found in a history whose nodes wrote these lines.
fn found(locks: &[Held], writes: &[Sent], trace: &str) -> Findings {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path: PathBuf = folder.path().join("trace");
    fs::write(&path, trace).expect("a file in a folder of ours");
    audit(&Pages { locks: locks.to_vec(), writes: writes.to_vec(), ..Pages::default() }, &[path])
}

#[test]
fn a_write_under_a_strangers_lock_is_seen() {
    let lock = exclusive("/a", 100, 200, 7);
    let put = |at| [sent(Target::write_member(key("/a/b")), &[], at)];
    // Before it, into it, inside, around it, out of it, after it.
    for (from, to, seen) in [(80, 99, 0), (80, 101, 1), (120, 150, 1), (80, 250, 1), (199, 250, 1), (201, 250, 0)] {
        let generation = if from < 100 { 6 } else { 7 };
        let trace = format!("enter 0 {from} {generation}\nstep 0 {from}\nexit 0 {to}\n");
        let found = found(std::slice::from_ref(&lock), &put(from - 1), &trace);
        assert_eq!((found.trespassing, found.broken()), (seen, seen), "{from} to {to}: {found:?}");
    }
    let trace = "enter 0 120 7\nstep 0 130\nexit 0 150\n";
    let own = found(std::slice::from_ref(&lock), &[sent(Target::write_member(key("/a/b")), &[0], 119)], trace);
    assert_eq!(own.broken(), 0, "{own:?}");
    let beside = found(std::slice::from_ref(&lock), &[sent(Target::write_member(key("/b")), &[], 119)], trace);
    assert_eq!(beside.broken(), 0, "{beside:?}");
    let above = found(&[exclusive("/a/b/c", 100, 200, 7)], &[sent(Target::unlink(key("/a")), &[], 119)], trace);
    assert_eq!(above.trespassing, 1, "a subtree write: {above:?}");
}

#[test]
fn a_write_that_was_dropped_ran_until_its_last_step() {
    let lock = [exclusive("/a", 100, 200, 7)];
    let writes = [sent(Target::write_member(key("/a")), &[], 50)];
    assert_eq!(found(&lock, &writes, "enter 0 60 7\nstep 0 90\n").trespassing, 0);
    assert_eq!(found(&lock, &writes, "enter 0 60 7\nstep 0 90\nstep 0 110\nste").trespassing, 1);
}

#[test]
fn a_lock_that_ends_under_its_holders_write_is_seen() {
    let locks = [exclusive("/a", 100, 200, 7), exclusive("/a/b", 300, 400, 8)];
    let upload = [sent(Target::write_member(key("/a/b")), &[0], 110)];
    let over = |locks: &[Held], to| found(locks, &upload, &format!("enter 0 120 7\nexit 0 {to}\n"));
    assert_eq!(over(&locks, 150).broken(), 0);
    let seen = over(&locks, 350);
    assert_eq!((seen.trespassing, seen.conflicting), (1, 1), "{seen:?}");
    let released = [Held { released: Some(130), ..locks[0].clone() }];
    assert_eq!(over(&released, 350).broken(), 0, "its holder ended it");
}

#[test]
fn locks_that_conflict_are_seen() {
    let pair = |scope, from| found(&[held("/a", scope, 100, 200, 7), held("/a/b", scope, from, 300, 8)], &[], "");
    assert_eq!(pair(LockScope::Exclusive, 150).conflicting, 1);
    assert_eq!(pair(LockScope::Exclusive, 201).broken(), 0);
    assert_eq!(pair(LockScope::Shared, 150).broken(), 0);
}

#[test]
fn generations_that_do_not_grow_are_seen() {
    let locks = |second| [exclusive("/a", 100, 110, 7), exclusive("/a/b", 200, 210, second)];
    assert_eq!(found(&locks(8), &[], "").broken(), 0);
    assert_eq!(found(&locks(7), &[], "").generations, 1);
    let after = |generation| {
        found(
            &locks(8),
            &[sent(Target::write_member(key("/a")), &[], 250)],
            &format!("enter 0 260 {generation}\nexit 0 261\n"),
        )
    };
    assert_eq!(after(8).broken(), 0);
    assert_eq!(after(6).generations, 1, "a permit that knows less than was granted");
    let before = |generation| {
        found(
            &[exclusive("/a", 100, 110, 7)],
            &[sent(Target::write_member(key("/a")), &[], 50)],
            &format!("enter 0 60 {generation}\nexit 0 61\n"),
        )
    };
    assert_eq!(before(6).broken(), 0);
    assert_eq!(before(7).generations, 1, "a permit that knows what is granted later");
}

#[test]
fn a_lock_that_vanishes_is_seen() {
    let mut lock = exclusive("/a", 100, 1_000, 7);
    lock.lost = Some(500);
    let gone = found(std::slice::from_ref(&lock), &[], "");
    assert_eq!((gone.lost, gone.broken()), (1, 1));
    lock.lost = Some(1_001);
    assert_eq!(found(std::slice::from_ref(&lock), &[], "").broken(), 0, "it had run out");
    lock.lost = Some(500);
    let delete = [sent(Target::unlink(key("/a")), &[0], 300)];
    let taken = found(std::slice::from_ref(&lock), &delete, "enter 0 310 7\nexit 0 320\n");
    assert_eq!(taken.broken(), 0, "it went with its resource: {taken:?}");
}

#[test]
fn an_answer_without_a_service_is_seen() {
    assert_eq!(found(&[], &[sent(Target::write_member(key("/a")), &[], 50)], "").wrong, 1);
}
