//! Inspecting and listing: which locks a caller may see.

use std::time::Duration;

use super::{Access, Action, AuthorizeAsk, Caller, LockView, Locks, Refusal};
use crate::{
    lock::{Depth, Lock, LockId, LockKind, Principal, ResourceKey},
    store::{Cursor, LockPage, LockQuery},
};

/// Which locks to list.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct LockFilter {
    /// Rooted at this resource or below.
    pub prefix: Option<ResourceKey<'static>>,
    /// Held by this principal.
    pub owner: Option<Principal>,
    /// Of this kind.
    pub kind: Option<LockKind>,
    /// Granted at least so long ago.
    pub older_than: Option<Duration>,
    /// At most so many; [`Limits::page`](super::Limits::page) unless said.
    pub limit: Option<usize>,
    /// After the page that ended here.
    pub after: Option<Cursor>,
}

/// One page of a list.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Listing {
    /// The locks that the caller may see.
    pub locks: Vec<LockView>,
    /// Where the next page starts; none when this is the last.
    pub next: Option<Cursor>,
}

impl Locks {
    /// The locks that cover `resource`, at most a page of them. The caller is the application.
    ///
    /// # Errors
    /// 503 when the store cannot answer.
    pub async fn covering(&self, resource: &ResourceKey<'_>) -> Result<Vec<Lock>, Refusal> {
        let query = LockQuery::covering(resource.borrowed()).limit(self.limits().page);
        Ok(self.found(&query).await?.locks)
    }

    /// What `caller` may see of the locks that cover `resource`.
    ///
    /// # Errors
    /// 503 when the store cannot answer.
    pub async fn inspect(&self, caller: &Caller, resource: &ResourceKey<'_>) -> Result<Vec<LockView>, Refusal> {
        let locks = self.covering(resource).await?;
        Ok(locks.iter().filter_map(|lock| self.view(caller, lock)).collect())
    }

    /// What `caller` may see of the lock with this id.
    ///
    /// # Errors
    /// 503 when the store cannot answer.
    pub async fn inspect_id(&self, caller: &Caller, id: LockId) -> Result<Option<LockView>, Refusal> {
        Ok(self.by_id(caller, id).await?.and_then(|lock| self.view(caller, &lock)))
    }

    /// What the lock with this id is rooted at, if `caller` may see it.
    pub(crate) async fn root_of(&self, caller: &Caller, id: LockId) -> Result<Option<ResourceKey<'static>>, Refusal> {
        let lock = self.by_id(caller, id).await?.filter(|lock| self.view(caller, lock).is_some());
        Ok(lock.map(|lock| lock.root().clone()))
    }

    /// The lock with this id, if it is one of those that `caller` can name: an id of another tenant's names nothing here.
    pub(super) async fn by_id(&self, caller: &Caller, id: LockId) -> Result<Option<Lock>, Refusal> {
        let page = self.found(&LockQuery::id(id).limit(1)).await?;
        Ok(page.locks.into_iter().next().filter(|lock| self.is_here(caller, lock)))
    }

    /// Whether `caller` can name `lock` by its id.
    pub(super) fn is_here(&self, caller: &Caller, lock: &Lock) -> bool {
        // Without a namespace of the request's own, it is the resolver that tells tenants apart, if anything does.
        caller.is_application() || self.policy().namespace.is_none() || lock.root().namespace() == caller.namespace()
    }

    /// The locks that `caller` may list, a page at a time: one's own, or all, as the authorizer says.
    ///
    /// # Errors
    /// 403 when the caller may not list, 503 when the store cannot answer.
    pub async fn list(&self, caller: &Caller, filter: &LockFilter) -> Result<Listing, Refusal> {
        let root = ResourceKey::from_canonical("/");
        let root = match caller.namespace() {
            Some(namespace) => root.in_namespace(namespace),
            None => root,
        };
        let prefix = filter.prefix.as_ref().unwrap_or(&root);
        let own_only = match self.list_access(caller, prefix) {
            Access::Allowed => false,
            Access::Limited if caller.principal().is_some() => true,
            _ => return Err(Refusal::forbidden("You may not list locks.")),
        };
        if own_only && filter.owner.as_ref().is_some_and(|owner| Some(owner) != caller.principal()) {
            return Err(Refusal::forbidden("You may list your own locks only."));
        }
        let limit = filter.limit.unwrap_or(self.limits().page).clamp(1, 1_000);
        let mut query = LockQuery::at_or_below(prefix.borrowed()).limit(limit);
        if let Some(owner) = &filter.owner {
            query = query.held_by(Some(owner));
        } else if own_only {
            query = query.held_by(caller.principal());
        }
        query.kind = filter.kind.as_ref();
        query.older_than = filter.older_than;
        query.after.clone_from(&filter.after);
        // A cursor says where a page ended, so it must be of a lock that the caller may see: read on over those that they
        // may not, rather than end a page there.
        let (mut locks, mut last) = (Vec::new(), None);
        loop {
            let page = self.found(&query).await?;
            for lock in &page.locks {
                let Some(view) = self.view(caller, lock) else { continue };
                if locks.len() == limit {
                    return Ok(Listing { locks, next: last });
                }
                locks.push(view);
                last = Some(Cursor::of(lock));
            }
            match page.next {
                Some(next) => query.after = Some(next),
                None => return Ok(Listing { locks, next: None }),
            }
        }
    }

    fn list_access(&self, caller: &Caller, prefix: &ResourceKey<'_>) -> Access {
        if caller.is_application() {
            return Access::Allowed;
        }
        self.policy().authorizer.authorize(&AuthorizeAsk {
            action: Action::List,
            principal: caller.principal(),
            key: prefix,
            kind: &LockKind::User,
            depth: Depth::Infinity,
            lifetime: None,
            lock: None,
        })
    }

    pub(crate) async fn found(&self, query: &LockQuery<'_>) -> Result<LockPage, Refusal> {
        let answer = self.store().find(query);
        let limit = self.limits().answer_within;
        self.answered_within(limit, "looking for locks", answer).await.map_err(|error| self.store_failed(error))
    }
}
