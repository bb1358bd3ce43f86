//! XML documents as owned trees with expanded names, for reading answers.

use std::ops::Index;

/// An element: its name as `{namespace}name`, its own text, and its child elements.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Xml {
    pub(crate) name: String,
    pub(crate) attributes: Vec<(String, String)>,
    /// All text directly in it, put together.
    pub(crate) text: String,
    pub(crate) children: Vec<Self>,
}

impl Xml {
    #[track_caller]
    pub(crate) fn parse(text: &str) -> Self {
        let document = roxmltree::Document::parse(text).unwrap_or_else(|error| panic!("{error}: {text}"));
        Self::of(document.root_element())
    }

    fn of(node: roxmltree::Node<'_, '_>) -> Self {
        let expanded = |namespace: Option<&str>, name: &str| match namespace {
            Some(namespace) => format!("{{{namespace}}}{name}"),
            None => name.to_owned(),
        };
        Self {
            name: expanded(node.tag_name().namespace(), node.tag_name().name()),
            attributes: node.attributes().map(|at| (expanded(at.namespace(), at.name()), at.value().to_owned())).collect(),
            text: node.children().filter(roxmltree::Node::is_text).filter_map(|text| text.text()).collect(),
            children: node.children().filter(roxmltree::Node::is_element).map(Self::of).collect(),
        }
    }

    /// Itself, if it has that name.
    #[track_caller]
    pub(crate) fn named(&self, name: &str) -> &Self {
        assert_eq!(self.name, name, "{self:#?}");
        self
    }

    /// The children of that name, `DAV:` unless it says.
    pub(crate) fn all<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a Self> + use<'a> {
        let name = if name.starts_with('{') { name.to_owned() } else { format!("{{DAV:}}{name}") };
        self.children.iter().filter(move |child| child.name == name)
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Self> {
        self.all(name).next()
    }

    /// Every element of that name, however deep.
    pub(crate) fn deep(&self, name: &str) -> Vec<&Self> {
        let mut found: Vec<_> = self.all(name).collect();
        for child in &self.children {
            found.extend(child.deep(name));
        }
        found
    }

    /// All text in it, however deep.
    pub(crate) fn whole_text(&self) -> String {
        self.children.iter().fold(self.text.clone(), |text, child| text + &child.whole_text())
    }
}

impl Index<&str> for Xml {
    type Output = Self;

    #[track_caller]
    fn index(&self, name: &str) -> &Self {
        self.get(name).unwrap_or_else(|| panic!("no {name} in {self:#?}"))
    }
}

/// A lock as an `activelock` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Active {
    pub(crate) scope: String,
    pub(crate) depth: String,
    pub(crate) owner: Option<Xml>,
    pub(crate) timeout: Option<String>,
    pub(crate) token: Option<String>,
    pub(crate) root: String,
}

impl Active {
    /// Reads an `activelock`, which has no more than one of each and nothing else of `DAV:`.
    #[track_caller]
    pub(crate) fn of(element: &Xml) -> Self {
        let known = ["lockscope", "locktype", "depth", "owner", "timeout", "locktoken", "lockroot"];
        for child in &element.children {
            let name = child.name.strip_prefix("{DAV:}");
            assert!(name.is_none_or(|name| known.contains(&name)), "{element:#?}");
        }
        for name in known {
            assert!(element.all(name).count() <= 1, "{element:#?}");
        }
        assert_eq!(element["locktype"].children[0].name, "{DAV:}write");
        let scope = element["lockscope"].children[0].name.strip_prefix("{DAV:}").expect("a scope").to_owned();
        Self {
            scope,
            depth: element["depth"].text.clone(),
            owner: element.get("owner").cloned(),
            timeout: element.get("timeout").map(|timeout| timeout.text.clone()),
            token: element.get("locktoken").map(|token| token["href"].text.clone()),
            root: element["lockroot"]["href"].text.clone(),
        }
    }

    /// Those in a `lockdiscovery`.
    #[track_caller]
    pub(crate) fn all(lockdiscovery: &Xml) -> Vec<Self> {
        lockdiscovery
            .named("{DAV:}lockdiscovery")
            .children
            .iter()
            .map(|child| Self::of(child.named("{DAV:}activelock")))
            .collect()
    }

    /// The only one in the answer to a LOCK.
    #[track_caller]
    pub(crate) fn only(answer: &Xml) -> Self {
        let all = Self::all(&answer.named("{DAV:}prop")["lockdiscovery"]);
        assert_eq!(all.len(), 1, "{all:?}");
        all.into_iter().next().expect("one")
    }
}

/// What a multistatus says of each resource: its href, and for each property its status and its element.
pub(crate) struct Found(pub(crate) Vec<(String, Vec<(u16, Xml)>)>);

impl Found {
    #[track_caller]
    pub(crate) fn of(multistatus: &Xml) -> Self {
        multistatus.named("{DAV:}multistatus");
        let responses = multistatus.all("response").map(|response| {
            let mut properties = Vec::new();
            for propstat in response.all("propstat") {
                let status = propstat["status"].text.split(' ').nth(1).and_then(|code| code.parse().ok());
                let status = status.expect("a status line");
                properties.extend(propstat["prop"].children.iter().map(|property| (status, property.clone())));
            }
            (response["href"].text.clone(), properties)
        });
        Self(responses.collect())
    }

    /// The property of a resource, which is there once, with its status.
    #[track_caller]
    pub(crate) fn property(&self, href: &str, name: &str) -> (u16, &Xml) {
        let response = self.0.iter().find(|(found, _)| found == href);
        let (_, properties) = response.unwrap_or_else(|| panic!("no {href}: {:?}", self.hrefs()));
        let name = if name.starts_with('{') { name.to_owned() } else { format!("{{DAV:}}{name}") };
        let mut found = properties.iter().filter(|(_, property)| property.name == name);
        let (status, property) = found.next().unwrap_or_else(|| panic!("no {name} of {href}: {properties:#?}"));
        assert!(found.next().is_none(), "two of {name} for {href}");
        (*status, property)
    }

    /// The locks on a resource.
    #[track_caller]
    pub(crate) fn locks(&self, href: &str) -> Vec<Active> {
        let (status, lockdiscovery) = self.property(href, "lockdiscovery");
        assert_eq!(status, 200);
        Active::all(lockdiscovery)
    }

    pub(crate) fn hrefs(&self) -> Vec<&str> {
        self.0.iter().map(|(href, _)| href.as_str()).collect()
    }
}
