//! A small document API with axum: JSON documents at `/docs/{id}`, users by HTTP Basic (any password), locks at `/locks`.
//!
//!     cargo run --example axum [address [store]]
//!     cargo run --example axum --features redis 127.0.0.1:3000 redis://127.0.0.1:6379
//!
//! When it is ready it prints the curl lines that show the whole story. Paste them into a shell.

#[path = "common/basic.rs"]
mod basic;
#[path = "common/store_url.rs"]
mod store_url;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{
    Extension, Json, Router,
    extract::{Path, Request, State},
    http::{HeaderValue, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
};
use serde_json::Value;
use tower_lock::{
    Access, Admission, AuthorizeAsk, Authorizer, DefaultAuthorizer, LockEndpoint, LockKind, LockLayer, LockRequest, Locks,
    Owner, Principal,
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:3000".into());
    let listener = tokio::net::TcpListener::bind(&address).await?;

    // In memory, in a file, in Redis, in PostgreSQL: nothing else in here knows.
    let locks = Locks::builder(store_url::open(std::env::args().nth(2)).await?)
        .principal(|request| request.extensions.get::<User>().map(|user| Principal::new(&user.0)))
        .authorizer(admin_may_do_everything)
        // Whoever says so is kept waiting for a lock rather than refused at once.
        .allow_waiting()
        .endpoint_url("/locks")
        .build();

    let app = Router::new()
        .route("/docs/{id}", get(show).put(save).delete(remove))
        .with_state(Documents::default())
        // Guards the routes above it. With `fence_all` every write is told its generation, not just those under a lock.
        .layer(LockLayer::new(locks.clone()).fence_all())
        // Below the layer, so not guarded by it: else nobody could release a lock.
        .nest_service("/locks", LockEndpoint::new(locks.clone()))
        // Outermost, so that layer and endpoint both know the caller.
        .layer(middleware::from_fn(authenticate));

    tokio::spawn(report_job(locks));
    println!("listening on http://{}\n{}", listener.local_addr()?, story(&listener.local_addr()?.to_string()));
    axum::serve(listener, app).with_graceful_shutdown(async { _ = tokio::signal::ctrl_c().await }).await?;
    Ok(())
}

// --- who may do what -----------------------------------------------------------------------------------------------

/// Who the caller is, as the authentication found out.
#[derive(Clone)]
struct User(String);

/// HTTP Basic (RFC 7617). A real service would look at the password.
async fn authenticate(mut request: Request, next: Next) -> Response {
    match basic::user(request.headers()) {
        Some(name) => {
            request.extensions_mut().insert(User(name));
            next.run(request).await
        }
        None => {
            let challenge = [(header::WWW_AUTHENTICATE, "Basic realm=\"documents\", charset=\"UTF-8\"")];
            (StatusCode::UNAUTHORIZED, challenge, "Any user name, any password.\n").into_response()
        }
    }
}

/// The administrator sees and ends every lock. Everybody else: what goes without an authorizer.
fn admin_may_do_everything(ask: &AuthorizeAsk<'_>) -> Access {
    match ask.principal {
        Some(principal) if principal.as_str() == "admin" => Access::Allowed,
        _ => DefaultAuthorizer.authorize(ask),
    }
}

// --- the documents -------------------------------------------------------------------------------------------------

type Documents = Arc<Mutex<HashMap<String, Document>>>;

#[derive(Clone)]
struct Document {
    content: Value,
    /// The generation of the last write.
    fence: u64,
}

async fn show(State(documents): State<Documents>, Path(id): Path<String>) -> Response {
    let document = documents.lock().unwrap_or_else(PoisonError::into_inner).get(&id).cloned();
    match document {
        Some(document) => (fence(document.fence), Json(document.content)).into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

async fn save(
    State(documents): State<Documents>,
    Path(id): Path<String>,
    Extension(admission): Extension<Admission>,
    Json(content): Json<Value>,
) -> Response {
    let mut documents = documents.lock().unwrap_or_else(PoisonError::into_inner);
    let document = Document { content, fence: admission.generation() };
    // What a database would do by `UPDATE … WHERE fence <= $1`: a writer that stalled for so long that its lock ended, and
    // another one wrote, is refused here.
    if documents.get(&id).is_some_and(|stored| stored.fence > document.fence) {
        return (StatusCode::CONFLICT, "somebody has written under a later lock\n").into_response();
    }
    println!("/docs/{id} written, fence {}", document.fence);
    let answer = fence(document.fence);
    match documents.insert(id, document) {
        None => (StatusCode::CREATED, answer).into_response(),
        Some(_) => (StatusCode::NO_CONTENT, answer).into_response(),
    }
}

async fn remove(State(documents): State<Documents>, Path(id): Path<String>) -> StatusCode {
    // Locks on a document that is gone end by themselves, because this answers 204.
    match documents.lock().unwrap_or_else(PoisonError::into_inner).remove(&id) {
        Some(_) => StatusCode::NO_CONTENT,
        None => StatusCode::NOT_FOUND,
    }
}

fn fence(generation: u64) -> [(&'static str, HeaderValue); 1] {
    [("x-fence", HeaderValue::from(generation))]
}

// --- a job in the background ---------------------------------------------------------------------------------------

/// Rewrites the report from time to time, and keeps everybody else from it meanwhile.
async fn report_job(locks: Locks) {
    const WORK: Duration = Duration::from_secs(60);
    loop {
        let request = LockRequest::exclusive("/docs/report")
            .kind(LockKind::Job)
            .owner(Owner::id("report-job").named("the report job"))
            .reason("nightly report")
            // Should it hang, others get their turn all the same.
            .lifetime(WORK + Duration::from_secs(5));
        match locks.hold(request).await {
            // The lock ends with its guard.
            Ok(_guard) => tokio::time::sleep(WORK).await,
            Err(refusal) => eprintln!("the report has to wait: {refusal}"),
        }
        tokio::time::sleep(Duration::from_secs(10)).await;
    }
}

// --- the story -----------------------------------------------------------------------------------------------------

fn story(address: &str) -> String {
    STORY.replace("HOST", &format!("http://{address}"))
}

const STORY: &str = r#"
# ann writes a document
curl -siw '\n' -u ann:x -X PUT HOST/docs/7 -H 'Content-Type: application/json' -d '{"title":"Plan"}'

# ann locks it and is shown the token, which nobody else ever is
TOKEN=$(curl -si -u ann:x -X PUT HOST/locks/docs/7 -H 'Content-Type: application/json' -d '{"reason":"rewriting chapter two"}' | tr -d '\r' | sed -n 's/^lock-token: *//p'); echo "$TOKEN"

# ben writes and is refused with 423
curl -siw '\n' -u ben:x -X PUT HOST/docs/7 -H 'Content-Type: application/json' -d '{"title":"My plan"}'

# but he may read
curl -siw '\n' -u ben:x HOST/docs/7

# the administrator is told who and why
curl -siw '\n' -u admin:x -X PUT HOST/docs/7 -H 'Content-Type: application/json' -d '{}'

# ann writes under her lock
curl -siw '\n' -u ann:x -X PUT HOST/docs/7 -H "If: ($TOKEN)" -H 'Content-Type: application/json' -d '{"title":"New plan"}'

# ann lists her locks
curl -siw '\n' -u ann:x HOST/locks

# ann needs more time
curl -siw '\n' -u ann:x -X PATCH HOST/locks/docs/7 -H "If: ($TOKEN)"

# ben would rather wait than ask again, and his write is held for two seconds, or until she is done
curl -siw '\n' -u ben:x -X PUT HOST/docs/7 -H 'Prefer: wait=2' -H 'Content-Type: application/json' -d '{"title":"My plan"}'

# ann is done
curl -siw '\n' -u ann:x -X DELETE HOST/locks/docs/7 -H "Lock-Token: $TOKEN"

# and ben may write
curl -siw '\n' -u ben:x -X PUT HOST/docs/7 -H 'Content-Type: application/json' -d '{"title":"My plan"}'

# ann locks it once more
TOKEN=$(curl -si -u ann:x -X PUT HOST/locks/docs/7 | tr -d '\r' | sed -n 's/^lock-token: *//p'); echo "$TOKEN"

# the administrator breaks her lock, and has to say why
curl -siw '\n' -u admin:x -X POST HOST/locks/docs/7 -H 'Content-Type: application/json' -d '{"action":"break","reason":"the minister comes"}'

# ann is told who and why when she writes
curl -siw '\n' -u ann:x -X PUT HOST/docs/7 -H "If: ($TOKEN)" -H 'Content-Type: application/json' -d '{"title":"New plan"}'

# nobody writes what a job in the background holds, a minute at a time
curl -siw '\n' -u admin:x -X PUT HOST/docs/report -H 'Content-Type: application/json' -d '{}'

# nobody gets in without a name
curl -siw '\n' HOST/docs/7

# ctrl-c ends the server
"#;
