//! What the clients of a fleet do: they read, lock, write, refresh, release, and hang up, at any node, in any order.

use std::{
    sync::{
        Arc, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};
use tokio::task::JoinSet;
use tower_lock::lock::{Claim, Depth, LockId, LockKind, LockParts, LockScope, LockToken, Owner, Principal, Target};

use super::{
    book::{Book, key},
    http::{Answer, Ask, Http, NoAnswer, ask},
    rng::Rng,
    trace::now,
};

/// The resources that all want.
const TREE: [&str; 7] = ["/t", "/t/a", "/t/b", "/t/a/a", "/t/a/b", "/t/b/a", "/t/b/b"];

/// How a fleet is loaded.
#[derive(Clone)]
pub(crate) struct Load {
    pub(crate) clients: usize,
    pub(crate) mix: Mix,
    pub(crate) seed: u64,
    pub(crate) faults: Faults,
}

/// What the clients do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mix {
    /// Everything, on a small tree.
    Everything,
    /// Writes and exclusive locks on few resources: the shortest way to find a lock that overtakes a write.
    Crowded,
}

/// Whether something is broken while they do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Faults {
    /// Nothing: a 503 is one too many.
    None,
    /// Nodes go away, and the store cannot always answer.
    Some,
}

/// The clients at work.
pub(crate) struct Clients {
    tasks: JoinSet<()>,
    stop: Arc<AtomicBool>,
}

impl Clients {
    pub(crate) fn start(load: &Load, ports: &Arc<RwLock<Vec<u16>>>, book: &Arc<Book>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let mut tasks = JoinSet::new();
        for at in 0..load.clients {
            let user = format!("user-{at}");
            let client = Client {
                role: if at == 0 && load.mix == Mix::Everything { Role::Uploader } else { Role::Everything },
                http: Http::new(&user, ports.clone()),
                book: book.clone(),
                rng: Rng::new(load.seed * 1_000 + at as u64),
                principal: Principal::new(&user),
                load: load.clone(),
                mine: Vec::new(),
                doubtful: Vec::new(),
            };
            tasks.spawn(client.work(stop.clone()));
        }
        Self { tasks, stop }
    }

    /// Lets them give back what they hold, and waits for them.
    pub(crate) async fn stop(mut self) {
        self.stop.store(true, Ordering::SeqCst);
        while let Some(ended) = self.tasks.join_next().await {
            if let Err(panic) = ended {
                std::panic::resume_unwind(panic.into_panic());
            }
        }
    }
}

/// A lock of a client's own.
#[derive(Clone)]
struct Mine {
    at: usize,
    root: String,
    token: LockToken,
    lifetime: u64,
}

/// What a client is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Everything,
    Uploader,
}

struct Client {
    role: Role,
    http: Http,
    book: Arc<Book>,
    rng: Rng,
    principal: Principal,
    load: Load,
    mine: Vec<Mine>,
    /// Locks that may have been granted, or may live on: nobody answered.
    doubtful: Vec<(String, LockToken)>,
}

const SECOND: u64 = 1_000_000_000;

impl Client {
    async fn work(mut self, stop: Arc<AtomicBool>) {
        while !stop.load(Ordering::SeqCst) {
            self.step().await;
        }
        // What is broken may come back only after a while.
        for _ in 0..200 {
            while let Some(mine) = self.mine.pop() {
                self.release(mine).await;
            }
            self.settle().await;
            if self.doubtful.is_empty() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        self.book.wrong(format!("{:?} could not be given back", self.doubtful));
    }

    async fn step(&mut self) {
        if self.role == Role::Uploader {
            return self.upload().await;
        }
        match self.rng.below(100) {
            0..50 => self.write().await,
            50..78 => self.acquire().await,
            78..84 => self.refresh().await,
            84..86 => self.forget(),
            86..90 => self.read().await,
            _ => {
                if let Some(mine) = self.mine.pop() {
                    self.release(mine).await;
                }
            }
        }
        // Nobody keeps so much, or for so long, that the others only hear no.
        let (most, often) = if self.load.mix == Mix::Crowded { (1, 80) } else { (2, 30) };
        while self.mine.len() > most || (!self.mine.is_empty() && self.rng.chance(often)) {
            let mine = self.mine.remove(0);
            self.release(mine).await;
        }
        self.settle().await;
    }

    /// Sends to some node, and sometimes hangs up before the answer.
    async fn send(&mut self, what: &'static str, ask: Ask) -> Option<Answer> {
        let node = self.rng.below(self.http.nodes());
        let answer = if self.rng.chance(4) {
            let patience = Duration::from_micros(self.rng.below(6_000) as u64);
            let answer = tokio::time::timeout(patience, self.http.send(node, ask)).await;
            if answer.is_err() {
                self.book.count("hung up", 0);
            }
            answer.ok()?
        } else {
            self.http.send(node, ask).await
        };
        match answer {
            Ok(answer) => {
                self.book.count(what, answer.status);
                // It is not worth asking at once again.
                match answer.status {
                    423 => tokio::time::sleep(Duration::from_millis(1)).await,
                    503 => tokio::time::sleep(Duration::from_millis(10)).await,
                    _ => {}
                }
                if answer.status == 503 && self.load.faults == Faults::None {
                    self.book.wrong(format!("{what} was answered 503: {:?}", answer.body));
                }
                Some(answer)
            }
            Err(NoAnswer::Hangs) => {
                self.book.wrong(format!("{what} hangs"));
                None
            }
            Err(NoAnswer::Gone) => {
                self.book.count(what, 0);
                if self.load.faults == Faults::None {
                    self.book.wrong(format!("{what} met a node that went away"));
                } else {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                None
            }
        }
    }

    fn unexpected(&self, what: &str, answer: &Answer) {
        if answer.status != 503 {
            self.book.wrong(format!("{what} was answered {answer:?}"));
        }
    }

    fn path(&mut self) -> &'static str {
        match self.load.mix {
            Mix::Crowded => self.rng.pick(&TREE[3..]),
            // Deep resources more often: a lock on the first stops everybody.
            Mix::Everything => TREE[self.rng.below(7).max(self.rng.below(7))],
        }
    }

    async fn read(&mut self) {
        let path = self.path();
        if let Some(answer) = self.send("read", ask("GET", path)).await
            && answer.status != 200
        {
            self.book.wrong(format!("a read was answered {answer:?}"));
        }
    }

    async fn write(&mut self) {
        let path = self.path();
        let (method, targets) = match self.rng.below(10) {
            0..4 => ("PUT", vec![Target::write_member(key(path))]),
            4..6 => ("POST", vec![Target::write_member(key(path))]),
            6..8 => ("DELETE", vec![Target::unlink(key(path))]),
            _ => ("MOVE", vec![Target::unlink(key(path))]),
        };
        let mut targets = targets;
        let mut request = ask(method, path);
        if method == "MOVE" {
            let to = self.path();
            targets.push(Target::unlink(key(to)));
            request = request.header("destination", to);
        }
        let submitted = if self.rng.chance(80) { self.mine.clone() } else { Vec::new() };
        if !submitted.is_empty() {
            let lists: Vec<String> =
                submitted.iter().map(|mine| format!("<{}> (<{}>)", mine.root, mine.token.urn())).collect();
            request = request.header("if", lists.join(" "));
        }
        let least = if self.load.mix == Mix::Crowded { 3 } else { 0 };
        request = request.header("x-steps", least + self.rng.below(4)).header("x-pause", 1 + self.rng.below(4));
        let write = self.book.sends(targets, submitted.iter().map(|mine| mine.at).collect());
        let Some(answer) = self.send("write", request.header("x-write", write)).await else { return };
        self.book.answered(write, answer.status);
        match answer.status {
            204 | 423 => {}
            // Of the conditions none was true: all these locks are gone.
            412 => {
                for mine in &submitted {
                    self.book.lost(mine.at);
                    self.mine.retain(|other| other.at != mine.at);
                }
            }
            _ => self.unexpected(method, &answer),
        }
    }

    async fn acquire(&mut self) {
        let lifetime = if self.rng.chance(20) { 2 } else { 120 };
        self.acquire_for(lifetime).await;
    }

    /// Asks for one lock or two, which are to live for so many seconds.
    async fn acquire_for(&mut self, lifetime: u64) {
        let crowded = self.load.mix == Mix::Crowded;
        let scope = if !crowded && self.rng.chance(50) { LockScope::Shared } else { LockScope::Exclusive };
        let depth = if self.rng.chance(40) { Depth::Zero } else { Depth::Infinity };
        let first = self.path();
        // Two roots where they can be had: no root covers another.
        let second = Some(self.path()).filter(|second| {
            let apart = |a: &str, b: &str| a != b && !a.starts_with(&format!("{b}/")) && !b.starts_with(&format!("{a}/"));
            apart(first, second)
        });
        let roots: Vec<&'static str> = match second {
            Some(second) if self.rng.chance(40) => vec![first, second],
            _ => vec![first],
        };
        let proposals: Vec<(&'static str, LockId, LockToken)> =
            roots.iter().map(|root| (*root, LockId::random(), LockToken::random())).collect();
        let terms = json!({
            "scope": if scope == LockScope::Shared { "shared" } else { "exclusive" },
            "depth": if depth == Depth::Zero { "0" } else { "infinity" },
            "timeout": lifetime,
        });
        let proposed = |(root, id, token): &(&str, LockId, LockToken)| json!({ "resource": root, "lock_id": id.to_string(), "token": token.urn().to_string() });
        let request = match &proposals[..] {
            [one] => {
                let mut body = merged(terms, proposed(one));
                body.as_object_mut().expect("an object").remove("resource");
                ask("PUT", format!("/locks{first}")).json(&body)
            }
            several => {
                let resources: Vec<Value> = several.iter().map(proposed).collect();
                ask("POST", "/locks").json(&merged(terms, json!({ "resources": resources })))
            }
        };
        let asked = now();
        let answer = self.send("acquire", request).await;
        let status = answer.as_ref().map_or(0, |answer| answer.status);
        let doubtful = proposals.iter().map(|(root, _, token)| ((*root).to_owned(), *token));
        match (status, answer) {
            (201, Some(answer)) => {
                let body = answer.json();
                let locks = body["locks"].as_array().cloned().unwrap_or_else(|| vec![body.clone()]);
                assert_eq!(locks.len(), proposals.len(), "all locks asked for, or none: {body}");
                for ((root, id, token), lock) in proposals.into_iter().zip(locks) {
                    assert_eq!(lock["lock_id"], id.to_string());
                    let generation = lock["generation"].as_u64().expect("a generation");
                    let parts = LockParts {
                        id,
                        root: key(root),
                        scope,
                        depth,
                        kind: LockKind::User,
                        principal: Some(self.principal.clone()),
                        owner: Owner::default(),
                        reason: None,
                        client_ref: None,
                        claim: Claim::Made,
                    };
                    let lifetime = lifetime * SECOND;
                    let at = self.book.granted(parts, generation, asked, lifetime);
                    self.mine.push(Mine { at, root: root.to_owned(), token, lifetime });
                }
            }
            (423 | 409, _) => {}
            (0 | 503, _) => self.doubtful.extend(doubtful),
            (_, answer) => self.book.wrong(format!("acquire was answered {answer:?}")),
        }
    }

    /// A write that takes longer than the lock lives which answers for it.
    async fn upload(&mut self) {
        let at = self.mine.len();
        self.acquire_for(1).await;
        let Some(mine) = self.mine.get(at).cloned() else { return };
        let write = self.book.sends(vec![Target::write_member(key(&mine.root))], vec![mine.at]);
        let request = ask("PUT", &mine.root).header("if", format!("(<{}>)", mine.token.urn()));
        let request = request.header("x-write", write).header("x-steps", 30).header("x-pause", 60);
        if let Some(answer) = self.send("upload", request).await {
            self.book.answered(write, answer.status);
            // The parent may be locked by another; that the lock is gone is a matter for the oracle.
            match answer.status {
                204 | 423 => {}
                412 => self.book.lost(mine.at),
                _ => self.unexpected("an upload", &answer),
            }
        }
        while let Some(mine) = self.mine.pop() {
            self.release(mine).await;
        }
        self.settle().await;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }

    async fn refresh(&mut self) {
        let Some(mine) = self.mine.last().cloned() else { return };
        let request = ask("PATCH", format!("/locks{}", mine.root)).header("if", format!("(<{}>)", mine.token.urn()));
        let sent = now();
        let Some(answer) = self.send("refresh", request).await else { return };
        match answer.status {
            200 => self.book.refreshed(mine.at, sent, mine.lifetime),
            412 => {
                self.book.lost(mine.at);
                self.mine.pop();
            }
            _ => self.unexpected("refresh", &answer),
        }
    }

    /// Leaves a lock that is short to its end.
    fn forget(&mut self) {
        self.mine.retain(|mine| mine.lifetime > 10 * SECOND);
    }

    async fn release(&mut self, mine: Mine) {
        self.book.ends(mine.at);
        self.give_back(mine.root, mine.token).await;
    }

    async fn give_back(&mut self, root: String, token: LockToken) {
        let request = ask("DELETE", format!("/locks{root}")).header("lock-token", format!("<{}>", token.urn()));
        match self.send("release", request).await {
            Some(answer) if answer.status == 204 => {}
            Some(answer) if answer.status != 503 => self.unexpected("release", &answer),
            _ => self.doubtful.push((root, token)),
        }
    }

    /// Gives back what may still be held without anybody knowing.
    async fn settle(&mut self) {
        for (root, token) in std::mem::take(&mut self.doubtful) {
            self.give_back(root, token).await;
        }
    }
}

fn merged(mut into: Value, from: Value) -> Value {
    let (Some(object), Value::Object(from)) = (into.as_object_mut(), from) else { unreachable!("both are objects") };
    object.extend(from);
    into
}
