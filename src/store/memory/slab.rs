//! `Slab`: things in numbered slots that are used again. A number with its version names one thing only.

/// Names one thing that was put into a [`Slab`], and nothing once that has been taken out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct SlotId {
    pub(super) slot: u32,
    pub(super) version: u32,
}

/// In chunks, so that growing moves nothing: a step under the table's lock takes as long with a million things as with ten.
#[derive(Debug)]
pub(super) struct Slab<T> {
    chunks: Vec<Vec<Slot<T>>>,
    len: u32,
    /// The first of the empty slots, each of which knows the next; [`NONE`] when there is none.
    free: u32,
}

#[derive(Debug)]
struct Slot<T> {
    version: u32,
    next_free: u32,
    held: Option<T>,
}

const CHUNK: usize = 512;
const NONE: u32 = u32::MAX;

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self { chunks: Vec::new(), len: 0, free: NONE }
    }
}

impl<T> Slab<T> {
    pub(super) fn insert(&mut self, thing: T) -> u32 {
        self.len += 1;
        if let Some(slot) = self.slot_mut(self.free) {
            slot.held = Some(thing);
            let next = slot.next_free;
            return std::mem::replace(&mut self.free, next);
        }
        // The first chunk grows with what is in it: most stores hold a few locks only.
        if self.chunks.last().is_none_or(|chunk| chunk.len() == CHUNK) {
            let room = if self.chunks.is_empty() { 0 } else { CHUNK };
            self.chunks.push(Vec::with_capacity(room));
        }
        let before = (self.chunks.len() - 1) * CHUNK;
        let chunk = self.chunks.last_mut().expect("made just now, if there was none");
        let slot = u32::try_from(before + chunk.len()).ok().filter(|slot| *slot != NONE);
        chunk.push(Slot { version: 0, next_free: NONE, held: Some(thing) });
        slot.expect("four thousand million things do not fit into memory")
    }

    pub(super) fn remove(&mut self, slot: u32) -> Option<T> {
        let free = self.free;
        let held = self.slot_mut(slot)?;
        let thing = held.held.take()?;
        held.version = held.version.wrapping_add(1);
        held.next_free = free;
        self.free = slot;
        self.len -= 1;
        Some(thing)
    }

    pub(super) fn get(&self, slot: u32) -> Option<&T> {
        self.slot(slot)?.held.as_ref()
    }

    pub(super) fn get_mut(&mut self, slot: u32) -> Option<&mut T> {
        self.slot_mut(slot)?.held.as_mut()
    }

    pub(super) fn id(&self, slot: u32) -> SlotId {
        SlotId { slot, version: self.slot(slot).map_or(0, |held| held.version) }
    }

    /// Whether what `id` names is still here.
    pub(super) fn has(&self, id: SlotId) -> bool {
        self.slot(id.slot).is_some_and(|slot| slot.version == id.version && slot.held.is_some())
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.chunks.iter().flatten().filter_map(|slot| slot.held.as_ref())
    }

    pub(super) fn len(&self) -> usize {
        self.len as usize
    }

    fn slot(&self, slot: u32) -> Option<&Slot<T>> {
        self.chunks.get(slot as usize / CHUNK)?.get(slot as usize % CHUNK)
    }

    fn slot_mut(&mut self, slot: u32) -> Option<&mut Slot<T>> {
        self.chunks.get_mut(slot as usize / CHUNK)?.get_mut(slot as usize % CHUNK)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_means_nothing_once_its_slot_is_used_again() {
        let mut slab = Slab::default();
        let first = slab.insert("a");
        let id = slab.id(first);
        assert!(slab.has(id));
        assert_eq!(slab.remove(first), Some("a"));
        assert_eq!(slab.remove(first), None);
        assert!(!slab.has(id));
        assert_eq!(slab.insert("b"), first, "the slot is used again");
        assert!(!slab.has(id) && slab.has(slab.id(first)));
        assert_eq!((slab.len(), slab.get(first)), (1, Some(&"b")));
    }

    #[test]
    fn slots_of_all_chunks_are_used_again_latest_first() {
        let mut slab = Slab::default();
        let slots: Vec<u32> = (0..3 * CHUNK).map(|thing| slab.insert(thing)).collect();
        assert!(slots.iter().enumerate().all(|(at, slot)| slab.get(*slot) == Some(&at)), "each has its own");
        assert_eq!(slots.iter().filter_map(|slot| slab.remove(*slot)).sum::<usize>(), (0..3 * CHUNK).sum::<usize>());
        assert_eq!((slab.len(), slab.iter().count()), (0, 0));
        let again: Vec<u32> = (0..3 * CHUNK).map(|thing| slab.insert(thing)).collect();
        assert_eq!(again, slots.into_iter().rev().collect::<Vec<_>>());
        let next = slab.insert(7);
        assert_eq!((next as usize, slab.len()), (3 * CHUNK, 3 * CHUNK + 1));
    }
}
