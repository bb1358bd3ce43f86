//! G1 against real servers: what axum's `Path`, `tower_http::services::ServeDir` and `dav_server` make of each spelling.
//!
//! Each server is asked twice, on fresh content: unguarded, to see whether the spelling touches the locked resource there;
//! and behind the layer, where the content of the locked resource must be what it was. How often the unguarded server
//! was touched has a floor, so that a server which refuses everything proves nothing.

mod support;

use std::{
    collections::BTreeMap,
    convert::Infallible,
    panic::AssertUnwindSafe,
    path::{Component, Path as FsPath, PathBuf},
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    extract::{Path, State},
    routing,
};
use dav_server::{DavHandler, davpath::DavPath, localfs::LocalFs, memfs::MemFs};
use futures_util::FutureExt;
use http::{Request, Response, StatusCode, Uri};
use support::{
    Answer, Text, request,
    spellings::{DESTINATIONS, LOCKED, PATHS, TARGETS},
    with,
};
use tower::{ServiceExt, service_fn, util::BoxCloneService};
use tower_http::services::ServeDir;
use tower_layer::Layer;
use tower_lock::{LockLayer, LockRequest, Locks, MemoryStore, ResourceKey};

type Server = BoxCloneService<Request<Text>, Response<Text>, Infallible>;

/// A server with fresh content, and a way to look at all that is at or below the locked resource.
struct Site {
    server: Server,
    snapshot: Box<dyn AsyncSnapshot>,
}

/// Sees the content behind the server's back.
trait AsyncSnapshot {
    fn take(&self) -> std::pin::Pin<Box<dyn Future<Output = String> + '_>>;
}

impl<F, Fut> AsyncSnapshot for F
where
    F: Fn() -> Fut,
    Fut: Future<Output = String> + 'static,
{
    fn take(&self) -> std::pin::Pin<Box<dyn Future<Output = String> + '_>> {
        Box::pin(self())
    }
}

/// How an axum handler reads the path parameter: what sanitisers and stores make of it.
#[derive(Clone, Copy, Debug)]
enum Reading {
    /// As the very name.
    Exact,
    /// With empty and `.` segments dropped, `..` taken for the parent.
    Pops,
    /// With everything dropped that is no plain name.
    Drops,
}

impl Reading {
    fn name(self, parameter: &str) -> String {
        let mut names: Vec<&str> = Vec::new();
        match self {
            Self::Exact => return parameter.to_owned(),
            Self::Pops => {
                for segment in parameter.split('/') {
                    match segment {
                        "" | "." => {}
                        ".." => drop(names.pop()),
                        name => names.push(name),
                    }
                }
            }
            Self::Drops => {
                names.extend(FsPath::new(parameter).components().filter_map(|component| match component {
                    Component::Normal(name) => name.to_str(),
                    _ => None,
                }));
            }
        }
        names.join("/")
    }
}

type Documents = Arc<Mutex<BTreeMap<String, String>>>;

/// `/docs/{*path}` with PUT and DELETE over a map.
fn axum_site(reading: Reading) -> Site {
    let documents: Documents = Arc::default();
    let start = ["locked", "locked/child", "free"].map(|name| (name.to_owned(), "old".to_owned()));
    documents.lock().unwrap().extend(start);
    let put = move |State(documents): State<Documents>, Path(path): Path<String>| async move {
        documents.lock().unwrap().insert(reading.name(&path), "new".to_owned());
    };
    let delete = move |State(documents): State<Documents>, Path(path): Path<String>| async move {
        let name = reading.name(&path);
        let below = format!("{name}/");
        documents.lock().unwrap().retain(|key, _| *key != name && !key.starts_with(&below));
    };
    let methods = routing::put(put).patch(put).post(put).delete(delete);
    let router = Router::new().route("/docs/{*path}", methods).with_state(documents.clone());
    let server = service_fn(move |request: Request<Text>| {
        let router = router.clone();
        async move { Ok(buffered(router.oneshot(request.map(axum::body::Body::new)).await?).await) }
    });
    let snapshot = move || {
        let mut documents = documents.lock().unwrap().clone();
        documents.retain(|name, _| name == "locked" || name.starts_with("locked/"));
        async move { format!("{documents:?}") }
    };
    Site { server: BoxCloneService::new(server), snapshot: Box::new(snapshot) }
}

async fn buffered<B>(response: Response<B>) -> Response<Text>
where
    B: http_body::Body,
    B::Error: std::fmt::Debug,
{
    let answer = Answer::of(response).await;
    let mut response = Response::new(Text::new(answer.body));
    *response.status_mut() = answer.status;
    *response.headers_mut() = answer.headers;
    response
}

fn dav(handler: DavHandler) -> Server {
    BoxCloneService::new(service_fn(move |request: Request<Text>| {
        let handler = handler.clone();
        // Its memory file system panics where its root is to be deleted.
        let answer = async move { buffered(handler.handle(request).await).await };
        AssertUnwindSafe(answer).catch_unwind().map(|answer| {
            Ok(answer.unwrap_or_else(|_| {
                let mut response = Response::new(Text::from("panicked"));
                *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
                response
            }))
        })
    }))
}

/// What is locked: a document, or a collection with one in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    Document,
    Collection,
}

async fn fill(server: &Server, shape: Shape) {
    let mut steps = vec![("MKCOL", "/docs"), ("MKCOL", "/x"), ("MKCOL", "/docs/x"), ("PUT", "/docs/free")];
    match shape {
        Shape::Document => steps.push(("PUT", LOCKED)),
        Shape::Collection => steps.extend([("MKCOL", LOCKED), ("PUT", "/docs/locked/child")]),
    }
    for (method, path) in steps {
        let answer = Answer::of(server.clone().oneshot(request(method, path)).await.unwrap()).await;
        assert!(answer.status.is_success(), "{method} {path}: {answer:?}");
    }
}

async fn dav_memory_site(shape: Shape) -> Site {
    let handler = DavHandler::builder().filesystem(MemFs::new()).build_handler();
    let server = dav(handler);
    fill(&server, shape).await;
    let seen = server.clone();
    let snapshot = move || {
        let seen = seen.clone();
        async move {
            let mut all = String::new();
            for path in [LOCKED, "/docs/locked/child"] {
                for method in ["GET", "PROPFIND"] {
                    let asked = with(request(method, path), "depth", "1");
                    let answer = Answer::of(seen.clone().oneshot(asked).await.unwrap()).await;
                    // The time to the second is in a header, the time of the last change in the body.
                    all += &format!("{path} {} {}\n", answer.status, String::from_utf8_lossy(&answer.body));
                }
            }
            all
        }
    };
    Site { server, snapshot: Box::new(snapshot) }
}

async fn dav_local_site(shape: Shape) -> Site {
    // In memory where there is such a place: the server waits for the disk after every write.
    let place = FsPath::new("/dev/shm");
    let directory = if place.is_dir() { tempfile::tempdir_in(place) } else { tempfile::tempdir() };
    let directory = Arc::new(directory.unwrap());
    let handler = DavHandler::builder().filesystem(LocalFs::new(directory.path(), false, false, false)).build_handler();
    let server = dav(handler);
    // Not through the handler, which waits for the disk after every PUT.
    let docs = directory.path().join("docs");
    for name in ["x", "docs/x"] {
        std::fs::create_dir_all(directory.path().join(name)).unwrap();
    }
    std::fs::write(docs.join("free"), "").unwrap();
    match shape {
        Shape::Document => std::fs::write(docs.join("locked"), "").unwrap(),
        Shape::Collection => {
            std::fs::create_dir(docs.join("locked")).unwrap();
            std::fs::write(docs.join("locked/child"), "").unwrap();
        }
    }
    let snapshot = move || {
        let directory = directory.clone();
        async move { listing(&directory.path().join("docs/locked")) }
    };
    Site { server, snapshot: Box::new(snapshot) }
}

/// The names and contents at and below `path`.
fn listing(path: &FsPath) -> String {
    let Ok(meta) = path.symlink_metadata() else { return "nothing".to_owned() };
    if meta.is_file() {
        return format!("{} = {:?}\n", path.display(), std::fs::read(path).unwrap());
    }
    let mut below: Vec<PathBuf> = std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).collect();
    below.sort();
    format!("{}/\n", path.display()) + &below.iter().map(|path| listing(path)).collect::<String>()
}

fn with_body(request: Request<Text>) -> Request<Text> {
    if request.method() == "PUT" { request.map(|_| Text::from("new")) } else { request }
}

/// Asks a fresh server, unguarded and guarded; answers whether the unguarded one was touched.
async fn touched_unguarded_only<Fut: Future<Output = Site>>(
    layer: &LockLayer,
    fresh: impl Fn() -> Fut,
    ask: impl Fn() -> Request<Text>,
) -> bool {
    let what = || {
        let request = ask();
        format!("{} {} {:?}", request.method(), request.uri(), request.headers())
    };
    let unguarded = fresh().await;
    let before = unguarded.snapshot.take().await;
    let answer = unguarded.server.clone().oneshot(with_body(ask())).await.unwrap();
    let touched = unguarded.snapshot.take().await != before;

    let guarded = fresh().await;
    let before = guarded.snapshot.take().await;
    let refused = layer.layer(guarded.server.clone()).oneshot(with_body(ask())).await.unwrap().status();
    assert_eq!(guarded.snapshot.take().await, before, "{}: changed in spite of the lock", what());
    assert!(!touched || refused == 423 || refused == 400, "{}: {} unguarded, {refused} guarded", what(), answer.status());
    touched
}

/// A layer whose locks cover [`LOCKED`] and all below it.
async fn locking() -> LockLayer {
    let locks = Locks::new(MemoryStore::new());
    drop(locks.acquire(LockRequest::exclusive(LOCKED)).await.unwrap());
    LockLayer::new(locks)
}

fn targets() -> impl Iterator<Item = &'static str> {
    PATHS.iter().chain(TARGETS).map(|(target, _)| *target)
}

#[tokio::test]
async fn g1_axum_path_reaches_no_locked_resource() {
    let layer = locking().await;
    for reading in [Reading::Exact, Reading::Pops, Reading::Drops] {
        let mut touched = 0;
        for target in targets() {
            for method in ["PUT", "PATCH", "POST", "DELETE"] {
                let site = async || axum_site(reading);
                touched += usize::from(touched_unguarded_only(&layer, site, || request(method, target)).await);
            }
        }
        let floor = if let Reading::Exact = reading { 80 } else { 120 };
        assert!(touched >= floor, "{reading:?} was touched {touched} times only");
    }
}

#[tokio::test]
async fn g1_dav_server_in_memory_reaches_no_locked_resource() {
    dav_reaches_nothing(dav_memory_site).await;
}

#[tokio::test]
async fn g1_dav_server_on_disk_reaches_no_locked_resource() {
    dav_reaches_nothing(dav_local_site).await;
}

async fn dav_reaches_nothing<Fut: Future<Output = Site>>(site: impl Fn(Shape) -> Fut) {
    let layer = locking().await;
    let mut touched = (0, 0);
    for shape in [Shape::Document, Shape::Collection] {
        for target in targets() {
            for method in ["PUT", "DELETE", "MKCOL"] {
                let ask = || request(method, target);
                touched.0 += usize::from(touched_unguarded_only(&layer, || site(shape), ask).await);
            }
            let ask = || with(request("MOVE", target), "destination", "/docs/elsewhere");
            touched.0 += usize::from(touched_unguarded_only(&layer, || site(shape), ask).await);
        }
        let destinations: Vec<String> = PATHS
            .iter()
            .flat_map(|(path, _)| [(*path).to_owned(), format!("http://example.org{path}")])
            .chain(DESTINATIONS.iter().map(|(destination, _)| (*destination).to_owned()))
            .collect();
        for destination in &destinations {
            for method in ["MOVE", "COPY"] {
                let ask = || with(request(method, "/docs/free"), "destination", destination);
                touched.1 += usize::from(touched_unguarded_only(&layer, || site(shape), ask).await);
            }
        }
    }
    assert!(touched.0 >= 150 && touched.1 >= 150, "touched {touched:?} times only");
}

#[tokio::test]
async fn g1_serve_dir_shows_no_locked_file_under_a_spelling_that_could_be_written() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(directory.path().join("docs/x")).unwrap();
    for name in ["locked", "free"] {
        std::fs::write(directory.path().join("docs").join(name), name).unwrap();
    }
    let mut guarded =
        locking().await.layer(service_fn(async |_: Request<Text>| Ok::<_, Infallible>(Response::new(Text::default()))));
    let mut shown = 0;
    let random = Spellings::new(11).take(2_000).collect::<Vec<_>>();
    for target in targets().map(str::to_owned).chain(random) {
        let target = &*target;
        if Uri::try_from(target).is_err() {
            continue;
        }
        let answer = Answer::of(ServeDir::new(directory.path()).oneshot(request("GET", target)).await.unwrap()).await;
        if answer.body == "locked" {
            shown += 1;
            let refused = guarded.ready().await.unwrap();
            let refused = tower_service::Service::call(refused, request("PUT", target)).await.unwrap();
            assert!(matches!(refused.status().as_u16(), 423 | 400), "{target}");
        }
    }
    assert!(shown > 100, "shown {shown} times only");
}

/// Spellings at random, many of them of the locked resource. The same ones in every run.
struct Spellings(u64);

impl Spellings {
    fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn below(&mut self, bound: usize) -> usize {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        usize::try_from((mixed ^ (mixed >> 31)) % bound as u64).expect("small")
    }

    fn one_of(&mut self, pieces: &[&'static str]) -> &'static str {
        pieces[self.below(pieces.len())]
    }

    /// `name`, with some of its letters percent-encoded.
    fn letters(&mut self, name: &str, spelling: &mut String) {
        for letter in name.bytes() {
            match self.below(8) {
                0 => spelling.push_str(&format!("%{letter:02X}")),
                1 => spelling.push_str(&format!("%{letter:02x}")),
                _ => spelling.push(char::from(letter)),
            }
        }
    }
}

impl Iterator for Spellings {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        const BETWEEN: &[&str] = &[
            "/",
            "/",
            "/",
            "/",
            "//",
            "/./",
            "%2F",
            "%2f",
            "/%2e/",
            "/x/../",
            "/x/%2E./",
            "%2F..%2F",
            "/../",
            "\\",
            "%5C",
            "/;/",
            "/%00/",
            "/.;/",
            "/%20/",
            "/\u{FF0E}/",
        ];
        const END: &[&str] = &[
            "", "", "", "", "/", "//", "/.", "/..", "%2F", "%00", "%", "%2", "%25", "?", "?x", "#", "#x", ";v", ".", "%20",
            "%FF", "/child", "/x/..", "\\", "\u{FF0F}", "%2e",
        ];
        let mut spelling = String::from("/");
        for name in ["docs", "locked"] {
            if name == "locked" || self.below(6) == 0 {
                spelling.push_str(self.one_of(BETWEEN));
            }
            self.letters(name, &mut spelling);
        }
        spelling.push_str(self.one_of(END));
        Some(spelling)
    }
}

/// Whether a write of `path` could be refused: its key is at or below the locked one, or it has none.
fn is_guarded(path: &str) -> bool {
    let locked = ResourceKey::parse(LOCKED).unwrap();
    ResourceKey::parse(path).is_err() || ResourceKey::parse(path).is_ok_and(|key| key == locked || key.is_below(&locked))
}

#[tokio::test]
async fn g1_no_spelling_at_random_goes_by_the_lock() {
    let mut reached = [0; 3];
    for spelling in Spellings::new(7).take(20_000) {
        let Ok(uri) = Uri::try_from(&spelling) else { continue };
        // dav_server reads the path of the URI, with a parser of its own.
        if let Ok(path) = DavPath::new(uri.path()) {
            let path = path.as_pathbuf();
            if path.starts_with(LOCKED) {
                reached[0] += 1;
                assert!(is_guarded(uri.path()), "{spelling} is {path:?} to dav_server");
            }
        }
        let decoded = percent_encoding_of_axum(uri.path()).await;
        for (at, reading) in [(1, Reading::Pops), (2, Reading::Drops)] {
            let Some(parameter) = &decoded else { continue };
            let name = reading.name(parameter);
            if name == "locked" || name.starts_with("locked/") {
                reached[at] += 1;
                assert!(is_guarded(uri.path()), "{spelling} is {name} to axum, {reading:?}");
            }
        }
    }
    assert!(reached.iter().all(|count| *count > 1_000), "reached {reached:?} times only");
}

/// What axum's `Path` makes of the part of `path` below `/docs/`; nothing where the route does not match.
async fn percent_encoding_of_axum(path: &str) -> Option<String> {
    let router: Router = Router::new().route("/docs/{*path}", routing::put(async |Path(path): Path<String>| path));
    let answer = router.oneshot(Request::put(path).body(axum::body::Body::empty()).unwrap()).await.unwrap();
    let answer = Answer::of(answer).await;
    (answer.status == 200).then(|| answer.text().to_owned())
}

#[tokio::test]
async fn g1_no_destination_at_random_goes_by_the_lock() {
    const FRONT: &[&str] = &[
        "",
        "",
        "http://h",
        "https://u:p@h:8443",
        "http://h/x/..",
        "//h",
        "http:",
        "http:/",
        "http://",
        "dav://h",
        "http://h\\",
        " ",
        "\t",
        "http://h/\t",
        "http://h/%2e",
        "HTTP://[::1]",
        "file://",
        "http://h?",
        "http://h#",
    ];
    let layer = locking().await;
    let mut spellings = Spellings::new(13);
    let mut touched = 0;
    for _ in 0..1_500 {
        let destination = format!("{}{}", spellings.one_of(FRONT), spellings.next().unwrap());
        let ask = || with(request("COPY", "/docs/free"), "destination", &destination);
        touched += usize::from(touched_unguarded_only(&layer, || dav_memory_site(Shape::Document), ask).await);
    }
    assert!(touched > 300, "touched {touched} times only");
}
