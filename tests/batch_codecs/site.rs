//! A service of records with axum, behind the layer: what it is sent, what it answers.

use std::sync::{Arc, Mutex};

use axum::{
    Json, Router,
    extract::Path,
    http::{Method, StatusCode},
    response::IntoResponse,
    routing::any,
};
use serde_json::{Value, json};
use tower_lock::{
    Access, AuthorizeAsk, LockEndpoint, Locks, LocksBuilder, MemoryStore,
    batch::{BatchCodec, BatchLayer},
};

use crate::support::{self, Answer, Text, User, request, with};

/// Records at `/api/{version}/objects/{object}`, in the form of Vault; at `/records`, as a list of `responses`; locks at
/// `/locks`. Everybody may see everything.
pub(crate) struct Site {
    pub(crate) locks: Locks,
    app: Router,
    seen: Seen,
}

/// The ids that the service was sent, request by request.
type Seen = Arc<Mutex<Vec<(Method, Vec<Value>)>>>;

impl Site {
    pub(crate) fn new<C: BatchCodec>(layer: impl FnOnce(Locks) -> BatchLayer<C>) -> Self {
        Self::with(|builder| builder, layer)
    }

    pub(crate) fn with<C: BatchCodec>(
        policy: impl FnOnce(LocksBuilder) -> LocksBuilder,
        layer: impl FnOnce(Locks) -> BatchLayer<C>,
    ) -> Self {
        let everything = |_: &AuthorizeAsk<'_>| Access::Allowed;
        let locks =
            policy(support::locks_of_users(MemoryStore::new()).authorizer(everything).endpoint_url("/locks")).build();
        let seen = Seen::default();
        let records = {
            let seen = seen.clone();
            move |method: Method, Json(records): Json<Vec<Value>>| async move {
                let results: Vec<Value> = records.iter().map(vault_result).collect();
                seen.lock().unwrap().push((method, records.iter().map(|record| record["id"].clone()).collect()));
                Json(json!({"responseStatus": "SUCCESS", "data": results}))
            }
        };
        let items = {
            let seen = seen.clone();
            move |method: Method, Json(items): Json<Vec<Value>>| async move {
                let results: Vec<Value> = items.iter().map(|item| json!({"id": item["id"], "status": 204})).collect();
                seen.lock().unwrap().push((method, items.iter().map(|item| item["id"].clone()).collect()));
                (StatusCode::MULTI_STATUS, Json(json!({ "responses": results }))).into_response()
            }
        };
        let one = |Path(_): Path<(String, String, String)>| async { "done" };
        let app = Router::new()
            .route("/api/{version}/objects/{object}", any(records.clone()))
            .route("/api/{version}/vobjects/{object}", any(records))
            .route("/api/{version}/objects/{object}/{id}", any(one))
            .route("/records", any(items))
            .layer(layer(locks.clone()))
            .nest_service("/locks", LockEndpoint::new(locks.clone()));
        Self { locks, app, seen }
    }

    pub(crate) async fn send(&self, request: http::Request<Text>) -> Answer {
        support::send(&mut self.app.clone(), request).await
    }

    /// Sends a bulk write.
    pub(crate) async fn bulk(&self, user: &'static str, method: &str, target: &str, body: &Value) -> Answer {
        self.send(bulk(user, method, target, body)).await
    }

    /// What the service has been sent since it was last asked for.
    pub(crate) fn seen(&self) -> Vec<(Method, Vec<Value>)> {
        std::mem::take(&mut self.seen.lock().unwrap())
    }
}

pub(crate) fn bulk(user: &'static str, method: &str, target: &str, body: &Value) -> http::Request<Text> {
    let mut request =
        with(request(method, target), "content-type", "application/json").map(|_| Text::from(body.to_string()));
    request.extensions_mut().insert(User(user));
    request
}

fn vault_result(record: &Value) -> Value {
    if record["fails"] == true {
        return json!({"responseStatus": "FAILURE", "errors": [{"type": "INVALID_DATA", "message": "no"}]});
    }
    json!({"responseStatus": "SUCCESS", "data": {"id": record["id"]}})
}
