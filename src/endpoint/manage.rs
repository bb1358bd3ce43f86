//! PATCH and DELETE: refreshing and ending a lock that there is.

use http::{Response, StatusCode};

use super::{
    EndpointBody,
    call::Call,
    input::{self, RefreshInput, ReleaseInput, Timeout},
    reply::{self, Held},
};
use crate::{
    lock::{Lock, LockToken},
    locks::Refusal,
    store::{FinalTerm, Span},
};

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

pub(super) async fn end(call: &Call, token: Option<LockToken>) -> Result<Option<Lock>, Refusal> {
    let caller = call.caller()?;
    let named = call.named(&caller, token)?;
    call.locks.release_for(&caller, named).await
}
