//! Servers that are killed, stopped, or gone; callers that hang up.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::Arc,
    task::Poll,
    time::{Duration, Instant},
};

use tower_lock::{
    LockStore,
    lock::Target,
    request::Conditions,
    store::{Acquire, Acquired, LockEvent, LockQuery, PostgresStore, StoreErrorKind, Verdict, Write},
};

use crate::{
    kit::*,
    support::cable::{Cable, an_end_during_an_outage_is_found, no_wake_up_is_lost_over_outages},
};

const LIMIT: Duration = Duration::from_millis(500);

/// Asks until the store answers again.
async fn recovers(store: &PostgresStore) {
    let start = Instant::now();
    while store.find(&LockQuery::covering(key("/"))).await.is_err() {
        assert!(start.elapsed() < Duration::from_secs(30), "the store does not come back");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn locks_and_generations_outlive_a_crash_of_the_server() {
    let server = PostgresServer::options().durable().start();
    let store = named(&server.url(), "n").time_limit(Duration::from_secs(2)).build().expect("a URL");
    let checked = named(&server.url(), "n").time_limit(Duration::from_secs(2)).check_only().build().expect("a URL");
    store.migrate().await.expect("the schema is made");
    let held = exclusive("/held");
    let before = granted(&store, &held).await;
    let running = put(&store, "/written").await.expect("an answer").admitted().expect("nothing is locked");
    assert!(put(&checked, "/held").await.expect("an answer").refused().is_some(), "it is locked");
    for _ in 0..2 {
        server.kill();
        for error in [put(&store, "/held").await.err(), put(&checked, "/held").await.err()] {
            let error = error.expect("the server is gone");
            assert!(matches!(error.kind(), StoreErrorKind::Unavailable | StoreErrorKind::TimedOut), "{error:?}");
            assert!(std::error::Error::source(&error).is_some(), "{error:?}");
        }
        server.restart();
        recovers(&store).await;
        assert!(put(&store, "/held").await.expect("an answer").refused().is_some(), "the lock is back");
        recovers(&checked).await;
        assert!(put(&checked, "/held/x").await.expect("an answer").refused().is_some(), "for a check as well");
    }
    // The write was registered before the crash and is still waited for.
    let over = acquire_now(&store, "/written").await;
    assert!(matches!(over, Acquired::Busy { .. }), "a write in flight outlives the server: {over:?}");
    drop(running);
    let after = granted(&store, &exclusive("/written")).await;
    assert!(after.generation() > before.generation(), "generations grow");
    release(&store, &held.token).await.expect("an answer");
    let again = granted(&store, &exclusive("/held")).await;
    assert!(again.generation() > after.generation(), "generations grow");
}

async fn acquire_now(store: &PostgresStore, path: &str) -> Acquired {
    let locks = [exclusive(path)];
    store.acquire(&Acquire::new(&locks, None).draining(Duration::ZERO)).await.expect("an answer")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_server_hangs_nothing() {
    let server = PostgresServer::start();
    let store = named(&server.url(), "n").time_limit(LIMIT).build().expect("a URL");
    let checked = named(&server.url(), "n").time_limit(LIMIT).check_only().build().expect("a URL");
    let cold = named(&server.url(), "n").time_limit(LIMIT).build().expect("a URL");
    named(&server.url(), "n").build().expect("a URL").migrate().await.expect("the schema is made");
    recovers(&store).await;
    recovers(&checked).await;
    let held = exclusive("/a");
    while acquire(&store, std::slice::from_ref(&held)).await.is_err() {}
    let _ = put(&checked, "/a").await;
    server.pause();
    for _ in 0..2 {
        let locks = [exclusive("/b")];
        let mut kinds = Vec::new();
        for store in [&store, &checked, &cold] {
            kinds.push(put(store, "/a").await.err().map(|error| error.kind()));
            kinds.push(store.acquire(&Acquire::new(&locks, None)).await.err().map(|error| error.kind()));
            kinds.push(store.find(&LockQuery::covering(key("/a"))).await.err().map(|error| error.kind()));
            kinds.push(release(store, &held.token).await.err().map(|error| error.kind()));
        }
        let silent =
            |kind: &Option<StoreErrorKind>| matches!(kind, Some(StoreErrorKind::TimedOut | StoreErrorKind::Unavailable));
        assert!(kinds.iter().all(silent), "each call ends by itself: {kinds:?}");
    }
    server.resume();
    for store in [&store, &checked, &cold] {
        recovers(store).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_server_is_no_admission() {
    let (url, port) = {
        let server = PostgresServer::start();
        (server.url(), server.port())
    };
    let store = named(&url, "n").time_limit(LIMIT).build().expect("a URL");
    for _ in 0..50 {
        let error = put(&store, "/a").await.expect_err("nobody is there");
        assert!(matches!(error.kind(), StoreErrorKind::Unavailable | StoreErrorKind::TimedOut), "{port} {error:?}");
    }
    let error = PostgresStore::new("not a URL").expect_err("that is none");
    assert_eq!(error.kind(), StoreErrorKind::Other);
}

/// Polls a question a few times, and hangs up.
async fn hang_up<T>(question: impl Future<Output = T>, polls: usize) {
    let mut question = pin!(question);
    for _ in 0..polls {
        let ready = poll_fn(|cx| Poll::Ready(question.as_mut().poll(cx).is_ready())).await;
        if ready {
            return;
        }
        tokio::time::sleep(Duration::from_micros(200 * polls as u64)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_hangs_up_leaves_nothing_behind() {
    let store = fresh().await;
    let conditions = Conditions::default();
    for polls in 0..30 {
        let targets = [Target::unlink(key("/a"))];
        hang_up(store.admit(&Write::new(&targets, &conditions)), polls % 6).await;
    }
    // Nothing is in flight: what the server registered was ended when it had answered.
    let start = Instant::now();
    while let Acquired::Busy { .. } = acquire_now(&store, "/a/b").await {
        assert!(start.elapsed() < Duration::from_secs(20), "a registration was left behind");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let running = put(&store, "/c/x").await.expect("an answer").admitted().expect("nothing is locked");
    for polls in 0..30 {
        let locks = [exclusive("/c")];
        hang_up(store.acquire(&Acquire::new(&locks, None).draining(Duration::from_secs(3_600))), polls % 6).await;
    }
    // No mark refuses anybody.
    let start = Instant::now();
    while !matches!(put(&store, "/c/y").await.expect("an answer"), Verdict::Admitted(_)) {
        assert!(start.elapsed() < Duration::from_secs(20), "a mark was left behind");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    drop(running);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_survives_its_connection() {
    let server = PostgresServer::start();
    let store = named(&server.url(), "n").time_limit(Duration::from_secs(2)).build().expect("a URL");
    store.migrate().await.expect("the schema is made");
    let mut watch = store.watch(&LockQuery::at_or_below(key("/")));
    assert_eq!(watch.next().await.expect("endless").expect("an event"), LockEvent::Synced);
    let lock = exclusive("/a");
    granted(&store, &lock).await;
    assert!(matches!(watch.next().await, Some(Ok(LockEvent::Granted(_)))), "a grant is told");
    server.kill();
    assert!(watch.next().await.expect("endless").is_err(), "it is cut off, and says so");
    server.restart();
    loop {
        match watch.next().await.expect("endless") {
            Ok(LockEvent::Synced) => break,
            Ok(other) => panic!("first the state is to be read anew, not {other:?}"),
            Err(_) => {}
        }
    }
    recovers(&store).await;
    release(&store, &lock.token).await.expect("an answer");
    assert!(matches!(watch.next().await, Some(Ok(LockEvent::Ended { .. }))), "an end is told");
}

/// A store that goes through a proxy prepares nothing and sets nothing, and does all the same.
#[tokio::test(flavor = "multi_thread")]
async fn through_a_proxy_everything_works() {
    let name = uuid::Uuid::new_v4().to_string();
    let url = PostgresServer::shared().url();
    fresh().await;
    let store = named(&url, &name).through_proxy().build().expect("a URL");
    let checked = named(&url, &name).through_proxy().check_only().build().expect("a URL");
    let mut watch = store.watch(&LockQuery::at_or_below(key("/")));
    assert_eq!(watch.next().await.expect("endless").expect("an event"), LockEvent::Synced);
    let lock = exclusive("/a");
    granted(&store, &lock).await;
    assert_eq!(watch.next().await.expect("endless").expect("an event"), LockEvent::Synced, "read the state anew");
    for store in [&store, &checked] {
        assert!(put(store, "/a/x").await.expect("an answer").refused().is_some(), "it is locked");
        let whole = write(store, &[Target::unlink(key("/"))], None).await.expect("an answer");
        assert!(whole.refused().is_some(), "it is locked below");
        let own = write(store, &[Target::unlink(key("/a"))], Some(lock.token)).await.expect("an answer");
        assert!(own.admitted().is_some(), "its own token answers");
    }
    let running = put(&store, "/b").await.expect("an answer").admitted().expect("nothing is locked");
    assert!(matches!(acquire_now(&store, "/b").await, Acquired::Busy { .. }), "a write is in flight");
    drop(running);
    assert!(matches!(acquire_now(&store, "/b").await, Acquired::Granted(_)), "it has ended");
    release(&store, &lock.token).await.expect("an answer");
    assert!(put(&checked, "/a/x").await.expect("an answer").admitted().is_some(), "it was released");
}

async fn cut_off() -> (Arc<dyn LockStore>, Arc<dyn LockStore>, Cable) {
    let server = PostgresServer::shared();
    fresh().await;
    let cable = Cable::to(server.port()).await;
    let name = uuid::Uuid::new_v4().to_string();
    let node = |url: &str| named(url, &name).build().expect("a URL");
    (Arc::new(node(&cable.through(&server.url(), server.port()))), Arc::new(node(&server.url())), cable)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_while_a_node_is_cut_off_is_found_when_it_is_back() {
    let (far, near, cable) = cut_off().await;
    an_end_during_an_outage_is_found(far, near, &cable).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_wake_up_is_lost_while_a_node_comes_and_goes() {
    let (far, near, cable) = cut_off().await;
    no_wake_up_is_lost_over_outages(far, near, &cable).await;
}
