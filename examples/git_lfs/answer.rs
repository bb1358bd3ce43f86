//! What Git LFS says: JSON of its own media type, also where something is refused.

use axum::{
    extract::{FromRequest, Request},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};
use tower_lock::{Refusal, RefusalCode, locks::LockView};

use crate::{locking::Lock, paths};

/// The client reads nothing else, `application/json` aside: the body of any other answer is lost on it.
const MEDIA_TYPE: &str = "application/vnd.git-lfs+json";

/// An answer that Git LFS reads.
pub(crate) fn lfs(status: StatusCode, body: &impl Serialize) -> Response {
    let body = serde_json::to_vec(body).expect("it is plain data");
    let fields = [(header::CONTENT_TYPE, MEDIA_TYPE), (header::CACHE_CONTROL, "no-store")];
    (status, fields, body).into_response()
}

/// Why something was not done. The message is all that most clients show, so whatever counts stands in it.
#[derive(Debug)]
pub(crate) struct Failure {
    status: StatusCode,
    message: String,
    /// The lock in the way.
    lock: Option<Box<Lock>>,
    retry_after: Option<u64>,
}

impl Failure {
    pub(crate) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), lock: None, retry_after: None }
    }

    /// What was sent is well-formed and means nothing here.
    pub(crate) fn meaningless(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, message)
    }

    pub(crate) fn no_such_lock() -> Self {
        Self::new(StatusCode::NOT_FOUND, "There is no lock with this id.")
    }

    pub(crate) fn status(&self) -> StatusCode {
        self.status
    }

    pub(crate) fn message(&self) -> &str {
        &self.message
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        let failure = Self { retry_after: refusal.retry_after(), ..Self::new(refusal.status(), refusal.to_string()) };
        match (refusal.code(), refusal.locks().first()) {
            // Git LFS says 409 where HTTP has 423. It shows the message alone, so the owner stands there.
            (RefusalCode::Locked | RefusalCode::Frozen, Some(lock)) => Self {
                status: StatusCode::CONFLICT,
                message: format!("already created lock: {}", told(lock)),
                lock: Some(Box::new(Lock::of(lock))),
                ..failure
            },
            (RefusalCode::Locked | RefusalCode::Frozen, None) => Self { status: StatusCode::CONFLICT, ..failure },
            _ => failure,
        }
    }
}

/// A lock in a sentence.
pub(crate) fn told(lock: &LockView) -> String {
    let path = printable(&paths::path(&lock.resource));
    let owner = lock.owner.as_ref().and_then(|owner| owner.display_name()).unwrap_or("somebody");
    format!("{path} is locked by {owner} since {}", lock.created_at)
}

/// A name as a terminal may be told it: git takes nearly anything for one, and what this says is printed by clients and hooks.
fn printable(name: &str) -> String {
    // Also what turns the direction of all that follows.
    let is_odd = |letter: char| letter.is_control() || matches!(letter, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let mut printable = String::with_capacity(name.len());
    for letter in name.chars() {
        match is_odd(letter) {
            true => printable.extend(letter.escape_default()),
            false => printable.push(letter),
        }
    }
    printable
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        #[derive(Serialize)]
        struct Body<'a> {
            message: &'a str,
            #[serde(skip_serializing_if = "Option::is_none")]
            lock: Option<&'a Lock>,
        }
        let mut response = lfs(self.status, &Body { message: &self.message, lock: self.lock.as_deref() });
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            // The first is for git-lfs, the second for everybody else.
            let challenge = HeaderValue::from_static("Basic realm=\"Git LFS\", charset=\"UTF-8\"");
            response.headers_mut().insert("lfs-authenticate", challenge.clone());
            response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
        }
        response
    }
}

/// What a client sent as JSON.
pub(crate) struct Asked<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Asked<T> {
    type Rejection = Failure;

    async fn from_request(request: Request, state: &S) -> Result<Self, Failure> {
        // A form of another site can send neither of these.
        let is_json = |value: &HeaderValue| {
            let name = value.to_str().ok()?.split(';').next()?.trim().to_ascii_lowercase();
            Some(name == MEDIA_TYPE || name == "application/json")
        };
        if request.headers().get(header::CONTENT_TYPE).and_then(is_json) != Some(true) {
            let message = format!("Send {MEDIA_TYPE}.");
            return Err(Failure::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message));
        }
        let body = Bytes::from_request(request, state).await;
        let body = body.map_err(|rejection| Failure::new(rejection.status(), rejection.body_text()))?;
        // A list in the order of its members would do as well to the parser.
        if body.trim_ascii_start().first() != Some(&b'{') {
            return Err(Failure::new(StatusCode::BAD_REQUEST, "This cannot be read: it is no JSON object."));
        }
        match serde_json::from_slice(&body) {
            Ok(asked) => Ok(Self(asked)),
            Err(error) => Err(Failure::new(StatusCode::BAD_REQUEST, format!("This cannot be read: {error}."))),
        }
    }
}
