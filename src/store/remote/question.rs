//! `Question`: a [`Write`] that outlives the call which asked, to be judged when the engine has answered.

use crate::{
    lock::{HolderProof, Principal, Target, TokenDigest, TokenKey},
    request::Conditions,
    store::Write,
};

/// What a write wants, as its own.
#[derive(Debug)]
pub(in crate::store) struct Question {
    pub(in crate::store) targets: Vec<Target<'static>>,
    pub(in crate::store) conditions: Conditions<'static>,
    pub(in crate::store) principal: Option<Principal>,
    pub(in crate::store) proof: HolderProof,
    /// How many blocking locks to name at most.
    pub(in crate::store) blockers: usize,
    /// The digests of the tokens submitted, in the order of the conditions' tokens.
    pub(in crate::store) digests: Vec<TokenDigest>,
}

impl Question {
    pub(in crate::store) fn of(write: &Write<'_>, key: &TokenKey) -> Self {
        let own = |target: &Target<'_>| Target {
            key: target.key.clone().into_owned(),
            effect: target.effect,
            membership: target.membership,
        };
        Self {
            targets: write.targets.iter().map(own).collect(),
            conditions: write.conditions.to_owned_without_tags(),
            principal: write.principal.cloned(),
            proof: write.proof.clone(),
            blockers: write.blockers,
            digests: write.conditions.tokens().iter().map(|token| key.digest(token)).collect(),
        }
    }
}
