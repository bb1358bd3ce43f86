//! The states: what a backend is for. Who may write is decided before anything here is called.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use axum::{
    Extension,
    body::Bytes,
    extract::{Path, State},
    http::{HeaderMap, HeaderName, StatusCode, header},
    response::{IntoResponse, Response},
};
use base64::prelude::{BASE64_STANDARD, Engine};
use md5::{Digest, Md5};
use serde::Deserialize;
use tower_lock::{Admission, Refusal, ResourceKey};

use crate::{Site, locking};

const CONTENT_MD5: HeaderName = HeaderName::from_static("content-md5");

pub(crate) type States = Arc<Mutex<HashMap<Name, Saved>>>;

#[derive(Clone)]
pub(crate) struct Saved {
    content: Bytes,
    /// The generation of the last write.
    fence: u64,
}

/// What a state is called: one segment that nothing reads in two ways.
#[derive(Clone, PartialEq, Eq, Hash, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Name(String);

impl Name {
    /// What is locked.
    pub(crate) fn key(&self) -> ResourceKey<'static> {
        ResourceKey::from_canonical(format!("/state/{self}"))
    }
}

impl TryFrom<String> for Name {
    type Error = &'static str;

    fn try_from(name: String) -> Result<Self, Self::Error> {
        let plain = name.chars().all(|each| each.is_ascii_alphanumeric() || "._-".contains(each));
        if plain && !name.starts_with('.') && (1..=128).contains(&name.len()) {
            Ok(Self(name))
        } else {
            Err("a state is called by 1 to 128 letters, digits, `.`, `_` and `-`, and no `.` comes first")
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// 404 where there is none yet.
pub(crate) async fn show(State(Site { states, .. }): State<Site>, Path(name): Path<Name>) -> Response {
    let saved = states.lock().unwrap_or_else(PoisonError::into_inner).get(&name).cloned();
    match saved {
        Some(Saved { content, .. }) => {
            let digest = BASE64_STANDARD.encode(Md5::digest(&content));
            let kind = (header::CONTENT_TYPE, "application/json".to_owned());
            ([kind, (CONTENT_MD5, digest), (header::CACHE_CONTROL, "no-store".to_owned())], content).into_response()
        }
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

pub(crate) async fn save(
    State(Site { states, .. }): State<Site>,
    Path(name): Path<Name>,
    // There is none without a lock, because the layer demands one.
    Extension(admission): Extension<Admission>,
    headers: HeaderMap,
    content: Bytes,
) -> Response {
    if let Err(refusal) = has_its_digest(&headers, &content) {
        return locking::refused(&refusal);
    }
    let fence = admission.generation();
    let mut states = states.lock().unwrap_or_else(PoisonError::into_inner);
    // What a database would do by `UPDATE … WHERE fence <= $1`.
    if states.get(&name).is_some_and(|saved| saved.fence > fence) {
        return (StatusCode::CONFLICT, "somebody has written under a later lock\n").into_response();
    }
    println!("/state/{name}: {} bytes under lock {}", content.len(), admission.locks()[0]);
    states.insert(name, Saved { content, fence });
    StatusCode::OK.into_response()
}

/// 200, also where there is none: Terraform knows no other answer. Its lock ends with it.
pub(crate) async fn remove(State(Site { states, .. }): State<Site>, Path(name): Path<Name>) -> StatusCode {
    states.lock().unwrap_or_else(PoisonError::into_inner).remove(&name);
    StatusCode::OK
}

/// Whether a body is the one that was sent, where that can be told (RFC 1864). Terraform says so of every body.
pub(crate) fn has_its_digest(headers: &HeaderMap, body: &[u8]) -> Result<(), Refusal> {
    let digest = BASE64_STANDARD.encode(Md5::digest(body));
    if headers.get_all(CONTENT_MD5).iter().all(|said| said.as_bytes() == digest.as_bytes()) {
        Ok(())
    } else {
        Err(Refusal::bad_request("Content-MD5: the body that has arrived is another one"))
    }
}
