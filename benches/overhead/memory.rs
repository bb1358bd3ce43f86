//! Memory per lock: how much larger a process gets that sets nothing but locks.
//!
//! Each store is filled in a process of its own, so that nothing else comes and goes there. The size is that of the resident
//! set, with all that an allocator rounds up. Once with an owner of 16 bytes, as each store keeps one (an element of XML, a
//! text), once with nothing but the path.

use std::{env, fs, process::Command, time::Duration};

use dav_server::{ls::DavLockSystem, memls::MemLs};
use tower_lock::{
    MemoryStore, Owner,
    store::{Acquire, Acquired, LockStore},
};
use xmltree::{Element, XMLNode};

use super::{
    below::new_lock,
    harness::{grouped, now},
    standing::{dav, spread},
};

/// Before the store to be filled; after it the number of locks.
const ARGUMENT: &str = "--memory-of";
const OURS: &str = "ours";
const OURS_OWNED: &str = "ours-owned";
const MEMLS: &str = "memls";
const MEMLS_OWNED: &str = "memls-owned";

/// Bytes a lock, where they could be measured; with an owner, and without.
pub struct Memory {
    pub locks: usize,
    pub ours: Option<f64>,
    pub memls: Option<f64>,
    ours_alone: Option<f64>,
    memls_alone: Option<f64>,
}

/// The answer of a process that was started to be measured; none in the one that measures.
pub fn asked_to() -> Option<String> {
    let arguments: Vec<String> = env::args().collect();
    let at = arguments.iter().position(|argument| argument == ARGUMENT)?;
    let (store, locks) = (arguments.get(at + 1)?.as_str(), arguments.get(at + 2)?.parse().ok()?);
    Some(filled(store, locks).map_or_else(String::new, |bytes| bytes.to_string()))
}

pub fn per_lock(locks: usize) -> Memory {
    let of = |store| {
        if locks == 0 {
            // Here it only has to work.
            let _ = filled(store, 100);
            return None;
        }
        let started = Command::new(env::current_exe().ok()?).args([ARGUMENT, store, &locks.to_string()]).output().ok()?;
        let grown: f64 = String::from_utf8(started.stdout).ok()?.trim().parse().ok()?;
        Some(grown / locks as f64)
    };
    Memory { locks, ours: of(OURS_OWNED), memls: of(MEMLS_OWNED), ours_alone: of(OURS), memls_alone: of(MEMLS) }
}

/// How many bytes larger the process is after so many locks on paths of 44 bytes, ten in a collection.
fn filled(store: &str, locks: usize) -> Option<usize> {
    let owned = [OURS_OWNED, MEMLS_OWNED].contains(&store);
    let who = |number| owned.then(|| format!("user-{number:011}"));
    let before = resident();
    let after = if [OURS, OURS_OWNED].contains(&store) {
        let store = MemoryStore::new();
        for number in 0..locks {
            let owner = who(number).map_or_else(Owner::default, Owner::id);
            let lock = [new_lock(spread(number), owner)];
            let granted = now(store.acquire(&Acquire::new(&lock, None)));
            assert!(matches!(granted, Ok(Acquired::Granted(_))), "the path is free");
        }
        assert_eq!(store.stats().locks, locks);
        resident()
    } else {
        let memls = MemLs::new();
        for number in 0..locks {
            let owner = who(number).map(|who| {
                let mut owner = Element::new("owner");
                owner.children.push(XMLNode::Text(who));
                owner
            });
            let path = dav(&spread(number));
            let lock = memls.lock(&path, None, owner.as_ref(), Some(Duration::from_secs(300)), false, true);
            now(lock).expect("the path is free");
        }
        let found = now(memls.discover(&dav(&spread(locks - 1))));
        assert_eq!(found.len(), 1);
        resident()
    };
    after?.checked_sub(before?)
}

/// The bytes of this process that are in memory, where the system says so as Linux does.
fn resident() -> Option<usize> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.split_whitespace().next()?.parse::<usize>().ok()? * 1_024)
}

pub fn table(memory: &Memory) -> String {
    let said = |bytes: Option<f64>| bytes.map_or_else(|| "not known here".into(), |bytes| format!("{bytes:.0} bytes"));
    format!(
        "Memory a lock, with {} locks on paths of 44 bytes: locks {}, MemLs {}; with an owner of 16 bytes {} and {}.\n",
        grouped(memory.locks),
        said(memory.ours_alone),
        said(memory.memls_alone),
        said(memory.ours),
        said(memory.memls)
    )
}
