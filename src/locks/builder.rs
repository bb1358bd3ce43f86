//! `LocksBuilder`: the policy of a [`Locks`], and its defaults.

use std::{
    any::Any,
    fmt,
    panic::{self, AssertUnwindSafe},
    sync::Arc,
};

use super::{
    Activity, Authorizer, DefaultAuthorizer, Incident, Lifetimes, Limits, Locks,
    activity::{ActivityHook, Traced},
    incident::IncidentHook,
    refusal::Site,
};
use crate::{
    lock::{HolderProof, KeyError, KeyRules, LockToken, Owner, Principal},
    request::{Ask, MethodRules, RequestError, RequestView, ResolveFn, ResolveTargets, Resolved},
    store::{Clock, LockStore},
};

/// Builds a [`Locks`].
///
/// Unless told otherwise: every method that is not known to be a read is a write; keys are paths by the default
/// [`KeyRules`]; everybody is anonymous; a holder proves itself by token and principal; nobody acquires anonymously over
/// HTTP; [`DefaultAuthorizer`] decides the rest; a store that cannot answer closes writes.
#[must_use = "a builder does nothing until `build` is called"]
pub struct LocksBuilder {
    store: Arc<dyn LockStore>,
    policy: Policy,
}

type PrincipalOf = Arc<dyn Fn(&RequestView<'_>) -> Option<Principal> + Send + Sync>;
type OwnerOf = Arc<dyn Fn(&RequestView<'_>) -> Option<Owner> + Send + Sync>;
type NamespaceOf = Arc<dyn Fn(&RequestView<'_>) -> Result<Option<String>, RequestError> + Send + Sync>;
type TokensOf = Arc<dyn Fn(&RequestView<'_>) -> Option<LockToken> + Send + Sync>;

pub(crate) struct Policy {
    pub(crate) methods: MethodRules,
    pub(crate) resolver: Arc<dyn ResolveTargets>,
    /// The resolver, where it is one that can be asked without a detour.
    pub(crate) rules: Option<KeyRules>,
    pub(crate) principal: Option<PrincipalOf>,
    pub(crate) owner: Option<OwnerOf>,
    pub(crate) namespace: Option<NamespaceOf>,
    pub(crate) token: Option<(TokensOf, TokenCounts)>,
    pub(crate) proof: HolderProof,
    pub(crate) limits: Limits,
    pub(crate) lifetimes: Lifetimes,
    pub(crate) authorizer: Arc<dyn Authorizer>,
    pub(crate) anonymous: Anonymous,
    pub(crate) waits: Waits,
    pub(crate) clock: Clock,
    pub(crate) fail_mode: FailMode,
    pub(crate) incidents: Option<IncidentHook>,
    pub(crate) activity: Option<ActivityHook>,
    pub(crate) traced: Option<Traced>,
    pub(crate) site: Option<Arc<Site>>,
}

/// Whether callers without a principal may acquire over HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Anonymous {
    Refused,
    Asked,
}

/// What a token is that came in a way of the application's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TokenCounts {
    /// A credential: one that fits no lock is as good as none.
    AsSubmitted,
    /// A condition as well.
    AsLockToken,
}

/// Whether clients may wait for locks to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waits {
    Off,
    Allowed,
}

/// What becomes of a write when the store cannot answer.
pub(crate) enum FailMode {
    /// It is refused with 503.
    Closed,
    /// It goes on, and the hook hears of it.
    Open(IncidentHook),
}

impl LocksBuilder {
    pub(super) fn new(store: Arc<dyn LockStore>) -> Self {
        let policy = Policy {
            methods: MethodRules::default(),
            resolver: Arc::new(KeyRules::default()),
            rules: Some(KeyRules::default()),
            principal: None,
            owner: None,
            namespace: None,
            token: None,
            proof: HolderProof::default(),
            limits: Limits::default(),
            lifetimes: Lifetimes::default(),
            authorizer: Arc::new(DefaultAuthorizer),
            anonymous: Anonymous::Refused,
            waits: Waits::Off,
            clock: Clock::system(),
            fail_mode: FailMode::Closed,
            incidents: None,
            activity: None,
            traced: None,
            site: None,
        };
        Self { store, policy }
    }

    /// Which methods are reads.
    pub fn methods(mut self, methods: MethodRules) -> Self {
        self.policy.methods = methods;
        self
    }

    /// How a path becomes a key: [`KeyRules`] with options, or a resolver of your own.
    pub fn keys_by(mut self, resolver: impl ResolveTargets) -> Self {
        self.policy.rules = (&resolver as &dyn Any).downcast_ref::<KeyRules>().cloned();
        self.policy.resolver = Arc::new(resolver);
        self
    }

    /// How a request becomes keys, as a closure: record ids, route parameters, the query. It is asked for the target,
    /// and again for `Destination`, the tags of `If`, and lock roots named to the endpoint.
    pub fn keys_fn<F>(self, resolver: F) -> Self
    where
        F: for<'r> Fn(&Ask<'r>) -> Result<Resolved<'r>, KeyError> + Send + Sync + 'static,
    {
        self.keys_by(ResolveFn::new(resolver))
    }

    /// Who the caller is, from what the authentication outside the layer left in the request.
    ///
    /// ```
    /// # use tower_lock::{Locks, MemoryStore, lock::Principal};
    /// # #[derive(Clone)] struct User { id: String }
    /// let locks = Locks::builder(MemoryStore::new())
    ///     .principal(|request| request.extensions.get::<User>().map(|user| Principal::new(&user.id)))
    ///     .build();
    /// ```
    pub fn principal<F>(mut self, principal: F) -> Self
    where
        F: Fn(&RequestView<'_>) -> Option<Principal> + Send + Sync + 'static,
    {
        self.policy.principal = Some(Arc::new(principal));
        self
    }

    /// What others see of the caller as the owner of a lock; the principal's name unless said.
    pub fn owner<F>(mut self, owner: F) -> Self
    where
        F: Fn(&RequestView<'_>) -> Option<Owner> + Send + Sync + 'static,
    {
        self.policy.owner = Some(Arc::new(owner));
        self
    }

    /// The namespace of a request's resources, from what the service itself selects by: a tenant, a host. Keys of
    /// different namespaces have nothing to do with each other.
    pub fn namespace<F>(mut self, namespace: F) -> Self
    where
        F: Fn(&RequestView<'_>) -> Option<String> + Send + Sync + 'static,
    {
        self.policy.namespace = Some(Arc::new(move |request| Ok(namespace(request))));
        self
    }

    /// The host of a request as its namespace, for services that select by it: lower-cased, without a default port and a
    /// trailing dot ([`RequestView::host`]). A request that names two hosts is 400, in its `Destination` too.
    pub fn namespace_by_host(mut self) -> Self {
        self.policy.namespace = Some(Arc::new(|request| request.host_of_all().map(Some)));
        self
    }

    /// A lock token from somewhere else than `If` and `Lock-Token`: a query parameter, a header of your own. One that fits no
    /// lock is as good as none: the write goes on where nothing is locked.
    pub fn token<F>(mut self, token: F) -> Self
    where
        F: Fn(&RequestView<'_>) -> Option<LockToken> + Send + Sync + 'static,
    {
        self.policy.token = Some((Arc::new(token), TokenCounts::AsSubmitted));
        self
    }

    /// The same, and what `Lock-Token` is on a write: a condition. Who shows a token believes in its lock, so where that is
    /// gone, is somebody else's or covers nothing that the write changes, the answer is 412 `lock_lost`, which says what became
    /// of it, also where nothing is locked any more. For protocols in which a write names the lock that it is made under.
    /// Takes the place of [`LocksBuilder::token`]. Beside a `Lock-Token` header the token is submitted, and the header is the
    /// condition.
    pub fn token_as_condition<F>(mut self, token: F) -> Self
    where
        F: Fn(&RequestView<'_>) -> Option<LockToken> + Send + Sync + 'static,
    {
        self.policy.token = Some((Arc::new(token), TokenCounts::AsLockToken));
        self
    }

    /// What proves that a caller holds a lock; token and principal unless said.
    pub fn holder_proof(mut self, proof: HolderProof) -> Self {
        self.policy.proof = proof;
        self
    }

    /// How much, how many, how long to wait.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.policy.limits = limits;
        self
    }

    /// How long locks live.
    pub fn lifetimes(mut self, lifetimes: Lifetimes) -> Self {
        self.policy.lifetimes = lifetimes;
        self
    }

    /// Who may acquire, see, list, break and transfer over HTTP; [`DefaultAuthorizer`] unless said. Type the closure's
    /// argument: `|ask: &AuthorizeAsk<'_>| ..`.
    pub fn authorizer(mut self, authorizer: impl Authorizer) -> Self {
        self.policy.authorizer = Arc::new(authorizer);
        self
    }

    /// Lets the authorizer decide about acquires without a principal too. All anonymous callers are one holder, told
    /// apart by their tokens alone.
    pub fn allow_anonymous(mut self) -> Self {
        self.policy.anonymous = Anonymous::Asked;
        self
    }

    /// Lets clients wait for locks to go, by `Prefer: wait=n` (RFC 7240 section 4.3): on a GET of the endpoint, on an
    /// acquire, and on a write, which is then held unread until it may go on. At most for [`Limits::wait`]. Unless this
    /// is called the preference is ignored. A request that waits costs a connection and some memory, so say how many may
    /// ([`Limits::waiters`], [`Limits::waiters_per_resource`]).
    pub fn allow_waiting(mut self) -> Self {
        self.policy.waits = Waits::Allowed;
        self
    }

    /// The clock that times waits, the keep-alive of guards and the announcement of expiries; the system's unless said. When
    /// locks end is for the store's own clock to decide. For tests, which move it by hand.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.policy.clock = clock;
        self
    }

    /// Lets writes go on while the store cannot answer, unchecked, and tells `hook` of each one. Without this they are
    /// refused with 503: a lock that only holds in good weather is none.
    pub fn fail_open<F>(mut self, hook: F) -> Self
    where
        F: Fn(&Incident<'_>) + Send + Sync + 'static,
    {
        self.policy.fail_mode = FailMode::Open(Arc::new(hook));
        self
    }

    /// Hears of what went wrong beside a request; see [`Incident`].
    pub fn on_incident<F>(mut self, hook: F) -> Self
    where
        F: Fn(&Incident<'_>) + Send + Sync + 'static,
    {
        self.policy.incidents = Some(Arc::new(hook));
        self
    }

    /// Hears of every acquire, refresh, release, expiry, break and refusal, with who did it and why; see [`Activity`].
    ///
    /// The hook is called where it happens, in the middle of a request or of a task, so it must be quick. Should it panic,
    /// that goes no further. A later call replaces the hook of an earlier one. Without one nothing is allocated, and no task runs.
    ///
    /// ```
    /// # use std::sync::{Arc, Mutex};
    /// # use tower_lock::{LockRequest, Locks, MemoryStore};
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let trail = Arc::new(Mutex::new(Vec::new()));
    /// let log = trail.clone();
    /// let locks = Locks::builder(MemoryStore::new())
    ///     .on_activity(move |activity| log.lock().unwrap().push(activity.to_string()))
    ///     .build();
    /// locks.acquire(LockRequest::exclusive("/docs/7").principal("ann").reason("nightly export")).await?;
    /// assert_eq!(trail.lock().unwrap()[..], ["/docs/7: acquired by ann (nightly export)"]);
    /// # Ok(()) }
    /// ```
    pub fn on_activity<F>(mut self, hook: F) -> Self
    where
        F: Fn(&Activity<'_>) + Send + Sync + 'static,
    {
        self.policy.activity = Some(Arc::new(hook));
        self
    }

    /// Makes a `tracing` event of everything that [`LocksBuilder::on_activity`] hears of, and of every [`Incident`], with the
    /// target `tower_lock`. Names and levels are stable; a field is absent where there is nothing to say.
    ///
    /// | `event` | level |
    /// |---|---|
    /// | `acquired`, `released`, `transferred`, `claimed`, `replaced`, `cleared` | `DEBUG` |
    /// | `repeated`, `refreshed` | `TRACE` |
    /// | `expired`, `breaking`, `broken` | `INFO` |
    /// | `refused` | `DEBUG`; `WARN` where the status is 5xx |
    /// | `incident` | `WARN` |
    ///
    /// | field | what |
    /// |---|---|
    /// | `message` | a sentence |
    /// | `event` | what happened, as [`ActivityKind::as_str`](super::ActivityKind::as_str) has it |
    /// | `origin` | `in_process` or `remote` |
    /// | `actor` | the principal on whose behalf |
    /// | `resource`, `namespace` | the path of the lock's root or of what was refused; the namespace of the lock |
    /// | `lock_id`, `scope`, `depth`, `kind`, `generation` | of the lock |
    /// | `holder` | the principal that the lock is held by |
    /// | `expires_in` | seconds that it had to live then |
    /// | `reason` | why, in the words of who did it |
    /// | `code`, `status` | of a refusal |
    /// | `incident`, `error` | which incident (`admitted_unchecked`, `locks_left`, ..), and what the store said |
    ///
    /// Never a token.
    #[cfg(feature = "tracing")]
    #[cfg_attr(docsrs, doc(cfg(feature = "tracing")))]
    pub fn traced(mut self) -> Self {
        self.policy.traced = Some(super::traced::TRACED);
        self
    }

    /// Where clients reach the endpoint (`/locks`, `https://api.example/locks`): refusals then link to it.
    pub fn endpoint_url(mut self, url: impl AsRef<str>) -> Self {
        self.site().endpoint_url = Some(url.as_ref().trim_end_matches('/').to_owned());
        self
    }

    /// What the `type` of a problem document starts with (`https://api.example/problems/`); the code follows. Without
    /// it the type is `about:blank`.
    pub fn problem_types(mut self, base: impl Into<String>) -> Self {
        self.site().problem_types = Some(base.into());
        self
    }

    pub(super) fn site(&mut self) -> &mut Site {
        let site = self.policy.site.get_or_insert_default();
        Arc::get_mut(site).expect("a policy under construction is nobody else's")
    }

    /// The hub.
    #[must_use]
    pub fn build(self) -> Locks {
        Locks::from_parts(self.store, self.policy)
    }
}

impl Policy {
    /// How a path becomes a key, where nothing else of a request has a say in what it writes and under which conditions.
    pub(super) fn plain(&self) -> Option<KeyRules> {
        let by_path_alone = self.namespace.is_none() && self.token.is_none() && self.methods.are_usual();
        self.rules.clone().filter(|_| by_path_alone)
    }

    pub(crate) fn namespace(&self, request: &RequestView<'_>) -> Result<Option<String>, RequestError> {
        self.namespace.as_ref().map_or(Ok(None), |namespace| namespace(request))
    }

    /// Whether anybody hears of what happens.
    pub(crate) fn is_heard(&self) -> bool {
        self.activity.is_some() || self.traced.is_some()
    }

    pub(crate) fn heard(&self, activity: &Activity<'_>) {
        if let Some(traced) = &self.traced {
            contained(|| (traced.activity)(activity));
        }
        if let Some(hook) = &self.activity {
            contained(|| hook(activity));
        }
    }

    /// An incident that is told to a hook of its own as well.
    pub(crate) fn trace(&self, incident: &Incident<'_>) {
        if let Some(traced) = &self.traced {
            contained(|| (traced.incident)(incident));
        }
    }

    pub(crate) fn incident(&self, incident: &Incident<'_>) {
        self.trace(incident);
        if let Some(hook) = &self.incidents {
            contained(|| hook(incident));
        }
    }
}

/// What a hook does is no part of what it is told of. A panic that went on would leave a lock that was granted without anybody
/// who knows its token, stop the task that keeps others alive, or end the process, in the drop of a guard.
fn contained(hook: impl FnOnce()) {
    // It has been told to the panic hook.
    let _told = panic::catch_unwind(AssertUnwindSafe(hook));
}

impl fmt::Debug for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Policy")
            .field("proof", &self.proof)
            .field("limits", &self.limits)
            .field("lifetimes", &self.lifetimes)
            .field("anonymous", &self.anonymous)
            .field("waits", &self.waits)
            .field("fails_open", &matches!(self.fail_mode, FailMode::Open(_)))
            .field("site", &self.site)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for LocksBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocksBuilder").field("policy", &self.policy).finish_non_exhaustive()
    }
}
