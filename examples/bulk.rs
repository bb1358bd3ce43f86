//! Bulk writes with axum, in the form of Veeva Vault: records at `/api/{version}/objects/{object}`, users by HTTP Basic (any password), locks
//! at `/locks`. Version one refuses a bulk write as a whole where one of its records is locked, version two writes the others.
//!
//!     cargo run --example bulk --features batch [address [store]]
//!     cargo run --example bulk --features batch,redis 127.0.0.1:3000 redis://127.0.0.1:6379
//!
//! When it is ready it prints the curl lines that show the whole story. Paste them into a shell.

#[path = "common/basic.rs"]
mod basic;
#[path = "common/store_url.rs"]
mod store_url;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use axum::{
    Json, Router,
    extract::{Path, Request, State},
    http::{StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
};
use serde_json::{Map, Value, json};
use tower_lock::{
    Access, Action, AuthorizeAsk, Authorizer, DefaultAuthorizer, LockEndpoint, Locks, Principal, ResourceKey,
    batch::{BatchLayer, VaultBatch},
    lock::KeyError,
    request::{Ask, Resolved},
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:3000".into());
    let listener = tokio::net::TcpListener::bind(&address).await?;

    // In memory, in a file, in Redis, in PostgreSQL: nothing else in here knows.
    let locks = Locks::builder(store_url::open(std::env::args().nth(2)).await?)
        .principal(|request| request.extensions.get::<User>().map(|user| Principal::new(&user.0)))
        .authorizer(colleagues_see_all)
        .keys_fn(record)
        .endpoint_url("/locks")
        .build();

    let records = Records::with(["V1", "V2", "V3"]);
    // A bulk layer guards as a lock layer does, and of bulk writes each record.
    let bulk = || BatchLayer::new(locks.clone(), VaultBatch::new());
    let app = Router::new()
        .merge(api("v1", &records).layer(bulk()))
        .merge(api("v2", &records).layer(bulk().forward_unlocked()))
        // Beside what is guarded: else nobody could release a lock.
        .nest_service("/locks", LockEndpoint::new(locks))
        // Outermost, so that layer and endpoint both know the caller.
        .layer(middleware::from_fn(authenticate));

    println!("listening on http://{}\n{}", listener.local_addr()?, story(&listener.local_addr()?.to_string()));
    axum::serve(listener, app).with_graceful_shutdown(async { _ = tokio::signal::ctrl_c().await }).await?;
    Ok(())
}

fn api(version: &str, records: &Records) -> Router {
    Router::new()
        .route(&format!("/api/{version}/objects/{{object}}"), get(list).put(save_all))
        .route(&format!("/api/{version}/objects/{{object}}/{{id}}"), get(show).put(save))
        .with_state(records.clone())
}

/// Both versions reach the same records, so that both have one key: `/records/{object}/{id}`, in bulk or not.
fn record<'r>(ask: &Ask<'r>) -> Result<Resolved<'r>, KeyError> {
    let key = ResourceKey::parse(ask.path)?;
    match key.path().split('/').collect::<Vec<_>>()[1..] {
        // What refusals name can be asked about by that name.
        ["records", ..] => Ok(key.clone().into()),
        ["api", _version, "objects", ref record @ ..] => {
            Ok(ResourceKey::from_canonical(format!("/records/{}", record.join("/"))).into())
        }
        _ => Err(KeyError::Unresolved),
    }
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
            let challenge = [(header::WWW_AUTHENTICATE, "Basic realm=\"records\", charset=\"UTF-8\"")];
            (StatusCode::UNAUTHORIZED, challenge, "Any user name, any password.\n").into_response()
        }
    }
}

/// Everybody here may know who has locked what, and why; for the rest, what goes without an authorizer.
fn colleagues_see_all(ask: &AuthorizeAsk<'_>) -> Access {
    match ask.action {
        Action::See => Access::Allowed,
        _ => DefaultAuthorizer.authorize(ask),
    }
}

// --- the records ---------------------------------------------------------------------------------------------------

/// Records by their ids; of one object, to keep it short.
#[derive(Clone)]
struct Records(Arc<Mutex<BTreeMap<String, Map<String, Value>>>>);

impl Records {
    fn with(ids: [&str; 3]) -> Self {
        let record = |id: &str| (id.to_owned(), Map::from_iter([("state".to_owned(), json!("open"))]));
        Self(Arc::new(Mutex::new(ids.map(record).into())))
    }

    /// Writes the fields of a record; nothing where there is no such record.
    fn write(&self, id: &str, fields: Map<String, Value>) -> Option<()> {
        let mut records = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        records.get_mut(id)?.extend(fields.into_iter().filter(|(name, _)| name != "id"));
        println!("{id} written");
        Some(())
    }
}

async fn list(State(records): State<Records>) -> Json<Value> {
    Json(json!(*records.0.lock().unwrap_or_else(PoisonError::into_inner)))
}

async fn show(State(records): State<Records>, Path((_, id)): Path<(String, String)>) -> Response {
    match records.0.lock().unwrap_or_else(PoisonError::into_inner).get(&id) {
        Some(record) => Json(record.clone()).into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

async fn save(
    State(records): State<Records>,
    Path((_, id)): Path<(String, String)>,
    Json(fields): Json<Map<String, Value>>,
) -> StatusCode {
    records.write(&id, fields).map_or(StatusCode::NOT_FOUND, |()| StatusCode::NO_CONTENT)
}

/// Does not know of locks: it is sent the records that may be written, and answers for those.
async fn save_all(State(records): State<Records>, Json(each): Json<Vec<Map<String, Value>>>) -> Json<Value> {
    let save = |record: Map<String, Value>| {
        let id = record.get("id").and_then(Value::as_str).unwrap_or_default().to_owned();
        match records.write(&id, record) {
            Some(()) => json!({"responseStatus": "SUCCESS", "data": {"id": id}}),
            None => json!({"responseStatus": "FAILURE", "errors": [{"type": "INVALID_DATA", "message": "no such record"}]}),
        }
    };
    Json(json!({"responseStatus": "SUCCESS", "data": each.into_iter().map(save).collect::<Vec<_>>()}))
}

// --- the story -----------------------------------------------------------------------------------------------------

fn story(address: &str) -> String {
    STORY.replace("HOST", &format!("http://{address}"))
}

const STORY: &str = r#"
# qa puts one record under review and is shown the token, which nobody else ever is
TOKEN=$(curl -si -u qa:x -X PUT HOST/locks/records/capa__c/V2 -H 'Content-Type: application/json' -d '{"reason":"under review"}' | tr -d '\r' | sed -n 's/^lock-token: *//p'); echo "$TOKEN"

# the nightly job writes three records in bulk and is refused with 423, and told whom to ask and when to come back
curl -siw '\n' -u job:x -X PUT HOST/api/v1/objects/capa__c -H 'Content-Type: application/json' -d '[{"id":"V1","state":"closed"},{"id":"V2","state":"closed"},{"id":"V3","state":"closed"}]'

# nothing has been written
curl -siw '\n' -u job:x HOST/api/v1/objects/capa__c

# it can ask beforehand which records are locked, without trying a write
curl -siw '\n' -u job:x -X POST HOST/locks -H 'Content-Type: application/json' -d '{"action":"check","resources":["/records/capa__c/V1","/records/capa__c/V2","/records/capa__c/V3"]}'

# version two of the service writes the others, and answers for each record at its position
curl -siw '\n' -u job:x -X PUT HOST/api/v2/objects/capa__c -H 'Content-Type: application/json' -d '[{"id":"V1","state":"closed"},{"id":"V2","state":"closed"},{"id":"V9","state":"closed"},{"id":"V3","state":"closed"}]'

# so two of three are closed now
curl -siw '\n' -u job:x HOST/api/v2/objects/capa__c

# a record by itself is guarded by the same lock
curl -siw '\n' -u job:x -X PUT HOST/api/v2/objects/capa__c/V2 -H 'Content-Type: application/json' -d '{"state":"closed"}'

# a record that names itself twice is not read at all
curl -siw '\n' -u job:x -X PUT HOST/api/v2/objects/capa__c -H 'Content-Type: application/json' -d '[{"id":"V1","id":"V2","state":"closed"}]'

# qa writes under her lock, in bulk as well
curl -siw '\n' -u qa:x -X PUT HOST/api/v1/objects/capa__c -H "Lock-Token: $TOKEN" -H 'Content-Type: application/json' -d '[{"id":"V1","state":"reviewed"},{"id":"V2","state":"reviewed"}]'

# her review is over
curl -siw '\n' -u qa:x -X DELETE HOST/locks/records/capa__c/V2 -H "Lock-Token: $TOKEN"

# and the job gets all of it through
curl -siw '\n' -u job:x -X PUT HOST/api/v1/objects/capa__c -H 'Content-Type: application/json' -d '[{"id":"V1","state":"closed"},{"id":"V2","state":"closed"},{"id":"V3","state":"closed"}]'

# ctrl-c ends the server
"#;
