//! `GrpcCode`: a refusal's status where HTTP statuses are not looked at.

use std::{fmt, sync::Arc};

use super::{LocksBuilder, Refusal, RefusalCode};

/// A gRPC status that is no success. The discriminant is the number on the wire: `code as i32` is what
/// `tonic::Code::from` takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GrpcCode {
    /// `CANCELLED`
    Cancelled = 1,
    /// `UNKNOWN`
    Unknown = 2,
    /// `INVALID_ARGUMENT`
    InvalidArgument = 3,
    /// `DEADLINE_EXCEEDED`
    DeadlineExceeded = 4,
    /// `NOT_FOUND`
    NotFound = 5,
    /// `ALREADY_EXISTS`
    AlreadyExists = 6,
    /// `PERMISSION_DENIED`
    PermissionDenied = 7,
    /// `RESOURCE_EXHAUSTED`
    ResourceExhausted = 8,
    /// `FAILED_PRECONDITION`: trying again helps only once something else has changed.
    FailedPrecondition = 9,
    /// `ABORTED`: what the caller believed is no longer so; it is to look again.
    Aborted = 10,
    /// `OUT_OF_RANGE`
    OutOfRange = 11,
    /// `UNIMPLEMENTED`
    Unimplemented = 12,
    /// `INTERNAL`
    Internal = 13,
    /// `UNAVAILABLE`: the same call may well succeed in a moment. Many clients try again by themselves.
    Unavailable = 14,
    /// `DATA_LOSS`
    DataLoss = 15,
    /// `UNAUTHENTICATED`
    Unauthenticated = 16,
}

impl GrpcCode {
    /// The code that goes with a refusal unless [`LocksBuilder::grpc_codes`] says otherwise.
    ///
    /// | refusal | code |
    /// |---|---|
    /// | 423, 424, 428 | `FAILED_PRECONDITION` |
    /// | 409, 412 | `ABORTED` |
    /// | 400, 415, 422 | `INVALID_ARGUMENT` |
    /// | 403 | `PERMISSION_DENIED` |
    /// | 404 | `NOT_FOUND` |
    /// | 405 | `UNIMPLEMENTED` |
    /// | 413, 429 | `RESOURCE_EXHAUSTED` |
    /// | 500 | `INTERNAL` |
    /// | 503 | `UNAVAILABLE` |
    #[must_use]
    pub const fn of(code: RefusalCode) -> Self {
        match code {
            RefusalCode::Locked | RefusalCode::Frozen | RefusalCode::FailedDependency | RefusalCode::LockRequired => {
                Self::FailedPrecondition
            }
            RefusalCode::LockLost
            | RefusalCode::ConditionFailed
            | RefusalCode::WriteInProgress
            | RefusalCode::ProposalConflict
            | RefusalCode::NotCovered => Self::Aborted,
            RefusalCode::AmbiguousPath
            | RefusalCode::BadRequest
            | RefusalCode::UnsupportedMediaType
            | RefusalCode::Unprocessable => Self::InvalidArgument,
            RefusalCode::Forbidden => Self::PermissionDenied,
            RefusalCode::NoSuchLock => Self::NotFound,
            RefusalCode::MethodNotAllowed => Self::Unimplemented,
            RefusalCode::ContentTooLarge | RefusalCode::LockQuota | RefusalCode::TooManyWaiting => Self::ResourceExhausted,
            RefusalCode::UnreadableAnswer => Self::Internal,
            RefusalCode::StoreFull | RefusalCode::StoreUnavailable => Self::Unavailable,
        }
    }
}

/// The codes of an application's own.
pub(crate) struct GrpcCodes(Arc<dyn Fn(RefusalCode) -> GrpcCode + Send + Sync>);

impl fmt::Debug for GrpcCodes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GrpcCodes(…)")
    }
}

impl Refusal {
    /// The gRPC status: that of [`GrpcCode::of`], unless the application has codes of its own.
    #[must_use]
    pub fn grpc_code(&self) -> GrpcCode {
        let own = self.site().and_then(|site| site.grpc_codes.as_ref());
        own.map_or_else(|| GrpcCode::of(self.code()), |codes| (codes.0)(self.code()))
    }
}

impl LocksBuilder {
    /// Which gRPC status a refusal has; [`GrpcCode::of`] unless said.
    ///
    /// ```
    /// use tower_lock::{Locks, MemoryStore, RefusalCode, locks::GrpcCode};
    ///
    /// // Clients that try again by themselves do so only on `UNAVAILABLE`. A freeze is not worth it.
    /// let locks = Locks::builder(MemoryStore::new())
    ///     .grpc_codes(|code| match code {
    ///         RefusalCode::Locked => GrpcCode::Unavailable,
    ///         code => GrpcCode::of(code),
    ///     })
    ///     .build();
    /// ```
    pub fn grpc_codes<F>(mut self, codes: F) -> Self
    where
        F: Fn(RefusalCode) -> GrpcCode + Send + Sync + 'static,
    {
        self.site().grpc_codes = Some(GrpcCodes(Arc::new(codes)));
        self
    }
}
