//! A site with an endpoint, and requests to it.

use std::task::Poll;

use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::BodyExt;
use serde_json::Value;
use tower::ServiceExt;
use tower_lock::{
    Lock, LockEndpoint, LockLayer, LockStore, Locks, LocksBuilder, MemoryStore, Principal, ResourceKey,
    store::{LockQuery, ManualClock},
};

/// A hub over a memory store whose clock is moved by hand. The header `x-user` says who a caller is.
pub(crate) struct Site {
    pub(crate) locks: Locks,
    pub(crate) clock: ManualClock,
    pub(crate) endpoint: LockEndpoint,
}

impl Site {
    pub(crate) fn new() -> Self {
        Self::with(|builder| builder)
    }

    pub(crate) fn with(policy: impl FnOnce(LocksBuilder) -> LocksBuilder) -> Self {
        let clock = ManualClock::new();
        let store = MemoryStore::builder().clock(clock.clock()).build();
        let builder = Locks::builder(store)
            .clock(clock.clock())
            .principal(|request| request.headers.get("x-user")?.to_str().ok().map(Principal::new));
        let locks = policy(builder).build();
        Self { endpoint: LockEndpoint::new(locks.clone()), locks, clock }
    }

    pub(crate) async fn send(&self, ask: Ask) -> Answer {
        self.send_to(&self.endpoint, ask).await
    }

    /// Sends, and does not wait for the answer.
    pub(crate) fn start(&self, ask: Ask) -> tokio::task::JoinHandle<Answer> {
        let sent = self.endpoint.clone().oneshot(ask.0);
        tokio::spawn(async move { Answer::of(sent.await.unwrap()).await })
    }

    /// Lets others run until so many wait.
    pub(crate) async fn until_waiting(&self, count: usize) {
        for _ in 0..10_000 {
            if self.locks.waiting() == count {
                // Those who have their places look once more at what they wait for.
                for _ in 0..20 {
                    tokio::task::yield_now().await;
                }
                return;
            }
            tokio::task::yield_now().await;
        }
        panic!("{} wait, not {count}", self.locks.waiting());
    }

    /// Opens a stream of events.
    pub(crate) async fn open(&self, ask: Ask) -> Events {
        let response = self.endpoint.clone().oneshot(ask.header("accept", "text/event-stream").0).await.unwrap();
        let (head, body) = response.into_parts();
        assert_eq!(head.status, 200);
        Events { headers: head.headers, body: Box::pin(body), read: String::new() }
    }

    pub(crate) async fn send_to(&self, endpoint: &LockEndpoint, ask: Ask) -> Answer {
        Answer::of(endpoint.clone().oneshot(ask.0).await.unwrap()).await
    }

    /// What a guarded service beside the endpoint answers: 200 where the write got through.
    pub(crate) async fn write(&self, ask: Ask) -> Answer {
        let service = tower::service_fn(async |_: Request<String>| {
            Ok::<_, std::convert::Infallible>(Response::new(String::from("written")))
        });
        let guarded = tower::ServiceBuilder::new().layer(LockLayer::new(self.locks.clone())).service(service);
        Answer::of(guarded.oneshot(ask.0).await.unwrap()).await
    }

    /// Acquires, and answers the token.
    pub(crate) async fn held(&self, user: &str, resource: &str) -> String {
        self.held_as(user, resource, "{}").await
    }

    pub(crate) async fn held_as(&self, user: &str, resource: &str, body: &str) -> String {
        let answer = self.send(put(resource).user(user).json(body)).await;
        assert_eq!(answer.status, 201, "{}", answer.text);
        answer.json()["token"].as_str().unwrap().to_owned()
    }

    /// All there is.
    pub(crate) async fn state(&self) -> Vec<Lock> {
        let everything = LockQuery::at_or_below(ResourceKey::from_canonical("/")).limit(1_000);
        self.locks.store().find(&everything).await.unwrap().locks
    }

    pub(crate) async fn keys(&self) -> Vec<String> {
        self.state().await.iter().map(|lock| lock.root().path().to_owned()).collect()
    }
}

/// A request in the making.
pub(crate) struct Ask(pub(crate) Request<String>);

pub(crate) fn ask(method: &str, uri: &str) -> Ask {
    Ask(Request::builder().method(method).uri(uri).body(String::new()).unwrap())
}

pub(crate) fn get(uri: &str) -> Ask {
    ask("GET", uri)
}

pub(crate) fn put(uri: &str) -> Ask {
    ask("PUT", uri)
}

pub(crate) fn patch(uri: &str) -> Ask {
    ask("PATCH", uri)
}

pub(crate) fn post(uri: &str) -> Ask {
    ask("POST", uri)
}

pub(crate) fn delete(uri: &str) -> Ask {
    ask("DELETE", uri)
}

impl Ask {
    pub(crate) fn user(self, user: &str) -> Self {
        self.header("x-user", user)
    }

    pub(crate) fn header(self, name: &'static str, value: &str) -> Self {
        self.bytes(name, value.as_bytes())
    }

    pub(crate) fn bytes(mut self, name: &'static str, value: &[u8]) -> Self {
        self.0.headers_mut().append(name, http::HeaderValue::from_bytes(value).unwrap());
        self
    }

    /// Submits a token as the condition of `If`.
    pub(crate) fn holding(self, token: &str) -> Self {
        self.header("if", &format!("(<{token}>)"))
    }

    pub(crate) fn json(self, body: &str) -> Self {
        self.body("application/json", body)
    }

    pub(crate) fn body(mut self, media: &str, body: &str) -> Self {
        body.clone_into(self.0.body_mut());
        if media.is_empty() { self } else { self.header("content-type", media) }
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
    pub(crate) async fn of<B>(response: Response<B>) -> Self
    where
        B: http_body::Body,
        B::Error: std::fmt::Debug,
    {
        let (head, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Self { status: head.status, headers: head.headers, text: String::from_utf8(body.to_vec()).unwrap() }
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    #[track_caller]
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).unwrap_or_else(|| panic!("no {name} in {self:?}")).to_str().unwrap()
    }

    /// Holds the answer against a status, and against the code of a problem document, `""` for none.
    #[track_caller]
    pub(crate) fn expect(self, status: u16, code: &str) -> Self {
        assert_eq!(self.status, status, "{}", self.text);
        if self.status != 200 || self.headers.contains_key("content-type") {
            assert_eq!(self.header("cache-control"), "no-store");
        }
        if code.is_empty() {
            assert!(self.status.is_success() || self.status == 304, "{}", self.text);
        } else {
            assert_eq!(self.header("content-type"), "application/problem+json");
            assert_eq!(self.json()["code"], code, "{}", self.text);
            assert_eq!(self.json()["status"], status);
        }
        self
    }
}

/// A stream of events on its way.
pub(crate) struct Events {
    pub(crate) headers: HeaderMap,
    body: std::pin::Pin<Box<tower_lock::endpoint::EndpointBody>>,
    read: String,
}

/// One event of a stream.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Event {
    pub(crate) name: String,
    pub(crate) id: Option<String>,
    pub(crate) data: Value,
    pub(crate) comment: bool,
    pub(crate) retry: Option<String>,
}

impl Events {
    /// The next event if it is there; `None` where there is none yet.
    pub(crate) fn now(&mut self) -> Option<Event> {
        match self.poll() {
            Poll::Ready(Some(event)) => Some(event),
            Poll::Ready(None) => panic!("the stream has ended"),
            Poll::Pending => None,
        }
    }

    /// The next event, which must be there and have this name.
    #[track_caller]
    pub(crate) fn expect(&mut self, name: &str) -> Event {
        let event = self.now().unwrap_or_else(|| panic!("{name}, not nothing"));
        assert_eq!(event.name, name, "{event:?}");
        event
    }

    #[track_caller]
    pub(crate) fn expect_end(&mut self) {
        assert!(matches!(self.poll(), Poll::Ready(None)), "the stream ends");
    }

    #[track_caller]
    pub(crate) fn expect_nothing(&mut self) {
        let event = self.now();
        assert!(event.is_none(), "{event:?}");
    }

    fn poll(&mut self) -> Poll<Option<Event>> {
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        loop {
            if let Some((event, rest)) = self.read.split_once("\n\n") {
                let event = Event::parse(event);
                self.read = rest.to_owned();
                return Poll::Ready(Some(event));
            }
            match http_body::Body::poll_frame(self.body.as_mut(), &mut cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    self.read.push_str(std::str::from_utf8(&frame.into_data().unwrap()).unwrap());
                    assert!(self.read.ends_with("\n\n"), "a frame has whole events: {:?}", self.read);
                }
                Poll::Ready(Some(Err(never))) => match never {},
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

impl Event {
    pub(crate) fn parse(text: &str) -> Self {
        let mut event = Self::default();
        for line in text.lines() {
            match line.split_once(": ") {
                Some(("event", name)) => event.name = name.to_owned(),
                Some(("id", id)) => event.id = Some(id.to_owned()),
                Some(("data", data)) => event.data = serde_json::from_str(data).unwrap(),
                Some(("retry", retry)) => event.retry = Some(retry.to_owned()),
                _ if line.starts_with(':') => event.comment = true,
                _ => panic!("no field of an event: {line}"),
            }
        }
        event
    }
}
