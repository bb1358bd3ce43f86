//! Waiting for locks, over any store and without policy: who waits, in which order, and for what.
//!
//! ```text
//! Seats ── how many wait, for one resource and in all: acquires, held writes, callers who wait for news
//! Line ─── acquires of one root in order of arrival; only those in front ask the store
//! Blocked ─ what stands in the way: the first lock is watched by its id, its end is timed
//! Waiter ── an acquire in line: when to ask the store, until its time is up
//! Deference ─ waiting writes let the acquires in front go first
//! ```
//!
//! No wake-up is lost between a refusal and the wait that follows it: whoever is refused subscribes first, and asks again
//! once the subscription stands. From then on the store tells of the end. What it does not tell (an expiry, a mark that was
//! withdrawn) is timed here, and where it cannot tell anything (an outage, too many watchers) it is asked again after a
//! pause.

mod blocked;
mod deference;
mod line;
mod seats;
mod waiter;

pub(crate) use self::{
    blocked::Blocked,
    deference::Deference,
    line::{Line, Order, Wants},
    seats::{Full, Place, Seats},
    waiter::{Again, Settled, Waiter},
};
