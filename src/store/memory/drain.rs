//! `Draining`: an acquire whose marks stand, and which waits for the writes that they refuse to end.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use super::{
    core::{Core, Edit},
    durable::Settling,
    inflight::{self, Met},
    latch::Latch,
    plan::Plan,
};
use crate::{
    lock::{LostCause, LostLock},
    store::{Acquired, ClockSleep, StoreError},
};

/// Dropped before it is ready, it takes its marks away as if they had never been.
pub(super) struct Draining {
    core: Arc<Core>,
    /// None once it has answered.
    plan: Option<Plan>,
    latch: Arc<Latch>,
    writes: Vec<Met>,
    deadline: ClockSleep,
    drain: Duration,
    /// The answer, while what it tells of is written down.
    settling: Option<Settling<Acquired>>,
}

impl Draining {
    pub(super) fn new(
        core: Arc<Core>,
        plan: Plan,
        latch: Arc<Latch>,
        writes: Vec<Met>,
        deadline: ClockSleep,
        drain: Duration,
    ) -> Self {
        Self { core, plan: Some(plan), latch, writes, deadline, drain, settling: None }
    }

    fn detach(&self) {
        inflight::detach(&self.latch, &self.writes);
    }
}

impl Future for Draining {
    type Output = Result<Acquired, StoreError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        if let Some(settling) = &mut this.settling {
            return Pin::new(settling).poll(cx);
        }
        loop {
            let drained = this.latch.poll(cx).is_ready();
            if !drained && Pin::new(&mut this.deadline).poll(cx).is_pending() {
                return Poll::Pending;
            }
            let Some(plan) = this.plan.take() else { return Poll::Pending };
            let (latch, drain) = (&this.latch, this.drain);
            let (end, ticket) = this.core.edit(|edit| {
                if drained { edit.finish(plan, latch, drain) } else { Outcome::Answer(edit.give_up(&plan, latch, drain)) }
            });
            match end {
                Outcome::Answer(answer) => {
                    this.detach();
                    match Settling::new(answer, ticket) {
                        Ok(settling) => return Pin::new(this.settling.insert(settling)).poll(cx),
                        Err(answer) => return Poll::Ready(Ok(answer)),
                    }
                }
                Outcome::Wait(plan, writes) => {
                    this.plan = Some(plan);
                    this.writes = writes;
                }
            }
        }
    }
}

/// What a wait comes to.
enum Outcome {
    Answer(Acquired),
    /// More writes have to end.
    Wait(Plan, Vec<Met>),
}

impl Drop for Draining {
    fn drop(&mut self) {
        if let Some(plan) = self.plan.take() {
            self.core.edit(|edit| edit.withdraw_all(&plan));
            self.detach();
        }
    }
}

impl Edit<'_> {
    /// Grants, if every mark still stands and would refuse no write that runs. It may, though all that it waited for
    /// have ended: one was excused by another shared lock, which has ended since.
    fn finish(&mut self, plan: Plan, latch: &Arc<Latch>, drain: Duration) -> Outcome {
        let stands = plan.marks.iter().all(|mark| self.table.records.has(*mark) && self.living(mark.slot).is_some());
        if !stands {
            return Outcome::Answer(self.give_up(&plan, latch, drain));
        }
        match self.core.registry.as_ref().map(|registry| registry.attach(latch, plan.within)) {
            Some(writes) if !writes.is_empty() => Outcome::Wait(plan, writes),
            _ if !self.still_there(&plan) => {
                self.withdraw_all(&plan);
                Outcome::Answer(Acquired::Lost(vec![LostLock::new(LostCause::Unknown)]))
            }
            _ => Outcome::Answer(self.carry_out(plan)),
        }
    }

    fn give_up(&mut self, plan: &Plan, latch: &Latch, drain: Duration) -> Acquired {
        let lost = self.released(plan, latch);
        self.withdraw_all(plan);
        if !lost.is_empty() {
            return Acquired::Lost(lost);
        }
        for parts in &latch.coming {
            self.table.cooling.gave_up(parts, self.now, drain);
        }
        Acquired::Busy { retry_after: drain.saturating_mul(2) }
    }

    /// The marks that were released while they waited: an undo that overtook its acquire.
    fn released(&self, plan: &Plan, latch: &Latch) -> Vec<LostLock> {
        let gone = plan.marks.iter().zip(&latch.coming).filter(|(mark, _)| !self.table.records.has(**mark));
        gone.filter_map(|(_, parts)| self.table.graveyard.of_lock(parts, self.now)).collect()
    }

    fn withdraw_all(&mut self, plan: &Plan) {
        for mark in &plan.marks {
            if self.table.records.has(*mark) {
                self.withdraw(mark.slot);
            }
        }
    }
}
