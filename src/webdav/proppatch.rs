//! `Patch`: what a PROPPATCH changes (RFC 4918 section 9.2), and the answer where it would change a lock property.

use std::collections::HashSet;

use super::xml::{self, DAV, DECLARATION, XmlError, dav_children, escape, is_dav, namespace};

/// The body of a PROPPATCH.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Patch {
    // Every property that is set or removed, once, in the order of the body.
    properties: Vec<Property>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Property {
    namespace: Option<String>,
    name: String,
}

impl Property {
    /// Whether it is one that only LOCK and UNLOCK change (RFC 4918 sections 15.8 and 15.10).
    fn is_of_locks(&self) -> bool {
        self.namespace.as_deref() == Some(DAV) && matches!(&*self.name, "lockdiscovery" | "supportedlock")
    }

    /// Appends the property as an empty element, in a document whose `D` is DAV and that has no default namespace.
    fn write(&self, out: &mut String) {
        out.push('<');
        match self.namespace.as_deref() {
            Some(DAV) => {
                out.push_str("D:");
                out.push_str(&self.name);
            }
            Some(other) => {
                out.push_str(&self.name);
                out.push_str(" xmlns=\"");
                escape(out, other);
                out.push('"');
            }
            None => out.push_str(&self.name),
        }
        out.push_str("/>");
    }
}

impl Patch {
    /// Reads the body of a PROPPATCH.
    ///
    /// # Errors
    /// [`XmlError::Malformed`] for a body other than a `propertyupdate`, and see there.
    pub(super) fn read(body: &[u8]) -> Result<Self, XmlError> {
        let text = xml::decode(body)?;
        let document = xml::parse(&text)?;
        let root = xml::root(&document, "propertyupdate")?;
        let mut seen = HashSet::new();
        let properties = root
            .children()
            .filter(|change| is_dav(change, "set") || is_dav(change, "remove"))
            .flat_map(|change| dav_children(change, "prop"))
            .flat_map(|prop| prop.children().filter(roxmltree::Node::is_element))
            .map(|property| (namespace(&property), property.tag_name().name()))
            .filter(|property| seen.insert(*property))
            .map(|(namespace, name)| Property { namespace: namespace.map(str::to_owned), name: name.to_owned() })
            .collect();
        Ok(Self { properties })
    }

    /// Whether it sets or removes `lockdiscovery` or `supportedlock`.
    pub(super) fn touches_lock_properties(&self) -> bool {
        self.properties.iter().any(Property::is_of_locks)
    }

    /// The `multistatus` that refuses the whole of it, for the lock properties' sake. `href` is written as it is, escaped.
    pub(super) fn refusal(&self, href: &str) -> String {
        let mut out = format!(r#"{DECLARATION}<D:multistatus xmlns:D="DAV:"><D:response><D:href>"#);
        escape(&mut out, href);
        out.push_str("</D:href>");
        let (protected, others): (Vec<_>, Vec<_>) = self.properties.iter().partition(|property| property.is_of_locks());
        for (properties, outcome) in [
            (
                protected,
                "<D:status>HTTP/1.1 403 Forbidden</D:status><D:error><D:cannot-modify-protected-property/></D:error>",
            ),
            (others, "<D:status>HTTP/1.1 424 Failed Dependency</D:status>"),
        ] {
            if !properties.is_empty() {
                out.push_str("<D:propstat><D:prop>");
                properties.into_iter().for_each(|property| property.write(&mut out));
                out.push_str("</D:prop>");
                out.push_str(outcome);
                out.push_str("</D:propstat>");
            }
        }
        out.push_str("</D:response></D:multistatus>");
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(changes: &str) -> Patch {
        Patch::read(format!("<D:propertyupdate xmlns:D='DAV:'>{changes}</D:propertyupdate>").as_bytes()).unwrap()
    }

    /// What a refusal says: each property's namespace, name and status.
    fn said(refusal: &str) -> Vec<(Option<String>, String, String)> {
        let document = roxmltree::Document::parse(refusal).unwrap();
        let response = dav_children(document.root_element(), "response").next().unwrap();
        dav_children(response, "propstat")
            .flat_map(|propstat| {
                let status = dav_children(propstat, "status").next().unwrap().text().unwrap()[9..12].to_owned();
                let protected = propstat.descendants().any(|node| is_dav(&node, "cannot-modify-protected-property"));
                assert_eq!(protected, status == "403");
                let prop = dav_children(propstat, "prop").next().unwrap();
                prop.children().map(move |property| {
                    let name = property.tag_name().name().to_owned();
                    (namespace(&property).map(str::to_owned), name, status.clone())
                })
            })
            .collect()
    }

    #[test]
    fn a_patch_of_a_lock_property_is_seen_wherever_it_is() {
        for changes in [
            "<D:set><D:prop><D:lockdiscovery/></D:prop></D:set>",
            "<D:remove><D:prop><D:supportedlock/></D:prop></D:remove>",
            "<D:set><D:prop><e/></D:prop></D:set><D:remove><D:prop><x:supportedlock xmlns:x='DAV:'/></D:prop></D:remove>",
            "<D:set><D:prop/><D:prop><lockdiscovery xmlns='DAV:'>x</lockdiscovery></D:prop></D:set>",
        ] {
            assert!(read(changes).touches_lock_properties(), "{changes}");
        }
        for changes in [
            "",
            "<D:set/>",
            "<D:set><D:prop><lockdiscovery/><supportedlock xmlns='urn:e'/></D:prop></D:set>",
            "<D:set><D:prop><e><D:lockdiscovery/></e></D:prop></D:set>",
            "<D:set><D:prop><e><!--<D:lockdiscovery/>--><![CDATA[<D:lockdiscovery/>]]></e></D:prop></D:set>",
            "<e:set xmlns:e='urn:e'><D:prop><D:lockdiscovery/></D:prop></e:set>",
        ] {
            assert!(!read(changes).touches_lock_properties(), "{changes}");
        }
    }

    #[test]
    fn a_refusal_names_every_property_once() {
        let patch = read(
            "<D:set><D:prop><plain>1</plain><D:displayname>2</D:displayname><D:lockdiscovery/></D:prop></D:set>\
             <D:remove><D:prop><x:a xmlns:x='urn:&lt;&amp;\"x'/><plain/></D:prop></D:remove>\
             <D:set><D:prop><D:lockdiscovery/><a xmlns='urn:y'/></D:prop></D:set>",
        );
        let of = |namespace: Option<&str>, name: &str, status: &str| {
            (namespace.map(str::to_owned), name.to_owned(), status.to_owned())
        };
        assert_eq!(
            said(&patch.refusal("/a&b/<c>")),
            [
                of(Some("DAV:"), "lockdiscovery", "403"),
                of(None, "plain", "424"),
                of(Some("DAV:"), "displayname", "424"),
                of(Some("urn:<&\"x"), "a", "424"),
                of(Some("urn:y"), "a", "424"),
            ]
        );
    }

    #[test]
    fn a_refusal_is_for_its_href() {
        let refusal = read("<D:set><D:prop><D:supportedlock/></D:prop></D:set>").refusal("/a&b/<c>");
        let document = roxmltree::Document::parse(&refusal).unwrap();
        let href = document.descendants().find(|node| is_dav(node, "href")).unwrap();
        assert_eq!(href.text(), Some("/a&b/<c>"));
        assert!(!refusal.contains("424"), "there is nothing that depends");
    }

    #[test]
    fn another_root_is_malformed() {
        for body in ["", "<propertyupdate/>", "<D:set xmlns:D='DAV:'/>", "<propertyupdate xmlns='DAV:'>"] {
            assert!(matches!(Patch::read(body.as_bytes()), Err(XmlError::Malformed(_))), "{body}");
        }
    }
}
