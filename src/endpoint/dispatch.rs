//! Which verb does what.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};

use super::{
    EndpointBody, acquire, actions,
    body::{Media, unread},
    call::Call,
    check, inspect, manage, reply,
    route::{Target, Verb},
    stream,
};
use crate::respond::prefers_events;

/// Does what is asked.
pub(super) async fn run(call: Call, body: Bytes, media: Media) -> Response<EndpointBody> {
    let verb = match (call.verb, media) {
        (Verb::AcquireAll, Media::Json) => check::verb(&body),
        (verb, _) => Ok(verb),
    };
    let streams = call.verb == Verb::Inspect && prefers_events(&call.parts.headers);
    let waits = matches!(verb, Ok(Verb::Inspect | Verb::Acquire | Verb::AcquireAll)) && !streams;
    let applied = call.locks.patience(&call.parts.headers).filter(|_| waits).map(|patience| patience.applied());
    let done = match verb {
        Err(refusal) => Err(refusal),
        Ok(Verb::Describe) => Ok(describe(&call)),
        // A body without a type could be anything, and could come from anywhere.
        Ok(verb) if media == Media::Unsaid && !body.is_empty() => Err(unread(verb)),
        Ok(Verb::Inspect) if streams => stream::open(&call).await,
        Ok(Verb::Inspect) => inspect::inspect(&call).await,
        Ok(Verb::List) => inspect::list(&call).await,
        Ok(Verb::Acquire) => acquire::one(&call, &body).await,
        Ok(Verb::AcquireAll) => acquire::several(&call, &body).await,
        Ok(Verb::Check) => check::check(&call, &body).await,
        Ok(Verb::Refresh) => manage::refresh(&call, &body).await,
        Ok(Verb::Release) => manage::release(&call, &body).await,
        Ok(Verb::Act) => actions::act(&call, &body, media).await,
    };
    let mut response = done.unwrap_or_else(|refusal| reply::refused(&call.locks, refusal, &call.parts));
    if let Some(applied) = applied {
        response.headers_mut().insert("preference-applied", applied);
    }
    reply::finish(response, &call.parts.method)
}

fn describe(call: &Call) -> Response<EndpointBody> {
    let mut response = reply::empty(StatusCode::NO_CONTENT);
    let headers = response.headers_mut();
    headers.insert(header::ALLOW, HeaderValue::from_static(Verb::allowed(&call.target)));
    let json = HeaderValue::from_static("application/json");
    if call.target == Target::List {
        headers.insert("accept-post", json);
    } else {
        // RFC 5789 section 3.1.
        headers.insert("accept-patch", json);
        headers.insert("accept-post", HeaderValue::from_static("application/json, text/plain"));
    }
    response
}
