//! `Verdicts`: what was decided about each item of a bulk write.

use std::sync::Arc;

use crate::locks::Refusal;

/// What was decided about each item of a bulk write, in the order of the request.
///
/// In the request's extensions where a layer forwards everything: the service must leave the
/// refused items alone, for nothing guards them. A cheap handle.
#[derive(Clone, Debug)]
pub struct Verdicts {
    each: Arc<[ItemVerdict]>,
}

/// What was decided about one item.
#[derive(Clone, Debug)]
struct ItemVerdict {
    name: Option<String>,
    refusal: Option<Refusal>,
}

impl Verdicts {
    /// The verdicts about items, each with what the client calls it, and why it is refused if it is. The layer makes them;
    /// here for tests of a [`BatchCodec`](super::BatchCodec).
    pub fn new(each: impl IntoIterator<Item = (Option<String>, Option<Refusal>)>) -> Self {
        Self { each: each.into_iter().map(|(name, refusal)| ItemVerdict { name, refusal }).collect() }
    }

    /// The same items, none of them refused.
    pub(super) fn without_refusals(&self) -> Self {
        Self::new(self.each.iter().map(|item| (item.name.clone(), None)))
    }

    /// How many items there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.each.len()
    }

    /// Whether the request has no items.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.each.is_empty()
    }

    /// Why the item at `position` is refused; nothing where it is not, and past the end.
    #[must_use]
    pub fn refusal(&self, position: usize) -> Option<&Refusal> {
        self.each.get(position)?.refusal.as_ref()
    }

    /// What the client calls the item at `position`.
    #[must_use]
    pub fn name(&self, position: usize) -> Option<&str> {
        self.each.get(position)?.name.as_deref()
    }

    /// The items that are refused, by position.
    pub fn refused(&self) -> impl Iterator<Item = (usize, &Refusal)> {
        self.each.iter().enumerate().filter_map(|(at, item)| Some((at, item.refusal.as_ref()?)))
    }

    /// The positions of the items that may be done.
    pub fn admitted(&self) -> impl Iterator<Item = usize> {
        self.each.iter().enumerate().filter(|(_, item)| item.refusal.is_none()).map(|(at, _)| at)
    }

    /// Whether every item may be done.
    #[must_use]
    pub fn admit_all(&self) -> bool {
        self.refused().next().is_none()
    }
}
