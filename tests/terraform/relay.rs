//! Between Terraform and the backend: writes down what passes, and loses answers when told to.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use base64::prelude::{BASE64_STANDARD, Engine};
use bytes::Bytes;
use http::{HeaderMap, Request, Response, header};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, client, server, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    net::{TcpListener, TcpStream},
    runtime::Runtime,
};

/// How long something is waited for.
const PATIENCE: Duration = Duration::from_secs(90);

pub(crate) struct Relay {
    address: SocketAddr,
    log: Arc<Log>,
    _runtime: Runtime,
}

#[derive(Default)]
struct Log {
    seen: Mutex<Seen>,
    more: Condvar,
}

#[derive(Default)]
struct Seen {
    exchanges: Vec<Exchange>,
    /// How many things have happened: a clock.
    events: u64,
    /// The next answers to these methods are lost.
    losing: Vec<&'static str>,
}

/// A request, and what the backend answered to it.
#[derive(Clone, Debug)]
pub(crate) struct Exchange {
    pub(crate) user: String,
    pub(crate) method: String,
    pub(crate) target: String,
    /// The ID of the lock, from the query or from the body; none in a `force-unlock`.
    pub(crate) id: Option<String>,
    asked: u64,
    answered: Option<u64>,
    pub(crate) status: u16,
    pub(crate) answer: String,
    pub(crate) lost: bool,
}

impl Exchange {
    fn is_write(&self) -> bool {
        ["POST", "PUT", "DELETE"].contains(&&*self.method) && !self.target.ends_with("/lock")
    }

    fn is_lock(&self) -> bool {
        self.method == "LOCK" || (self.method == "PUT" && self.target.ends_with("/lock"))
    }

    fn is_unlock(&self) -> bool {
        self.method == "UNLOCK" || (self.method == "DELETE" && self.target.ends_with("/lock"))
    }
}

impl Relay {
    pub(crate) fn to(backend: &str) -> Self {
        let backend: SocketAddr = backend.parse().expect("an address");
        let runtime = Runtime::new().expect("a runtime");
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let log = Arc::new(Log::default());
        let shared = log.clone();
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let log = shared.clone();
                let service = service_fn(move |request| pass(log.clone(), backend, request));
                tokio::spawn(server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        Self { address, log, _runtime: runtime }
    }

    pub(crate) fn address(&self) -> String {
        self.address.to_string()
    }

    /// The next answer to a request by this method is lost: the backend has done what was asked, and nobody is told.
    pub(crate) fn lose_the_next_answer_to(&self, method: &'static str) {
        self.log.seen().losing.push(method);
    }

    pub(crate) fn exchanges(&self) -> Vec<Exchange> {
        self.log.seen().exchanges.clone()
    }

    /// Waits until something has been answered.
    pub(crate) fn sees(&self, what: &str, is_it: impl Fn(&Exchange) -> bool) -> Exchange {
        let there = |seen: &Seen| seen.exchanges.iter().find(|one| one.answered.is_some() && is_it(one)).cloned();
        let waiting = self.log.more.wait_timeout_while(self.log.seen(), PATIENCE, |seen| there(seen).is_none());
        let seen = waiting.unwrap_or_else(PoisonError::into_inner).0;
        there(&seen).unwrap_or_else(|| panic!("{what} does not come: {:#?}", seen.exchanges))
    }

    /// Every state that was written was written under the lock on it, by its ID, between LOCK and UNLOCK; and nobody had it
    /// at the same time. How many there were.
    pub(crate) fn all_wrote_under_the_lock(&self) -> usize {
        let exchanges = self.exchanges();
        let begun = exchanges.iter().map(|one| (one.asked, one));
        let ended = exchanges.iter().filter_map(|one| Some((one.answered?, one)));
        let mut events: Vec<_> = begun.chain(ended).collect();
        events.sort_by_key(|(at, _)| *at);
        let (mut holder, mut writes): (Option<&str>, usize) = (None, 0);
        for (at, one) in events {
            let (begins, id) = (at == one.asked, one.id.as_deref());
            if one.status != 200 {
                continue;
            }
            // What ends a lock may do so as soon as it is asked for; what begins one has done so when it is answered.
            if one.is_unlock() && begins && (id.is_none() || id == holder) {
                holder = None;
            } else if one.is_lock() && !begins {
                assert!(holder.is_none() || holder == id, "two have the lock at once: {exchanges:#?}");
                holder = id;
            } else if one.is_write() && begins {
                assert!(holder.is_some() && holder == id, "written without the lock: {one:?} of {exchanges:#?}");
                writes += 1;
            }
        }
        writes
    }
}

impl Log {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self, mut exchange: Exchange) -> usize {
        let mut seen = self.seen();
        exchange.asked = seen.tick();
        seen.exchanges.push(exchange);
        seen.exchanges.len() - 1
    }

    /// Whether the answer is to be lost.
    fn end(&self, at: usize, status: u16, answer: String) -> bool {
        let mut seen = self.seen();
        let now = seen.tick();
        let position = seen.losing.iter().position(|method| *method == seen.exchanges[at].method);
        let lost = position.map(|position| seen.losing.remove(position)).is_some();
        let exchange = &mut seen.exchanges[at];
        (exchange.answered, exchange.status, exchange.answer, exchange.lost) = (Some(now), status, answer, lost);
        self.more.notify_all();
        lost
    }
}

impl Seen {
    fn tick(&mut self) -> u64 {
        self.events += 1;
        self.events
    }
}

async fn pass(log: Arc<Log>, backend: SocketAddr, request: Request<Incoming>) -> io::Result<Response<Full<Bytes>>> {
    let (mut head, body) = request.into_parts();
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    let at = log.begin(Exchange {
        user: user(&head.headers),
        method: head.method.to_string(),
        target: head.uri.path().to_owned(),
        id: id(head.uri.query(), &body),
        asked: 0,
        answered: None,
        status: 0,
        answer: String::new(),
        lost: false,
    });
    // It has been read whole, so it goes on with its length.
    head.headers.remove(header::TRANSFER_ENCODING);
    head.headers.insert(header::CONTENT_LENGTH, body.len().into());
    let (status, headers, answer) = forward(backend, Request::from_parts(head, Full::new(body))).await?;
    if log.end(at, status, String::from_utf8_lossy(&answer).into_owned()) {
        return Err(io::Error::other("this answer is lost"));
    }
    let mut response = Response::new(Full::new(answer));
    *response.status_mut() = http::StatusCode::from_u16(status).expect("it was one");
    *response.headers_mut() = headers;
    Ok(response)
}

async fn forward(backend: SocketAddr, request: Request<Full<Bytes>>) -> io::Result<(u16, HeaderMap, Bytes)> {
    let stream = TcpStream::connect(backend).await?;
    let (mut sender, connection) = client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    tokio::spawn(connection);
    let (head, body) = sender.send_request(request).await.map_err(io::Error::other)?.into_parts();
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    Ok((head.status.as_u16(), head.headers, body))
}

fn user(headers: &HeaderMap) -> String {
    let credentials = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Basic "));
    let credentials = credentials.and_then(|text| String::from_utf8(BASE64_STANDARD.decode(text).ok()?).ok());
    credentials.unwrap_or_default().split(':').next().unwrap_or_default().to_owned()
}

fn id(query: Option<&str>, body: &[u8]) -> Option<String> {
    let queried = form_urlencoded::parse(query.unwrap_or_default().as_bytes()).find(|(name, _)| name == "ID");
    queried.map(|(_, id)| id.into_owned()).or_else(|| {
        let body: serde_json::Value = serde_json::from_slice(body).ok()?;
        body["ID"].as_str().map(str::to_owned)
    })
}
