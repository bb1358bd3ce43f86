//! LOCK: a new lock, on a resource that is there or on one that is made for it (RFC 4918 section 9.10).

use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode, header};

use super::{
    RequestBody,
    exchange::Exchange,
    handler::{Handler, Inner, Lapsed, Place, inner, under},
    head::{depth_of_lock, timeout},
    lockinfo::{LockInfo, LockInfoError},
    look::{Mapped, Need},
    mint::Ending,
    own::{empty, granted},
    refresh::refresh,
    refusal::{Answer, Refused, Stop, refuse_xml},
};
use crate::{
    lock::{Depth, Lock, LockScope, LockToken, ResourceKey, Target, rules},
    locks::{Behind, Demand, LockRequest, LockView, Locks, Refusal, RefusalCode},
    request::Conditions,
    respond::{Precondition, ResponseBody},
    store::{Admitted, Permit, Span, WriteId},
};

/// Answers a LOCK. Without a body it refreshes; a lock is never made by it (section 7.7).
pub(super) async fn lock<S, B>(exchange: &Exchange, handler: &mut Handler<S>, body: B) -> Answer<S, B>
where
    S: Inner<B>,
    B: http_body::Body,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let body = exchange.read(body, exchange.locks.limits().body).await?;
    if body.is_empty() {
        return refresh(exchange, handler).await;
    }
    let info = LockInfo::read(&body).map_err(refuse_body)?;
    let depth = depth_of_lock(exchange.headers())?;
    let new = NewLock { info, depth, key: exchange.key()? };
    // Before anything is said of conditions and locks (section 8.1), or asked of the handler.
    exchange.locks.may_acquire(&exchange.caller, &new.request(exchange))?;
    let decided = exchange.decided(handler).await?;

    let look = handler.look(&exchange.parts, Place::Target, Need::Existence).await.map_err(Stop::Failed)?;
    if !handler.holds(&exchange.parts, look.mapped).await.map_err(Stop::Failed)? {
        let why =
            "The resource is not as `If-Match`, `If-None-Match` or `If-Unmodified-Since` has it (RFC 9110 section 13).";
        return Err(Refusal::new(RefusalCode::ConditionFailed, why).into());
    }
    match look.mapped {
        // Whoever may not look at it may not lock it either; and of a handler that fails nobody knows what there is.
        Mapped::Unknown(status) if tells_against(status) => {
            let mut answer = empty(status);
            for challenge in look.challenges {
                answer.headers_mut().append(header::WWW_AUTHENTICATE, challenge);
            }
            Ok(answer)
        }
        Mapped::Yes | Mapped::Unknown(_) => {
            let tokens = decided.conditions.tokens().to_vec();
            exchange.pass(handler, decided).await?;
            handler.rest();
            let (lock, undo) = new.acquire(exchange, None).await?;
            // What was waited for may have been the end of it.
            let look = handler.look(&exchange.parts, Place::Target, Need::Existence).await.map_err(Stop::Failed)?;
            if look.mapped == Mapped::No {
                return new.create_under(exchange, handler, &tokens, &lock, undo).await;
            }
            Ok(granted(exchange, &lock, undo.keep(), StatusCode::OK))
        }
        Mapped::No => {
            // A PUT of the new member is what it comes to, so that is what has to be admitted.
            let conditions = decided.conditions.without_lock_token();
            handler.rest();
            let permit = new.admit_member(exchange, &conditions).await?;
            match new.info.scope {
                LockScope::Exclusive => {
                    let (lock, undo) = new.acquire(exchange, permit.id()).await?;
                    create(exchange, handler, &permit, &lock, undo).await
                }
                // Two of these conflict neither with one another nor with the mark of one another: each would wait for the
                // write of the other to end. So each has its lock first, which then answers for the write.
                LockScope::Shared => {
                    drop(permit);
                    let (lock, undo) = new.acquire(exchange, None).await?;
                    new.create_under(exchange, handler, conditions.tokens(), &lock, undo).await
                }
            }
        }
    }
}

/// Whether a handler that answers this, asked what there is, would not have the resource locked. One that only knows
/// neither HEAD nor PROPFIND, or sends elsewhere, says nothing about that.
fn tells_against(status: StatusCode) -> bool {
    (status.is_client_error() || status.is_server_error())
        && !matches!(status, StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED)
}

/// Makes the resource that was locked: an empty one, unless it is there by now.
async fn create<S, B>(
    exchange: &Exchange,
    handler: &mut Handler<S>,
    permit: &Permit,
    lock: &Lock,
    undo: Undo,
) -> Answer<S, B>
where
    S: Inner<B>,
{
    // Somebody may have made it before this was admitted, and not every handler knows `If-None-Match`.
    let look = handler.look(&exchange.parts, Place::Target, Need::Existence);
    match under(permit, look).await {
        Ok(look) if look.as_ref().is_ok_and(|look| look.mapped == Mapped::Yes) => {
            return Ok(granted(exchange, lock, undo.keep(), StatusCode::OK));
        }
        Ok(look) => _ = look.map_err(Stop::Failed)?,
        Err(Lapsed) => return Err(Refusal::lease_lapsed().into()),
    }
    let mut put = inner(&exchange.parts, Method::PUT, Place::Target, RequestBody::own(Bytes::new()))
        .ok_or_else(|| Refusal::bad_request("no resource can be made here"))?;
    put.headers_mut().insert(header::IF_NONE_MATCH, HeaderValue::from_static("*"));
    put.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(0));
    let made = match handler.call_under(permit, put).await {
        Ok(made) => made.map_err(Stop::Failed)?,
        Err(Lapsed) => return Err(Refusal::lease_lapsed().into()),
    };
    // Some handlers say that of a resource in a collection that does not exist, too.
    let is_there = match made.status() {
        StatusCode::PRECONDITION_FAILED => {
            let look = handler.look(&exchange.parts, Place::Target, Need::Existence).await.map_err(Stop::Failed)?;
            look.mapped != Mapped::No
        }
        _ => false,
    };
    match made.status() {
        status if status.is_success() => Ok(granted(exchange, lock, undo.keep(), StatusCode::CREATED)),
        _ if is_there => Ok(granted(exchange, lock, undo.keep(), StatusCode::OK)),
        status => {
            undo.now().await;
            let mut answer = made.map(ResponseBody::passed);
            // A collection on the way is missing (section 9.10.6), whatever the handler calls it.
            if matches!(status, StatusCode::NOT_FOUND | StatusCode::PRECONDITION_FAILED) {
                *answer.status_mut() = StatusCode::CONFLICT;
            }
            Ok(answer)
        }
    }
}

/// A lock to be acquired.
struct NewLock {
    info: LockInfo,
    depth: Depth,
    key: ResourceKey<'static>,
}

impl NewLock {
    fn request(&self, exchange: &Exchange) -> LockRequest {
        let mut owner = exchange.caller.owner();
        if let Some(xml) = &self.info.owner {
            owner = owner.xml(xml);
        }
        let request = LockRequest::on(self.info.scope, self.key.clone()).depth(self.depth).owner(owner);
        match timeout(exchange.headers()) {
            Span::For(span) => request.lifetime(span),
            Span::Endless => request.endless(),
            Span::Same => request,
        }
    }

    /// What stands in its way: another lock, or the token of the collection that would get a new member.
    fn blocked_by(&self, refusal: &Refusal) -> Precondition {
        let conflicts = |lock: &LockView| {
            let root = ResourceKey::from_canonical(lock.resource.as_str());
            let key = ResourceKey::from_canonical(self.key.path());
            rules::overlap((&root, lock.depth), (&key, self.depth))
        };
        let conflicts = refusal.locks().iter().any(conflicts);
        if conflicts { Precondition::NoConflictingLock } else { Precondition::LockTokenSubmitted }
    }

    /// Admits the write that makes the resource, a new member of its collection.
    async fn admit_member(&self, exchange: &Exchange, conditions: &Conditions<'_>) -> Result<Permit, Refused> {
        let target = [Target::write_member(self.key.clone())];
        let verdict = exchange.locks.judge_write(exchange.view(), &self.key, &target, conditions, Demand::None).settled();
        match verdict.await {
            Ok(Admitted { permit, .. }) => Ok(permit),
            Err(refusal) => {
                let precondition = self.blocked_by(&refusal);
                Err(exchange.blocked(refusal, precondition))
            }
        }
    }

    /// Makes the resource under the lock, whose token answers for that with those that the client submitted.
    async fn create_under<S, B>(
        &self,
        exchange: &Exchange,
        handler: &mut Handler<S>,
        tokens: &[LockToken],
        lock: &Lock,
        undo: Undo,
    ) -> Answer<S, B>
    where
        S: Inner<B>,
    {
        let mut submitted = Conditions::NONE;
        for token in tokens.iter().copied().chain(undo.token) {
            submitted.submit(token).map_err(Refusal::from)?;
        }
        match self.admit_member(exchange, &submitted).await {
            Ok(permit) => create(exchange, handler, &permit, lock, undo).await,
            Err(refused) => {
                undo.now().await;
                Err(refused.into())
            }
        }
    }

    async fn acquire(&self, exchange: &Exchange, within: Option<WriteId>) -> Result<(Lock, Undo), Refused> {
        let ending = if exchange.parts.uri.path().ends_with('/') { Ending::Slash } else { Ending::Name };
        let (id, token) = exchange.settings.mint.make(ending, &self.key, exchange.caller.principal());
        let request = self.request(exchange).propose_id(id).propose_token(token).within(within);
        let mut undo = Undo { locks: exchange.locks.clone(), token: Some(token) };
        match exchange.locks.acquire_for(&exchange.caller, request).await {
            Ok(granted) => Ok((granted.lock().clone(), undo)),
            Err(refusal) => {
                // A store that could not answer may have granted it all the same.
                if refusal.code() != RefusalCode::StoreUnavailable {
                    undo.token = None;
                }
                Err(exchange.blocked(refusal, Precondition::NoConflictingLock))
            }
        }
    }
}

/// Ends a lock that nobody was told of: the request was dropped, or its resource could not be made.
struct Undo {
    locks: Locks,
    token: Option<LockToken>,
}

impl Undo {
    fn keep(mut self) -> LockToken {
        self.token.take().expect("kept once")
    }

    /// Ends it before the answer. Should that fail, it is tried again behind it.
    async fn now(mut self) {
        if let Some(token) = self.token
            && self.locks.release(token).await.is_ok()
        {
            self.token = None;
        }
    }
}

impl Drop for Undo {
    fn drop(&mut self) {
        if let Some(token) = self.token.take() {
            self.locks.release_behind(token, Behind::Granted);
        }
    }
}

fn refuse_body(error: LockInfoError) -> Refused {
    match error {
        LockInfoError::Xml(error) => refuse_xml(&error),
        LockInfoError::Missing(_) => Refused::plain(Refusal::bad_request(error.to_string())),
        LockInfoError::Unsupported(_) => Refused::plain(Refusal::new(RefusalCode::Unprocessable, error.to_string())),
    }
}
