//! `RefusalCode`: which refusal it is, its status and its title. Section 7 of the design.

use std::fmt;

use http::StatusCode;

/// Which refusal it is: one word per reason, the `code` of the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RefusalCode {
    /// 423: a lock that the caller does not answer for is in the way.
    Locked,
    /// 423: the same, and one of those is a [`LockKind::Freeze`](crate::LockKind::Freeze), for which nobody answers.
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
