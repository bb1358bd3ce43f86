//! Who somebody is, and what they may do.

use axum::{
    extract::Request,
    http::{StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use tower_lock::{Access, Action, AuthorizeAsk, Authorizer, DefaultAuthorizer};

use crate::basic;

/// Who the caller is, as the authentication found out.
#[derive(Clone)]
pub(crate) struct User(String);

impl User {
    pub(crate) fn name(&self) -> &str {
        &self.0
    }
}

/// HTTP Basic (RFC 7617), which Terraform sends unasked. A real service would look at the password.
pub(crate) async fn authenticate(mut request: Request, next: Next) -> Response {
    match basic::user(request.headers()) {
        Some(name) => {
            request.extensions_mut().insert(User(name));
            next.run(request).await
        }
        None => {
            let challenge = [(header::WWW_AUTHENTICATE, "Basic realm=\"states\", charset=\"UTF-8\"")];
            (StatusCode::UNAUTHORIZED, challenge, "Any user name, any password.\n").into_response()
        }
    }
}

/// Everybody sees who has locked what; the administrator alone ends the locks of others. Locks of Terraform's are the
/// server's to set, by LOCK: at the endpoint anybody could say to be somebody else's apply.
pub(crate) fn who_may_do_what(ask: &AuthorizeAsk<'_>) -> Access {
    let is_admin = ask.principal.is_some_and(|principal| principal.as_str() == "admin");
    match ask.action {
        _ if is_admin => Access::Allowed,
        Action::See => Access::Allowed,
        _ => DefaultAuthorizer.authorize(ask),
    }
}
