//! `LockRequest`: what somebody asks of `acquire` and `hold`.

use std::time::Duration;

use super::limits::Asked;
use crate::{
    lock::{Depth, LockId, LockKind, LockScope, LockToken, Owner, Principal, ResourceKey},
    store::WriteId,
};

/// A request for one or several locks, all or nothing.
///
/// ```
/// use std::time::Duration;
/// use tower_lock::{LockRequest, lock::LockKind};
///
/// let request = LockRequest::exclusive("/cases/4711")
///     .and("/cases/4712")
///     .kind(LockKind::Job)
///     .reason("nightly export")
///     .lifetime(Duration::from_secs(20 * 60));
/// ```
#[derive(Clone, Debug)]
#[must_use = "a request does nothing until it is given to `Locks::acquire` or `Locks::hold`"]
pub struct LockRequest {
    pub(super) roots: Vec<Root>,
    pub(super) scope: LockScope,
    pub(super) depth: Depth,
    pub(super) kind: LockKind,
    pub(super) principal: Option<Principal>,
    pub(super) namespace: Option<String>,
    pub(super) owner: Option<Owner>,
    pub(super) reason: Option<String>,
    pub(super) client_ref: Option<String>,
    pub(super) lifetime: Asked,
    pub(super) replaces: Vec<Replace>,
    pub(super) drain: Option<Duration>,
    pub(super) waiting: Option<Duration>,
    pub(super) within: Option<WriteId>,
}

#[derive(Clone, Debug)]
pub(super) struct Root {
    pub(super) name: RootName,
    pub(super) token: Option<LockToken>,
    pub(super) id: Option<LockId>,
}

#[derive(Clone, Debug)]
pub(super) enum RootName {
    /// A path as it would be sent, to become a key by the same rules as a request's.
    Path(String),
    /// A key as it is.
    Key(ResourceKey<'static>),
}

#[derive(Clone, Debug)]
pub(super) enum Replace {
    Held(LockToken),
    /// Of one's own, by its id: what is handed over and claimed.
    Own {
        id: LockId,
    },
    Broken {
        id: LockId,
        reason: String,
    },
}

impl LockRequest {
    /// A lock that nobody else can share, on the resource at `path`.
    ///
    /// A path is read as one in a request target: percent-encoded, made canonical by the rules of
    /// [`Locks`](super::Locks).
    pub fn exclusive(path: impl Into<String>) -> Self {
        Self::new(LockScope::Exclusive, Root::path(path))
    }

    /// A lock that others can share, on the resource at `path`.
    pub fn shared(path: impl Into<String>) -> Self {
        Self::new(LockScope::Shared, Root::path(path))
    }

    /// A lock on the resource with this very key.
    pub fn on(scope: LockScope, key: ResourceKey<'static>) -> Self {
        Self::new(scope, Root { name: RootName::Key(key), token: None, id: None })
    }

    fn new(scope: LockScope, root: Root) -> Self {
        Self {
            roots: vec![root],
            scope,
            depth: Depth::Infinity,
            kind: LockKind::User,
            principal: None,
            namespace: None,
            owner: None,
            reason: None,
            client_ref: None,
            lifetime: Asked::Default,
            replaces: Vec::new(),
            drain: None,
            waiting: None,
            within: None,
        }
    }

    /// And another resource. Roots that overlap each other are 400.
    pub fn and(mut self, path: impl Into<String>) -> Self {
        self.roots.push(Root::path(path));
        self
    }

    /// And the resource with this very key.
    pub fn and_on(mut self, key: ResourceKey<'static>) -> Self {
        self.roots.push(Root { name: RootName::Key(key), token: None, id: None });
        self
    }

    /// How far below its root each lock reaches; [`Depth::Infinity`] unless said (RFC 4918 section 9.10.3).
    pub fn depth(mut self, depth: Depth) -> Self {
        self.depth = depth;
        self
    }

    /// What the locks are for; [`LockKind::User`] unless said.
    pub fn kind(mut self, kind: LockKind) -> Self {
        self.kind = kind;
        self
    }

    /// On whose behalf: who must submit the tokens. Nobody in particular unless said. Over HTTP the caller, whatever
    /// stands here.
    pub fn principal(mut self, principal: impl Into<Principal>) -> Self {
        self.principal = Some(principal.into());
        self
    }

    /// The namespace of the paths.
    pub fn namespace(mut self, namespace: impl Into<String>) -> Self {
        self.namespace = Some(namespace.into());
        self
    }

    /// What others see of the holder; the principal's name unless said.
    pub fn owner(mut self, owner: Owner) -> Self {
        self.owner = Some(owner);
        self
    }

    /// Why, in the holder's words.
    pub fn reason(mut self, reason: impl Into<String>) -> Self {
        self.reason = Some(reason.into());
        self
    }

    /// A public text of the caller's own, at most 1 KiB.
    pub fn client_ref(mut self, text: impl Into<String>) -> Self {
        self.client_ref = Some(text.into());
        self
    }

    /// How long each lock lives unless refreshed; clamped to what its kind allows, and the answer says so. Zero is 400.
    pub fn lifetime(mut self, span: Duration) -> Self {
        self.lifetime = Asked::For(span);
        self
    }

    /// Locks without an end, as far as their kind allows.
    pub fn endless(mut self) -> Self {
        self.lifetime = Asked::Endless;
        self
    }

    /// The token for the root named last, so that an acquire whose answer was lost can be repeated. Its randomness is
    /// the caller's.
    pub fn propose_token(mut self, token: LockToken) -> Self {
        if let Some(root) = self.roots.last_mut() {
            root.token = Some(token);
        }
        self
    }

    /// The id for the root named last.
    pub fn propose_id(mut self, id: LockId) -> Self {
        if let Some(root) = self.roots.last_mut() {
            root.id = Some(id);
        }
        self
    }

    /// In place of a lock of the caller's own, which ends in the same step: an upgrade, a widening, a move.
    pub fn replacing(mut self, token: LockToken) -> Self {
        self.replaces.push(Replace::Held(token));
        self
    }

    /// In place of somebody else's lock, which is broken in the same step. Over HTTP the authorizer is asked for each.
    pub fn breaking(mut self, id: LockId, reason: impl Into<String>) -> Self {
        self.replaces.push(Replace::Broken { id, reason: reason.into() });
        self
    }

    /// In place of a lock, by this right.
    pub(super) fn taking(mut self, right: Replace) -> Self {
        self.replaces.push(right);
        self
    }

    /// How long to wait for writes in flight; zero is not at all.
    pub fn draining(mut self, drain: Duration) -> Self {
        self.drain = Some(drain);
        self
    }

    /// Waits up to so long for locks in the way to go, in line: who came first for a resource is served first. Over HTTP a
    /// client says so by `Prefer: wait=n` (RFC 7240 section 4.3).
    ///
    /// - Acquires of one root are served in the order of their arrival in this process, shared ones together; several processes
    ///   on one store take what comes. Who does not wait passes nobody: as long as others wait for a lock on the same root that
    ///   its own would conflict with, an acquire is 423, though that lock may be free at the moment. A repeat is answered all the
    ///   same, and a replacement of one's own lock waits for nobody.
    /// - Several roots keep a place at each of them, and are had all at once or not at all.
    /// - Lines at different roots know nothing of each other: an acquire of a collection can be passed over by those of its
    ///   members, until its time is up.
    /// - When the time is up, the refusal is the one that it would have got by then: 423, 409 over writes that do not end, 503
    ///   if the store is down. While it waits, a store that fails for a while ends nothing.
    /// - 429 `too_many_waiting` past [`Limits::waiters_per_resource`](super::Limits::waiters_per_resource) and
    ///   [`Limits::waiters`](super::Limits::waiters).
    ///
    /// Dropping the acquire gives up its place. One that is neither polled nor dropped keeps it, and everybody behind it waits.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use tower_lock::{LockRequest, Locks, MemoryStore};
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let locks = Locks::new(MemoryStore::new());
    /// let first = locks.acquire(LockRequest::exclusive("/docs/7")).await?;
    /// let patient = LockRequest::exclusive("/docs/7").waiting(Duration::from_secs(30));
    /// let (second, _) = tokio::join!(locks.acquire(patient), locks.release(first.token()));
    /// assert_eq!(second?.lock().root().path(), "/docs/7");
    /// # Ok(()) }
    /// ```
    pub fn waiting(mut self, patience: Duration) -> Self {
        self.waiting = Some(patience);
        self
    }

    /// From inside a write of one's own, which is not waited for: see `Admission::write_id`.
    pub fn within(mut self, write: Option<WriteId>) -> Self {
        self.within = write;
        self
    }
}

impl Root {
    fn path(path: impl Into<String>) -> Self {
        Self { name: RootName::Path(path.into()), token: None, id: None }
    }
}
