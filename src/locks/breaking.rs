//! Breaking: ending somebody else's lock, by who may, with a reason, at once or after a grace period.

use std::time::Duration;

use super::{
    Access, Action, Activity, ActivityKind, Caller, Locks, Named, Refusal, RefusalCode,
    manage::{no_such_lock, not_covered},
};
use crate::{
    lock::{Lock, LockId, LostCause, ResourceKey},
    store::{Authority, LockQuery, Release, Released, Which},
};

/// What came of a break.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum Broken {
    /// The lock has ended (200). This is what it was.
    Ended(Lock),
    /// It ends when the grace period does, at its `expires_at` (202). Until then its holder may write and not refresh, and
    /// nobody acquires.
    Breaking(Lock),
}

impl Broken {
    /// The lock.
    #[must_use]
    pub const fn lock(&self) -> &Lock {
        match self {
            Self::Ended(lock) | Self::Breaking(lock) => lock,
        }
    }
}

impl Locks {
    /// Breaks the lock with this id, whatever its kind, at once or after `grace`. The caller is the application. The holder
    /// is told `reason`: by its next write or refresh, and at once if it watches.
    ///
    /// # Errors
    /// 400 without a reason, 404 when there is no such lock, 503.
    pub async fn break_lock(&self, id: LockId, reason: &str, grace: Duration) -> Result<Broken, Refusal> {
        self.break_for(&Caller::application(None), Named::id(id), reason, grace).await
    }

    /// Breaks a lock on behalf of `caller`, at once or after `grace`; the authorizer decides. It is named by its id, or as
    /// the only one rooted at a resource that the caller may see. A second break may shorten the grace, and never lengthens
    /// it.
    ///
    /// # Errors
    /// 400 without a reason, or when several locks could be meant; 403 when the caller may not; 404 when there is no such lock
    /// that they may see; 409 when it does not cover the resource that is named too.
    pub async fn break_for(&self, caller: &Caller, named: Named, reason: &str, grace: Duration) -> Result<Broken, Refusal> {
        match self.break_named(caller, &named, reason, grace).await {
            Ok(broken) => {
                let kind = match broken {
                    Broken::Ended(_) => ActivityKind::Broken,
                    Broken::Breaking(_) => ActivityKind::Breaking,
                };
                self.note(&Activity::new(kind, caller).of(broken.lock()).because(Some(reason)));
                Ok(broken)
            }
            Err(refusal) => Err(self.noted(caller, refusal)),
        }
    }

    async fn break_named(&self, caller: &Caller, named: &Named, reason: &str, grace: Duration) -> Result<Broken, Refusal> {
        self.check_reason(reason)?;
        let lock = self.anybodys(caller, named).await?;
        if self.access(caller, Action::Break, &lock) != Access::Allowed {
            return Err(Refusal::forbidden("You may not break this lock."));
        }
        let authority = Authority::Break { actor: caller.principal(), reason, grace };
        let release = Release::new(Which::Id(lock.id()), authority).covering(named.resource.as_ref());
        let limit = self.limits().answer_within;
        let answer = self.answered_within(limit, "breaking a lock", self.store().release(&release)).await;
        match answer.map_err(|error| self.store_failed(error))? {
            Released::Released(lock) => Ok(Broken::Ended(lock)),
            Released::Breaking(lock) => Ok(Broken::Breaking(lock)),
            Released::Lost(lost) if lost.cause == LostCause::OutOfScope => Err(not_covered(named.resource.as_ref())),
            Released::Lost(_) => Err(no_such_lock()),
            Released::NotHolder => Err(Refusal::forbidden("You may not break this lock.")),
        }
    }

    /// A lock that is named by its id, or as the only one rooted at a resource, whoever holds it; of those that `caller` may
    /// see.
    pub(super) async fn anybodys(&self, caller: &Caller, named: &Named) -> Result<Lock, Refusal> {
        let seen = |lock: &Lock| self.access(caller, Action::See, lock) != Access::Denied;
        if let Some(id) = named.id {
            return self.by_id(caller, id).await?.filter(seen).ok_or_else(no_such_lock);
        }
        let Some(resource) = &named.resource else {
            return Err(Refusal::bad_request("lock_id: no lock is named"));
        };
        let mut locks = self.rooted_at(resource, seen).await?;
        match (locks.pop(), locks.is_empty()) {
            (Some(lock), true) => Ok(lock),
            (None, _) => {
                let detail = format!("There is no lock rooted at {resource}.");
                Err(Refusal::new(RefusalCode::NoSuchLock, detail).about(resource))
            }
            (Some(_), false) => {
                Err(Refusal::bad_request(format!("lock_id: several locks are rooted at {resource}")).about(resource))
            }
        }
    }

    /// The locks rooted at `resource` that `fit`: two of them at most, which is enough to know that there is not only one.
    pub(super) async fn rooted_at(
        &self,
        resource: &ResourceKey<'_>,
        fit: impl Fn(&Lock) -> bool,
    ) -> Result<Vec<Lock>, Refusal> {
        let (mut locks, mut query) = (Vec::new(), LockQuery::at_or_below(resource.borrowed()).limit(100));
        loop {
            let page = self.found(&query).await?;
            locks.extend(page.locks.into_iter().filter(|lock| lock.root() == resource && fit(lock)));
            locks.truncate(2);
            match page.next {
                // Roots come in order: those at the resource itself come first.
                Some(cursor) if locks.len() < 2 && cursor.root() == resource.path() => query = query.after(cursor),
                _ => return Ok(locks),
            }
        }
    }

    /// Who ends what is somebody else's has to say why.
    pub(super) fn check_reason(&self, reason: &str) -> Result<(), Refusal> {
        let (length, most) = (reason.len(), self.limits().owner_text);
        if reason.trim().is_empty() {
            return Err(Refusal::bad_request("reason: say why; the holder is told"));
        }
        if length > most {
            return Err(Refusal::bad_request(format!("reason: {length} bytes; at most {most}")));
        }
        Ok(())
    }
}
