//! `Ending`: a write whose own locks are released when it has ended, wherever that is.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use parking_lot::Mutex;
use tokio::runtime::Handle;

use crate::{
    locks::{Incident, Locks, OwnLocks},
    request::LockPreference,
    store::{InFlight, Permit, StoreError, StoreErrorKind, WriteId},
};

/// Stands between a permit and its store.
pub(super) struct Ending {
    write: Mutex<Option<(Permit, OwnLocks)>>,
    /// It was stopped, so it has not succeeded.
    lapsed: AtomicBool,
    locks: Locks,
    /// Where the store is waited for, if the write ends outside of a runtime.
    runtime: Option<Handle>,
}

impl Ending {
    /// `permit`, at whose end `own` are released. One that is registered nowhere has an end as well.
    pub(super) fn permit(locks: Locks, own: OwnLocks, permit: Permit) -> Permit {
        let write = permit.id().unwrap_or(WriteId::from_bits(0));
        let runtime = Handle::try_current().ok();
        let ending = Self { write: Mutex::new(Some((permit, own))), lapsed: AtomicBool::new(false), locks, runtime };
        Permit::new(Arc::new(ending), write)
    }
}

impl InFlight for Ending {
    fn end(self: Arc<Self>, _write: WriteId) {
        let Some((permit, own)) = self.write.lock().take() else { return };
        drop(permit);
        if self.lapsed.load(Ordering::Relaxed) {
            return;
        }
        let Err(pending) = own.apply(&self.locks, LockPreference::Release).into_ready() else { return };
        match Handle::try_current().ok().or_else(|| self.runtime.clone()) {
            Some(runtime) => drop(runtime.spawn(pending)),
            None => {
                let error = StoreError::new(StoreErrorKind::Other, "no runtime to end a lock on");
                self.locks.report(&Incident::NotAfterWrite { error: &error });
            }
        }
    }

    fn poll_lapsed(&self, _write: WriteId, cx: &mut Context<'_>) -> Poll<()> {
        let lapsed = self.write.lock().as_ref().map_or(Poll::Pending, |(permit, _)| permit.poll_lapsed(cx));
        if lapsed.is_ready() {
            self.lapsed.store(true, Ordering::Relaxed);
        }
        lapsed
    }

    fn generation(&self, _write: WriteId) -> u64 {
        self.write.lock().as_ref().map_or(0, |(permit, _)| permit.generation())
    }
}
