//! A store that admits every write, under a lease that a test lets lapse.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
};

use tower_lock::{
    lock::Gone,
    store::{
        Acquire, Acquired, Admitted, InFlight, LockPage, LockQuery, LockStore, Permit, Refresh, Refreshed, Release,
        Released, StoreFuture, Verdict, Watch, Write, WriteId,
    },
};

/// One lease for all its writes.
#[derive(Clone, Default)]
pub struct Leases(Arc<Lease>);

#[derive(Default)]
struct Lease {
    lapsed: AtomicBool,
    ended: AtomicUsize,
    watched: Mutex<Option<Waker>>,
}

impl Leases {
    /// The lease lapses, and who watches it is told.
    pub fn lapse(&self) {
        self.lapse_untold();
        if let Some(waker) = self.0.watched.lock().unwrap().take() {
            waker.wake();
        }
    }

    /// The lease lapses while nobody runs who could be told, as when a whole process is stopped.
    pub fn lapse_untold(&self) {
        self.0.lapsed.store(true, Ordering::SeqCst);
    }

    /// Whether anybody waits for it to lapse.
    pub fn is_watched(&self) -> bool {
        self.0.watched.lock().unwrap().is_some()
    }

    /// How many writes have ended.
    pub fn ended(&self) -> usize {
        self.0.ended.load(Ordering::SeqCst)
    }
}

impl InFlight for Lease {
    fn end(self: Arc<Self>, _: WriteId) {
        self.ended.fetch_add(1, Ordering::SeqCst);
    }

    fn poll_lapsed(&self, _: WriteId, cx: &mut Context<'_>) -> Poll<()> {
        *self.watched.lock().unwrap() = Some(cx.waker().clone());
        if self.lapsed.load(Ordering::SeqCst) { Poll::Ready(()) } else { Poll::Pending }
    }

    fn generation(&self, write: WriteId) -> u64 {
        write.bits() + 35
    }
}

impl LockStore for Leases {
    fn admit(&self, _: &Write<'_>) -> StoreFuture<Verdict> {
        let permit = Permit::new(self.0.clone(), WriteId::from_bits(7));
        StoreFuture::ready(Verdict::Admitted(Admitted { permit, answered: None }))
    }
    fn acquire(&self, _: &Acquire<'_>) -> StoreFuture<Acquired> {
        StoreFuture::ready(Acquired::Taken)
    }
    fn refresh(&self, _: &Refresh<'_>) -> StoreFuture<Refreshed> {
        StoreFuture::ready(Refreshed::NotHolder)
    }
    fn release(&self, _: &Release<'_>) -> StoreFuture<Released> {
        StoreFuture::ready(Released::NotHolder)
    }
    fn clear(&self, _: &[Gone<'_>], _: Option<WriteId>) -> StoreFuture<usize> {
        StoreFuture::ready(0)
    }
    fn find(&self, _: &LockQuery<'_>) -> StoreFuture<LockPage> {
        StoreFuture::ready(LockPage::default())
    }
    fn watch(&self, _: &LockQuery<'_>) -> Watch {
        Watch::new(futures_util::stream::empty())
    }
}
