//! What has been seen, so that a run proves that it tried what it is about.

use std::collections::BTreeMap;

#[derive(Default)]
pub(crate) struct Tally(pub(crate) BTreeMap<String, u64>);

impl Tally {
    pub(crate) fn saw(&mut self, what: impl Into<String>) {
        self.add(what, 1);
    }

    pub(crate) fn add(&mut self, what: impl Into<String>, times: usize) {
        *self.0.entry(what.into()).or_default() += times as u64;
    }

    /// Fails for all that was not seen often enough.
    pub(crate) fn assert_floors(&self, floors: &[(&str, u64)]) {
        let short: Vec<_> = floors.iter().filter(|(what, floor)| self.0.get(*what).copied().unwrap_or(0) < *floor).collect();
        assert!(short.is_empty(), "too seldom: {short:?} in {:#?}", self.0);
    }
}
