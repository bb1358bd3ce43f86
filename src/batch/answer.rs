//! What is answered to a bulk write: its refusal as a whole, or the service's answer with refusals in it.

use std::future::poll_fn;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use http_body::{Body, Frame};
use serde::Serialize;

use super::{BatchCodec, Verdicts};
use crate::{
    lock::LockId,
    locks::{Locks, Refusal, RefusalCode},
    respond::{Format, Problem, ResponseBody, in_one, render_as, written},
};

/// A problem, with what became of the items.
#[derive(Serialize)]
struct ItemsProblem<'p> {
    #[serde(flatten)]
    problem: Problem<'p>,
    items: Vec<ItemProblem<'p>>,
}

/// An item that is refused.
#[derive(Serialize)]
struct ItemProblem<'p> {
    index: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'p str>,
    status: u16,
    code: RefusalCode,
    #[serde(skip_serializing_if = "Option::is_none")]
    resource: Option<&'p str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after: Option<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    lock_ids: Vec<LockId>,
}

/// The refusal of a request as a whole, because of the items that are refused.
pub(super) fn refused_whole<B>(
    codec: &impl BatchCodec,
    verdicts: &Verdicts,
    refusal: &Refusal,
    headers: &HeaderMap,
) -> Response<ResponseBody<B>> {
    match codec.refuse(verdicts, refusal) {
        Some(mut response) => {
            response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
            response.extensions_mut().insert(refusal.clone());
            response.map(ResponseBody::own)
        }
        None => with_items(verdicts, refusal, headers),
    }
}

/// 500: what was refused and what was done cannot be told in one answer.
pub(super) fn unreadable<B>(
    locks: &Locks,
    verdicts: &Verdicts,
    why: &str,
    headers: &HeaderMap,
) -> Response<ResponseBody<B>> {
    let (refused, others) = (verdicts.refused().count(), verdicts.admitted().count());
    let detail = match (refused, others) {
        (0, _) => format!("What was done cannot be told: {why}."),
        (_, 0) => format!("All items were refused, and nothing was done, but that cannot be told item by item: {why}."),
        _ => format!("{refused} items were refused. The others may be done, but that cannot be told: {why}."),
    };
    let mut refusal = locks.signed(Refusal::new(RefusalCode::UnreadableAnswer, detail));
    locks.answered_with(None, &mut refusal);
    with_items(verdicts, &refusal, headers)
}

fn with_items<B>(verdicts: &Verdicts, refusal: &Refusal, headers: &HeaderMap) -> Response<ResponseBody<B>> {
    let format = Format::wanted(headers);
    match format {
        Format::Problem | Format::Json => {
            let items = verdicts.refused().map(|(index, refusal)| ItemProblem {
                index,
                name: verdicts.name(index),
                status: refusal.status().as_u16(),
                code: refusal.code(),
                resource: refusal.resource(),
                retry_after: refusal.retry_after(),
                lock_ids: refusal.locks().iter().map(|lock| lock.lock_id).collect(),
            });
            let problem = ItemsProblem { problem: Problem::of(refusal), items: items.collect() };
            // Strings, numbers and words: nothing in it can fail to be written.
            let body = serde_json::to_vec(&problem).expect("a problem is plain data");
            written(refusal, format, body.into())
        }
        format => render_as(refusal, format),
    }
}

/// Whether an answer of this status says that something was done, or sends the client to where it finds that, and has no body
/// of its own to write refusals into. An error says that nothing was done; so do 307 and 308, after which all of it is sent
/// again.
pub(super) fn leaves_no_room(status: StatusCode) -> bool {
    match status {
        StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT | StatusCode::PARTIAL_CONTENT => true,
        StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT => false,
        status => status.is_informational() || status.is_redirection(),
    }
}

/// An answer of the service, of which all was to be read.
pub(super) enum Read<B> {
    /// All of it, with the trailers.
    Whole(Response<Bytes>, Option<HeaderMap>),
    /// Not all of it, for this reason. It can still be passed on as it is.
    Unread(Response<ResponseBody<B>>, &'static str),
    /// It broke off: why it cannot be passed on.
    Broken(&'static str),
}

/// Reads at most `limit` bytes.
pub(super) async fn read<B: Body>(response: Response<B>, limit: usize) -> Read<B> {
    const TOO_LONG: &str = "the service's answer is too long";
    let (head, body) = response.into_parts();
    let encoded = |coding: &HeaderValue| !coding.as_bytes().eq_ignore_ascii_case(b"identity");
    if head.headers.get_all(header::CONTENT_ENCODING).iter().any(encoded) {
        return Read::Unread(Response::from_parts(head, ResponseBody::passed(body)), "the service's answer is compressed");
    }
    if body.size_hint().lower() > limit as u64 {
        return Read::Unread(Response::from_parts(head, ResponseBody::passed(body)), TOO_LONG);
    }
    let (mut body, mut read, mut trailers) = (Box::pin(body), BytesMut::new(), None);
    while let Some(frame) = poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
        let Ok(frame) = frame else { return Read::Broken("the service's answer broke off") };
        match in_one(frame).into_data() {
            Ok(data) if data.len() > limit - read.len() => {
                let frames = [Frame::data(read.freeze()), Frame::data(data)];
                let body = ResponseBody::resumed(frames, Some(body));
                return Read::Unread(Response::from_parts(head, body), TOO_LONG);
            }
            Ok(data) => read.extend_from_slice(&data),
            Err(frame) => trailers = frame.into_trailers().ok(),
        }
    }
    Read::Whole(Response::from_parts(head, read.freeze()), trailers)
}

/// An answer that was read, as it came.
pub(super) fn unchanged<B>(response: Response<Bytes>, trailers: Option<HeaderMap>) -> Response<ResponseBody<B>> {
    match trailers {
        None => response.map(ResponseBody::own),
        Some(trailers) => response.map(|read| ResponseBody::resumed([Frame::data(read), Frame::trailers(trailers)], None)),
    }
}

/// An answer with refusals in it: what its head said of the body is true no more.
pub(super) fn merged(mut response: Response<Bytes>) -> Response<Bytes> {
    let headers = response.headers_mut();
    remove_framing(headers);
    for of_the_old in [header::ETAG, header::LAST_MODIFIED, header::CONTENT_RANGE, header::ACCEPT_RANGES] {
        headers.remove(of_the_old);
    }
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Removes what is said of a body that is another one now: its length, its framing, its digests.
pub(super) fn remove_framing(headers: &mut HeaderMap) {
    const DIGESTS: [HeaderName; 4] = [
        HeaderName::from_static("content-md5"),
        HeaderName::from_static("digest"),
        HeaderName::from_static("content-digest"),
        HeaderName::from_static("repr-digest"),
    ];
    for of_the_old in DIGESTS.iter().chain(&[header::CONTENT_LENGTH, header::TRANSFER_ENCODING, header::TRAILER]) {
        headers.remove(of_the_old);
    }
}
