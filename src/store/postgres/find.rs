//! Finding locks, a page at a time.

use std::sync::Arc;

use uuid::Uuid;

use super::{
    core::Core,
    keys::{Below, bytes, namespace},
    statements::Call,
    wire::{LOCK, micros},
};
use crate::{
    lock::{Lock, ResourceKey},
    store::{Cursor, LockPage, LockQuery, Select, StoreError, StoreFuture, remote::deadline::within},
};

const DOING: &str = "finding locks";

/// A query as the function takes it.
struct Asked {
    select: i32,
    id: Option<Uuid>,
    places: Vec<i64>,
    place: Option<i64>,
    realm: i64,
    namespace: Vec<u8>,
    path: Vec<u8>,
    below: Below,
    of: bool,
    who: Option<Vec<u8>>,
    whose: i64,
    kind: Option<Vec<u8>>,
    older: Option<i64>,
    after: Option<Vec<u8>>,
    after_id: Option<Uuid>,
    limit: usize,
    most: i64,
}

impl Core {
    pub(super) fn find(self: &Arc<Self>, query: &LockQuery<'_>) -> StoreFuture<LockPage> {
        if query.limit == 0 {
            return StoreFuture::ready(LockPage::default());
        }
        let asked = self.asked(query);
        let core = self.clone();
        StoreFuture::new(async move { within(core.limit, DOING, core.page(&asked)).await })
    }

    fn asked(&self, query: &LockQuery<'_>) -> Asked {
        let root = ResourceKey::from_canonical("/");
        let (select, key, id) = match &query.select {
            Select::Covering(key) => (0, key, None),
            Select::AtOrBelow(key) => (1, key, None),
            Select::Id(id) => (2, &root, Some(id.as_uuid())),
        };
        let placed = self.space.placed(key);
        let principal = query.principal.flatten();
        Asked {
            select,
            id,
            place: placed.place,
            realm: placed.realm(),
            places: placed.chain.into_vec(),
            namespace: namespace(key),
            path: key.path().as_bytes().to_vec(),
            below: Below::of(key.path()),
            of: query.principal.is_some(),
            who: bytes(principal),
            whose: self.space.whose(principal),
            kind: query.kind.map(|kind| kind.as_str().as_bytes().to_vec()),
            older: query.older_than.map(micros),
            after: query.after.as_ref().map(|after| after.root().as_bytes().to_vec()),
            after_id: query.after.as_ref().map(|after| after.last_id().as_uuid()),
            limit: query.limit,
            most: i64::try_from(query.limit).unwrap_or(i64::MAX - 1).saturating_add(1),
        }
    }

    async fn page(&self, asked: &Asked) -> Result<LockPage, StoreError> {
        let answers = self.step(Call::Find, DOING, |params| {
            params.extend_from_slice(&[
                &asked.select,
                &asked.id,
                &asked.places,
                &asked.place,
                &asked.realm,
                &asked.namespace,
                &asked.path,
                &asked.below.low,
                &asked.below.high,
                &asked.below.from,
                &asked.below.to,
                &asked.of,
                &asked.who,
                &asked.whose,
                &asked.kind,
                &asked.older,
                &asked.after,
                &asked.after_id,
                &asked.most,
            ]);
        });
        let answers = answers.await?;
        let locks = answers.of(LOCK).map(|row| row.lock(answers.now, self.lease));
        let mut locks = locks.collect::<Result<Vec<Lock>, _>>()?;
        let more = locks.len() > asked.limit;
        locks.truncate(asked.limit);
        let next = if more { locks.last().map(Cursor::of) } else { None };
        Ok(LockPage { locks, next })
    }
}
