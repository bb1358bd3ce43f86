//! Every order in which a reader and the writer can meet in the filter, by loom.

use std::sync::Arc;

use loom::{model::Builder, thread};
use parking_lot::Mutex;

use super::*;

fn check(model: impl Fn() + Send + Sync + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(model);
}

fn key(path: &'static str) -> ResourceKey<'static> {
    ResourceKey::from_canonical(path)
}

/// A filter with its writer's side. Its hashes are the same every time: loom goes the same way again and again.
struct Both {
    filter: Filter,
    // Only ever one thread's at a time.
    tally: Mutex<Tally>,
}

impl Both {
    fn with(roots: &[&'static str]) -> Arc<Self> {
        let both = Self { filter: Filter::seeded(Seed::fixed()), tally: Mutex::default() };
        roots.iter().for_each(|root| both.insert(root));
        Arc::new(both)
    }

    fn insert(&self, root: &'static str) {
        self.step(|filter, tally| filter.insert(tally, &key(root)));
    }

    fn remove(&self, root: &'static str) {
        self.step(|filter, tally| filter.remove(tally, &key(root)));
    }

    fn step(&self, step: impl FnOnce(&Filter, &mut Tally)) {
        step(&self.filter, &mut self.tally.lock());
        self.filter.changed();
    }

    fn looks(&self, path: &'static str) -> Glance {
        self.filter.look(&[Target::write(key(path))])
    }

    fn glances(&self, path: &'static str) -> Glance {
        self.filter.glance(&[Target::write(key(path))])
    }
}

#[test]
fn loom_a_look_sees_the_mark_or_the_scan_sees_the_registration() {
    for before in [&[][..], &["/x"], &["/a"], &["/a/y", "/z"]] {
        check(move || {
            let both = Both::with(before);
            let registered = Arc::new(AtomicU64::new(0));
            let acquire = {
                let (both, registered) = (both.clone(), registered.clone());
                thread::spawn(move || {
                    both.insert("/a/b");
                    fence(Ordering::SeqCst);
                    registered.load(Ordering::Relaxed) == 1
                })
            };
            registered.store(1, Ordering::Relaxed);
            fence(Ordering::SeqCst);
            let seen = both.looks("/a/b");
            let scanned = acquire.join().unwrap();
            assert!(scanned || seen == Glance::Look, "both have missed each other");
        });
    }
}

#[test]
fn loom_a_mark_that_makes_the_table_grow_is_seen_or_scanned() {
    check(|| {
        // Five of eight places; the next would need two.
        let both = Both::with(&["/1", "/2", "/3", "/4"]);
        assert_eq!(both.filter.level.load(Ordering::Relaxed), 0, "it has not grown yet");
        let registered = Arc::new(AtomicU64::new(0));
        let acquire = {
            let (both, registered) = (both.clone(), registered.clone());
            thread::spawn(move || {
                both.insert("/b");
                fence(Ordering::SeqCst);
                registered.load(Ordering::Relaxed) == 1
            })
        };
        registered.store(1, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        let seen = both.looks("/b");
        assert_eq!(both.looks("/3"), Glance::Look, "that one was there all the time");
        assert!(acquire.join().unwrap() || seen == Glance::Look, "both have missed each other");
        assert!(both.filter.level.load(Ordering::Relaxed) > 0, "it has grown");
    });
}

#[test]
fn loom_what_stays_is_seen_while_its_neighbours_come_and_go() {
    check(|| {
        let both = Both::with(&["/a/1", "/a/2"]);
        let writer = {
            let both = both.clone();
            thread::spawn(move || {
                both.remove("/a/1");
                both.insert("/a/3");
            })
        };
        assert_eq!(both.looks("/a/2"), Glance::Look);
        assert_eq!(both.glances("/a/2"), Glance::Look);
        writer.join().unwrap();
    });
}

// The look is on the thread that is started: loom leaves out orders in which the other one would have to go first.
#[test]
fn loom_a_lock_that_goes_once_another_is_there_is_not_missed_with_it() {
    check(|| {
        let both = Both::with(&["/a", "/b"]);
        let reader = {
            let both = both.clone();
            thread::spawn(move || assert_eq!(both.glances("/a/x"), Glance::Look, "one of them covers it"))
        };
        both.insert("/a/x");
        both.remove("/a");
        reader.join().unwrap();
    });
}

#[test]
fn loom_one_lock_in_the_place_of_another_is_never_seen_half_done() {
    for beside in [&["/a"][..], &["/a", "/b"]] {
        check(move || {
            let both = Both::with(beside);
            let reader = {
                let both = both.clone();
                thread::spawn(move || assert_eq!(both.glances("/a/x"), Glance::Look, "either of them covers it"))
            };
            both.step(|filter, tally| {
                filter.remove(tally, &key("/a"));
                filter.insert(tally, &key("/a/x"));
            });
            both.step(|filter, tally| {
                filter.remove(tally, &key("/a/x"));
                filter.insert(tally, &key("/a"));
            });
            reader.join().unwrap();
        });
    }
}
