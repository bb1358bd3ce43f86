//! Every order in which two or three threads can meet in the registry, by loom.

use std::task::{Context, Wake, Waker};

use loom::{model::Builder, thread};

use super::{
    home::{Go, Home},
    slot::{Finished, Slot},
    tests::{exclusive, write},
    *,
};
use crate::store::{
    WriteId,
    memory::{
        latch,
        pins::{Ended, Pins},
        sync::AtomicU64,
    },
};

fn model(threads: impl Fn() + Send + Sync + 'static) {
    Builder::new().check(threads);
}

/// What the filter comes to here: one word, in which a mark stands or not.
#[derive(Default)]
struct Marks(AtomicU64);

impl Marks {
    fn enter(&self) {
        self.0.store(1, Ordering::Release);
    }

    fn look(&self) -> bool {
        self.0.load(Ordering::Acquire) != 0
    }
}

fn begin(home: &Arc<Home>, slot: &Slot, path: &str) -> WriteId {
    slot.begin(home, &write(path), 1, [])
}

fn end(slot: &Slot, id: WriteId) {
    match slot.finish(id) {
        Finished::Not => panic!("it was running"),
        Finished::Alone => {}
        Finished::Waited(waiting) => latch::done(&waiting),
    }
}

fn registry() -> Registry {
    Registry { home: Home::new() }
}

#[derive(Default)]
struct Woken(std::sync::atomic::AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn loom_a_write_sees_the_mark_or_the_scan_sees_the_write() {
    model(|| {
        let (registry, marks) = (Arc::new(registry()), Arc::new(Marks::default()));
        let slot = registry.home.take();
        let writer = {
            let (registry, marks, slot) = (registry.clone(), marks.clone(), slot.clone());
            thread::spawn(move || {
                _ = begin(&registry.home, &slot, "/a");
                marks.look()
            })
        };
        marks.enter();
        let met = registry.meets(&[exclusive("/a")], None);
        assert!(met | writer.join().unwrap(), "they missed each other");
    });
}

#[test]
fn loom_a_slot_made_meanwhile_is_scanned_or_its_write_sees_the_mark() {
    model(|| {
        let (registry, marks) = (Arc::new(registry()), Arc::new(Marks::default()));
        let writer = {
            let (registry, marks) = (registry.clone(), marks.clone());
            thread::spawn(move || {
                let slot = registry.home.take();
                _ = begin(&registry.home, &slot, "/a");
                marks.look()
            })
        };
        marks.enter();
        let met = registry.meets(&[exclusive("/a")], None);
        assert!(met | writer.join().unwrap(), "they missed each other");
    });
}

#[test]
fn loom_a_slot_used_again_during_a_scan_hides_no_write() {
    model(|| {
        let (registry, marks) = (Arc::new(registry()), Arc::new(Marks::default()));
        let slot = registry.home.take();
        let first = begin(&registry.home, &slot, "/b");
        let writer = {
            let (registry, marks, slot) = (registry.clone(), marks.clone(), slot.clone());
            thread::spawn(move || {
                end(&slot, first);
                _ = begin(&registry.home, &slot, "/a");
                marks.look()
            })
        };
        marks.enter();
        let met = registry.meets(&[exclusive("/a")], None);
        assert!(met | writer.join().unwrap(), "they missed each other");
    });
}

#[test]
fn loom_a_scan_never_takes_one_write_for_another() {
    model(|| {
        let registry = Arc::new(registry());
        let slot = registry.home.take();
        let first = begin(&registry.home, &slot, "/aaaaaaa/b");
        let writer = {
            let (registry, slot) = (registry.clone(), slot.clone());
            thread::spawn(move || {
                end(&slot, first);
                _ = begin(&registry.home, &slot, "/ccccccc/d");
            })
        };
        // Of neither, but of the first word of the one and the second of the other.
        assert!(!registry.meets(&[exclusive("/aaaaaaa/d")], None) && !registry.meets(&[exclusive("/ccccccc/b")], None));
        writer.join().unwrap();
    });
}

#[test]
fn loom_what_a_write_did_is_seen_by_whoever_finds_it_over() {
    model(|| {
        let registry = Arc::new(registry());
        let slot = registry.home.take();
        let id = begin(&registry.home, &slot, "/a");
        let content = Arc::new(AtomicU64::new(0));
        // The scan on the other thread: the other way round loom leaves out the orders in which this could fail.
        let acquire = {
            let (registry, content) = (registry.clone(), content.clone());
            thread::spawn(move || {
                if !registry.meets(&[exclusive("/a")], None) {
                    assert_eq!(content.load(Ordering::Relaxed), 1, "granted before the write was seen");
                }
            })
        };
        content.store(1, Ordering::Relaxed);
        end(&slot, id);
        acquire.join().unwrap();
    });
}

#[test]
fn loom_an_end_is_told_to_whoever_has_attached() {
    model(|| {
        let registry = Arc::new(registry());
        let slot = registry.home.take();
        let id = begin(&registry.home, &slot, "/a");
        let writer = {
            let slot = slot.clone();
            thread::spawn(move || end(&slot, id))
        };
        let latch = Latch::new(Box::new([exclusive("/a")]));
        let met = registry.attach(&latch, None);
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(woken.clone());
        let early = latch.poll(&mut Context::from_waker(&waker)).is_ready();
        assert!(early || !met.is_empty(), "nothing to wait for");
        writer.join().unwrap();
        assert!(latch.poll(&mut Context::from_waker(Waker::noop())).is_ready(), "it has ended");
        assert_eq!(woken.0.load(Ordering::Relaxed), usize::from(!early), "told once, if it has to be");
        detach(&latch, &met);
        assert_eq!(Arc::strong_count(&latch), 1, "nothing is left with the slot");
    });
}

#[test]
fn loom_two_acquires_wait_for_one_write_and_one_gives_up() {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(|| {
        let registry = Arc::new(registry());
        let slot = registry.home.take();
        let id = begin(&registry.home, &slot, "/a");
        let writer = {
            let slot = slot.clone();
            thread::spawn(move || end(&slot, id))
        };
        let other = {
            let registry = registry.clone();
            thread::spawn(move || {
                let latch = Latch::new(Box::new([exclusive("/a")]));
                let met = registry.attach(&latch, None);
                detach(&latch, &met);
            })
        };
        let latch = Latch::new(Box::new([exclusive("/a")]));
        _ = registry.attach(&latch, None);
        writer.join().unwrap();
        other.join().unwrap();
        assert!(latch.poll(&mut Context::from_waker(Waker::noop())).is_ready());
        assert_eq!(Arc::strong_count(&latch), 1, "nothing is left with the slot");
    });
}

#[test]
fn loom_a_latch_of_a_write_that_has_ended_is_not_told_by_the_next() {
    model(|| {
        let registry = Arc::new(registry());
        let slot = registry.home.take();
        let first = begin(&registry.home, &slot, "/a");
        let writer = {
            let (registry, slot) = (registry.clone(), slot.clone());
            thread::spawn(move || {
                end(&slot, first);
                begin(&registry.home, &slot, "/b")
            })
        };
        let latch = Latch::new(Box::new([exclusive("/a")]));
        let met = registry.attach(&latch, None);
        let second = writer.join().unwrap();
        assert!(latch.poll(&mut Context::from_waker(Waker::noop())).is_ready(), "the first has ended");
        end(&slot, second);
        detach(&latch, &met);
        assert_eq!(Arc::strong_count(&latch), 1);
    });
}

#[test]
fn loom_locks_that_answer_are_read_only_while_they_do() {
    model(|| {
        let registry = Arc::new(registry());
        let slot = registry.home.take();
        let pins = Arc::new(Pins::default());
        pins.pin().unwrap();
        let own = Answering::new(&tests::parts("/a", crate::lock::LockScope::Shared), pins.clone());
        let first = slot.begin(&registry.home, &write("/a"), 1, [own]);
        let writer = {
            let (registry, slot) = (registry.clone(), slot.clone());
            thread::spawn(move || {
                end(&slot, first);
                begin(&registry.home, &slot, "/b")
            })
        };
        assert!(!registry.meets(&[tests::parts("/a", crate::lock::LockScope::Shared)], None), "excused, or over");
        let second = writer.join().unwrap();
        assert!(!pins.in_use());
        assert!(registry.meets(&[exclusive("/b")], None));
        end(&slot, second);
    });
}

#[test]
fn loom_slots_go_from_thread_to_thread_and_none_is_given_twice() {
    model(|| {
        let home = Home::new();
        let slot = home.take();
        let other = {
            let home = home.clone();
            thread::spawn(move || home.take())
        };
        home.give_back([slot]);
        let mine = home.take();
        let other = other.join().unwrap();
        assert!(!Arc::ptr_eq(&mine, &other));
        let (one, two) = (begin(&home, &mine, "/a"), begin(&home, &other, "/b"));
        assert_ne!(one, two);
        let mut running = 0;
        home.scan(|slot| {
            running += usize::from(slot.running().is_some());
            Go::On
        });
        assert_eq!(running, 2, "both are in the list");
    });
}

#[test]
fn loom_a_lock_that_has_expired_is_pinned_by_nobody() {
    model(|| {
        let pins = Arc::new(Pins::default());
        let writer = {
            let pins = pins.clone();
            thread::spawn(move || pins.pin())
        };
        let reader = {
            let pins = pins.clone();
            thread::spawn(move || pins.expire())
        };
        let expired = pins.expire();
        let (pinned, expired_there) = (writer.join().unwrap(), reader.join().unwrap());
        assert_eq!(pinned == Err(Ended), pins.ended());
        assert!(pinned != Ok(()) || !(expired || expired_there), "seen as gone, and pinned");
    });
}
