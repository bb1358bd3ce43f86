//! The layer beside other layers, all around the same service.

use std::{
    convert::Infallible,
    fmt::Write,
    hint::black_box,
    sync::Arc,
    task::{Context, Waker},
};

use axum::{
    body::Body,
    extract::Request,
    middleware::{Next, from_fn},
    response::Response,
};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use http_body_util::BodyExt;
use tower::{Service, ServiceBuilder, service_fn};
use tower_governor::{GovernorLayer, governor::GovernorConfigBuilder, key_extractor::GlobalKeyExtractor};
use tower_http::validate_request::ValidateRequestHeaderLayer;
use tower_lock::{LockLayer, Locks, Refusal};

use super::{
    harness::{Bench, CALLS, DoNothingLayer, Id, Over, ask, grouped, now, sure},
    standing::{HELD, Ours, Standing, UNLOCKED, beside, near},
};

/// The cases of layers, each over its bare service.
pub struct Layers {
    bare: [Id; 4],
    pub nothing: Over,
    pub validate: Over,
    pub governor: Over,
    pub from_fn: Over,
    pub read: Over,
    pub read_wrapped: Over,
    /// At 0, 1,000 and the most locks.
    pub write: [Over; 3],
    /// At 1,000 and the most locks of mixed depths.
    pub mixed: [Over; 2],
    /// At 0 and the most locks.
    pub check_only: [Over; 2],
    pub holder: Over,
    pub refusal: Over,
    /// Of two threads: different parents, the same parent.
    pub two: [Over; 2],
    pub most: usize,
}

impl Layers {
    pub fn new(bench: &mut Bench, standing: &[Standing], most: usize) -> Self {
        let with = |count| standing.iter().find(|standing| standing.count == count).expect("it was made");
        let (none, thousand, all) = (with(0), with(1_000), with(most));
        let token = thousand.guarded.lock(near(HELD));
        thousand.guarded.lock(beside(0));
        let token = HeaderValue::try_from(format!("(<{}>)", token.urn())).expect("a token fits a header");
        let unlocked = || (0..CALLS).map(|at| near(UNLOCKED + at)).collect();
        let put = || requests(Method::PUT, unlocked(), HeaderMap::new());
        let get = || requests(Method::GET, unlocked(), HeaderMap::new());
        let with_token = || requests(Method::PUT, vec![near(HELD)], HeaderMap::from_iter([(IF, token.clone())]));
        let locked = || requests(Method::PUT, (0..300).map(near).collect(), HeaderMap::new());
        let hermes = (0..CALLS).map(|at| beside(UNLOCKED + at)).collect();
        let others = (0..CALLS).map(|at| near(UNLOCKED + CALLS + at)).collect();
        let parents = [put(), requests(Method::PUT, hermes, HeaderMap::new())];
        let siblings = [put(), requests(Method::PUT, others, HeaderMap::new())];
        let ok = StatusCode::OK;

        let read = bench.service("bare service, read", &bare(), get(), ok);
        let write = bench.service("bare service, write", &bare(), put(), ok);
        let held = bench.service("bare service, write with a token", &bare(), with_token(), ok);
        let two = bench.service_on(2, "bare service, write, 2 threads", &bare(), of_threads(siblings.clone()), ok);

        let nothing = ServiceBuilder::new().layer(DoNothingLayer).service(bare());
        let nothing = bench.service("do-nothing layer, write", &nothing, put(), ok).over(write);
        let validate = ServiceBuilder::new().layer(ValidateRequestHeaderLayer::accept("application/json")).service(bare());
        refuses_other_media_types(validate.clone());
        let validate = bench.service("tower_http ValidateRequestHeader (accept), write", &validate, put(), ok).over(write);
        let governor = governed();
        let governor = bench.service("tower_governor, one global key, write", &governor, put(), ok).over(write);
        let next = async |request: Request, next: Next| next.run(request).await;
        let empty = ServiceBuilder::new().layer(from_fn(next)).service(bare());
        let from_fn = bench.service("empty axum from_fn, write (one unit)", &empty, put(), ok).over(write);

        let hub = &thousand.guarded.locks;
        let closure = ServiceBuilder::new().layer(LockLayer::new(hub.clone()).respond_with(answer)).service(bare());
        refuses(closure.clone(), near(0));
        let closure = bench.service("locks: read, body type unchanged", &closure, get(), ok).over(read);
        let wrapped = bench.service("locks: read, wrapped body", &layered(hub), get(), ok).over(read);

        let guarded = |bench: &mut Bench, ours: &Ours, count: usize, kind: &str| {
            registers(ours, 1);
            let name = format!("locks: unlocked write, {} locks{kind}", grouped(count));
            bench.service(name, &layered(&ours.locks), put(), ok).over(write)
        };
        let writes = [none, thousand, all].map(|at| guarded(bench, &at.guarded, at.count, ""));
        let mixed = [1_000, most].map(|count| guarded(bench, &Ours::mixed(count), count, " at depths 2 to 8"));
        let check_only = [none, all].map(|at| {
            registers(&at.check_only, 0);
            let name = format!("locks: unlocked write, check-only, {} locks", grouped(at.count));
            bench.service(name, &layered(&at.check_only.locks), put(), ok).over(write)
        });
        refuses(layered(hub), near(HELD));
        let holder = bench.service("locks: holder's write, 1,000 locks", &layered(hub), with_token(), ok).over(held);
        says_why(layered(hub));
        let refusal =
            bench.service("locks: refusal with its JSON body", &layered(hub), locked(), StatusCode::LOCKED).over(write);
        let parents = bench
            .service_on(2, "locks: unlocked write, 2 threads, different parents", &layered(hub), of_threads(parents), ok)
            .over(two);
        let siblings = bench
            .service_on(2, "locks: unlocked write, 2 threads, same parent", &layered(hub), of_threads(siblings), ok)
            .over(two);
        let layers = Self {
            bare: [read, write, held, two],
            nothing,
            validate,
            governor,
            from_fn,
            read: closure,
            read_wrapped: wrapped,
            write: writes,
            mixed,
            check_only,
            holder,
            refusal,
            two: [parents, siblings],
            most,
        };
        for over in layers.layered() {
            bench.compare(over);
        }
        layers
    }

    fn layered(&self) -> Vec<Over> {
        let peers = [self.nothing, self.validate, self.governor, self.from_fn, self.read, self.read_wrapped];
        let rest = [self.holder, self.refusal];
        peers.into_iter().chain(self.write).chain(self.mixed).chain(self.check_only).chain(rest).chain(self.two).collect()
    }

    pub fn all(&self) -> Vec<Id> {
        self.bare.into_iter().chain(self.layered().into_iter().map(|over| over.case)).collect()
    }

    /// What the layers add, for the plot: in units.
    pub fn figures(&self, bench: &Bench) -> String {
        let most = grouped(self.most);
        let rows = [
            ("do-nothing layer", self.nothing),
            ("tower_http ValidateRequestHeader", self.validate),
            ("tower_governor, global key", self.governor),
            ("empty axum from_fn", self.from_fn),
            ("read, body type unchanged", self.read),
            ("read, wrapped body", self.read_wrapped),
            ("unlocked write, check-only, 0 locks", self.check_only[0]),
            (&format!("unlocked write, check-only, {most} locks"), self.check_only[1]),
            ("unlocked write, 0 locks", self.write[0]),
            ("unlocked write, 1,000 locks", self.write[1]),
            (&format!("unlocked write, {most} locks"), self.write[2]),
            ("holder's write", self.holder),
            ("refusal with its JSON body", self.refusal),
        ];
        let mut csv = String::new();
        for (name, over) in rows {
            let _ = writeln!(csv, "layers;{name};{:.2};{:.3}", bench.added(over), bench.added_ratio(over, self.from_fn));
        }
        let speedups = [
            ("bare service", self.bare[3], self.bare[1]),
            ("unlocked write through the layer, different parents", self.two[0].case, self.write[1].case),
            ("unlocked write through the layer, same parent", self.two[1].case, self.write[1].case),
        ];
        for (name, two, one) in speedups {
            let _ = writeln!(csv, "threads;{name};2;{:.3}", bench.speedup(two, one));
        }
        csv
    }
}

const IF: header::HeaderName = header::HeaderName::from_static("if");

// --- requests ------------------------------------------------------------------------------------------------------

/// Requests to these paths, one after the other and over again.
fn requests(method: Method, paths: Vec<String>, headers: HeaderMap) -> impl Fn(usize) -> Request + Clone + Send + 'static {
    let uris: Arc<[Uri]> = paths.into_iter().map(|path| path.parse().expect("a path is a URI")).collect();
    move |number| {
        let mut request = Request::new(Body::empty());
        *request.method_mut() = method.clone();
        *request.uri_mut() = uris[number % uris.len()].clone();
        if !headers.is_empty() {
            *request.headers_mut() = headers.clone();
        }
        request
    }
}

fn of_threads<F: Fn(usize) -> Request + Clone>(each: [F; 2]) -> impl Fn(usize, usize) -> Request + Clone {
    move |thread, number| each[thread](number)
}

// --- services ------------------------------------------------------------------------------------------------------

/// The innermost service of every case.
pub fn bare() -> impl Service<Request, Response = Response, Error = Infallible, Future: Send + 'static> + Clone + Send + Sync
{
    service_fn(|request: Request| {
        black_box(&request);
        std::future::ready(Ok(Response::new(Body::empty())))
    })
}

fn layered(
    locks: &Locks,
) -> impl Service<Request, Response = Response<tower_lock::respond::ResponseBody<Body>>, Error = Infallible> + Clone + Send + use<>
{
    ServiceBuilder::new().layer(LockLayer::new(locks.clone())).service(bare())
}

fn answer(refusal: &Refusal, _: &http::request::Parts) -> Response {
    Response::builder().status(refusal.status()).body(Body::empty()).expect("a plain response")
}

fn governed() -> impl Service<Request, Response = Response, Error = Infallible> + Clone + Send {
    let mut config = GovernorConfigBuilder::default().key_extractor(GlobalKeyExtractor);
    // It never refuses: as many as it can count, and one more each nanosecond.
    let config = config.per_nanosecond(1).burst_size(u32::MAX).finish().expect("a period and a size");
    ServiceBuilder::new().layer(GovernorLayer::new(config)).service(bare())
}

/// How large the futures are that a call moves about.
pub fn sizes() -> String {
    fn of<S: Service<Request>>(mut service: S) -> usize {
        size_of_val(&service.call(Request::new(Body::empty())))
    }
    let locks = Locks::builder(tower_lock::MemoryStore::new()).build();
    let closure = ServiceBuilder::new().layer(LockLayer::new(locks.clone()).respond_with(answer)).service(bare());
    format!(
        "Sizes of the futures: bare service (the inner one) {} bytes; locks, body type unchanged {}; locks, wrapped body {}.\n",
        of(bare()),
        of(closure),
        of(layered(&locks))
    )
}

// --- what the cases have to show -----------------------------------------------------------------------------------

fn refuses_other_media_types<S>(mut service: S)
where
    S: Service<Request, Response = Response, Error = Infallible>,
{
    let mut request = Request::new(Body::empty());
    request.headers_mut().insert(header::ACCEPT, HeaderValue::from_static("text/plain"));
    assert_eq!(ask(&mut service, request, Waker::noop()).status(), StatusCode::NOT_ACCEPTABLE);
}

/// A write to a locked path is refused.
fn refuses<S, B>(mut service: S, path: String)
where
    S: Service<Request, Response = Response<B>, Error = Infallible>,
{
    let request = requests(Method::PUT, vec![path], HeaderMap::new())(0);
    assert_eq!(ask(&mut service, request, Waker::noop()).status(), StatusCode::LOCKED);
}

/// The refusal that is measured has the whole body.
fn says_why<S, B>(mut service: S)
where
    S: Service<Request, Response = Response<B>, Error = Infallible>,
    B: http_body::Body<Error: std::fmt::Debug>,
{
    let request = requests(Method::PUT, vec![near(0)], HeaderMap::new())(0);
    let body = now(ask(&mut service, request, Waker::noop()).into_body().collect()).expect("a body").to_bytes();
    let said: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
    let lock = &said["locks"][0];
    assert_eq!((&said["code"], &lock["resource"]), (&"locked".into(), &near(0).into()));
    assert!(said["detail"].is_string() && lock["expires_at"].is_string(), "{said}");
}

/// As many writes are registered while one runs, and none after it.
fn registers(ours: &Ours, writes: usize) {
    let mut service = layered(&ours.locks);
    let request = requests(Method::PUT, vec![near(UNLOCKED)], HeaderMap::new())(0);
    assert!(service.poll_ready(&mut Context::from_waker(Waker::noop())).is_ready());
    let running = service.call(request);
    assert_eq!(ours.memory.stats().in_flight, writes);
    assert_eq!(sure(now(running)).status(), StatusCode::OK);
    assert_eq!(ours.memory.stats().in_flight, 0);
}
