//! UNLOCK: a lock ends, on all that it covers (RFC 4918 section 9.11).

use http::StatusCode;

use super::{
    exchange::Exchange,
    handler::{Handler, Inner},
    own::empty,
    refusal::{Answer, Refused, Stop},
};
use crate::{
    locks::{Demand, Named, Refusal, RefusalCode},
    request::{Conditions, StateToken},
    respond::Precondition,
};

/// Ends the lock that `Lock-Token` names, through any resource that it covers. One that is gone, or was never there, is
/// 409: who sent the token believed in a lock.
pub(super) async fn unlock<S, B>(exchange: &Exchange, handler: &mut Handler<S>) -> Answer<S, B>
where
    S: Inner<B>,
{
    let decided = exchange.decided(handler).await?;
    let token = match decided.conditions.lock_token() {
        Some(StateToken::Lock(token)) => token,
        Some(_) => return Err(no_such_lock().into()),
        None => {
            let why = "UNLOCK names the lock in `Lock-Token` (RFC 4918 section 9.11.1).";
            return Err(Refusal::bad_request(why).into());
        }
    };
    exchange.pass(handler, decided).await?;
    handler.rest();
    let key = exchange.key()?;
    // A release would use up a token that the store has never seen; here that is just a wrong one.
    let covers = Conditions::covering(token, key.borrowed());
    match exchange.locks.judge_write(exchange.view(), &key, &[], &covers, Demand::None).settled().await {
        Ok(admitted) => drop(admitted),
        Err(refusal) if refusal.code() == RefusalCode::LockLost => return Err(no_such_lock().into()),
        Err(refusal) => return Err(refusal.into()),
    }
    let named = Named::token(token).at(key);
    let released = exchange.locks.release_for(&exchange.caller, named).await;
    match released.map_err(Stop::from).map_err(Stop::unmatched)? {
        Some(_) => Ok(empty(StatusCode::NO_CONTENT)),
        None => Err(no_such_lock().into()),
    }
}

fn no_such_lock() -> Refused {
    let refusal = Refusal::new(RefusalCode::NotCovered, "No lock with this token covers this resource.");
    Refused::over(refusal, Precondition::LockTokenMatchesRequestUri)
}
