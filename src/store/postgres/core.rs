//! `Core`: what all handles of one store share, and how it calls the server.

use std::{
    error::Error,
    fmt,
    sync::{
        Arc, Weak,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use bytes::BytesMut;
use parking_lot::Mutex;
use tokio::{
    sync::{Notify, RwLock},
    task::JoinHandle,
    time::Instant,
};
use tokio_postgres::{
    Row,
    types::{IsNull, ToSql, Type, to_sql_checked},
};
use uuid::Uuid;

use super::{
    connection::Connections,
    error::{self, store_error},
    keys::Space,
    statements::Call,
    wire::{Answers, column},
};
use crate::{
    lock::TokenKey,
    store::{
        StoreError,
        remote::{
            deadline::within,
            writes::{Registrar, Work, WriteName, Writes},
        },
        watchers::Watchers,
    },
};

/// How many ends of writes one call carries.
const ENDS: usize = 1_000;

/// What a call is asked with.
pub(super) type Params<'p> = Vec<&'p (dyn ToSql + Sync)>;

pub(super) struct Core {
    pub(super) me: Weak<Self>,
    pub(super) connections: Connections,
    pub(super) space: Space,
    pub(super) key: TokenKey,
    pub(super) lease: Duration,
    pub(super) lease_micros: i64,
    pub(super) limit: Duration,
    /// What the server is told to wait at most, in milliseconds.
    pub(super) wait: i32,
    /// Where writes in flight are registered; none for a check-only store.
    pub(super) writes: Option<Writes>,
    pub(super) watchers: Arc<Watchers>,
    pub(super) listener: Listener,
    pub(super) late: Late,
    /// Tests move the clock.
    pub(super) moved: Option<Moved>,
}

/// Registrations of which nobody knows whether they were made.
#[derive(Default)]
pub(super) struct Late(pub(super) Mutex<Waiting>);

#[derive(Default)]
pub(super) struct Waiting {
    pub(super) names: Vec<(WriteName, Instant)>,
    pub(super) running: bool,
}

/// The task that listens for changes, if there is one.
#[derive(Default)]
pub(super) struct Listener {
    pub(super) task: Mutex<Option<JoinHandle<()>>>,
    /// Somebody has begun to watch.
    pub(super) joined: Arc<Notify>,
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Some(task) = self.task.get_mut().take() {
            task.abort();
        }
    }
}

/// A clock that is moved by hand.
pub(super) struct Moved {
    pub(super) offset: Arc<AtomicI64>,
    /// Held by every step under way, so that who moves the clock can wait for them: a step is sent what the clock shows.
    pub(super) steps: RwLock<()>,
}

/// What the clock shows when the call is sent, and again when it has to be sent again: a call that waits for a connection
/// must not carry an old time past the moment at which a test moves the clock.
struct ClockWhenSent<'c>(&'c Core);

impl ToSql for ClockWhenSent<'_> {
    fn to_sql(&self, ty: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        self.0.clock().to_sql(ty, out)
    }

    fn accepts(ty: &Type) -> bool {
        <i64 as ToSql>::accepts(ty)
    }

    to_sql_checked!();
}

impl fmt::Debug for ClockWhenSent<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ClockWhenSent").field(&self.0.clock()).finish()
    }
}

/// What came of a call that the server refused or failed.
pub(super) enum Failed {
    /// The locks have to be counted.
    Count,
    Error(StoreError),
}

impl From<StoreError> for Failed {
    fn from(error: StoreError) -> Self {
        Self::Error(error)
    }
}

impl Core {
    /// What is to be added to the server's clock, or shown instead of it.
    pub(super) fn clock(&self) -> i64 {
        self.moved.as_ref().map_or(0, |moved| moved.offset.load(Ordering::Acquire))
    }

    /// What a clock that is moved so shows, as the functions have it.
    pub(super) fn shown(now: i64, clock: i64) -> i64 {
        if clock.abs() < 1_000_000_000_000_000 { now + clock } else { clock }
    }

    /// Calls one of the functions, whose first parameters are always the same: the store, its clock, how long to wait, and
    /// the writes that have ended here.
    pub(super) async fn step<'p>(
        &'p self,
        call: Call,
        doing: &'static str,
        more: impl FnOnce(&mut Params<'p>),
    ) -> Result<Answers, StoreError> {
        match self.try_step(call, doing, more).await {
            Ok(answers) => Ok(answers),
            Err(Failed::Error(error)) => Err(error),
            Err(Failed::Count) => Err(error::unreadable("asked to count")),
        }
    }

    pub(super) async fn try_step<'p>(
        &'p self,
        call: Call,
        doing: &'static str,
        more: impl FnOnce(&mut Params<'p>),
    ) -> Result<Answers, Failed> {
        let rows = self.rows(call, doing, more).await?;
        Ok(Answers::read(&rows)?)
    }

    pub(super) async fn rows<'p>(
        &'p self,
        call: Call,
        doing: &'static str,
        more: impl FnOnce(&mut Params<'p>),
    ) -> Result<Vec<Row>, Failed> {
        let _step = match &self.moved {
            Some(moved) => Some(moved.steps.read().await),
            None => None,
        };
        let clock = ClockWhenSent(self);
        let mut names = self.writes.as_ref().map(Writes::unacknowledged_ends).unwrap_or_default();
        // More than these there are only after the server was away.
        names.drain(..names.len().saturating_sub(ENDS));
        let ended = uuids(&names);
        let mut rest = Vec::new();
        more(&mut rest);
        let mut params: Params<'_> = vec![&self.space.0, &clock, &self.wait, &ended];
        params.extend(rest);
        let answer = self.call(call, doing, &params).await;
        if let Some(writes) = &self.writes {
            match &answer {
                Ok(_) => writes.ends_acknowledged(&names),
                Err(_) => writes.ends_failed(&names),
            }
        }
        answer
    }

    /// Calls in a connection of its own. What only collided with another call is sent again.
    pub(super) async fn call(
        &self,
        call: Call,
        doing: &'static str,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, Failed> {
        let mut pause = Duration::from_micros(500);
        loop {
            let own = self.connections.own().await?;
            match own.call(call, params).await {
                Ok(rows) => {
                    own.give_back();
                    return Ok(rows);
                }
                Err(error) if error::is_passing(&error) => {
                    own.give_back();
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(Duration::from_millis(20));
                }
                Err(error) if error::wants_count(&error) => {
                    own.give_back();
                    return Err(Failed::Count);
                }
                // The connection is closed: whatever it knew of the schema may be old.
                Err(error) => return Err(Failed::Error(store_error(doing, error))),
            }
        }
    }

    pub(super) async fn end(&self, writes: &[WriteName]) -> Result<(), StoreError> {
        if writes.is_empty() {
            return Ok(());
        }
        let ended = uuids(writes);
        match self.call(Call::Ended, "ending writes", &[&self.wait, &ended]).await {
            Ok(_) => Ok(()),
            Err(Failed::Error(error)) => Err(error),
            Err(Failed::Count) => Err(error::unreadable("asked to count")),
        }
    }

    async fn renew(&self, writes: &[WriteName]) -> Result<Vec<WriteName>, StoreError> {
        let (names, clock) = (uuids(writes), self.clock());
        let params: [&(dyn ToSql + Sync); 5] = [&self.space.0, &clock, &self.wait, &names, &self.lease_micros];
        let rows = match self.call(Call::Renew, "renewing the leases of writes", &params).await {
            Ok(rows) => rows,
            Err(Failed::Error(error)) => return Err(error),
            Err(Failed::Count) => return Err(error::unreadable("asked to count")),
        };
        let standing = rows.iter().map(|row| column::<Uuid>(row, 0)).collect::<Result<Vec<_>, _>>()?;
        Ok(writes.iter().filter(|name| !standing.contains(&Uuid::from_bytes(name.0))).copied().collect())
    }
}

impl Registrar for Core {
    fn renew(&self, writes: &[WriteName]) -> Work<Vec<WriteName>> {
        let (core, writes) = (self.me.upgrade(), writes.to_vec());
        Box::pin(async move {
            let Some(core) = core else { return Ok(Vec::new()) };
            within(core.limit, "renewing the leases of writes", Self::renew(&core, &writes)).await
        })
    }

    fn end(&self, writes: &[WriteName]) -> Work<()> {
        let (core, writes) = (self.me.upgrade(), writes.to_vec());
        Box::pin(async move {
            let Some(core) = core else { return Ok(()) };
            for writes in writes.chunks(ENDS) {
                within(core.limit, "ending writes", Self::end(&core, writes)).await?;
            }
            Ok(())
        })
    }
}

pub(super) fn uuids(names: &[WriteName]) -> Vec<Uuid> {
    names.iter().map(|name| Uuid::from_bytes(name.0)).collect()
}
