//! The layer in a server: `cargo bench --bench http`. Method and figures: `benches/README.md`.
//!
//! One thread serves the same axum application with and without the layer over loopback. A client on another thread keeps
//! its connections open, sends a request on each, and reads the answers. The cases take turns.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    process::ExitCode,
    sync::mpsc,
    thread,
    time::Instant,
};

use axum::{
    Router,
    body::Bytes,
    extract::Request,
    routing::put,
    serve::{Listener, ListenerExt},
};
use http::{StatusCode, header};
use tower::util::MapRequestLayer;
use tower_lock::{LockLayer, LockRequest, Locks, MemoryStore};

/// Requests of a turn.
const TURN: usize = 256;
const ROUNDS: usize = 300;
/// Connections of a case: one waits for each answer, sixteen keep the server busy.
const CONNECTIONS: [usize; 2] = [1, 16];

struct Case {
    name: &'static str,
    request: Vec<u8>,
    status: u16,
    wires: Vec<Wire>,
    /// Microseconds of a request, round by round.
    spent: Vec<f64>,
}

fn main() -> ExitCode {
    // `cargo bench` says so; `cargo test --benches` does not, and then each case just has to work.
    let measuring = std::env::args().any(|argument| argument == "--bench");
    let locks = Locks::builder(MemoryStore::new()).build();
    let refuse = async || (StatusCode::LOCKED, [(header::CONTENT_TYPE, "application/problem+json")], "x".repeat(600));
    let application = || {
        let router = Router::new().route("/docs/{id}", put(async |body: Bytes| body.len().to_string()));
        router.route("/refused", put(refuse))
    };
    // What axum does for any layer: it keeps the service in one more box, which it clones for each request.
    let nothing = application().layer(MapRequestLayer::new(|request: Request| request));
    let [bare, boxed, layered] = served([application(), nothing, application().layer(LockLayer::new(locks.clone()))]);
    let (rounds, turn) = if measuring { (ROUNDS, TURN) } else { (1, 32) };
    let mut reached = true;
    if measuring {
        println!("\n{:<62}{:>12}{:>10}{:>8}\n{}", "", "us a request", "measured", "goal", "-".repeat(97));
    }
    for connections in CONNECTIONS {
        let case = |name, address, request, status| Case {
            name,
            request,
            status,
            wires: (0..connections).map(|_| Wire::to(address)).collect(),
            spent: Vec::new(),
        };
        let mut cases = [
            case("PUT, without the layer", bare, message("PUT", "/docs/7", BODY), 200),
            case("PUT through a layer that does nothing", boxed, message("PUT", "/docs/7", BODY), 200),
            case("PUT through the layer, nothing locked", layered, message("PUT", "/docs/7", BODY), 200),
            case("GET of what there is not, 404, without the layer", bare, message("GET", "/nothing", ""), 404),
            case("PUT refused by a handler with 600 bytes, 423", bare, message("PUT", "/refused", BODY), 423),
            case("the same behind a layer that does nothing", boxed, message("PUT", "/refused", BODY), 423),
            case("PUT refused by a lock, 423", layered, message("PUT", "/docs/8", BODY), 423),
        ];
        // Nothing is locked while all but the last are measured, and while that is, something is.
        for round in 0..=rounds {
            for case in &mut cases[..6] {
                case.turn(turn, round > 0);
            }
            let lock = runtime().block_on(locks.acquire(LockRequest::exclusive("/docs/8").reason("nightly export")));
            cases[6].turn(turn, round > 0);
            drop(runtime().block_on(locks.release(lock.expect("the path is free").token())));
        }
        if measuring {
            let goals = [None, None, Some(0.97), None, None, None, Some(0.90)];
            for (case, goal) in goals.into_iter().enumerate() {
                // Writes that are done are compared with such a write, refused ones with the 404.
                reached &= said(&cases, connections, case, if case < 3 { 0 } else { 3 }, goal);
            }
        }
    }
    if !measuring {
        println!("every case works, on connections that are kept; cargo bench --bench http measures them");
    } else if reached {
        println!("\nEvery connection was kept from the first request to the last. All goals are met.");
    } else {
        println!("\nEvery connection was kept from the first request to the last. NOT all goals are met.");
    }
    ExitCode::SUCCESS
}

/// One line: the median, and how many requests are done in the time of one of the base; whether that is enough.
fn said(cases: &[Case], connections: usize, case: usize, base: usize, goal: Option<f64>) -> bool {
    let ratios = cases[base].spent.iter().zip(&cases[case].spent).map(|(base, case)| base / case);
    let (us, ratio) = (median(cases[case].spent.iter().copied()), median(ratios));
    let many = if connections == 1 { "1 connection".into() } else { format!("{connections} connections") };
    let name = format!("{}, {many}", cases[case].name);
    match goal {
        None if case == base => println!("{name:<62}{us:>12.2}"),
        None => println!("{name:<62}{us:>12.2}{ratio:>10.3}"),
        Some(goal) => {
            println!("{name:<62}{us:>12.2}{ratio:>10.3}{goal:>8.2}  {}", if ratio >= goal { "yes" } else { "NO" });
        }
    }
    goal.is_none_or(|goal| ratio >= goal)
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

// --- the server ----------------------------------------------------------------------------------------------------

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

/// Serves each application on a port of its own as long as the process lives; all of them on one thread, so that no one of
/// them has the better processor.
fn served<const N: usize>(applications: [Router; N]) -> [SocketAddr; N] {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        runtime().block_on(async {
            for application in applications {
                let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
                let listener = listener.tap_io(|stream| stream.set_nodelay(true).expect("a socket takes options"));
                sender.send(listener.local_addr().expect("an address")).expect("somebody waits for it");
                tokio::spawn(async { axum::serve(listener, application).await });
            }
            std::future::pending::<()>().await;
        });
    });
    [(); N].map(|()| receiver.recv().expect("the server starts"))
}

// --- the client ----------------------------------------------------------------------------------------------------

/// The body of a small write.
const BODY: &str = r#"{"title": "A small document", "text": "Hardly a hundred bytes, as most changes of a record are."}"#;

fn message(method: &str, target: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    let head = format!("{method} {target} HTTP/1.1\r\nhost: localhost\r\naccept: */*\r\n");
    let body = if body.is_empty() { "\r\n".into() } else { format!("content-length: {length}\r\n\r\n{body}") };
    (head + &body).into_bytes()
}

impl Case {
    /// So many requests, one on each connection before the answers are read.
    fn turn(&mut self, requests: usize, counts: bool) {
        let start = Instant::now();
        for _ in 0..requests / self.wires.len() {
            for wire in &mut self.wires {
                wire.stream.write_all(&self.request).expect("the connection is kept");
            }
            for wire in &mut self.wires {
                assert_eq!(wire.answer(), self.status, "{}", self.name);
            }
        }
        if counts {
            self.spent.push(start.elapsed().as_secs_f64() * 1e6 / requests as f64);
        }
    }
}

/// A connection that is never opened anew: an answer that ends it fails the bench.
struct Wire {
    stream: TcpStream,
    read: Vec<u8>,
}

impl Wire {
    fn to(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("the server listens");
        stream.set_nodelay(true).expect("a socket takes options");
        Self { stream, read: Vec::new() }
    }

    /// The status of the next answer, which is read to its end. Read as cheaply as can be: what the client does is not what is
    /// measured.
    fn answer(&mut self) -> u16 {
        loop {
            self.more();
            let mut fields = [httparse::EMPTY_HEADER; 16];
            let mut answer = httparse::Response::new(&mut fields);
            let Ok(httparse::Status::Complete(head)) = answer.parse(&self.read) else { continue };
            let mut length = None;
            for field in answer.headers {
                match field.name {
                    "content-length" => length = str::from_utf8(field.value).ok().and_then(|length| length.parse().ok()),
                    "connection" => assert_ne!(field.value, b"close", "the server closes the connection"),
                    _ => {}
                }
            }
            let whole = head + length.unwrap_or(0_usize);
            assert!(length.is_some() && self.read.len() <= whole, "one answer for a request, of a known length");
            if self.read.len() == whole {
                let status = answer.code.expect("a whole head has a status");
                self.read.clear();
                return status;
            }
        }
    }

    fn more(&mut self) {
        let mut buffer = [0; 8 * 1024];
        let read = self.stream.read(&mut buffer).expect("the connection is kept");
        assert_ne!(read, 0, "the server ended the connection");
        self.read.extend_from_slice(&buffer[..read]);
    }
}
