//! MOVE against MOVE the other way round, and against locks on both ends in either order: what an engine calls a
//! deadlock never reaches a caller.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::task::JoinSet;
use tower_lock::{
    Depth, LockKind, LockScope, LockStore,
    lock::{Claim, HolderProof, LockId, LockParts, LockToken, Owner, Principal, Target},
    request::Conditions,
    store::{Acquire, Acquired, Authority, NewLock, Release, StoreError, Verdict, Which, Write},
};

use super::{
    book::key,
    engine::{Engine, Kind, StoreConfig},
    rng::Rng,
    run, soak,
};

/// How many calls a store is asked for by default. `TOWER_LOCK_SOAK=10` makes it the hundred thousand.
const ROUNDS: u32 = 10_000;
const TASKS: usize = 16;

/// What two want at once, in the order of one and in that of the other.
const ENDS: [[&str; 2]; 4] = [["/a/x", "/b/y"], ["/b/y", "/a/x"], ["/a", "/b/y/z"], ["/b", "/a/x/z"]];

/// How often each thing happened.
type Tally = Arc<Mutex<BTreeMap<&'static str, u32>>>;

async fn contest(store: Arc<dyn LockStore>, at: usize, left: Arc<AtomicU32>, tally: Tally) -> Result<(), StoreError> {
    let mut rng = Rng::new(at as u64);
    let me = Principal::new(format!("mover-{at}"));
    let count = |what| *tally.lock().expect("no panic under it").entry(what).or_default() += 1;
    while left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok() {
        let ends = rng.pick(&ENDS);
        if rng.chance(85) {
            let targets = ends.map(|end| Target::unlink(key(end)));
            let verdict = store.admit(&Write::new(&targets, &Conditions::default()).by(Some(&me))).await?;
            match verdict {
                Verdict::Admitted(admitted) => {
                    count("moved");
                    tokio::task::yield_now().await;
                    drop(admitted);
                }
                Verdict::Refused(_) => count("refused"),
            }
            continue;
        }
        let lock = |end: &str| NewLock {
            parts: Arc::new(LockParts {
                id: LockId::random(),
                root: key(end),
                scope: LockScope::Exclusive,
                depth: Depth::Infinity,
                kind: LockKind::User,
                principal: Some(me.clone()),
                owner: Owner::default(),
                reason: None,
                client_ref: None,
                claim: Claim::Made,
            }),
            token: LockToken::random(),
        };
        let locks = ends.map(lock);
        let drain = rng.pick(&[Duration::ZERO, Duration::from_millis(20)]);
        match store.acquire(&Acquire::new(&locks, Some(&me)).draining(drain)).await? {
            Acquired::Granted(_) => {
                count("locked");
                for lock in &locks {
                    let authority = Authority::Holder { principal: Some(&me), proof: &HolderProof::TokenAndPrincipal };
                    _ = store.release(&Release::new(Which::Token(&lock.token), authority)).await?;
                }
            }
            Acquired::Conflict(_) => count("in conflict"),
            Acquired::Busy { .. } => count("busy"),
            other => panic!("an acquire of fresh tokens is granted, in conflict or busy, not {other:?}"),
        }
    }
    Ok(())
}

pub(crate) fn nobody_hears_of_a_deadlock(kind: Kind) {
    run(async {
        let engine = Engine::start(kind);
        let config = StoreConfig::new(&engine);
        let mut handles = Vec::new();
        for _ in 0..3 {
            handles.push(config.open(Arc::new(AtomicI64::new(0))).await);
        }
        let rounds = ROUNDS * soak();
        let (left, tally, start) = (Arc::new(AtomicU32::new(rounds)), Tally::default(), Instant::now());
        let mut tasks = JoinSet::new();
        for at in 0..TASKS {
            tasks.spawn(contest(handles[at % handles.len()].clone(), at, left.clone(), tally.clone()));
        }
        let mut errors = Vec::new();
        while let Some(ended) = tasks.join_next().await {
            errors.extend(ended.expect("no task panics").err());
        }
        let tally = tally.lock().expect("no panic under it").clone();
        let logged = engine.errors();
        println!(
            "{kind:?}: {rounds} rounds in {:?}: {tally:?}, {} errors, logged {logged:?}",
            start.elapsed(),
            errors.len()
        );
        assert!(errors.is_empty(), "{errors:?}");
        // One that the client has hidden by asking again is a deadlock all the same, and a stall of a second.
        assert!(!logged.keys().any(|error| error.contains("deadlock")), "{logged:?}");
        for what in ["moved", "refused", "locked", "in conflict", "busy"] {
            assert!(tally.get(what).is_some_and(|count| *count >= 20), "they did not meet: {tally:?}");
        }
    });
}
