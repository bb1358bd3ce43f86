//! `RemoteGuard`: it acquires, keeps alive, and ends what it holds.

use std::time::Duration;

use http::Request;
use tokio::time::{Instant, sleep};
use tower::{Service, ServiceExt};
use tower_lock::{
    Access, Depth, LockKind, LockScope, Principal, ResourceKey,
    client::{LockTerms, RefusedCode, RemoteError, RemoteGuard, RemoteLocks},
    lock::LostCause,
    locks::Lifetimes,
};

use crate::{
    kit::{Server, answer},
    line::Fate,
    support::{SECOND, Text, request, with},
};

pub(crate) const MINUTE: Duration = Duration::from_secs(60);

pub(crate) fn a_minute(path: &str) -> LockTerms {
    LockTerms::exclusive(path).lifetime(MINUTE)
}

/// Lets what goes on in the background come to its end.
pub(crate) async fn settle() {
    sleep(2 * SECOND).await;
}

fn refused(error: &RemoteError) -> (u16, &RefusedCode) {
    let refused = error.refused().unwrap_or_else(|| panic!("a refusal, not {error:?}"));
    (refused.status().as_u16(), refused.code())
}

#[tokio::test(start_paused = true)]
async fn a_lock_is_kept_alive_as_long_as_its_guard_lives_and_ends_with_it() {
    let server = Server::new();
    let line = server.line("ann");
    let guard = line.locks().acquire(a_minute("/docs/7").reason("export").client_ref("run 7")).await.unwrap();
    sleep(30 * MINUTE).await;
    guard.checkpoint().expect("held");
    assert!(!guard.is_lost() && !guard.is_final() && guard.breaking().is_none());
    let [lock] = &server.locks.covering(&ResourceKey::from_canonical("/docs/7")).await.unwrap()[..] else { panic!("one") };
    assert_eq!(
        (lock.reason(), lock.client_ref(), lock.principal()),
        (Some("export"), Some("run 7"), Some(&Principal::new("ann")))
    );
    assert_eq!(Some(lock.id()), guard.lock().lock_id);
    assert!((88..=92).contains(&line.count("PATCH")), "thrice a minute, not {}", line.count("PATCH"));
    drop(guard);
    settle().await;
    assert!(!server.is_locked("/docs/7").await);
    let sent = line.sent().len();
    sleep(10 * MINUTE).await;
    assert_eq!(line.sent().len(), sent, "nothing more is heard of it");
}

#[tokio::test(start_paused = true)]
async fn locks_taken_at_one_moment_are_not_refreshed_at_one_moment() {
    let server = Server::new();
    let locks = RemoteLocks::new(server.endpoint("ann"), "/locks").unwrap();
    let mut guards = Vec::new();
    for at in 0..100 {
        guards.push(locks.acquire(a_minute(&format!("/docs/{at}"))).await.unwrap());
    }
    let begun = Instant::now();
    let refreshed = |at: Duration| {
        let guards = &guards;
        async move {
            tokio::time::sleep_until(begun + at).await;
            guards.iter().filter(|guard| guard.deadline().unwrap() > begun + MINUTE + SECOND).count()
        }
    };
    assert_eq!(refreshed(Duration::from_millis(17_900)).await, 0);
    for (at, expected) in [(19, 10..=45), (20, 30..=70), (21, 55..=90)] {
        let count = refreshed(at * SECOND).await;
        assert!(expected.contains(&count), "{count} of 100 after {at} s");
    }
    assert_eq!(refreshed(Duration::from_millis(22_100)).await, 100);
}

#[tokio::test(start_paused = true)]
async fn what_is_held_by_another_is_refused_with_all_that_is_known() {
    let server = Server::new();
    let _bob = server.line("bob").locks().acquire(a_minute("/docs")).await.unwrap();
    let line = server.line("ann");
    let error = line.locks().acquire(a_minute("/docs/7")).await.unwrap_err();
    assert_eq!(refused(&error), (423, &RefusedCode::Locked));
    assert_eq!(error.refused().unwrap().locks()[0].resource.as_deref(), Some("/docs"));
    assert_eq!(error.refused().unwrap().free_in(), Some(MINUTE));
    assert!(error.to_string().starts_with("/docs/7 is locked through /docs until "), "{error}");
    settle().await;
    assert_eq!(line.sent().len(), 1, "nothing was granted, so nothing is undone");
}

#[tokio::test(start_paused = true)]
async fn two_guards_of_one_principal_are_two_locks() {
    let server = Server::new();
    let locks = server.line("ann").locks();
    let one = locks.acquire(a_minute("/docs/1")).await.unwrap();
    let two = locks.acquire(a_minute("/docs/2")).await.unwrap();
    let error = locks.acquire(a_minute("/docs/1")).await.unwrap_err();
    assert_eq!(refused(&error), (423, &RefusedCode::Locked));
    assert!(error.refused().unwrap().locks()[0].mine, "and it says whose it is");
    assert_ne!(one.token(), two.token());
    one.release().await.unwrap();
    assert!(!server.is_locked("/docs/1").await && server.is_locked("/docs/2").await);
    sleep(10 * MINUTE).await;
    two.checkpoint().unwrap();
    // Shared ones stand beside each other.
    let shared = |path: &str| LockTerms::shared(path).depth(Depth::Zero);
    let (three, four) = (locks.acquire(shared("/docs/3")).await.unwrap(), locks.acquire(shared("/docs/3")).await.unwrap());
    assert_eq!((three.lock().scope, four.lock().depth), (Some(LockScope::Shared), Some(Depth::Zero)));
}

#[tokio::test(start_paused = true)]
async fn several_are_held_all_or_none() {
    let server = Server::new();
    let line = server.line("ann");
    let both = || a_minute("/a b").and_on("/c");
    let guard = line.locks().acquire(both()).await.unwrap();
    assert_eq!((guard.locks().len(), guard.tokens().len()), (2, 2));
    let roots: Vec<_> = guard.locks().map(|lock| lock.resource.clone().unwrap()).collect();
    assert_eq!(roots, ["/a b", "/c"]);
    sleep(10 * MINUTE).await;
    guard.checkpoint().unwrap();
    guard.release().await.unwrap();
    assert!(!server.is_locked("/a b").await && !server.is_locked("/c").await);

    let other = line.locks().acquire(a_minute("/c")).await.unwrap();
    assert_eq!(refused(&line.locks().acquire(both()).await.unwrap_err()), (423, &RefusedCode::Locked));
    assert!(!server.is_locked("/a b").await, "none");
    other.release().await.unwrap();

    let guard = line.locks().acquire(both()).await.unwrap();
    _ = server.locks.break_lock(guard.locks().nth(1).unwrap().lock_id.unwrap(), "because", Duration::ZERO).await.unwrap();
    let loss = guard.lost().await;
    assert_eq!((loss.resource.as_deref(), loss.cause), (Some("/c"), LostCause::Broken));
    drop(guard);
    settle().await;
    assert!(!server.is_locked("/a b").await, "the other one ends with the guard");
}

#[tokio::test(start_paused = true)]
async fn a_resource_is_what_its_path_names_wherever_the_endpoint_is() {
    let server = Server::new();
    for (mount, url) in [
        ("/locks", "http://host/locks"),
        ("/locks", "http://host/locks/"),
        ("/locks", "/locks"),
        ("/locks", "http://host/locks?tenant=a"),
        ("/api/v1/locks", "https://host:8443/api/v1/locks"),
        ("/", "http://host"),
        ("/", "http://host/?"),
    ] {
        let line = crate::line::Line::to(server.endpoint_at(mount, "ann"));
        for (path, root) in [
            ("/docs/7", "/docs/7"),
            ("/docs/a%20b%2520%C3%BC", "/docs/a b%2520ü"),
            ("/a?b=c&resource=/x#d+e", "/a?b=c&resource=/x#d+e"),
            ("/", "/"),
            ("//", "/"),
            ("/locks", "/locks"),
        ] {
            let terms = a_minute(path).kind(LockKind::User);
            let result = line.locks_at(url).acquire(terms).await;
            if root == "/" {
                // Nobody locks everything, unless the authorizer allows it; but that is what was asked.
                assert_eq!(refused(&result.unwrap_err()), (403, &RefusedCode::Forbidden), "{url} {path}");
                continue;
            }
            let guard = result.unwrap_or_else(|error| panic!("{url} {path}: {error}"));
            if !path.contains('%') {
                assert_eq!(guard.lock().resource.as_deref(), Some(root), "{url}");
            }
            sleep(MINUTE).await;
            guard.checkpoint().unwrap_or_else(|loss| panic!("{url} {path}: {loss}"));
            guard.release().await.unwrap_or_else(|error| panic!("{url} {path}: {error}"));
        }
        let several = line.locks_at(url).acquire(a_minute("/x").and_on("/y")).await;
        several.unwrap_or_else(|error| panic!("{url}: {error}")).release().await.unwrap();
        let kept = line.sent().iter().filter(|sent| sent.uri.contains("tenant=a")).count();
        assert_eq!(kept, if url.contains("tenant") { line.sent().len() } else { 0 }, "{url}");
    }
}

#[test]
fn what_is_no_url_is_told_at_once() {
    let service = tower::service_fn(async |_: Request<Text>| Ok::<_, std::convert::Infallible>(answer(204, &[], "")));
    for url in ["", "locks", "host:80", "http://", "*", "http://host/lo cks", "host/locks"] {
        assert!(RemoteLocks::new(service, url).is_err(), "{url}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_write_that_is_authorized_gets_through_and_no_other() {
    let server = Server::new();
    let guard = server.line("ann").locks().acquire(a_minute("/docs/7")).await.unwrap();
    let write = |path: &str| with(request("PUT", path), "x-user", "ann");
    let mut guarded = server.guarded();
    assert_eq!(guarded.ready().await.unwrap().call(write("/docs/7")).await.unwrap().status(), 423);
    let mut own = write("/docs/7");
    guard.authorize(&mut own);
    assert!(own.headers()["if"].is_sensitive());
    assert_eq!(guarded.ready().await.unwrap().call(own.clone()).await.unwrap().status(), 200);
    // One that is conditional already stays so.
    let mut conditional = with(write("/docs/7"), "if", "([\"etag\"])");
    guard.authorize(&mut conditional);
    assert_eq!(conditional.headers()["if"], "([\"etag\"])");
    assert_eq!(guarded.ready().await.unwrap().call(conditional).await.unwrap().status(), 200);
    guard.release().await.unwrap();
    assert_eq!(guarded.ready().await.unwrap().call(own).await.unwrap().status(), 412, "it relied on the lock");

    let guard = server.line("ann").locks().acquire(a_minute("/a").and_on("/b")).await.unwrap();
    for path in ["/a", "/b"] {
        let mut own = write(path);
        guard.authorize(&mut own);
        assert_eq!(guarded.ready().await.unwrap().call(own).await.unwrap().status(), 200, "{path}");
    }
}

#[tokio::test(start_paused = true)]
async fn release_is_idempotent_and_what_it_cannot_do_is_done_behind() {
    let server = Server::new();
    let line = server.line("ann");
    let guard = line.locks().acquire(a_minute("/docs/7")).await.unwrap();
    server.locks.release(guard.token()).await.unwrap();
    guard.release().await.expect("gone is gone");

    // An answer that is lost makes no difference.
    let guard = line.locks().acquire(a_minute("/docs/7")).await.unwrap();
    line.next([Fate::AnswerCut, Fate::Cut]);
    guard.release().await.expect("at the third time");
    assert!(!server.is_locked("/docs/7").await);

    // Nobody is there for a while.
    let guard = line.locks().acquire(a_minute("/docs/7")).await.unwrap();
    line.all(Fate::Cut);
    let error = guard.release().await.unwrap_err();
    assert!(matches!(error, RemoteError::Transport(_)), "{error:?}");
    line.all(Fate::Passes);
    settle().await;
    assert!(!server.is_locked("/docs/7").await, "ended behind");

    // Nobody is there when it is dropped, and for a while after that.
    let guard = line.locks().acquire(a_minute("/docs/7")).await.unwrap();
    line.all(Fate::Cut);
    drop(guard);
    sleep(30 * SECOND).await;
    assert!(server.is_locked("/docs/7").await);
    line.all(Fate::Passes);
    sleep(6 * SECOND).await;
    assert!(!server.is_locked("/docs/7").await, "it was tried until somebody was there");

    // The future is dropped half way.
    let guard = line.locks().acquire(a_minute("/docs/7").and_on("/docs/8")).await.unwrap();
    line.next([Fate::Passes, Fate::AnswerHangs]);
    assert!(tokio::time::timeout(SECOND, guard.release()).await.is_err());
    settle().await;
    assert!(!server.is_locked("/docs/7").await && !server.is_locked("/docs/8").await);

    // What the server will not end is told.
    let guard = line.locks().acquire(a_minute("/docs/7")).await.unwrap();
    line.next([Fate::Answered(answer(401, &[], "who are you?"))]);
    assert_eq!(refused(&guard.release().await.unwrap_err()), (401, &RefusedCode::Unsaid));
}

#[tokio::test(start_paused = true)]
async fn a_lock_that_is_kept_lives_on_without_its_guard() {
    let server = Server::new();
    let line = server.line("ann");
    let guard = line.locks().acquire(a_minute("/docs/7")).await.unwrap();
    let lost = guard.lost();
    let tokens = guard.keep();
    assert_eq!(lost.await.cause, LostCause::Released, "nobody watches it here any more");
    sleep(30 * SECOND).await;
    assert!(server.is_locked("/docs/7").await);
    assert_eq!((line.count("DELETE"), line.count("PATCH")), (0, 0));
    server.locks.release(tokens[0]).await.unwrap().expect("it was there");
}

#[test]
fn a_guard_dropped_outside_of_a_runtime_ends_its_lock_on_its_own() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    let (server, guard) = runtime.block_on(async {
        let server = Server::new();
        let guard = server.line("ann").locks().acquire(a_minute("/docs/7")).await.unwrap();
        (server, guard)
    });
    drop(guard);
    runtime.block_on(async {
        settle().await;
        assert!(!server.is_locked("/docs/7").await);
    });
    let guard = runtime.block_on(async { server.line("ann").locks().acquire(a_minute("/docs/8")).await.unwrap() });
    let lost = guard.lost();
    drop(runtime);
    drop(guard);
    // Nobody is there to end it, and nobody panics.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    assert_eq!(runtime.block_on(lost).cause, LostCause::Released);
}

#[tokio::test(start_paused = true)]
async fn who_waits_is_served_when_the_lock_goes() {
    let server = Server::with(tower_lock::LocksBuilder::allow_waiting);
    for (wait, released) in [(20, 10), (200, 70)] {
        let first = server.line("bob").locks().acquire(a_minute("/docs/7")).await.unwrap();
        let line = server.line("ann");
        let (locks, begun) = (line.locks(), Instant::now());
        let waiter = tokio::spawn(async move { locks.acquire(a_minute("/docs/7").waiting(wait * SECOND)).await });
        sleep(released * SECOND).await;
        first.release().await.unwrap();
        let guard = waiter.await.unwrap().unwrap();
        assert!(begun.elapsed() < (released + 2) * SECOND, "{:?}", begun.elapsed());
        assert_eq!(line.count("PUT"), if wait == 20 { 1 } else { 3 }, "the server waits for 30 s at most");
        guard.release().await.unwrap();
    }
    // In vain.
    let _first = server.line("bob").locks().acquire(a_minute("/docs/7")).await.unwrap();
    let begun = Instant::now();
    let error = server.line("ann").locks().acquire(a_minute("/docs/7").waiting(45 * SECOND)).await.unwrap_err();
    assert_eq!(refused(&error), (423, &RefusedCode::Locked));
    assert!((44..=47).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn where_nobody_may_wait_the_answer_comes_at_once() {
    let server = Server::new();
    let _first = server.line("bob").locks().acquire(a_minute("/docs/7")).await.unwrap();
    let line = server.line("ann");
    let begun = Instant::now();
    let error = line.locks().acquire(a_minute("/docs/7").waiting(MINUTE)).await.unwrap_err();
    assert_eq!(refused(&error), (423, &RefusedCode::Locked));
    assert!(begun.elapsed() < SECOND && line.count("PUT") == 1);
    // Nor is one believed who says that we waited, and did not wait.
    let fields = [("preference-applied", "wait=30"), ("content-type", "application/problem+json")];
    line.all(Fate::Answered(answer(423, &fields, r#"{"code": "locked"}"#)));
    _ = line.locks().acquire(a_minute("/docs/7").waiting(MINUTE)).await.unwrap_err();
    assert!(line.count("PUT") <= 62, "{}", line.count("PUT"));
}

#[tokio::test(start_paused = true)]
async fn what_was_waited_for_longer_than_it_lives_is_held_all_the_same() {
    let server = Server::with(tower_lock::LocksBuilder::allow_waiting);
    let first = server.line("bob").locks().acquire(a_minute("/docs/7")).await.unwrap();
    let line = server.line("ann");
    let locks = line.locks();
    let terms = LockTerms::exclusive("/docs/7").lifetime(5 * SECOND).waiting(25 * SECOND);
    let waiter = tokio::spawn(async move { locks.acquire(terms).await });
    sleep(20 * SECOND).await;
    first.release().await.unwrap();
    let guard = waiter.await.unwrap().unwrap();
    guard.checkpoint().expect("it was refreshed before anybody reckoned");
    assert_eq!(line.count("PATCH"), 1);
    sleep(MINUTE).await;
    guard.checkpoint().expect("and kept alive");
}

#[tokio::test(start_paused = true)]
async fn what_the_server_clamps_is_reckoned_with() {
    let server = Server::new();
    let guard = server.line("ann").locks().acquire(LockTerms::exclusive("/a").lifetime(7_200 * SECOND)).await.unwrap();
    let left = guard.deadline().unwrap() - Instant::now();
    assert!(left < 3_600 * SECOND && left > 3_590 * SECOND, "{left:?}");
    sleep(3_700 * SECOND).await;
    guard.checkpoint().unwrap();
}

#[tokio::test(start_paused = true)]
async fn at_the_end_of_its_total_life_a_lock_is_only_asked_after() {
    let mut lifetimes = Lifetimes::default();
    lifetimes.user.total = Some(100 * SECOND);
    let server = Server::with(|builder| builder.lifetimes(lifetimes));
    let line = server.line("ann");
    let begun = Instant::now();
    let guard = line.locks().acquire(a_minute("/docs/7")).await.unwrap();
    sleep(90 * SECOND).await;
    assert!(guard.is_final() && !guard.is_lost());
    let refreshed = line.count("PATCH");
    let loss = guard.lost().await;
    assert_eq!(loss.cause, LostCause::Expired);
    assert!((98..=100).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
    assert!(line.count("PATCH") <= refreshed + 8, "{} times", line.count("PATCH") - refreshed);
}

#[tokio::test(start_paused = true)]
async fn an_endless_lock_is_looked_after_too() {
    let mut lifetimes = Lifetimes::default();
    lifetimes.user = lifetimes.freeze;
    let server =
        Server::with(|builder| builder.lifetimes(lifetimes).authorizer(|_: &tower_lock::AuthorizeAsk<'_>| Access::Allowed));
    let line = server.line("ann");
    let guard = line.locks().acquire(LockTerms::exclusive("/docs/7").endless()).await.unwrap();
    assert_eq!((guard.deadline(), guard.lock().expires_in), (None, None));
    sleep(60 * MINUTE).await;
    guard.checkpoint().unwrap();
    assert_eq!(line.count("PATCH"), 11, "every five minutes");
    _ = server.locks.break_lock(guard.lock().lock_id.unwrap(), "because", Duration::ZERO).await.unwrap();
    assert_eq!(guard.lost().await.reason.as_deref(), Some("because"));
}

#[tokio::test(start_paused = true)]
async fn somebody_elses_lock_is_broken_in_the_same_step() {
    let server = Server::with(|builder| builder.authorizer(|_: &tower_lock::AuthorizeAsk<'_>| Access::Allowed));
    let bob = server.line("bob").locks().acquire(a_minute("/docs/7")).await.unwrap();
    let terms = a_minute("/docs/7").breaking(bob.lock().lock_id.unwrap(), "it is urgent");
    let ann = server.line("ann").locks().acquire(terms).await.unwrap();
    assert!(ann.lock().generation > bob.lock().generation);
    let loss = bob.lost().await;
    assert_eq!((loss.by.as_deref(), loss.reason.as_deref()), (Some("ann"), Some("it is urgent")), "{loss}");
    drop(bob);
    settle().await;
    ann.checkpoint().unwrap();
    assert!(server.is_locked("/docs/7").await, "what bob ends is not ann's");
}

#[tokio::test(start_paused = true)]
async fn the_service_is_made_ready_for_each_request() {
    let server = Server::new();
    let endpoint = server.endpoint("ann");
    // Never called un-ready, and a clone of it is never ready.
    let probe = crate::support::probe(move |request| endpoint.clone().call(request));
    let guard = RemoteLocks::new(probe, "/locks").unwrap().acquire(a_minute("/docs/7")).await.unwrap();
    sleep(MINUTE).await;
    guard.checkpoint().unwrap();
    guard.release().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_kind_that_the_server_does_not_allow_is_refused() {
    let server = Server::new();
    let error = server.line("ann").locks().acquire(a_minute("/a").kind(LockKind::Freeze)).await.unwrap_err();
    assert_eq!(refused(&error), (403, &RefusedCode::Forbidden));
    let error = server.line("ann").locks().acquire(LockTerms::exclusive("/a").lifetime(Duration::ZERO)).await.unwrap_err();
    assert_eq!(refused(&error), (400, &RefusedCode::BadRequest));
    let error = server.line("ann").locks().acquire(LockTerms::exclusive("a".repeat(70_000))).await.unwrap_err();
    assert!(matches!(error, RemoteError::Unsendable(_)), "{error:?}");
}

#[test]
fn a_guard_can_be_sent_and_shared() {
    static_assertions::assert_impl_all!(RemoteGuard: Send, Sync, Unpin, std::fmt::Debug);
    static_assertions::assert_impl_all!(RemoteLocks: Send, Sync, Clone, std::fmt::Debug);
    static_assertions::assert_impl_all!(RemoteError: Send, Sync, std::error::Error);
}
