//! `Multistatus`: a handler's 207, read for what it says and where the lock properties go (RFC 4918 sections 13 and 15).
//!
//! The document is not written anew. Reading makes a plan of cuts and of one place for each response, as offsets; applying
//! it copies everything else byte for byte. So the plan borrows nothing, and can be kept while locks are looked up.

use std::ops::Range;

use roxmltree::Node;

use super::{
    discovery::{LOCK_DISCOVERY_NAME, SUPPORTED_LOCK, SUPPORTED_LOCK_NAME},
    wanted::{Form, Wanted},
    xml::{self, Source, StartTag, XmlError, dav_children, is_dav, text_of},
};

#[cfg(test)]
mod tests;

/// A handler's multistatus.
#[derive(Clone, Debug)]
pub(super) struct Multistatus {
    responses: Vec<Response>,
    // Of the text that was read: the offsets are of no use in another.
    length: usize,
}

/// The `lockdiscovery` of a resource whose locks nobody can tell at the moment.
const UNAVAILABLE: &str = concat!(
    r#"<D:propstat xmlns:D="DAV:"><D:prop><D:lockdiscovery/></D:prop>"#,
    "<D:status>HTTP/1.1 503 Service Unavailable</D:status></D:propstat>"
);

/// The `lockdiscovery` of a resource in a listing where they all come to too much.
const TOO_LONG: &str = concat!(
    r#"<D:propstat xmlns:D="DAV:"><D:prop><D:lockdiscovery/></D:prop>"#,
    "<D:status>HTTP/1.1 507 Insufficient Storage</D:status></D:propstat>"
);

/// What a multistatus says of one resource, or of some that all failed alike.
#[derive(Clone, Debug)]
pub(super) struct Response {
    hrefs: Vec<String>,
    status: Option<u16>,
    // Those that hold a lock property, in order.
    cuts: Vec<Cut>,
    // Whether nothing is left once everything that can be cut is.
    all_cut: bool,
    place: Option<Place>,
    // Where another propstat would go: after all others, or after the hrefs.
    end: Option<usize>,
}

/// A propstat with lock properties of the handler's.
#[derive(Clone, Debug)]
struct Cut {
    propstat: Range<usize>,
    properties: Vec<Range<usize>>,
    // Whether it has no other property.
    emptied: bool,
}

/// Where the lock properties go. In a propstat that the handler made, this is known by where it starts.
#[derive(Clone, Debug)]
enum Place {
    /// Into a `prop`, before its end tag.
    Inside { propstat: usize, at: usize },
    /// Into a `prop` of this name that is one empty-element tag, whose `/>` is here.
    Opened { propstat: usize, slash: Range<usize>, name: String },
    /// Here, in a propstat of their own.
    Apart { at: usize },
}

impl Multistatus {
    /// Reads a multistatus.
    ///
    /// # Errors
    /// [`XmlError::Malformed`] for a document other than a `multistatus`, and see there.
    pub(super) fn read(text: &str) -> Result<Self, XmlError> {
        let document = xml::parse_from(Source::Handler, text)?;
        let root = xml::root(&document, "multistatus")?;
        let responses = dav_children(root, "response").map(|response| Response::read(text, response)).collect();
        Ok(Self { responses, length: text.len() })
    }

    /// Its responses, in order.
    pub(super) fn responses(&self) -> &[Response] {
        &self.responses
    }

    /// `text`, the very one that was read, with the lock properties that are wanted in every response that has properties,
    /// and without the handler's own. `value` makes the `lockdiscovery` element of a response, by its index.
    pub(super) fn apply(&self, text: &str, wanted: Wanted, mut value: impl FnMut(usize) -> String) -> String {
        debug_assert_eq!(text.len(), self.length, "another text");
        let mut out = String::with_capacity(text.len() + 256 * self.responses.len());
        let mut copied = 0;
        for (index, response) in self.responses.iter().enumerate() {
            let (mut ours, mut beside) = (String::new(), "");
            if response.place.is_some() {
                match wanted.lock_discovery {
                    Form::No => {}
                    Form::Unavailable => beside = UNAVAILABLE,
                    Form::TooLong => beside = TOO_LONG,
                    Form::Name => ours.push_str(LOCK_DISCOVERY_NAME),
                    Form::Value => ours.push_str(&value(index)),
                }
                match wanted.supported_lock {
                    Form::No => {}
                    Form::Name => ours.push_str(SUPPORTED_LOCK_NAME),
                    // Known, whatever the store says.
                    Form::Value | Form::Unavailable | Form::TooLong => ours.push_str(SUPPORTED_LOCK),
                }
            }
            for (range, instead) in response.edits(&ours, beside) {
                out.push_str(text.get(copied..range.start).unwrap_or_default());
                out.push_str(&instead);
                copied = range.end;
            }
        }
        out.push_str(text.get(copied..).unwrap_or_default());
        out
    }
}

impl Response {
    /// Its hrefs as written, but for entities and space around them. More than one only where it has a status.
    pub(super) fn hrefs(&self) -> &[String] {
        &self.hrefs
    }

    /// The status of the resource as a whole; none where it has properties instead.
    pub(super) fn status(&self) -> Option<u16> {
        self.status
    }

    fn read(text: &str, response: Node<'_, '_>) -> Self {
        let mut read = Self { hrefs: Vec::new(), status: None, cuts: Vec::new(), all_cut: true, place: None, end: None };
        for href in dav_children(response, "href") {
            read.hrefs.push(text_of(&href).trim().to_owned());
            read.end = Some(href.range().end);
        }
        let mut propstats = dav_children(response, "propstat").peekable();
        if propstats.peek().is_none()
            && let Some(status) = dav_children(response, "status").next()
        {
            // What failed as a whole has no properties to put these beside.
            read.status = status_of(&status);
            return read;
        }
        for propstat in propstats {
            read.end = read.end.map(|_| propstat.range().end);
            let cut = Cut::read(propstat);
            read.all_cut &= cut.emptied;
            if !cut.properties.is_empty() {
                read.cuts.push(cut);
            }
            let ok = dav_children(propstat, "status").next().and_then(|status| status_of(&status)) == Some(200);
            if ok && read.place.is_none() {
                read.place = dav_children(propstat, "prop").next().map(|prop| Place::within(text, propstat, prop));
            }
        }
        // Of a response without a href there is nothing to say.
        read.place = read.end.map(|at| read.place.unwrap_or(Place::Apart { at }));
        read
    }

    /// What of the text becomes what else, in order, where `ours` is put among the properties and `beside` behind all of
    /// them.
    fn edits(&self, ours: &str, beside: &str) -> Vec<(Range<usize>, String)> {
        let place = self.place.as_ref().filter(|_| !ours.is_empty());
        let receiver = place.and_then(Place::propstat);
        // A response has to have a propstat. With none of ours to come, its first stays, empty.
        let mut spare = self.all_cut && place.is_none() && beside.is_empty();
        let mut edits = Vec::new();
        for cut in &self.cuts {
            if cut.emptied && receiver != Some(cut.propstat.start) && !std::mem::take(&mut spare) {
                edits.push((cut.propstat.clone(), String::new()));
            } else {
                edits.extend(cut.properties.iter().map(|property| (property.clone(), String::new())));
            }
        }
        edits.extend(place.map(|place| place.put(ours)));
        edits.extend(self.end.filter(|_| !beside.is_empty()).map(|at| (at..at, beside.to_owned())));
        edits.sort_by_key(|(range, _)| range.start);
        edits
    }
}

impl Cut {
    fn read(propstat: Node<'_, '_>) -> Self {
        let properties = dav_children(propstat, "prop").flat_map(|prop| prop.children()).filter(Node::is_element);
        let (ours, others): (Vec<_>, Vec<_>) =
            properties.partition(|property| is_dav(property, "lockdiscovery") || is_dav(property, "supportedlock"));
        Self {
            propstat: propstat.range(),
            emptied: !ours.is_empty() && others.is_empty(),
            properties: ours.into_iter().map(|property| property.range()).collect(),
        }
    }
}

impl Place {
    fn within(text: &str, propstat: Node<'_, '_>, prop: Node<'_, '_>) -> Self {
        let propstat = propstat.range().start;
        let range = prop.range();
        if text[range.clone()].ends_with("/>") {
            let name = StartTag::new(text, range.start + 1).name().to_owned();
            return Self::Opened { propstat, slash: range.end - 2..range.end, name };
        }
        // An end tag has no `<` but its first.
        Self::Inside { propstat, at: text[range.clone()].rfind('<').map_or(range.end, |end_tag| range.start + end_tag) }
    }

    /// Where the propstat of the handler's starts that this is in.
    fn propstat(&self) -> Option<usize> {
        match self {
            Self::Inside { propstat, .. } | Self::Opened { propstat, .. } => Some(*propstat),
            Self::Apart { .. } => None,
        }
    }

    /// The edit that puts `ours` here.
    fn put(&self, ours: &str) -> (Range<usize>, String) {
        match self {
            Self::Inside { at, .. } => (*at..*at, ours.to_owned()),
            Self::Opened { slash, name, .. } => (slash.clone(), format!(">{ours}</{name}>")),
            Self::Apart { at } => {
                let before = r#"<D:propstat xmlns:D="DAV:"><D:prop>"#;
                let after = "</D:prop><D:status>HTTP/1.1 200 OK</D:status></D:propstat>";
                (*at..*at, format!("{before}{ours}{after}"))
            }
        }
    }
}

/// The code in a `status` element: the second word of its line (RFC 4918 section 14.28).
pub(super) fn status_of(status: &Node<'_, '_>) -> Option<u16> {
    let line = text_of(status);
    let mut words = line.split_whitespace().skip_while(|word| word.starts_with("HTTP/"));
    words.next()?.parse().ok()
}
