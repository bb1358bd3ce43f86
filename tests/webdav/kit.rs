//! A site: a handler behind the layer, on a memory store whose clock is moved by hand, and clients of it.

use std::{convert::Infallible, future::IntoFuture, pin::Pin, sync::Arc};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, StatusCode};
use http_body::Body;
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use tower::{Service, ServiceExt};
use tower_layer::Layer;
use tower_lock::{
    DavLayer, Lock, LockStore, Locks, LocksBuilder, MemoryStore, ResourceKey,
    store::{LockQuery, ManualClock},
    webdav::RequestBody,
};

use super::{
    handler::{Broken, Handler},
    shape::Shape,
    xml::Xml,
};
use crate::support::{self, Mode, Rigged, User};

/// What clients send.
pub(crate) type Sent = UnsyncBoxBody<Bytes, Infallible>;

pub(crate) type Sending = Pin<Box<dyn Future<Output = Result<Answer, Broken>> + Send>>;

type Send_ = Arc<dyn Fn(Request<Sent>) -> Sending + Send + Sync>;

/// A handler behind the layer.
pub(crate) struct Dav {
    pub(crate) handler: Handler,
    pub(crate) locks: Locks,
    pub(crate) clock: ManualClock,
    pub(crate) memory: MemoryStore,
    pub(crate) rigged: Rigged,
    send: Send_,
}

impl Dav {
    /// The handler of these tests with a small tree: `/a` and `/b` are documents, `/c/` is a collection with `/c/m` and
    /// `/c/d/` with `/c/d/n`, `/e/` is an empty one.
    pub(crate) fn new() -> Self {
        Self::shaped(Shape::default())
    }

    pub(crate) fn shaped(shape: Shape) -> Self {
        Self::with(shape, |builder| builder)
    }

    pub(crate) fn with(shape: Shape, policy: impl FnOnce(LocksBuilder) -> LocksBuilder) -> Self {
        Self::made(shape, policy, |layer| layer, |service| service)
    }

    /// A site with something between the layer and the handler, and another layer.
    pub(crate) fn made<M>(
        shape: Shape,
        policy: impl FnOnce(LocksBuilder) -> LocksBuilder,
        layer: impl FnOnce(DavLayer) -> DavLayer,
        between: impl FnOnce(Handler) -> M,
    ) -> Self
    where
        M: Service<Request<RequestBody<Sent>>, Response = http::Response<Full<Bytes>>, Error = Broken>
            + Clone
            + Send
            + Sync
            + 'static,
        M::Future: Send,
    {
        let clock = ManualClock::new();
        let memory = support::stores::memory(clock.clock());
        let rigged = Rigged::all(memory.clone(), Mode::Pass);
        let locks = policy(support::locks_of_users(rigged.clone())).build();
        let handler = Handler::new(shape);
        handler.plant(["/a", "/b", "/c/", "/c/m", "/c/d/", "/c/d/n", "/e/"]);
        let service = layer(DavLayer::new(locks.clone())).layer(between(handler.clone()));
        let send = sender(service);
        Self { handler, locks, clock, memory, rigged, send }
    }

    /// Sends a request as it is.
    pub(crate) fn through(&self, request: Request<Sent>) -> Sending {
        (self.send)(request)
    }

    /// What `user` sends.
    pub(crate) fn as_(&self, user: &'static str) -> Client {
        Client { user: Some(user), send: self.send.clone() }
    }

    pub(crate) fn anonymous(&self) -> Client {
        Client { user: None, send: self.send.clone() }
    }

    /// A lock that the application takes for itself, without a LOCK.
    pub(crate) async fn taken(&self, request: tower_lock::LockRequest) -> String {
        self.locks.acquire(request).await.expect("a lock").token().urn().to_string()
    }

    /// All locks there are.
    pub(crate) async fn state(&self) -> Vec<Lock> {
        let everything = LockQuery::at_or_below(ResourceKey::from_canonical("/")).limit(1_000);
        self.memory.find(&everything).await.unwrap().locks
    }

    /// The roots of all locks.
    pub(crate) async fn roots(&self) -> Vec<String> {
        let mut roots: Vec<_> = self.state().await.iter().map(|lock| lock.root().path().to_owned()).collect();
        roots.sort();
        roots
    }

    /// Nothing is in flight, and nothing stands in the way of a lock on everything that `locked` does not cover.
    pub(crate) async fn assert_nothing_left(&self, locked: &[&str], what: &str) {
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
        assert_eq!(self.memory.stats().in_flight, 0, "{what}: a write is still in flight");
        assert_eq!(self.roots().await, locked, "{what}: locks");
    }
}

/// How to send to `service`: a clone for each request, made ready first.
pub(crate) fn sender<S, B>(service: S) -> Send_
where
    S: Service<Request<Sent>, Response = http::Response<B>> + Clone + Send + Sync + 'static,
    S::Error: Into<Broken>,
    S::Future: Send,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: std::fmt::Debug,
{
    Arc::new(move |request| {
        let mut service = service.clone();
        Box::pin(async move {
            let response = service.ready().await.map_err(Into::into)?.call(request).await.map_err(Into::into)?;
            let (head, body) = response.into_parts();
            let text = body.collect().await.expect("a body").to_bytes();
            Ok(Answer { status: head.status, headers: head.headers, text: String::from_utf8_lossy(&text).into_owned() })
        })
    })
}

impl From<Infallible> for Broken {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

/// Somebody who sends requests.
#[derive(Clone)]
pub(crate) struct Client {
    user: Option<&'static str>,
    send: Send_,
}

impl Client {
    /// Nobody in particular, through `send`.
    pub(crate) fn through(send: Send_, user: Option<&'static str>) -> Self {
        Self { user, send }
    }

    pub(crate) fn is_anonymous(&self) -> bool {
        self.user.is_none()
    }

    pub(crate) fn ask(&self, method: &str, uri: &str) -> Ask {
        let mut request = Request::builder().method(method).uri(uri).body(text("")).expect(uri);
        if let Some(user) = self.user {
            request.extensions_mut().insert(User(user));
        }
        Ask { request, send: self.send.clone() }
    }

    pub(crate) fn get(&self, uri: &str) -> Ask {
        self.ask("GET", uri)
    }

    pub(crate) fn put(&self, uri: &str, content: &str) -> Ask {
        self.ask("PUT", uri).body(content)
    }

    pub(crate) fn delete(&self, uri: &str) -> Ask {
        self.ask("DELETE", uri)
    }

    pub(crate) fn mkcol(&self, uri: &str) -> Ask {
        self.ask("MKCOL", uri)
    }

    pub(crate) fn copy(&self, uri: &str, destination: &str) -> Ask {
        self.ask("COPY", uri).header("destination", destination)
    }

    pub(crate) fn move_(&self, uri: &str, destination: &str) -> Ask {
        self.ask("MOVE", uri).header("destination", destination)
    }

    /// An exclusive lock, of the depth and the lifetime that the layer gives unasked.
    pub(crate) fn lock(&self, uri: &str) -> Ask {
        self.ask("LOCK", uri).body(EXCLUSIVE)
    }

    pub(crate) fn share(&self, uri: &str) -> Ask {
        self.ask("LOCK", uri).body(SHARED)
    }

    pub(crate) fn refresh(&self, uri: &str, token: &str) -> Ask {
        self.ask("LOCK", uri).if_(&format!("(<{token}>)"))
    }

    pub(crate) fn unlock(&self, uri: &str, token: &str) -> Ask {
        self.ask("UNLOCK", uri).header("lock-token", &format!("<{token}>"))
    }

    pub(crate) fn proppatch(&self, uri: &str) -> Ask {
        self.ask("PROPPATCH", uri).body(SET_COLOUR)
    }

    /// PROPFIND of the two lock properties.
    pub(crate) fn propfind(&self, uri: &str, depth: &str) -> Ask {
        self.ask("PROPFIND", uri).depth(depth).body(LOCK_PROPS)
    }

    /// Locks, and answers the token.
    pub(crate) async fn locked(&self, uri: &str, depth: &str) -> String {
        let answer = self.lock(uri).depth(depth).await;
        assert!(answer.status == 200 || answer.status == 201, "LOCK {uri}: {answer:?}");
        answer.token()
    }
}

pub(crate) const EXCLUSIVE: &str = "<?xml version=\"1.0\" encoding=\"utf-8\"?><D:lockinfo xmlns:D=\"DAV:\">\
    <D:lockscope><D:exclusive/></D:lockscope><D:locktype><D:write/></D:locktype></D:lockinfo>";
pub(crate) const SHARED: &str =
    "<lockinfo xmlns='DAV:'><lockscope><shared/></lockscope><locktype><write/></locktype></lockinfo>";
pub(crate) const LOCK_PROPS: &str =
    "<D:propfind xmlns:D=\"DAV:\"><D:prop><D:lockdiscovery/><D:supportedlock/></D:prop></D:propfind>";
pub(crate) const SET_COLOUR: &str = "<D:propertyupdate xmlns:D=\"DAV:\"><D:set><D:prop>\
    <Z:colour xmlns:Z=\"urn:z\">red</Z:colour></D:prop></D:set></D:propertyupdate>";

pub(crate) fn text(content: &str) -> Sent {
    Full::new(Bytes::from(content.to_owned())).boxed_unsync()
}

/// A request in the making; awaiting it sends it.
#[must_use]
pub(crate) struct Ask {
    request: Request<Sent>,
    send: Send_,
}

impl Ask {
    pub(crate) fn header(mut self, name: &'static str, value: &str) -> Self {
        self.request.headers_mut().append(name, HeaderValue::from_bytes(value.as_bytes()).expect("a field value"));
        self
    }

    pub(crate) fn if_(self, value: &str) -> Self {
        self.header("if", value)
    }

    /// Submits tokens in a header that is true whatever they are.
    pub(crate) fn tokens<T: AsRef<str>>(self, tokens: impl IntoIterator<Item = T>) -> Self {
        let lists: String = tokens.into_iter().map(|token| format!("(<{}>) ", token.as_ref())).collect();
        self.if_(&format!("{lists}(Not <DAV:no-lock>)"))
    }

    pub(crate) fn depth(self, depth: &str) -> Self {
        self.header("depth", depth)
    }

    pub(crate) fn timeout(self, timeout: &str) -> Self {
        self.header("timeout", timeout)
    }

    pub(crate) fn body(self, content: &str) -> Self {
        self.stream(text(content))
    }

    pub(crate) fn stream<B>(mut self, body: B) -> Self
    where
        B: Body<Data = Bytes, Error = Infallible> + Send + 'static,
    {
        *self.request.body_mut() = body.boxed_unsync();
        self
    }

    /// With something in the extensions of the request.
    pub(crate) fn carrying<T: Clone + Send + Sync + 'static>(mut self, value: T) -> Self {
        self.request.extensions_mut().insert(value);
        self
    }

    /// What the service makes of it, errors too.
    pub(crate) fn sending(self) -> Sending {
        (self.send)(self.request)
    }

    /// In a task of its own.
    pub(crate) fn spawn(self) -> tokio::task::JoinHandle<Answer> {
        tokio::spawn(self.into_future())
    }

    /// Answered with this status.
    pub(crate) async fn expect(self, status: u16) -> Answer {
        let what = format!("{} {} {:?}", self.request.method(), self.request.uri(), self.request.headers());
        let answer = self.await;
        assert_eq!(answer.status, status, "{what}: {answer:?}");
        answer
    }
}

impl IntoFuture for Ask {
    type Output = Answer;
    type IntoFuture = Pin<Box<dyn Future<Output = Answer> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        let sending = self.sending();
        Box::pin(async move { sending.await.expect("an answer") })
    }
}

/// An answer, read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    #[track_caller]
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).unwrap_or_else(|| panic!("no {name} in {self:?}")).to_str().unwrap()
    }

    /// The token of the `Lock-Token` header.
    #[track_caller]
    pub(crate) fn token(&self) -> String {
        let token = self.header("lock-token").strip_prefix('<').and_then(|token| token.strip_suffix('>'));
        token.unwrap_or_else(|| panic!("no coded URL: {self:?}")).to_owned()
    }

    #[track_caller]
    pub(crate) fn xml(&self) -> Xml {
        Xml::parse(&self.text)
    }

    /// A refusal with this precondition, as a document of ours with `Cache-Control: no-store`.
    #[track_caller]
    pub(crate) fn refused(&self, precondition: &str) -> Xml {
        assert_eq!(self.header("cache-control"), "no-store", "{self:?}");
        assert!(self.header("content-type").starts_with("application/xml"), "{self:?}");
        let xml = self.xml();
        assert_eq!(xml.name, "{DAV:}error", "{self:?}");
        assert_eq!(xml.children[0].name, format!("{{DAV:}}{precondition}"), "{self:?}");
        xml
    }

    /// The hrefs in a refusal with this precondition.
    #[track_caller]
    pub(crate) fn blocked_by(&self, precondition: &str) -> Vec<String> {
        let xml = self.refused(precondition);
        xml.children[0].children.iter().map(|href| href.named("{DAV:}href").text.clone()).collect()
    }

    /// Refused for locks rooted at these hrefs: 423 `lock-token-submitted`.
    #[track_caller]
    pub(crate) fn locked_by(&self, hrefs: &[&str]) {
        assert_eq!(self.status, 423, "{self:?}");
        let mut found = self.blocked_by("lock-token-submitted");
        found.sort();
        assert_eq!(found, hrefs, "{self:?}");
    }
}
