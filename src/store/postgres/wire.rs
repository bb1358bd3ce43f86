//! The rows of an answer, and the locks that are read from them.

use std::{sync::Arc, time::Duration};

use tokio_postgres::{Row, types::FromSql};
use uuid::Uuid;

use super::error::unreadable;
use crate::{
    lock::{Lock, LockId, LockLife, LockParts, LockState, LostCause, LostLock, Principal, ResourceKey, Timestamp},
    store::{StoreError, stored::parts_from_json},
};

/// What a row is: the outcome of the step.
pub(super) const OUTCOME: i16 = 0;
/// A lock.
pub(super) const LOCK: i16 = 1;
/// The lock of a token, ended or not.
pub(super) const OF_TOKEN: i16 = 2;
/// A dead lock, or a token that was burnt.
pub(super) const DEAD: i16 = 3;
/// A target of a write that a shared lock perhaps excuses.
pub(super) const TARGET: i16 = 4;
/// A lock that perhaps excuses it.
pub(super) const EXCUSE: i16 = 5;

/// One row.
#[derive(Debug, Default)]
pub(super) struct Answer {
    pub(super) what: i16,
    pub(super) code: i32,
    pub(super) at: Option<i64>,
    pub(super) num: Option<i64>,
    pub(super) id: Option<Uuid>,
    pub(super) key: Option<Uuid>,
    pub(super) state: Option<i16>,
    pub(super) created: Option<i64>,
    pub(super) expires: Option<i64>,
    pub(super) life_end: Option<i64>,
    pub(super) in_use: bool,
    pub(super) parts: Option<Vec<u8>>,
    pub(super) namespace: Option<Vec<u8>>,
    pub(super) path: Option<Vec<u8>>,
    pub(super) who: Option<Vec<u8>>,
    pub(super) actor: Option<Vec<u8>>,
    pub(super) reason: Option<Vec<u8>>,
}

/// All rows of an answer.
#[derive(Debug)]
pub(super) struct Answers {
    pub(super) rows: Vec<Answer>,
    /// The outcome itself; of some steps it has a lock in it.
    pub(super) head: Answer,
    /// The outcome's number.
    pub(super) code: i32,
    /// The time of the step.
    pub(super) now: Timestamp,
    /// What else the outcome says.
    pub(super) num: i64,
}

/// A column.
pub(super) fn column<'r, T: FromSql<'r>>(row: &'r Row, at: usize) -> Result<T, StoreError> {
    row.try_get(at).map_err(unreadable)
}

impl Answer {
    pub(super) fn read(row: &Row) -> Result<Self, StoreError> {
        Ok(Self {
            what: column(row, 0)?,
            code: column::<Option<i32>>(row, 1)?.unwrap_or_default(),
            at: column(row, 2)?,
            num: column(row, 3)?,
            id: column(row, 4)?,
            key: column(row, 5)?,
            state: column(row, 6)?,
            created: column(row, 7)?,
            expires: column(row, 8)?,
            life_end: column(row, 9)?,
            in_use: column::<Option<bool>>(row, 10)?.unwrap_or_default(),
            parts: column(row, 11)?,
            namespace: column(row, 12)?,
            path: column(row, 13)?,
            who: column(row, 14)?,
            actor: column(row, 15)?,
            reason: column(row, 16)?,
        })
    }

    /// Whether it is a lock that counts.
    pub(super) fn is_live(&self, now: Timestamp) -> bool {
        let past = |end: Option<i64>| end.is_some_and(|end| time(end) <= now);
        !past(self.life_end) && (!past(self.expires) || self.in_use)
    }

    /// The parts that the row holds.
    pub(super) fn read_parts(&self) -> Result<Arc<LockParts>, StoreError> {
        let parts = self.parts.as_deref().ok_or_else(|| unreadable("a lock without its parts"))?;
        parts_from_json(std::str::from_utf8(parts).map_err(unreadable)?).map(Arc::new)
    }

    pub(super) fn lock(&self, now: Timestamp, lease: Duration) -> Result<Lock, StoreError> {
        self.lock_of(self.read_parts()?, now, lease)
    }

    /// The lock, whose parts are known.
    pub(super) fn lock_of(&self, parts: Arc<LockParts>, now: Timestamp, lease: Duration) -> Result<Lock, StoreError> {
        let state = match self.state {
            Some(0) => LockState::Pending,
            Some(1) => LockState::Held,
            Some(2) => LockState::Breaking,
            other => return Err(unreadable(format!("a lock in state {other:?}"))),
        };
        let life = LockLife {
            state,
            created_at: time(self.created.unwrap_or_default()),
            expires_at: self.expires.map(time),
            generation: self.num.unwrap_or_default().unsigned_abs(),
            in_use: false,
            seen_at: now,
        };
        let lock = Lock::new(parts, life);
        Ok(if self.in_use { in_use(&lock, self.life_end.map(time), lease) } else { lock })
    }

    pub(super) fn principal(&self) -> Result<Option<Principal>, StoreError> {
        Ok(text(self.who.as_deref())?.map(Principal::new))
    }

    /// What is remembered of a dead lock, and whose it was.
    pub(super) fn dead(&self) -> Result<(LostLock, Option<Principal>), StoreError> {
        let mut lost = LostLock::new(match self.code {
            0 => LostCause::Expired,
            1 => LostCause::Released,
            2 => LostCause::Broken,
            3 => LostCause::Replaced,
            4 => LostCause::ResourceGone,
            _ => LostCause::Unknown,
        });
        lost.id = self.id.map(LockId::from_uuid);
        lost.at = self.at.map(time);
        lost.root = self.root()?;
        self.told_by_others(&mut lost)?;
        Ok((lost, self.principal()?))
    }

    /// What is to be said of a lock that ended by itself, or will, and was not buried yet.
    pub(super) fn end_by_itself(&self, lock: &Lock) -> Result<LostLock, StoreError> {
        let mut lost = LostLock::new(LostCause::Expired);
        lost.id = Some(lock.id());
        lost.root = Some(lock.root().clone());
        lost.at = [self.expires, self.life_end].into_iter().flatten().min().map(time);
        if self.state == Some(2) {
            lost.cause = LostCause::Broken;
            lost.at = self.life_end.map(time);
            self.told_by_others(&mut lost)?;
        }
        Ok(lost)
    }

    fn told_by_others(&self, lost: &mut LostLock) -> Result<(), StoreError> {
        lost.actor = text(self.actor.as_deref())?.map(Principal::new);
        lost.reason = text(self.reason.as_deref())?.map(Arc::from);
        Ok(())
    }

    pub(super) fn root(&self) -> Result<Option<ResourceKey<'static>>, StoreError> {
        let Some(path) = text(self.path.as_deref())? else { return Ok(None) };
        let key = ResourceKey::from_canonical(path.to_owned());
        Ok(Some(match self.namespace.as_deref() {
            None | Some([]) => key,
            Some([_, namespace @ ..]) => key.in_namespace(std::str::from_utf8(namespace).map_err(unreadable)?.to_owned()),
        }))
    }
}

impl Answers {
    pub(super) fn read(rows: &[Row]) -> Result<Self, StoreError> {
        let mut rows = rows.iter().map(Answer::read).collect::<Result<Vec<_>, _>>()?;
        let at = rows.iter().position(|row| row.what == OUTCOME).ok_or_else(|| unreadable("no outcome"))?;
        let head = rows.remove(at);
        rows.sort_by_key(|row| row.what);
        let (code, now, num) = (head.code, time(head.at.unwrap_or_default()), head.num.unwrap_or_default());
        Ok(Self { rows, head, code, now, num })
    }

    /// The rows of one sort.
    pub(super) fn of(&self, what: i16) -> impl Iterator<Item = &Answer> {
        self.rows.iter().filter(move |row| row.what == what)
    }
}

/// The same lock, with a write of its holder's in flight.
pub(super) fn in_use(lock: &Lock, life_end: Option<Timestamp>, lease: Duration) -> Lock {
    let mut life = *lock.life();
    let leased = life.seen_at.after(lease);
    let leased = life_end.map_or(leased, |end| leased.min(end));
    life.in_use = true;
    life.expires_at = life.expires_at.map(|own| own.max(leased));
    Lock::new(lock.parts().clone(), life)
}

fn text(bytes: Option<&[u8]>) -> Result<Option<&str>, StoreError> {
    bytes.map(std::str::from_utf8).transpose().map_err(unreadable)
}

pub(super) fn time(micros: i64) -> Timestamp {
    Timestamp::from_micros(u64::try_from(micros).unwrap_or_default())
}

/// A span in microseconds, no longer than there is time.
pub(super) fn micros(span: Duration) -> i64 {
    i64::try_from(span.as_micros()).unwrap_or(i64::MAX).min(Timestamp::MAX.as_micros().cast_signed())
}
