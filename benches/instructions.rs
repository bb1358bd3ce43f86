//! How many instructions a call takes, and how many it may take: `cargo bench --bench instructions`. It needs valgrind, and
//! fails where a bound is passed.
//!
//! Unlike time, instructions are the same on a busy machine and on a quiet one, so they are what must not regress. The program
//! runs itself under `valgrind --tool=callgrind` for each case, which counts inside of [`counted_calls`] alone: setting locks
//! takes more or less from run to run. What the base takes is taken off, building and dropping the request among it.
//!
//! With `--case NAME CALLS` it only makes the calls of one case, for a profile of your own.

#[path = "harness/mod.rs"]
mod harness;

use std::{
    convert::Infallible,
    env,
    hint::black_box,
    process::{Command, ExitCode},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::Waker,
    thread,
};

use axum::{body::Body, extract::Request, response::Response};
use http::{HeaderValue, Method, StatusCode, Uri, header::HeaderName};
use tower::{Layer, Service, service_fn};
use tower_lock::{
    Depth, LockKind, LockLayer, LockRequest, LockScope, LockToken, Locks, MemoryStore, Owner, Refusal, ResourceKey,
    lock::{Claim, HolderProof, LockParts},
    store::{Acquire, Acquired, Authority, LockStore, NewLock, Release, Released, Which},
};

use self::harness::{DoNothingLayer, ask, now};

/// Calls that are counted.
const CALLS: usize = 1_000;
/// Calls before them, which find what is made once.
const WARM: usize = 8;

/// One line of the table: a case, what is taken off, and the most that may be left.
struct Bound {
    name: &'static str,
    case: &'static str,
    base: Option<&'static str>,
    most: i64,
}

/// What must not get worse. A bound is what was measured and a tenth, or ten: hash seeds differ from run to run.
const BOUNDS: [Bound; 8] = [
    over("a read, body type unchanged, over a do-nothing layer", "read-closure", "read-nothing", 90),
    over("a read, wrapped body, over a do-nothing layer", "read-wrapped", "read-nothing", 130),
    over("an unlocked write, no locks, over the bare service", "write-0", "write-bare", 730),
    over("an unlocked write, 1,000 locks, over the bare service", "write-1000", "write-bare", 1_230),
    over("an unlocked write, check-only, 1,000 locks, over the bare service", "write-check-only", "write-bare", 980),
    over("a holder's write, over the bare service", "holder", "holder-bare", 8_000),
    over("a refusal with its JSON body, over the bare service", "refusal", "write-bare", 10_000),
    Bound { name: "acquire and release, 1,000 other locks", case: "pair", base: None, most: 19_800 },
];

const fn over(name: &'static str, case: &'static str, base: &'static str, most: i64) -> Bound {
    Bound { name, case, base: Some(base), most }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    if let Some(at) = arguments.iter().position(|argument| argument == "--case") {
        let calls = arguments.get(at + 2).and_then(|calls| calls.parse().ok());
        let (Some(case), Some(calls)) = (arguments.get(at + 1), calls) else {
            eprintln!("--case NAME CALLS; the names: {}", cases().join(", "));
            return ExitCode::FAILURE;
        };
        run(case, calls);
        return ExitCode::SUCCESS;
    }
    // `cargo bench` says so; `cargo test --benches` does not, and then each case just has to work.
    if !arguments.iter().any(|argument| argument == "--bench") {
        for case in cases() {
            run(case, 3);
        }
        println!("all {} cases work; cargo bench --bench instructions counts them", cases().len());
        return ExitCode::SUCCESS;
    }
    if Command::new("valgrind").arg("--version").output().is_err() {
        eprintln!("missing: valgrind; to have it: apt-get install valgrind");
        return ExitCode::FAILURE;
    }
    match counted() {
        Ok(counts) => said(&counts),
        Err(problem) => {
            eprintln!("{problem}");
            ExitCode::FAILURE
        }
    }
}

fn said(counts: &[(&str, i64)]) -> ExitCode {
    let of = |case: &str| counts.iter().find(|(name, _)| *name == case).map_or(0, |(_, count)| *count);
    println!("\n{:<70}{:>10}{:>10}\n{}", "instructions of one call", "measured", "at most", "-".repeat(90));
    let mut passed = true;
    for bound in &BOUNDS {
        let measured = of(bound.case) - bound.base.map_or(0, of);
        let verdict = if measured <= bound.most { "" } else { "  TOO MANY" };
        passed &= measured <= bound.most;
        println!("{:<70}{measured:>10}{:>10}{verdict}", bound.name, bound.most);
    }
    if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Every case that a bound is about.
fn cases() -> Vec<&'static str> {
    let mut cases: Vec<&str> = BOUNDS.iter().flat_map(|bound| bound.base.into_iter().chain([bound.case])).collect();
    cases.sort_unstable();
    cases.dedup();
    cases
}

/// The instructions of one call of each case; as many processes at once as there are processors.
fn counted() -> Result<Vec<(&'static str, i64)>, String> {
    let (cases, next, counts) = (cases(), AtomicUsize::new(0), Mutex::new(Vec::new()));
    let count_some = || -> Result<(), String> {
        while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
            let count = counted_in(case)? / CALLS as i64;
            counts.lock().expect("nobody panics").push((*case, count));
        }
        Ok(())
    };
    thread::scope(|scope| {
        let workers: Vec<_> =
            (0..thread::available_parallelism().map_or(1, usize::from)).map(|_| scope.spawn(count_some)).collect();
        workers.into_iter().try_for_each(|worker| worker.join().expect("a worker does not panic"))
    })?;
    Ok(counts.into_inner().expect("nobody panics"))
}

/// The instructions of all calls.
fn counted_in(case: &str) -> Result<i64, String> {
    let program = env::current_exe().map_err(|error| error.to_string())?;
    let mut valgrind = Command::new("valgrind");
    valgrind
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null", "--toggle-collect=*counted_calls*"])
        .arg(program)
        .args(["--case", case, &CALLS.to_string()]);
    let output = valgrind.output().map_err(|error| format!("valgrind does not start: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    let collected = said.lines().find_map(|line| line.split_once("Collected :")?.1.trim().parse().ok());
    match collected {
        Some(count) if output.status.success() => Ok(count),
        _ => Err(format!("{case} under valgrind: {}\n{said}", output.status)),
    }
}

/// Makes so many calls, after a few that are not counted. Not inlined: it is known by its name.
fn calls(count: usize, mut call: impl FnMut(usize)) {
    (0..WARM).for_each(&mut call);
    counted_calls(count, &mut call);
}

#[inline(never)]
fn counted_calls(count: usize, call: &mut dyn FnMut(usize)) {
    (0..count).for_each(call);
}

// --- cases ---------------------------------------------------------------------------------------------------------

/// Makes so many calls.
fn run(case: &str, calls: usize) {
    let locks = |count| hub(MemoryStore::new(), count);
    match case {
        "read-nothing" => read(DoNothingLayer.layer(bare()), calls),
        "read-closure" => {
            read(LockLayer::new(locks(1_000).0).respond_with(answer).layer(bare()), calls);
        }
        "read-wrapped" => read(LockLayer::new(locks(1_000).0).layer(bare()), calls),
        "write-bare" => write(bare(), None, StatusCode::OK, calls),
        "write-0" => write(LockLayer::new(locks(0).0).layer(bare()), None, StatusCode::OK, calls),
        "write-1000" => write(LockLayer::new(locks(1_000).0).layer(bare()), None, StatusCode::OK, calls),
        "write-check-only" => {
            let locks = hub(MemoryStore::builder().check_only().build(), 1_000).0;
            write(LockLayer::new(locks).layer(bare()), None, StatusCode::OK, calls);
        }
        "holder-bare" => write(bare(), Some(LockToken::random()), StatusCode::OK, calls),
        "holder" => {
            let (locks, token) = locks(1_000);
            write(LockLayer::new(locks).layer(bare()), Some(token), StatusCode::OK, calls);
        }
        "refusal" => {
            let service = LockLayer::new(locks(1_000).0).layer(bare());
            asked(service, &Method::PUT, &[path(0)], None, StatusCode::LOCKED, calls);
        }
        "pair" => pair(calls),
        _ => panic!("no such case; there are: {}", cases().join(", ")),
    }
}

fn read<S, B>(service: S, calls: usize)
where
    S: Service<Request, Response = http::Response<B>, Error = Infallible>,
{
    asked(service, &Method::GET, &unlocked(), None, StatusCode::OK, calls);
}

/// Writes of unlocked resources, or of the locked one by its holder.
fn write<S, B>(service: S, token: Option<LockToken>, expected: StatusCode, calls: usize)
where
    S: Service<Request, Response = http::Response<B>, Error = Infallible>,
{
    let paths = if token.is_some() { vec![path(HELD)] } else { unlocked() };
    asked(service, &Method::PUT, &paths, token, expected, calls);
}

fn asked<S, B>(
    mut service: S,
    method: &Method,
    paths: &[String],
    token: Option<LockToken>,
    expected: StatusCode,
    count: usize,
) where
    S: Service<Request, Response = http::Response<B>, Error = Infallible>,
{
    let uris: Vec<Uri> = paths.iter().map(|path| path.parse().expect("a path is a URI")).collect();
    let token = token.map(|token| HeaderValue::try_from(format!("(<{}>)", token.urn())).expect("a token fits a header"));
    calls(count, |call| {
        let mut request = Request::new(Body::empty());
        *request.method_mut() = method.clone();
        *request.uri_mut() = uris[call % uris.len()].clone();
        if let Some(token) = &token {
            request.headers_mut().insert(HeaderName::from_static("if"), token.clone());
        }
        let answer = black_box(ask(&mut service, black_box(request), Waker::noop()));
        assert_eq!(answer.status(), expected);
    });
}

fn pair(count: usize) {
    let store = MemoryStore::new();
    let _locks = hub(store.clone(), 1_000);
    let store: Arc<dyn LockStore> = Arc::new(store);
    calls(count, |call| {
        let (token, id) = LockToken::random_with_id();
        let parts = LockParts {
            id,
            root: ResourceKey::from_canonical(path(HELD + 1 + call % 64)),
            scope: LockScope::Exclusive,
            depth: Depth::Infinity,
            kind: LockKind::User,
            principal: None,
            owner: Owner::default(),
            reason: None,
            client_ref: None,
            claim: Claim::Made,
        };
        let lock = [NewLock { parts: Arc::new(parts), token }];
        assert!(matches!(now(store.acquire(&Acquire::new(&lock, None))), Ok(Acquired::Granted(_))));
        let holder = Authority::Holder { principal: None, proof: &HolderProof::TokenAndPrincipal };
        let released = now(store.release(&Release::new(Which::Token(&lock[0].token), holder)));
        assert!(matches!(released, Ok(Released::Released(_))));
    });
}

/// The document of the holder's writes.
const HELD: usize = 9_000_000;

fn path(number: usize) -> String {
    format!("/tenants/acme/projects/apollo/doc-{number:010}")
}

fn unlocked() -> Vec<String> {
    (0..64).map(|at| path(5_000_000 + at)).collect()
}

/// A hub with so many locks on siblings, and, where there are any, the token of the lock on the document that is held.
fn hub(store: MemoryStore, count: usize) -> (Locks, LockToken) {
    let locks = Locks::builder(store).build();
    let mut token = LockToken::random();
    for number in (0..count).map(|at| if at + 1 == count { HELD } else { at }) {
        let request = LockRequest::exclusive(path(number)).kind(LockKind::Job).reason("nightly export");
        token = now(locks.acquire(request)).expect("the path is free").token();
    }
    (locks, token)
}

fn bare() -> impl Service<Request, Response = Response, Error = Infallible> + Clone {
    service_fn(|request: Request| {
        black_box(&request);
        std::future::ready(Ok::<_, Infallible>(Response::new(Body::empty())))
    })
}

fn answer(refusal: &Refusal, _: &http::request::Parts) -> Response {
    Response::builder().status(refusal.status()).body(Body::empty()).expect("a plain response")
}
