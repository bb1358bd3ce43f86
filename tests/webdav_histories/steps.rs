//! Steps of a history: random requests, with an eye on what is there and what is locked, in many spellings.

use super::{
    oracle::{Condition, Held, List, Node, Oracle, Place, Tree, Who, parent, within},
    rng::Rng,
};

pub(crate) const USERS: [Who; 4] = [Some("ann"), Some("bob"), Some("cat"), None];

const PATHS: [&str; 13] =
    ["/a", "/b", "/c", "/c/m", "/c/d", "/c/d/n", "/c/d/o", "/c/x", "/e", "/e/x", "/e/f g", "/e/y", "/é"];

/// How freely a handler reads URLs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reading {
    /// A slash at the end, or two in a row, change nothing.
    Lax,
    /// A slash at the end is for collections.
    Strict,
}

/// A request.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    pub(crate) who: Who,
    pub(crate) method: &'static str,
    /// Canonical.
    pub(crate) path: String,
    /// As it is sent.
    pub(crate) target: String,
    pub(crate) destination: Option<(String, String)>,
    pub(crate) overwrite: Option<&'static str>,
    pub(crate) depth: Option<&'static str>,
    pub(crate) timeout: Option<&'static str>,
    pub(crate) body: String,
    pub(crate) if_: Vec<List>,
    pub(crate) lock_token: Option<String>,
    /// Of a LOCK with a body.
    pub(crate) exclusive: bool,
}

impl Step {
    /// The tokens that it submits, wherever they stand (section 10.4.1).
    pub(crate) fn tokens(&self) -> Vec<String> {
        let conditions = self.if_.iter().flat_map(|list| &list.conditions);
        let mut tokens: Vec<_> = conditions
            .filter_map(|(_, condition)| match condition {
                Condition::Token(token) => Some(token.clone()),
                _ => None,
            })
            .collect();
        tokens.sort();
        tokens.dedup();
        tokens
    }

    pub(crate) fn headers(&self) -> Vec<(&'static str, String)> {
        let mut headers = Vec::new();
        headers.extend(self.destination.as_ref().map(|(_, spelled)| ("destination", spelled.clone())));
        headers.extend(self.overwrite.map(|overwrite| ("overwrite", overwrite.into())));
        headers.extend(self.depth.map(|depth| ("depth", depth.into())));
        headers.extend(self.timeout.map(|timeout| ("timeout", timeout.into())));
        headers.extend(self.lock_token.as_ref().map(|token| ("lock-token", format!("<{token}>"))));
        if !self.if_.is_empty() {
            let lists: Vec<_> = self.if_.iter().map(List::text).collect();
            headers.push(("if", lists.join(" ")));
        }
        headers
    }

    pub(crate) fn is_refresh(&self) -> bool {
        self.method == "LOCK" && self.body.is_empty()
    }

    /// As one would type it.
    pub(crate) fn line(&self) -> String {
        let user = self.who.map(|who| format!("-u {who}: ")).unwrap_or_default();
        let headers: String = self.headers().iter().map(|(name, value)| format!(" -H '{name}: {value}'")).collect();
        let body = if self.body.is_empty() { String::new() } else { format!(" -d '{}'", self.body) };
        format!("curl {user}-X {}{headers}{body} '{}'", self.method, self.target)
    }

    pub(crate) fn membership(&self) -> Option<Place> {
        parent(&self.path).map(Place::At)
    }
}

pub(crate) struct Making<'a> {
    pub(crate) rng: &'a mut Rng,
    pub(crate) oracle: &'a Oracle,
    pub(crate) tree: &'a Tree,
    pub(crate) reading: Reading,
}

impl Making<'_> {
    fn path(&mut self) -> String {
        loop {
            let path = self.rng.pick(&PATHS);
            // The other handler takes what is below a document for the document.
            let is_document = |node: &Node| node.content.is_some();
            let below = self.tree.iter().any(|(at, node)| is_document(node) && *at != path && within(path, at));
            if self.reading == Reading::Lax || !below {
                return path.into();
            }
        }
    }

    fn existing(&mut self) -> String {
        let all: Vec<_> = self.tree.keys().filter(|path| *path != "/").collect();
        if all.is_empty() || self.rng.chance(25) { self.path() } else { self.rng.pick(&all).clone() }
    }

    fn spelled(&mut self, path: &str) -> String {
        let is_collection = self.tree.get(path).is_some_and(|node| node.content.is_none());
        let mut spelled = String::new();
        for byte in path.bytes() {
            let plain = byte.is_ascii_alphanumeric() || byte == b'/';
            if byte == b'/' && !spelled.is_empty() && self.reading == Reading::Lax && self.rng.chance(3) {
                spelled += self.rng.pick(&["//", "/./"]);
            } else if plain && (byte == b'/' || !self.rng.chance(4)) {
                spelled.push(char::from(byte));
            } else if self.rng.chance(50) {
                spelled += &format!("%{byte:02X}");
            } else {
                spelled += &format!("%{byte:02x}");
            }
        }
        let lax = self.reading == Reading::Lax;
        if path != "/" && ((is_collection && self.rng.chance(70)) || (lax && self.rng.chance(8))) {
            spelled.push('/');
        }
        spelled
    }

    /// In a header field.
    fn reference(&mut self, path: &str) -> String {
        let spelled = self.spelled(path);
        if self.rng.chance(40) { format!("http://dav.example{spelled}") } else { spelled }
    }

    pub(crate) fn step(&mut self) -> Step {
        let who = self.rng.pick(&USERS);
        let method = match self.rng.below(100) {
            0..18 => "PUT",
            18..27 => "MKCOL",
            27..34 => "DELETE",
            34..43 => "COPY",
            43..52 => "MOVE",
            52..60 => "PROPPATCH",
            60..82 => "LOCK",
            82..87 => "REFRESH",
            87..92 => "UNLOCK",
            92..94 => "GET",
            _ => "PROPFIND",
        };
        let path = match method {
            "PUT" | "LOCK" if self.rng.chance(50) => self.path(),
            "MKCOL" => self.path(),
            "LOCK" | "PROPFIND" if self.rng.chance(3) => "/".into(),
            _ => self.existing(),
        };
        let target = self.spelled(&path);
        let mut step = Step {
            who,
            method: if method == "REFRESH" { "LOCK" } else { method },
            path,
            target,
            destination: None,
            overwrite: None,
            depth: None,
            timeout: None,
            body: String::new(),
            if_: Vec::new(),
            lock_token: None,
            exclusive: false,
        };
        match method {
            "PUT" => step.body = format!("{}", self.rng.below(1_000_000)),
            "COPY" | "MOVE" => {
                let to = self.path();
                let spelled = self.reference(&to);
                step.destination = Some((to, spelled));
                step.overwrite = self.rng.pick(&[None, None, Some("T"), Some("F")]);
                if method == "COPY" {
                    step.depth = self.rng.pick(&[None, Some("0"), Some("infinity")]);
                }
            }
            "PROPPATCH" => {
                let colour = self.rng.below(1_000);
                step.body = match self.rng.below(10) {
                    0 => update("<D:lockdiscovery/>"),
                    _ => update(&format!("<Z:colour xmlns:Z=\"urn:z\">{colour}</Z:colour>")),
                };
            }
            "LOCK" => self.lock(&mut step),
            "REFRESH" => return self.refresh(step),
            "UNLOCK" => self.unlock(&mut step),
            "PROPFIND" => {
                step.depth = Some(match self.reading {
                    Reading::Lax => self.rng.pick(&["0", "1", "infinity"]),
                    Reading::Strict => self.rng.pick(&["0", "1"]),
                });
                step.body = self.rng.pick(&LISTINGS).into();
            }
            _ => {}
        }
        if matches!(method, "DELETE" | "MOVE" | "COPY")
            && self.rng.chance(35)
            && let Some(lock) = self.any_lock()
            // The other handler panics when its root is to go.
            && (lock.root != "/" || self.reading == Reading::Lax)
        {
            self.take_along(&mut step, &lock);
            step.if_ = self.rightly(&step);
            return step;
        }
        step.if_ = self.conditions(&step);
        step
    }

    /// Its holder removes or overwrites what the lock is on, or the collection that this is in.
    fn take_along(&mut self, step: &mut Step, lock: &Held) {
        step.who = lock.holder;
        let parent = parent(&lock.root).filter(|parent| parent != "/" && self.rng.chance(60));
        let path = parent.unwrap_or_else(|| lock.root.clone());
        if step.method == "COPY" || (step.method == "MOVE" && self.rng.chance(40)) {
            let spelled = self.reference(&path);
            step.destination = Some((path, spelled));
        } else {
            step.target = self.spelled(&path);
            step.path = path;
        }
    }

    fn lock(&mut self, step: &mut Step) {
        step.exclusive = self.rng.chance(45);
        step.depth = self.rng.pick(&[Some("0"), Some("0"), Some("0"), Some("infinity"), None]);
        let timeouts = [None, Some("Second-20"), Some("Second-60"), Some("Second-90000"), Some("Infinite, Second-9")];
        step.timeout = self.rng.pick(&timeouts);
        let scope = if step.exclusive { "exclusive" } else { "shared" };
        step.body = format!(
            "<D:lockinfo xmlns:D=\"DAV:\"><D:lockscope><D:{scope}/></D:lockscope><D:locktype><D:write/></D:locktype>\
             <D:owner>{}</D:owner></D:lockinfo>",
            step.who.unwrap_or("nobody")
        );
    }

    /// Somewhere that a lock covers, mostly.
    fn covered(&mut self, lock: &Held) -> String {
        let covered: Vec<_> = self.tree.keys().filter(|path| lock.covers(path)).collect();
        if covered.is_empty() || self.rng.chance(15) { self.existing() } else { self.rng.pick(&covered).clone() }
    }

    fn refresh(&mut self, mut step: Step) -> Step {
        if let Some(lock) = self.any_lock() {
            if self.rng.chance(75) {
                step.who = lock.holder;
            }
            step.path = self.covered(&lock);
            step.target = self.spelled(&step.path);
            let not = self.rng.chance(5);
            let mut conditions = vec![(not, Condition::Token(lock.token))];
            if self.rng.chance(15) {
                conditions.push((self.rng.chance(50), self.condition(&step.path)));
            }
            step.if_ = vec![List { tag: None, conditions }];
        }
        step.timeout = self.rng.pick(&[None, Some("Second-30"), Some("Infinite")]);
        step
    }

    fn unlock(&mut self, step: &mut Step) {
        let Some(lock) = self.any_lock() else { return };
        if self.rng.chance(75) {
            step.who = lock.holder;
        }
        step.path = self.covered(&lock);
        step.target = self.spelled(&step.path);
        if !self.rng.chance(3) {
            step.lock_token = Some(lock.token);
        }
    }

    /// Live, mostly.
    fn any_lock(&mut self) -> Option<Held> {
        let (live, dead) = (&self.oracle.locks, &self.oracle.dead);
        if live.is_empty() || self.rng.chance(10) {
            let dead = &dead[dead.len().saturating_sub(8)..];
            return (!dead.is_empty()).then(|| dead[self.rng.below(dead.len())].clone());
        }
        Some(live[self.rng.below(live.len())].clone())
    }

    fn conditions(&mut self, step: &Step) -> Vec<List> {
        let chance = self.rng.below(100);
        let reads = matches!(step.method, "GET" | "PROPFIND" | "UNLOCK");
        if chance < if reads { 70 } else { 30 } {
            return Vec::new();
        }
        if chance < 75 {
            return self.rightly(step);
        }
        let tagged = self.rng.chance(50);
        let lists = 1 + self.rng.below(3);
        (0..lists)
            .map(|_| {
                let about = if tagged { self.existing() } else { step.path.clone() };
                let tag = tagged.then(|| (about.clone(), self.reference(&about)));
                let conditions = 1 + self.rng.below(2);
                let conditions = (0..conditions).map(|_| (self.rng.chance(30), self.condition(&about))).collect();
                List { tag, conditions }
            })
            .collect()
    }

    /// What somebody sends who knows of their locks: all tokens that may matter.
    fn rightly(&mut self, step: &Step) -> Vec<List> {
        let mut places = self.oracle.whole(&step.path, self.tree);
        places.extend(step.membership());
        if let Some((to, _)) = &step.destination {
            places.extend(self.oracle.whole(to, self.tree));
            places.extend(parent(to).map(Place::At));
        }
        let touched = self.oracle.touched(&places);
        let own: Vec<Held> = touched.into_iter().filter(|lock| lock.holder == step.who).cloned().collect();
        let tagged = self.rng.chance(60);
        let mut lists = Vec::new();
        for lock in own {
            let mut conditions = vec![(false, Condition::Token(lock.token))];
            let about = if tagged { lock.root.clone() } else { step.path.clone() };
            if self.rng.chance(20)
                && let Some(etag) = self.tree.get(&about).and_then(|node| node.etag.clone())
            {
                conditions.push((false, Condition::EntityTag(etag)));
            }
            let tag = tagged.then(|| (lock.root.clone(), self.reference(&lock.root)));
            lists.push(List { tag, conditions });
        }
        if !tagged && !lists.is_empty() && self.rng.chance(70) {
            lists.push(List { tag: None, conditions: vec![(true, Condition::NoLock)] });
        }
        lists
    }

    fn condition(&mut self, about: &str) -> Condition {
        match self.rng.below(10) {
            0..5 => match self.any_lock() {
                Some(lock) => Condition::Token(lock.token),
                None => Condition::Token("urn:uuid:0b9e9ee0-5c6a-4b0e-9a35-7a6c2c0a1b2c".into()),
            },
            5..7 => Condition::NoLock,
            7..9 => match self.tree.get(about).and_then(|node| node.etag.clone()) {
                Some(etag) => Condition::EntityTag(etag),
                None => Condition::EntityTag("\"none\"".into()),
            },
            _ => Condition::EntityTag("\"wrong\"".into()),
        }
    }
}

fn update(property: &str) -> String {
    format!("<D:propertyupdate xmlns:D=\"DAV:\"><D:set><D:prop>{property}</D:prop></D:set></D:propertyupdate>")
}

const LISTINGS: [&str; 5] = [
    "",
    "<D:propfind xmlns:D=\"DAV:\"><D:prop><D:lockdiscovery/><D:supportedlock/></D:prop></D:propfind>",
    "<propfind xmlns=\"DAV:\"><allprop/></propfind>",
    "<D:propfind xmlns:D=\"DAV:\"><D:prop><D:getetag/><D:lockdiscovery/><Z:colour xmlns:Z=\"urn:z\"/></D:prop></D:propfind>",
    "<D:propfind xmlns:D=\"DAV:\"><D:prop><D:resourcetype/></D:prop></D:propfind>",
];
