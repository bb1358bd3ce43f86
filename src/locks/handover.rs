//! Handing a lock over: `transfer` gives it to another principal without a token, and that principal claims the token, once.

use std::{sync::Arc, time::Duration};

use super::{
    Access, Action, Activity, ActivityKind, Caller, Granted, LockRequest, Locks, Named, Refusal, RefusalCode,
    limits::Asked,
    manage::{no_such_lock, not_covered},
    request::Replace,
};
use crate::{
    lock::{Claim, Lock, LockId, LockKind, LockParts, LockToken, Owner, Principal, rules},
    store::{Acquired, Lifetime, NewLock, Span},
};

/// To whom a lock is handed, and how.
///
/// ```
/// use tower_lock::{Owner, locks::Handover};
///
/// let handover = Handover::to("u-18").shown_as(Owner::id("u-18").named("Bob")).reason("ann is ill");
/// ```
#[derive(Clone, Debug)]
#[must_use = "nothing is handed over until this is given to `Locks::transfer_for`"]
pub struct Handover {
    to: Principal,
    owner: Option<Owner>,
    reason: Option<String>,
    lifetime: Asked,
}

impl Handover {
    /// To this principal, who has until the lock expires to claim its token.
    pub fn to(principal: impl Into<Principal>) -> Self {
        Self { to: principal.into(), owner: None, reason: None, lifetime: Asked::Default }
    }

    /// What others see of them; the principal's name unless said.
    pub fn shown_as(mut self, owner: Owner) -> Self {
        self.owner = Some(owner);
        self
    }

    /// Why, for the former holder. It has to be said where the lock is somebody else's.
    pub fn reason(mut self, reason: impl Into<String>) -> Self {
        self.reason = Some(reason.into());
        self
    }

    /// How long it lives from now; as long as its kind gives unless said.
    pub fn lifetime(mut self, span: Duration) -> Self {
        self.lifetime = Asked::For(span);
        self
    }

    /// Without an end, as far as its kind allows.
    pub fn endless(mut self) -> Self {
        self.lifetime = Asked::Endless;
        self
    }
}

/// The lock that is to be handed over, and by what right.
struct Given {
    lock: Lock,
    right: Replace,
    /// On whose behalf: whoever holds it, where the application hands it over.
    giver: Caller,
}

impl Locks {
    /// Hands the lock with this id over to `principal`. The caller is the application.
    ///
    /// # Errors
    /// As for [`Locks::transfer_for`].
    pub async fn transfer(&self, id: LockId, principal: impl Into<Principal>) -> Result<Lock, Refusal> {
        let handover = Handover::to(principal);
        self.transfer_for(&Caller::application(None), Named::id(id), handover).await
    }

    /// Hands a lock over, in one step: the old one ends with its token, and a new one of the same root, scope, depth, kind and
    /// words stands in its place, with a generation of its own. Writes under the old one are waited for. Nobody has the new
    /// token: whom the lock is for [claims](Locks::claim_for) it. Until then the lock blocks everybody, and it expires as any
    /// other does.
    ///
    /// The authorizer decides, over one's own lock too, named by its token, by its id, or as one's only one rooted at a
    /// resource. Somebody else's is broken by this, for a reason; the only one rooted at a resource, where one has none there.
    ///
    /// # Errors
    /// 400 when it is not clear which lock is meant, or a reason is missing; 403 when the caller may not; 404 when there is no
    /// such lock that they may see; 409 `write_in_progress`, or when it does not cover the resource that is named too; 412 when it is gone; 429 when the receiver holds as many as one
    /// may; 503.
    pub async fn transfer_for(&self, caller: &Caller, named: Named, handover: Handover) -> Result<Lock, Refusal> {
        match self.hand_over(caller, &named, &handover).await {
            Ok((lock, token)) => {
                let activity = Activity::new(ActivityKind::Transferred, caller).of(&lock).under(&token);
                self.note(&activity.because(handover.reason.as_deref()));
                Ok(lock)
            }
            Err(refusal) => Err(self.noted(caller, refusal)),
        }
    }

    /// Claims the lock with this id for `principal`, whom it was handed to. The caller is the application.
    ///
    /// # Errors
    /// As for [`Locks::claim_for`].
    pub async fn claim(&self, id: LockId, principal: impl Into<Principal>) -> Result<Granted, Refusal> {
        self.claim_for(&Caller::application(Some(principal.into())), Named::id(id), None).await
    }

    /// Claims a lock that was handed to `caller`: it becomes a new one with a token, once. It is named by its id, or as the only
    /// one rooted at a resource that is on offer to them. The authorizer is asked as for an acquire. [`Duration::MAX`] is
    /// without an end, as far as its kind allows.
    ///
    /// # Errors
    /// 400 when several could be meant, 403 when the caller may not, 404 when no such lock is on offer to them, 409 when it does
    /// not cover the resource that is named too, 412 when another claim was first, 503.
    pub async fn claim_for(&self, caller: &Caller, named: Named, lifetime: Option<Duration>) -> Result<Granted, Refusal> {
        match self.take_over(caller, &named, lifetime).await {
            Ok(granted) => {
                let (lock, token) = (granted.lock(), granted.token());
                self.note(&Activity::new(ActivityKind::Claimed, caller).of(lock).under(&token));
                Ok(granted)
            }
            Err(refusal) => Err(self.noted(caller, refusal)),
        }
    }

    async fn hand_over(&self, caller: &Caller, named: &Named, handover: &Handover) -> Result<(Lock, LockToken), Refusal> {
        self.check_handover(handover)?;
        let Given { lock, right, giver } = self.given(caller, named, handover).await?;
        covers_what_is_named(&lock, named)?;
        if self.access(caller, Action::Transfer, &lock) != Access::Allowed {
            return Err(Refusal::forbidden("You may not hand this lock over."));
        }
        if *lock.kind() == LockKind::Freeze {
            return Err(Refusal::forbidden("A freeze is nobody's to hand over."));
        }
        let (lifetime, _) = self.policy().lifetimes.grant(lock.kind(), handover.lifetime);
        let (token, id) = LockToken::random_with_id();
        let parts = LockParts {
            id,
            principal: Some(handover.to.clone()),
            owner: handover.owner.clone().unwrap_or_else(|| Owner::from(&handover.to)),
            claim: Claim::Open,
            ..LockParts::clone(lock.parts())
        };
        let new = NewLock { parts: Arc::new(parts), token };
        // The token counts as known to somebody: a transfer of which nobody hears any more is not taken back, or the lock
        // would be neither the old holder's nor the new one's.
        let request = in_place_of(&lock, right).propose_token(token);
        let granted = self.replaced(&giver, caller, &request, new, lifetime).await?;
        Ok((granted, token))
    }

    async fn take_over(&self, caller: &Caller, named: &Named, lifetime: Option<Duration>) -> Result<Granted, Refusal> {
        if lifetime == Some(Duration::ZERO) {
            return Err(Refusal::bad_request("timeout: a lock lives for a second at least"));
        }
        let lock = self.offered(caller, named).await?;
        covers_what_is_named(&lock, named)?;
        let asked = match lifetime {
            None => Asked::Default,
            Some(Duration::MAX) => Asked::Endless,
            Some(span) => Asked::For(span),
        };
        let (lifetime, clamped) = self.policy().lifetimes.grant(lock.kind(), asked);
        let request = in_place_of(&lock, Replace::Own { id: lock.id() });
        self.authorize_acquire(caller, &request, std::slice::from_ref(lock.root()), lifetime)?;
        let owner = if caller.is_application() { lock.owner().clone() } else { caller.owner() };
        let (token, id) = LockToken::random_with_id();
        let parts = LockParts { id, owner, claim: Claim::Made, ..LockParts::clone(lock.parts()) };
        let new = NewLock { parts: Arc::new(parts), token };
        let begun = self.clock().now();
        let granted = self.replaced(caller, caller, &request, new, lifetime).await?;
        Ok(Granted::one(granted, token, clamped, begun))
    }

    /// Puts `new` in the place of what `request` replaces.
    async fn replaced(
        &self,
        giver: &Caller,
        caller: &Caller,
        request: &LockRequest,
        new: NewLock,
        lifetime: Lifetime,
    ) -> Result<Lock, Refusal> {
        let (root, locks) = (new.parts.root.clone(), [new]);
        let answer = self.ask(giver, request, &locks, lifetime, self.limits().drain).await;
        match answer.map_err(|error| self.store_failed(error))? {
            Acquired::Granted(mut granted) | Acquired::Repeated(mut granted) if granted.len() == 1 => Ok(granted.remove(0)),
            Acquired::NotHolder => Err(Refusal::forbidden("You do not hold this lock.")),
            outcome => Err(self.not_acquired(caller, &root, outcome)),
        }
    }

    /// The lock that `caller` means to hand over, and by what right they do.
    async fn given(&self, caller: &Caller, named: &Named, handover: &Handover) -> Result<Given, Refusal> {
        if let Some(token) = named.token {
            // A refresh proves who holds it, tells which one it is, and leaves it alive for the step that follows.
            let lock = self.refresh_named(caller, named.clone(), Span::Same).await?.lock;
            if named.id.is_some_and(|id| id != lock.id()) {
                return Err(Refusal::bad_request("lock_id: the token is that of another lock"));
            }
            let giver = if caller.is_application() { holder(&lock) } else { caller.clone() };
            return Ok(Given { lock, right: Replace::Held(token), giver });
        }
        let lock = self.own_or_anybodys(caller, named).await?;
        let id = lock.id();
        if caller.is_application() && lock.principal().is_some() {
            return Ok(Given { giver: holder(&lock), lock, right: Replace::Own { id } });
        }
        if is_own(caller, &lock) {
            return Ok(Given { lock, right: Replace::Own { id }, giver: caller.clone() });
        }
        let reason = match &handover.reason {
            None if caller.is_application() => "handed over".to_owned(),
            reason => reason.clone().unwrap_or_default(),
        };
        // Before anything is said of what they may: who may see the lock may also read the documentation.
        self.check_reason(&reason)?;
        Ok(Given { lock, right: Replace::Broken { id, reason }, giver: caller.clone() })
    }

    async fn own_or_anybodys(&self, caller: &Caller, named: &Named) -> Result<Lock, Refusal> {
        if let (None, Some(resource)) = (named.id, &named.resource) {
            let mut own = self.rooted_at(resource, |lock| is_own(caller, lock)).await?;
            if own.len() > 1 {
                let detail = format!("lock_id: you hold several locks on {resource}");
                return Err(Refusal::bad_request(detail).about(resource));
            }
            if let Some(lock) = own.pop() {
                return Ok(lock);
            }
        }
        self.anybodys(caller, named).await
    }

    /// The lock that is on offer to `caller`.
    async fn offered(&self, caller: &Caller, named: &Named) -> Result<Lock, Refusal> {
        let on_offer = |lock: &Lock| is_own(caller, lock) && lock.claim() == Claim::Open;
        if let Some(id) = named.id {
            let lock = self.by_id(caller, id).await?.ok_or_else(no_such_lock)?;
            return match on_offer(&lock) {
                true => Ok(lock),
                false if is_own(caller, &lock) => {
                    Err(Refusal::new(RefusalCode::NoSuchLock, "This lock is not on offer: it has been claimed."))
                }
                false if self.access(caller, Action::See, &lock) == Access::Denied => Err(no_such_lock()),
                false => Err(Refusal::forbidden("This lock is not on offer to you.")),
            };
        }
        let Some(resource) = &named.resource else {
            return Err(Refusal::bad_request("lock_id: no lock is named"));
        };
        let mut locks = self.rooted_at(resource, on_offer).await?;
        match (locks.pop(), locks.is_empty()) {
            (Some(lock), true) => Ok(lock),
            (None, _) => {
                let detail = format!("No lock rooted at {resource} is on offer to you.");
                Err(Refusal::new(RefusalCode::NoSuchLock, detail).about(resource))
            }
            (Some(_), false) => {
                let detail = format!("lock_id: several locks on {resource} are on offer to you");
                Err(Refusal::bad_request(detail).about(resource))
            }
        }
    }

    fn check_handover(&self, handover: &Handover) -> Result<(), Refusal> {
        let most = self.limits().owner_text;
        if handover.to.as_str().trim().is_empty() {
            return Err(Refusal::bad_request("to: nobody is named"));
        }
        let owner = handover.owner.as_ref().map_or(0, Owner::text_len);
        for (what, length) in
            [("to", handover.to.as_str().len().max(owner)), ("reason", handover.reason.as_ref().map_or(0, String::len))]
        {
            if length > most {
                return Err(Refusal::bad_request(format!("{what}: {length} bytes; at most {most}")));
            }
        }
        if handover.lifetime == Asked::For(Duration::ZERO) {
            return Err(Refusal::bad_request("timeout: a lock lives for a second at least"));
        }
        Ok(())
    }
}

/// A resource that is named beside the lock must be one of those that it covers: whoever guards the endpoint by its paths
/// relies on that.
fn covers_what_is_named(lock: &Lock, named: &Named) -> Result<(), Refusal> {
    match &named.resource {
        Some(resource) if !rules::covers(lock.root(), lock.depth(), resource) => Err(not_covered(Some(resource))),
        _ => Ok(()),
    }
}

/// Never so for the anonymous: nothing tells one from another.
fn is_own(caller: &Caller, lock: &Lock) -> bool {
    caller.principal().is_some() && caller.principal() == lock.principal()
}

/// The application in the name of who holds `lock`.
fn holder(lock: &Lock) -> Caller {
    Caller::application(lock.principal().cloned())
}

/// A request for what takes the place of `lock`, by this right.
fn in_place_of(lock: &Lock, right: Replace) -> LockRequest {
    let request = LockRequest::on(lock.scope(), lock.root().clone()).kind(lock.kind().clone()).depth(lock.depth());
    request.taking(right)
}
