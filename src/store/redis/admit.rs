//! Whether a write may go on.
//!
//! A guarded store asks one script, which registers the write unless a lock certainly refuses it, and answers what the
//! write touches; the pure rules then decide about that step. A check-only store reads the locks at and above the targets
//! and judges them here; only for what goes with all below it, and for conditions, it asks a script that changes nothing.

use std::{collections::HashSet, sync::Arc};

use redis::{Cmd, Value};
use tokio::time::Instant;

use super::{
    connection::Flight,
    core::{Core, Reply, endless, parse_number, tries},
    error::{incompatible, store_error},
    keys::{key_text, place_text, principal_text},
    scripts,
    wire::{Grave, Packer, Record, Unpacker},
};
use crate::{
    lock::{Effect, HolderClaim, HolderProof, Lock, LockId, Membership, Target, Timestamp, rules},
    store::{
        Admitted, Permit, StoreError, Verdict,
        remote::{
            deadline::within,
            judge::{Judged, Snapshot, TokenState, judge},
            places::chain,
            question::Question,
            writes::Begun,
        },
    },
};

/// Places that a script reads in one go.
const SIMPLE: usize = 1_000;

/// A write, ready to be sent.
pub(super) struct Case {
    question: Question,
    targets: Vec<u8>,
    /// The hashes of all that may hold a lock which covers something of it.
    places: Vec<[u8; 16]>,
    /// Whether the locks at and above the targets are all that matters.
    plain: bool,
}

impl Case {
    pub(super) fn new(question: Question) -> Self {
        let plain = question.conditions.is_empty() && question.targets.iter().all(|target| target.effect == Effect::Write);
        let mut places: Vec<[u8; 16]> = Vec::new();
        // Only what is new: targets share at least the root. A bulk write has thousands of them.
        let (mut known, several) = (HashSet::new(), question.targets.len() > 1);
        for target in &question.targets {
            let chain = chain(&target.key);
            places.extend(chain.iter().map(|place| place.hash).filter(|hash| !several || known.insert(*hash)));
        }
        Self { targets: targets_text(&question.targets), question, places, plain }
    }
}

/// What a write changes, as scripts know it.
fn targets_text(targets: &[Target<'_>]) -> Vec<u8> {
    targets
        .iter()
        .fold(Packer::new().count(targets.len()), |packer, target| {
            let parent = match target.membership {
                Membership::Changed => target.key.parent_path().map(|path| place_text(target.key.namespace(), path)),
                Membership::Kept => None,
            };
            let effect = if target.effect == Effect::Unlink { b'u' } else { b'w' };
            packer.letter(effect).text(key_text(&target.key)).text(parent.unwrap_or_default())
        })
        .done()
}

/// How a proof is called in scripts.
pub(super) fn mode(proof: &HolderProof) -> u8 {
    match proof {
        HolderProof::TokenAndPrincipal => b'b',
        HolderProof::Token => b't',
        HolderProof::Principal => b'p',
        HolderProof::Custom(_) => b'c',
    }
}

/// What an application's own proof said of a lock, as scripts know it.
pub(super) fn proven(id: LockId, holds: bool) -> [u8; 17] {
    let mut text = [if holds { b'y' } else { b'n' }; 17];
    text[1..].copy_from_slice(id.as_uuid().as_bytes());
    text
}

impl Core {
    pub(super) async fn admit(self: Arc<Self>, case: Case) -> Result<Verdict, StoreError> {
        let work = async {
            match &self.writes {
                Some(writes) => self.begin(&case, writes.begin()).await,
                None if case.plain => self.glance(case).await,
                None => self.look(&case).await,
            }
        };
        let verdict = within(self.link.limit(), "admitting a write", work).await;
        self.let_go_if_late(&verdict);
        verdict
    }

    /// Registers and decides.
    async fn begin(&self, case: &Case, begun: Begun) -> Result<Verdict, StoreError> {
        let (found, status) = self.find_touched(case, begun.name().0).await?;
        let registered = status == b'r';
        match judge(&case.question, found.snapshot) {
            Judged::Admitted { answered, .. } if registered => {
                Ok(Verdict::Admitted(admitted(begun.admitted(found.generation), answered)))
            }
            // The same rules, and yet: neither is trusted.
            Judged::Admitted { .. } => Err(incompatible("the engine refuses what the rules admit")),
            Judged::Refused(refused) => {
                if registered {
                    // It is gone before the caller hears of it; where that fails, the keeper goes on.
                    if self.end_registration(&begun).await.is_ok() {
                        begun.refused();
                    }
                } else {
                    begun.refused();
                }
                Ok(Verdict::Refused(refused))
            }
        }
    }

    async fn end_registration(&self, begun: &Begun) -> Result<(), StoreError> {
        self.step(&scripts::END, &[&begun.name().0]).await.map(drop)
    }

    /// Decides without a registration.
    async fn look(&self, case: &Case) -> Result<Verdict, StoreError> {
        let (found, _) = self.find_touched(case, [0; 16]).await?;
        Ok(verdict(&case.question, found))
    }

    /// Asks the script until it has an answer: what a function of the application's own says has to be told to it, and
    /// where too much has ended it comes to an answer in several steps.
    async fn find_touched(&self, case: &Case, name: [u8; 16]) -> Result<(Found, u8), StoreError> {
        let question = &case.question;
        let asker = principal_text(question.principal.as_ref());
        let (limit, mode) = (question.blockers, mode(&question.proof));
        let head = Packer::new().span(self.lease).sixteen(&name).letter(mode).limit(limit).text(asker).done();
        let places = case.places.as_flattened();
        let digests: Vec<u8> = question.digests.iter().flat_map(|digest| *digest.as_bytes()).collect();
        let mut told: Vec<u8> = Vec::new();
        // What most writes are: the script then looks at nothing else first.
        let simple = if case.plain && case.places.len() <= SIMPLE { b"y" } else { b"n" };
        let script = if self.writes.is_some() { &scripts::BEGIN } else { &scripts::LOOK };
        for _ in tries() {
            let arguments = [&*head, &case.targets, places, &digests, &told, simple];
            let mut reply = self.step_with_ends(script, &arguments).await?;
            let status = *reply.bytes()?.first().unwrap_or(&0);
            let found = self.read_found(reply, question.digests.len())?;
            match status {
                b'r' | b'n' => return Ok((found, status)),
                b'u' => {
                    let tokens = &found.snapshot.tokens;
                    for lock in &found.snapshot.touched {
                        let shown =
                            tokens.iter().any(|state| matches!(state, TokenState::Held(held) if held.id() == lock.id()));
                        let claim = HolderClaim::new(lock, shown, question.principal.as_ref());
                        told.extend(proven(lock.id(), question.proof.answers(&claim)));
                    }
                }
                b'a' => {}
                _ => return Err(incompatible("an answer that means nothing")),
            }
        }
        Err(endless(script.doing))
    }

    fn read_found(&self, mut reply: Reply, digests: usize) -> Result<Found, StoreError> {
        let (now, generation, count) = (reply.time()?, reply.number()?, reply.count()?);
        let mut snapshot = Snapshot::default();
        for _ in 0..count {
            snapshot.touched.push(self.lock(reply.record()?, now));
        }
        for _ in 0..digests {
            let text = reply.bytes()?;
            snapshot.tokens.push(match text.split_first() {
                Some((b'h', record)) => TokenState::Held(self.lock(Record::read(record)?, now)),
                Some((b'd', grave)) => {
                    let Grave { principal, lost } = Grave::read(grave)?;
                    TokenState::Dead { principal, lost }
                }
                _ => TokenState::Unknown,
            });
        }
        Ok(Found { snapshot, generation })
    }

    /// One plain read, judged here.
    async fn glance(&self, case: Case) -> Result<Verdict, StoreError> {
        if let Some(seen) = self.clock.recent() {
            let (fields, _, sent) = self.read_places(&case, false).await?;
            let span = seen.span(sent, Instant::now());
            let (earliest, latest) = (self.time.at(span.0), self.time.at(span.1));
            // What ends just now is asked for again, with the time.
            if let Some(found) = self.touched_by(&case, fields, earliest, latest)? {
                return Ok(verdict(&case.question, found));
            }
        }
        let (fields, engine, _) = self.read_places(&case, true).await?;
        let now = self.time.at(engine);
        let found = self.touched_by(&case, fields, now, now)?.ok_or_else(|| incompatible("two times in one"))?;
        Ok(verdict(&case.question, found))
    }

    /// Reads what is at and above the targets; with the engine's time, where that is asked for.
    async fn read_places(&self, case: &Case, timed: bool) -> Result<(Vec<Value>, Timestamp, Instant), StoreError> {
        let flight = || {
            let mut read = Cmd::with_capacity(case.places.len() + 4, case.places.len() * 16 + 64);
            read.arg(b"HMGET").arg(self.keys.locks()).arg(b"schema").arg(b"generation");
            for place in &case.places {
                read.arg(place.as_slice());
            }
            let sent = Instant::now();
            if !timed {
                return (Flight::One(read), sent);
            }
            let mut pipeline = redis::Pipeline::with_capacity(2);
            pipeline.add_command(read).cmd("TIME");
            (Flight::Many(pipeline, 2), sent)
        };
        let (mut values, sent) = self.link.send("checking a write", flight).await?;
        if !timed {
            return Ok((array(values.pop())?, Timestamp::EPOCH, sent));
        }
        let (time, fields) = (array(values.pop())?, array(values.pop())?);
        let mut clock = time.into_iter().map(|part| match part {
            Value::BulkString(text) => parse_number(&text),
            _ => Err(incompatible("an answer of another shape")),
        });
        let mut part = || clock.next().unwrap_or_else(|| Err(incompatible("an answer that is too short")));
        let engine = Timestamp::from_micros(part()?.saturating_mul(1_000_000).saturating_add(part()?));
        self.clock.saw(engine, sent, Instant::now());
        Ok((fields, engine, sent))
    }

    /// What a write touches, at a time between two; nothing where it matters which.
    fn touched_by(
        &self,
        case: &Case,
        fields: Vec<Value>,
        earliest: Timestamp,
        latest: Timestamp,
    ) -> Result<Option<Found>, StoreError> {
        let mut fields = fields.into_iter();
        let (schema, generation) = (fields.next().unwrap_or_default(), fields.next().unwrap_or_default());
        let generation = match generation {
            Value::Nil => 0,
            Value::BulkString(text) => parse_number(&text)?,
            _ => return Err(incompatible("an answer of another shape")),
        };
        let mut touched: Vec<Lock> = Vec::new();
        let mut any = false;
        for field in fields {
            let text = match field {
                Value::Nil => continue,
                Value::BulkString(text) => text,
                _ => return Err(incompatible("an answer of another shape")),
            };
            any = true;
            let mut records = Unpacker::new(&text);
            while !records.is_done() {
                let record = Record::read(records.text()?)?;
                let (root, depth) = (&record.parts.root, record.parts.depth);
                if !case.question.targets.iter().any(|target| rules::touches(root, depth, target)) {
                    continue;
                }
                match (record.live(earliest), record.live(latest)) {
                    (true, true) => touched.push(self.lock(record, earliest)),
                    (false, false) => {}
                    _ => return Ok(None),
                }
            }
        }
        match schema {
            Value::BulkString(version) if version == b"1" => {}
            Value::Nil if !any => {}
            _ => return Err(incompatible("the store was written in another form")),
        }
        Ok(Some(Found { snapshot: Snapshot { touched, tokens: Vec::new() }, generation }))
    }
}

/// What a write touches, and the number of the latest grant.
struct Found {
    snapshot: Snapshot,
    generation: u64,
}

fn verdict(question: &Question, found: Found) -> Verdict {
    match judge(question, found.snapshot) {
        Judged::Admitted { answered, .. } => Verdict::Admitted(admitted(Permit::unguarded(found.generation), answered)),
        Judged::Refused(refused) => Verdict::Refused(refused),
    }
}

fn admitted(permit: Permit, answered: Vec<Lock>) -> Admitted {
    Admitted { permit, answered: (!answered.is_empty()).then(|| answered.into_boxed_slice()) }
}

fn array(value: Option<Value>) -> Result<Vec<Value>, StoreError> {
    match value {
        Some(Value::Array(values)) => Ok(values),
        Some(Value::ServerError(error)) => Err(store_error("checking a write", error.into())),
        _ => Err(incompatible("an answer of another shape")),
    }
}
