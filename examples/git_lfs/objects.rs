//! A toy object store: the batch API of Git LFS with its basic transfers, in memory, gone with the process.
//!
//! An object is named by its SHA-256, so nobody can overwrite what somebody else has sent, and no lock is asked.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use axum::{
    Extension,
    extract::{Path, State, rejection::BytesRejection},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tower_lock::Caller;

use crate::{
    answer::{Asked, Failure, lfs},
    people::{self, Visitor},
};

/// How large an object may be, in bytes.
pub(crate) const LARGEST: usize = 64 * 1024 * 1024;

/// How much there may be of all of them.
const ROOM: usize = 1024 * 1024 * 1024;

/// How many one request may be about.
const MOST: usize = 1_000;

/// The objects, by repository and name.
#[derive(Clone, Default)]
pub(crate) struct Objects(Arc<Mutex<HashMap<(&'static str, String), Bytes>>>);

impl Objects {
    fn get(&self, repository: &'static str, oid: &str) -> Option<Bytes> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&(repository, oid.to_owned())).cloned()
    }

    fn put(&self, repository: &'static str, oid: String, content: &[u8]) -> Result<(), Failure> {
        let mut objects = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let taken: usize = objects.values().map(Bytes::len).sum();
        if taken + content.len() > ROOM {
            return Err(Failure::new(StatusCode::INSUFFICIENT_STORAGE, "There is no room left."));
        }
        // Bytes of its own, however they have arrived.
        objects.insert((repository, oid), Bytes::copy_from_slice(content));
        Ok(())
    }
}

// --- what is to be sent where --------------------------------------------------------------------------------------

#[derive(Deserialize)]
pub(crate) struct Batch {
    operation: String,
    transfers: Option<Vec<String>>,
    hash_algo: Option<String>,
    objects: Vec<Object>,
}

#[derive(Clone, Deserialize, Serialize)]
struct Object {
    oid: String,
    size: u64,
}

#[derive(Serialize)]
struct Transfers {
    transfer: &'static str,
    hash_algo: &'static str,
    objects: Vec<Transfer>,
}

#[derive(Serialize)]
struct Transfer {
    #[serde(flatten)]
    object: Object,
    authenticated: bool,
    #[serde(skip_serializing_if = "HashMap::is_empty")]
    actions: HashMap<&'static str, Action>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Trouble>,
}

#[derive(Serialize)]
struct Action {
    href: String,
    header: HashMap<&'static str, String>,
}

#[derive(Serialize)]
struct Trouble {
    code: u16,
    message: &'static str,
}

/// Where the objects are to be sent, or to be had.
pub(crate) async fn batch(
    State(objects): State<Objects>,
    Extension(caller): Extension<Caller>,
    Extension(visitor): Extension<Visitor>,
    headers: HeaderMap,
    Asked(batch): Asked<Batch>,
) -> Result<Response, Failure> {
    let is_upload = match batch.operation.as_str() {
        "upload" => true,
        "download" => false,
        _ => return Err(Failure::meaningless("operation: upload or download.")),
    };
    if is_upload && !people::may_push(caller.principal()) {
        return Err(Failure::new(StatusCode::FORBIDDEN, "You may not push."));
    }
    if batch.objects.len() > MOST {
        return Err(Failure::new(StatusCode::PAYLOAD_TOO_LARGE, format!("At most {MOST} objects at once.")));
    }
    if batch.transfers.is_some_and(|known| !known.is_empty() && !known.iter().any(|name| name == "basic")) {
        return Err(Failure::meaningless("transfers: basic is the only one here."));
    }
    if batch.hash_algo.is_some_and(|name| name != "sha256") {
        return Err(Failure::new(StatusCode::CONFLICT, "hash_algo: sha256 is the only one here."));
    }
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let host = host.ok_or_else(|| Failure::new(StatusCode::BAD_REQUEST, "Host: there is none."))?;
    // The client asks for credentials anew for every URL, unless it is given them: its own, to send again.
    let authorization = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let transfer = |object: Object| {
        let stored = objects.get(visitor.repository, &object.oid);
        let error = match &stored {
            _ if !is_oid(&object.oid) => Some(Trouble { code: 422, message: "This is no SHA-256." }),
            _ if is_upload && object.size > LARGEST as u64 => Some(Trouble { code: 422, message: "It is too large." }),
            None if !is_upload => Some(Trouble { code: 404, message: "There is no such object." }),
            _ => None,
        };
        // What is here already need not be sent again.
        let action = match (is_upload, &error) {
            (true, None) if stored.is_none() => Some("upload"),
            (false, None) => Some("download"),
            _ => None,
        };
        let href = || format!("http://{host}/{}/info/lfs/objects/{}", visitor.repository, object.oid);
        let credentials = || HashMap::from([("Authorization", authorization.to_owned())]);
        let actions = action.map(|name| (name, Action { href: href(), header: credentials() })).into_iter().collect();
        Transfer { actions, error, object, authenticated: true }
    };
    let objects = batch.objects.into_iter().map(transfer).collect();
    Ok(lfs(StatusCode::OK, &Transfers { transfer: "basic", hash_algo: "sha256", objects }))
}

/// 64 hexadecimal digits, as git-lfs writes them.
fn is_oid(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

// --- the objects ---------------------------------------------------------------------------------------------------

pub(crate) async fn download(
    State(objects): State<Objects>,
    Extension(visitor): Extension<Visitor>,
    Path((_repository, oid)): Path<(String, String)>,
) -> Result<Response, Failure> {
    match objects.get(visitor.repository, &oid) {
        Some(content) => {
            let kind = HeaderValue::from_static("application/octet-stream");
            Ok(([(header::CONTENT_TYPE, kind)], content).into_response())
        }
        None => Err(Failure::new(StatusCode::NOT_FOUND, "There is no such object.")),
    }
}

pub(crate) async fn upload(
    State(objects): State<Objects>,
    Extension(caller): Extension<Caller>,
    Extension(visitor): Extension<Visitor>,
    Path((_repository, oid)): Path<(String, String)>,
    content: Result<Bytes, BytesRejection>,
) -> Result<StatusCode, Failure> {
    if !people::may_push(caller.principal()) {
        return Err(Failure::new(StatusCode::FORBIDDEN, "You may not push."));
    }
    let content = content.map_err(|rejection| Failure::new(rejection.status(), rejection.body_text()))?;
    let digest: String = Sha256::digest(&content).iter().map(|byte| format!("{byte:02x}")).collect();
    if digest != oid {
        return Err(Failure::meaningless(format!("The SHA-256 of what was sent is {digest}.")));
    }
    objects.put(visitor.repository, oid, &content)?;
    Ok(StatusCode::OK)
}
