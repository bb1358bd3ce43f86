//! POST to a resource or a lock: what is done to a lock beside acquiring and refreshing it.

use std::time::Duration;

use http::{Response, StatusCode};
use serde::Serialize;

use super::{
    EndpointBody, acquire,
    body::{Media, unread},
    call::Call,
    input::{self, ActionName, BreakAction, ClaimAction, Name, OwnerInput, ReleaseAction, TextOr, Timeout, TransferAction},
    manage::end,
    reply,
    route::{Target, Verb},
};
use crate::{
    lock::{LockId, LockToken, Owner},
    locks::{Broken, Caller, Handover, LockView, Named, Refusal},
};

/// What a POST can ask for.
const ACTIONS: &str = "`release`, `break`, `transfer` and `claim`";

/// What was done.
#[derive(Serialize)]
struct Done {
    action: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    lock_id: Option<LockId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lock: Option<LockView>,
}

/// Does what the body names.
pub(super) async fn act(call: &Call, body: &[u8], media: Media) -> Result<Response<EndpointBody>, Refusal> {
    match (media, body.trim_ascii()) {
        (_, b"") => Err(Refusal::bad_request(format!("action: none is named; known are {ACTIONS}"))),
        (Media::Text, [first, ..]) if *first != b'{' => release(call, Some(token_alone(body)?)).await,
        (media, _) => {
            let ActionName { action } = input::read(body)?;
            match (action.as_str(), media) {
                ("release", _) => {
                    let token = input::read::<ReleaseAction>(body)?.token.map(|token| token.0);
                    if media == Media::Text && token.is_none() {
                        let why = "token: sent as plain text, a release has the token in its body";
                        return Err(Refusal::bad_request(why));
                    }
                    release(call, token).await
                }
                // A form of another site can send plain text in its visitor's name.
                (_, Media::Text) => Err(unread(Verb::Act)),
                ("break", _) => break_lock(call, input::read(body)?).await,
                ("transfer", _) => transfer(call, input::read(body)?).await,
                ("claim", _) => claim(call, input::read(body)?).await,
                _ => Err(Refusal::bad_request(format!("action: unknown; known are {ACTIONS}"))),
            }
        }
    }
}

async fn release(call: &Call, token: Option<LockToken>) -> Result<Response<EndpointBody>, Refusal> {
    let ended = end(call, token).await?;
    let lock_id = ended.map(|lock| lock.id());
    Ok(reply::json(StatusCode::OK, &Done { action: "release", lock_id, lock: None }))
}

/// A body that is nothing but a token, with or without the brackets of a Coded-URL.
fn token_alone(body: &[u8]) -> Result<LockToken, Refusal> {
    let text = body.trim_ascii();
    let text = text.strip_prefix(b"<").and_then(|text| text.strip_suffix(b">")).unwrap_or(text);
    std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()).ok_or_else(|| {
        Refusal::bad_request("token: the body is neither a lock token, `urn:uuid:` followed by a UUID, nor a JSON object")
    })
}

/// Ends somebody else's lock.
async fn break_lock(call: &Call, input: BreakAction) -> Result<Response<EndpointBody>, Refusal> {
    call.expect_no_conditions("a break relies on no lock of one's own")?;
    let caller = call.caller()?;
    let named = named(call, &caller, input.lock_id.map(|id| id.0))?;
    let grace = Duration::from_secs(input.grace.unwrap_or_default());
    let broken = call.locks.break_for(&caller, named, &input.reason.unwrap_or_default(), grace).await?;
    let status = match broken {
        Broken::Ended(_) => StatusCode::OK,
        Broken::Breaking(_) => StatusCode::ACCEPTED,
    };
    let lock = broken.lock();
    let done = Done { action: "break", lock_id: Some(lock.id()), lock: call.locks.view(&caller, lock) };
    Ok(reply::json(status, &done))
}

/// Hands a lock to another principal.
async fn transfer(call: &Call, input: TransferAction) -> Result<Response<EndpointBody>, Refusal> {
    let caller = call.caller()?;
    let named = match call.token(&caller, input.token.map(|token| token.0))? {
        Some(token) => named(call, &caller, input.lock_id.map(|id| id.0))?.and_token(token),
        None => named(call, &caller, input.lock_id.map(|id| id.0))?,
    };
    let mut handover = match input.to {
        TextOr::Text(Name(to)) => Handover::to(to),
        TextOr::Object(OwnerInput { id: Some(id), name }) => {
            let owner = Owner::id(&*id);
            Handover::to(id).shown_as(match name {
                Some(name) => owner.named(name),
                None => owner,
            })
        }
        TextOr::Object(_) => return Err(Refusal::bad_request("to: id: nobody is named")),
    };
    if let Some(reason) = input.reason {
        handover = handover.reason(reason);
    }
    handover = match input.timeout {
        None => handover,
        Some(Timeout::For(span)) => handover.lifetime(span),
        Some(Timeout::Endless) => handover.endless(),
    };
    let lock = call.locks.transfer_for(&caller, named, handover).await?;
    let done = Done { action: "transfer", lock_id: Some(lock.id()), lock: call.locks.view(&caller, &lock) };
    Ok(reply::json(StatusCode::OK, &done))
}

/// Gets the token of a lock that was handed to the caller.
async fn claim(call: &Call, input: ClaimAction) -> Result<Response<EndpointBody>, Refusal> {
    call.expect_no_conditions("a claim is proven by who sends it")?;
    let caller = call.caller()?;
    let named = named(call, &caller, input.lock_id.map(|id| id.0))?;
    let lifetime = match input.timeout {
        None => None,
        Some(Timeout::For(span)) => Some(span),
        // As long as there is: it is clamped to what its kind allows.
        Some(Timeout::Endless) => Some(Duration::MAX),
    };
    let granted = call.locks.claim_for(&caller, named, lifetime).await?;
    Ok(acquire::answer(call, &caller, &granted, StatusCode::OK))
}

/// The lock that the target means, and `lock_id` of the body.
fn named(call: &Call, caller: &Caller, in_body: Option<LockId>) -> Result<Named, Refusal> {
    let named = match &call.target {
        Target::Resource(..) => Named::nothing().at(call.resource(caller)?),
        Target::Lock(id) if in_body.is_some_and(|other| other != *id) => {
            return Err(Refusal::bad_request("lock_id: this is another lock than that of the URL"));
        }
        Target::Lock(id) => Named::id(*id),
        Target::List => Named::nothing(),
    };
    Ok(match in_body {
        Some(id) => named.and_id(id),
        None => named,
    })
}
