//! `Refused`: a refusal, as a client reads it.

use std::{error::Error, fmt, sync::Arc, time::Duration};

use http::{HeaderMap, StatusCode, header};
use serde_json::Value;

use super::{
    RefusedCode,
    hint::retry_after,
    seen::{Loss, SeenLock, flag, list, seconds, text},
};

/// Why a server did not do what it was asked: its problem document, read. As an error it is one sentence for a person.
///
/// [`ReadRefusals`](super::ReadRefusals) leaves one in the extensions of the response. Whatever a server says beside what is
/// known here is passed over, and what it leaves out is missing here: nothing but the [code](Self::code) has to be there.
#[derive(Clone, PartialEq, Eq)]
pub struct Refused(Arc<Parts>);

#[derive(PartialEq, Eq)]
struct Parts {
    status: StatusCode,
    code: RefusedCode,
    detail: Option<String>,
    resource: Option<String>,
    retry_after: Option<Duration>,
    locks: Vec<SeenLock>,
    truncated: bool,
    lost: Vec<Loss>,
}

impl Refused {
    /// The refusal that an answer is, if its body is a JSON object with a `code`.
    pub(super) fn read(status: StatusCode, head: &HeaderMap, body: &[u8]) -> Option<Self> {
        let body: Value = serde_json::from_slice(body).ok()?;
        let code = RefusedCode::of(text(&body, "code").filter(|code| !code.is_empty())?);
        Some(Self(Arc::new(Parts {
            status,
            code,
            detail: text(&body, "detail").map(str::to_owned),
            resource: text(&body, "resource").map(str::to_owned),
            retry_after: seconds(&body, "retry_after").map(Duration::from_secs).or_else(|| retry_after(head)),
            locks: list(&body, "locks", SeenLock::read),
            truncated: flag(&body, "truncated"),
            lost: list(&body, "lost", Loss::read),
        })))
    }

    /// The same of any answer: one that says nothing of itself has no code.
    pub(super) fn of(status: StatusCode, head: &HeaderMap, body: &[u8]) -> Self {
        Self::read(status, head, body).unwrap_or_else(|| {
            Self(Arc::new(Parts {
                status,
                code: RefusedCode::Unsaid,
                detail: None,
                resource: None,
                retry_after: retry_after(head),
                locks: Vec::new(),
                truncated: false,
                lost: Vec::new(),
            }))
        })
    }

    /// The status of the answer.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.0.status
    }

    /// Which refusal it is.
    #[must_use]
    pub fn code(&self) -> &RefusedCode {
        &self.0.code
    }

    /// What to tell a person, in the server's words.
    #[must_use]
    pub fn detail(&self) -> Option<&str> {
        self.0.detail.as_deref()
    }

    /// The resource that it is about, as a canonical path.
    #[must_use]
    pub fn resource(&self) -> Option<&str> {
        self.0.resource.as_deref()
    }

    /// In how long it is worth trying again, as the body says, or else the header `Retry-After`. None where nobody knows.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// The locks in the way that the server shows.
    #[must_use]
    pub fn locks(&self) -> &[SeenLock] {
        &self.0.locks
    }

    /// Whether there are more of them than are shown.
    #[must_use]
    pub fn is_truncated(&self) -> bool {
        self.0.truncated
    }

    /// The locks that the request relied on and that are gone, for [`RefusedCode::LockLost`].
    #[must_use]
    pub fn lost(&self) -> &[Loss] {
        &self.0.lost
    }

    /// When the way should be free: [`retry_after`](Self::retry_after), or else the latest end of all locks in the way,
    /// where each has one. A lock in use has none that could be relied on, but it is worth a look by then.
    #[must_use]
    pub fn free_in(&self) -> Option<Duration> {
        self.0.retry_after.or_else(|| {
            let ends = self.0.locks.iter().map(|lock| lock.expires_in);
            ends.reduce(|latest, end| Some(latest?.max(end?))).flatten()
        })
    }
}

/// Whether the body of an answer is JSON that can be read as it is.
pub(super) fn is_json(head: &HeaderMap) -> bool {
    let encoded =
        head.get(header::CONTENT_ENCODING).is_some_and(|encoding| !encoding.as_bytes().eq_ignore_ascii_case(b"identity"));
    let media = head.get(header::CONTENT_TYPE).and_then(|media| media.to_str().ok()).unwrap_or_default();
    let media = media.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    !encoded && (media == "application/json" || (media.starts_with("application/") && media.ends_with("+json")))
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.0.detail, &self.0.code) {
            (Some(detail), _) => f.write_str(detail),
            (None, RefusedCode::Unsaid) => write!(f, "the server answered {}", self.0.status),
            (None, code) => write!(f, "the server answered {} ({code})", self.0.status),
        }
    }
}

impl fmt::Debug for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Refused({} {}: {self})", self.0.status.as_u16(), self.0.code)
    }
}

impl Error for Refused {}
