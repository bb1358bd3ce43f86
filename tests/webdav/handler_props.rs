//! The properties of the handler in the tests: PROPFIND in every shape, PROPPATCH, and the 207 of a partial failure.

use bytes::Bytes;
use http::{Response, StatusCode, request::Parts};
use http_body_util::Full;

use super::{
    handler::{Resource, Tree, below, parent},
    shape::{LockProps, Shape},
};

type Name = (String, String);

const LIVE: [&str; 3] = ["resourcetype", "getcontentlength", "getetag"];
const LOCK_PROPS: [&str; 2] = ["lockdiscovery", "supportedlock"];

fn multistatus(shape: &Shape, content: &str) -> Response<Full<Bytes>> {
    let text = shape.write("multistatus", content);
    let length = text.len();
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = StatusCode::MULTI_STATUS;
    response.headers_mut().insert("content-type", "application/xml; charset=utf-8".parse().unwrap());
    response.headers_mut().insert("content-length", length.into());
    response
}

fn status_line(status: u16) -> String {
    let status = StatusCode::from_u16(status).unwrap();
    format!("<D:status>HTTP/1.1 {} {}</D:status>", status.as_u16(), status.canonical_reason().unwrap())
}

/// 207 with each of `kept`.
pub(crate) fn partial(shape: &Shape, kept: &[&str], status: u16) -> Response<Full<Bytes>> {
    let responses = kept
        .iter()
        .map(|path| format!("<D:response><D:href>{}</D:href>{}</D:response>", shape.href(path, false), status_line(status)));
    multistatus(shape, &responses.collect::<String>())
}

enum Asked {
    All(Vec<Name>),
    Names,
    These(Vec<Name>),
}

fn asked(body: &[u8]) -> Option<Asked> {
    if body.is_empty() {
        return Some(Asked::All(Vec::new()));
    }
    let document = roxmltree::Document::parse(std::str::from_utf8(body).ok()?).ok()?;
    let names = |node: roxmltree::Node<'_, '_>| -> Vec<Name> {
        let elements = node.children().filter(roxmltree::Node::is_element);
        elements.map(|child| (child.tag_name().namespace().unwrap_or("").into(), child.tag_name().name().into())).collect()
    };
    let child = |name| document.root_element().children().find(|child| child.has_tag_name(("DAV:", name)));
    Some(if let Some(prop) = child("prop") {
        Asked::These(names(prop))
    } else if child("propname").is_some() {
        Asked::Names
    } else {
        child("allprop")?;
        Asked::All(child("include").map(names).unwrap_or_default())
    })
}

/// The content of a property, or nothing where there is none.
fn value(shape: &Shape, resource: &Resource, (namespace, name): &Name) -> Option<String> {
    if let Some(text) = resource.props.get(&(namespace.clone(), name.clone())) {
        return Some(text.clone());
    }
    match (namespace.as_str(), name.as_str()) {
        ("DAV:", "resourcetype") => Some(String::from(if resource.content.is_none() { "<D:collection/>" } else { "" })),
        ("DAV:", "getcontentlength") => resource.content.as_ref().map(|content| content.len().to_string()),
        ("DAV:", "getetag") => resource.etag.clone().map(|etag| etag.replace('"', "&quot;")),
        ("DAV:", "lockdiscovery" | "supportedlock") if shape.lock_props == LockProps::Empty => Some(String::new()),
        _ => None,
    }
}

fn element((namespace, name): &Name, content: &str) -> String {
    match (namespace.as_str(), content) {
        ("DAV:", "") => format!("<D:{name}/>"),
        ("DAV:", _) => format!("<D:{name}>{content}</D:{name}>"),
        _ => format!("<N:{name} xmlns:N=\"{namespace}\">{content}</N:{name}>"),
    }
}

fn propstat(found: &str, status: u16) -> String {
    if found.is_empty() {
        return String::new();
    }
    format!("<D:propstat><D:prop>{found}</D:prop>{}</D:propstat>", status_line(status))
}

pub(crate) fn propfind(shape: &Shape, tree: &Tree, head: &Parts, path: &str, body: &[u8]) -> Response<Full<Bytes>> {
    let Some(asked) = asked(body) else {
        let mut response = Response::new(Full::default());
        *response.status_mut() = StatusCode::BAD_REQUEST;
        return response;
    };
    let depth = head.headers.get("depth").map_or("infinity", |depth| depth.to_str().unwrap_or("?"));
    let members = tree.iter().filter(|(at, _)| match depth {
        "0" => *at == path,
        "1" => *at == path || parent(at) == Some(path),
        _ => below(at, path),
    });
    let content = members.map(|(at, resource)| {
        let dav = |name: &str| (String::from("DAV:"), String::from(name));
        let mut all: Vec<Name> = LIVE.map(dav).into();
        if shape.lock_props == LockProps::Empty {
            all.extend(LOCK_PROPS.map(dav));
        }
        all.extend(resource.props.keys().cloned());
        all.retain(|name| value(shape, resource, name).is_some());
        let (mut found, mut missing) = (String::new(), String::new());
        match &asked {
            Asked::Names => found.extend(all.iter().map(|name| element(name, ""))),
            Asked::All(include) => {
                let more: Vec<_> = include.iter().filter(|name| !all.contains(name)).cloned().collect();
                for name in all.iter().chain(&more) {
                    if let Some(text) = value(shape, resource, name) {
                        found += &element(name, &text);
                    }
                }
            }
            Asked::These(names) => {
                for name in names {
                    let lock_prop = name.0 == "DAV:" && LOCK_PROPS.contains(&name.1.as_str());
                    match value(shape, resource, name) {
                        Some(text) => found += &element(name, &text),
                        None if lock_prop && shape.lock_props == LockProps::Absent => {}
                        None => missing += &element(name, ""),
                    }
                }
            }
        }
        let mut stats = propstat(&found, 200) + &propstat(&missing, 404);
        if stats.is_empty() {
            // A response has to have something.
            stats = format!("<D:propstat><D:prop/>{}</D:propstat>", status_line(200));
        }
        format!("<D:response><D:href>{}</D:href>{stats}</D:response>", shape.href(at, resource.content.is_none()))
    });
    multistatus(shape, &content.collect::<String>())
}

/// Stores whatever it is told, in the order of the instructions.
pub(crate) fn proppatch(resource: &mut Resource, head: &Parts, body: &[u8]) -> Option<Response<Full<Bytes>>> {
    let document = roxmltree::Document::parse(std::str::from_utf8(body).ok()?).ok()?;
    let mut names = String::new();
    for instruction in document.root_element().children().filter(roxmltree::Node::is_element) {
        let prop = instruction.children().find(|child| child.has_tag_name(("DAV:", "prop")))?;
        for property in prop.children().filter(roxmltree::Node::is_element) {
            let name = (property.tag_name().namespace().unwrap_or("").to_owned(), property.tag_name().name().to_owned());
            names += &element(&name, "");
            if instruction.has_tag_name(("DAV:", "remove")) {
                resource.props.remove(&name);
            } else {
                resource.props.insert(name, property.text().unwrap_or("").into());
            }
        }
    }
    let href = Shape::default().href(head.uri.path(), false);
    let content = format!("<D:response><D:href>{href}</D:href>{}</D:response>", propstat(&names, 200));
    Some(multistatus(&Shape::default(), &content))
}
