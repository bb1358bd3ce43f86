//! Thousands of random requests, each held against the rules of RFC 4918 written down a second time, as plainly as can be.

use super::{
    handler::{Tree, below, parent},
    kit::{Ask, Client, Dav, EXCLUSIVE, SHARED},
};

/// A small generator of numbers, so that a failure can be had again.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(seed))
    }

    pub(crate) fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).expect("small") % sides
    }

    pub(crate) fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.roll(from.len())]
    }
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Held {
    root: String,
    infinite: bool,
    shared: bool,
    user: &'static str,
    token: String,
}

/// Something that a request changes.
#[derive(Clone, Debug)]
enum Change {
    /// The resource itself.
    Of(String),
    /// Which members a collection has.
    Members(String),
    /// It goes, with all below.
    Gone(String),
}

impl Held {
    fn covers(&self, path: &str) -> bool {
        if self.infinite { below(path, &self.root) } else { path == self.root }
    }

    /// Whether the lock is one that the change needs an answer to.
    fn protects(&self, change: &Change) -> bool {
        match change {
            Change::Of(path) | Change::Members(path) => self.covers(path),
            Change::Gone(path) => self.covers(path) || below(&self.root, path),
        }
    }

    fn conflicts(&self, root: &str, infinite: bool, shared: bool) -> bool {
        let other = Self { root: root.into(), infinite, ..self.clone() };
        (self.covers(root) || other.covers(&self.root)) && !(shared && self.shared)
    }

    /// Whether this shared lock answers for another one: it protects all of the change that the other does.
    fn vouches(&self, other: &Self, changes: &[Change]) -> bool {
        self.shared
            && other.shared
            && changes.iter().filter(|change| other.protects(change)).all(|change| match change {
                Change::Gone(path) if other.covers(path) => self.covers(path) && (self.infinite || !other.infinite),
                Change::Gone(_) => self.infinite && self.covers(&other.root) || self.root == other.root && !other.infinite,
                change => self.protects(change),
            })
    }
}

/// The roots of the locks that stand in the way of `user`.
fn blockers(held: &[Held], changes: &[Change], user: &str, tokens: &[String]) -> Vec<String> {
    let own: Vec<_> = held.iter().filter(|lock| lock.user == user && tokens.contains(&lock.token)).collect();
    let blocks = |lock: &&Held| {
        changes.iter().any(|change| lock.protects(change))
            && !own.iter().any(|own| own.token == lock.token || own.vouches(lock, changes))
    };
    let mut roots: Vec<_> = held.iter().filter(blocks).map(|lock| lock.root.clone()).collect();
    roots.sort();
    roots.dedup();
    roots
}

fn parent_of(path: &str) -> Change {
    Change::Members(parent(path).expect("not the root").into())
}

const PATHS: [&str; 10] = ["/a", "/b", "/c", "/c/m", "/c/d", "/c/d/n", "/c/d/o", "/e", "/e/x", "/e/y"];
const METHODS: [&str; 9] = ["PUT", "PUT", "DELETE", "MOVE", "COPY", "MKCOL", "PROPPATCH", "LOCK", "LOCK"];

fn changes(method: &str, path: &str, to: &str, tree: &Tree) -> Vec<Change> {
    let of = |path: &str| Change::Of(path.into());
    let gone = |path: &str| Change::Gone(path.into());
    // With `Overwrite: F` too: what is not there yet may be locked.
    let destination = || vec![of(to), gone(to), parent_of(to)];
    match method {
        "PUT" | "LOCK" if tree.contains_key(path) => vec![of(path)],
        "PUT" | "LOCK" | "MKCOL" => vec![of(path), parent_of(path)],
        "PROPPATCH" => vec![of(path)],
        "DELETE" => vec![of(path), gone(path), parent_of(path)],
        "COPY" => destination(),
        "MOVE" => [vec![of(path), gone(path), parent_of(path)], destination()].concat(),
        _ => unreachable!(),
    }
}

fn ask(client: &Client, method: &str, path: &str, to: &str, overwrite: bool, dice: &mut Dice) -> Ask {
    let ask = match method {
        "PUT" => client.put(path, "x"),
        "PROPPATCH" => client.proppatch(path),
        _ => client.ask(method, path),
    };
    // Any spelling will do.
    let to = match dice.roll(3) {
        0 => to.to_owned(),
        1 => format!("http://dav.example{to}"),
        _ => to.replace('/', "%2F").replacen("%2F", "/", 1) + "/",
    };
    let ask = if matches!(method, "COPY" | "MOVE") { ask.header("destination", &to) } else { ask };
    if overwrite { ask } else { ask.header("overwrite", "F") }
}

/// L-02, L-03, L-04, L-07, L-20, L-22 to L-29, L-42 to L-48, L-55, L-63, L-64, L-79, L-91.
#[tokio::test]
async fn random_requests_are_decided_as_the_rules_say() {
    let (mut refused, mut done, mut granted) = (0, 0, 0);
    for seed in 1..=60 {
        let dav = Dav::new();
        let mut dice = Dice::new(seed);
        let mut held: Vec<Held> = Vec::new();
        for step in 0..120 {
            let user = *dice.pick(&["ann", "bob"]);
            let method = *dice.pick(&METHODS);
            let (path, to) = (*dice.pick(&PATHS), *dice.pick(&PATHS));
            let overwrite = dice.roll(4) != 0;
            // Tokens of one's own mostly, of others at times.
            let tokens: Vec<String> = held
                .iter()
                .filter(|lock| if lock.user == user { dice.roll(3) != 0 } else { dice.roll(6) == 0 })
                .map(|lock| lock.token.clone())
                .collect();
            let tree = dav.handler.tree();
            let changes = changes(method, path, to, &tree);
            let blocked = blockers(&held, &changes, user, &tokens);
            let what = format!(
                "seed {seed} step {step}: {user} {method} {path} {to} {overwrite} {tokens:?} changes {changes:?} held {held:#?}"
            );
            let request = ask(&dav.as_(user), method, path, to, overwrite, &mut dice).header("host", "dav.example");
            let request = if tokens.is_empty() { request } else { request.tokens(&tokens) };

            if method == "LOCK" {
                let (shared, infinite) = (dice.roll(2) == 0, dice.roll(2) == 0);
                let answer = request
                    .depth(if infinite { "infinity" } else { "0" })
                    .body(if shared { SHARED } else { EXCLUSIVE })
                    .await;
                let conflict = held.iter().any(|lock| lock.conflicts(path, infinite, shared));
                let new = !tree.contains_key(path);
                let orphan =
                    new && parent(path).is_none_or(|parent| tree.get(parent).is_none_or(|node| node.content.is_some()));
                let expected = match () {
                    () if conflict || (new && !blocked.is_empty()) => 423,
                    () if orphan => 409,
                    () if new => 201,
                    () => 200,
                };
                assert_eq!(answer.status, expected, "{what}: {answer:?}");
                if expected < 300 {
                    granted += 1;
                    held.push(Held { root: path.into(), infinite, shared, user, token: answer.token() });
                }
            } else {
                let answer = request.await;
                let forbidden = !overwrite && matches!(method, "COPY" | "MOVE") && tree.contains_key(to);
                match () {
                    () if blocked.is_empty() => {
                        assert_ne!(answer.status, 423, "{what}: {answer:?}");
                        done += usize::from(answer.status.is_success());
                    }
                    () if forbidden => assert_eq!(answer.status, 412, "{what}: {answer:?}"),
                    () => {
                        refused += 1;
                        let roots: Vec<_> = blocked.iter().map(String::as_str).collect();
                        assert_eq!(answer.status, 423, "{what}: {answer:?}, not blocked by {roots:?}");
                        answer.locked_by(&roots);
                    }
                }
                if !blocked.is_empty() {
                    assert_eq!(dav.handler.tree(), tree, "{what}");
                }
                if answer.status.is_success() {
                    let moved = matches!(method, "DELETE" | "MOVE");
                    let replaced = matches!(method, "COPY" | "MOVE") && overwrite;
                    held.retain(|lock| {
                        let gone = moved && below(&lock.root, path);
                        let replaced = replaced && lock.root != to && below(&lock.root, to);
                        !(gone || replaced)
                    });
                }
            }
            // Now and then one ends.
            if dice.roll(10) == 0 && !held.is_empty() {
                let lock = held.swap_remove(dice.roll(held.len()));
                dav.as_(lock.user).unlock(&lock.root, &lock.token).expect(204).await;
            }
            let mut roots: Vec<_> = held.iter().map(|lock| lock.root.clone()).collect();
            roots.sort();
            assert_eq!(dav.roots().await, roots, "{what}");
            assert_eq!(dav.memory.stats().in_flight, 0, "{what}");
        }
    }
    assert!(refused > 800 && done > 800 && granted > 300, "too little was tried: {refused} {done} {granted}");
}
