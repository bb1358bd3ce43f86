//! `Keeper`: the two tasks of a node that look after its writes. One flushes ends and renews leases; the other stops
//! writes whose lease has run out, whatever the first is waiting for.
//!
//! They start with the first write, on the runtime of whoever writes, hold the writes weakly, and end with them. Where
//! their runtime has gone, the next write starts others. Outside of a runtime there are none: ends then ride along with
//! later calls, or are made good by the lease.

use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    runtime::Handle,
    sync::Notify,
    task::JoinHandle,
    time::{Instant, timeout_at},
};

use super::Inner;

/// How long an end waits for a call that it can ride along with, before it is sent by itself.
const LINGER: Duration = Duration::from_millis(1);
/// How soon a flush or a renewal that failed is tried again, at most; a tenth of a short lease.
const AGAIN: Duration = Duration::from_millis(50);

#[derive(Default)]
pub(super) struct Keeper {
    tasks: Mutex<Vec<JoinHandle<()>>>,
    wake: Arc<Wake>,
}

#[derive(Default)]
struct Wake {
    notify: Notify,
    /// Something has ended and was not sent, or has to be sent again.
    unsent: AtomicBool,
}

impl Keeper {
    /// Something has ended and is to be sent.
    pub(super) fn wake(&self) {
        self.wake_later();
        self.wake.notify.notify_one();
    }

    /// What was sent has to be sent again, but not at once.
    pub(super) fn wake_later(&self) {
        self.wake.unsent.store(true, Ordering::Release);
    }

    /// Starts the tasks where there are none.
    pub(super) fn ensure(&self, writes: &Arc<Inner>) {
        let Ok(runtime) = Handle::try_current() else { return };
        let mut tasks = self.tasks.lock();
        if tasks.is_empty() || tasks.iter().any(JoinHandle::is_finished) {
            tasks.drain(..).for_each(|task| task.abort());
            tasks.push(runtime.spawn(renew(Arc::downgrade(writes), self.wake.clone())));
            tasks.push(runtime.spawn(lapse(Arc::downgrade(writes))));
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.tasks.get_mut().drain(..).for_each(|task| task.abort());
    }
}

async fn renew(weak: Weak<Inner>, wake: Arc<Wake>) {
    let Some(lease) = weak.upgrade().map(|writes| writes.lease) else { return };
    let (third, again) = (lease / 3, AGAIN.min(lease / 10));
    let mut renewal = Instant::now() + third;
    let mut retry: Option<Instant> = None;
    loop {
        let next = retry.map_or(renewal, |retry| retry.min(renewal));
        let _ = timeout_at(next, wake.notify.notified()).await;
        if retry.is_none_or(|at| at <= Instant::now()) && wake.unsent.load(Ordering::Acquire) {
            tokio::time::sleep(LINGER).await;
        }
        let Some(writes) = weak.upgrade() else { return };
        if retry.is_none_or(|at| at <= Instant::now()) && wake.unsent.swap(false, Ordering::AcqRel) {
            retry = match writes.flush().await {
                Ok(()) => None,
                Err(_) => {
                    wake.unsent.store(true, Ordering::Release);
                    Some(Instant::now() + again)
                }
            };
        }
        if Instant::now() >= renewal {
            // While the engine is away, often: the writes have until their deadlines.
            let pause = if writes.renew().await.is_ok() { third } else { again };
            renewal = Instant::now() + pause;
        }
    }
}

async fn lapse(writes: Weak<Inner>) {
    loop {
        let next = {
            let Some(writes) = writes.upgrade() else { return };
            // A write that begins while this sleeps has longer than a third of a lease.
            let third = Instant::now() + writes.lease / 3;
            writes.lapse(Instant::now()).map_or(third, |next| next.min(third))
        };
        tokio::time::sleep_until(next).await;
    }
}
