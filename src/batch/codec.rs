//! `BatchCodec`: where in a bulk write the items are, and what an item's refusal looks like in the answer.

use std::{error::Error, fmt, sync::Arc};

use bytes::Bytes;
use http::Response;

use super::{Item, Verdicts};
use crate::{locks::Refusal, request::RequestView};

/// Reads the items of a bulk write, and writes the refusals of some into its answer. An API with a form of its own implements this.
///
/// What a codec does not see is not guarded. So it refuses what it cannot read for sure, a member that stands twice in an
/// object for one: readers of JSON disagree about which of the two counts.
pub trait BatchCodec: Send + Sync + 'static {
    /// Whether this is a bulk write, by its head. Every other write is guarded as by a [`LockLayer`](crate::LockLayer). Reads
    /// are not asked about. What a bulk write is sent to counts as written, also by a DELETE: it removes the items, not what
    /// they are members of.
    fn is_bulk(&self, request: RequestView<'_>) -> bool;

    /// The items, in their order.
    ///
    /// # Errors
    /// 400 `bad_request` for a wrong shape, 415 `unsupported_media_type` for another form than this codec reads. The service
    /// is not called.
    fn read(&self, request: RequestView<'_>, body: &Bytes) -> Result<Vec<Item>, Refusal>;

    /// The body with none but the items at the positions `kept`, which ascend. Called with what [`BatchCodec::read`] has read,
    /// and only where some, but not all, are kept.
    ///
    /// # Errors
    /// As for [`BatchCodec::read`]. The service is not called.
    fn keep(&self, request: RequestView<'_>, body: &Bytes, kept: &[usize]) -> Result<Bytes, Refusal>;

    /// The answer for all items: that of the service for the admitted ones, with the refusals of the others at their
    /// positions. Where all were refused there is none of the service. Framing, validators and digests of the old body are
    /// taken from the head by the layer.
    ///
    /// # Errors
    /// [`Unmergeable`] when the answer is not what the codec expects. It must not be passed on as it is: the client would take the
    /// refused items for done.
    fn merge(&self, verdicts: &Verdicts, answer: Option<Response<Bytes>>) -> Result<Response<Bytes>, Unmergeable>;

    /// Which of the admitted items the service says it has done, by their positions in the request. The locks of those that
    /// [unlink](Item::unlink) then end. Asked for a success (2xx) of the service alone, of which `answer` is the body. Where
    /// [everything was forwarded](super::BatchLayer::forward_all) the service was sent all items, and all are admitted here; what
    /// is said of the refused ones is left out of account.
    fn done(&self, verdicts: &Verdicts, answer: &Response<Bytes>) -> Vec<usize>;

    /// The answer to a request that is refused as a whole because of some of its items; nothing for a problem document, which names
    /// them in `items`.
    fn refuse(&self, verdicts: &Verdicts, refusal: &Refusal) -> Option<Response<Bytes>> {
        let _ = (verdicts, refusal);
        None
    }
}

impl<T: BatchCodec + ?Sized> BatchCodec for Arc<T> {
    fn is_bulk(&self, request: RequestView<'_>) -> bool {
        (**self).is_bulk(request)
    }

    fn read(&self, request: RequestView<'_>, body: &Bytes) -> Result<Vec<Item>, Refusal> {
        (**self).read(request, body)
    }

    fn keep(&self, request: RequestView<'_>, body: &Bytes, kept: &[usize]) -> Result<Bytes, Refusal> {
        (**self).keep(request, body, kept)
    }

    fn merge(&self, verdicts: &Verdicts, answer: Option<Response<Bytes>>) -> Result<Response<Bytes>, Unmergeable> {
        (**self).merge(verdicts, answer)
    }

    fn done(&self, verdicts: &Verdicts, answer: &Response<Bytes>) -> Vec<usize> {
        (**self).done(verdicts, answer)
    }

    fn refuse(&self, verdicts: &Verdicts, refusal: &Refusal) -> Option<Response<Bytes>> {
        (**self).refuse(verdicts, refusal)
    }
}

/// Why the refusals of some items could not be written into the service's answer for the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unmergeable(String);

impl Unmergeable {
    /// With what is wrong about the answer.
    #[must_use]
    pub fn new(why: impl Into<String>) -> Self {
        Self(why.into())
    }
}

impl fmt::Display for Unmergeable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for Unmergeable {}
