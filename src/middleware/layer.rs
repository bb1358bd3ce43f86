//! `LockLayer`: puts locks before a service.

use std::fmt;

use http::{Response, request::Parts};
use tower_layer::Layer;

use super::LockService;
use crate::{
    locks::{Demand, Locks, Refusal},
    request::LockPreference,
    respond::{Problems, ReadOn, RespondWith, UntilBodyEnds},
};

/// Asks the locks before every write to the service inside. See the [module docs](super).
///
/// `R` makes the responses of refusals: [`Problems`] unless [`LockLayer::respond_with`] said otherwise.
#[derive(Clone)]
#[must_use = "a layer does nothing until it is put before a service"]
pub struct LockLayer<R = Problems> {
    locks: Locks,
    options: Options,
    responder: R,
}

/// What a layer does beside asking.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Options {
    pub(crate) demand: Demand,
    pub(super) fence: Fence,
    pub(super) hold: Hold,
    /// What becomes of the writer's own locks where the client does not say; nothing unless set.
    pub(crate) own: Option<LockPreference>,
}

impl Options {
    /// Whether a write that met no lock goes on with no more ado.
    #[inline]
    pub(super) fn ask_no_more(self) -> bool {
        self.demand == Demand::None && self.fence == Fence::Held
    }
}

/// Which requests carry an [`Admission`](super::Admission).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Fence {
    /// Those that locks answered for.
    #[default]
    Held,
    /// All that were admitted.
    All,
}

/// Until when a write is in flight.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Hold {
    /// Until the service has answered.
    #[default]
    Answer,
    /// Until the body of its answer has ended.
    Body,
}

impl LockLayer {
    /// A layer over `locks`, or over a bare store under the default policy.
    pub fn new(locks: impl Into<Locks>) -> Self {
        Self { locks: locks.into(), options: Options::default(), responder: Problems::new() }
    }

    /// Goes on reading the body of a refused request while the refusal is sent, at most `limit` bytes, so that a client
    /// that sends all before it reads gets the refusal and keeps its connection. Off unless set: it spends the bandwidth
    /// that an early refusal saves. A request with `Expect: 100-continue` is not read on: it has not sent its body yet.
    ///
    /// # Panics
    /// A refusal does, when it is made outside of a tokio runtime.
    pub fn read_on(self, limit: u64) -> LockLayer<ReadOn> {
        LockLayer { locks: self.locks, options: self.options, responder: ReadOn::new(limit) }
    }

    /// Makes the response of a refusal with a closure instead. It is given the refusal and the head of the request, and
    /// returns a response with the service's own body type, so that bodies pass through unwrapped.
    ///
    /// ```
    /// use http::Response;
    /// use tower_lock::{LockLayer, MemoryStore, Refusal};
    ///
    /// let layer = LockLayer::new(MemoryStore::new()).respond_with(|refusal: &Refusal, _request: &http::request::Parts| {
    ///     Response::builder().status(refusal.status()).body(refusal.to_string()).unwrap()
    /// });
    /// ```
    pub fn respond_with<F, B>(self, respond: F) -> LockLayer<RespondWith<F>>
    where
        F: Fn(&Refusal, &Parts) -> Response<B>,
    {
        LockLayer { locks: self.locks, options: self.options, responder: RespondWith::new(respond) }
    }
}

#[cfg(feature = "batch")]
impl LockLayer {
    /// The locks, and what is done beside asking them.
    pub(crate) fn parts(&self) -> (&Locks, Options) {
        (&self.locks, self.options)
    }
}

impl<R> LockLayer<R> {
    /// Counts a write as in flight until the body of its response has ended or is dropped, not just until the service
    /// has answered: for handlers that go on writing while they stream, as some WebDAV servers do. A lock that is released with
    /// its write is so at that end. Should the lease of the write lapse meanwhile, its
    /// body is dropped, and the stream fails with [`LeaseLapsed`](crate::respond::LeaseLapsed).
    pub fn until_body_ends(self) -> LockLayer<UntilBodyEnds<R>> {
        let options = Options { hold: Hold::Body, ..self.options };
        LockLayer { locks: self.locks, options, responder: UntilBodyEnds::new(self.responder) }
    }

    /// Puts an [`Admission`](super::Admission) into every admitted write, not just into those that locks answered for.
    /// Costs an allocation a write.
    pub fn fence_all(mut self) -> Self {
        self.options.fence = Fence::All;
        self
    }

    /// Starts the lifetime of a lock anew with every write that it answers for, whatever the service answers: who writes is
    /// alive. Off unless called. A client asks for it by `Prefer: lock=renew`, and out of it by `Prefer: lock=keep`. The
    /// answer waits for the store to do it; where that fails the answer stands, and the hook hears of it
    /// ([`Incident::NotAfterWrite`](crate::locks::Incident::NotAfterWrite)).
    pub fn renew_on_write(mut self) -> Self {
        self.options.own = Some(LockPreference::Renew);
        self
    }

    /// Ends the locks that answered for a write once it has succeeded (2xx, but neither 202 nor 207): for services where one
    /// write is all that a lock is for. Off unless called. A client asks for it by `Prefer: lock=release`, and out of it by
    /// `Prefer: lock=keep`. Shared locks of others stay.
    pub fn release_on_success(mut self) -> Self {
        self.options.own = Some(LockPreference::Release);
        self
    }

    /// Demands that who writes holds a lock on what they write; others get 428 `lock_required`.
    pub fn require_lock(mut self) -> Self {
        self.options.demand = Demand::Lock;
        self
    }
}

impl<S, R: Clone> Layer<S> for LockLayer<R> {
    type Service = LockService<S, R>;

    fn layer(&self, inner: S) -> Self::Service {
        LockService::new(inner, self.locks.clone(), self.options, self.responder.clone())
    }
}

impl<R> fmt::Debug for LockLayer<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LockLayer").field("locks", &self.locks).field("options", &self.options).finish_non_exhaustive()
    }
}
