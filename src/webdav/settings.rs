//! `Settings`: what a layer was told, and what it knows of its own locks by that.

use super::{
    discovery::write_owner_element,
    mint::{Ending, Mint},
};
use crate::{
    lock::{Lock, LockToken, Principal, ResourceKey},
    locks::LockView,
    respond::DavView,
};

/// What a layer can be told.
#[derive(Clone)]
pub(super) struct Settings {
    pub(super) mint: Mint,
    pub(super) tokens: Tokens,
    /// The most bytes of the body of a PROPFIND or PROPPATCH.
    pub(super) body: usize,
    /// The most bytes of a multistatus of the handler's.
    pub(super) multistatus: usize,
}

/// Whether a holder finds the token of a lock again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tokens {
    ToTheirHolder,
    Never,
}

impl Settings {
    /// The token of a lock, for `caller`, if they are its holder. Never an anonymous one: nobody tells those apart.
    pub(super) fn token_for(&self, caller: Option<&Principal>, lock: &Lock) -> Option<LockToken> {
        let own = lock.principal().is_some() && lock.principal() == caller;
        (own && self.tokens == Tokens::ToTheirHolder).then(|| self.mint.token_of(lock)).flatten()
    }
}

impl DavView for Settings {
    fn href(&self, lock: &LockView) -> String {
        let key = ResourceKey::from_canonical(lock.resource.as_str());
        let mut href = key.uri().into_owned();
        if self.mint.ending_of(lock.lock_id, &lock.resource) == Ending::Slash && !href.ends_with('/') {
            href.push('/');
        }
        href
    }

    fn write_owner(&self, lock: &LockView, to: &mut String) {
        if let Some(owner) = &lock.owner {
            write_owner_element(owner, to);
        }
    }
}
