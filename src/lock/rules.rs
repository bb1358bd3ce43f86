//! The rules by which every store and every test decides: coverage, conflict, admission. Pure functions.
//!
//! - **Coverage.** A lock covers its root; with [`Depth::Infinity`], everything below by whole segments.
//! - **Conflict.** Two locks conflict when they overlap and are not both shared.
//! - **Admission.** Every lock that covers a written or unlinked resource, is rooted below an unlinked one, or protects
//!   a changed membership must be answered for: by its own token, submitted by its principal; a shared lock also by the
//!   token of another shared lock that covers everything the first covers of what the write changes.
//!
//! A lock protects the membership of a collection exactly when it covers the collection, so "changes the membership of
//! the parent" and "touches the parent" are one question.

use std::sync::Arc;

use super::{
    Depth, Effect, HolderClaim, HolderProof, Lock, LockKind, LockParts, LockScope, Membership, Principal, ResourceKey,
    Target,
    key::{is_below, parent},
};

/// Whether a lock on `root` covers `key`.
#[must_use]
pub fn covers(root: &ResourceKey<'_>, depth: Depth, key: &ResourceKey<'_>) -> bool {
    root.namespace() == key.namespace() && path_covers(root.path(), depth, key.path())
}

/// Whether two locks cover anything in common.
#[must_use]
pub fn overlap(a: (&ResourceKey<'_>, Depth), b: (&ResourceKey<'_>, Depth)) -> bool {
    covers(a.0, a.1, b.0) || covers(b.0, b.1, a.0)
}

/// Whether two locks cannot live at once (RFC 4918 section 9.10.5). The same caller's own count too.
#[must_use]
pub fn conflict(a: &LockParts, b: &LockParts) -> bool {
    !(a.scope == LockScope::Shared && b.scope == LockScope::Shared) && overlap((&a.root, a.depth), (&b.root, b.depth))
}

/// Whether a write of `target` has to answer for a lock on `root`.
#[must_use]
pub fn touches(root: &ResourceKey<'_>, depth: Depth, target: &Target<'_>) -> bool {
    root.namespace() == target.key.namespace() && parts_of(target).any(|part| portion(root.path(), depth, part).is_some())
}

/// Whether a lock (`other`) covers everything that a lock (`first`) covers of what a write of `targets` changes.
#[must_use]
pub fn vouches(other: (&ResourceKey<'_>, Depth), first: (&ResourceKey<'_>, Depth), targets: &[Target<'_>]) -> bool {
    other.0.namespace() == first.0.namespace()
        && targets.iter().filter(|target| target.key.namespace() == first.0.namespace()).flat_map(parts_of).all(|part| {
            portion(first.0.path(), first.1, part).is_none_or(|portion| match portion {
                Part::Point(path) => path_covers(other.0.path(), other.1, path),
                Part::Tree(path) => other.1 == Depth::Infinity && path_covers(other.0.path(), other.1, path),
            })
        })
}

/// What becomes of a write, once the locks that it touches are known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answers {
    /// For each lock, in order: what stands between it and the write.
    pub each: Vec<Answer>,
}

/// How a write stands to one lock that it touches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// By the lock's own token.
    Own,
    /// By the token of another shared lock.
    Shared,
    /// Not at all: the lock refuses the write.
    Refused,
}

impl Answers {
    /// Whether every lock is answered for.
    #[must_use]
    pub fn admit(&self) -> bool {
        self.each.iter().all(|answer| *answer != Answer::Refused)
    }
}

/// How a write of `targets` by `principal` stands to the locks that it touches. `submitted` says of a lock whether its
/// own token was submitted. A lock that is [`Pending`](super::LockState::Pending) is answered for by nobody.
#[must_use]
pub fn answers(
    touched: &[Lock],
    targets: &[Target<'_>],
    principal: Option<&Principal>,
    proof: &HolderProof,
    mut submitted: impl FnMut(&Lock) -> bool,
) -> Answers {
    let mut each: Vec<Answer> = touched
        .iter()
        .map(|lock| {
            let own = lock.state() != super::LockState::Pending
                && proof.answers(&HolderClaim::new(lock, submitted(lock), principal));
            if own { Answer::Own } else { Answer::Refused }
        })
        .collect();
    for at in 0..each.len() {
        let lock = &touched[at];
        if each[at] == Answer::Refused && may_share(lock.parts()) {
            let vouched = touched.iter().zip(&each).any(|(other, answer)| {
                *answer == Answer::Own
                    && other.scope() == LockScope::Shared
                    && vouches((other.root(), other.depth()), (lock.root(), lock.depth()), targets)
            });
            if vouched {
                each[at] = Answer::Shared;
            }
        }
    }
    Answers { each }
}

/// Whether a lock that is still to come would refuse a write of `targets` that was admitted with `own`, the shared locks
/// whose own tokens it submitted. What an acquire waits for is exactly what its mark refuses.
#[must_use]
pub fn would_refuse(coming: &LockParts, targets: &[Target<'_>], own: &[Arc<LockParts>]) -> bool {
    targets.iter().any(|target| touches(&coming.root, coming.depth, target))
        && !(may_share(coming)
            && own.iter().any(|other| {
                other.scope == LockScope::Shared
                    && vouches((&other.root, other.depth), (&coming.root, coming.depth), targets)
            }))
}

/// Whether the token of another shared lock can answer for this one.
fn may_share(lock: &LockParts) -> bool {
    lock.scope == LockScope::Shared && lock.kind != LockKind::Freeze
}

/// A part of the tree that a write changes or a lock covers.
#[derive(Clone, Copy)]
enum Part<'a> {
    /// One resource.
    Point(&'a str),
    /// A resource and everything below.
    Tree(&'a str),
}

/// What a write of `target` changes: the target, and the parent if its membership does.
fn parts_of<'t>(target: &'t Target<'_>) -> impl Iterator<Item = Part<'t>> + use<'t> {
    let path = target.key.path();
    let own = match target.effect {
        Effect::Write => Part::Point(path),
        Effect::Unlink => Part::Tree(path),
    };
    let parent = match target.membership {
        Membership::Kept => None,
        Membership::Changed => parent(path).map(Part::Point),
    };
    std::iter::once(own).chain(parent)
}

/// What a lock on `root` covers of `part`; nothing where the two do not meet.
fn portion<'p>(root: &'p str, depth: Depth, part: Part<'p>) -> Option<Part<'p>> {
    match part {
        Part::Point(path) => path_covers(root, depth, path).then_some(part),
        Part::Tree(path) if path_covers(root, depth, path) => Some(match depth {
            Depth::Infinity => part,
            Depth::Zero => Part::Point(path),
        }),
        Part::Tree(path) => is_below(root, path).then_some(match depth {
            Depth::Infinity => Part::Tree(root),
            Depth::Zero => Part::Point(root),
        }),
    }
}

fn path_covers(root: &str, depth: Depth, path: &str) -> bool {
    root == path || (depth == Depth::Infinity && is_below(path, root))
}

#[cfg(test)]
mod tests;
