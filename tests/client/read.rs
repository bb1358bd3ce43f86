//! `ReadRefusals`: what a refusal says is read, and nothing of the answer is lost by that.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Response};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use tower::{Layer, ServiceExt, service_fn};
use tower_lock::{
    LockKind, LockRequest, LockScope,
    client::{ReadBody, ReadRefusals, Refused, RefusedCode},
    lock::{Depth, LockState, LostCause, Timestamp},
};

use crate::{
    kit::{Server, answer, problem},
    support::{Answer, bodies::Odd, probe, request},
};

const MINUTE: Duration = Duration::from_secs(60);

async fn through<B: Body>(layer: ReadRefusals, response: Response<B>) -> Response<ReadBody<B>> {
    let mut response = Some(response);
    let service = service_fn(move |()| {
        let response = response.take();
        async move { Ok::<_, Infallible>(response.expect("asked once")) }
    });
    layer.layer(service).oneshot(()).await.unwrap()
}

fn refused<B>(response: &Response<B>) -> Option<&Refused> {
    response.extensions().get()
}

#[tokio::test(start_paused = true)]
async fn who_why_and_until_when_is_read_from_a_real_refusal() {
    let server = Server::new();
    let lock = LockRequest::exclusive("/docs/7").kind(LockKind::Job).principal("ann").reason("nightly export");
    let granted = server.locks.acquire(lock.lifetime(MINUTE).client_ref("run 7")).await.unwrap();
    let client = ReadRefusals::new().layer(server.guarded());
    let response = client.oneshot(request("PUT", "/docs/7/a")).await.unwrap();
    let refused = refused(&response).expect("it was read").clone();
    assert_eq!((refused.status().as_u16(), refused.code()), (423, &RefusedCode::Locked));
    assert_eq!(refused.resource(), Some("/docs/7/a"));
    assert_eq!((refused.retry_after(), refused.free_in()), (Some(MINUTE), Some(MINUTE)));
    assert!(!refused.is_truncated() && refused.lost().is_empty());
    let [lock] = refused.locks() else { panic!("one lock, not {:?}", refused.locks()) };
    assert_eq!(lock.lock_id, Some(granted.lock().id()));
    assert_eq!(lock.resource.as_deref(), Some("/docs/7"));
    assert_eq!((lock.scope, lock.depth), (Some(LockScope::Exclusive), Some(Depth::Infinity)));
    assert_eq!((lock.kind.clone(), lock.state), (Some(LockKind::Job), Some(LockState::Held)));
    assert_eq!((lock.expires_in, lock.in_use, lock.mine), (Some(MINUTE), false, false));
    let whole_seconds = |time: Timestamp| Timestamp::from_micros(time.as_micros() / 1_000_000 * 1_000_000);
    assert_eq!(lock.expires_at, granted.lock().expires_at().map(whole_seconds));
    assert_eq!(lock.created_at, Some(whole_seconds(granted.lock().created_at())));
    assert_eq!(lock.generation, Some(granted.lock().generation()));
    // The body is as it came.
    let answer = Answer::of(response).await;
    assert_eq!(answer.json()["code"], "locked");
    assert_eq!(refused.to_string(), answer.json()["detail"]);
}

#[tokio::test]
async fn what_is_missing_unknown_or_of_another_type_is_passed_over() {
    let body = r#"{"code": "quarantined", "status": "high", "new": [1], "retry_after": "soon", "detail": 7,
        "locks": [{"lock_id": 5, "scope": "half", "depth": "7", "kind": "review", "state": "asleep", "expires_in": -1,
                   "created_at": "yesterday", "generation": -3, "mine": "yes", "owner": {"id": 4, "name": "Ann", "x": 1}},
                  {"expires_in": 1e300, "owner": {}}, 7, null],
        "lost": [{"cause": "eaten", "by": "bob", "at": "2026-11-21T04:00:00Z"}, []]}"#;
    let response = through(ReadRefusals::new(), problem(423, body)).await;
    let refused = refused(&response).unwrap();
    assert_eq!(*refused.code(), RefusedCode::Other("quarantined".into()));
    assert_eq!((refused.retry_after(), refused.detail()), (None, None));
    let [first, second] = refused.locks() else { panic!("{:?}", refused.locks()) };
    assert_eq!((first.lock_id, first.scope, first.depth, first.state), (None, None, None, None));
    assert_eq!((first.expires_in, first.created_at, first.generation, first.mine), (None, None, None, false));
    assert_eq!(first.kind, Some(LockKind::Other("review".into())));
    assert_eq!(first.owner.as_ref().and_then(|owner| owner.display_name()), Some("Ann"));
    assert_eq!((second.expires_in, &second.owner), (Some(Duration::from_secs(u64::MAX)), &None));
    // One of the two says no end, so none is known.
    assert_eq!(refused.free_in(), None);
    let [lost] = refused.lost() else { panic!("{:?}", refused.lost()) };
    assert_eq!((lost.cause, lost.by.as_deref()), (LostCause::Unknown, Some("bob")));
    assert_eq!(lost.at.unwrap().to_string(), "2026-11-21T04:00:00Z");
}

#[tokio::test]
async fn only_refusals_in_json_are_read() {
    let json = r#"{"code": "locked"}"#;
    for (status, media, read) in [
        (423, "application/problem+json", true),
        (423, "Application/Problem+JSON; charset=utf-8", true),
        (423, "application/json", true),
        (409, "application/problem+json", true),
        (412, "application/problem+json", true),
        (428, "application/problem+json", true),
        (429, "application/problem+json", true),
        (503, "application/problem+json", true),
        (423, "text/html", false),
        (423, "text/json+json", false),
        (423, "", false),
        (200, "application/json", false),
        (404, "application/problem+json", false),
        (500, "application/problem+json", false),
    ] {
        let response = through(ReadRefusals::new(), answer(status, &[("content-type", media)], json)).await;
        assert_eq!(refused(&response).is_some(), read, "{status} {media}");
        assert_eq!(Answer::of(response).await.text(), json);
    }
    let encoded = [("content-type", "application/json"), ("content-encoding", "gzip")];
    let response = through(ReadRefusals::new(), answer(423, &encoded, json)).await;
    assert!(refused(&response).is_none(), "encoded");
}

#[tokio::test]
async fn a_body_that_is_no_refusal_is_handed_on_as_it_came() {
    for body in
        ["", "locked", "[]", "7", "null", r#"{"code": 423}"#, r#"{"code": ""}"#, r#"{"status": 423}"#, r#"{"code": "lock"#]
    {
        let response = through(ReadRefusals::new(), problem(423, body)).await;
        assert!(refused(&response).is_none(), "{body}");
        assert_eq!(Answer::of(response).await.text(), body);
    }
    let deep = format!(r#"{{"code": "locked", "x": {}{}}}"#, "[".repeat(10_000), "]".repeat(10_000));
    let response = through(ReadRefusals::new(), problem(423, &deep)).await;
    assert!(refused(&response).is_none(), "too deep to be read");
    assert_eq!(Answer::of(response).await.text(), deep);
}

#[tokio::test]
async fn a_body_past_the_limit_is_not_read_and_not_cut() {
    let body = format!(r#"{{"code": "locked", "detail": "{}"}}"#, "x".repeat(1_000));
    for (limit, read) in [(body.len(), true), (body.len() - 1, false), (0, false)] {
        for declared in [None, Some(body.len()), Some(0), Some(1)] {
            let mut response = problem(423, &body);
            if let Some(length) = declared {
                response.headers_mut().insert("content-length", length.into());
            }
            let response = through(ReadRefusals::new().limit(limit), response).await;
            assert_eq!(refused(&response).is_some(), read, "{limit}, {declared:?}");
            assert_eq!(response.body().size_hint().exact(), Some(body.len() as u64));
            assert_eq!(Answer::of(response).await.text(), body);
        }
    }
    // One that says it is too long is not even looked at.
    let mut response = problem(423, r#"{"code": "locked"}"#);
    response.headers_mut().insert("content-length", "999999999999999999999".parse().unwrap());
    assert!(refused(&through(ReadRefusals::new().limit(100), response).await).is_some(), "a length nobody can read is none");
    let mut response = problem(423, r#"{"code": "locked"}"#);
    response.headers_mut().insert("content-length", 101.into());
    assert!(refused(&through(ReadRefusals::new().limit(100), response).await).is_none());
}

#[tokio::test]
async fn frames_and_trailers_come_through_read_or_not() {
    let frames = [r#"{"code": "#, r#""locked", "#, r#""retry_after": 5}"#];
    for (status, limit) in [(423, 1_000), (423, 20), (200, 1_000)] {
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", "7".parse().unwrap());
        let mut response = Response::new(Odd::new(frames, Some(trailers)));
        *response.status_mut() = status.try_into().unwrap();
        response.headers_mut().insert("content-type", "application/json".parse().unwrap());
        let response = through(ReadRefusals::new().limit(limit), response).await;
        assert_eq!(refused(&response).is_some(), (status, limit) == (423, 1_000));
        let length: usize = frames.iter().map(|frame| frame.len()).sum();
        assert_eq!(response.body().size_hint().exact(), Some(length as u64), "{status} {limit}");
        assert!(!response.body().is_end_stream());
        let read = response.into_body().collect().await.unwrap();
        assert_eq!(read.trailers().unwrap()["x-sum"], "7", "{status} {limit}");
        assert_eq!(read.to_bytes(), frames.concat());
    }
}

/// A body that says something and then breaks off, or says no more.
struct Broken {
    text: Option<&'static str>,
    hangs: bool,
}

impl Body for Broken {
    type Data = Bytes;
    type Error = &'static str;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, &'static str>>> {
        match self.text.take() {
            Some(text) => Poll::Ready(Some(Ok(Frame::data(text.into())))),
            None if self.hangs => Poll::Pending,
            None => Poll::Ready(Some(Err("broken"))),
        }
    }

    fn size_hint(&self) -> SizeHint {
        // Which is not true.
        SizeHint::with_exact(18)
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_breaks_off_still_does_so_after_what_was_read() {
    let broken = |hangs| {
        let mut response = Response::new(Broken { text: Some(r#"{"code": "locked"}"#), hangs });
        *response.status_mut() = http::StatusCode::LOCKED;
        response.headers_mut().insert("content-type", "application/json".parse().unwrap());
        response
    };
    let response = through(ReadRefusals::new(), broken(false)).await;
    assert!(refused(&response).is_none(), "half a document is none");
    assert!(!response.body().is_end_stream());
    let mut body = response.into_body();
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), r#"{"code": "locked"}"#);
    assert_eq!(body.frame().await.unwrap().unwrap_err(), "broken");
    assert!(body.frame().await.is_none() && body.is_end_stream());

    let begun = tokio::time::Instant::now();
    let response = through(ReadRefusals::new(), broken(true)).await;
    assert_eq!(begun.elapsed().as_secs(), 5, "nobody waits for ever");
    assert!(refused(&response).is_none());
    let mut body = response.into_body();
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), r#"{"code": "locked"}"#);
    assert!(tokio::time::timeout(MINUTE, body.frame()).await.is_err(), "the rest is still awaited");
}

#[tokio::test]
async fn readiness_and_errors_are_those_of_the_service() {
    let inside = probe(|()| async { Err::<Response<crate::support::Text>, _>(crate::support::ProbeError("gone")) });
    let counts = inside.counts();
    let error = ReadRefusals::new().layer(inside).oneshot(()).await.unwrap_err();
    assert_eq!((error.0, counts.calls(), counts.clones()), ("gone", 1, 0));
}

#[tokio::test]
async fn a_head_alone_says_enough_to_be_no_refusal() {
    // As a HEAD is answered: the fields of a document, and no document.
    let mut response = problem(423, "");
    response.headers_mut().insert("content-length", 18.into());
    let response = through(ReadRefusals::new(), response).await;
    assert!(refused(&response).is_none());
}
