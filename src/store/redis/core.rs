//! `Core`: what all handles of one store share, and how a step of it is asked for.

use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use redis::{RedisError, ServerErrorKind, Value};
use tokio::{sync::Notify, task::JoinHandle};

use super::{
    clock::SeenClock,
    connection::{Flight, Link, evaluate, introduce},
    error::{incompatible, store_error},
    keys::Keys,
    scripts::{self, Script},
    wire::Record,
};
use crate::{
    lock::{Lock, Timestamp, TokenKey},
    store::{
        StoreError, StoreErrorKind,
        remote::{
            deadline::within,
            writes::{Registrar, Work, WriteName, Writes},
        },
        watchers::Watchers,
    },
};

/// Writes that one script ends or renews.
const BATCH: usize = 500;
/// How often a step is asked for again that came to no end: one that had much to clear away, or that the engine had
/// forgotten.
const TRIES: usize = 1_000;

pub(super) struct Core {
    pub(super) keys: Keys,
    pub(super) link: Link,
    /// The writes of this node; none for a check-only store.
    pub(super) writes: Option<Writes>,
    pub(super) key: TokenKey,
    pub(super) lease: Duration,
    pub(super) time: Time,
    pub(super) clock: SeenClock,
    pub(super) watchers: Arc<Watchers>,
    pub(super) listener: Listener,
    pub(super) me: Weak<Self>,
}

/// The task that listens, if there is one.
#[derive(Default)]
pub(super) struct Listener {
    pub(super) task: Mutex<Option<JoinHandle<()>>>,
    /// Somebody has joined who is to be told from when on nothing is missed.
    pub(super) joined: Arc<Notify>,
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Some(task) = self.task.get_mut().take() {
            task.abort();
        }
    }
}

/// By which clock a step decides.
#[derive(Clone, Default)]
pub(super) enum Time {
    /// The engine's.
    #[default]
    Engine,
    /// The engine's, moved by so many microseconds.
    #[cfg_attr(not(feature = "conformance"), expect(dead_code, reason = "for tests"))]
    Offset(Arc<AtomicI64>),
    /// One that stands at so many microseconds until it is moved.
    #[cfg_attr(not(feature = "conformance"), expect(dead_code, reason = "for tests"))]
    Fixed(Arc<AtomicI64>),
}

impl Time {
    /// What scripts make a time of.
    pub(super) fn text(&self) -> String {
        match self {
            Self::Engine => "0".to_owned(),
            Self::Offset(offset) => offset.load(Ordering::Acquire).to_string(),
            Self::Fixed(time) => format!("={}", time.load(Ordering::Acquire)),
        }
    }

    /// The time, where the engine's clock shows `engine`.
    pub(super) fn at(&self, engine: Timestamp) -> Timestamp {
        let micros = match self {
            Self::Engine => return engine,
            Self::Offset(offset) => engine.as_micros().saturating_add_signed(offset.load(Ordering::Acquire)),
            Self::Fixed(time) => u64::try_from(time.load(Ordering::Acquire)).unwrap_or_default(),
        };
        Timestamp::from_micros(micros)
    }
}

impl Core {
    /// Asks for a step, within the time limit.
    pub(super) async fn ask(&self, script: &'static Script, arguments: &[&[u8]]) -> Result<Reply, StoreError> {
        let answer = within(self.link.limit(), script.doing, self.step(script, arguments)).await;
        self.let_go_if_late(&answer);
        answer
    }

    /// A connection that did not answer in time is not trusted any more.
    pub(super) fn let_go_if_late<T>(&self, answer: &Result<T, StoreError>) {
        if answer.as_ref().is_err_and(|error| error.kind() == StoreErrorKind::TimedOut) {
            self.link.forget_all();
        }
    }

    /// Asks for a step, however long it takes. What has ended on this node is told ahead of it, in the same flight.
    pub(super) async fn step(&self, script: &'static Script, arguments: &[&[u8]]) -> Result<Reply, StoreError> {
        self.fly(script, arguments, Ride::Ahead).await
    }

    /// The same, with what has ended as the last argument.
    pub(super) async fn step_with_ends(&self, script: &'static Script, arguments: &[&[u8]]) -> Result<Reply, StoreError> {
        self.fly(script, arguments, Ride::Within).await
    }

    async fn fly(&self, script: &'static Script, arguments: &[&[u8]], ride: Ride) -> Result<Reply, StoreError> {
        let time = self.time.text();
        let arguments: Vec<&[u8]> = std::iter::once(time.as_bytes()).chain(arguments.iter().copied()).collect();
        let mut known = true;
        for _ in 0..3 {
            let flight = || {
                let form = if known { evaluate } else { introduce };
                let carried = self.carry();
                if ride == Ride::Within && carried.names.len() <= BATCH {
                    let ended = joined(&carried.names);
                    let arguments = [&*arguments, &[&ended]].concat();
                    return (Flight::One(form(script, &self.keys.all, &arguments)), carried);
                }
                let none: &[&[u8]] = if ride == Ride::Within { &[b""] } else { &[] };
                let arguments = [&*arguments, none].concat();
                if carried.names.is_empty() {
                    return (Flight::One(form(script, &self.keys.all, &arguments)), carried);
                }
                let mut pipeline = redis::Pipeline::new();
                let mut count = 1;
                for names in carried.names.chunks(BATCH) {
                    pipeline.add_command(form(&scripts::END, &self.keys.all, &[time.as_bytes(), &joined(names)]));
                    count += 1;
                }
                pipeline.add_command(form(script, &self.keys.all, &arguments));
                (Flight::Many(pipeline, count), carried)
            };
            let (mut values, carried) = self.link.send(script.doing, flight).await?;
            let last = values.pop().ok_or_else(|| incompatible("an empty answer"))?;
            let refused = |value: &Value| matches!(value, Value::ServerError(_));
            if !values.iter().any(refused) && (ride == Ride::Ahead || !refused(&last)) {
                carried.arrived();
            }
            match Reply::of(script.doing, last) {
                Ok(reply) => return Ok(reply),
                Err(Refusal::Unknown) => known = false,
                Err(Refusal::Elsewhere) => {}
                Err(Refusal::Other(error)) => return Err(error),
            }
        }
        Err(StoreError::new(StoreErrorKind::Unavailable, script.doing))
    }

    /// Tells what has ended on this node and rode along with no call.
    async fn flush(&self) -> Result<(), StoreError> {
        let time = self.time.text();
        let mut known = true;
        for _ in 0..3 {
            let flight = || {
                let carried = self.carry();
                let mut pipeline = redis::Pipeline::new();
                let form = if known { evaluate } else { introduce };
                for names in carried.names.chunks(BATCH) {
                    pipeline.add_command(form(&scripts::END, &self.keys.all, &[time.as_bytes(), &joined(names)]));
                }
                let count = pipeline.len();
                (if count == 0 { Flight::None } else { Flight::Many(pipeline, count) }, carried)
            };
            let work = self.link.send(scripts::END.doing, flight);
            let answer = within(self.link.limit(), scripts::END.doing, work).await;
            self.let_go_if_late(&answer);
            let (values, carried) = answer?;
            let replies = values.into_iter().map(|value| Reply::of(scripts::END.doing, value).map(drop));
            match replies.collect::<Result<(), Refusal>>() {
                Ok(()) => {
                    carried.arrived();
                    return Ok(());
                }
                Err(Refusal::Unknown) => known = false,
                Err(Refusal::Elsewhere) => {}
                Err(Refusal::Other(error)) => return Err(error),
            }
        }
        Err(StoreError::new(StoreErrorKind::Unavailable, scripts::END.doing))
    }

    /// The ends that ride along with a call.
    pub(super) fn carry(&self) -> Carried {
        let names = self.writes.as_ref().map(Writes::unsent_ends).unwrap_or_default();
        Carried { writes: self.writes.clone(), names }
    }

    pub(super) fn lock(&self, record: Record, now: Timestamp) -> Lock {
        record.lock(now, self.lease)
    }
}

impl Registrar for Core {
    fn renew(&self, writes: &[WriteName]) -> Work<Vec<WriteName>> {
        let (core, writes) = (self.me.upgrade(), writes.to_vec());
        Box::pin(async move {
            let mut gone = Vec::new();
            let Some(core) = core else { return Ok(gone) };
            for names in writes.chunks(BATCH) {
                let lease = core.lease.as_micros().to_string();
                let mut reply = core.ask(&scripts::RENEW, &[lease.as_bytes(), &joined(names)]).await?;
                reply.expect("done")?;
                let lapsed = reply.bytes()?;
                gone.extend(lapsed.chunks_exact(16).filter_map(|name| name.try_into().ok()).map(WriteName));
            }
            Ok(gone)
        })
    }

    // Which they are is looked up when they are queued: by then they may have ridden along with a call.
    fn end(&self, _: &[WriteName]) -> Work<()> {
        let core = self.me.upgrade();
        Box::pin(async move {
            match core {
                Some(core) => core.flush().await,
                None => Ok(()),
            }
        })
    }
}

fn joined(names: &[WriteName]) -> Vec<u8> {
    names.iter().flat_map(|name| name.0).collect()
}

/// How what has ended goes along with a call.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ride {
    /// By a script of its own.
    Ahead,
    /// As the last argument.
    Within,
}

/// Ends on their way. Dropped before they have arrived, they are for another call to carry.
pub(super) struct Carried {
    writes: Option<Writes>,
    names: Vec<WriteName>,
}

impl Carried {
    fn arrived(mut self) {
        if let Some(writes) = &self.writes {
            writes.ends_acknowledged(&self.names);
        }
        self.names.clear();
    }
}

impl Drop for Carried {
    fn drop(&mut self) {
        if let Some(writes) = &self.writes {
            writes.ends_failed(&self.names);
        }
    }
}

/// How often to try something that may have to be done in several steps.
pub(super) fn tries() -> std::ops::Range<usize> {
    0..TRIES
}

/// Nothing came of so many steps.
pub(super) fn endless(doing: &'static str) -> StoreError {
    StoreError::new(StoreErrorKind::Other, doing)
}

/// What a script answers: texts and numbers, one after the other.
pub(super) struct Reply(std::vec::IntoIter<Value>);

/// Why there is no answer.
pub(super) enum Refusal {
    /// The engine does not know the script.
    Unknown,
    /// Another node has the slot.
    Elsewhere,
    Other(StoreError),
}

impl Reply {
    pub(super) fn of(doing: &'static str, value: Value) -> Result<Self, Refusal> {
        match value {
            Value::Array(values) => Ok(Self(values.into_iter())),
            Value::ServerError(error) => {
                let kind = error.kind();
                let error = store_error(doing, RedisError::from(error));
                Err(match kind {
                    Some(ServerErrorKind::NoScript) => Refusal::Unknown,
                    Some(ServerErrorKind::Moved) => Refusal::Elsewhere,
                    _ => Refusal::Other(error),
                })
            }
            _ => Err(Refusal::Other(incompatible("an answer of another shape"))),
        }
    }

    pub(super) fn bytes(&mut self) -> Result<Vec<u8>, StoreError> {
        self.next_bytes()?.ok_or_else(|| incompatible("an answer that is too short"))
    }

    pub(super) fn next_bytes(&mut self) -> Result<Option<Vec<u8>>, StoreError> {
        match self.0.next() {
            None => Ok(None),
            Some(Value::BulkString(bytes)) => Ok(Some(bytes)),
            Some(Value::SimpleString(text)) => Ok(Some(text.into_bytes())),
            Some(Value::Okay) => Ok(Some(b"OK".to_vec())),
            Some(_) => Err(incompatible("an answer of another shape")),
        }
    }

    pub(super) fn count(&mut self) -> Result<usize, StoreError> {
        match self.0.next() {
            Some(Value::Int(count)) => usize::try_from(count).map_err(|_| incompatible("a number less than zero")),
            _ => Err(incompatible("an answer of another shape")),
        }
    }

    pub(super) fn number(&mut self) -> Result<u64, StoreError> {
        parse_number(&self.bytes()?)
    }

    pub(super) fn time(&mut self) -> Result<Timestamp, StoreError> {
        self.number().map(Timestamp::from_micros)
    }

    pub(super) fn record(&mut self) -> Result<Record, StoreError> {
        Record::read(&self.bytes()?)
    }

    /// The locks that are left.
    pub(super) fn locks(mut self, core: &Core, now: Timestamp) -> Result<Vec<Lock>, StoreError> {
        let mut locks = Vec::new();
        while let Some(bytes) = self.next_bytes()? {
            locks.push(core.lock(Record::read(&bytes)?, now));
        }
        Ok(locks)
    }

    pub(super) fn expect(&mut self, status: &str) -> Result<(), StoreError> {
        if self.bytes()? == status.as_bytes() { Ok(()) } else { Err(incompatible("an answer that means nothing")) }
    }
}

/// A number as the engine writes it.
pub(super) fn parse_number(text: &[u8]) -> Result<u64, StoreError> {
    std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()).ok_or_else(|| incompatible("a number is none"))
}
