//! A gRPC service of documents behind locks, and its client, in one program. `docs.v1.Documents` has calls to read, write and
//! lock a document; lock management over HTTP is at `/locks` on the same port.
//!
//!     cargo run --example grpc --features grpc [address [store]]
//!     cargo run --example grpc --features grpc,redis 127.0.0.1:3000 redis://127.0.0.1:6379
//!     cargo run --example grpc --features grpc client http://127.0.0.1:3000 ben save 7 'My plan'
//!
//! When it is ready it prints the lines that show the whole story. Paste them into a shell.

#[path = "../common/basic.rs"]
mod basic;
mod client;
mod documents;
mod messages;
#[path = "../common/store_url.rs"]
mod store_url;

use axum::{
    extract::Request,
    http::{StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
};
use tonic::service::Routes;
use tower_lock::{
    Access, Action, AuthorizeAsk, Authorizer, DefaultAuthorizer, LockEndpoint, LockLayer, Locks, Principal, ResourceKey,
    lock::KeyError,
    request::{Ask, Resolved, Role},
};

use self::{documents::Documents, messages::method};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|first| first == "client") {
        return client::run(&arguments[1..]).await;
    }
    let address = arguments.first().map_or("127.0.0.1:3000", String::as_str);
    let listener = tokio::net::TcpListener::bind(address).await?;

    let locks = Locks::builder(store_url::open(arguments.get(1).cloned()).await?)
        .keys_fn(resources)
        .principal(|request| request.extensions.get::<User>().map(|user| Principal::new(&user.0)))
        .authorizer(everybody_sees_who_and_why)
        .allow_waiting()
        .endpoint_url("/locks")
        .build();

    // What tonic makes of services is a router, so the endpoint can stand beside them.
    let app = Routes::new(Documents::new(locks.clone()))
        .into_axum_router()
        .layer(LockLayer::new(locks.clone()).fence_all())
        .nest_service("/locks", LockEndpoint::new(locks))
        .layer(middleware::from_fn(authenticate));

    let address = listener.local_addr()?.to_string();
    println!("listening on http://{address}\n{}", story(&address)?);
    axum::serve(listener, app).with_graceful_shutdown(async { _ = tokio::signal::ctrl_c().await }).await?;
    Ok(())
}

/// Which documents a call changes. The id comes from the metadata, and the handlers take it from there as well: the layer
/// sees no message.
fn resources<'r>(ask: &Ask<'r>) -> Result<Resolved<'r>, KeyError> {
    match (ask.role, ask.path) {
        // `Lock` and `Unlock` change no document, and see to locks themselves.
        (Role::Target, method::GET | method::LOCK | method::UNLOCK) => Ok(Resolved::nothing()),
        (Role::Target, method::SAVE) => {
            let path = format!("/docs/{}", ask.field("document-id")?);
            Ok(Resolved::key(ResourceKey::parse(&path)?.into_owned()))
        }
        // What nobody has thought of does not go round locks.
        (Role::Target, _) => Err(KeyError::Unresolved),
        // What the endpoint is asked about.
        (_, path) => ResourceKey::parse(path).map(Resolved::key),
    }
}

fn everybody_sees_who_and_why(ask: &AuthorizeAsk<'_>) -> Access {
    match ask.action {
        Action::See => Access::Allowed,
        _ => DefaultAuthorizer.authorize(ask),
    }
}

/// Who the caller is, as the authentication found out.
#[derive(Clone)]
pub(crate) struct User(pub(crate) String);

/// HTTP Basic (RFC 7617), for calls and for requests alike. A real service would look at the password.
async fn authenticate(mut request: Request, next: Next) -> Response {
    match basic::user(request.headers()) {
        Some(name) => {
            request.extensions_mut().insert(User(name));
            next.run(request).await
        }
        // Which a gRPC client takes for `UNAUTHENTICATED`.
        None => {
            let challenge = [(header::WWW_AUTHENTICATE, "Basic realm=\"documents\", charset=\"UTF-8\"")];
            (StatusCode::UNAUTHORIZED, challenge, "Any user name, any password.\n").into_response()
        }
    }
}

fn story(address: &str) -> std::io::Result<String> {
    let program = std::env::current_exe()?;
    // Quoted for a shell.
    let program = format!("'{}'", program.display().to_string().replace('\'', r"'\''"));
    Ok(STORY.replace("CLIENT", &format!("{program} client http://{address}")).replace("HOST", &format!("http://{address}")))
}

const STORY: &str = r#"
# ann writes a document and is told the fencing number of her call
CLIENT ann save 7 'Plan'

# ann locks it and is shown the token, which nobody else ever is
TOKEN=$(CLIENT ann lock 7 'rewriting chapter two'); echo "$TOKEN"

# ben writes and is refused with FAILED_PRECONDITION, and with the lock as details
CLIENT ben save 7 'My plan'

# but he may read
CLIENT ben get 7

# the lock that he is refused for stands in the way of other locks too
CLIENT ben lock 7 'my turn'

# ann writes under her lock
CLIENT ann save 7 'New plan' "$TOKEN"

# ben would rather wait, and his call is held for two seconds, or until she is done
CLIENT ben save 7 'My plan' wait=2

# the endpoint on the same port tells about it over HTTP
curl -siw '\n' -u ben:x HOST/locks/docs/7

# a method that the locks know nothing of is refused, though the service has it
CLIENT ben erase 7

# ann is done
CLIENT ann unlock 7 "$TOKEN"

# and ben may write
CLIENT ben save 7 'My plan'

# ann believes in a lock that is gone, and is told so with ABORTED
CLIENT ann save 7 'Newer plan' "$TOKEN"

# ctrl-c ends the server
"#;
