//! `Ledger`: the locks granted here, so that the hook hears of those whose time is up. Stores expire silently.
//!
//! There is one only where there is a hook. What ends by the word of somebody, here or on another node, is told by whoever
//! did it; so when a lock's time is up the store is asked why it is gone, by its token, and only an expiry is told. A break
//! with a grace period is told at its end by whoever began it.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Weak},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{runtime::Handle, sync::Notify};

use super::{Activity, ActivityKind, Inner, Locks, Origin, race::race};
use crate::{
    lock::{Lock, LockId, LockToken, LostCause, Principal, Timestamp},
    store::{Authority, Clock, LockQuery, Refresh, Refreshed, Span, Which},
};

/// After what time a store that failed is asked again.
const AGAIN: Duration = Duration::from_secs(1);
/// The soonest that a lock which should be over, and is not, is asked after again.
const SOONEST: Duration = Duration::from_millis(100);

/// Closed when the hub is dropped, so that the task ends.
#[derive(Debug)]
pub(super) struct Ledger(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    book: Mutex<Book>,
    /// Something may have to be asked sooner, or there is nothing to be asked any more.
    changed: Notify,
}

#[derive(Debug, Default)]
struct Book {
    known: HashMap<LockId, Entry>,
    /// By when they are to be asked after.
    queue: BTreeSet<(Timestamp, LockId)>,
    task: Task,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Task {
    #[default]
    Idle,
    Running,
}

/// A lock that may expire.
#[derive(Clone, Debug)]
struct Entry {
    lock: Lock,
    token: Option<LockToken>,
    /// By the clock of this process.
    due: Timestamp,
    breaking: Option<Break>,
}

/// Who began to break it here, and why.
#[derive(Clone, Debug)]
struct Break {
    origin: Origin,
    actor: Option<Principal>,
    reason: Option<Arc<str>>,
}

/// What became of a lock whose time is up.
enum Fate {
    /// It lives, until then.
    Lives(Lock),
    /// Its time was up.
    Expired,
    /// It was broken.
    Broken,
    /// Somebody else has told it, or will.
    Told,
    /// The store cannot say.
    Unknown,
}

impl Ledger {
    pub(super) fn new() -> Self {
        Self(Arc::new(Shared { book: Mutex::default(), changed: Notify::new() }))
    }

    /// Keeps account of what happened.
    pub(super) fn note(&self, locks: &Locks, activity: &Activity<'_>) {
        let (Some(id), lock) = (activity.lock_id, activity.lock) else { return };
        match (activity.kind, lock) {
            (
                ActivityKind::Acquired
                | ActivityKind::Repeated
                | ActivityKind::Refreshed
                | ActivityKind::Transferred
                | ActivityKind::Claimed,
                Some(lock),
            ) => self.0.enter(locks.clock(), lock, activity.token, None),
            (ActivityKind::Breaking, Some(lock)) => {
                let begun = Break {
                    origin: activity.origin,
                    actor: activity.actor.cloned(),
                    reason: activity.reason.map(Arc::from),
                };
                self.0.enter(locks.clock(), lock, activity.token, Some(begun));
            }
            (ActivityKind::Refused, _) => return,
            _ => self.0.book.lock().forget(id),
        }
        self.0.start(locks);
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        let mut book = self.0.book.lock();
        book.known.clear();
        book.queue.clear();
        drop(book);
        self.0.changed.notify_one();
    }
}

impl Book {
    fn forget(&mut self, id: LockId) {
        if let Some(entry) = self.known.remove(&id) {
            self.queue.remove(&(entry.due, id));
        }
    }

    fn put(&mut self, id: LockId, entry: Entry) {
        self.forget(id);
        self.queue.insert((entry.due, id));
        self.known.insert(id, entry);
    }
}

impl Shared {
    fn enter(&self, clock: &Clock, lock: &Lock, token: Option<&LockToken>, breaking: Option<Break>) {
        let mut book = self.book.lock();
        let before = book.known.get(&lock.id());
        let token = token.copied().or_else(|| before?.token);
        let breaking = breaking.or_else(|| before?.breaking.clone());
        // Without its token nobody says why it is gone, unless it was broken here.
        if token.is_none() && breaking.is_none() {
            return;
        }
        // An endless one does not expire.
        let Some(left) = left(lock) else { return book.forget(lock.id()) };
        let due = clock.now().after(left);
        let sooner = book.queue.first().is_none_or(|(first, _)| due < *first);
        book.put(lock.id(), Entry { lock: lock.clone(), token, due, breaking });
        drop(book);
        if sooner {
            self.changed.notify_one();
        }
    }

    /// Starts the task, where there is something to do for it and a runtime to do it on.
    fn start(self: &Arc<Self>, locks: &Locks) {
        let mut book = self.book.lock();
        if book.task == Task::Running || book.queue.is_empty() {
            return;
        }
        if let Ok(runtime) = Handle::try_current() {
            book.task = Task::Running;
            let running = Running { shared: self.clone(), hub: Arc::downgrade(&locks.inner), clock: locks.clock().clone() };
            runtime.spawn(running.run());
        }
    }
}

/// The task, of which each ledger has one at most.
struct Running {
    shared: Arc<Shared>,
    hub: Weak<Inner>,
    clock: Clock,
}

impl Running {
    async fn run(self) {
        loop {
            let first = {
                let mut book = self.shared.book.lock();
                match book.queue.first() {
                    Some(first) => *first,
                    // Under the mutex: what is entered from here on starts the next task.
                    None => {
                        book.task = Task::Idle;
                        return;
                    }
                }
            };
            if first.0 > self.clock.now() {
                race(self.shared.changed.notified(), self.clock.sleep_until(first.0)).await;
                continue;
            }
            let Some(inner) = self.hub.upgrade() else { continue };
            self.end(&Locks { inner }, first).await;
        }
    }

    /// The time of a lock is up: what became of it?
    async fn end(&self, locks: &Locks, (due, id): (Timestamp, LockId)) {
        let Some(entry) = self.shared.book.lock().known.get(&id).cloned() else { return };
        let fate = entry.fate(locks).await;
        let now = self.clock.now();
        {
            let mut book = self.shared.book.lock();
            // It may have been refreshed or ended here meanwhile.
            if book.known.get(&id).is_none_or(|entry| entry.due != due) {
                return;
            }
            let later = match &fate {
                Fate::Lives(lock) => left(lock).map(|left| (lock, now.after(left.max(SOONEST)))),
                Fate::Unknown => Some((&entry.lock, now.after(AGAIN))),
                _ => None,
            };
            match later {
                Some((lock, due)) => book.put(id, Entry { lock: lock.clone(), due, ..entry.clone() }),
                None => book.forget(id),
            }
        }
        match fate {
            Fate::Expired => locks.note(&Activity::by(ActivityKind::Expired, Origin::InProcess, None).of(&entry.lock)),
            Fate::Broken => {
                if let Some(Break { origin, actor, reason }) = &entry.breaking {
                    let activity = Activity::by(ActivityKind::Broken, *origin, actor.as_ref()).of(&entry.lock);
                    locks.note(&activity.because(reason.as_deref()));
                }
            }
            Fate::Lives(_) | Fate::Told | Fate::Unknown => {}
        }
    }
}

impl Entry {
    async fn fate(&self, locks: &Locks) -> Fate {
        let limit = locks.limits().answer_within;
        let found = locks.store().find(&LockQuery::id(self.lock.id()).limit(1));
        match locks.answered_within(limit, "looking for an expired lock", found).await.map(|page| page.locks) {
            Err(_) => return Fate::Unknown,
            Ok(mut locks) => {
                if let Some(lock) = locks.pop() {
                    return Fate::Lives(lock);
                }
            }
        }
        let Some(token) = &self.token else { return Fate::Broken };
        // It is gone, so this refreshes nothing, and is told the cause.
        let refresh = Refresh::new(Which::Token(token), Authority::Guard, Span::Same);
        let cause = locks.store().refresh(&refresh);
        match locks.answered_within(limit, "asking why a lock is gone", cause).await {
            Ok(Refreshed::Refreshed(lock, _)) => Fate::Lives(lock),
            // One that is forgotten already ended by itself, as far as anybody here has heard.
            Ok(Refreshed::Lost(lost)) => match (lost.cause, &self.breaking) {
                (LostCause::Broken | LostCause::Expired | LostCause::Unknown, Some(_)) => Fate::Broken,
                (LostCause::Expired | LostCause::Unknown, None) => Fate::Expired,
                _ => Fate::Told,
            },
            Ok(Refreshed::NotHolder) => Fate::Told,
            Err(_) => Fate::Unknown,
        }
    }
}

fn left(lock: &Lock) -> Option<Duration> {
    lock.expires_at().map(|end| end.since(lock.life().seen_at))
}
