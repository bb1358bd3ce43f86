//! G3, G4, G6 and G7 of the memory store under real threads and tasks, with an exact oracle; and the proof that the
//! oracle sees: a check-only store does not pass.
//!
//! A write counts as running from after `admit` answered until before its permit is dropped, a lock as held from after
//! `acquire` answered until before its release is called, or its end by the clock. Both are parts of the time for which
//! the store vouches, so whatever the oracle sees overlap did overlap.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use tower_lock::{
    HolderProof, LockStore, MemoryStore, Principal,
    lock::{
        Claim, Depth, Lock, LockId, LockKind, LockParts, LockScope, LockToken, Owner, ResourceKey, Target, Timestamp, rules,
    },
    request::Conditions,
    store::{
        Acquire, Acquired, Admitted, Authority, Clock, Lifetime, LockQuery, ManualClock, NewLock, Refresh, Refreshed,
        Release, Released, Replaces, Select, Span, Verdict, Which, Write,
    },
};

/// How long one mix runs: `TOWER_LOCK_SOAK` times as long, where that is set.
fn run() -> Duration {
    let times = std::env::var("TOWER_LOCK_SOAK").ok().and_then(|times| times.parse().ok()).unwrap_or(1);
    Duration::from_millis(2_500) * times
}

const PATHS: [&str; 13] =
    ["/", "/a", "/b", "/a/x", "/a/y", "/b/x", "/b/y", "/a/x/1", "/a/x/2", "/a/y/1", "/b/x/1", "/b/y/1", "/b/y/2"];

/// What is known for certain, from outside.
#[derive(Default)]
struct Oracle {
    state: Mutex<State>,
    counts: Mutex<HashMap<&'static str, u64>>,
}

#[derive(Default)]
struct State {
    next: u64,
    running: HashMap<u64, Running>,
    held: HashMap<LockId, Held>,
    /// Of every lock ever granted, for the order of generations.
    granted: Vec<(Arc<LockParts>, u64)>,
    /// The highest generation that a write carried, by path.
    written: HashMap<String, u64>,
    violations: Vec<String>,
}

struct Running {
    targets: Vec<Target<'static>>,
    own: Vec<Arc<LockParts>>,
}

#[derive(Clone)]
struct Held {
    parts: Arc<LockParts>,
    generation: u64,
    expires_at: Option<Timestamp>,
    life_end: Timestamp,
}

impl Oracle {
    fn count(&self, what: &'static str) {
        *self.counts.lock().unwrap().entry(what).or_default() += 1;
    }

    fn counted(&self, what: &'static str) -> u64 {
        self.counts.lock().unwrap().get(what).copied().unwrap_or(0)
    }

    fn violations(&self) -> Vec<String> {
        self.state.lock().unwrap().violations.clone()
    }

    /// A write was admitted.
    fn write_started(&self, clock: &Clock, running: Running, admitted: &Admitted) -> u64 {
        let mut state = self.state.lock().unwrap();
        let state = &mut *state;
        let now = clock.now();
        let shared: Vec<_> = running.own.iter().filter(|own| own.scope == LockScope::Shared).cloned().collect();
        for held in state.held.values() {
            let its_own = running.own.iter().any(|own| own.id == held.parts.id);
            if its_own && admitted.permit.generation() < held.generation {
                state.violations.push(format!("G6: a write carries less than the lock it is under: {:?}", held.parts.root));
            }
            let live = held.live(now, &state.running);
            if !its_own && live && rules::would_refuse(&held.parts, &running.targets, &shared) {
                state.violations.push(format!("G1: a write of {:?} under a lock on {:?}", running.targets, held.parts.root));
            }
        }
        for target in &running.targets {
            let written = state.written.entry(target.key.path().to_owned()).or_default();
            *written = (*written).max(admitted.permit.generation());
        }
        state.next += 1;
        state.running.insert(state.next, running);
        state.next
    }

    fn write_ends(&self, number: u64) {
        self.state.lock().unwrap().running.remove(&number);
    }

    /// Locks were granted, in one step.
    fn granted(&self, clock: &Clock, locks: &[Lock], lifetime: Lifetime) {
        let mut state = self.state.lock().unwrap();
        let state = &mut *state;
        let now = clock.now();
        for lock in locks {
            let parts = lock.parts();
            for held in state.held.values().filter(|held| held.live(now, &state.running)) {
                if rules::conflict(parts, &held.parts) {
                    state.violations.push(format!("G4: {:?} granted beside {:?}", parts.root, held.parts.root));
                }
            }
            for write in state.running.values() {
                let shared: Vec<_> = write.own.iter().filter(|own| own.scope == LockScope::Shared).cloned().collect();
                if rules::would_refuse(parts, &write.targets, &shared) {
                    state.violations.push(format!("G3: {:?} granted over a write of {:?}", parts.root, write.targets));
                }
            }
            // Two shared locks may be told of in either order; locks that conflict may not.
            for (earlier, generation) in &state.granted {
                if *generation == lock.generation() || (rules::conflict(parts, earlier) && *generation > lock.generation()) {
                    state.violations.push(format!("G6: {:?} after {:?}", parts.root, earlier.root));
                }
            }
            for (path, generation) in &state.written {
                let key = ResourceKey::from_canonical(&**path);
                if rules::covers(&parts.root, parts.depth, &key)
                    && lock.scope() == LockScope::Exclusive
                    && *generation >= lock.generation()
                {
                    state.violations.push(format!("G6: {path} was written with a number not below the new lock's"));
                }
            }
        }
        for lock in locks {
            state.granted.push((lock.parts().clone(), lock.generation()));
            let life_end = lock.created_at().after(lifetime.total.expect("bounded"));
            let held =
                Held { parts: lock.parts().clone(), generation: lock.generation(), expires_at: lock.expires_at(), life_end };
            state.held.insert(lock.id(), held);
        }
        // Old ones prove little and make the run quadratic.
        let surplus = state.granted.len().saturating_sub(200);
        state.granted.drain(..surplus);
    }

    fn refreshed(&self, lock: &Lock) {
        if let Some(held) = self.state.lock().unwrap().held.get_mut(&lock.id()) {
            held.expires_at = lock.expires_at();
        }
    }

    /// About to be released, replaced or broken; whether it was still held.
    fn ends(&self, id: LockId) -> bool {
        self.state.lock().unwrap().held.remove(&id).is_some()
    }

    fn any_held(&self, random: &mut Random) -> Option<LockId> {
        let state = self.state.lock().unwrap();
        let at = random.below(state.held.len().max(1));
        state.held.keys().nth(at).copied()
    }

    /// A lock under which its holder's write runs is there, as long as its total life is not over (G7).
    fn must_live(&self, clock: &Clock, id: LockId, found: Option<&Lock>) {
        let mut state = self.state.lock().unwrap();
        let now = clock.now();
        let due = state.held.get(&id).is_some_and(|held| now < held.life_end);
        if due && !found.is_some_and(Lock::in_use) {
            state.violations.push(format!("G7: {id} ended under its holder's write"));
        }
    }
}

impl Held {
    fn live(&self, now: Timestamp, running: &HashMap<u64, Running>) -> bool {
        let own = self.expires_at.is_none_or(|end| now < end);
        let pinned = || running.values().any(|write| write.own.iter().any(|own| own.id == self.parts.id));
        own || (now < self.life_end && pinned())
    }
}

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

    fn path(&mut self) -> ResourceKey<'static> {
        // Seldom the root: a lock there leaves nothing for the others to do.
        let at = if self.one_in(20) { 0 } else { 1 + self.below(PATHS.len() - 1) };
        ResourceKey::from_canonical(PATHS[at])
    }
}

#[derive(Clone)]
struct Arena {
    store: Arc<dyn LockStore>,
    clock: Clock,
    oracle: Arc<Oracle>,
    over: Arc<AtomicBool>,
    /// Whether locks are meant to outlive the run unless released.
    lifetime: Lifetime,
}

fn lasting() -> Lifetime {
    let hour = Some(Duration::from_secs(3_600));
    Lifetime { span: hour, most: hour, total: hour }
}

/// Lifetimes that end many times in a run.
fn fleeting() -> Lifetime {
    Lifetime {
        span: Some(Duration::from_millis(30)),
        most: Some(Duration::from_millis(60)),
        total: Some(Duration::from_millis(400)),
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

fn depth(random: &mut Random) -> Depth {
    if random.one_in(3) { Depth::Zero } else { Depth::Infinity }
}

fn scope(random: &mut Random) -> LockScope {
    if random.one_in(2) { LockScope::Shared } else { LockScope::Exclusive }
}

impl Arena {
    fn goes_on(&self) -> bool {
        !self.over.load(Ordering::Relaxed)
    }

    /// Registers a write with the store and with the oracle. Blocks never: the store answers at once.
    fn start(&self, targets: Vec<Target<'static>>, own: Option<&NewLock>, name: &str) -> Option<(Admitted, u64)> {
        let mut conditions = Conditions::default();
        own.iter().for_each(|lock| conditions.submit(lock.token).unwrap());
        let principal = who(name);
        let write = Write::new(&targets, &conditions).by(Some(&principal));
        let verdict = self.store.admit(&write).into_ready().expect("at once").expect("never fails");
        let Verdict::Admitted(admitted) = verdict else {
            self.oracle.count("refused");
            return None;
        };
        let answered: Vec<LockId> = admitted.answered.iter().flatten().map(Lock::id).collect();
        let own = own.iter().filter(|lock| answered.contains(&lock.parts.id)).map(|lock| lock.parts.clone()).collect();
        let number = self.oracle.write_started(&self.clock, Running { targets, own }, &admitted);
        self.oracle.count("admitted");
        Some((admitted, number))
    }

    fn end(&self, (admitted, number): (Admitted, u64)) {
        self.oracle.write_ends(number);
        drop(admitted.permit);
    }

    async fn acquire(&self, locks: &[NewLock], name: &str, replaces: &[Replaces<'_>], drain: Duration) -> Option<Vec<Lock>> {
        let principal = who(name);
        let request = Acquire::new(locks, Some(&principal)).draining(drain).living(self.lifetime).replacing(replaces);
        match self.store.acquire(&request).await.expect("never fails") {
            Acquired::Granted(granted) => {
                self.oracle.granted(&self.clock, &granted, self.lifetime);
                self.oracle.count("granted");
                Some(granted)
            }
            Acquired::Busy { .. } => {
                self.oracle.count("busy");
                None
            }
            Acquired::Conflict(_) => {
                self.oracle.count("conflict");
                None
            }
            // Breaking or expiring a lock that was to be replaced.
            Acquired::Lost(_) => None,
            other => panic!("{other:?}"),
        }
    }

    fn release(&self, lock: &NewLock, name: &str) {
        self.oracle.ends(lock.parts.id);
        let principal = who(name);
        let authority = Authority::Holder { principal: Some(&principal), proof: &HolderProof::TokenAndPrincipal };
        let released = self.store.release(&Release::new(Which::Token(&lock.token), authority)).into_ready();
        match released.expect("at once").expect("never fails") {
            Released::Released(_) => self.oracle.count("released"),
            Released::Lost(_) => self.oracle.count("gone before its release"),
            other => panic!("{other:?}"),
        }
    }

    /// Any one that is held, by somebody who may.
    fn break_one(&self, random: &mut Random) {
        let Some(id) = self.oracle.any_held(random) else { return };
        if !self.oracle.ends(id) {
            return;
        }
        let admin = who("admin");
        let authority = Authority::Break { actor: Some(&admin), reason: "test", grace: Duration::ZERO };
        let _ = self.store.release(&Release::new(Which::Id(id), authority)).into_ready();
        self.oracle.count("broken");
    }

    fn found(&self, id: LockId) -> Option<Lock> {
        let page = self.store.find(&LockQuery::new(Select::Id(id))).into_ready().expect("at once").expect("never fails");
        page.locks.into_iter().next()
    }

    async fn hold_and_write(&self, held: &NewLock, name: &str, random: &mut Random) {
        for _ in 0..1 + random.below(3) {
            let below = PATHS[random.below(PATHS.len())];
            let root = held.parts.root.path();
            let path = if below.starts_with(root) { below } else { root };
            let target = Target::write(ResourceKey::from_canonical(path.to_owned()));
            if let Some(write) = self.start(vec![target], Some(held), name) {
                rest(random).await;
                if write.0.answered.iter().flatten().any(|lock| lock.id() == held.parts.id) && !self.is_check_only() {
                    self.oracle.must_live(&self.clock, held.parts.id, self.found(held.parts.id).as_ref());
                }
                self.end(write);
            }
            if random.one_in(3) {
                let principal = who(name);
                let authority = Authority::Holder { principal: Some(&principal), proof: &HolderProof::TokenAndPrincipal };
                let refresh = Refresh::new(Which::Token(&held.token), authority, Span::Same);
                if let Ok(Ok(Refreshed::Refreshed(lock, _))) = self.store.refresh(&refresh).into_ready() {
                    self.oracle.refreshed(&lock);
                    self.oracle.count("refreshed");
                }
            }
            rest(random).await;
        }
    }

    fn is_check_only(&self) -> bool {
        self.oracle.counted("check only") > 0
    }
}

/// None, too short for most writes, long enough for all.
fn drain(random: &mut Random) -> Duration {
    Duration::from_micros([0, 300, 40_000, 40_000][random.below(4)])
}

async fn rest(random: &mut Random) {
    for _ in 0..random.below(6) {
        tokio::task::yield_now().await;
    }
}

async fn writer(arena: Arena, mut random: Random) {
    while arena.goes_on() {
        let path = random.path();
        let target = match random.below(4) {
            0 => Target::unlink(path),
            1 => Target::write_member(path),
            _ => Target::write(path),
        };
        let targets = if random.one_in(4) { vec![target, Target::unlink(random.path())] } else { vec![target] };
        if let Some(write) = arena.start(targets, None, "writer") {
            rest(&mut random).await;
            arena.end(write);
        }
        tokio::task::yield_now().await;
    }
}

async fn holder(arena: Arena, mut random: Random) {
    while arena.goes_on() {
        let new = lock(random.path(), scope(&mut random), depth(&mut random), "holder");
        if arena.acquire(std::slice::from_ref(&new), "holder", &[], drain(&mut random)).await.is_some() {
            arena.hold_and_write(&new, "holder", &mut random).await;
            // Some are left to expire.
            if arena.lifetime == lasting() || random.one_in(2) {
                arena.release(&new, "holder");
            } else {
                arena.oracle.count("left");
            }
        }
        tokio::task::yield_now().await;
    }
}

async fn of_many_roots(arena: Arena, mut random: Random) {
    while arena.goes_on() {
        let scope = scope(&mut random);
        let locks = [("/a/x", Depth::Infinity), ("/b", Depth::Zero), ("/b/y", Depth::Infinity)]
            .map(|(path, depth)| lock(ResourceKey::from_canonical(path), scope, depth, "many"));
        if arena.acquire(&locks, "many", &[], drain(&mut random)).await.is_some() {
            arena.oracle.count("many roots");
            rest(&mut random).await;
            for lock in &locks {
                arena.release(lock, "many");
            }
        }
        tokio::task::yield_now().await;
    }
}

/// Replaces a lock by one of another reach, which must never leave a gap.
async fn replacer(arena: Arena, mut random: Random) {
    while arena.goes_on() {
        let root = ["/a", "/b/x"][random.below(2)];
        let first = lock(ResourceKey::from_canonical(root), LockScope::Shared, Depth::Zero, "replacer");
        if arena.acquire(std::slice::from_ref(&first), "replacer", &[], drain(&mut random)).await.is_none() {
            tokio::task::yield_now().await;
            continue;
        }
        let mut held = first;
        for _ in 0..3 {
            let next = lock(ResourceKey::from_canonical(root), scope(&mut random), depth(&mut random), "replacer");
            let token = held.token;
            // The one replaced lives until the other is granted, but from outside it cannot be told when that is.
            arena.oracle.ends(held.parts.id);
            let replaces = [Replaces::Held(&token)];
            if arena.acquire(std::slice::from_ref(&next), "replacer", &replaces, drain(&mut random)).await.is_some() {
                arena.oracle.count("replaced");
                held = next;
            }
            rest(&mut random).await;
        }
        arena.release(&held, "replacer");
    }
}

/// Asks for locks and goes away in the middle.
async fn fickle(arena: Arena, mut random: Random) {
    while arena.goes_on() {
        let new = lock(random.path(), scope(&mut random), depth(&mut random), "fickle");
        let principal = who("fickle");
        let locks = std::slice::from_ref(&new);
        let request = Acquire::new(locks, Some(&principal)).draining(drain(&mut random)).living(arena.lifetime);
        let mut asked = arena.store.acquire(&request);
        let polls = random.below(3);
        let mut answered = false;
        for _ in 0..polls {
            let poll = std::future::poll_fn(|cx| std::task::Poll::Ready(std::pin::Pin::new(&mut asked).poll(cx))).await;
            if poll.is_ready() {
                answered = true;
                break;
            }
            tokio::task::yield_now().await;
        }
        if !answered {
            arena.oracle.count("dropped");
        }
        drop(asked);
        // Whether it was granted or not: undone by its token.
        arena.release(&new, "fickle");
        tokio::task::yield_now().await;
    }
}

async fn breaker(arena: Arena, mut random: Random) {
    while arena.goes_on() {
        arena.break_one(&mut random);
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
    }
}

/// Runs everything at once; gives back the oracle and what the store holds at the end.
fn hammer(store: &MemoryStore, hand: &ManualClock, lifetime: Lifetime, check_only: bool) -> Arc<Oracle> {
    let oracle = Arc::new(Oracle::default());
    if check_only {
        oracle.count("check only");
    }
    let arena = Arena {
        store: Arc::new(store.clone()),
        clock: hand.clock(),
        oracle: oracle.clone(),
        over: Arc::default(),
        lifetime,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).build().unwrap();
    let seed = Arc::new(AtomicU64::new(0x9e37_79b9_7f4a_7c15));
    let random = || Random(seed.fetch_add(0x5851_f42d_4c95_7f2d, Ordering::Relaxed) | 1);
    let mut tasks = Vec::new();
    for _ in 0..4 {
        tasks.push(runtime.spawn(writer(arena.clone(), random())));
        tasks.push(runtime.spawn(holder(arena.clone(), random())));
    }
    tasks.push(runtime.spawn(of_many_roots(arena.clone(), random())));
    tasks.push(runtime.spawn(replacer(arena.clone(), random())));
    tasks.push(runtime.spawn(fickle(arena.clone(), random())));
    tasks.push(runtime.spawn(fickle(arena.clone(), random())));
    tasks.push(runtime.spawn(breaker(arena.clone(), random())));
    let threads: Vec<_> = (0..2)
        .map(|_| {
            let (arena, mut random) = (arena.clone(), random());
            thread::spawn(move || {
                while arena.goes_on() {
                    if let Some(write) = arena.start(vec![Target::write_member(random.path())], None, "thread") {
                        thread::yield_now();
                        arena.end(write);
                    }
                }
            })
        })
        .collect();
    let end = Instant::now() + run();
    while Instant::now() < end && oracle.violations().len() < 100 {
        hand.advance(Duration::from_micros(200));
        thread::sleep(Duration::from_micros(100));
    }
    arena.over.store(true, Ordering::Relaxed);
    // Nobody may wait for a deadline that never comes.
    while tasks.iter().any(|task| !task.is_finished()) {
        hand.advance(Duration::from_millis(50));
        thread::sleep(Duration::from_micros(200));
    }
    for task in tasks {
        runtime.block_on(task).expect("no task panics");
    }
    threads.into_iter().for_each(|thread| thread.join().expect("no thread panics"));
    oracle
}

/// Every kind of step was taken often enough to mean something.
fn assert_exercised(oracle: &Oracle, steps: &[&'static str]) {
    let counts = oracle.counts.lock().unwrap();
    for step in steps {
        let count = counts.get(step).copied().unwrap_or(0);
        assert!(count >= 10, "{step}: only {count} of {counts:?}");
    }
}

const ALWAYS: [&str; 11] = [
    "admitted",
    "refused",
    "granted",
    "busy",
    "conflict",
    "released",
    "replaced",
    "dropped",
    "broken",
    "many roots",
    "refreshed",
];

#[test]
fn no_overtaking_one_holder_and_rising_generations_under_threads_and_tasks() {
    let hand = ManualClock::new();
    let store = MemoryStore::builder().clock(hand.clock()).build();
    let oracle = hammer(&store, &hand, lasting(), false);
    assert_eq!(oracle.violations(), Vec::<String>::new());
    assert_exercised(&oracle, &ALWAYS);
    let stats = store.stats();
    assert_eq!((stats.in_flight, stats.locks), (0, 0), "nothing is left behind");
}

#[test]
fn the_same_while_locks_expire_and_writes_pin_them() {
    let hand = ManualClock::new();
    let store = MemoryStore::builder().clock(hand.clock()).build();
    let oracle = hammer(&store, &hand, fleeting(), false);
    assert_eq!(oracle.violations(), Vec::<String>::new());
    assert_exercised(&oracle, &ALWAYS);
    assert_exercised(&oracle, &["left", "gone before its release"]);
    hand.advance(Duration::from_secs(60));
    let all = LockQuery::at_or_below(ResourceKey::from_canonical("/"));
    let page = store.find(&all).into_ready().unwrap().unwrap();
    assert!(page.locks.is_empty() && store.stats().in_flight == 0, "nothing is left behind");
}

#[test]
fn a_store_that_only_checks_does_not_pass() {
    let hand = ManualClock::new();
    let store = MemoryStore::builder().clock(hand.clock()).check_only().build();
    let oracle = hammer(&store, &hand, lasting(), true);
    let violations = oracle.violations();
    assert!(violations.iter().any(|violation| violation.starts_with("G3")), "the oracle is blind: {violations:?}");
}
