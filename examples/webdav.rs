//! A WebDAV server with locks. The `dav-server` crate's file system in memory, without that crate's own locks, wrapped by
//! `DavLayer` and served by hyper.
//!
//!     cargo run --example webdav --features webdav [address [store]]
//!     cargo run --example webdav --features webdav,redis 127.0.0.1:3000 redis://127.0.0.1:6379
//!
//! Users come by HTTP Basic: **any name with any password**. When it is ready it prints the curl lines that show the whole
//! story; paste them into a shell. Any WebDAV client does too, `cadaver http://127.0.0.1:3000/` for one.
//!
//! Locks in a store elsewhere are there after a restart. `TOKEN_SECRET`, from the environment, lets their holders find the
//! tokens again too; without it each run makes up a secret.
//!
//! A third argument, `bare`, leaves the layer out, to compare with: `… --example webdav 127.0.0.1:3000 memory: bare`.

#[path = "common/basic.rs"]
mod basic;
#[path = "common/store_url.rs"]
mod store_url;

use std::{convert::Infallible, error::Error};

use bytes::Bytes;
use dav_server::{DavHandler, davpath::DavPath, memfs::MemFs};
use http::{Request, Response, StatusCode, Uri, header};
use http_body::Body;
use http_body_util::{Either, Full};
use hyper::{body::Incoming, server::conn::http1};
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use tokio::net::TcpListener;
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_lock::{Access, Action, AuthorizeAsk, DavLayer, Locks, Owner, Principal};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:3000".into());
    let listener = TcpListener::bind(&address).await?;

    // In memory, in a file, in Redis, in PostgreSQL: nothing else in here knows.
    let locks = Locks::builder(store_url::open(std::env::args().nth(2)).await?)
        .principal(|request| request.extensions.get::<User>().map(|user| Principal::new(&user.0)))
        // What others see as the holder, beside the `owner` that the client itself sends.
        .owner(|request| request.extensions.get::<User>().map(|user| Owner::id(&user.0).named(&user.0)))
        .authorizer(rules)
        .build();

    // Knows nothing of locks. Its files end with this process; locks in a store elsewhere do not.
    let files = DavHandler::builder().filesystem(MemFs::new()).build_handler();
    match std::env::args().nth(3).as_deref() {
        Some("bare") => serve(listener, service_fn(move |request| answer(files.clone(), request))).await,
        Some(other) => Err(format!("{other}: the third argument is `bare`, or there is none").into()),
        None => {
            let mut layer = DavLayer::new(locks);
            // Who holds a lock is shown its token again after a restart, and by every node that knows the same secret.
            if let Ok(secret) = std::env::var("TOKEN_SECRET") {
                layer = layer.token_secret(secret);
            }
            serve(listener, layer.layer(service_fn(move |request| answer(files.clone(), request)))).await
        }
    }
}

/// The handler as a service. The layer sends it bodies of another type than the client's, so it takes any.
async fn answer<B>(files: DavHandler, request: Request<B>) -> Result<Response<dav_server::body::Body>, Infallible>
where
    B: Body<Data: Send, Error: Error + Send + Sync> + 'static,
{
    if removes_the_root(&request) {
        let mut response = Response::new("The root stays.\n".to_owned().into());
        *response.status_mut() = StatusCode::FORBIDDEN;
        return Ok(response);
    }
    Ok(files.handle(request).await)
}

/// Nothing to do with locks: a `MemFs` of this version does not survive the loss of its root.
fn removes_the_root<B>(request: &Request<B>) -> bool {
    let is_root = |uri: &Uri| DavPath::new(uri.path()).is_ok_and(|path| path.as_url_string() == "/");
    let destination = || Uri::try_from(request.headers().get("destination")?.as_bytes()).ok();
    match request.method().as_str() {
        "DELETE" => is_root(request.uri()),
        "MOVE" => is_root(request.uri()) || destination().is_some_and(|to| is_root(&to)),
        "COPY" => destination().is_some_and(|to| is_root(&to)),
        _ => false,
    }
}

/// Everybody may lock everything, also the root, which takes all the rest with it; everybody sees who holds what; the
/// administrator may end the locks of others.
fn rules(ask: &AuthorizeAsk<'_>) -> Access {
    match ask.action {
        Action::Acquire | Action::See | Action::List => Access::Allowed,
        _ if ask.principal.is_some_and(|principal| principal.as_str() == "admin") => Access::Allowed,
        _ => Access::Denied,
    }
}

// --- who the caller is ---------------------------------------------------------------------------------------------

/// The caller's name, as the authentication found it out.
#[derive(Clone)]
struct User(String);

/// Outside of the locks, so that they know the caller, and a stranger learns nothing of them (RFC 4918 section 8.1).
async fn authenticated<S, B>(app: S, mut request: Request<Incoming>) -> Result<Response<Either<B, Full<Bytes>>>, S::Error>
where
    S: Service<Request<Incoming>, Response = Response<B>>,
{
    let Some(user) = basic::user(request.headers()).map(User) else {
        let mut response = Response::new(Either::Right(Full::from("Any user name, any password.\n")));
        *response.status_mut() = StatusCode::UNAUTHORIZED;
        let challenge = "Basic realm=\"files\", charset=\"UTF-8\"".parse().expect("a field value");
        response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
        return Ok(response);
    };
    request.extensions_mut().insert(user);
    Ok(app.oneshot(request).await?.map(Either::Left))
}

// --- the server ----------------------------------------------------------------------------------------------------

async fn serve<S, B>(listener: TcpListener, app: S) -> Result<(), Box<dyn Error>>
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible, Future: Send> + Clone + Send + 'static,
    B: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static,
{
    let address = listener.local_addr()?.to_string();
    println!("listening on http://{address}\n{}", STORY.replace("HOST", &format!("http://{address}")));
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => accepted?.0,
            _ = tokio::signal::ctrl_c() => return Ok(()),
        };
        let app = app.clone();
        let app = TowerToHyperService::new(service_fn(move |request| authenticated(app.clone(), request)));
        tokio::spawn(async move {
            if let Err(error) = http1::Builder::new().serve_connection(TokioIo::new(stream), app).await {
                eprintln!("a connection ended: {error}");
            }
        });
    }
}

const STORY: &str = r#"
# ann writes a file
curl -siw '\n' -u ann:x -X PUT HOST/plan.txt -d 'first'

# ann locks it for ten minutes and is shown the token
TOKEN=$(curl -si -u ann:x -X LOCK HOST/plan.txt -H 'Depth: 0' -H 'Timeout: Second-600' -d '<lockinfo xmlns="DAV:"><lockscope><exclusive/></lockscope><locktype><write/></locktype><owner>Ann, room 7</owner></lockinfo>' | tr -d '\r' | sed -n 's/^lock-token: *//p'); echo "$TOKEN"

# bob writes and is refused with 423
curl -siw '\n' -u bob:x -X PUT HOST/plan.txt -d 'second'

# so is a delete of the file, and every other way to change it
curl -siw '\n' -u bob:x -X MOVE HOST/plan.txt -H 'Destination: HOST/mine.txt'

# but he may read
curl -siw '\n' -u bob:x HOST/plan.txt

# and look who has it, and until when
curl -siw '\n' -u bob:x -X PROPFIND HOST/plan.txt -H 'Depth: 0' -d '<propfind xmlns="DAV:"><prop><lockdiscovery/></prop></propfind>'

# ann writes under her lock
curl -siw '\n' -u ann:x -X PUT HOST/plan.txt -H "If: ($TOKEN)" -d 'second'

# ann needs more time
curl -siw '\n' -u ann:x -X LOCK HOST/plan.txt -H "If: ($TOKEN)" -H 'Timeout: Second-1200'

# ann is done
curl -siw '\n' -u ann:x -X UNLOCK HOST/plan.txt -H "Lock-Token: $TOKEN"

# and bob may write
curl -siw '\n' -u bob:x -X PUT HOST/plan.txt -d 'third'

# the neutral test suite of WebDAV counts what it finds
(cd "$(mktemp -d)" && litmus -k HOST/ ann x)

# a client to type into, with put, lock, discover, steal, unlock
cadaver HOST/

# ctrl-c ends the server
"#;
