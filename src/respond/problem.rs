//! `Problem`: a refusal as `application/problem+json` (RFC 9457).

use std::{borrow::Cow, ops::Range, panic::UnwindSafe};

use bytes::Bytes;
use http::HeaderValue;
use serde::{Serialize, Serializer};

use super::json::Json;
use crate::{
    lock::{Depth, LockScope},
    locks::{LockView, LostView, Refusal, RefusalCode, Shown},
};

/// The body of a refusal. A bare one is cut down to status, code and `retry_after`.
///
/// The members `id`, `operation`, `info`, `who`, `version`, `created` and `path` stay unused at the top, so that a body
/// can also carry the lock information of clients which look for those.
#[derive(Clone, Copy, Debug)]
pub struct Problem<'a> {
    refusal: &'a Refusal,
}

// A refusal is not changed behind a reference, but for the views, which are there whole or not at all.
impl UnwindSafe for Problem<'_> {}

/// What a problem consists of.
#[derive(Serialize)]
struct Members<'a> {
    #[serde(rename = "type")]
    kind: Cow<'a, str>,
    title: &'static str,
    status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
    code: RefusalCode,
    #[serde(skip_serializing_if = "Option::is_none")]
    resource: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    locks: Option<&'a [LockView]>,
    #[serde(skip_serializing_if = "is_default")]
    truncated: bool,
    #[serde(skip_serializing_if = "<[LostView]>::is_empty")]
    lost: &'a [LostView],
}

impl Serialize for Problem<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let refusal = self.refusal;
        let code = refusal.code();
        let bare = refusal.is_bare();
        let members = Members {
            kind: refusal.problem_type(),
            title: code.title(),
            status: code.status().as_u16(),
            detail: (!bare).then(|| refusal.to_string()),
            code,
            resource: refusal.resource(),
            retry_after: refusal.retry_after(),
            locks: names_locks(refusal).then(|| refusal.locks()),
            truncated: refusal.is_truncated() && !bare,
            lost: refusal.lost(),
        };
        members.serialize(serializer)
    }
}

impl<'a> Problem<'a> {
    /// The problem that `refusal` is.
    #[must_use]
    pub fn of(refusal: &'a Refusal) -> Self {
        Self { refusal }
    }

    /// The document: the bytes that `serde_json` makes of this.
    #[must_use]
    pub fn to_json(&self) -> Bytes {
        self.document().body()
    }

    /// The document, with the numbers that fields tell of it.
    pub(super) fn document(&self) -> Document {
        let refusal = self.refusal;
        // Room for what most refusals are, one lock with its owner and reason: growing step by step costs as much as
        // writing.
        let mut json = Json::with_capacity(512 * (1 + refusal.shown().count()));
        write_head(refusal, &mut json);
        let place = refusal.retry_after().map(|seconds| {
            json.raw(",\"retry_after\":");
            let start = json.len();
            json.integer(seconds);
            start..json.len()
        });
        if names_locks(refusal) {
            json.raw(",\"locks\":[");
            let mut comma = "";
            for shown in refusal.shown() {
                json.raw(comma);
                write_lock(shown, &mut json);
                comma = ",";
            }
            json.raw("]");
        }
        if refusal.is_truncated() && !refusal.is_bare() {
            json.raw(",\"truncated\":true");
        }
        if !refusal.lost().is_empty() {
            json.raw(",\"lost\":");
            json.value(refusal.lost());
        }
        json.raw("}");
        let end = json.len();
        json.integer(end as u64);
        Document { text: json.into_bytes(), end, seconds: place }
    }
}

/// A document, its length behind it, and where in it the number of `retry_after` is: the fields that tell both numbers share
/// them with it.
pub(super) struct Document {
    text: Bytes,
    end: usize,
    seconds: Option<Range<usize>>,
}

impl Document {
    pub(super) fn body(&self) -> Bytes {
        self.text.slice(..self.end)
    }

    /// The value of `Content-Length`.
    pub(super) fn length(&self) -> HeaderValue {
        digits(self.text.slice(self.end..))
    }

    /// The value of `Retry-After`, if there is one.
    pub(super) fn seconds(&self) -> Option<HeaderValue> {
        Some(digits(self.text.slice(self.seconds.clone()?)))
    }
}

fn digits(text: Bytes) -> HeaderValue {
    HeaderValue::from_maybe_shared(text).expect("digits are a field's value")
}

/// Whether there is a list of locks. A client that asks `locks` of a 423 finds a list there, also an empty one.
fn names_locks(refusal: &Refusal) -> bool {
    let always = matches!(refusal.code(), RefusalCode::Locked | RefusalCode::Frozen | RefusalCode::LockLost);
    !refusal.is_bare() && (always || refusal.shown().next().is_some())
}

/// All that stands before `retry_after`.
fn write_head(refusal: &Refusal, json: &mut Json) {
    let code = refusal.code();
    match refusal.problem_types() {
        None => json.raw("{\"type\":\"about:blank"),
        Some(base) => {
            json.raw("{\"type\":\"");
            json.part(base);
            json.raw(code.as_str());
        }
    }
    json.raw("\",\"title\":\"");
    json.raw(code.title());
    json.raw("\",\"status\":");
    json.raw(code.status().as_str());
    if !refusal.is_bare() {
        json.raw(",\"detail\":\"");
        refusal.tell(json).expect("a document takes all that is written");
        json.raw("\"");
    }
    json.raw(",\"code\":\"");
    json.raw(code.as_str());
    json.raw("\"");
    if let Some(resource) = refusal.resource() {
        json.raw(",\"resource\":\"");
        json.part(resource);
        json.raw("\"");
    }
}

/// A [`LockView`]. In few pieces: each takes about as long as a short text.
fn write_lock(shown: Shown<'_>, json: &mut Json) {
    let lock = shown.lock;
    json.raw("{\"lock_id\":\"");
    json.id(lock.id());
    json.raw("\",\"resource\":\"");
    json.part(lock.root().path());
    json.raw(match (lock.scope(), lock.depth()) {
        (LockScope::Exclusive, Depth::Infinity) => "\",\"scope\":\"exclusive\",\"depth\":\"infinity\",\"kind\":\"",
        (LockScope::Exclusive, Depth::Zero) => "\",\"scope\":\"exclusive\",\"depth\":\"0\",\"kind\":\"",
        (LockScope::Shared, Depth::Infinity) => "\",\"scope\":\"shared\",\"depth\":\"infinity\",\"kind\":\"",
        (LockScope::Shared, Depth::Zero) => "\",\"scope\":\"shared\",\"depth\":\"0\",\"kind\":\"",
    });
    json.part(lock.kind().as_str());
    if let Some(owner) = shown.owner() {
        json.raw("\",\"owner\":{");
        if let Some(id) = &owner.id {
            json.raw("\"id\":\"");
            json.part(id);
            json.raw(if owner.name.is_some() { "\"," } else { "\"" });
        }
        if let Some(name) = &owner.name {
            json.raw("\"name\":\"");
            json.part(name);
            json.raw("\"");
        }
        json.raw("}");
    } else {
        json.raw("\"");
    }
    if let Some(reason) = shown.reason() {
        json.raw(",\"reason\":\"");
        json.part(reason);
        json.raw("\"");
    }
    if let Some(text) = shown.client_ref() {
        json.raw(",\"client_ref\":\"");
        json.part(text);
        json.raw("\"");
    }
    json.raw(",\"state\":\"");
    json.raw(lock.state().as_str());
    json.raw(match lock.in_use() {
        false => "\",\"in_use\":false,\"created_at\":\"",
        true => "\",\"in_use\":true,\"created_at\":\"",
    });
    json.instant(lock.created_at());
    match (lock.expires_at(), lock.expires_in()) {
        (Some(time), Some(seconds)) => {
            json.raw("\",\"expires_at\":\"");
            json.instant(time);
            json.raw("\",\"expires_in\":");
            json.integer(seconds);
        }
        _ => json.raw("\",\"expires_at\":null,\"expires_in\":null"),
    }
    json.raw(",\"generation\":");
    json.integer(lock.generation());
    json.raw(match (shown.is_mine(), shown.can_break()) {
        (false, false) => ",\"mine\":false,\"can_break\":false}",
        (false, true) => ",\"mine\":false,\"can_break\":true}",
        (true, false) => ",\"mine\":true,\"can_break\":false}",
        (true, true) => ",\"mine\":true,\"can_break\":true}",
    });
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

#[cfg(test)]
mod tests;
