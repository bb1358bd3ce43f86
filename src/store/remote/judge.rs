//! What becomes of a write, once the engine has said what it touches: the pure rules, on a snapshot.
//!
//! The engine has read all of it in one step, and in a guarded store has registered the write in the same step unless a
//! lock certainly refuses it. So what is decided here, a moment later, is decided about that step.

use super::question::Question;
use crate::{
    lock::{
        HolderClaim, Lock, LockId, LockState, LockToken, LostCause, LostLock, Principal, ResourceKey,
        rules::{self, Answer},
    },
    store::Refused,
};

/// What the engine found.
#[derive(Debug, Default)]
pub(in crate::store) struct Snapshot {
    /// Every lock and mark that the write touches, each once; of those that refuse it, no more than one above the number
    /// to be named need be here.
    pub(in crate::store) touched: Vec<Lock>,
    /// What became of the tokens that were submitted, in their order.
    pub(in crate::store) tokens: Vec<TokenState>,
}

/// What an engine knows of a token.
#[derive(Clone, Debug)]
pub(in crate::store) enum TokenState {
    /// Its lock is held, or being broken.
    Held(Lock),
    /// Its lock has ended.
    Dead { principal: Option<Principal>, lost: LostLock },
    /// Nothing; also of a mark, whose token answers for nothing.
    Unknown,
}

/// What becomes of a write.
#[derive(Debug)]
pub(in crate::store) enum Judged {
    Admitted {
        /// All locks that it touches.
        answered: Vec<Lock>,
        /// Those of them that answered by their own proof: the write pins them.
        own: Vec<LockId>,
    },
    Refused(Box<Refused>),
}

/// Decides. Conditions come before locks; a false one still names the locks that block.
pub(in crate::store) fn judge(question: &Question, snapshot: Snapshot) -> Judged {
    let Snapshot { touched, tokens } = snapshot;
    let case = Case { question, tokens: &tokens };
    let lost = case.condition();
    let answers = rules::answers(&touched, &question.targets, question.principal.as_ref(), &question.proof, |lock| {
        tokens.iter().any(|token| matches!(token, TokenState::Held(held) if held.id() == lock.id()))
    });
    if lost.is_some() || !answers.admit() {
        return Judged::Refused(Box::new(Refused::of(lost, touched, &answers.each, question.blockers)));
    }
    let own = touched.iter().zip(&answers.each).filter(|(_, answer)| **answer == Answer::Own).map(|(lock, _)| lock.id());
    Judged::Admitted { own: own.collect(), answered: touched }
}

struct Case<'c> {
    question: &'c Question,
    tokens: &'c [TokenState],
}

impl Case<'_> {
    fn state(&self, token: &LockToken) -> &TokenState {
        let at = self.question.conditions.tokens().iter().position(|other| other == token);
        at.and_then(|at| self.tokens.get(at)).unwrap_or(&TokenState::Unknown)
    }

    fn held(&self, token: &LockToken) -> Option<&Lock> {
        match self.state(token) {
            TokenState::Held(lock) if lock.state() != LockState::Pending => Some(lock),
            _ => None,
        }
    }

    /// What was lost, if a condition is false.
    fn condition(&self) -> Option<Vec<LostLock>> {
        let conditions = &self.question.conditions;
        if conditions.is_empty() {
            return None;
        }
        let matches = |token: &LockToken, key: &ResourceKey<'_>| {
            self.held(token).is_some_and(|lock| rules::covers(lock.root(), lock.depth(), key))
        };
        let its_own = |token: &LockToken| self.held(token).is_some_and(|lock| self.its_own(lock));
        let failed = conditions.failed_on_write(matches, its_own)?;
        Some(failed.iter().map(|token| self.lost(token)).collect())
    }

    /// Whether a submitted lock is the caller's and covers something that the write changes.
    fn its_own(&self, lock: &Lock) -> bool {
        self.is_held(lock) && self.question.targets.iter().any(|target| rules::touches(lock.root(), lock.depth(), target))
    }

    /// Whether a submitted lock is the caller's.
    fn is_held(&self, lock: &Lock) -> bool {
        self.question.proof.holds(&HolderClaim::new(lock, true, self.question.principal.as_ref()))
    }

    /// Told to the principal that held it alone, and of a lock that is held to whoever proves to be its holder.
    fn lost(&self, token: &LockToken) -> LostLock {
        let asker = self.question.principal.as_ref();
        match self.state(token) {
            TokenState::Held(lock) if lock.state() == LockState::Pending => LostLock::new(LostCause::Unknown),
            TokenState::Held(lock) if lock.principal() == asker || self.is_held(lock) => LostLock::out_of_scope(lock),
            TokenState::Dead { principal, lost } if principal.as_ref() == asker => lost.clone(),
            _ => LostLock::new(LostCause::Unknown),
        }
    }
}
