//! `Slots`: the writes in flight, found by an id that means nothing once its write has ended.

use super::Running;
use crate::store::WriteId;

#[derive(Default)]
pub(super) struct Slots {
    slots: Vec<Slot>,
    free: Vec<u32>,
}

#[derive(Default)]
struct Slot {
    version: u32,
    running: Option<Running>,
}

/// The place, in the upper half of an id's bits, and the version, in the lower.
#[expect(clippy::cast_possible_truncation, reason = "each half is 32 bits")]
fn parts(id: WriteId) -> (usize, u32) {
    ((id.bits() >> 32) as usize, id.bits() as u32)
}

impl Slots {
    pub(super) fn insert(&mut self, running: Running) -> WriteId {
        let at = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            u32::try_from(self.slots.len() - 1).expect("four billion writes in flight on one node")
        });
        let slot = &mut self.slots[at as usize];
        slot.running = Some(running);
        WriteId::from_bits((u64::from(at) << 32) | u64::from(slot.version))
    }

    pub(super) fn get(&self, id: WriteId) -> Option<&Running> {
        let (at, version) = parts(id);
        self.slots.get(at).filter(|slot| slot.version == version)?.running.as_ref()
    }

    pub(super) fn get_mut(&mut self, id: WriteId) -> Option<&mut Running> {
        let (at, version) = parts(id);
        self.slots.get_mut(at).filter(|slot| slot.version == version)?.running.as_mut()
    }

    pub(super) fn remove(&mut self, id: WriteId) -> Option<Running> {
        let (at, version) = parts(id);
        let slot = self.slots.get_mut(at).filter(|slot| slot.version == version)?;
        let running = slot.running.take()?;
        slot.version = slot.version.wrapping_add(1);
        self.free.push(u32::try_from(at).unwrap_or_default());
        Some(running)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Running> {
        self.slots.iter().filter_map(|slot| slot.running.as_ref())
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Running> {
        self.slots.iter_mut().filter_map(|slot| slot.running.as_mut())
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }
}
