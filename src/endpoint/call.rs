//! `Call`: one management request, read and routed; and what all verbs take from it.

use http::{Uri, request::Parts, uri::PathAndQuery};

use super::route::{Query, Target, Verb};
use crate::{
    lock::{KeyError, LockId, LockToken, ResourceKey},
    locks::{Caller, Locks, Named, Refusal},
    request::{Ask, RequestView, ResolveTargets, Resolved, Role, StateToken},
};

/// One management request.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) locks: Locks,
    pub(super) parts: Parts,
    pub(super) target: Target,
    pub(super) query: Query,
    pub(super) verb: Verb,
}

impl Call {
    pub(super) fn view(&self) -> RequestView<'_> {
        RequestView::from_parts(&self.parts)
    }

    pub(super) fn caller(&self) -> Result<Caller, Refusal> {
        self.locks.caller(&self.view())
    }

    /// The key of a path that this request names in full, by the rules of a write.
    pub(super) fn key(&self, caller: &Caller, path: &str) -> Result<ResourceKey<'static>, Refusal> {
        self.locks.root_key_in(self.view(), Role::Root, path, caller.namespace())
    }

    /// The key of the resource that is managed.
    pub(super) fn resource(&self, caller: &Caller) -> Result<ResourceKey<'static>, Refusal> {
        match &self.target {
            Target::Resource(path, Role::Target) => {
                // The resolver is asked as for a write to the resource itself, beside which the endpoint stands: what a
                // router outside stripped, and the parameters that it found, are the same for both.
                let uri = self.beside(path)?;
                let view = RequestView { uri: &uri, ..self.view() };
                self.locks.root_key_in(view, Role::Target, uri.path(), caller.namespace())
            }
            Target::Resource(path, _) => self.key(caller, path),
            Target::List | Target::Lock(_) => Err(Refusal::bad_request("no resource is named")),
        }
    }

    /// The request target, with another path.
    fn beside(&self, path: &str) -> Result<Uri, Refusal> {
        let query = self.parts.uri.query().map(|query| format!("?{query}")).unwrap_or_default();
        let mut parts = self.parts.uri.clone().into_parts();
        parts.path_and_query = PathAndQuery::try_from(format!("{path}{query}")).ok();
        Uri::from_parts(parts).map_err(|_| Refusal::bad_request("this path is no request target"))
    }

    /// The lock that is meant, by the target and by the one token that the head and the body submit.
    pub(super) fn named(&self, caller: &Caller, in_body: Option<LockToken>) -> Result<Named, Refusal> {
        let token = self.token(caller, in_body)?;
        let named = token.map_or_else(Named::nothing, Named::token);
        match &self.target {
            Target::Resource(..) => Ok(named.at(self.resource(caller)?)),
            Target::Lock(id) => Ok(named.and_id(*id)),
            Target::List => Ok(named),
        }
    }

    /// The one token that head and body submit.
    pub(super) fn token(&self, caller: &Caller, in_body: Option<LockToken>) -> Result<Option<LockToken>, Refusal> {
        // Which resources the lists of `If` are about is nothing to ask the application for: the lock is to cover the
        // resource that is managed, and the store sees to that.
        let mut conditions = self.locks.conditions_by(self.view(), &AnyKey, None)?;
        if let Some(StateToken::Foreign | StateToken::NoLock) = conditions.lock_token() {
            return Err(Refusal::bad_request("Lock-Token: a lock token is `urn:uuid:` followed by a UUID"));
        }
        // The tokens count as matching here. What is false even so (`Not <token>`, a token of somebody else's making)
        // is false however the locks are.
        if !conditions.holds(|_, _| true).is_true() {
            return Err(self.locks.lock_lost(caller, None, Vec::new(), Vec::new(), false));
        }
        if let Some(token) = in_body {
            conditions.submit(token)?;
        }
        match conditions.tokens() {
            [] => Ok(None),
            [token] => Ok(Some(*token)),
            _ => Err(Refusal::bad_request("several lock tokens are submitted; one lock is managed at a time")),
        }
    }

    /// Whether the head relies on a lock, where nothing can come of that.
    pub(super) fn expect_no_conditions(&self, why: &str) -> Result<(), Refusal> {
        for name in ["if", "lock-token"] {
            if self.parts.headers.contains_key(name) {
                let name = if name == "if" { "If" } else { "Lock-Token" };
                return Err(Refusal::bad_request(format!("{name}: {why}")));
            }
        }
        Ok(())
    }

    pub(super) fn lock_id(&self) -> Option<LockId> {
        match self.target {
            Target::Lock(id) => Some(id),
            _ => None,
        }
    }
}

/// Stands in for the resources of an `If` header that nobody asks about.
struct AnyKey;

impl ResolveTargets for AnyKey {
    fn resolve<'r>(&self, _ask: &Ask<'r>) -> Result<Resolved<'r>, KeyError> {
        Ok(Resolved::key(ResourceKey::from_canonical("/")))
    }
}
