//! How the scripts and this side write things down for one another: bytes in a fixed order, numbers big-endian.

use std::{sync::Arc, time::Duration};

use super::{
    error::incompatible,
    keys::{key_from_text, principal_from_text},
};
use crate::{
    lock::{Lock, LockId, LockLife, LockParts, LockState, LostCause, LostLock, Principal, Timestamp},
    store::{StoreError, stored::parts_from_json},
};

/// The longest span of time that scripts count with, in microseconds: about 140 years. Doubles are exact up to twice that.
const LONGEST: u64 = 1 << 52;

/// Writes what `struct.unpack` reads.
#[derive(Default)]
pub(super) struct Packer(Vec<u8>);

impl Packer {
    pub(super) fn new() -> Self {
        Self(Vec::with_capacity(128))
    }

    /// `c1`.
    pub(super) fn letter(mut self, letter: u8) -> Self {
        self.0.push(letter);
        self
    }

    /// `c16`.
    pub(super) fn sixteen(mut self, bytes: &[u8; 16]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    /// `I4`.
    pub(super) fn count(mut self, count: usize) -> Self {
        self.0.extend_from_slice(&u32::try_from(count).unwrap_or(u32::MAX).to_be_bytes());
        self
    }

    /// `I4c0`.
    pub(super) fn text(self, text: impl AsRef<[u8]>) -> Self {
        let text = text.as_ref();
        let mut this = self.count(text.len());
        this.0.extend_from_slice(text);
        this
    }

    /// `d`.
    pub(super) fn number(mut self, number: f64) -> Self {
        self.0.extend_from_slice(&number.to_be_bytes());
        self
    }

    /// `d`: a number of things.
    pub(super) fn limit(self, limit: usize) -> Self {
        self.number(limit as f64)
    }

    /// `d`: microseconds.
    pub(super) fn span(self, span: Duration) -> Self {
        self.number(micros(span))
    }

    /// `d`: microseconds, less than zero for no end.
    pub(super) fn span_or_endless(self, span: Option<Duration>) -> Self {
        self.number(span.map_or(-1.0, micros))
    }

    pub(super) fn done(self) -> Vec<u8> {
        self.0
    }
}

fn micros(span: Duration) -> f64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX).min(LONGEST) as f64
}

/// Reads what `struct.pack` writes.
pub(super) struct Unpacker<'b>(&'b [u8]);

impl<'b> Unpacker<'b> {
    pub(super) fn new(bytes: &'b [u8]) -> Self {
        Self(bytes)
    }

    pub(super) fn is_done(&self) -> bool {
        self.0.is_empty()
    }

    fn take(&mut self, count: usize) -> Result<&'b [u8], StoreError> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or_else(|| incompatible("a record is cut short"))?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], StoreError> {
        self.take(N)?.try_into().map_err(|_| incompatible("a record is cut short"))
    }

    pub(super) fn letter(&mut self) -> Result<u8, StoreError> {
        Ok(self.array::<1>()?[0])
    }

    pub(super) fn sixteen(&mut self) -> Result<[u8; 16], StoreError> {
        self.array()
    }

    pub(super) fn text(&mut self) -> Result<&'b [u8], StoreError> {
        let length = u32::from_be_bytes(self.array()?) as usize;
        self.take(length)
    }

    pub(super) fn number(&mut self) -> Result<u64, StoreError> {
        let number = f64::from_be_bytes(self.array()?);
        if number.is_finite() { Ok(number.max(0.0) as u64) } else { Err(incompatible("a number is none")) }
    }

    fn time(&mut self) -> Result<Timestamp, StoreError> {
        self.number().map(Timestamp::from_micros)
    }

    /// Zero is no end.
    fn end(&mut self) -> Result<Option<Timestamp>, StoreError> {
        Ok(Some(self.time()?).filter(|time| *time != Timestamp::EPOCH))
    }
}

/// A lock or mark as scripts keep it.
pub(super) struct Record {
    state: LockState,
    created_at: Timestamp,
    expires_at: Option<Timestamp>,
    life_end: Option<Timestamp>,
    generation: u64,
    pinned_until: Timestamp,
    pins: u64,
    pub(super) parts: Arc<LockParts>,
}

/// Who ended a lock, and why.
#[derive(Default)]
pub(super) struct Breaker {
    pub(super) actor: Option<Principal>,
    pub(super) reason: Option<Arc<str>>,
}

impl Record {
    pub(super) fn read(bytes: &[u8]) -> Result<Self, StoreError> {
        let mut from = Unpacker::new(bytes);
        let state = match from.letter()? {
            b'h' => LockState::Held,
            b'p' => LockState::Pending,
            b'b' => LockState::Breaking,
            _ => return Err(incompatible("the state of a lock")),
        };
        let (_scope, _depth, form) = (from.letter()?, from.letter()?, from.letter()?);
        if form != b'1' {
            return Err(incompatible("a lock was written in another form"));
        }
        let (created_at, expires_at, life_end) = (from.time()?, from.end()?, from.end()?);
        let (_span, _most) = (from.number()?, from.number()?);
        let generation = from.number()?;
        let (pinned_until, pins) = (from.time()?, from.number()?);
        let (_id, _digest) = (from.sixteen()?, from.sixteen()?);
        let (_key, _who, _kind) = (from.text()?, from.text()?, from.text()?);
        let parts = std::str::from_utf8(from.text()?).map_err(|_| incompatible("a lock's text is not UTF-8"))?;
        let parts = Arc::new(parts_from_json(parts)?);
        let generation = if state == LockState::Pending { 0 } else { generation };
        Ok(Self { state, created_at, expires_at, life_end, generation, pinned_until, pins, parts })
    }

    /// Whether it counts.
    pub(super) fn live(&self, now: Timestamp) -> bool {
        self.life_end.is_none_or(|end| now < end) && (self.expires_at.is_none_or(|end| now < end) || self.in_use(now))
    }

    fn in_use(&self, now: Timestamp) -> bool {
        self.pins > 0 && now < self.pinned_until
    }

    /// What it looks like from outside.
    pub(super) fn lock(self, now: Timestamp, lease: Duration) -> Lock {
        let in_use = self.in_use(now);
        let expires_at = self.expires_at.map(|end| if in_use { end.max(now.after(lease)) } else { end });
        let expires_at = match (expires_at, self.life_end) {
            (Some(end), Some(life)) => Some(end.min(life)),
            (end, _) => end,
        };
        let life = LockLife {
            state: self.state,
            created_at: self.created_at,
            expires_at,
            generation: self.generation,
            in_use,
            seen_at: now,
        };
        Lock::new(self.parts, life)
    }
}

impl Breaker {
    /// As scripts keep it.
    pub(super) fn text(actor: Option<&Principal>, reason: &str) -> String {
        serde_json::json!([actor.map(Principal::as_str), reason]).to_string()
    }

    pub(super) fn read(text: &[u8]) -> Result<Self, StoreError> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        let (actor, reason): (Option<String>, Option<Arc<str>>) =
            serde_json::from_slice(text).map_err(|error| incompatible("who ended a lock").caused_by(error))?;
        Ok(Self { actor: actor.map(Principal::from), reason })
    }
}

/// What is remembered of a lock, and whose it was.
pub(super) struct Grave {
    pub(super) principal: Option<Principal>,
    pub(super) lost: LostLock,
}

impl Grave {
    pub(super) fn read(bytes: &[u8]) -> Result<Self, StoreError> {
        let mut from = Unpacker::new(bytes);
        let (_buried, at, cause) = (from.time()?, from.time()?, cause(from.letter()?)?);
        let id = from.sixteen()?;
        let principal = principal_from_text(from.text()?).ok_or_else(|| incompatible("a principal"))?;
        let (key, breaker) = (from.text()?, Breaker::read(from.text()?)?);
        let mut lost = LostLock::new(cause);
        lost.at = Some(at);
        if id != [0; 16] {
            lost.id = Some(LockId::from_uuid(uuid::Uuid::from_bytes(id)));
            lost.root = Some(key_from_text(key).ok_or_else(|| incompatible("a lock's root"))?);
        }
        (lost.actor, lost.reason) = (breaker.actor, breaker.reason);
        Ok(Self { principal, lost })
    }

    /// As `asker` may know it.
    pub(super) fn told(self, asker: Asker<'_>) -> LostLock {
        match asker {
            Asker::Principal(asker) if asker != self.principal.as_ref() => LostLock::new(LostCause::Unknown),
            _ => self.lost,
        }
    }
}

/// Who wants to know what became of a lock.
#[derive(Clone, Copy)]
pub(super) enum Asker<'a> {
    /// This principal: told about locks of its own.
    Principal(Option<&'a Principal>),
    /// The code that set the lock.
    Guard,
}

/// What became of a lock, from what a script answers; an empty text when it knows nothing.
pub(super) fn lost(text: &[u8], asker: Asker<'_>) -> Result<LostLock, StoreError> {
    if text.is_empty() { Ok(LostLock::new(LostCause::Unknown)) } else { Ok(Grave::read(text)?.told(asker)) }
}

/// Why a lock ended, from its letter.
pub(super) fn cause(letter: u8) -> Result<LostCause, StoreError> {
    Ok(match letter {
        b'e' => LostCause::Expired,
        b'r' => LostCause::Released,
        b'b' => LostCause::Broken,
        b'p' => LostCause::Replaced,
        b'g' => LostCause::ResourceGone,
        b'u' => LostCause::Unknown,
        _ => return Err(incompatible("why a lock ended")),
    })
}
