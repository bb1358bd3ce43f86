//! A refusal as `DAV:error` (RFC 4918 sections 14.5 and 16): the precondition that failed, with the resources it failed
//! for, and beside it what the problem document says, in a namespace of our own.

use std::fmt::{self, Write};

use bytes::Bytes;

use super::markup::Escaped;
use crate::{
    lock::ResourceKey,
    locks::{LockView, LostView, Refusal},
};

/// The namespace of what RFC 4918 has no element for.
pub(crate) const NAMESPACE: &str = "tower-lock:";

/// What was not as it has to be (RFC 4918 section 16).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Precondition {
    /// 423: a lock is in the way of a write, and its token was not submitted.
    LockTokenSubmitted,
    /// 423: a lock is in the way of another one.
    NoConflictingLock,
    /// 409, 412: the token's lock does not cover the request URI.
    LockTokenMatchesRequestUri,
    /// 403: the body refers to what is not in it.
    NoExternalEntities,
    /// 403: a listing without an end is too long to be made.
    PropfindFiniteDepth,
}

impl Precondition {
    const fn name(self) -> &'static str {
        match self {
            Self::LockTokenSubmitted => "lock-token-submitted",
            Self::NoConflictingLock => "no-conflicting-lock",
            Self::LockTokenMatchesRequestUri => "lock-token-matches-request-uri",
            Self::NoExternalEntities => "no-external-entities",
            Self::PropfindFiniteDepth => "propfind-finite-depth",
        }
    }
}

/// What WebDAV knows of a lock and [`LockView`] does not.
pub(crate) trait DavView {
    /// The URL that was locked, as a path.
    fn href(&self, lock: &LockView) -> String;
    /// Appends the holder's own `owner` element, whole, if there is one.
    fn write_owner(&self, lock: &LockView, to: &mut String);
}

/// Where nothing more is known.
pub(super) struct Plain;

impl DavView for Plain {
    fn href(&self, lock: &LockView) -> String {
        ResourceKey::from_canonical(lock.resource.as_str()).uri().into_owned()
    }

    fn write_owner(&self, _: &LockView, _: &mut String) {}
}

/// The document. `hrefs` are the resources that the precondition failed for.
pub(crate) fn document(
    refusal: &Refusal,
    precondition: Option<Precondition>,
    hrefs: &[String],
    view: &impl DavView,
) -> Bytes {
    let mut document = String::with_capacity(768 + 640 * refusal.locks().len());
    write(&mut document, refusal, precondition, hrefs, view).expect("a `String` takes all that is written");
    document.into()
}

fn write(
    to: &mut String,
    refusal: &Refusal,
    precondition: Option<Precondition>,
    hrefs: &[String],
    view: &impl DavView,
) -> fmt::Result {
    to.write_str("<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<D:error xmlns:D=\"DAV:\">")?;
    if let Some(precondition) = precondition {
        let name = precondition.name();
        write!(to, "<D:{name}>")?;
        for href in hrefs {
            write!(to, "<D:href>{}</D:href>", Escaped(href))?;
        }
        write!(to, "</D:{name}>")?;
    }
    let code = refusal.code();
    write!(to, "<L:refusal xmlns:L=\"{NAMESPACE}\">")?;
    element(to, "status", code.status().as_u16())?;
    element(to, "code", code)?;
    if !refusal.is_bare() {
        element(to, "detail", Escaped(&refusal.to_string()))?;
        option(to, "resource", refusal.resource())?;
    }
    option(to, "retry-after", refusal.retry_after())?;
    if !refusal.is_bare() {
        for lock in refusal.locks() {
            write_lock(to, lock, view)?;
        }
        if refusal.is_truncated() {
            to.write_str("<L:truncated/>")?;
        }
    }
    for lost in refusal.lost() {
        write_lost(to, lost)?;
    }
    to.write_str("</L:refusal></D:error>\n")
}

fn write_lock(to: &mut String, lock: &LockView, view: &impl DavView) -> fmt::Result {
    to.write_str("<L:lock>")?;
    element(to, "lock-id", lock.lock_id)?;
    element(to, "href", Escaped(&view.href(lock)))?;
    element(to, "scope", lock.scope)?;
    element(to, "depth", lock.depth)?;
    element(to, "kind", Escaped(lock.kind.as_str()))?;
    if let Some(owner) = &lock.owner {
        to.write_str("<L:owner>")?;
        option(to, "id", owner.id.as_deref())?;
        option(to, "name", owner.name.as_deref())?;
        view.write_owner(lock, to);
        to.write_str("</L:owner>")?;
    }
    option(to, "reason", lock.reason.as_deref())?;
    option(to, "client-ref", lock.client_ref.as_deref())?;
    element(to, "state", lock.state)?;
    element(to, "in-use", lock.in_use)?;
    element(to, "created-at", lock.created_at)?;
    if let Some(at) = lock.expires_at {
        element(to, "expires-at", at)?;
    }
    option(to, "expires-in", lock.expires_in)?;
    element(to, "generation", lock.generation)?;
    element(to, "mine", lock.mine)?;
    element(to, "can-break", lock.can_break)?;
    to.write_str("</L:lock>")
}

fn write_lost(to: &mut String, lost: &LostView) -> fmt::Result {
    to.write_str("<L:lost>")?;
    if let Some(id) = lost.lock_id {
        element(to, "lock-id", id)?;
    }
    option(to, "resource", lost.resource.as_deref())?;
    element(to, "cause", lost.cause.as_str())?;
    if let Some(at) = lost.at {
        element(to, "at", at)?;
    }
    option(to, "by", lost.by.as_deref())?;
    option(to, "reason", lost.reason.as_deref())?;
    to.write_str("</L:lost>")
}

/// An element whose text needs no escape, or has had it.
fn element(to: &mut String, name: &str, text: impl fmt::Display) -> fmt::Result {
    write!(to, "<L:{name}>{text}</L:{name}>")
}

fn option<T: fmt::Display>(to: &mut String, name: &str, text: Option<T>) -> fmt::Result {
    text.map_or(Ok(()), |text| element(to, name, Escaped(&text.to_string())))
}
