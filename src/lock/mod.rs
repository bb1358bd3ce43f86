//! Ground floor: the data of a lock, and the rules of section 4 as pure functions.
//!
//! Nothing here waits, allocates behind your back, or knows that HTTP or a store exists. Every store, the middleware
//! and every test decide by the functions of [`rules`], so that none of them can come to another answer than the rest.

mod holder;
mod id;
mod key;
mod kind;
mod random;
mod record;
pub mod rules;
mod target;
mod time;
mod token;

#[cfg(feature = "batch")]
pub(crate) use self::key::NOT_IN_A_PATH;
pub use self::{
    holder::{HolderClaim, HolderProof, Owner, Principal},
    id::LockId,
    key::{Dots, KeyError, KeyRules, ResourceKey, Separator},
    kind::{Claim, Depth, LockKind, LockScope, LockState, UnknownWord},
    record::{Lock, LockLife, LockParts, LostCause, LostLock},
    target::{Effect, Gone, Membership, Reach, Target},
    time::Timestamp,
    token::{LockToken, TokenDigest, TokenError, TokenKey},
};
pub(crate) use self::{
    key::{is_below, parent},
    time::micros,
};
