//! LOCK and UNLOCK: from Terraform's IDs to locks and tokens, and from refusals to what Terraform prints.

use std::{borrow::Cow, time::Duration};

use axum::{
    body::{self, Body, Bytes},
    extract::{Path, Request, State},
    http::{HeaderValue, Response, StatusCode, header},
    response::IntoResponse,
};
use serde_json::{Map, Value, json};
use tower_lock::{
    Caller, LockKind, LockRequest, LockScope, LockToken, Locks, Principal, Refusal, RefusalCode, RequestView, ResourceKey,
    lock::LostCause,
    locks::{LockView, Named},
    respond::Problem,
    store::Span,
};

use crate::{
    Site,
    lock_info::LockInfo,
    states::{Name, has_its_digest},
};

/// What locks of Terraform are, to the policy.
pub(crate) const KIND: LockKind = LockKind::Other(Cow::Borrowed("terraform"));

/// Terraform's own have some hundred bytes.
const LARGEST_INFO: usize = 64 * 1024;

/// The token of the lock with this ID on this state. Terraform makes up an ID for every operation, so none comes twice; one
/// that does is of a request that was held up on its way, and must not lock what was unlocked since.
fn token(state: &ResourceKey<'_>, id: &str) -> LockToken {
    LockToken::derive(&["terraform", state.path(), id])
}

/// The token that a write of a state is made under, for [`LocksBuilder`](tower_lock::LocksBuilder).
pub(crate) fn token_in_query(request: &RequestView<'_>) -> Option<LockToken> {
    let query = request.uri.query()?;
    let mut ids = form_urlencoded::parse(query.as_bytes()).filter(|(name, _)| name == "ID");
    match (ids.next(), ids.next()) {
        (Some((_, id)), None) => Some(token(&ResourceKey::parse(request.uri.path()).ok()?, &id)),
        // Two can be read in two ways.
        _ => None,
    }
}

/// Beside the state, at its own address.
pub(crate) async fn by_lock_and_unlock(site: State<Site>, name: Path<Name>, request: Request) -> Response<Body> {
    match request.method().as_str() {
        "LOCK" | "UNLOCK" => by_any_method(site, name, request).await,
        _ => (StatusCode::METHOD_NOT_ALLOWED, [(header::ALLOW, "GET, POST, PUT, DELETE, LOCK, UNLOCK")]).into_response(),
    }
}

/// At an address of its own, where a lock is a resource that can be put, deleted and looked at.
pub(crate) async fn by_any_method(
    State(Site { locks, .. }): State<Site>,
    Path(name): Path<Name>,
    request: Request,
) -> Response<Body> {
    let method = request.method().clone();
    let asked = match Asked::read(locks, &name, request).await {
        Ok(asked) => asked,
        Err(refusal) => return refused(&refusal),
    };
    let answer =
        match method.as_str() {
            "LOCK" | "PUT" | "POST" => asked.lock().await,
            "UNLOCK" | "DELETE" if asked.body.is_empty() => asked.force_unlock().await,
            "UNLOCK" | "DELETE" => asked.unlock().await,
            "GET" | "HEAD" => asked.show().await,
            _ => Err(Refusal::new(RefusalCode::MethodNotAllowed, "LOCK, PUT, POST, UNLOCK, DELETE and GET are known here.")
                .into()),
        };
    answer.unwrap_or_else(|InTheWay { refusal, holder }| refused_by(&refusal, holder.as_ref()))
}

/// What is asked of the lock of a state, and by whom.
struct Asked {
    locks: Locks,
    caller: Caller,
    state: ResourceKey<'static>,
    body: Bytes,
}

impl Asked {
    async fn read(locks: Locks, name: &Name, request: Request) -> Result<Self, Refusal> {
        let (head, body) = request.into_parts();
        let caller = locks.caller(&RequestView::from_parts(&head))?;
        let body = body::to_bytes(body, LARGEST_INFO).await.map_err(|_| {
            Refusal::new(RefusalCode::ContentTooLarge, format!("A lock info has at most {LARGEST_INFO} bytes."))
        })?;
        has_its_digest(&head.headers, &body)?;
        Ok(Self { locks, caller, state: name.key(), body })
    }

    /// 200 and nothing else, also where this very lock is held already: the answer to the first LOCK was lost.
    async fn lock(self) -> Result<Response<Body>, InTheWay> {
        let info = LockInfo::read(&self.body)?;
        let request = LockRequest::on(LockScope::Exclusive, self.state.clone())
            .kind(KIND)
            .client_ref(info.to_text(self.locks.limits().client_ref))
            .propose_token(token(&self.state, info.id()));
        // On the caller's behalf, and not as the caller's own request: what stands in `client_ref` is what was read here.
        let server = Caller::application(self.caller.principal().cloned()).shown_as(Some(self.caller.owner()));
        match self.locks.acquire_for(&server, request).await {
            Ok(_granted) => Ok(shown(&info)),
            // Somebody else locked with this ID.
            Err(refusal) if refusal.code() == RefusalCode::ProposalConflict => match self.holder().await? {
                Some(holder) => Err(self.blocked_by(holder)),
                None => Err(refusal.into()),
            },
            Err(refusal) => Err(refusal.into()),
        }
    }

    /// 200 and nothing else, also where the lock is gone already: the answer to the first UNLOCK was lost, or it was broken.
    async fn unlock(self) -> Result<Response<Body>, InTheWay> {
        let info = LockInfo::read(&self.body)?;
        let token = token(&self.state, info.id());
        // Looked at first: to release a token that was never granted is to say that it never shall be.
        match self.holder().await? {
            Some(holder) if LockInfo::of(&holder).id() != info.id() && !self.was_a_lock(token).await => {
                return Err(self.blocked_by(holder));
            }
            _ => _ = self.locks.release_for(&self.caller, Named::token(token).at(self.state.clone())).await?,
        }
        Ok(StatusCode::OK.into_response())
    }

    /// Terraform does not send the ID that somebody typed: whatever is locked is unlocked, by who may.
    async fn force_unlock(self) -> Result<Response<Body>, InTheWay> {
        let user = self.caller.principal().map_or("somebody", Principal::as_str);
        let reason = format!("terraform force-unlock by {user}");
        match self.locks.break_for(&self.caller, Named::nothing().at(self.state.clone()), &reason, Duration::ZERO).await {
            Ok(_broken) => Ok(StatusCode::OK.into_response()),
            // Nothing to end, unless it is a lock of more than this state.
            Err(refusal) if refusal.code() == RefusalCode::NoSuchLock => match self.holder().await? {
                Some(holder) => Err(self.blocked_by(holder)),
                None => Ok(StatusCode::OK.into_response()),
            },
            Err(refusal) => Err(InTheWay { refusal, holder: self.holder().await? }),
        }
    }

    async fn show(self) -> Result<Response<Body>, InTheWay> {
        match self.holder().await? {
            Some(holder) => Ok(shown(&LockInfo::of(&holder))),
            None => Err(Refusal::new(RefusalCode::NoSuchLock, format!("{} is not locked.", self.state)).into()),
        }
    }

    /// 423: somebody else has it.
    fn blocked_by(&self, holder: LockView) -> InTheWay {
        let refusal = Refusal::new(RefusalCode::Locked, format!("{} is locked under another ID.", self.state));
        InTheWay { refusal: refusal.about(&self.state), holder: Some(holder) }
    }

    async fn holder(&self) -> Result<Option<LockView>, Refusal> {
        Ok(self.locks.inspect(&self.caller, &self.state).await?.into_iter().next())
    }

    /// Whether there was a lock with this token, of which there is none now.
    async fn was_a_lock(&self, token: LockToken) -> bool {
        let Err(refusal) = self.locks.refresh_for(&self.caller, Named::token(token), Span::Same).await else { return false };
        refusal.lost().iter().any(|lost| lost.cause != LostCause::Unknown)
    }
}

/// Why not, and who is in the way.
struct InTheWay {
    refusal: Refusal,
    holder: Option<LockView>,
}

impl From<Refusal> for InTheWay {
    fn from(refusal: Refusal) -> Self {
        let holder = refusal.locks().first().cloned();
        Self { refusal, holder }
    }
}

/// A refusal, for Terraform and everybody else.
pub(crate) fn refused(refusal: &Refusal) -> Response<Body> {
    refused_by(refusal, refusal.locks().first())
}

/// One body for both: a problem document (RFC 9457), and beside its members those of the holder's lock info, flat, as
/// Terraform reads them whatever else stands there and whatever the type says.
fn refused_by(refusal: &Refusal, holder: Option<&LockView>) -> Response<Body> {
    let mut body: Map<String, Value> = serde_json::from_slice(&Problem::of(refusal).to_json()).unwrap_or_default();
    if matches!(refusal.status(), StatusCode::LOCKED | StatusCode::CONFLICT) {
        body.extend(holder.map_or_else(|| LockInfo::nobody(refusal), LockInfo::of).members());
    }
    if let (Some(holder), []) = (holder, refusal.locks()) {
        body.insert("locks".to_owned(), json!([holder]));
    }
    let mut response = Response::new(Body::from(Value::Object(body).to_string()));
    *response.status_mut() = refusal.status();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some(seconds) = refusal.retry_after() {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

fn shown(info: &LockInfo) -> Response<Body> {
    let head = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")];
    (head, Value::Object(info.members()).to_string()).into_response()
}
