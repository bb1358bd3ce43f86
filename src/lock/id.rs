//! `LockId`: the public handle of a lock.

use std::{fmt, str::FromStr};

use uuid::Uuid;

use super::random;

/// The public handle of a lock: safe to log, to show, to link to. It names a lock and proves nothing.
///
/// Written as a hyphenated UUID. A caller may propose one; a proposed id only names, it never yields a token.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LockId(Uuid);

impl LockId {
    /// A fresh id. Where a token is made as well, [`LockToken::random_with_id`](super::LockToken::random_with_id) makes both
    /// at the price of one.
    #[must_use]
    pub fn random() -> Self {
        Self(random::uuid(random::bytes()))
    }

    /// An id from a UUID of the caller's own.
    #[must_use]
    pub const fn from_uuid(uuid: Uuid) -> Self {
        Self(uuid)
    }

    /// The UUID.
    #[must_use]
    pub const fn as_uuid(&self) -> Uuid {
        self.0
    }
}

impl FromStr for LockId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, uuid::Error> {
        Uuid::try_parse(text).map(Self)
    }
}

impl fmt::Display for LockId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

impl fmt::Debug for LockId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LockId({self})")
    }
}

impl serde::Serialize for LockId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
