//! `RefusedCode`: which refusal it is, by the word in the body.

use std::fmt;

macro_rules! codes {
    ($($(#[doc = $doc:literal])+ $name:ident $word:literal,)+) => {
        /// Which refusal it is: the `code` of a problem document. A word that this version does not know is kept.
        #[derive(Clone, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum RefusedCode {
            $($(#[doc = $doc])+ $name,)+
            /// Another word.
            Other(Box<str>),
            /// None was said: the answer is not by a lock server, or its body could not be read.
            Unsaid,
        }

        impl RefusedCode {
            pub(super) fn of(word: &str) -> Self {
                match word {
                    $($word => Self::$name,)+
                    "" => Self::Unsaid,
                    other => Self::Other(other.into()),
                }
            }

            /// The word; empty for [`RefusedCode::Unsaid`].
            #[must_use]
            pub fn as_str(&self) -> &str {
                match self {
                    $(Self::$name => $word,)+
                    Self::Other(word) => word,
                    Self::Unsaid => "",
                }
            }
        }
    };
}

codes! {
    /// 423: somebody else's lock is in the way.
    Locked "locked",
    /// 423: the same, and it is one that nobody answers for.
    Frozen "frozen",
    /// 412: a lock that the request relied on is gone.
    LockLost "lock_lost",
    /// 412: a condition is false that is not about a lock.
    ConditionFailed "condition_failed",
    /// 409: an acquire gave up waiting for writes in flight.
    WriteInProgress "write_in_progress",
    /// 409: a proposed token or id is in use.
    ProposalConflict "proposal_conflict",
    /// 409: the lock does not cover the named resource.
    NotCovered "not_covered",
    /// 403.
    Forbidden "forbidden",
    /// 400: the path can be read in more than one way.
    AmbiguousPath "ambiguous_path",
    /// 400.
    BadRequest "bad_request",
    /// 404: there is no such lock.
    NoSuchLock "no_such_lock",
    /// 424: depends on something that was refused.
    FailedDependency "failed_dependency",
    /// 428: only the holder of a lock may do this.
    LockRequired "lock_required",
    /// 429: the caller holds as many locks as one may.
    LockQuota "lock_quota",
    /// 429: as many wait as may.
    TooManyWaiting "too_many_waiting",
    /// 503: the store holds as many locks as it may.
    StoreFull "store_full",
    /// 503: the store is down, or too slow. What was under way may be half done.
    StoreUnavailable "store_unavailable",
}

impl fmt::Display for RefusedCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
