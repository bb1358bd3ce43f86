//! The locks that stand while it is measured, in our store and in what it is compared with; and the paths.

use std::{sync::Arc, time::Duration};

use dashmap::DashMap;
use dav_server::{davpath::DavPath, ls::DavLockSystem, memls::MemLs};
use parking_lot::RwLock;
use tower_lock::{
    Limits, LockKind, LockRequest, LockToken, Locks,
    store::{LockStore, MemoryStore},
};

use super::harness::now;

/// Documents from this number on are not locked; those before are, as many as there are locks.
pub const UNLOCKED: usize = 5_000_000;
/// Documents from this number on are locked and released again by the cases that do so.
pub const FRESH: usize = 7_000_000;
/// The document of the holder's writes.
pub const HELD: usize = 9_000_000;

const LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);

/// The path of a document: 44 bytes, depth five. All are siblings, so an unlocked one shares all its parents with the locked.
pub fn near(number: usize) -> String {
    checked(format!("/tenants/acme/projects/apollo/doc-{number:010}"))
}

/// A document elsewhere, with no lock anywhere near.
pub fn far(number: usize) -> String {
    checked(format!("/elsewhere/acme/projects/apol/doc-{number:010}"))
}

/// A document of a collection that has ten: who ends a lock in a tree may have to look at all of its siblings.
pub fn spread(number: usize) -> String {
    checked(format!("/tenants/acme/records/p-{:05}/doc-{number:010}", number / 10 % 100_000))
}

/// A document of another project of the same tenant.
pub fn beside(number: usize) -> String {
    checked(format!("/tenants/acme/projects/hermes/doc-{number:010}"))
}

fn checked(path: String) -> String {
    assert_eq!((path.len(), path.matches('/').count()), (44, 5));
    path
}

/// A path of a lock where locks are at depths two to eight, in turn: on, beside and below the parents of [`near`].
fn mixed(number: usize) -> String {
    let folder = number % 1_000;
    match number % 7 {
        0 => format!("/tenants/doc-{number:010}"),
        1 => format!("/tenants/acme/doc-{number:010}"),
        2 => format!("/tenants/acme/projects/doc-{number:010}"),
        3 => near(number),
        4 => format!("/tenants/acme/projects/apollo/folder-{folder:03}/doc-{number:010}"),
        5 => format!("/tenants/acme/projects/apollo/folder-{folder:03}/sub/doc-{number:010}"),
        _ => format!("/tenants/acme/projects/apollo/folder-{folder:03}/sub/sub/doc-{number:010}"),
    }
}

/// So many locks on siblings of the paths that are asked for, in everything that is asked.
pub struct Standing {
    pub count: usize,
    pub guarded: Ours,
    pub check_only: Ours,
    pub dashmap: Arc<DashMap<String, u64>>,
    pub rwlock: Arc<RwLock<std::collections::HashMap<String, u64>>>,
    pub bare: Arc<hashbrown::HashMap<String, u64, foldhash::fast::RandomState>>,
    pub memls: Box<MemLs>,
}

impl Standing {
    pub fn with(count: usize) -> Self {
        let locked = || (0..count).map(|number| (near(number), number as u64));
        let memls = MemLs::new();
        for (path, _) in locked() {
            now(memls.lock(&dav(&path), None, None, Some(LIFETIME), false, true)).expect("the path is free");
        }
        Self {
            count,
            guarded: Ours::with(MemoryStore::new(), count, near),
            check_only: Ours::with(MemoryStore::builder().check_only().build(), count, near),
            dashmap: Arc::new(locked().collect()),
            rwlock: Arc::new(RwLock::new(locked().collect())),
            bare: Arc::new(locked().collect()),
            memls,
        }
    }
}

/// So many locks, ten in a collection, in our store and in the other lock system.
pub struct Spread {
    pub count: usize,
    pub ours: Ours,
    pub memls: Box<MemLs>,
}

impl Spread {
    pub fn with(count: usize) -> Self {
        let memls = MemLs::new();
        for path in (0..count).map(spread) {
            now(memls.lock(&dav(&path), None, None, Some(LIFETIME), false, true)).expect("the path is free");
        }
        Self { count, ours: Ours::with(MemoryStore::new(), count, spread), memls }
    }
}

pub fn dav(path: &str) -> DavPath {
    DavPath::new(path).expect("a path of DAV")
}

/// Our memory store with locks, and a hub over it.
#[derive(Clone)]
pub struct Ours {
    pub memory: MemoryStore,
    /// The same store as a hub has it.
    pub store: Arc<dyn LockStore>,
    pub locks: Locks,
}

impl Ours {
    fn with(memory: MemoryStore, count: usize, path: impl Fn(usize) -> String) -> Self {
        let mut limits = Limits::default();
        limits.locks_per_principal = usize::MAX;
        limits.locks_in_store = usize::MAX;
        let locks = Locks::builder(memory.clone()).limits(limits).build();
        let ours = Self { store: Arc::new(memory.clone()), memory, locks };
        for number in 0..count {
            ours.lock(path(number));
        }
        assert_eq!(ours.memory.stats().locks, count);
        ours
    }

    /// Locks at depths two to eight.
    pub fn mixed(count: usize) -> Self {
        Self::with(MemoryStore::new(), count, mixed)
    }

    /// One more lock; its token.
    pub fn lock(&self, path: String) -> LockToken {
        let request = LockRequest::exclusive(path).kind(LockKind::Job).reason("nightly export").lifetime(LIFETIME);
        now(self.locks.acquire(request)).expect("the path is free").token()
    }
}
