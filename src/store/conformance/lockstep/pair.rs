//! A store and the model beside it, asked the same things at the same time.

use std::{fmt::Debug, time::Duration};

use super::{
    super::{
        fixture::{Fixture, Mode},
        kit::*,
        model::ModelStore,
        rng::Rng,
    },
    heard::Heard,
    late::{answered_as, poll_once},
    tally::Tally,
    words::{brief, cause, kind, outcome, own_end, verdict},
};
use crate::{
    lock::{Claim, Depth, Gone, HolderProof, Lock, LockId, LockKind, LockScope, LockState, LockToken, Reach, rules},
    store::{
        Acquired, Authority, FinalTerm, Lifetime, LockQuery, LockStore, ManualClock, NewLock, Permit, Quota, Refresh,
        Refreshed, Release, Released, Span, StoreFuture, Verdict, Which,
    },
};

const PATHS: [&str; 10] = ["/", "/a", "/b", "/a/x", "/a/y", "/a/x/1", "/a/x/2", "/b/z", "/ab", "/a/x/1/deep"];
const PEOPLE: [Who; 3] = [ANN, BOB, NOBODY];

/// A lock that was asked for at some time, whatever became of it.
#[derive(Clone)]
struct Known {
    ask: Ask,
    at: usize,
}

struct Waiting {
    ask: Ask,
    store: StoreFuture<Acquired>,
    model: StoreFuture<Acquired>,
}

pub(super) struct Pair<'f, F: Fixture> {
    fixture: &'f F,
    store: F::Store,
    model: ModelStore,
    heard: Heard,
    hand: ManualClock,
    rng: Rng,
    seed: u64,
    known: Vec<Known>,
    waiting: Vec<Waiting>,
    permits: Vec<(Permit, Permit)>,
    /// The steps so far, for who has to find out what went wrong.
    log: Vec<String>,
}

impl<'f, F: Fixture> Pair<'f, F> {
    pub(super) async fn new(fixture: &'f F, seed: u64) -> Self {
        let (hand, store) = (ManualClock::new(), fixture.fresh().await);
        Self {
            fixture,
            heard: Heard::from(store.watch(&LockQuery::at_or_below(key("/")))).await,
            store,
            model: ModelStore::in_mode(hand.clock(), Mode::Guarded),
            hand,
            rng: Rng::new(seed),
            seed,
            known: Vec::new(),
            waiting: Vec::new(),
            permits: Vec::new(),
            log: Vec::new(),
        }
    }

    pub(super) async fn step(&mut self, tally: &mut Tally, step: usize) {
        match self.rng.below(100) {
            0..28 => self.acquire(tally).await,
            28..52 => self.admit(tally).await,
            52..64 => self.end_write(tally),
            64..72 => self.refresh(tally).await,
            72..82 => self.release(tally).await,
            82..85 => self.clear(tally).await,
            85..88 => self.give_up(tally).await,
            _ => self.advance().await,
        }
        self.settle(tally).await;
        self.compare(step).await;
        let told = self.heard.all().await;
        self.same(&told, &Ok(()), "what a watcher hears");
        if self.log.len() > 40 {
            self.log.drain(..20);
        }
    }

    /// Ends everything at once, and sees that a watcher was told of all that there was.
    pub(super) async fn finish(mut self) {
        self.permits.clear();
        for waiting in std::mem::take(&mut self.waiting) {
            let ask = waiting.ask.clone();
            drop(waiting);
            self.wait_for_withdrawal(&ask).await;
        }
        let found = find(&self.store, LockQuery::at_or_below(key("/")).limit(1_000)).await;
        answer(self.store.clear(&[Gone { key: key("/"), reach: Reach::AtOrBelow }], None)).await;
        let last = loop {
            // A write that has just ended may still be in the way.
            if let Acquired::Granted(locks) = Ask::exclusive(ANN, "/last").go(&self.store).await {
                break locks[0].id();
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        };
        let told = self.heard.up_to(last, &found).await;
        self.same(&told, &Ok(()), "what a watcher has heard in all");
    }

    fn same<T: PartialEq + Debug>(&self, store: &T, model: &T, what: &str) {
        assert!(
            store == model,
            "seed {:#x}: {what}: the store says\n  {store:?}\nand the model\n  {model:?}\nafter\n  {}",
            self.seed,
            self.log.join("\n  ")
        );
    }

    fn who(&mut self) -> Who {
        self.rng.pick(&PEOPLE)
    }

    fn path(&mut self) -> &'static str {
        PATHS[self.rng.below(PATHS.len()).max(self.rng.below(PATHS.len()))]
    }

    /// Some lock, rather a late one than an early one.
    fn some(&mut self) -> Option<Held> {
        if self.known.is_empty() {
            return None;
        }
        let back = self.rng.below(12).min(self.known.len() - 1);
        let known = &self.known[self.known.len() - 1 - back];
        let new = &known.ask.locks[known.at];
        let life = crate::lock::LockLife {
            state: LockState::Held,
            created_at: self.hand.clock().now(),
            expires_at: None,
            generation: 0,
            in_use: false,
            seen_at: self.hand.clock().now(),
        };
        let who = PEOPLE.into_iter().find(|who| principal(*who) == new.parts.principal).unwrap_or(known.ask.who);
        Some(Held { lock: Lock::new(new.parts.clone(), life), token: new.token, who })
    }

    fn ask(&mut self) -> Ask {
        let (who, path, grain) = (self.who(), self.path(), self.fixture.grain());
        let scope = if self.rng.chance(45) { LockScope::Shared } else { LockScope::Exclusive };
        let depth = if self.rng.chance(40) { Depth::Zero } else { Depth::Infinity };
        let mut ask = Ask::new(who, path, scope, depth);
        if self.rng.chance(15) {
            let second = parts(who, self.path(), scope, depth);
            let first = &ask.locks[0].parts;
            if !rules::overlap((&first.root, first.depth), (&second.root, second.depth)) {
                ask.locks.push(fresh(second));
            }
        }
        if self.rng.chance(5) {
            ask = ask.kind(LockKind::Freeze);
        }
        let spans = [Some(grain * 3), Some(grain * 20), Some(grain * 60), None];
        ask.lifetime = Lifetime {
            span: self.rng.pick(&spans),
            most: self.rng.pick(&[None, Some(grain * 40)]),
            total: self.rng.pick(&[Some(grain * 30), Some(grain * 100)]),
        };
        ask.drain = self.rng.pick(&[Duration::ZERO, grain * 2, grain * 10]);
        if self.rng.chance(10) {
            ask.quota =
                self.rng.pick(&[Quota { principal: 2, store: usize::MAX }, Quota { principal: usize::MAX, store: 3 }]);
        }
        ask
    }

    async fn acquire(&mut self, tally: &mut Tally) {
        let mut ask = self.ask();
        match self.rng.below(20) {
            // Again, word for word; or something else under the same token or id.
            0 | 1 => {
                if let Some(known) = self.known.last() {
                    ask = Ask { within: None, ..known.ask.clone() };
                }
            }
            2 => {
                if let Some(held) = self.some() {
                    ask.locks.truncate(1);
                    ask = ask.token(held.token);
                }
            }
            3 => {
                if let Some(held) = self.some() {
                    ask.locks.truncate(1);
                    ask = ask.with(|parts| parts.id = held.lock.id());
                }
            }
            4..8 => {
                if let Some(held) = self.some() {
                    let swap = match self.rng.below(10) {
                        0..5 => Swap::Own(held.token),
                        5..7 => Swap::Id(held.lock.id()),
                        _ => Swap::Break(held.lock.id()),
                    };
                    // One's own as a rule, on the same root as a rule.
                    if self.rng.chance(80) {
                        let root = held.lock.root().clone();
                        ask.who = held.who;
                        ask.locks.truncate(1);
                        ask = ask.with(|parts| {
                            parts.root = root;
                            parts.principal = principal(held.who);
                        });
                    }
                    // Handed over to somebody, who has yet to claim it.
                    if self.rng.chance(20) {
                        let heir = self.who();
                        ask = ask.with(|parts| (parts.principal, parts.claim) = (principal(heir), Claim::Open));
                    }
                    ask = ask.replacing(swap);
                }
            }
            _ => {}
        }
        // The two know a write by different numbers.
        let mut for_model = ask.clone();
        let inside = self.rng.chance(15) && !self.permits.is_empty();
        if inside {
            let at = self.rng.below(self.permits.len());
            ask = ask.within(&self.permits[at].0);
            for_model = for_model.within(&self.permits[at].1);
        }
        self.log.push(format!("acquire {}", brief(&ask)));
        if self.ambiguous(&for_model) {
            return;
        }
        let (mut store, mut model) = (ask.start(&self.store), for_model.start(&self.model));
        let expected = poll_once(&mut model).await;
        let actual = answered_as(&expected, &mut store).await;
        self.same(&actual.as_ref().map(outcome), &expected.as_ref().map(outcome), "acquire");
        match expected {
            None => {
                tally.count("acquire waits");
                self.wait_for_mark(&ask, &mut store).await;
                self.remember(&ask);
                self.waiting.push(Waiting { ask, store, model });
            }
            Some(answered) => {
                tally.count(kind(&answered));
                if let Acquired::Granted(locks) = &answered {
                    self.remember(&ask);
                    if !ask.replaces.is_empty() {
                        tally.count("replace granted");
                    }
                    if ask.replaces.iter().any(|swap| matches!(swap, Swap::Id(_))) {
                        tally.count("replace by id granted");
                    }
                    if locks.iter().any(|lock| lock.state() == LockState::Offered) {
                        tally.count("offer granted");
                    }
                    if locks.len() > 1 {
                        tally.count("several granted");
                    }
                    if inside {
                        tally.count("within granted");
                    }
                }
                if let Some(Acquired::Granted(locks)) = &actual {
                    self.check_terms(locks, answered).await;
                }
            }
        }
    }

    /// Polls an acquire that has to wait until its marks are there: a network store was only asked so far.
    async fn wait_for_mark(&self, ask: &Ask, coming: &mut StoreFuture<Acquired>) {
        for _ in 0..10_000 {
            if !find(&self.store, LockQuery::id(ask.id())).await.is_empty() {
                return;
            }
            let answered = poll_once(coming).await;
            self.same(&answered.as_ref().map(outcome), &None, "acquire");
            // Looking without a pause keeps the processor from the engine that is to set it.
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        panic!("an acquire that waits sets a mark");
    }

    /// A network store takes the marks of a dropped acquire away in the background.
    async fn wait_for_withdrawal(&self, ask: &Ask) {
        for _ in 0..10_000 {
            if find(&self.store, LockQuery::id(ask.id())).await.is_empty() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        panic!("a dropped acquire withdraws its mark");
    }

    /// Whether one of the marks is such. What is answered about a mark is a case of its own.
    fn pends(&self, such: impl Fn(&NewLock) -> bool) -> bool {
        self.waiting.iter().flat_map(|waiting| &waiting.ask.locks).any(such)
    }

    /// Whether the design leaves open which of two refusals comes first: a proposal that is partly gone and partly in use,
    /// and one whose token still waits.
    fn ambiguous(&self, ask: &Ask) -> bool {
        let used = |at: usize| {
            let new = &ask.locks[at];
            self.known
                .iter()
                .flat_map(|known| &known.ask.locks)
                .any(|old| old.token == new.token || old.parts.id == new.parts.id)
        };
        let some_used = (0..ask.locks.len()).filter(|at| used(*at)).count();
        let twice =
            ask.replaces.iter().any(|swap| matches!(swap, Swap::Own(token) if self.pends(|lock| lock.token == *token)));
        twice
            || ask.locks.iter().any(|lock| self.pends(|mark| mark.token == lock.token))
            || (some_used > 0 && some_used < ask.locks.len())
    }

    fn remember(&mut self, ask: &Ask) {
        if !self.known.iter().any(|known| known.ask.locks[0].token == ask.locks[0].token) {
            self.known.extend((0..ask.locks.len()).map(|at| Known { ask: ask.clone(), at }));
        }
        if self.known.len() > 60 {
            self.known.drain(..20);
        }
    }

    async fn check_terms(&self, store: &[Lock], model: Acquired) {
        let Acquired::Granted(model) = model else { return };
        let terms = |locks: &[Lock], epoch| {
            locks.iter().map(|lock| lock.expires_at().map(|end| end.since(epoch))).collect::<Vec<Option<Duration>>>()
        };
        let (a, b) = (store[0].created_at(), model[0].created_at());
        self.same(&terms(store, a), &terms(&model, b), "how long the granted locks live");
    }

    async fn admit(&mut self, tally: &mut Tally) {
        let (who, path) = (self.who(), self.path());
        let targets = match self.rng.below(7) {
            0 | 1 => vec![put(path)],
            2 => vec![create(path)],
            3 => vec![delete(path)],
            4 => vec![replace_below(path)],
            5 => rename(path, self.path()).to_vec(),
            _ => vec![put(path), create(self.path())],
        };
        let mut write = Wr::of(who, targets);
        for _ in 0..self.rng.below(4) {
            if let Some(held) = self.some() {
                write.who = if self.rng.chance(80) { held.who } else { who };
                write.tokens.push(held.token);
            }
        }
        write.proof = match self.rng.below(10) {
            0 => HolderProof::Token,
            1 => HolderProof::Principal,
            _ => HolderProof::TokenAndPrincipal,
        };
        if matches!(write.proof, HolderProof::TokenAndPrincipal)
            && self.rng.chance(15)
            && let Some(held) = self.some()
        {
            let urn = held.token.urn();
            let header = match self.rng.below(4) {
                0 => ("Lock-Token", format!("<{urn}>")),
                1 => ("If", format!("(Not <{urn}>)")),
                2 => ("If", format!("<{}> (<{urn}>)", self.path())),
                _ => ("If", format!("(<{urn}>)")),
            };
            write = write.header(header.0, header.1);
        }
        self.log.push(format!("admit {:?} {:?} {:?} {:?}", write.who, write.targets, write.tokens.len(), write.headers));
        let (store, model) = (write.verdict(&self.store).await, write.verdict(&self.model).await);
        self.same(&verdict(&store), &verdict(&model), "admit");
        match (store, model) {
            (Verdict::Admitted(store), Verdict::Admitted(model)) => {
                tally.count(if model.answered.is_none() { "admit clear" } else { "admit answered" });
                if self.permits.len() < 6 {
                    self.permits.push((store.permit, model.permit));
                }
            }
            (_, Verdict::Refused(refused)) => {
                tally.count(if refused.condition_failed { "admit condition failed" } else { "admit refused" });
                if refused.blockers.iter().any(|lock| lock.state() == LockState::Pending) {
                    tally.count("admit refused by a mark");
                }
            }
            _ => {}
        }
    }

    fn end_write(&mut self, tally: &mut Tally) {
        if !self.permits.is_empty() {
            let at = self.rng.below(self.permits.len());
            drop(self.permits.swap_remove(at));
            self.log.push("a write ends".to_owned());
            tally.count("write ends");
        }
    }

    async fn refresh(&mut self, tally: &mut Tally) {
        let Some(held) =
            self.some().filter(|held| !self.pends(|lock| lock.token == held.token || lock.parts.id == held.lock.id()))
        else {
            return;
        };
        let grain = self.fixture.grain();
        let span = self.rng.pick(&[Span::Same, Span::For(grain * 5), Span::For(grain * 200), Span::Endless]);
        let who = if self.rng.chance(85) { held.who } else { self.who() };
        self.log.push(format!("refresh {} by {who:?} {span:?}", held.lock.id()));
        let (who, other) = (principal(who), key(self.path()));
        let authority = match self.rng.below(8) {
            0 => Authority::Guard,
            1 => Authority::Holder { principal: who.as_ref(), proof: &HolderProof::Principal },
            _ => Authority::Holder { principal: who.as_ref(), proof: &HolderProof::TokenAndPrincipal },
        };
        let which = if self.rng.chance(80) { Which::Token(&held.token) } else { Which::Id(held.lock.id()) };
        let refresh = Refresh::new(which, authority, span).covering(self.rng.chance(20).then_some(&other));
        let (store, model) = (answer(self.store.refresh(&refresh)).await, answer(self.model.refresh(&refresh)).await);
        let told = !matches!(authority, Authority::Guard);
        let short = |refreshed: &Refreshed| match refreshed {
            Refreshed::Refreshed(lock, term) => {
                format!("{} {term:?} {:?} {}", lock.id(), own_end(lock), lock.in_use())
            }
            Refreshed::Lost(lost) if told => format!("lost {}", cause(lost)),
            Refreshed::Lost(_) => "lost".to_owned(),
            Refreshed::NotHolder => "not the holder".to_owned(),
        };
        self.same(&short(&store), &short(&model), "refresh");
        tally.count(match model {
            Refreshed::Refreshed(_, FinalTerm::Yes) => "refresh final",
            Refreshed::Refreshed(..) => "refresh refreshed",
            Refreshed::Lost(_) => "refresh lost",
            Refreshed::NotHolder => "refresh not holder",
        });
    }

    async fn release(&mut self, tally: &mut Tally) {
        let Some(mut held) =
            self.some().filter(|held| !self.pends(|lock| lock.token == held.token || lock.parts.id == held.lock.id()))
        else {
            return;
        };
        if self.rng.chance(5) {
            held.token = LockToken::random();
        }
        let who = if self.rng.chance(85) { held.who } else { self.who() };
        let (who, other) = (principal(who), key(self.path()));
        let grace = self.rng.pick(&[Duration::ZERO, self.fixture.grain() * 5]);
        let (which, authority) = match self.rng.below(8) {
            0 => (Which::Token(&held.token), Authority::Guard),
            1 => (Which::Id(held.lock.id()), Authority::Holder { principal: who.as_ref(), proof: &HolderProof::Principal }),
            2 | 3 => (Which::Id(held.lock.id()), Authority::Break { actor: who.as_ref(), reason: "because", grace }),
            _ => (
                Which::Token(&held.token),
                Authority::Holder { principal: who.as_ref(), proof: &HolderProof::TokenAndPrincipal },
            ),
        };
        self.log.push(format!("release {} {authority:?}", held.lock.id()));
        let release = Release::new(which, authority).covering(self.rng.chance(20).then_some(&other));
        let (store, model) = (answer(self.store.release(&release)).await, answer(self.model.release(&release)).await);
        let told = !matches!(authority, Authority::Guard | Authority::Break { .. });
        let short = |released: &Released| match released {
            Released::Released(lock) => format!("released {}", lock.id()),
            Released::Breaking(lock) => format!("breaking {} {:?}", lock.id(), own_end(lock)),
            Released::Lost(lost) if told => format!("lost {}", cause(lost)),
            Released::Lost(_) => "lost".to_owned(),
            Released::NotHolder => "not the holder".to_owned(),
        };
        self.same(&short(&store), &short(&model), "release");
        tally.count(match model {
            Released::Released(_) => "release released",
            Released::Breaking(_) => "release breaking",
            Released::Lost(_) => "release lost",
            Released::NotHolder => "release not holder",
        });
    }

    async fn clear(&mut self, tally: &mut Tally) {
        let reach = self.rng.pick(&[Reach::At, Reach::AtOrBelow, Reach::Below]);
        let gone = [Gone { key: key(self.path()), reach }];
        self.log.push(format!("clear {gone:?}"));
        let store = answer(self.store.clear(&gone, None)).await;
        let model = answer(self.model.clear(&gone, None)).await;
        self.same(&store, &model, "clear");
        tally.count(if model > 0 { "clear some" } else { "clear none" });
    }

    async fn give_up(&mut self, tally: &mut Tally) {
        if !self.waiting.is_empty() {
            let at = self.rng.below(self.waiting.len());
            let Waiting { ask, store, model } = self.waiting.swap_remove(at);
            drop((store, model));
            self.wait_for_withdrawal(&ask).await;
            self.log.push("a waiting acquire is dropped".to_owned());
            tally.count("acquire dropped");
        }
    }

    async fn advance(&mut self) {
        let span = self.fixture.grain() * (1 + self.rng.below(4)) as u32;
        self.log.push(format!("advance {span:?}"));
        self.hand.advance(span);
        self.fixture.advance(span).await;
    }

    /// Whoever waited and need not any more.
    async fn settle(&mut self, tally: &mut Tally) {
        let mut still = Vec::new();
        for mut waiting in std::mem::take(&mut self.waiting) {
            let expected = poll_once(&mut waiting.model).await;
            let actual = answered_as(&expected, &mut waiting.store).await;
            let what = format!("waiting acquire {}", brief(&waiting.ask));
            self.same(&actual.as_ref().map(outcome), &expected.as_ref().map(outcome), &what);
            match expected {
                None => still.push(waiting),
                Some(Acquired::Granted(_)) => tally.count("acquire waited: granted"),
                Some(Acquired::Busy { .. }) => tally.count("acquire waited: busy"),
                Some(_) => {}
            }
        }
        self.waiting = still;
    }

    /// The invariants, and what everybody can see.
    async fn compare(&mut self, step: usize) {
        let all = LockQuery::at_or_below(key("/")).limit(1_000);
        let (store, model) = (find(&self.store, all.clone()).await, find(&self.model, all).await);
        for (at, lock) in store.iter().enumerate() {
            for other in &store[at + 1..] {
                let clash = rules::conflict(lock.parts(), other.parts());
                let replacing = lock.state() == LockState::Pending || other.state() == LockState::Pending;
                assert!(!clash || replacing, "seed {:#x}, step {step}: {lock:?} and {other:?} live at once (G4)", self.seed);
                let overlap = rules::overlap((lock.root(), lock.depth()), (other.root(), other.depth()));
                let generations = lock.generation() != other.generation();
                assert!(!overlap || generations || replacing, "two overlapping locks share a generation (G6)");
            }
        }
        let shown = |locks: &[Lock]| {
            let line = |lock: &Lock| (lock.root().path().to_owned(), lock.id(), lock.state(), lock.in_use(), own_end(lock));
            locks.iter().map(line).collect::<Vec<_>>()
        };
        self.same(&shown(&store), &shown(&model), &format!("step {step}: what `find` shows"));
        // Locks that both granted stand in the same order of generations wherever they overlap.
        let order = |locks: &[Lock]| {
            let held: Vec<&Lock> = locks.iter().filter(|lock| lock.state() != LockState::Pending).collect();
            let mut pairs: Vec<(LockId, LockId)> = Vec::new();
            for (at, one) in held.iter().enumerate() {
                for two in &held[at + 1..] {
                    if rules::overlap((one.root(), one.depth()), (two.root(), two.depth()))
                        && one.created_at() != two.created_at()
                    {
                        pairs.push(if one.generation() < two.generation() {
                            (one.id(), two.id())
                        } else {
                            (two.id(), one.id())
                        });
                    }
                }
            }
            pairs
        };
        self.same(&order(&store), &order(&model), "the order of generations");
        if self.rng.chance(20) {
            let path = self.path();
            let covering = |locks: Vec<Lock>| locks.iter().map(Lock::id).collect::<Vec<_>>();
            let store = covering(find(&self.store, LockQuery::covering(key(path))).await);
            let model = covering(find(&self.model, LockQuery::covering(key(path))).await);
            self.same(&store, &model, &format!("the locks that cover {path}"));
        }
    }
}
