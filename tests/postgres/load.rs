//! Many at once, and much of it.

use std::time::Duration;

use tower_lock::{
    lock::{LockToken, Target},
    store::{Acquire, Acquired, NewLock},
};

use crate::kit::*;

fn soak() -> usize {
    std::env::var("TOWER_LOCK_SOAK").ok().and_then(|times| times.parse().ok()).unwrap_or(1).max(1)
}

/// MOVE against MOVE and against acquires of several roots, crosswise: nobody fails, and the server never has to end a
/// deadlock.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_order_of_targets_and_roots_is_a_deadlock() {
    let server = PostgresServer::start();
    let store = named(&server.url(), "storm").build().expect("a URL");
    store.migrate().await.expect("the schema is made");
    let paths = ["/a/x", "/b/y", "/a", "/b", "/a/x/deep", "/c/z"];
    let rounds = 400 * soak();
    let tasks: Vec<_> = (0..8)
        .map(|task: usize| {
            let store = store.clone();
            tokio::spawn(async move {
                let (mut admitted, mut locked) = (0, 0);
                for round in 0..rounds {
                    let at = |step: usize| paths[(task * 7 + round * 5 + step * (1 + round % 5)) % paths.len()];
                    if task.is_multiple_of(2) {
                        let targets =
                            [Target::unlink(key(at(0))), Target::unlink(key(at(1))), Target::write_member(key(at(2)))];
                        let verdict = write(&store, &targets, None).await.expect("no deadlock");
                        admitted += usize::from(verdict.admitted().is_some());
                    } else {
                        let locks = [exclusive(&format!("{}/{task}", at(0))), exclusive(&format!("{}-{task}", at(1)))];
                        let request = Acquire::new(&locks, None).draining(Duration::from_millis(round as u64 % 3));
                        if let Acquired::Granted(_) =
                            tower_lock::LockStore::acquire(&store, &request).await.expect("no deadlock")
                        {
                            locked += 1;
                            for lock in &locks {
                                release(&store, &lock.token).await.expect("no deadlock");
                            }
                        }
                    }
                }
                (admitted, locked)
            })
        })
        .collect();
    let (mut admitted, mut locked) = (0, 0);
    for task in tasks {
        let done = task.await.expect("no panic");
        (admitted, locked) = (admitted + done.0, locked + done.1);
    }
    assert!(admitted > rounds / 10 && locked > rounds / 10, "both sides get on: {admitted} {locked}");
    assert!(!server.log().contains("deadlock"), "the server ended a deadlock");
    assert!(!server.log().contains("out of shared memory"), "the server ran out of room for locks");
}

/// A path of 4,096 levels in every call, by many at once, does not use up the server's room for locks.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn deep_paths_do_not_exhaust_the_servers_locks() {
    let store = fresh().await;
    let deepest = "/d".repeat(4_095);
    let tasks: Vec<_> = (0..16)
        .map(|task| {
            let (store, path) = (store.clone(), format!("{deepest}/{task}"));
            tokio::spawn(async move {
                for _ in 0..5 {
                    let lock = exclusive(&path[..path.len().min(8_192)]);
                    if let Acquired::Granted(_) = acquire(&store, std::slice::from_ref(&lock)).await.expect("an answer") {
                        release(&store, &lock.token).await.expect("an answer");
                    }
                    drop(put(&store, &path).await.expect("an answer"));
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("no panic");
    }
    let many: Vec<NewLock> = (0..300).map(|at| exclusive(&format!("/m/{at}/a/b/c/d/e/f"))).collect();
    let granted = acquire(&store, &many).await.expect("an answer");
    assert!(matches!(granted, Acquired::Granted(_)), "three hundred roots at once");
}

/// With 100,000 locks held a check looks at an index and at nothing else, and a lock takes less than a kilobyte.
#[tokio::test(flavor = "multi_thread")]
async fn a_check_among_many_locks_uses_the_index() {
    let server = PostgresServer::start();
    let store = named(&server.url(), "many").build().expect("a URL");
    store.migrate().await.expect("the schema is made");
    granted(&store, &exclusive("/docs/a/b/first")).await;
    let sql = Sql::at(&server.url()).await;
    let columns = "place, whose, created, expires, generation, id, token, path, parts";
    sql.run(&format!(
        "INSERT INTO tower_lock.locks (space, realm, state, exclusive, infinite, frozen, ns, kind, due, {columns}) \
         SELECT l.space, l.realm, l.state, l.exclusive, l.infinite, l.frozen, l.ns, l.kind, l.due, hashtextextended(n::text, 0), \
         n % 1000, l.created, l.expires, l.generation, id.id, gen_random_uuid(), convert_to('/docs/a/b/' || n, 'UTF8'), \
         convert_to(replace(replace(convert_from(l.parts, 'UTF8'), l.id::text, id.id::text), '/b/first', '/b/' || n), 'UTF8') \
         FROM tower_lock.locks l, generate_series(1, 100000) n, LATERAL (SELECT gen_random_uuid() AS id, n AS of) id"
    ))
    .await;
    let bytes = sql.number("SELECT pg_total_relation_size('tower_lock.locks') / 100001").await;
    assert!(bytes < 1_024, "a lock takes {bytes} bytes, its indexes included");
    let check = include_str!("../../src/store/postgres/sql/check.sql").replace("@.", "tower_lock.");
    sql.run(&format!(
        "SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off; SET enable_bitmapscan = off; \
         PREPARE looked (bigint[], bigint, bigint[], bigint) AS {check}"
    ))
    .await;
    let plan = sql.texts("EXPLAIN (ANALYZE, BUFFERS) EXECUTE looked ('{1,2,3,4,5,6}', 1, '{6}', 0)").await.join("\n");
    assert!(plan.contains("Index Scan using locks_place"), "{plan}");
    assert!(!plan.contains("Seq Scan"), "{plan}");
    let more = include_str!("../../src/store/postgres/sql/check_more.sql").replace("@.", "tower_lock.");
    sql.run(&format!(
        "PREPARE looked_below (bigint, bigint, bigint[], bigint[], bigint[], bytea[], bytea[], bytea[], bytea[], uuid[], bigint) AS {more}"
    ))
    .await;
    let below = "array[1]::bigint[], '{/docs/}', '{/docs0}', '{/docs/}', '{/docs0}', '{}', 256";
    let plan =
        sql.texts(&format!("EXPLAIN (ANALYZE) EXECUTE looked_below (1, 0, '{{1,2}}', '{{2}}', {below})")).await.join("\n");
    assert!(plan.contains("Index Cond: ((realm = b.realm)"), "the bounds of a subtree are looked up: {plan}");
    // The plan that a store has made before it held anything is the same.
    let checked = named(&server.url(), "many").check_only().build().expect("a URL");
    assert!(put(&checked, "/docs/a/b/first/x").await.expect("an answer").refused().is_some(), "it is found");
    assert!(put(&checked, "/docs/a/c").await.expect("an answer").admitted().is_some(), "nothing else is");
    let whole = write(&checked, &[Target::unlink(key("/docs/a"))], None).await.expect("an answer");
    let refused = whole.refused().expect("a hundred thousand locks are below");
    assert_eq!((refused.blockers.len(), refused.truncated), (100, true), "a hundred are named");
    let whole = write(&store, &[Target::unlink(key("/docs/a"))], Some(LockToken::random())).await.expect("an answer");
    assert_eq!(whole.refused().expect("as many").blockers.len(), 100, "a hundred are named");
}

/// What has ended leaves nothing behind but what is remembered of it, and that for an hour.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_left_of_what_has_ended() {
    let server = PostgresServer::start();
    let clock = std::sync::Arc::new(std::sync::atomic::AtomicI64::new(0));
    let store = named(&server.url(), "swept").clock_offset(clock.clone()).build().expect("a URL");
    store.migrate().await.expect("the schema is made");
    let sql = Sql::at(&server.url()).await;
    for at in 0..100 {
        let lock = exclusive(&format!("/a/{at}"));
        granted(&store, &lock).await;
        drop(write(&store, &[Target::unlink(lock.parts.root.clone())], Some(lock.token)).await.expect("an answer"));
        if at % 2 == 0 {
            release(&store, &lock.token).await.expect("an answer");
        }
    }
    clock.store(2 * 86_400_000_000, std::sync::atomic::Ordering::SeqCst);
    // Every acquire may sweep some.
    for _ in 0..400 {
        let lock = exclusive("/b");
        granted(&store, &lock).await;
        release(&store, &lock.token).await.expect("an answer");
        let left = sql.number("SELECT count(*) FROM tower_lock.locks").await;
        let dead = sql.number("SELECT count(*) FROM tower_lock.dead WHERE cause = 0").await;
        if left == 0 && dead == 50 {
            break;
        }
    }
    assert_eq!(sql.number("SELECT count(*) FROM tower_lock.locks").await, 0, "no lock is left");
    // The ends of writes are sent behind everybody's back.
    drop(put(&store, "/z").await.expect("an answer"));
    while sql.number("SELECT count(*) FROM tower_lock.writes").await
        + sql.number("SELECT count(*) FROM tower_lock.pins").await
        > 0
    {
        tokio::task::yield_now().await;
    }
    clock.store(3 * 86_400_000_000, std::sync::atomic::Ordering::SeqCst);
    for _ in 0..400 {
        let lock = exclusive("/b");
        granted(&store, &lock).await;
        release(&store, &lock.token).await.expect("an answer");
        if sql.number("SELECT count(*) FROM tower_lock.dead WHERE cause = 0").await == 0 {
            return;
        }
    }
    panic!("the dead are forgotten after an hour");
}
