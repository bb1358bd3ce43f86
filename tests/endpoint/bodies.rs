//! Bodies as they come: in bits, too long, broken off, or not at all.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use bytes::{Buf, Bytes};
use http::Request;
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, Empty, Full, Limited, StreamBody};
use tower::{Service, ServiceExt};

use crate::kit::{Answer, Site};

/// A body that counts how often it is polled, and whether it has been dropped.
struct Watched {
    frames: Vec<Result<Frame<Bytes>, &'static str>>,
    polls: Arc<AtomicUsize>,
}

impl Body for Watched {
    type Data = Bytes;
    type Error = &'static str;

    fn poll_frame(mut self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.polls.fetch_add(1, Ordering::Relaxed);
        if self.frames.is_empty() { Poll::Ready(None) } else { Poll::Ready(Some(self.frames.remove(0))) }
    }
}

fn watched(frames: &[Result<&'static [u8], &'static str>]) -> (Watched, Arc<AtomicUsize>) {
    let polls = Arc::new(AtomicUsize::new(0));
    let frames = frames.iter().map(|frame| frame.map(|data| Frame::data(Bytes::from_static(data)))).collect();
    (Watched { frames, polls: Arc::clone(&polls) }, polls)
}

async fn send<B>(site: &Site, request: Request<B>) -> Answer
where
    B: Body,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    Answer::of(site.endpoint.clone().oneshot(request).await.unwrap()).await
}

fn put<B>(body: B) -> Request<B> {
    Request::put("/a").header("x-user", "ann").header("content-type", "application/json").body(body).unwrap()
}

#[tokio::test]
async fn a_body_may_come_in_bits_and_end_in_trailers() {
    let site = Site::new();
    let (mut body, polls) = watched(&[Ok(b"{\"reason\":"), Ok(b""), Ok(b" \"x\"}")]);
    body.frames.push(Ok(Frame::trailers(http::HeaderMap::new())));
    let answer = send(&site, put(body)).await.expect(201, "");
    assert_eq!(answer.json()["reason"], "x");
    assert_eq!(polls.load(Ordering::Relaxed), 5);
}

#[tokio::test]
async fn any_kind_of_body_does() {
    /// Data that is no `Bytes`, and in two pieces.
    type Chain = bytes::buf::Chain<&'static [u8], &'static [u8]>;
    let site = Site::new();
    send(&site, put(Empty::<Bytes>::new())).await.expect(201, "");
    send(&site, put(Full::new(Bytes::from_static(b"{}")))).await.expect(423, "locked");
    send(&site, put(axum::body::Body::from("{}"))).await.expect(423, "locked");
    send(&site, put(Full::new(Bytes::from_static(b"{}")).boxed_unsync())).await.expect(423, "locked");
    let frame = Ok::<Frame<Chain>, Infallible>(Frame::data((&b"{\"scope\""[..]).chain(&b": 7}"[..])));
    send(&site, put(StreamBody::new(futures_util::stream::iter([frame])))).await.expect(400, "bad_request");
}

#[tokio::test]
async fn a_body_past_the_limit_is_read_no_further() {
    const MUCH: &[u8] = &[b' '; 40 * 1024];
    let site = Site::new();
    let (body, polls) = watched(&[Ok(MUCH), Ok(MUCH), Ok(MUCH), Ok(MUCH)]);
    send(&site, put(body)).await.expect(413, "content_too_large");
    assert_eq!(polls.load(Ordering::Relaxed), 2);

    let (body, polls) = watched(&[Ok(MUCH)]);
    let mut announced = put(body);
    announced.headers_mut().insert("content-length", 65_537.into());
    send(&site, announced).await.expect(413, "content_too_large");
    assert_eq!(polls.load(Ordering::Relaxed), 0);
    assert!(site.state().await.is_empty());
}

#[tokio::test]
async fn what_the_head_refuses_is_not_read() {
    let site = Site::new();
    for (method, path, media, status) in [
        ("PUT", "/a", "text/plain", 415),
        ("PUT", "/", "application/json", 405),
        ("PUT", "/?resource=x", "application/json", 400),
        ("GET", "/a", "application/json", 200),
        ("OPTIONS", "/a", "application/json", 204),
    ] {
        let (body, polls) = watched(&[Ok(b"{}")]);
        let request = Request::builder().method(method).uri(path).header("x-user", "ann").header("content-type", media);
        let answer = send(&site, request.body(body).unwrap()).await;
        assert_eq!((answer.status.as_u16(), polls.load(Ordering::Relaxed)), (status, 0), "{method} {path}");
    }
}

#[tokio::test]
async fn a_body_that_breaks_off_changes_nothing() {
    let site = Site::new();
    let (body, _) = watched(&[Ok(b"{}"), Err("reset")]);
    send(&site, put(body)).await.expect(400, "bad_request");
    // What a limit outside cut off was too long, not broken.
    let limited = Limited::new(Full::new(Bytes::from_static(b"{\"reason\": \"long\"}")), 4);
    send(&site, put(Unsized(limited))).await.expect(413, "content_too_large");
    assert!(site.state().await.is_empty());
}

/// A body that does not say how long it is.
struct Unsized<B>(B);

impl<B: Body + Unpin> Body for Unsized<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        Pin::new(&mut self.0).poll_frame(cx)
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

#[tokio::test]
async fn an_empty_body_of_unknown_length_is_no_body() {
    let site = Site::new();
    let (body, _) = watched(&[]);
    let request = Request::put("/a").header("x-user", "ann").body(body).unwrap();
    send(&site, request).await.expect(201, "");
}

#[tokio::test]
async fn an_acquire_that_nobody_waits_for_any_more_is_not_made() {
    let site = Site::new();
    let never = futures_util::stream::pending::<Result<Frame<Bytes>, Infallible>>();
    let mut future = Box::pin(site.endpoint.clone().call(put(StreamBody::new(never))));
    assert!(futures_util::poll!(&mut future).is_pending());
    drop(future);
    assert!(site.state().await.is_empty());
}

#[test]
fn futures_are_sent_when_bodies_are() {
    fn is_send<T: Send>(_: T) {}
    fn is_service<T: Clone + Send + Sync + 'static>(_: &T) {}
    let site = Site::new();
    let mut endpoint = site.endpoint.clone();
    is_service(&endpoint);
    is_send(endpoint.call(put(Full::new(Bytes::new()))));
    // A body that stays on its thread, and borrows.
    let text = String::from("{}");
    let local = StreamBody::new(futures_util::stream::iter([Ok::<_, Infallible>(Frame::data(text.as_bytes()))]));
    drop(endpoint.call(put(local)));
}
