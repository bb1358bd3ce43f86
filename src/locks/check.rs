//! Checking many resources at once: what is locked, without trying a write.

use std::{
    collections::HashMap,
    future::{Future, poll_fn},
    pin::Pin,
    task::Poll,
};

use serde::{Serialize, Serializer, ser::SerializeStruct};

use super::{Caller, LockView, Locks, Refusal};
use crate::{
    lock::ResourceKey,
    store::{LockPage, LockQuery, StoreError, StoreErrorKind, StoreFuture},
};

/// So many resources are asked about at the same time, of a store that takes its time.
const AT_ONCE: usize = 16;

/// What a caller may see of the locks that cover one resource. Serialises as `{"resource", "locked", "locks", "truncated",
/// "retry_after"}`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Checked {
    /// The resource.
    pub resource: ResourceKey<'static>,
    /// The locks that cover it, those of the caller as well; at most a [page](super::Limits::page). Of all resources together
    /// no more than [`Limits::items`](super::Limits::items) are named, or one of each.
    pub locks: Vec<LockView>,
    /// Whether there are more than are named.
    pub truncated: bool,
    retry_after: Option<u64>,
}

impl Checked {
    /// Whether there is such a lock.
    #[must_use]
    pub fn is_locked(&self) -> bool {
        !self.locks.is_empty()
    }

    /// After how many seconds the last of them ends, also of those that are not named; nothing where there is none, and where
    /// nobody knows, because one is endless or in use, or there are more than a page.
    #[must_use]
    pub fn retry_after(&self) -> Option<u64> {
        self.retry_after
    }
}

/// The locks of one resource that a caller may see.
struct Seen {
    locks: Vec<LockView>,
    /// Whether there are more than these.
    more: bool,
}

impl Seen {
    fn retry_after(&self) -> Option<u64> {
        let left = self.locks.iter().map(|lock| lock.expires_in.filter(|_| !lock.in_use && !self.more));
        left.reduce(|latest, left| Some(latest?.max(left?))).flatten()
    }
}

impl Serialize for Checked {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let retry_after = self.retry_after();
        let mut object =
            serializer.serialize_struct("Checked", 3 + usize::from(self.truncated) + usize::from(retry_after.is_some()))?;
        object.serialize_field("resource", self.resource.path())?;
        object.serialize_field("locked", &self.is_locked())?;
        object.serialize_field("locks", &self.locks)?;
        if self.truncated {
            object.serialize_field("truncated", &true)?;
        }
        if let Some(seconds) = retry_after {
            object.serialize_field("retry_after", &seconds)?;
        }
        object.end()
    }
}

impl Locks {
    /// Which of these resources are covered by a lock, in their order; one that is named twice is told twice. The caller is the
    /// application.
    ///
    /// ```
    /// use tower_lock::{LockRequest, Locks, MemoryStore, ResourceKey};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let locks = Locks::new(MemoryStore::new());
    /// let _guard = locks.hold(LockRequest::exclusive("/docs/7").reason("under review")).await?;
    /// let checked = locks.check(&["/docs/6", "/docs/7"].map(ResourceKey::from_canonical)).await?;
    /// assert!(!checked[0].is_locked());
    /// assert_eq!(checked[1].locks[0].reason.as_deref(), Some("under review"));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As for [`Locks::check_for`].
    pub async fn check(&self, resources: &[ResourceKey<'_>]) -> Result<Vec<Checked>, Refusal> {
        self.check_for(&Caller::application(None), resources).await
    }

    /// The same, as far as `caller` may see. Nothing is changed by it, and nothing is registered: a moment later it may be
    /// otherwise, and each resource is looked at in a moment of its own.
    ///
    /// # Errors
    /// 400 where there are more than [`Limits::items`](super::Limits::items); 503 when the store cannot answer for all of
    /// them within [`Limits::answer_within`](super::Limits::answer_within).
    pub async fn check_for(&self, caller: &Caller, resources: &[ResourceKey<'_>]) -> Result<Vec<Checked>, Refusal> {
        let most = self.limits().items;
        if resources.len() > most {
            return Err(Refusal::bad_request(format!("resources: at most {most} at once")));
        }
        let mut distinct: Vec<&ResourceKey<'_>> = Vec::with_capacity(resources.len());
        let mut places: HashMap<&ResourceKey<'_>, usize> = HashMap::with_capacity(resources.len());
        for resource in resources {
            places.entry(resource).or_insert_with(|| {
                distinct.push(resource);
                distinct.len() - 1
            });
        }
        let pages = self.pages_of(&distinct).await.map_err(|error| self.store_failed(error))?;
        let seen = |page: &LockPage| Seen {
            locks: page.locks.iter().filter_map(|lock| self.view(caller, lock)).collect(),
            more: page.next.is_some(),
        };
        let seen: Vec<Seen> = pages.iter().map(seen).collect();
        // A hundred locks above a thousand resources, each with a long owner: the answer would be without measure.
        let locked = resources.iter().filter(|resource| !seen[places[resource]].locks.is_empty()).count();
        let share = (most / locked.max(1)).max(1);
        let checked = |resource: &ResourceKey<'_>| {
            let seen = &seen[places[resource]];
            let named = &seen.locks[..seen.locks.len().min(share)];
            Checked {
                resource: resource.clone().into_owned(),
                locks: named.to_vec(),
                truncated: seen.more && !named.is_empty() || named.len() < seen.locks.len(),
                retry_after: seen.retry_after(),
            }
        };
        Ok(resources.iter().map(checked).collect())
    }

    /// The locks that cover each of these resources, at most a page of them.
    async fn pages_of(&self, resources: &[&ResourceKey<'_>]) -> Result<Vec<LockPage>, StoreError> {
        let limits = *self.limits();
        let ask =
            |resource: &ResourceKey<'_>| self.store().find(&LockQuery::covering(resource.borrowed()).limit(limits.page));
        let mut left = resources.iter().enumerate();
        let mut asked: Vec<(usize, StoreFuture<LockPage>)> = Vec::new();
        let mut pages = vec![LockPage::default(); resources.len()];
        // One limit for all. A store that answers at once needs no timer.
        let mut too_late = None;
        poll_fn(|cx| {
            loop {
                let room = AT_ONCE - asked.len();
                asked.extend(left.by_ref().take(room).map(|(at, resource)| (at, ask(resource))));
                if asked.is_empty() {
                    return Poll::Ready(Ok(()));
                }
                let waiting = asked.len();
                let mut failed = None;
                asked.retain_mut(|(at, answer)| match Pin::new(answer).poll(cx) {
                    _ if failed.is_some() => true,
                    Poll::Pending => true,
                    Poll::Ready(Ok(page)) => {
                        pages[*at] = page;
                        false
                    }
                    Poll::Ready(Err(error)) => {
                        failed = Some(error);
                        false
                    }
                });
                if let Some(error) = failed {
                    return Poll::Ready(Err(error));
                }
                if asked.len() == waiting {
                    break;
                }
            }
            let too_late = too_late.get_or_insert_with(|| Box::pin(tokio::time::sleep(limits.answer_within)));
            too_late.as_mut().poll(cx).map(|()| Err(StoreError::new(StoreErrorKind::TimedOut, "looking for locks")))
        })
        .await?;
        Ok(pages)
    }
}
