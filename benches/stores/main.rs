//! What the stores for many processes cost, beside what their engines do at the least: `cargo bench --bench stores
//! --all-features`. Method and figures: `benches/README.md`.
//!
//! It starts its own `redis-server` and `postgres`. With an argument (`redis`, `postgres`, `deadlines`) only that
//! part runs.
#![allow(missing_docs, reason = "a program")]

mod calls;
mod deadlines;
#[path = "../../tests/support/engines.rs"]
mod engines;
mod postgres;
mod redis;
mod rounds;

use std::time::Duration;

use self::rounds::Plan;

/// How many locks are held while it is measured.
const HELD: u64 = 100_000;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // `cargo bench` says so; `cargo test --benches` does not, and then each case just has to work.
    let measuring = arguments.iter().any(|argument| argument == "--bench");
    let only: Vec<&str> = arguments.iter().map(String::as_str).filter(|argument| !argument.starts_with('-')).collect();
    let wanted = |part: &str| only.is_empty() || only.contains(&part);
    let (plan, held) = if measuring {
        (Plan { rounds: 9, turn: Duration::from_millis(400) }, HELD)
    } else {
        (Plan { rounds: 1, turn: Duration::from_millis(20) }, 1_000)
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let mut parts = Vec::new();
        if wanted("redis") {
            parts.push(redis::measured(plan, held).await);
        }
        if wanted("postgres") {
            parts.push(postgres::measured(plan, held).await);
        }
        if wanted("deadlines") {
            parts.push(deadlines::measured().await);
        }
        if measuring {
            parts.iter().for_each(|part| print!("{part}"));
        } else {
            println!("all {} parts work; cargo bench --bench stores --all-features measures them", parts.len());
        }
    });
}
