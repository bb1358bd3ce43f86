//! Gives each thread of a case a processor of its own, where the system lets us (Linux). A scheduler would find out in time
//! that two busy threads sit on one processor; a pass is over before.

/// Gives the thread back to all the processors that it had, when dropped.
pub(super) struct Held(#[cfg(target_os = "linux")] Option<rustix::thread::CpuSet>);

/// Keeps the calling thread on the processor of this number among those that it may use.
#[cfg(target_os = "linux")]
pub(super) fn hold(number: usize) -> Held {
    use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

    let Ok(all) = sched_getaffinity(None) else { return Held(None) };
    let usable: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|processor| all.is_set(*processor)).collect();
    let mut one = CpuSet::new();
    one.set(usable[number % usable.len()]);
    Held(sched_setaffinity(None, &one).is_ok().then_some(all))
}

#[cfg(not(target_os = "linux"))]
pub(super) fn hold(_: usize) -> Held {
    Held()
}

#[cfg(target_os = "linux")]
impl Drop for Held {
    fn drop(&mut self) {
        if let Some(all) = &self.0 {
            // Where it cannot be undone, the thread stays where it was put, which changes no figure.
            let _ = rustix::thread::sched_setaffinity(None, all);
        }
    }
}
