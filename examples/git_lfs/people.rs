//! Who somebody is, where they are, and what they may do there.

use axum::{
    extract::{RawPathParams, Request, State, rejection::RawPathParamsRejection},
    http::StatusCode,
    middleware::Next,
    response::Response,
};
use tower_lock::{Access, Action, AuthorizeAsk, Depth, LockKind, Locks, Principal, request::RequestView};

use crate::{answer::Failure, basic};

/// Who may end what somebody else has locked.
const ADMIN: &str = "admin";

/// Who may read, and neither push nor lock.
const GUEST: &str = "guest";

/// The repositories of this server.
const REPOSITORIES: [&str; 2] = ["paint", "music"];

/// Somebody in a repository. Layers outside leave it in the request, and [`Locks`] reads it there.
#[derive(Clone)]
pub(crate) struct Visitor {
    pub(crate) user: String,
    pub(crate) repository: &'static str,
}

/// Finds out who is there, and leaves the [`Caller`](tower_lock::Caller) in the request.
pub(crate) async fn enter(
    State(locks): State<Locks>,
    parameters: Result<RawPathParams, RawPathParamsRejection>,
    mut request: Request,
    next: Next,
) -> Result<Response, Failure> {
    let Some(user) = basic::user(request.headers()) else {
        return Err(Failure::new(StatusCode::UNAUTHORIZED, "Any user name, any password."));
    };
    // Octets that are no text name nothing.
    let parameters = parameters.map_err(|_| Failure::new(StatusCode::NOT_FOUND, "There is nothing here."))?;
    let name = parameters.iter().find(|(name, _)| *name == "repository").map(|(_, name)| name);
    // With and without its suffix it is one repository. Two namespaces for it would be a way round every lock.
    let name = name.map(|name| name.strip_suffix(".git").unwrap_or(name));
    let Some(repository) = name.and_then(|name| REPOSITORIES.into_iter().find(|known| *known == name)) else {
        return Err(Failure::new(StatusCode::NOT_FOUND, "There is no such repository."));
    };
    request.extensions_mut().insert(Visitor { user, repository });
    let caller = locks.caller(&RequestView::of(&request))?;
    request.extensions_mut().insert(caller);
    Ok(next.run(request).await)
}

pub(crate) fn may_push(principal: Option<&Principal>) -> bool {
    principal.is_some_and(|principal| principal.as_str() != GUEST)
}

/// The authorizer. `ask.key.namespace()` is the repository; here one may do the same in all of them.
pub(crate) fn members(ask: &AuthorizeAsk<'_>) -> Access {
    let is_allowed = match ask.action {
        // Git LFS shows everybody who holds what.
        Action::See | Action::List => ask.principal.is_some(),
        Action::Acquire => may_push(ask.principal) && *ask.kind == LockKind::User && ask.depth == Depth::Zero,
        Action::Break => ask.principal.is_some_and(|principal| principal.as_str() == ADMIN),
        _ => false,
    };
    if is_allowed { Access::Allowed } else { Access::Denied }
}
