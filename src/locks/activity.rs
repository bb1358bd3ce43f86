//! `Activity`: what happens to locks through one [`Locks`], told to a hook and counted.

use std::{fmt, sync::Arc};

use super::{Caller, Incident, Locks, Refusal, RefusalCode};
use crate::{
    lock::{Lock, LockId, LockToken, Principal},
    request::RequestView,
};

/// Something that happened to a lock, or that was refused. What [`LocksBuilder::on_activity`](super::LocksBuilder::on_activity)
/// is told, once for each lock.
///
/// Nothing is hidden from the hook, but for tokens: it is the application's own, for an audit trail, an alert, a graph.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub struct Activity<'a> {
    /// What happened.
    pub kind: ActivityKind,
    /// From where it was asked for.
    pub origin: Origin,
    /// On whose behalf; none is the anonymous caller, the application itself, or nobody (an expiry).
    pub actor: Option<&'a Principal>,
    /// The public handle of the lock, where there is one and it is known.
    pub lock_id: Option<LockId>,
    /// The lock, as far as it is known: not for a refusal, nor for a lock that was replaced by its token.
    pub lock: Option<&'a Lock>,
    /// The canonical path that it is about: the root of the lock, or the resource of a refusal.
    pub resource: Option<&'a str>,
    /// Why, in the words of who did it: the reason of the lock for what its holder does, that of the break for a break.
    pub reason: Option<&'a str>,
    /// The refusal, for [`ActivityKind::Refused`]; as the caller was told it, so it may be cut down.
    pub refusal: Option<&'a Refusal>,
    /// What the lock can be asked after by.
    pub(super) token: Option<&'a LockToken>,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ActivityKind {
    /// A lock was granted.
    Acquired,
    /// A lock granted before was answered again, to an acquire that proposed the same token.
    Repeated,
    /// A lock lives on.
    Refreshed,
    /// Its holder ended it.
    Released,
    /// Its time was up. Told by the [`Locks`] that granted it, as long as that lives and runs on a tokio runtime.
    Expired,
    /// A break with a grace period has begun.
    Breaking,
    /// Somebody who may ended it: at once, or at the end of the grace period.
    Broken,
    /// Another lock of its holder's took its place in one step.
    Replaced,
    /// It was handed to another principal. The lock is the new one.
    Transferred,
    /// Who it was handed to has got its token. The lock is the new one.
    Claimed,
    /// It went with its resource: deleted, moved away or overwritten.
    Cleared,
    /// A write, or something asked of a lock, was refused.
    Refused,
}

/// From where something was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Origin {
    /// The application's own code.
    InProcess,
    /// Somebody at the other end of a connection.
    Remote,
}

impl ActivityKind {
    /// The kind as one word: `acquired`, `refused`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Acquired => "acquired",
            Self::Repeated => "repeated",
            Self::Refreshed => "refreshed",
            Self::Released => "released",
            Self::Expired => "expired",
            Self::Breaking => "breaking",
            Self::Broken => "broken",
            Self::Replaced => "replaced",
            Self::Transferred => "transferred",
            Self::Claimed => "claimed",
            Self::Cleared => "cleared",
            Self::Refused => "refused",
        }
    }
}

impl Origin {
    /// The origin as one word: `in_process` or `remote`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InProcess => "in_process",
            Self::Remote => "remote",
        }
    }

    fn of(caller: &Caller) -> Self {
        if caller.is_application() { Self::InProcess } else { Self::Remote }
    }
}

impl fmt::Display for ActivityKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl<'a> Activity<'a> {
    /// `caller` did something.
    pub(crate) fn new(kind: ActivityKind, caller: &'a Caller) -> Self {
        Self::by(kind, Origin::of(caller), caller.principal())
    }

    /// The application itself did something, on behalf of `actor`.
    pub(crate) const fn by(kind: ActivityKind, origin: Origin, actor: Option<&'a Principal>) -> Self {
        Self { kind, origin, actor, lock_id: None, lock: None, resource: None, reason: None, refusal: None, token: None }
    }

    /// It was this lock; its own reason stands unless another is given later.
    #[must_use]
    pub(crate) fn of(mut self, lock: &'a Lock) -> Self {
        self.lock_id = Some(lock.id());
        self.lock = Some(lock);
        self.resource = Some(lock.root().path());
        self.reason = lock.reason();
        self
    }

    /// It was the lock with this id, of which no more is known, on `resource`.
    #[must_use]
    pub(crate) const fn about(mut self, lock_id: Option<LockId>, resource: &'a str) -> Self {
        self.lock_id = lock_id;
        self.resource = Some(resource);
        self
    }

    /// For this reason.
    #[must_use]
    pub(crate) const fn because(mut self, reason: Option<&'a str>) -> Self {
        self.reason = reason;
        self
    }

    /// The lock has this token: its expiry can be told, once its time is up.
    #[must_use]
    pub(crate) const fn under(mut self, token: &'a LockToken) -> Self {
        self.token = Some(token);
        self
    }

    /// The code of the refusal.
    #[must_use]
    pub fn code(&self) -> Option<RefusalCode> {
        self.refusal.map(Refusal::code)
    }
}

impl fmt::Debug for Activity<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Activity")
            .field("kind", &self.kind)
            .field("origin", &self.origin)
            .field("actor", &self.actor)
            .field("lock_id", &self.lock_id)
            .field("resource", &self.resource)
            .field("reason", &self.reason)
            .field("refusal", &self.refusal)
            .finish_non_exhaustive()
    }
}

/// One sentence for a log: `/docs/7: acquired by ann (nightly export)`.
impl fmt::Display for Activity<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.resource.unwrap_or("-"), self.kind)?;
        if let Some(actor) = self.actor {
            write!(f, " by {actor}")?;
        }
        if let Some(refusal) = self.refusal {
            write!(f, ": {} {refusal}", refusal.code())?;
        }
        match self.reason {
            Some(reason) => write!(f, " ({reason})"),
            None => Ok(()),
        }
    }
}

/// What makes events of what happens: set by the feature `tracing` alone.
#[derive(Clone, Copy)]
pub(crate) struct Traced {
    pub(crate) activity: fn(&Activity<'_>),
    pub(crate) incident: fn(&Incident<'_>),
}

pub(crate) type ActivityHook = Arc<dyn Fn(&Activity<'_>) + Send + Sync>;

impl Locks {
    /// Counts what happened, and tells the hook of it.
    ///
    /// ```text
    /// locks.note(&Activity::new(ActivityKind::Broken, caller).of(&lock).because(Some(reason)));
    /// ```
    #[cold]
    pub(crate) fn note(&self, activity: &Activity<'_>) {
        self.counters().count(activity);
        self.policy().heard(activity);
        if let Some(ledger) = &self.inner.ledger {
            ledger.note(self, activity);
        }
    }

    /// Counts and tells that `caller` was refused something, unless that has been told already.
    #[cold]
    pub(crate) fn note_refusal(&self, caller: &Caller, refusal: &mut Refusal) {
        self.sign(refusal);
        if refusal.tell_once() {
            self.note(&Activity {
                refusal: Some(refusal),
                resource: refusal.resource(),
                ..Activity::new(ActivityKind::Refused, caller)
            });
        }
    }

    /// The same, for what a function ends with.
    pub(crate) fn noted(&self, caller: &Caller, mut refusal: Refusal) -> Refusal {
        self.note_refusal(caller, &mut refusal);
        refusal
    }

    /// A refusal becomes the answer to `request`: counts and tells it, unless that has been done already. Not before: a
    /// write that waits may be refused many times, and go on in the end.
    #[cold]
    pub(crate) fn answered_with(&self, request: Option<RequestView<'_>>, refusal: &mut Refusal) {
        // Those that were made where no policy is at hand.
        self.sign(refusal);
        if !refusal.tell_once() {
            return;
        }
        let principal = self.policy().principal.as_ref().filter(|_| self.policy().is_heard());
        let actor = principal.zip(request).and_then(|(principal, request)| principal(&request));
        self.note(&Activity {
            refusal: Some(refusal),
            resource: refusal.resource(),
            ..Activity::by(ActivityKind::Refused, Origin::Remote, actor.as_ref())
        });
    }
}
