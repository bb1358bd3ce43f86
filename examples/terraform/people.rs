//! Who somebody is, and what they may do.

use axum::{
    extract::Request,
    http::{HeaderMap, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use base64::prelude::{BASE64_STANDARD, Engine};
use tower_lock::{Access, Action, AuthorizeAsk, Authorizer, DefaultAuthorizer};

use crate::locking::KIND;

/// Who the caller is, as the authentication found out.
#[derive(Clone)]
pub(crate) struct User(String);

impl User {
    pub(crate) fn name(&self) -> &str {
        &self.0
    }

    fn of(headers: &HeaderMap) -> Option<Self> {
        let (scheme, credentials) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
        let credentials = String::from_utf8(BASE64_STANDARD.decode(credentials.trim()).ok()?).ok()?;
        let (name, _password) = credentials.split_once(':')?;
        let fits = !name.is_empty() && name.len() <= 100 && !name.chars().any(char::is_control);
        (scheme.eq_ignore_ascii_case("basic") && fits).then(|| Self(name.to_owned()))
    }
}

/// HTTP Basic (RFC 7617), which Terraform sends unasked. A real service would look at the password.
pub(crate) async fn authenticate(mut request: Request, next: Next) -> Response {
    match User::of(request.headers()) {
        Some(user) => {
            request.extensions_mut().insert(user);
            next.run(request).await
        }
        None => {
            let challenge = [(header::WWW_AUTHENTICATE, "Basic realm=\"states\", charset=\"UTF-8\"")];
            (StatusCode::UNAUTHORIZED, challenge, "Any user name, any password.\n").into_response()
        }
    }
}

/// Everybody locks, and sees who has locked what. The administrator alone ends the locks of others.
pub(crate) fn who_may_do_what(ask: &AuthorizeAsk<'_>) -> Access {
    let is_admin = ask.principal.is_some_and(|principal| principal.as_str() == "admin");
    match ask.action {
        _ if is_admin => Access::Allowed,
        Action::Acquire if *ask.kind == KIND => Access::Allowed,
        Action::See => Access::Allowed,
        _ => DefaultAuthorizer.authorize(ask),
    }
}
