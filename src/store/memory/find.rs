//! Finding locks, a page at a time, in the order of their roots and ids.

use super::{
    core::Core,
    table::{Node, Table},
};
use crate::{
    lock::{Lock, ResourceKey, Timestamp},
    store::{Cursor, LockPage, LockQuery, Select},
};

/// A principal with no more locks than this is looked up by its own locks rather than by what is below a resource.
const FEW: usize = 4096;

impl Core {
    pub(super) fn find(&self, query: &LockQuery<'_>) -> LockPage {
        let table = self.table.read();
        let mut search = Search { core: self, table: &table, now: self.now(), query, found: Vec::new() };
        if query.limit == 0 {
            return LockPage::default();
        }
        match &query.select {
            Select::Id(id) => table.by_id(*id).into_iter().for_each(|slot| search.consider(slot)),
            Select::Covering(key) => {
                table.above(&self.filter, key).iter().flat_map(|node| node.all()).for_each(|slot| search.consider(slot));
            }
            Select::AtOrBelow(key) => search.at_or_below(key),
        }
        search.page()
    }
}

struct Search<'s> {
    core: &'s Core,
    table: &'s Table,
    now: Timestamp,
    query: &'s LockQuery<'s>,
    found: Vec<Lock>,
}

impl Search<'_> {
    fn consider(&mut self, slot: u32) {
        let Some(record) = self.table.records.get(slot).filter(|record| record.live(self.now)) else { return };
        let lock = record.snapshot(self.now, self.core.lease);
        if self.query.fits(&lock) && self.query.after.as_ref().is_none_or(|after| after.precedes(&lock)) {
            self.found.push(lock);
        }
    }

    fn at_or_below(&mut self, key: &ResourceKey<'_>) {
        if let Some(principal) = self.query.principal {
            let theirs = self.table.of_principal(principal);
            if theirs.len() <= FEW {
                theirs.iter().for_each(|slot| self.consider(*slot));
                return;
            }
        }
        let here = self.table.above(&self.core.filter, key);
        let from = self.query.after.as_ref().map(Cursor::root);
        let here = here.into_iter().filter(|node| node.root() == key);
        // The locks of one root are put into order by the page; so the search ends between two roots only.
        let mut last: Option<&str> = None;
        for node in here.chain(self.table.below(key, from)) {
            let root = node.root().path();
            if last != Some(root) && self.found.len() > self.query.limit {
                return;
            }
            last = Some(root);
            Node::all(node).for_each(|slot| self.consider(slot));
        }
    }

    fn page(self) -> LockPage {
        let Self { mut found, query, .. } = self;
        found.sort_unstable_by(|one, other| (one.root().path(), one.id()).cmp(&(other.root().path(), other.id())));
        let more = found.len() > query.limit;
        found.truncate(query.limit);
        let next = if more { found.last().map(Cursor::of) } else { None };
        LockPage { locks: found, next }
    }
}
