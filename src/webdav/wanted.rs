//! `Wanted`: which of the two lock properties a PROPFIND asks for (RFC 4918 section 9.1), and in what form.

use roxmltree::Node;

use super::xml::{self, XmlError, dav_children, is_dav};

/// In what form a property is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// Not at all.
    No,
    /// Its name alone.
    Name,
    /// With its value.
    Value,
    /// With its value, which cannot be told at the moment.
    Unavailable,
    /// With its value, which is more than the layer writes.
    TooLong,
}

/// What a PROPFIND asks for of `lockdiscovery` and `supportedlock`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) lock_discovery: Form,
    pub(super) supported_lock: Form,
}

impl Wanted {
    const fn both(form: Form) -> Self {
        Self { lock_discovery: form, supported_lock: form }
    }

    /// Whether it asks for one of them at all.
    pub(super) fn is_anything(self) -> bool {
        self != Self::both(Form::No)
    }

    /// Reads the body of a PROPFIND; an empty one asks for everything.
    ///
    /// # Errors
    /// [`XmlError::Malformed`] for a body other than a `propfind` with one of `propname`, `allprop` and `prop`, and see
    /// there.
    pub(super) fn read(body: &[u8]) -> Result<Self, XmlError> {
        if body.is_empty() {
            return Ok(Self::both(Form::Value));
        }
        let text = xml::decode(body)?;
        let document = xml::parse(&text)?;
        let root = xml::root(&document, "propfind")?;
        let mut asked =
            root.children().filter(|child| ["propname", "allprop", "prop"].iter().any(|name| is_dav(child, name)));
        match (asked.next(), asked.next()) {
            (Some(asked), None) => Ok(Self::of(asked)),
            (Some(_), Some(_)) => Err(XmlError::malformed("propfind has more than one of propname, allprop and prop")),
            (None, _) => Err(XmlError::malformed("propfind has none of propname, allprop and prop")),
        }
    }

    fn of(asked: Node<'_, '_>) -> Self {
        // What `include` adds to `allprop` cannot be one of these two: they are there already.
        match asked.tag_name().name() {
            "propname" => Self::both(Form::Name),
            "allprop" => Self::both(Form::Value),
            _ => {
                let form = |name| if dav_children(asked, name).next().is_some() { Form::Value } else { Form::No };
                Self { lock_discovery: form("lockdiscovery"), supported_lock: form("supportedlock") }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Form::*, *};

    fn wanted(body: &str) -> Result<(Form, Form), XmlError> {
        Wanted::read(body.as_bytes()).map(|wanted| (wanted.lock_discovery, wanted.supported_lock))
    }

    #[test]
    fn all_is_asked_for_by_nothing_and_by_allprop() {
        assert_eq!(wanted(""), Ok((Value, Value)));
        assert_eq!(wanted("<propfind xmlns='DAV:'><allprop/></propfind>"), Ok((Value, Value)));
        let include =
            "<D:propfind xmlns:D='DAV:'><D:allprop/><D:include><D:supported-live-property-set/></D:include></D:propfind>";
        assert_eq!(wanted(include), Ok((Value, Value)));
    }

    #[test]
    fn names_are_asked_for_by_propname() {
        assert_eq!(wanted("<x:propfind xmlns:x='DAV:'>\n<x:propname/>\n</x:propfind>"), Ok((Name, Name)));
    }

    #[test]
    fn prop_asks_for_what_it_lists() {
        for (listed, forms) in [
            ("", (No, No)),
            ("<D:getetag/>", (No, No)),
            ("<D:lockdiscovery/>", (Value, No)),
            ("<D:getetag/><D:supportedlock></D:supportedlock>", (No, Value)),
            ("<lockdiscovery xmlns='DAV:'/><e:supportedlock xmlns:e='DAV:'/>", (Value, Value)),
            ("<lockdiscovery/><e:supportedlock xmlns:e='urn:e'/><!--<D:supportedlock/>-->", (No, No)),
            ("<e:x xmlns:e='urn:e'><D:lockdiscovery/></e:x>", (No, No)),
        ] {
            let body = format!("<D:propfind xmlns:D='DAV:'><D:prop>{listed}</D:prop></D:propfind>");
            assert_eq!(wanted(&body), Ok(forms), "{listed}");
        }
    }

    #[test]
    fn what_is_unknown_is_ignored() {
        let body = "<D:propfind a='b' xmlns:D='DAV:'>text<e:allprop xmlns:e='urn:e'/><D:prop e='f'><D:lockdiscovery/></D:prop><D:new/></D:propfind>";
        assert_eq!(wanted(body), Ok((Value, No)));
    }

    #[test]
    fn anything_else_is_malformed() {
        for body in [
            " ",
            "<D:propfind xmlns:D='DAV:'/>",
            "<propfind><allprop/></propfind>",
            "<allprop xmlns='DAV:'/>",
            "<propfind xmlns='DAV:'><allprop/><propname/></propfind>",
            "<propfind xmlns='DAV:'><prop/><prop/></propfind>",
            "<propfind xmlns='DAV:'><x><allprop/></x></propfind>",
            "<propfind xmlns='DAV:'><allprop/>",
            "<D:propfind><D:allprop/></D:propfind>",
        ] {
            assert!(matches!(wanted(body), Err(XmlError::Malformed(_))), "{body}");
        }
        assert_eq!(wanted("<!DOCTYPE propfind><propfind xmlns='DAV:'><allprop/></propfind>"), Err(XmlError::Dtd));
    }
}
