//! `Arena`: numbered things of one size, in chunks, so that growing moves nothing. Places are used again.

/// The end of the list of free places.
const NONE: u32 = u32::MAX;
/// Things are allocated in this number.
const CHUNK: usize = 512;

#[derive(Debug)]
pub(super) struct Arena<T> {
    chunks: Vec<Vec<T>>,
    /// The first place that is not in use; each of them knows the next.
    free: u32,
}

/// What can keep the number of another while it is not in use.
pub(super) trait Spare: Copy {
    fn next(&mut self) -> &mut u32;
}

impl<T> Default for Arena<T> {
    fn default() -> Self {
        Self { chunks: Vec::new(), free: NONE }
    }
}

impl<T: Spare> Arena<T> {
    #[inline]
    pub(super) fn get(&self, at: u32) -> &T {
        &self.chunks[at as usize / CHUNK][at as usize % CHUNK]
    }

    #[inline]
    pub(super) fn get_mut(&mut self, at: u32) -> &mut T {
        &mut self.chunks[at as usize / CHUNK][at as usize % CHUNK]
    }

    pub(super) fn take(&mut self, thing: T) -> u32 {
        if self.free != NONE {
            let at = self.free;
            self.free = *std::mem::replace(self.get_mut(at), thing).next();
            return at;
        }
        if self.chunks.last().is_none_or(|chunk| chunk.len() == CHUNK) {
            // The first grows with what is in it.
            let room = if self.chunks.is_empty() { 0 } else { CHUNK };
            self.chunks.push(Vec::with_capacity(room));
        }
        let before = (self.chunks.len() - 1) * CHUNK;
        let chunk = self.chunks.last_mut().expect("made just now, if there was none");
        chunk.push(thing);
        u32::try_from(before + chunk.len() - 1).expect("there are fewer of them than entries")
    }

    pub(super) fn give_back(&mut self, at: u32) {
        let next = std::mem::replace(&mut self.free, at);
        *self.get_mut(at).next() = next;
    }

    /// How many places there are.
    #[cfg(test)]
    pub(super) fn places(&self) -> usize {
        self.chunks.iter().map(Vec::len).sum()
    }
}
