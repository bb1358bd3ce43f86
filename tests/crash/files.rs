//! Files that are cut off, damaged, of something else or of a later release: a clear error, and the file as it was.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::LazyLock,
};

use tempfile::TempDir;
use tower_lock::{
    MemoryStore,
    lock::LockId,
    store::{Acquired, Released, StoreErrorKind},
};

use super::{Random, acquire, all, new, release, runtime, soak};

/// A file and what must be found in it.
struct Good {
    bytes: Vec<u8>,
    locks: Vec<LockId>,
}

/// One that was closed in good order.
static CLOSED: LazyLock<Good> = LazyLock::new(|| make(true));
/// One as a kill leaves it, with changes in the journal. The last of them is one that nobody misses.
static KILLED: LazyLock<Good> = LazyLock::new(|| make(false));

fn make(closed: bool) -> Good {
    let (folder, path) = place();
    let locks = runtime().block_on(async {
        let store = MemoryStore::open(&path).unwrap();
        for at in 0..80 {
            let lock = new(&format!("/some/where/{at}"));
            assert!(matches!(acquire(&store, std::slice::from_ref(&lock)).await, Acquired::Granted(_)));
            if at % 3 == 0 {
                assert!(matches!(release(&store, &lock.token).await, Ok(Released::Released(_))));
            }
            if at == 40 {
                drop(store);
                return more(&path, closed).await;
            }
        }
        unreachable!()
    });
    drop(folder);
    locks
}

/// The second half: what was there is in the database, what comes now goes to the journal.
async fn more(path: &Path, closed: bool) -> Good {
    let store = MemoryStore::open(path).unwrap();
    for at in 100..140 {
        assert!(matches!(acquire(&store, &[new(&format!("/some/where/{at}"))]).await, Acquired::Granted(_)));
    }
    let locks = all(&store).await.iter().map(tower_lock::Lock::id).collect();
    assert!(matches!(release(&store, &new("/x").token).await, Ok(Released::Lost(_))));
    if closed {
        drop(store);
        return Good { bytes: fs::read(path).unwrap(), locks };
    }
    Good { bytes: fs::read(path).unwrap(), locks }
}

fn place() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("locks.redb");
    (folder, path)
}

/// What opening `bytes` comes to: the locks; none when they are refused, and then they are as they were.
fn open(path: &Path, bytes: &[u8], case: &str) -> Option<Vec<LockId>> {
    fs::write(path, bytes).unwrap();
    match MemoryStore::open(path) {
        Ok(store) => Some(runtime().block_on(all(&store)).iter().map(tower_lock::Lock::id).collect()),
        Err(error) => {
            assert_eq!(error.kind(), StoreErrorKind::Incompatible, "{case}: {error:?}");
            assert!(fs::read(path).unwrap() == bytes, "{case}: the file was touched");
            let beside = fs::read_dir(path.parent().unwrap()).unwrap().count();
            assert_eq!(beside, 1, "{case}: something was left beside it");
            None
        }
    }
}

#[test]
fn good_files_open() {
    let (_folder, path) = place();
    for good in [&CLOSED, &KILLED] {
        assert_eq!(open(&path, &good.bytes, "good").as_ref(), Some(&good.locks));
        let after = fs::read(&path).unwrap();
        assert_eq!(open(&path, &after, "again").as_ref(), Some(&good.locks));
    }
}

#[test]
fn foreign_files_are_refused_and_left_as_they_are() {
    let (_folder, path) = place();
    let mut sqlite = b"SQLite format 3\0\x10\0\x01\x01\0\x40\x20\x20".to_vec();
    sqlite.resize(3 << 20, 0);
    let database = {
        let (_other, path) = place();
        drop(redb::Database::create(&path).unwrap());
        fs::read(&path).unwrap()
    };
    let mut later = CLOSED.bytes.clone();
    later[16] += 1;
    let mut only_magic = CLOSED.bytes.clone();
    only_magic[16..].fill(0);
    for (case, bytes) in [
        ("empty", Vec::new()),
        ("a text", b"dear diary\n".to_vec()),
        ("a long text", b"dear diary\n".repeat(500_000)),
        ("zeros", vec![0; 4 << 20]),
        ("SQLite", sqlite),
        ("somebody's redb", database),
        ("a later release", later),
        ("a name and nothing else", only_magic),
    ] {
        assert_eq!(open(&path, &bytes, case), None, "{case}");
    }
    let error = MemoryStore::open(path.parent().unwrap()).unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Incompatible, "a folder: {error:?}");
    let error = MemoryStore::open(path.join("below/a/file")).unwrap_err();
    assert!(std::error::Error::source(&error).is_some(), "{error:?}");
}

#[test]
fn a_file_that_was_cut_off_is_refused_and_left_as_it_is() {
    let (_folder, path) = place();
    let mut random = Random::new(0xD1CE);
    for good in [&CLOSED, &KILLED] {
        let len = good.bytes.len();
        let mut cuts: Vec<usize> = [1, 15, 16, 20, 60, 511, 4096, 4160, 8192, 12_288, len - 4096, len - 1].into();
        cuts.extend((0..40 * soak()).map(|_| usize::try_from(random.below(len as u64)).unwrap()));
        for cut in cuts {
            assert_eq!(open(&path, &good.bytes[..cut], &format!("cut to {cut}")), None, "cut to {cut} of {len}");
        }
    }
}

#[test]
fn damage_is_an_error_or_does_no_harm() {
    let (_folder, path) = place();
    let mut random = Random::new(0xF11E);
    let mut refused = 0;
    for good in [&CLOSED, &KILLED] {
        let used: Vec<usize> = (0..good.bytes.len()).filter(|at| good.bytes[*at] != 0).collect();
        for case in 0..100 * soak() {
            let mut bytes = good.bytes.clone();
            // Where something stands, in the heads, or anywhere; one byte, or many.
            for _ in 0..[1, 1, 1, 8, 200][case % 5] {
                let at = match random.below(4) {
                    0 => usize::try_from(random.below(bytes.len() as u64)).unwrap(),
                    1 => usize::try_from(random.below(64) + [0, 4096, 8192, 12_288 + (2 << 20)][case % 4]).unwrap(),
                    _ => used[usize::try_from(random.below(used.len() as u64)).unwrap()],
                };
                bytes[at] ^= 1 << random.below(8);
            }
            match open(&path, &bytes, &format!("damage {case}")) {
                None => refused += 1,
                Some(locks) => assert_eq!(locks, good.locks, "case {case}: read as if it were good, and is not"),
            }
        }
    }
    assert!(refused > 60 * soak(), "only {refused} were noticed");
}

#[test]
fn one_process_and_one_store_at_a_time() {
    let (_folder, path) = place();
    let store = MemoryStore::open(&path).unwrap();
    let handle = store.clone();
    let error = MemoryStore::open(&path).unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{error:?}");
    assert!(std::error::Error::source(&error).is_some());
    drop(store);
    assert!(MemoryStore::open(&path).is_err(), "a handle is left");
    drop(handle);
    // Closed when the last handle is gone, and not some time later.
    for _ in 0..20 {
        drop(MemoryStore::open(&path).unwrap());
    }
}
