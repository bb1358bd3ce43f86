//! What the browser loads: files that are part of the program, and the header fields that keep others out of them.

use axum::{
    Extension, Json, Router,
    http::{HeaderMap, HeaderValue, header},
    response::{Html, IntoResponse, Response},
    routing::get,
};
use serde_json::{Value, json};

use crate::people::{ADMIN, User};

/// The page, for the list and for each document: which one it is, it reads from its own address.
pub(crate) fn for_everybody_signed_in() -> Router {
    Router::new()
        .route("/", get(async || Html(include_str!("page/page.html"))))
        .route("/edit/{id}", get(async || Html(include_str!("page/page.html"))))
        .route("/me", get(me))
}

pub(crate) fn for_everybody() -> Router {
    const CSS: &str = "text/css; charset=utf-8";
    const JS: &str = "text/javascript; charset=utf-8";
    let file = |kind: &'static str, text: &'static str| get(async move || ([(header::CONTENT_TYPE, kind)], text));
    Router::new()
        .route("/sign-in", get(async || Html(include_str!("page/sign-in.html"))))
        .route("/page/style.css", file(CSS, include_str!("page/style.css")))
        .route("/page/page.js", file(JS, include_str!("page/page.js")))
        .route("/page/list.js", file(JS, include_str!("page/list.js")))
        .route("/page/editor.js", file(JS, include_str!("page/editor.js")))
        .route("/page/panel.js", file(JS, include_str!("page/panel.js")))
        .route("/page/lock.js", file(JS, include_str!("page/lock.js")))
        .route("/page/drafts.js", file(JS, include_str!("page/drafts.js")))
        .route("/page/lines.js", file(JS, include_str!("page/lines.js")))
        .route("/page/dom.js", file(JS, include_str!("page/dom.js")))
        .route("/page/send.js", file(JS, include_str!("page/send.js")))
        .route("/page/tick.js", file(JS, include_str!("page/tick.js")))
        .route("/page/icon.svg", file("image/svg+xml", include_str!("page/icon.svg")))
}

async fn me(Extension(user): Extension<User>) -> Json<Value> {
    Json(json!({ "name": user.name(), "admin": user.name() == ADMIN }))
}

/// Nothing from elsewhere, nothing written into the page itself, in no frame.
pub(crate) async fn harden(mut response: Response) -> Response {
    const FIELDS: [(&str, &str); 4] = [
        (
            "content-security-policy",
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; worker-src 'self'; \
             form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
        ),
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "same-origin"),
        ("cross-origin-opener-policy", "same-origin"),
    ];
    let headers: &mut HeaderMap = response.headers_mut();
    for (name, value) in FIELDS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-cache"));
    response.into_response()
}
