//! GET: the locks of a resource, one lock, and the list.

use std::time::Duration;

use http::{HeaderValue, Response, StatusCode, header};
use serde::Serialize;

use super::{EndpointBody, call::Call, known::tagged, reply, route, wait};
use crate::{
    lock::{LockKind, Principal},
    locks::{LockFilter, LockView, Refusal, RefusalCode},
};

/// What is locked of a resource.
#[derive(Serialize)]
pub(super) struct Inspection<'a> {
    /// None where a lock is looked at rather than a resource.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) resource: Option<&'a str>,
    pub(super) locked: bool,
    pub(super) locks: &'a [LockView],
}

/// The locks that cover the resource, or the one that is named; where the client would wait, once they are other than it
/// knows them.
pub(super) async fn inspect(call: &Call) -> Result<Response<EndpointBody>, Refusal> {
    let caller = call.caller()?;
    if let Some(id) = call.lock_id() {
        let Some(lock) = call.locks.inspect_id(&caller, id).await? else { return Err(no_such_lock()) };
        let lock = match wait::beyond(call, &caller, std::slice::from_ref(&lock)).await? {
            None => lock,
            Some(locks) => locks.into_iter().next().ok_or_else(no_such_lock)?,
        };
        let tag = LockView::tag("", std::slice::from_ref(&lock));
        return Ok(tagged(call, &tag, || reply::json(StatusCode::OK, &lock)));
    }
    let key = call.resource(&caller)?;
    let mut locks = call.locks.inspect(&caller, &key).await?;
    if let Some(later) = wait::beyond(call, &caller, &locks).await? {
        locks = later;
    }
    let tag = LockView::tag(key.path(), &locks);
    let inspection = Inspection { resource: Some(key.path()), locked: !locks.is_empty(), locks: &locks };
    Ok(tagged(call, &tag, || reply::json(StatusCode::OK, &inspection)))
}

pub(super) fn no_such_lock() -> Refusal {
    Refusal::new(RefusalCode::NoSuchLock, "There is no lock with this id.")
}

/// The locks that the caller may list, a page at a time.
pub(super) async fn list(call: &Call) -> Result<Response<EndpointBody>, Refusal> {
    #[derive(Serialize)]
    struct List {
        locks: Vec<LockView>,
        #[serde(skip_serializing_if = "Option::is_none")]
        next: Option<String>,
    }

    let caller = call.caller()?;
    let mut filter = LockFilter::default();
    if let Some(prefix) = call.query.get("prefix") {
        filter.prefix = Some(call.key(&caller, route::named("prefix", prefix)?)?);
    }
    filter.owner = call.query.get("owner").map(Principal::new);
    filter.kind = call.query.get("kind").map(LockKind::from);
    filter.older_than = number(call, "older_than")?.map(Duration::from_secs);
    filter.limit = match number(call, "limit")? {
        Some(0) => return Err(Refusal::bad_request("limit: one at least")),
        limit => limit.map(|limit| usize::try_from(limit).unwrap_or(usize::MAX)),
    };
    if let Some(cursor) = call.query.get("cursor") {
        filter.after = Some(cursor.parse().map_err(|error| Refusal::bad_request(format!("cursor: {error}")))?);
    }
    let listing = call.locks.list(&caller, &filter).await?;

    let next = listing.next.map(|cursor| cursor.to_string());
    let link = next.as_deref().map(|cursor| format!("<?{}>; rel=\"next\"", call.query.page_after(cursor)));
    let mut response = reply::json(StatusCode::OK, &List { locks: listing.locks, next });
    // RFC 8288. Form-encoding leaves nothing that could not stand in it.
    if let Some(Ok(link)) = link.map(HeaderValue::try_from) {
        response.headers_mut().insert(header::LINK, link);
    }
    Ok(response)
}

fn number(call: &Call, name: &'static str) -> Result<Option<u64>, Refusal> {
    let Some(text) = call.query.get(name) else { return Ok(None) };
    // `parse` would take a sign.
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse() {
        Ok(number) if digits => Ok(Some(number)),
        _ => Err(Refusal::bad_request(format!("{name}: a whole number"))),
    }
}
