//! What locks for each item cost a bulk write: `cargo bench --features batch --bench batch`. Figures: `benches/README.md`.
//!
//! The handler reads records as JSON and answers for each, bare and behind [`BatchLayer`] with [`VaultBatch`]. All are asked
//! in turns and in short rounds, so that whatever else the machine does hits all; the medians are compared.

use std::{convert::Infallible, fmt::Write, future::Future, pin::Pin, time::Instant};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body::Body;
use http_body_util::{BodyExt, Full};
use serde::{Deserialize, Serialize};
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_lock::{BatchLayer, Limits, LockRequest, Locks, MemoryStore, batch::VaultBatch};

type Ask = Box<dyn FnMut(Request<Full<Bytes>>) -> Pin<Box<dyn Future<Output = Response<Bytes>>>>>;

/// Calls of a case before it is the next one's turn: none is so long that a busy machine takes the processor away in most of
/// them.
const BATCH: usize = 1;
/// Every so many records one is locked, where some are.
const LOCKED: usize = 10;

const COLLECTION: &str = "/api/v23.2/vobjects/capa__c";

#[derive(Deserialize)]
struct Record {
    id: String,
    #[serde(rename = "name__v")]
    name: String,
}

#[derive(Serialize)]
struct Answer {
    #[serde(rename = "responseStatus")]
    status: &'static str,
    data: Vec<Done>,
}

#[derive(Serialize)]
struct Done {
    #[serde(rename = "responseStatus")]
    status: &'static str,
    data: Saved,
}

#[derive(Serialize)]
struct Saved {
    id: String,
    length: usize,
}

/// Reads the records, and answers for each.
async fn save<B: Body<Error: std::fmt::Debug>>(request: Request<B>) -> Result<Response<Full<Bytes>>, Infallible> {
    let body = request.into_body().collect().await.expect("a body").to_bytes();
    let records: Vec<Record> = serde_json::from_slice(&body).expect("records");
    let done = |record: Record| Done { status: "SUCCESS", data: Saved { id: record.id, length: record.name.len() } };
    let answer = Answer { status: "SUCCESS", data: records.into_iter().map(done).collect() };
    let body = serde_json::to_vec(&answer).expect("plain data");
    Ok(Response::builder().header("content-type", "application/json").body(body.into()).expect("an answer"))
}

fn main() {
    // `cargo bench` says so; `cargo test --benches` does not, and then each case just has to work.
    let measuring = std::env::args().any(|arg| arg == "--bench");
    let rounds = if measuring { 800 } else { 1 };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let mut cases = runtime.block_on(cases());
    for round in 0..=rounds {
        for case in &mut cases {
            let spent = runtime.block_on(case.batch());
            // The first round warms up.
            if round > 0 {
                case.spent.push(spent);
            }
        }
    }
    if !measuring {
        println!("all {} cases work; cargo bench --features batch --bench batch measures them", cases.len());
        return;
    }
    let medians: Vec<f64> = cases.iter_mut().map(|case| median(&mut case.spent)).collect();
    println!("{:<58} {:>10} {:>10} {:>8}", "", "µs a call", "ns an item", "to bare");
    for (case, spent) in cases.iter().zip(&medians) {
        let item = spent * 1e3 / case.items as f64;
        let ratio = case.bare.map_or(String::new(), |bare| format!("{:.2}", spent / medians[bare]));
        println!("{:<58} {spent:>10.1} {item:>10.0} {ratio:>8}", format!("{} items, {}", case.items, case.name));
    }
}

struct Case {
    name: &'static str,
    items: usize,
    /// The row with the same requests to the bare handler.
    bare: Option<usize>,
    ask: Ask,
    body: Bytes,
    expected: StatusCode,
    spent: Vec<f64>,
}

impl Case {
    /// Microseconds a call.
    async fn batch(&mut self) -> f64 {
        let request = || {
            let request = Request::put(COLLECTION).header("content-type", "application/json");
            request.body(Full::new(self.body.clone())).expect("a request")
        };
        let requests: Vec<_> = (0..BATCH).map(|_| request()).collect();
        let start = Instant::now();
        for request in requests {
            let answer = (self.ask)(request).await;
            assert_eq!(answer.status(), self.expected, "{}", self.name);
        }
        start.elapsed().as_secs_f64() * 1e6 / BATCH as f64
    }
}

fn asking<S, B>(service: S) -> Ask
where
    S: Service<Request<Full<Bytes>>, Response = Response<B>, Error = Infallible> + Clone + 'static,
    B: Body<Data = Bytes, Error: std::fmt::Debug>,
{
    Box::new(move |request| {
        let service = service.clone();
        Box::pin(async move {
            let Ok(answer) = service.oneshot(request).await;
            let (head, body) = answer.into_parts();
            Response::from_parts(head, body.collect().await.expect("a body").to_bytes())
        })
    })
}

fn records(count: usize) -> Bytes {
    let mut text = String::from("[");
    for at in 0..count {
        let comma = if at == 0 { "" } else { "," };
        write!(
            text,
            r#"{comma}{{"id":"V0B{at:012}","name__v":"CAPA {at}","state__v":"in_review","notes__c":"checked at night"}}"#
        )
        .expect("a `String` takes all that is written");
    }
    text.push(']');
    text.into()
}

/// A tenth of so many records is locked, or none.
async fn layer(count: usize, some: bool) -> BatchLayer<VaultBatch> {
    let mut limits = Limits::default();
    limits.locks_per_principal = usize::MAX;
    let locks = Locks::builder(MemoryStore::new()).limits(limits).build();
    for at in (0..count).step_by(LOCKED).filter(|_| some) {
        let request = LockRequest::exclusive(format!("{COLLECTION}/V0B{at:012}")).reason("under review");
        let _granted = locks.acquire(request).await.expect("it is free");
    }
    BatchLayer::new(locks, VaultBatch::new())
}

async fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for items in [100, 500] {
        let body = records(items);
        let mut add = |name, bare, ask, expected| {
            cases.push(Case { name, items, bare, ask, body: body.clone(), expected, spent: Vec::new() });
            cases.len() - 1
        };
        let wrapped = |layer: BatchLayer<VaultBatch>| asking(layer.layer(service_fn(save)));
        let bare = add("bare", None, asking(service_fn(save)), StatusCode::OK);
        let bare = Some(bare);
        add("none locked", bare, wrapped(layer(items, false).await), StatusCode::OK);
        let (whole, some) = (layer(items, true).await, layer(items, true).await);
        // As Vault does: 200, and FAILURE in the body.
        let refused = wrapped(whole.clone())(first(&body)).await.status();
        add("a tenth locked, refused as a whole", bare, wrapped(whole.clone()), refused);
        add("a tenth locked, the others forwarded", bare, wrapped(some.forward_unlocked()), StatusCode::OK);
        add("a tenth locked, all forwarded", bare, wrapped(whole.forward_all()), StatusCode::OK);
    }
    cases
}

fn first(body: &Bytes) -> Request<Full<Bytes>> {
    let request = Request::put(COLLECTION).header("content-type", "application/json");
    request.body(Full::new(body.clone())).expect("a request")
}

fn median(spent: &mut [f64]) -> f64 {
    spent.sort_by(f64::total_cmp);
    spent[spent.len() / 2]
}
