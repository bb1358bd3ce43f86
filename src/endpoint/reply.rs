//! The answers of the endpoint: JSON when something was done, a problem document when not, and never to be stored.

use bytes::Bytes;
use http::{HeaderValue, Method, Response, StatusCode, header, request::Parts};
use http_body::Body;
use serde::Serialize;

use super::EndpointBody;
use crate::{
    lock::{Lock, LockId, LockToken},
    locks::{Caller, LockView, Locks, Refusal, RefusalCode},
    request::RequestView,
    respond::{Format, ResponseBody, render_as},
};

/// What a holder is shown of a lock, with what only a holder is told.
#[derive(Serialize)]
pub(super) struct Held {
    #[serde(flatten)]
    lock: LockView,
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
    #[serde(skip_serializing_if = "is_false")]
    clamped: bool,
    #[serde(rename = "final", skip_serializing_if = "is_false")]
    is_final: bool,
}

impl Held {
    pub(super) fn new(locks: &Locks, caller: &Caller, lock: &Lock) -> Self {
        Self { lock: locks.own_view(caller, lock), token: None, clamped: false, is_final: false }
    }

    pub(super) fn token(mut self, token: &LockToken) -> Self {
        self.token = Some(token.urn().to_string());
        self
    }

    pub(super) fn clamped(mut self, clamped: bool) -> Self {
        self.clamped = clamped;
        self
    }

    pub(super) fn last_term(mut self, is_final: bool) -> Self {
        self.is_final = is_final;
        self
    }
}

fn is_false(value: &bool) -> bool {
    !value
}

/// An answer in JSON.
pub(super) fn json(status: StatusCode, body: &impl Serialize) -> Response<EndpointBody> {
    // Strings, numbers and words: nothing in it can fail to be written.
    let body = serde_json::to_vec(body).expect("an answer is plain data");
    let mut response = Response::new(ResponseBody::own(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    unstored(response)
}

/// An answer without a body.
pub(super) fn empty(status: StatusCode) -> Response<EndpointBody> {
    let mut response = Response::new(ResponseBody::own(Bytes::new()));
    *response.status_mut() = status;
    unstored(response)
}

pub(super) fn unstored(mut response: Response<EndpointBody>) -> Response<EndpointBody> {
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// The answer of a refusal, in the form that the client prefers.
pub(super) fn refused(locks: &Locks, refusal: Refusal, request: &Parts) -> Response<EndpointBody> {
    let mut refusal = locks.signed(refusal);
    locks.answered_with(Some(RequestView::from_parts(request)), &mut refusal);
    let mut response = render_as(&refusal, Format::wanted(&request.headers));
    if refusal.code() == RefusalCode::UnsupportedMediaType {
        // RFC 9110 section 15.5.16.
        response.headers_mut().insert(header::ACCEPT, HeaderValue::from_static("application/json"));
    }
    response
}

/// 405, naming the methods that there are (RFC 9110 section 15.5.6).
pub(super) fn no_such_verb(locks: &Locks, allowed: &'static str, request: &Parts) -> Response<EndpointBody> {
    let detail = format!("{} does nothing here; these do: {allowed}.", request.method);
    let mut response = refused(locks, Refusal::new(RefusalCode::MethodNotAllowed, detail), request);
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allowed));
    response
}

/// What is sent of a response: to HEAD all but the body, whose length is told.
pub(super) fn finish(mut response: Response<EndpointBody>, method: &Method) -> Response<EndpointBody> {
    if *method == Method::HEAD {
        if let (Some(length), false) = (response.body().size_hint().exact(), response.status() == StatusCode::NOT_MODIFIED) {
            response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        }
        *response.body_mut() = ResponseBody::own(Bytes::new());
    }
    response
}

/// The URL of a lock: absolute where the application says where its endpoint is, else relative to the request's own,
/// which a router outside may have cut.
pub(super) fn location(locks: &Locks, id: LockId) -> Option<HeaderValue> {
    let base = locks.endpoint_url().map_or_else(String::new, |url| format!("{url}/"));
    HeaderValue::try_from(format!("{base}?id={id}")).ok()
}
