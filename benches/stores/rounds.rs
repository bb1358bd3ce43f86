//! Measuring: the cases of one engine take turns in short rounds, with 1, 16 and 64 callers, and what is shown is the
//! median of the ratios within a round.

use std::{
    fmt::Write as _,
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use crate::calls::Store;

/// How many calls are made at once, one after the other by each.
pub(crate) const CALLERS: [usize; 3] = [1, 16, 64];

/// One call; the number is different for each.
pub(crate) type Call = Arc<dyn Fn(u64) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

/// A row of the table.
pub(crate) struct Case {
    name: &'static str,
    /// What the engine itself does at the least: the row to divide by.
    floor: Option<&'static str>,
    call: Call,
    measured: Vec<Vec<Measured>>,
}

#[derive(Clone, Copy)]
struct Measured {
    per_second: f64,
    p50: f64,
    p99: f64,
}

impl Case {
    /// A row that others are divided by.
    pub(crate) fn floor<F: Future<Output = ()> + Send + 'static>(
        name: &'static str,
        call: impl Fn(u64) -> F + Send + Sync + 'static,
    ) -> Self {
        let call: Call = Arc::new(move |at| Box::pin(call(at)));
        Self { name, floor: None, call, measured: Vec::new() }
    }

    /// A row to divide by `floor`.
    pub(crate) fn of<F: Future<Output = ()> + Send + 'static>(
        name: &'static str,
        floor: &'static str,
        call: impl Fn(u64) -> F + Send + Sync + 'static,
    ) -> Self {
        Self { floor: Some(floor), ..Self::floor(name, call) }
    }

    /// A row that asks a store.
    pub(crate) fn of_store<F: Future<Output = ()> + Send + 'static>(
        name: &'static str,
        floor: &'static str,
        store: &Store,
        call: fn(Store, u64) -> F,
    ) -> Self {
        let store = store.clone();
        Self::of(name, floor, move |at| call(store.clone(), at))
    }
}

/// How long it is to take.
#[derive(Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) rounds: usize,
    pub(crate) turn: Duration,
}

/// Runs all cases, and puts them into a table.
pub(crate) async fn measure(title: &str, mut cases: Vec<Case>, plan: Plan) -> String {
    for case in &mut cases {
        case.measured = vec![Vec::new(); CALLERS.len()];
    }
    for (column, callers) in CALLERS.into_iter().enumerate() {
        for round in 0..=plan.rounds {
            for case in &mut cases {
                let measured = turn(&case.call, callers, plan.turn).await;
                // The first round warms up.
                if round > 0 {
                    case.measured[column].push(measured);
                }
            }
        }
    }
    table(title, &cases)
}

async fn turn(call: &Call, callers: usize, time: Duration) -> Measured {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let started = Instant::now();
    let tasks: Vec<_> = (0..callers)
        .map(|_| {
            let call = call.clone();
            tokio::spawn(async move {
                let mut spent: Vec<Duration> = Vec::new();
                while started.elapsed() < time {
                    let before = Instant::now();
                    call(NUMBER.fetch_add(1, Ordering::Relaxed)).await;
                    spent.push(before.elapsed());
                }
                spent
            })
        })
        .collect();
    let mut spent = Vec::new();
    for task in tasks {
        spent.extend(task.await.expect("a call of the bench failed"));
    }
    let took = started.elapsed();
    spent.sort_unstable();
    let at = |part: usize| spent[(spent.len() * part / 100).min(spent.len() - 1)].as_secs_f64() * 1e6;
    Measured { per_second: spent.len() as f64 / took.as_secs_f64(), p50: at(50), p99: at(99) }
}

fn table(title: &str, cases: &[Case]) -> String {
    let mut text = format!(
        "\n{title}\n\n| case | callers | calls/s | p50 us | p99 us | p50 / floor | calls / floor |\n|---|---|---|---|---|---|---|\n"
    );
    for (column, callers) in CALLERS.into_iter().enumerate() {
        for case in cases {
            let rounds = &case.measured[column];
            let (rate, p50, p99) = (of(rounds, |m| m.per_second), of(rounds, |m| m.p50), of(rounds, |m| m.p99));
            let _ = write!(text, "| {} | {callers} | {rate:.0} | {p50:.0} | {p99:.0} |", case.name);
            let floor = case.floor.and_then(|floor| cases.iter().find(|other| other.name == floor));
            let _ = match floor {
                None => writeln!(text, " | |"),
                Some(floor) => {
                    let pairs: Vec<(Measured, Measured)> =
                        rounds.iter().copied().zip(floor.measured[column].iter().copied()).collect();
                    let slower = median(pairs.iter().map(|(case, floor)| case.p50 / floor.p50).collect());
                    let share = median(pairs.iter().map(|(case, floor)| case.per_second / floor.per_second).collect());
                    writeln!(text, " {slower:.2} | {share:.2} of {} |", floor.name)
                }
            };
        }
    }
    text
}

fn of(rounds: &[Measured], what: impl Fn(&Measured) -> f64) -> f64 {
    median(rounds.iter().map(what).collect())
}

fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_unstable_by(f64::total_cmp);
    numbers.get(numbers.len() / 2).copied().unwrap_or(f64::NAN)
}
