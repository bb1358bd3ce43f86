//! Which writes in flight an acquire need not wait for: those that a shared lock answers for, where its token would answer
//! for the coming lock as well. The server knows which writes may be such; the rules decide here.

use std::sync::Arc;

use uuid::Uuid;

use super::{
    error::unreadable,
    wire::{Answers, EXCUSE, TARGET},
};
use crate::{
    lock::{Effect, LockParts, Membership, Target, rules},
    store::StoreError,
};

/// Pairs of a write and a shared lock that excuses it as long as it lives.
#[derive(Clone, Debug, Default)]
pub(super) struct Excuses {
    pub(super) writes: Vec<Uuid>,
    pub(super) locks: Vec<Uuid>,
}

impl Excuses {
    /// Adds what the rules make of the writes that the server asked about, where `coming` are the locks to come.
    pub(super) fn learn(&mut self, coming: &[Arc<LockParts>], answers: &Answers) -> Result<(), StoreError> {
        let mut writes: Vec<Uuid> = answers.of(TARGET).filter_map(|row| row.id).collect();
        writes.sort_unstable();
        writes.dedup();
        for write in writes {
            let mut targets = Vec::new();
            for row in answers.of(TARGET).filter(|row| row.id == Some(write)) {
                let key = row.root()?.ok_or_else(|| unreadable("a target without a path"))?;
                let effect = if row.code & 1 == 1 { Effect::Unlink } else { Effect::Write };
                let membership = if row.code & 2 == 2 { Membership::Changed } else { Membership::Kept };
                targets.push(Target { key, effect, membership });
            }
            for row in answers.of(EXCUSE).filter(|row| row.id == Some(write)) {
                let lock = row.key.ok_or_else(|| unreadable("a lock without an id"))?;
                let own: [Arc<LockParts>; 1] = [row.read_parts()?];
                let known = self.writes.iter().zip(&self.locks).any(|pair| pair == (&write, &lock));
                if !known && !coming.iter().any(|coming| rules::would_refuse(coming, &targets, &own)) {
                    self.writes.push(write);
                    self.locks.push(lock);
                }
            }
        }
        Ok(())
    }
}
