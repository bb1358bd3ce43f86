//! A store whose calls hold off a step of the clock: a step of an engine's clock is one instant for all, which a test that
//! moves the offset of each call can only have while there is none.

use std::sync::Arc;

use tokio::sync::RwLock;
use tower_lock::{
    LockStore,
    lock::Gone,
    store::{
        Acquire, Acquired, LockPage, LockQuery, Refresh, Refreshed, Release, Released, StoreFuture, Verdict, Watch, Write,
        WriteId,
    },
};

pub(crate) struct Stepping {
    inner: Arc<dyn LockStore>,
    step: Arc<RwLock<()>>,
}

impl Stepping {
    pub(crate) fn new(inner: Arc<dyn LockStore>, step: Arc<RwLock<()>>) -> Self {
        Self { inner, step }
    }

    /// The call begins when it is first polled, so the offset is read under the guard.
    fn held<T: Send + 'static>(&self, call: StoreFuture<T>) -> StoreFuture<T> {
        let step = self.step.clone();
        StoreFuture::new(async move {
            let _call = step.read().await;
            call.await
        })
    }
}

impl LockStore for Stepping {
    fn admit(&self, write: &Write<'_>) -> StoreFuture<Verdict> {
        self.held(self.inner.admit(write))
    }

    fn acquire(&self, request: &Acquire<'_>) -> StoreFuture<Acquired> {
        self.held(self.inner.acquire(request))
    }

    fn refresh(&self, refresh: &Refresh<'_>) -> StoreFuture<Refreshed> {
        self.held(self.inner.refresh(refresh))
    }

    fn release(&self, release: &Release<'_>) -> StoreFuture<Released> {
        self.held(self.inner.release(release))
    }

    fn clear(&self, gone: &[Gone<'_>], under: Option<WriteId>) -> StoreFuture<usize> {
        self.held(self.inner.clear(gone, under))
    }

    fn find(&self, query: &LockQuery<'_>) -> StoreFuture<LockPage> {
        self.held(self.inner.find(query))
    }

    fn watch(&self, query: &LockQuery<'_>) -> Watch {
        self.inner.watch(query)
    }
}
