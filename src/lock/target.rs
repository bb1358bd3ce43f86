//! `Target`: what a write may change, as section 4's method table says it.

use super::ResourceKey;

/// One resource that a write may change, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target<'a> {
    /// The resource.
    pub key: ResourceKey<'a>,
    /// What happens to it.
    pub effect: Effect,
    /// What happens to the collection it is a member of.
    pub membership: Membership,
}

/// What a write does to a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    /// Its content or properties change.
    Write,
    /// It goes, with all below.
    Unlink,
}

/// What a write does to the membership of the target's parent. A depth-zero lock on a collection protects which members
/// it has (RFC 4918 section 7.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Membership {
    /// The parent keeps the members it has.
    Kept,
    /// The target may be added to or taken from its parent.
    Changed,
}

impl<'a> Target<'a> {
    /// A write of a resource that is known to exist.
    #[must_use]
    pub fn write(key: ResourceKey<'a>) -> Self {
        Self { key, effect: Effect::Write, membership: Membership::Kept }
    }

    /// A write of a resource that it may create.
    #[must_use]
    pub fn write_member(key: ResourceKey<'a>) -> Self {
        Self { key, effect: Effect::Write, membership: Membership::Changed }
    }

    /// A resource that goes, with all below.
    #[must_use]
    pub fn unlink(key: ResourceKey<'a>) -> Self {
        Self { key, effect: Effect::Unlink, membership: Membership::Changed }
    }
}

/// Whose locks end because their resource is gone (RFC 4918 sections 9.6 and 9.9).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gone<'a> {
    /// The resource that was deleted, moved away or overwritten.
    pub key: ResourceKey<'a>,
    /// Which locks go with it.
    pub reach: Reach,
}

/// Which locks go with a resource, by their roots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reach {
    /// Those rooted at it.
    At,
    /// Those rooted at it or below: it was deleted or moved away.
    AtOrBelow,
    /// Those rooted strictly below: it was overwritten, and a lock on it now protects what took its place.
    Below,
}

impl Gone<'_> {
    /// Whether a lock rooted at `root` goes.
    #[must_use]
    pub fn takes(&self, root: &ResourceKey<'_>) -> bool {
        match self.reach {
            Reach::At => *root == self.key,
            Reach::AtOrBelow => *root == self.key || root.is_below(&self.key),
            Reach::Below => root.is_below(&self.key),
        }
    }
}
