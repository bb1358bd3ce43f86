//! `After`: what is to be done once an admitted write has succeeded.

use http::{Request, StatusCode};

use super::{
    Admission,
    layer::{Fence, Options},
};
use crate::{
    lock::{Gone, Lock},
    locks::{Incident, Locks},
    request::RequestView,
    store::{Admitted, StoreError, StoreFuture, WriteId},
};

/// Ends the locks of what is gone.
pub(crate) struct After {
    locks: Locks,
    gone: Vec<Gone<'static>>,
}

impl After {
    /// What is to be done once `gone` is gone; nothing where none of the locks that `answered` is taken along, so that an
    /// unlocked DELETE has no second trip.
    pub(crate) fn of(locks: &Locks, answered: &[Lock], gone: Vec<Gone<'static>>) -> Option<Box<Self>> {
        let seen = gone.iter().any(|gone| answered.iter().any(|lock| gone.takes(lock.root())));
        seen.then(|| Box::new(Self { locks: locks.clone(), gone }))
    }

    /// Tells that the locks could not be ended. The resources are gone all the same, so the answer stands, and the locks
    /// expire.
    pub(crate) fn failed(&self, error: &StoreError) {
        for gone in &self.gone {
            self.locks.report(&Incident::LocksLeft { path: gone.key.path(), error });
        }
    }

    /// Whether a response says that the resource is gone now: 2xx, but neither 202 (not yet) nor 207 (not all of it).
    pub(crate) fn is_due(status: StatusCode) -> bool {
        status.is_success() && status != StatusCode::ACCEPTED && status != StatusCode::MULTI_STATUS
    }

    /// Ends the locks. A store that takes longer than [`Limits::answer_within`](crate::Limits::answer_within) has failed:
    /// the service has answered, and its answer cannot wait for ever.
    pub(crate) fn clear(&self, under: Option<WriteId>) -> StoreFuture<usize> {
        match self.locks.store().clear(&self.gone, under).into_ready() {
            Ok(answer) => answer.into(),
            Err(pending) => {
                let locks = self.locks.clone();
                StoreFuture::new(async move {
                    let limit = locks.limits().answer_within;
                    locks.answered_within(limit, "ending the locks of what is gone", pending).await
                })
            }
        }
    }
}

/// What an admitted request takes along, and what is to be done once it has succeeded.
pub(super) fn prepare<B>(
    request: &mut Request<B>,
    admitted: &Admitted,
    locks: &Locks,
    options: Options,
) -> Option<Box<After>> {
    if options.fence == Fence::All || admitted.answered.is_some() {
        request.extensions_mut().insert(Admission::of(admitted));
    }
    admitted.answered.as_deref().and_then(|answered| After::of(locks, answered, locks.gone_after(RequestView::of(request))))
}
