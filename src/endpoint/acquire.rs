//! PUT, and POST to the list: acquiring one lock, or several, all or none.

use std::time::Duration;

use http::{HeaderValue, Response, StatusCode, header};
use serde::Serialize;

use super::{
    EndpointBody,
    call::Call,
    input::{self, AcquireInput, OwnerInput, ResourceInput, TextOr, Timeout},
    reply::{self, Held},
    route,
};
use crate::{
    lock::{Depth, LockKind, LockScope, Owner, ResourceKey},
    locks::{Caller, Granted, LockRequest, Refusal},
    request::Preferences,
};

/// An acquire relies on no lock: one that it takes the place of is named in its body.
const NO_CONDITION: &str = "an acquire is not made under a condition; name a lock that it takes the place of in `replaces`";

/// Acquires a lock on the resource of the path.
pub(super) async fn one(call: &Call, body: &[u8]) -> Result<Response<EndpointBody>, Refusal> {
    call.expect_no_conditions(NO_CONDITION)?;
    let mut input: AcquireInput = input::read(body)?;
    if input.resources.is_some() {
        return Err(Refusal::bad_request("resources: several are acquired by a POST to the list"));
    }
    let caller = call.caller()?;
    let mut request = LockRequest::on(scope(&input), call.resource(&caller)?);
    if let Some(token) = input.token.take() {
        request = request.propose_token(token.0);
    }
    if let Some(id) = input.lock_id.take() {
        request = request.propose_id(id.0);
    }
    let granted = call.locks.acquire_for(&caller, with_terms(call, &caller, request, input)?).await?;

    Ok(answer(call, &caller, &granted, status(&granted)))
}

/// What the holder of a new lock is told.
pub(super) fn answer(call: &Call, caller: &Caller, granted: &Granted, status: StatusCode) -> Response<EndpointBody> {
    let (lock, token) = (granted.lock(), granted.token());
    let held = Held::new(&call.locks, caller, lock).token(&token).clamped(granted.is_clamped());
    let mut response = reply::json(status, &held);
    if let Some(location) = reply::location(&call.locks, lock.id()) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    // A Coded-URL (RFC 4918 section 10.1), of which every character can stand in a header.
    if let Ok(mut value) = HeaderValue::try_from(format!("<{}>", token.urn())) {
        value.set_sensitive(true);
        response.headers_mut().insert("lock-token", value);
    }
    response
}

/// Acquires locks on several resources, all or none.
pub(super) async fn several(call: &Call, body: &[u8]) -> Result<Response<EndpointBody>, Refusal> {
    #[derive(Serialize)]
    struct All {
        locks: Vec<Held>,
        #[serde(skip_serializing_if = "Option::is_none")]
        clamped: Option<bool>,
    }

    call.expect_no_conditions(NO_CONDITION)?;
    let mut input: AcquireInput = input::read(body)?;
    for (field, given) in [("token", input.token.is_some()), ("lock_id", input.lock_id.is_some())] {
        if given {
            return Err(Refusal::bad_request(format!("{field}: propose one with each of the `resources`")));
        }
    }
    let resources = input.resources.take().unwrap_or_default();
    let most = call.locks.limits().roots_per_request;
    if resources.is_empty() || resources.len() > most {
        return Err(Refusal::bad_request(format!("resources: a list of paths, one to {most}")));
    }
    let caller = call.caller()?;
    let mut request: Option<LockRequest> = None;
    for resource in resources {
        let ResourceInput { resource, token, lock_id } = match resource {
            TextOr::Text(resource) => ResourceInput { resource, token: None, lock_id: None },
            TextOr::Object(resource) => resource,
        };
        let key: ResourceKey<'static> = call.key(&caller, route::named("resources", &resource)?)?;
        let mut next = match request {
            None => LockRequest::on(scope(&input), key),
            Some(request) => request.and_on(key),
        };
        if let Some(token) = token {
            next = next.propose_token(token.0);
        }
        if let Some(id) = lock_id {
            next = next.propose_id(id.0);
        }
        request = Some(next);
    }
    let Some(request) = request else { return Err(Refusal::bad_request("resources: none is named")) };
    let granted = call.locks.acquire_for(&caller, with_terms(call, &caller, request, input)?).await?;

    let held = |(lock, token)| Held::new(&call.locks, &caller, lock).token(token).clamped(granted.is_clamped());
    let locks = granted.locks().iter().zip(granted.tokens()).map(held).collect();
    Ok(reply::json(status(&granted), &All { locks, clamped: granted.is_clamped().then_some(true) }))
}

fn status(granted: &Granted) -> StatusCode {
    if granted.is_repeated() { StatusCode::OK } else { StatusCode::CREATED }
}

fn scope(input: &AcquireInput) -> LockScope {
    input.scope.map_or(LockScope::Exclusive, |scope| scope.0)
}

/// The request, with what the body says of all its locks.
fn with_terms(call: &Call, caller: &Caller, mut request: LockRequest, input: AcquireInput) -> Result<LockRequest, Refusal> {
    request = request
        .depth(input.depth.map_or(Depth::Infinity, |depth| depth.0))
        .kind(input.kind.map_or(LockKind::User, |kind| LockKind::from(kind.as_str())));
    request = match input.timeout {
        None => request,
        Some(Timeout::For(span)) => request.lifetime(span),
        Some(Timeout::Endless) => request.endless(),
    };
    if let Some(owner) = input.owner {
        request = request.owner(shown(caller, owner.0)?);
    }
    if let Some(reason) = input.reason {
        request = request.reason(reason);
    }
    if let Some(text) = input.client_ref {
        request = request.client_ref(text);
    }
    if let Some(span) = Preferences::of(&call.parts.headers).wait {
        request = request.waiting(span);
    }
    let replaces = input.replaces.unwrap_or_default();
    let most = call.locks.limits().roots_per_request;
    if replaces.len() > most {
        return Err(Refusal::bad_request(format!("replaces: at most {most} locks at once")));
    }
    for replaced in replaces {
        request = match replaced {
            TextOr::Text(token) => request.replacing(token.0),
            TextOr::Object(broken) => request.breaking(broken.lock_id.0, broken.reason.unwrap_or_default()),
        };
    }
    if let Some(seconds) = input.drain {
        request = request.draining(Duration::from_secs(seconds));
    }
    Ok(request)
}

/// What others will see of the caller. One may say what one is called where the application does not, and nothing else:
/// a lock in somebody else's name would be as good as a forged note.
fn shown(caller: &Caller, input: OwnerInput) -> Result<Owner, Refusal> {
    let owner = caller.owner();
    if input.id.is_some() && input.id.as_deref() != owner.id.as_deref() {
        return Err(Refusal::forbidden("owner: id: a lock is held in the caller's own name."));
    }
    match (input.name, &owner.name) {
        (Some(name), Some(known)) if *name != **known => {
            Err(Refusal::forbidden("owner: name: the application says what you are called."))
        }
        (Some(name), None) => Ok(owner.named(name)),
        _ => Ok(owner),
    }
}
