//! Stores that answer late, never, or with an error, and that count what they are asked.

use std::sync::{
    Arc,
    atomic::{AtomicU8, AtomicUsize, Ordering},
};

use tokio::sync::Notify;
use tower_lock::{
    MemoryStore,
    lock::Gone,
    store::{
        Acquire, Acquired, Clock, LockPage, LockQuery, LockStore, Refresh, Refreshed, Release, Released, StoreError,
        StoreErrorKind, StoreFuture, Verdict, Watch, Write, WriteId,
    },
};

/// A memory store by this clock.
pub fn memory(clock: Clock) -> MemoryStore {
    MemoryStore::builder().clock(clock).build()
}

/// A method of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    Admit,
    Acquire,
    Refresh,
    Release,
    Clear,
    Find,
}

/// What a rigged store does with an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Passes it on as it is.
    Pass,
    /// Passes it on later: not before the task has been polled once more.
    Later,
    /// Has it, but passes it on only after [`Rigged::open`].
    Gated,
    /// Never asks and never answers.
    Never,
    /// Never asks and fails.
    Fail,
}

/// A store with a mode for each method, and a count of the calls of each.
pub struct Rigged<S = MemoryStore> {
    inner: S,
    rig: Arc<Rig>,
}

#[derive(Default)]
struct Rig {
    modes: [AtomicU8; 6],
    calls: [AtomicUsize; 6],
    gate: Notify,
}

impl<S: Clone> Clone for Rigged<S> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), rig: self.rig.clone() }
    }
}

const MODES: [Mode; 5] = [Mode::Pass, Mode::Later, Mode::Gated, Mode::Never, Mode::Fail];
const CALLS: [Call; 6] = [Call::Admit, Call::Acquire, Call::Refresh, Call::Release, Call::Clear, Call::Find];

impl<S> Rigged<S> {
    pub fn new(inner: S) -> Self {
        Self { inner, rig: Arc::default() }
    }

    /// `inner`, with every method in `mode`.
    pub fn all(inner: S, mode: Mode) -> Self {
        let rigged = Self::new(inner);
        for call in CALLS {
            rigged.set(call, mode);
        }
        rigged
    }

    /// From now on `call` is in `mode`.
    pub fn set(&self, call: Call, mode: Mode) {
        self.rig.modes[call as usize].store(mode as u8, Ordering::SeqCst);
    }

    /// How often `call` was asked.
    pub fn calls(&self, call: Call) -> usize {
        self.rig.calls[call as usize].load(Ordering::SeqCst)
    }

    /// How often anything was asked.
    pub fn all_calls(&self) -> usize {
        CALLS.into_iter().map(|call| self.calls(call)).sum()
    }

    /// Passes on the answers that wait now, or else the next one.
    pub fn open(&self) {
        self.rig.gate.notify_one();
    }

    fn rigged<T: Send + 'static>(&self, call: Call, ask: impl FnOnce(&S) -> StoreFuture<T>) -> StoreFuture<T> {
        self.rig.calls[call as usize].fetch_add(1, Ordering::SeqCst);
        match MODES[usize::from(self.rig.modes[call as usize].load(Ordering::SeqCst))] {
            Mode::Pass => ask(&self.inner),
            Mode::Later => {
                let answer = ask(&self.inner);
                StoreFuture::new(async move {
                    tokio::task::yield_now().await;
                    answer.await
                })
            }
            Mode::Gated => {
                let (answer, rig) = (ask(&self.inner), self.rig.clone());
                StoreFuture::new(async move {
                    rig.gate.notified().await;
                    answer.await
                })
            }
            Mode::Never => StoreFuture::new(std::future::pending()),
            Mode::Fail => StoreFuture::failed(StoreError::new(StoreErrorKind::Unavailable, "rigged to fail")),
        }
    }
}

impl<S: LockStore> LockStore for Rigged<S> {
    fn admit(&self, write: &Write<'_>) -> StoreFuture<Verdict> {
        self.rigged(Call::Admit, |inner| inner.admit(write))
    }

    fn acquire(&self, request: &Acquire<'_>) -> StoreFuture<Acquired> {
        self.rigged(Call::Acquire, |inner| inner.acquire(request))
    }

    fn refresh(&self, refresh: &Refresh<'_>) -> StoreFuture<Refreshed> {
        self.rigged(Call::Refresh, |inner| inner.refresh(refresh))
    }

    fn release(&self, release: &Release<'_>) -> StoreFuture<Released> {
        self.rigged(Call::Release, |inner| inner.release(release))
    }

    fn clear(&self, gone: &[Gone<'_>], under: Option<WriteId>) -> StoreFuture<usize> {
        self.rigged(Call::Clear, |inner| inner.clear(gone, under))
    }

    fn find(&self, query: &LockQuery<'_>) -> StoreFuture<LockPage> {
        self.rigged(Call::Find, |inner| inner.find(query))
    }

    fn watch(&self, query: &LockQuery<'_>) -> Watch {
        self.inner.watch(query)
    }
}
