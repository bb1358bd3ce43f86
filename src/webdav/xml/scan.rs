//! A first look over a document, before a tree is built of it: in one pass, with no more memory than its depth.
//!
//! The parser compares attributes of an element each with each, and gives every element that declares a namespace a list
//! of all in scope. So a megabyte can be made to cost minutes, or gigabytes. Here that work is added up beforehand, and
//! refused where it is out of proportion. What this scan cannot follow is refused too: the parser never sees a document
//! that was not counted to its end.

use super::{Source, XmlError};

/// The work allowed whatever the length, in comparisons of names.
const WORK: u64 = 100_000;

/// The work allowed for each byte. Listings that declare two namespaces on every property need about five.
const WORK_PER_BYTE: u64 = 16;

/// Refuses what would cost too much to parse, what has a DTD, and what the parser lets through though others do not.
pub(super) fn check(text: &str, source: Source) -> Result<(), XmlError> {
    let count = |wanted: u8| text.bytes().filter(|byte| *byte == wanted).count();
    if count(b'<') > source.marks() || count(b'=') > source.marks() {
        return Err(XmlError::TooComplex);
    }
    let work = WORK + WORK_PER_BYTE * text.len() as u64;
    Scan { text, source, at: 0, open: Vec::new(), declared: 0, work }.run()
}

struct Scan<'a> {
    text: &'a str,
    source: Source,
    at: usize,
    // For each open element, how many namespace declarations are in scope in it.
    open: Vec<u64>,
    declared: u64,
    // What may still be spent.
    work: u64,
}

impl Scan<'_> {
    fn run(mut self) -> Result<(), XmlError> {
        while let Some(to_markup) = self.text[self.at..].find('<') {
            let markup = self.at + to_markup;
            self.references(&self.text[self.at..markup])?;
            self.at = markup;
            let rest = &self.text[markup..];
            if rest.starts_with("<!--") {
                self.skip_past("<!--", "-->")?;
            } else if rest.starts_with("<![CDATA[") {
                self.skip_past("<![CDATA[", "]]>")?;
            } else if rest.starts_with("<!DOCTYPE") {
                return Err(doctype(rest.as_bytes()));
            } else if rest.starts_with("<!") {
                return Err(self.malformed("unknown markup"));
            } else if rest.starts_with("<?") {
                self.skip_past("<?", "?>")?;
            } else if rest.starts_with("</") {
                self.open.pop().ok_or_else(|| self.malformed("an end tag without its start tag"))?;
                self.skip_past("</", ">")?;
            } else {
                self.start_tag()?;
            }
        }
        self.references(&self.text[self.at..])
    }

    fn skip_past(&mut self, start: &str, end: &str) -> Result<(), XmlError> {
        let from = self.at + start.len();
        let length = self.text[from..].find(end).ok_or_else(|| self.malformed("markup that does not end"))?;
        self.at = from + length + end.len();
        Ok(())
    }

    fn start_tag(&mut self) -> Result<(), XmlError> {
        let inherited = self.open.last().copied().unwrap_or(0);
        let (mut attributes, mut declared, mut default) = (0_u64, 0_u64, 0);
        let mut tag = StartTag::new(self.text, self.at + 1);
        let name = tag.name();
        if name.is_empty() || name.starts_with(':') {
            return Err(self.malformed("a tag without a name"));
        }
        let empty = loop {
            match tag.next_piece().map_err(|()| self.malformed("a tag that is not well-formed"))? {
                Piece::Attribute { name, value, .. } => {
                    match name.split_once(':') {
                        Some(("", _)) => return Err(self.malformed("an attribute without a prefix")),
                        // The parser takes this for a namespace without a name, others refuse it.
                        Some(("xmlns", _)) if value.is_empty() => return Err(self.malformed("a prefix undeclared")),
                        Some(("xmlns", _)) => declared += 1,
                        None if name == "xmlns" => {
                            declared += 1;
                            default += 1;
                        }
                        _ => attributes += 1,
                    }
                    self.references(value)?;
                }
                Piece::Open => break false,
                Piece::Empty => break true,
            }
        };
        // Of two, the parser takes the first.
        if default > 1 {
            return Err(self.malformed("an attribute twice"));
        }
        let in_scope = inherited + declared;
        // To find the names' namespaces, to compare the attributes, and to list the namespaces.
        let listing = if declared > 0 { in_scope * in_scope } else { 0 };
        let work = 1 + (1 + attributes) * in_scope + attributes * attributes + listing;
        self.work = self.work.checked_sub(work).ok_or(XmlError::TooComplex)?;
        self.declared += declared;
        if self.declared > self.source.declarations() {
            return Err(XmlError::TooComplex);
        }
        self.at = tag.at;
        if !empty {
            if self.open.len() == self.source.depth() {
                return Err(XmlError::TooComplex);
            }
            self.open.push(in_scope);
        }
        Ok(())
    }

    /// The parser reads a reference to no character as U+FFFD, others refuse the document.
    fn references(&self, text: &str) -> Result<(), XmlError> {
        if self.source == Source::Handler {
            return Ok(());
        }
        for reference in text.split("&#").skip(1) {
            let digits = reference.split(';').next().unwrap_or("");
            let number = match digits.strip_prefix('x') {
                Some(digits) => u32::from_str_radix(digits, 16),
                None => digits.parse(),
            };
            number.ok().and_then(char::from_u32).ok_or_else(|| self.malformed("a reference to no character"))?;
        }
        Ok(())
    }

    /// An error at the markup that is looked at.
    fn malformed(&self, what: &str) -> XmlError {
        let before = &self.text[..self.at];
        let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
        let column = before.chars().rev().take_while(|character| *character != '\n').count() + 1;
        XmlError::Malformed(format!("{what} at line {line}, column {column}"))
    }
}

/// Which of the two errors a document type declaration is.
fn doctype(rest: &[u8]) -> XmlError {
    let mut at = "<!DOCTYPE".len();
    let mut subset = false;
    while let Some(byte) = rest.get(at) {
        let rest = &rest[at..];
        let skip = |start: usize, end: &[u8]| {
            let found = rest[start..].windows(end.len()).position(|window| window == end);
            found.map_or(rest.len(), |length| start + length + end.len())
        };
        at += match byte {
            b'"' | b'\'' => skip(1, &[*byte]),
            b'<' if rest.starts_with(b"<!--") => skip(4, b"-->"),
            b'<' if rest.starts_with(b"<?") => skip(2, b"?>"),
            b'S' | b'P' if rest.starts_with(b"SYSTEM") || rest.starts_with(b"PUBLIC") => return XmlError::ExternalEntity,
            b'>' if !subset => break,
            b'[' | b']' => {
                subset = *byte == b'[';
                1
            }
            _ => 1,
        };
    }
    XmlError::Dtd
}

/// A walk through a start tag as it is written.
pub(in crate::webdav) struct StartTag<'a> {
    text: &'a str,
    at: usize,
}

/// What comes next in a start tag.
pub(in crate::webdav) enum Piece<'a> {
    /// An attribute, with its value as written.
    Attribute { name: &'a str, value: &'a str, value_at: usize },
    /// `>`.
    Open,
    /// `/>`.
    Empty,
}

impl<'a> StartTag<'a> {
    /// The tag in `text` whose name, or what comes after it, is at `at`.
    pub(in crate::webdav) fn new(text: &'a str, at: usize) -> Self {
        Self { text, at }
    }

    /// What is read up to now.
    pub(in crate::webdav) fn at(&self) -> usize {
        self.at
    }

    /// A name: whatever stands before what cannot be in one.
    pub(in crate::webdav) fn name(&mut self) -> &'a str {
        let start = self.at;
        self.skip(|byte| !matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | b'/' | b'>' | b'=' | b'"' | b'\'' | b'<'));
        &self.text[start..self.at]
    }

    /// What comes next; nothing after the end of the tag is sensible.
    pub(in crate::webdav) fn next_piece(&mut self) -> Result<Piece<'a>, ()> {
        self.spaces();
        match self.text.as_bytes()[self.at..] {
            [b'>', ..] => {
                self.at += 1;
                return Ok(Piece::Open);
            }
            [b'/', b'>', ..] => {
                self.at += 2;
                return Ok(Piece::Empty);
            }
            _ => {}
        }
        let name = self.name();
        self.spaces();
        let equals = self.take();
        self.spaces();
        let quote = self.take();
        match (equals, quote) {
            (Some(b'='), Some(quote @ (b'"' | b'\''))) if !name.is_empty() => {
                let value_at = self.at;
                self.skip(|byte| byte != quote);
                let value = &self.text[value_at..self.at];
                self.take().map(|_| Piece::Attribute { name, value, value_at }).ok_or(())
            }
            _ => Err(()),
        }
    }

    fn spaces(&mut self) {
        self.skip(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n'));
    }

    fn skip(&mut self, wanted: impl Fn(u8) -> bool) {
        let rest = &self.text.as_bytes()[self.at..];
        self.at += rest.iter().position(|byte| !wanted(*byte)).unwrap_or(rest.len());
    }

    fn take(&mut self) -> Option<u8> {
        let byte = self.text.as_bytes().get(self.at).copied();
        self.at += usize::from(byte.is_some());
        byte
    }
}
