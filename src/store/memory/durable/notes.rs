//! `Notes`: what one step changes, and how to undo it while nobody has been told.

use std::time::Duration;

use super::{Change, Row};
use crate::{
    lock::{Lock, Timestamp},
    store::{
        LockEvent,
        memory::{
            core::{Core, Edit},
            graveyard::Grave,
            record::{End, Stage},
            slab::SlotId,
        },
    },
};

/// Taken along a step of a durable store.
#[derive(Debug, Default)]
pub(in crate::store::memory) struct Notes {
    changes: Vec<Change>,
    undo: Vec<Undo>,
    /// Whether somebody waits for it to be durable. Else it is written down when there is something to write anyway.
    promised: bool,
}

/// One step that is to become durable.
#[derive(Debug)]
pub(in crate::store::memory) struct Step {
    pub(super) changes: Vec<Change>,
    pub(super) undo: Vec<Undo>,
    pub(super) promised: bool,
    /// What watchers hear of it then.
    pub(super) news: Vec<LockEvent>,
}

/// How to undo one change in memory, all later ones being undone already.
#[derive(Debug)]
pub(in crate::store::memory) enum Undo {
    /// The lock was granted.
    Granted(SlotId),
    /// It was told to leave.
    Leaving(SlotId),
    /// It was given another end.
    Life { of: SlotId, stage: Stage, expires_at: Option<Timestamp>, life_end: Option<Timestamp>, span: Option<Duration> },
}

impl Notes {
    pub(in crate::store::memory) fn into_step(self, news: Vec<LockEvent>) -> Step {
        Step { changes: self.changes, undo: self.undo, promised: self.promised, news }
    }

    pub(in crate::store::memory) fn promised(&self) -> bool {
        self.promised
    }

    /// That a lock ended by itself, or that a dead one was forgotten: true also without being written down.
    pub(in crate::store::memory) fn hint(&mut self, change: Change) {
        self.changes.push(change);
    }
}

impl Edit<'_> {
    /// What a lock was before it is given another end.
    pub(in crate::store::memory) fn before(&self, slot: u32) -> Option<Undo> {
        self.notes.as_ref()?;
        let record = self.table.records.get(slot)?;
        Some(Undo::Life {
            of: self.table.records.id(slot),
            stage: record.stage.clone(),
            expires_at: record.expires_at.get(),
            life_end: record.life_end.get(),
            span: record.span.get(),
        })
    }

    /// Notes that a lock is what it now is.
    pub(in crate::store::memory) fn put(&mut self, slot: u32, undo: Option<Undo>) {
        let Some(record) = self.table.records.get(slot) else { return };
        if let Some(notes) = &mut self.notes {
            notes.changes.push(Change::Put(Row::of(record)));
            notes.undo.extend(undo);
            notes.promised = true;
        }
    }

    /// Notes that somebody counts on this grave.
    pub(in crate::store::memory) fn dug(&mut self, grave: &Grave) {
        if let Some(notes) = &mut self.notes {
            notes.changes.push(Change::Dead(grave.clone()));
            notes.promised = true;
        }
    }

    /// Decides that a lock ends. It goes when that is durable.
    pub(in crate::store::memory) fn leave(&mut self, slot: u32, end: End) -> Option<Lock> {
        let lock = self.snapshot(slot)?;
        let now = self.now;
        let record = self.table.records.get_mut(slot)?;
        let lost = record.lost_by(end, now);
        let grave = self.table.graveyard.dig(record.digest, record.parts.principal.clone(), lost, now);
        record.leaving = Some(Box::new(grave.clone()));
        let generation = record.generation;
        let id = self.table.records.id(slot);
        if let Some(notes) = &mut self.notes {
            notes.changes.push(Change::Gone { generation });
            notes.changes.push(Change::Dead(grave));
            notes.undo.push(Undo::Leaving(id));
            notes.promised = true;
        }
        Some(lock)
    }

    fn undo(&mut self, undo: Undo) {
        match undo {
            Undo::Granted(id) if self.table.records.has(id) => self.withdraw(id.slot),
            Undo::Leaving(id) if self.table.records.has(id) => {
                if let Some(record) = self.table.records.get_mut(id.slot) {
                    record.leaving = None;
                }
            }
            Undo::Life { of, stage, expires_at, life_end, span } if self.table.records.has(of) => {
                if let Some(record) = self.table.records.get_mut(of.slot) {
                    record.stage = stage;
                    record.expires_at = expires_at.into();
                    record.life_end = life_end.into();
                    record.span = span.into();
                    self.table.requeue(of.slot, expires_at);
                }
            }
            // It has ended by itself since.
            Undo::Granted(_) | Undo::Leaving(_) | Undo::Life { .. } => {}
        }
    }
}

impl Core {
    /// The steps are durable: what was told to leave goes, and watchers hear of everything.
    pub(super) fn settle(&self, steps: Vec<Step>) {
        self.in_memory(|edit| {
            for step in steps {
                for undo in step.undo {
                    if let Undo::Leaving(id) = undo
                        && edit.table.records.has(id)
                    {
                        edit.bury(id.slot, End::Itself);
                    }
                }
                edit.table.news.extend(step.news);
            }
        });
    }

    /// The steps were not written down, and nobody has been told of them: memory goes back to what is durable. `more` gives
    /// the steps that came after them, while none can be added.
    pub(super) fn undo(&self, steps: Vec<Step>, more: impl FnOnce() -> Vec<Step>) {
        self.in_memory(|edit| {
            let all: Vec<Step> = steps.into_iter().chain(more()).collect();
            for step in all.into_iter().rev() {
                step.undo.into_iter().rev().for_each(|undo| edit.undo(undo));
            }
        });
    }
}
