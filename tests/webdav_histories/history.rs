//! A history: steps, and after each of them everything that the oracle can tell.
//!
//! What ought to pass may not be refused. Coarser than what in the end changes is only what the method table says a write
//! may change: one that the handler would have refused is asked for its locks first; COPY and MOVE change the membership
//! of the collection they go to, also over a resource; what goes with all below it is answered for by a shared lock only
//! if that covers whatever may be below. With `Overwrite: F` over a resource, 412 stands for 423.

use std::{fmt::Write, time::Duration};

use tower_lock::{LockRequest, LockStore, ResourceKey, lock::LockKind, store::LockQuery};

use super::{
    handler::canonical,
    kit::{Answer, LOCK_PROPS},
    oracle::{Held, Oracle, Place, Tree, Who, parent, within},
    rng::Rng,
    site::{ALL_SEEING, Site},
    steps::{Making, Reading, Step, USERS},
    tally::Tally,
    xml::{Active, Found, Xml},
};

/// What ought to become of a request.
#[derive(Debug)]
enum Expected {
    /// Any of these, and nothing changes.
    Refused(&'static [u16]),
    /// 423, for locks at some of these roots.
    Locked(Vec<String>),
    /// The handler's affair.
    Passed,
    /// A property that clients cannot change.
    Protected,
    Unlocked(String),
    Refreshed(String),
    Granted,
}

/// The steps, shown when one of them fails.
struct Story {
    seed: u64,
    lines: Vec<String>,
}

impl Drop for Story {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let last = &self.lines[self.lines.len().saturating_sub(30)..];
            eprintln!("seed {:#x}, step {}; the last steps:\n{}", self.seed, self.lines.len(), last.join("\n"));
        }
    }
}

pub(crate) struct History<'t> {
    site: Site,
    oracle: Oracle,
    rng: Rng,
    tally: &'t mut Tally,
    story: Story,
    locks_made: usize,
}

impl<'t> History<'t> {
    pub(crate) fn new(seed: u64, site: Site, tally: &'t mut Tally) -> Self {
        let story = Story { seed, lines: Vec::new() };
        Self { site, oracle: Oracle::default(), rng: Rng::new(seed), tally, story, locks_made: 0 }
    }

    pub(crate) async fn run(mut self, steps: usize) {
        for _ in 0..steps {
            if self.rng.chance(if self.oracle.locks.len() > 6 { 12 } else { 4 }) {
                let seconds = 1 + self.rng.below(40) as u64;
                self.story.lines.push(format!("sleep {seconds}"));
                self.site.clock.advance(Duration::from_secs(seconds));
                let expired = self.oracle.pass(seconds);
                self.tally.add("expired", expired);
                self.observe().await;
                continue;
            }
            let before = self.site.tree().await;
            let reading = self.site.reading;
            let step = Making { rng: &mut self.rng, oracle: &self.oracle, tree: &before, reading }.step();
            self.step(&step, &before).await;
            self.observe().await;
        }
        self.finish().await;
    }

    async fn step(&mut self, step: &Step, before: &Tree) {
        self.story.lines.push(step.line());
        self.site.take_writes();
        let expected = self.expected(step, before);
        let answer = self.site.send(step).await;
        let status = answer.status.as_u16();
        let line = self.story.lines.last_mut().expect("this step");
        let _ = write!(line, "   # {status}, expected {expected:?}");
        self.tally.saw(format!("status {status}"));
        let refused = matches!(expected, Expected::Refused(_) | Expected::Locked(_));
        let how = if refused { "refused" } else { "allowed" };
        let method = if step.is_refresh() { "refresh" } else { step.method };
        self.tally.saw(format!("{method} {how}"));
        self.assert_no_foreign_tokens(step, &answer);

        let writes = self.site.take_writes();
        match expected {
            Expected::Refused(statuses) => {
                assert!(statuses.contains(&status), "{answer:?}");
                assert_eq!(writes, [""; 0]);
            }
            Expected::Locked(roots) => {
                assert_eq!(status, 423, "{answer:?}");
                assert_eq!(writes, [""; 0]);
                assert_blockers(step, &answer, &roots);
            }
            Expected::Protected => {
                assert_eq!(status, 207, "{answer:?}");
                assert_eq!(writes, [""; 0]);
                assert_eq!(Found::of(&answer.xml()).0[0].1[0].0, 403, "{answer:?}");
            }
            Expected::Passed if matches!(step.method, "GET" | "PROPFIND") => self.assert_read(step, &answer).await,
            Expected::Passed => {
                let twin = self.site.send_plain(&self.site.twin, step).await;
                assert_eq!(answer.status, twin.status, "{answer:?}");
                if answer.status.is_success() {
                    self.unlinked(step);
                }
            }
            Expected::Unlocked(token) => {
                assert_eq!(status, 204, "{answer:?}");
                self.oracle.end(|lock| lock.token == token);
            }
            Expected::Refreshed(token) => {
                assert_eq!(status, 200, "{answer:?}");
                assert!(!answer.headers.contains_key("lock-token"), "{answer:?}");
                let lifetime = lifetime(step);
                let now = self.oracle.now;
                let lock = self.oracle.locks.iter_mut().find(|lock| lock.token == token).expect("live");
                lock.lifetime = lifetime.unwrap_or(lock.lifetime);
                lock.ends = now + lock.lifetime;
                assert_shown(&Active::only(&answer.xml()), lock, now, Some(&token));
            }
            Expected::Granted => self.granted(step, &answer, before).await,
        }
        self.assert_tree(step, before).await;
    }

    /// Section 6.1 and 7 of RFC 4918, and the order of answers: conditions, locks, the handler.
    fn expected(&mut self, step: &Step, tree: &Tree) -> Expected {
        let oracle = &self.oracle;
        let tokens = step.tokens();
        let holds = oracle.holds(&step.if_, &step.path, tree);
        if step.is_refresh() {
            return match (&tokens[..], holds) {
                _ if step.if_.is_empty() => Expected::Refused(&[400]),
                ([_, _, ..], true) => Expected::Refused(&[400]),
                // Two things are wrong with it.
                ([_, _, ..], false) => Expected::Refused(&[400, 412]),
                ([token], true) => match oracle.live(token) {
                    Some(lock) if lock.covers(&step.path) && lock.holder == step.who => Expected::Refreshed(token.clone()),
                    Some(lock) if lock.covers(&step.path) => Expected::Refused(&[403]),
                    Some(lock) if lock.holder != step.who => Expected::Refused(&[403, 412]),
                    _ => Expected::Refused(&[412]),
                },
                _ => Expected::Refused(&[412]),
            };
        }
        if step.method == "UNLOCK" {
            return match (&step.lock_token, holds) {
                (None, true) => Expected::Refused(&[400]),
                (None, false) => Expected::Refused(&[400, 412]),
                (_, false) => Expected::Refused(&[412]),
                (Some(token), true) => match oracle.live(token) {
                    Some(lock) if lock.covers(&step.path) && lock.holder == step.who => Expected::Unlocked(token.clone()),
                    Some(lock) if lock.covers(&step.path) => Expected::Refused(&[403]),
                    Some(lock) if lock.holder != step.who => Expected::Refused(&[403, 409]),
                    _ => Expected::Refused(&[409]),
                },
            };
        }
        if !holds {
            return Expected::Refused(&[412]);
        }
        if matches!(step.method, "GET" | "PROPFIND") {
            return Expected::Passed;
        }
        let places = self.places(step, tree);
        let blockers = oracle.unanswered(&places, &tokens, step.who);
        if !blockers.is_empty() {
            let occupied = step.destination.as_ref().is_some_and(|(to, _)| tree.contains_key(to));
            if step.overwrite == Some("F") && occupied {
                return Expected::Refused(&[412]);
            }
            if Some(&step.path) != blockers.first().map(|lock| &lock.root)
                && blockers.iter().all(|lock| !lock.infinite && parent(&step.path).as_ref() == Some(&lock.root))
            {
                self.tally.saw("refused for membership");
            }
            return Expected::Locked(blockers.iter().map(|lock| lock.root.clone()).collect());
        }
        if step.method == "LOCK" {
            let new = new_lock(step, oracle.now);
            let conflicting: Vec<_> = oracle.locks.iter().filter(|lock| lock.conflicts(&new)).collect();
            if !conflicting.is_empty() {
                return Expected::Locked(conflicting.iter().map(|lock| lock.root.clone()).collect());
            }
            return Expected::Granted;
        }
        let touched = oracle.touched(&places);
        if touched.iter().any(|lock| !(tokens.contains(&lock.token) && lock.holder == step.who)) {
            self.tally.saw("vouched for by another shared lock");
        }
        if !touched.is_empty() {
            self.tally.saw("allowed under locks");
        }
        if step.method == "PROPPATCH" && step.body.contains("lockdiscovery") {
            return Expected::Protected;
        }
        Expected::Passed
    }

    /// What a write may change, or a LOCK that makes a resource.
    fn places(&self, step: &Step, tree: &Tree) -> Vec<Place> {
        let at = Place::At(step.path.clone());
        let exists = tree.contains_key(&step.path);
        let member = parent(&step.path).is_some_and(|parent| tree.get(&parent).is_some_and(|node| node.content.is_none()));
        let to_membership = |places: &mut Vec<Place>, path: &str| places.extend(parent(path).map(Place::At));
        let mut places = Vec::new();
        match step.method {
            "LOCK" if exists => {}
            "PUT" if exists && member => places.push(at),
            "PROPPATCH" => places.push(at),
            "PUT" | "MKCOL" | "LOCK" => {
                places.push(at);
                to_membership(&mut places, &step.path);
            }
            "DELETE" | "MOVE" => {
                places.extend(self.oracle.whole(&step.path, tree));
                to_membership(&mut places, &step.path);
            }
            "COPY" => {}
            other => panic!("{other}"),
        }
        if let Some((to, _)) = &step.destination {
            // Also with `Overwrite: F`: what comes to be there may be locked.
            places.extend(self.oracle.whole(to, tree));
            // Overwriting is deleting first (section 9.8.4).
            to_membership(&mut places, to);
        }
        places
    }

    /// The locks of what is gone (section 6.1, 9.6, 9.9).
    fn unlinked(&mut self, step: &Step) {
        if matches!(step.method, "DELETE" | "MOVE") {
            let gone = self.oracle.end(|lock| within(&lock.root, &step.path));
            self.tally.add(format!("locks gone after {}", step.method), gone);
        }
        if let Some((to, _)) = step.destination.as_ref().filter(|_| step.overwrite != Some("F")) {
            let gone = self.oracle.end(|lock| lock.root != *to && within(&lock.root, to));
            self.tally.add(format!("locks below a destination gone after {}", step.method), gone);
        }
    }

    async fn granted(&mut self, step: &Step, answer: &Answer, before: &Tree) {
        let status = answer.status.as_u16();
        if before.contains_key(&step.path) {
            assert_eq!(status, 200, "{answer:?}");
        } else {
            let twin = self.site.twin.put(&step.target, "").header("if-none-match", "*").await;
            let made = twin.status.is_success();
            // A collection on the way is missing, whatever the handler says to that.
            let missing = [404, 412].contains(&twin.status.as_u16());
            let expected = if made {
                201
            } else if missing {
                409
            } else {
                twin.status.as_u16()
            };
            assert_eq!(status, expected, "{answer:?}");
            if !made {
                return;
            }
        }
        let mut lock = new_lock(step, self.oracle.now);
        lock.token = answer.token();
        let known = self.oracle.locks.iter().chain(&self.oracle.dead).any(|other| other.token == lock.token);
        assert!(!known, "a token that was there before");
        assert_shown(&Active::only(&answer.xml()), &lock, self.oracle.now, Some(&lock.token));
        self.oracle.locks.push(lock);
        self.locks_made += 1;
        for (at, one) in self.oracle.locks.iter().enumerate() {
            let conflicts = self.oracle.locks[at + 1..].iter().any(|other| one.conflicts(other));
            assert!(!conflicts, "two conflicting locks live");
        }
    }

    /// The tree is that of the twin, and whatever changed was answered for.
    async fn assert_tree(&self, step: &Step, before: &Tree) {
        let after = self.site.tree().await;
        let twin = self.site.twin_tree().await;
        assert_eq!(self.site.comparable(after.clone()), self.site.comparable(twin));
        let mut changed = Oracle::changed(&self.site.comparable(before.clone()), &self.site.comparable(after));
        // A lock that ended with the request is no longer there to be asked.
        changed.retain(|place| !matches!(place, Place::At(path) if *path == step.path && step.method == "LOCK"));
        if step.method == "LOCK" {
            return;
        }
        let blockers = self.oracle.unanswered(&changed, &step.tokens(), step.who);
        assert!(blockers.is_empty(), "changed {changed:?} under {blockers:?}");
    }

    /// The answer of the handler but for the lock properties, and those as they are.
    async fn assert_read(&mut self, step: &Step, answer: &Answer) {
        let bare = self.site.send_plain(&self.site.bare, step).await;
        assert_eq!(answer.status, bare.status, "{answer:?}");
        if step.method == "GET" {
            assert_eq!(answer.text, bare.text);
        }
        if answer.status != 207 {
            return;
        }
        let (found, bare) = (Found::of(&answer.xml()), Found::of(&bare.xml()));
        assert_eq!(others(&found), others(&bare), "{answer:?}");
        if step.body.is_empty() || step.body.contains("lockdiscovery") || step.body.contains("allprop") {
            self.assert_locks(&found, step.who);
        }
    }

    /// What is shown to somebody of all locks is what there is.
    async fn observe(&mut self) {
        // The store may know of more than is shown: locks of what is no longer there.
        let all = LockQuery::at_or_below(ResourceKey::from_canonical("/")).limit(1_000);
        let stored = self.site.memory.find(&all).await.expect("a page").locks;
        let mut stored: Vec<_> = stored.iter().map(|lock| lock.root().path().to_owned()).collect();
        let mut roots: Vec<_> = self.oracle.locks.iter().map(|lock| lock.root.clone()).collect();
        stored.sort();
        roots.sort();
        assert_eq!(stored, roots, "the roots of all locks");
        let who = if self.rng.chance(40) { ALL_SEEING } else { self.rng.pick(&USERS) };
        let client = self.site.as_(who);
        if self.site.reading == Reading::Lax {
            let answer = client.propfind("/", "infinity").expect(207).await;
            let found = Found::of(&answer.xml());
            assert_eq!(found.hrefs().len(), self.site.tree().await.len());
            self.assert_locks(&found, who);
            return;
        }
        for (path, node) in self.site.tree().await {
            if node.content.is_none() {
                let href = found_as(&path);
                let answer = client.ask("PROPFIND", &href).depth("1").body(LOCK_PROPS).expect(207).await;
                self.assert_locks(&Found::of(&answer.xml()), who);
            }
        }
    }

    fn assert_locks(&self, found: &Found, who: Who) {
        for href in found.hrefs() {
            let path = canonical(super::handler::path_of(href));
            let mut shown = found.locks(href);
            let expected: Vec<_> = self.oracle.locks.iter().filter(|lock| lock.covers(&path)).collect();
            assert_eq!(shown.len(), expected.len(), "{href}: {shown:#?}, but {expected:#?}");
            for lock in expected {
                let own = who.is_some() && lock.holder == who;
                let at = shown.iter().position(|active| is_shown(active, lock, self.oracle.now, own.then_some(&lock.token)));
                let at = at.unwrap_or_else(|| panic!("{href}: no {lock:?} for {who:?} in {shown:#?}"));
                shown.swap_remove(at);
            }
        }
    }

    fn assert_no_foreign_tokens(&self, step: &Step, answer: &Answer) {
        let headers = format!("{:?}", answer.headers);
        for lock in self.oracle.locks.iter().chain(&self.oracle.dead) {
            let named = step.tokens().contains(&lock.token) || step.lock_token.as_ref() == Some(&lock.token);
            if !named && (lock.holder.is_none() || lock.holder != step.who) {
                assert!(!answer.text.contains(&lock.token) && !headers.contains(&lock.token), "a foreign token: {answer:?}");
            }
        }
    }

    /// All locks end; nothing is left that would keep anybody waiting.
    async fn finish(mut self) {
        for lock in std::mem::take(&mut self.oracle.locks) {
            let href = found_as(&lock.root);
            self.story.lines.push(format!("UNLOCK of {lock:?}"));
            self.site.as_(lock.holder).unlock(&href, &lock.token).expect(204).await;
        }
        self.story.lines.push("the end".into());
        self.observe().await;
        assert_eq!(self.site.memory.stats().in_flight, 0);
        let all = LockRequest::exclusive("/").kind(LockKind::App).draining(Duration::ZERO);
        let _ = self.site.locks.acquire(all).await.expect("nothing is in the way");
        self.tally.add("locks", self.locks_made);
    }
}

/// A path as a URL.
fn found_as(path: &str) -> String {
    let encoded: String = path
        .bytes()
        .map(|byte| match byte {
            b'/' | b'a'..=b'z' => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        })
        .collect();
    encoded
}

/// The lifetime that a request asks for, as far as it is granted.
fn lifetime(step: &Step) -> Option<u64> {
    match step.timeout? {
        "Second-20" => Some(20),
        "Second-30" => Some(30),
        "Second-60" => Some(60),
        // More than there is.
        _ => Some(3_600),
    }
}

fn new_lock(step: &Step, now: u64) -> Held {
    let lifetime = lifetime(step).unwrap_or(300);
    Held {
        root: step.path.clone(),
        exclusive: step.exclusive,
        infinite: step.depth != Some("0"),
        holder: step.who,
        token: String::new(),
        ends: now + lifetime,
        lifetime,
        slash: step.target.ends_with('/'),
    }
}

fn is_shown(active: &Active, lock: &Held, now: u64, token: Option<&String>) -> bool {
    let scope = if lock.exclusive { "exclusive" } else { "shared" };
    active.scope == scope
        && active.depth == if lock.infinite { "infinity" } else { "0" }
        && active.owner.as_ref().is_some_and(|owner| owner.text == lock.holder.unwrap_or("nobody"))
        && active.timeout.as_deref() == Some(&*format!("Second-{}", lock.ends - now))
        && active.token.as_ref() == token
        && canonical(&active.root) == lock.root
        && active.root.ends_with('/') == lock.slash
}

#[track_caller]
fn assert_shown(active: &Active, lock: &Held, now: u64, token: Option<&String>) {
    assert!(is_shown(active, lock, now, token), "{active:?}, but {lock:?} at {now}");
}

/// The locks that are named are some of those in the way; a precondition says which rule it is.
fn assert_blockers(step: &Step, answer: &Answer, roots: &[String]) {
    let xml: Xml = answer.xml();
    let condition = xml.named("{DAV:}error").children[0].clone();
    let known: &[&str] = match step.method {
        "LOCK" => &["{DAV:}lock-token-submitted", "{DAV:}no-conflicting-lock"],
        _ => &["{DAV:}lock-token-submitted"],
    };
    assert!(known.contains(&&*condition.name), "{answer:?}");
    let mut named: Vec<_> = condition.all("href").map(|href| canonical(&href.text)).collect();
    let mut roots = roots.to_vec();
    for list in [&mut named, &mut roots] {
        list.sort();
        list.dedup();
    }
    assert_eq!(named, roots, "{answer:?}");
}

/// All properties but those of locks.
fn others(found: &Found) -> Vec<(String, Vec<(u16, Xml)>)> {
    let is_other = |(_, property): &(u16, Xml)| !["{DAV:}lockdiscovery", "{DAV:}supportedlock"].contains(&&*property.name);
    let each = found.0.iter();
    each.map(|(href, all)| (href.clone(), all.iter().filter(|one| is_other(one)).cloned().collect())).collect()
}
