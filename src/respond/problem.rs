//! `Problem`: a refusal as `application/problem+json` (RFC 9457).

use std::fmt::Write;

use bytes::Bytes;
use serde::Serialize;

use crate::locks::{LockView, LostView, Refusal, RefusalCode};

/// The body of a refusal. A bare one is cut down to status, code and `retry_after`.
///
/// The members `id`, `operation`, `info`, `who`, `version`, `created` and `path` stay unused at the top, so that a body
/// can also carry the lock information of clients which look for those.
#[derive(Debug, Serialize)]
pub struct Problem<'a> {
    #[serde(rename = "type")]
    kind: std::borrow::Cow<'a, str>,
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

impl<'a> Problem<'a> {
    /// The problem that `refusal` is.
    #[must_use]
    pub fn of(refusal: &'a Refusal) -> Self {
        let code = refusal.code();
        let bare = refusal.is_bare();
        // A client that asks `locks` of a 423 finds a list there, also an empty one.
        let names_locks = matches!(code, RefusalCode::Locked | RefusalCode::Frozen | RefusalCode::LockLost);
        Self {
            kind: refusal.problem_type(),
            title: code.title(),
            status: code.status().as_u16(),
            detail: (!bare).then(|| sentence(refusal)),
            code,
            resource: refusal.resource(),
            retry_after: refusal.retry_after(),
            locks: Some(refusal.locks()).filter(|locks| !bare && (names_locks || !locks.is_empty())),
            truncated: refusal.is_truncated() && !bare,
            lost: refusal.lost(),
        }
    }

    /// The document.
    #[must_use]
    pub fn to_json(&self) -> Bytes {
        // Room for what most refusals are, one lock with its owner and reason: growing step by step costs as much as
        // writing.
        let mut document = Vec::with_capacity(768 + 512 * self.locks.map_or(0, <[LockView]>::len));
        // Strings, numbers and words: nothing in it can fail to be written.
        serde_json::to_writer(&mut document, self).expect("a problem is plain data");
        document.into()
    }
}

/// What a refusal says in one sentence.
fn sentence(refusal: &Refusal) -> String {
    let mut sentence = String::with_capacity(192);
    write!(sentence, "{refusal}").expect("a `String` takes all that is written");
    sentence
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
