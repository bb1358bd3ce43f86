//! What the layer costs, beside what a user would take instead: `cargo bench --bench overhead`. Method and figures:
//! `benches/README.md`.
//!
//! Every layer wraps the same innermost service, which answers at once. Below it, the store is asked beside maps and another
//! lock system that know as many locks. It ends with the goals, and says which are met.
#![allow(unreachable_pub, reason = "a program")]

mod below;
mod goals;
#[path = "../harness/mod.rs"]
mod harness;
mod layers;
mod memory;
mod standing;
mod tail;

use std::time::Instant;

use self::{
    below::Below,
    harness::Bench,
    layers::Layers,
    standing::{Spread, Standing},
};

/// How many locks there are while the store is asked.
const COUNTS: [usize; 8] = [0, 1, 10, 100, 1_000, 10_000, 100_000, 1_000_000];
const ROUNDS: usize = 120;

fn main() {
    if let Some(answer) = memory::asked_to() {
        return println!("{answer}");
    }
    let mut bench = Bench::from_args(ROUNDS);
    let most = if bench.measuring() { 1_000_000 } else { 1_000 };
    let counts: Vec<usize> = COUNTS.into_iter().filter(|count| *count <= most).collect();
    let start = Instant::now();
    let memory = memory::per_lock(if bench.measuring() { most } else { 0 });
    let standing: Vec<Standing> = counts.iter().map(|count| Standing::with(*count)).collect();
    let layers = Layers::new(&mut bench, &standing, most);
    let spreads = [0, most].map(Spread::with);
    let below = Below::new(&mut bench, &standing, &spreads);
    if bench.measuring() {
        eprintln!(
            "locks stand after {:.0} s; {} rounds of {} cases follow",
            start.elapsed().as_secs_f64(),
            bench.rounds(),
            bench.count()
        );
    }
    bench.run();
    let tails = tail::measured(&spreads[1], bench.measuring());
    if !bench.measuring() {
        println!("all {} cases work; cargo bench --bench overhead measures them", bench.count());
        return;
    }
    println!("\nA layer around a service that answers at once. Over base: what the layer adds.\n");
    print!("{}", bench.table(&layers.all()));
    print!("\n{}", layers::sizes());
    println!("\nBelow the layer: what one look costs, and what it costs to lock and unlock.\n");
    print!("{}", bench.table(&below.single()));
    println!("\nThe same look by the number of locks (median of one call, nanoseconds):\n");
    print!("{}", below.matrix(&bench));
    print!("\n{}", tail::table(&tails));
    print!("\n{}", memory::table(&memory));
    let figures = below.figures(&bench) + &layers.figures(&bench);
    let file = concat!(env!("CARGO_TARGET_TMPDIR"), "/overhead.csv");
    match std::fs::write(file, figures) {
        Ok(()) => println!("\nThe figures for the plot (benches/plot) are in {file}"),
        Err(error) => println!("\nThe figures for the plot could not be written to {file}: {error}"),
    }
    print!("{}", goals::table(&bench, &layers, &below, &tails, &memory));
}
