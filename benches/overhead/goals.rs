//! What was to be reached, and whether it is.

use std::fmt::Write;

use super::{
    below::Below,
    harness::{Bench, Id, grouped},
    layers::Layers,
    memory::Memory,
    tail::Tail,
};

/// One line of the table.
struct Goal {
    name: String,
    /// Nanoseconds, where it is about a duration.
    ns: Option<f64>,
    value: f64,
    bound: Bound,
    limit: f64,
    stretch: Option<f64>,
}

#[derive(Clone, Copy)]
enum Bound {
    AtMost,
    AtLeast,
}

impl Goal {
    fn reaches(&self, limit: f64) -> bool {
        match self.bound {
            Bound::AtMost => self.value <= limit,
            Bound::AtLeast => self.value >= limit,
        }
    }

    fn met(&self) -> &'static str {
        match () {
            () if self.value.is_nan() => "not measured here",
            () if self.stretch.is_some_and(|stretch| self.reaches(stretch)) => "yes, and the stretch",
            () if self.reaches(self.limit) => "yes",
            () => "NO",
        }
    }
}

/// The parts of the table, each under a line that says what its numbers are.
pub fn table(bench: &Bench, layers: &Layers, below: &Below, tails: &[Tail], memory: &Memory) -> String {
    let unit = bench.added(layers.from_fn);
    let counts = below.counts();
    let most = grouped(layers.most);
    let added = |name: &str, over, limit: f64, stretch: f64| Goal {
        name: name.into(),
        ns: Some(bench.added(over)),
        value: bench.added_ratio(over, layers.from_fn),
        bound: Bound::AtMost,
        limit,
        stretch: Some(stretch),
    };
    let units = [
        added("read, body type unchanged", layers.read, 0.15, 0.04),
        added("read, wrapped body", layers.read_wrapped, 0.3, 0.13),
        added("unlocked write, 0 locks", layers.write[0], 0.8, 0.6),
        added(&format!("unlocked write, {most} locks"), layers.write[2], 1.3, 0.8),
        added("unlocked write, check-only store, 0 locks", layers.check_only[0], 0.3, 0.1),
        added(&format!("unlocked write, check-only store, {most} locks"), layers.check_only[1], 0.9, 0.6),
        added("holder's write under an exclusive lock", layers.holder, 3.5, 2.5),
        added("refusal with its full JSON body", layers.refusal, 20.0, 12.0),
    ];
    let growth = |name: &str, many, few, stretch| Goal {
        name: name.into(),
        ns: Some(bench.added(many)),
        value: bench.added_ratio(many, few),
        bound: Bound::AtMost,
        limit: 1.8,
        stretch: Some(stretch),
    };
    let speedup = |name: &str, at: usize, limit, stretch| Goal {
        name: name.into(),
        ns: Some(bench.ns(layers.two[at].case)),
        value: bench.speedup(layers.two[at].case, layers.write[1].case),
        bound: Bound::AtLeast,
        limit,
        stretch: Some(stretch),
    };
    let locks = [
        growth(&format!("unlocked write, 1,000 to {most} locks"), layers.write[2], layers.write[1], 1.4),
        growth("the same, locks at depths 2 to 8", layers.mixed[1], layers.mixed[0], 1.4),
    ];
    let threads =
        [speedup("unlocked write, different parents", 0, 1.7, 1.9), speedup("unlocked write, same parent", 1, 1.3, 1.6)];
    let looked = |name: String, ours: Id, map: Id, limit: f64, stretch: Option<f64>| Goal {
        name,
        ns: Some(bench.ns(ours)),
        value: bench.ratio(ours, map),
        bound: Bound::AtMost,
        limit,
        stretch,
    };
    let mut admits = Vec::new();
    for (name, row, limits) in [
        ("let_through, check-only", &below.through, [(0.3, 0.15), (1.5, 1.2), (2.0, 1.6)]),
        ("admit, check-only", &below.check, [(0.3, 0.15), (1.5, 1.2), (2.0, 1.6)]),
        ("admit and end, guarded", &below.guarded, [(2.5, 1.8), (3.0, 2.0), (4.0, 3.0)]),
    ] {
        let maps = below.dashmap.goals(counts);
        let counts = ["0", "1,000", &most];
        for (at, (ours, (limit, stretch))) in row.goals(below.counts()).into_iter().zip(limits).enumerate() {
            admits.push(looked(format!("{name}, {} locks", counts[at]), ours, maps[at], limit, Some(stretch)));
        }
    }
    let [_, few, many] = below.check_far.goals(counts);
    let [_, map_few, map_many] = below.dashmap_far.goals(counts);
    admits.push(looked("admit, check-only, far paths, 1,000 locks".into(), few, map_few, 1.0, None));
    admits.push(looked(format!("admit, check-only, far paths, {most} locks"), many, map_many, 1.0, None));
    let bytes = |memory: Option<f64>| memory.unwrap_or(f64::NAN);
    let memls = [
        looked(format!("acquire and release, {most} locks"), below.siblings, below.memls_siblings, 0.4, Some(0.25)),
        looked("the same, ten locks in a collection".into(), below.pair, below.memls_pair, 0.4, Some(0.25)),
        Goal {
            name: format!("memory a lock with its owner, {} locks", grouped(memory.locks)),
            ns: None,
            value: bytes(memory.ours) / bytes(memory.memls),
            bound: Bound::AtMost,
            limit: 0.6,
            stretch: Some(0.4),
        },
    ];
    let slowest = tails[0].of_10_000(9_990) as f64;
    let tail = [Goal {
        name: format!("admit and end, {most} locks, 99.9 % of calls"),
        ns: Some(slowest),
        value: slowest / 1_000.0,
        bound: Bound::AtMost,
        limit: 20.0,
        stretch: Some(5.0),
    }];
    let mut table = format!(
        "\nWhat was to be reached. One unit is what an empty axum from_fn adds to a call: {unit:.1} ns in this run.\n\n\
         {:<58} {:>9} {:>8} {:>10} {:>8}  met\n{}\n",
        "",
        "ns",
        "measured",
        "goal",
        "stretch",
        "-".repeat(111)
    );
    for (title, goals) in [
        ("what the layer adds, in units", &units[..]),
        ("what the layer adds, to what it adds at 1,000 locks", &locks),
        ("calls of two threads, to those of one in the same time", &threads),
        ("one look, to a dashmap get of the same string", &admits),
        ("to dav-server's MemLs", &memls),
        ("while another thread acquires and releases, in microseconds", &tail),
    ] {
        let _ = writeln!(table, "{title}");
        for goal in goals {
            let ns = goal.ns.map_or_else(String::new, |ns| format!("{ns:.1}"));
            let sign = match goal.bound {
                Bound::AtMost => "<=",
                Bound::AtLeast => ">=",
            };
            let limit = format!("{sign} {}", goal.limit);
            let stretch = goal.stretch.map_or_else(String::new, |stretch| stretch.to_string());
            let value = if goal.value < 0.01 { format!("{:.3}", goal.value) } else { format!("{:.2}", goal.value) };
            let _ = writeln!(table, "  {:<56} {ns:>9} {value:>8} {limit:>10} {stretch:>8}  {}", goal.name, goal.met());
        }
    }
    table + "\nAllocations are counted by tests/allocations.rs, instructions by `cargo bench --bench instructions`.\n"
}
