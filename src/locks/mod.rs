//! Third floor: [`Locks`], policy over a store.
//!
//! A [`Locks`] knows how a request is read (keys, principal, namespace), how long locks live and how many there may be,
//! who may do what, and what strangers see. The layer, the endpoint and in-process callers share one, so none can
//! compute another key than the rest. What comes out is a granted lock or a [`Refusal`], redacted for whoever asked.

mod acquire;
mod activity;
mod admit;
mod authorize;
mod breaking;
mod builder;
mod caller;
mod check;
mod code;
mod expiry;
mod find;
#[cfg(feature = "grpc")]
mod grpc;
mod guard;
mod handover;
mod incident;
#[cfg(feature = "batch")]
mod items;
mod limits;
mod manage;
mod own;
mod race;
mod refusal;
mod request;
mod sentence;
mod stats;
#[cfg(feature = "tracing")]
mod traced;
mod view;
mod visible;
mod wait;
mod watch;

use std::{
    fmt,
    sync::{Arc, atomic::AtomicUsize},
};

#[cfg(feature = "webdav")]
pub(crate) use self::acquire::Behind;
#[cfg(feature = "grpc")]
#[cfg_attr(docsrs, doc(cfg(feature = "grpc")))]
pub use self::grpc::GrpcCode;
#[cfg(feature = "batch")]
pub(crate) use self::items::{BulkWrite, Decided, RefusedWhole, Rest};
pub(crate) use self::own::OwnLocks;
pub(crate) use self::wait::{Patience, Waiting};
pub use self::{
    acquire::Granted,
    activity::{Activity, ActivityKind, Origin},
    admit::{Demand, Judgement, PendingVerdict},
    authorize::{Access, Action, AuthorizeAsk, Authorizer, DefaultAuthorizer},
    breaking::Broken,
    builder::LocksBuilder,
    caller::Caller,
    check::Checked,
    code::RefusalCode,
    find::{Listing, LockFilter},
    guard::LockGuard,
    handover::Handover,
    incident::Incident,
    limits::{KindLifetime, Lifetimes, Limits},
    manage::{Named, Refreshment},
    refusal::Refusal,
    request::LockRequest,
    stats::{LockStats, RefusalStats},
    view::{LockView, LostView},
    watch::{LockNews, News},
};
use self::{builder::Policy, expiry::Ledger, stats::Counters, wait::Room};
pub(crate) use self::{sentence::Words, view::Shown, visible::visible};
use crate::{
    lock::KeyRules,
    store::{Clock, LockStore},
};

/// The hub: a store and the policy over it. A cheap handle, cloned wherever locks are needed.
///
/// Give the same one to the layer, to the endpoint and to the code that locks by itself:
///
/// ```
/// use tower_lock::{LockRequest, Locks, MemoryStore};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let locks = Locks::builder(MemoryStore::new()).build();
/// let guard = locks.hold(LockRequest::exclusive("/docs/7").reason("nightly export")).await?;
/// assert_eq!(guard.lock().root().path(), "/docs/7");
/// let refusal = locks.acquire(LockRequest::exclusive("/docs")).await.unwrap_err();
/// assert_eq!(refusal.status(), 423);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Locks {
    inner: Arc<Inner>,
}

struct Inner {
    store: Arc<dyn LockStore>,
    policy: Policy,
    /// See [`Policy::plain`].
    plain: Option<KeyRules>,
    room: Room,
    counters: Counters,
    watching: AtomicUsize,
    /// Only where somebody hears of what happens.
    ledger: Option<Ledger>,
}

impl Locks {
    /// Locks in `store` under the default policy; see [`LocksBuilder`] for what that is.
    #[must_use]
    pub fn new(store: impl LockStore) -> Self {
        Self::builder(store).build()
    }

    /// Locks in `store` under a policy of your own.
    pub fn builder(store: impl LockStore) -> LocksBuilder {
        LocksBuilder::new(Arc::new(store))
    }

    /// The store.
    #[must_use]
    #[inline]
    pub fn store(&self) -> &Arc<dyn LockStore> {
        &self.inner.store
    }

    /// The limits that apply.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.policy().limits
    }

    /// Where the endpoint is mounted, as clients reach it, if that was said.
    #[must_use]
    pub fn endpoint_url(&self) -> Option<&str> {
        self.policy().site.as_ref()?.endpoint_url.as_deref()
    }

    /// The clock of waits, keep-alive and announcements.
    pub(crate) fn clock(&self) -> &Clock {
        &self.policy().clock
    }

    /// Tells the operator of something that went wrong beside a request.
    pub(crate) fn report(&self, incident: &Incident<'_>) {
        self.policy().incident(incident);
    }

    #[inline]
    pub(crate) fn policy(&self) -> &Policy {
        &self.inner.policy
    }

    #[inline]
    pub(crate) fn counters(&self) -> &Counters {
        &self.inner.counters
    }

    fn from_parts(store: Arc<dyn LockStore>, policy: Policy) -> Self {
        let room = Room::new(&policy.limits);
        let ledger = policy.is_heard().then(Ledger::new);
        let counters = Counters::default();
        let plain = policy.plain();
        Self { inner: Arc::new(Inner { store, policy, plain, room, counters, watching: AtomicUsize::new(0), ledger }) }
    }
}

impl<S: LockStore> From<S> for Locks {
    fn from(store: S) -> Self {
        Self::new(store)
    }
}

impl fmt::Debug for Locks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Locks").field("policy", self.policy()).finish_non_exhaustive()
    }
}
