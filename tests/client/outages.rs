//! What a guard holds while the line to its server is bad: never longer than the server does, and as long as it can.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use tower_lock::{
    Caller, Principal,
    client::{LockTerms, Loss, RefusedCode, RemoteError},
    lock::LostCause,
    locks::Lifetimes,
};

use crate::{
    guard::{MINUTE, a_minute, settle},
    kit::{Server, TICK, answer, problem},
    line::{Fate, Line},
    support::SECOND,
};

#[tokio::test(start_paused = true)]
async fn an_acquire_whose_answer_was_lost_is_repeated_with_the_same_token() {
    let truncated = Fate::Answered(answer(201, &[("content-type", "application/json")], r#"{"lock_id": "#));
    for lost in [Fate::AnswerCut, Fate::AnswerHangs, Fate::Cut, Fate::Answered(answer(502, &[], "")), truncated] {
        let server = Server::new();
        let line = server.line("ann");
        line.next([lost.clone(), lost.clone()]);
        let guard = line
            .locks()
            .answer_within(SECOND)
            .acquire(a_minute("/docs/7"))
            .await
            .unwrap_or_else(|error| panic!("{lost:?}: {error}"));
        let tokens: Vec<_> = line.sent().iter().map(|sent| sent.json()["token"].clone()).collect();
        assert_eq!(tokens.len(), 3);
        assert!(tokens.iter().all(|token| *token == guard.token().urn().to_string()), "{lost:?}: {tokens:?}");
        assert_eq!(server.locks.stats().granted, 1, "{lost:?}");
        sleep(10 * MINUTE).await;
        guard.checkpoint().unwrap();
        guard.release().await.unwrap();
        assert!(!server.is_locked("/docs/7").await);
    }
}

#[tokio::test(start_paused = true)]
async fn an_acquire_of_which_nothing_is_ever_heard_is_undone() {
    for (lost, transport) in [(Fate::AnswerCut, true), (Fate::AnswerHangs, false)] {
        let server = Server::new();
        let line = server.line("ann");
        line.next(vec![lost; 4]);
        let error = line.locks().answer_within(SECOND).acquire(a_minute("/docs/7").and_on("/docs/8")).await.unwrap_err();
        assert_eq!(matches!(error, RemoteError::Transport(_)), transport, "{error:?}");
        settle().await;
        assert!(!server.is_locked("/docs/7").await && !server.is_locked("/docs/8").await);
    }
    // So is one of which nothing can be made.
    let server = Server::new();
    let line = server.line("ann");
    line.next([Fate::AnswerCut, Fate::AnswerCut, Fate::AnswerCut, Fate::Answered(answer(201, &[], r#"{"lock_id": "x"}"#))]);
    let error = line.locks().acquire(a_minute("/docs/7")).await.unwrap_err();
    assert!(matches!(error, RemoteError::Unreadable { status, .. } if status == 201), "{error:?}");
    settle().await;
    assert!(!server.is_locked("/docs/7").await);
}

#[tokio::test(start_paused = true)]
async fn an_acquire_that_nobody_waits_for_any_more_is_undone() {
    for fate in [Fate::AnswerHangs, Fate::Late(SECOND), Fate::Slow(MINUTE)] {
        let server = Server::new();
        let line = server.line("ann");
        line.next([fate.clone()]);
        let locks = line.locks();
        assert!(tokio::time::timeout(SECOND / 2, locks.acquire(a_minute("/docs/7"))).await.is_err());
        sleep(5 * SECOND).await;
        assert!(!server.is_locked("/docs/7").await, "{fate:?}: also where the undo came first");
        assert_eq!(line.count("DELETE"), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_repeat_that_comes_too_late_begins_anew() {
    // Granted, lost on the way, and over before we come back.
    let server = Server::new();
    let line = server.line("ann");
    line.next([Fate::AnswerHangs]);
    let terms = LockTerms::exclusive("/docs/7").lifetime(5 * SECOND);
    let guard = line.locks().answer_within(20 * SECOND).acquire(terms).await.unwrap();
    guard.checkpoint().unwrap();
    assert!(server.is_locked("/docs/7").await);
    let tokens: Vec<_> = line.sent().iter().map(|sent| sent.json()["token"].clone()).collect();
    assert!(tokens[0] == tokens[1] && tokens[1] != tokens[2], "{tokens:?}");
}

#[tokio::test(start_paused = true)]
async fn a_repeat_is_not_believed_to_live_longer_than_it_does() {
    let server = Server::new();
    let line = server.line("ann");
    line.next([Fate::AnswerHangs]);
    let guard = line
        .locks()
        .answer_within(15 * SECOND)
        .acquire(LockTerms::exclusive("/docs/7").lifetime(20 * SECOND))
        .await
        .unwrap();
    line.all(Fate::Cut);
    never_longer_than(&server, &guard, "/docs/7").await;
}

/// Until the guard says that it has lost its lock, the server has it.
async fn never_longer_than(server: &Server, guard: &tower_lock::client::RemoteGuard, path: &'static str) {
    while !guard.is_lost() {
        assert!(server.is_locked(path).await, "the guard holds what is gone");
        sleep(TICK).await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_outage_that_is_shorter_than_what_is_left_is_survived() {
    for fate in [
        Fate::Cut,
        Fate::AnswerCut,
        Fate::AnswerHangs,
        Fate::Answered(answer(503, &[("retry-after", "3600")], "")),
        Fate::Answered(answer(404, &[("content-type", "text/html")], "no such host here")),
        Fate::Answered(answer(401, &[], "")),
        Fate::Answered(problem(403, r#"{"code": "forbidden"}"#)),
        Fate::Answered(answer(200, &[], "<html>Please log in</html>")),
        Fate::Answered(answer(200, &[("content-type", "application/json")], r#"{"ok": true}"#)),
        Fate::Answered(answer(302, &[("location", "/login")], "")),
    ] {
        let server = Server::new();
        let line = server.line("ann");
        let guard = line.locks().acquire(a_minute("/docs/7")).await.unwrap();
        for _ in 0..3 {
            sleep(7 * SECOND).await;
            line.all(fate.clone());
            sleep(35 * SECOND).await;
            line.all(Fate::Passes);
            sleep(30 * SECOND).await;
            guard.checkpoint().unwrap_or_else(|loss| panic!("{fate:?}: {loss}"));
            assert!(server.is_locked("/docs/7").await);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_outage_that_is_longer_ends_it_when_the_server_does_and_not_later() {
    for fate in [Fate::Cut, Fate::AnswerHangs, Fate::Late(3 * MINUTE), Fate::Answered(answer(502, &[], ""))] {
        let server = Server::new();
        let line = server.line("ann");
        let guard = line.locks().acquire(a_minute("/docs/7")).await.unwrap();
        sleep(3 * MINUTE).await;
        line.all(fate.clone());
        let (lost, cut) = (tokio::spawn(guard.lost()), Instant::now());
        if matches!(fate, Fate::AnswerHangs) {
            // The server hears of it and goes on holding it; we do not know that.
            guard.lost().await;
        } else {
            never_longer_than(&server, &guard, "/docs/7").await;
        }
        let after = cut.elapsed();
        assert!((38 * SECOND..=61 * SECOND).contains(&after), "{fate:?}: {after:?}");
        assert_eq!(lost.await.unwrap(), guard.checkpoint().unwrap_err());
        let loss = guard.checkpoint().unwrap_err();
        assert_eq!((loss.cause, loss.resource.as_deref()), (LostCause::Expired, Some("/docs/7")));
        assert_eq!(loss.to_string(), "the lock on /docs/7 has expired");
        // What is lost stays lost, though somebody answers again.
        line.all(Fate::Passes);
        sleep(MINUTE).await;
        assert_eq!(guard.checkpoint(), Err(loss));
    }
}

#[tokio::test(start_paused = true)]
async fn a_lock_is_asked_for_more_often_towards_its_end_but_not_without_pause() {
    let server = Server::new();
    let line = server.line("ann");
    let guard = line.locks().acquire(a_minute("/docs/7")).await.unwrap();
    line.all(Fate::Cut);
    guard.lost().await;
    let tries = line.count("PATCH");
    assert!((10..=80).contains(&tries), "{tries}");
}

#[tokio::test(start_paused = true)]
async fn a_slow_answer_counts_from_when_it_was_asked_for() {
    let server = Server::new();
    let line = server.line("ann");
    line.next([Fate::Passes, Fate::Slow(8 * SECOND)]);
    let guard = line.locks().acquire(a_minute("/docs/7")).await.unwrap();
    sleep(29 * SECOND).await;
    line.all(Fate::Cut);
    let left = guard.deadline().unwrap() - Instant::now();
    assert!(left <= 51 * SECOND, "{left:?}: it was asked for 9 s ago");
    never_longer_than(&server, &guard, "/docs/7").await;
}

#[tokio::test(start_paused = true)]
async fn a_lifetime_that_is_no_whole_second_is_not_overdrawn() {
    for millis in [1_100, 2_500, 10_001, 10_999] {
        let mut lifetimes = Lifetimes::default();
        lifetimes.user.default = Some(Duration::from_millis(millis));
        let server = Server::with(|builder| builder.lifetimes(lifetimes));
        let line = server.line("ann");
        let guard = line.locks().acquire(LockTerms::exclusive("/docs/7")).await.unwrap();
        sleep(5 * SECOND).await;
        guard.checkpoint().unwrap_or_else(|loss| panic!("{millis}: {loss}"));
        line.all(Fate::Cut);
        never_longer_than(&server, &guard, "/docs/7").await;
    }
}

#[tokio::test(start_paused = true)]
async fn however_the_line_goes_nobody_holds_what_is_gone() {
    let mut random = 0x5EED_u64;
    let mut below = move |limit: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % limit
    };
    let (mut lost, mut survived) = (0, 0);
    for round in 0..30 {
        let server = Server::new();
        let line = server.line("ann");
        let lifetime = Duration::from_secs(2 + below(20));
        let terms = LockTerms::exclusive("/docs/7").lifetime(lifetime);
        let Ok(guard) = line.locks().answer_within(5 * SECOND).acquire(terms).await else { panic!("{round}: it is free") };
        for _ in 0..24 {
            line.all(match below(11) {
                0 => Fate::Cut,
                1 => Fate::AnswerCut,
                2 => Fate::AnswerHangs,
                3 => Fate::Slow(Duration::from_millis(below(6_000))),
                4 => Fate::Late(Duration::from_millis(below(20_000))),
                5 => Fate::Answered(answer(503, &[], "")),
                _ => Fate::Passes,
            });
            let until = Instant::now() + Duration::from_millis(below(4_000));
            while Instant::now() < until && !guard.is_lost() {
                assert!(server.is_locked("/docs/7").await, "round {round}: the guard holds what is gone");
                sleep(TICK).await;
            }
        }
        if guard.is_lost() {
            lost += 1;
        } else {
            survived += 1;
        }
        line.all(Fate::Passes);
        drop(guard);
        // Also what was late has come by then.
        sleep(25 * SECOND).await;
        assert!(!server.is_locked("/docs/7").await, "round {round}");
    }
    assert!(lost > 5 && survived > 5, "{lost} were lost, {survived} survived: both are to be tried");
}

async fn broken(server: &Server, guard: &tower_lock::client::RemoteGuard, grace: Duration) {
    let admin = Caller::application(Some(Principal::new("admin")));
    let id = guard.lock().lock_id.unwrap();
    _ = server.locks.break_for(&admin, id.into(), "maintenance", grace).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_break_is_heard_of_at_the_next_refresh_with_who_and_why() {
    let server = Server::new();
    let line = server.line("ann");
    let guard = line.locks().acquire(a_minute("/docs/7")).await.unwrap();
    broken(&server, &guard, Duration::ZERO).await;
    let begun = Instant::now();
    let loss = guard.lost().await;
    assert!(begun.elapsed() <= 21 * SECOND, "{:?}", begun.elapsed());
    assert_eq!(loss.cause, LostCause::Broken);
    assert_eq!((loss.by.as_deref(), loss.reason.as_deref()), (Some("admin"), Some("maintenance")));
    assert!(loss.to_string().starts_with("the lock on /docs/7 was broken by admin (maintenance) at "), "{loss}");
    assert_eq!(loss.lock_id, guard.lock().lock_id);
    assert_eq!(line.count("PATCH"), 1, "it is not asked for again");
}

#[tokio::test(start_paused = true)]
async fn a_break_with_grace_is_told_before_it_is_a_loss() {
    let server = Server::new();
    let line = server.line("ann");
    let guard = line.locks().acquire(LockTerms::exclusive("/docs/7").lifetime(10 * SECOND)).await.unwrap();
    broken(&server, &guard, 30 * SECOND).await;
    let begun = Instant::now();
    sleep(4 * SECOND).await;
    let why: Loss = guard.breaking().expect("it was told");
    assert_eq!(
        (why.cause, why.by.as_deref(), why.reason.as_deref()),
        (LostCause::Broken, Some("admin"), Some("maintenance"))
    );
    assert!(!guard.is_lost() && guard.is_final());
    never_longer_than(&server, &guard, "/docs/7").await;
    assert!(begun.elapsed() > 5 * SECOND, "{:?}: it could be used until then", begun.elapsed());
    let loss = guard.lost().await;
    assert_eq!((loss.cause, loss.by.as_deref()), (LostCause::Broken, Some("admin")));

    // A second break leaves less.
    let guard = line.locks().acquire(a_minute("/docs/8")).await.unwrap();
    broken(&server, &guard, 50 * SECOND).await;
    sleep(25 * SECOND).await;
    assert!(guard.breaking().is_some() && !guard.is_lost());
    broken(&server, &guard, Duration::ZERO).await;
    let begun = Instant::now();
    guard.lost().await;
    assert!(begun.elapsed() < 15 * SECOND, "{:?}", begun.elapsed());

    // Where nobody can be asked how long it lasts, it is over.
    let guard = line.locks().acquire(a_minute("/docs/9")).await.unwrap();
    broken(&server, &guard, 50 * SECOND).await;
    line.next([Fate::Passes, Fate::Cut]);
    sleep(21 * SECOND).await;
    assert!(guard.is_lost() && server.is_locked("/docs/9").await);
}

#[tokio::test(start_paused = true)]
async fn what_the_server_says_is_gone_is_lost_at_once() {
    let lost = r#"{"code": "lock_lost", "lost": [{"cause": "resource_gone"}]}"#;
    for (gone, cause) in [
        (problem(412, lost), LostCause::ResourceGone),
        (problem(412, r#"{"code": "lock_lost"}"#), LostCause::Unknown),
        (answer(412, &[], ""), LostCause::Unknown),
        (answer(410, &[], ""), LostCause::Unknown),
        (problem(404, r#"{"code": "no_such_lock"}"#), LostCause::Unknown),
        (problem(404, r#"{"code": "never_heard_of_it"}"#), LostCause::Unknown),
    ] {
        let server = Server::new();
        let line = server.line("ann");
        let guard = line.locks().acquire(a_minute("/docs/7")).await.unwrap();
        line.next([Fate::Answered(gone.clone())]);
        let loss = guard.lost().await;
        assert_eq!(loss.cause, cause, "{gone:?}");
        assert_eq!(loss.lock_id, guard.lock().lock_id, "what is known is told");
        sleep(5 * MINUTE).await;
        assert_eq!(line.count("PATCH"), 1, "{gone:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_end_by_anybody_is_told_by_its_cause() {
    let server = Server::new();
    let line = server.line("ann");
    let guard = line.locks().acquire(a_minute("/docs/7")).await.unwrap();
    server.locks.release(guard.token()).await.unwrap();
    assert_eq!(guard.lost().await.cause, LostCause::Released);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_makes_its_own_tokens_is_believed() {
    let server = Server::new();
    let line = server.line("ann");
    let theirs = "urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6";
    line.next([Fate::Answered(answer(201, &[], &format!(r#"{{"token": "{theirs}", "expires_in": 60, "x": [7]}}"#)))]);
    line.all(Fate::Answered(answer(204, &[], "")));
    let guard = line.locks().acquire(a_minute("/docs/7")).await.unwrap();
    assert_eq!(guard.token().urn().to_string(), theirs);
    guard.release().await.unwrap();
    let end = line.sent().pop().unwrap();
    assert_eq!(
        (end.method.as_str(), end.headers["lock-token"].to_str().unwrap()),
        ("DELETE", format!("<{theirs}>").as_str())
    );
}

#[tokio::test(start_paused = true)]
async fn absurd_lives_are_reckoned_with() {
    const ID: &str = "f81d4fae-7dec-11d0-a765-00a0c91e6bf6";
    let server = Server::new();
    for (left, held) in [
        ("18446744073709551615", true),
        ("9223372036854775807", true),
        ("1e300", true),
        ("null", true),
        ("0", false),
        ("1", false),
    ] {
        let line: Line = server.line("ann");
        line.all(Fate::Answered(answer(201, &[], &format!(r#"{{"lock_id": "{ID}", "expires_in": {left}}}"#))));
        match line.locks().acquire(LockTerms::exclusive("/docs/7")).await {
            Ok(guard) => {
                sleep(SECOND).await;
                assert_eq!(!guard.is_lost(), held, "{left}");
            }
            Err(error) => panic!("{left}: {error}"),
        }
    }
    for left in ["-1", "\"60\"", "[]", "{}", "true"] {
        let line = server.line("ann");
        line.all(Fate::Answered(answer(201, &[], &format!(r#"{{"lock_id": "{ID}", "expires_in": {left}}}"#))));
        let error = line.locks().acquire(a_minute("/docs/7")).await.unwrap_err();
        assert!(matches!(error, RemoteError::Unreadable { .. }), "{left}: {error:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_down_is_asked_again_before_the_acquire_fails() {
    let server = Server::new();
    let line = server.line("ann");
    let down = || Fate::Answered(problem(503, r#"{"code": "store_unavailable", "retry_after": 2}"#));
    line.next([down(), down()]);
    let begun = Instant::now();
    let guard = line.locks().acquire(a_minute("/docs/7")).await.unwrap();
    assert!((4..=5).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
    guard.release().await.unwrap();
    line.next((0..4).map(|_| down()));
    let error = line.locks().acquire(a_minute("/docs/7")).await.unwrap_err();
    assert_eq!(error.refused().map(tower_lock::client::Refused::code), Some(&RefusedCode::StoreUnavailable));
}
