//! `RemoteError`: why a lock could not be had, or ended, over HTTP.

use std::{borrow::Cow, error::Error, fmt, time::Duration};

use http::StatusCode;

use super::Refused;

/// What a service fails with.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// Why something could not be done over HTTP.
#[derive(Debug)]
#[non_exhaustive]
pub enum RemoteError {
    /// The server said no. Also an answer that is not by a lock server, which then has no
    /// [code](super::RefusedCode::Unsaid).
    Refused(Refused),
    /// The service failed: nobody knows what the server did.
    Transport(BoxError),
    /// There was no answer within this time: nobody knows what the server did.
    TimedOut(Duration),
    /// The server did it, and says it in a way that nothing can be made of.
    Unreadable {
        /// The status of the answer.
        status: StatusCode,
        /// What is wrong with it.
        why: Cow<'static, str>,
    },
    /// No request can be made of it: a path too long for a URL.
    Unsendable(http::Error),
}

impl RemoteError {
    /// The refusal, if it is one.
    #[must_use]
    pub const fn refused(&self) -> Option<&Refused> {
        match self {
            Self::Refused(refused) => Some(refused),
            _ => None,
        }
    }
}

impl fmt::Display for RemoteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(refused) => refused.fmt(f),
            Self::Transport(_) => f.write_str("the lock server could not be reached"),
            Self::TimedOut(span) => write!(f, "the lock server did not answer within {span:?}"),
            Self::Unreadable { status, why } => write!(f, "the lock server answered {status}, and {why}"),
            Self::Unsendable(_) => f.write_str("no request can be made of this"),
        }
    }
}

impl Error for RemoteError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Transport(error) => Some(&**error),
            Self::Unsendable(error) => Some(error),
            Self::Refused(_) | Self::TimedOut(_) | Self::Unreadable { .. } => None,
        }
    }
}
