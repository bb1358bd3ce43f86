//! `After`: what is to be done once an admitted write has been answered.

use std::borrow::Cow;

use http::{HeaderMap, HeaderValue, Request, StatusCode};

use super::{
    Admission,
    ending::Ending,
    layer::{Fence, Options},
};
use crate::{
    lock::{Gone, Lock, Principal},
    locks::{Activity, ActivityKind, Incident, Locks, Origin, OwnLocks, Refusal},
    request::{LockPreference, Preferences, RequestView},
    store::{Admitted, Permit, StoreError, StoreFuture, WriteId},
};

/// Ends the locks of what is gone; renews or ends the writer's own, where that is wanted; says which preferences of the
/// client were heeded (RFC 7240 section 3).
pub(crate) struct After {
    locks: Locks,
    gone: Vec<Gone<'static>>,
    /// The locks that go with it, as far as they were answered for, and on whose behalf.
    taken: Vec<Lock>,
    actor: Option<Principal>,
    own: Option<(OwnLocks, LockPreference)>,
    applied: Vec<HeaderValue>,
}

impl After {
    /// What is to be done after a write that `answered` answered for: once `gone` is gone, and with the writer's own locks, as
    /// the client prefers, else as `usual`. Nothing where none of the locks is taken along and nothing is preferred, so that
    /// an unlocked DELETE has no second trip. A lock that is not `free` is not released: it answered for more than was done.
    pub(crate) fn of(
        locks: &Locks,
        request: RequestView<'_>,
        answered: &[Lock],
        gone: Vec<Gone<'static>>,
        usual: Option<LockPreference>,
        free: impl Fn(&Lock) -> bool,
    ) -> Option<Box<Self>> {
        if answered.is_empty() || (gone.is_empty() && usual.is_none() && !Preferences::are_in(request.headers)) {
            return None;
        }
        let taken = |lock: &&Lock| gone.iter().any(|gone| gone.takes(lock.root()));
        let taken: Vec<Lock> = answered.iter().filter(taken).cloned().collect();
        let asked = Preferences::of(request.headers).lock;
        let wanted = asked.or(usual);
        if taken.is_empty() && wanted.is_none() {
            return None;
        }
        let wanted = wanted.filter(|wanted| *wanted != LockPreference::Keep);
        let mut own = Cow::Borrowed(answered);
        if wanted == Some(LockPreference::Release) && !answered.iter().all(&free) {
            own.to_mut().retain(free);
        }
        let heeded = asked.filter(|asked| *asked != LockPreference::Release || own.len() == answered.len());
        Some(Box::new(Self {
            locks: locks.clone(),
            gone: if taken.is_empty() { Vec::new() } else { gone },
            actor: locks.policy().principal.as_ref().and_then(|principal| principal(&request)),
            taken,
            own: wanted.map(|wanted| (OwnLocks::of(locks, request, &own), wanted)),
            applied: heeded.and_then(|heeded| HeaderValue::try_from(format!("lock={heeded}")).ok()).into_iter().collect(),
        }))
    }

    /// Nothing is to be done: only [`stopped`](Self::stopped) has a use.
    pub(super) fn nothing(locks: &Locks) -> Self {
        Self { locks: locks.clone(), gone: Vec::new(), taken: Vec::new(), actor: None, own: None, applied: Vec::new() }
    }

    /// The write was stopped half-way, and this is the answer: tells so.
    pub(super) fn stopped(&self, refusal: &mut Refusal) {
        self.locks.answered_with(None, refusal);
    }

    /// Tells that the locks could not be ended. The resources are gone all the same, so the answer stands, and the locks
    /// expire.
    pub(crate) fn failed(&self, error: &StoreError) {
        for gone in &self.gone {
            self.locks.report(&Incident::LocksLeft { path: gone.key.path(), error });
        }
    }

    /// Whether a response says that the resource is gone now: 2xx, but neither 202 (not yet) nor 207 (not all of it).
    pub(crate) fn is_due(status: StatusCode) -> bool {
        status.is_success() && status != StatusCode::ACCEPTED && status != StatusCode::MULTI_STATUS
    }

    /// Ends the locks. A store that takes longer than [`Limits::answer_within`](crate::Limits::answer_within) has failed:
    /// the service has answered, and its answer cannot wait for ever.
    pub(crate) fn clear(&self, under: Option<WriteId>) -> StoreFuture<usize> {
        match self.locks.store().clear(&self.gone, under).into_ready() {
            Ok(answer) => {
                if answer.is_ok() {
                    tell_cleared(&self.locks, &self.taken, self.actor.as_ref());
                }
                answer.into()
            }
            Err(pending) => {
                let (locks, taken, actor) = (self.locks.clone(), self.taken.clone(), self.actor.clone());
                StoreFuture::new(async move {
                    let limit = locks.limits().answer_within;
                    let ended = locks.answered_within(limit, "ending the locks of what is gone", pending).await?;
                    tell_cleared(&locks, &taken, actor.as_ref());
                    Ok(ended)
                })
            }
        }
    }

    /// Says in the head of the answer what was heeded. Of a write that did not succeed no lock is released.
    pub(crate) fn mark(&self, status: StatusCode, headers: &mut HeaderMap) {
        let released = Self::is_due(status);
        for applied in self.applied.iter().filter(|applied| released || **applied != "lock=release") {
            headers.append("preference-applied", applied.clone());
        }
    }

    /// All of it, for a write that a future of its own sees through: the locks of what is gone end, with the permit still held so
    /// that nobody is granted what is being cleared; then the write does; then the writer's own locks are seen to. What fails
    /// has been told of.
    #[cfg(any(feature = "webdav", feature = "batch"))]
    pub(crate) async fn carry_out(&self, status: StatusCode, permit: Permit) {
        if let Some(cleared) = self.start_clearing(status, permit.id())
            && let Err(error) = cleared.await
        {
            self.failed(&error);
        }
        drop(permit);
        if let Some(own) = self.start_own(status) {
            let _told = own.await;
        }
    }

    /// The locks of what is gone are ended, where the answer says that it is.
    pub(crate) fn start_clearing(&self, status: StatusCode, under: Option<WriteId>) -> Option<StoreFuture<usize>> {
        (Self::is_due(status) && !self.gone.is_empty()).then(|| self.clear(under))
    }

    /// The same permit, at whose end the writer's own locks end, if they are to: for a write that goes on when it has been
    /// answered, and must not do so without its lock.
    pub(crate) fn release_at_the_end(&mut self, status: StatusCode, permit: Permit) -> Permit {
        match &self.own {
            Some((_, LockPreference::Release)) if Self::is_due(status) => {}
            _ => return permit,
        }
        match self.own.take() {
            Some((own, _)) => Ending::permit(self.locks.clone(), own, permit),
            None => permit,
        }
    }

    /// The writer's own locks are renewed, whatever the answer: who writes is alive. Or they end, where it has succeeded.
    pub(crate) fn start_own(&self, status: StatusCode) -> Option<StoreFuture<()>> {
        let (own, wanted) = self.own.as_ref()?;
        (*wanted == LockPreference::Renew || Self::is_due(status)).then(|| own.apply(&self.locks, *wanted))
    }
}

/// Tells that `taken` went with their resources.
pub(crate) fn tell_cleared(locks: &Locks, taken: &[Lock], actor: Option<&Principal>) {
    for lock in taken {
        locks.note(&Activity::by(ActivityKind::Cleared, Origin::Remote, actor).of(lock));
    }
}

impl Options {
    /// Puts an [`Admission`] into a request that is admitted, where it is to have one.
    pub(crate) fn announce<B>(self, request: &mut Request<B>, admitted: &Admitted) {
        if self.fence == Fence::All || admitted.answered.is_some() {
            request.extensions_mut().insert(Admission::of(admitted));
        }
    }
}

/// What an admitted request takes along, and what is to be done once it has been answered. `heeded` is what was done for
/// the client before.
pub(super) fn prepare<B>(
    request: &mut Request<B>,
    admitted: &Admitted,
    locks: &Locks,
    options: Options,
    heeded: Option<HeaderValue>,
) -> Option<Box<After>> {
    options.announce(request, admitted);
    let answered = admitted.answered.as_deref().unwrap_or_default();
    let view = RequestView::of(request);
    let gone = if answered.is_empty() { Vec::new() } else { locks.gone_after(view) };
    let after = After::of(locks, view, answered, gone, options.own, |_| true);
    let Some(heeded) = heeded else { return after };
    let mut after = after.unwrap_or_else(|| Box::new(After::nothing(locks)));
    after.applied.push(heeded);
    Some(after)
}
