//! The other end of a 423: who holds a lock over HTTP for as long as it takes, and who waits for it to go.
//!
//!     cargo run --example hyper
//!     cargo run --example client --features client http://127.0.0.1:3000 ann hold /notes
//!     cargo run --example client --features client http://127.0.0.1:3000 ben write /notes/1 'new text'
//!
//! Ann holds the notes until she presses enter, however long that is. Ben is told who is in the way and until when, and his
//! text is written as soon as he finds the way free.

use std::{error::Error, time::Duration};

use base64::prelude::{BASE64_STANDARD, Engine};
use bytes::Bytes;
use http::{HeaderValue, Request, Response, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::{client::legacy, rt::TokioExecutor};
use tower::{Service, ServiceBuilder, ServiceExt, util::BoxCloneSyncService};
use tower_lock::client::{LockTerms, ReadRefusals, Refused, RemoteLocks, RetryLocked};

type AnyError = Box<dyn Error + Send + Sync>;
type Client = BoxCloneSyncService<Request<Full<Bytes>>, Response<Incoming>, AnyError>;

#[tokio::main]
async fn main() -> Result<(), AnyError> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        [site, user, "hold", path] => hold(site, user, path).await,
        [site, user, "write", path, text] => write(site, user, path, text).await,
        _ => Err("client SITE USER hold PATH, or client SITE USER write PATH TEXT".into()),
    }
}

/// Whoever sends requests sends credentials with them: a layer that everything else is built on.
fn client(user: &str) -> Client {
    let credentials = BASE64_STANDARD.encode(format!("{user}:secret"));
    let credentials = HeaderValue::try_from(format!("Basic {credentials}")).expect("base64 can stand in a header");
    let service = ServiceBuilder::new()
        .map_request(move |mut request: Request<Full<Bytes>>| {
            request.headers_mut().insert(header::AUTHORIZATION, credentials.clone());
            request
        })
        .map_err(AnyError::from)
        .service(legacy::Client::builder(TokioExecutor::new()).build_http());
    BoxCloneSyncService::new(service)
}

/// Holds a lock until enter is pressed, or until it is lost.
async fn hold(site: &str, user: &str, path: &str) -> Result<(), AnyError> {
    let locks = RemoteLocks::new(client(user), &format!("{site}/locks"))?;
    let guard = locks.acquire(LockTerms::exclusive(path).lifetime(Duration::from_secs(30))).await?;
    println!("{user} holds {path}; press enter to let go");

    let (pressed, enter) = tokio::sync::oneshot::channel();
    // A thread of its own: a runtime does not end before what it reads of a terminal.
    std::thread::spawn(move || {
        _ = std::io::stdin().read_line(&mut String::new());
        _ = pressed.send(());
    });
    tokio::select! {
        _ = enter => {}
        // Nobody is to go on as if it were held.
        loss = guard.lost() => return Err(loss.into()),
    }
    guard.release().await?;
    println!("{user} has let go of {path}");
    Ok(())
}

/// Writes a text, and tries again as long as a lock is in the way.
async fn write(site: &str, user: &str, path: &str, text: &str) -> Result<(), AnyError> {
    let patient = RetryLocked::new().cap(Duration::from_secs(1)).attempts(usize::MAX).patience(Duration::from_secs(300));
    let mut client = ServiceBuilder::new()
        .retry(patient)
        .map_response(|response: Response<_>| {
            if let Some(refused) = response.extensions().get::<Refused>() {
                println!("{refused}");
            }
            response
        })
        .layer(ReadRefusals::new())
        .service(client(user));
    let request = Request::put(format!("{site}{path}")).body(Full::from(text.to_owned()))?;
    let response = client.ready().await?.call(request).await?;
    println!("{user} was answered {}", response.status());
    Ok(())
}
