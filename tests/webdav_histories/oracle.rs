//! What RFC 4918 says of a request, written as plainly as can be and without the crate's own rules: lists of locks that are
//! searched from end to end, and lists of the single places that a request changes.

use std::collections::BTreeMap;

/// Somebody who sends requests; none is anonymous.
pub(crate) type Who = Option<&'static str>;

/// A resource, as the tests see it from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Node {
    /// None is a collection.
    pub(crate) content: Option<String>,
    pub(crate) etag: Option<String>,
    pub(crate) colour: Option<String>,
}

/// All resources by canonical path.
pub(crate) type Tree = BTreeMap<String, Node>;

/// A lock that was granted.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    pub(crate) root: String,
    pub(crate) exclusive: bool,
    pub(crate) infinite: bool,
    pub(crate) holder: Who,
    pub(crate) token: String,
    /// In seconds since the history began.
    pub(crate) ends: u64,
    pub(crate) lifetime: u64,
    /// The URL that was locked ended in a slash.
    pub(crate) slash: bool,
}

/// A place that a request changes, or may change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// A resource, or the membership of a collection.
    At(String),
    /// Whatever may come to be below.
    Below(String),
}

#[derive(Clone, Debug)]
pub(crate) enum Condition {
    Token(String),
    NoLock,
    EntityTag(String),
}

/// A list of an `If`, with the canonical path of its tag and the tag as it is spelled.
#[derive(Clone, Debug)]
pub(crate) struct List {
    pub(crate) tag: Option<(String, String)>,
    /// True: behind `Not`.
    pub(crate) conditions: Vec<(bool, Condition)>,
}

impl List {
    pub(crate) fn text(&self) -> String {
        let tag = self.tag.as_ref().map(|(_, spelled)| format!("<{spelled}> ")).unwrap_or_default();
        let conditions: Vec<_> = self
            .conditions
            .iter()
            .map(|(not, condition)| {
                let not = if *not { "Not " } else { "" };
                match condition {
                    Condition::Token(token) => format!("{not}<{token}>"),
                    Condition::NoLock => format!("{not}<DAV:no-lock>"),
                    Condition::EntityTag(etag) => format!("{not}[{etag}]"),
                }
            })
            .collect();
        format!("{tag}({})", conditions.join(" "))
    }
}

/// Whether `path` is `root` or below it.
pub(crate) fn within(path: &str, root: &str) -> bool {
    path == root || root == "/" || path.starts_with(&format!("{root}/"))
}

pub(crate) fn parent(path: &str) -> Option<String> {
    let (parent, name) = path.rsplit_once('/')?;
    if name.is_empty() {
        return None;
    }
    Some(if parent.is_empty() { "/".into() } else { parent.into() })
}

impl Held {
    pub(crate) fn covers(&self, path: &str) -> bool {
        path == self.root || (self.infinite && within(path, &self.root))
    }

    pub(crate) fn covers_place(&self, place: &Place) -> bool {
        match place {
            Place::At(path) => self.covers(path),
            Place::Below(path) => self.infinite && within(path, &self.root),
        }
    }

    /// Whether both cannot live (section 6.1 and 9.10.5).
    pub(crate) fn conflicts(&self, other: &Self) -> bool {
        (self.exclusive || other.exclusive) && (self.covers(&other.root) || other.covers(&self.root))
    }
}

#[derive(Default)]
pub(crate) struct Oracle {
    pub(crate) now: u64,
    pub(crate) locks: Vec<Held>,
    /// Tokens of locks that have ended.
    pub(crate) dead: Vec<Held>,
}

impl Oracle {
    pub(crate) fn end(&mut self, ends: impl Fn(&Held) -> bool) -> usize {
        let (gone, live): (Vec<_>, Vec<_>) = self.locks.drain(..).partition(ends);
        self.locks = live;
        let count = gone.len();
        self.dead.extend(gone);
        count
    }

    /// Time goes by; says how many locks that ended.
    pub(crate) fn pass(&mut self, seconds: u64) -> usize {
        self.now += seconds;
        let now = self.now;
        self.end(|lock| lock.ends <= now)
    }

    pub(crate) fn live(&self, token: &str) -> Option<&Held> {
        self.locks.iter().find(|lock| lock.token == token)
    }

    /// Section 10.4.4: a list is true when all of it is, a header when one of its lists is.
    pub(crate) fn holds(&self, lists: &[List], path: &str, tree: &Tree) -> bool {
        lists.is_empty()
            || lists.iter().any(|list| {
                let about = list.tag.as_ref().map_or(path, |(path, _)| path);
                list.conditions.iter().all(|(not, condition)| {
                    let matches = match condition {
                        Condition::Token(token) => self.live(token).is_some_and(|lock| lock.covers(about)),
                        Condition::NoLock => false,
                        Condition::EntityTag(etag) => tree.get(about).is_some_and(|node| node.etag.as_ref() == Some(etag)),
                    };
                    matches != *not
                })
            })
    }

    /// The locks of `places` that `who` does not answer for with these tokens.
    pub(crate) fn unanswered(&self, places: &[Place], tokens: &[String], who: Who) -> Vec<&Held> {
        let own = |lock: &Held| lock.holder == who && tokens.contains(&lock.token);
        self.touched(places)
            .into_iter()
            .filter(|lock| {
                let vouched = !lock.exclusive
                    && self.locks.iter().any(|other| {
                        !other.exclusive
                            && own(other)
                            && places.iter().all(|place| !lock.covers_place(place) || other.covers_place(place))
                    });
                !own(lock) && !vouched
            })
            .collect()
    }

    pub(crate) fn touched(&self, places: &[Place]) -> Vec<&Held> {
        self.locks.iter().filter(|lock| places.iter().any(|place| lock.covers_place(place))).collect()
    }

    /// `path` with all that is, may be, or is locked below it.
    pub(crate) fn whole(&self, path: &str, tree: &Tree) -> Vec<Place> {
        let mut places = vec![Place::At(path.into()), Place::Below(path.into())];
        places.extend(tree.keys().filter(|at| within(at, path)).cloned().map(Place::At));
        for lock in self.locks.iter().filter(|lock| within(&lock.root, path)) {
            places.extend([Place::At(lock.root.clone()), Place::Below(lock.root.clone())]);
        }
        places
    }

    /// What has changed between two trees: resources, and memberships of collections.
    pub(crate) fn changed(before: &Tree, after: &Tree) -> Vec<Place> {
        let mut places = Vec::new();
        for path in before.keys().chain(after.keys()) {
            let (old, new) = (before.get(path), after.get(path));
            if old != new {
                places.push(Place::At(path.clone()));
            }
            if old.is_some() != new.is_some() {
                places.extend(parent(path).map(Place::At));
            }
        }
        places
    }
}
