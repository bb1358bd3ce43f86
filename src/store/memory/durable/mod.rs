//! The durable form of the memory store: what a step changes is written to a file before the step is answered.
//!
//! ```text
//! step (table's write lock) ──► Queue, in the order of the steps ──► writer thread: one commit for all that wait
//!                                                                       │ durable: locks that leave are buried, watchers told
//!                                                                       │ failed: the steps are undone, newest first
//!                                     Settling (the caller's future) ◄──┘
//! ```
//!
//! Memory and file never contradict each other in a way that a crash would show:
//!
//! - A grant counts in memory at once, and so blocks before it is durable; it is answered afterwards.
//! - A lock that is released, broken, replaced or cleared stays in the table as *leaving* until its end is durable. Until
//!   then it blocks as before, so no write goes past it that a crash would put behind it again; its token is spent.
//! - Any answer that tells of a lock (granted, repeated, refreshed, released, lost) waits for the last step before it
//!   that changed one. What failed to be written was told to nobody, and is undone.
//! - That a lock expired needs no writing down: its time is in the file. It goes along with the next commit.
#![cfg_attr(not(feature = "redb"), allow(dead_code, reason = "without a file nothing is ever noted"))]

#[cfg(feature = "redb")]
mod base;
#[cfg(feature = "redb")]
mod file;
#[cfg(feature = "redb")]
mod journal;
#[cfg(feature = "redb")]
mod ledger;
mod notes;
#[cfg(feature = "redb")]
mod open;
mod queue;
#[cfg(feature = "redb")]
mod rows;
mod writer;

use std::{sync::Arc, time::Duration};

#[cfg(feature = "redb")]
pub(super) use self::open::{Settings, open};
pub(super) use self::{
    notes::{Notes, Undo},
    queue::{Queue, Settling, Ticket, settled},
    writer::Writer,
};
use super::{
    graveyard::Grave,
    record::{Breaker, Record, Stage},
};
use crate::lock::{LockParts, Timestamp, TokenDigest};

/// One thing that a step changes about what is in the file.
#[derive(Debug)]
pub(super) enum Change {
    /// A lock is granted, refreshed, or being broken.
    Put(Row),
    /// A lock has ended.
    Gone { generation: u64 },
    /// A dead lock, or a burnt token, is remembered.
    Dead(Grave),
    /// It is remembered no longer.
    Forget { key: u64 },
}

/// A granted lock as it is written down; its generation is its name.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) generation: u64,
    pub(super) digest: TokenDigest,
    pub(super) parts: Arc<LockParts>,
    pub(super) created_at: Timestamp,
    pub(super) expires_at: Option<Timestamp>,
    pub(super) life_end: Option<Timestamp>,
    pub(super) span: Option<Duration>,
    pub(super) most: Option<Duration>,
    pub(super) breaker: Option<Breaker>,
}

impl Row {
    pub(super) fn of(record: &Record) -> Self {
        Self {
            generation: record.generation,
            digest: record.digest,
            parts: record.parts.clone(),
            created_at: record.created_at,
            expires_at: record.expires_at.get(),
            life_end: record.life_end.get(),
            span: record.span.get(),
            most: record.most.get(),
            breaker: match &record.stage {
                Stage::Breaking(breaker) => Some((**breaker).clone()),
                Stage::Pending | Stage::Held => None,
            },
        }
    }

    pub(super) fn into_record(self) -> Record {
        Record {
            parts: self.parts,
            digest: self.digest,
            stage: self.breaker.map_or(Stage::Held, |breaker| Stage::Breaking(Box::new(breaker))),
            created_at: self.created_at,
            expires_at: self.expires_at.into(),
            life_end: self.life_end.into(),
            span: self.span.into(),
            most: self.most.into(),
            generation: self.generation,
            leaving: None,
            pins: Arc::default(),
            rivalry: super::record::Rivalry::Never,
            place: super::record::Place::default(),
        }
    }
}

/// How far the store was when a step was taken: what a restart must not fall behind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    /// The store's time.
    pub(super) now: Timestamp,
    /// The number of the latest grant.
    pub(super) generation: u64,
}

impl Seen {
    pub(super) fn later(self, other: Self) -> Self {
        Self { now: self.now.max(other.now), generation: self.generation.max(other.generation) }
    }
}

#[cfg(all(test, feature = "redb"))]
mod tests;
