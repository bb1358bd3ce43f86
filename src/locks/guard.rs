//! `LockGuard`: locks held as long as it lives.

use std::fmt;

use super::{Granted, Locks, Refusal, acquire::Behind, stats::CountedGuard};
use crate::lock::{Lock, LockToken};

/// Locks held by the application as long as this lives. Dropping it ends them, whatever their kind, without blocking:
/// at once where the store can, else in the background on the current tokio runtime.
///
/// ```
/// # use tower_lock::{LockRequest, Locks, MemoryStore};
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let locks = Locks::new(MemoryStore::new());
/// {
///     let _guard = locks.hold(LockRequest::exclusive("/docs/7")).await?;
///     assert!(locks.hold(LockRequest::exclusive("/docs/7")).await.is_err());
/// }
/// assert!(locks.hold(LockRequest::exclusive("/docs/7")).await.is_ok());
/// # Ok(()) }
/// ```
#[must_use = "the locks end when the guard is dropped"]
pub struct LockGuard {
    locks: Locks,
    held: Option<Granted>,
    _counted: CountedGuard,
}

impl LockGuard {
    pub(super) fn new(locks: Locks, held: Granted) -> Self {
        let _counted = CountedGuard::new(locks.clone());
        Self { locks, held: Some(held), _counted }
    }

    /// The only lock, or the first, as it was granted.
    #[must_use]
    pub fn lock(&self) -> &Lock {
        self.held().lock()
    }

    /// All locks, as they were granted.
    #[must_use]
    pub fn locks(&self) -> &[Lock] {
        self.held().locks()
    }

    /// The token of the only lock, or of the first.
    #[must_use]
    pub fn token(&self) -> LockToken {
        self.held().token()
    }

    /// The generation of the only lock, or of the first: a fencing number for whatever is written under it.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.lock().generation()
    }

    /// Lets the locks live on without the guard; they end when they expire, or are released by token.
    pub fn keep(mut self) -> Granted {
        self.held.take().expect("held until given away")
    }

    /// Ends the locks and waits for that.
    ///
    /// # Errors
    /// 503 when the store cannot answer; what is left then ends as on a drop.
    pub async fn release(mut self) -> Result<(), Refusal> {
        // They stay in the guard until all have ended: dropping this future in between must end the rest.
        for token in self.held().tokens() {
            self.locks.release(*token).await?;
        }
        self.held = None;
        Ok(())
    }

    fn held(&self) -> &Granted {
        self.held.as_ref().expect("held until given away")
    }
}

impl Drop for LockGuard {
    fn drop(&mut self) {
        if let Some(held) = self.held.take() {
            for token in held.into_parts().1 {
                self.locks.release_behind(token, Behind::Granted);
            }
        }
    }
}

impl fmt::Debug for LockGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LockGuard").field("locks", &self.held.as_ref().map(Granted::locks)).finish()
    }
}
