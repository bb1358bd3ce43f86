//! The smallest races of the memory store, many times: one write and one acquire at the same instant, and locks that
//! take each other's place under the eyes of a writer.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use tower_lock::{
    LockStore, MemoryStore, Principal,
    lock::{Claim, Depth, LockId, LockKind, LockParts, LockScope, LockToken, Owner, ResourceKey, Target},
    request::Conditions,
    store::{Acquire, Acquired, Authority, NewLock, Release, Replaces, Verdict, Which, Write},
};

/// Small, seeded, good enough to mix things up.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() >> 33).unwrap() % limit
    }

    fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }
}

fn who(name: &str) -> Principal {
    Principal::new(name)
}

fn lock(root: ResourceKey<'static>, scope: LockScope, depth: Depth, name: &str) -> NewLock {
    let parts = LockParts {
        id: LockId::random(),
        root,
        scope,
        depth,
        kind: LockKind::User,
        principal: Some(who(name)),
        owner: Owner::default(),
        reason: None,
        client_ref: None,
        claim: Claim::Made,
    };
    NewLock { parts: Arc::new(parts), token: LockToken::random() }
}

/// Waits without sleeping until `ready`, and lets others run on a machine with few cores.
fn spin_until(ready: impl Fn() -> bool) {
    let mut spins = 0_u32;
    while !ready() {
        spins += 1;
        if spins.is_multiple_of(200) { thread::yield_now() } else { std::hint::spin_loop() }
    }
}

/// The smallest race there is, many times: one write and one acquire of the same resource, started together.
#[test]
fn a_write_and_an_acquire_at_the_same_instant_never_both_win() {
    const ROUNDS: u64 = 30_000;
    let store = MemoryStore::new();
    let (round, done) = (AtomicU64::new(0), AtomicU64::new(0));
    // Each says so before it looks at the other, so that of two at once at least one sees it.
    let (running, held) = (AtomicBool::new(false), AtomicBool::new(false));
    let (overlaps, admitted, granted) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    let jitter = |random: &mut Random| (0..random.below(600)).for_each(|_| std::hint::spin_loop());
    thread::scope(|scope| {
        scope.spawn(|| {
            let (mut random, conditions) = (Random(77), Conditions::default());
            for number in 1..=ROUNDS {
                spin_until(|| round.load(Ordering::Acquire) == number);
                jitter(&mut random);
                let targets = [Target::write(ResourceKey::from_canonical("/a/x"))];
                let verdict = store.admit(&Write::new(&targets, &conditions)).into_ready().unwrap().unwrap();
                if let Verdict::Admitted(write) = verdict {
                    running.store(true, Ordering::SeqCst);
                    overlaps.fetch_add(u64::from(held.load(Ordering::SeqCst)), Ordering::Relaxed);
                    admitted.fetch_add(1, Ordering::Relaxed);
                    jitter(&mut random);
                    running.store(false, Ordering::SeqCst);
                    drop(write);
                }
                done.store(number, Ordering::Release);
            }
        });
        let (mut random, principal) = (Random(99), who("ann"));
        for number in 1..=ROUNDS {
            let new = lock(ResourceKey::from_canonical("/a"), LockScope::Exclusive, Depth::Infinity, "ann");
            let drain = if random.one_in(2) { Duration::ZERO } else { Duration::from_secs(3_600) };
            let request = Acquire::new(std::slice::from_ref(&new), Some(&principal)).draining(drain);
            round.store(number, Ordering::Release);
            jitter(&mut random);
            let runtime = || tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
            let answer = match store.acquire(&request).into_ready() {
                Ok(answer) => answer.unwrap(),
                Err(waiting) => runtime().block_on(waiting).unwrap(),
            };
            if let Acquired::Granted(_) = answer {
                held.store(true, Ordering::SeqCst);
                overlaps.fetch_add(u64::from(running.load(Ordering::SeqCst)), Ordering::Relaxed);
                granted.fetch_add(1, Ordering::Relaxed);
                jitter(&mut random);
                held.store(false, Ordering::SeqCst);
                let _ = store.release(&Release::new(Which::Token(&new.token), Authority::Guard)).into_ready();
            }
            spin_until(|| done.load(Ordering::Acquire) == number);
        }
    });
    let (admitted, granted) = (admitted.into_inner(), granted.into_inner());
    assert_eq!(overlaps.into_inner(), 0, "of {admitted} writes and {granted} locks");
    assert!(admitted > ROUNDS / 100 && granted > ROUNDS / 100, "{admitted} writes, {granted} locks");
}

/// While locks take each other's place, each in one step, a resource that all of them cover is never free.
fn never_half_done(store: &MemoryStore) {
    let (over, seen_free, asked) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    let principal = who("ann");
    let place = |path: &'static str| lock(ResourceKey::from_canonical(path), LockScope::Exclusive, Depth::Infinity, "ann");
    let acquire = |new: &NewLock, replaces: &[Replaces<'_>]| {
        let request = Acquire::new(std::slice::from_ref(new), Some(&principal)).replacing(replaces).draining(Duration::ZERO);
        matches!(store.acquire(&request).into_ready().unwrap().unwrap(), Acquired::Granted(_))
    };
    let mut held = place("/a");
    assert!(acquire(&held, &[]));
    thread::scope(|scope| {
        scope.spawn(|| {
            let conditions = Conditions::default();
            while !over.load(Ordering::Relaxed) {
                let targets = [Target::write(ResourceKey::from_canonical("/a/b/c/x"))];
                let verdict = store.admit(&Write::new(&targets, &conditions)).into_ready().unwrap().unwrap();
                seen_free.fetch_add(u64::from(verdict.admitted().is_some()), Ordering::Relaxed);
                asked.fetch_add(1, Ordering::Relaxed);
            }
        });
        let mut replaced = 0;
        for path in ["/a/b/c", "/", "/a/b", "/a", "/a/b/c/x"].iter().cycle().take(20_000) {
            let next = place(path);
            if acquire(&next, &[Replaces::Held(&held.token)]) {
                held = next;
                replaced += 1;
            }
        }
        over.store(true, Ordering::Relaxed);
        assert!(replaced > 100, "{replaced}");
    });
    assert_eq!(seen_free.into_inner(), 0, "of {} looks", asked.into_inner());
}

#[test]
fn a_replacement_is_never_seen_half_done() {
    never_half_done(&MemoryStore::new());
}

#[test]
fn a_replacement_is_never_seen_half_done_even_without_registered_writes() {
    never_half_done(&MemoryStore::builder().check_only().build());
}
