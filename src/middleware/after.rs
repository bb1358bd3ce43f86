//! `After`: what is to be done once an admitted write has succeeded.

use http::{Request, StatusCode};

use super::{
    Admission,
    layer::{Fence, Options},
};
use crate::{
    lock::Gone,
    locks::Locks,
    request::RequestView,
    store::{Admitted, StoreFuture, WriteId},
};

/// Ends the locks of what is gone.
pub(super) struct After {
    pub(super) locks: Locks,
    pub(super) gone: Vec<Gone<'static>>,
}

impl After {
    /// Whether a response says that the resource is gone now: 2xx, but neither 202 (not yet) nor 207 (not all of it).
    pub(super) fn is_due(status: StatusCode) -> bool {
        status.is_success() && status != StatusCode::ACCEPTED && status != StatusCode::MULTI_STATUS
    }

    /// Ends the locks. A store that takes longer than [`Limits::answer_within`](crate::Limits::answer_within) has failed:
    /// the service has answered, and its answer cannot wait for ever.
    pub(super) fn clear(&self, under: Option<WriteId>) -> StoreFuture<usize> {
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
    admitted.answered.as_deref().and_then(|answered| {
        let gone: Vec<Gone<'static>> = locks.gone_after(RequestView::of(request));
        let seen = gone.iter().any(|gone| answered.iter().any(|lock| gone.takes(lock.root())));
        // Only where the verdict saw such locks, so that an unlocked DELETE has no second trip.
        seen.then(|| Box::new(After { locks: locks.clone(), gone }))
    })
}
