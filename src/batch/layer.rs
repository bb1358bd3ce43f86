//! `BatchLayer`: puts locks before a service that knows bulk writes.

use std::{fmt, sync::Arc};

use tower_layer::Layer;

use super::{BatchCodec, BatchService};
use crate::{locks::Locks, middleware::LockLayer};

/// Guards a service as a [`LockLayer`] does, and of bulk writes each item. See the [module docs](super).
#[must_use = "a layer does nothing until it is put before a service"]
pub struct BatchLayer<C> {
    inner: LockLayer,
    settings: Settings<C>,
}

/// What a layer does with bulk writes.
pub(super) struct Settings<C> {
    pub(super) codec: Arc<C>,
    pub(super) mode: Mode,
    /// The most bytes of a request that are read.
    pub(super) body: usize,
    /// The most bytes of an answer that are read.
    pub(super) answer: usize,
}

/// What becomes of a bulk write of which some items are refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Mode {
    /// It is refused.
    #[default]
    RefuseWhole,
    /// The service gets the others.
    ForwardUnlocked,
    /// The service gets all of it, and the verdicts.
    ForwardAll,
}

impl<C> BatchLayer<C> {
    /// A layer over `locks`, or over a bare store under the default policy. It takes the place of a [`LockLayer`].
    pub fn new(locks: impl Into<Locks>, codec: C) -> Self {
        Self::around(LockLayer::new(locks), codec)
    }

    /// The same, with the options of a [`LockLayer`], which hold for the other writes and for bulk writes:
    /// [`require_lock`](LockLayer::require_lock) demands a lock for each item, others are 428 `lock_required`;
    /// [`release_on_success`](LockLayer::release_on_success) ends those locks of which the service has done all items.
    pub fn around(layer: LockLayer, codec: C) -> Self {
        let settings =
            Settings { codec: Arc::new(codec), mode: Mode::default(), body: 10 * 1024 * 1024, answer: 32 * 1024 * 1024 };
        Self { inner: layer, settings }
    }

    /// Where some items are refused, the service gets a request with none but the others, and the refusals are merged into
    /// its answer. It is not called where none are left. Unless called, one refused item refuses the whole request.
    pub fn forward_unlocked(mut self) -> Self {
        self.settings.mode = Mode::ForwardUnlocked;
        self
    }

    /// The service gets every request as it is, with the [`Verdicts`](super::Verdicts) in its extensions. It must leave the
    /// refused items alone, for nothing guards them, and says itself what became of them.
    pub fn forward_all(mut self) -> Self {
        self.settings.mode = Mode::ForwardAll;
        self
    }

    /// The most bytes that the body of a bulk write may have, 10 MiB unless set; more is 413 `content_too_large`. All of
    /// them are held in memory.
    pub fn body_limit(mut self, bytes: usize) -> Self {
        self.settings.body = bytes;
        self
    }

    /// The most bytes of an answer that are read to write refusals into it, 32 MiB unless set. Where the answer is longer,
    /// the client gets 500 `unreadable_answer` instead.
    pub fn answer_limit(mut self, bytes: usize) -> Self {
        self.settings.answer = bytes;
        self
    }
}

impl<S: Clone, C: BatchCodec> Layer<S> for BatchLayer<C> {
    type Service = BatchService<S, C>;

    fn layer(&self, inner: S) -> Self::Service {
        BatchService::new(&self.inner, inner, self.settings.clone())
    }
}

// By hand: a codec need not be one that can be cloned.
impl<C> Clone for BatchLayer<C> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), settings: self.settings.clone() }
    }
}

impl<C> Clone for Settings<C> {
    fn clone(&self) -> Self {
        Self { codec: self.codec.clone(), ..*self }
    }
}

impl<C> fmt::Debug for BatchLayer<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BatchLayer").field("layer", &self.inner).field("mode", &self.settings.mode).finish_non_exhaustive()
    }
}
