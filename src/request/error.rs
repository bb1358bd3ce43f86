//! `RequestError`: why a request does not say what it means.

use std::{borrow::Cow, fmt};

use crate::lock::KeyError;

/// Why the head of a request does not say which resources it may change, or under which conditions. Answered 400.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RequestError {
    /// A path has no key.
    Key(KeyError),
    /// A header field has a second reading, in which another resource is meant: `//host/path`.
    Ambiguous {
        /// The header field.
        what: &'static str,
        /// What can be read in two ways.
        why: Cow<'static, str>,
    },
    /// A header field is not what its grammar says.
    Malformed {
        /// The header field.
        what: &'static str,
        /// What is wrong with it.
        why: Cow<'static, str>,
    },
    /// The request names more things than are looked at.
    TooMany {
        /// What there are too many of, in the plural.
        what: &'static str,
        /// How many there may be.
        limit: usize,
    },
}

impl RequestError {
    /// `ambiguous_path` or `bad_request`, as the body of a refusal has it.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Key(KeyError::AmbiguousPath) | Self::Ambiguous { .. } => "ambiguous_path",
            _ => "bad_request",
        }
    }

    pub(crate) fn malformed(what: &'static str, why: impl Into<Cow<'static, str>>) -> Self {
        Self::Malformed { what, why: why.into() }
    }

    pub(super) fn ambiguous(what: &'static str, why: impl Into<Cow<'static, str>>) -> Self {
        Self::Ambiguous { what, why: why.into() }
    }
}

impl From<KeyError> for RequestError {
    fn from(error: KeyError) -> Self {
        Self::Key(error)
    }
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key(error) => error.fmt(f),
            Self::Ambiguous { what, why } => write!(f, "{what} can be read in two ways: {why}"),
            Self::Malformed { what, why } => write!(f, "malformed {what}: {why}"),
            Self::TooMany { what, limit } => write!(f, "more than {limit} {what}"),
        }
    }
}

impl std::error::Error for RequestError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Key(error) => Some(error),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_names_what_is_wrong() {
        let too_many = RequestError::TooMany { what: "lock tokens", limit: 64 };
        assert_eq!((too_many.to_string().as_str(), too_many.code()), ("more than 64 lock tokens", "bad_request"));
        let malformed = RequestError::malformed("If", "it is empty");
        assert_eq!((malformed.to_string().as_str(), malformed.code()), ("malformed If: it is empty", "bad_request"));
        assert_eq!(RequestError::ambiguous("Destination", "`\\`").code(), "ambiguous_path");
        assert_eq!(RequestError::from(KeyError::AmbiguousPath).code(), "ambiguous_path");
        assert_eq!(RequestError::from(KeyError::Unresolved).code(), "bad_request");
    }
}
