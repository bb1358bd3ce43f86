//! Requests to the nodes, each with a time after which it counts as hanging.

use std::{
    fmt::Display,
    sync::{Arc, RwLock},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde_json::Value;

/// No call of a client may take this long, whatever is broken.
pub(crate) const HANGS: Duration = Duration::from_secs(30);

/// A client with connections of its own.
#[derive(Clone)]
pub(crate) struct Http {
    client: Client<HttpConnector, Full<Bytes>>,
    ports: Arc<RwLock<Vec<u16>>>,
    user: String,
}

/// A request in the making.
pub(crate) struct Ask {
    pub(crate) method: &'static str,
    pub(crate) path: String,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: String,
}

pub(crate) fn ask(method: &'static str, path: impl Into<String>) -> Ask {
    Ask { method, path: path.into(), headers: Vec::new(), body: String::new() }
}

impl Ask {
    #[must_use]
    pub(crate) fn header(mut self, name: &'static str, value: impl Display) -> Self {
        self.headers.push((name, format!("{value}")));
        self
    }

    #[must_use]
    pub(crate) fn json(mut self, body: &Value) -> Self {
        self.body = body.to_string();
        self.header("content-type", "application/json")
    }
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {:?}", self.body))
    }
}

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum NoAnswer {
    /// The node is not there, or went away.
    Gone,
    /// It took longer than [`HANGS`].
    Hangs,
}

impl Http {
    pub(crate) fn new(user: impl Into<String>, ports: Arc<RwLock<Vec<u16>>>) -> Self {
        let client = Client::builder(TokioExecutor::new()).retry_canceled_requests(false).build_http();
        Self { client, ports, user: user.into() }
    }

    pub(crate) fn nodes(&self) -> usize {
        self.ports.read().expect("no panic under it").len()
    }

    pub(crate) async fn send(&self, node: usize, ask: Ask) -> Result<Answer, NoAnswer> {
        let port = self.ports.read().expect("no panic under it")[node];
        let mut request = ::http::Request::builder()
            .method(ask.method)
            .uri(format!("http://127.0.0.1:{port}{}", ask.path))
            .header("x-user", &self.user);
        for (name, value) in &ask.headers {
            request = request.header(*name, value);
        }
        let request = request.body(Full::from(ask.body)).expect("a sound request");
        let answered = async {
            let response = self.client.request(request).await.map_err(|_| NoAnswer::Gone)?;
            let status = response.status().as_u16();
            let body = response.into_body().collect().await.map_err(|_| NoAnswer::Gone)?.to_bytes();
            Ok(Answer { status, body })
        };
        tokio::time::timeout(HANGS, answered).await.unwrap_or(Err(NoAnswer::Hangs))
    }
}
