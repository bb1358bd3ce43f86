//! `LockQuery`: which locks somebody wants to see.

use std::{fmt, str::FromStr, time::Duration};

use crate::lock::{Lock, LockId, LockKind, Principal, ResourceKey, rules};

/// Which locks to find or to watch: all that fit every filter. Marks count, as [`Pending`](crate::lock::LockState).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LockQuery<'a> {
    /// Where they are.
    pub select: Select<'a>,
    /// Whose they are: `Some(None)` is the anonymous caller's.
    pub principal: Option<Option<&'a Principal>>,
    /// What they are for.
    pub kind: Option<&'a LockKind>,
    /// They were granted at least so long ago, by the store's clock.
    pub older_than: Option<Duration>,
    /// How many to answer at most; the default is 100.
    pub limit: usize,
    /// Where the page before ended.
    pub after: Option<Cursor>,
}

/// Where the wanted locks are.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Select<'a> {
    /// They cover this resource.
    Covering(ResourceKey<'a>),
    /// They are rooted at this resource or below.
    AtOrBelow(ResourceKey<'a>),
    /// It is the one with this id.
    Id(LockId),
}

/// The end of a page, opaque to whoever carries it: the root and id of its last lock.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cursor {
    root: String,
    id: LockId,
}

/// One page of locks, in the order of their roots and ids.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LockPage {
    /// The locks.
    pub locks: Vec<Lock>,
    /// Where the next page starts; none when this is the last.
    pub next: Option<Cursor>,
}

impl<'a> LockQuery<'a> {
    /// The first hundred of the locks that `select` names.
    #[must_use]
    pub const fn new(select: Select<'a>) -> Self {
        Self { select, principal: None, kind: None, older_than: None, limit: 100, after: None }
    }

    /// The locks that cover `key`.
    #[must_use]
    pub const fn covering(key: ResourceKey<'a>) -> Self {
        Self::new(Select::Covering(key))
    }

    /// The locks rooted at `key` or below.
    #[must_use]
    pub const fn at_or_below(key: ResourceKey<'a>) -> Self {
        Self::new(Select::AtOrBelow(key))
    }

    /// The lock with this id.
    #[must_use]
    pub const fn id(id: LockId) -> Self {
        Self::new(Select::Id(id))
    }

    /// Only those held by `principal`.
    #[must_use]
    pub const fn held_by(mut self, principal: Option<&'a Principal>) -> Self {
        self.principal = Some(principal);
        self
    }

    /// Only those of `kind`.
    #[must_use]
    pub const fn kind(mut self, kind: &'a LockKind) -> Self {
        self.kind = Some(kind);
        self
    }

    /// Only those granted at least `age` ago.
    #[must_use]
    pub const fn older_than(mut self, age: Duration) -> Self {
        self.older_than = Some(age);
        self
    }

    /// At most `limit` a page.
    #[must_use]
    pub const fn limit(mut self, limit: usize) -> Self {
        self.limit = limit;
        self
    }

    /// The page after the one that ended at `cursor`.
    #[must_use]
    pub fn after(mut self, cursor: Cursor) -> Self {
        self.after = Some(cursor);
        self
    }

    /// Whether `lock` is one of them, pages aside.
    #[must_use]
    pub fn fits(&self, lock: &Lock) -> bool {
        let selected = match &self.select {
            Select::Covering(key) => rules::covers(lock.root(), lock.depth(), key),
            Select::AtOrBelow(key) => *lock.root() == *key || lock.root().is_below(key),
            Select::Id(id) => lock.id() == *id,
        };
        selected
            && self.principal.is_none_or(|principal| principal == lock.principal())
            && self.kind.is_none_or(|kind| kind == lock.kind())
            && self.older_than.is_none_or(|age| lock.life().seen_at.since(lock.created_at()) >= age)
    }
}

impl Cursor {
    /// The end of a page whose last lock is `lock`.
    #[must_use]
    pub fn of(lock: &Lock) -> Self {
        Self { root: lock.root().path().to_owned(), id: lock.id() }
    }

    /// The root of the last lock.
    #[must_use]
    pub fn root(&self) -> &str {
        &self.root
    }

    /// The id of the last lock.
    #[must_use]
    pub const fn last_id(&self) -> LockId {
        self.id
    }

    /// Whether `lock` comes after the page that ended here.
    #[must_use]
    pub fn precedes(&self, lock: &Lock) -> bool {
        (self.root.as_str(), self.id) < (lock.root().path(), lock.id())
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.id, self.root)
    }
}

/// A text that no [`Cursor`] was written as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CursorError;

impl fmt::Display for CursorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("this is no cursor of an earlier page")
    }
}

impl std::error::Error for CursorError {}

impl FromStr for Cursor {
    type Err = CursorError;

    fn from_str(text: &str) -> Result<Self, CursorError> {
        // A hyphenated UUID, then the root.
        let (id, root) = text.split_at_checked(36).ok_or(CursorError)?;
        if !root.starts_with('/') {
            return Err(CursorError);
        }
        Ok(Self { root: root.to_owned(), id: id.parse().map_err(|_| CursorError)? })
    }
}
