//! `Refusal`: why something was not done, already cut down to what the caller may know. Section 7 of the design.

use std::{borrow::Cow, error::Error, fmt, mem, sync::Arc};

use http::StatusCode;

use super::{Caller, LockView, Locks, LostView, visible::Visible};
use crate::{
    lock::{Lock, LockKind, LockState, LostLock, ResourceKey, is_below},
    request::RequestError,
    store::StoreError,
};

/// Why something was not done: a status, a code, and what the caller may know of the locks in the way.
///
/// In Rust it is an error, whose `Display` is one sentence for a person. Over HTTP it becomes a problem document; it is
/// also left in the response's extensions, for layers outside.
#[derive(Clone)]
pub struct Refusal(Box<Parts>);

#[derive(Clone)]
struct Parts {
    code: RefusalCode,
    detail: Option<Cow<'static, str>>,
    resource: Option<String>,
    locks: Vec<LockView>,
    truncated: bool,
    lost: Vec<LostView>,
    retry_after: Option<u64>,
    bare: bool,
    site: Option<Arc<Site>>,
    source: Option<Arc<StoreError>>,
    /// The first lock in the way, whole: for whoever waits for it to go, and for nobody to be shown.
    blocker: Option<Lock>,
    told: Told,
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

/// Which refusal it is: one word per reason, the `code` of the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RefusalCode {
    /// 423: a lock that the caller does not answer for is in the way.
    Locked,
    /// 423: the same, and one of those is a [`LockKind::Freeze`], for which nobody answers.
    Frozen,
    /// 412: a condition is false; a lock that the caller believes in is gone.
    LockLost,
    /// 412: a condition is false that is not about a lock: an entity tag, `Overwrite`.
    ConditionFailed,
    /// 409: an acquire gave up waiting for writes in flight.
    WriteInProgress,
    /// 409: a proposed token or id is in use.
    ProposalConflict,
    /// 409: a release of a lock that does not cover the named resource.
    NotCovered,
    /// 403: the authorizer said no, or the caller does not hold the lock.
    Forbidden,
    /// 400: the path can be read in more than one way.
    AmbiguousPath,
    /// 400: something in the request is malformed or too long.
    BadRequest,
    /// 404: there is no such lock.
    NoSuchLock,
    /// 405: the endpoint has no such verb.
    MethodNotAllowed,
    /// 413: a management body is too long.
    ContentTooLarge,
    /// 415: a management body is of a type that the endpoint does not read.
    UnsupportedMediaType,
    /// 422: something is asked for in a form that is understood, but not offered: a type of lock.
    Unprocessable,
    /// 424: an item of a bulk write depends on another one, which is refused (RFC 4918 section 11.4).
    FailedDependency,
    /// 428: this route demands that the caller holds a lock.
    LockRequired,
    /// 429: the principal holds as many locks as one may.
    LockQuota,
    /// 429: as many wait for a lock, or watch locks, as may.
    TooManyWaiting,
    /// 500: the service's answer to a part of a bulk write is not one that the refusals of the rest could be written into.
    UnreadableAnswer,
    /// 503: the store holds as many locks as it may.
    StoreFull,
    /// 503: the store is down, or too slow.
    StoreUnavailable,
}

impl RefusalCode {
    /// The status that goes with it.
    #[must_use]
    pub const fn status(self) -> StatusCode {
        match self {
            Self::Locked | Self::Frozen => StatusCode::LOCKED,
            Self::LockLost | Self::ConditionFailed => StatusCode::PRECONDITION_FAILED,
            Self::WriteInProgress | Self::ProposalConflict | Self::NotCovered => StatusCode::CONFLICT,
            Self::Forbidden => StatusCode::FORBIDDEN,
            Self::AmbiguousPath | Self::BadRequest => StatusCode::BAD_REQUEST,
            Self::NoSuchLock => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::ContentTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Unprocessable => StatusCode::UNPROCESSABLE_ENTITY,
            Self::FailedDependency => StatusCode::FAILED_DEPENDENCY,
            Self::LockRequired => StatusCode::PRECONDITION_REQUIRED,
            Self::LockQuota | Self::TooManyWaiting => StatusCode::TOO_MANY_REQUESTS,
            Self::UnreadableAnswer => StatusCode::INTERNAL_SERVER_ERROR,
            Self::StoreFull | Self::StoreUnavailable => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// The word in the body.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Locked => "locked",
            Self::Frozen => "frozen",
            Self::LockLost => "lock_lost",
            Self::ConditionFailed => "condition_failed",
            Self::WriteInProgress => "write_in_progress",
            Self::ProposalConflict => "proposal_conflict",
            Self::NotCovered => "not_covered",
            Self::Forbidden => "forbidden",
            Self::AmbiguousPath => "ambiguous_path",
            Self::BadRequest => "bad_request",
            Self::NoSuchLock => "no_such_lock",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::ContentTooLarge => "content_too_large",
            Self::UnsupportedMediaType => "unsupported_media_type",
            Self::Unprocessable => "unprocessable",
            Self::FailedDependency => "failed_dependency",
            Self::LockRequired => "lock_required",
            Self::LockQuota => "lock_quota",
            Self::TooManyWaiting => "too_many_waiting",
            Self::UnreadableAnswer => "unreadable_answer",
            Self::StoreFull => "store_full",
            Self::StoreUnavailable => "store_unavailable",
        }
    }

    /// The title of the problem document: the status's own phrase (RFC 9457 section 4.2.1), but for codes that say more.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::Frozen => "Frozen",
            Self::LockLost => "Lock lost",
            Self::WriteInProgress => "Write in progress",
            code => code.status().canonical_reason().unwrap_or("Refused"),
        }
    }
}

impl fmt::Display for RefusalCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl serde::Serialize for RefusalCode {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl Refusal {
    /// A refusal that has nothing to say but its code and a sentence.
    #[must_use]
    pub fn new(code: RefusalCode, detail: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(Parts { detail: Some(detail.into()), ..Parts::of(code) }))
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
        self.0.code
    }

    /// The HTTP status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.0.code.status()
    }

    /// The resource that it is about, as a canonical path.
    #[must_use]
    pub fn resource(&self) -> Option<&str> {
        self.0.resource.as_deref()
    }

    /// The locks in the way that the caller may see.
    #[must_use]
    pub fn locks(&self) -> &[LockView] {
        &self.0.locks
    }

    /// Whether there are more locks in the way than are named.
    #[must_use]
    pub fn is_truncated(&self) -> bool {
        self.0.truncated
    }

    /// The locks that the caller believed in.
    #[must_use]
    pub fn lost(&self) -> &[LostView] {
        &self.0.lost
    }

    /// After how many seconds it is worth trying again; none where nobody knows.
    #[must_use]
    pub fn retry_after(&self) -> Option<u64> {
        self.0.retry_after
    }

    /// Whether the caller may know no more than status, code and [`Refusal::retry_after`].
    #[must_use]
    pub fn is_bare(&self) -> bool {
        self.0.bare
    }

    /// Where the endpoint is mounted, if that was said.
    #[must_use]
    pub fn endpoint_url(&self) -> Option<&str> {
        self.0.site.as_ref()?.endpoint_url.as_deref()
    }

    /// The `type` of the problem document: a URI under the configured base, else `about:blank` (RFC 9457 section 4.2.1).
    #[must_use]
    pub fn problem_type(&self) -> Cow<'_, str> {
        match self.0.site.as_ref().and_then(|site| site.problem_types.as_deref()) {
            Some(base) => Cow::Owned(format!("{base}{}", self.code())),
            None => Cow::Borrowed("about:blank"),
        }
    }

    /// Where the application has its documents, if that was said.
    #[cfg(feature = "grpc")]
    pub(super) fn site(&self) -> Option<&Site> {
        self.0.site.as_deref()
    }

    /// What the store said, for [`RefusalCode::StoreUnavailable`].
    #[must_use]
    pub fn store_error(&self) -> Option<&StoreError> {
        self.0.source.as_deref()
    }

    /// The first lock in the way, also where the caller may not see it. It has to go before anything can come of asking again.
    pub(crate) fn blocker(&self) -> Option<&Lock> {
        self.0.blocker.as_ref()
    }

    /// The same refusal about `resource`.
    #[must_use]
    pub fn about(mut self, resource: &ResourceKey<'_>) -> Self {
        self.0.resource = Some(resource.path().to_owned());
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
        mem::replace(&mut self.0.told, Told::Yes) == Told::No
    }

    /// The same refusal, where more locks are in the way than are named: it is worth trying again once all of them are gone.
    #[cfg(feature = "batch")]
    pub(super) fn free_after(mut self, blockers: &[Lock]) -> Self {
        self.0.retry_after = retry_after(blockers);
        self
    }

    /// The same refusal, worth trying again after so many seconds.
    #[must_use]
    pub fn retry_in(mut self, seconds: u64) -> Self {
        self.0.retry_after = Some(seconds);
        self
    }
}

impl Locks {
    /// 423: `blockers` stand in the way of what `caller` wants of `resource`.
    pub(crate) fn locked(
        &self,
        caller: &Caller,
        resource: Option<&ResourceKey<'_>>,
        blockers: &[Lock],
        truncated: bool,
    ) -> Refusal {
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
        blockers: &[Lock],
        truncated: bool,
    ) -> Refusal {
        let mut refusal = self.over_locks(RefusalCode::LockLost, caller, resource, blockers, truncated);
        // What is told of a lost lock was the caller's own; it stays where nothing else may be seen.
        refusal.0.lost = lost.into_iter().map(LostView::from).collect();
        refusal.0.bare &= refusal.0.lost.is_empty();
        refusal
    }

    /// Any refusal in which locks are named.
    pub(crate) fn over_locks(
        &self,
        code: RefusalCode,
        caller: &Caller,
        resource: Option<&ResourceKey<'_>>,
        blockers: &[Lock],
        truncated: bool,
    ) -> Refusal {
        let locks: Vec<LockView> = blockers.iter().filter_map(|lock| self.view(caller, lock)).collect();
        let bare = locks.is_empty() && !blockers.is_empty();
        // The code would tell that a freeze exists to somebody who may not see it.
        let seen = || locks.iter().any(|lock| lock.kind == LockKind::Freeze);
        let code = if code == RefusalCode::Frozen && !seen() { RefusalCode::Locked } else { code };
        Refusal(Box::new(Parts {
            resource: resource.filter(|_| !bare).map(|key| key.path().to_owned()),
            locks,
            truncated,
            retry_after: retry_after(blockers),
            bare,
            site: self.policy().site.clone(),
            blocker: blockers.first().cloned(),
            ..Parts::of(code)
        }))
    }

    /// The same refusal, with the addresses of this application.
    #[must_use]
    pub(crate) fn signed(&self, mut refusal: Refusal) -> Refusal {
        self.sign(&mut refusal);
        refusal
    }

    /// Gives `refusal` the addresses of this application.
    pub(super) fn sign(&self, refusal: &mut Refusal) {
        if refusal.0.site.is_none() {
            refusal.0.site.clone_from(&self.policy().site);
        }
    }

    /// 503: the store could not answer.
    pub(crate) fn store_failed(&self, error: StoreError) -> Refusal {
        Refusal(Box::new(Parts {
            retry_after: Some(1),
            source: Some(Arc::new(error)),
            site: self.policy().site.clone(),
            ..Parts::of(RefusalCode::StoreUnavailable)
        }))
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
            locks: Vec::new(),
            truncated: false,
            lost: Vec::new(),
            retry_after: None,
            bare: false,
            site: None,
            source: None,
            blocker: None,
            told: Told::No,
        }
    }

    fn name(&self) -> &str {
        self.resource.as_deref().unwrap_or("This resource")
    }

    fn tell_locked(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(lock) = self.locks.first() else {
            return write!(f, "{} is locked.", Visible(self.name()));
        };
        let verb = match (&lock.kind, lock.state) {
            (_, LockState::Pending) => "is about to be locked",
            (LockKind::Freeze, _) => "is frozen",
            _ => "is locked",
        };
        match self.resource.as_deref() {
            Some(resource) if is_below(resource, &lock.resource) => {
                write!(f, "{} {verb} through {}", Visible(resource), Visible(&lock.resource))?;
            }
            Some(resource) if is_below(&lock.resource, resource) => {
                write!(f, "{} holds {}, which {verb}", Visible(resource), Visible(&lock.resource))?;
            }
            // The resource itself, or another one that the request changes: a destination.
            _ => write!(f, "{} {verb}", Visible(&lock.resource))?,
        }
        if let Some(name) = lock.owner.as_ref().and_then(|owner| owner.display_name()) {
            write!(f, " by {}", Visible(name))?;
        } else if lock.mine {
            f.write_str(" by you")?;
        }
        if let Some(reason) = &lock.reason {
            write!(f, " ({})", Visible(reason))?;
        }
        match lock.expires_at {
            _ if lock.state == LockState::Pending => {}
            Some(time) => write!(f, " until {time}")?,
            None => f.write_str(" until further notice")?,
        }
        match self.locks.len() - 1 {
            0 if self.truncated => f.write_str(", and more locks are in the way.")?,
            0 => f.write_str(".")?,
            1 if !self.truncated => f.write_str(", and another lock is in the way.")?,
            more if self.truncated => write!(f, ", and more than {more} other locks are in the way.")?,
            more => write!(f, ", and {more} other locks are in the way.")?,
        }
        Ok(())
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = &*self.0;
        if let Some(detail) = &parts.detail {
            return Visible(detail).fmt(f);
        }
        match parts.code {
            RefusalCode::Locked | RefusalCode::Frozen => parts.tell_locked(f),
            RefusalCode::LockLost => {
                match parts.lost.first() {
                    None => f.write_str("A condition of the request is false: the locks are not as it expects.")?,
                    Some(lost) => tell_lost(lost, f)?,
                }
                if !parts.locks.is_empty() {
                    f.write_str(" ")?;
                    parts.tell_locked(f)?;
                }
                Ok(())
            }
            RefusalCode::WriteInProgress => {
                write!(f, "{} is being written; the lock could not wait for that to end.", Visible(parts.name()))
            }
            RefusalCode::ProposalConflict => f.write_str("The proposed token or id is in use."),
            RefusalCode::LockRequired => {
                write!(f, "{} can only be written by the holder of a lock on it.", Visible(parts.name()))?;
                if !parts.locks.is_empty() {
                    f.write_str(" ")?;
                    parts.tell_locked(f)?;
                }
                Ok(())
            }
            RefusalCode::LockQuota => f.write_str("You hold as many locks as one may; release one first."),
            RefusalCode::TooManyWaiting => f.write_str("As many are waiting as may; try again later."),
            RefusalCode::StoreFull => f.write_str("There are as many locks as the store takes."),
            RefusalCode::StoreUnavailable => {
                f.write_str("The lock store cannot be asked at the moment, so nothing is written.")
            }
            code => write!(f, "{}.", code.title()),
        }
    }
}

fn tell_lost(lost: &LostView, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match &lost.resource {
        Some(resource) => write!(f, "Your lock on {}", Visible(resource))?,
        None => f.write_str("The lock that the request relies on")?,
    }
    f.write_str(match lost.cause {
        crate::lock::LostCause::Expired => " has expired",
        crate::lock::LostCause::Released => " was released",
        crate::lock::LostCause::Broken => " was broken",
        crate::lock::LostCause::Replaced => " was replaced",
        crate::lock::LostCause::ResourceGone => " went with its resource",
        crate::lock::LostCause::OutOfScope => " does not cover this",
        crate::lock::LostCause::Unknown => " is not known here",
    })?;
    if let Some(actor) = &lost.by {
        write!(f, " by {}", Visible(actor))?;
    }
    if let Some(reason) = &lost.reason {
        write!(f, " ({})", Visible(reason))?;
    }
    if let Some(time) = lost.at {
        write!(f, " at {time}")?;
    }
    f.write_str(".")
}

impl fmt::Debug for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Refusal({} {}: {self})", self.status().as_u16(), self.code())
    }
}

impl Error for Refusal {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}
