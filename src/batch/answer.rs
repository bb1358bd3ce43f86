//! What is answered to a bulk write: its refusal as a whole, or the service's answer with refusals in it.

use std::{error::Error, future::poll_fn};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, header};
use http_body::Body;
use serde::Serialize;

use super::{BatchCodec, Verdicts};
use crate::{
    endpoint::Reading,
    lock::LockId,
    locks::{Locks, Refusal, RefusalCode},
    respond::{Format, Problem, ResponseBody, render_as, written},
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

/// 500: some were refused, and what became of the others cannot be told in one answer.
pub(super) fn unreadable<B>(
    locks: &Locks,
    verdicts: &Verdicts,
    why: &str,
    headers: &HeaderMap,
) -> Response<ResponseBody<B>> {
    let others = match verdicts.admitted().count() {
        0 => "Nothing was done.",
        _ => "The others may be done.",
    };
    let refused = verdicts.refused().count();
    let detail = format!("{refused} items were refused. {others} What became of them cannot be told: {why}.");
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

/// The service's answer, with all of its body; else why that cannot be read.
pub(super) async fn read<B>(response: Response<B>, limit: usize) -> Result<Response<Bytes>, &'static str>
where
    B: Body,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let (head, body) = response.into_parts();
    let encoded = |coding: &HeaderValue| !coding.as_bytes().eq_ignore_ascii_case(b"identity");
    if head.headers.get_all(header::CONTENT_ENCODING).iter().any(encoded) {
        return Err("the service's answer is compressed");
    }
    let why = |refusal: Refusal| match refusal.code() {
        RefusalCode::ContentTooLarge => "the service's answer is too long",
        _ => "the service's answer broke off",
    };
    let mut reading = Reading::new(body, &head.headers, limit).map_err(why)?;
    let body = poll_fn(|cx| reading.poll(cx)).await.map_err(why)?;
    Ok(Response::from_parts(head, body))
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
