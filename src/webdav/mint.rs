//! `Mint`: ids and tokens of the layer's own, so that a holder can be shown a token that no store keeps.
//!
//! Stores keep a digest of a token, and no answer but the one to the LOCK holds it. WebDAV clients look for it again in
//! `lockdiscovery`, after a restart or on a second device. So the layer proposes both id and token: the id is a nonce and
//! its code under the layer's secret, the token another code of the id. Whoever has the secret finds the token of an id
//! again, and knows an id that it did not make; without the secret an id tells nothing.

use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::lock::{Lock, LockId, LockToken, Principal, ResourceKey};

/// How the URL of a LOCK ended: `lockroot` is the URL that was locked (RFC 4918 section 14.12), which no key keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// In `/`, as the URLs of collections do.
    Slash,
    /// In a name.
    Name,
}

/// What makes ids and tokens, under one secret.
#[derive(Clone)]
pub(super) struct Mint {
    key: [u8; 32],
}

/// The bit of a nonce that says how the URL ended.
const SLASH: u8 = 1;

impl Mint {
    /// With a secret that nobody else has, for one process.
    pub(super) fn random() -> Self {
        let mut secret = [0; 32];
        secret[..16].copy_from_slice(Uuid::new_v4().as_bytes());
        secret[16..].copy_from_slice(Uuid::new_v4().as_bytes());
        Self::derive(&secret)
    }

    /// With the secret that every node is told.
    pub(super) fn derive(secret: &[u8]) -> Self {
        Self { key: Sha256::new().chain_update(b"tower-lock webdav tokens").chain_update(secret).finalize().into() }
    }

    /// The id and the token of a new lock of `principal` on `root`.
    pub(super) fn make(&self, ending: Ending, root: &ResourceKey<'_>, principal: Option<&Principal>) -> (LockId, LockToken) {
        loop {
            let mut nonce = [0; 8];
            nonce.copy_from_slice(&Uuid::new_v4().as_bytes()[..8]);
            // Six bits of a UUID of version 4 are always the same; none of them is in its first six bytes.
            nonce[0] = (nonce[0] & !SLASH) | if ending == Ending::Slash { SLASH } else { 0 };
            let id = self.id(nonce, root.path());
            // The nil and the max UUID are no tokens: one try in 2^127.
            if let Some(token) = self.token(id, root, principal) {
                return (id, token);
            }
        }
    }

    /// The token of a lock that this mint has made the id of. An id can be proposed again by whoever has seen it, for
    /// another lock: that has another token, for the token is of root and principal too.
    pub(super) fn token_of(&self, lock: &Lock) -> Option<LockToken> {
        let own = self.is_own(lock.id(), lock.root().path());
        own.then(|| self.token(lock.id(), lock.root(), lock.principal())).flatten()
    }

    /// How the URL ended that the lock with this id, on this root, was taken by.
    pub(super) fn ending_of(&self, id: LockId, root: &str) -> Ending {
        let slash = id.as_uuid().as_bytes()[0] & SLASH != 0;
        if slash && self.is_own(id, root) { Ending::Slash } else { Ending::Name }
    }

    fn is_own(&self, id: LockId, root: &str) -> bool {
        let mut nonce = [0; 8];
        nonce.copy_from_slice(&id.as_uuid().as_bytes()[..8]);
        self.id(nonce, root) == id
    }

    fn id(&self, nonce: [u8; 8], root: &str) -> LockId {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&nonce);
        bytes[8..].copy_from_slice(&self.code(b"id", &[&nonce, root.as_bytes()])[..8]);
        LockId::from_uuid(Uuid::from_bytes(bytes))
    }

    fn token(&self, id: LockId, root: &ResourceKey<'_>, principal: Option<&Principal>) -> Option<LockToken> {
        let namespace = root.namespace().unwrap_or_default().as_bytes();
        let principal = principal.map_or(&[][..], |principal| principal.as_str().as_bytes());
        let code = self.code(b"token", &[id.as_uuid().as_bytes(), namespace, root.path().as_bytes(), principal]);
        LockToken::from_uuid(uuid::Builder::from_random_bytes(code).into_uuid()).ok()
    }

    /// A code of `parts` for one purpose. What is told from what by its length is hashed first, so that the keyed hash is
    /// over one block whatever its parts are.
    fn code(&self, purpose: &[u8], parts: &[&[u8]]) -> [u8; 16] {
        let mut data = Sha256::new().chain_update(purpose);
        for part in parts {
            data.update((part.len() as u64).to_be_bytes());
            data.update(part);
        }
        let hash = Sha256::new().chain_update(self.key).chain_update(data.finalize()).finalize();
        let mut code = [0; 16];
        code.copy_from_slice(&hash[..16]);
        code
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::HashSet, sync::Arc};

    use super::*;
    use crate::lock::{Claim, Depth, LockKind, LockLife, LockParts, LockScope, LockState, Owner, Timestamp};

    fn root() -> ResourceKey<'static> {
        ResourceKey::from_canonical("/docs/7")
    }

    fn ann() -> Principal {
        Principal::new("ann")
    }

    fn lock(id: LockId, root: ResourceKey<'static>, principal: Option<Principal>) -> Lock {
        let parts = LockParts {
            id,
            root,
            scope: LockScope::Exclusive,
            depth: Depth::Zero,
            kind: LockKind::User,
            principal,
            owner: Owner::default(),
            reason: None,
            client_ref: None,
            claim: Claim::Made,
        };
        let now = Timestamp::from_micros(0);
        let life = LockLife {
            state: LockState::Held,
            created_at: now,
            expires_at: None,
            generation: 1,
            in_use: false,
            seen_at: now,
        };
        Lock::new(Arc::new(parts), life)
    }

    #[test]
    fn a_token_is_found_again_by_whoever_has_the_secret() {
        let (one, same, other) = (Mint::derive(b"secret"), Mint::derive(b"secret"), Mint::derive(b"another"));
        for ending in [Ending::Slash, Ending::Name] {
            for principal in [Some(ann()), None] {
                let (id, token) = one.make(ending, &root(), principal.as_ref());
                let lock = lock(id, root(), principal);
                assert_eq!((same.token_of(&lock), same.ending_of(id, "/docs/7")), (Some(token), ending));
                assert_eq!((other.token_of(&lock), other.ending_of(id, "/docs/7")), (None, Ending::Name));
            }
        }
        assert_eq!(one.token_of(&lock(LockId::random(), root(), None)), None, "an id from elsewhere");
        assert_ne!(Mint::random().key, Mint::random().key);
    }

    #[test]
    fn an_id_that_is_proposed_for_another_lock_shows_no_token_of_the_first() {
        let mint = Mint::random();
        let (id, token) = mint.make(Ending::Slash, &root(), Some(&ann()));
        for (root, principal) in [
            (ResourceKey::from_canonical("/docs/8"), Some(ann())),
            (root().in_namespace("b"), Some(ann())),
            (root(), Some(Principal::new("bob"))),
            (root(), None),
        ] {
            assert_ne!(mint.token_of(&lock(id, root, principal)), Some(token));
        }
        assert_eq!(mint.ending_of(id, "/docs/8"), Ending::Name);
    }

    #[test]
    fn no_two_are_the_same_and_an_id_does_not_show_its_token() {
        let mint = Mint::random();
        let made: Vec<_> = (0..1_000).map(|_| mint.make(Ending::Name, &root(), None)).collect();
        assert_eq!(made.iter().map(|(id, _)| *id).collect::<HashSet<_>>().len(), made.len());
        assert_eq!(made.iter().map(|(_, token)| *token).collect::<HashSet<_>>().len(), made.len());
        assert!(made.iter().all(|(id, token)| id.as_uuid() != token.as_uuid()));
        assert!(made.iter().all(|(_, token)| token.as_uuid().get_version_num() == 4));
    }
}
