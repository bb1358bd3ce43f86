//! Second floor, the narrow waist: [`LockStore`], the one trait between what is asked of locks and where they are kept.
//!
//! A store adds atomicity and memory, nothing else: what covers, conflicts and answers is decided by
//! [`lock::rules`](crate::lock::rules), the limits come with every request, and policy stays in
//! [`Locks`](crate::Locks). To write one, start from the example `custom_store` and run the suite of the feature
//! `conformance` against it.

mod acquire;
mod clock;
#[cfg(feature = "conformance")]
#[cfg_attr(docsrs, doc(cfg(feature = "conformance")))]
pub mod conformance;
mod error;
mod follow;
mod future;
mod manage;
mod memory;
mod permit;
#[cfg(feature = "postgres")]
mod postgres;
mod query;
#[cfg(feature = "redis")]
mod redis;
#[cfg(any(feature = "redis", feature = "postgres"))]
#[allow(dead_code, reason = "every store uses a part of it")]
mod remote;
#[cfg(any(feature = "redis", feature = "postgres", feature = "redb"))]
#[allow(dead_code, reason = "every store uses a part of it")]
mod stored;
pub(crate) mod waiting;
mod watch;
mod watchers;
mod write;

use std::sync::Arc;

#[cfg(feature = "postgres")]
#[cfg_attr(docsrs, doc(cfg(feature = "postgres")))]
pub use self::postgres::{PostgresStore, PostgresStoreBuilder};
#[cfg(feature = "redis")]
#[cfg_attr(docsrs, doc(cfg(feature = "redis")))]
pub use self::redis::{RedisStore, RedisStoreBuilder};
pub use self::{
    acquire::{Acquire, Acquired, Conflict, Lifetime, NewLock, Quota, QuotaExceeded, Replaces, Span},
    clock::{Clock, ClockSleep, ManualClock},
    error::{StoreError, StoreErrorKind},
    follow::{Follow, Followed},
    future::{PendingAnswer, StoreFuture},
    manage::{Authority, FinalTerm, Refresh, Refreshed, Release, Released, Which},
    memory::{MemoryStats, MemoryStore, MemoryStoreBuilder},
    permit::{InFlight, Permit, WriteId},
    query::{Cursor, CursorError, LockPage, LockQuery, Select},
    watch::{LockEvent, Watch},
    write::{Admitted, Refused, Verdict, Write},
};
use crate::lock::{Gone, Target};

/// Where locks are kept.
///
/// Arguments are borrowed and answers are [`StoreFuture`]s, so a store that knows its answer gives it without an
/// allocation, even as `Arc<dyn LockStore>`. Every method decides and acts in one atomic step; an ended lock is absent
/// from every answer at once; the store's own clock decides. Where a store cannot answer, it says so with a
/// [`StoreError`] and changes nothing: the caller answers 503 `store_unavailable`.
///
/// Dropping a [`StoreFuture`] leaves nothing that outlives its lease: a mark is withdrawn, a registration ended. A lock
/// that was granted at that moment may remain; [`Locks`](crate::Locks) undoes it by its token.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no lock store",
    note = "use `MemoryStore`, an `Arc` of a store, or implement `LockStore` (see the example `custom_store`)"
)]
pub trait LockStore: Send + Sync + 'static {
    /// Decides whether a write may go on, and registers it as in flight, in one step.
    ///
    /// Conditions come first: a false one refuses with what was lost ([`Refused::condition_failed`], 412 `lock_lost`).
    /// Then every lock and every mark that the write touches must be answered for
    /// ([`rules::answers`](crate::lock::rules::answers)), else it is refused with those that block (423 `locked`).
    /// An admitted write is registered until its [`Permit`] is dropped, and each lock that answers for it does not end
    /// before (G7). A check-only store registers nothing.
    fn admit(&self, write: &Write<'_>) -> StoreFuture<Verdict>;

    /// Lets a write through that stands under no conditions, where nothing touches it and the store can tell so at once.
    ///
    /// What is asked most often, and the shortest way to ask it: before most writes, [`Locks`](crate::Locks) does so, and
    /// [`admit`](Self::admit) is asked only if this gives nothing. A permit is the one that `admit` would give, for whoever
    /// asks: no lock and no mark touches `targets`, and the write is registered as it would be there. `None` says nothing, and
    /// leaves nothing registered. Without a method of its own, a store always says that, so `admit` hears of every write.
    fn let_through(&self, targets: &[Target<'_>]) -> Option<Permit> {
        let _ = targets;
        None
    }

    /// Grants all the locks asked for or none.
    ///
    /// In this order: tokens and ids already used (repeat 200, or 409 `write_in_progress`
    /// while the first still waits; else 409 `proposal_conflict`, or 412 `lock_lost` when they
    /// are gone), locks to be replaced (412 when one is gone), conflicts (423), quotas (429, 503 `store_full`), writes in
    /// flight. Over writes in flight a mark is set, which refuses and conflicts as the lock will; past
    /// [`Acquire::drain`] it is withdrawn, the answer is [`Acquired::Busy`] (409 `write_in_progress`), and no overlapping
    /// mark is set for twice that time. Lifetime and generation start at the grant.
    fn acquire(&self, request: &Acquire<'_>) -> StoreFuture<Acquired>;

    /// Restarts a lock's lifetime, up to its total life (200; 412 when it is gone; 403 when the caller does not hold it).
    fn refresh(&self, refresh: &Refresh<'_>) -> StoreFuture<Refreshed>;

    /// Ends a lock: by its holder, or broken by somebody who may (204; 202 while a grace period runs). A token never seen
    /// is burnt, so that a release may overtake its acquire.
    fn release(&self, release: &Release<'_>) -> StoreFuture<Released>;

    /// Ends the locks whose resources are gone, while the write that took them (`under`) is still registered; answers how
    /// many. Marks are spared.
    fn clear(&self, gone: &[Gone<'_>], under: Option<WriteId>) -> StoreFuture<usize>;

    /// One page of the locks that fit, in the order of their roots.
    fn find(&self, query: &LockQuery<'_>) -> StoreFuture<LockPage>;

    /// What happens to the locks that fit, from now on.
    fn watch(&self, query: &LockQuery<'_>) -> Watch;
}

// Forwards everything: a method left out here would silently be answered by somebody else's default.
impl<T: LockStore + ?Sized> LockStore for Arc<T> {
    fn admit(&self, write: &Write<'_>) -> StoreFuture<Verdict> {
        (**self).admit(write)
    }

    #[inline]
    fn let_through(&self, targets: &[Target<'_>]) -> Option<Permit> {
        (**self).let_through(targets)
    }

    fn acquire(&self, request: &Acquire<'_>) -> StoreFuture<Acquired> {
        (**self).acquire(request)
    }

    fn refresh(&self, refresh: &Refresh<'_>) -> StoreFuture<Refreshed> {
        (**self).refresh(refresh)
    }

    fn release(&self, release: &Release<'_>) -> StoreFuture<Released> {
        (**self).release(release)
    }

    fn clear(&self, gone: &[Gone<'_>], under: Option<WriteId>) -> StoreFuture<usize> {
        (**self).clear(gone, under)
    }

    fn find(&self, query: &LockQuery<'_>) -> StoreFuture<LockPage> {
        (**self).find(query)
    }

    fn watch(&self, query: &LockQuery<'_>) -> Watch {
        (**self).watch(query)
    }
}

const _: fn(&dyn LockStore) = |_obj_safe| {};
