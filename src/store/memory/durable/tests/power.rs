//! The power goes at any moment: what was answered is there, whatever became of what was being written.

use std::sync::atomic::{AtomicBool, Ordering};

use super::*;

/// What one caller knows of its own locks.
#[derive(Default)]
struct Known {
    /// Granted and answered, and nobody was asked to end it.
    held: Vec<NewLock>,
    /// Ended and answered.
    gone: Vec<NewLock>,
}

fn random(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

#[test]
fn nothing_that_was_answered_is_lost_with_the_power() {
    let rounds = 12 * std::env::var("TOWER_LOCK_SOAK").ok().and_then(|soak| soak.parse().ok()).unwrap_or(1);
    let mut torn = 0;
    for round in 0..rounds {
        let bench = Bench::with(1 << 14, 100_000);
        // A disk takes its time, in which the power may go.
        bench.disk.idle.store(200, Ordering::Relaxed);
        let stop = AtomicBool::new(false);
        let mut seed = 0xD1CE_u64 + round as u64 * 7919;
        let (known, left) = std::thread::scope(|scope| {
            let callers: Vec<_> = (0..4)
                .map(|caller| {
                    scope.spawn({
                        let (bench, stop) = (&bench, &stop);
                        move || {
                            let (mut known, mut step) = (Known::default(), 0);
                            while !stop.load(Ordering::Acquire) {
                                step += 1;
                                let lock = new(&format!("/{caller}/{step}"), "ann");
                                bench.acquire(&lock);
                                // Noted before the power can go without it.
                                let frozen = stop.load(Ordering::Acquire);
                                if frozen {
                                    break;
                                }
                                known.held.push(lock);
                                if step % 3 != 0 {
                                    let lock = known.held.remove(0);
                                    assert!(matches!(wait(bench.release(&lock)), Ok(Released::Released(_))));
                                    if stop.load(Ordering::Acquire) {
                                        break;
                                    }
                                    known.gone.push(lock);
                                }
                            }
                            known
                        }
                    })
                })
                .collect();
            std::thread::sleep(Duration::from_millis(2 + random(&mut seed) % 30));
            // From here on nothing that is answered counts; what was before it does.
            stop.store(true, Ordering::Release);
            let keep = random(&mut seed) % 101;
            let left = bench.disk.power_loss(|| random(&mut seed) % 100 < keep);
            let known: Vec<Known> = callers.into_iter().map(|caller| caller.join().unwrap()).collect();
            (known, left)
        });
        torn += usize::from(left != bench.disk.bytes());
        let disk = Arc::new(TestDisk::holding(left));
        let after = Bench { store: Some(open(&disk, &bench.hand, 100_000).unwrap()), hand: bench.hand.clone(), disk };
        let all: Vec<LockId> = after.all().iter().map(Lock::id).collect();
        for known in &known {
            for lock in &known.held {
                assert!(all.contains(&lock.parts.id), "round {round}: granted, answered, and lost");
                assert!(after.put(lock.parts.root.path(), Some(lock)).admitted().is_some(), "its token works");
            }
            for lock in &known.gone {
                assert!(!all.contains(&lock.parts.id), "round {round}: released, answered, and back");
                assert!(matches!(wait(after.try_acquire(std::slice::from_ref(lock))), Ok(Acquired::Lost(_))));
            }
        }
    }
    assert!(torn > rounds / 2, "the power went in the middle of something");
}
