//! A small CMS: a page where people edit documents together, one at a time, and everybody sees who.
//!
//!     cargo run --example editor [address [store]]
//!
//! It needs nothing else. Open it in two windows as two people; when it is ready it says how. `admin` may take over.
//!
//! The server knows next to nothing of locks. `LockLayer` keeps everybody but the holder from saving, `LockEndpoint` serves
//! all the rest straight to the page: who is editing (an event stream), start and stop editing, heartbeats, taking over,
//! handing over. How a page does that without ever losing what somebody typed is in `page/`: `lock.js` first.
//!
//! A lock lives for thirty seconds unless the page says that it is still there. `EDITOR_LIFETIME`, in seconds, from the
//! environment, changes that.

mod documents;
mod pages;
mod people;
#[path = "../common/store_url.rs"]
mod store_url;

use std::time::Duration;

use axum::{
    Router,
    middleware::{from_fn, map_response},
    routing::{get, post},
};
use tower_lock::{
    Access, Action, AuthorizeAsk, Authorizer, DefaultAuthorizer, Lifetimes, LockEndpoint, LockLayer, Locks, Owner, Principal,
};

use self::{documents::Library, people::User};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:3000".into());
    let listener = tokio::net::TcpListener::bind(&address).await?;

    // In memory, in a file, in Redis, in PostgreSQL: nothing else in here knows.
    let locks = Locks::builder(store_url::open(std::env::args().nth(2)).await?)
        .principal(|request| request.extensions.get::<User>().map(|user| Principal::new(user.name())))
        .owner(|request| request.extensions.get::<User>().map(|user| Owner::id(user.name()).named(user.name())))
        .authorizer(colleagues)
        .lifetimes(lifetimes()?)
        // Whoever wants to go on as soon as a page is free asks once, and stands in line.
        .allow_waiting()
        .endpoint_url("/locks")
        .build();

    let library = Library::new(locks.clone());
    let app = Router::new()
        .route("/docs/{id}", get(documents::show).put(documents::save))
        // Who saves is still there. And who saves must hold the lock. It is not enough that nobody else does: a page that lost it would overwrite
        // what somebody wrote meanwhile.
        .layer(LockLayer::new(locks.clone()).require_lock().renew_on_write())
        // Below the layer, so not guarded by it: else nobody could release a lock.
        .nest_service("/locks", LockEndpoint::new(locks))
        .route("/docs", get(documents::list).post(documents::create))
        // Not below `/docs/{id}`, for the lock covers that, and these are for others to send.
        .route("/notes/{id}", get(documents::notes).post(documents::ask))
        .with_state(library)
        .merge(pages::for_everybody_signed_in())
        .route("/sign-out", post(people::sign_out))
        // Outermost, so that layer and endpoint both know the caller.
        .layer(from_fn(people::authenticate))
        .merge(pages::for_everybody())
        .route("/sign-in", post(people::sign_in))
        .layer(from_fn(people::refuse_other_sites))
        .layer(map_response(pages::harden));

    println!("listening on http://{}\n{}", listener.local_addr()?, story(&listener.local_addr()?.to_string()));
    tokio::select! {
        served = axum::serve(listener, app) => served?,
        // At once: the event streams of open pages would never let it come to an end by itself.
        _ = tokio::signal::ctrl_c() => {}
    }
    Ok(())
}

/// Everybody may edit, and sees who edits what. The administrator may take over; what one holds, one may hand over.
fn colleagues(ask: &AuthorizeAsk<'_>) -> Access {
    let is_admin = ask.principal.is_some_and(|principal| principal.as_str() == people::ADMIN);
    match ask.action {
        Action::See | Action::List => Access::Allowed,
        Action::Transfer if ask.is_own() => Access::Allowed,
        Action::Break | Action::Transfer if is_admin => Access::Allowed,
        _ => DefaultAuthorizer.authorize(ask),
    }
}

/// Short, for the page renews it. It is how long a document stays locked after a browser has died.
fn lifetimes() -> Result<Lifetimes, Box<dyn std::error::Error>> {
    let seconds = match std::env::var("EDITOR_LIFETIME") {
        Ok(seconds) => seconds.parse().map_err(|_| format!("EDITOR_LIFETIME: {seconds:?} is no number of seconds"))?,
        Err(_) => 30,
    };
    let mut lifetimes = Lifetimes::default();
    lifetimes.user.default = Some(Duration::from_secs(seconds));
    Ok(lifetimes)
}

fn story(address: &str) -> String {
    let port = address.rsplit(':').next().unwrap_or_default();
    STORY.replace("HOST", &format!("http://{address}")).replace("OTHER", &format!("http://localhost:{port}"))
}

const STORY: &str = r#"
# open this, and sign in as anybody
HOST/

# open a second window as somebody else, a private one, or by this name, for which a browser keeps other cookies
OTHER/

# or watch from a shell who starts and stops editing
curl -N -b name=carol -H 'Accept: text/event-stream' HOST/locks/docs/welcome

# ctrl-c ends the server
"#;
