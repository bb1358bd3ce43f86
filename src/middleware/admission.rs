//! `Admission`: what a handler may know of the write that it runs in.

use std::{slice, sync::Arc};

use crate::{
    lock::{Lock, LockId},
    store::{Admitted, WriteId},
};

/// In the extensions of an admitted request when locks answered for it, and of every one with
/// [`LockLayer::fence_all`](super::LockLayer::fence_all).
///
/// ```
/// use tower_lock::{Admission, LockRequest, Locks};
///
/// async fn save(locks: &Locks, admission: &Admission) -> Result<(), Box<dyn std::error::Error>> {
///     // `UPDATE docs SET …, fence = $1 WHERE id = 7 AND fence <= $1` is safe against stalled writers.
///     let _fence = admission.generation();
///     // A lock over the path of this very request does not wait for this request.
///     let _guard = locks.hold(LockRequest::exclusive("/docs/7").within(admission.write_id())).await?;
///     Ok(())
/// }
/// ```
#[derive(Clone, Debug)]
pub struct Admission {
    generation: u64,
    locks: Ids,
    write: Option<WriteId>,
}

/// Mostly one.
#[derive(Clone, Debug)]
enum Ids {
    One(LockId),
    Many(Option<Arc<[LockId]>>),
}

impl Admission {
    pub(crate) fn of(admitted: &Admitted) -> Self {
        Self {
            generation: admitted.permit.generation(),
            locks: match admitted.answered.as_deref() {
                None | Some([]) => Ids::Many(None),
                Some([lock]) => Ids::One(lock.id()),
                Some(locks) => Ids::Many(Some(locks.iter().map(Lock::id).collect())),
            },
            write: admitted.permit.id(),
        }
    }

    /// The generation current when the write was admitted: a number that a database can refuse if it has seen a larger
    /// one for the resource.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The locks that the request answered for.
    #[must_use]
    pub fn locks(&self) -> &[LockId] {
        match &self.locks {
            Ids::One(id) => slice::from_ref(id),
            Ids::Many(ids) => ids.as_deref().unwrap_or_default(),
        }
    }

    /// The write itself, for [`LockRequest::within`](crate::LockRequest::within); none in a check-only store.
    #[must_use]
    pub fn write_id(&self) -> Option<WriteId> {
        self.write
    }
}
