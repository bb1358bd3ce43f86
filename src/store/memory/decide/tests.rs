//! The short way of deciding answers as the general one does, whatever the table holds and whatever is asked.

use std::{cell::Cell, future::Future, pin::Pin, sync::Arc, task::Context, time::Duration};

use http::{HeaderValue, Request};
use proptest::{
    collection::vec,
    prelude::*,
    test_runner::{Config, TestRunner},
};

use super::*;
use crate::{
    lock::{Claim, KeyRules, LockId, LockParts, Membership, Owner, Principal, Target},
    request::{Conditions, RequestView},
    store::{
        Acquire, Acquired, Authority, Lifetime, LockStore, ManualClock, NewLock, Release, Replaces, StoreFuture, Which,
        memory::{MemoryStore, durable::Queue, inflight::Registry, record::End},
    },
};

const SECOND: Duration = Duration::from_secs(1);
const PATHS: [&str; 8] = ["/", "/a", "/a/b", "/a/b/c", "/a/bb", "/a/d", "/e", "/e/f"];

/// Something that happens to a store before it is asked.
#[derive(Clone, Debug)]
enum Event {
    Lock(Asked),
    /// The same in the place of one of the locks there may be; pending while that one's holder writes.
    Replace(Asked, usize),
    /// A write that goes on.
    Write(usize, Option<usize>),
    /// The first of those that go on has ended.
    Done,
    Broken(usize, u64),
    /// It is to end, which is still to be written down.
    Leaving(usize),
    Wait(u64),
}

#[derive(Clone, Debug)]
struct Asked {
    path: usize,
    scope: LockScope,
    depth: Depth,
    frozen: bool,
    who: usize,
    seconds: u64,
}

#[derive(Clone, Debug)]
struct Question {
    targets: Vec<(usize, Effect, Membership)>,
    /// The lists of `If`.
    lists: Vec<List>,
    lock_token: Option<usize>,
    submitted: Option<usize>,
    who: usize,
    proof: usize,
    named: usize,
    /// Of what this lock is on, by its holder, with its token alone.
    aimed: Option<usize>,
}

/// The path of its tag; its conditions, and whether they stand behind `Not`.
type List = (Option<usize>, Vec<(bool, State)>);

#[derive(Clone, Debug)]
enum State {
    Token(usize),
    Stranger,
    NoLock,
    Tag,
}

fn asked() -> impl Strategy<Value = Asked> {
    let scope = prop_oneof![Just(LockScope::Exclusive), Just(LockScope::Shared)];
    let depth = prop_oneof![Just(Depth::Infinity), Just(Depth::Zero)];
    let frozen = prop_oneof![9 => Just(false), 1 => Just(true)];
    (0..PATHS.len(), scope, depth, frozen, 0..3_usize, 1..9_u64)
        .prop_map(|(path, scope, depth, frozen, who, seconds)| Asked { path, scope, depth, frozen, who, seconds })
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        8 => asked().prop_map(Event::Lock),
        2 => (asked(), any::<usize>()).prop_map(|(asked, at)| Event::Replace(asked, at)),
        2 => (0..PATHS.len(), proptest::option::of(any::<usize>())).prop_map(|(path, under)| Event::Write(path, under)),
        1 => Just(Event::Done),
        1 => (any::<usize>(), 0..4_u64).prop_map(|(at, grace)| Event::Broken(at, grace)),
        1 => any::<usize>().prop_map(Event::Leaving),
        1 => (1..4_u64).prop_map(Event::Wait),
    ]
}

fn question() -> impl Strategy<Value = Question> {
    let effect = prop_oneof![4 => Just(Effect::Write), 1 => Just(Effect::Unlink)];
    let membership = prop_oneof![Just(Membership::Kept), Just(Membership::Changed)];
    let targets = prop_oneof![4 => vec((0..PATHS.len(), effect.clone(), membership.clone()), 1),
        1 => vec((0..PATHS.len(), effect, membership), 0..4)];
    let state = prop_oneof![
        8 => any::<usize>().prop_map(State::Token),
        1 => Just(State::Stranger),
        1 => Just(State::NoLock),
        1 => Just(State::Tag),
    ];
    let not = prop_oneof![5 => Just(false), 1 => Just(true)];
    let lists = prop_oneof![
        2 => Just(Vec::new()),
        5 => any::<usize>().prop_map(|token| vec![(None, vec![(false, State::Token(token))])]),
        2 => (any::<bool>(), vec((0..PATHS.len(), vec((not, state), 1..3)), 1..3)).prop_map(|(tagged, lists)| {
            lists.into_iter().map(|(tag, conditions)| (tagged.then_some(tag), conditions)).collect()
        }),
    ];
    let token = || prop_oneof![4 => Just(None), 1 => any::<usize>().prop_map(Some)];
    let named = prop_oneof![Just(0), Just(1), Just(2), Just(100)];
    let proof = prop_oneof![5 => Just(0_usize), 2 => Just(1), 1 => Just(2), 1 => Just(3)];
    let aimed = proptest::option::of(any::<usize>());
    (targets, lists, token(), token(), 0..3_usize, proof, named, aimed).prop_map(
        |(targets, lists, lock_token, submitted, who, proof, named, aimed)| Question {
            targets,
            lists,
            lock_token,
            submitted,
            who,
            proof,
            named,
            aimed,
        },
    )
}

fn principal(who: usize) -> Option<Principal> {
    [None, Some("alice"), Some("bob")][who].map(Principal::new)
}

fn key(path: usize) -> ResourceKey<'static> {
    ResourceKey::from_canonical(PATHS[path])
}

/// How the short way went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Short {
    /// The writer's lock was known to be the only one that is touched.
    Alone,
    /// What is touched was looked for.
    Looked,
}

/// A store to which things happen.
struct World {
    store: MemoryStore,
    hand: ManualClock,
    /// Those there are or were or may come to be, with who asked.
    tokens: Vec<(LockToken, usize, NewLock)>,
    running: Vec<Verdict>,
    coming: Vec<StoreFuture<Acquired>>,
}

/// What is written down of what happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum File {
    None,
    /// Everything, but not yet.
    Slow,
}

impl World {
    fn new(builder: crate::store::memory::MemoryStoreBuilder, file: File) -> Self {
        let hand = ManualClock::new();
        let mut store = builder.clock(hand.clock()).build();
        if file == File::Slow {
            Arc::get_mut(&mut store.core).expect("nobody else has it yet").queue = Some(Arc::new(Queue::new()));
        }
        Self { store, hand, tokens: Vec::new(), running: Vec::new(), coming: Vec::new() }
    }

    fn some(&self, at: usize) -> Option<&(LockToken, usize, NewLock)> {
        self.tokens.get(at.checked_rem(self.tokens.len())?)
    }

    fn poll(&mut self) {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        self.coming.retain_mut(|coming| Pin::new(coming).poll(&mut cx).is_pending());
    }

    fn happens(&mut self, event: &Event) {
        match event {
            Event::Lock(asked) => self.lock(asked, None),
            Event::Replace(asked, at) => self.lock(asked, self.some(*at).map(|(token, ..)| *token)),
            Event::Write(path, under) => {
                let under = under.and_then(|at| self.some(at)).map(|(token, who, lock)| (*token, *who, lock.clone()));
                let (targets, mut conditions) = ([Target::write(key(*path))], Conditions::NONE);
                let written = match &under {
                    Some((token, _, lock)) => {
                        conditions.submit(*token).unwrap();
                        vec![Target::write(lock.parts.root.clone())]
                    }
                    None => targets.to_vec(),
                };
                let who = under.and_then(|(_, who, _)| principal(who));
                let verdict = self.store.admit(&Write::new(&written, &conditions).by(who.as_ref())).into_ready();
                self.running.push(verdict.expect("at once").unwrap());
            }
            Event::Done if self.running.is_empty() => {}
            Event::Done => drop(self.running.remove(0)),
            Event::Broken(at, grace) => {
                let Some((token, ..)) = self.some(*at) else { return };
                let by = Authority::Break { actor: None, reason: "", grace: SECOND * u32::try_from(*grace).unwrap() };
                let _ended = self.store.release(&Release::new(Which::Token(token), by)).into_ready();
            }
            Event::Leaving(at) => {
                let Some((token, ..)) = self.some(*at) else { return };
                let core = &self.store.core;
                let mut table = core.table.write();
                let Some(slot) = table.by_token(&core.key.digest(token)) else { return };
                let record = table.records.get(slot).unwrap();
                let (lost, digest) = (record.lost_by(End::Released, core.now()), record.digest);
                let holder = record.parts.principal.clone();
                let grave = table.graveyard.dig(digest, holder, lost, core.now());
                table.records.get_mut(slot).unwrap().leaving = Some(Box::new(grave));
            }
            Event::Wait(seconds) => self.hand.advance(SECOND * u32::try_from(*seconds).unwrap()),
        }
        self.poll();
        self.none_lives_beside_one_that_excludes_others();
    }

    fn none_lives_beside_one_that_excludes_others(&self) {
        let table = self.store.core.table.read();
        let now = self.store.core.now();
        let live: Vec<&Record> = table.records.iter().filter(|record| record.live(now)).collect();
        for one in live.iter().filter(|one| one.excludes_others()) {
            for other in live.iter().filter(|other| other.parts.id != one.parts.id) {
                assert!(!rules::conflict(&one.parts, &other.parts), "{one:?} {other:?}");
            }
        }
    }

    fn lock(&mut self, asked: &Asked, replaced: Option<LockToken>) {
        let parts = LockParts {
            id: LockId::random(),
            root: key(asked.path),
            scope: asked.scope,
            depth: asked.depth,
            kind: if asked.frozen { LockKind::Freeze } else { LockKind::User },
            principal: principal(asked.who),
            owner: Owner::default(),
            reason: None,
            client_ref: None,
            claim: Claim::Made,
        };
        let new = NewLock { parts: parts.into(), token: LockToken::random() };
        let replaces = replaced.as_ref().map(Replaces::Held);
        let span = Some(Duration::from_secs(asked.seconds));
        let life = Lifetime { span, most: span, total: Some(Duration::from_secs(2 * asked.seconds)) };
        let who = principal(asked.who);
        let locks = std::slice::from_ref(&new);
        let request = Acquire::new(locks, who.as_ref()).living(life).replacing(replaces.as_slice());
        self.coming.push(self.store.acquire(&request));
        self.tokens.push((new.token, asked.who, new));
    }

    fn header(&self, question: &Question) -> String {
        let state = |state: &State| match state {
            State::Token(at) => format!("<{}>", self.some(*at).map_or(LockToken::random(), |(token, ..)| *token).urn()),
            State::Stranger => format!("<{}>", LockToken::random().urn()),
            State::NoLock => "<DAV:no-lock>".into(),
            State::Tag => "[\"e\"]".into(),
        };
        let one = |(not, what): &(bool, State)| if *not { format!("Not {}", state(what)) } else { state(what) };
        let list = |(tag, conditions): &List| {
            let tag = tag.map_or(String::new(), |path| format!("<{}> ", PATHS[path]));
            format!("{tag}({})", conditions.iter().map(one).collect::<Vec<_>>().join(" "))
        };
        question.lists.iter().map(list).collect::<Vec<_>>().join(" ")
    }

    /// Asks both ways. Which the short one was, if it had an answer.
    fn ask(&self, question: &Question) -> Option<Short> {
        let mut question = question.clone();
        if let Some((_, who, lock)) = question.aimed.and_then(|at| self.some(at)) {
            question.lists = question.aimed.map(|at| (None, vec![(false, State::Token(at))])).into_iter().collect();
            question.who = *who;
            let path = PATHS.iter().position(|path| *path == lock.parts.root.path()).unwrap();
            question.targets.iter_mut().take(1).for_each(|target| target.0 = path);
            (question.lock_token, question.submitted) = (None, None);
        }
        let question = &question;
        let targets = question.targets.iter();
        let targets: Vec<Target<'_>> = targets
            .map(|(path, effect, membership)| Target { key: key(*path), effect: *effect, membership: *membership })
            .collect();
        let about = question.targets.first().map_or("/", |(path, ..)| PATHS[*path]);
        let mut request = Request::put(about).body(()).unwrap();
        if !question.lists.is_empty() {
            request.headers_mut().insert("if", HeaderValue::try_from(self.header(question)).unwrap());
        }
        if let Some((token, ..)) = question.lock_token.and_then(|at| self.some(at)) {
            request.headers_mut().insert("lock-token", HeaderValue::try_from(format!("<{}>", token.urn())).unwrap());
        }
        let mut conditions = Conditions::parse(RequestView::of(&request), &KeyRules::default(), None).unwrap();
        if let Some((token, ..)) = question.submitted.and_then(|at| self.some(at)) {
            conditions.submit(*token).unwrap();
        }
        let proof = [
            HolderProof::TokenAndPrincipal,
            HolderProof::Token,
            HolderProof::Principal,
            HolderProof::by(|claim| claim.token_submitted || claim.lock.depth() == Depth::Zero),
        ];
        let who = principal(question.who);
        let write =
            Write::new(&targets, &conditions).by(who.as_ref()).proven_by(&proof[question.proof]).naming(question.named);
        let core = &*self.store.core;
        let digests: Digests = conditions.tokens().iter().map(|token| core.key.digest(token)).collect();
        let table = core.table.read();
        let case = Case::new(core, &table, &write, &digests);
        let own = case.held.first().copied().flatten().and_then(|slot| table.records.get(slot));
        let way = if own.is_some_and(|record| case.is_alone(record)) { Short::Alone } else { Short::Looked };
        let short = self.seen(&table, case.shortly());
        let full = self.seen(&table, Case::new(core, &table, &write, &digests).fully());
        let full = full.expect("the general way always has an answer");
        let short = short?;
        assert_eq!(short, full, "{question:?}");
        Some(way)
    }

    /// What can be seen of an answer, and what it does: which locks are in use, and how many writes are in flight.
    fn seen(&self, table: &Table, decided: Decided) -> Option<String> {
        let verdict = match decided {
            Decided::So(verdict) => verdict,
            Decided::Again => panic!("nobody else ends a lock here"),
            Decided::Otherwise => return None,
        };
        let in_use: Vec<_> = table.records.iter().map(|record| (record.parts.id, record.pins.in_use())).collect();
        let flying = self.store.core.registry.as_ref().map(Registry::len);
        Some(match &verdict {
            Verdict::Admitted(Admitted { permit, answered }) => {
                format!("{:?} {answered:?} {in_use:?} {flying:?} {}", permit.generation(), permit.id().is_some())
            }
            Verdict::Refused(refused) => format!("{refused:?} {in_use:?} {flying:?}"),
        })
    }
}

#[test]
fn the_short_way_answers_as_the_general_one() {
    let (short, alone, asked) = (Cell::new(0), Cell::new(0), Cell::new(0));
    let mut runner = TestRunner::new(Config { failure_persistence: None, ..Config::with_cases(1024) });
    let file = prop_oneof![Just(File::None), Just(File::Slow)];
    let history = (any::<(bool, bool)>(), file, vec((event(), vec(question(), 0..4)), 1..16));
    let run = runner.run(&history, |((guarded, deep), file, history)| {
        let builder = MemoryStore::builder();
        let mut world = World::new(if guarded { builder } else { builder.check_only() }, file);
        for (mut event, questions) in history {
            if let (true, Event::Lock(asked) | Event::Replace(asked, _)) = (deep, &mut event) {
                asked.depth = Depth::Infinity;
            }
            world.happens(&event);
            for question in &questions {
                let way = world.ask(question);
                short.set(short.get() + u32::from(way.is_some()));
                alone.set(alone.get() + u32::from(way == Some(Short::Alone)));
                asked.set(asked.get() + 1);
            }
        }
        Ok(())
    });
    run.unwrap_or_else(|error| panic!("{error}"));
    assert!(6 * short.get() > asked.get(), "the short way is for what is common: {short:?} of {asked:?}");
    assert!(60 * alone.get() > asked.get(), "and the shortest for what is most common: {alone:?} of {asked:?}");
}

#[test]
fn what_is_common_goes_the_short_way() {
    let mut world = World::new(MemoryStore::builder(), File::None);
    let (scope, depth) = (LockScope::Exclusive, Depth::Infinity);
    world.happens(&Event::Lock(Asked { path: 2, scope, depth, frozen: false, who: 1, seconds: 9 }));
    let put = |path| vec![(path, Effect::Write, Membership::Changed)];
    let question = |targets, token: bool, lock_token: bool| Question {
        targets,
        lists: if token { vec![(None, vec![(false, State::Token(0))])] } else { Vec::new() },
        lock_token: lock_token.then_some(0),
        submitted: None,
        who: 1,
        proof: 0,
        named: 100,
        aimed: None,
    };
    use Short::{Alone, Looked};
    for (what, question, way) in [
        ("the holder's write, by If", question(put(2), true, false), Alone),
        ("by Lock-Token", question(put(2), false, true), Alone),
        ("by both", question(put(2), true, true), Alone),
        ("below the root of the lock", question(put(3), true, false), Alone),
        ("a DELETE of it", question(vec![(2, Effect::Unlink, Membership::Changed)], true, false), Alone),
        ("of two under it", question([put(2), put(3)].concat(), true, false), Alone),
        ("somebody's write without a token", question(put(2), false, false), Looked),
        ("one that meets no lock", question(put(7), false, false), Looked),
        ("one under it and one beside it", question([put(2), put(7)].concat(), true, false), Looked),
    ] {
        assert_eq!(world.ask(&question), Some(way), "{what}");
    }
    assert_eq!(world.ask(&question(put(7), true, false)), None, "a token for something else: 412 says which");
    let of_parent = Asked { path: 1, scope, depth: Depth::Zero, frozen: false, who: 2, seconds: 9 };
    world.happens(&Event::Lock(of_parent));
    assert_eq!(world.ask(&question(put(2), true, false)), None, "the lock of somebody else on the parent");
    assert_eq!(world.ask(&question(put(3), true, false)), Some(Looked), "which does not reach down");
}

#[test]
fn who_is_to_be_replaced_is_not_alone() {
    for file in [File::None, File::Slow] {
        let mut world = World::new(MemoryStore::builder(), file);
        let (scope, depth) = (LockScope::Exclusive, Depth::Infinity);
        let lock = |path| Asked { path, scope, depth, frozen: false, who: 1, seconds: 9 };
        let question = |token| Question {
            targets: vec![(3, Effect::Write, Membership::Changed)],
            lists: vec![(None, vec![(false, State::Token(token))])],
            lock_token: None,
            submitted: None,
            who: 1,
            proof: 0,
            named: 100,
            aimed: None,
        };
        world.happens(&Event::Lock(lock(2)));
        assert_eq!(world.ask(&question(0)), Some(Short::Alone));
        // The holder's own write keeps the mark waiting.
        world.happens(&Event::Write(3, Some(0)));
        world.happens(&Event::Replace(lock(1), 0));
        assert_eq!(world.ask(&question(0)), None, "the mark refuses it");
        world.happens(&Event::Done);
        let way = world.ask(&question(1));
        assert_eq!(way, if file == File::None { Some(Short::Looked) } else { None }, "the other has not gone yet");
    }
}

/// A store with exclusive locks of alice's on `/a/b` and `/e`.
fn two_locks() -> World {
    let mut world = World::new(MemoryStore::builder(), File::None);
    for path in [2, 6] {
        let (scope, depth) = (LockScope::Exclusive, Depth::Infinity);
        world.happens(&Event::Lock(Asked { path, scope, depth, frozen: false, who: 1, seconds: 9 }));
    }
    world
}

#[test]
fn a_lock_that_is_about_to_end_blocks_and_answers_for_nothing() {
    let mut world = two_locks();
    let (alice, targets) = (principal(1), [Target::write(key(2))]);
    let mut with_token = Conditions::NONE;
    with_token.submit(world.tokens[0].0).unwrap();
    let asked = |world: &World, conditions: &Conditions<'_>| {
        world.store.admit(&Write::new(&targets, conditions).by(alice.as_ref())).into_ready().expect("at once").unwrap()
    };
    assert!(matches!(asked(&world, &with_token), Verdict::Admitted(_)));
    world.happens(&Event::Leaving(0));
    for conditions in [&with_token, &Conditions::NONE] {
        let Verdict::Refused(refused) = asked(&world, conditions) else { panic!("its end is decided") };
        assert_eq!(refused.blockers.len(), 1, "until that is written down it stands");
    }
}

#[test]
fn of_several_locks_that_are_to_answer_none_stays_pinned_when_one_has_ended() {
    let world = two_locks();
    let core = &*world.store.core;
    let table = core.table.read();
    let slots: Vec<u32> = world.tokens.iter().map(|(token, ..)| table.by_token(&core.key.digest(token)).unwrap()).collect();
    let pins = |at: usize| &table.records.get(slots[at]).unwrap().pins;
    let (targets, conditions) = ([Target::write(key(2))], Conditions::NONE);
    let write = Write::new(&targets, &conditions);
    let case = Case::new(core, &table, &write, &[]);
    pins(1).end();
    assert!(case.pin(&slots).is_none());
    assert!(!pins(0).in_use(), "or it would never expire");
    assert!(case.pin(&slots[..1]).is_some() && pins(0).in_use());
}

#[test]
fn a_lock_whose_life_is_over_is_nobodys_to_pin_even_where_the_clock_is_behind() {
    let world = two_locks();
    let core = &*world.store.core;
    let table = core.table.read();
    let record = table.records.get(table.by_token(&core.key.digest(&world.tokens[0].0)).unwrap()).unwrap();
    let now = core.now();
    record.pins.pin().unwrap();
    assert!(record.live(now.after(17 * SECOND)), "a write keeps it beyond its own end");
    assert!(!record.live(now.after(18 * SECOND)), "but not beyond its life");
    assert!(
        record.pins.pin().is_err() && !record.live(now),
        "it ends once, and for whoever looks later with an earlier time"
    );
}
