//! A read under `If`: a false condition is 412 for it too (RFC 4918 section 10.4.1).

use super::{
    RequestBody,
    answer::any,
    exchange::Exchange,
    handler::{Handler, Inner},
    refusal::{Answer, Stop},
};
use crate::respond::ResponseBody;

/// Decides the conditions, and passes the request on without them.
pub(super) async fn read<S, B>(exchange: &mut Exchange, handler: &mut Handler<S>, body: B) -> Answer<S, B>
where
    S: Inner<B>,
{
    let decided = exchange.decided(handler).await?;
    exchange.pass(handler, decided).await?;
    let request = exchange.take(RequestBody::passed(body));
    let response = handler.call(request).await.map_err(Stop::Failed)?;
    Ok(any(response).map(ResponseBody::passed))
}
