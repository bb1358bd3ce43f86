//! What happens to locks, as the engine publishes it: one subscription for all watches of a store.
//!
//! It is made with the first watch and goes when there are none. Whenever it stands, everybody is told to read the state;
//! when it breaks, everybody is told so, and it is made anew.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::{Arc, Weak},
    task::{Poll, Waker},
    time::Duration,
};

use redis::{PushInfo, PushKind, Value};
use tokio::{runtime::Handle, sync::Notify, task::JoinHandle};

use super::{
    core::Core,
    error::{incompatible, store_error},
    wire::{Breaker, Record, Unpacker, cause},
};
use crate::{
    lock::Timestamp,
    store::{LockEvent, LockQuery, StoreError, StoreErrorKind, Watch, watchers::Watchers},
};

const DOING: &str = "watching locks";
/// How often a subscription is asked whether it still stands.
const PING: Duration = Duration::from_secs(5);
/// The pause after an attempt that fails, at first and at most.
const PAUSES: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(500));

impl Core {
    pub(super) fn watch(self: &Arc<Self>, query: &LockQuery<'_>) -> Watch {
        let mut task = self.listener.task.lock();
        let watch = self.watchers.join(query);
        self.listener.joined.notify_one();
        if task.as_ref().is_none_or(JoinHandle::is_finished) {
            match Handle::try_current() {
                Ok(runtime) => *task = Some(runtime.spawn(listen(Arc::downgrade(self)))),
                Err(_) => {
                    self.watchers
                        .cut_off(|| StoreError::new(StoreErrorKind::Other, "locks are watched inside of a runtime"));
                }
            }
        }
        watch
    }

    /// Whether nobody watches any more; the task then ends.
    fn nobody_watches(&self) -> bool {
        let mut task = self.listener.task.lock();
        if self.watchers.any() {
            return false;
        }
        // Whoever comes next starts another.
        *task = None;
        true
    }
}

async fn listen(core: Weak<Core>) {
    let mut pause = PAUSES.0;
    loop {
        let Some(strong) = core.upgrade() else { return };
        let watchers = strong.watchers.clone();
        let (lease, broken, joined) = (strong.lease, Arc::new(Notify::new()), strong.listener.joined.clone());
        let hear = {
            let (watchers, broken) = (watchers.clone(), Broken(broken.clone()));
            move |push: PushInfo| {
                let _ = &broken;
                hear(&watchers, push, lease);
            }
        };
        let subscription = strong.link.subscribe(&strong.keys.channel, hear).await;
        drop(strong);
        let why = match subscription {
            Ok(mut connection) => {
                pause = PAUSES.0;
                watchers.synced();
                loop {
                    let why = next_call(&broken, &joined).await;
                    if why == Call::Broken {
                        break StoreError::new(StoreErrorKind::Unavailable, DOING);
                    }
                    let Some(strong) = core.upgrade() else { return };
                    if why == Call::Due && strong.nobody_watches() {
                        return;
                    }
                    drop(strong);
                    // What was published before this is answered has been heard by then.
                    let round = watchers.next_round();
                    let mut ping = redis::Cmd::new();
                    ping.arg("PING");
                    match tokio::time::timeout(PING, connection.send_packed_command(&ping)).await {
                        Ok(Ok(_)) => watchers.synced_up_to(round),
                        Ok(Err(error)) => break store_error(DOING, error),
                        Err(error) => break StoreError::new(StoreErrorKind::TimedOut, DOING).caused_by(error),
                    }
                }
            }
            Err(error) => error,
        };
        let (kind, why) = (why.kind(), Arc::new(why));
        watchers.cut_off(|| StoreError::new(kind, DOING).caused_by(Shared(why.clone())));
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSES.1);
    }
}

/// What a subscription has to do next.
#[derive(PartialEq, Eq)]
enum Call {
    /// Nothing any more.
    Broken,
    /// Somebody has joined.
    Joined,
    /// It was long enough.
    Due,
}

async fn next_call(broken: &Notify, joined: &Notify) -> Call {
    let (mut broken, mut joined) = (pin!(broken.notified()), pin!(joined.notified()));
    let either = poll_fn(|cx| {
        if broken.as_mut().poll(cx).is_ready() {
            Poll::Ready(Call::Broken)
        } else {
            joined.as_mut().poll(cx).map(|()| Call::Joined)
        }
    });
    tokio::time::timeout(PING, either).await.unwrap_or(Call::Due)
}

/// Tells that the connection which held it is gone.
struct Broken(Arc<Notify>);

impl Drop for Broken {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

/// One error for all who watch.
#[derive(Debug)]
struct Shared(Arc<StoreError>);

impl std::fmt::Display for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Shared {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source()
    }
}

fn hear(watchers: &Watchers, push: PushInfo, lease: Duration) {
    if push.kind != PushKind::Message {
        return;
    }
    if let Some(Value::BulkString(text)) = push.data.into_iter().nth(1) {
        // What cannot be read may have been about anything: whoever watches reads the state.
        match event(&text, lease) {
            Ok(event) => watchers.publish(&mut vec![event]).into_iter().for_each(Waker::wake),
            Err(_) => watchers.synced(),
        }
    }
}

fn event(text: &[u8], lease: Duration) -> Result<LockEvent, StoreError> {
    let mut from = Unpacker::new(text);
    let kind = from.letter()?;
    let now = Timestamp::from_micros(from.number()?);
    let letter = from.letter()?;
    let lock = Record::read(from.text()?)?.lock(now, lease);
    let Breaker { actor, reason } = Breaker::read(from.text()?)?;
    Ok(match kind {
        b'g' => LockEvent::Granted(lock),
        b'r' => LockEvent::Refreshed(lock),
        b'b' => LockEvent::Breaking { lock, actor, reason },
        b'e' => LockEvent::Ended { lock, cause: cause(letter)?, actor, reason },
        _ => return Err(incompatible("an event of another kind")),
    })
}
