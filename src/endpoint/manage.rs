//! PATCH, DELETE and POST: refreshing and ending a lock that there is.

use http::{Response, StatusCode};
use serde::Serialize;

use super::{
    EndpointBody,
    body::{Media, unread},
    call::Call,
    input::{self, ActionName, RefreshInput, ReleaseAction, ReleaseInput, Timeout},
    reply::{self, Held},
    route::Verb,
};
use crate::{
    lock::{Lock, LockId, LockToken},
    locks::Refusal,
    store::{FinalTerm, Span},
};

/// What a POST can ask for. Breaking, handing over and claiming a lock are to be named here.
const ACTIONS: &str = "`release`";

/// Lets a lock live on.
pub(super) async fn refresh(call: &Call, body: &[u8]) -> Result<Response<EndpointBody>, Refusal> {
    let input: RefreshInput = input::read(body)?;
    let span = match input.timeout {
        None => Span::Same,
        Some(Timeout::For(span)) => Span::For(span),
        Some(Timeout::Endless) => Span::Endless,
    };
    let caller = call.caller()?;
    let named = call.named(&caller, input.token.map(|token| token.0))?;
    let refreshed = call.locks.refresh_for(&caller, named, span).await?;
    let held = Held::new(&call.locks, &caller, &refreshed.lock)
        .clamped(is_clamped(&refreshed.lock, span))
        .last_term(refreshed.final_term == FinalTerm::Yes);
    Ok(reply::json(StatusCode::OK, &held))
}

/// Whether a lock got less than was asked for, by the clock of the store that gave it.
fn is_clamped(lock: &Lock, asked: Span) -> bool {
    match (asked, lock.expires_at()) {
        (Span::For(span), Some(end)) => end < lock.life().seen_at.after(span),
        (Span::Endless, Some(_)) => true,
        _ => false,
    }
}

/// Ends a lock.
pub(super) async fn release(call: &Call, body: &[u8]) -> Result<Response<EndpointBody>, Refusal> {
    let input: ReleaseInput = input::read(body)?;
    end(call, input.token.map(|token| token.0)).await?;
    Ok(reply::empty(StatusCode::NO_CONTENT))
}

async fn end(call: &Call, token: Option<LockToken>) -> Result<Option<Lock>, Refusal> {
    let caller = call.caller()?;
    let named = call.named(&caller, token)?;
    call.locks.release_for(&caller, named).await
}

/// Does what the body names.
pub(super) async fn act(call: &Call, body: &[u8], media: Media) -> Result<Response<EndpointBody>, Refusal> {
    #[derive(Serialize)]
    struct Done {
        action: &'static str,
        #[serde(skip_serializing_if = "Option::is_none")]
        lock_id: Option<LockId>,
    }

    let token = match (media, body.trim_ascii()) {
        (_, b"") => return Err(Refusal::bad_request(format!("action: none is named; known is {ACTIONS}"))),
        (Media::Text, [first, ..]) if *first != b'{' => Some(token_alone(body)?),
        (media, _) => {
            let ActionName { action } = input::read(body)?;
            match (action.as_str(), media) {
                ("release", _) => {}
                // A form of another site can send plain text in its visitor's name.
                (_, Media::Text) => return Err(unread(Verb::Act)),
                _ => return Err(Refusal::bad_request(format!("action: unknown; known is {ACTIONS}"))),
            }
            input::read::<ReleaseAction>(body)?.token.map(|token| token.0)
        }
    };
    if media == Media::Text && token.is_none() {
        return Err(Refusal::bad_request("token: sent as plain text, a release has the token in its body"));
    }
    let ended = end(call, token).await?;
    Ok(reply::json(StatusCode::OK, &Done { action: "release", lock_id: ended.map(|lock| lock.id()) }))
}

/// A body that is nothing but a token, with or without the brackets of a Coded-URL.
fn token_alone(body: &[u8]) -> Result<LockToken, Refusal> {
    let text = body.trim_ascii();
    let text = text.strip_prefix(b"<").and_then(|text| text.strip_suffix(b">")).unwrap_or(text);
    std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()).ok_or_else(|| {
        Refusal::bad_request("token: the body is neither a lock token, `urn:uuid:` followed by a UUID, nor a JSON object")
    })
}
