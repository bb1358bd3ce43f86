//! `ResolveTargets`: which resource a request means, as the application tells it.

use std::{borrow::Cow, fmt, iter::Chain, option, slice, sync::Arc, vec};

use super::RequestView;
use crate::lock::{KeyError, KeyRules, ResourceKey};

/// What part of a request a path was taken from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Role {
    /// The request target.
    Target,
    /// The `Destination` header (RFC 4918 section 10.3).
    Destination,
    /// A resource tag of the `If` header (RFC 4918 section 10.4).
    Tag,
    /// The root of a lock, named to the lock endpoint.
    Root,
}

/// What a resolver is asked: which resource is meant by a path of a request.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Ask<'r> {
    /// The request. For [`Role::Root`], the one to the endpoint.
    pub request: RequestView<'r>,
    /// Where the path stands.
    pub role: Role,
    /// The path as it was sent: percent-encoded, without query and fragment. The query of the request target is in
    /// `request.uri`; that of other roles is not kept.
    pub path: &'r str,
}

impl<'r> Ask<'r> {
    /// A question about `path`.
    #[must_use]
    pub fn new(request: RequestView<'r>, role: Role, path: &'r str) -> Self {
        Self { request, role, path }
    }

    /// A question about the target of `request`.
    #[must_use]
    pub fn target(request: RequestView<'r>) -> Self {
        Self::new(request, Role::Target, request.uri.path())
    }

    /// The value of a header field that says which resource is meant, such as a piece of gRPC metadata.
    ///
    /// # Errors
    /// [`KeyError::Unresolved`] where the field is missing, is no visible ASCII, or comes twice: the service might read the
    /// other one.
    pub fn field(&self, name: &str) -> Result<&'r str, KeyError> {
        let mut fields = self.request.headers.get_all(name).iter();
        match (fields.next(), fields.next()) {
            (Some(field), None) => field.to_str().map_err(|_| KeyError::Unresolved),
            _ => Err(KeyError::Unresolved),
        }
    }
}

/// Which resources a path means: none, one or several.
#[derive(Clone, Debug)]
pub struct Resolved<'r> {
    keys: Keys<'r>,
    known: Known,
}

/// Mostly one, which is passed on without a loop.
#[derive(Clone, Debug)]
enum Keys<'r> {
    One(ResourceKey<'r>),
    Many(Vec<ResourceKey<'r>>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    Existing,
    Unsure,
}

impl<'r> Resolved<'r> {
    /// One resource.
    #[must_use]
    #[inline]
    pub fn key(key: ResourceKey<'r>) -> Self {
        Self { keys: Keys::One(key), known: Known::Unsure }
    }

    /// Several resources: each is checked as if it stood alone. Those that come twice count twice towards the limit.
    #[must_use]
    pub fn keys(keys: impl IntoIterator<Item = ResourceKey<'r>>) -> Self {
        let mut keys = keys.into_iter();
        let keys = match (keys.next(), keys.next()) {
            (Some(key), None) => Keys::One(key),
            (first, second) => Keys::Many(first.into_iter().chain(second).chain(keys).collect()),
        };
        Self { keys, known: Known::Unsure }
    }

    /// Nothing that can be locked: the request goes by every lock. A path that the resolver does not know is no such
    /// case; say [`KeyError::Unresolved`] there, or the path becomes a way round locks.
    #[must_use]
    pub fn nothing() -> Self {
        Self { keys: Keys::Many(Vec::new()), known: Known::Unsure }
    }

    /// They all exist, for certain: a PUT or PATCH then leaves the parent's membership alone, and needs no token of a
    /// depth-zero lock on the parent. To say so of one that does not exist lets such a lock be passed by.
    #[must_use]
    pub fn existing(mut self) -> Self {
        self.known = Known::Existing;
        self
    }

    /// The resources.
    #[must_use]
    pub fn as_slice(&self) -> &[ResourceKey<'r>] {
        match &self.keys {
            Keys::One(key) => slice::from_ref(key),
            Keys::Many(keys) => keys,
        }
    }

    /// Whether they are known to exist.
    #[must_use]
    #[inline]
    pub fn is_existing(&self) -> bool {
        self.known == Known::Existing
    }

    /// The same resources, owning their text: good for any lifetime.
    #[must_use]
    pub fn into_owned<'o>(self) -> Resolved<'o> {
        let keys = match self.keys {
            Keys::One(key) => Keys::One(key.into_owned()),
            Keys::Many(keys) => Keys::Many(keys.into_iter().map(|key| -> ResourceKey<'o> { key.into_owned() }).collect()),
        };
        Resolved { keys, known: self.known }
    }

    /// The same resources in `namespace`, but for those that the resolver itself put into one.
    #[must_use]
    #[inline]
    pub fn in_namespace(self, namespace: Option<&Cow<'r, str>>) -> Self {
        match namespace {
            None => self,
            Some(namespace) => self.put_into(namespace),
        }
    }

    fn put_into(self, namespace: &Cow<'r, str>) -> Self {
        let put = |key: ResourceKey<'r>| match key.namespace() {
            None => key.in_namespace(namespace.clone()),
            Some(_) => key,
        };
        let keys = match self.keys {
            Keys::One(key) => Keys::One(put(key)),
            Keys::Many(keys) => Keys::Many(keys.into_iter().map(put).collect()),
        };
        Self { keys, known: self.known }
    }

    /// The resource if it is one, else all of them.
    #[inline]
    pub(super) fn single(self) -> Result<ResourceKey<'r>, Vec<ResourceKey<'r>>> {
        match self.keys {
            Keys::One(key) => Ok(key),
            Keys::Many(keys) => Err(keys),
        }
    }
}

impl PartialEq for Resolved<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.known == other.known && self.as_slice() == other.as_slice()
    }
}

impl Eq for Resolved<'_> {}

impl<'r> IntoIterator for Resolved<'r> {
    type Item = ResourceKey<'r>;
    type IntoIter = IntoKeys<'r>;

    fn into_iter(self) -> IntoKeys<'r> {
        let (one, many) = match self.keys {
            Keys::One(key) => (Some(key), Vec::new()),
            Keys::Many(keys) => (None, keys),
        };
        IntoKeys(one.into_iter().chain(many))
    }
}

/// The resources of a [`Resolved`], one by one.
#[derive(Clone, Debug)]
pub struct IntoKeys<'r>(Chain<option::IntoIter<ResourceKey<'r>>, vec::IntoIter<ResourceKey<'r>>>);

impl<'r> Iterator for IntoKeys<'r> {
    type Item = ResourceKey<'r>;

    fn next(&mut self) -> Option<ResourceKey<'r>> {
        self.0.next()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

impl<'r> From<ResourceKey<'r>> for Resolved<'r> {
    fn from(key: ResourceKey<'r>) -> Self {
        Self::key(key)
    }
}

/// Which resources a request means. [`KeyRules`] is the default: the path, by its rules. A closure becomes one through
/// [`ResolveFn::new`].
///
/// It is asked for the request target of a write, for `Destination`, for each tag of `If`, and for lock roots named to
/// the endpoint, and has to give the same resource the same key each time, or a lock does not hold. It runs on every
/// write, before anything else, and must neither block nor trust what it reads.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not tell which resources a request means",
    label = "not a resolver",
    note = "use `KeyRules`, implement `ResolveTargets`, or wrap a closure: \
            `ResolveFn::new(|ask| Ok(Resolved::key(..)))`"
)]
pub trait ResolveTargets: Send + Sync + 'static {
    /// The resources that `ask.path` of `ask.request` means.
    ///
    /// # Errors
    /// [`KeyError::AmbiguousPath`] where services read the path in different ways, [`KeyError::Unresolved`] where the
    /// resource cannot be told. The request is then answered 400 and changes nothing.
    fn resolve<'r>(&self, ask: &Ask<'r>) -> Result<Resolved<'r>, KeyError>;

    /// Whether a DELETE or MOVE of a resource takes with it what lies below. Only where it surely does not, say no.
    fn reaches_below(&self) -> bool {
        true
    }

    /// The path in a request target by which the service inside finds what clients call `path` in header fields and
    /// documents, percent-encoded: the same, unless a router outside strips a prefix. The WebDAV layer asks the service
    /// about entity tags there.
    fn path_inside<'p>(&self, path: &'p str) -> &'p str {
        path
    }
}

impl ResolveTargets for KeyRules {
    fn resolve<'r>(&self, ask: &Ask<'r>) -> Result<Resolved<'r>, KeyError> {
        if ask.role == Role::Target {
            return self.key(ask.path).map(Resolved::key);
        }
        let Some(unprefixed) = self.unprefixed() else { return self.key(ask.path).map(Resolved::key) };
        let full = unprefixed.key(ask.path)?;
        // What a router strips from the target it leaves in a header field: a service behind it may take the path there
        // for one of its own, or know its prefix.
        match ask.role {
            Role::Destination | Role::Tag if self.has_prefix(full.path()) => Ok(Resolved::keys([full, self.key(ask.path)?])),
            Role::Destination | Role::Tag => self.key(ask.path).map(Resolved::key),
            _ => Ok(Resolved::key(full)),
        }
    }

    fn reaches_below(&self) -> bool {
        Self::reaches_below(self)
    }

    fn path_inside<'p>(&self, path: &'p str) -> &'p str {
        self.without_prefix(path)
    }
}

impl<T: ResolveTargets + ?Sized> ResolveTargets for Arc<T> {
    fn resolve<'r>(&self, ask: &Ask<'r>) -> Result<Resolved<'r>, KeyError> {
        (**self).resolve(ask)
    }

    fn reaches_below(&self) -> bool {
        (**self).reaches_below()
    }

    fn path_inside<'p>(&self, path: &'p str) -> &'p str {
        (**self).path_inside(path)
    }
}

/// A closure as a resolver.
///
/// ```
/// use tower_lock::{lock::ResourceKey, request::{ResolveFn, Resolved}};
///
/// // Every version of a document is locked with the document.
/// let documents = ResolveFn::new(|ask| {
///     let path = ask.path.split("/versions/").next().unwrap_or(ask.path);
///     ResourceKey::parse(path).map(Resolved::key)
/// });
/// # let _: &dyn tower_lock::request::ResolveTargets = &documents;
/// ```
#[derive(Clone)]
pub struct ResolveFn<F> {
    resolve: F,
    reaches_below: bool,
}

impl<F> ResolveFn<F>
where
    F: for<'r> Fn(&Ask<'r>) -> Result<Resolved<'r>, KeyError> + Send + Sync + 'static,
{
    /// A resolver that asks `resolve`.
    #[must_use]
    pub fn new(resolve: F) -> Self {
        Self { resolve, reaches_below: true }
    }

    /// Keys in which nothing lies below another, or of which nothing goes with another (records, objects): DELETE and
    /// MOVE change their target alone.
    #[must_use]
    pub fn exact(mut self) -> Self {
        self.reaches_below = false;
        self
    }
}

impl<F> ResolveTargets for ResolveFn<F>
where
    F: for<'r> Fn(&Ask<'r>) -> Result<Resolved<'r>, KeyError> + Send + Sync + 'static,
{
    fn resolve<'r>(&self, ask: &Ask<'r>) -> Result<Resolved<'r>, KeyError> {
        (self.resolve)(ask)
    }

    fn reaches_below(&self) -> bool {
        self.reaches_below
    }
}

impl<F> fmt::Debug for ResolveFn<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResolveFn").field("reaches_below", &self.reaches_below).finish_non_exhaustive()
    }
}

/// Asks `resolver` for a path that may have been made for the question, and puts the answer into the namespace.
pub(super) fn resolve_in<'r>(
    request: RequestView<'r>,
    role: Role,
    path: Cow<'r, str>,
    resolver: &dyn ResolveTargets,
    namespace: Option<&Cow<'r, str>>,
) -> Result<Resolved<'r>, KeyError> {
    let resolved = match path {
        Cow::Borrowed(path) => resolver.resolve(&Ask { request, role, path })?,
        Cow::Owned(path) => resolver.resolve(&Ask { request, role, path: &path })?.into_owned(),
    };
    Ok(resolved.in_namespace(namespace))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_tells_a_resource_only_where_there_is_no_doubt() {
        let field = |values: &[&str]| {
            let mut request = http::Request::post("/docs.Documents/Save").body(()).unwrap();
            for value in values {
                request.headers_mut().append("document-id", http::HeaderValue::from_bytes(value.as_bytes()).unwrap());
            }
            Ask::target(RequestView::of(&request)).field("Document-Id").map(str::to_owned)
        };
        assert_eq!(field(&["7"]).as_deref(), Ok("7"));
        for doubtful in [&[][..], &["7", "8"], &["7", "7"], &["é"]] {
            assert_eq!(field(doubtful), Err(KeyError::Unresolved), "{doubtful:?}");
        }
    }

    #[test]
    fn a_prefix_that_was_stripped_is_put_back_only_where_it_was_stripped() {
        let rules = KeyRules::new().prefix("/api");
        let request = http::Request::put("/docs").body(()).unwrap();
        let paths = |role, path| {
            let resolved = rules.resolve(&Ask::new(RequestView::of(&request), role, path)).unwrap();
            resolved.into_iter().map(|key| key.path().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(paths(Role::Target, "/docs"), ["/api/docs"]);
        assert_eq!(paths(Role::Target, "/api/docs"), ["/api/api/docs"]);
        for role in [Role::Destination, Role::Tag] {
            assert_eq!(paths(role, "/docs"), ["/api/docs"]);
            assert_eq!(paths(role, "/%61pi//docs"), ["/api/docs", "/api/api/docs"]);
            assert_eq!(paths(role, "/apis"), ["/api/apis"]);
        }
        assert_eq!(paths(Role::Root, "/api/docs"), ["/api/docs"]);
    }
}
