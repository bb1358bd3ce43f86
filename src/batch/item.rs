//! `Item`: what one entry of a bulk write changes.

use std::borrow::Cow;

use percent_encoding::{AsciiSet, utf8_percent_encode};

use crate::lock::{Effect, Membership, NOT_IN_A_PATH, ResourceKey};

/// One entry of a bulk write: which resources it changes, what it is called, what it depends on.
///
/// A path is percent-encoded, as in a request target; [`Item::segment`] encodes an id. There are two forms:
///
/// - With a slash in front it names its resource in full, as refusals do, and goes through the resolver of the
///   [`Locks`](crate::Locks) as [`Role::Root`](crate::request::Role::Root).
/// - Without one it lies below the resource that the request is sent to. The resolver tells which that is, as for every write:
///   what a router outside has stripped, or a resolver drops, is so the same for a record in a bulk write and for that
///   record by itself. The path in full that comes of it then goes the way of the others. Where the resolver knows of none
///   or of several resources there, the request is 400.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct Item {
    pub(super) changes: Vec<Change>,
    pub(super) name: Option<String>,
    pub(super) after: Vec<usize>,
}

/// A resource that an item changes, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) path: String,
    pub(super) effect: Effect,
    pub(super) membership: Membership,
}

impl Change {
    /// The path in full, where the request is sent to `resource`.
    pub(super) fn path_below(&self, resource: &ResourceKey<'_>) -> Cow<'_, str> {
        if self.path.starts_with('/') {
            return Cow::Borrowed(&self.path);
        }
        Cow::Owned(format!("{}/{}", resource.uri().trim_end_matches('/'), self.path))
    }

    /// Whether what the request is sent to has to be known for the path in full.
    pub(super) fn is_relative(&self) -> bool {
        !self.path.starts_with('/')
    }
}

impl Item {
    /// An item that changes nothing that can be locked, beside what the request itself does: where the service makes up the
    /// id of a new record. A lock on the collection that the request is sent to is in its way all the same.
    pub fn nothing() -> Self {
        Self::default()
    }

    /// An item that changes the resource at `path`, which exists: the membership of its collection stays.
    pub fn write(path: impl Into<String>) -> Self {
        Self::nothing().and(path.into(), Effect::Write, Membership::Kept)
    }

    /// An item that changes the resource at `path`, or makes it.
    pub fn write_or_create(path: impl Into<String>) -> Self {
        Self::nothing().and(path.into(), Effect::Write, Membership::Changed)
    }

    /// An item that removes the resource at `path` with everything below. Once the service has done it, the locks there end.
    pub fn unlink(path: impl Into<String>) -> Self {
        Self::nothing().and(path.into(), Effect::Unlink, Membership::Changed)
    }

    /// The same item, which changes the resource at `path` as well.
    pub fn and_write(self, path: impl Into<String>) -> Self {
        self.and(path.into(), Effect::Write, Membership::Kept)
    }

    /// What the client calls it: shown beside its position in a refusal, and what [`Item::after`] goes by where a codec reads
    /// names.
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// The same item, which is not to be done unless that at `position` is: where that one is refused, this is answered 424
    /// (RFC 4918 section 11.4). Circles are allowed: of those that hang together all are refused, or none.
    pub fn after(mut self, position: usize) -> Self {
        self.after.push(position);
        self
    }

    /// What the client calls it.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// `id` as a segment of a path: that of the member of this id of the collection that the request is sent to. The id is
    /// one segment, whatever stands in it, but for a slash, which servers do not tell from a separator once it is decoded,
    /// and for `.` and `..`, which no encoding makes names of.
    #[must_use]
    pub fn segment(id: &str) -> String {
        const NOT_IN_A_SEGMENT: &AsciiSet = &NOT_IN_A_PATH.add(b'%').add(b'/');
        utf8_percent_encode(id, NOT_IN_A_SEGMENT).to_string()
    }

    fn and(mut self, path: String, effect: Effect, membership: Membership) -> Self {
        self.changes.push(Change { path, effect, membership });
        self
    }
}
