//! Finding locks, a page at a time, in the order of their roots and ids.

use std::{sync::Arc, time::Duration};

use super::{
    core::{Core, endless, tries},
    error::incompatible,
    keys::{key_text, place_text, principal_text},
    scripts,
    wire::Packer,
};
use crate::{
    lock::{Lock, LockId, LockKind, Principal, ResourceKey},
    store::{Cursor, LockPage, LockQuery, Select, StoreError, remote::places::chain},
};

/// A query that outlives the call which asked.
pub(super) struct Search {
    select: Select<'static>,
    principal: Option<Option<Principal>>,
    kind: Option<LockKind>,
    older_than: Option<Duration>,
    limit: usize,
    after: Option<Cursor>,
}

/// One index, and what of it is still to be looked through: at the root, and below it.
struct Index {
    letter: u8,
    ranges: [Option<(Vec<u8>, Vec<u8>)>; 2],
    found: Vec<Lock>,
}

impl Search {
    pub(super) fn of(query: &LockQuery<'_>) -> Self {
        let select = match &query.select {
            Select::Covering(key) => Select::Covering(key.clone().into_owned()),
            Select::AtOrBelow(key) => Select::AtOrBelow(key.clone().into_owned()),
            Select::Id(id) => Select::Id(*id),
        };
        Self {
            select,
            principal: query.principal.map(Option::<&Principal>::cloned),
            kind: query.kind.cloned(),
            older_than: query.older_than,
            limit: query.limit,
            after: query.after.clone(),
        }
    }

    fn query(&self) -> LockQuery<'_> {
        let mut query = LockQuery::new(match &self.select {
            Select::Covering(key) => Select::Covering(key.borrowed()),
            Select::AtOrBelow(key) => Select::AtOrBelow(key.borrowed()),
            Select::Id(id) => Select::Id(*id),
        });
        query.principal = self.principal.as_ref().map(Option::as_ref);
        query.kind = self.kind.as_ref();
        query.older_than = self.older_than;
        query
    }

    fn head(&self, letter: u8) -> Vec<u8> {
        let owned = self.principal.as_ref().map(|principal| [b"=".to_vec(), principal_text(principal.as_ref())].concat());
        let kind = self.kind.as_ref().map(|kind| format!("={}", kind.as_str()));
        Packer::new()
            .letter(letter)
            .span_or_endless(self.older_than)
            .limit(self.limit)
            .text(owned.unwrap_or_default())
            .text(kind.unwrap_or_default())
            .done()
    }

    /// The indexes that hold what is at or below `key`: the principal's own, or all exclusive and all shared locks.
    fn indexes(&self, key: &ResourceKey<'_>) -> Vec<Index> {
        let root = key_text(key);
        let after = self.after.as_ref().filter(|after| after.root() >= key.path());
        // Where the page before ended: at the root itself, or below it.
        let below = after.filter(|after| after.root() != key.path());
        let start = |prefix: &[u8], after: &Cursor| {
            let place = place_text(key.namespace(), after.root());
            [b"(", prefix, &place, b"\0", after.last_id().as_uuid().as_bytes().as_slice()].concat()
        };
        let index = |letter: u8, prefix: &[u8]| {
            let bound = |mark: &[u8], end: &[u8]| [mark, prefix, &root, end].concat();
            let here = (after.map_or_else(|| bound(b"[", b"\0"), |after| start(prefix, after)), bound(b"(", b"\x01"));
            let under = (below.map_or_else(|| bound(b"[", b"/"), |after| start(prefix, after)), bound(b"(", b"0"));
            Index { letter, ranges: [below.is_none().then_some(here), Some(under)], found: Vec::new() }
        };
        match &self.principal {
            Some(principal) => vec![index(b'o', &[principal_text(principal.as_ref()), vec![0]].concat())],
            None => vec![index(b'x', b""), index(b's', b"")],
        }
    }

    /// The page, of all that was found.
    fn page(&self, mut found: Vec<Lock>, more: bool) -> LockPage {
        let query = self.query();
        found.retain(|lock| query.fits(lock) && self.after.as_ref().is_none_or(|after| after.precedes(lock)));
        found.sort_unstable_by(|one, other| (one.root().path(), one.id()).cmp(&(other.root().path(), other.id())));
        let more = more || found.len() > self.limit;
        found.truncate(self.limit);
        let next = if more { found.last().map(Cursor::of) } else { None };
        LockPage { locks: found, next }
    }
}

impl Core {
    pub(super) async fn find(self: Arc<Self>, search: Search) -> Result<LockPage, StoreError> {
        if search.limit == 0 {
            return Ok(LockPage::default());
        }
        let found = match &search.select {
            Select::Id(id) => self.find_by_id(&search, *id).await?,
            Select::Covering(key) => self.find_covering(&search, key).await?,
            Select::AtOrBelow(key) => return self.find_below(&search, key).await,
        };
        Ok(search.page(found, false))
    }

    async fn find_by_id(&self, search: &Search, id: LockId) -> Result<Vec<Lock>, StoreError> {
        let mut reply = self.ask(&scripts::FIND, &[&search.head(b'i'), id.as_uuid().as_bytes()]).await?;
        let now = reply.time()?;
        reply.locks(self, now)
    }

    async fn find_covering(&self, search: &Search, key: &ResourceKey<'_>) -> Result<Vec<Lock>, StoreError> {
        let places: Vec<u8> = chain(key).iter().flat_map(|place| place.hash).collect();
        let mut reply = self.ask(&scripts::FIND, &[&search.head(b'c'), &places, &key_text(key)]).await?;
        let now = reply.time()?;
        reply.locks(self, now)
    }

    /// Several steps only where a filter leaves out thousands.
    async fn find_below(&self, search: &Search, key: &ResourceKey<'_>) -> Result<LockPage, StoreError> {
        let (head, mut indexes) = (search.head(b'b'), search.indexes(key));
        for _ in tries() {
            let open: Vec<usize> = (0..indexes.len()).filter(|at| indexes[*at].is_open(search.limit)).collect();
            if open.is_empty() {
                let more = indexes.iter().any(|index| index.ranges.iter().any(Option::is_some));
                return Ok(search.page(indexes.into_iter().flat_map(|index| index.found).collect(), more));
            }
            let letters: Vec<[u8; 1]> = open.iter().map(|at| [indexes[*at].letter]).collect();
            let mut arguments: Vec<&[u8]> = vec![&head];
            for (at, letter) in open.iter().zip(&letters) {
                arguments.push(letter);
                for range in &indexes[*at].ranges {
                    let (low, high) = range.as_ref().map_or((&b""[..], &b""[..]), |(low, high)| (low, high));
                    arguments.extend([low, high]);
                }
            }
            let mut reply = self.ask(&scripts::FIND, &arguments).await?;
            let now = reply.time()?;
            for at in open {
                let (stop, count) = (reply.bytes()?, reply.count()?);
                for _ in 0..count {
                    indexes[at].found.push(self.lock(reply.record()?, now));
                }
                indexes[at].go_on_from(&stop)?;
            }
        }
        Err(endless(scripts::FIND.doing))
    }
}

impl Index {
    /// Whether more of it is to be looked through.
    fn is_open(&self, limit: usize) -> bool {
        self.found.len() <= limit && self.ranges.iter().any(Option::is_some)
    }

    /// `stop` is the range in which the step stopped and the member at which it did; empty when it is through.
    fn go_on_from(&mut self, stop: &[u8]) -> Result<(), StoreError> {
        match stop.split_first() {
            None => self.ranges = [None, None],
            Some((range @ (b'1' | b'2'), member)) => {
                let range = usize::from(range - b'1');
                if range == 1 {
                    self.ranges[0] = None;
                }
                if let Some((low, _)) = &mut self.ranges[range] {
                    *low = [b"(", member].concat();
                }
            }
            Some(_) => return Err(incompatible("an answer that means nothing")),
        }
        Ok(())
    }
}
