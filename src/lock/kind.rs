//! The words that say what a lock is: its scope, depth, kind and state.

use std::{borrow::Cow, fmt, str::FromStr};

/// Who else may lock what this lock covers (RFC 4918 section 6.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LockScope {
    /// Nobody else.
    Exclusive,
    /// Holders of other shared locks.
    Shared,
}

/// How far below its root a lock reaches (RFC 4918 section 7.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Depth {
    /// The root alone, and which members it has.
    Zero,
    /// The root and everything below it.
    Infinity,
}

/// What a lock is for. The kind decides lifetimes and who may set and remove it, never what it blocks.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LockKind {
    /// A person works on the resource.
    User,
    /// An application works on it on a person's behalf.
    App,
    /// An unattended job works on it.
    Job,
    /// Nobody is to change it. Endless unless given a lifetime, answered for by nobody's token, removed by an
    /// authorised break (or by the [`LockGuard`](crate::LockGuard) that set it).
    Freeze,
    /// A kind of the application's own; treated as [`LockKind::App`] where a default has to be chosen.
    Other(Cow<'static, str>),
}

/// What stage of its life a lock is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LockState {
    /// Granted.
    Held,
    /// Announced: it refuses what it will refuse, and waits for the writes in flight to end.
    Pending,
    /// Broken with a grace period that still runs.
    Breaking,
    /// Granted to a principal who has yet to claim its token: until then it blocks everybody.
    Offered,
}

/// Whether the principal of a lock has its token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Claim {
    /// It does: the lock was asked for by its principal, or was claimed.
    #[default]
    Made,
    /// Not yet: the lock was handed over to it, and nobody knows the token. It ends as any other does; its principal gets one
    /// with a token by [replacing](crate::store::Replaces::Own) it.
    Open,
}

impl LockScope {
    /// `exclusive` or `shared`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Exclusive => "exclusive",
            Self::Shared => "shared",
        }
    }
}

impl Depth {
    /// `0` or `infinity`, as the `Depth` header has it (RFC 4918 section 10.2).
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Zero => "0",
            Self::Infinity => "infinity",
        }
    }
}

impl LockKind {
    /// `user`, `app`, `job`, `freeze`, or the application's own word.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::User => "user",
            Self::App => "app",
            Self::Job => "job",
            Self::Freeze => "freeze",
            Self::Other(name) => name,
        }
    }
}

impl LockState {
    /// `held`, `pending`, `breaking` or `offered`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::Pending => "pending",
            Self::Breaking => "breaking",
            Self::Offered => "offered",
        }
    }
}

/// A word that is none of those which the standard or the crate knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct UnknownWord;

impl fmt::Display for UnknownWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("unknown word")
    }
}

impl std::error::Error for UnknownWord {}

impl FromStr for LockScope {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        match text {
            "exclusive" => Ok(Self::Exclusive),
            "shared" => Ok(Self::Shared),
            _ => Err(UnknownWord),
        }
    }
}

impl FromStr for Depth {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        match text {
            "0" => Ok(Self::Zero),
            text if text.eq_ignore_ascii_case("infinity") => Ok(Self::Infinity),
            _ => Err(UnknownWord),
        }
    }
}

impl From<&str> for LockKind {
    fn from(word: &str) -> Self {
        match word {
            "user" => Self::User,
            "app" => Self::App,
            "job" => Self::Job,
            "freeze" => Self::Freeze,
            other => Self::Other(Cow::Owned(other.to_owned())),
        }
    }
}

macro_rules! shown_as_str {
    ($($word:ty),*) => {$(
        impl fmt::Display for $word {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl serde::Serialize for $word {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }
    )*};
}

shown_as_str!(LockScope, Depth, LockKind, LockState);
