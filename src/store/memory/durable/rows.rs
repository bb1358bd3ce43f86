//! Locks and graves as bytes: what never changes as the text that all engines share, the rest as numbers before it.

use std::{sync::Arc, time::Duration};

use super::{Change, Row, queue::Failure};
use crate::{
    lock::{Principal, Timestamp, TokenDigest},
    store::{
        StoreError, StoreErrorKind,
        memory::{graveyard::Grave, record::Breaker},
        stored,
    },
};

/// Where an entry belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// Living locks, by generation.
    Lock,
    /// Dead ones that are remembered, by the key of their grave.
    Grave,
}

/// One thing to be entered, or to be taken out where it has no body.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) kind: Kind,
    pub(super) key: u64,
    pub(super) body: Option<Vec<u8>>,
}

impl Entry {
    pub(super) fn of(change: &Change) -> Self {
        let (kind, key, body) = match change {
            Change::Put(row) => (Kind::Lock, row.generation, Some(row_body(row))),
            Change::Gone { generation } => (Kind::Lock, *generation, None),
            Change::Dead(grave) => (Kind::Grave, grave.key, Some(grave_body(grave))),
            Change::Forget { key } => (Kind::Grave, *key, None),
        };
        Self { kind, key, body }
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.push(match (self.kind, &self.body) {
            (Kind::Lock, Some(_)) => 1,
            (Kind::Lock, None) => 2,
            (Kind::Grave, Some(_)) => 3,
            (Kind::Grave, None) => 4,
        });
        out.extend(self.key.to_le_bytes());
        if let Some(body) = &self.body {
            write_text(out, body);
        }
    }

    pub(super) fn read(bytes: &mut Bytes<'_>) -> Result<Self, Failure> {
        let tag = bytes.byte()?;
        let key = bytes.number()?;
        let kind = match tag {
            1 | 2 => Kind::Lock,
            3 | 4 => Kind::Grave,
            _ => return Err(unreadable()),
        };
        let body = if tag % 2 == 1 { Some(bytes.run()?.to_vec()) } else { None };
        Ok(Self { kind, key, body })
    }
}

fn row_body(row: &Row) -> Vec<u8> {
    let mut out = Vec::with_capacity(512);
    out.extend(row.digest.as_bytes());
    out.extend(row.created_at.as_micros().to_le_bytes());
    write_time(&mut out, row.expires_at);
    write_time(&mut out, row.life_end);
    write_span(&mut out, row.span);
    write_span(&mut out, row.most);
    match &row.breaker {
        None => out.push(0),
        Some(breaker) => {
            out.push(1);
            match &breaker.actor {
                None => out.push(0),
                Some(actor) => {
                    out.push(1);
                    write_text(&mut out, actor.as_str().as_bytes());
                }
            }
            write_text(&mut out, breaker.reason.as_bytes());
        }
    }
    out.extend(stored::parts_to_json(&row.parts).as_bytes());
    out
}

pub(super) fn row(generation: u64, body: &[u8]) -> Result<Row, StoreError> {
    let mut bytes = Bytes(body);
    let digest = TokenDigest::from_bytes(bytes.array()?);
    let created_at = Timestamp::from_micros(bytes.number()?);
    let (expires_at, life_end) = (bytes.time()?, bytes.time()?);
    let (span, most) = (bytes.span()?, bytes.span()?);
    let breaker = match bytes.byte()? {
        0 => None,
        _ => {
            let actor = match bytes.byte()? {
                0 => None,
                _ => Some(Principal::new(text(bytes.run()?)?)),
            };
            Some(Breaker { actor, reason: text(bytes.run()?)?.into() })
        }
    };
    let parts = Arc::new(stored::parts_from_json(text(bytes.0)?)?);
    Ok(Row { generation, digest, parts, created_at, expires_at, life_end, span, most, breaker })
}

fn grave_body(grave: &Grave) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    out.extend(grave.digest.as_bytes());
    out.extend(grave.buried_at.as_micros().to_le_bytes());
    out.extend(stored::lost_to_json(&grave.lost, grave.principal.as_ref()).as_bytes());
    out
}

pub(super) fn grave(key: u64, body: &[u8]) -> Result<Grave, StoreError> {
    let mut bytes = Bytes(body);
    let digest = TokenDigest::from_bytes(bytes.array()?);
    let buried_at = Timestamp::from_micros(bytes.number()?);
    let (lost, principal) = stored::lost_from_json(text(bytes.0)?)?;
    Ok(Grave { key, digest, principal, buried_at, lost })
}

/// Stands for no time; later than any that can be displayed.
const NEVER: u64 = u64::MAX;

fn write_time(out: &mut Vec<u8>, time: Option<Timestamp>) {
    out.extend(time.map_or(NEVER, Timestamp::as_micros).to_le_bytes());
}

fn write_span(out: &mut Vec<u8>, span: Option<Duration>) {
    // No duration has so many nanoseconds below a second.
    out.extend(span.map_or(0, |span| span.as_secs()).to_le_bytes());
    out.extend(span.map_or(u32::MAX, |span| span.subsec_nanos()).to_le_bytes());
}

fn write_text(out: &mut Vec<u8>, text: &[u8]) {
    let len = u32::try_from(text.len()).expect("no text of a lock has four gigabytes");
    out.extend(len.to_le_bytes());
    out.extend(text);
}

/// Bytes that are read from the front.
pub(super) struct Bytes<'b>(pub(super) &'b [u8]);

impl<'b> Bytes<'b> {
    fn take(&mut self, count: usize) -> Result<&'b [u8], Failure> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or_else(unreadable)?;
        self.0 = rest;
        Ok(taken)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], Failure> {
        self.take(N)?.try_into().map_err(|_| unreadable())
    }

    fn byte(&mut self) -> Result<u8, Failure> {
        self.array().map(|[byte]| byte)
    }

    pub(super) fn number(&mut self) -> Result<u64, Failure> {
        self.array().map(u64::from_le_bytes)
    }

    pub(super) fn small(&mut self) -> Result<u32, Failure> {
        self.array().map(u32::from_le_bytes)
    }

    fn run(&mut self) -> Result<&'b [u8], Failure> {
        let len = self.small()?;
        self.take(usize::try_from(len).map_err(|_| unreadable())?)
    }

    fn time(&mut self) -> Result<Option<Timestamp>, Failure> {
        let micros = self.number()?;
        Ok((micros != NEVER).then(|| Timestamp::from_micros(micros)))
    }

    fn span(&mut self) -> Result<Option<Duration>, Failure> {
        let (seconds, nanos) = (self.number()?, self.small()?);
        Ok((nanos < 1_000_000_000).then(|| Duration::new(seconds, nanos)))
    }
}

fn text(bytes: &[u8]) -> Result<&str, Failure> {
    std::str::from_utf8(bytes).map_err(|error| unreadable().caused_by(error))
}

fn unreadable() -> Failure {
    Failure::new(StoreErrorKind::Incompatible, "the file holds what no release of this form has written")
}
