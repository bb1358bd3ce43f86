//! `LockGuard`: locks held, and kept alive, as long as it lives.

mod keeper;
mod standing;

use std::{fmt, future::Future, sync::Arc};

use tokio::{runtime::Handle, task::AbortHandle};

use self::{
    keeper::Keeper,
    standing::{End, Standing, left},
};
use super::{Granted, Locks, Refusal, RefusalCode, acquire::Behind, stats::CountedGuard};
use crate::lock::{Lock, LockToken, Timestamp};

/// Locks held by the application as long as this lives, and kept alive. Dropping it ends them, whatever their kind, without
/// blocking: at once where the store can, else in the background on a tokio runtime.
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
///
/// # Kept alive
///
/// One task for each guard, on the tokio runtime that it was made on (which needs timers), refreshes each lock at a third of
/// its lifetime, ten per cent more or less. A store that fails is asked again with growing pauses as long as the lock can
/// still live; a guard survives an outage that is shorter than what is left. A lock at the end of its total life is not
/// refreshed any more. Made outside of a runtime, or where that is gone, a guard keeps nothing alive: its locks end when
/// they expire.
///
/// # Lost all the same
///
/// A lock can be broken, replaced or cleared, its total life can end, the store can be away for too long. The guard hears
/// of it by watching, and it reckons for itself, from before each request was sent, when a lock must be over if nothing more
/// is heard of the store. Ask it: [`lost`](Self::lost) to select on, [`checkpoint`](Self::checkpoint) before each step that
/// must not happen without the lock. What is lost stays lost. With several locks, the first one lost counts.
///
/// ```
/// # use std::time::Duration;
/// # use tower_lock::{Caller, LockRequest, Locks, MemoryStore, Principal};
/// # async fn export_page(_: u32) {}
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let locks = Locks::new(MemoryStore::new());
/// let guard = locks.hold(LockRequest::exclusive("/docs/7").reason("nightly export")).await?;
/// let export = async {
///     for page in 0.. {
///         guard.checkpoint()?;
///         export_page(page).await;
///         # tokio::task::yield_now().await;
///     }
///     Ok::<_, tower_lock::Refusal>(())
/// };
/// # let admin = Caller::application(Some(Principal::new("admin")));
/// # _ = locks.break_for(&admin, guard.lock().id().into(), "maintenance", Duration::ZERO).await?;
/// tokio::select! {
///     result = export => assert_eq!(result.unwrap_err().to_string(), guard.checkpoint().unwrap_err().to_string()),
///     refusal = guard.lost() => {
///         assert!(refusal.to_string().starts_with("Your lock on /docs/7 was broken by admin (maintenance)"));
///     }
/// }
/// # Ok(()) }
/// ```
#[must_use = "the locks end when the guard is dropped"]
pub struct LockGuard {
    locks: Locks,
    held: Option<Granted>,
    standing: Arc<Standing>,
    keeper: Option<(Handle, AbortHandle)>,
    _counted: CountedGuard,
}

impl LockGuard {
    pub(super) fn new(locks: Locks, held: Granted) -> Self {
        let mut guard = Self::of(locks, held);
        guard.keep_alive();
        guard
    }

    /// The same, for what was granted just now, and may have taken long: it is refreshed before anybody reckons that it must
    /// be over by now.
    pub(super) async fn assured(locks: Locks, held: Granted) -> Result<Self, Refusal> {
        let mut guard = Self::of(locks, held);
        guard.refresh_what_took_long().await?;
        guard.keep_alive();
        Ok(guard)
    }

    fn of(locks: Locks, held: Granted) -> Self {
        let standing = Arc::new(Standing::new(locks.clone(), held.locks(), held.asked));
        let _counted = CountedGuard::new(locks.clone());
        Self { locks, held: Some(held), standing, keeper: None, _counted }
    }

    /// Starts the task.
    fn keep_alive(&mut self) {
        self.keeper = Handle::try_current().ok().map(|runtime| {
            let held = self.held();
            let keeper = Keeper::new(&self.standing, held.locks(), held.tokens(), held.asked);
            let task = runtime.spawn(keeper).abort_handle();
            (runtime, task)
        });
    }

    async fn refresh_what_took_long(&self) -> Result<(), Refusal> {
        let asked = self.held().asked;
        for at in 0..self.locks().len() {
            let now = self.locks.clock().now();
            if left(&self.locks()[at]).is_none_or(|left| now < asked.after(left / 3)) {
                continue;
            }
            match self.locks.refresh(self.held().tokens()[at], None).await {
                Ok(refreshed) => self.standing.lives_on(at, &refreshed.lock, now),
                Err(refusal) if refusal.code() == RefusalCode::LockLost => return Err(refusal),
                // It is kept alive by the task, if by anything.
                Err(_) => {}
            }
        }
        Ok(())
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

    /// Whether all locks are held, as far as is known here: see [`checkpoint`](Self::checkpoint).
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.standing.check().is_none()
    }

    /// Nothing, as long as all locks are held as far as is known here. Asks no store, so it costs next to nothing.
    ///
    /// # Errors
    /// 412 `lock_lost`, with who and why where that is known ([`Refusal::lost`]). Also when nothing was heard of the store
    /// for so long that a lock must be taken for expired.
    pub fn checkpoint(&self) -> Result<(), Refusal> {
        self.standing.check().map_or(Ok(()), Err)
    }

    /// The refusal that [`checkpoint`](Self::checkpoint) will give, as soon as a lock is lost.
    ///
    /// Can be awaited many times, at the same time, from other tasks, and dropped at any moment. It outlives the guard:
    /// once that has ended its locks the refusal says that they were released.
    pub fn lost(&self) -> impl Future<Output = Refusal> + Send + use<> {
        let standing = self.standing.clone();
        async move { standing.until_lost().await }
    }

    /// Why the locks are about to be lost, as soon as somebody begins to break one with a grace period: until
    /// [`deadline`](Self::deadline) it is held, but no longer refreshed. Where a lock is lost without that, the refusal of
    /// [`lost`](Self::lost).
    pub fn breaking(&self) -> impl Future<Output = Refusal> + Send + use<> {
        let standing = self.standing.clone();
        async move { standing.until_breaking().await }
    }

    /// When the first of the locks must be taken for lost unless it is refreshed before, by the clock of the [`Locks`] and
    /// reckoned from before the store was asked; none when all are endless. Moves on with every refresh, and no more once
    /// a break with a grace period has begun.
    #[must_use]
    pub fn deadline(&self) -> Option<Timestamp> {
        self.standing.deadline()
    }

    /// Lets the locks live on without the guard; they end when they expire, or are released by token.
    pub fn keep(mut self) -> Granted {
        self.abandon();
        self.standing.end(End::Kept);
        self.held.take().expect("held until given away")
    }

    /// Ends the locks and waits for that.
    ///
    /// # Errors
    /// 503 when the store cannot answer; what is left then ends as on a drop.
    pub async fn release(mut self) -> Result<(), Refusal> {
        self.abandon();
        // They stay in the guard until all have ended: dropping this future in between must end the rest.
        for token in self.held().tokens() {
            self.locks.release(*token).await?;
        }
        self.standing.end(End::Released);
        self.held = None;
        Ok(())
    }

    /// Nothing is kept alive from here on.
    fn abandon(&self) {
        if let Some((_, task)) = &self.keeper {
            task.abort();
        }
    }

    fn held(&self) -> &Granted {
        self.held.as_ref().expect("held until given away")
    }
}

impl Drop for LockGuard {
    fn drop(&mut self) {
        let Some(held) = self.held.take() else { return };
        self.abandon();
        self.standing.end(End::Released);
        // Dropped outside of any runtime, the one that kept the locks alive will do.
        let here = Handle::try_current().is_ok();
        let _entered = self.keeper.as_ref().filter(|_| !here).map(|(runtime, _)| runtime.enter());
        for token in held.into_parts().1 {
            self.locks.release_behind(token, Behind::Granted);
        }
    }
}

impl fmt::Debug for LockGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LockGuard").field("locks", &self.held.as_ref().map(Granted::locks)).finish()
    }
}
