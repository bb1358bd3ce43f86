//! Refreshing, releasing and breaking, and how a lock is named for that.

use std::{borrow::Cow, time::Duration};

use super::{Activity, ActivityKind, Caller, Locks, Refusal, RefusalCode};
use crate::{
    lock::{HolderProof, Lock, LockId, LockToken, LostCause, ResourceKey},
    store::{Authority, FinalTerm, LockQuery, Refresh, Refreshed, Release, Released, Span, Which},
};

/// How a caller names one lock: by its token, by its id, or as the only one of theirs rooted at a resource.
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct Named {
    pub(super) token: Option<LockToken>,
    pub(super) id: Option<LockId>,
    pub(super) resource: Option<ResourceKey<'static>>,
}

impl Named {
    /// The lock with this token.
    pub fn token(token: LockToken) -> Self {
        Self { token: Some(token), ..Self::default() }
    }

    /// The lock with this id.
    pub fn id(id: LockId) -> Self {
        Self { id: Some(id), ..Self::default() }
    }

    /// The caller's only lock rooted at this resource; with a token or an id, a resource that the lock must cover.
    pub fn at(mut self, resource: ResourceKey<'static>) -> Self {
        self.resource = Some(resource);
        self
    }

    /// The lock with this id; with a token, that token's lock, which must cover what this one is rooted at.
    pub fn and_id(mut self, id: LockId) -> Self {
        self.id = Some(id);
        self
    }

    /// The same, by this token.
    pub fn and_token(mut self, token: LockToken) -> Self {
        self.token = Some(token);
        self
    }

    /// No lock yet.
    pub fn nothing() -> Self {
        Self::default()
    }
}

impl From<LockId> for Named {
    fn from(id: LockId) -> Self {
        Self::id(id)
    }
}

impl From<LockToken> for Named {
    fn from(token: LockToken) -> Self {
        Self::token(token)
    }
}

/// A lock that lives on.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Refreshment {
    /// The lock.
    pub lock: Lock,
    /// Whether this was the last time: its total life ends with this term.
    pub final_term: FinalTerm,
}

impl Locks {
    /// Restarts a lock's lifetime: `None` for as long as it was last given. The caller is the application.
    ///
    /// # Errors
    /// The [`Refusal`] that would be answered over HTTP: 412 `lock_lost`, 503.
    pub async fn refresh(&self, token: LockToken, lifetime: Option<Duration>) -> Result<Refreshment, Refusal> {
        let span = lifetime.map_or(Span::Same, Span::For);
        self.refresh_for(&Caller::application(None), Named::token(token), span).await
    }

    /// Ends a lock by its token. One that is gone already, or was never granted, is as good as ended: its token will not
    /// be granted any more. The caller is the application.
    ///
    /// # Errors
    /// The [`Refusal`] that would be answered over HTTP: 503.
    pub async fn release(&self, token: LockToken) -> Result<Option<Lock>, Refusal> {
        self.release_for(&Caller::application(None), Named::token(token)).await
    }

    /// Restarts the lifetime of a lock on behalf of `caller`, who must prove to hold it.
    ///
    /// # Errors
    /// 400 when no lock is named, 403 when it is not the caller's, 412 when it is gone or does not cover the resource.
    pub async fn refresh_for(&self, caller: &Caller, named: Named, span: Span) -> Result<Refreshment, Refusal> {
        let token = named.token;
        match self.refresh_named(caller, named, span).await {
            Ok(refreshment) => {
                let activity = Activity::new(ActivityKind::Refreshed, caller).of(&refreshment.lock);
                self.note(&token.as_ref().map_or(activity, |token| activity.under(token)));
                Ok(refreshment)
            }
            Err(refusal) => Err(self.noted(caller, refusal)),
        }
    }

    pub(super) async fn refresh_named(&self, caller: &Caller, named: Named, span: Span) -> Result<Refreshment, Refusal> {
        if span == Span::For(Duration::ZERO) {
            return Err(Refusal::bad_request("timeout: a lock lives for a second at least"));
        }
        let lock = self.one_named(caller, &named, Purpose::Refresh).await?;
        let authority = self.authority(caller, &lock, Purpose::Refresh)?;
        let refresh = Refresh::new(lock.which(), authority, span).covering(lock.covering());
        let limit = self.limits().answer_within;
        let answer = self.answered_within(limit, "refreshing a lock", self.store().refresh(&refresh)).await;
        match answer.map_err(|error| self.store_failed(error))? {
            Refreshed::Refreshed(lock, final_term) => Ok(Refreshment { lock, final_term }),
            Refreshed::Lost(lost) => Err(self.lock_lost(caller, named.resource.as_ref(), vec![lost], Vec::new(), false)),
            Refreshed::NotHolder => Err(Refusal::forbidden("You do not hold this lock.")),
        }
    }

    /// Ends a lock on behalf of `caller`, who must hold it; answers it, or nothing where it was gone already.
    ///
    /// # Errors
    /// 400 when no lock is named, 403 when it is not the caller's, 404 when none has this id, 409 when it does not cover
    /// the resource.
    pub async fn release_for(&self, caller: &Caller, named: Named) -> Result<Option<Lock>, Refusal> {
        match self.release_named(caller, named).await {
            Ok(Some(lock)) => {
                self.note(&Activity::new(ActivityKind::Released, caller).of(&lock));
                Ok(Some(lock))
            }
            Ok(None) => Ok(None),
            Err(refusal) => Err(self.noted(caller, refusal)),
        }
    }

    async fn release_named(&self, caller: &Caller, named: Named) -> Result<Option<Lock>, Refusal> {
        let lock = self.one_named(caller, &named, Purpose::Release).await?;
        let authority = self.authority(caller, &lock, Purpose::Release)?;
        let release = Release::new(lock.which(), authority).covering(lock.covering());
        self.released(caller, named.resource.as_ref(), &release).await
    }

    async fn released(
        &self,
        caller: &Caller,
        resource: Option<&ResourceKey<'_>>,
        release: &Release<'_>,
    ) -> Result<Option<Lock>, Refusal> {
        let limit = self.limits().answer_within;
        let answer = self.answered_within(limit, "ending a lock", self.store().release(release)).await;
        match answer.map_err(|error| self.store_failed(error))? {
            Released::Released(lock) | Released::Breaking(lock) => Ok(Some(lock)),
            Released::Lost(lost) if lost.cause == LostCause::OutOfScope => Err(not_covered(resource)),
            Released::Lost(_) if matches!(release.which, Which::Token(_)) => Ok(None),
            Released::Lost(_) => Err(no_such_lock()),
            Released::NotHolder if !caller.is_application() && matches!(release.which, Which::Id(_)) => {
                Err(Refusal::forbidden("You do not hold a lock with this id."))
            }
            Released::NotHolder => Err(Refusal::forbidden("You do not hold this lock.")),
        }
    }

    /// The one lock that `named` means.
    async fn one_named<'n>(&self, caller: &Caller, named: &'n Named, purpose: Purpose) -> Result<One<'n>, Refusal> {
        let resource = named.resource.as_ref().map(Cow::Borrowed);
        match (&named.token, named.id) {
            (Some(token), None) => return Ok(One::Token(token, resource)),
            (None, Some(id)) if caller.is_application() => return Ok(One::Id(id, resource)),
            (None, Some(id)) => {
                self.by_id(caller, id).await?.ok_or_else(no_such_lock)?;
                return Ok(One::Id(id, resource));
            }
            (Some(token), Some(id)) => {
                return match (self.by_id(caller, id).await?, purpose) {
                    (Some(lock), _) => Ok(One::Token(token, resource.or_else(|| Some(Cow::Owned(lock.root().clone()))))),
                    // As good as ended; the token is burnt all the same.
                    (None, Purpose::Release) => Ok(One::Token(token, resource)),
                    (None, Purpose::Refresh) => Err(no_such_lock()),
                };
            }
            (None, None) => {}
        }
        let Some(resource) = &named.resource else {
            return Err(Refusal::bad_request("no lock is named: submit its token"));
        };
        if caller.principal().is_none() && !self.tokenless_proof() {
            return Err(Refusal::bad_request("no lock is named: submit its token in `If` or `Lock-Token`").about(resource));
        }
        // Two are enough to know that it is not the only one.
        let mut own = Vec::new();
        let mut query = LockQuery::at_or_below(resource.borrowed()).held_by(caller.principal()).limit(100);
        loop {
            let page = self.found(&query).await?;
            own.extend(page.locks.iter().filter(|lock| lock.root() == resource).map(Lock::id));
            // Roots come in order: those at the resource itself come first.
            match page.next {
                Some(cursor) if own.len() < 2 && cursor.root() == resource.path() => query = query.after(cursor),
                _ => break,
            }
        }
        match own[..] {
            [id] => Ok(One::Id(id, None)),
            [] => {
                Err(Refusal::bad_request(format!("you hold no lock rooted at {resource}: submit a token")).about(resource))
            }
            _ => Err(Refusal::bad_request(format!("you hold several locks on {resource}: submit a token")).about(resource)),
        }
    }

    /// By what right `caller` acts on the lock that they named.
    fn authority<'a>(&'a self, caller: &'a Caller, lock: &One<'_>, purpose: Purpose) -> Result<Authority<'a>, Refusal> {
        let holder = Authority::Holder { principal: caller.principal(), proof: &self.policy().proof };
        match (lock, caller.principal()) {
            _ if caller.is_application() => Ok(Authority::Guard),
            (One::Token(..), _) => Ok(holder),
            _ if self.tokenless_proof() => Ok(holder),
            (One::Id(..), Some(principal)) if purpose == Purpose::Release => Ok(Authority::Principal(principal)),
            (One::Id(..), _) => Err(Refusal::bad_request("submit the token of the lock in `If` or `Lock-Token`")),
        }
    }

    /// Whether a holder can prove itself without a token.
    fn tokenless_proof(&self) -> bool {
        matches!(self.policy().proof, HolderProof::Principal | HolderProof::Custom(_))
    }
}

pub(super) fn no_such_lock() -> Refusal {
    Refusal::new(RefusalCode::NoSuchLock, "There is no lock with this id.")
}

/// 409: a lock is named through a resource that it does not cover.
pub(super) fn not_covered(resource: Option<&ResourceKey<'_>>) -> Refusal {
    let refusal = Refusal::new(RefusalCode::NotCovered, "This lock does not cover the named resource.");
    match resource {
        Some(resource) => refusal.about(resource),
        None => refusal,
    }
}

/// What a lock is named for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Purpose {
    /// To live on: only its holder can say so.
    Refresh,
    /// To end: its principal may, also one who has lost the token.
    Release,
}

/// One lock, named for the store, with a resource that it must cover.
enum One<'n> {
    Token(&'n LockToken, Option<Cow<'n, ResourceKey<'static>>>),
    Id(LockId, Option<Cow<'n, ResourceKey<'static>>>),
}

impl One<'_> {
    fn which(&self) -> Which<'_> {
        match self {
            Self::Token(token, _) => Which::Token(token),
            Self::Id(id, _) => Which::Id(*id),
        }
    }

    fn covering(&self) -> Option<&ResourceKey<'_>> {
        match self {
            Self::Token(_, resource) | Self::Id(_, resource) => resource.as_deref(),
        }
    }
}
