//! The order of turns, without a store.
