//! Short ways to wait, and a store that counts its watches and can be made deaf.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use futures_util::{Stream, StreamExt, stream};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tower_lock::{
    LockRequest, Locks, Refusal,
    lock::Gone,
    locks::Granted,
    store::{
        Acquire, Acquired, LockEvent, LockPage, LockQuery, LockStore, Refresh, Refreshed, Release, Released, StoreError,
        StoreErrorKind, StoreFuture, Verdict, Watch, Write, WriteId,
    },
};

/// How long those wait who are not meant to give up.
pub(crate) const LONG: Duration = Duration::from_secs(600);

/// A future that a test polls by hand, with a count of its wake-ups.
pub(crate) struct Hand<T> {
    future: Pin<Box<dyn Future<Output = T> + Send>>,
    wakes: Arc<Wakes>,
}

#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl<T> Hand<T> {
    pub(crate) fn new(future: impl Future<Output = T> + Send + 'static) -> Self {
        Self { future: Box::pin(future), wakes: Arc::default() }
    }

    pub(crate) fn poll(&mut self) -> Poll<T> {
        let waker = Waker::from(self.wakes.clone());
        self.future.as_mut().poll(&mut Context::from_waker(&waker))
    }

    /// Polls as long as it is woken.
    pub(crate) fn run(&mut self) -> Poll<T> {
        loop {
            let before = self.wakes();
            if let Poll::Ready(done) = self.poll() {
                return Poll::Ready(done);
            }
            if self.wakes() == before {
                return Poll::Pending;
            }
        }
    }

    pub(crate) fn wakes(&self) -> usize {
        self.wakes.0.load(Ordering::SeqCst)
    }
}

/// An acquire in line.
pub(crate) fn waiting(locks: &Locks, request: LockRequest) -> Hand<Result<Granted, Refusal>> {
    let locks = locks.clone();
    Hand::new(async move { locks.acquire(request.waiting(LONG)).await })
}

/// What came of it, which must be there.
pub(crate) fn granted(poll: Poll<Result<Granted, Refusal>>) -> Granted {
    match poll {
        Poll::Ready(Ok(granted)) => granted,
        other => panic!("not granted: {other:?}"),
    }
}

/// The same for a refusal.
pub(crate) fn refused(poll: Poll<Result<Granted, Refusal>>) -> Refusal {
    match poll {
        Poll::Ready(Err(refusal)) => refusal,
        other => panic!("not refused: {other:?}"),
    }
}

/// What the watches of a store say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Hearing {
    /// What the store says.
    #[default]
    Good,
    /// Nothing at all, not even that they stand.
    Deaf,
    /// That there are too many of them.
    Refused,
}

/// A store whose watches are counted, and tell what a test wants them to.
#[derive(Clone)]
pub(crate) struct Ears<S> {
    inner: S,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    open: AtomicUsize,
    made: AtomicUsize,
    hearing: Mutex<Hearing>,
    lines: Mutex<Vec<UnboundedSender<Result<LockEvent, StoreError>>>>,
}

struct Open(Arc<Shared>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::SeqCst);
    }
}

impl<S> Ears<S> {
    pub(crate) fn new(inner: S) -> Self {
        Self { inner, shared: Arc::default() }
    }

    /// How watches hear from now on, those too that are open.
    pub(crate) fn hear(&self, hearing: Hearing) {
        *self.shared.hearing.lock().unwrap() = hearing;
    }

    /// Tells every open watch that the store was lost from sight, or that it is back.
    pub(crate) fn tell(&self, news: impl Fn() -> Result<LockEvent, StoreError>) {
        self.shared.lines.lock().unwrap().retain(|line| line.send(news()).is_ok());
    }

    /// Watches that have not been dropped.
    pub(crate) fn open(&self) -> usize {
        self.shared.open.load(Ordering::SeqCst)
    }

    /// Watches that there ever were.
    pub(crate) fn made(&self) -> usize {
        self.shared.made.load(Ordering::SeqCst)
    }
}

pub(crate) fn lost_from_sight() -> Result<LockEvent, StoreError> {
    Err(StoreError::new(StoreErrorKind::Unavailable, "rigged to be lost from sight"))
}

pub(crate) fn back() -> Result<LockEvent, StoreError> {
    Ok(LockEvent::Synced)
}

impl<S: LockStore> LockStore for Ears<S> {
    fn admit(&self, write: &Write<'_>) -> StoreFuture<Verdict> {
        self.inner.admit(write)
    }

    fn acquire(&self, request: &Acquire<'_>) -> StoreFuture<Acquired> {
        self.inner.acquire(request)
    }

    fn refresh(&self, refresh: &Refresh<'_>) -> StoreFuture<Refreshed> {
        self.inner.refresh(refresh)
    }

    fn release(&self, release: &Release<'_>) -> StoreFuture<Released> {
        self.inner.release(release)
    }

    fn clear(&self, gone: &[Gone<'_>], under: Option<WriteId>) -> StoreFuture<usize> {
        self.inner.clear(gone, under)
    }

    fn find(&self, query: &LockQuery<'_>) -> StoreFuture<LockPage> {
        self.inner.find(query)
    }

    fn watch(&self, query: &LockQuery<'_>) -> Watch {
        self.shared.open.fetch_add(1, Ordering::SeqCst);
        self.shared.made.fetch_add(1, Ordering::SeqCst);
        let open = Open(self.shared.clone());
        if *self.shared.hearing.lock().unwrap() == Hearing::Refused {
            return Watch::new(Counted(stream::iter([lost_from_sight()]), open));
        }
        let shared = self.shared.clone();
        let heard = self.inner.watch(query).filter(move |_| {
            let deaf = *shared.hearing.lock().unwrap() == Hearing::Deaf;
            std::future::ready(!deaf)
        });
        let (line, told) = unbounded_channel();
        self.shared.lines.lock().unwrap().push(line);
        let told = stream::unfold(told, async |mut told| told.recv().await.map(|news| (news, told)));
        Watch::new(Counted(stream::select(heard.boxed(), told.boxed()), open))
    }
}

struct Counted<T>(T, #[allow(dead_code, reason = "counts by being dropped")] Open);

impl<T: Stream + Unpin> Stream for Counted<T> {
    type Item = T::Item;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T::Item>> {
        Pin::new(&mut self.0).poll_next(cx)
    }
}
