//! GET with `Accept: text/event-stream`: what becomes of locks, as server-sent events (HTML standard, section 9.2).

use std::{
    convert::Infallible,
    fmt::Write,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_core::Stream;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use http_body::{Body, Frame};
use serde::Serialize;

use super::{
    EndpointBody,
    call::Call,
    inspect::{Inspection, no_such_lock},
    reply,
};
use crate::{
    lock::{Principal, ResourceKey, Timestamp},
    locks::{LockNews, LockView, News, Refusal, RefusalCode},
    respond::ResponseBody,
    store::{Clock, ClockSleep, StoreError, StoreErrorKind},
};

/// After how many milliseconds a client is to connect again.
const RETRY: u64 = 2_000;

/// Opens a stream, once the state is known.
pub(super) async fn open(call: &Call) -> Result<Response<EndpointBody>, Refusal> {
    let caller = call.caller()?;
    let mut news = match call.lock_id() {
        Some(id) => call.locks.watch_lock_for(&caller, id)?,
        None => call.locks.watch_for(&caller, &call.resource(&caller)?)?,
    };
    let limit = call.locks.limits().answer_within;
    let first = tokio::time::timeout(limit, news.next()).await.map_err(|_| {
        let error = StoreError::new(StoreErrorKind::TimedOut, "looking for locks");
        call.locks.store_failed(error)
    })?;
    let first = match first {
        Some(News::Snapshot(locks)) if locks.is_empty() && news.resource().is_none() => return Err(no_such_lock()),
        Some(News::Unavailable(refusal)) => return Err(refusal),
        Some(first) => first,
        None => return Err(no_such_lock()),
    };
    let mut frame = format!("retry: {RETRY}\n");
    if is_resumed(&call.parts.headers, &news) {
        // Nothing has changed since: there is nothing to tell.
        frame.push('\n');
    } else {
        frame.push_str(&text(&first, &news));
    }
    let body = EventBody::new(news, frame, call.locks.clock().clone(), call.locks.limits().heartbeat);
    let mut response = reply::unstored(Response::new(ResponseBody::streamed(body)));
    *response.status_mut() = StatusCode::OK;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    // Some proxies collect an answer before they pass it on, unless they are told.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(response)
}

/// Whether the state is the one that the client was told last.
fn is_resumed(headers: &HeaderMap, news: &LockNews) -> bool {
    headers.get("last-event-id").is_some_and(|id| id.as_bytes() == news.tag().as_bytes())
}

/// One event, as it is sent. JSON has no line breaks of its own, so each field is one line.
fn text(news: &News, all: &LockNews) -> String {
    #[derive(Serialize)]
    struct Told<'a> {
        #[serde(skip_serializing_if = "Option::is_none")]
        resource: Option<&'a str>,
        /// Whether there is still a lock, this one or another.
        locked: bool,
        lock: &'a LockView,
        #[serde(skip_serializing_if = "Option::is_none")]
        by: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        reason: Option<&'a str>,
    }

    #[derive(Serialize)]
    struct Failed<'a> {
        code: RefusalCode,
        #[serde(skip_serializing_if = "Option::is_none")]
        resource: Option<&'a str>,
    }

    let resource = all.resource().map(ResourceKey::path);
    let told = |lock, by: Option<&Principal>, reason: Option<&str>| {
        let locked = !all.locks().is_empty();
        json(&Told { resource, locked, lock, by: by.map(Principal::as_str), reason })
    };
    let data = match news {
        News::Snapshot(locks) => json(&Inspection { resource, locked: !locks.is_empty(), locks }),
        News::Locked(lock) | News::Refreshed(lock) => told(lock, None, None),
        News::Breaking { lock, by, reason } | News::Ended { lock, by, reason, .. } => {
            told(lock, by.as_ref(), reason.as_deref())
        }
        News::Unavailable(refusal) => {
            // Without an id: the client keeps that of the last state that it was told.
            return format!("event: {}\ndata: {}\n\n", news.as_str(), json(&Failed { code: refusal.code(), resource }));
        }
    };
    let mut text = String::with_capacity(data.len() + 64);
    write!(text, "event: {}\nid: {}\ndata: {data}\n\n", news.as_str(), all.tag())
        .expect("a `String` takes all that is written");
    text
}

fn json(data: &impl Serialize) -> String {
    // Strings, numbers and words: nothing in it can fail to be written.
    serde_json::to_string(data).expect("an event is plain data")
}

/// The body of a stream. An event is written when the server asks for a frame, so that nothing piles up for a client that
/// does not read; what it misses meanwhile it is told as a state.
struct EventBody {
    news: LockNews,
    /// What is sent first.
    first: Option<Bytes>,
    clock: Clock,
    heartbeat: Duration,
    /// When something was sent last.
    sent: Timestamp,
    beat: Option<ClockSleep>,
    over: bool,
}

impl EventBody {
    fn new(news: LockNews, first: String, clock: Clock, heartbeat: Duration) -> Self {
        Self { news, first: Some(first.into()), sent: clock.now(), clock, heartbeat, beat: None, over: false }
    }
}

impl Body for EventBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = &mut *self;
        if let Some(first) = this.first.take() {
            return Poll::Ready(Some(Ok(Frame::data(first))));
        }
        let frame = match Pin::new(&mut this.news).poll_next(cx) {
            Poll::Ready(None) => {
                this.over = true;
                return Poll::Ready(None);
            }
            Poll::Ready(Some(news)) => Bytes::from(text(&news, &this.news)),
            Poll::Pending if this.heartbeat.is_zero() => return Poll::Pending,
            Poll::Pending => {
                let beat = this.beat.get_or_insert_with(|| this.clock.sleep_until(this.sent.after(this.heartbeat)));
                std::task::ready!(Pin::new(beat).poll(cx));
                Bytes::from_static(b":\n\n")
            }
        };
        (this.sent, this.beat) = (this.clock.now(), None);
        Poll::Ready(Some(Ok(Frame::data(frame))))
    }

    fn is_end_stream(&self) -> bool {
        self.over
    }
}
