//! Locks without a framework: hyper, a service function, and the lock endpoint before it.
//!
//!     cargo run --example hyper [address [store]]
//!     cargo run --example hyper --features redis 127.0.0.1:3000 redis://127.0.0.1:6379
//!
//! Keeps texts under any path. Who sends HTTP Basic (any password) has a name; who does not may write what nobody has
//! locked. When it is ready it prints the curl lines that show the whole story. Paste them into a shell.

#[path = "common/basic.rs"]
mod basic;
#[path = "common/store_url.rs"]
mod store_url;

use std::{
    collections::HashMap,
    convert::Infallible,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use tower::ServiceBuilder;
use tower_lock::{LockEndpoint, LockLayer, Locks, Principal, RequestView};

type Texts = Arc<Mutex<HashMap<String, Bytes>>>;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:3000".into());
    let listener = tokio::net::TcpListener::bind(&address).await?;

    let store = store_url::open(std::env::args().nth(2)).await?;
    let locks = Locks::builder(store).principal(principal).endpoint_url("/locks").build();
    let texts = Texts::default();
    let app = ServiceBuilder::new()
        // There is no router to mount the endpoint with, so it answers its own paths before the guarded service.
        .layer(LockEndpoint::new(locks.clone()).in_front_of("/locks"))
        .layer(LockLayer::new(locks))
        .service_fn(move |request: Request<Incoming>| keep(texts.clone(), request));

    println!("listening on http://{}\n{}", listener.local_addr()?, story(&listener.local_addr()?.to_string()));
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => accepted?.0,
            _ = tokio::signal::ctrl_c() => return Ok(()),
        };
        let app = TowerToHyperService::new(app.clone());
        tokio::spawn(async move {
            let server = auto::Builder::new(TokioExecutor::new());
            if let Err(error) = server.serve_connection(TokioIo::new(stream), app).await {
                eprintln!("a connection ended: {error}");
            }
        });
    }
}

/// Who the caller is: the name of HTTP Basic.
fn principal(request: &RequestView<'_>) -> Option<Principal> {
    basic::user(request.headers).map(Principal::new)
}

/// The service itself, which knows nothing of locks.
async fn keep(texts: Texts, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let path = head.uri.path().to_owned();
    // Read before the map is taken: a slow sender must not stop the others.
    let Ok(body) = body.collect().await else { return Ok(answer(StatusCode::BAD_REQUEST, Bytes::new())) };
    let mut texts = texts.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(match head.method {
        Method::GET | Method::HEAD => match texts.get(&path) {
            Some(text) => answer(StatusCode::OK, text.clone()),
            None => answer(StatusCode::NOT_FOUND, Bytes::new()),
        },
        Method::PUT => match texts.insert(path, body.to_bytes()) {
            Some(_) => answer(StatusCode::NO_CONTENT, Bytes::new()),
            None => answer(StatusCode::CREATED, Bytes::new()),
        },
        Method::DELETE => match texts.remove(&path) {
            Some(_) => answer(StatusCode::NO_CONTENT, Bytes::new()),
            None => answer(StatusCode::NOT_FOUND, Bytes::new()),
        },
        _ => answer(StatusCode::METHOD_NOT_ALLOWED, Bytes::new()),
    })
}

fn answer(status: StatusCode, text: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(text));
    *response.status_mut() = status;
    response
}

fn story(address: &str) -> String {
    STORY.replace("HOST", &format!("http://{address}"))
}

const STORY: &str = r#"
# anybody writes
curl -siw '\n' -X PUT HOST/notes/1 -d 'first'

# ann locks it and is shown the token, which nobody else ever is
TOKEN=$(curl -si -u ann:x -X PUT HOST/locks/notes/1 | tr -d '\r' | sed -n 's/^lock-token: *//p'); echo "$TOKEN"

# ben writes and is refused with 423
curl -siw '\n' -u ben:x -X PUT HOST/notes/1 -d 'second'

# so is a write that would take the note with all the others
curl -siw '\n' -u ben:x -X DELETE HOST/notes

# ann writes under her lock
curl -siw '\n' -u ann:x -X PUT HOST/notes/1 -H "If: ($TOKEN)" -d 'second'

# ben looks what is locked
curl -siw '\n' -u ben:x HOST/locks/notes/1

# ann is done
curl -siw '\n' -u ann:x -X DELETE HOST/locks/notes/1 -H "Lock-Token: $TOKEN"

# and ben may write
curl -siw '\n' -u ben:x -X PUT HOST/notes/1 -d 'third'

# ctrl-c ends the server
"#;
