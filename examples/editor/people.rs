//! Who somebody is: whoever they say. A cookie remembers it, as a real service's cookie would remember a session.

use axum::{
    Form,
    extract::Request,
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Redirect, Response},
};
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde::Deserialize;

/// Who may take over what somebody else is editing.
pub(crate) const ADMIN: &str = "admin";

/// Somebody who is signed in.
#[derive(Clone)]
pub(crate) struct User(String);

impl User {
    /// What somebody may be called: one line that fits into one.
    fn called(name: &str) -> Option<Self> {
        let name = name.trim();
        let fits = !name.is_empty() && name.chars().count() <= 40 && !name.chars().any(char::is_control);
        fits.then(|| Self(name.to_owned()))
    }

    pub(crate) fn name(&self) -> &str {
        &self.0
    }

    fn of(headers: &HeaderMap) -> Option<Self> {
        let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
        let mut pairs = cookies.flat_map(|cookies| cookies.split(';')).filter_map(|pair| pair.trim().split_once('='));
        let (_, name) = pairs.find(|(cookie, _)| *cookie == "name")?;
        Self::called(&percent_decode_str(name).decode_utf8().ok()?)
    }
}

/// Leaves the [`User`] in the request. Pages of somebody unknown lead to the sign-in, everything else is 401.
pub(crate) async fn authenticate(mut request: Request, next: Next) -> Response {
    let wants_a_page =
        || request.headers().get(header::ACCEPT).is_some_and(|accept| accept.as_bytes().starts_with(b"text/html"));
    match User::of(request.headers()) {
        Some(user) => {
            request.extensions_mut().insert(user);
            next.run(request).await
        }
        None if request.method() == Method::GET && wants_a_page() => Redirect::to("/sign-in").into_response(),
        None => (StatusCode::UNAUTHORIZED, "Sign in first.\n").into_response(),
    }
}

#[derive(Deserialize)]
pub(crate) struct SignIn {
    name: String,
}

pub(crate) async fn sign_in(Form(SignIn { name }): Form<SignIn>) -> Response {
    match User::called(&name) {
        Some(User(name)) => remember(&utf8_percent_encode(&name, NON_ALPHANUMERIC).to_string(), "/"),
        None => Redirect::to("/sign-in").into_response(),
    }
}

pub(crate) async fn sign_out() -> Response {
    remember("; Max-Age=0", "/sign-in")
}

fn remember(name: &str, then: &str) -> Response {
    let cookie = format!("name={name}; Path=/; SameSite=Strict; HttpOnly");
    let cookie = HeaderValue::try_from(cookie).expect("percent-encoded, it can stand in a header");
    ([(header::SET_COOKIE, cookie)], Redirect::to(then)).into_response()
}

/// A page of another site, or of another port of this one, changes nothing here. Browsers say where a request comes
/// from; what is no browser does not, and carries no cookie that somebody else could make use of.
pub(crate) async fn refuse_other_sites(request: Request, next: Next) -> Response {
    let site = request.headers().get("sec-fetch-site").map_or(&b"none"[..], HeaderValue::as_bytes);
    if request.method().is_safe() || site == b"same-origin" || site == b"none" {
        next.run(request).await
    } else {
        StatusCode::FORBIDDEN.into_response()
    }
}
