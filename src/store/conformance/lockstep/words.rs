//! Answers in words that the store and the model share: outcomes, ids in order, causes.

use std::time::Duration;

use super::super::kit::{Ask, Swap};
use crate::{
    lock::{Lock, LockId, LostCause, LostLock},
    store::{Acquired, NewLock, Verdict},
};

/// A lock's end as it was given: while it is in use, stores say how long it lives at least.
pub(super) fn own_end(lock: &Lock) -> Option<Option<Duration>> {
    (!lock.in_use()).then(|| lock.expires_at().map(|end| end.since(lock.life().seen_at)))
}

pub(super) fn brief(ask: &Ask) -> String {
    let lock = |new: &NewLock| {
        let parts = &new.parts;
        format!("{} {} {:?} {:?} {:?}", parts.id, parts.root, parts.scope, parts.depth, parts.kind)
    };
    let locks: Vec<String> = ask.locks.iter().map(lock).collect();
    let swaps: Vec<String> = ask
        .replaces
        .iter()
        .map(|swap| match swap {
            Swap::Own(_) => "own".to_owned(),
            Swap::Id(id) => format!("own {id}"),
            Swap::Break(id) => format!("break {id}"),
        })
        .collect();
    format!("{:?} {locks:?} {swaps:?} {:?} {:?} {:?}", ask.who, ask.lifetime, ask.drain, ask.within.is_some())
}

pub(super) fn ids(locks: &[Lock]) -> Vec<LockId> {
    let mut ids: Vec<LockId> = locks.iter().map(Lock::id).collect();
    ids.sort();
    ids
}

pub(super) fn cause(lost: &LostLock) -> &'static str {
    // A lock that is broken to be replaced may be told either way.
    if lost.cause == LostCause::Replaced { LostCause::Broken.as_str() } else { lost.cause.as_str() }
}

pub(super) fn causes(lost: &[LostLock]) -> Vec<&'static str> {
    lost.iter().map(cause).collect()
}

pub(super) fn outcome(answered: &Acquired) -> String {
    match answered {
        Acquired::Granted(locks) => format!("granted {:?}", ids(locks)),
        Acquired::Repeated(locks) => format!("repeated {:?}", ids(locks)),
        Acquired::Conflict(conflict) => format!("conflict {:?} {}", ids(&conflict.blockers), conflict.truncated),
        Acquired::Busy { .. } => "busy".to_owned(),
        Acquired::OverQuota(whose) => format!("over {whose:?}"),
        Acquired::Taken => "taken".to_owned(),
        Acquired::Lost(lost) => format!("lost {:?}", causes(lost)),
        Acquired::NotHolder => "not the holder".to_owned(),
    }
}

pub(super) fn kind(answered: &Acquired) -> &'static str {
    match answered {
        Acquired::Granted(_) => "acquire granted",
        Acquired::Repeated(_) => "acquire repeated",
        Acquired::Conflict(_) => "acquire conflict",
        Acquired::Busy { .. } => "acquire busy",
        Acquired::OverQuota(_) => "acquire over quota",
        Acquired::Taken => "acquire taken",
        Acquired::Lost(_) => "acquire lost",
        Acquired::NotHolder => "acquire not holder",
    }
}

pub(super) fn verdict(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Admitted(admitted) => format!("admitted, answering for {:?}", admitted.answered.as_deref().map(ids)),
        Verdict::Refused(refused) => format!(
            "refused by {:?} {} {} {:?}",
            ids(&refused.blockers),
            refused.truncated,
            refused.condition_failed,
            causes(&refused.lost)
        ),
    }
}
