//! `LockNews`: what becomes of locks, as far as a caller may know, as a stream.

use std::{
    fmt,
    pin::Pin,
    sync::atomic::Ordering,
    task::{Context, Poll, ready},
};

use futures_core::Stream;

use super::{Access, Action, Caller, LockView, Locks, Refusal, RefusalCode};
use crate::{
    lock::{Lock, LockId, LostCause, Principal, ResourceKey},
    store::{Follow, Followed, LockEvent},
};

/// What becomes of the locks that cover a resource, or of one lock, as a caller may know it: from [`Locks::watch`],
/// [`Locks::watch_for`] and [`Locks::watch_lock_for`].
///
/// The state comes first, then every change, the end of a lock that expires included. What happens to a lock that the caller
/// may not see is not told, nor that anything happened. Of one that they may see in part, neither owner nor reason is told,
/// nor who broke it and why, unless it is their own.
///
/// A reader that is slow costs little: what it did not take in time is dropped, and it is told the state instead. Endless
/// for a resource; for one lock it ends when the lock has.
#[must_use = "streams do nothing unless polled"]
pub struct LockNews {
    follow: Follow,
    locks: Locks,
    caller: Caller,
    subject: Subject,
    told: Told,
    _counted: Option<Counted>,
}

#[derive(Clone, Debug)]
enum Subject {
    Resource(ResourceKey<'static>),
    Lock,
}

/// What was told last.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Told {
    /// Nothing, or that nothing is known any more.
    Nothing,
    /// A state with this tag.
    State(String),
    /// The end of the one lock that it was about.
    All,
}

/// One piece of [`LockNews`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum News {
    /// The locks that there are. Comes first, and again after something was missed.
    Snapshot(Vec<LockView>),
    /// A lock was granted.
    Locked(LockView),
    /// It lives on.
    Refreshed(LockView),
    /// Somebody breaks it; it ends when the grace period does.
    Breaking {
        /// The lock.
        lock: LockView,
        /// Who breaks it, where the caller may know.
        by: Option<Principal>,
        /// Why, in their words, where the caller may know.
        reason: Option<String>,
    },
    /// It has ended.
    Ended {
        /// The lock as it was.
        lock: LockView,
        /// Why.
        cause: LostCause,
        /// Who ended it, if it was somebody else and the caller may know.
        by: Option<Principal>,
        /// Why, in their words, where the caller may know.
        reason: Option<String>,
    },
    /// The store cannot be asked: nothing is known until a snapshot follows.
    Unavailable(Refusal),
}

impl News {
    /// What it is in one word: `snapshot`, `locked`, `refreshed`, `breaking`, for an end `broken`, `released`, `expired`,
    /// `replaced` or `gone`, and `unavailable`. The `event` of a server-sent one.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Snapshot(_) => "snapshot",
            Self::Locked(_) => "locked",
            Self::Refreshed(_) => "refreshed",
            Self::Breaking { .. } => "breaking",
            Self::Ended { cause: LostCause::Broken, .. } => "broken",
            Self::Ended { cause: LostCause::Released, .. } => "released",
            Self::Ended { cause: LostCause::Expired, .. } => "expired",
            Self::Ended { cause: LostCause::Replaced, .. } => "replaced",
            Self::Ended { .. } => "gone",
            Self::Unavailable(_) => "unavailable",
        }
    }

    /// The lock that it is about, if it is about one.
    #[must_use]
    pub const fn lock(&self) -> Option<&LockView> {
        match self {
            Self::Locked(lock) | Self::Refreshed(lock) | Self::Breaking { lock, .. } | Self::Ended { lock, .. } => {
                Some(lock)
            }
            Self::Snapshot(_) | Self::Unavailable(_) => None,
        }
    }
}

impl Locks {
    /// What becomes of the locks that cover `resource`. The caller is the application.
    ///
    /// ```
    /// use tower_lock::{LockRequest, Locks, MemoryStore, locks::News};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let locks = Locks::new(MemoryStore::new());
    /// let guard = locks.hold(LockRequest::exclusive("/docs")).await?;
    /// let mut news = locks.watch(&tower_lock::ResourceKey::parse("/docs/7")?)?;
    /// assert!(matches!(news.next().await, Some(News::Snapshot(locks)) if locks.len() == 1));
    /// drop(guard);
    /// assert_eq!(news.next().await.map(|news| news.as_str()), Some("released"));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// 429 `too_many_waiting` past [`Limits::watchers`](super::Limits::watchers).
    pub fn watch(&self, resource: &ResourceKey<'_>) -> Result<LockNews, Refusal> {
        self.watch_for(&Caller::application(None), resource)
    }

    /// What becomes of the locks that cover `resource`, as far as `caller` may know.
    ///
    /// # Errors
    /// 429 `too_many_waiting` past [`Limits::watchers`](super::Limits::watchers).
    pub fn watch_for(&self, caller: &Caller, resource: &ResourceKey<'_>) -> Result<LockNews, Refusal> {
        let counted = self.count_watcher()?;
        Ok(LockNews { _counted: Some(counted), ..self.news_of(caller, resource) })
    }

    /// What becomes of the lock with this id, as far as `caller` may know. A lock that they may not see is none: the snapshot
    /// is empty, and nothing follows.
    ///
    /// # Errors
    /// 429 `too_many_waiting` past [`Limits::watchers`](super::Limits::watchers).
    pub fn watch_lock_for(&self, caller: &Caller, id: LockId) -> Result<LockNews, Refusal> {
        let counted = self.count_watcher()?;
        Ok(LockNews { _counted: Some(counted), ..self.news_of_lock(caller, id) })
    }

    /// The same news, of which somebody else keeps count.
    pub(crate) fn news_of(&self, caller: &Caller, resource: &ResourceKey<'_>) -> LockNews {
        let key = resource.clone().into_owned();
        let follow = Follow::covering(self.store().clone(), key.clone(), self.limits().page, self.clock().clone());
        self.news(caller, Subject::Resource(key), follow)
    }

    /// The same of one lock.
    pub(crate) fn news_of_lock(&self, caller: &Caller, id: LockId) -> LockNews {
        let follow = Follow::lock(self.store().clone(), id, self.clock().clone());
        self.news(caller, Subject::Lock, follow)
    }

    fn news(&self, caller: &Caller, subject: Subject, follow: Follow) -> LockNews {
        LockNews { follow, locks: self.clone(), caller: caller.clone(), subject, told: Told::Nothing, _counted: None }
    }

    /// How many watch at the moment: event streams, and those in code.
    #[must_use]
    pub fn watching(&self) -> usize {
        self.inner.watching.load(Ordering::Relaxed)
    }

    fn count_watcher(&self) -> Result<Counted, Refusal> {
        let most = self.limits().watchers;
        let one_more = |count| (count < most).then_some(count + 1);
        match self.inner.watching.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more) {
            Ok(_) => Ok(Counted(self.clone())),
            Err(_) => {
                let refusal = Refusal::new(RefusalCode::TooManyWaiting, "As many watch locks as may; try again later.");
                Err(self.signed(refusal.retry_in(1)))
            }
        }
    }
}

impl LockNews {
    /// What is told next; nothing more once the one lock that was watched is gone.
    pub async fn next(&mut self) -> Option<News> {
        std::future::poll_fn(|cx| self.poll_told(cx)).await
    }

    /// What the caller may see of the locks that there are, as of what was told last.
    #[must_use]
    pub fn locks(&self) -> Vec<LockView> {
        self.follow.locks().filter_map(|lock| self.shown(lock)).collect()
    }

    /// The tag of that: the same as the entity tag of the resource, or of the lock, at the endpoint.
    #[must_use]
    pub fn tag(&self) -> String {
        self.tag_of(&self.locks())
    }

    /// The resource that is watched; none for the news of one lock.
    pub(crate) fn resource(&self) -> Option<&ResourceKey<'static>> {
        match &self.subject {
            Subject::Resource(key) => Some(key),
            Subject::Lock => None,
        }
    }

    fn tag_of(&self, locks: &[LockView]) -> String {
        LockView::tag(self.resource().map_or("", |key| key.path()), locks)
    }

    fn shown(&self, lock: &Lock) -> Option<LockView> {
        match self.subject {
            Subject::Lock if !self.locks.is_here(&self.caller, lock) => None,
            _ => self.locks.view(&self.caller, lock),
        }
    }

    fn poll_told(&mut self, cx: &mut Context<'_>) -> Poll<Option<News>> {
        loop {
            if self.told == Told::All {
                return Poll::Ready(None);
            }
            let news = match ready!(self.follow.poll_told(cx)) {
                Ok(Followed::Now(locks)) => self.state(&locks),
                Ok(Followed::Event(event)) => self.event(&event),
                Err(error) => {
                    self.told = Told::Nothing;
                    Some(News::Unavailable(self.locks.signed(self.locks.store_failed(error))))
                }
            };
            if news.is_some() {
                return Poll::Ready(news);
            }
        }
    }

    fn state(&mut self, locks: &[Lock]) -> Option<News> {
        let locks: Vec<LockView> = locks.iter().filter_map(|lock| self.shown(lock)).collect();
        let state = Told::State(self.tag_of(&locks));
        // Whoever sees nothing of what was missed is not to learn that something was.
        if self.told == state {
            return None;
        }
        let over = matches!(self.subject, Subject::Lock) && locks.is_empty();
        self.told = if over { Told::All } else { state };
        Some(News::Snapshot(locks))
    }

    fn event(&mut self, event: &LockEvent) -> Option<News> {
        let lock = event.lock()?;
        let shown = self.shown(lock);
        let knows = self.knows_all(lock);
        let whose = |actor: &Option<Principal>| actor.clone().filter(|_| knows);
        let why = |reason: &Option<std::sync::Arc<str>>| reason.as_deref().filter(|_| knows).map(str::to_owned);
        let news = match (event, shown?) {
            (LockEvent::Granted(_), lock) => News::Locked(lock),
            (LockEvent::Refreshed(_), lock) => News::Refreshed(lock),
            (LockEvent::Breaking { actor, reason, .. }, lock) => {
                News::Breaking { lock, by: whose(actor), reason: why(reason) }
            }
            (LockEvent::Ended { cause, actor, reason, .. }, lock) => {
                News::Ended { lock, cause: *cause, by: whose(actor), reason: why(reason) }
            }
            (LockEvent::Synced, _) => return None,
        };
        let over = matches!((&self.subject, &news), (Subject::Lock, News::Ended { .. }));
        self.told = if over { Told::All } else { Told::State(self.tag()) };
        Some(news)
    }

    /// Whether the caller may know who ends `lock` and why.
    fn knows_all(&self, lock: &Lock) -> bool {
        let own = self.caller.principal().is_some() && self.caller.principal() == lock.principal();
        own || self.locks.access(&self.caller, Action::See, lock) == Access::Allowed
    }
}

impl Stream for LockNews {
    type Item = News;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<News>> {
        self.poll_told(cx)
    }
}

impl fmt::Debug for LockNews {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LockNews").field("follow", &self.follow).finish_non_exhaustive()
    }
}

/// Counted among those who watch as long as this lives.
struct Counted(Locks);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.inner.watching.fetch_sub(1, Ordering::Relaxed);
    }
}
