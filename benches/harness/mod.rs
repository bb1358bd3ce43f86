//! Measures services and functions against each other: in one process, in turns, medians of many short rounds.
//!
//! A machine never does the same twice: clock rates, neighbours, caches. So nothing here is compared with an earlier run.
//! Every case has its turn in every round, what slows one round slows all of its cases, and what is said is the median, over
//! the rounds, of a difference or a ratio within one round. Requests are built outside of the timing.
//!
//! To measure a service of your own, copy this folder beside a bench of yours; `benches/own_service.rs` shows the few lines.
//! It needs `http`, `tower`, `pin-project-lite` and, on Linux, `rustix` (feature `thread`), nothing of what it measures.
#![allow(dead_code, unreachable_pub, missing_docs, unused_imports, reason = "every bench uses a part of it")]

mod nothing;
mod processor;
mod report;

pub use self::{nothing::DoNothingLayer, report::grouped};

use std::{
    convert::Infallible,
    fmt::Debug,
    future::Future,
    hint::black_box,
    ops::Range,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    thread::{self, Thread},
    time::{Duration, Instant},
};

use http::{Request, Response, StatusCode};
use tower::Service;

/// Different calls of a case: requests to so many paths, or fewer where a call takes long. Callers number them from zero.
pub const CALLS: usize = 4_096;
/// Calls of a service that are timed in one go. Their requests are built before.
const BATCH: usize = 256;
/// How long one pass over the calls of a case may take; slower cases make fewer different calls.
const PASS: Duration = Duration::from_micros(800);
/// Timed passes of a turn, after one that brings back into the caches what the turns of others have pushed out.
const PASSES: usize = 2;

/// The cases of a run and what they took.
pub struct Bench {
    cases: Vec<Case>,
    rounds: usize,
    around: Around,
}

/// What the threads that call do around it: nothing, or whatever [`Bench::around`] was given.
type Around = Box<dyn Fn(&mut dyn FnMut()) + Sync>;

/// Names a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Id(usize);

/// The cost of `case` over that of `base`: what a layer adds to the service that it wraps.
#[derive(Clone, Copy, Debug)]
pub struct Over {
    pub case: Id,
    pub base: Id,
}

impl Id {
    pub fn over(self, base: Self) -> Over {
        Over { case: self, base }
    }
}

struct Case {
    name: String,
    base: Option<Id>,
    workers: Vec<Box<dyn Worker>>,
    /// Different calls in one pass.
    calls: usize,
    /// Nanoseconds of one call: in the first pass of each turn, and in those after it.
    first: Vec<f64>,
    spent: Vec<f64>,
}

/// One thread's part of a case.
trait Worker: Send {
    /// Makes the calls of these numbers, once all threads of the case are ready to, and says how long it took until all of
    /// them were done with theirs.
    fn calls(&mut self, numbers: Range<usize>, gate: &Gate) -> Duration;
    /// How many calls it makes in one go.
    fn batch(&self) -> usize;
    /// Makes one call and panics unless it did what the case says.
    fn check(&mut self, number: usize);
}

impl Bench {
    /// Measures for so many rounds under `cargo bench`, or for as many as its argument says (`cargo bench -- 20`).
    /// `cargo test --benches` only checks that every case works.
    pub fn from_args(rounds: usize) -> Self {
        let measuring = std::env::args().any(|argument| argument == "--bench");
        let asked = std::env::args().skip(1).find_map(|argument| argument.parse().ok());
        let rounds = asked.unwrap_or(rounds).max(1);
        Self { cases: Vec::new(), rounds: if measuring { rounds } else { 0 }, around: Box::new(|work| work()) }
    }

    /// Has every thread do its calls inside of `around`, which enters a runtime, say, and calls what it is given.
    pub fn around(&mut self, around: impl Fn(&mut dyn FnMut()) + Sync + 'static) {
        self.around = Box::new(around);
    }

    /// For how many rounds.
    pub fn rounds(&self) -> usize {
        self.rounds
    }

    /// Whether this run measures.
    pub fn measuring(&self) -> bool {
        self.rounds > 0
    }

    /// Adds a service, asked with the requests that `request` makes of the numbers from 0 to [`CALLS`], in order.
    ///
    /// Each call is `poll_ready`, `call`, polling the future to its end, and dropping the response. It answers `expected`.
    pub fn service<S, F, A, B>(&mut self, name: impl Into<String>, service: &S, request: F, expected: StatusCode) -> Id
    where
        S: Service<Request<A>, Response = Response<B>, Error: Debug> + Clone + Send + 'static,
        F: Fn(usize) -> Request<A> + Clone + Send + 'static,
        A: Send + 'static,
    {
        self.service_on(1, name, service, move |_, number| request(number), expected)
    }

    /// The same on so many threads at once, each with its own clone of the service; `request` is told which thread asks.
    pub fn service_on<S, F, A, B>(
        &mut self,
        threads: usize,
        name: impl Into<String>,
        service: &S,
        request: F,
        expected: StatusCode,
    ) -> Id
    where
        S: Service<Request<A>, Response = Response<B>, Error: Debug> + Clone + Send + 'static,
        F: Fn(usize, usize) -> Request<A> + Clone + Send + 'static,
        A: Send + 'static,
    {
        let workers = (0..threads).map(|thread| {
            let (service, request) = (service.clone(), request.clone());
            let request = Box::new(move |number| request(thread, number));
            Box::new(Asked { service, request, expected, requests: Vec::with_capacity(BATCH) }) as Box<dyn Worker>
        });
        self.add(name.into(), workers.collect())
    }

    /// Adds a function, called with the numbers from 0 to [`CALLS`], in order. It answers whether it did what it should;
    /// that is only looked at before and after the measurement.
    pub fn function(&mut self, name: impl Into<String>, function: impl FnMut(usize) -> bool + Send + 'static) -> Id {
        self.add(name.into(), vec![Box::new(Called(function))])
    }

    /// The same with a function for each of so many threads at once.
    pub fn functions<F: FnMut(usize) -> bool + Send + 'static>(
        &mut self,
        threads: usize,
        name: impl Into<String>,
        function: impl Fn(usize) -> F,
    ) -> Id {
        let workers = (0..threads).map(|thread| Box::new(Called(function(thread))) as Box<dyn Worker>);
        self.add(name.into(), workers.collect())
    }

    fn add(&mut self, name: String, mut workers: Vec<Box<dyn Worker>>) -> Id {
        // A case that measures something else than it says would be worse than none.
        for worker in &mut workers {
            (0..8).for_each(|number| worker.check(number));
        }
        self.cases.push(Case { name, base: None, workers, calls: CALLS, first: Vec::new(), spent: Vec::new() });
        Id(self.cases.len() - 1)
    }

    /// Has the table show what `over.case` costs over `over.base`.
    pub fn compare(&mut self, over: Over) {
        self.cases[over.case.0].base = Some(over.base);
    }

    /// Gives every case its turn, round after round.
    pub fn run(&mut self) {
        if !self.measuring() {
            for case in &mut self.cases {
                case.pass(16, &self.around);
            }
            return;
        }
        // The first round warms up, and finds out how many different calls fit into a turn.
        for case in &mut self.cases {
            let spent = case.pass(BATCH, &self.around);
            let fit = PASS.as_nanos() as f64 / spent.max(1.0);
            case.calls = (fit as usize).clamp(64, CALLS);
        }
        let start = Instant::now();
        for round in 1..=self.rounds {
            for case in &mut self.cases {
                let first = case.pass(case.calls, &self.around);
                let spent = (0..PASSES).map(|_| case.pass(case.calls, &self.around)).sum::<f64>() / PASSES as f64;
                case.first.push(first);
                case.spent.push(spent);
            }
            if round % 20 == 0 {
                eprintln!("round {round} of {}, {:.0} s", self.rounds, start.elapsed().as_secs_f64());
            }
        }
        for worker in self.cases.iter_mut().flat_map(|case| &mut case.workers) {
            (0..8).for_each(|number| worker.check(number));
        }
    }

    /// How many cases there are.
    pub fn count(&self) -> usize {
        self.cases.len()
    }

    /// The median of one call, in nanoseconds. NaN where nothing was measured.
    pub fn ns(&self, id: Id) -> f64 {
        median(self.cases[id.0].spent.iter().copied())
    }

    /// What a call adds, in nanoseconds: the median of the differences within a round.
    pub fn added(&self, over: Over) -> f64 {
        median(self.differences(over)) + 0.0
    }

    /// How many times as much `a` adds as `b`: the median of the ratios within a round.
    pub fn added_ratio(&self, a: Over, b: Over) -> f64 {
        median(self.differences(a).zip(self.differences(b)).map(|(a, b)| a / b))
    }

    /// How many times as long `a` takes as `b`: the median of the ratios within a round.
    pub fn ratio(&self, a: Id, b: Id) -> f64 {
        let pairs = self.cases[a.0].spent.iter().zip(&self.cases[b.0].spent);
        median(pairs.map(|(a, b)| a / b))
    }

    /// How many calls all threads of `many` make in the time in which the one of `one` makes one: the median within a
    /// round.
    pub fn speedup(&self, many: Id, one: Id) -> f64 {
        self.cases[many.0].workers.len() as f64 / self.ratio(many, one)
    }

    fn differences(&self, over: Over) -> impl Iterator<Item = f64> {
        let pairs = self.cases[over.case.0].spent.iter().zip(&self.cases[over.base.0].spent);
        pairs.map(|(case, base)| case - base)
    }
}

impl Case {
    /// One pass over that many calls; the nanoseconds of one.
    fn pass(&mut self, calls: usize, around: &Around) -> f64 {
        let gate = Gate::for_threads(self.workers.len());
        let pass = |worker: &mut Box<dyn Worker>| {
            let mut spent = Duration::ZERO;
            let batch = worker.batch();
            for from in (0..calls).step_by(batch) {
                spent += worker.calls(from..calls.min(from + batch), &gate);
            }
            spent.as_nanos() as f64 / calls as f64
        };
        // A single one has a thread too, so that it differs from two in nothing else.
        let threads = self.workers.len() as f64;
        let pass = |(number, worker): (usize, &mut Box<dyn Worker>)| {
            let _here = processor::hold(number);
            let mut spent = f64::NAN;
            around(&mut || spent = pass(&mut *worker));
            spent
        };
        let sum: f64 = thread::scope(|scope| {
            let passes: Vec<_> =
                self.workers.iter_mut().enumerate().map(|worker| scope.spawn(move || pass(worker))).collect();
            passes.into_iter().map(|pass| pass.join().expect("a worker does not panic")).sum()
        });
        sum / threads
    }
}

/// The median; NaN of nothing.
pub fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

// --- workers -------------------------------------------------------------------------------------------------------

/// Calls a service. Of no type of its own for each way to make requests: the same service is then the same code in each case,
/// at the same place.
struct Asked<S, A> {
    service: S,
    request: Box<dyn Fn(usize) -> Request<A> + Send>,
    expected: StatusCode,
    requests: Vec<Request<A>>,
}

impl<S, A, B> Worker for Asked<S, A>
where
    S: Service<Request<A>, Response = Response<B>, Error: Debug> + Send,
    A: Send,
{
    fn calls(&mut self, numbers: Range<usize>, gate: &Gate) -> Duration {
        self.requests.extend(numbers.map(&self.request));
        let waker = waker();
        gate.wait();
        let start = Instant::now();
        for request in self.requests.drain(..) {
            black_box(ask(&mut self.service, request, &waker));
        }
        gate.wait();
        start.elapsed()
    }

    fn batch(&self) -> usize {
        BATCH
    }

    fn check(&mut self, number: usize) {
        let answer = ask(&mut self.service, (self.request)(number), &waker());
        assert_eq!(answer.status(), self.expected);
    }
}

/// Calls a function.
struct Called<F>(F);

impl<F: FnMut(usize) -> bool + Send> Worker for Called<F> {
    fn calls(&mut self, numbers: Range<usize>, gate: &Gate) -> Duration {
        gate.wait();
        let start = Instant::now();
        for number in numbers {
            black_box((self.0)(black_box(number)));
        }
        gate.wait();
        start.elapsed()
    }

    fn batch(&self) -> usize {
        CALLS
    }

    fn check(&mut self, number: usize) {
        assert!((self.0)(number), "call {number} does not do what its case says");
    }
}

/// One call, answered at once or after waiting for whoever wakes this thread.
pub fn ask<S, A, B>(service: &mut S, request: Request<A>, waker: &Waker) -> Response<B>
where
    S: Service<Request<A>, Response = Response<B>, Error: Debug>,
{
    let mut cx = Context::from_waker(waker);
    while service.poll_ready(&mut cx).map(|ready| ready.expect("the service is in order")).is_pending() {
        thread::park();
    }
    let mut answer = pin!(service.call(request));
    loop {
        match answer.as_mut().poll(&mut cx) {
            Poll::Ready(answer) => return answer.expect("the service answers"),
            Poll::Pending => thread::park(),
        }
    }
}

/// What a future answers that has nothing to wait for.
pub fn now<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(answer) => answer,
        Poll::Pending => panic!("nothing here should have to wait"),
    }
}

/// What a future that cannot fail answers at once.
pub fn sure<T>(answer: Result<T, Infallible>) -> T {
    match answer {
        Ok(answer) => answer,
        Err(never) => match never {},
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Wakes this thread.
pub fn waker() -> Waker {
    Arc::new(Unpark(thread::current())).into()
}

/// Lets the threads of a case begin each batch at the same time and end it at the same time: what one does alone, while
/// another has to wait for a processor, is not what is measured.
struct Gate {
    threads: usize,
    arrived: AtomicUsize,
}

impl Gate {
    fn for_threads(threads: usize) -> Self {
        Self { threads, arrived: AtomicUsize::new(0) }
    }

    fn wait(&self) {
        if self.threads == 1 {
            return;
        }
        let mine = self.arrived.fetch_add(1, Ordering::AcqRel);
        let all = (mine / self.threads + 1) * self.threads;
        for looked in 0_u32.. {
            if self.arrived.load(Ordering::Acquire) >= all {
                return;
            }
            if looked < 1_000 {
                std::hint::spin_loop();
            } else {
                // There are fewer processors than threads just now.
                thread::yield_now();
            }
        }
    }
}
