//! Many who watch one store: all hear, none is woken in vain, and those who never read cost next to nothing.

use std::{
    fs,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll, Wake, Waker},
    time::Instant,
};

use futures_core::Stream;
use tower_lock::{
    LockStore, MemoryStore, Principal,
    lock::{Claim, Depth, HolderProof, LockId, LockKind, LockParts, LockScope, LockToken, Owner, ResourceKey},
    store::{Acquire, Authority, LockEvent, LockQuery, NewLock, Release, Watch, Which},
};

const ALL: usize = 20_000;
/// What one watcher may cost on top of the text of what it watches, events that it has not read included.
const EACH: usize = 4_096;

fn key(path: &str) -> ResourceKey<'static> {
    ResourceKey::from_canonical(path.to_owned())
}

/// How many bytes the process has in memory, where that can be known.
fn resident() -> Option<usize> {
    let pages: usize = fs::read_to_string("/proc/self/statm").ok()?.split(' ').nth(1)?.parse().ok()?;
    Some(pages * 4_096)
}

fn take(store: &MemoryStore, path: &str) -> NewLock {
    let parts = LockParts {
        id: LockId::random(),
        root: key(path),
        scope: LockScope::Exclusive,
        depth: Depth::Infinity,
        kind: LockKind::User,
        principal: Some(Principal::new("ann")),
        owner: Owner::default(),
        reason: None,
        client_ref: None,
        claim: Claim::Made,
    };
    let new = NewLock { parts: Arc::new(parts), token: LockToken::random() };
    let locks = [new.clone()];
    let granted = store.acquire(&Acquire::new(&locks, Some(&Principal::new("ann")))).into_ready();
    assert!(matches!(granted, Ok(Ok(tower_lock::store::Acquired::Granted(_)))), "{granted:?}");
    new
}

fn give_back(store: &MemoryStore, lock: &NewLock) {
    let ann = Principal::new("ann");
    let authority = Authority::Holder { principal: Some(&ann), proof: &HolderProof::TokenAndPrincipal };
    let released = store.release(&Release::new(Which::Token(&lock.token), authority)).into_ready();
    assert!(matches!(released, Ok(Ok(tower_lock::store::Released::Released(_)))), "{released:?}");
}

#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Relaxed);
    }
}

/// Reads all that is there; whether the last of it was an end.
fn read(watch: &mut Watch, waker: &Waker) -> (usize, bool) {
    let (mut count, mut ended) = (0, false);
    while let Poll::Ready(told) = Pin::new(&mut *watch).poll_next(&mut Context::from_waker(waker)) {
        let event = told.expect("endless").expect("a store in memory is always there");
        ended = matches!(event, LockEvent::Ended { .. });
        count += 1;
    }
    (count, ended)
}

/// How long it takes to lock and unlock something that nobody watches.
fn elsewhere(store: &MemoryStore) -> std::time::Duration {
    let start = Instant::now();
    for _ in 0..2_000 {
        give_back(store, &take(store, "/elsewhere/x"));
    }
    start.elapsed() / 2_000
}

#[test]
fn twenty_thousand_watch_and_half_of_them_never_read() {
    let store = MemoryStore::new();
    let alone = elsewhere(&store);
    let before = resident();
    let lock = take(&store, "/watched");
    // One in two watches what others watch as well; of each sort one in two never reads.
    let mut watches: Vec<Watch> = (0..ALL)
        .map(|at| match at % 8 {
            0 | 1 => store.watch(&LockQuery::covering(key("/watched"))),
            2 | 3 => store.watch(&LockQuery::id(lock.parts.id)),
            4 | 5 => store.watch(&LockQuery::covering(key(&format!("/watched/{at}")))),
            _ => store.watch(&LockQuery::at_or_below(key(&format!("/other/{at}")))),
        })
        .collect();
    let idle = resident();
    let woken: Vec<Arc<Woken>> = (0..ALL).map(|_| Arc::default()).collect();
    let wakers: Vec<Waker> = woken.iter().map(|woken| Waker::from(woken.clone())).collect();
    for (at, watch) in watches.iter_mut().enumerate().filter(|(at, _)| at % 2 == 0) {
        assert_eq!(read(watch, &wakers[at]), (1, false), "the first word is that it is synced");
    }
    let beside = elsewhere(&store);
    let start = Instant::now();
    give_back(&store, &lock);
    let told = start.elapsed();
    for (at, watch) in watches.iter_mut().enumerate().filter(|(at, _)| at % 2 == 0) {
        let concerned = at % 8 < 6;
        assert_eq!(
            woken[at].0.load(Relaxed),
            usize::from(concerned),
            "each whom it concerns is woken once, and nobody else"
        );
        assert_eq!(read(watch, &wakers[at]), (usize::from(concerned), concerned), "and hears of the end");
    }
    // A hundred times over, on each: those who read are at most so far behind, those who do not hold a word.
    for _ in 0..100 {
        give_back(&store, &take(&store, "/watched"));
        let other = take(&store, "/other");
        give_back(&store, &other);
    }
    let one = take(&store, "/other/7");
    give_back(&store, &one);
    let full = resident();
    assert!(woken.iter().all(|woken| woken.0.load(Relaxed) <= 2), "who was woken and has not looked is not woken again");
    if let (Some(before), Some(idle), Some(full)) = (before, idle, full) {
        let each = |now: usize| now.saturating_sub(before) / ALL;
        println!("a watcher takes {} bytes, after 200 changes {} with half of them never reading", each(idle), each(full));
        assert!(each(full) < EACH, "a watcher costs {} bytes", each(full));
    }
    println!("2 steps elsewhere: {alone:?} alone, {beside:?} beside {ALL} watchers; {told:?} to tell 15,000 of an end");
    drop(watches);
    println!("and when all have gone: {:?}", resident().zip(before).map(|(now, before)| now.saturating_sub(before) / ALL));
}

#[test]
fn who_watches_one_thing_at_a_time_comes_and_goes_for_little() {
    let store = MemoryStore::new();
    let start = Instant::now();
    // All wait for the same; each leaves from anywhere among the others.
    let mut watches: Vec<Watch> = (0..ALL).map(|_| store.watch(&LockQuery::covering(key("/one")))).collect();
    for at in 0..ALL {
        drop(watches.swap_remove((at * 7_919) % watches.len()));
    }
    println!("{ALL} come and go in {:?}", start.elapsed());
    take(&store, "/one");
}
