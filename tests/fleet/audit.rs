//! The oracle: what of the rules the history shows broken. It knows only what was certain.
//!
//! A lock is certain from when its holder heard of the grant until its holder sent the release, it ran out (counted from
//! when it was asked for, and not under a write of its holder's), or something took it along that deletes. A write is certain from when it reached the service until the service answered, or
//! last did something for it. Where the two overlap and the lock would refuse the write, a rule was broken.

use std::{collections::HashMap, path::PathBuf, sync::Arc};

use tower_lock::lock::{Depth, Effect, Gone, LockParts, Membership, Reach, ResourceKey, Target, rules};

use super::{
    book::{Held, Pages, Sent},
    trace::{self, Served},
};

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Findings {
    /// Writes that ran while a lock was held which would refuse them (G1, G3, G7).
    pub(crate) trespassing: usize,
    /// Locks that were held beside one that they conflict with (G4).
    pub(crate) conflicting: usize,
    /// Generations that did not grow, and permits that knew too small or too large a one (G6).
    pub(crate) generations: usize,
    /// Locks that were gone although nothing had ended them.
    pub(crate) lost: usize,
    /// Calls that hung, and answers that nothing explains.
    pub(crate) wrong: usize,
    /// The first few, in words.
    pub(crate) examples: Vec<String>,
    pub(crate) served: usize,
    pub(crate) granted: usize,
    /// Writes whose service did not get to answer: dropped, stopped or killed.
    pub(crate) cut: usize,
    /// Writes of something that unlinks, served.
    pub(crate) unlinked: usize,
}

impl Findings {
    pub(crate) fn broken(&self) -> usize {
        self.trespassing + self.conflicting + self.generations + self.lost + self.wrong
    }

    fn example(&mut self, say: impl FnOnce() -> String) {
        if self.examples.len() < 8 {
            self.examples.push(say());
        }
    }
}

/// A write with what its node did for it.
struct Run<'p> {
    number: u64,
    sent: &'p Sent,
    served: Served,
}

impl Run<'_> {
    /// From when to when it ran for certain.
    fn span(&self) -> (u64, u64) {
        (self.served.entered, self.served.last())
    }

    /// What is gone after it; the locks there may have ended as soon as the service was done.
    fn gone(&self) -> impl Iterator<Item = Gone<'static>> + '_ {
        let unlinked = self.sent.targets.iter().filter(|target| target.effect == Effect::Unlink);
        unlinked.map(|target| Gone { key: target.key.clone(), reach: Reach::AtOrBelow })
    }

    fn submitted<'l>(&self, locks: &'l [Held]) -> Vec<&'l Held> {
        self.sent.own.iter().map(|at| &locks[*at]).collect()
    }
}

/// Looks a history through.
pub(crate) fn audit(pages: &Pages, traces: &[PathBuf]) -> Findings {
    let mut found = Findings { wrong: pages.wrong.len(), granted: pages.locks.len(), ..Findings::default() };
    found.examples.extend(pages.wrong.iter().take(3).cloned());
    let mut served = trace::read(traces.iter().map(PathBuf::as_path));
    let mut runs: Vec<Run<'_>> = Vec::new();
    for (number, sent) in (0_u64..).zip(&pages.writes) {
        match served.remove(&number) {
            Some(served) => runs.push(Run { number, sent, served }),
            None if sent.answer.is_some_and(|(status, _)| status == 204) => {
                found.wrong += 1;
                found.example(|| format!("write {number} was answered and never served"));
            }
            None => {}
        }
    }
    runs.sort_by_key(|run| run.served.entered);
    found.served = runs.len();
    found.cut = runs.iter().filter(|run| run.served.answered.is_none()).count();
    found.unlinked = runs.iter().filter(|run| run.gone().next().is_some()).count();

    let locks = with_certain_ends(pages, &runs, &mut found);
    writes_under_locks(&pages.locks, &locks, &runs, &mut found);
    locks_beside_locks(&locks, &mut found);
    generations(&locks, &runs, &mut found);
    found
}

/// Longer than locks are ended for after a service has answered, whatever the time limits.
const CLEARED_WITHIN: u64 = 60_000_000_000;

/// The locks, each only as long as it was certain; and those that were lost while they were. What unlinks a lock's root
/// takes it along, and may do so as soon as the service has answered; one that did not get to answer takes nothing.
fn with_certain_ends(pages: &Pages, runs: &[Run<'_>], found: &mut Findings) -> Vec<Held> {
    let takers: Vec<(u64, u64, Gone<'static>)> = runs
        .iter()
        .filter_map(|run| Some((run, run.served.answered?)))
        .flat_map(|(run, from)| {
            // At the latest when the client was answered; one that hung up cannot say.
            let to = run.sent.answer.map_or(from + CLEARED_WITHIN, |(_, at)| at);
            run.gone().map(move |gone| (from, to, gone))
        })
        .collect();
    let mut locks = pages.locks.clone();
    // A lock does not end under a write that it answers for (G7).
    for run in runs {
        for at in &run.sent.own {
            let held = &mut locks[*at];
            let (root, depth) = (&held.parts.root, held.parts.depth);
            let answers = run.sent.targets.iter().any(|target| rules::touches(root, depth, target));
            if answers && run.served.entered < held.until {
                held.until = held.until.max(run.served.last());
            }
        }
    }
    for held in &mut locks {
        held.until = held.until.min(held.released.unwrap_or(u64::MAX));
        let taken = takers.iter().filter(|(_, to, gone)| *to >= held.asked && gone.takes(&held.parts.root));
        let until = taken.map(|(from, _, _)| *from).min().unwrap_or(u64::MAX).min(held.until);
        if let Some(lost) = held.lost.filter(|lost| *lost < until) {
            found.lost += 1;
            let before = (until - lost) / 1_000;
            found.example(|| format!("{held:?} was gone {before} us before its end at least"));
        }
        held.until = held.lost.map_or(until, |lost| until.min(lost));
    }
    locks
}

fn writes_under_locks(all: &[Held], locks: &[Held], runs: &[Run<'_>], found: &mut Findings) {
    let longest = runs.iter().map(|run| run.span().1 - run.span().0).max().unwrap_or_default();
    for held in locks.iter().filter(|held| held.granted < held.until) {
        let first = runs.partition_point(|run| run.served.entered + longest < held.granted);
        for run in runs[first..].iter().take_while(|run| run.served.entered < held.until) {
            let (from, to) = run.span();
            if to <= held.granted || from >= held.until {
                continue;
            }
            let submitted = run.submitted(all);
            let own: Vec<Arc<LockParts>> = submitted.iter().map(|own| Arc::new(own.parts.clone())).collect();
            let its_own = submitted.iter().any(|own| own.parts.id == held.parts.id);
            if !its_own && rules::would_refuse(&held.parts, &run.sent.targets, &own) {
                found.trespassing += 1;
                let (number, targets) = (run.number, &run.sent.targets);
                let overlap = (to.min(held.until) - from.max(held.granted)) / 1_000;
                found.example(|| {
                    format!("write {number} of {targets:?} ran for {overlap} us under {held:?}: {:?}", run.served)
                });
            }
        }
    }
}

fn locks_beside_locks(locks: &[Held], found: &mut Findings) {
    let mut order: Vec<&Held> = locks.iter().filter(|held| held.granted < held.until).collect();
    order.sort_by_key(|held| held.granted);
    let mut live: Vec<&Held> = Vec::new();
    for held in order {
        live.retain(|other| other.until > held.granted);
        for other in &live {
            if rules::conflict(&other.parts, &held.parts) {
                found.conflicting += 1;
                found.example(|| format!("{held:?} lives beside {other:?}"));
            }
        }
        live.push(held);
    }
}

/// What happened, in the order of time, as far as generations go.
enum Event<'p> {
    Asked(usize),
    Granted(&'p Held),
    Sent(usize),
    Entered(&'p Run<'p>),
}

fn generations(locks: &[Held], runs: &[Run<'_>], found: &mut Findings) {
    let mut events: Vec<(u64, Event<'_>)> = Vec::new();
    for (at, held) in locks.iter().enumerate() {
        events.push((held.asked, Event::Asked(at)));
        events.push((held.granted, Event::Granted(held)));
    }
    for (at, run) in runs.iter().enumerate() {
        events.push((run.sent.sent, Event::Sent(at)));
        events.push((run.served.entered, Event::Entered(run)));
    }
    events.sort_by_key(|(at, _)| *at);
    // The largest generation granted for each root and depth, and known to a permit for each kind of target.
    let mut granted: HashMap<(ResourceKey<'static>, Depth), u64> = HashMap::new();
    let mut known: HashMap<(ResourceKey<'static>, Effect, Membership), u64> = HashMap::new();
    for (_, event) in events {
        match event {
            Event::Granted(held) => {
                let largest = granted.entry((held.parts.root.clone(), held.parts.depth)).or_default();
                *largest = held.generation.max(*largest);
            }
            Event::Entered(run) => {
                for target in &run.sent.targets {
                    let largest = known.entry((target.key.clone(), target.effect, target.membership)).or_default();
                    *largest = run.served.generation.max(*largest);
                }
            }
            Event::Asked(at) => {
                let held = &locks[at];
                let (root, depth) = (&held.parts.root, held.parts.depth);
                let before = granted.iter().filter(|((other, its), _)| rules::overlap((root, depth), (other, *its)));
                let touched = |(key, effect, membership): &(ResourceKey<'static>, Effect, Membership)| {
                    let target = Target { key: key.clone(), effect: *effect, membership: *membership };
                    rules::touches(root, depth, &target)
                };
                let permits = known.iter().filter(|(target, _)| touched(target));
                let before =
                    before.map(|(_, generation)| *generation).chain(permits.map(|(_, generation)| *generation)).max();
                if before.is_some_and(|before| held.generation <= before) {
                    found.generations += 1;
                    found.example(|| format!("{held:?} was granted after generation {before:?}"));
                }
            }
            Event::Sent(at) => {
                let run = &runs[at];
                let touches = |root: &ResourceKey<'_>, depth| {
                    run.sent.targets.iter().any(|target| rules::touches(root, depth, target))
                };
                let before = granted
                    .iter()
                    .filter(|((root, depth), _)| touches(root, *depth))
                    .map(|(_, generation)| generation)
                    .max();
                if before.is_some_and(|before| run.served.generation < *before) {
                    found.generations += 1;
                    let (number, generation) = (run.number, run.served.generation);
                    found.example(|| {
                        format!("the permit of write {number} knows {generation}, {before:?} was granted before")
                    });
                }
            }
        }
    }
}
