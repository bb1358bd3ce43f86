//! Which resources a write may change: the method table of the rules, as one function.

use std::{borrow::Cow, mem, ops::Deref, slice};

use http::Method;
use smallvec::SmallVec;

use super::{Ask, RequestError, RequestView, ResolveTargets, Role, destination::destination_path, resolve::resolve_in};
use crate::lock::{Effect, Gone, KeyRules, Membership, Reach, ResourceKey, Target};

/// The most resources one write may name; a resolver that names more has the request refused with 400.
pub const MAX_TARGETS: usize = 1_000;

/// What a write may change. Dereferences to the slice of [`Target`]s: first those of the request target, then those of
/// the `Destination`.
#[derive(Clone, Debug)]
pub struct Targets<'r> {
    list: List<'r>,
    // Where those of the `Destination` begin.
    destination: usize,
}

/// Mostly one, and then made where it is to stay; two for a MOVE.
#[derive(Clone, Debug)]
enum List<'r> {
    One(Target<'r>),
    Two([Target<'r>; 2]),
    Many(Vec<Target<'r>>),
}

impl<'r> List<'r> {
    fn push(&mut self, target: Target<'r>) {
        *self = match mem::replace(self, Self::Many(Vec::new())) {
            Self::Many(list) if list.is_empty() => Self::One(target),
            Self::One(first) => Self::Two([first, target]),
            Self::Two([first, second]) => Self::Many(vec![first, second, target]),
            Self::Many(mut list) => {
                list.push(target);
                Self::Many(list)
            }
        };
    }
}

impl<'r> Targets<'r> {
    /// The targets that come from the request target.
    #[must_use]
    pub fn of_target(&self) -> &[Target<'r>] {
        &self[..self.destination]
    }

    /// The targets that come from the `Destination`.
    #[must_use]
    pub fn of_destination(&self) -> &[Target<'r>] {
        &self[self.destination..]
    }

    /// The same targets, where somebody knows that the request target exists: its parent keeps the members it has. Only for
    /// a PUT or a PATCH.
    #[must_use]
    pub fn existing(mut self) -> Self {
        let destination = self.destination;
        self.as_mut_slice()[..destination].iter_mut().for_each(|target| target.membership = Membership::Kept);
        self
    }

    /// The same targets of a COPY or MOVE that overwrites nothing (`Overwrite: F`, RFC 4918 section 10.6): nothing is
    /// unlinked at the `Destination`.
    #[must_use]
    pub fn overwriting_nothing(mut self) -> Self {
        let destination = self.destination;
        self.as_mut_slice()[destination..].iter_mut().for_each(|target| target.effect = Effect::Write);
        self
    }

    fn as_mut_slice(&mut self) -> &mut [Target<'r>] {
        match &mut self.list {
            List::One(target) => slice::from_mut(target),
            List::Two(both) => both,
            List::Many(list) => list,
        }
    }

    /// The same targets, owning their text: good for any lifetime.
    #[must_use]
    pub fn into_owned<'o>(self) -> Targets<'o> {
        let own = |target: Target<'r>| -> Target<'o> {
            Target { key: target.key.into_owned(), effect: target.effect, membership: target.membership }
        };
        let list = match self.list {
            List::One(target) => List::One(own(target)),
            List::Two(both) => List::Two(both.map(own)),
            List::Many(list) => List::Many(list.into_iter().map(own).collect()),
        };
        Targets { list, destination: self.destination }
    }

    /// What comes from the request target, where nothing comes from elsewhere.
    #[inline(never)]
    fn of(
        keys: impl IntoIterator<Item = ResourceKey<'r>>,
        effect: Effect,
        membership: Membership,
    ) -> Result<Self, RequestError> {
        let mut targets = Self::default();
        targets.add(keys, effect, membership)?;
        targets.destination = targets.len();
        Ok(targets)
    }

    fn add(
        &mut self,
        keys: impl IntoIterator<Item = ResourceKey<'r>>,
        effect: Effect,
        membership: Membership,
    ) -> Result<(), RequestError> {
        for key in keys {
            if self.len() == MAX_TARGETS {
                return Err(RequestError::TooMany { what: "resources in one write", limit: MAX_TARGETS });
            }
            self.list.push(Target { key, effect, membership });
        }
        Ok(())
    }
}

impl Default for Targets<'_> {
    fn default() -> Self {
        Self { list: List::Many(Vec::new()), destination: 0 }
    }
}

impl PartialEq for Targets<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.destination == other.destination && **self == **other
    }
}

impl Eq for Targets<'_> {}

impl<'r> Deref for Targets<'r> {
    type Target = [Target<'r>];

    #[inline]
    fn deref(&self) -> &[Target<'r>] {
        match &self.list {
            List::One(target) => slice::from_ref(target),
            List::Two(both) => both,
            List::Many(list) => list,
        }
    }
}

impl<'r> FromIterator<Target<'r>> for Targets<'r> {
    /// Targets that all come from the request target.
    fn from_iter<I: IntoIterator<Item = Target<'r>>>(targets: I) -> Self {
        let list: Vec<_> = targets.into_iter().collect();
        Self { destination: list.len(), list: List::Many(list) }
    }
}

/// What `request`, a write, may change. Whether it is one is the question of [`MethodRules`](super::MethodRules), to be
/// asked before: a method that the table does not know as a write is here one that may do anything.
///
/// | method | writes | unlinks (with all below) | changes membership of |
/// |---|---|---|---|
/// | PUT, PATCH, POST, PROPPATCH | target | | parent (not PROPPATCH), unless the resolver knows that the target exists (PUT, PATCH) |
/// | MKCOL | target | | parent |
/// | DELETE | target | target | parent |
/// | COPY | Destination | Destination | parent of Destination |
/// | MOVE | Destination | source, Destination | both parents |
/// | unknown | target; Destination if there | target; Destination if there | their parents |
///
/// No `Overwrite` header is believed. A MOVE without a `Destination` unlinks its source, a COPY without one counts as an
/// unknown method. Where the resolver says that nothing reaches below, to unlink is to write. A PUT, PATCH, POST or
/// DELETE of a canonical path without a namespace costs no allocation.
///
/// # Errors
/// A path without a key; a `Destination` that is malformed or that services read in different ways, where the method
/// heeds one; more than [`MAX_TARGETS`] resources. Answered 400.
#[inline]
pub fn targets<'r>(
    request: RequestView<'r>,
    resolver: &dyn ResolveTargets,
    namespace: Option<&Cow<'r, str>>,
) -> Result<Targets<'r>, RequestError> {
    let (effect, membership, existing) = match *request.method {
        Method::PUT | Method::PATCH => (Effect::Write, Membership::Changed, Membership::Kept),
        Method::POST => (Effect::Write, Membership::Changed, Membership::Changed),
        Method::DELETE => (unlinking(resolver), Membership::Changed, Membership::Changed),
        _ => return targets_of_other(request, resolver, namespace),
    };
    match resolver.resolve(&Ask::target(request)) {
        Ok(resolved) if namespace.is_none() => {
            let membership = if resolved.is_existing() { existing } else { membership };
            match resolved.single() {
                // Mostly this: what was resolved is moved once, to where it stays.
                Ok(key) => Ok(Targets { list: List::One(Target { key, effect, membership }), destination: 1 }),
                Err(keys) => Targets::of(keys, effect, membership),
            }
        }
        Ok(resolved) => {
            let membership = if resolved.is_existing() { existing } else { membership };
            Targets::of(resolved.in_namespace(namespace), effect, membership)
        }
        Err(error) => Err(error.into()),
    }
}

/// What [`targets`] gives for a request, where it is one resource and the answer is at hand: a method that writes one, a path
/// that is its own key by `rules`, no namespace.
#[inline]
pub(crate) fn plain_target<'r>(method: &Method, path: &'r str, rules: &KeyRules) -> Option<Target<'r>> {
    let effect = match *method {
        Method::PUT | Method::PATCH | Method::POST => Effect::Write,
        Method::DELETE => unlinking(rules),
        _ => return None,
    };
    let key = rules.same(path)?;
    Some(Target { key, effect, membership: Membership::Changed })
}

#[inline(never)]
fn targets_of_other<'r>(
    request: RequestView<'r>,
    resolver: &dyn ResolveTargets,
    namespace: Option<&Cow<'r, str>>,
) -> Result<Targets<'r>, RequestError> {
    let target = || resolve_in(request, Role::Target, Cow::Borrowed(request.uri.path()), resolver, namespace);
    let method = match request.method.as_str() {
        "PROPPATCH" => return Targets::of(target()?, Effect::Write, Membership::Kept),
        "MKCOL" => return Targets::of(target()?, Effect::Write, Membership::Changed),
        method => method,
    };
    let unlinking = unlinking(resolver);
    let destination = destination_path(request.headers)?;
    let mut targets = Targets::default();
    // The source of a COPY is only read.
    if !(method == "COPY" && destination.is_some()) {
        targets.add(target()?, unlinking, Membership::Changed)?;
    }
    targets.destination = targets.len();
    if let Some(path) = destination {
        let resolved = resolve_in(request, Role::Destination, path, resolver, namespace)?;
        targets.add(resolved, unlinking, Membership::Changed)?;
    }
    Ok(targets)
}

/// What becomes of a resource that goes: where nothing reaches below, to unlink is to write.
fn unlinking(resolver: &dyn ResolveTargets) -> Effect {
    if resolver.reaches_below() { Effect::Unlink } else { Effect::Write }
}

/// Whether [`gone`] ever names anything for `method`: for most writes it need not be asked.
pub(crate) fn may_leave_gone(method: &Method) -> bool {
    matches!(method.as_str(), "DELETE" | "MOVE" | "COPY")
}

/// Which locks end once the service has done what `method` asked for, to `targets` as [`targets`] gave them (RFC 4918
/// sections 9.6, 9.8.4 and 9.9.3): those at or below a resource that was deleted or moved away, and those strictly
/// below one that was overwritten. With exact keys, those at a resource that was deleted or moved away.
///
/// Whether it was done is for the caller to say: a 2xx other than 202 and 207. Of an unknown method nobody knows.
#[must_use]
pub fn gone<'t>(method: &Method, targets: &'t Targets<'_>) -> SmallVec<[Gone<'t>; 2]> {
    let (source, destination): (&[Target<'_>], &[Target<'_>]) = match method.as_str() {
        "DELETE" => (targets.of_target(), &[]),
        "MOVE" => (targets.of_target(), targets.of_destination()),
        "COPY" => (&[], targets.of_destination()),
        _ => (&[], &[]),
    };
    let source = source.iter().map(|target| match target.effect {
        Effect::Unlink => (target, Reach::AtOrBelow),
        Effect::Write => (target, Reach::At),
    });
    // With exact keys there is nothing below that could have been overwritten.
    let destination = destination.iter().filter(|target| target.effect == Effect::Unlink);
    source
        .chain(destination.map(|target| (target, Reach::Below)))
        .map(|(target, reach)| Gone { key: target.key.borrowed(), reach })
        .collect()
}

#[cfg(test)]
mod tests;
