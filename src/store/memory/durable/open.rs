//! Opening a store with a file: memory as it was when the file was last written to.

use std::{path::Path, sync::Arc, time::Duration};

use super::{Queue, Seen, Writer, ledger::Opened, writer::Ledger};
use crate::{
    lock::TokenKey,
    store::{
        Clock, StoreError, StoreErrorKind,
        memory::{core::Core, graveyard::Memory, inflight::Registry},
    },
};

/// How far generations go ahead of what the file has: permits knew of grants that were never answered.
const LEAP: u64 = 1 << 20;

/// What a store is made with.
pub(in crate::store::memory) struct Settings {
    pub(in crate::store::memory) clock: Clock,
    pub(in crate::store::memory) registry: Option<Registry>,
    pub(in crate::store::memory) lease: Duration,
    pub(in crate::store::memory) memory: Memory,
}

/// The store whose locks are in the file at `path`.
pub(in crate::store::memory) fn open(path: &Path, settings: Settings) -> Result<(Arc<Core>, Writer), StoreError> {
    start(Opened::at(path)?, settings)
}

pub(super) fn start(opened: Opened, settings: Settings) -> Result<(Arc<Core>, Writer), StoreError> {
    let Opened { ledger, rows, graves, seen, key } = opened;
    let queue = Arc::new(Queue::new());
    let mut core = Core::new(settings.clock, settings.registry, settings.lease, settings.memory);
    core.take_over(seen, key);
    {
        let filter = &core.filter;
        let table = core.table.get_mut();
        table.graveyard.keep_count();
        for grave in graves {
            let at = grave.buried_at;
            table.graveyard.bury(grave, at);
        }
        for row in rows {
            let ends = row.expires_at;
            let prefixes = filter.seed.all(&row.parts.root);
            let slot = table.link(filter, row.into_record(), &prefixes);
            table.requeue(slot, ends);
        }
        filter.changed();
    }
    core.queue = Some(queue.clone());
    let core = Arc::new(core);
    with(core, queue, Box::new(ledger))
}

pub(super) fn with(core: Arc<Core>, queue: Arc<Queue>, ledger: Box<dyn Ledger>) -> Result<(Arc<Core>, Writer), StoreError> {
    let writer = Writer::start(core.clone(), queue, ledger).map_err(|error| {
        StoreError::new(StoreErrorKind::Other, "starting the thread that writes to the file").caused_by(error)
    })?;
    Ok((core, writer))
}

impl Core {
    /// Goes on where an earlier process was: not before its time, not below its generations, with its tokens.
    fn take_over(&mut self, seen: Seen, key: TokenKey) {
        self.key = key;
        let generation = self.generation.get_mut();
        *generation = (*generation).max(seen.generation.saturating_add(LEAP));
        self.not_before(seen.now);
    }
}
