//! A time limit round everything that waits for an engine, connecting included; and work that is tried until it succeeds.

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

/// How long what failed waits before it is tried again: at first, and at most.
const PAUSES: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));

/// Tries `work` again and again until it succeeds, or until `span` has passed, after which nobody needs it any more. Whether it
/// succeeded.
pub(in crate::store) async fn insist<T, F>(span: Duration, mut work: impl FnMut() -> F) -> bool
where
    F: Future<Output = Result<T, StoreError>>,
{
    let start = tokio::time::Instant::now();
    let mut pause = PAUSES.0;
    while work().await.is_err() {
        if start.elapsed() + pause > span {
            return false;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSES.1);
    }
    true
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_fails_is_tried_until_it_succeeds_or_nobody_needs_it() {
        let failed = || StoreError::new(StoreErrorKind::Unavailable, "trying");
        let tries = Cell::new(0);
        let third = || {
            tries.set(tries.get() + 1);
            let done = tries.get() == 3;
            async move { if done { Ok(()) } else { Err(failed()) } }
        };
        assert!(insist(Duration::from_secs(5), third).await);
        assert_eq!(tries.get(), 3);
        let start = tokio::time::Instant::now();
        tries.set(0);
        let never = || {
            tries.set(tries.get() + 1);
            async { Err::<(), _>(failed()) }
        };
        assert!(!insist(Duration::from_secs(5), never).await);
        assert!(start.elapsed() <= Duration::from_secs(5) && tries.get() >= 8, "{} tries", tries.get());
        // Even where there is no time at all it is tried once.
        tries.set(0);
        assert!(!insist(Duration::ZERO, never).await);
        assert_eq!(tries.get(), 1);
    }
}
