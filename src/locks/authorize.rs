//! `Authorizer`: who may acquire, see, list, break and transfer locks over HTTP.

use std::time::Duration;

use crate::lock::{Depth, Lock, LockKind, Principal, ResourceKey};

/// What somebody wants to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Action {
    /// Acquire a lock.
    Acquire,
    /// See a lock: in an inspection, or in the refusal of a write.
    See,
    /// List the locks of others.
    List,
    /// End somebody else's lock.
    Break,
    /// Hand a lock to another principal.
    Transfer,
}

/// Who wants to do what to which resource.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct AuthorizeAsk<'a> {
    /// What.
    pub action: Action,
    /// Who; none is the anonymous caller.
    pub principal: Option<&'a Principal>,
    /// To which resource: the lock's root.
    pub key: &'a ResourceKey<'a>,
    /// The kind of the lock.
    pub kind: &'a LockKind,
    /// Its depth.
    pub depth: Depth,
    /// How long it is to live, for [`Action::Acquire`]; none is endless.
    pub lifetime: Option<Duration>,
    /// The lock in question, where there is one already.
    pub lock: Option<&'a Lock>,
}

impl AuthorizeAsk<'_> {
    /// Whether the lock in question is the caller's own. Never so for an anonymous caller, whom nothing tells from
    /// another one.
    #[must_use]
    pub fn is_own(&self) -> bool {
        self.principal.is_some() && self.lock.is_some_and(|lock| lock.principal() == self.principal)
    }
}

/// What an [`Authorizer`] answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Access {
    /// No. A lock that may not be seen is left out; a refusal over such locks alone tells no more than its status.
    Denied,
    /// For [`Action::See`]: that there is a lock, what on, and until when; neither owner nor reason. For
    /// [`Action::List`]: one's own. For everything else: no.
    Limited,
    /// Yes.
    Allowed,
}

/// Decides who may do what. In-process callers are not asked: they are the application.
///
/// A closure does: `.authorizer(|ask: &AuthorizeAsk<'_>| ..)`. To change the default in one respect, ask
/// [`DefaultAuthorizer`] for the rest.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no authorizer",
    note = "a closure `Fn(&AuthorizeAsk<'_>) -> Access + Send + Sync + 'static` is one"
)]
pub trait Authorizer: Send + Sync + 'static {
    /// Decides.
    fn authorize(&self, ask: &AuthorizeAsk<'_>) -> Access;
}

impl<F> Authorizer for F
where
    F: Fn(&AuthorizeAsk<'_>) -> Access + Send + Sync + 'static,
{
    fn authorize(&self, ask: &AuthorizeAsk<'_>) -> Access {
        self(ask)
    }
}

/// What goes without an authorizer: acquire [`LockKind::User`] below the root with an end; see owner and reason of one's
/// own locks, and of others that they exist and until when; list one's own; break and transfer nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct DefaultAuthorizer;

impl Authorizer for DefaultAuthorizer {
    fn authorize(&self, ask: &AuthorizeAsk<'_>) -> Access {
        let allowed = match ask.action {
            Action::Acquire => *ask.kind == LockKind::User && !ask.key.is_root() && ask.lifetime.is_some(),
            Action::See if ask.is_own() => true,
            Action::See | Action::List => return Access::Limited,
            Action::Break | Action::Transfer => false,
        };
        if allowed { Access::Allowed } else { Access::Denied }
    }
}
