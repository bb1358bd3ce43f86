//! How the model admits a write: conditions, then every lock and mark that it touches.

use std::sync::Arc;

use super::{
    super::Mode,
    state::{Running, State, owned},
};
use crate::{
    lock::{
        HolderClaim, Lock, LockToken, LostLock, ResourceKey, Timestamp, TokenDigest, TokenKey,
        rules::{self, Answer},
    },
    request::StateToken,
    store::{Admitted, Permit, Refused, Verdict, Write, WriteId},
};

impl State {
    pub(super) fn admit(
        &mut self,
        write: &Write<'_>,
        key: &TokenKey,
        mode: Mode,
        now: Timestamp,
        permit: impl FnOnce(WriteId, u64) -> Permit,
    ) -> Verdict {
        let submitted: Vec<TokenDigest> = write.conditions.tokens().iter().map(|token| key.digest(token)).collect();
        let shown = |lock: &Lock| self.digest_of(lock.id()).is_some_and(|digest| submitted.contains(&digest));
        let everything = self.everything(now);
        let touches = |lock: &Lock| write.targets.iter().any(|target| rules::touches(lock.root(), lock.depth(), target));
        let touched: Vec<Lock> = everything.iter().filter(|lock| touches(lock)).cloned().collect();
        let answers = rules::answers(&touched, write.targets, write.principal, write.proof, shown);
        let with = |wanted: Answer| touched.iter().zip(&answers.each).filter(move |(_, answer)| **answer == wanted);

        let lost = self.false_conditions(write, key, &everything);
        let condition_failed = lost.is_some();
        if condition_failed || !answers.admit() {
            let mut blockers: Vec<Lock> = with(Answer::Refused).map(|(lock, _)| lock.clone()).collect();
            let truncated = blockers.len() > write.blockers;
            blockers.truncate(write.blockers);
            return Verdict::Refused(Box::new(Refused {
                blockers,
                truncated,
                condition_failed,
                lost: lost.unwrap_or_default(),
            }));
        }
        let own = with(Answer::Own).map(|(lock, _)| Arc::clone(lock.parts())).collect();
        let id = WriteId::from_bits(self.serial);
        self.serial += 1;
        if mode == Mode::Guarded {
            let targets = write.targets.iter().map(owned).collect();
            self.writes.push(Running { id, targets, own, generation: self.generation });
        }
        let answered = (!touched.is_empty()).then(|| touched.into_boxed_slice());
        Verdict::Admitted(Admitted { permit: permit(id, self.generation), answered })
    }

    /// Why `If` or `Lock-Token` is false; nothing when neither is.
    fn false_conditions(&self, write: &Write<'_>, key: &TokenKey, everything: &[Lock]) -> Option<Vec<LostLock>> {
        let live = |token: &LockToken| {
            let digest = key.digest(token);
            let id = self.locks.iter().find(|lock| lock.digest == digest)?.parts.id;
            everything.iter().find(|lock| lock.id() == id)
        };
        let mine =
            |token: &LockToken| live(token).filter(|lock| write.proof.holds(&HolderClaim::new(lock, true, write.principal)));
        let covers = |lock: &Lock, key: &ResourceKey<'_>| rules::covers(lock.root(), lock.depth(), key);
        let held = write.conditions.holds(|token, key| live(token).is_some_and(|lock| covers(lock, key)));
        let mut failed: Vec<LockToken> = held.failed().to_vec();
        let mut holds = held.is_true();
        match write.conditions.lock_token() {
            None => {}
            Some(StateToken::Lock(token)) => {
                let touches = |target| mine(&token).is_some_and(|lock| rules::touches(lock.root(), lock.depth(), target));
                if !write.targets.iter().any(touches) {
                    holds = false;
                    failed.retain(|other| *other != token);
                    failed.push(token);
                }
            }
            Some(_) => holds = false,
        }
        let why = |token: &LockToken| {
            mine(token).map_or_else(|| self.lost(key.digest(token), write.principal), LostLock::out_of_scope)
        };
        (!holds).then(|| failed.iter().map(why).collect())
    }
}
