//! What the layer costs: `cargo bench --bench overhead`. Method and figures: `benches/README.md`.
//!
//! Every case is a tower service with the same innermost service, which answers at once. The cases take turns in short
//! rounds, so that whatever else the machine does hits all of them, and the medians are compared. Requests are built
//! outside of the timing. The unit of the last column is what an empty `axum::middleware::from_fn` adds.

use std::{
    convert::Infallible,
    future::Future,
    hint::black_box,
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
    thread,
    time::{Duration, Instant},
};

use axum::{
    body::Body,
    extract::Request,
    middleware::{Next, from_fn},
    response::Response,
};
use http::{HeaderValue, Method, StatusCode, Uri, header::HeaderName};
use pin_project_lite::pin_project;
use tower::{Layer, Service, ServiceBuilder, service_fn};
use tower_lock::{Limits, LockLayer, LockRequest, Locks, MemoryStore};

/// Calls that are timed in one go; their requests are built before.
const BATCH: usize = 256;
/// Batches of a case before it is the next one's turn.
const BATCHES: usize = 8;
/// Different paths that the writes of a case go to.
const PATHS: usize = 4096;

fn main() {
    // `cargo bench` says so; `cargo test --benches` does not, and then each case just has to work.
    let measuring = std::env::args().any(|arg| arg == "--bench");
    let (rounds, most) = if measuring { (400, 1_000_000) } else { (1, 1_000) };
    let stores = [0, 1_000, most].map(Store::with);
    let mut cases = cases(&stores);
    for round in 0..=rounds {
        for case in &mut cases {
            let spent = (case.run)();
            // The first round warms up.
            if round > 0 {
                case.spent.push(spent);
            }
        }
    }
    if measuring {
        print!("{}", table(&mut cases));
    } else {
        println!("all {} cases work; cargo bench --bench overhead measures them", cases.len());
    }
}

/// One row of the table.
struct Case {
    name: String,
    /// The row that shows the same calls without a layer; none for such a row itself.
    bare: Option<usize>,
    run: Box<dyn FnMut() -> f64>,
    spent: Vec<f64>,
}

const BARE_READ: usize = 0;
const BARE_WRITE: usize = 1;
const BARE_WITH_TOKEN: usize = 2;
const BARE_ON_TWO: usize = 3;
const FROM_FN: usize = 5;

fn cases(stores: &[Store]) -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |name: String, bare, run| cases.push(Case { name, bare, run, spent: Vec::new() });
    let free = || Traffic::new(Method::PUT, (0..PATHS).map(|at| path(5, UNLOCKED + at)));
    let [_, thousand, _] = stores else { unreachable!("three stores were made") };
    let token = HeaderValue::try_from(format!("(<{}>)", thousand.token.urn())).expect("a token fits a header");
    let with_token = || Traffic::new(Method::PUT, [path(5, HELD)]).with("if", token.clone());
    let ok = StatusCode::OK;

    add("bare service, read".into(), None, run(&bare(), &free().by(Method::GET), 1, ok));
    add("bare service, write".into(), None, run(&bare(), &free(), 1, ok));
    add("bare service, write with a token".into(), None, run(&bare(), &with_token(), 1, ok));
    add("bare service, write, 2 threads".into(), None, run(&bare(), &free(), 2, ok));

    let nothing = ServiceBuilder::new().layer(DoNothingLayer).service(bare());
    add("do-nothing layer, write".into(), Some(BARE_WRITE), run(&nothing, &free(), 1, ok));
    let next = async |request: Request, next: Next| next.run(request).await;
    let empty = ServiceBuilder::new().layer(from_fn(next)).service(bare());
    add("empty axum from_fn, write".into(), Some(BARE_WRITE), run(&empty, &free(), 1, ok));

    add("locks: read".into(), Some(BARE_READ), run(&thousand.service(), &free().by(Method::GET), 1, ok));
    for store in stores {
        for depth in DEPTHS {
            let traffic = Traffic::new(Method::PUT, (0..PATHS).map(|at| path(depth, UNLOCKED + at)));
            for (threads, row, bare) in [(1, "", BARE_WRITE), (2, ", 2 threads", BARE_ON_TWO)] {
                let name = format!("locks: unlocked write, {} locks, depth {depth}{row}", grouped(store.count));
                add(name, Some(bare), run(&store.service(), &traffic, threads, ok));
            }
        }
    }
    add("locks: holder's write".into(), Some(BARE_WITH_TOKEN), run(&thousand.service(), &with_token(), 1, ok));
    let locked = Traffic::new(Method::PUT, (0..300).map(|at| path(5, at)));
    add(
        "locks: refusal with its JSON body".into(),
        Some(BARE_WRITE),
        run(&thousand.service(), &locked, 1, StatusCode::LOCKED),
    );
    cases
}

// --- services ------------------------------------------------------------------------------------------------------

trait Called: Service<Request, Response: Answered, Error = Infallible> + Clone + Send + 'static {}
impl<S> Called for S where S: Service<Request, Response: Answered, Error = Infallible> + Clone + Send + 'static {}

trait Answered {
    fn code(&self) -> StatusCode;
}

impl<B> Answered for http::Response<B> {
    fn code(&self) -> StatusCode {
        self.status()
    }
}

/// The innermost service of every case.
fn bare() -> impl Service<Request, Response = Response, Error = Infallible, Future: Send + 'static> + Clone + Send + Sync {
    service_fn(|request: Request| {
        black_box(&request);
        std::future::ready(Ok(Response::new(Body::empty())))
    })
}

#[derive(Clone)]
struct DoNothingLayer;

#[derive(Clone)]
struct DoNothing<S>(S);

pin_project! {
    struct DoNothingFuture<F> {
        #[pin]
        inner: F,
    }
}

impl<S> Layer<S> for DoNothingLayer {
    type Service = DoNothing<S>;

    fn layer(&self, inner: S) -> DoNothing<S> {
        DoNothing(inner)
    }
}

impl<S: Service<Request>> Service<Request> for DoNothing<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = DoNothingFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        DoNothingFuture { inner: self.0.call(request) }
    }
}

impl<F: Future> Future for DoNothingFuture<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        self.project().inner.poll(cx)
    }
}

// --- locks ---------------------------------------------------------------------------------------------------------

/// How many segments the paths of the writes have. All of them are 44 bytes long.
const DEPTHS: [usize; 3] = [1, 5, 10];
/// Documents from this number on are not locked; those before are, as many as there are locks.
const UNLOCKED: usize = 5_000_000;
/// The document of the holder's writes.
const HELD: usize = 9_000_000;

/// The path of a document. Those of one depth are siblings, so an unlocked one shares all its parents with locked ones.
fn path(depth: usize, number: usize) -> String {
    let path = match depth {
        1 => format!("/document-{number:034}"),
        5 => format!("/tenants/acme/projects/apollo/doc-{number:010}"),
        _ => format!("/aaa/bbb/ccc/ddd/eee/fff/ggg/hhh/iii/{number:07}"),
    };
    assert_eq!((path.len(), path.matches('/').count()), (44, depth));
    path
}

/// Locks in memory, a third of them beside the paths of each depth.
struct Store {
    locks: Locks,
    count: usize,
    token: tower_lock::LockToken,
}

impl Store {
    fn with(count: usize) -> Self {
        let mut limits = Limits::default();
        limits.locks_per_principal = usize::MAX;
        limits.locks_in_store = usize::MAX;
        let locks = Locks::builder(MemoryStore::new()).limits(limits).build();
        let lock = |path: String| {
            let request = LockRequest::exclusive(path).kind(tower_lock::LockKind::Job).reason("nightly export");
            now(locks.acquire(request.lifetime(Duration::from_secs(24 * 60 * 60)))).expect("the path is free").token()
        };
        for at in 0..count {
            lock(path(DEPTHS[at % 3], at / 3));
        }
        // The store without a lock has to stay without one.
        let token = if count == 0 { tower_lock::LockToken::random() } else { lock(path(5, HELD)) };
        Self { locks, count, token }
    }

    fn service(&self) -> impl Called + use<> {
        ServiceBuilder::new().layer(LockLayer::new(self.locks.clone())).service(bare())
    }
}

/// What a future answers that has nothing to wait for.
fn now<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(answer) => answer,
        Poll::Pending => panic!("nothing here should have to wait"),
    }
}

// --- measuring -----------------------------------------------------------------------------------------------------

/// The requests of a case, over and over.
#[derive(Clone)]
struct Traffic {
    method: Method,
    uris: Vec<Uri>,
    header: Option<(HeaderName, HeaderValue)>,
    at: usize,
}

impl Traffic {
    fn new(method: Method, paths: impl IntoIterator<Item = String>) -> Self {
        let uris = paths.into_iter().map(|path| path.parse().expect("a path is a URI")).collect();
        Self { method, uris, header: None, at: 0 }
    }

    fn by(self, method: Method) -> Self {
        Self { method, ..self }
    }

    fn with(self, name: &'static str, value: HeaderValue) -> Self {
        Self { header: Some((HeaderName::from_static(name), value)), ..self }
    }

    fn next(&mut self) -> Request {
        let mut request = Request::new(Body::empty());
        self.at = (self.at + 1) % self.uris.len();
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.uris[self.at].clone();
        if let Some((name, value)) = &self.header {
            request.headers_mut().insert(name.clone(), value.clone());
        }
        request
    }
}

/// A case's turn: so many threads at once, each with its own clone of the service; the nanoseconds of one call.
fn run<S: Called>(service: &S, traffic: &Traffic, threads: usize, expected: StatusCode) -> Box<dyn FnMut() -> f64> {
    let mut workers: Vec<(S, Traffic)> = (0..threads)
        .map(|thread| (service.clone(), Traffic { at: thread * traffic.uris.len() / threads, ..traffic.clone() }))
        .collect();
    // A case that measures something else than it says would be worse than none.
    let (service, traffic) = &mut workers[0];
    assert_eq!(call(service, traffic.next()).code(), expected);
    Box::new(move || match &mut workers[..] {
        [(service, traffic)] => turn(service, traffic),
        workers => {
            let turns = thread::scope(|scope| {
                let turns: Vec<_> =
                    workers.iter_mut().map(|(service, traffic)| scope.spawn(move || turn(service, traffic))).collect();
                turns.into_iter().map(|turn| turn.join().expect("a worker does not panic")).sum::<f64>()
            });
            turns / threads as f64
        }
    })
}

fn turn<S: Called>(service: &mut S, traffic: &mut Traffic) -> f64 {
    let mut spent = Duration::ZERO;
    let mut requests = Vec::with_capacity(BATCH);
    for _ in 0..BATCHES {
        requests.extend((0..BATCH).map(|_| traffic.next()));
        let start = Instant::now();
        for request in requests.drain(..) {
            black_box(call(service, request));
        }
        spent += start.elapsed();
    }
    spent.as_nanos() as f64 / (BATCH * BATCHES) as f64
}

fn call<S: Called>(service: &mut S, request: Request) -> S::Response {
    let mut cx = Context::from_waker(Waker::noop());
    assert!(service.poll_ready(&mut cx).is_ready());
    match now(service.call(request)) {
        Ok(response) => response,
        Err(never) => match never {},
    }
}

// --- the table -----------------------------------------------------------------------------------------------------

fn table(cases: &mut [Case]) -> String {
    let quartiles: Vec<[f64; 3]> = cases
        .iter_mut()
        .map(|case| {
            case.spent.sort_by(f64::total_cmp);
            [1, 2, 3].map(|quarter| case.spent[(case.spent.len() - 1) * quarter / 4])
        })
        .collect();
    let unit = quartiles[FROM_FN][1] - quartiles[BARE_WRITE][1];
    let mut table = format!(
        "\n{:<56} {:>8} {:>15} {:>10} {:>7}\n{}\n",
        "median of one call, in nanoseconds",
        "ns",
        "middle half",
        "over bare",
        "units",
        "-".repeat(100)
    );
    for (case, [low, median, high]) in cases.iter().zip(&quartiles) {
        let (over, units) = case.bare.map_or_else(Default::default, |bare| {
            let over = median - quartiles[bare][1];
            (format!("{over:.1}"), format!("{:.2}", over / unit))
        });
        let middle = format!("{low:.1} to {high:.1}");
        table += &format!("{:<56} {median:>8.1} {middle:>15} {over:>10} {units:>7}\n", case.name);
    }
    table + &format!("\nOne unit is what an empty axum from_fn adds to the bare write: {unit:.1} ns here.\n")
}

fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let groups: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().map(|group| std::str::from_utf8(group).unwrap_or("")).collect();
    groups.join(",")
}
