//! Granting locks: in one trip, or by marks that wait for the writes in flight.

use std::{collections::HashSet, sync::Arc, time::Duration};

use tokio::{runtime::Handle, task::JoinError};
use uuid::Uuid;

use super::{
    admit::proof,
    core::{Core, Failed, Params},
    error::unreadable,
    excuse::Excuses,
    keys::{Below, Keys, Mode, bytes, digest, namespace},
    statements::Call,
    wire::{Answers, DEAD, LOCK, OF_TOKEN, micros},
};
use crate::{
    lock::{Depth, HolderClaim, HolderProof, Lock, LockKind, LockParts, LockScope, LostCause, LostLock, Principal, rules},
    store::{
        Acquire, Acquired, Conflict, QuotaExceeded, Replaces, StoreError, StoreErrorKind, StoreFuture,
        remote::{
            deadline::{insist, within},
            writes::Writes,
        },
        stored::parts_to_json,
    },
};

const DOING: &str = "acquiring locks";
/// How long who may not wait is told to wait.
const A_MOMENT: Duration = Duration::from_secs(1);
/// The pauses between two looks at what a mark waits for.
const PAUSES: (Duration, Duration) = (Duration::from_millis(2), Duration::from_millis(50));

/// A request for locks, as the functions take it.
pub(super) struct Plan {
    /// Tells its marks from those of another acquire with the same words.
    asked: Uuid,
    pub(super) parts: Vec<Arc<LockParts>>,
    principal: Option<Principal>,
    holder_proof: HolderProof,
    who: Option<Vec<u8>>,
    proof: i32,
    keys: Vec<i64>,
    id: Vec<Uuid>,
    token: Vec<Uuid>,
    place: Vec<Option<i64>>,
    realm: Vec<i64>,
    namespace: Vec<Vec<u8>>,
    path: Vec<Vec<u8>>,
    exclusive: Vec<bool>,
    infinite: Vec<bool>,
    freeze: Vec<bool>,
    kind: Vec<Vec<u8>>,
    holder: Vec<Option<Vec<u8>>>,
    whose: Vec<i64>,
    json: Vec<Vec<u8>>,
    chain: Vec<i64>,
    chain_end: Vec<i32>,
    low: Vec<Vec<u8>>,
    high: Vec<Vec<u8>>,
    from: Vec<Vec<u8>>,
    to: Vec<Vec<u8>>,
    swap_token: Vec<Option<Uuid>>,
    swap_id: Vec<Uuid>,
    swap_reason: Vec<Option<Vec<u8>>>,
    span: Option<i64>,
    most: Option<i64>,
    total: Option<i64>,
    drain: Duration,
    drain_micros: i64,
    of_principal: Option<i64>,
    of_store: Option<i64>,
    within: Option<Uuid>,
    blockers: usize,
    named: i32,
    /// Bit 0: its roots overlap each other; bit 1: a token or id stands in it twice.
    itself: i32,
}

/// What the first step of an acquire comes to.
enum Step {
    Done(Acquired),
    /// Marks are set. The ids of what they replace.
    Wait(Excuses, Vec<Uuid>),
}

impl Core {
    pub(super) fn acquire(self: &Arc<Self>, request: &Acquire<'_>) -> StoreFuture<Acquired> {
        let plan = Arc::new(Plan::of(self, request));
        let core = self.clone();
        StoreFuture::new(async move {
            // Should this be dropped while the first step is under way, what came of it has to be known before marks are
            // taken away.
            let withdraw = Withdraw { core: core.clone(), plan: plan.clone(), open: false, doubtful: false };
            // By itself, so that it is over soon after it was sent, however seldom this is polled, and keeps no connection.
            let first = tokio::spawn({
                let (core, plan) = (core.clone(), plan.clone());
                let mut withdraw = withdraw;
                async move {
                    let step = within(core.limit, DOING, core.first_step(&plan)).await;
                    // Where nothing is known, marks may be set.
                    withdraw.open = !matches!(step, Ok(Step::Done(_)));
                    withdraw.doubtful = step.is_err();
                    step.map(|step| (step, withdraw))
                }
            });
            let (step, withdraw) = first.await.map_err(gone)??;
            match step {
                Step::Done(answer) => Ok(answer),
                Step::Wait(excuses, swaps) => core.wait(&plan, excuses, Arc::new(swaps), withdraw).await,
            }
        })
    }

    async fn first_step(&self, plan: &Plan) -> Result<Step, StoreError> {
        let mut counting = false;
        let mut proven: Vec<Uuid> = Vec::new();
        let mut excuses = Excuses::default();
        loop {
            let answers = self.try_step(Call::Acquire, DOING, |params| {
                plan.first(params);
                let at = params.len();
                params.extend_from_slice(&[
                    &counting,
                    &plan.within,
                    &plan.named,
                    &plan.itself,
                    &excuses.writes,
                    &excuses.locks,
                    &plan.asked,
                ]);
                // Where the function has it.
                params.insert(3, &proven);
                debug_assert_eq!(at + 8, params.len());
            });
            let answers = match answers.await {
                Ok(answers) => answers,
                Err(Failed::Count) if !counting => {
                    counting = true;
                    continue;
                }
                Err(Failed::Count) => return Err(unreadable("asked to count twice")),
                Err(Failed::Error(error)) => return Err(error),
            };
            match answers.code {
                9 => {
                    excuses.learn(&plan.parts, &answers)?;
                    let swaps = answers.of(OF_TOKEN).map(|row| row.id.ok_or_else(|| unreadable("a lock without an id")));
                    let swaps = swaps.collect::<Result<Vec<_>, _>>()?;
                    return Ok(Step::Wait(excuses, swaps));
                }
                10 => {
                    let known = excuses.writes.len();
                    excuses.learn(&plan.parts, &answers)?;
                    if excuses.writes.len() == known {
                        return Ok(Step::Done(Acquired::Busy { retry_after: A_MOMENT }));
                    }
                }
                11 => match self.judge_swap(plan, &answers)? {
                    Some(id) if !proven.contains(&id) => proven.push(id),
                    _ => return Ok(Step::Done(Acquired::NotHolder)),
                },
                12 => {}
                _ => return self.answer(plan, &answers).map(Step::Done),
            }
        }
    }

    /// Whether the caller's own function says that it holds the lock to be replaced.
    fn judge_swap(&self, plan: &Plan, answers: &Answers) -> Result<Option<Uuid>, StoreError> {
        let row = answers.of(OF_TOKEN).next().ok_or_else(|| unreadable("nothing to judge"))?;
        let lock = row.lock(answers.now, self.lease)?;
        let holds = plan.holder_proof.answers(&HolderClaim::new(&lock, true, plan.principal.as_ref()));
        Ok(row.id.filter(|_| holds))
    }

    /// What an outcome means to the caller.
    fn answer(&self, plan: &Plan, answers: &Answers) -> Result<Acquired, StoreError> {
        Ok(match answers.code {
            0 => Acquired::Granted(self.granted(plan, answers)?),
            1 => {
                let rows: Vec<_> = answers.of(OF_TOKEN).collect();
                let find = |token: &Uuid| rows.iter().find(|row| row.key == Some(*token));
                let locks = plan.token.iter().filter_map(find).map(|row| row.lock(answers.now, self.lease));
                Acquired::Repeated(locks.collect::<Result<_, _>>()?)
            }
            2 => {
                let found = answers.of(LOCK).map(|row| row.lock(answers.now, self.lease));
                let found = found.collect::<Result<Vec<Lock>, _>>()?;
                Acquired::Conflict(Conflict {
                    blockers: found,
                    truncated: answers.num.unsigned_abs() > plan.blockers as u64,
                })
            }
            3 => Acquired::Busy {
                retry_after: Duration::from_micros(answers.num.unsigned_abs()).max(Duration::from_micros(1)),
            },
            4 => Acquired::OverQuota(QuotaExceeded::Principal),
            5 => Acquired::OverQuota(QuotaExceeded::Store),
            6 => Acquired::Taken,
            7 => Acquired::Lost(self.all_lost(plan, answers)?),
            8 => Acquired::NotHolder,
            other => return Err(unreadable(format!("an acquire came to {other}"))),
        })
    }

    /// What was lost: told to its own, and of ids nothing.
    fn all_lost(&self, plan: &Plan, answers: &Answers) -> Result<Vec<LostLock>, StoreError> {
        let mut tokens: Vec<Uuid> = Vec::new();
        for token in answers.rows.iter().filter(|row| row.what == DEAD || row.what == OF_TOKEN).filter_map(|row| row.key) {
            if !tokens.contains(&token) {
                tokens.push(token);
            }
        }
        let told = |holder: Option<&Principal>| holder == plan.principal.as_ref();
        let mut lost = tokens.iter().map(|token| self.lost(*token, answers, told)).collect::<Result<Vec<_>, _>>()?;
        if lost.is_empty() {
            lost.push(LostLock::new(LostCause::Unknown));
        }
        Ok(lost)
    }

    fn granted(&self, plan: &Plan, answers: &Answers) -> Result<Vec<Lock>, StoreError> {
        let mut locks = Vec::with_capacity(plan.parts.len());
        for parts in &plan.parts {
            let row = answers.of(LOCK).find(|row| row.id == Some(parts.id.as_uuid()));
            let row = row.ok_or_else(|| unreadable("a grant without its lock"))?;
            locks.push(row.lock_of(parts.clone(), answers.now, self.lease)?);
        }
        Ok(locks)
    }

    /// Asks again and again whether the marks can be granted, sooner when a write of this node ends.
    async fn wait(
        self: &Arc<Self>,
        plan: &Arc<Plan>,
        mut excuses: Excuses,
        swaps: Arc<Vec<Uuid>>,
        mut withdraw: Withdraw,
    ) -> Result<Acquired, StoreError> {
        let mut pause = PAUSES.0;
        // Excuses that were found just now may be all it takes.
        let mut at_once = !excuses.writes.is_empty();
        loop {
            if !at_once {
                self.pause(pause).await;
                pause = (pause * 2).min(PAUSES.1);
            }
            let (core, plan, swaps) = (self.clone(), plan.clone(), swaps.clone());
            // By itself, so that it is over soon after it was sent, however seldom this is polled.
            let step = tokio::spawn({
                let (plan, excuses) = (plan.clone(), excuses.clone());
                async move {
                    let step = core.step(Call::Grant, DOING, |params| plan.grant(params, &swaps, &excuses));
                    within(core.limit, DOING, step).await
                }
            });
            let answers = step.await.map_err(gone)??;
            let plan = &*plan;
            match answers.code {
                9 => {
                    let known = excuses.writes.len();
                    excuses.learn(&plan.parts, &answers)?;
                    at_once = excuses.writes.len() > known;
                }
                0 => {
                    withdraw.open = false;
                    return Ok(Acquired::Granted(self.granted(plan, &answers)?));
                }
                7 => {
                    withdraw.open = false;
                    let dead = answers.of(DEAD).map(|row| row.dead().map(|(lost, _)| lost));
                    let mut lost = dead.collect::<Result<Vec<_>, _>>()?;
                    // What was to be replaced is gone; of an id nothing is told.
                    if lost.is_empty() {
                        lost.push(LostLock::new(LostCause::Unknown));
                    }
                    return Ok(Acquired::Lost(lost));
                }
                3 => {
                    withdraw.open = false;
                    return Ok(Acquired::Busy { retry_after: plan.drain.saturating_mul(2) });
                }
                other => return Err(unreadable(format!("a grant came to {other}"))),
            }
        }
    }

    async fn pause(&self, pause: Duration) {
        match &self.writes {
            Some(writes) => drop(tokio::time::timeout(pause, writes.next_end()).await),
            None => tokio::time::sleep(pause).await,
        }
    }

    async fn withdraw(&self, plan: &Plan) -> Result<(), StoreError> {
        match self.call(Call::Withdraw, "withdrawing marks", &[&self.space.0, &self.wait, &plan.id, &plan.asked]).await {
            Ok(_) => Ok(()),
            Err(Failed::Error(error)) => Err(error),
            Err(Failed::Count) => Err(unreadable("asked to count")),
        }
    }
}

fn gone(error: JoinError) -> StoreError {
    StoreError::new(StoreErrorKind::Other, DOING).caused_by(error)
}

impl Plan {
    fn of(core: &Core, request: &Acquire<'_>) -> Self {
        let limit = |limit: usize| (limit != usize::MAX).then(|| i64::try_from(limit).unwrap_or(i64::MAX / 4));
        let writes = core.writes.as_ref();
        let mut plan = Self {
            asked: Uuid::new_v4(),
            parts: request.locks.iter().map(|lock| lock.parts.clone()).collect(),
            principal: request.principal.cloned(),
            holder_proof: request.proof.clone(),
            who: bytes(request.principal),
            proof: proof(request.proof),
            keys: Vec::new(),
            id: Vec::new(),
            token: Vec::new(),
            place: Vec::new(),
            realm: Vec::new(),
            namespace: Vec::new(),
            path: Vec::new(),
            exclusive: Vec::new(),
            infinite: Vec::new(),
            freeze: Vec::new(),
            kind: Vec::new(),
            holder: Vec::new(),
            whose: Vec::new(),
            json: Vec::new(),
            chain: Vec::new(),
            chain_end: Vec::new(),
            low: Vec::new(),
            high: Vec::new(),
            from: Vec::new(),
            to: Vec::new(),
            swap_token: Vec::new(),
            swap_id: Vec::new(),
            swap_reason: Vec::new(),
            span: request.lifetime.span.map(micros),
            most: request.lifetime.most.map(micros),
            total: request.lifetime.total.map(micros),
            drain: request.drain,
            drain_micros: micros(request.drain),
            of_principal: limit(request.quota.principal),
            of_store: limit(request.quota.store),
            within: request
                .within
                .and_then(|id| writes.and_then(|writes: &Writes| writes.name(id)))
                .map(|name| Uuid::from_bytes(name.0)),
            blockers: request.blockers,
            named: i32::try_from(request.blockers).unwrap_or(i32::MAX - 1),
            itself: 0,
        };
        plan.add_locks(core, request);
        for replaced in request.replaces {
            let (token, id, reason) = match replaced {
                Replaces::Held(token) => (Some(digest(&core.key.digest(token))), Uuid::nil(), None),
                // No token and no reason.
                Replaces::Own { id } => (None, id.as_uuid(), None),
                Replaces::Broken { id, reason } => (None, id.as_uuid(), Some(reason.as_bytes().to_vec())),
            };
            plan.swap_token.push(token);
            plan.swap_id.push(id);
            plan.swap_reason.push(reason);
        }
        plan
    }

    fn add_locks(&mut self, core: &Core, request: &Acquire<'_>) {
        let mut keys = Keys::default();
        let mut seen = HashSet::new();
        for new in request.locks {
            let parts = &*new.parts;
            let placed = core.space.placed(&parts.root);
            let below = Below::of(parts.root.path());
            let (id, token) = (parts.id.as_uuid(), digest(&core.key.digest(&new.token)));
            keys.path(&placed, Mode::Exclusive);
            keys.token(token);
            keys.token(id);
            if !seen.insert((0, token)) | !seen.insert((1, id)) {
                self.itself |= 2;
            }
            self.id.push(id);
            self.token.push(token);
            self.place.push(placed.place);
            self.realm.push(placed.realm());
            self.namespace.push(namespace(&parts.root));
            self.path.push(parts.root.path().as_bytes().to_vec());
            self.exclusive.push(parts.scope == LockScope::Exclusive);
            self.infinite.push(parts.depth == Depth::Infinity);
            self.freeze.push(parts.kind == LockKind::Freeze);
            self.kind.push(parts.kind.as_str().as_bytes().to_vec());
            self.holder.push(bytes(parts.principal.as_ref()));
            self.whose.push(core.space.whose(parts.principal.as_ref()));
            self.json.push(parts_to_json(parts).into_bytes());
            self.chain.extend_from_slice(&placed.chain);
            self.chain_end.push(i32::try_from(self.chain.len()).unwrap_or(i32::MAX));
            self.low.push(below.low);
            self.high.push(below.high);
            self.from.push(below.from);
            self.to.push(below.to);
        }
        if self.of_principal.is_some() {
            self.whose.first().into_iter().for_each(|whose| keys.exclusive(*whose));
        }
        if overlap_each_other(&self.parts) {
            self.itself |= 1;
        }
        self.keys = keys.into_numbers();
    }

    /// The parameters of `acquire`, up to `_of_store`, but for those of each call.
    fn first<'p>(&'p self, params: &mut Params<'p>) {
        params.extend_from_slice(&[
            &self.keys,
            &self.who,
            &self.proof,
            &self.id,
            &self.token,
            &self.place,
            &self.realm,
            &self.namespace,
            &self.path,
            &self.exclusive,
            &self.infinite,
            &self.freeze,
            &self.kind,
            &self.holder,
            &self.whose,
            &self.json,
            &self.chain,
            &self.chain_end,
            &self.low,
            &self.high,
            &self.from,
            &self.to,
            &self.swap_token,
            &self.swap_id,
            &self.swap_reason,
            &self.span,
            &self.most,
            &self.total,
            &self.drain_micros,
            &self.of_principal,
            &self.of_store,
        ]);
    }

    fn grant<'p>(&'p self, params: &mut Params<'p>, swaps: &'p Vec<Uuid>, excuses: &'p Excuses) {
        params.extend_from_slice(&[
            &self.who,
            &self.id,
            &self.place,
            &self.realm,
            &self.namespace,
            &self.path,
            &self.exclusive,
            &self.infinite,
            &self.freeze,
            &self.chain,
            &self.chain_end,
            &self.low,
            &self.high,
            &self.from,
            &self.to,
            swaps,
            &self.swap_token,
            &self.swap_reason,
            &self.span,
            &self.total,
            &self.drain_micros,
            &self.within,
            &excuses.writes,
            &excuses.locks,
            &self.asked,
        ]);
    }
}

/// Whether roots of one request overlap each other.
fn overlap_each_other(parts: &[Arc<LockParts>]) -> bool {
    parts.iter().enumerate().any(|(at, one)| {
        parts[at + 1..].iter().any(|other| rules::overlap((&one.root, one.depth), (&other.root, other.depth)))
    })
}

/// Takes marks away that nobody waits for any more, in the background.
pub(super) struct Withdraw {
    core: Arc<Core>,
    plan: Arc<Plan>,
    open: bool,
    /// Nobody knows whether they are there yet.
    doubtful: bool,
}

impl Drop for Withdraw {
    fn drop(&mut self) {
        if !self.open {
            return;
        }
        // Elsewhere than in a runtime, the marks have a deadline.
        let Ok(runtime) = Handle::try_current() else { return };
        let (core, plan) = (self.core.clone(), self.plan.clone());
        let doubtful = self.doubtful;
        runtime.spawn(async move {
            // After their own deadline the marks count for nothing.
            let span = plan.drain.max(core.limit * 2);
            let withdraw = || within(core.limit, "withdrawing marks", core.withdraw(&plan));
            insist(span, withdraw).await;
            // What was cut off may still be on its way through the server.
            if doubtful {
                tokio::time::sleep(core.limit * 2).await;
                insist(span, withdraw).await;
            }
        });
    }
}
