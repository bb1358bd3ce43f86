//! Below the layer: one look at the store, beside one look into a map of as many strings and beside another lock system.

use std::{fmt::Write, sync::Arc, time::Duration};

use dashmap::DashMap;
use dav_server::{davpath::DavPath, ls::DavLockSystem, memls::MemLs};
use tower_lock::{
    LockToken, Owner,
    lock::{Claim, Depth, HolderProof, LockKind, LockParts, LockScope, ResourceKey, Target},
    request::Conditions,
    store::{
        Acquire, Acquired, Authority, LockStore, NewLock, Release, Released, StoreFuture, Verdict, Which, Write as Asked,
    },
};

use super::{
    harness::{Bench, CALLS, Id, grouped, now},
    standing::{FRESH, Spread, Standing, UNLOCKED, beside, dav, far, near, spread},
};

/// One row of the matrix: the same look at each number of locks.
pub struct Row {
    name: &'static str,
    at: Vec<Id>,
}

pub struct Below {
    counts: Vec<usize>,
    pub guarded: Row,
    pub guarded_far: Row,
    pub check: Row,
    pub check_far: Row,
    pub through: Row,
    pub through_guarded: Row,
    pub dashmap: Row,
    pub dashmap_far: Row,
    pub rwlock: Row,
    pub bare: Row,
    pub memls: Row,
    /// Acquire and release, at the most locks.
    pub pair: Id,
    pub memls_pair: Id,
    /// The same where all locks are siblings.
    pub siblings: Id,
    pub memls_siblings: Id,
    hub_pair: Id,
    few: [Id; 2],
    making: Id,
    /// Name, one thread, two threads.
    threads: Vec<(&'static str, Id, Id)>,
}

impl Row {
    /// At no locks, 1,000 and the most.
    pub fn goals(&self, counts: &[usize]) -> [Id; 3] {
        let thousand = counts.iter().position(|count| *count == 1_000).expect("it is measured");
        [self.at[0], self.at[thousand], *self.at.last().expect("it is measured")]
    }
}

impl Below {
    pub fn new(bench: &mut Bench, standing: &[Standing], spreads: &[Spread; 2]) -> Self {
        let (near, far) = (paths(|at| near(UNLOCKED + at)), paths(far));
        let davs: Arc<[DavPath]> = near.iter().map(|path| dav(path)).collect();
        let mut row = Rows { bench, standing };
        let guarded_near = row.of("admit and end, guarded", |at| admit(at.guarded.store.clone(), near.clone()));
        let guarded_far =
            row.of("admit and end, guarded, far from all locks", |at| admit(at.guarded.store.clone(), far.clone()));
        let check_near = row.of("admit, check-only", |at| admit(at.check_only.store.clone(), near.clone()));
        let through = row.of("let_through, check-only", |at| let_through(at.check_only.store.clone(), near.clone()));
        let through_guarded =
            row.of("let_through and end, guarded", |at| let_through(at.guarded.store.clone(), near.clone()));
        let check_far =
            row.of("admit, check-only, far from all locks", |at| admit(at.check_only.store.clone(), far.clone()));
        let dashmap = row.of("dashmap get", |at| get(at.dashmap.clone(), near.clone()));
        let dashmap_far = row.of("dashmap get, the far paths", |at| get(at.dashmap.clone(), far.clone()));
        let rwlock = row.of("parking_lot RwLock<HashMap> get", |at| {
            let (map, paths) = (at.rwlock.clone(), near.clone());
            move |number| map.read().get(paths[number].as_str()).is_none()
        });
        let bare = row.of("hashbrown get with foldhash, nothing shared", |at| {
            let (map, paths) = (at.bare.clone(), near.clone());
            move |number| map.get(paths[number].as_str()).is_none()
        });
        let memls = row.of("dav-server MemLs::check", |at| {
            let (memls, paths) = (at.memls.clone(), davs.clone());
            move |number| now(memls.check(&paths[number], None, false, false, &[])).is_ok()
        });
        let thousand = standing.iter().find(|at| at.count == 1_000).expect("it is measured");
        let mut pairs = |at: &Spread| {
            let count = grouped(at.count);
            let ours =
                bench.function(format!("acquire and release, {count} other locks"), pair(at.ours.store.clone(), fresh));
            let memls =
                bench.function(format!("MemLs lock and unlock, {count} other locks"), memls_pair(at.memls.clone(), fresh));
            [ours, memls]
        };
        let few = pairs(&spreads[0]);
        let many = pairs(&spreads[1]);
        let all = standing.last().expect("some were made");
        let count = grouped(all.count);
        let name = format!("acquire and release, {count} other locks, all siblings");
        let siblings = bench.function(name, pair(all.guarded.store.clone(), sibling));
        let name = format!("MemLs lock and unlock, {count} other locks, all siblings");
        let memls_siblings = bench.function(name, memls_pair(all.memls.clone(), sibling));
        let making = bench.function("in each of ours, making path, id and token", |number| {
            let lock = std::hint::black_box(new_lock(spread(FRESH + 10 * number), Owner::default()));
            lock.parts.root.path().len() == 44
        });
        let hub = thousand.guarded.clone();
        let hub_pair = bench.function("Locks::acquire and release, 1,000 other locks", move |number| {
            let token = hub.lock(spread(FRESH + number));
            now(hub.locks.release(token)).is_ok()
        });
        let threads = threads(bench, thousand, [&guarded_near, &check_near, &dashmap, &rwlock, &memls], standing);
        Self {
            counts: standing.iter().map(|at| at.count).collect(),
            guarded: guarded_near,
            guarded_far,
            check: check_near,
            check_far,
            through,
            through_guarded,
            dashmap,
            dashmap_far,
            rwlock,
            bare,
            memls,
            pair: many[0],
            memls_pair: many[1],
            siblings,
            memls_siblings,
            hub_pair,
            few,
            making,
            threads,
        }
    }

    pub fn counts(&self) -> &[usize] {
        &self.counts
    }

    fn rows(&self) -> [&Row; 9] {
        [
            &self.check,
            &self.check_far,
            &self.guarded,
            &self.guarded_far,
            &self.bare,
            &self.rwlock,
            &self.dashmap,
            &self.dashmap_far,
            &self.memls,
        ]
    }

    /// The cases that are no row of the matrix.
    pub fn single(&self) -> Vec<Id> {
        let many = [self.pair, self.memls_pair, self.siblings, self.memls_siblings];
        let pairs = self.few.into_iter().chain(many).chain([self.making, self.hub_pair]);
        pairs.chain(self.threads.iter().map(|(_, _, two)| *two)).collect()
    }

    /// Rows are what is asked, columns how many locks there are.
    pub fn matrix(&self, bench: &Bench) -> String {
        let mut matrix = format!("{:<46}", "");
        for count in &self.counts {
            let _ = write!(matrix, "{:>10}", grouped(*count));
        }
        matrix += "\n";
        for row in [&self.through, &self.through_guarded].into_iter().chain(self.rows()) {
            let _ = write!(matrix, "{:<46}", row.name);
            for id in &row.at {
                let _ = write!(matrix, "{:>10.1}", bench.ns(*id));
            }
            matrix += "\n";
        }
        matrix
    }

    /// The matrix and the threads, for the plot.
    pub fn figures(&self, bench: &Bench) -> String {
        let mut csv = String::new();
        for row in self.rows() {
            for (count, id) in self.counts.iter().zip(&row.at) {
                let _ = writeln!(csv, "locks;{};{count};{:.2}", row.name, bench.ns(*id));
            }
        }
        for (name, one, two) in &self.threads {
            let _ = writeln!(csv, "threads;{name};2;{:.3}", bench.speedup(*two, *one));
        }
        csv
    }
}

/// Adds rows to the matrix.
struct Rows<'a> {
    bench: &'a mut Bench,
    standing: &'a [Standing],
}

impl Rows<'_> {
    fn of<F: FnMut(usize) -> bool + Send + 'static>(&mut self, name: &'static str, look: impl Fn(&Standing) -> F) -> Row {
        let cases = self.standing.iter().map(|at| {
            let name = format!("{name}, {} locks", grouped(at.count));
            self.bench.function(name, look(at))
        });
        Row { name, at: cases.collect() }
    }
}

fn get(map: Arc<DashMap<String, u64>>, paths: Arc<[String]>) -> impl FnMut(usize) -> bool + Send {
    move |number| map.get(paths[number].as_str()).is_none()
}

fn paths(path: impl Fn(usize) -> String) -> Arc<[String]> {
    (0..CALLS).map(path).collect()
}

/// What a store is asked before a write that stands in nobody's way, and, where it registers writes, the end of that write.
pub fn admit(store: Arc<dyn LockStore>, paths: Arc<[String]>) -> impl FnMut(usize) -> bool + Send + Clone {
    move |number| {
        let targets = [Target::write_member(ResourceKey::from_canonical(paths[number].as_str()))];
        // As the layer does: conditions that are none are a constant, and the answer is looked at where the store has put it.
        match store.admit(&Asked::new(&targets, &Conditions::NONE)) {
            StoreFuture::Ready(Ok(Verdict::Admitted(admitted))) => admitted.answered.is_none(),
            _ => false,
        }
    }
}

/// The shorter question that the layer asks first.
fn let_through(store: Arc<dyn LockStore>, paths: Arc<[String]>) -> impl FnMut(usize) -> bool + Send + Clone {
    move |number| {
        let targets = [Target::write_member(ResourceKey::from_canonical(paths[number].as_str()))];
        store.let_through(&targets).is_some()
    }
}

/// A lock on `path` comes and goes; id and token are made for it.
fn acquire_and_release(store: &dyn LockStore, path: String) -> bool {
    let lock = [new_lock(path, Owner::default())];
    let granted = now(store.acquire(&Acquire::new(&lock, None)));
    let authority = Authority::Holder { principal: None, proof: &HolderProof::TokenAndPrincipal };
    let released = now(store.release(&Release::new(Which::Token(&lock[0].token), authority)));
    matches!(granted, Ok(Acquired::Granted(_))) && matches!(released, Ok(Released::Released(_)))
}

pub fn new_lock(path: String, owner: Owner) -> NewLock {
    let (token, id) = LockToken::random_with_id();
    let parts = LockParts {
        id,
        root: ResourceKey::from_canonical(path),
        scope: LockScope::Exclusive,
        depth: Depth::Infinity,
        kind: LockKind::User,
        principal: None,
        owner,
        reason: None,
        client_ref: None,
        claim: Claim::Made,
    };
    NewLock { parts: Arc::new(parts), token }
}

/// A document of a collection that has ten.
pub fn fresh(number: usize) -> String {
    spread(FRESH + 10 * number)
}

/// A document that shares all of its parents with all locks.
fn sibling(number: usize) -> String {
    near(FRESH + number)
}

/// Locks on these documents come and go.
pub fn pair(
    store: Arc<dyn LockStore>,
    path: impl Fn(usize) -> String + Send + Sync,
) -> impl Fn(usize) -> bool + Send + Sync {
    move |number| acquire_and_release(&*store, path(number))
}

pub fn memls_pair(memls: Box<MemLs>, path: impl Fn(usize) -> String + Send + Sync) -> impl Fn(usize) -> bool + Send + Sync {
    move |number| {
        // Its path is a type of its own, made of a string as ours is.
        let path = dav(&path(number));
        match now(memls.lock(&path, None, None, Some(Duration::from_secs(300)), false, true)) {
            Ok(lock) => now(memls.unlock(&path, &lock.token)).is_ok(),
            Err(_) => false,
        }
    }
}

/// Two threads at once, at 1,000 locks; with what one thread takes.
fn threads(bench: &mut Bench, at: &Standing, rows: [&Row; 5], standing: &[Standing]) -> Vec<(&'static str, Id, Id)> {
    let counts: Vec<usize> = standing.iter().map(|at| at.count).collect();
    let [guarded, check, dashmap, rwlock, memls] = rows.map(|row| row.goals(&counts)[1]);
    let siblings = [paths(|at| near(UNLOCKED + at)), paths(|at| near(UNLOCKED + CALLS + at))];
    let parents = [siblings[0].clone(), paths(|at| beside(UNLOCKED + at))];
    let mut threads = Vec::new();
    for (name, one, store, paths) in [
        ("admit and end, guarded, different parents", guarded, &at.guarded.store, &parents),
        ("admit and end, guarded, same parent", guarded, &at.guarded.store, &siblings),
        ("admit, check-only", check, &at.check_only.store, &siblings),
    ] {
        let two = bench.functions(2, format!("{name}, 2 threads"), |thread| admit(store.clone(), paths[thread].clone()));
        threads.push((name, one, two));
    }
    let two = bench.functions(2, "dashmap get, 2 threads", |thread| get(at.dashmap.clone(), siblings[thread].clone()));
    threads.push(("dashmap get", dashmap, two));
    let two = bench.functions(2, "parking_lot RwLock<HashMap> get, 2 threads", |thread| {
        let (map, paths) = (at.rwlock.clone(), siblings[thread].clone());
        move |number| map.read().get(paths[number].as_str()).is_none()
    });
    threads.push(("parking_lot RwLock<HashMap> get", rwlock, two));
    let two = bench.functions(2, "dav-server MemLs::check, 2 threads", |thread| {
        let memls = at.memls.clone();
        let paths: Vec<DavPath> = siblings[thread].iter().map(|path| dav(path)).collect();
        move |number| now(memls.check(&paths[number], None, false, false, &[])).is_ok()
    });
    threads.push(("dav-server MemLs::check", memls, two));
    threads
}
