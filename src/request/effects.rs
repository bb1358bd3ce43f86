//! Which resources a write may change: the method table of the rules, as one function.

use std::{borrow::Cow, ops::Deref};

use http::Method;
use smallvec::SmallVec;

use super::{RequestError, RequestView, ResolveTargets, Resolved, Role, destination::destination_path, resolve::resolve_in};
use crate::lock::{Effect, Gone, Reach, ResourceKey, Target};

/// The most resources one write may name; a resolver that names more has the request refused with 400.
pub const MAX_TARGETS: usize = 1_000;

/// What a write may change. Dereferences to the slice of [`Target`]s: first those of the request target, then those of
/// the `Destination`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Targets<'r> {
    list: SmallVec<[Target<'r>; 2]>,
    // Where those of the `Destination` begin.
    destination: usize,
}

impl<'r> Targets<'r> {
    /// The targets that come from the request target.
    #[must_use]
    pub fn of_target(&self) -> &[Target<'r>] {
        &self.list[..self.destination]
    }

    /// The targets that come from the `Destination`.
    #[must_use]
    pub fn of_destination(&self) -> &[Target<'r>] {
        &self.list[self.destination..]
    }

    /// The same targets, owning their text: good for any lifetime.
    #[must_use]
    pub fn into_owned<'o>(self) -> Targets<'o> {
        let own = |target: Target<'r>| -> Target<'o> {
            Target { key: target.key.into_owned(), effect: target.effect, membership: target.membership }
        };
        Targets { list: self.list.into_iter().map(own).collect(), destination: self.destination }
    }

    fn add(&mut self, resolved: Resolved<'r>, target: fn(ResourceKey<'r>) -> Target<'r>) -> Result<(), RequestError> {
        for key in resolved {
            if self.list.len() == MAX_TARGETS {
                return Err(RequestError::TooMany { what: "resources in one write", limit: MAX_TARGETS });
            }
            self.list.push(target(key));
        }
        Ok(())
    }
}

impl<'r> Deref for Targets<'r> {
    type Target = [Target<'r>];

    fn deref(&self) -> &[Target<'r>] {
        &self.list
    }
}

impl<'r> FromIterator<Target<'r>> for Targets<'r> {
    /// Targets that all come from the request target.
    fn from_iter<I: IntoIterator<Item = Target<'r>>>(targets: I) -> Self {
        let list: SmallVec<_> = targets.into_iter().collect();
        Self { destination: list.len(), list }
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
pub fn targets<'r>(
    request: RequestView<'r>,
    resolver: &dyn ResolveTargets,
    namespace: Option<&Cow<'r, str>>,
) -> Result<Targets<'r>, RequestError> {
    let unlink = if resolver.reaches_below() { Target::unlink } else { Target::write_member };
    let target = || resolve_in(request, Role::Target, Cow::Borrowed(request.uri.path()), resolver, namespace);
    let mut targets = Targets::default();

    match *request.method {
        Method::PUT | Method::PATCH => {
            let target = target()?;
            let effect = if target.is_existing() { Target::write } else { Target::write_member };
            targets.add(target, effect)?;
        }
        Method::POST => targets.add(target()?, Target::write_member)?,
        Method::DELETE => targets.add(target()?, unlink)?,
        _ => match request.method.as_str() {
            "PROPPATCH" => targets.add(target()?, Target::write)?,
            "MKCOL" => targets.add(target()?, Target::write_member)?,
            method => {
                let destination = destination_path(request.headers)?;
                // The source of a COPY is only read.
                if !(method == "COPY" && destination.is_some()) {
                    targets.add(target()?, unlink)?;
                }
                targets.destination = targets.list.len();
                if let Some(path) = destination {
                    targets.add(resolve_in(request, Role::Destination, path, resolver, namespace)?, unlink)?;
                }
                return Ok(targets);
            }
        },
    }
    targets.destination = targets.list.len();
    Ok(targets)
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
