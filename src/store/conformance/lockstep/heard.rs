//! What a watcher of everything hears, beside the random steps: each lock is granted once and ends once, and nothing is told
//! of it before or afterwards.

use std::{
    collections::{HashMap, HashSet},
    future::poll_fn,
    pin::Pin,
    task::Poll,
};

use futures_core::Stream;

use crate::{
    lock::{Lock, LockId, LockState, LostCause},
    store::{LockEvent, Watch},
};

/// How far a lock has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Granted,
    Breaking,
}

/// What was heard of the locks that live, as far as was heard.
pub(super) struct Heard {
    watch: Watch,
    live: HashMap<LockId, Stage>,
    dead: HashSet<LockId>,
    /// Something was missed: what lives is not known until it is told.
    gap: bool,
}

impl Heard {
    pub(super) async fn from(mut watch: Watch) -> Self {
        let first = watch.next().await;
        assert!(matches!(first, Some(Ok(LockEvent::Synced))), "`Synced` comes first, not {first:?}");
        Self { watch, live: HashMap::new(), dead: HashSet::new(), gap: false }
    }

    /// Takes in what there is.
    pub(super) async fn all(&mut self) -> Result<(), String> {
        while let Some(event) = poll_fn(|cx| {
            Poll::Ready(match Pin::new(&mut self.watch).poll_next(cx) {
                Poll::Ready(event) => Some(event),
                Poll::Pending => None,
            })
        })
        .await
        {
            self.one(&event.and_then(Result::ok).ok_or("a watch is endless while its store lives")?)?;
        }
        Ok(())
    }

    /// Takes in everything up to the grant of `last`, the latest there is. Those in `found` have all been ended before.
    pub(super) async fn up_to(&mut self, last: LockId, found: &[Lock]) -> Result<(), String> {
        while !self.live.contains_key(&last) {
            let event = self.watch.next().await.and_then(Result::ok).ok_or("a watch is endless while its store lives")?;
            if event == LockEvent::Synced {
                return Ok(());
            }
            self.one(&event)?;
        }
        match found.iter().find(|lock| !self.dead.contains(&lock.id())) {
            Some(lock) => Err(format!("{lock:?} was there and is gone, and its end was not told")),
            None => Ok(()),
        }
    }

    fn one(&mut self, event: &LockEvent) -> Result<(), String> {
        let Some(id) = event.lock().map(Lock::id) else {
            self.gap = true;
            self.live.clear();
            return Ok(());
        };
        if self.dead.contains(&id) {
            return Err(format!("of a lock that had ended this was told: {event:?}"));
        }
        let before = self.live.get(&id).copied();
        if before.is_none() && !self.gap && !matches!(event, LockEvent::Granted(_)) {
            return Err(format!("of a lock that was not granted this was told: {event:?}"));
        }
        let wrong = match event {
            LockEvent::Granted(lock) => {
                let again = self.live.insert(id, Stage::Granted).is_some();
                again || !matches!(lock.state(), LockState::Held | LockState::Offered)
            }
            LockEvent::Refreshed(lock) => {
                before == Some(Stage::Breaking) || !matches!(lock.state(), LockState::Held | LockState::Offered)
            }
            LockEvent::Breaking { lock, reason, .. } => {
                self.live.insert(id, Stage::Breaking);
                lock.state() != LockState::Breaking || reason.is_none() || lock.expires_at().is_none()
            }
            LockEvent::Ended { cause, actor, reason, .. } => {
                self.live.remove(&id);
                self.dead.insert(id);
                let by_others = *cause == LostCause::Broken;
                let slipped = before == Some(Stage::Breaking) && matches!(cause, LostCause::Expired | LostCause::Replaced);
                slipped || reason.is_some() != by_others || (actor.is_some() && !by_others)
            }
            LockEvent::Synced => false,
        };
        if wrong { Err(format!("after {before:?} this was told: {event:?}")) } else { Ok(()) }
    }
}
