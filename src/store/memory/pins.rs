//! `Pins`: how many writes hold a lock beyond its own expiry (G7), and whether it has ended.
//!
//! A lock ends once. Whoever sees that its time is up and that nothing pins it says so here, and from then on nobody can
//! pin it any more: otherwise one reader could treat it as gone while another, a little behind, pins it back to life.

use std::sync::{Arc, atomic::Ordering};

use super::sync::{AtomicU32, fence};

/// Set once the lock has ended.
const ENDED: u32 = 1 << 31;

/// The pins of one lock, shared by its record and the writes that it answers for.
#[derive(Debug, Default)]
pub(super) struct Pins(AtomicU32);

/// The lock has ended and cannot be pinned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ended;

impl Pins {
    /// Keeps the lock from expiring.
    pub(super) fn pin(&self) -> Result<(), Ended> {
        let pin = |pins: u32| (pins & ENDED == 0).then(|| pins + 1);
        self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, pin).map(drop).map_err(|_| Ended)
    }

    /// Takes one pin back.
    pub(super) fn unpin(&self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }

    /// The lock's own time is up: it ends unless it is pinned. Whether it has ended.
    pub(super) fn expire(&self) -> bool {
        match self.0.compare_exchange(0, ENDED, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => true,
            Err(pins) => pins & ENDED != 0,
        }
    }

    /// The lock ends, pinned or not.
    pub(super) fn end(&self) {
        self.0.fetch_or(ENDED, Ordering::AcqRel);
    }

    pub(super) fn ended(&self) -> bool {
        self.0.load(Ordering::Acquire) & ENDED != 0
    }

    pub(super) fn in_use(&self) -> bool {
        self.0.load(Ordering::Acquire) & !ENDED != 0
    }
}

/// Pins that nobody has any more, for locks to come: most locks end without a write running.
#[derive(Debug, Default)]
pub(super) struct Spare(Vec<Arc<Pins>>);

/// More are given back to the allocator.
const SPARE: usize = 64;

impl Spare {
    pub(super) fn take(&mut self) -> Arc<Pins> {
        self.0.pop().unwrap_or_default()
    }

    /// Keeps the pins of a lock that is gone, unless a write still has them.
    pub(super) fn give(&mut self, pins: Arc<Pins>) {
        if Arc::strong_count(&pins) == 1 && self.0.len() < SPARE {
            // What the last write did with them, it did before it let go of them.
            fence(Ordering::Acquire);
            pins.0.store(0, Ordering::Relaxed);
            self.0.push(pins);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pins_are_used_again_as_new_and_only_when_nobody_has_them() {
        let mut spare = Spare::default();
        let (alone, shared) = (spare.take(), spare.take());
        let write = shared.clone();
        write.pin().unwrap();
        alone.end();
        spare.give(shared);
        spare.give(alone);
        let again = spare.take();
        assert!(!Arc::ptr_eq(&again, &write) && !again.ended() && !again.in_use());
        assert_eq!(again.pin(), Ok(()));
        assert!(write.in_use() && !Arc::ptr_eq(&spare.take(), &write));
        for _ in 0..2 * SPARE {
            spare.give(Arc::default());
        }
        assert_eq!(spare.0.len(), SPARE);
    }

    #[test]
    fn a_pinned_lock_does_not_expire_and_an_expired_one_is_not_pinned() {
        let pins = Pins::default();
        assert_eq!(pins.pin(), Ok(()));
        assert!(!pins.expire() && pins.in_use());
        pins.unpin();
        assert!(pins.expire() && pins.ended());
        assert_eq!(pins.pin(), Err(Ended));
        assert!(pins.expire(), "it ends once and for all");
    }

    #[test]
    fn an_end_does_not_wait_for_pins() {
        let pins = Pins::default();
        pins.pin().unwrap();
        pins.end();
        assert!(pins.ended() && pins.in_use() && pins.expire());
        pins.unpin();
        assert!(pins.ended() && !pins.in_use());
    }
}
