//! `Line`: what lies between a client and a server, and what can go wrong on it.

use std::{
    collections::VecDeque,
    future::pending,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response};
use http_body_util::Full;
use tower::{Service, service_fn};
use tower_lock::client::{Jitter, RemoteLocks};

use crate::{
    kit::{Client, Cut, Server},
    support::{Answer, Text},
};

/// What becomes of a request.
#[derive(Clone, Debug)]
pub(crate) enum Fate {
    /// It is answered.
    Passes,
    /// It never gets there.
    Cut,
    /// It gets there and is done, and the answer is lost.
    AnswerCut,
    /// It gets there and is done, and somebody else answers.
    AnswerReplaced(Response<Text>),
    /// It gets there and is done, and nothing is ever heard.
    AnswerHangs,
    /// It gets there after so long, though the client hangs up.
    Late(Duration),
    /// Its answer takes so long.
    Slow(Duration),
    /// Somebody else answers.
    Answered(Response<Text>),
}

/// A request as it was sent.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) method: Method,
    pub(crate) uri: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Sent {
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

/// A line to the endpoint of a server.
#[derive(Clone)]
pub(crate) struct Line(Arc<Mutex<State>>);

struct State {
    endpoint: Client,
    /// Of the next requests.
    next: VecDeque<Fate>,
    /// Of those after.
    rest: Fate,
    sent: Vec<Sent>,
}

impl Line {
    pub(crate) fn to(endpoint: Client) -> Self {
        Self(Arc::new(Mutex::new(State { endpoint, next: VecDeque::new(), rest: Fate::Passes, sent: Vec::new() })))
    }

    /// What becomes of the next requests, one by one.
    pub(crate) fn next(&self, fates: impl IntoIterator<Item = Fate>) {
        self.0.lock().unwrap().next.extend(fates);
    }

    /// What becomes of all others from now on.
    pub(crate) fn all(&self, fate: Fate) {
        self.0.lock().unwrap().rest = fate;
    }

    /// The line is good from now on.
    pub(crate) fn passes(&self) {
        let mut state = self.0.lock().unwrap();
        state.next.clear();
        state.rest = Fate::Passes;
    }

    /// What was sent so far.
    pub(crate) fn sent(&self) -> Vec<Sent> {
        self.0.lock().unwrap().sent.clone()
    }

    pub(crate) fn count(&self, method: &str) -> usize {
        self.sent().iter().filter(|sent| sent.method == method).count()
    }

    /// The locks at the other end.
    pub(crate) fn locks(&self) -> RemoteLocks {
        self.locks_at("http://host/locks")
    }

    pub(crate) fn locks_at(&self, url: &str) -> RemoteLocks {
        let line = self.clone();
        let service = service_fn(move |request| line.clone().carry(request));
        RemoteLocks::new(service, url).expect("a URL").jitter(Jitter::fixed(0.5))
    }

    async fn carry(self, request: Request<Full<Bytes>>) -> Result<Response<Text>, Cut> {
        let (head, body) = request.into_parts();
        let body = http_body_util::BodyExt::collect(body).await.expect("a body").to_bytes();
        let (fate, endpoint) = {
            let mut state = self.0.lock().unwrap();
            state.sent.push(Sent {
                method: head.method.clone(),
                uri: head.uri.to_string(),
                headers: head.headers.clone(),
                body: body.clone(),
            });
            (state.next.pop_front().unwrap_or_else(|| state.rest.clone()), state.endpoint.clone())
        };
        let asked = ask(endpoint, Request::from_parts(head, Full::new(body)));
        match fate {
            Fate::Passes => asked.await,
            Fate::Cut => Err(Cut),
            Fate::AnswerCut => asked.await.and(Err(Cut)),
            Fate::AnswerReplaced(answer) => asked.await.and(Ok(answer)),
            Fate::AnswerHangs => {
                asked.await?;
                pending().await
            }
            Fate::Late(span) => {
                tokio::spawn(async move {
                    tokio::time::sleep(span).await;
                    drop(asked.await);
                });
                pending().await
            }
            Fate::Slow(span) => {
                let answer = asked.await;
                tokio::time::sleep(span).await;
                answer
            }
            Fate::Answered(answer) => Ok(answer),
        }
    }
}

async fn ask(mut endpoint: Client, request: Request<Full<Bytes>>) -> Result<Response<Text>, Cut> {
    let answer = Answer::of(endpoint.call(request).await?).await;
    let mut response = Response::new(Full::new(answer.body));
    (*response.status_mut(), *response.headers_mut()) = (answer.status, answer.headers);
    Ok(response)
}

impl Server {
    /// A line to it, for this user.
    pub(crate) fn line(&self, user: &'static str) -> Line {
        Line::to(self.endpoint(user))
    }
}
