//! What is asked of a lock server, and what its answers mean.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, header};
use http_body_util::Full;
use serde_json::Value;

use super::{
    LockTerms, Refused, RefusedCode, RemoteError, SeenLock,
    refused::is_json,
    seen::{Left, flag, text},
    terms::Life,
    transport::Answer,
};
use crate::lock::LockToken;

/// A lock of ours: how to name it to the server.
#[derive(Clone, Debug)]
pub(super) struct Name {
    /// As it was asked for, which need not be how the server writes it.
    pub(super) resource: String,
    pub(super) token: LockToken,
}

/// How long a lock lives from when the server was asked, at the least; nothing, where it is endless.
pub(super) type Remaining = Option<Duration>;

/// A lock that was granted.
#[derive(Clone, Debug)]
pub(super) struct Grant {
    pub(super) name: Name,
    pub(super) lock: SeenLock,
    pub(super) left: Remaining,
}

/// What comes of a refresh.
#[derive(Debug)]
pub(super) enum Refreshed {
    /// It lives on.
    Alive(Alive),
    /// The server says that it does not.
    Gone(Refused),
    /// Nobody knows.
    Failed(RemoteError),
}

#[derive(Debug)]
pub(super) struct Alive {
    pub(super) left: Remaining,
    pub(super) term: Term,
}

/// Whether a lock can be refreshed again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Term {
    More,
    /// Its total life is over with this term.
    Last,
}

/// A management request.
pub(super) struct Ask {
    pub(super) method: Method,
    pub(super) uri: Uri,
    pub(super) token: Option<LockToken>,
    pub(super) body: Option<Value>,
    /// How many seconds the server may keep us waiting.
    pub(super) wait: u64,
}

impl Ask {
    pub(super) const fn new(method: Method, uri: Uri) -> Self {
        Self { method, uri, token: None, body: None, wait: 0 }
    }

    pub(super) fn with(mut self, token: LockToken) -> Self {
        self.token = Some(token);
        self
    }

    pub(super) fn saying(mut self, body: Option<Value>) -> Self {
        self.body = body;
        self
    }

    pub(super) fn into_request(self) -> Request<Full<Bytes>> {
        let body = self.body.as_ref().map(|body| Bytes::from(body.to_string()));
        let mut request = Request::new(Full::new(body.clone().unwrap_or_default()));
        (*request.method_mut(), *request.uri_mut()) = (self.method, self.uri);
        let headers = request.headers_mut();
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json, application/problem+json"));
        if body.is_some() {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        if let Some(token) = self.token.as_ref().and_then(|token| secret(format!("<{}>", token.urn()))) {
            headers.insert("lock-token", token);
        }
        if self.wait > 0 {
            headers.insert("prefer", HeaderValue::try_from(format!("wait={}", self.wait)).expect("digits"));
        }
        request
    }
}

/// A header field that is not to be logged.
pub(super) fn secret(text: String) -> Option<HeaderValue> {
    let mut value = HeaderValue::try_from(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// Whether an answer is somebody's on the way, or that of a server in trouble: nobody knows what was done.
pub(super) fn is_passing(status: StatusCode) -> bool {
    matches!(status, StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT)
}

/// Whether something failed, maybe on the way back and after all was done.
pub(super) fn may_be_done(status: StatusCode) -> bool {
    status.is_server_error() || status == StatusCode::REQUEST_TIMEOUT
}

/// Whether an answer to the end of a lock is that of a lock server, which says nothing or something in JSON. What else
/// answers with a success may be a page to log in on.
pub(super) fn says_ended((head, body): &Answer) -> Result<(), RemoteError> {
    if body.is_empty() || is_json(&head.headers) {
        return Ok(());
    }
    Err(RemoteError::Unreadable { status: head.status, why: "its body is no JSON".into() })
}

/// Whether a lock server says that a lock is not there. A bare 404 may be anybody's.
pub(super) fn says_gone(refused: &Refused) -> bool {
    match refused.status() {
        StatusCode::PRECONDITION_FAILED | StatusCode::GONE => true,
        StatusCode::NOT_FOUND => *refused.code() != RefusedCode::Unsaid,
        _ => false,
    }
}

/// What was granted, for these names, in the same order.
pub(super) fn grants(terms: &LockTerms, names: &[Name], (head, body): &Answer) -> Result<Vec<Grant>, RemoteError> {
    let unreadable = |why: &'static str| RemoteError::Unreadable { status: head.status, why: why.into() };
    let body: Value = serde_json::from_slice(body).map_err(|_| unreadable("its body is no JSON"))?;
    let locks = match body.get("locks").and_then(Value::as_array) {
        Some(locks) => locks.iter().collect(),
        None => vec![&body],
    };
    if locks.len() != names.len() {
        return Err(unreadable("it has other locks than were asked for"));
    }
    // Where the whole was cut short, so may each have been.
    let cut = flag(&body, "clamped");
    names
        .iter()
        .zip(locks)
        .map(|(name, value)| {
            let lock = SeenLock::read(value).ok_or_else(|| unreadable("a lock is no object"))?;
            let asked = terms.life().filter(|_| head.status == StatusCode::CREATED && !cut);
            let left = remaining(value, asked).ok_or_else(|| unreadable("it does not say how long the lock lives"))?;
            if lock.lock_id.is_none() && text(value, "token").is_none() {
                // Much else lives for some seconds.
                return Err(unreadable("it does not say which lock it is"));
            }
            let left = aged(left, &head.headers);
            // A server that makes its own tokens says which.
            let token = match text(value, "token") {
                Some(token) => token.parse().map_err(|_| unreadable("its lock token is not ours to read"))?,
                None => name.token,
            };
            Ok(Grant { name: Name { token, ..name.clone() }, lock, left })
        })
        .collect()
}

/// What a refresh of `lock` that asked for `life` was answered.
pub(super) fn refreshed(lock: &SeenLock, life: Option<Life>, answer: Result<Answer, RemoteError>) -> Refreshed {
    let (head, body) = match answer {
        Ok(answer) => answer,
        Err(error) => return Refreshed::Failed(error),
    };
    if head.status.is_success() {
        let body: Option<Value> = serde_json::from_slice(&body).ok();
        // Much else lives for some seconds: what a proxy has renewed is its own session.
        let is_of_it = |body: &&Value| lock.lock_id.is_none() || SeenLock::id_in(body) == lock.lock_id;
        return match body.as_ref().filter(is_of_it).and_then(|body| Some((body, remaining(body, life)?))) {
            Some((body, left)) => {
                let term = if flag(body, "final") { Term::Last } else { Term::More };
                Refreshed::Alive(Alive { left: aged(left, &head.headers), term })
            }
            None => Refreshed::Failed(RemoteError::Unreadable {
                status: head.status,
                why: "it does not say how long this lock lives".into(),
            }),
        };
    }
    let refused = Refused::of(head.status, &head.headers, &body);
    if says_gone(&refused) { Refreshed::Gone(refused) } else { Refreshed::Failed(RemoteError::Refused(refused)) }
}

/// How long a lock lives, at the least. What the server says is rounded up, so a second of it may be missing, except
/// where it gave what was asked for.
pub(super) fn remaining(lock: &Value, asked: Option<Life>) -> Option<Remaining> {
    Some(match Left::read(lock)? {
        Left::Endless => None,
        Left::Seconds(seconds) => {
            let exact = asked == Some(Life::For(seconds)) && !flag(lock, "clamped") && !flag(lock, "final");
            Some(Duration::from_secs(if exact { seconds } else { seconds.saturating_sub(1) }))
        }
    })
}

/// What is left of it where the answer was kept by a cache for a while (RFC 9111 section 5.1).
fn aged(left: Remaining, head: &HeaderMap) -> Remaining {
    let age = head.get(header::AGE).and_then(|age| age.to_str().ok()?.trim().parse().ok()).unwrap_or_default();
    left.map(|left| left.saturating_sub(Duration::from_secs(age)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_may_be_rounded_up_is_not_believed_to_the_last_second() {
        let for_a_minute = Some(Life::For(60));
        let left = |lock: Value, asked| remaining(&lock, asked).map(|left| left.map(|left| left.as_secs()));
        assert_eq!(left(json!({"expires_in": 60}), for_a_minute), Some(Some(60)));
        assert_eq!(left(json!({"expires_in": 60}), None), Some(Some(59)));
        assert_eq!(left(json!({"expires_in": 60, "clamped": true}), for_a_minute), Some(Some(59)));
        assert_eq!(left(json!({"expires_in": 60, "final": true}), for_a_minute), Some(Some(59)));
        assert_eq!(left(json!({"expires_in": 30}), for_a_minute), Some(Some(29)));
        assert_eq!(left(json!({"expires_in": 12.5}), None), Some(Some(12)));
        assert_eq!(left(json!({"expires_in": 0}), None), Some(Some(0)));
        assert_eq!(left(json!({"expires_in": null}), for_a_minute), Some(None));
        for nothing in [json!({}), json!({"expires_in": "60"}), json!({"expires_in": -1}), json!([])] {
            assert_eq!(remaining(&nothing, for_a_minute), None, "{nothing}");
        }
    }
}
