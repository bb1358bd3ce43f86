//! Acquiring: from a [`LockRequest`] to granted locks, or to a refusal.

use std::{borrow::Cow, sync::Arc, time::Duration};

use http::{HeaderMap, Method, Uri, Version};

use super::{
    Access, Action, Activity, ActivityKind, AuthorizeAsk, Caller, Incident, LockGuard, LockRequest, Locks, Origin, Refusal,
    RefusalCode,
    builder::Anonymous,
    limits::{Asked, Clamped},
    request::{Replace, Root, RootName},
};
use crate::{
    lock::{Claim, KeyError, Lock, LockId, LockKind, LockParts, LockToken, ResourceKey, Timestamp, rules},
    request::{Ask, RequestError, RequestView, Resolved, Role},
    store::{
        Acquire, Acquired, Authority, Lifetime, NewLock, QuotaExceeded, Release, Released, Replaces, StoreError,
        StoreErrorKind, StoreFuture, Which,
    },
};

/// Locks that were granted, with their tokens. Dropping this does not end them: see [`LockGuard`] for that.
#[derive(Clone, Debug)]
#[must_use = "the tokens are shown here and nowhere else"]
pub struct Granted {
    locks: Vec<Lock>,
    tokens: Vec<LockToken>,
    repeated: bool,
    clamped: Clamped,
    /// Not later than the store was asked: what the locks have to live counts from here, by the clock of this process.
    pub(super) asked: Timestamp,
}

impl Granted {
    /// The locks, in the order their roots were named.
    #[must_use]
    pub fn locks(&self) -> &[Lock] {
        &self.locks
    }

    /// Their tokens, in the same order.
    #[must_use]
    pub fn tokens(&self) -> &[LockToken] {
        &self.tokens
    }

    /// The only lock, or the first.
    #[must_use]
    pub fn lock(&self) -> &Lock {
        &self.locks[0]
    }

    /// Its token.
    #[must_use]
    pub fn token(&self) -> LockToken {
        self.tokens[0]
    }

    /// Whether they had been granted before, to an acquire that proposed the same tokens.
    #[must_use]
    pub fn is_repeated(&self) -> bool {
        self.repeated
    }

    /// Whether they live shorter than was asked for.
    #[must_use]
    pub fn is_clamped(&self) -> bool {
        self.clamped == Clamped::Yes
    }

    /// One lock that was granted, to somebody who asked at this time.
    pub(super) fn one(lock: Lock, token: LockToken, clamped: Clamped, asked: Timestamp) -> Self {
        Self { locks: vec![lock], tokens: vec![token], repeated: false, clamped, asked }
    }

    pub(super) fn into_parts(self) -> (Vec<Lock>, Vec<LockToken>) {
        (self.locks, self.tokens)
    }
}

impl Locks {
    /// Acquires what `request` names, all or nothing. The caller is the application: no authorizer is asked.
    ///
    /// # Errors
    /// The [`Refusal`] that would be answered over HTTP: 400, 409, 412, 423, 429, 503.
    pub async fn acquire(&self, request: LockRequest) -> Result<Granted, Refusal> {
        self.acquire_for(&Caller::application(request.principal.clone()), request).await
    }

    /// Acquires, and holds and keeps alive as long as the guard lives.
    ///
    /// # Errors
    /// As for [`Locks::acquire`].
    pub async fn hold(&self, request: LockRequest) -> Result<LockGuard, Refusal> {
        LockGuard::assured(self.clone(), self.acquire(request).await?).await
    }

    /// Holds what was granted as long as the guard lives, and keeps it alive from now on. Where it was granted a while ago,
    /// it may be over by the guard's own reckoning until the first refresh is answered.
    pub fn guard(&self, granted: Granted) -> LockGuard {
        LockGuard::new(self.clone(), granted)
    }

    /// Acquires on behalf of `caller`, whom the authorizer decides about.
    ///
    /// # Errors
    /// As for [`Locks::acquire`], and 403.
    pub async fn acquire_for(&self, caller: &Caller, request: LockRequest) -> Result<Granted, Refusal> {
        let replaced = self.to_be_replaced(caller, &request).await;
        match self.acquire_asked(caller, request).await {
            Ok(granted) => {
                if !granted.is_repeated() {
                    replaced.iter().for_each(|replaced| self.note(&replaced.activity(caller, granted.lock())));
                }
                let kind = if granted.is_repeated() { ActivityKind::Repeated } else { ActivityKind::Acquired };
                for (lock, token) in granted.locks.iter().zip(&granted.tokens) {
                    self.note(&Activity::new(kind, caller).of(lock).under(token));
                }
                Ok(granted)
            }
            Err(refusal) => Err(self.noted(caller, refusal)),
        }
    }

    /// What an acquire ends if it is granted, for whoever hears of it.
    async fn to_be_replaced(&self, caller: &Caller, request: &LockRequest) -> Vec<Replaced> {
        let mut all = Vec::new();
        for replace in &request.replaces {
            all.push(match replace {
                Replace::Held(_) => Replaced { reason: None, id: None, lock: None },
                Replace::Own { id } => Replaced { reason: None, id: Some(*id), lock: None },
                Replace::Broken { id, reason } => {
                    let heard = self.policy().is_heard();
                    let lock = if heard { self.by_id(caller, *id).await.ok().flatten() } else { None };
                    Replaced { reason: Some(reason.clone()), id: Some(*id), lock }
                }
            });
        }
        all
    }

    async fn acquire_asked(&self, caller: &Caller, mut request: LockRequest) -> Result<Granted, Refusal> {
        if request.namespace.is_none() {
            request.namespace = caller.namespace().map(str::to_owned);
        }
        let keys = self.root_keys(&request)?;
        self.check_texts(caller, &request)?;
        if request.lifetime == Asked::For(Duration::ZERO) {
            return Err(Refusal::bad_request("timeout: a lock lives for a second at least"));
        }
        let (lifetime, clamped) = self.policy().lifetimes.grant(&request.kind, request.lifetime);
        self.authorize_acquire(caller, &request, &keys, lifetime)?;
        self.authorize_breaks(caller, &request).await?;

        let (resource, begun) = (keys[0].clone(), self.clock().now());
        let limits = self.limits();
        let drain = request
            .drain
            .map_or(limits.drain, |drain| if caller.is_application() { drain } else { drain.min(limits.drain) });
        let (locks, answer) = match self.patience_for(caller, &request) {
            Some(patience) => self.acquire_in_line(caller, &request, keys, lifetime, drain, patience).await?,
            None => {
                self.keep_the_order(caller, &request, &keys).await?;
                let locks = new_locks(caller, &request, keys);
                let answer = self.ask(caller, &request, &locks, lifetime, drain).await;
                (locks, answer)
            }
        };
        let (locks_granted, repeated) = match answer.map_err(|error| self.store_failed(error))? {
            Acquired::Granted(granted) => (granted, false),
            Acquired::Repeated(granted) => (granted, true),
            outcome => {
                let resource = blocked_root(&locks, &outcome).unwrap_or(&resource);
                return Err(self.not_acquired(caller, resource, outcome));
            }
        };
        // Whoever waited in line asked several times, and the last time no longer ago than an answer may take.
        let asked = begun.max(self.clock().now().before(drain + limits.answer_within));
        let tokens = locks.iter().map(|lock| lock.token).collect();
        Ok(Granted { locks: locks_granted, tokens, repeated, clamped, asked })
    }

    /// Asks the store for `locks`, waiting up to `drain` for writes in flight. Nothing is left of it if nobody waits for the
    /// answer any more, or if it comes too late.
    pub(super) async fn ask(
        &self,
        caller: &Caller,
        request: &LockRequest,
        locks: &[NewLock],
        lifetime: Lifetime,
        drain: Duration,
    ) -> Result<Acquired, StoreError> {
        let replaces: Vec<Replaces<'_>> = request
            .replaces
            .iter()
            .map(|replace| match replace {
                Replace::Held(token) => Replaces::Held(token),
                Replace::Own { id } => Replaces::Own { id: *id },
                Replace::Broken { id, reason } => Replaces::Broken { id: *id, reason },
            })
            .collect();
        let limits = self.limits();
        let acquire = Acquire::new(locks, caller.principal())
            .proven_by(&self.policy().proof)
            .replacing(&replaces)
            .living(lifetime)
            .draining(drain)
            .within_quota(limits.quota())
            .within(request.within);
        match self.store().acquire(&acquire).into_ready() {
            Ok(answer) => answer,
            Err(pending) => {
                let mut undo = Undo::new(self, request, locks);
                let answer = self.answered_within(drain + limits.answer_within, "acquiring a lock", pending).await;
                // A store that ran out of time may have granted all the same.
                if answer.is_ok() {
                    undo.tokens.clear();
                }
                answer
            }
        }
    }

    /// The key of a lock root named in a request or in code, by the same rules as those of a write.
    pub(crate) fn root_key(&self, path: &str, namespace: Option<&str>) -> Result<ResourceKey<'static>, Refusal> {
        let (method, uri, headers, extensions) =
            (Method::PUT, Uri::from_static("/"), HeaderMap::new(), http::Extensions::new());
        let request = RequestView {
            method: &method,
            uri: &uri,
            version: Version::HTTP_11,
            headers: &headers,
            extensions: &extensions,
        };
        self.root_key_in(request, Role::Root, path, namespace)
    }

    /// The same, where there is a request that a resolver may want to see.
    pub(crate) fn root_key_in(
        &self,
        request: RequestView<'_>,
        role: Role,
        path: &str,
        namespace: Option<&str>,
    ) -> Result<ResourceKey<'static>, Refusal> {
        let keys = self.keys_in(request, role, path, namespace)?;
        match keys.as_slice() {
            [_] => Ok(keys.into_iter().next().expect("there is one")),
            _ => Err(Refusal::bad_request(KeyError::Unresolved.to_string())),
        }
    }

    /// The keys that a path of `request` means.
    pub(crate) fn keys_in(
        &self,
        request: RequestView<'_>,
        role: Role,
        path: &str,
        namespace: Option<&str>,
    ) -> Result<Resolved<'static>, Refusal> {
        let resolved = self.policy().resolver.resolve(&Ask::new(request, role, path)).map_err(RequestError::from)?;
        Ok(resolved.into_owned().in_namespace(namespace.map(|namespace| Cow::Owned(namespace.to_owned())).as_ref()))
    }

    fn root_keys(&self, request: &LockRequest) -> Result<Vec<ResourceKey<'static>>, Refusal> {
        let most = self.limits().roots_per_request;
        if request.roots.len() > most {
            return Err(Refusal::bad_request(format!("resources: at most {most} at once")));
        }
        let keys = request
            .roots
            .iter()
            .map(|root| match &root.name {
                RootName::Path(path) => self.root_key(path, request.namespace.as_deref()),
                RootName::Key(key) => Ok(key.clone()),
            })
            .collect::<Result<Vec<_>, _>>()?;
        if let Some(key) = keys.iter().find(|key| key.path().len() > ResourceKey::MAX_ROOT) {
            let length = key.path().len();
            return Err(Refusal::bad_request(format!("resource: {length} bytes; a lock's root has at most 8192")));
        }
        for (at, key) in keys.iter().enumerate() {
            if let Some(other) = keys[..at].iter().find(|other| rules::overlap((key, request.depth), (other, request.depth)))
            {
                return Err(Refusal::bad_request(format!("resources: {key} and {other} overlap")));
            }
        }
        Ok(keys)
    }

    fn check_texts(&self, caller: &Caller, request: &LockRequest) -> Result<(), Refusal> {
        let limits = self.limits();
        let owner = request.owner.as_ref().map_or_else(|| caller.owner().text_len(), crate::lock::Owner::text_len);
        let reason = request.reason.as_ref().map_or(0, String::len);
        let client_ref = request.client_ref.as_ref().map_or(0, String::len);
        let broken = request.replaces.iter().map(|replace| match replace {
            Replace::Broken { reason, .. } => reason.len(),
            Replace::Held(_) | Replace::Own { .. } => 0,
        });
        for (what, length, most) in [
            ("owner", owner, limits.owner_text),
            ("reason", reason.max(broken.max().unwrap_or(0)), limits.owner_text),
            ("client_ref", client_ref, limits.client_ref),
            ("kind", request.kind.as_str().len(), 64),
        ] {
            if length > most {
                return Err(Refusal::bad_request(format!("{what}: {length} bytes; at most {most}")));
            }
        }
        let blank = |replace: &Replace| matches!(replace, Replace::Broken { reason, .. } if reason.trim().is_empty());
        if request.replaces.iter().any(blank) {
            return Err(Refusal::bad_request("replaces: reason: say why; the holder is told"));
        }
        if request.kind.as_str().is_empty() {
            return Err(Refusal::bad_request("kind: empty"));
        }
        let twice = |at: usize, root: &Root| {
            request.roots[..at].iter().any(|other| {
                (root.token.is_some() && root.token == other.token) || (root.id.is_some() && root.id == other.id)
            })
        };
        if request.roots.iter().enumerate().any(|(at, root)| twice(at, root)) {
            return Err(Refusal::bad_request("a token or id is proposed twice"));
        }
        Ok(())
    }

    pub(super) fn authorize_acquire(
        &self,
        caller: &Caller,
        request: &LockRequest,
        keys: &[ResourceKey<'static>],
        lifetime: Lifetime,
    ) -> Result<(), Refusal> {
        if caller.is_application() {
            return Ok(());
        }
        if caller.principal().is_none() && self.policy().anonymous == Anonymous::Refused {
            return Err(Refusal::forbidden("Only an authenticated caller may acquire a lock."));
        }
        for key in keys {
            let access = self.policy().authorizer.authorize(&AuthorizeAsk {
                action: Action::Acquire,
                principal: caller.principal(),
                key,
                kind: &request.kind,
                depth: request.depth,
                lifetime: lifetime.span,
                lock: None,
            });
            if access != Access::Allowed {
                return Err(Refusal::forbidden(match request.kind {
                    LockKind::User => format!("You may not lock {key}."),
                    _ => format!("You may not set a lock of kind `{}` on {key}.", request.kind),
                }));
            }
        }
        Ok(())
    }

    /// Whether `caller` may acquire what `request` names at all, whatever is locked: the refusal that
    /// [`Locks::acquire_for`] would begin with. For callers of which more is asked than a lock.
    #[cfg(feature = "webdav")]
    pub(crate) fn may_acquire(&self, caller: &Caller, request: &LockRequest) -> Result<(), Refusal> {
        let keys = self.root_keys(request)?;
        self.check_texts(caller, request)?;
        let (lifetime, _) = self.policy().lifetimes.grant(&request.kind, request.lifetime);
        self.authorize_acquire(caller, request, &keys, lifetime)
    }

    async fn authorize_breaks(&self, caller: &Caller, request: &LockRequest) -> Result<(), Refusal> {
        if caller.is_application() {
            return Ok(());
        }
        for replace in &request.replaces {
            if let Replace::Broken { id, .. } = replace {
                // One that is gone is for the store to tell; what cannot be seen cannot be broken either.
                let allowed = |lock: &Lock| self.access(caller, Action::Break, lock) == Access::Allowed;
                if !self.by_id(caller, *id).await?.as_ref().is_some_and(allowed) {
                    return Err(Refusal::forbidden("You may not break this lock, or there is none with this id."));
                }
            }
        }
        Ok(())
    }

    pub(super) fn not_acquired(&self, caller: &Caller, resource: &ResourceKey<'_>, outcome: Acquired) -> Refusal {
        match outcome {
            Acquired::Conflict(conflict) => self.locked(caller, Some(resource), conflict.blockers, conflict.truncated),
            Acquired::Busy { retry_after } => {
                let seconds = u64::try_from(retry_after.as_millis().div_ceil(1000)).unwrap_or(u64::MAX);
                self.over_locks(RefusalCode::WriteInProgress, caller, Some(resource), Vec::new(), false).retry_in(seconds)
            }
            Acquired::OverQuota(QuotaExceeded::Principal) => {
                self.over_locks(RefusalCode::LockQuota, caller, Some(resource), Vec::new(), false)
            }
            Acquired::OverQuota(_) => self.over_locks(RefusalCode::StoreFull, caller, Some(resource), Vec::new(), false),
            Acquired::Lost(lost) => self.lock_lost(caller, Some(resource), lost, Vec::new(), false),
            Acquired::NotHolder => Refusal::forbidden("You do not hold the lock to be replaced."),
            Acquired::Taken => self.over_locks(RefusalCode::ProposalConflict, caller, Some(resource), Vec::new(), false),
            Acquired::Granted(_) | Acquired::Repeated(_) => unreachable!("a grant is no refusal"),
        }
    }

    /// What the store answers, but no later than `limit`.
    pub(crate) async fn answered_within<T>(
        &self,
        limit: Duration,
        what: &'static str,
        answer: impl Into<StoreFuture<T>>,
    ) -> Result<T, StoreError> {
        match answer.into().into_ready() {
            Ok(answer) => answer,
            Err(pending) => tokio::time::timeout(limit, pending)
                .await
                .unwrap_or_else(|_| Err(StoreError::new(StoreErrorKind::TimedOut, what))),
        }
    }
}

/// Of several roots the one that is in the first blocker's way: a refusal is about that, not about the first named.
fn blocked_root<'l>(locks: &'l [NewLock], outcome: &Acquired) -> Option<&'l ResourceKey<'static>> {
    let Acquired::Conflict(conflict) = outcome else { return None };
    let first = conflict.blockers.first()?;
    let meets = |lock: &&NewLock| rules::overlap((&lock.parts.root, lock.parts.depth), (first.root(), first.depth()));
    locks.iter().find(meets).map(|lock| &lock.parts.root)
}

/// What was proposed, and fresh where it was not.
fn token_and_id(root: &Root) -> (LockToken, LockId) {
    match (root.token, root.id) {
        (Some(token), id) => (token, id.unwrap_or_else(LockId::random)),
        (None, Some(id)) => (LockToken::random(), id),
        (None, None) => LockToken::random_with_id(),
    }
}

pub(super) fn new_locks(caller: &Caller, request: &LockRequest, keys: Vec<ResourceKey<'static>>) -> Vec<NewLock> {
    let owner = request.owner.clone().unwrap_or_else(|| caller.owner());
    let reason: Option<Arc<str>> = request.reason.as_deref().map(Arc::from);
    let client_ref: Option<Arc<str>> = request.client_ref.as_deref().map(Arc::from);
    let lock = |(root, key): (&Root, ResourceKey<'static>)| {
        let (token, id) = token_and_id(root);
        let parts = LockParts {
            id,
            root: key,
            scope: request.scope,
            depth: request.depth,
            kind: request.kind.clone(),
            principal: caller.principal().cloned(),
            owner: owner.clone(),
            reason: reason.clone(),
            client_ref: client_ref.clone(),
            claim: Claim::Made,
        };
        NewLock { parts: Arc::new(parts), token }
    };
    request.roots.iter().zip(keys).map(lock).collect()
}

/// Ends locks that may have been granted to somebody who no longer waits for them. Only those whose tokens nobody else
/// knows: who proposed a token can repeat the acquire, and must find the lock.
struct Undo {
    locks: Locks,
    tokens: Vec<LockToken>,
}

impl Undo {
    fn new(locks: &Locks, request: &LockRequest, new: &[NewLock]) -> Self {
        let unknown = request.roots.iter().zip(new).filter(|(root, _)| root.token.is_none());
        Self { locks: locks.clone(), tokens: unknown.map(|(_, lock)| lock.token).collect() }
    }
}

impl Drop for Undo {
    fn drop(&mut self) {
        for token in self.tokens.drain(..) {
            self.locks.release_behind(token, Behind::Unheard);
        }
    }
}

/// A lock whose place another one takes, as far as it is known.
struct Replaced {
    /// Why it is broken; none where it is the caller's own.
    reason: Option<String>,
    id: Option<LockId>,
    lock: Option<Lock>,
}

impl Replaced {
    fn activity<'a>(&'a self, caller: &'a Caller, by: &'a Lock) -> Activity<'a> {
        let kind = if self.reason.is_some() { ActivityKind::Broken } else { ActivityKind::Replaced };
        let activity = Activity::new(kind, caller);
        let activity = match &self.lock {
            Some(lock) => activity.of(lock),
            None => activity.about(self.id, by.root().path()),
        };
        activity.because(self.reason.as_deref())
    }
}

/// Whose locks are ended without anybody waiting for it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Behind {
    /// Those of a guard, or of a request that came to nothing: the hook has heard of them.
    Granted,
    /// Those of somebody who left before they were granted: nobody has heard of them.
    Unheard,
}

impl Locks {
    /// Ends a lock by its token without anybody waiting for it: at once where the store can, else on the runtime that
    /// this runs on. Where there is none the lock expires.
    pub(crate) fn release_behind(&self, token: LockToken, whose: Behind) {
        match self.store().release(&Release::new(Which::Token(&token), Authority::Guard)).into_ready() {
            Ok(answer) => self.released_behind(answer, whose),
            Err(pending) => {
                let Ok(runtime) = tokio::runtime::Handle::try_current() else {
                    let error = StoreError::new(StoreErrorKind::Other, "no runtime to end a lock on");
                    self.policy().incident(&Incident::UndoFailed { error: &error });
                    return;
                };
                let locks = self.clone();
                runtime.spawn(async move {
                    let limit = locks.limits().answer_within;
                    let answer = locks.answered_within(limit, "ending a lock", pending).await;
                    locks.released_behind(answer, whose);
                });
            }
        }
    }

    fn released_behind(&self, answer: Result<Released, StoreError>, whose: Behind) {
        match answer {
            Ok(Released::Released(lock)) if whose == Behind::Granted => {
                self.note(&Activity::by(ActivityKind::Released, Origin::InProcess, lock.principal()).of(&lock));
            }
            Ok(_) => {}
            Err(error) => self.policy().incident(&Incident::UndoFailed { error: &error }),
        }
    }
}
