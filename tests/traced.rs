//! Feature `tracing`: events with stable names, levels and fields; never a token; nothing where it was not asked for.
#![cfg(feature = "tracing")]

mod support;

use std::{
    collections::BTreeMap,
    fmt::{self, Debug},
    sync::{Arc, Mutex},
    time::Duration,
};

use support::{Call, Mode, ProbeError, Rigged, SECOND, Text, by, holding, probe, request, send};
use tower::Layer;
use tower_lock::{
    Caller, LockId, LockLayer, LockRequest, LockToken, Locks, LocksBuilder, Principal, locks::Named, store::ManualClock,
};
use tracing::{
    Event, Metadata, Subscriber,
    field::{Field, Visit},
    span,
};

/// Keeps every event of the crate's.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<Seen>>>);

#[derive(Clone, Debug, Default, PartialEq)]
struct Seen {
    level: String,
    fields: BTreeMap<&'static str, String>,
}

impl Seen {
    fn of(&self, name: &str) -> &str {
        self.fields.get(name).map_or("-", String::as_str)
    }

    fn names(&self) -> Vec<&'static str> {
        self.fields.keys().copied().collect()
    }
}

impl Visit for Seen {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.fields.insert(field.name(), format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.fields.insert(field.name(), value.to_owned());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.fields.insert(field.name(), value.to_string());
    }
}

impl Subscriber for Kept {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "tower_lock"
    }

    fn event(&self, event: &Event<'_>) {
        let mut seen = Seen { level: event.metadata().level().to_string(), ..Seen::default() };
        event.record(&mut seen);
        self.0.lock().unwrap().push(seen);
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Kept")
    }
}

impl Kept {
    fn take(&self) -> Vec<Seen> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

struct World {
    kept: Kept,
    clock: ManualClock,
    store: Rigged,
    locks: Locks,
    _default: tracing::subscriber::DefaultGuard,
}

impl World {
    fn with(build: impl FnOnce(LocksBuilder) -> LocksBuilder) -> Self {
        let (kept, clock) = (Kept::default(), ManualClock::new());
        let store = Rigged::new(support::stores::memory(clock.clock()));
        let locks = build(support::locks_of_users(store.clone()).clock(clock.clock())).build();
        let _default = tracing::subscriber::set_default(kept.clone());
        Self { kept, clock, store, locks, _default }
    }

    async fn lock(&self, path: &str) -> (LockToken, LockId) {
        let request = LockRequest::exclusive(path).principal("ann").lifetime(60 * SECOND).reason("editing");
        let granted = self.locks.acquire(request).await.unwrap();
        (granted.token(), granted.lock().id())
    }
}

#[tokio::test]
async fn the_fields_of_an_event_are_those_that_are_documented() {
    let world = World::with(LocksBuilder::traced);
    let (token, id) = world.lock("/a").await;
    let seen = world.kept.take().pop().unwrap();
    let expected = [
        ("actor", "ann".to_owned()),
        ("depth", "infinity".to_owned()),
        ("event", "acquired".to_owned()),
        ("expires_in", "60".to_owned()),
        ("generation", world.locks.refresh(token, None).await.unwrap().lock.generation().to_string()),
        ("holder", "ann".to_owned()),
        ("kind", "user".to_owned()),
        ("lock_id", id.to_string()),
        ("message", "/a: acquired by ann (editing)".to_owned()),
        ("origin", "in_process".to_owned()),
        ("reason", "editing".to_owned()),
        ("resource", "/a".to_owned()),
        ("scope", "exclusive".to_owned()),
    ];
    assert_eq!(seen.fields.into_iter().collect::<Vec<_>>(), expected);
    world.kept.take();
    let refused = world.locks.acquire(LockRequest::exclusive("/a").principal("bob")).await.unwrap_err();
    let seen = world.kept.take().pop().unwrap();
    assert_eq!(seen.names(), ["actor", "code", "event", "message", "origin", "resource", "status"]);
    assert_eq!((seen.of("code"), seen.of("status"), seen.of("actor")), ("locked", "423", "bob"));
    assert_eq!(seen.of("message"), format!("/a: refused by bob: locked {refused}"));
    let _there = world.locks.acquire(LockRequest::exclusive("/a").namespace("one")).await.unwrap();
    assert_eq!(world.kept.take().pop().unwrap().of("namespace"), "one");
}

#[tokio::test]
async fn every_event_has_its_level_and_none_a_token() {
    let world = World::with(LocksBuilder::traced);
    let admin = Caller::application(Some(Principal::new("root")));
    let mut tokens = Vec::new();
    let proposed = LockToken::random();
    for _ in 0..2 {
        let _granted = world.locks.acquire(LockRequest::exclusive("/p").propose_token(proposed)).await.unwrap();
    }
    tokens.push(proposed);
    world.locks.refresh(proposed, None).await.unwrap();
    let _wider = world.locks.acquire(LockRequest::exclusive("/p").replacing(proposed)).await.unwrap();
    let (token, id) = world.lock("/a").await;
    tokens.push(token);
    let _ = world.locks.break_for(&admin, Named::id(id), "soon", 5 * SECOND).await.unwrap();
    let _ = world.locks.break_for(&admin, Named::id(id), "now", Duration::ZERO).await.unwrap();
    let (token, _) = world.lock("/b").await;
    tokens.push(token);
    let done = probe(|_: http::Request<Text>| std::future::ready(Ok::<_, ProbeError>(http::Response::new(Text::default()))));
    let mut service = LockLayer::new(world.locks.clone()).layer(done);
    assert_eq!(send(&mut service, by(request("PUT", "/b"), "bob")).await.status, 423);
    assert_eq!(send(&mut service, holding(by(request("DELETE", "/b"), "ann"), token)).await.status, 200);
    let (token, _) = world.lock("/c").await;
    world.locks.release(token).await.unwrap();
    let (token, id) = world.lock("/d").await;
    tokens.push(token);
    let handed = world.locks.transfer(id, "bob").await.unwrap();
    let claimed = world.locks.claim(handed.id(), "bob").await.unwrap();
    tokens.push(claimed.token());
    world.store.set(Call::Admit, Mode::Fail);
    assert_eq!(send(&mut service, by(request("PUT", "/b"), "bob")).await.status, 503);
    for _ in 0..3_700 {
        world.clock.advance(SECOND);
        tokio::task::yield_now().await;
    }
    let seen = world.kept.take();
    let mut levels: Vec<_> =
        seen.iter().map(|seen| format!("{} {} {}", seen.level, seen.of("event"), seen.of("code"))).collect();
    levels.sort();
    levels.dedup();
    assert_eq!(
        levels,
        [
            "DEBUG acquired -",
            "DEBUG claimed -",
            "DEBUG cleared -",
            "DEBUG refused locked",
            "DEBUG released -",
            "DEBUG replaced -",
            "DEBUG transferred -",
            "INFO breaking -",
            "INFO broken -",
            "INFO expired -",
            "TRACE refreshed -",
            "TRACE repeated -",
            "WARN refused store_unavailable",
        ]
    );
    let all = format!("{seen:?}");
    for token in tokens {
        let uuid = token.urn().to_string().replace("urn:uuid:", "");
        assert!(!all.contains(&uuid), "a token was told");
    }
}

#[tokio::test]
async fn incidents_are_warnings_beside_the_hook() {
    let heard = Arc::new(Mutex::new(Vec::new()));
    for open in [false, true] {
        let (hook, other) = (heard.clone(), heard.clone());
        let world = World::with(|builder| {
            let builder = builder.on_incident(move |incident| hook.lock().unwrap().push(incident.as_str()));
            let builder = if open {
                builder.fail_open(move |incident| other.lock().unwrap().push(incident.as_str()))
            } else {
                builder
            };
            builder.traced()
        });
        let guard = world.locks.hold(LockRequest::exclusive("/a")).await.unwrap();
        world.kept.take();
        if open {
            world.store.set(Call::Admit, Mode::Fail);
            let done = probe(|_: http::Request<Text>| {
                std::future::ready(Ok::<_, ProbeError>(http::Response::new(Text::default())))
            });
            let mut service = LockLayer::new(world.locks.clone()).layer(done);
            assert_eq!(send(&mut service, by(request("PUT", "/a"), "bob")).await.status, 200);
        } else {
            world.store.set(Call::Release, Mode::Fail);
            drop(guard);
        }
        let seen = world.kept.take().pop().unwrap();
        let which = if open { "admitted_unchecked" } else { "undo_failed" };
        assert_eq!((seen.level.as_str(), seen.of("event"), seen.of("incident")), ("WARN", "incident", which));
        assert_eq!(seen.of("error"), "the lock store cannot be reached: rigged to fail");
        assert_eq!(seen.of("resource"), if open { "/a" } else { "-" });
        assert_eq!(std::mem::take(&mut *heard.lock().unwrap()), [which]);
    }
}

#[tokio::test]
async fn the_hook_and_the_events_go_together_and_nothing_is_told_unasked() {
    let heard = Arc::new(Mutex::new(0));
    let count = heard.clone();
    let world = World::with(|builder| builder.traced().on_activity(move |_| *count.lock().unwrap() += 1));
    world.lock("/a").await;
    assert_eq!((world.kept.take().len(), *heard.lock().unwrap()), (1, 1));
    let silent = Locks::new(support::stores::memory(world.clock.clock()));
    let _granted = silent.acquire(LockRequest::exclusive("/a")).await.unwrap();
    assert!(world.kept.take().is_empty());
}
