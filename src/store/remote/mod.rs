//! What stores over a network share, whichever engine they talk to.
//!
//! The engine finds and registers in one step ([`writes`] knows what this node has registered), the pure rules decide
//! ([`judge`], on a [`question`] that outlives the call), and paths travel as hashes of themselves and of all that is
//! above them ([`places`]). No answer is waited for longer than a time limit ([`deadline`]).

pub(super) mod deadline;
pub(super) mod judge;
pub(super) mod places;
pub(super) mod question;
pub(super) mod writes;
