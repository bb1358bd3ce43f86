//! Writers beside one another. Each notes which exclusive locks it certainly has: from the answer to its LOCK until it asks
//! for their end. A write of somebody else that is inside the handler while that is so has walked past a lock, or was
//! overtaken by one.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use http_body_util::Full;
use tower::ServiceExt;
use tower_layer::Layer;
use tower_lock::{DavLayer, LockRequest, Locks, MemoryStore, webdav::RequestBody};

use super::{
    handler::{Broken, Handler, canonical},
    kit::{Client, Sent, sender},
    rng::Rng,
    shape::Shape,
};
use crate::support::{self, User};

const PATHS: [&str; 4] = ["/c", "/c/m", "/c/n", "/b"];
const USERS: [&str; 4] = ["ann", "bob", "cat", "dan"];

/// Certain locks: path to holder; all of infinite depth.
#[derive(Default)]
struct Certain {
    locks: Mutex<BTreeMap<&'static str, &'static str>>,
    breaches: Mutex<Vec<String>>,
    counts: [AtomicU64; 5],
}

/// What is counted.
#[derive(Clone, Copy)]
enum Seen {
    Written,
    Refused,
    Locked,
    Moved,
    Beside,
}

impl Certain {
    fn saw(&self, what: Seen) {
        self.counts[what as usize].fetch_add(1, Ordering::Relaxed);
    }

    fn count(&self, what: Seen) -> u64 {
        self.counts[what as usize].load(Ordering::Relaxed)
    }

    /// Nobody but `user` certainly holds a lock on what a write of `path` changes.
    fn check(&self, when: &str, what: &str, path: &str, user: &str, with_all_below: bool) {
        let under = |path: &str, root: &str| path == root || path.starts_with(&format!("{root}/"));
        for (root, holder) in &*self.locks.lock().unwrap() {
            if *holder != user && (under(path, root) || (with_all_below && under(root, path))) {
                let breach = format!("{when} {what} of {path} by {user}: {root} is locked by {holder}");
                self.breaches.lock().unwrap().push(breach);
            }
        }
    }
}

/// The handler between two looks at the locks.
async fn watched<B>(handler: Handler, certain: Arc<Certain>, request: Request<B>) -> Result<Response<Full<Bytes>>, Broken>
where
    B: Body + Send + 'static,
    B::Data: Send,
{
    let method = request.method().as_str().to_owned();
    if !["PUT", "MOVE"].contains(&&*method) {
        return handler.oneshot(request).await;
    }
    let user = request.extensions().get::<User>().expect("a user").0;
    let path = canonical(request.uri().path());
    let to = request.headers().get("destination").map(|to| canonical(to.to_str().expect("text")));
    let check = |when: &str| {
        certain.check(when, &method, &path, user, method == "MOVE");
        if let Some(to) = &to {
            certain.check(when, &method, to, user, true);
        }
    };
    check("at the start");
    for _ in 0..3 {
        tokio::task::yield_now().await;
    }
    let before = certain.locks.lock().unwrap().len();
    let answer = handler.oneshot(request).await;
    tokio::task::yield_now().await;
    check("at the end");
    if certain.locks.lock().unwrap().len() != before {
        certain.saw(Seen::Beside);
    }
    answer
}

async fn writer(client: Client, user: &'static str, certain: Arc<Certain>, seed: u64, steps: usize) {
    let mut rng = Rng::new(seed);
    let mut held: Option<(&'static str, String)> = None;
    for step in 0..steps {
        let path = rng.pick(&PATHS);
        let submitting = |ask: super::kit::Ask| match &held {
            Some((_, token)) => ask.tokens([token]),
            None => ask,
        };
        match rng.below(10) {
            0..4 => {
                let path = if rng.chance(50) { held.as_ref().map_or(path, |(locked, _)| *locked) } else { path };
                let status = submitting(client.put(path, &format!("{user} {step}"))).await.status.as_u16();
                certain.saw(if status == 423 { Seen::Refused } else { Seen::Written });
                assert!([201, 204, 405, 409, 412, 423].contains(&status), "PUT {path}: {status}");
            }
            4 => {
                let to = rng.pick(&PATHS);
                // It may take the lock along.
                let note = held.as_ref().and_then(|(locked, _)| certain.locks.lock().unwrap().remove_entry(locked));
                let status = submitting(client.move_(path, to)).await.status.as_u16();
                certain.saw(if status == 423 { Seen::Refused } else { Seen::Moved });
                if ![201, 204].contains(&status) {
                    certain.locks.lock().unwrap().extend(note);
                }
            }
            _ => match held.take() {
                None => {
                    let answer = client.lock(path).await;
                    match answer.status.as_u16() {
                        200 | 201 => {
                            certain.check("granted", "LOCK", path, user, true);
                            certain.locks.lock().unwrap().insert(path, user);
                            certain.saw(Seen::Locked);
                            held = Some((path, answer.token()));
                        }
                        status => assert!([409, 423].contains(&status), "LOCK {path}: {answer:?}"),
                    }
                }
                Some((path, token)) => {
                    certain.locks.lock().unwrap().remove(path);
                    let status = client.unlock(path, &token).await.status.as_u16();
                    assert!([204, 409].contains(&status), "UNLOCK {path}: {status}");
                }
            },
        }
    }
    if let Some((path, token)) = held {
        certain.locks.lock().unwrap().remove(path);
        client.unlock(path, &token).await;
    }
}

/// Four writers, spread over nodes that share their locks and the handler. G1, G3 and G4 of the guarantees.
async fn writers_over(nodes: &[Locks], rounds: u64) {
    let handler = Handler::new(Shape::default());
    handler.plant(["/c/", "/c/m", "/b"]);
    let certain = Arc::new(Certain::default());
    let sends: Vec<_> = nodes
        .iter()
        .map(|locks| {
            let (handler, certain) = (handler.clone(), certain.clone());
            let inner = tower::service_fn(move |request: Request<RequestBody<Sent>>| {
                watched(handler.clone(), certain.clone(), request)
            });
            sender(DavLayer::new(locks.clone()).token_secret("of all nodes").layer(inner))
        })
        .collect();
    for round in 0..rounds {
        let mut writers = Vec::new();
        for (at, user) in USERS.into_iter().enumerate() {
            let client = Client::through(sends[at % sends.len()].clone(), Some(user));
            let seed = super::first_seed() * 1_000 + round * 10 + user.len() as u64 + u64::from(user.as_bytes()[0]);
            writers.push(tokio::spawn(writer(client, user, certain.clone(), seed, 250)));
        }
        for writer in writers {
            writer.await.expect("a writer");
        }
        handler.take_seen();
        // What was moved about is there again.
        handler.plant(["/c/", "/b"]);
    }
    let breaches = std::mem::take(&mut *certain.breaches.lock().unwrap());
    assert!(breaches.is_empty(), "{} breaches, the first: {:#?}", breaches.len(), &breaches[..breaches.len().min(5)]);
    for what in [Seen::Written, Seen::Refused, Seen::Locked, Seen::Moved] {
        assert!(certain.count(what) >= 8 * rounds, "too seldom: {:?}", certain.counts);
    }
    assert!(certain.count(Seen::Beside) >= 1, "nothing ran beside anything: {:?}", certain.counts);
    println!("{:?}", certain.counts);
    let _ = nodes[0].acquire(LockRequest::exclusive("/")).await.expect("nothing is in the way");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_write_walks_past_a_lock_or_is_overtaken_by_one() {
    let memory = MemoryStore::new();
    let locks: Locks = support::locks_of_users(memory.clone()).build();
    writers_over(std::slice::from_ref(&locks), 6 * super::soak()).await;
    assert_eq!(memory.stats().in_flight, 0);
}

/// With as much time as a busy machine needs.
#[cfg(any(feature = "redis", feature = "postgres"))]
fn node(store: impl tower_lock::LockStore) -> Locks {
    let mut limits = tower_lock::Limits::default();
    limits.admit_within = std::time::Duration::from_secs(20);
    limits.answer_within = std::time::Duration::from_secs(20);
    support::locks_of_users(store).limits(limits).build()
}

#[cfg(feature = "redis")]
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nor_on_two_nodes_with_one_redis() {
    use tower_lock::store::RedisStore;
    let server = support::engines::RedisServer::start();
    let nodes = [(); 2].map(|()| {
        node(RedisStore::builder(&server.url()).time_limit(std::time::Duration::from_secs(20)).build().expect("a sound URL"))
    });
    writers_over(&nodes, 4 * super::soak()).await;
}

#[cfg(feature = "postgres")]
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nor_on_two_nodes_with_one_postgres() {
    use tower_lock::store::PostgresStore;
    let server = support::engines::PostgresServer::start();
    let mut nodes = Vec::new();
    for _ in 0..2 {
        let store = PostgresStore::builder(&server.url()).time_limit(std::time::Duration::from_secs(20)).build();
        let store = store.expect("a sound URL");
        store.migrate().await.expect("the schema is made");
        nodes.push(node(store));
    }
    writers_over(&nodes, 4 * super::soak()).await;
}
