//! `Pins`: how many writes hold a lock beyond its own expiry (G7), and whether it has ended.
//!
//! A lock ends once. Whoever sees that its time is up and that nothing pins it says so here, and from then on nobody can
//! pin it any more: otherwise one reader could treat it as gone while another, a little behind, pins it back to life.

use std::sync::atomic::Ordering;

use super::sync::AtomicU32;

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

#[cfg(test)]
mod tests {
    use super::*;

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
