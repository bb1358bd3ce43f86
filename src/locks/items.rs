//! Judging a bulk write: one question about all its items; which may be done, which not, and why.
//!
//! The store is asked about everything that the items change at once, in the step that registers it. Where locks stand in the
//! way and the rest is to be done without what they block, it is asked once more, about that rest: a store registers all of a
//! write or nothing.

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashSet},
};

use super::{Caller, Demand, Locks, Refusal, RefusalCode, admit::DECIDING};
use crate::{
    lock::{Effect, Gone, Lock, LostCause, Membership, Reach, ResourceKey, Target, parent, rules},
    request::{Conditions, RequestError, RequestView, Role, StateToken, targets},
    store::{Admitted, Permit, Refused, StoreError, Verdict, Write},
};

/// How often the store is asked about one bulk write at most. Two are enough unless locks are granted in between.
const QUESTIONS: usize = 6;

/// How many resources all items may change, for each that may be sent.
const TARGETS: usize = 4;

/// How many levels the paths of all that the items change may have, for each item that may be sent: each is a place to look
/// for locks.
const LEVELS: usize = 64;

/// On how many others all items may depend, for each that may be sent.
const DEPENDENCIES: usize = 16;

/// A bulk write, as far as locks have to do with it.
pub(crate) struct BulkWrite<'r> {
    locks: Locks,
    request: RequestView<'r>,
    caller: Caller,
    conditions: Conditions<'r>,
    demand: Demand,
    /// What the request itself is sent to.
    own: Vec<Target<'static>>,
    /// The one resource that relative paths lie below.
    below: Option<ResourceKey<'static>>,
    items: Vec<BulkItem>,
}

/// One item, as far as locks have to do with it.
#[derive(Default)]
pub(crate) struct BulkItem {
    targets: Vec<Target<'static>>,
    gone: Vec<Gone<'static>>,
    after: Vec<usize>,
}

/// What becomes of the other items when some are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rest {
    /// They are refused with them.
    Refused,
    /// They are done, if there are any.
    Done,
    /// They are done; the request goes on even where there are none.
    Passed,
}

/// What becomes of a bulk write that is not refused as a whole.
#[derive(Debug)]
pub(crate) struct Decided {
    /// What is registered; nothing where every item is refused and nothing goes on.
    pub(crate) admitted: Option<Admitted>,
    /// Why items are refused, in their order.
    pub(crate) refusals: Vec<Option<Refusal>>,
}

/// A bulk write that is refused as a whole.
#[derive(Debug)]
pub(crate) struct RefusedWhole {
    pub(crate) refusal: Refusal,
    /// Which of its items are the reason, in their order.
    pub(crate) refusals: Vec<Option<Refusal>>,
}

impl<'r> BulkWrite<'r> {
    /// The bulk write that `request` is, without its items. What it is sent to is written, also by a DELETE: that removes
    /// items, not what they are members of. A `Destination` is what the method makes of it.
    pub(crate) fn of(locks: &Locks, request: RequestView<'r>, demand: Demand) -> Result<Self, Refusal> {
        let caller = locks.caller(&request)?;
        let namespace = caller.namespace().map(|namespace| Cow::Owned(namespace.to_owned()));
        let targets = targets(request, &*locks.policy().resolver, namespace.as_ref())?;
        let below = match targets.of_target() {
            [target] => Some(target.key.clone().into_owned()),
            _ => None,
        };
        let owned = |target: &Target<'_>, effect| Target {
            key: target.key.clone().into_owned(),
            effect,
            membership: target.membership,
        };
        let sent_to = targets.of_target().iter().map(|target| owned(target, Effect::Write));
        let destination = targets.of_destination().iter().map(|target| owned(target, target.effect));
        let own = sent_to.chain(destination).collect();
        let conditions = locks.conditions(request, namespace.as_ref())?;
        Ok(Self { locks: locks.clone(), request, caller, conditions, demand, own, below, items: Vec::new() })
    }

    /// Who sends it.
    pub(crate) fn caller(&self) -> &Caller {
        &self.caller
    }

    /// The one resource that it is sent to, where it is one.
    pub(crate) fn below(&self) -> Option<&ResourceKey<'static>> {
        self.below.as_ref()
    }

    /// One more item, that is not to be done without those at the positions `after`.
    pub(crate) fn add(&mut self, after: &[usize]) {
        let mut after = after.to_vec();
        after.sort_unstable();
        after.dedup();
        self.items.push(BulkItem { after, ..BulkItem::default() });
    }

    /// The last item has this `effect` on what `path` names.
    pub(crate) fn change(&mut self, path: &str, effect: Effect, membership: Membership) -> Result<(), Refusal> {
        let keys = self.locks.keys_in(self.request, Role::Root, path, self.caller.namespace());
        let at = self.items.len() - 1;
        let keys = keys.map_err(|refusal| Refusal::new(refusal.code(), format!("Item {at}: {refusal}")))?;
        let membership = if keys.is_existing() && effect == Effect::Write { Membership::Kept } else { membership };
        // Where nothing reaches below, to unlink is to write.
        let below = self.locks.policy().resolver.reaches_below();
        let item = &mut self.items[at];
        for key in keys {
            if effect == Effect::Unlink {
                let reach = if below { Reach::AtOrBelow } else { Reach::At };
                item.gone.push(Gone { key: key.clone(), reach });
            }
            let effect = if below { effect } else { Effect::Write };
            item.targets.push(Target { key, effect, membership });
        }
        Ok(())
    }

    /// That its items can be judged: none depends on one that there is not, and they do not change too much.
    pub(crate) fn check(&self) -> Result<(), Refusal> {
        let count = self.items.len();
        if let Some((at, item)) = self.items.iter().enumerate().find(|(_, item)| item.after.iter().any(|at| *at >= count)) {
            let missing = item.after.iter().find(|at| **at >= count).copied().unwrap_or(count);
            return Err(Refusal::bad_request(format!("Item {at} depends on item {missing}, which there is not.")));
        }
        let targets = || self.items.iter().flat_map(|item| &item.targets);
        let levels = |target: &Target<'_>| target.key.path().bytes().filter(|byte| *byte == b'/').count();
        let most = self.locks.limits().items;
        let sums = [
            ("resources in one bulk write", TARGETS, targets().count()),
            ("levels of all resources in one bulk write", LEVELS, targets().map(levels).sum()),
            ("dependencies in one bulk write", DEPENDENCIES, self.items.iter().map(|item| item.after.len()).sum()),
        ];
        for (what, each, sum) in sums {
            let limit = most.saturating_mul(each);
            if sum > limit {
                return Err(RequestError::TooMany { what, limit }.into());
            }
        }
        Ok(())
    }

    /// Decides, and registers what may be done.
    pub(crate) async fn decide(&self, rest: Rest) -> Result<Decided, Box<RefusedWhole>> {
        let mut refusals: Vec<Option<Refusal>> = vec![None; self.items.len()];
        let mut conditions = Cow::Borrowed(&self.conditions);
        let mut asked = 0;
        loop {
            let left: Vec<usize> = (0..refusals.len()).filter(|at| refusals[*at].is_none()).collect();
            if asked > 0 && left.is_empty() && rest == Rest::Done {
                return Ok(Decided { admitted: None, refusals });
            }
            asked += 1;
            let whole = match self.ask(&left, &conditions).await {
                Ok(Verdict::Admitted(admitted)) => {
                    let unheld = self.unheld(&admitted, &left);
                    if unheld.is_empty() && !(self.items.is_empty() && self.is_unheld(&admitted)) {
                        return Ok(Decided { admitted: Some(admitted), refusals });
                    }
                    drop(admitted);
                    for at in &unheld {
                        refusals[*at] = Some(self.refusal(RefusalCode::LockRequired, *at, &[], 0));
                    }
                    let refused = self.refused(RefusalCode::LockRequired, &[], false);
                    if self.items.is_empty() { Some(refused) } else { self.over(refused, rest, asked) }
                }
                Ok(Verdict::Refused(refused)) if refused.condition_failed => {
                    // Only what was dropped meanwhile is under the lock that `Lock-Token` names: the first question has
                    // answered that. Had the lock been lost since, this would be no reason to go on.
                    let dropped = asked > 1 && refused.lost.iter().all(|lost| lost.cause == LostCause::OutOfScope);
                    if dropped && matches!(conditions.lock_token(), Some(StateToken::Lock(_))) {
                        conditions = Cow::Owned(self.conditions.clone().without_lock_token());
                        asked -= 1;
                        continue;
                    }
                    let Refused { blockers, truncated, lost, .. } = *refused;
                    let named = self.named(&blockers);
                    let truncated = truncated || named.len() < blockers.len();
                    let refusal = self.locks.lock_lost(&self.caller, self.resource(), lost, named, truncated);
                    refusals.fill(None);
                    Some(refusal)
                }
                Ok(Verdict::Refused(refused)) => self.block(&refused, &left, &mut refusals, rest, asked),
                Err(error) => match self.resource().map(|resource| self.locks.undecided(resource, error)) {
                    Some(Ok(admitted)) => return Ok(Decided { admitted: Some(admitted), refusals }),
                    Some(Err(refusal)) => {
                        refusals.fill(None);
                        Some(refusal)
                    }
                    // Nothing was to be asked, so nothing was.
                    None => return Ok(Decided { admitted: Some(unguarded()), refusals }),
                },
            };
            self.fail_dependants(&mut refusals);
            if let Some(refusal) = whole {
                return Err(Box::new(RefusedWhole { refusal, refusals }));
            }
        }
    }

    /// Asks about the request's own targets and those of the items that are left.
    async fn ask(&self, left: &[usize], conditions: &Conditions<'_>) -> Result<Verdict, StoreError> {
        let mut seen = HashSet::new();
        let all = self.own.iter().chain(left.iter().flat_map(|at| &self.items[*at].targets));
        let targets: Vec<Target<'_>> = all
            .filter(|target| seen.insert((&target.key, target.effect, target.membership)))
            .map(|target| Target { key: target.key.borrowed(), ..*target })
            .collect();
        if targets.is_empty() {
            // The resolver says that this request changes nothing that can be locked.
            return Ok(Verdict::Admitted(unguarded()));
        }
        // Room for a lock or two on each: what is not named now is found by the next question.
        let naming = self.most_named().saturating_add(2 * targets.len());
        let write = Write::new(&targets, conditions)
            .by(self.caller.principal())
            .proven_by(&self.locks.policy().proof)
            .naming(naming);
        let answer = self.locks.store().admit(&write);
        self.locks.answered_within(self.locks.limits().admit_within, DECIDING, answer).await
    }

    /// Lays the blame on items. A refusal of the whole where that is due.
    fn block(
        &self,
        refused: &Refused,
        left: &[usize],
        refusals: &mut [Option<Refusal>],
        rest: Rest,
        asked: usize,
    ) -> Option<Refusal> {
        let tokenless = self.demand == Demand::Lock && self.locks.is_tokenless(&self.conditions);
        let index = Blockers::new(&refused.blockers);
        let blocked: Vec<(usize, Vec<usize>)> = left
            .iter()
            .map(|at| (*at, index.touching(&self.items[*at].targets)))
            .filter(|(_, by)| tokenless || !by.is_empty())
            .collect();
        let share = self.share(blocked.len());
        let code = if tokenless { RefusalCode::LockRequired } else { RefusalCode::Locked };
        for (at, by) in &blocked {
            let by: Vec<Lock> = by.iter().map(|lock| refused.blockers[*lock].clone()).collect();
            refusals[*at] = Some(self.refusal(code, *at, &by, share));
        }
        let own = index.touching(&self.own);
        let whole = self.refused(code, &refused.blockers, refused.truncated);
        if !own.is_empty() || blocked.is_empty() { Some(whole) } else { self.over(whole, rest, asked) }
    }

    /// The refusal of the whole, where the rest is not to be done, or will not be found out.
    fn over(&self, refusal: Refusal, rest: Rest, asked: usize) -> Option<Refusal> {
        (rest == Rest::Refused || asked >= QUESTIONS).then_some(refusal)
    }

    /// A refusal of the item at `at`, naming no more than `share` locks.
    fn refusal(&self, code: RefusalCode, at: usize, by: &[Lock], share: usize) -> Refusal {
        let targets = &self.items[at].targets;
        let touched = targets.iter().find(|target| by.iter().any(|lock| rules::touches(lock.root(), lock.depth(), target)));
        let resource = touched.or(targets.first()).or(self.own.first()).map(|target| &target.key);
        let named = &by[..by.len().min(share)];
        let truncated = named.len() < by.len();
        match code {
            RefusalCode::Locked => self.locks.locked(&self.caller, resource, named, truncated),
            code => self.locks.over_locks(code, &self.caller, resource, named, truncated),
        }
        .free_after(by)
    }

    /// A refusal of the whole over `blockers`.
    fn refused(&self, code: RefusalCode, blockers: &[Lock], truncated: bool) -> Refusal {
        let named = self.named(blockers);
        let truncated = truncated || named.len() < blockers.len();
        match code {
            RefusalCode::Locked => self.locks.locked(&self.caller, self.resource(), named, truncated),
            code => self.locks.over_locks(code, &self.caller, self.resource(), named, truncated),
        }
        .free_after(blockers)
    }

    fn named<'l>(&self, blockers: &'l [Lock]) -> &'l [Lock] {
        &blockers[..blockers.len().min(self.most_named())]
    }

    /// How many locks a refusal of the whole names: one for each item that may be sent, for that is what a bulk write runs into.
    fn most_named(&self) -> usize {
        let limits = self.locks.limits();
        limits.items.max(limits.blockers_named)
    }

    /// How many locks each of so many refused items may name, so that an answer stays of a size.
    fn share(&self, refused: usize) -> usize {
        (self.most_named() / refused.max(1)).clamp(1, self.locks.limits().blockers_named.max(1))
    }

    /// What a refusal of the whole is about.
    fn resource(&self) -> Option<&ResourceKey<'static>> {
        let targets = self.own.iter().chain(self.items.iter().flat_map(|item| &item.targets));
        targets.map(|target| &target.key).next()
    }

    /// The items among `left` that a lock of the caller's would have to answer for, and none does.
    fn unheld(&self, admitted: &Admitted, left: &[usize]) -> Vec<usize> {
        if self.demand == Demand::None {
            return Vec::new();
        }
        let answered = Blockers::new(admitted.answered.as_deref().unwrap_or_default());
        let held = |at: &usize| {
            // What has no resource of its own is a change of what the request is sent to.
            let own = &self.items[*at].targets;
            let targets = if own.is_empty() { &self.own } else { own };
            // What cannot be locked needs no lock.
            targets.is_empty() || !answered.touching(targets).is_empty()
        };
        left.iter().copied().filter(|at| !held(at)).collect()
    }

    /// Whether a request without items needs a lock and has none.
    fn is_unheld(&self, admitted: &Admitted) -> bool {
        self.demand == Demand::Lock && admitted.answered.is_none() && !self.own.is_empty()
    }

    /// Refuses what depends on what is refused, however far (RFC 4918 section 11.4).
    fn fail_dependants(&self, refusals: &mut [Option<Refusal>]) {
        let mut dependants: Vec<Vec<usize>> = vec![Vec::new(); self.items.len()];
        for (at, item) in self.items.iter().enumerate() {
            for other in &item.after {
                dependants[*other].push(at);
            }
        }
        let mut refused: Vec<usize> = (0..refusals.len()).filter(|at| refusals[*at].is_some()).collect();
        while let Some(of) = refused.pop() {
            for at in std::mem::take(&mut dependants[of]) {
                if refusals[at].is_none() {
                    let why = format!("It depends on item {of} of this request, which is refused.");
                    let refusal = self.locks.signed(Refusal::new(RefusalCode::FailedDependency, why));
                    let resource = self.items[at].targets.first().map(|target| &target.key);
                    // Where that item's own is not told, this one's is not: what is called what may be all there is to know.
                    let resource = resource.filter(|_| refusals[of].as_ref().is_some_and(|of| of.resource().is_some()));
                    refusals[at] = Some(match resource {
                        Some(resource) => refusal.about(resource),
                        None => refusal,
                    });
                    refused.push(at);
                }
            }
        }
    }

    /// Whether an item of those at `positions` takes one of `locks` with it, once it is done.
    pub(crate) fn takes_any(&self, positions: impl IntoIterator<Item = usize>, locks: &[Lock]) -> bool {
        positions.into_iter().any(|at| {
            let gone = self.items.get(at).map_or(&[][..], |item| &item.gone);
            gone.iter().any(|gone| locks.iter().any(|lock| gone.takes(lock.root())))
        })
    }

    /// What is gone once the items at `positions` are done.
    pub(crate) fn gone(&self, positions: impl IntoIterator<Item = usize>) -> Vec<Gone<'static>> {
        positions.into_iter().filter_map(|at| self.items.get(at)).flat_map(|item| item.gone.iter().cloned()).collect()
    }

    /// Whether `lock` has to do with no items but those of which `is_done` says so.
    pub(crate) fn is_only_for(&self, lock: &Lock, is_done: impl Fn(usize) -> bool) -> bool {
        let touches = |target: &Target<'_>| rules::touches(lock.root(), lock.depth(), target);
        self.items.iter().enumerate().all(|(at, item)| is_done(at) || !item.targets.iter().any(touches))
    }
}

fn unguarded() -> Admitted {
    Admitted { permit: Permit::unguarded(0), answered: None }
}

/// Locks, found by what they touch: a thousand of them before a thousand items are a million pairs.
struct Blockers<'l> {
    locks: &'l [Lock],
    by_root: BTreeMap<&'l str, Vec<usize>>,
}

impl<'l> Blockers<'l> {
    fn new(locks: &'l [Lock]) -> Self {
        let mut by_root: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (at, lock) in locks.iter().enumerate() {
            by_root.entry(lock.root().path()).or_default().push(at);
        }
        Self { locks, by_root }
    }

    /// Those that a write of `targets` has to answer for, in their order.
    fn touching(&self, targets: &[Target<'_>]) -> Vec<usize> {
        let mut found = Vec::new();
        for target in targets {
            let touches = |at: &&usize| rules::touches(self.locks[**at].root(), self.locks[**at].depth(), target);
            let mut path = Some(target.key.path());
            while let Some(at) = path {
                found.extend(self.by_root.get(at).into_iter().flatten().filter(touches));
                path = parent(at);
            }
            if target.effect == Effect::Unlink {
                let below = format!("{}/", target.key.path().trim_end_matches('/'));
                let roots = self.by_root.range(&*below..).take_while(|(root, _)| root.starts_with(&below));
                found.extend(roots.flat_map(|(_, at)| at).filter(touches));
            }
        }
        found.sort_unstable();
        found.dedup();
        found
    }
}
