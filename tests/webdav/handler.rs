//! A WebDAV handler of class 1 that knows nothing of locks, written for these tests: a tree in memory, honest answers, a
//! record of all that reached it, and faults on demand. It panics when it is shown what a layer keeps to itself, or is
//! called without having been polled ready.

use std::{
    collections::{BTreeMap, HashMap},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard},
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, request::Parts};
use http_body::Body;
use http_body_util::{BodyExt, Full};
use percent_encoding::percent_decode_str;
use tokio::sync::Semaphore;
use tower::Service;

use super::{handler_props, shape::Shape};

/// What the handler fails with when it does not answer at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Broken;

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("broken")
    }
}

impl std::error::Error for Broken {}

pub(crate) type Answering = Pin<Box<dyn Future<Output = Result<Response<Full<Bytes>>, Broken>> + Send>>;

/// A request that reached the handler.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) method: String,
    pub(crate) uri: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) user: Option<&'static str>,
}

/// What goes wrong.
#[derive(Clone)]
pub(crate) enum Fault {
    /// This status, and nothing done.
    Status(u16),
    /// An error of the service, and nothing done.
    Error,
    /// Nothing is done, or answered, before a permit is there.
    Hold(Arc<Semaphore>),
    /// Done at once, but not answered before a permit is there.
    HoldAnswer(Arc<Semaphore>),
    /// DELETE and MOVE leave these where they are and answer 207 with each of them and the status.
    Keep(Vec<&'static str>, u16),
    /// It comes to the await that many times more before it does anything.
    Slow(usize),
}

/// A resource.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Resource {
    /// None is a collection.
    pub(crate) content: Option<Bytes>,
    pub(crate) etag: Option<String>,
    /// Dead properties: namespace and name to the text.
    pub(crate) props: BTreeMap<(String, String), String>,
}

/// The tree by canonical path: `/`, `/a`, `/a/b`.
pub(crate) type Tree = BTreeMap<String, Resource>;

struct Inner {
    tree: Tree,
    changes: u64,
    seen: Vec<Seen>,
    faults: HashMap<(String, String), Fault>,
}

/// The handler; clones share the tree.
pub(crate) struct Handler {
    inner: Arc<Mutex<Inner>>,
    shape: Arc<Shape>,
    ready: bool,
    hesitated: bool,
}

impl Clone for Handler {
    /// As with a concurrency limit, a clone is not ready.
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), shape: self.shape.clone(), ready: false, hesitated: false }
    }
}

impl Handler {
    pub(crate) fn new(shape: Shape) -> Self {
        let tree = Tree::from([(String::from("/"), Resource::default())]);
        let inner = Inner { tree, changes: 0, seen: Vec::new(), faults: HashMap::new() };
        Self { inner: Arc::new(Mutex::new(inner)), shape: Arc::new(shape), ready: false, hesitated: false }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// All there is, to be compared.
    pub(crate) fn tree(&self) -> Tree {
        self.inner().tree.clone()
    }

    pub(crate) fn paths(&self) -> Vec<String> {
        self.tree().into_keys().collect()
    }

    pub(crate) fn content(&self, path: &str) -> Option<String> {
        let content = self.tree().get(path)?.content.clone()?;
        Some(String::from_utf8(content.to_vec()).unwrap())
    }

    pub(crate) fn etag(&self, path: &str) -> String {
        self.tree()[path].etag.clone().expect("an entity tag")
    }

    /// Puts resources there behind everybody's back: those that end in `/` are collections.
    pub(crate) fn plant<'a>(&self, paths: impl IntoIterator<Item = &'a str>) {
        for path in paths {
            let mut inner = self.inner();
            match path.strip_suffix('/') {
                Some(collection) => drop(inner.tree.insert(collection.into(), Resource::default())),
                None => inner.write(path, Bytes::from(path.to_owned()), self.shape.etags),
            }
        }
    }

    /// Takes a resource away behind everybody's back.
    pub(crate) fn forget(&self, path: &str) {
        self.inner().tree.remove(path).expect(path);
    }

    /// Gives a resource this entity tag.
    pub(crate) fn tag(&self, path: &str, etag: &str) {
        self.inner().tree.get_mut(path).expect(path).etag = Some(etag.into());
    }

    /// From now on `method` on `path` goes wrong.
    pub(crate) fn fault(&self, method: &str, path: &str, fault: Fault) {
        self.inner().faults.insert((method.into(), path.into()), fault);
    }

    pub(crate) fn fail(&self, method: &str, path: &str, status: u16) {
        self.fault(method, path, Fault::Status(status));
    }

    /// From now on `method` on `path` waits for a permit of the semaphore before it does anything.
    pub(crate) fn hold(&self, method: &str, path: &str) -> Arc<Semaphore> {
        let gate = Arc::new(Semaphore::new(0));
        self.fault(method, path, Fault::Hold(gate.clone()));
        gate
    }

    pub(crate) fn heal(&self) {
        self.inner().faults.clear();
    }

    /// What reached it since this was last asked.
    pub(crate) fn take_seen(&self) -> Vec<Seen> {
        std::mem::take(&mut self.inner().seen)
    }

    /// How often `method` reached it on `path`.
    pub(crate) fn count(&self, method: &str, path: &str) -> usize {
        self.inner().seen.iter().filter(|seen| seen.method == method && canonical(path_of(&seen.uri)) == path).count()
    }

    /// Requests that change something, as `METHOD uri`, since this was last asked.
    pub(crate) fn take_writes(&self) -> Vec<String> {
        let seen = self.take_seen().into_iter();
        let reads = ["GET", "HEAD", "PROPFIND", "OPTIONS"];
        seen.filter(|seen| !reads.contains(&&*seen.method)).map(|seen| format!("{} {}", seen.method, seen.uri)).collect()
    }

    async fn answer<B: Body>(self, request: Request<B>) -> Result<Response<Full<Bytes>>, Broken> {
        let (head, body) = request.into_parts();
        let path = canonical(head.uri.path());
        for kept in ["if", "lock-token"] {
            assert!(!head.headers.contains_key(kept), "the handler was shown {kept}: {} {}", head.method, head.uri);
        }
        assert!(!["LOCK", "UNLOCK"].contains(&head.method.as_str()), "the handler was shown a {}", head.method);
        let fault = self.inner().faults.get(&(head.method.as_str().to_owned(), path.clone())).cloned();
        self.inner().seen.push(Seen {
            method: head.method.as_str().into(),
            uri: head.uri.to_string(),
            headers: head.headers.clone(),
            body: Bytes::new(),
            user: head.extensions.get::<crate::support::User>().map(|user| user.0),
        });
        let place = self.inner().seen.len();
        let Ok(body) = body.collect().await else { return Err(Broken) };
        let body = body.to_bytes();
        if let Some(seen) = self.inner().seen.get_mut(place - 1) {
            seen.body = body.clone();
        }
        match &fault {
            Some(Fault::Status(status)) => return Ok(self.plain(*status)),
            Some(Fault::Error) => return Err(Broken),
            Some(Fault::Hold(gate)) => gate.acquire().await.expect("open").forget(),
            Some(Fault::Slow(times)) => {
                for _ in 0..*times {
                    tokio::task::yield_now().await;
                }
            }
            _ => {}
        }
        let keep = match &fault {
            Some(Fault::Keep(paths, status)) => (paths.as_slice(), *status),
            _ => (&[][..], 0),
        };
        let answer = self.act(&head, &path, body, keep);
        if let Some(Fault::HoldAnswer(gate)) = &fault {
            gate.acquire().await.expect("open").forget();
        }
        Ok(answer)
    }

    fn plain(&self, status: u16) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::new(Bytes::from(format!("handler {status}"))));
        *response.status_mut() = StatusCode::from_u16(status).unwrap();
        if status == 405 {
            response.headers_mut().insert("allow", self.shape.allow.parse().unwrap());
        }
        response
    }

    fn act(&self, head: &Parts, path: &str, body: Bytes, keep: (&[&str], u16)) -> Response<Full<Bytes>> {
        let mut inner = self.inner();
        let tree = &inner.tree;
        if let Some(status) = failed_condition(&head.headers, tree.get(path), &head.method) {
            return self.plain(status);
        }
        let found = tree.get(path).cloned();
        let has_parent = parent(path).is_some_and(|parent| tree.get(parent).is_some_and(|node| node.content.is_none()));
        match head.method.as_str() {
            "OPTIONS" => {
                let mut response = self.plain(200);
                for value in &self.shape.dav {
                    response.headers_mut().append("dav", value.parse().unwrap());
                }
                response.headers_mut().insert("allow", self.shape.allow.parse().unwrap());
                response
            }
            "HEAD" if !self.shape.head => self.plain(405),
            "GET" | "HEAD" => {
                let Some(resource) = found else { return self.plain(404) };
                let content = if head.method == Method::HEAD { None } else { resource.content };
                let mut response = Response::new(Full::new(content.unwrap_or_default()));
                let told = head.method == Method::GET || self.shape.etag_in_head;
                if let Some(etag) = resource.etag.filter(|_| told) {
                    response.headers_mut().insert("etag", etag.parse().unwrap());
                }
                response
            }
            "PUT" => match found {
                Some(Resource { content: None, .. }) => self.plain(405),
                None if !has_parent => self.plain(409),
                found => {
                    inner.write(path, body, self.shape.etags);
                    self.plain(if found.is_some() { 204 } else { 201 })
                }
            },
            "MKCOL" => match found {
                _ if !body.is_empty() => self.plain(415),
                Some(_) => self.plain(405),
                None if !has_parent => self.plain(409),
                None => {
                    inner.tree.insert(path.into(), Resource::default());
                    self.plain(201)
                }
            },
            "DELETE" if path == "/" => self.plain(403),
            "DELETE" if found.is_none() => self.plain(404),
            "DELETE" => {
                inner.remove(path, keep.0);
                self.outcome(204, keep)
            }
            "COPY" | "MOVE" => self.copy(&mut inner, head, path, keep),
            "PROPFIND" if found.is_none() => self.plain(404),
            "PROPFIND" => handler_props::propfind(&self.shape, &inner.tree, head, path, &body),
            "PROPPATCH" if found.is_none() => self.plain(404),
            "PROPPATCH" => match handler_props::proppatch(inner.tree.get_mut(path).expect(path), head, &body) {
                Some(response) => response,
                None => self.plain(400),
            },
            "POST" | "PATCH" if found.as_ref().is_some_and(|node| node.content.is_some()) => {
                inner.write(path, body, self.shape.etags);
                self.plain(200)
            }
            "POST" | "PATCH" => self.plain(if found.is_some() { 405 } else { 404 }),
            _ => self.plain(405),
        }
    }

    fn copy(&self, inner: &mut Inner, head: &Parts, path: &str, keep: (&[&str], u16)) -> Response<Full<Bytes>> {
        let header = |name| head.headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()));
        let Some(destination) = header("destination") else { return self.plain(400) };
        let place = canonical(path_of(&destination));
        let to = place.strip_prefix(self.shape.mount).unwrap_or(&place).to_owned();
        if !inner.tree.contains_key(path) {
            return self.plain(404);
        }
        if below(&to, path) || below(path, &to) {
            return self.plain(403);
        }
        let collection = parent(&to).and_then(|parent| inner.tree.get(parent));
        if collection.is_none_or(|node| node.content.is_some()) {
            return self.plain(409);
        }
        let overwritten = inner.tree.contains_key(&to);
        if overwritten && header("overwrite").as_deref() == Some("F") {
            return self.plain(412);
        }
        let moving = head.method.as_str() == "MOVE";
        let shallow = !moving && header("depth").as_deref() == Some("0");
        inner.remove(&to, &[]);
        let source: Vec<_> = inner.tree.iter().filter(|(at, _)| below(at, path) && (!shallow || *at == path)).collect();
        let copied: Vec<_> = source
            .into_iter()
            .filter(|(at, _)| !keep.0.contains(&at.as_str()))
            .map(|(at, node)| (format!("{to}{}", &at[path.len()..]), node.clone()))
            .collect();
        inner.tree.extend(copied);
        if moving {
            inner.remove(path, keep.0);
        }
        self.outcome(if overwritten { 204 } else { 201 }, keep)
    }

    fn outcome(&self, status: u16, (kept, failure): (&[&str], u16)) -> Response<Full<Bytes>> {
        if kept.is_empty() { self.plain(status) } else { handler_props::partial(&self.shape, kept, failure) }
    }
}

impl Inner {
    fn write(&mut self, path: &str, content: Bytes, etags: bool) {
        self.changes += 1;
        let etag = etags.then(|| format!("\"v{}\"", self.changes));
        let node = self.tree.entry(path.into()).or_default();
        node.content = Some(content);
        node.etag = etag;
    }

    /// Removes `path` and what is below, but not `kept` and what is above it.
    fn remove(&mut self, path: &str, kept: &[&str]) {
        self.tree.retain(|at, _| !below(at, path) || kept.iter().any(|kept| below(kept, at)));
    }
}

impl<B: Body + Send + 'static> Service<Request<B>> for Handler
where
    B::Data: Send,
{
    type Response = Response<Full<Bytes>>;
    type Error = Broken;
    type Future = Answering;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        if !self.hesitated {
            self.hesitated = true;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.ready = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Answering {
        assert!(self.ready, "called without having been polled ready");
        (self.ready, self.hesitated) = (false, false);
        Box::pin(self.clone().answer(request))
    }
}

/// RFC 9110 section 13, as far as the tests need it.
fn failed_condition(headers: &HeaderMap, found: Option<&Resource>, method: &Method) -> Option<u16> {
    let text = |name| headers.get(name).map(|value| value.to_str().unwrap());
    let matches = |list: &str| match found {
        None => false,
        Some(_) if list.trim() == "*" => true,
        Some(node) => list.split(',').any(|etag| Some(etag.trim()) == node.etag.as_deref()),
    };
    if text("if-match").is_some_and(|list| !matches(list)) {
        return Some(412);
    }
    let read = *method == Method::GET || *method == Method::HEAD;
    text("if-none-match").is_some_and(matches).then_some(if read { 304 } else { 412 })
}

/// The path of an absolute URI or of a path.
pub(crate) fn path_of(uri: &str) -> &str {
    let path = match uri.split_once("://") {
        Some((_, rest)) => rest.find('/').map_or("/", |slash| &rest[slash..]),
        None => uri,
    };
    path.split(['?', '#']).next().expect("a first piece")
}

/// One decoding, no empty segments, no trailing slash: as most handlers read a path.
pub(crate) fn canonical(path: &str) -> String {
    let decoded = percent_decode_str(path).decode_utf8_lossy();
    let mut segments = Vec::new();
    for segment in decoded.split('/') {
        match segment {
            "" | "." => {}
            ".." => drop(segments.pop()),
            segment => segments.push(segment),
        }
    }
    format!("/{}", segments.join("/"))
}

pub(crate) fn parent(path: &str) -> Option<&str> {
    match path.rfind('/')? {
        0 if path == "/" => None,
        0 => Some("/"),
        slash => Some(&path[..slash]),
    }
}

/// Whether `path` is `root` or below it.
pub(crate) fn below(path: &str, root: &str) -> bool {
    root == "/" || path.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}
