//! A time limit round everything that waits for an engine, connecting included.

use std::{future::Future, time::Duration};

use crate::store::{StoreError, StoreErrorKind};

/// `work`, unless it takes longer than `limit`: then it is dropped, and the answer is
/// [`TimedOut`](StoreErrorKind::TimedOut).
pub(in crate::store) async fn within<T>(
    limit: Duration,
    doing: &'static str,
    work: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    match tokio::time::timeout(limit, work).await {
        Ok(answer) => answer,
        Err(elapsed) => Err(StoreError::new(StoreErrorKind::TimedOut, doing).caused_by(elapsed)),
    }
}
