//! `RetryLocked`: what is tried again, when, and how often.

use std::{
    collections::VecDeque,
    convert::Infallible,
    sync::{Arc, Mutex},
    time::Duration,
};

use http::{Request, Response};
use tokio::time::Instant;
use tower::{Service, ServiceBuilder, ServiceExt, service_fn};
use tower_lock::{
    LockKind, LockRequest,
    client::{Jitter, LockTerms, ReadRefusals, RemoteLocks, RetryLocked},
};

use crate::{
    kit::{Server, answer, problem},
    support::{SECOND, Text, request},
};

/// Sends a request to somebody who answers these in turn, the last one for ever; the status in the end, and when each
/// try was made.
async fn tries(policy: RetryLocked, answers: impl IntoIterator<Item = Response<Text>>) -> (u16, Vec<Duration>) {
    let answers = Arc::new(Mutex::new(answers.into_iter().collect::<VecDeque<_>>()));
    let times = Arc::new(Mutex::new(Vec::new()));
    let begun = Instant::now();
    let seen = times.clone();
    let service = service_fn(move |_: Request<Text>| {
        seen.lock().unwrap().push(begun.elapsed());
        let mut answers = answers.lock().unwrap();
        let next = if answers.len() > 1 { answers.pop_front().unwrap() } else { answers[0].clone() };
        async move { Ok::<_, Infallible>(next) }
    });
    let client = ServiceBuilder::new().retry(policy).layer(ReadRefusals::new()).service(service);
    let status = client.oneshot(request("POST", "/a")).await.unwrap().status().as_u16();
    let times = times.lock().unwrap().clone();
    (status, times)
}

/// Without jitter.
fn plain() -> RetryLocked {
    RetryLocked::new().jitter(Jitter::fixed(0.0))
}

fn locked_for(seconds: u64) -> Response<Text> {
    problem(423, &format!(r#"{{"code": "locked", "retry_after": {seconds}}}"#))
}

fn done() -> Response<Text> {
    answer(200, &[], "done")
}

fn millis(times: &[Duration]) -> Vec<u128> {
    times.iter().map(Duration::as_millis).collect()
}

#[tokio::test(start_paused = true)]
async fn a_request_is_tried_again_when_the_way_should_be_free() {
    let by_lock = problem(423, r#"{"code": "locked", "locks": [{"expires_in": 3}, {"expires_in": 7}]}"#);
    let writing = problem(409, r#"{"code": "write_in_progress", "retry_after": 1}"#);
    let (status, times) = tries(plain(), [locked_for(20), by_lock, writing, done()]).await;
    assert_eq!((status, millis(&times)), (200, vec![0, 20_000, 27_000, 28_000]));
}

#[tokio::test(start_paused = true)]
async fn another_server_is_believed_by_its_header() {
    for (after, expected) in [
        ("5", Some(5_000)),
        ("Sun, 06 Nov 1994 08:49:47 GMT", Some(10_000)),
        // It was in the past when it was sent: at once, which is not quite at once.
        ("Sun, 06 Nov 1994 08:00:00 GMT", Some(100)),
        ("0", Some(100)),
        ("-5", None),
        ("soon", None),
        ("", None),
    ] {
        let fields = [("retry-after", after), ("date", "Sun, 06 Nov 1994 08:49:37 GMT"), ("content-type", "text/html")];
        let (status, times) = tries(plain(), [answer(423, &fields, "<h1>Locked</h1>"), done()]).await;
        match expected {
            Some(time) => assert_eq!((status, millis(&times)), (200, vec![0, time]), "{after}"),
            None => assert_eq!((status, times.len()), (423, 1), "{after}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_lost_lock_is_never_tried_again() {
    for (status, code) in [(412, "lock_lost"), (423, "lock_lost"), (412, "locked"), (412, "condition_failed")] {
        let lost = problem(status, &format!(r#"{{"code": "{code}", "retry_after": 1, "locks": [{{"expires_in": 1}}]}}"#));
        let (answered, times) = tries(plain().probe_every(SECOND), [lost, done()]).await;
        assert_eq!((answered, times.len()), (status, 1), "{status} {code}");
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_tried_again_of_which_something_may_have_been_done() {
    for (status, code) in [
        (503, "store_unavailable"),
        (503, "store_full"),
        (429, "lock_quota"),
        (428, "lock_required"),
        (409, "proposal_conflict"),
        (409, "some_conflict_of_the_service"),
        (500, "unreadable_answer"),
        (200, "locked"),
    ] {
        let refusal = problem(status, &format!(r#"{{"code": "{code}", "retry_after": 1}}"#));
        let (answered, times) = tries(plain().probe_every(SECOND), [refusal, done()]).await;
        assert_eq!((answered, times.len()), (status, 1), "{status} {code}");
    }
    // A conflict that says nothing of itself.
    let (status, times) = tries(plain(), [answer(409, &[("retry-after", "1")], ""), done()]).await;
    assert_eq!((status, times.len()), (409, 1));
    // An error of the service is handed on.
    let service = service_fn(|_: Request<Text>| async { Err::<Response<Text>, _>("broken pipe") });
    let client = ServiceBuilder::new().retry(plain()).layer(ReadRefusals::new()).service(service);
    assert_eq!(client.oneshot(request("PUT", "/a")).await.unwrap_err(), "broken pipe");
}

#[tokio::test(start_paused = true)]
async fn where_no_end_is_known_nobody_tries_again_unless_told() {
    for refusal in [
        problem(423, r#"{"code": "locked", "locks": [{"expires_in": null}]}"#),
        problem(423, r#"{"code": "locked", "locks": [{"expires_in": 5}, {"expires_in": null}]}"#),
        problem(423, r#"{"code": "locked", "locks": []}"#),
        problem(423, r#"{"code": "frozen", "retry_after": 3}"#),
        answer(423, &[], ""),
    ] {
        let (status, times) = tries(plain(), [refusal.clone(), done()]).await;
        assert_eq!((status, times.len()), (423, 1), "{:?}", refusal.body());
        let (status, times) = tries(plain().probe_every(8 * SECOND), [refusal.clone(), done()]).await;
        assert_eq!((status, millis(&times)), (200, vec![0, 8_000]), "{:?}", refusal.body());
    }
}

#[tokio::test(start_paused = true)]
async fn absurd_times_end_at_the_cap() {
    for body in [
        r#"{"code": "locked", "retry_after": 18446744073709551615}"#,
        r#"{"code": "locked", "retry_after": 99999999999999999999999}"#,
        r#"{"code": "locked", "locks": [{"expires_in": 18446744073709551615}]}"#,
    ] {
        let (status, times) = tries(plain(), [problem(423, body), done()]).await;
        assert_eq!((status, millis(&times)), (200, vec![0, 30_000]), "{body}");
    }
    let far = RetryLocked::new().cap(Duration::MAX).patience(Duration::MAX).jitter(Jitter::fixed(1.0));
    let (status, times) = tries(far, [locked_for(u64::MAX), done()]).await;
    assert_eq!((status, times.len()), (200, 2), "even without a cap nothing overflows");
}

#[tokio::test(start_paused = true)]
async fn a_lock_that_lasts_longer_than_the_cap_is_looked_after_at_the_cap() {
    let policy = plain().cap(10 * SECOND);
    let (status, times) = tries(policy, [locked_for(3_600), locked_for(3_590), done()]).await;
    assert_eq!((status, millis(&times)), (200, vec![0, 10_000, 20_000]));
}

#[tokio::test(start_paused = true)]
async fn tries_and_patience_come_to_an_end() {
    let (status, times) = tries(plain().attempts(3), [locked_for(2)]).await;
    assert_eq!((status, millis(&times)), (423, vec![0, 2_000, 4_000]));
    for most in [0, 1] {
        let (status, times) = tries(plain().attempts(most), [locked_for(2)]).await;
        assert_eq!((status, times.len()), (423, 1), "the first one is always made");
    }
    let (status, times) = tries(plain().attempts(usize::MAX).patience(9 * SECOND), [locked_for(2)]).await;
    assert_eq!((status, millis(&times)), (423, vec![0, 2_000, 4_000, 6_000, 8_000]));
    let begun = Instant::now();
    let (status, _) = tries(plain().patience(SECOND), [locked_for(2)]).await;
    assert_eq!((status, begun.elapsed()), (423, Duration::ZERO), "a pause that leads nowhere is not begun");
}

#[tokio::test(start_paused = true)]
async fn whoever_always_says_at_once_is_asked_ever_less_often() {
    let (_, times) = tries(plain().attempts(9), [locked_for(0)]).await;
    let pauses: Vec<u128> = millis(&times).windows(2).map(|two| two[1] - two[0]).collect();
    assert_eq!(pauses, [100, 200, 400, 800, 1_600, 3_200, 5_000, 5_000]);
}

#[tokio::test(start_paused = true)]
async fn patience_is_that_of_a_request_and_not_of_the_client() {
    let service = service_fn(async |_: Request<Text>| Ok::<_, Infallible>(locked_for(2)));
    let policy = plain().patience(5 * SECOND);
    let mut client = ServiceBuilder::new().retry(policy).layer(ReadRefusals::new()).service(service);
    for _ in 0..3 {
        let begun = Instant::now();
        client.ready().await.unwrap().call(request("PUT", "/a")).await.unwrap();
        assert_eq!(begun.elapsed(), 4 * SECOND);
        tokio::time::sleep(60 * SECOND).await;
    }
}

#[tokio::test(start_paused = true)]
async fn many_who_were_turned_away_together_do_not_come_back_together() {
    for (hint, from, to) in [(20, 20_000, 25_000), (3_600, 22_500, 30_000)] {
        let mut tasks = Vec::new();
        for _ in 0..200 {
            tasks.push(tokio::spawn(tries(RetryLocked::new(), [locked_for(hint), done()])));
        }
        let mut times = Vec::new();
        for task in tasks {
            times.push(task.await.unwrap().1[1].as_millis());
        }
        times.sort_unstable();
        assert!(times[0] >= from && times[199] <= to + 1, "{hint}: {} to {}", times[0], times[199]);
        for slice in 0..5 {
            let (begin, end) = (from + (to - from) * slice / 5, from + (to - from) * (slice + 1) / 5);
            let count = times.iter().filter(|time| (begin..end).contains(time)).count();
            assert!((15..=75).contains(&count), "{hint}: {count} of 200 in the fifth from {begin}");
        }
    }
    let late = RetryLocked::new().jitter(Jitter::fixed(1.0));
    assert_eq!(millis(&tries(late.clone(), [locked_for(20), done()]).await.1), [0, 25_000], "the latest of all");
    assert_eq!(millis(&tries(late, [locked_for(3_600), done()]).await.1), [0, 22_500], "the soonest that the cap allows");
}

#[tokio::test(start_paused = true)]
async fn fifty_writers_all_get_through_once_when_the_lock_goes() {
    for released in [false, true] {
        let server = Server::new();
        let lock = LockRequest::exclusive("/docs").kind(LockKind::Job).lifetime(100 * SECOND);
        let guard = server.locks.acquire(lock).await.unwrap();
        let mut clients = Vec::new();
        for at in 0..50 {
            let client =
                ServiceBuilder::new().retry(RetryLocked::new()).layer(ReadRefusals::new()).service(server.guarded());
            clients.push(tokio::spawn(async move {
                let begun = Instant::now();
                let response = client.oneshot(request("PUT", &format!("/docs/{at}"))).await.unwrap();
                (response.status().as_u16(), begun.elapsed())
            }));
        }
        if released {
            tokio::time::sleep(10 * SECOND).await;
            server.locks.release(guard.token()).await.unwrap();
        }
        for client in clients {
            let (status, took) = client.await.unwrap();
            assert_eq!(status, 200);
            let latest = if released { 31 } else { 121 };
            assert!(took < latest * SECOND, "{took:?}: it is free long ago");
        }
        assert_eq!(server.writes(), 50, "each once");
    }
}

#[tokio::test(start_paused = true)]
async fn fifty_who_take_turns_at_one_lock_all_get_it_and_none_is_starved() {
    let server = Server::new();
    let policy = RetryLocked::new().attempts(usize::MAX).patience(3_600 * SECOND).cap(2 * SECOND);
    let mut clients = Vec::new();
    let held = Arc::new(Mutex::new((0_u32, 0_u32)));
    for _ in 0..50 {
        let client = ServiceBuilder::new().retry(policy.clone()).service(server.endpoint("ann"));
        let locks = RemoteLocks::new(client, "/locks").unwrap().answer_within(3_600 * SECOND);
        let held = held.clone();
        clients.push(tokio::spawn(async move {
            let begun = Instant::now();
            let guard = locks.acquire(LockTerms::exclusive("/docs/7").lifetime(60 * SECOND)).await.unwrap();
            {
                let mut held = held.lock().unwrap();
                assert_eq!(held.0, 0, "one at a time");
                *held = (1, held.1 + 1);
            }
            tokio::time::sleep(SECOND / 2).await;
            held.lock().unwrap().0 = 0;
            guard.checkpoint().unwrap();
            guard.release().await.unwrap();
            begun.elapsed()
        }));
    }
    for client in clients {
        let took = client.await.unwrap();
        assert!(took < 600 * SECOND, "{took:?}: starved");
    }
    assert_eq!(*held.lock().unwrap(), (0, 50));
    assert!(!server.is_locked("/docs/7").await);
}

#[tokio::test(start_paused = true)]
async fn without_reading_refusals_the_header_is_enough() {
    let server = Server::new();
    let lock = LockRequest::exclusive("/docs").kind(LockKind::Job).lifetime(20 * SECOND);
    let _held = server.locks.acquire(lock).await.unwrap();
    let client = ServiceBuilder::new().retry(RetryLocked::new()).service(server.guarded());
    assert_eq!(client.oneshot(request("PUT", "/docs/1")).await.unwrap().status(), 200);
}
