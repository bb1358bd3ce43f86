//! `RemoteGuard`: locks held over HTTP, and kept alive, as long as it lives.

mod keeper;
mod standing;

use std::{fmt, future::Future, sync::Arc};

use http::{HeaderName, Request};
use tokio::{runtime::Handle, task::AbortHandle, time::Instant};

use self::{keeper::Keeper, standing::Standing};
use super::{
    Loss, RemoteError, RemoteLocks, SeenLock,
    terms::Life,
    wire::{Grant, Name, Refreshed, secret},
};
use crate::lock::LockToken;

/// Locks held over HTTP as long as this lives, and kept alive; from [`RemoteLocks::acquire`]. Dropping it ends them in the
/// background, on a tokio runtime.
///
/// # Kept alive
///
/// One task for each guard, on the runtime that it was acquired on, refreshes each lock (PATCH) at a third of what it
/// has to live, ten per cent more or less, and after five minutes at the latest. A server that does not answer is asked
/// again with growing pauses as long as the lock can still live: a guard survives an outage that is shorter than what
/// is left. At the end of its total life (`"final": true`) a refresh changes nothing, and goes on being sent to hear of a
/// break: [`is_final`](Self::is_final).
///
/// # Lost all the same
///
/// The server may say that the lock is gone (412, 410, 404), by whom and why it was broken; or nothing was heard of it
/// for so long that it must be taken for expired. That is reckoned from before each request was sent, by this process's
/// monotonic clock, one second less than the server says where that may have been rounded up, and a thousandth less for
/// clocks that do not go alike: the guard never holds a lock longer than the server does, as far as it was told. Ask
/// it: [`lost`](Self::lost) to select on, [`checkpoint`](Self::checkpoint) before each step that must not happen
/// without the lock. What is lost stays lost. With several locks, the first one lost counts.
///
/// What it cannot know: a break is heard of at the next refresh, not at once, and on many systems the monotonic clock
/// stands still while the machine sleeps. What must not happen after that is for the server to refuse: send the token
/// with each write ([`authorize`](Self::authorize)), and the [generation](SeenLock::generation) to what can compare it.
#[must_use = "the locks end when the guard is dropped"]
pub struct RemoteGuard {
    locks: RemoteLocks,
    grants: Vec<Grant>,
    life: Option<Life>,
    standing: Arc<Standing>,
    /// The runtime that it was acquired on.
    runtime: Option<Handle>,
    keeper: Option<AbortHandle>,
    /// What is to be ended with it.
    held: Vec<Name>,
}

impl RemoteGuard {
    /// Holds what was granted to somebody who asked at this time. Nothing keeps it alive yet.
    pub(super) fn new(locks: RemoteLocks, grants: Vec<Grant>, life: Option<Life>, asked: Instant) -> Self {
        let standing = Arc::new(Standing::new(&grants, asked));
        let held = grants.iter().map(|grant| grant.name.clone()).collect();
        Self { locks, grants, life, standing, runtime: Handle::try_current().ok(), keeper: None, held }
    }

    /// The same, kept alive. What took long to be granted is refreshed first, before anybody reckons that it must be
    /// over by now.
    pub(super) async fn assured(mut self) -> Result<Self, RemoteError> {
        for (at, grant) in self.grants.iter().enumerate() {
            let sent = Instant::now();
            let Some(deadline) = self.standing.deadline_of(at) else { continue };
            let Some(left) = grant.left.filter(|left| deadline.saturating_duration_since(sent) < *left - *left / 3) else {
                continue;
            };
            match self.locks.refresh(grant, self.life, self.locks.patience().min(left)).await {
                Refreshed::Alive(alive) => self.standing.lives_on(at, &alive, sent),
                Refreshed::Gone(refused) => return Err(RemoteError::Refused(refused)),
                Refreshed::Failed(error) if self.standing.is_lost(at) => return Err(error),
                // It is kept alive by the task.
                Refreshed::Failed(_) => {}
            }
        }
        let keeper = Keeper::new(&self.locks, &self.standing, &self.grants, self.life);
        self.keeper = self.runtime.as_ref().map(|runtime| runtime.spawn(keeper).abort_handle());
        Ok(self)
    }

    /// The only lock, or the first, as it was granted.
    #[must_use]
    pub fn lock(&self) -> &SeenLock {
        &self.grants[0].lock
    }

    /// All locks, as they were granted, in the order that they were asked for.
    pub fn locks(&self) -> impl ExactSizeIterator<Item = &SeenLock> {
        self.grants.iter().map(|grant| &grant.lock)
    }

    /// The token of the only lock, or of the first.
    #[must_use]
    pub fn token(&self) -> LockToken {
        self.grants[0].name.token
    }

    /// All tokens, in the order that the locks were asked for.
    pub fn tokens(&self) -> impl ExactSizeIterator<Item = LockToken> + '_ {
        self.grants.iter().map(|grant| grant.name.token)
    }

    /// Submits the tokens with a request (`If`, RFC 4918 section 10.4), and marks the field as sensitive. A request
    /// that is already conditional keeps its `If`; the token of the only lock, or of the first, goes into `Lock-Token`
    /// then.
    ///
    /// The server refuses it with 412 once the lock on what it writes is gone. Of several locks, one is enough for that
    /// condition.
    pub fn authorize<B>(&self, request: &mut Request<B>) {
        let name = HeaderName::from_static("if");
        let field = if request.headers().contains_key(&name) {
            (HeaderName::from_static("lock-token"), format!("<{}>", self.token().urn()))
        } else {
            let lists: Vec<String> = self.tokens().map(|token| format!("(<{}>)", token.urn())).collect();
            (name, lists.join(" "))
        };
        if let Some(value) = secret(field.1) {
            request.headers_mut().insert(field.0, value);
        }
    }

    /// Whether a lock is lost, as far as is known here: see [`checkpoint`](Self::checkpoint).
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.standing.check().is_some()
    }

    /// Nothing, as long as all locks are held as far as is known here. Asks nobody, so it costs next to nothing.
    ///
    /// # Errors
    /// How a lock was lost.
    pub fn checkpoint(&self) -> Result<(), Loss> {
        self.standing.check().map_or(Ok(()), Err)
    }

    /// How a lock was lost, as soon as one is.
    ///
    /// Can be awaited many times, at the same time, from other tasks, and dropped at any moment. It outlives the guard:
    /// once that has ended its locks, or given them away, they count as released.
    pub fn lost(&self) -> impl Future<Output = Loss> + Send + use<> {
        let standing = self.standing.clone();
        async move { standing.until_lost().await }
    }

    /// Who is breaking a lock, and why, where a grace period was given: until the [deadline](Self::deadline) it is held, but
    /// not refreshed any more.
    #[must_use]
    pub fn breaking(&self) -> Option<Loss> {
        self.standing.breaking()
    }

    /// Whether a lock is in its last term: it ends at its [deadline](Self::deadline), and no refresh changes that.
    #[must_use]
    pub fn is_final(&self) -> bool {
        self.standing.is_last_term()
    }

    /// When the first of the locks must be taken for lost unless it is refreshed before; none when all are endless.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.standing.deadline()
    }

    /// Lets the locks live on without the guard; they end when they expire, or are released with these tokens.
    pub fn keep(mut self) -> Vec<LockToken> {
        self.held.clear();
        self.tokens().collect()
    }

    /// Ends the locks and waits for that. What is gone already counts as ended.
    ///
    /// # Errors
    /// The server says no, or could not be reached; what is left is then ended as on a drop. So it is where this future is
    /// dropped.
    pub async fn release(mut self) -> Result<(), RemoteError> {
        self.abandon();
        while let Some(name) = self.held.last() {
            self.locks.end(name, self.locks.most_attempts()).await?;
            self.held.pop();
        }
        Ok(())
    }

    /// Nothing is kept alive from here on.
    fn abandon(&mut self) {
        if let Some(keeper) = self.keeper.take() {
            keeper.abort();
        }
    }
}

impl Drop for RemoteGuard {
    fn drop(&mut self) {
        self.abandon();
        let until = self.standing.last_deadline();
        self.standing.end();
        // Dropped outside of any runtime, the one that kept the locks alive will do.
        let runtime = Handle::try_current().ok().or_else(|| self.runtime.take());
        if let Some(runtime) = runtime.filter(|_| !self.held.is_empty()) {
            self.locks.end_behind(std::mem::take(&mut self.held), until, &runtime);
        }
    }
}

impl fmt::Debug for RemoteGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteGuard").field("locks", &self.locks().collect::<Vec<_>>()).finish_non_exhaustive()
    }
}
