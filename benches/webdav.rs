//! What class 2 costs a handler of class 1: `cargo bench --features webdav --bench webdav`. Figures: `benches/README.md`.
//!
//! The handler is `dav-server` with its files in memory, bare and behind [`DavLayer`]. Both are asked the same, in turns
//! and in short rounds, so that whatever else the machine does hits both; the medians are compared.

use std::{convert::Infallible, future::Future, pin::Pin, time::Instant};

use bytes::Bytes;
use dav_server::{DavHandler, memfs::MemFs};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_lock::{AuthorizeAsk, DavLayer, Locks, MemoryStore, locks::Access, webdav::RequestBody};

type Answer = Response<UnsyncBoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>>;
type Ask = Box<dyn FnMut(Request<Full<Bytes>>) -> Pin<Box<dyn Future<Output = Answer>>>>;

/// Members of the collection that is listed.
const MEMBERS: usize = 100;
/// Calls of a case before it is the next one's turn.
const BATCH: usize = 16;

const ALL: &str = "<?xml version=\"1.0\"?><D:propfind xmlns:D=\"DAV:\"><D:allprop/></D:propfind>";
const ONE: &str = "<?xml version=\"1.0\"?><D:propfind xmlns:D=\"DAV:\"><D:prop><D:getetag/></D:prop></D:propfind>";
const LOCK: &str = "<?xml version=\"1.0\"?><D:lockinfo xmlns:D=\"DAV:\"><D:lockscope><D:exclusive/></D:lockscope>\
                    <D:locktype><D:write/></D:locktype><D:owner>ann</D:owner></D:lockinfo>";

fn main() {
    // `cargo bench` says so; `cargo test --benches` does not, and then each case just has to work.
    let measuring = std::env::args().any(|arg| arg == "--bench");
    let rounds = if measuring { 300 } else { 1 };
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
        println!("all {} cases work; cargo bench --features webdav --bench webdav measures them", cases.len());
        return;
    }
    let medians: Vec<f64> = cases.iter_mut().map(|case| median(&mut case.spent)).collect();
    println!("{:<52} {:>10} {:>8}", "", "µs a call", "to bare");
    for (case, spent) in cases.iter().zip(&medians) {
        let ratio = case.bare.map_or(String::new(), |bare| format!("{:.2}", spent / medians[bare]));
        println!("{:<52} {spent:>10.1} {ratio:>8}", case.name);
    }
}

struct Case {
    name: &'static str,
    /// The row with the same requests to the bare handler.
    bare: Option<usize>,
    ask: Ask,
    requests: Box<dyn Fn(usize) -> Request<Full<Bytes>>>,
    expected: StatusCode,
    spent: Vec<f64>,
}

impl Case {
    /// Microseconds a call.
    async fn batch(&mut self) -> f64 {
        let requests: Vec<_> = (0..BATCH).map(&self.requests).collect();
        let start = Instant::now();
        for request in requests {
            let answer = (self.ask)(request).await;
            assert_eq!(answer.status(), self.expected, "{}", self.name);
            answer.into_body().collect().await.expect("a body");
        }
        start.elapsed().as_secs_f64() * 1e6 / BATCH as f64
    }
}

/// The files behind whatever stands before them, as the cases ask.
fn asking<S, B>(service: S) -> Ask
where
    S: Service<Request<Full<Bytes>>, Response = Response<B>, Error = Infallible> + Clone + 'static,
    B: http_body::Body<Data = Bytes, Error: std::error::Error + Send + Sync> + Send + 'static,
{
    Box::new(move |request| {
        let service = service.clone();
        Box::pin(async move {
            let Ok(answer) = service.oneshot(request).await;
            answer.map(|body| body.map_err(Into::into).boxed_unsync())
        })
    })
}

/// A handler with a listing of [`MEMBERS`] files, behind a layer or not.
async fn handler(locks: Option<Locks>) -> Ask {
    let files = DavHandler::builder().filesystem(MemFs::new()).build_handler();
    let mut ask = match locks {
        None => asking(service_fn(move |request: Request<Full<Bytes>>| {
            let files = files.clone();
            async move { Ok(files.handle(request).await) }
        })),
        Some(locks) => asking(DavLayer::new(locks).layer(service_fn(move |request: Request<RequestBody<Full<Bytes>>>| {
            let files = files.clone();
            async move { Ok(files.handle(request).await) }
        }))),
    };
    ask(request("MKCOL", "/all", &[], "")).await;
    for member in 0..MEMBERS {
        ask(request("PUT", &format!("/all/{member}"), &[], "text")).await;
    }
    ask
}

fn open() -> Locks {
    let anything = |_: &AuthorizeAsk<'_>| Access::Allowed;
    Locks::builder(MemoryStore::new()).allow_anonymous().authorizer(anything).build()
}

fn request(method: &str, path: &str, headers: &[(&str, &str)], body: &'static str) -> Request<Full<Bytes>> {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Full::new(Bytes::from_static(body.as_bytes()))).expect("a request")
}

/// Locks `path`, and answers what `If` has to say for that.
async fn locked(ask: &mut Ask, path: &str) -> String {
    let answer = ask(request("LOCK", path, &[("depth", "0")], LOCK)).await;
    assert_eq!(answer.status(), StatusCode::OK, "{path} is there and free");
    let token = answer.headers()["lock-token"].to_str().expect("a token");
    format!("({token})")
}

async fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |name, bare, ask, expected, requests: Box<dyn Fn(usize) -> Request<Full<Bytes>>>| {
        cases.push(Case { name, bare, ask, requests, expected, spent: Vec::new() });
        cases.len() - 1
    };
    let get = || -> Box<dyn Fn(usize) -> _> { Box::new(|at| request("GET", &format!("/all/{at}"), &[], "")) };
    let put = || -> Box<dyn Fn(usize) -> _> { Box::new(|at| request("PUT", &format!("/all/{at}"), &[], "new")) };
    let list =
        |body| -> Box<dyn Fn(usize) -> _> { Box::new(move |_| request("PROPFIND", "/all/", &[("depth", "1")], body)) };
    let multi = StatusCode::MULTI_STATUS;

    let bare_get = add("GET, bare", None, handler(None).await, StatusCode::OK, get());
    add("GET", Some(bare_get), handler(Some(open())).await, StatusCode::OK, get());

    let bare_put = add("PUT, bare", None, handler(None).await, StatusCode::NO_CONTENT, put());
    add("PUT, no lock", Some(bare_put), handler(Some(open())).await, StatusCode::NO_CONTENT, put());

    let mut held = handler(Some(open())).await;
    let token = locked(&mut held, "/all/0").await;
    let header = token.clone();
    let under = move |_| request("PUT", "/all/0", &[("if", &header)], "new");
    add("PUT under a lock, with its token", Some(bare_put), held, StatusCode::NO_CONTENT, Box::new(under));

    let mut held = handler(Some(open())).await;
    locked(&mut held, "/all/0").await;
    let refused = |_| request("PUT", "/all/0", &[], "new");
    add("PUT refused, 423", Some(bare_put), held, StatusCode::LOCKED, Box::new(refused));

    let mut held = handler(Some(open())).await;
    locked(&mut held, "/all/").await;
    add("PUT of a member of a collection locked with depth 0", Some(bare_put), held, StatusCode::NO_CONTENT, put());

    let bare_all = add("PROPFIND of 100 members, allprop, bare", None, handler(None).await, multi, list(ALL));
    add("PROPFIND of 100 members, allprop", Some(bare_all), handler(Some(open())).await, multi, list(ALL));
    let mut held = handler(Some(open())).await;
    for member in 0..MEMBERS {
        locked(&mut held, &format!("/all/{member}")).await;
    }
    add("PROPFIND of 100 members, allprop, each locked", Some(bare_all), held, multi, list(ALL));

    let bare_one = add("PROPFIND of 100 members, getetag alone, bare", None, handler(None).await, multi, list(ONE));
    add("PROPFIND of 100 members, getetag alone", Some(bare_one), handler(Some(open())).await, multi, list(ONE));
    cases
}

fn median(spent: &mut [f64]) -> f64 {
    spent.sort_by(f64::total_cmp);
    spent[spent.len() / 2]
}
