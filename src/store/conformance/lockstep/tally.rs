//! How often each operation came to each outcome.

use std::collections::BTreeMap;

/// Every outcome that a run has to come to, or it proves nothing about it.
const EXPECTED: [&str; 31] = [
    "acquire granted",
    "acquire repeated",
    "acquire conflict",
    "acquire busy",
    "acquire over quota",
    "acquire taken",
    "acquire lost",
    "acquire not holder",
    "acquire waits",
    "acquire waited: granted",
    "acquire waited: busy",
    "acquire dropped",
    "replace granted",
    "replace by id granted",
    "offer granted",
    "several granted",
    "within granted",
    "admit clear",
    "admit answered",
    "admit refused",
    "admit condition failed",
    "admit refused by a mark",
    "write ends",
    "refresh refreshed",
    "refresh final",
    "refresh lost",
    "refresh not holder",
    "release released",
    "release breaking",
    "release lost",
    "clear some",
];

#[derive(Default)]
pub(super) struct Tally(BTreeMap<&'static str, usize>);

impl Tally {
    pub(super) fn count(&mut self, what: &'static str) {
        *self.0.entry(what).or_default() += 1;
    }

    /// Panics when something came up too rarely.
    pub(super) fn expect_floor(&self, floor: usize) {
        let rare: Vec<_> = EXPECTED
            .iter()
            .map(|what| (*what, self.0.get(what).copied().unwrap_or(0)))
            .filter(|(_, count)| *count < floor)
            .collect();
        assert!(rare.is_empty(), "came up too rarely to prove anything: {rare:?} of {:?}", self.0);
    }
}
