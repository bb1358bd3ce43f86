//! The keys of a store: what is in them, what is not, and what is left when all has ended.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use tower_lock::{
    LockStore,
    lock::{Gone, Principal, Reach, ResourceKey, Target},
    store::{Acquire, Acquired, LockQuery, Refresh, Release, Span, Which},
};

use crate::{
    kit::{acquire, all, ann, beside, builder, end, granted, key, lock, new, put, run, store, tell, with_token, write},
    support::engines::RedisServer,
};

/// Every key of the server.
fn names(server: &RedisServer) -> Vec<String> {
    redis::cmd("KEYS").arg("*").query(&mut beside(server)).unwrap()
}

/// One of everything.
pub(crate) async fn everything(store: &impl LockStore) {
    let (held, token) = lock(store, "/a/b").await;
    let (_, other) = lock(store, "/c").await;
    assert!(put(store, "/a/b/c").await.unwrap().refused().is_some());
    let targets = [Target::unlink(key("/a")), Target::write_member(key("/x/y"))];
    let running = with_token(store, &targets, token).await.unwrap().admitted().expect("its own token");
    let ann = ann();
    let coming = [new(key("/x"))];
    let busy = store.acquire(&Acquire::new(&coming, Some(&ann)).draining(Duration::from_millis(20))).await.unwrap();
    assert!(matches!(busy, Acquired::Busy { .. }), "{busy:?}");
    let authority = tower_lock::store::Authority::Guard;
    let _refreshed = store.refresh(&Refresh::new(Which::Id(held.id()), authority, Span::Same)).await.unwrap();
    let gone = [Gone { key: key("/a"), reach: Reach::AtOrBelow }];
    assert_eq!(store.clear(&gone, running.permit.id()).await.unwrap(), 1);
    drop(running);
    let breaks = tower_lock::store::Authority::Break { actor: None, reason: "because", grace: Duration::from_millis(1) };
    let _breaking = store.release(&Release::new(Which::Token(&other), breaks)).await.unwrap();
    let _found = store.find(&LockQuery::at_or_below(key("/")).held_by(Some(&ann))).await.unwrap();
    let (_, last) = lock(store, "/d").await;
    end(store, &last).await;
}

#[test]
fn all_keys_of_a_namespace_carry_its_tag() {
    let server = RedisServer::start();
    run(async move {
        for namespace in ["app", "", "a}b{c", "{", "spaces and \"quotes\"", "*?[a-z]"] {
            tell(&server, &["FLUSHALL"]);
            everything(&builder(&server).namespace(namespace).build().unwrap()).await;
            let names = names(&server);
            assert!(names.len() >= 5, "{names:?}");
            let tag = |name: &str| name.split_once('{').unwrap().1.split_once('}').unwrap().0.to_owned();
            assert!(names.iter().all(|name| tag(name) == tag(&names[0]) && !tag(name).is_empty()), "{names:?}");
        }
    });
}

#[test]
fn namespaces_ignore_each_other() {
    let server = RedisServer::start();
    run(async move {
        let (one, other) = (store(&server), store(&server));
        lock(&one, "/").await;
        assert!(put(&other, "/a").await.unwrap().admitted().is_some());
        lock(&other, "/").await;
        assert_eq!((all(&one).await.len(), all(&other).await.len()), (1, 1));
    });
}

#[test]
fn the_engine_holds_no_token() {
    let server = RedisServer::start();
    run(async move {
        let store = store(&server);
        let (_, token) = lock(&store, "/a").await;
        let mut beside = beside(&server);
        let dump: Vec<Vec<u8>> =
            names(&server).iter().map(|name| redis::cmd("DUMP").arg(name).query(&mut beside).unwrap()).collect();
        let (raw, text) = (token.as_uuid().into_bytes(), token.as_uuid().to_string());
        for bytes in dump {
            assert!(!bytes.windows(16).any(|window| window == raw), "a stolen dump gives no token (G9)");
            assert!(!bytes.windows(text.len()).any(|window| window == text.as_bytes()), "a stolen dump gives no token (G9)");
        }
    });
}

#[test]
fn nothing_is_left_of_what_has_ended() {
    let server = RedisServer::start();
    run(async move {
        let time = Arc::new(AtomicI64::new(1_800_000_000_000_000));
        let store = builder(&server).clock_at(time.clone()).build().unwrap();
        for at in 0..300 {
            let (_, token) = lock(&store, &format!("/a/{at}")).await;
            drop(with_token(&store, &[Target::unlink(key(&format!("/a/{at}")))], token).await.unwrap());
            drop(put(&store, "/b").await.unwrap());
            if at % 2 == 0 {
                end(&store, &token).await;
            }
        }
        // The others have expired by then, and are taken away a bounded number at a time; then the hour of the dead passes.
        for hours in 0..2 {
            time.fetch_add(3_700_000_000 * (1 + hours), Ordering::AcqRel);
            for _ in 0..8 {
                let (_, token) = lock(&store, "/z").await;
                end(&store, &token).await;
            }
        }
        let mut beside = beside(&server);
        for name in names(&server) {
            let kind: String = redis::cmd("TYPE").arg(&name).query(&mut beside).unwrap();
            let count = if kind == "hash" { "HLEN" } else { "ZCARD" };
            let count: usize = redis::cmd(count).arg(&name).query(&mut beside).unwrap();
            let most = if name.contains("dead") { 8 } else { 2 };
            assert!(name.contains("dead") || name.ends_with(":locks"), "{name} has {count}");
            assert!(count <= most, "{name} has {count}");
        }
    });
}

#[test]
fn a_lock_takes_about_a_kilobyte() {
    const LOCKS: usize = 3_000;
    let server = RedisServer::start();
    run(async move {
        let store = store(&server);
        let used = || -> usize {
            let info: String = redis::cmd("INFO").arg("memory").query(&mut beside(&server)).unwrap();
            let line = info.lines().find_map(|line| line.strip_prefix("used_memory:")).unwrap();
            line.trim().parse().unwrap()
        };
        lock(&store, "/warm").await;
        let before = used();
        for at in 0..LOCKS / 100 {
            let locks: Vec<_> = (0..100).map(|nth| new(key(&format!("/projects/{at}/documents/{nth}/draft.txt")))).collect();
            assert!(matches!(acquire(&store, &locks).await, Ok(Acquired::Granted(_))));
        }
        let each = (used() - before) / LOCKS;
        println!("{each} bytes a lock");
        assert!((400..1_600).contains(&each), "{each} bytes a lock");
    });
}

/// Paths and names that break out of texts, patterns and records elsewhere.
#[test]
fn hostile_names_are_only_names() {
    let server = RedisServer::start();
    run(async move {
        for store in [builder(&server), builder(&server).check_only()].map(|store| store.build().unwrap()) {
            let names = [
                "/\0",
                "/\0/\u{1}",
                "/\u{1}",
                "/a\0b",
                "/'\"`\\",
                "/*?[x]",
                "/%00",
                "/%25",
                "/\n\r",
                "/{a}",
                "/\u{10FFFF}",
                "/a\0\u{1}\0",
                "/+",
                "//",
                "/a/",
                "//a",
                "/a//b",
            ];
            let mut held = Vec::new();
            for (at, name) in names.iter().enumerate() {
                let root = if at % 2 == 0 { key(name) } else { key(name).in_namespace("n\0%\u{1}/") };
                let mut asked = new(root);
                Arc::make_mut(&mut asked.parts).depth = tower_lock::lock::Depth::Zero;
                Arc::make_mut(&mut asked.parts).reason = Some(format!("because of {name:?} \0").into());
                held.push(granted(&store, asked.clone()).await);
                let found = store.find(&LockQuery::id(asked.parts.id)).await.unwrap().locks;
                assert_eq!(**found[0].parts(), *asked.parts, "it comes back as it went in");
                assert!(write(&store, &[Target::write(asked.parts.root.clone())]).await.unwrap().refused().is_some());
            }
            let mut odd = new(key("/odd"));
            Arc::make_mut(&mut odd.parts).principal = Some(Principal::new("a\0\u{1}b"));
            Arc::make_mut(&mut odd.parts).kind = tower_lock::lock::LockKind::Other("k\0".into());
            let (odd, _) = granted(&store, odd).await;
            let owner = Principal::new("a\0\u{1}b");
            let query = LockQuery::at_or_below(key("/")).held_by(Some(&owner)).kind(odd.kind());
            assert_eq!(store.find(&query).await.unwrap().locks.len(), 1);
            for (lock, token) in held {
                assert_eq!(store.find(&LockQuery::covering(lock.root().borrowed())).await.unwrap().locks[0].id(), lock.id());
                end(&store, &token).await;
            }
        }
    });
}

/// Eight kilobytes in 4,096 segments, at both ends of a move, with locks at every depth.
#[test]
fn the_deepest_paths_are_found_in_one_step() {
    let server = RedisServer::start();
    run(async move {
        for store in [builder(&server), builder(&server).check_only()].map(|store| store.build().unwrap()) {
            let (from, to) = ("/a".repeat(ResourceKey::MAX_ROOT / 2), "/b".repeat(ResourceKey::MAX_ROOT / 2));
            let (deep, token) = lock(&store, &from).await;
            assert!(put(&store, &from).await.unwrap().refused().is_some());
            let rename = [Target::unlink(key(&from)), Target::unlink(key(&to))];
            let refused = write(&store, &rename).await.unwrap();
            assert_eq!(refused.refused().expect("it is locked").blockers[0].id(), deep.id());
            let running = with_token(&store, &rename, token).await.unwrap().admitted().expect("its own token");
            let found = store.find(&LockQuery::covering(key(&format!("{from}/x")))).await.unwrap();
            assert_eq!(found.locks.len(), 1);
            if running.permit.id().is_some() {
                let busy = acquire(&store, &[new(key(&format!("/b{}", &to[..to.len() - 2])))]).await.unwrap();
                assert!(matches!(busy, Acquired::Busy { .. }), "an end of the move is below it: {busy:?}");
            }
            drop(running);
            assert!(matches!(acquire(&store, &[new(key("/"))]).await.unwrap(), Acquired::Conflict(_)), "it is below");
            end(&store, &token).await;
            lock(&store, "/").await;
            // Longer than a lock's root may be, and still below the lock on the root.
            assert!(put(&store, &"/c".repeat(20_000)).await.unwrap().refused().is_some());
        }
    });
}

#[test]
fn a_generation_never_falls_behind_the_last() {
    let server = RedisServer::start();
    run(async move {
        let store = builder(&server).namespace("g").build().unwrap();
        let (first, _) = lock(&store, "/a").await;
        // An engine whose clock was ahead.
        let ahead = first.generation() + 1_000_000_000_000;
        redis::cmd("HSET").arg("tower-lock:{g}:locks").arg("generation").arg(ahead).exec(&mut beside(&server)).unwrap();
        assert_eq!(lock(&store, "/b").await.0.generation(), ahead + 1);
        assert_eq!(put(&store, "/c").await.unwrap().admitted().unwrap().permit.generation(), ahead + 1);
    });
}

/// Much has expired at once: no step takes it all away, and each comes to its end.
#[test]
fn thousands_that_have_expired_are_in_nobodys_way() {
    let server = RedisServer::start();
    run(async move {
        let time = Arc::new(AtomicI64::new(1_800_000_000_000_000));
        let store = builder(&server).clock_at(time.clone()).build().unwrap();
        for at in 0..50 {
            let locks: Vec<_> = (0..100).map(|nth| new(key(&format!("/a/{at}/{nth}")))).collect();
            assert!(matches!(acquire(&store, &locks).await, Ok(Acquired::Granted(_))));
        }
        time.fetch_add(3_600_000_000, Ordering::AcqRel);
        assert!(write(&store, &[Target::unlink(key("/a"))]).await.unwrap().admitted().is_some());
        let (_, token) = lock(&store, "/a").await;
        assert_eq!(all(&store).await.len(), 1);
        end(&store, &token).await;
        let locks: Vec<_> = (0..100).map(|nth| new(key(&format!("/b/{nth}")))).collect();
        let mut request = Acquire::new(&locks, None);
        request.quota = tower_lock::store::Quota { principal: 100, store: 100 };
        assert!(matches!(store.acquire(&request).await, Ok(Acquired::Granted(_))), "the dead use up nothing");
    });
}
