//! The slots that a thread keeps between two writes, so that the next one is registered where the last one was, without
//! a word to other threads.
//!
//! A few for each of a few stores: what is beyond goes back to where it came from.

use std::{
    cell::{Cell, RefCell},
    ptr,
    sync::Arc,
};

use super::{home::Home, slot::Slot};

/// Stores for which a thread keeps slots.
const STORES: usize = 4;
/// Slots that it keeps for each. Half of them go back when there are more.
const MOST: usize = 32;

struct Idle {
    /// The one that was put back last, whosever it is: most threads need no more.
    last: Cell<Option<Arc<Slot>>>,
    shelves: RefCell<Shelves>,
}

struct Shelves {
    each: [Shelf; STORES],
    /// The shelf that is given to another store next.
    next: usize,
}

struct Shelf {
    /// Whose slots these are. While there are any, nothing else is at this address.
    home: *const Home,
    slots: Vec<Arc<Slot>>,
}

thread_local! {
    static IDLE: Idle = const {
        let each = [const { Shelf { home: ptr::null(), slots: Vec::new() } }; STORES];
        Idle { last: Cell::new(None), shelves: RefCell::new(Shelves { each, next: 0 }) }
    };
}

/// A slot of `home` that the thread has kept.
#[inline]
pub(super) fn take(home: &Arc<Home>) -> Option<Arc<Slot>> {
    // None while a thread is being torn down.
    let taken = IDLE.try_with(|idle| match idle.last.take() {
        Some(slot) if ptr::eq(slot.home.as_ptr(), Arc::as_ptr(home)) => Some(slot),
        other => idle.take(other, home),
    });
    taken.ok().flatten()
}

/// Keeps a slot for the next write of this thread.
#[inline]
pub(super) fn put(slot: Arc<Slot>) {
    // While a thread is being torn down the slot goes, and is reclaimed by whoever needs one.
    _ = IDLE.try_with(|idle| match idle.last.replace(Some(slot)) {
        None => {}
        Some(before) => idle.put(before),
    });
}

impl Idle {
    #[cold]
    fn take(&self, other: Option<Arc<Slot>>, home: &Arc<Home>) -> Option<Arc<Slot>> {
        self.last.set(other);
        self.shelves.try_borrow_mut().ok()?.of(Arc::as_ptr(home))?.slots.pop()
    }

    #[cold]
    fn put(&self, slot: Arc<Slot>) {
        let Ok(mut shelves) = self.shelves.try_borrow_mut() else { return };
        let beyond = shelves.put(slot);
        // Outside of the borrow: the last of a store may go here.
        drop(shelves);
        give_back(beyond);
    }
}

impl Shelves {
    fn of(&mut self, home: *const Home) -> Option<&mut Shelf> {
        self.each.iter_mut().find(|shelf| ptr::eq(shelf.home, home))
    }

    /// What there is no place for.
    fn put(&mut self, slot: Arc<Slot>) -> Vec<Arc<Slot>> {
        let home = slot.home.as_ptr();
        let Some(shelf) = self.of(home) else {
            // Another store's.
            let shelf = &mut self.each[self.next];
            self.next = (self.next + 1) % STORES;
            shelf.home = home;
            return std::mem::replace(&mut shelf.slots, vec![slot]);
        };
        let beyond = if shelf.slots.len() < MOST { Vec::new() } else { shelf.slots.split_off(MOST / 2) };
        shelf.slots.push(slot);
        beyond
    }
}

fn give_back(slots: Vec<Arc<Slot>>) {
    // Slots of a store that is gone just go.
    if let Some(home) = slots.first().and_then(|slot| slot.home.upgrade()) {
        home.give_back(slots);
    }
}
