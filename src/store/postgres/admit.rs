//! Whether a write may go on: looked up, or looked up and registered, in one trip.

use std::{sync::Arc, time::Duration};

use tokio_postgres::{Row, types::ToSql};
use uuid::Uuid;

use super::{
    core::Core,
    error::{store_error, unreadable},
    finish::Finish,
    keys::{Targets, bytes, digest},
    statements::Call,
    wire::{Answer, Answers, DEAD, LOCK, OF_TOKEN, column, in_use, time},
};
use crate::{
    lock::{HolderProof, Lock, LockId, LostCause, LostLock, Timestamp, rules},
    store::{
        Admitted, Permit, StoreError, StoreErrorKind, StoreFuture, Verdict, Write,
        remote::{
            deadline::within,
            judge::{Judged, Snapshot, TokenState, judge},
            question::Question,
            writes::{Begun, WriteName, Writes},
        },
    },
};

const DOING: &str = "asking whether a write may go on";
/// Locks below a subtree that a plain look reads at first.
const FIRST_LOOK: i64 = 256;
/// Looks at changing locks, before a function of the caller's that judges them is given up.
const LOOKS: usize = 8;

impl Core {
    pub(super) fn admit(self: &Arc<Self>, write: &Write<'_>) -> StoreFuture<Verdict> {
        let question = Question::of(write, &self.key);
        let core = self.clone();
        match &self.writes {
            None => StoreFuture::new(async move { within(core.limit, DOING, core.check(&question)).await }),
            Some(writes) => {
                let writes = writes.clone();
                StoreFuture::new(Finish::new(async move {
                    let mut name = None;
                    let answer = within(core.limit, DOING, core.guard(&writes, &question, &mut name)).await;
                    if let (Err(_), Some(name)) = (&answer, name) {
                        core.late.end(&core, name);
                    }
                    answer
                }))
            }
        }
    }

    /// A plain look, in one of the shared connections.
    async fn check(&self, question: &Question) -> Result<Verdict, StoreError> {
        let targets = Targets::of(self.space, &question.targets);
        // Should this not come to its end, nobody uses the connection any more.
        let conn = self.connections.shared().await?;
        let clock = self.clock();
        if targets.below_realm.is_empty() && question.conditions.is_empty() {
            let params: [&(dyn ToSql + Sync); 4] = [&targets.places, &self.space.0, &targets.exact, &clock];
            let rows = conn.call(Call::Check, &params).await;
            let rows = rows.map_err(|error| store_error(DOING, error))?;
            conn.done();
            return self.checked(question, &rows, clock);
        }
        let tokens: Vec<Uuid> = question.digests.iter().map(digest).collect();
        let mut most = FIRST_LOOK.max(i64::try_from(question.blockers).unwrap_or(i64::MAX).saturating_add(1));
        loop {
            let rows = conn
                .call(
                    Call::CheckMore,
                    &[
                        &self.space.0,
                        &clock,
                        &targets.places,
                        &targets.exact,
                        &targets.below_realm,
                        &targets.low,
                        &targets.high,
                        &targets.from,
                        &targets.to,
                        &tokens,
                        &most,
                    ],
                )
                .await
                .map_err(|error| store_error(DOING, error))?;
            let answers = Answers::read(&rows)?;
            let cut_off = answers.of(LOCK).count() as u64 >= most.unsigned_abs();
            let judged = judge(question, self.snapshot(question, &answers)?);
            match judged {
                // Enough are named, whatever else there is.
                Judged::Refused(refused) if !cut_off || refused.truncated => {
                    conn.done();
                    return Ok(Verdict::Refused(refused));
                }
                Judged::Admitted { answered, .. } if !cut_off => {
                    conn.done();
                    return Ok(admitted(Permit::unguarded(answers.num.unsigned_abs()), answered));
                }
                _ => most = i64::MAX,
            }
        }
    }

    fn checked(&self, question: &Question, rows: &[Row], clock: i64) -> Result<Verdict, StoreError> {
        // The first row has no lock in it: the number of the latest grant, and the time.
        let head = rows.first().ok_or_else(|| unreadable("no outcome"))?;
        let generation = column::<Option<i64>>(head, 8)?.unwrap_or_default().unsigned_abs();
        let now = time(Self::shown(column::<Option<i64>>(head, 9)?.unwrap_or_default(), clock));
        let mut touched = Vec::new();
        for row in &rows[1..] {
            let answer = Answer {
                what: LOCK,
                id: column(row, 0)?,
                num: column(row, 1)?,
                state: column(row, 2)?,
                created: column(row, 3)?,
                expires: column(row, 4)?,
                life_end: column(row, 5)?,
                in_use: column::<Option<bool>>(row, 6)?.unwrap_or_default(),
                parts: column(row, 7)?,
                ..Answer::default()
            };
            if answer.is_live(now) {
                touch(&mut touched, answer.lock(now, self.lease)?, question);
            }
        }
        if touched.is_empty() {
            return Ok(admitted(Permit::unguarded(generation), touched));
        }
        Ok(match judge(question, Snapshot { touched, tokens: Vec::new() }) {
            Judged::Refused(refused) => Verdict::Refused(refused),
            Judged::Admitted { answered, .. } => admitted(Permit::unguarded(generation), answered),
        })
    }

    /// Looks and registers.
    async fn guard(
        &self,
        writes: &Writes,
        question: &Question,
        doubtful: &mut Option<WriteName>,
    ) -> Result<Verdict, StoreError> {
        let targets = Targets::of(self.space, &question.targets);
        let keys = targets.keys(&question.targets);
        let tokens: Vec<Uuid> = question.digests.iter().map(digest).collect();
        let who = bytes(question.principal.as_ref());
        let proof = proof(&question.proof);
        let most = i32::try_from(question.blockers).unwrap_or(i32::MAX).saturating_add(1);
        let most = most.saturating_mul(i32::try_from(targets.low.len()).unwrap_or(i32::MAX).max(1));
        let (mut judged, mut own): (Vec<Uuid>, Vec<Uuid>) = (Vec::new(), Vec::new());
        for _ in 0..LOOKS {
            let begun = writes.begin();
            let name = Uuid::from_bytes(begun.name().0);
            *doubtful = Some(begun.name());
            let answers = self
                .step(Call::Admit, DOING, |params| {
                    params.extend_from_slice(&[
                        &keys,
                        &name,
                        &self.lease_micros,
                        &targets.places,
                        &targets.exact,
                        &targets.below_realm,
                        &targets.low,
                        &targets.high,
                        &targets.from,
                        &targets.to,
                        &targets.place,
                        &targets.parent,
                        &targets.realm,
                        &targets.namespace,
                        &targets.path,
                        &targets.unlink,
                        &tokens,
                        &who,
                        &proof,
                        &judged,
                        &own,
                        &most,
                    ]);
                })
                .await?;
            *doubtful = None;
            let registered = answers.code == 1;
            if registered && answers.rows.is_empty() && question.conditions.is_empty() {
                return Ok(admitted(begun.admitted(answers.num.unsigned_abs()), Vec::new()));
            }
            let snapshot = self.snapshot(question, &answers)?;
            let seen: Vec<Uuid> = snapshot.touched.iter().map(|lock| lock.id().as_uuid()).collect();
            match judge(question, snapshot) {
                Judged::Refused(refused) => {
                    self.unregister(writes, begun, registered).await;
                    return Ok(Verdict::Refused(refused));
                }
                Judged::Admitted { answered, own } if registered => {
                    let life_ends: Vec<(Uuid, Option<Timestamp>)> =
                        answers.of(LOCK).filter_map(|row| Some((row.id?, row.life_end.map(time)))).collect();
                    let answered = answered.into_iter().map(|lock| mark_used(lock, &own, &life_ends, self.lease)).collect();
                    return Ok(admitted(begun.admitted(answers.num.unsigned_abs()), answered));
                }
                Judged::Admitted { own: answering, .. } => {
                    // The engine could not know; now it is told.
                    begun.refused();
                    judged = seen;
                    own = answering.iter().map(LockId::as_uuid).collect();
                }
            }
        }
        Err(StoreError::new(StoreErrorKind::Other, "the locks that a write touches change too fast to be judged"))
    }

    /// The engine has registered a write that the rules refuse: nobody is to wait for it.
    async fn unregister(&self, writes: &Writes, begun: Begun, registered: bool) {
        if registered {
            drop(begun);
            let ended = writes.unacknowledged_ends();
            // Where this fails, the next call carries it, or the lease runs out.
            if self.end(&ended).await.is_ok() {
                writes.ends_acknowledged(&ended);
            }
        } else {
            begun.refused();
        }
    }

    fn snapshot(&self, question: &Question, answers: &Answers) -> Result<Snapshot, StoreError> {
        let now = answers.now;
        let mut touched = Vec::new();
        for row in answers.of(LOCK).filter(|row| row.is_live(now)) {
            touch(&mut touched, row.lock(now, self.lease)?, question);
        }
        let mut tokens = Vec::with_capacity(question.digests.len());
        for token in &question.digests {
            let token = self.token_state(digest(token), answers)?;
            // A long list is cut off, and not before what may answer for it.
            if let TokenState::Held(lock) = &token {
                touch(&mut touched, lock.clone(), question);
            }
            tokens.push(token);
        }
        Ok(Snapshot { touched, tokens })
    }

    fn token_state(&self, token: Uuid, answers: &Answers) -> Result<TokenState, StoreError> {
        if let Some(row) = answers.of(OF_TOKEN).find(|row| row.key == Some(token)) {
            let lock = row.lock(answers.now, self.lease)?;
            return Ok(match row.state {
                Some(0) => TokenState::Unknown,
                _ if row.is_live(answers.now) => TokenState::Held(lock),
                _ => TokenState::Dead { principal: lock.principal().cloned(), lost: row.end_by_itself(&lock)? },
            });
        }
        Ok(match last_dead(answers, token) {
            Some(row) => {
                let (lost, principal) = row.dead()?;
                TokenState::Dead { principal, lost }
            }
            None => TokenState::Unknown,
        })
    }

    /// What `principal`, or who set the lock, may know of the lock that a token had.
    pub(super) fn lost(
        &self,
        token: Uuid,
        answers: &Answers,
        told: impl Fn(Option<&crate::lock::Principal>) -> bool,
    ) -> Result<LostLock, StoreError> {
        Ok(match self.token_state(token, answers)? {
            TokenState::Dead { principal, lost } if told(principal.as_ref()) => lost,
            TokenState::Held(lock) if told(lock.principal()) => {
                let row = answers.of(OF_TOKEN).find(|row| row.key == Some(token));
                row.map(|row| row.end_by_itself(&lock)).transpose()?.unwrap_or(LostLock::new(LostCause::Unknown))
            }
            _ => LostLock::new(LostCause::Unknown),
        })
    }
}

/// What is remembered last of a token.
fn last_dead(answers: &Answers, token: Uuid) -> Option<&Answer> {
    answers.of(DEAD).filter(|row| row.key == Some(token)).max_by_key(|row| row.created)
}

pub(super) fn proof(proof: &HolderProof) -> i32 {
    match proof {
        HolderProof::TokenAndPrincipal => 0,
        HolderProof::Token => 1,
        HolderProof::Principal => 2,
        HolderProof::Custom(_) => 3,
    }
}

/// Adds a lock once, and only if a target touches it: hashes may collide.
fn touch(touched: &mut Vec<Lock>, lock: Lock, question: &Question) {
    let touches = question.targets.iter().any(|target| rules::touches(lock.root(), lock.depth(), target));
    if touches && !touched.iter().any(|other| other.id() == lock.id()) {
        touched.push(lock);
    }
}

fn mark_used(lock: Lock, own: &[LockId], life_ends: &[(Uuid, Option<Timestamp>)], lease: Duration) -> Lock {
    if !own.contains(&lock.id()) {
        return lock;
    }
    let end = life_ends.iter().find(|(id, _)| *id == lock.id().as_uuid()).and_then(|(_, end)| *end);
    in_use(&lock, end, lease)
}

fn admitted(permit: Permit, answered: Vec<Lock>) -> Verdict {
    Verdict::Admitted(Admitted { permit, answered: (!answered.is_empty()).then(|| answered.into()) })
}
