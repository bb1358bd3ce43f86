//! What all XML of WebDAV has in common here: how bytes become text, text a tree, and text is written into a document.
//!
//! A tree is only built of what [`scan`] has found to be cheap: then parsing takes time and memory in proportion to the
//! length, whoever wrote the document.

use std::{
    borrow::Cow,
    fmt::{self, Write},
};

use roxmltree::{Document, Error, Node, ParsingOptions};

use crate::respond::Escaped;

mod scan;
#[cfg(test)]
mod tests;

pub(super) use self::scan::{Piece, StartTag};

/// The namespace of everything that RFC 4918 defines.
pub(super) const DAV: &str = "DAV:";

/// How every document of ours begins.
pub(super) const DECLARATION: &str = r#"<?xml version="1.0" encoding="utf-8"?>"#;

/// Why a text is not read as XML.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum XmlError {
    /// It is no well-formed XML of the expected kind. What is wrong, and where; never what was written there.
    Malformed(String),
    /// It has a document type declaration.
    Dtd,
    /// It has one that names something outside the document (RFC 4918 section 16, `no-external-entities`).
    ExternalEntity,
    /// It is nested too deeply, has too many elements, or would cost more than its length allows.
    TooComplex,
}

impl XmlError {
    pub(super) fn malformed(what: impl Into<String>) -> Self {
        Self::Malformed(what.into())
    }
}

impl fmt::Display for XmlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed(what) => what,
            Self::Dtd => "a document type declaration is not allowed",
            Self::ExternalEntity => "external entities are not allowed",
            Self::TooComplex => "the document is too complex",
        })
    }
}

impl std::error::Error for XmlError {}

impl From<Error> for XmlError {
    fn from(error: Error) -> Self {
        // The parser's own words repeat what was written.
        let what = match &error {
            Error::DtdDetected => return Self::Dtd,
            Error::NodesLimitReached | Error::AttributesLimitReached | Error::NamespacesLimitReached => {
                return Self::TooComplex;
            }
            Error::NoRootNode => return Self::malformed("there is no element"),
            Error::UnclosedRootNode => return Self::malformed("an element is not closed"),
            Error::UnexpectedEndOfStream => return Self::malformed("the document ends too early"),
            Error::UnexpectedCloseTag(..) => "an end tag without its start tag",
            Error::UnknownNamespace(..) => "a prefix that is not declared",
            Error::DuplicatedAttribute(..) | Error::DuplicatedNamespace(..) => "an attribute twice",
            Error::UnknownEntityReference(..) | Error::MalformedEntityReference(_) => "an unknown entity",
            Error::NonXmlChar(..) => "a character that XML does not have",
            Error::UnexpectedDeclaration(_) => "an XML declaration that is not at the start",
            _ => "not well-formed",
        };
        let at = error.pos();
        Self::Malformed(format!("{what} at line {}, column {}", at.row, at.col))
    }
}

/// Who wrote a document, and so how much of it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// A request body. Read strictly: parts of it are written into answers to others.
    Client,
    /// The handler's answer, a listing of tens of megabytes perhaps.
    Handler,
}

impl Source {
    /// How deeply elements may be nested.
    const fn depth(self) -> usize {
        match self {
            Self::Client => 64,
            Self::Handler => 256,
        }
    }

    /// How many namespaces may be declared. The parser keeps those that differ in a sorted list, and refuses a listing
    /// that has more than 65,536 of them; a request has no use for as many.
    const fn declarations(self) -> u64 {
        match self {
            Self::Client => 10_000,
            Self::Handler => u64::MAX,
        }
    }

    /// How many `<`, and how many `=`, there may be: the parser makes room for as many nodes and attributes.
    const fn marks(self) -> usize {
        match self {
            Self::Client => 100_000,
            Self::Handler => 3_000_000,
        }
    }
}

/// The text of a request body or an answer: UTF-8, with or without a byte order mark, or UTF-16 with one. The mark is
/// gone from the text, and a declaration in what was UTF-16 or ASCII says `utf-8`, as that is what the text is written in
/// again.
///
/// # Errors
/// [`XmlError::Malformed`] for any other encoding, declared or found.
pub(super) fn decode(body: &[u8]) -> Result<Cow<'_, str>, XmlError> {
    let wide: Option<fn([u8; 2]) -> u16> = match body {
        [0xFE, 0xFF, ..] => Some(u16::from_be_bytes),
        [0xFF, 0xFE, ..] => Some(u16::from_le_bytes),
        _ => None,
    };
    let Some(unit) = wide else {
        let body = body.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(body);
        let text = std::str::from_utf8(body).map_err(|_| XmlError::malformed("not UTF-8"))?;
        return match declared_encoding(text) {
            Some((at, name)) if name.eq_ignore_ascii_case("us-ascii") => {
                let mut text = text.to_owned();
                text.replace_range(at..at + name.len(), "utf-8");
                Ok(Cow::Owned(text))
            }
            Some((_, name)) if !["utf-8", "utf8"].iter().any(|known| name.eq_ignore_ascii_case(known)) => {
                Err(XmlError::malformed("the declared encoding is not UTF-8"))
            }
            _ => Ok(Cow::Borrowed(text)),
        };
    };
    let pairs = body[2..].chunks_exact(2);
    if !pairs.remainder().is_empty() {
        return Err(XmlError::malformed("not UTF-16"));
    }
    let mut text = char::decode_utf16(pairs.map(|pair| unit([pair[0], pair[1]])))
        .collect::<Result<String, _>>()
        .map_err(|_| XmlError::malformed("not UTF-16"))?;
    if let Some((at, name)) = declared_encoding(&text) {
        if !["utf-16", "utf-16le", "utf-16be"].iter().any(|known| name.eq_ignore_ascii_case(known)) {
            return Err(XmlError::malformed("the declared encoding is not UTF-16"));
        }
        let end = at + name.len();
        text.replace_range(at..end, "utf-8");
    }
    Ok(Cow::Owned(text))
}

/// The encoding that the XML declaration names, and where.
fn declared_encoding(text: &str) -> Option<(usize, &str)> {
    let declaration = &text[..text.find("?>")?];
    if !declaration.starts_with("<?xml") {
        return None;
    }
    // A declaration is written as a start tag is, but for its brackets.
    let mut tag = StartTag::new(declaration, "<?xml".len());
    while let Ok(Piece::Attribute { name, value, value_at }) = tag.next_piece() {
        if name == "encoding" {
            return Some((value_at, value));
        }
    }
    None
}

/// The tree of a request body.
///
/// # Errors
/// See [`XmlError`].
pub(super) fn parse(text: &str) -> Result<Document<'_>, XmlError> {
    parse_from(Source::Client, text)
}

/// The tree of what `source` wrote.
///
/// # Errors
/// See [`XmlError`].
pub(super) fn parse_from(source: Source, text: &str) -> Result<Document<'_>, XmlError> {
    scan::check(text, source)?;
    // Between any two marks there is one text at most.
    let nodes_limit = u32::try_from(2 * source.marks() + 2).unwrap_or(u32::MAX);
    let document = Document::parse_with_options(text, ParsingOptions { nodes_limit, ..ParsingOptions::default() })?;
    if source == Source::Client && document.descendants().any(|node| is_loose_instruction(&node)) {
        return Err(XmlError::malformed("a processing instruction that is not well-formed"));
    }
    Ok(document)
}

/// Whether a processing instruction is one for the parser alone: with a name that is reserved or that runs into its data.
fn is_loose_instruction(node: &Node<'_, '_>) -> bool {
    let Some(instruction) = node.pi() else { return false };
    let range = node.range();
    let target = instruction.target;
    let after = &node.document().input_text()[range.start + "<?".len() + target.len()..range.end];
    let apart = after == "?>" || after.starts_with([' ', '\t', '\r', '\n']);
    // A declaration whose first space is none is left to be an instruction.
    let declaration = range.start == 0 && target == "xml";
    !apart || target.contains(':') || (target.eq_ignore_ascii_case("xml") && !declaration)
}

/// The root of `document`, if it is `name` of DAV.
///
/// # Errors
/// [`XmlError::Malformed`] if it is not.
pub(super) fn root<'a, 'input>(document: &'a Document<'input>, name: &str) -> Result<Node<'a, 'input>, XmlError> {
    Some(document.root_element())
        .filter(|root| is_dav(root, name))
        .ok_or_else(|| XmlError::Malformed(format!("the root element is not {name} of DAV:")))
}

/// Whether `node` is the element `name` of DAV.
pub(super) fn is_dav(node: &Node<'_, '_>, name: &str) -> bool {
    node.is_element() && node.tag_name().name() == name && namespace(node) == Some(DAV)
}

/// The elements `name` of DAV directly in `node`.
pub(super) fn dav_children<'a, 'input: 'a>(
    node: Node<'a, 'input>,
    name: &'static str,
) -> impl Iterator<Item = Node<'a, 'input>> {
    node.children().filter(move |child| is_dav(child, name))
}

/// The namespace of an element; none also where `xmlns=""` says so.
pub(super) fn namespace<'a>(node: &Node<'a, '_>) -> Option<&'a str> {
    node.tag_name().namespace().filter(|uri| !uri.is_empty())
}

/// All text directly in `node`, whatever stands between its parts.
pub(super) fn text_of(node: &Node<'_, '_>) -> String {
    node.children().filter(Node::is_text).filter_map(|part| part.text()).collect()
}

/// Appends `text` so that it is the same again as content and as an attribute's value. What XML 1.0 cannot say becomes
/// U+FFFD.
pub(super) fn escape(out: &mut String, text: &str) {
    // Writing to a string does not fail.
    let _ = write!(out, "{}", Escaped(text));
}
