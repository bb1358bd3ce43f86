//! The layer's own answers: the state of a lock, a status, a multistatus.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};

use super::{
    discovery::{ActiveLock, lock_discovery, prop_document},
    exchange::Exchange,
};
use crate::{
    lock::{Lock, LockToken},
    respond::{DavView, ResponseBody},
};

/// The answer to a LOCK that was granted: the lock, and its token in a header field (section 9.10.1).
pub(super) fn granted<B>(
    exchange: &Exchange,
    lock: &Lock,
    token: LockToken,
    status: StatusCode,
) -> Response<ResponseBody<B>> {
    let mut answer = shown(exchange, lock, token);
    *answer.status_mut() = status;
    if let Ok(mut value) = HeaderValue::try_from(format!("<{}>", token.urn())) {
        value.set_sensitive(true);
        answer.headers_mut().insert("lock-token", value);
    }
    answer
}

/// The state of a lock, for its holder.
pub(super) fn shown<B>(exchange: &Exchange, lock: &Lock, token: LockToken) -> Response<ResponseBody<B>> {
    let view = exchange.locks.own_view(&exchange.caller, lock);
    let href = exchange.settings.href(&view);
    let active = ActiveLock { view: &view, token: Some(token), href: &href };
    let discovery = lock_discovery([active.text().as_str()]);
    let mut answer = Response::new(ResponseBody::own(prop_document(&discovery)));
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/xml; charset=utf-8"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

/// An answer that is a status.
pub(super) fn empty<B>(status: StatusCode) -> Response<ResponseBody<B>> {
    let mut answer = Response::new(ResponseBody::own(Bytes::new()));
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

/// An answer of the layer's own with a multistatus.
pub(super) fn multistatus<B>(text: String) -> Response<ResponseBody<B>> {
    let mut answer = Response::new(ResponseBody::own(text));
    *answer.status_mut() = StatusCode::MULTI_STATUS;
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/xml; charset=utf-8"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}
