//! LOCK without a body: a lock lives on (RFC 4918 section 9.10.2).

use super::{
    exchange::Exchange,
    handler::{Handler, Inner},
    head::timeout,
    own::shown,
    refusal::{Answer, Refused, Stop},
};
use crate::{
    locks::{Named, Refusal, RefusalCode},
    respond::Precondition,
};

/// Refreshes the one lock that `If` names, through any resource that it covers.
pub(super) async fn refresh<S, B>(exchange: &Exchange, handler: &mut Handler<S>) -> Answer<S, B>
where
    S: Inner<B>,
{
    let decided = exchange.decided(handler).await?;
    let conditions = &decided.conditions;
    let token = match conditions.tokens() {
        _ if conditions.lists().is_empty() => {
            let why = "A LOCK without a body refreshes a lock, whose token stands in `If` (RFC 4918 section 9.10.2).";
            return Err(Refusal::bad_request(why).into());
        }
        [token] => *token,
        // Whatever it names is no lock of ours.
        [] => {
            let refusal = Refusal::new(RefusalCode::LockLost, "`If` names no lock that is known here.");
            return Err(Refused::over(refusal, Precondition::LockTokenMatchesRequestUri).into());
        }
        _ => return Err(Refusal::bad_request("A refresh names one lock (RFC 4918 section 9.10.2).").into()),
    };
    exchange.pass(handler, decided).await.map_err(Stop::unmatched)?;
    handler.rest();
    let named = Named::token(token).at(exchange.key()?);
    let refreshed = exchange.locks.refresh_for(&exchange.caller, named, timeout(exchange.headers())).await;
    let lock = refreshed.map_err(Stop::from).map_err(Stop::unmatched)?.lock;
    Ok(shown(exchange, &lock, token))
}
