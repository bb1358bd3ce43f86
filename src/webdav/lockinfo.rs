//! `LockInfo`: what the body of a LOCK asks for (RFC 4918 section 14.11), and how its `owner` is kept.

use std::fmt;

use roxmltree::Node;

use super::xml::{self, Piece, StartTag, XmlError, dav_children, escape, is_dav, namespace};
use crate::lock::LockScope;

#[cfg(test)]
mod tests;

/// The body of a LOCK that asks for a new lock. Its type is always `write`: there is no other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LockInfo {
    pub(super) scope: LockScope,
    /// The whole `owner` element, self-contained: it can stand anywhere in another document and says the same there, its
    /// content to the byte (RFC 4918 section 14.17).
    pub(super) owner: Option<String>,
}

/// Why a body is no [`LockInfo`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum LockInfoError {
    /// It is no XML, or says a thing twice: 400.
    Xml(XmlError),
    /// It lacks an element of this name: 400.
    Missing(&'static str),
    /// It asks for what there is not in the element of this name: 422.
    Unsupported(&'static str),
}

impl From<XmlError> for LockInfoError {
    fn from(error: XmlError) -> Self {
        Self::Xml(error)
    }
}

impl fmt::Display for LockInfoError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Xml(error) => error.fmt(f),
            Self::Missing(name) => write!(f, "there is no {name}"),
            Self::Unsupported(name) => write!(f, "there is no such {name}"),
        }
    }
}

impl std::error::Error for LockInfoError {}

impl LockInfo {
    /// Reads the body of a LOCK.
    ///
    /// # Errors
    /// See [`LockInfoError`].
    pub(super) fn read(body: &[u8]) -> Result<Self, LockInfoError> {
        let text = xml::decode(body)?;
        let document = xml::parse(&text)?;
        let root = document.root_element();
        if !is_dav(&root, "lockinfo") {
            return Err(LockInfoError::Missing("lockinfo"));
        }
        let scope = match word_of(root, "lockscope", ["exclusive", "shared"])? {
            "exclusive" => LockScope::Exclusive,
            _ => LockScope::Shared,
        };
        word_of(root, "locktype", ["write", "write"])?;
        let owner = the_one(root, "owner")?.map(|owner| self_contained(&text, owner));
        Ok(Self { scope, owner })
    }
}

/// Which of `words` stands in the element `name`. Elements of other namespaces there are extensions, and ignored.
fn word_of(root: Node<'_, '_>, name: &'static str, words: [&'static str; 2]) -> Result<&'static str, LockInfoError> {
    let element = the_one(root, name)?.ok_or(LockInfoError::Missing(name))?;
    let mut asked = element.children().filter(Node::is_element).peekable();
    if asked.peek().is_none() {
        return Err(LockInfoError::Missing(name));
    }
    let mut found: Vec<&str> = asked.filter_map(|asked| words.into_iter().find(|word| is_dav(&asked, word))).collect();
    found.dedup();
    match found[..] {
        [word] => Ok(word),
        _ => Err(LockInfoError::Unsupported(name)),
    }
}

/// The element `name`, which may be there once.
fn the_one<'a, 'input: 'a>(root: Node<'a, 'input>, name: &'static str) -> Result<Option<Node<'a, 'input>>, LockInfoError> {
    let mut all = dav_children(root, name);
    let first = all.next();
    // Which of two counts would be for each reader to guess.
    match all.next() {
        Some(_) => Err(XmlError::Malformed(format!("{name} stands there twice")).into()),
        None => Ok(first),
    }
}

/// `owner` as it stands in `text`, with what it has from around it put into its start tag.
fn self_contained(text: &str, owner: Node<'_, '_>) -> String {
    let whole = &text[owner.range()];
    let mut tag = StartTag::new(whole, 1);
    tag.name();
    let mut own = Vec::new();
    let close = loop {
        match tag.next_piece() {
            Ok(Piece::Attribute { name, .. }) => own.push(name),
            Ok(Piece::Empty) => break "/>",
            Ok(Piece::Open) | Err(()) => break ">",
        }
    };
    let mut out = whole[..tag.at() - close.len()].to_owned();
    let mut put = |name: &str, value: &str| {
        if !own.contains(&name) {
            out.push(' ');
            out.push_str(name);
            out.push_str("=\"");
            escape(&mut out, value);
            out.push('"');
        }
    };
    let mut default = None;
    for declared in owner.namespaces() {
        match declared.name() {
            Some("xml") => {}
            Some(prefix) => put(&format!("xmlns:{prefix}"), declared.uri()),
            None => default = Some(declared.uri()).filter(|uri| !uri.is_empty()),
        }
    }
    match default {
        Some(uri) => put("xmlns", uri),
        // Where it comes to stand, names without a prefix may have a namespace.
        None if owner.descendants().any(|node| node.is_element() && namespace(&node).is_none()) => put("xmlns", ""),
        None => {}
    }
    const XML: &str = "http://www.w3.org/XML/1998/namespace";
    if let Some(language) = owner.ancestors().find_map(|node| node.attribute((XML, "lang"))) {
        put("xml:lang", language);
    }
    out.push_str(&whole[tag.at() - close.len()..]);
    out
}
