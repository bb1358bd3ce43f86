//! `Permit`: a write is in flight as long as this lives.

use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

/// Names a write in flight within its store. Means nothing once the write has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct WriteId(u64);

impl WriteId {
    /// An id from the bits a store chose.
    #[must_use]
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// The bits.
    #[must_use]
    pub const fn bits(self) -> u64 {
        self.0
    }
}

/// Where a store keeps its writes in flight. What a [`Permit`] calls.
pub trait InFlight: Send + Sync + 'static {
    /// The write has ended. Never blocks, and may be called from any thread, in a drop, outside of a runtime.
    ///
    /// Gets the `Arc` that its permit held, so that a store can use it again instead of counting it down and up.
    fn end(self: Arc<Self>, write: WriteId);

    /// Ready once the write's lease has lapsed, so that it must be stopped: others may now be granted what it changes.
    /// A store in the same process never lets one lapse.
    fn poll_lapsed(&self, write: WriteId, cx: &mut Context<'_>) -> Poll<()>;

    /// The generation current when the write was admitted.
    fn generation(&self, write: WriteId) -> u64;
}

/// A write registered as in flight. Dropping it ends that.
///
/// 24 bytes. As long as it lives, no lock that would have refused the write is granted, and the locks that answered for
/// it do not end.
#[must_use = "the write counts as ended once its permit is dropped"]
pub struct Permit {
    /// None for a write that a check-only store let through; `bits` is then the generation.
    registry: Option<Arc<dyn InFlight>>,
    bits: u64,
}

impl Permit {
    /// A permit for a write that `registry` has registered.
    pub fn new(registry: Arc<dyn InFlight>, write: WriteId) -> Self {
        Self { registry: Some(registry), bits: write.0 }
    }

    /// A permit for a write that is registered nowhere: a check-only store, or one let through while the store is down.
    pub const fn unguarded(generation: u64) -> Self {
        Self { registry: None, bits: generation }
    }

    /// Which write this is; none when it is not registered.
    #[must_use]
    #[inline]
    pub fn id(&self) -> Option<WriteId> {
        self.registry.as_ref().map(|_| WriteId(self.bits))
    }

    /// The generation current when the write was admitted: a fencing number for whatever it writes to.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.registry.as_ref().map_or(self.bits, |registry| registry.generation(WriteId(self.bits)))
    }

    /// Ready once the write must be stopped, because its lease has lapsed.
    #[inline]
    pub fn poll_lapsed(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.registry.as_ref().map_or(Poll::Pending, |registry| registry.poll_lapsed(WriteId(self.bits), cx))
    }
}

impl Drop for Permit {
    #[inline]
    fn drop(&mut self) {
        if let Some(registry) = self.registry.take() {
            registry.end(WriteId(self.bits));
        }
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit").field("id", &self.id()).finish()
    }
}

const _: () = assert!(size_of::<Permit>() == 24);
