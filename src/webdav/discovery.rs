//! The lock properties as XML: `lockdiscovery` and `supportedlock` (RFC 4918 sections 15.8 and 15.10).
//!
//! Every element that is made here declares `D` itself, so that it can be put into any document. What it holds inherits
//! that: nothing here has a default namespace.

use std::fmt::Write;

use super::xml::{self, DECLARATION, escape, is_dav};
use crate::{
    lock::{LockToken, Owner},
    locks::LockView,
};

#[cfg(test)]
mod tests;

/// `lockdiscovery` as a name.
pub(super) const LOCK_DISCOVERY_NAME: &str = r#"<D:lockdiscovery xmlns:D="DAV:"/>"#;

/// `supportedlock` as a name.
pub(super) const SUPPORTED_LOCK_NAME: &str = r#"<D:supportedlock xmlns:D="DAV:"/>"#;

/// `supportedlock` with its value: every resource has exclusive and shared write locks.
pub(super) const SUPPORTED_LOCK: &str = concat!(
    r#"<D:supportedlock xmlns:D="DAV:">"#,
    "<D:lockentry><D:lockscope><D:exclusive/></D:lockscope><D:locktype><D:write/></D:locktype></D:lockentry>",
    "<D:lockentry><D:lockscope><D:shared/></D:lockscope><D:locktype><D:write/></D:locktype></D:lockentry>",
    "</D:supportedlock>"
);

/// A lock as `lockdiscovery` shows it.
#[derive(Clone, Copy, Debug)]
pub(super) struct ActiveLock<'a> {
    /// What the caller may see of it.
    pub(super) view: &'a LockView,
    /// Its token, for those who may see that.
    pub(super) token: Option<LockToken>,
    /// The URL that was locked, as a URI reference.
    pub(super) href: &'a str,
}

impl ActiveLock<'_> {
    /// The `activelock` of RFC 4918 section 14.1, for a document whose `D` is DAV.
    pub(super) fn text(&self) -> String {
        let mut out = String::with_capacity(512);
        self.write(&mut out);
        out
    }

    fn write(&self, out: &mut String) {
        let Self { view, token, href } = self;
        // Writing to a string does not fail.
        let _ = write!(
            out,
            "<D:activelock><D:lockscope><D:{}/></D:lockscope><D:locktype><D:write/></D:locktype><D:depth>{}</D:depth>",
            view.scope, view.depth
        );
        if let Some(owner) = &view.owner {
            write_owner(owner, out);
        }
        out.push_str("<D:timeout>");
        let _ = match view.expires_in {
            // What RFC 4918 section 10.7 can say.
            Some(seconds) => write!(out, "Second-{}", seconds.min(u32::MAX.into())),
            None => write!(out, "Infinite"),
        };
        out.push_str("</D:timeout>");
        if let Some(token) = token {
            let _ = write!(out, "<D:locktoken><D:href>{}</D:href></D:locktoken>", token.urn());
        }
        out.push_str("<D:lockroot><D:href>");
        escape(out, href);
        out.push_str("</D:href></D:lockroot></D:activelock>");
    }
}

fn write_owner(owner: &Owner, out: &mut String) {
    if write_owner_element(owner, out) {
        return;
    }
    if let Some(text) = owner.display_name() {
        out.push_str("<D:owner>");
        escape(out, text);
        out.push_str("</D:owner>");
    }
}

/// Appends the holder's own `owner` element; says whether there is one.
pub(super) fn write_owner_element(owner: &Owner, out: &mut String) -> bool {
    owner.xml.as_deref().is_some_and(|xml| write_element(xml, out))
}

/// Appends a whole `owner` element, if `xml` is one. Locks come from elsewhere too, and what is not well-formed would
/// take the whole answer with it.
fn write_element(xml: &str, out: &mut String) -> bool {
    let Ok(document) = xml::parse(xml) else { return false };
    let root = document.root_element();
    let whole = is_dav(&root, "owner");
    if whole {
        out.push_str(&xml[root.range()]);
    }
    whole
}

/// The `lockdiscovery` of a resource with these `activelock`s.
pub(super) fn lock_discovery<'a>(active: impl IntoIterator<Item = &'a str>) -> String {
    let mut out = String::new();
    for lock in active {
        if out.is_empty() {
            out.push_str(r#"<D:lockdiscovery xmlns:D="DAV:">"#);
        }
        out.push_str(lock);
    }
    if out.is_empty() {
        return LOCK_DISCOVERY_NAME.to_owned();
    }
    out.push_str("</D:lockdiscovery>");
    out
}

/// The answer to a LOCK (RFC 4918 section 9.10.1), of a `lockdiscovery` element.
pub(super) fn prop_document(discovery: &str) -> String {
    format!(r#"{DECLARATION}<D:prop xmlns:D="DAV:">{discovery}</D:prop>"#)
}
