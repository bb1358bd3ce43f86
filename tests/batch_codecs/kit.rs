//! Requests to a codec that stands alone, and refusals as a layer would make them.

use bytes::Bytes;
use http::{Request, Response};
use serde_json::Value;
use tower_lock::{
    LockRequest, Locks, MemoryStore, Refusal,
    batch::{BatchCodec, Item, Unmergeable, Verdicts},
    request::RequestView,
};

/// A bulk write of JSON.
pub(crate) fn bulk(method: &str, target: &str) -> Request<()> {
    Request::builder().method(method).uri(target).header("content-type", "application/json").body(()).expect(target)
}

pub(crate) fn read(
    codec: &(impl BatchCodec + ?Sized),
    request: &Request<()>,
    body: impl AsRef<[u8]>,
) -> Result<Vec<Item>, Refusal> {
    let view = RequestView::of(request);
    assert!(codec.is_bulk(view), "{request:?}");
    codec.read(view, &Bytes::copy_from_slice(body.as_ref()))
}

/// The status of a request that is not read.
#[track_caller]
pub(crate) fn refused(codec: &(impl BatchCodec + ?Sized), request: &Request<()>, body: impl AsRef<[u8]>) -> (u16, String) {
    let text = String::from_utf8_lossy(body.as_ref()).into_owned();
    let refusal = read(codec, request, body).expect_err(&text);
    (refusal.status().as_u16(), refusal.to_string())
}

pub(crate) fn keep(codec: &(impl BatchCodec + ?Sized), request: &Request<()>, body: &str, kept: &[usize]) -> String {
    let kept = codec.keep(RequestView::of(request), &Bytes::copy_from_slice(body.as_bytes()), kept).expect(body);
    String::from_utf8(kept.to_vec()).expect("text")
}

/// Verdicts about items without names, of which those at `refused` are.
pub(crate) fn verdicts(count: usize, refused: &[usize], refusal: &Refusal) -> Verdicts {
    Verdicts::new((0..count).map(|at| (None, refused.contains(&at).then(|| refusal.clone()))))
}

pub(crate) fn answer(body: impl Into<Bytes>) -> Response<Bytes> {
    Response::new(body.into())
}

pub(crate) fn merged(codec: &(impl BatchCodec + ?Sized), verdicts: &Verdicts, body: &str) -> Result<Value, Unmergeable> {
    let merged = codec.merge(verdicts, Some(answer(body.to_owned())))?;
    Ok(serde_json::from_slice(merged.body()).unwrap_or_else(|error| panic!("{error}: {:?}", merged.body())))
}

/// A refusal by a lock on `/records/1`, as the application sees it.
pub(crate) async fn locked() -> Refusal {
    let locks = Locks::new(MemoryStore::new());
    let request = LockRequest::exclusive("/records/1").principal("qa").reason("under review");
    let _held = locks.acquire(request).await.expect("nothing is locked");
    locks.acquire(LockRequest::exclusive("/records/1")).await.expect_err("it is locked")
}
