//! A disk that takes nothing: the call says so, memory is as it was, and when the disk is mended all goes on.

use std::io::ErrorKind;

use super::*;
use crate::{
    lock::LockState,
    store::{LockEvent, Replaces, StoreErrorKind},
};

fn kind<T: std::fmt::Debug>(answer: Result<T, StoreError>) -> StoreErrorKind {
    let error = answer.unwrap_err();
    assert!(std::error::Error::source(&error).is_some(), "the cause is kept: {error:?}");
    error.kind()
}

/// What holds while the disk fails, and before and after.
fn as_it_was(bench: &Bench, held: &NewLock, before: &[Lock]) {
    assert_eq!(bench.all(), before, "nothing has changed");
    assert!(bench.refused("/a/1"), "a durable lock blocks");
    assert!(bench.put("/a/1", Some(held)).admitted().is_some(), "and its token answers for it");
    assert!(!bench.refused("/b"), "where nothing was granted nothing blocks");
}

#[test]
fn what_cannot_be_written_is_told_and_undone() {
    for (error, expected) in [
        (ErrorKind::StorageFull, StoreErrorKind::ReadOnly),
        (ErrorKind::ReadOnlyFilesystem, StoreErrorKind::ReadOnly),
        (ErrorKind::PermissionDenied, StoreErrorKind::Denied),
        (ErrorKind::Other, StoreErrorKind::Other),
    ] {
        let mut bench = Bench::new();
        let held = new("/a", "ann");
        bench.acquire(&held);
        let before = bench.all();
        let mut watch = bench.store().watch(&LockQuery::at_or_below(key("/")));
        bench.disk.fail(error, 0);
        assert_eq!(kind(wait(bench.try_acquire(&[new("/b", "bob"), new("/c", "bob")]))), expected);
        as_it_was(&bench, &held, &before);
        assert_eq!(kind(wait(bench.release(&held))), expected);
        as_it_was(&bench, &held, &before);
        assert_eq!(kind(wait(bench.refresh(&held, Span::For(5 * MINUTE)))), expected);
        as_it_was(&bench, &held, &before);
        for grace in [Duration::ZERO, MINUTE] {
            assert_eq!(kind(wait(bench.break_it(held.parts.id, grace))), expected);
            as_it_was(&bench, &held, &before);
        }
        assert_eq!(kind(wait(bench.store().clear(&[gone("/a")], None))), expected);
        as_it_was(&bench, &held, &before);
        let (swap, owner) = ([new("/a", "ann")], who("ann"));
        let replaces = [Replaces::Held(&held.token)];
        let request = Acquire::new(&swap, Some(&owner)).replacing(&replaces);
        assert_eq!(kind(wait(bench.store().acquire(&request))), expected);
        as_it_was(&bench, &held, &before);
        // Nothing has to be written for this one.
        assert!(matches!(wait(bench.try_acquire(&[new("/a/b", "bob")])), Ok(Acquired::Conflict(_))));

        bench.disk.mend();
        let next = new("/b", "bob");
        let again = loop {
            match wait(bench.try_acquire(std::slice::from_ref(&next))) {
                Ok(answer) => break answer,
                Err(error) => assert_eq!(error.kind(), expected, "the same until it is tried again"),
            }
        };
        assert!(matches!(again, Acquired::Granted(_)), "{again:?}");
        assert!(matches!(wait(watch.next()), Some(Ok(LockEvent::Synced))));
        let heard = wait(watch.next()).unwrap().unwrap();
        assert!(
            matches!(&heard, LockEvent::Granted(lock) if lock.id() == next.parts.id),
            "watchers hear nothing of what failed: {heard:?}"
        );
        let both = bench.all();
        bench.restart();
        assert_eq!(bench.all(), both, "after the disk was mended everything is in the file");
        assert!(matches!(wait(bench.release(&held)), Ok(Released::Released(_))));
    }
}

#[test]
fn a_failure_at_any_call_of_the_disk_is_an_error_and_no_more() {
    for after in (0..12).chain((12..60).step_by(7)) {
        let mut bench = Bench::with(1 << 12, 100_000);
        let held: Vec<NewLock> = (0..4).map(|at| new(&format!("/held/{at}"), "ann")).collect();
        held.iter().for_each(|lock| drop(bench.acquire(lock)));
        bench.disk.fail(ErrorKind::Other, after);
        let mut granted = Vec::new();
        for at in 0..30 {
            let lock = new(&format!("/new/{at}"), "bob");
            match wait(bench.try_acquire(std::slice::from_ref(&lock))) {
                Ok(answer) => {
                    assert!(matches!(answer, Acquired::Granted(_)), "{answer:?}");
                    granted.push(lock);
                }
                Err(error) => assert_eq!(error.kind(), StoreErrorKind::Other),
            }
            assert_eq!(bench.all().len(), held.len() + granted.len(), "memory holds what was answered");
        }
        assert!(granted.len() < 30, "it failed at some time");
        // The process ends while the disk still fails, and the next one finds it mended.
        bench.store = None;
        bench.disk.mend();
        bench.store = Some(open(&bench.disk, &bench.hand, 100_000).unwrap());
        let all: Vec<LockId> = bench.all().iter().map(Lock::id).collect();
        let answered = held.iter().chain(&granted).map(|lock| lock.parts.id);
        answered.for_each(|id| assert!(all.contains(&id), "what was answered is there, after {after} calls"));
    }
}

#[test]
fn steps_that_stand_on_a_failed_one_fail_with_it() {
    let bench = Bench::new();
    let held = new("/a", "ann");
    bench.acquire(&held);
    let before = bench.all();
    bench.disk.shut();
    let mut release = bench.release(&held);
    bench.disk.until_one_waits();
    // These come while the first is being written, and go with the next commit.
    let other = new("/b", "bob");
    let mut acquire = bench.try_acquire(std::slice::from_ref(&other));
    let mut refresh = bench.refresh(&other, Span::For(5 * MINUTE));
    let mut broken = bench.break_it(other.parts.id, MINUTE);
    assert!(poll(&mut release).is_none() && poll(&mut acquire).is_none());
    assert!(poll(&mut refresh).is_none() && poll(&mut broken).is_none());
    bench.disk.fail(ErrorKind::Other, 0);
    bench.disk.open();
    assert_eq!(kind(wait(release)), StoreErrorKind::Other);
    assert_eq!(kind(wait(acquire)), StoreErrorKind::Other);
    assert_eq!(kind(wait(refresh)), StoreErrorKind::Other);
    assert_eq!(kind(wait(broken)), StoreErrorKind::Other);
    as_it_was(&bench, &held, &before);
    assert!(bench.all().iter().all(|lock| lock.state() == LockState::Held));
}

#[test]
fn failed_steps_are_undone_newest_first() {
    let bench = Bench::new();
    let held = new("/a", "ann");
    bench.acquire(&held);
    let before = bench.all();
    bench.disk.shut();
    let first = bench.refresh(&held, Span::For(5 * MINUTE));
    bench.disk.until_one_waits();
    let second = bench.refresh(&held, Span::For(2 * MINUTE));
    let broken = bench.break_it(held.parts.id, MINUTE);
    assert_ne!(bench.all(), before);
    bench.disk.fail(ErrorKind::Other, 0);
    bench.disk.open();
    assert_eq!(kind(wait(first)), StoreErrorKind::Other);
    assert_eq!(kind(wait(second)), StoreErrorKind::Other);
    assert_eq!(kind(wait(broken)), StoreErrorKind::Other);
    as_it_was(&bench, &held, &before);
}

#[test]
fn a_disk_that_does_not_answer_is_not_waited_for_without_end() {
    let bench = Bench::with(1 << 24, 100_000);
    let held = new("/a", "ann");
    bench.acquire(&held);
    bench.disk.shut();
    let mut taken = 0;
    let error = loop {
        // Nobody waits for these: the callers have given up.
        match bench.refresh(&held, Span::Same).into_ready() {
            Ok(answer) => break answer.unwrap_err(),
            Err(_) => taken += 1,
        }
        assert!(taken < 200_000, "what waits has a limit (G10)");
    };
    assert_eq!(error.kind(), StoreErrorKind::TimedOut);
    assert!(bench.refused("/a/b") && !bench.refused("/b"), "writes are checked as before");
    bench.disk.open();
    while bench.refresh(&held, Span::Same).into_ready().is_ok_and(|answer| answer.is_err()) {
        std::thread::yield_now();
    }
}

#[test]
fn a_store_that_was_closed_grants_nothing_more() {
    let mut bench = Bench::new();
    let writer = bench.put("/a", None).admitted().unwrap();
    let lock = new("/a", "ann");
    wait(async {
        let mut acquire = bench.try_acquire(std::slice::from_ref(&lock));
        assert!(poll(&mut acquire).is_none(), "it waits for the write");
        bench.store = None;
        drop(writer);
        let error = acquire.await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Unavailable);
    });
    bench.restart();
    assert!(bench.all().is_empty());
}
