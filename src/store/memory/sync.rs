//! What threads meet in: atomics, a fence, a mutex. Under loom, its own, which try every order in which threads can meet.
//!
//! Only what loom tests reach imports from here, and a loom test makes all of it anew inside of its model.

#[cfg(not(all(tower_lock_loom, test)))]
pub(super) use {
    parking_lot::Mutex,
    std::sync::atomic::{AtomicU32, AtomicU64, fence},
};

#[cfg(all(tower_lock_loom, test))]
pub(super) use {
    loom::sync::atomic::{AtomicU32, AtomicU64, fence},
    modelled::Mutex,
};

#[cfg(all(tower_lock_loom, test))]
mod modelled {
    /// loom's mutex with the signatures of `parking_lot`'s.
    #[derive(Debug, Default)]
    pub(in super::super) struct Mutex<T>(loom::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub(in super::super) fn new(value: T) -> Self {
            Self(loom::sync::Mutex::new(value))
        }

        pub(in super::super) fn lock(&self) -> loom::sync::MutexGuard<'_, T> {
            self.0.lock().expect("no thread of a model panics and goes on")
        }

        pub(in super::super) fn try_lock(&self) -> Option<loom::sync::MutexGuard<'_, T>> {
            self.0.try_lock().ok()
        }
    }
}
