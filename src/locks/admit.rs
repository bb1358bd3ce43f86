//! Judging a request: may this write go on? What the layer asks before it calls the service.

use std::{
    borrow::Cow,
    fmt,
    future::Future,
    mem::ManuallyDrop,
    pin::Pin,
    slice,
    task::{Context, Poll},
};

use http::{HeaderMap, Method, Uri};

use super::{
    Caller, Incident, Locks, Refusal, RefusalCode,
    builder::{FailMode, TokenCounts},
};
use crate::{
    lock::{Gone, HolderProof, Principal, ResourceKey, Target},
    request::{
        ConditionFields, Conditions, MethodRules, RequestError, RequestView, ResolveTargets, gone, may_leave_gone,
        plain_target, targets,
    },
    store::{Admitted, PendingAnswer, Permit, Refused, StoreError, StoreFuture, Verdict, Write},
};

/// What is thought of a write: at once when the store knows, else later.
#[derive(Debug)]
#[must_use]
pub enum Judgement {
    /// It may go on, or not.
    Ready(Result<Admitted, Refusal>),
    /// The store has to be waited for.
    Pending(PendingVerdict),
}

impl Judgement {
    /// The verdict, once it is there.
    ///
    /// # Errors
    /// The refusal.
    pub async fn settled(self) -> Result<Admitted, Refusal> {
        match self {
            Self::Ready(verdict) => verdict,
            Self::Pending(verdict) => verdict.await,
        }
    }
}

/// A verdict to come, within [`Limits::admit_within`](super::Limits::admit_within).
#[must_use = "futures do nothing unless polled"]
pub struct PendingVerdict(Pin<Box<dyn Future<Output = Result<Admitted, Refusal>> + Send>>);

impl Future for PendingVerdict {
    type Output = Result<Admitted, Refusal>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(cx)
    }
}

impl fmt::Debug for PendingVerdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PendingVerdict")
    }
}

/// What most writes come with.
static UNCONDITIONAL: Conditions<'static> = Conditions::NONE;

/// What a store is asked, should it take too long.
pub(super) const DECIDING: &str = "deciding about a write";

/// Whether a route lets only holders write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Demand {
    /// Anybody may write what nobody else has locked.
    #[default]
    None,
    /// Only who holds a lock on it; others get 428 `lock_required` (RFC 6585 section 3).
    Lock,
}

impl Locks {
    /// Whether `method` changes nothing, so that no lock stands in its way.
    #[must_use]
    #[inline]
    pub fn is_read(&self, method: &Method) -> bool {
        self.policy().methods.is_read(method)
    }

    /// Which methods change nothing.
    #[inline]
    pub(crate) fn methods(&self) -> &MethodRules {
        &self.policy().methods
    }

    /// Decides about a write and registers it. Refusals come in the order 400, 503, 428, 412, 423.
    pub fn judge(&self, request: RequestView<'_>, demand: Demand) -> Judgement {
        let policy = self.policy();
        if policy.namespace.is_some() {
            return self.judge_in_its_namespace(request, demand);
        }
        match policy.rules.as_ref().and_then(|rules| plain_target(request.method, request.uri.path(), rules)) {
            Some(target) => self.judge_on(request, slice::from_ref(&target), Some(&target.key), None, demand),
            None => self.judge_in(request, None, demand),
        }
    }

    #[inline(never)]
    fn judge_in_its_namespace(&self, request: RequestView<'_>, demand: Demand) -> Judgement {
        match self.policy().namespace(&request) {
            Ok(namespace) => {
                let namespace = namespace.as_deref().map(Cow::Borrowed);
                self.judge_in(request, namespace.as_ref(), demand)
            }
            Err(error) => self.malformed(error.into()),
        }
    }

    #[inline(never)]
    fn judge_in<'r>(&self, request: RequestView<'r>, namespace: Option<&Cow<'r, str>>, demand: Demand) -> Judgement {
        let targets = match targets(request, &*self.policy().resolver, namespace) {
            Ok(targets) => targets,
            Err(error) => return self.malformed(error.into()),
        };
        if targets.is_empty() {
            // The resolver says that this request changes nothing that can be locked.
            return Judgement::Ready(Ok(Admitted { permit: Permit::unguarded(0), answered: None }));
        }
        // What the request target means is known by now.
        let target = match targets.of_target() {
            [target] => Some(&target.key),
            _ => None,
        };
        self.judge_on(request, &targets, target, namespace, demand)
    }

    /// Decides about a write of `targets`, one at least, where the request target means `target` alone, if that is known.
    #[inline]
    fn judge_on<'r>(
        &self,
        request: RequestView<'r>,
        targets: &[Target<'r>],
        target: Option<&ResourceKey<'r>>,
        namespace: Option<&Cow<'r, str>>,
        demand: Demand,
    ) -> Judgement {
        let policy = self.policy();
        let fields = ConditionFields::of(request.headers);
        let mut read = match (&fields, target) {
            (Some(fields), Some(target)) if policy.token.is_none() => Conditions::of_one_token(fields, target),
            _ => None,
        };
        if read.is_none() && (fields.is_some() || policy.token.is_some()) {
            let conditions = read.insert(Conditions::NONE);
            let asked = (&*policy.resolver, namespace, target);
            if let Err(error) = self.read_conditions(conditions, fields.as_ref(), request, asked) {
                return self.malformed(error.into());
            }
        }
        let conditions = read.as_ref().unwrap_or(&UNCONDITIONAL);
        self.judge_write(request, &targets[0].key, targets, conditions, demand)
    }

    /// Lets a write through as most are, where the store says at once that nothing stands in its way: a write of one resource,
    /// whose path is its key as it stands, without conditions. Nothing is said of what is more than that, or may be a read.
    ///
    /// It is as [`judge`](Self::judge) would have it. Whose write it is makes no difference where nothing is locked.
    pub(crate) fn let_through(&self, method: &Method, uri: &Uri, headers: &HeaderMap) -> Option<Permit> {
        // Borrows its path, so there is nothing to drop.
        let target = ManuallyDrop::new(self.plainly_written(method, uri, headers)?);
        self.store().let_through(slice::from_ref(&*target))
    }

    /// What is written, where that is all that there is to say of a write.
    #[inline(always)]
    fn plainly_written<'r>(&self, method: &Method, uri: &'r Uri, headers: &HeaderMap) -> Option<Target<'r>> {
        if ConditionFields::are_in(headers) {
            return None;
        }
        plain_target(method, uri.path(), self.inner.plain.as_ref()?)
    }

    /// Decides about a write that was not [let through](Self::let_through), as [`judge`](Self::judge) would.
    #[inline(never)]
    pub(crate) fn judge_further(&self, request: RequestView<'_>, demand: Demand) -> Judgement {
        let Some(target) = self.plainly_written(request.method, request.uri, request.headers) else {
            return self.judge(request, demand);
        };
        let principal = self.principal(request);
        let write = self.write_of(slice::from_ref(&target), &UNCONDITIONAL, principal.as_ref()).not_let_through();
        let answer = self.store().admit(&write);
        self.judge_answer(answer, &target.key, principal, &UNCONDITIONAL, demand)
    }

    /// Decides about a write whose targets and conditions are known, and registers it. A refusal is about `resource`.
    /// Without targets the conditions alone decide.
    #[inline(always)]
    pub(crate) fn judge_write<'r>(
        &self,
        request: RequestView<'r>,
        resource: &ResourceKey<'_>,
        targets: &[Target<'r>],
        conditions: &Conditions<'_>,
        demand: Demand,
    ) -> Judgement {
        let principal = self.principal(request);
        let answer = self.store().admit(&self.write_of(targets, conditions, principal.as_ref()));
        self.judge_answer(answer, resource, principal, conditions, demand)
    }

    fn principal(&self, request: RequestView<'_>) -> Option<Principal> {
        self.policy().principal.as_ref().and_then(|principal| principal(&request))
    }

    #[inline(always)]
    fn write_of<'w>(
        &'w self,
        targets: &'w [Target<'w>],
        conditions: &'w Conditions<'w>,
        principal: Option<&'w Principal>,
    ) -> Write<'w> {
        let policy = self.policy();
        Write::new(targets, conditions).by(principal).proven_by(&policy.proof).naming(policy.limits.blockers_named)
    }

    #[inline(always)]
    fn judge_answer(
        &self,
        answer: StoreFuture<Verdict>,
        resource: &ResourceKey<'_>,
        principal: Option<Principal>,
        conditions: &Conditions<'_>,
        demand: Demand,
    ) -> Judgement {
        match answer {
            StoreFuture::Ready(Ok(Verdict::Admitted(admitted))) if demand == Demand::None || admitted.answered.is_some() => {
                Judgement::Ready(Ok(admitted))
            }
            StoreFuture::Ready(answer) => {
                let asked = self.asked(principal, conditions, demand);
                Judgement::Ready(asked.answer(self, resource, answer))
            }
            StoreFuture::Pending(pending) => {
                let asked = self.asked(principal, conditions, demand);
                let (locks, resource) = (self.clone(), resource.clone().into_owned());
                Judgement::Pending(PendingVerdict(Box::pin(asked.wait(locks, resource, pending))))
            }
        }
    }

    #[cold]
    #[inline(never)]
    fn malformed(&self, refusal: Refusal) -> Judgement {
        Judgement::Ready(Err(self.signed(refusal)))
    }

    /// Which locks end once this request has succeeded, because their resources are gone.
    pub fn gone_after(&self, request: RequestView<'_>) -> Vec<Gone<'static>> {
        if !may_leave_gone(request.method) {
            return Vec::new();
        }
        let policy = self.policy();
        // What could not be read was refused before.
        let Ok(namespace) = policy.namespace(&request) else { return Vec::new() };
        let namespace = namespace.map(Cow::Owned);
        let Ok(targets) = targets(request, &*policy.resolver, namespace.as_ref()) else { return Vec::new() };
        let owned = |gone: Gone<'_>| Gone { key: gone.key.into_owned(), reach: gone.reach };
        gone(request.method, &targets).into_iter().map(owned).collect()
    }

    /// The resources that a write changes, as far as they can be read.
    pub(crate) fn keys_written(&self, request: RequestView<'_>) -> Vec<ResourceKey<'static>> {
        let policy = self.policy();
        let Ok(namespace) = policy.namespace(&request) else { return Vec::new() };
        let namespace = namespace.map(Cow::Owned);
        let Ok(targets) = targets(request, &*policy.resolver, namespace.as_ref()) else { return Vec::new() };
        targets.iter().map(|target| target.key.clone().into_owned()).collect()
    }

    /// The conditions of a request, with a token that came in a way of the application's own.
    pub(crate) fn conditions<'r>(
        &self,
        request: RequestView<'r>,
        namespace: Option<&Cow<'r, str>>,
    ) -> Result<Conditions<'r>, Refusal> {
        self.conditions_by(request, &*self.policy().resolver, namespace)
    }

    /// The same, where `resolver` tells which resources they are about.
    pub(crate) fn conditions_by<'r>(
        &self,
        request: RequestView<'r>,
        resolver: &dyn ResolveTargets,
        namespace: Option<&Cow<'r, str>>,
    ) -> Result<Conditions<'r>, Refusal> {
        let mut conditions = Conditions::NONE;
        let fields = ConditionFields::of(request.headers);
        self.read_conditions(&mut conditions, fields.as_ref(), request, (resolver, namespace, None))?;
        Ok(conditions)
    }

    /// The same into `conditions`, where it may be known which resource the request target means.
    #[inline(never)]
    fn read_conditions<'r>(
        &self,
        conditions: &mut Conditions<'r>,
        fields: Option<&ConditionFields<'r>>,
        request: RequestView<'r>,
        (resolver, namespace, target): (&dyn ResolveTargets, Option<&Cow<'r, str>>, Option<&ResourceKey<'r>>),
    ) -> Result<(), RequestError> {
        if let Some(fields) = fields {
            conditions.read(fields, request, resolver, namespace, target)?;
        }
        match &self.policy().token {
            None => Ok(()),
            Some((token, counts)) => match (token(&request), counts) {
                (None, _) => Ok(()),
                (Some(token), TokenCounts::AsSubmitted) => conditions.submit(token),
                (Some(token), TokenCounts::AsLockToken) => conditions.demand(token),
            },
        }
    }

    /// Who sends `request`.
    ///
    /// # Errors
    /// 400 when the request does not say which namespace it means.
    pub fn caller(&self, request: &RequestView<'_>) -> Result<Caller, Refusal> {
        let policy = self.policy();
        let namespace = policy.namespace(request).map_err(|error| self.signed(error.into()))?;
        Ok(self.caller_in(request, namespace))
    }

    fn caller_in(&self, request: &RequestView<'_>, namespace: Option<String>) -> Caller {
        let policy = self.policy();
        Caller::remote(policy.principal.as_ref().and_then(|principal| principal(request)))
            .shown_as(policy.owner.as_ref().and_then(|owner| owner(request)))
            .in_namespace(namespace)
    }

    /// What becomes of a write of `resource` that the store could not decide about: 503, unless that was chosen to be let
    /// through.
    pub(super) fn undecided(&self, resource: &ResourceKey<'_>, error: StoreError) -> Result<Admitted, Refusal> {
        match &self.policy().fail_mode {
            FailMode::Closed => Err(self.store_failed(error)),
            FailMode::Open(hook) => {
                let incident = Incident::AdmittedUnchecked { path: resource.path(), error: &error };
                self.policy().trace(&incident);
                hook(&incident);
                Ok(Admitted { permit: Permit::unguarded(0), answered: None })
            }
        }
    }

    /// Whether the caller cannot hold anything, for want of a token. Where the principal alone proves a holder, there is none
    /// that could be missing.
    pub(super) fn is_tokenless(&self, conditions: &Conditions<'_>) -> bool {
        conditions.tokens().is_empty() && !matches!(self.policy().proof, HolderProof::Principal | HolderProof::Custom(_))
    }

    #[cold]
    fn asked(&self, principal: Option<Principal>, conditions: &Conditions<'_>, demand: Demand) -> Asked {
        Asked { caller: Caller::remote(principal), demand, tokenless: self.is_tokenless(conditions) }
    }
}

/// What is needed to turn an answer of the store into a refusal, once the request is out of reach.
struct Asked {
    caller: Caller,
    demand: Demand,
    /// Whether the caller cannot hold anything, for want of a token.
    tokenless: bool,
}

impl Asked {
    async fn wait(
        self,
        locks: Locks,
        resource: ResourceKey<'static>,
        pending: PendingAnswer<Verdict>,
    ) -> Result<Admitted, Refusal> {
        let answer = locks.answered_within(locks.limits().admit_within, DECIDING, pending).await;
        self.answer(&locks, &resource, answer)
    }

    #[cold]
    fn answer(
        self,
        locks: &Locks,
        resource: &ResourceKey<'_>,
        answer: Result<Verdict, StoreError>,
    ) -> Result<Admitted, Refusal> {
        let caller = &self.caller;
        let required = |refused: Refused| {
            locks.over_locks(RefusalCode::LockRequired, caller, Some(resource), refused.blockers, refused.truncated)
        };
        match answer {
            Ok(Verdict::Admitted(admitted)) => match self.demand {
                Demand::Lock if admitted.answered.is_none() => Err(required(Refused::default())),
                _ => Ok(admitted),
            },
            Ok(Verdict::Refused(refused)) if self.demand == Demand::Lock && self.tokenless => Err(required(*refused)),
            Ok(Verdict::Refused(refused)) => {
                let Refused { blockers, truncated, condition_failed, lost } = *refused;
                Err(if condition_failed {
                    locks.lock_lost(caller, Some(resource), lost, blockers, truncated)
                } else {
                    locks.locked(caller, Some(resource), blockers, truncated)
                })
            }
            Err(error) => locks.undecided(resource, error),
        }
    }
}
