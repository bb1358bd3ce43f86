//! Registrations that may still be on their way through the server.
//!
//! A call that was given up is perhaps carried out all the same, a little later, and then its end has come before it. So
//! such a write is ended once more, when the server has had the time that it was given: all of them together, by one task.

use std::sync::Arc;

use tokio::{runtime::Handle, time::Instant};

use super::core::{Core, Late};
use crate::store::remote::{deadline::within, writes::WriteName};

/// More than these, and the oldest are left to their leases.
const MOST: usize = 10_000;

impl Late {
    /// Ends a write of which nobody knows whether it is registered.
    pub(super) fn end(&self, core: &Arc<Core>, name: WriteName) {
        let Ok(runtime) = Handle::try_current() else { return };
        let mut waiting = self.0.lock();
        let surplus = (waiting.names.len() + 1).saturating_sub(MOST);
        waiting.names.drain(..surplus);
        waiting.names.push((name, Instant::now()));
        if !waiting.running {
            waiting.running = true;
            runtime.spawn(go_on(core.clone()));
        }
    }
}

async fn go_on(core: Arc<Core>) {
    let mut running = Running(core);
    while running.is_needed() {
        let core = &running.0;
        tokio::time::sleep(core.limit).await;
        let due: Vec<(WriteName, Instant)> = {
            let mut waiting = core.late.0.lock();
            // None lives longer than its lease.
            waiting.names.retain(|(_, since)| since.elapsed() < core.lease);
            let due = waiting.names.iter().filter(|(_, since)| since.elapsed() >= core.limit * 2).take(1_000);
            due.copied().collect()
        };
        if due.is_empty() {
            continue;
        }
        let names: Vec<WriteName> = due.iter().map(|(name, _)| *name).collect();
        if within(core.limit, "ending writes", core.end(&names)).await.is_ok() {
            core.late.0.lock().names.retain(|(name, _)| !names.contains(name));
        }
    }
}

/// The task, also where its runtime ends before it.
struct Running(Arc<Core>);

impl Running {
    fn is_needed(&mut self) -> bool {
        let mut waiting = self.0.late.0.lock();
        waiting.running = !waiting.names.is_empty();
        waiting.running
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.late.0.lock().running = false;
    }
}
