//! `Caller`: on whose behalf something is done, and how far they are trusted.

use crate::lock::{Owner, Principal};

/// On whose behalf something is asked of [`Locks`](super::Locks).
#[derive(Clone, Debug)]
pub struct Caller {
    principal: Option<Principal>,
    owner: Option<Owner>,
    namespace: Option<String>,
    trust: Trust,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trust {
    /// The application itself: asks no authorizer, sees everything.
    Application,
    /// Somebody at the other end of a connection.
    Remote,
}

impl Caller {
    /// The application itself, acting for `principal` (or for nobody in particular). No authorizer is asked, and
    /// nothing is hidden from it.
    #[must_use]
    pub fn application(principal: Option<Principal>) -> Self {
        Self { principal, owner: None, namespace: None, trust: Trust::Application }
    }

    /// Somebody at the other end of a connection, whom the authorizer decides about.
    #[must_use]
    pub fn remote(principal: Option<Principal>) -> Self {
        Self { principal, owner: None, namespace: None, trust: Trust::Remote }
    }

    /// The same caller, shown to others as `owner`.
    #[must_use]
    pub fn shown_as(mut self, owner: Option<Owner>) -> Self {
        self.owner = owner;
        self
    }

    /// The same caller, in `namespace`.
    #[must_use]
    pub fn in_namespace(mut self, namespace: Option<String>) -> Self {
        self.namespace = namespace;
        self
    }

    /// Who they are; none is anonymous.
    #[must_use]
    pub fn principal(&self) -> Option<&Principal> {
        self.principal.as_ref()
    }

    /// The namespace that their paths are in.
    #[must_use]
    pub fn namespace(&self) -> Option<&str> {
        self.namespace.as_deref()
    }

    /// What others see of them.
    #[must_use]
    pub fn owner(&self) -> Owner {
        self.owner.clone().or_else(|| self.principal.as_ref().map(Owner::from)).unwrap_or_default()
    }

    pub(crate) fn is_application(&self) -> bool {
        self.trust == Trust::Application
    }
}
