//! `Slab`: things in numbered slots that are used again. A number with its version names one thing only.

/// Names one thing that was put into a [`Slab`], and nothing once that has been taken out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct SlotId {
    pub(super) slot: u32,
    pub(super) version: u32,
}

#[derive(Debug)]
pub(super) struct Slab<T> {
    slots: Vec<(u32, Option<T>)>,
    free: Vec<u32>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self { slots: Vec::new(), free: Vec::new() }
    }
}

impl<T> Slab<T> {
    pub(super) fn insert(&mut self, thing: T) -> u32 {
        if let Some(slot) = self.free.pop() {
            self.slots[slot as usize].1 = Some(thing);
            return slot;
        }
        let slot = u32::try_from(self.slots.len()).expect("four thousand million things do not fit into memory");
        self.slots.push((0, Some(thing)));
        slot
    }

    pub(super) fn remove(&mut self, slot: u32) -> Option<T> {
        let (version, held) = self.slots.get_mut(slot as usize)?;
        let thing = held.take()?;
        *version = version.wrapping_add(1);
        self.free.push(slot);
        Some(thing)
    }

    pub(super) fn get(&self, slot: u32) -> Option<&T> {
        self.slots.get(slot as usize)?.1.as_ref()
    }

    pub(super) fn get_mut(&mut self, slot: u32) -> Option<&mut T> {
        self.slots.get_mut(slot as usize)?.1.as_mut()
    }

    pub(super) fn id(&self, slot: u32) -> SlotId {
        SlotId { slot, version: self.slots[slot as usize].0 }
    }

    /// Whether what `id` names is still here.
    pub(super) fn has(&self, id: SlotId) -> bool {
        self.slots.get(id.slot as usize).is_some_and(|(version, held)| *version == id.version && held.is_some())
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.slots.iter().filter_map(|(_, held)| held.as_ref())
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
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
}
