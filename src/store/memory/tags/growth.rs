//! `Growth`: a table of twice as many groups is filled while the smaller one is still in use, a few groups in each step that
//! made that fuller. To copy all in one step would keep everybody who needs the locks' table waiting for it: with a million
//! locks, a twentieth of a second.

use super::{AtomicU64, Entries, KEPT, TAGS, Tags};

/// What is done for each entry that the smaller table gains, in groups made and groups copied.
const EACH: usize = 16;

#[derive(Debug)]
pub(in super::super) struct Growth {
    groups: usize,
    /// The groups made so far.
    made: Vec<AtomicU64>,
    /// The new tags, once all groups are made. Nobody reads them yet.
    tags: Option<Tags>,
    entries: Entries,
    /// Groups of the smaller table that have been copied. What happens in those happens here as well.
    copied: usize,
    /// How many entries the smaller table had when the latest step was done.
    paid: usize,
}

impl Growth {
    /// Begins where `entries` is so full that all will be done just before it is too full.
    pub(in super::super) fn due(entries: &Entries) -> Option<Self> {
        let groups = entries.places.len();
        // There are three groups to make or to copy for each one. 44 parts of 64, and 3 for the time it takes, are less than
        // the 48 that may be filled.
        (entries.used >= groups * TAGS * 44 / 64).then(|| Self::of(entries))
    }

    pub(in super::super) fn of(entries: &Entries) -> Self {
        let groups = 2 * entries.places.len();
        Self {
            groups,
            made: Vec::with_capacity(groups),
            tags: None,
            entries: Entries::new(groups),
            copied: 0,
            paid: entries.used,
        }
    }

    /// Does its share for what `entries` has gained.
    pub(in super::super) fn step(&mut self, entries: &Entries) {
        let gained = entries.used.saturating_sub(self.paid);
        self.paid = self.paid.max(entries.used);
        self.work(entries, gained * EACH);
    }

    /// Does so much.
    pub(super) fn work(&mut self, entries: &Entries, mut most: usize) {
        if self.tags.is_none() {
            let more = most.min(self.groups - self.made.len());
            self.made.extend((0..more).map(|_| AtomicU64::new(0)));
            most -= more;
            if self.made.len() < self.groups {
                return;
            }
            self.tags = Some(Tags(std::mem::take(&mut self.made).into()));
        }
        let Some(tags) = &self.tags else { return };
        let end = entries.places.len().min(self.copied.saturating_add(most));
        for entry in entries.places[self.copied..end].as_flattened().iter().filter(|entry| **entry != 0) {
            self.entries.add(tags, entry & KEPT, entry & !KEPT);
        }
        self.copied = end;
    }

    pub(in super::super) fn is_done(&self, entries: &Entries) -> bool {
        self.copied == entries.places.len()
    }

    /// The new table, with all that is in the smaller one.
    pub(in super::super) fn finished(mut self, entries: &Entries) -> (Tags, Entries) {
        self.work(entries, usize::MAX);
        (self.tags.unwrap_or_else(|| Tags::new(self.groups)), self.entries)
    }

    /// Counts `hash` once more, which has just been put into the smaller table.
    pub(in super::super) fn put(&mut self, (entries, tags): (&Entries, &Tags), hash: u64) {
        if let Some(new) = self.tags.as_ref().filter(|_| is_in_first(self.copied, entries, tags, hash)) {
            self.entries.put(new, hash);
        }
    }

    /// Counts `hash` once less, which is just about to be taken out of the smaller table.
    pub(in super::super) fn take(&mut self, (entries, tags): (&Entries, &Tags), hash: u64) {
        if let Some(new) = self.tags.as_ref().filter(|_| is_in_first(self.copied, entries, tags, hash)) {
            self.entries.take(new, hash);
        }
    }
}

/// Whether a hash is in one of the first groups, which have been copied.
fn is_in_first(groups: usize, entries: &Entries, tags: &Tags, hash: u64) -> bool {
    entries.find(tags, hash & KEPT).is_some_and(|(group, _)| group < groups)
}
