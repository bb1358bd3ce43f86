//! What neither a good server nor a bad line says: answers of somebody else's, old ones, and ones without an end.

use std::{
    convert::Infallible,
    future::Future,
    pin::{Pin, pin},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame};
use http_body_util::Full;
use tokio::time::{Instant, sleep};
use tower::{Layer, ServiceExt, service_fn};
use tower_lock::{
    client::{LockTerms, ReadRefusals, Refused, RemoteError, RemoteLocks},
    lock::LostCause,
    locks::Lifetimes,
};

use crate::{
    guard::{MINUTE, a_minute, settle},
    kit::{Server, TICK, answer, problem},
    line::Fate,
    support::SECOND,
};

const JSON: &[(&str, &str)] = &[("content-type", "application/json")];

/// A body that is always ready to say nothing.
struct Nothing;

impl Body for Nothing {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(Some(Ok(Frame::data(Bytes::new()))))
    }
}

fn nothing(status: u16) -> Response<Nothing> {
    let mut response = Response::new(Nothing);
    *response.status_mut() = status.try_into().unwrap();
    response.headers_mut().insert("content-type", "application/json".parse().unwrap());
    response
}

/// Polls it so often, and no more than that where a single poll never comes back.
fn comes_back(begin: impl FnOnce() + Send + 'static) {
    let (done, is_done) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        begin();
        done.send(()).expect("somebody waits");
    });
    is_done.recv_timeout(Duration::from_secs(30)).expect("it comes back");
}

#[test]
fn a_body_that_goes_on_saying_nothing_takes_neither_the_thread_nor_for_ever() {
    // A poll of it comes to its end, so that timers and others have their turn.
    comes_back(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let inside = service_fn(async |()| Ok::<_, Infallible>(nothing(423)));
            let layer = ReadRefusals::new().within(Duration::from_millis(20));
            let response = layer.layer(inside).oneshot(()).await.unwrap();
            assert!(response.extensions().get::<Refused>().is_none());
            let inside = service_fn(async |_: Request<Full<Bytes>>| Ok::<_, Infallible>(nothing(201)));
            let locks = RemoteLocks::new(inside, "/locks").unwrap().answer_within(Duration::from_millis(20)).attempts(1);
            let error = locks.acquire(a_minute("/docs/7")).await.unwrap_err();
            assert!(matches!(error, RemoteError::TimedOut(_)), "{error:?}");
        });
    });
}

#[tokio::test(start_paused = true)]
async fn a_life_that_is_another_things_is_not_believed() {
    // A proxy that renews its own session, a registry that hands out tokens: both say `expires_in`.
    let others = [
        r#"{"access_token": "x", "token_type": "bearer", "expires_in": 86400}"#,
        r#"{"lock_id": "f81d4fae-7dec-11d0-a765-00a0c91e6bf6", "expires_in": 86400}"#,
        r#"{"token": "x", "expires_in": 86400}"#,
        r#"{"locks": [{"expires_in": 86400}]}"#,
    ];
    for body in others {
        let server = Server::new();
        let line = server.line("ann");
        let guard = line.locks().acquire(a_minute("/docs/7")).await.unwrap();
        line.all(Fate::Answered(answer(200, JSON, body)));
        let begun = Instant::now();
        guard.lost().await;
        assert!(begun.elapsed() <= 61 * SECOND, "{body}: {:?}", begun.elapsed());
    }
    for body in [others[0], others[2], others[3]] {
        let server = Server::new();
        let line = server.line("ann");
        line.all(Fate::Answered(answer(200, JSON, body)));
        let error = line.locks().acquire(a_minute("/docs/7")).await.unwrap_err();
        assert!(matches!(error, RemoteError::Unreadable { .. }), "{body}: {error:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_cache_kept_has_aged() {
    let server = Server::new();
    let line = server.line("ann");
    let guard = line.locks().acquire(a_minute("/docs/7")).await.unwrap();
    let id = guard.lock().lock_id.unwrap();
    let fields = [("content-type", "application/json"), ("age", "45")];
    line.all(Fate::Answered(answer(200, &fields, &format!(r#"{{"lock_id": "{id}", "expires_in": 60}}"#))));
    sleep(23 * SECOND).await;
    let left = guard.deadline().unwrap() - Instant::now();
    assert!(left <= 40 * SECOND, "{left:?}: what was said 45 s ago lives for 15 s from then on");
}

#[tokio::test(start_paused = true)]
async fn a_break_is_heard_of_in_the_last_term_too() {
    let mut lifetimes = Lifetimes::default();
    lifetimes.user.total = Some(50 * MINUTE);
    let server = Server::with(|builder| builder.lifetimes(lifetimes));
    let line = server.line("ann");
    let guard = line.locks().acquire(LockTerms::exclusive("/docs/7").lifetime(45 * MINUTE)).await.unwrap();
    sleep(12 * MINUTE).await;
    assert!(guard.is_final() && !guard.is_lost());
    _ = server.locks.break_lock(guard.lock().lock_id.unwrap(), "because", Duration::ZERO).await.unwrap();
    let bob = server.line("bob").locks().acquire(a_minute("/docs/7")).await.unwrap();
    let begun = Instant::now();
    let loss = guard.lost().await;
    assert!(begun.elapsed() <= 6 * MINUTE, "bob had it for {:?}", begun.elapsed());
    assert_eq!((loss.cause, loss.reason.as_deref()), (LostCause::Broken, Some("because")));
    bob.checkpoint().unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_may_have_been_granted_is_undone_whatever_the_answer() {
    for status in [500, 502, 504, 408, 520] {
        let server = Server::new();
        let line = server.line("ann");
        // Done, and then something on the way fails.
        line.next([Fate::AnswerReplaced(answer(status, &[], ""))]);
        let error = line.locks().attempts(1).acquire(a_minute("/docs/7")).await.unwrap_err();
        assert_eq!(error.refused().map(|refused| refused.status().as_u16()), Some(status));
        settle().await;
        assert!(!server.is_locked("/docs/7").await, "{status}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_of_the_repeat_undoes_what_was_granted_before() {
    let server = Server::new();
    let line = server.line("ann");
    // Somebody on the way has a word of their own.
    for refusal in [problem(423, r#"{"code": "locked"}"#), problem(429, r#"{"code": "lock_quota"}"#), answer(401, &[], "")] {
        line.next([Fate::AnswerCut, Fate::Answered(refusal.clone())]);
        let error = line.locks().acquire(a_minute("/docs/7")).await.unwrap_err();
        assert_eq!(error.refused().map(Refused::status), Some(refusal.status()));
        settle().await;
        assert!(!server.is_locked("/docs/7").await, "{refusal:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_repeat_at_once_is_not_believed_to_have_all_its_life_before_it() {
    let server = Server::new();
    let line = server.line("ann");
    line.next([Fate::AnswerHangs]);
    let terms = LockTerms::exclusive("/docs/7").lifetime(20 * SECOND);
    // Half a second of it is over, and what the server says is rounded up.
    let guard = line.locks().answer_within(SECOND / 2).acquire(terms).await.unwrap();
    line.all(Fate::Cut);
    while !guard.is_lost() {
        assert!(server.is_locked("/docs/7").await, "the guard holds what is gone");
        sleep(TICK).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_lost_lock_is_no_reason_to_ask_again_where_nothing_was_asked_before() {
    let server = Server::new();
    let line = server.line("ann");
    line.next([Fate::Answered(problem(412, r#"{"code": "lock_lost"}"#))]);
    let error = line.locks().acquire(a_minute("/docs/7")).await.unwrap_err();
    assert_eq!(error.refused().map(|refused| refused.status().as_u16()), Some(412));
    settle().await;
    assert_eq!(line.sent().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_refresh_that_hangs_does_not_take_all_the_time_that_is_left() {
    let server = Server::new();
    let line = server.line("ann");
    let guard = line.locks().acquire(LockTerms::exclusive("/docs/7").lifetime(9 * SECOND)).await.unwrap();
    line.next([Fate::Late(MINUTE)]);
    sleep(20 * SECOND).await;
    guard.checkpoint().expect("it was asked again in time");
    assert!(server.is_locked("/docs/7").await);
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_goes_a_little_faster_than_ours_is_allowed_for() {
    let server = Server::new();
    let line = server.line("ann");
    let guard = line.locks().acquire(LockTerms::exclusive("/docs/7").lifetime(1_000 * SECOND)).await.unwrap();
    let left = guard.deadline().unwrap() - Instant::now();
    assert!((998 * SECOND..=999 * SECOND).contains(&left), "{left:?}");
    sleep(400 * SECOND).await;
    let left = guard.deadline().unwrap() - Instant::now();
    assert!(left <= 999 * SECOND, "{left:?}");
}

#[tokio::test(start_paused = true)]
async fn nobody_is_told_that_a_lock_is_ended_by_whoever_else_answers() {
    let server = Server::new();
    let line = server.line("ann");
    let portal = || Fate::Answered(answer(200, &[("content-type", "text/html")], "<html>Please log in</html>"));
    let guard = line.locks().acquire(a_minute("/docs/7")).await.unwrap();
    line.next([portal(), portal()]);
    guard.release().await.unwrap();
    assert!(!server.is_locked("/docs/7").await, "it was asked until the server answered");
    let guard = line.locks().acquire(a_minute("/docs/7")).await.unwrap();
    line.next((0..4).map(|_| portal()));
    let error = guard.release().await.unwrap_err();
    assert!(matches!(error, RemoteError::Unreadable { .. }), "{error:?}");
    settle().await;
    assert!(!server.is_locked("/docs/7").await);
}

#[tokio::test(start_paused = true)]
async fn what_is_ended_behind_is_tried_again_after_any_trouble() {
    for trouble in
        [answer(429, &[("retry-after", "1")], ""), answer(500, &[], ""), answer(401, &[], ""), answer(302, &[], "")]
    {
        let server = Server::new();
        let line = server.line("ann");
        let guard = line.locks().acquire(a_minute("/docs/7")).await.unwrap();
        line.next([Fate::Answered(trouble.clone()), Fate::Answered(trouble.clone())]);
        drop(guard);
        sleep(5 * SECOND).await;
        assert!(!server.is_locked("/docs/7").await, "{trouble:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_acquire_dropped_at_any_moment_leaves_no_lock() {
    for fates in [
        vec![Fate::Passes],
        vec![Fate::Slow(6 * SECOND)],
        vec![Fate::AnswerCut, Fate::AnswerHangs, Fate::Slow(9 * SECOND), Fate::AnswerCut],
        vec![Fate::Late(3 * SECOND), Fate::AnswerHangs],
        vec![Fate::Answered(answer(200, &[], "<html>")), Fate::AnswerCut, Fate::Slow(4 * SECOND)],
    ] {
        for polls in 0..14 {
            let server = Server::new();
            let line = server.line("ann");
            line.next(fates.clone());
            let locks = line.locks().answer_within(5 * SECOND);
            let dropped = {
                let mut acquire = pin!(locks.acquire(a_minute("/docs/7").and_on("/docs/8").lifetime(10 * SECOND)));
                let mut left = polls;
                tokio::time::timeout(
                    100 * SECOND,
                    std::future::poll_fn(|cx| {
                        if left == 0 {
                            return Poll::Ready(true);
                        }
                        left -= 1;
                        match acquire.as_mut().poll(cx) {
                            Poll::Ready(guard) => {
                                drop(guard);
                                Poll::Ready(false)
                            }
                            Poll::Pending => Poll::Pending,
                        }
                    }),
                )
                .await
            };
            line.passes();
            sleep(6 * SECOND).await;
            let is_locked = server.is_locked("/docs/7").await || server.is_locked("/docs/8").await;
            assert!(!is_locked, "{fates:?} dropped after {polls} polls: {dropped:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_that_is_printed_has_a_secret_in_it() {
    let server = Server::new();
    let line = server.line("ann");
    let locks = line.locks_at("http://ann:hunter2@host:81/locks?key=s3cret");
    let guard = locks.acquire(a_minute("/docs/7").client_ref("run 7")).await.unwrap();
    let token = guard.token().urn().to_string();
    let bare = token.strip_prefix("urn:uuid:").unwrap();
    line.next([Fate::Answered(problem(412, r#"{"code": "lock_lost", "lost": [{"cause": "broken", "by": "bob"}]}"#))]);
    let mut request = Request::put("http://host/docs/7").body(()).unwrap();
    guard.authorize(&mut request);
    let mut printed = format!("{locks:?} {guard:?} {:?} {request:?} {:?}", guard.lock(), guard.token());
    printed += &format!("{:?} {}", guard.lost().await, guard.lost().await);
    line.all(Fate::Cut);
    let error = guard.release().await.unwrap_err();
    printed += &format!("{error:?} {error}");
    assert!(printed.contains("host:81/locks"), "{printed}");
    for secret in [bare, "hunter2", "s3cret"] {
        assert!(!printed.to_lowercase().contains(secret), "{secret} in {printed}");
    }
}
