//! Every other write: conditions, then locks, then the handler, then the locks of what is gone.

use std::future::poll_fn;

use http::{HeaderValue, Method, Response, StatusCode, header};

use super::{
    RequestBody,
    answer::forwarded,
    exchange::Exchange,
    gone::Remains,
    handler::{Handler, Inner, Lapsed, Place, buffered, under},
    head::{Overwrite, overwrite},
    look::{Kind, Mapped, Need},
    own,
    proppatch::Patch,
    refusal::{Answer, Stop, refuse_xml},
};
use crate::{
    lock::{Depth, Gone, LockScope, Membership, ResourceKey},
    locks::{Demand, Refusal, RefusalCode},
    middleware::{Admission, After, Place as Held},
    request::{Conditions, Targets, destination_path, gone, targets},
    respond::{Precondition, ResponseBody},
    store::{Admitted, Permit, waiting::Again},
};

/// Lets a write through to the handler, if the locks do.
pub(super) async fn write<S, B>(exchange: &mut Exchange, handler: &mut Handler<S>, body: B) -> Answer<S, B>
where
    S: Inner<B>,
    B: http_body::Body,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let Go { admitted, if_match, after, remains } = decide_in_time(exchange, handler).await?;
    let is_patch = exchange.parts.method.as_str() == "PROPPATCH";
    let body = if is_patch {
        let bytes = exchange.read(body, exchange.settings.body).await?;
        let patch = Patch::read(&bytes).map_err(|error| refuse_xml(&error))?;
        if patch.touches_lock_properties() {
            return Ok(own::multistatus(patch.refusal(exchange.parts.uri.path())));
        }
        RequestBody::own(bytes)
    } else {
        RequestBody::passed(body)
    };

    // The handler may have to be asked what is left, on behalf of the same caller.
    let mut request = if remains.is_some() { exchange.copy(body) } else { exchange.take(body) };
    let headers = request.headers_mut();
    if let Some(if_match) = if_match
        && !headers.contains_key(header::IF_MATCH)
    {
        headers.insert(header::IF_MATCH, if_match);
    }
    if admitted.answered.is_some() {
        request.extensions_mut().insert(Admission::of(&admitted));
    }

    let permit = &admitted.permit;
    let response = match handler.call_under(permit, request).await {
        Ok(response) => response.map_err(Stop::Failed)?,
        Err(Lapsed) => return Err(Refusal::lease_lapsed().into()),
    };
    let response = forwarded(&exchange.parts.method, response);
    if response.status() == StatusCode::MULTI_STATUS {
        // Some handlers go on with the work as this is read, so it is, before others are granted what they would change.
        let response = match under(permit, buffered(response, exchange.settings.multistatus)).await {
            Ok(Ok(response)) => response,
            // Nobody knows what is in it: the locks expire.
            Ok(Err(unread)) => return Ok(own::empty(unread.status())),
            Err(Lapsed) => return Err(Refusal::lease_lapsed().into()),
        };
        if let Some(remains) = remains {
            remains.clear(exchange, handler, permit, response.body()).await;
        }
        return Ok(finished(response.map(ResponseBody::own), after, admitted).await);
    }
    Ok(finished(response.map(ResponseBody::passed), after, admitted).await)
}

/// The write has ended: what becomes of the locks of what is gone and of the writer's own, and what is said of that.
async fn finished<B>(mut response: Response<B>, after: Option<Box<After>>, admitted: Admitted) -> Response<B> {
    if let Some(after) = after {
        let status = response.status();
        after.carry_out(status, admitted.permit).await;
        after.mark(status, response.headers_mut());
    }
    response
}

/// Decides; and where a lock is in the way and the client would rather wait, again each time that it may have gone.
async fn decide_in_time<S, B>(exchange: &mut Exchange, handler: &mut Handler<S>) -> Result<Go, Stop<S::Fault>>
where
    S: Inner<B>,
{
    let mut decided = decide(exchange, handler).await;
    let Err(Stop::Refused(refused)) = &decided else { return decided };
    let mut refusal = refused.refusal().clone();
    let place = Held::take(&exchange.locks, &mut refusal, exchange.view());
    let Some(Held { mut waiting, patience }) = place else {
        return if refusal.status() == refused.refusal().status() { decided } else { Err(refusal.into()) };
    };
    exchange.heeded = Some(patience.applied());
    loop {
        handler.rest();
        let again = poll_fn(|cx| waiting.poll_again(cx)).await;
        // Once more when the time is up, so that what the client is told is of now.
        decided = decide(exchange, handler).await;
        let Err(Stop::Refused(refused)) = &decided else {
            if decided.is_ok() {
                waiting.served();
            }
            return decided;
        };
        let waits = matches!(refused.refusal().status(), StatusCode::LOCKED | StatusCode::SERVICE_UNAVAILABLE);
        if again == Again::TimeUp || !waits {
            return decided;
        }
        waiting.behind(refused.refusal());
    }
}

/// A write that may go on.
struct Go {
    admitted: Admitted,
    if_match: Option<HeaderValue>,
    /// What ends once it has succeeded.
    after: Option<Box<After>>,
    /// What may end once it has succeeded in part.
    remains: Option<Remains>,
}

async fn decide<S, B>(exchange: &Exchange, handler: &mut Handler<S>) -> Result<Go, Stop<S::Fault>>
where
    S: Inner<B>,
{
    let method = &exchange.parts.method;
    let decided = exchange.decided(handler).await?;
    let mut if_match = decided.if_match;
    let conditions = decided.conditions;
    let namespace = exchange.caller.namespace().map(Into::into);
    let targets = targets(exchange.view(), &*exchange.locks.policy().resolver, namespace.as_ref()).map_err(Refusal::from)?;
    let forbidden = overwrite(exchange.headers()) == Overwrite::Forbidden && matches!(method.as_str(), "COPY" | "MOVE");

    // Also where nothing may be overwritten, with all below: what is not there yet may be locked, and would be made.
    let refusal = match judge(exchange, handler, &targets, &conditions).await? {
        Ok(admitted) => {
            let targets = if forbidden { targets.overwriting_nothing() } else { targets };
            return Ok(go(exchange, admitted, if_match, &targets));
        }
        Err(refusal) => refusal,
    };
    if forbidden && refusal.status() == StatusCode::LOCKED && is_occupied(exchange, handler).await? {
        // It would change nothing, whatever is locked (section 10.6).
        let why = "There is a resource at the destination, and `Overwrite: F` forbids to replace it.";
        return Err(Refusal::new(RefusalCode::ConditionFailed, why).into());
    }
    // Only now is it worth a request to know whether the collection gets a new member.
    if may_be_of_membership(&refusal, method, &targets, &conditions) && is_member(exchange, handler).await? {
        let targets = targets.existing();
        match judge(exchange, handler, &targets, &conditions).await? {
            Ok(admitted) => {
                // Should it be deleted meanwhile, this must not make it anew.
                if_match = if_match.or(Some(HeaderValue::from_static("*")));
                return Ok(go(exchange, admitted, if_match, &targets));
            }
            Err(refusal) => return Err(blocked(refusal, exchange)),
        }
    }
    Err(blocked(refusal, exchange))
}

fn go(exchange: &Exchange, admitted: Admitted, if_match: Option<HeaderValue>, targets: &Targets<'_>) -> Go {
    let answered = admitted.answered.as_deref().unwrap_or_default();
    let gone = gone(&exchange.parts.method, targets);
    let gone: Vec<_> = gone.into_iter().map(|gone| Gone { key: gone.key.into_owned(), ..gone }).collect();
    let remains = Remains::of(answered, &gone);
    let after = After::of(&exchange.locks, exchange.view(), answered, gone, None, |_| true);
    Go { after, remains, admitted, if_match }
}

fn blocked<E>(refusal: Refusal, exchange: &Exchange) -> Stop<E> {
    exchange.blocked(refusal, Precondition::LockTokenSubmitted).into()
}

/// What the locks say. A service error is passed on.
async fn judge<S, B>(
    exchange: &Exchange,
    handler: &mut Handler<S>,
    targets: &Targets<'_>,
    conditions: &Conditions<'_>,
) -> Result<Result<Admitted, Refusal>, Stop<S::Fault>>
where
    S: Inner<B>,
{
    // Before the write counts as in flight: others may wait for that to end, and hold what this would wait for.
    handler.prepare().await.map_err(Stop::Failed)?;
    let Some(first) = targets.first() else {
        // The resolver says that this changes nothing that can be locked.
        return Ok(Ok(Admitted { permit: Permit::unguarded(0), answered: None }));
    };
    Ok(exchange.locks.judge_write(exchange.view(), &first.key, targets, conditions, Demand::None).settled().await)
}

/// Whether a refusal may come from nothing but the membership of the parent, which an existing target does not change: from
/// a depth-zero lock on it, or from a shared lock above, of which the caller's own shared lock covers the target alone.
fn may_be_of_membership(refusal: &Refusal, method: &Method, targets: &Targets<'_>, conditions: &Conditions<'_>) -> bool {
    if refusal.status() != StatusCode::LOCKED || !matches!(*method, Method::PUT | Method::PATCH) {
        return false;
    }
    let parents = |path: &str| {
        let changed = targets.of_target().iter().filter(|target| target.membership == Membership::Changed);
        changed.filter_map(|target| target.key.parent_path()).any(|parent| parent == path)
    };
    let holds = !conditions.tokens().is_empty();
    refusal.is_bare()
        || refusal.locks().iter().any(|lock| match lock.depth {
            Depth::Zero => parents(&lock.resource),
            Depth::Infinity => holds && lock.scope == LockScope::Shared,
        })
}

/// Whether the target is there already, as a member of a collection. Some handlers answer for a document at all paths below
/// it; a write there changes that document, whose lock must not be taken for that of a collection.
async fn is_member<S, B>(exchange: &Exchange, handler: &mut Handler<S>) -> Result<bool, Stop<S::Fault>>
where
    S: Inner<B>,
{
    let look = handler.look(&exchange.parts, Place::Target, Need::Existence).await.map_err(Stop::Failed)?;
    if look.mapped != Mapped::Yes {
        return Ok(false);
    }
    // As the handler reads the target, whatever becomes of it in a key.
    let Ok(target) = ResourceKey::parse(exchange.parts.uri.path()) else { return Ok(false) };
    let Some(parent) = target.parent_path() else { return Ok(false) };
    let parent = ResourceKey::from_canonical(parent).uri().into_owned();
    let look = handler.propfind(&exchange.parts, Place::Path(&parent)).await.map_err(Stop::Failed)?;
    Ok(look.kind == Some(Kind::Collection))
}

/// Whether there is a resource at the destination.
async fn is_occupied<S, B>(exchange: &Exchange, handler: &mut Handler<S>) -> Result<bool, Stop<S::Fault>>
where
    S: Inner<B>,
{
    let Ok(Some(path)) = destination_path(exchange.headers()) else { return Ok(false) };
    let place = Place::Path(exchange.inside(&path));
    let look = handler.look(&exchange.parts, place, Need::Existence).await.map_err(Stop::Failed)?;
    Ok(look.mapped == Mapped::Yes)
}
