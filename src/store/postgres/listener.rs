//! The one connection by which a node hears of changes, while somebody watches.
//!
//! A node that wants to hear says so in a table, for a minute at a time; only then do the functions write down what they
//! change and notify. The task lives as long as somebody watches, and a little longer.

use std::{
    collections::HashSet,
    future::{Future, poll_fn},
    pin::pin,
    sync::{Arc, Weak},
    task::Poll,
    time::Duration,
};

use tokio::{runtime::Handle, sync::Notify, time::Instant};
use tokio_postgres::{AsyncMessage, Client, Row, types::ToSql};
use uuid::Uuid;

use super::{
    connection::{Messages, Statements},
    core::{Core, Failed, Listener},
    error::{store_error, unreadable},
    statements::Call,
    wire::{Answer, column, time},
};
use crate::{
    lock::{LostCause, Principal},
    store::{LockEvent, StoreError, StoreErrorKind, remote::deadline::within},
};

const DOING: &str = "watching";
/// How often a node says that it still wants to hear; a third of what the server takes it to mean.
const RENEW: Duration = Duration::from_secs(20);
/// How long the connection is kept after the last watch has gone.
const LINGER: Duration = Duration::from_secs(30);
/// The pauses between two attempts to listen.
const PAUSES: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));

impl Listener {
    /// Starts to listen, unless it does already.
    pub(super) fn ensure(&self, core: &Arc<Core>) {
        self.joined.notify_one();
        let mut task = self.task.lock();
        if task.as_ref().is_some_and(|task| !task.is_finished()) {
            return;
        }
        let Ok(runtime) = Handle::try_current() else { return };
        *task = Some(runtime.spawn(listen(Arc::downgrade(core), self.joined.clone())));
    }

    /// Whether nobody has begun to watch meanwhile. Who begins later starts another task.
    fn ends(&self, core: &Core) -> bool {
        let mut task = self.task.lock();
        if core.watchers.any() {
            return false;
        }
        core.watchers.cut_off(closed);
        *task = None;
        true
    }
}

/// How often to look for changes where the server cannot call.
const LOOK: Duration = Duration::from_millis(500);

/// One connection after the other, until nobody watches any more.
async fn listen(core: Weak<Core>, joined: Arc<Notify>) {
    let node = Uuid::new_v4();
    let mut pause = PAUSES.0;
    if core.upgrade().is_some_and(|core| core.connections.statements == Statements::Unprepared) {
        return look(&core, &joined, node).await;
    }
    loop {
        let Some(connected) = begin(&core, node).await else { return };
        match connected {
            Ok(mut ear) => {
                pause = PAUSES.0;
                match ear.hear(&core, &joined).await {
                    Ok(()) => return,
                    Err(error) => tell_cut_off(&core, &error),
                }
            }
            Err(error) => tell_cut_off(&core, &error),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSES.1);
    }
}

/// Through a proxy that gives every transaction another session nobody can be called. Then somebody looks, and where
/// anything has changed the watchers are told to read the state anew.
async fn look(core: &Weak<Core>, joined: &Notify, node: Uuid) {
    let (mut seen, mut lonely, mut renewal) = (None, None, Instant::now());
    loop {
        let Some(strong) = core.upgrade() else { return };
        let round = strong.watchers.next_round();
        let work = async {
            if Instant::now() >= renewal {
                stay(&strong, node).await?;
                if seen.is_none() {
                    strong.outlast_changes().await?;
                }
                renewal = Instant::now() + RENEW;
            }
            let rows = strong.plain(Call::Changes, &[&strong.space.0]).await?;
            let row = rows.first().ok_or_else(|| unreadable("no count"))?;
            Ok((column::<i64>(row, 0)?, column::<Option<i64>>(row, 1)?))
        };
        match within(strong.limit * 4, DOING, work).await {
            Ok(now) if seen == Some(now) => strong.watchers.synced_up_to(round),
            Ok(now) => {
                seen = Some(now);
                strong.watchers.synced();
            }
            Err(error) => {
                (seen, renewal) = (None, Instant::now());
                tell_cut_off(core, &error);
            }
        }
        lonely = if strong.watchers.any() { None } else { Some(lonely.unwrap_or_else(Instant::now)) };
        if lonely.is_some_and(|since: Instant| since.elapsed() >= LINGER) && strong.listener.ends(&strong) {
            return;
        }
        drop(strong);
        let _ = tokio::time::timeout(LOOK, joined.notified()).await;
    }
}

fn tell_cut_off(core: &Weak<Core>, error: &StoreError) {
    if let Some(core) = core.upgrade() {
        let (kind, what) = (error.kind(), error.to_string());
        core.watchers.cut_off(|| StoreError::new(kind, DOING).caused_by(what.clone()));
    }
}

/// What is heard on one connection.
struct Ear {
    /// Kept open: the connection ends with it.
    _client: Client,
    messages: Messages,
    node: Uuid,
}

async fn begin(core: &Weak<Core>, node: Uuid) -> Option<Result<Ear, StoreError>> {
    let core = core.upgrade()?;
    let limit = core.limit * 4;
    Some(within(limit, DOING, core.begin_to_listen(node)).await)
}

impl Core {
    async fn begin_to_listen(&self, node: Uuid) -> Result<Ear, StoreError> {
        self.plain(Call::Watching, &[&self.space.0, &node]).await?;
        let (client, mut messages) = self.connections.bare().await?;
        // Nobody else reads what comes, so that has to go on while LISTEN is on its way.
        let listen = format!("LISTEN \"{}\"", channel(self));
        {
            let mut asked = pin!(client.batch_execute(&listen));
            poll_fn(|cx| {
                if let Poll::Ready(done) = asked.as_mut().poll(cx) {
                    return Poll::Ready(done.map_err(|error| store_error(DOING, error)));
                }
                match messages.as_mut().poll_next(cx) {
                    Poll::Ready(Some(Err(error))) => Poll::Ready(Err(store_error(DOING, error))),
                    Poll::Ready(None) => Poll::Ready(Err(closed())),
                    Poll::Ready(Some(Ok(_))) => {
                        cx.waker().wake_by_ref();
                        Poll::Pending
                    }
                    Poll::Pending => Poll::Pending,
                }
            })
            .await?;
        }
        self.outlast_changes().await?;
        self.watchers.synced();
        Ok(Ear { _client: client, messages, node })
    }

    /// Steps that began before this node said that it wants to hear may not know of it. Waits for them to end.
    async fn outlast_changes(&self) -> Result<(), StoreError> {
        let place = self.space.0 & 0x7FFF_FFFF;
        let running = || async {
            let rows = self.plain(Call::Listening, &[&place]).await?;
            rows.iter().map(|row| column::<String>(row, 0)).collect::<Result<HashSet<_>, _>>()
        };
        let before = running().await?;
        let mut left = before.clone();
        let mut pause = Duration::from_micros(500);
        while !left.is_empty() {
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(20));
            let now = running().await?;
            left.retain(|one| now.contains(one));
        }
        Ok(())
    }

    async fn plain(&self, call: Call, params: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>, StoreError> {
        match self.call(call, DOING, params).await {
            Ok(rows) => Ok(rows),
            Err(Failed::Error(error)) => Err(error),
            Err(Failed::Count) => Err(unreadable("asked to count")),
        }
    }

    /// Has the server say something that comes back behind all that was told before.
    async fn call_a_round(&self, node: Uuid) -> Result<u64, StoreError> {
        let round = self.watchers.next_round();
        let (channel, call) = (channel(self), format!("{node}:{round}"));
        let params: [&(dyn ToSql + Sync); 2] = [&channel, &call];
        within(self.limit * 4, DOING, self.plain(Call::Round, &params)).await?;
        Ok(round)
    }

    async fn tell(&self, numbers: &[i64]) -> Result<(), StoreError> {
        let numbers = numbers.to_vec();
        let rows = within(self.limit * 4, DOING, self.plain(Call::Events, &[&self.space.0, &numbers])).await?;
        let mut news = rows.iter().map(|row| self.event(row)).collect::<Result<Vec<_>, _>>()?;
        // In the order in which they were told, which is that of the commits.
        news.sort_by_key(|(number, _)| numbers.iter().position(|other| other == number));
        let mut events: Vec<LockEvent> = news.into_iter().map(|(_, event)| event).collect();
        self.watchers.publish(&mut events).into_iter().for_each(std::task::Waker::wake);
        Ok(())
    }

    fn event(&self, row: &Row) -> Result<(i64, LockEvent), StoreError> {
        let answer = Answer {
            in_use: column(row, 3)?,
            state: column(row, 4)?,
            created: column(row, 5)?,
            expires: column(row, 6)?,
            life_end: column(row, 7)?,
            num: column(row, 8)?,
            parts: column(row, 9)?,
            ..Answer::default()
        };
        let lock = answer.lock(time(column(row, 2)?), self.lease)?;
        let text = |at: usize| -> Result<Option<String>, StoreError> {
            column::<Option<Vec<u8>>>(row, at)?.map(String::from_utf8).transpose().map_err(unreadable)
        };
        let event = match column::<i16>(row, 1)? {
            1 => LockEvent::Granted(lock),
            2 => LockEvent::Refreshed(lock),
            3 => LockEvent::Breaking { lock, actor: text(11)?.map(Principal::new), reason: text(12)?.map(Arc::from) },
            _ => LockEvent::Ended {
                lock,
                cause: match column::<Option<i16>>(row, 10)? {
                    Some(0) => LostCause::Expired,
                    Some(1) => LostCause::Released,
                    Some(2) => LostCause::Broken,
                    Some(3) => LostCause::Replaced,
                    _ => LostCause::ResourceGone,
                },
                actor: text(11)?.map(Principal::new),
                reason: text(12)?.map(Arc::from),
            },
        };
        Ok((column(row, 0)?, event))
    }
}

/// What comes on the connection.
enum Heard {
    /// Something was changed: its number.
    Event(i64),
    /// All that was changed before a round was called for has been heard.
    Round(u64),
}

/// What the listener wakes up for.
enum Next {
    Heard(Vec<Heard>),
    /// Somebody has begun to watch.
    Joined,
    /// It is time to say that this node goes on listening.
    Renew,
}

impl Ear {
    /// Hands on what is heard, until the connection ends, or nobody listens any more.
    async fn hear(&mut self, core: &Weak<Core>, joined: &Notify) -> Result<(), StoreError> {
        let mut renewal = Instant::now() + RENEW;
        let mut lonely: Option<Instant> = None;
        // Called at the last renewal, and not come back yet.
        let mut called: Option<u64> = None;
        loop {
            let next = self.next(joined, renewal).await?;
            let Some(core) = core.upgrade() else { return Ok(()) };
            match next {
                Next::Heard(heard) => {
                    called = called
                        .filter(|called| !heard.iter().any(|heard| matches!(heard, Heard::Round(round) if round >= called)));
                    self.tell(&core, &heard).await?;
                }
                // What happened before may still be on its way: a round that comes back behind it says when it is not.
                Next::Joined => drop(core.call_a_round(self.node).await?),
                Next::Renew => {
                    // Whatever lies between has forgotten the connection without a word to either side.
                    if called.is_some() {
                        return Err(StoreError::new(StoreErrorKind::TimedOut, DOING));
                    }
                    lonely = if core.watchers.any() { None } else { Some(lonely.unwrap_or_else(Instant::now)) };
                    if lonely.is_some_and(|since| since.elapsed() >= LINGER) && core.listener.ends(&core) {
                        return Ok(());
                    }
                    stay(&core, self.node).await?;
                    called = Some(core.call_a_round(self.node).await?);
                    renewal = Instant::now() + RENEW;
                }
            }
        }
    }

    async fn tell(&mut self, core: &Core, heard: &[Heard]) -> Result<(), StoreError> {
        let numbers: Vec<i64> = heard
            .iter()
            .filter_map(|heard| match heard {
                Heard::Event(number) => Some(*number),
                Heard::Round(_) => None,
            })
            .collect();
        if !numbers.is_empty() {
            core.tell(&numbers).await?;
        }
        for heard in heard {
            if let Heard::Round(round) = heard {
                core.watchers.synced_up_to(*round);
            }
        }
        Ok(())
    }

    async fn next(&mut self, joined: &Notify, renewal: Instant) -> Result<Next, StoreError> {
        let mut joined = pin!(joined.notified());
        let mut renewal = pin!(tokio::time::sleep_until(renewal));
        let mut heard = Vec::new();
        poll_fn(|cx| {
            loop {
                match self.messages.as_mut().poll_next(cx) {
                    Poll::Ready(Some(Ok(AsyncMessage::Notification(told)))) => heard.extend(self.node_hears(told.payload())),
                    Poll::Ready(Some(Ok(_))) => {}
                    Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(store_error(DOING, error))),
                    Poll::Ready(None) => return Poll::Ready(Err(closed())),
                    Poll::Pending => break,
                }
                // A round ends what is told at once: its watchers are not to hear of what came before it.
                if heard.len() >= 1_000 || matches!(heard.last(), Some(Heard::Round(_))) {
                    break;
                }
            }
            if !heard.is_empty() {
                return Poll::Ready(Ok(Next::Heard(std::mem::take(&mut heard))));
            }
            if joined.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Ok(Next::Joined));
            }
            renewal.as_mut().poll(cx).map(|()| Ok(Next::Renew))
        })
        .await
    }

    fn node_hears(&self, payload: &str) -> Option<Heard> {
        match payload.split_once(':') {
            None => payload.parse().ok().map(Heard::Event),
            Some((node, round)) => round.parse().ok().filter(|_| node.parse() == Ok(self.node)).map(Heard::Round),
        }
    }
}

fn channel(core: &Core) -> String {
    format!("tower_lock_{}", core.space.0)
}

/// Says that this node goes on listening, and forgets what everybody has heard.
async fn stay(core: &Core, node: Uuid) -> Result<(), StoreError> {
    let work = async {
        core.plain(Call::Watching, &[&core.space.0, &node]).await?;
        core.plain(Call::Forget, &[&core.space.0]).await.map(drop)
    };
    within(core.limit * 4, DOING, work).await
}

fn closed() -> StoreError {
    StoreError::new(StoreErrorKind::Unavailable, "the server closed the connection that watches")
}
