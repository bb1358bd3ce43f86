//! The slowest of many calls, while another thread acquires and releases without pause.

use std::{
    fmt::Write,
    hint::black_box,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use dav_server::ls::DavLockSystem;

use super::{
    below::{admit, fresh, memls_pair, pair},
    harness::{CALLS, grouped, now},
    standing::{Spread, UNLOCKED, dav, spread},
};

/// How long each of the cases is asked.
const LONG: Duration = Duration::from_secs(3);

/// How long the calls of a case took, in nanoseconds.
pub struct Tail {
    name: String,
    calls: usize,
    /// Pairs of an acquire and a release that the other thread made meanwhile.
    pairs: usize,
    /// Calls by duration: 64 steps for each power of two.
    steps: Vec<u32>,
    most: u64,
}

const STEPS: u32 = 6;

impl Tail {
    /// The duration that so many of 10,000 calls do not exceed, to the next 64th.
    pub fn of_10_000(&self, part: usize) -> u64 {
        let rank = self.calls * part / 10_000;
        let mut seen = 0;
        for (step, count) in self.steps.iter().enumerate() {
            seen += *count as usize;
            if seen > rank {
                return upper(step as u64);
            }
        }
        self.most
    }
}

fn step(ns: u64) -> usize {
    let ns = ns.max(1);
    let power = ns.ilog2();
    let within = if power < STEPS { ns << (STEPS - power) } else { ns >> (power - STEPS) };
    (((power as u64) << STEPS) + within - (1 << STEPS)) as usize
}

fn upper(step: u64) -> u64 {
    let (power, within) = ((step >> STEPS) as u32, (step & ((1 << STEPS) - 1)) + (1 << STEPS) + 1);
    if power < STEPS { within >> (STEPS - power) } else { within << (power - STEPS) }
}

/// Ours under an acquiring thread, ours alone, and the peer under a locking thread.
pub fn measured(at: &Spread, measuring: bool) -> [Tail; 3] {
    let long = if measuring { LONG } else { Duration::from_millis(1) };
    let paths: Arc<[String]> = (0..CALLS).map(|number| spread(UNLOCKED + 10 * number)).collect();
    let davs: Vec<_> = paths.iter().map(|path| dav(path)).collect();
    let (store, memls, locks) = (&at.ours.store, &at.memls, grouped(at.count));
    let (pairs, locking) = (pair(store.clone(), fresh), memls_pair(memls.clone(), fresh));
    let check = |number: usize| now(memls.check(&davs[number], None, false, false, &[])).is_ok();
    [
        tail(
            format!("admit and end, {locks} locks, another thread acquires and releases"),
            long,
            admit(store.clone(), paths.clone()),
            pairs,
        ),
        tail(format!("admit and end, {locks} locks, nobody else"), long, admit(store.clone(), paths.clone()), |_| {
            // Nor does the thread take the processor from anybody.
            thread::sleep(Duration::from_millis(1));
            true
        }),
        tail(format!("MemLs::check, {locks} locks, another thread locks and unlocks"), long, check, locking),
    ]
}

fn tail(name: String, long: Duration, mut call: impl FnMut(usize) -> bool, other: impl Fn(usize) -> bool + Sync) -> Tail {
    let (over, pairs) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0.. {
                assert!(other(number % 100_000), "the other thread does what it should");
                pairs.store(number + 1, Ordering::Relaxed);
                if over.load(Ordering::Relaxed) {
                    break;
                }
            }
        });
        while pairs.load(Ordering::Relaxed) == 0 {
            std::hint::spin_loop();
        }
        let before = pairs.load(Ordering::Relaxed);
        let mut tail = Tail { name, calls: 0, pairs: 0, steps: vec![0; 64 << STEPS], most: 0 };
        let start = Instant::now();
        let mut last = start;
        while last - start < long {
            for number in 0..CALLS.min(64) {
                let number = (tail.calls + number) % CALLS;
                let done = black_box(call(number));
                let time = Instant::now();
                assert!(done, "each call does what it should");
                let ns = (time - last).as_nanos() as u64;
                tail.steps[step(ns)] += 1;
                tail.most = tail.most.max(ns);
                last = time;
            }
            tail.calls += CALLS.min(64);
        }
        tail.pairs = pairs.load(Ordering::Relaxed) - before;
        over.store(true, Ordering::Relaxed);
        tail
    })
}

pub fn table(tails: &[Tail]) -> String {
    let mut table = format!(
        "{:<72}{:>9}{:>9}{:>9}{:>10}{:>10}\n{}\n",
        "the slowest calls, nanoseconds, with reading the clock",
        "50 %",
        "99 %",
        "99.9 %",
        "99.99 %",
        "pairs/s",
        "-".repeat(119)
    );
    for tail in tails {
        let [half, percent, mille, myriad] = [5_000, 9_900, 9_990, 9_999].map(|part| tail.of_10_000(part));
        let pairs = grouped((tail.pairs as f64 / LONG.as_secs_f64()) as usize);
        let _ = writeln!(table, "{:<72}{half:>9}{percent:>9}{mille:>9}{myriad:>10}{pairs:>10}", tail.name);
    }
    table
}
