//! `LockTerms`: what lock is asked for over HTTP.

use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::lock::{Depth, LockId, LockKind, LockScope, LockToken};

/// What to lock, and how: the body of an acquire. What is not said is left to the server.
///
/// A resource is named by its path as in a request target, percent-encoded, starting with a slash; in full, as refusals name
/// it, whatever prefix a router in front of the server strips.
#[derive(Clone, Debug)]
#[must_use]
pub struct LockTerms {
    resources: Vec<String>,
    scope: LockScope,
    depth: Option<Depth>,
    kind: Option<LockKind>,
    life: Option<Life>,
    owner_name: Option<String>,
    reason: Option<String>,
    client_ref: Option<String>,
    waiting: Duration,
    drain: Option<Duration>,
    breaks: Vec<(LockId, String)>,
}

/// How long the locks are to live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    /// So many seconds.
    For(u64),
    Endless,
}

impl Life {
    pub(super) fn timeout(self) -> Value {
        match self {
            Self::For(seconds) => json!(seconds),
            Self::Endless => json!("infinite"),
        }
    }
}

impl LockTerms {
    /// An exclusive lock.
    pub fn exclusive(resource: impl Into<String>) -> Self {
        Self::on(LockScope::Exclusive, resource.into())
    }

    /// A shared lock.
    pub fn shared(resource: impl Into<String>) -> Self {
        Self::on(LockScope::Shared, resource.into())
    }

    fn on(scope: LockScope, resource: String) -> Self {
        Self {
            resources: vec![resource],
            scope,
            depth: None,
            kind: None,
            life: None,
            owner_name: None,
            reason: None,
            client_ref: None,
            waiting: Duration::ZERO,
            drain: None,
            breaks: Vec::new(),
        }
    }

    /// Another resource too, all or nothing.
    pub fn and_on(mut self, resource: impl Into<String>) -> Self {
        self.resources.push(resource.into());
        self
    }

    /// How far below the resource it reaches; to infinity, unless said otherwise.
    pub fn depth(mut self, depth: Depth) -> Self {
        self.depth = Some(depth);
        self
    }

    /// What it is for; a server may allow kinds other than [`LockKind::User`] to some callers only.
    pub fn kind(mut self, kind: LockKind) -> Self {
        self.kind = Some(kind);
        self
    }

    /// How long it lives from each refresh, in whole seconds, rounded up. The server may give less. The guard survives
    /// an outage that is shorter than what is left of it.
    pub fn lifetime(mut self, span: Duration) -> Self {
        self.life = Some(Life::For(whole_seconds(span)));
        self
    }

    /// It is to have no end.
    pub fn endless(mut self) -> Self {
        self.life = Some(Life::Endless);
        self
    }

    /// What others are told of who holds it, where the server does not know better.
    pub fn owner_name(mut self, name: impl Into<String>) -> Self {
        self.owner_name = Some(name.into());
        self
    }

    /// Why, for others to read.
    pub fn reason(mut self, reason: impl Into<String>) -> Self {
        self.reason = Some(reason.into());
        self
    }

    /// A public text of one's own.
    pub fn client_ref(mut self, text: impl Into<String>) -> Self {
        self.client_ref = Some(text.into());
        self
    }

    /// Stands in line for up to so long, in whole seconds, where the server allows waiting (`Prefer: wait`, RFC 7240). One
    /// that lets nobody wait for so long is asked again until the time is up, from the end of its line.
    pub fn waiting(mut self, span: Duration) -> Self {
        self.waiting = span;
        self
    }

    /// How long the server waits for writes in flight to end, in whole seconds.
    pub fn draining(mut self, span: Duration) -> Self {
        self.drain = Some(span);
        self
    }

    /// Ends somebody else's lock in the same step, where the server allows it. Its holder is told the reason.
    pub fn breaking(mut self, lock: LockId, reason: impl Into<String>) -> Self {
        self.breaks.push((lock, reason.into()));
        self
    }

    pub(super) fn resources(&self) -> &[String] {
        &self.resources
    }

    pub(super) const fn life(&self) -> Option<Life> {
        self.life
    }

    pub(super) const fn patience(&self) -> Duration {
        self.waiting
    }

    /// The body of an acquire that proposes `tokens`.
    pub(super) fn body(&self, tokens: &[LockToken]) -> Value {
        let mut body = Map::new();
        let mut say = |name: &str, value: Option<Value>| {
            if let Some(value) = value {
                body.insert(name.to_owned(), value);
            }
        };
        match (&self.resources[..], tokens) {
            ([_], [token]) => say("token", Some(json!(token.urn().to_string()))),
            (resources, tokens) => {
                let each = resources.iter().zip(tokens);
                let each = each.map(|(path, token)| json!({ "resource": path, "token": token.urn().to_string() }));
                say("resources", Some(each.collect()));
            }
        }
        say("scope", (self.scope != LockScope::Exclusive).then(|| json!(self.scope)));
        say("depth", self.depth.map(|depth| json!(depth)));
        say("kind", self.kind.as_ref().map(|kind| json!(kind)));
        say("timeout", self.life.map(Life::timeout));
        say("owner", self.owner_name.as_ref().map(|name| json!({ "name": name })));
        say("reason", self.reason.as_ref().map(|reason| json!(reason)));
        say("client_ref", self.client_ref.as_ref().map(|text| json!(text)));
        say("drain", self.drain.map(|span| json!(whole_seconds(span))));
        let breaks = self.breaks.iter().map(|(lock, reason)| json!({ "lock_id": lock, "reason": reason }));
        say("replaces", (!self.breaks.is_empty()).then(|| breaks.collect()));
        Value::Object(body)
    }
}

/// Rounded up: nobody gets less than was asked for.
pub(super) fn whole_seconds(span: Duration) -> u64 {
    span.as_secs().saturating_add(u64::from(span.subsec_nanos() > 0))
}
