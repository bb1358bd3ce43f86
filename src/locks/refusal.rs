//! `Refusal`: why something was not done, already cut down to what the caller may know. Section 7 of the design.

use std::{
    borrow::Cow,
    error::Error,
    fmt, mem,
    sync::{Arc, OnceLock},
};

use http::StatusCode;
use smallvec::SmallVec;

use super::{
    Caller, LockView, Locks, LostView, RefusalCode,
    view::{Shown, Sight},
};
use crate::{
    lock::{Lock, LockKind, LostLock, ResourceKey},
    request::RequestError,
    store::StoreError,
};

/// Why something was not done: a status, a code, and what the caller may know of the locks in the way.
///
/// In Rust it is an error, whose `Display` is one sentence for a person. Over HTTP it becomes a problem document; it is
/// also left in the response's extensions, for layers outside. A clone shares what it says.
#[derive(Clone)]
pub struct Refusal {
    parts: Arc<Parts>,
    told: Told,
}

#[derive(Clone)]
struct Parts {
    code: RefusalCode,
    detail: Option<Cow<'static, str>>,
    resource: Option<Resource>,
    /// The locks in the way, also those that the caller may not see.
    blockers: Vec<Lock>,
    /// What the caller may see of each of them.
    sights: SmallVec<[Option<Sight>; 8]>,
    /// The same, once somebody has asked for it.
    views: OnceLock<Vec<LockView>>,
    truncated: bool,
    lost: Vec<LostView>,
    retry_after: Option<u64>,
    bare: bool,
    site: Option<Arc<Site>>,
    source: Option<Arc<StoreError>>,
}

/// What a refusal is about.
#[derive(Clone)]
enum Resource {
    Named(Box<str>),
    /// The root of the first lock in the way: most often it is just that.
    Blocker,
}

/// Whether a refusal has been counted, and the hook told of it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Told {
    No,
    Yes,
}

/// Where the documents and the endpoint of an application are.
#[derive(Debug, Default)]
pub(crate) struct Site {
    /// Where clients reach the endpoint.
    pub(crate) endpoint_url: Option<String>,
    /// What the `type` of a problem starts with; its code follows.
    pub(crate) problem_types: Option<String>,
    /// Which gRPC statuses refusals have.
    #[cfg(feature = "grpc")]
    pub(crate) grpc_codes: Option<super::grpc::GrpcCodes>,
}

impl From<Parts> for Refusal {
    fn from(parts: Parts) -> Self {
        Self { parts: Arc::new(parts), told: Told::No }
    }
}

impl Refusal {
    fn parts_mut(&mut self) -> &mut Parts {
        Arc::make_mut(&mut self.parts)
    }

    /// A refusal that has nothing to say but its code and a sentence.
    #[must_use]
    pub fn new(code: RefusalCode, detail: impl Into<Cow<'static, str>>) -> Self {
        Self::from(Parts { detail: Some(detail.into()), ..Parts::of(code) })
    }

    /// 400 `bad_request`, with what is wrong.
    #[must_use]
    pub fn bad_request(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(RefusalCode::BadRequest, detail)
    }

    /// 403 `forbidden`.
    #[must_use]
    pub fn forbidden(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(RefusalCode::Forbidden, detail)
    }

    /// Which refusal it is.
    #[must_use]
    pub fn code(&self) -> RefusalCode {
        self.parts.code
    }

    /// The HTTP status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.parts.code.status()
    }

    /// The resource that it is about, as a canonical path.
    #[must_use]
    pub fn resource(&self) -> Option<&str> {
        match self.parts.resource.as_ref()? {
            Resource::Named(path) => Some(path),
            Resource::Blocker => Some(self.parts.blockers.first()?.root().path()),
        }
    }

    /// The locks in the way that the caller may see.
    #[must_use]
    pub fn locks(&self) -> &[LockView] {
        self.parts.views.get_or_init(|| self.shown().map(LockView::from).collect())
    }

    /// The same, as far as the caller may see them, without copies.
    pub(crate) fn shown(&self) -> impl Iterator<Item = Shown<'_>> {
        let sights = self.parts.blockers.iter().zip(&self.parts.sights);
        sights.filter_map(|(lock, sight)| Some(Shown { lock, sight: (*sight)? }))
    }

    /// Whether there are more locks in the way than are named.
    #[must_use]
    pub fn is_truncated(&self) -> bool {
        self.parts.truncated
    }

    /// The locks that the caller believed in.
    #[must_use]
    pub fn lost(&self) -> &[LostView] {
        &self.parts.lost
    }

    /// After how many seconds it is worth trying again; none where nobody knows.
    #[must_use]
    pub fn retry_after(&self) -> Option<u64> {
        self.parts.retry_after
    }

    /// Whether the caller may know no more than status, code and [`Refusal::retry_after`].
    #[must_use]
    pub fn is_bare(&self) -> bool {
        self.parts.bare
    }

    /// Where the endpoint is mounted, if that was said.
    #[must_use]
    pub fn endpoint_url(&self) -> Option<&str> {
        self.parts.site.as_ref()?.endpoint_url.as_deref()
    }

    /// The `type` of the problem document: a URI under the configured base, else `about:blank` (RFC 9457 section 4.2.1).
    #[must_use]
    pub fn problem_type(&self) -> Cow<'_, str> {
        match self.problem_types() {
            Some(base) => Cow::Owned(format!("{base}{}", self.code())),
            None => Cow::Borrowed("about:blank"),
        }
    }

    /// What its `type` starts with, if that was said.
    pub(crate) fn problem_types(&self) -> Option<&str> {
        self.parts.site.as_ref()?.problem_types.as_deref()
    }

    /// What it says, where that is not to be found out of the rest.
    pub(super) fn detail(&self) -> Option<&str> {
        self.parts.detail.as_deref()
    }

    /// Where the application has its documents, if that was said.
    #[cfg(feature = "grpc")]
    pub(super) fn site(&self) -> Option<&Site> {
        self.parts.site.as_deref()
    }

    /// What the store said, for [`RefusalCode::StoreUnavailable`].
    #[must_use]
    pub fn store_error(&self) -> Option<&StoreError> {
        self.parts.source.as_deref()
    }

    /// The first lock in the way, also where the caller may not see it. It has to go before anything can come of asking again.
    pub(crate) fn blocker(&self) -> Option<&Lock> {
        self.parts.blockers.first()
    }

    /// The same refusal about `resource`.
    #[must_use]
    pub fn about(mut self, resource: &ResourceKey<'_>) -> Self {
        self.parts_mut().resource = Some(Resource::Named(resource.path().into()));
        self
    }

    /// 503: the lease of a write has lapsed while it ran, and it was stopped.
    pub(crate) fn lease_lapsed() -> Self {
        Self::new(
            RefusalCode::StoreUnavailable,
            "The lock store could not be told in time that this write goes on, so it was stopped; it may be half done.",
        )
        .retry_in(1)
    }

    /// Whether nobody has been told of it yet; from now on somebody has.
    pub(super) fn tell_once(&mut self) -> bool {
        mem::replace(&mut self.told, Told::Yes) == Told::No
    }

    /// The same refusal, where more locks are in the way than are named: it is worth trying again once all of them are gone.
    #[cfg(feature = "batch")]
    pub(super) fn free_after(mut self, blockers: &[Lock]) -> Self {
        self.parts_mut().retry_after = retry_after(blockers);
        self
    }

    /// The same refusal, worth trying again after so many seconds.
    #[must_use]
    pub fn retry_in(mut self, seconds: u64) -> Self {
        self.parts_mut().retry_after = Some(seconds);
        self
    }
}

impl Locks {
    /// 423: `blockers` stand in the way of what `caller` wants of `resource`.
    pub(crate) fn locked(
        &self,
        caller: &Caller,
        resource: Option<&ResourceKey<'_>>,
        blockers: impl Into<Vec<Lock>>,
        truncated: bool,
    ) -> Refusal {
        let blockers = blockers.into();
        let frozen = blockers.iter().any(|lock| *lock.kind() == LockKind::Freeze);
        self.over_locks(
            if frozen { RefusalCode::Frozen } else { RefusalCode::Locked },
            caller,
            resource,
            blockers,
            truncated,
        )
    }

    /// 412: a condition is false.
    pub(crate) fn lock_lost(
        &self,
        caller: &Caller,
        resource: Option<&ResourceKey<'_>>,
        lost: Vec<LostLock>,
        blockers: impl Into<Vec<Lock>>,
        truncated: bool,
    ) -> Refusal {
        let mut refusal = self.over_locks(RefusalCode::LockLost, caller, resource, blockers, truncated);
        // What is told of a lost lock was the caller's own; it stays where nothing else may be seen.
        let parts = refusal.parts_mut();
        parts.lost = lost.into_iter().map(LostView::from).collect();
        parts.bare &= parts.lost.is_empty();
        refusal
    }

    /// Any refusal in which locks are named.
    pub(crate) fn over_locks(
        &self,
        code: RefusalCode,
        caller: &Caller,
        resource: Option<&ResourceKey<'_>>,
        blockers: impl Into<Vec<Lock>>,
        truncated: bool,
    ) -> Refusal {
        let blockers = blockers.into();
        let sights: SmallVec<[Option<Sight>; 8]> = blockers.iter().map(|lock| self.sight(caller, lock)).collect();
        let mut seen = blockers.iter().zip(&sights).filter(|(_, sight)| sight.is_some()).map(|(lock, _)| lock).peekable();
        let bare = seen.peek().is_none() && !blockers.is_empty();
        // The code would tell that a freeze exists to somebody who may not see it.
        let hidden = code == RefusalCode::Frozen && !seen.any(|lock| *lock.kind() == LockKind::Freeze);
        let named = |key: &ResourceKey<'_>| match blockers.first() {
            Some(first) if first.root().path() == key.path() => Resource::Blocker,
            _ => Resource::Named(key.path().into()),
        };
        Refusal::from(Parts {
            resource: resource.filter(|_| !bare).map(named),
            retry_after: retry_after(&blockers),
            blockers,
            sights,
            truncated,
            bare,
            site: self.policy().site.clone(),
            ..Parts::of(if hidden { RefusalCode::Locked } else { code })
        })
    }

    /// The same refusal, with the addresses of this application.
    #[must_use]
    pub(crate) fn signed(&self, mut refusal: Refusal) -> Refusal {
        self.sign(&mut refusal);
        refusal
    }

    /// Gives `refusal` the addresses of this application.
    pub(super) fn sign(&self, refusal: &mut Refusal) {
        if refusal.parts.site.is_none() && self.policy().site.is_some() {
            refusal.parts_mut().site.clone_from(&self.policy().site);
        }
    }

    /// 503: the store could not answer.
    pub(crate) fn store_failed(&self, error: StoreError) -> Refusal {
        Refusal::from(Parts {
            retry_after: Some(1),
            source: Some(Arc::new(error)),
            site: self.policy().site.clone(),
            ..Parts::of(RefusalCode::StoreUnavailable)
        })
    }
}

impl From<RequestError> for Refusal {
    fn from(error: RequestError) -> Self {
        let code = if error.code() == "ambiguous_path" { RefusalCode::AmbiguousPath } else { RefusalCode::BadRequest };
        Self::new(code, error.to_string())
    }
}

/// The latest end among `blockers`: only then is the way free. Nobody knows it when one is endless or in use.
fn retry_after(blockers: &[Lock]) -> Option<u64> {
    blockers
        .iter()
        .map(|lock| if lock.in_use() { None } else { lock.expires_in() })
        .try_fold(0, |latest, left| left.map(|left| latest.max(left)))
        .filter(|_| !blockers.is_empty())
}

impl Parts {
    fn of(code: RefusalCode) -> Self {
        Self {
            code,
            detail: None,
            resource: None,
            blockers: Vec::new(),
            sights: SmallVec::new(),
            views: OnceLock::new(),
            truncated: false,
            lost: Vec::new(),
            retry_after: None,
            bare: false,
            site: None,
            source: None,
        }
    }
}

impl fmt::Debug for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Refusal({} {}: {self})", self.status().as_u16(), self.code())
    }
}

impl Error for Refusal {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.parts.source.as_deref().map(|source| source as _)
    }
}
