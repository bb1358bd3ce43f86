//! What is broken while a fleet works: the engine is killed or stands still, a node is killed or stands still, and the
//! clock steps back. Reads go on; writes are answered 503 and go on when they can; no lock is lost; no rule is broken.

use std::{
    collections::HashMap,
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::json;
use tokio::task::JoinHandle;
use tower_lock::{
    LockStore,
    lock::{Claim, Depth, LockId, LockKind, LockParts, LockScope, LockToken, Owner, Principal, Target},
    store::LockQuery,
};

use super::{
    audit::{Findings, audit},
    book::{Book, Held, key},
    client::{Clients, Faults, Load, Mix},
    engine::{Engine, Kind, StoreConfig},
    http::{Answer, Http, NoAnswer, ask},
    nodes::{Nodes, Tasks},
    races::nothing_is_left,
    run, soak,
    stepping::Stepping,
    trace::{self, now},
};

/// The write lease of these fleets.
const LEASE: Duration = Duration::from_secs(2);
/// How long a store may take to answer them.
const LIMIT: Duration = Duration::from_secs(1);
/// What must come, but nobody says how soon, is waited for so long.
const PATIENCE: Duration = Duration::from_secs(30);
const NODES: usize = 3;

/// A fleet at work.
struct Site {
    engine: Engine,
    config: StoreConfig,
    nodes: Nodes,
    book: Arc<Book>,
    clients: Clients,
    user: Http,
    /// Long locks, of the user's.
    kept: Vec<(LockToken, usize)>,
}

impl Site {
    async fn start(kind: Kind) -> Self {
        Self::on(Engine::start(kind)).await
    }

    async fn on(engine: Engine) -> Self {
        let config = StoreConfig { lease: LEASE, time_limit: LIMIT, ..StoreConfig::new(&engine) };
        let nodes = Nodes::start(NODES, &config, Duration::from_millis(300));
        let book = Arc::new(Book::default());
        let user = Http::new("keeper", nodes.ports());
        let load = Load { clients: 6, mix: Mix::Everything, seed: 11, faults: Faults::Some };
        let clients = Clients::start(&load, &nodes.ports(), &book);
        let mut site = Self { engine, config, nodes, book, clients, user, kept: Vec::new() };
        for at in 0..10 {
            let lock = site.locked(at % NODES, &format!("/kept/{at}")).await;
            site.kept.push(lock);
        }
        site.writes_go_on("at first", 20).await;
        site
    }

    /// So many writes of the clients succeed from here on.
    async fn writes_go_on(&self, when: &str, count: usize) {
        let before = self.book.pages().written.len();
        until(when, || self.book.pages().written.len() >= before + count).await;
    }

    /// A write at each of these nodes is answered with this status, sooner or later.
    async fn each_node_answers(&self, nodes: impl IntoIterator<Item = usize>, status: u16) {
        for node in nodes {
            let start = Instant::now();
            loop {
                let answer = self.user.send(node, ask("PUT", "/probe")).await;
                if matches!(&answer, Ok(answer) if answer.status == status) {
                    break;
                }
                assert!(start.elapsed() < PATIENCE, "node {node} does not answer {status} but {answer:?}");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }

    /// Reads at these nodes, all the time.
    fn readers(&self, nodes: impl IntoIterator<Item = usize>) -> Readers {
        let stop = Arc::new(AtomicBool::new(false));
        let tasks = nodes.into_iter().map(|node| {
            let (user, stop) = (self.user.clone(), stop.clone());
            tokio::spawn(async move {
                let mut count = 0_u64;
                while !stop.load(Ordering::SeqCst) {
                    let answer = user.send(node, ask("GET", "/kept/0")).await;
                    assert!(matches!(&answer, Ok(answer) if answer.status == 200), "a read at node {node}: {answer:?}");
                    count += 1;
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                count
            })
        });
        Readers { tasks: tasks.collect(), stop }
    }

    /// A long write at a node, and what is answered.
    fn slow_write(
        &self,
        node: usize,
        path: &str,
        headers: &[(&'static str, u64)],
    ) -> (u64, JoinHandle<Result<Answer, NoAnswer>>) {
        let write = self.book.sends(vec![Target::write_member(key(path))], Vec::new());
        let mut request = ask("PUT", path).header("x-write", write);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let user = self.user.clone();
        (write, tokio::spawn(async move { user.send(node, request).await }))
    }

    /// Asks a node for a lock until it is granted.
    async fn locked(&self, node: usize, path: &str) -> (LockToken, usize) {
        let start = Instant::now();
        loop {
            let (token, id, asked) = (LockToken::random(), LockId::random(), now());
            let body = json!({ "token": token.urn().to_string(), "lock_id": id.to_string(), "timeout": 600 });
            let answer = self.user.send(node, ask("PUT", format!("/locks{path}")).json(&body)).await;
            if let Ok(answer) = &answer
                && answer.status == 201
            {
                let generation = answer.json()["generation"].as_u64().expect("a generation");
                return (token, self.book.granted(parts("keeper", id, path), generation, asked, 600_000_000_000));
            }
            assert!(start.elapsed() < PATIENCE, "{path} stays locked: {answer:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn served(&self) -> HashMap<u64, trace::Served> {
        trace::read(self.nodes.traces().iter().map(std::path::PathBuf::as_path))
    }

    /// Waits until a slow write has taken a step.
    async fn under_way(&self, write: u64) {
        until("a write is under way", || self.served().get(&write).is_some_and(|served| !served.steps.is_empty())).await;
    }

    /// The locks that nobody but their holder could have ended, and that the store does not know.
    async fn missing(&self) -> Vec<Held> {
        let store = self.config.open(Arc::default()).await;
        let found = store.find(&LockQuery::at_or_below(key("/")).limit(1_000)).await.expect("the engine is back").locks;
        self.book.missing("/kept", &found)
    }

    /// Every lock that nobody but its holder could have ended is there, and its token works. Those of the clients are
    /// asked for by their writes and refreshes: see what the oracle counts as lost.
    async fn no_lock_is_lost(&self) {
        let missing = self.missing().await;
        assert!(missing.is_empty(), "{missing:#?}");
        for (at, (token, lock)) in self.kept.iter().enumerate() {
            let request = ask("PATCH", format!("/locks/kept/{at}")).header("if", format!("(<{}>)", token.urn()));
            let sent = now();
            let answer = self.user.send(at % NODES, request).await.expect("a node answers");
            assert_eq!(answer.status, 200, "{answer:?}");
            self.book.refreshed(*lock, sent, 300_000_000_000);
        }
    }

    /// Ends the work, and looks the history through.
    async fn close(self, name: &str) -> Findings {
        self.clients.stop().await;
        nothing_is_left(&self.nodes, PATIENCE).await;
        let found = audit(&self.book.pages(), self.nodes.traces());
        println!("{name} on {}: {found:#?}\n{:?}", self.config.url, self.book.pages().tally);
        assert_eq!(found.broken(), 0, "{found:#?}");
        found
    }
}

/// Readers that are never turned away.
struct Readers {
    tasks: Vec<JoinHandle<u64>>,
    stop: Arc<AtomicBool>,
}

impl Readers {
    async fn stop(self) {
        self.stop.store(true, Ordering::SeqCst);
        for task in self.tasks {
            assert!(task.await.expect("every read is answered") > 20, "they were stuck");
        }
    }
}

async fn until(what: &str, mut is_true: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_true() {
        assert!(start.elapsed() < PATIENCE, "{what}: it never comes");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn parts(user: &str, id: LockId, root: &str) -> LockParts {
    LockParts {
        id,
        root: key(root),
        scope: LockScope::Exclusive,
        depth: Depth::Infinity,
        kind: LockKind::User,
        principal: Some(Principal::new(user)),
        owner: Owner::default(),
        reason: None,
        client_ref: None,
        claim: Claim::Made,
    }
}

// --- the engine ----------------------------------------------------------------------------------------------------

fn the_engine_goes_and_comes_back(kind: Kind, goes: fn(&Engine), comes: fn(&Engine), name: &str) {
    run(async {
        let site = Site::start(kind).await;
        let readers = site.readers(0..NODES);
        for round in 0..soak() {
            let slow = format!("/slow/{round}");
            let (write, answer) = site.slow_write(1, &slow, &[("x-steps", 2_000), ("x-pause", 20)]);
            site.under_way(write).await;
            goes(&site.engine);
            site.each_node_answers(0..NODES, 503).await;
            // A write goes on until its lease can no longer be renewed.
            let answer = answer.await.expect("no panic").expect("its node is there");
            assert_eq!(answer.status, 503, "{answer:?}");
            assert!(site.served()[&write].answered.is_none(), "it was stopped");
            comes(&site.engine);
            let back = Instant::now();
            site.each_node_answers(0..NODES, 204).await;
            println!("all nodes write again {:?} after the engine answers", back.elapsed());
            site.locked(2, &slow).await;
            site.writes_go_on("after the engine is back", 50).await;
            site.no_lock_is_lost().await;
        }
        readers.stop().await;
        site.close(name).await;
    });
}

pub(crate) fn the_engine_is_killed_and_started_again(kind: Kind) {
    the_engine_goes_and_comes_back(kind, Engine::kill, Engine::restart, "killed");
}

pub(crate) fn the_engine_stands_still_and_goes_on(kind: Kind) {
    the_engine_goes_and_comes_back(kind, Engine::pause, Engine::resume, "stopped");
}

/// The negative control: an engine that forgets what it acknowledged is found out.
#[cfg(feature = "redis")]
#[test]
fn an_engine_that_forgets_is_found_out() {
    run(async {
        let site = Site::on(Engine::forgetful()).await;
        site.engine.kill();
        site.engine.restart();
        site.each_node_answers(0..NODES, 204).await;
        assert_eq!(site.missing().await.len(), site.kept.len());
    });
}

// --- a node --------------------------------------------------------------------------------------------------------

pub(crate) fn nodes_are_killed_and_stopped(kind: Kind) {
    run(async {
        let mut site = Site::start(kind).await;
        let readers = site.readers([1, 2]);
        for round in 0..soak() {
            let (killed, stopped) = (format!("/slow/killed-{round}"), format!("/slow/stopped-{round}"));

            // Killed with writes in flight: its registrations end with their leases, and then others have their turn.
            let (write, answer) = site.slow_write(0, &killed, &[("x-steps", 2_000), ("x-pause", 20)]);
            site.under_way(write).await;
            site.nodes.replace(0);
            assert!(answer.await.expect("no panic").is_err(), "nobody is left to answer");
            site.locked(1, &killed).await;
            site.writes_go_on("after a node was killed", 20).await;

            // Stopped past its lease: the write takes no step once others may have what it changes.
            let (write, answer) = site.slow_write(0, &stopped, &[("x-steps", 2_000), ("x-pause", 20)]);
            site.under_way(write).await;
            site.nodes.pause(0);
            site.locked(1, &stopped).await;
            site.nodes.resume(0);
            let answer = answer.await.expect("no panic").expect("it answers when it goes on");
            assert_eq!(answer.status, 503, "{answer:?}");
            assert!(site.served()[&write].answered.is_none(), "it was dropped");
            site.each_node_answers([0], 204).await;
            site.writes_go_on("after a node was stopped", 20).await;
        }
        site.no_lock_is_lost().await;
        readers.stop().await;
        let found = site.close("nodes").await;
        assert!(found.cut >= 2, "{found:?}");
    });
}

/// What is written to, if it does as it is told: it refuses a smaller generation than it has seen.
#[derive(Default)]
struct BackEnd(HashMap<String, u64>);

impl BackEnd {
    fn takes(&mut self, path: &str, generation: u64) -> bool {
        let seen = self.0.entry(path.to_owned()).or_default();
        let takes = generation >= *seen;
        *seen = generation.max(*seen);
        takes
    }
}

/// A process that stands still between its decision to go on and the step itself cannot be stopped by anybody. What it
/// writes to can see it by the generation.
pub(crate) fn a_stalled_write_is_seen_by_its_generation(kind: Kind) {
    run(async {
        let site = Site::start(kind).await;
        let path = "/slow/stalled";
        let (stalled, answer) = site.slow_write(0, path, &[("x-steps", 1), ("x-stop", 1)]);
        let stat = format!("/proc/{}/stat", site.nodes.id(0));
        until("the node stops itself", || fs::read_to_string(&stat).is_ok_and(|stat| stat.contains(") T "))).await;

        // Its lease runs out, and somebody else locks and writes.
        let (token, lock) = site.locked(1, path).await;
        let write = site.book.sends(vec![Target::write_member(key(path))], vec![lock]);
        let request = ask("PUT", path).header("if", format!("(<{}>)", token.urn()));
        let request = request.header("x-write", write).header("x-steps", 1);
        assert_eq!(site.user.send(1, request).await.expect("a node answers").status, 204);
        site.nodes.resume(0);
        _ = answer.await.expect("no panic");

        let served = site.served();
        let (stalled, holders) = (&served[&stalled], &served[&write]);
        assert!(stalled.steps[0] > holders.steps[0], "it was to come after the holder's write, or this proves nothing");
        let mut back_end = BackEnd::default();
        assert!(back_end.takes(path, holders.generation), "the holder's write");
        assert!(!back_end.takes(path, stalled.generation), "{stalled:?} after {holders:?}");
        // The oracle sees it too: it is the one trespass that nobody can prevent.
        site.clients.stop().await;
        let found = audit(&site.book.pages(), site.nodes.traces());
        assert_eq!((found.trespassing, found.broken()), (1, 1), "{found:#?}");
    });
}

// --- the clock -----------------------------------------------------------------------------------------------------

/// The engine's clock is one for all nodes, so these are tasks of this process and share its offset.
pub(crate) fn the_clock_steps_back(kind: Kind) {
    run(async {
        let engine = Engine::start(kind);
        let config = StoreConfig { lease: LEASE, ..StoreConfig::new(&engine) };
        let offset = Arc::new(AtomicI64::new(0));
        let step = Arc::new(tokio::sync::RwLock::new(()));
        let mut handles: Vec<Arc<dyn LockStore>> = Vec::new();
        for _ in 0..NODES {
            handles.push(Arc::new(Stepping::new(config.open(offset.clone()).await, step.clone())));
        }
        let nodes = Tasks::start(handles, &config, Duration::from_millis(300)).await;
        let book = Arc::new(Book::default());
        let load = Load { clients: 6, mix: Mix::Everything, seed: 13, faults: Faults::None };
        let clients = Clients::start(&load, &nodes.ports(), &book);
        for _ in 0..4 * soak() {
            let before = book.pages().written.len();
            until("writes go on", || book.pages().written.len() >= before + 50).await;
            // No call of the store is under way, but writes are.
            let _step = step.write().await;
            offset.fetch_sub(1_500_000, Ordering::SeqCst);
        }
        clients.stop().await;
        let found = audit(&book.pages(), nodes.traces());
        println!("clock on {}: {found:#?}\n{:?}", config.url, book.pages().tally);
        assert_eq!(found.broken(), 0, "{found:#?}");
    });
}
