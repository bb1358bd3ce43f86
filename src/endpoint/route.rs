//! From a path and a query to what a request is about, and from its method to what it wants.
//!
//! A resource is always named by the path that it has in a request target, percent-encoded; then the resolver makes the
//! key, exactly as for a write. In `?resource=` that path is one form-encoded
//! value, so a percent sign of the path stands as `%25` there: `/locks/a%20b` and `?resource=/a%2520b` both name what
//! `PUT /a%20b` writes. A canonical path, as in `resource` of a lock, names its own resource too.

use std::sync::Arc;

use http::{Method, Uri};

use crate::{
    lock::LockId,
    locks::{Refusal, RefusalCode},
    request::Role,
};

/// Where in a path the resource stands.
#[derive(Clone, Debug)]
pub(super) enum Place {
    /// It is the whole path: an outer router has stripped the rest.
    Whole,
    /// It follows this prefix, which starts with a slash and does not end with one.
    Under(Arc<str>),
    /// It is all but the last segment, which is this.
    Before(Arc<str>),
}

/// What a request is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// All the locks.
    List,
    /// The locks of the resource at this path: named in full ([`Role::Root`]), or cut from the request's own
    /// ([`Role::Target`]), which a router outside may have stripped as it strips a write's.
    Resource(String, Role),
    /// One lock.
    Lock(LockId),
}

/// What a request wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    Inspect,
    List,
    Acquire,
    AcquireAll,
    Check,
    Refresh,
    Release,
    Act,
    Describe,
}

impl Place {
    pub(super) fn under(path: &str) -> Self {
        match path.trim_matches('/') {
            "" => Self::Whole,
            path => Self::Under(format!("/{path}").into()),
        }
    }

    pub(super) fn before(segment: &str) -> Self {
        match segment.trim_matches('/') {
            "" => Self::Whole,
            segment => Self::Before(segment.into()),
        }
    }

    /// The target that `path` alone names.
    fn target(&self, path: &str) -> Option<Target> {
        let rest = match self {
            Self::Whole => path,
            Self::Under(mount) => path.strip_prefix(&**mount)?,
            Self::Before(suffix) => {
                let resource = path.strip_suffix(&**suffix)?.strip_suffix('/')?;
                let resource = if resource.is_empty() { "/" } else { resource };
                return Some(Target::Resource(resource.to_owned(), Role::Target));
            }
        };
        match rest {
            "" | "/" => Some(Target::List),
            // `/locksmith` does not lie under `/locks`, and `*` under nothing.
            rest if rest.starts_with('/') => Some(Target::Resource(rest.to_owned(), Role::Root)),
            _ => None,
        }
    }

    /// The target of a request: `?id=` and `?resource=` go before the path.
    pub(super) fn route(&self, uri: &Uri, query: &Query) -> Result<Target, Refusal> {
        let by_path = self.target(uri.path());
        match (query.get("id"), query.get("resource")) {
            (Some(_), Some(_)) => Err(Refusal::bad_request("id, resource: give one of these parameters, not both")),
            (Some(id), None) => id.parse().map(Target::Lock).map_err(|_| Refusal::bad_request("id: this is no lock id")),
            (None, Some(resource)) => named("resource", resource).map(|path| Target::Resource(path.to_owned(), Role::Root)),
            (None, None) => by_path.ok_or_else(|| Refusal::new(RefusalCode::NoSuchLock, "No lock is managed at this path.")),
        }
    }
}

/// A path that stands in a parameter or a body. Without its slash it would be read as the root, as in a request target.
pub(super) fn named<'p>(what: &str, path: &'p str) -> Result<&'p str, Refusal> {
    if path.starts_with('/') { Ok(path) } else { Err(Refusal::bad_request(format!("{what}: a path starts with a slash"))) }
}

impl Verb {
    pub(super) fn of(method: &Method, target: &Target) -> Option<Self> {
        Some(match (method.as_str(), target) {
            ("OPTIONS", _) => Self::Describe,
            ("GET" | "HEAD", Target::List) => Self::List,
            ("GET" | "HEAD", _) => Self::Inspect,
            ("PUT", Target::Resource(..)) => Self::Acquire,
            ("POST", Target::List) => Self::AcquireAll,
            ("POST", _) => Self::Act,
            ("PATCH", Target::Resource(..) | Target::Lock(_)) => Self::Refresh,
            ("DELETE", Target::Resource(..) | Target::Lock(_)) => Self::Release,
            _ => return None,
        })
    }

    /// The methods that a target knows, as `Allow` names them.
    pub(super) fn allowed(target: &Target) -> &'static str {
        match target {
            Target::List => "GET, HEAD, POST, OPTIONS",
            Target::Resource(..) => "GET, HEAD, PUT, PATCH, DELETE, POST, OPTIONS",
            Target::Lock(_) => "GET, HEAD, PATCH, DELETE, POST, OPTIONS",
        }
    }
}

/// The parameters of a request that the endpoint reads. Others are not looked at: an application may have its own.
#[derive(Clone, Debug, Default)]
pub(super) struct Query {
    parameters: Vec<(&'static str, String)>,
}

impl Query {
    const KNOWN: [&'static str; 8] = ["resource", "id", "prefix", "owner", "kind", "older_than", "limit", "cursor"];

    pub(super) fn parse(uri: &Uri) -> Result<Self, Refusal> {
        let mut query = Self::default();
        for (name, value) in form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes()) {
            let Some(known) = Self::KNOWN.into_iter().find(|known| *known == name) else { continue };
            if query.get(known).is_some() {
                // Whoever checks the request outside may have looked at the other one.
                return Err(Refusal::bad_request(format!("{known}: the parameter is given twice")));
            }
            query.parameters.push((known, value.into_owned()));
        }
        Ok(query)
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str())
    }

    /// The same query for the page after `cursor`, form-encoded.
    pub(super) fn page_after(&self, cursor: &str) -> String {
        let rest = self.parameters.iter().filter(|(name, _)| *name != "cursor");
        form_urlencoded::Serializer::new(String::new())
            .extend_pairs(rest.map(|(name, value)| (*name, value.as_str())))
            .append_pair("cursor", cursor)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(place: &Place, uri: &str) -> Result<Target, Refusal> {
        let uri: Uri = uri.parse().unwrap();
        place.route(&uri, &Query::parse(&uri)?)
    }

    fn resource(path: &str) -> Target {
        Target::Resource(path.to_owned(), Role::Root)
    }

    fn cut(path: &str) -> Target {
        Target::Resource(path.to_owned(), Role::Target)
    }

    #[test]
    fn the_path_names_list_or_resource_wherever_the_endpoint_is() {
        let under = Place::under("/locks/");
        let before = Place::before("lock");
        for (place, uri, expected) in [
            (&Place::Whole, "/", Target::List),
            (&Place::Whole, "/a%20b/c/", resource("/a%20b/c/")),
            (&Place::Whole, "/?resource=/", resource("/")),
            (&Place::Whole, "/a?resource=/b%2520c", resource("/b%20c")),
            (&under, "/locks", Target::List),
            (&under, "/locks/", Target::List),
            (&under, "/locks//", resource("//")),
            (&under, "/locks/a/b", resource("/a/b")),
            (&under, "http://host/locks/a", resource("/a")),
            (&before, "/cases/4711/lock", cut("/cases/4711")),
            (&before, "/lock", cut("/")),
            (&before, "/a//lock", cut("/a/")),
        ] {
            assert_eq!(target(place, uri).unwrap(), expected, "{uri}");
        }
        for (place, uri) in [(&under, "/locksmith"), (&under, "/x"), (&before, "/padlock"), (&Place::Whole, "*")] {
            assert_eq!(target(place, uri).unwrap_err().status(), 404, "{uri}");
        }
    }

    #[test]
    fn parameters_that_are_no_names_are_refused() {
        for (uri, what) in [
            ("/?resource=a", "resource"),
            ("/?resource=", "resource"),
            ("/?id=x", "id"),
            ("/?id=&id=", "id"),
            ("/?cursor=a&cursor=b", "cursor"),
            ("/?resource=/a&id=f81d4fae-7dec-11d0-a765-00a0c91e6bf6", "id, resource"),
        ] {
            let refusal = target(&Place::Whole, uri).unwrap_err();
            assert_eq!(refusal.status(), 400, "{uri}");
            assert!(refusal.to_string().starts_with(what), "{uri}: {refusal}");
        }
    }

    #[test]
    fn the_next_page_keeps_the_filters() {
        let query = Query::parse(&"/?kind=job&cursor=old&x=1&prefix=/a%20b".parse().unwrap()).unwrap();
        assert_eq!(query.page_after("1/ü"), "kind=job&prefix=%2Fa+b&cursor=1%2F%C3%BC");
    }
}
