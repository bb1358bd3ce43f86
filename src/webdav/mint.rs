//! `Mint`: ids and tokens of the layer's own, so that a holder can be shown a token that no store keeps.
//!
//! Stores keep a digest of a token, and no answer but the one to the LOCK holds it. WebDAV clients look for it again in
//! `lockdiscovery`, after a restart or on a second device. So the layer proposes both id and token: the id is a nonce and
//! its code under the layer's secret, the token another code of the id. Whoever has the secret finds the token of an id
//! again, and knows an id that it did not make; without the secret an id tells nothing.

use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::lock::{LockId, LockToken};

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

    /// The id and the token of a new lock.
    pub(super) fn make(&self, ending: Ending) -> (LockId, LockToken) {
        loop {
            let mut nonce = [0; 8];
            nonce.copy_from_slice(&Uuid::new_v4().as_bytes()[..8]);
            // Six bits of a UUID of version 4 are always the same; none of them is in its first six bytes.
            nonce[0] = (nonce[0] & !SLASH) | if ending == Ending::Slash { SLASH } else { 0 };
            let id = self.id(nonce);
            // The nil and the max UUID are no tokens: one try in 2^127.
            if let Some(token) = self.token(id) {
                return (id, token);
            }
        }
    }

    /// The token of a lock that this mint has made the id of.
    pub(super) fn token_of(&self, id: LockId) -> Option<LockToken> {
        if self.is_own(id) { self.token(id) } else { None }
    }

    /// How the URL ended that the lock with this id was taken by.
    pub(super) fn ending_of(&self, id: LockId) -> Ending {
        let slash = id.as_uuid().as_bytes()[0] & SLASH != 0;
        if slash && self.is_own(id) { Ending::Slash } else { Ending::Name }
    }

    fn is_own(&self, id: LockId) -> bool {
        let mut nonce = [0; 8];
        nonce.copy_from_slice(&id.as_uuid().as_bytes()[..8]);
        self.id(nonce) == id
    }

    fn id(&self, nonce: [u8; 8]) -> LockId {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&nonce);
        bytes[8..].copy_from_slice(&self.code(*b"id", &nonce)[..8]);
        LockId::from_uuid(Uuid::from_bytes(bytes))
    }

    fn token(&self, id: LockId) -> Option<LockToken> {
        let code = self.code(*b"to", id.as_uuid().as_bytes());
        LockToken::from_uuid(uuid::Builder::from_random_bytes(code).into_uuid()).ok()
    }

    /// A code of `data`, which is of one length for each `purpose`; key, purpose and data fit one block of the hash.
    fn code(&self, purpose: [u8; 2], data: &[u8]) -> [u8; 16] {
        let hash = Sha256::new().chain_update(self.key).chain_update(purpose).chain_update(data).finalize();
        let mut code = [0; 16];
        code.copy_from_slice(&hash[..16]);
        code
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_token_is_found_again_by_whoever_has_the_secret() {
        let (one, same, other) = (Mint::derive(b"secret"), Mint::derive(b"secret"), Mint::derive(b"another"));
        for ending in [Ending::Slash, Ending::Name] {
            let (id, token) = one.make(ending);
            assert_eq!((same.token_of(id), same.ending_of(id)), (Some(token), ending));
            assert_eq!((other.token_of(id), other.ending_of(id)), (None, Ending::Name));
        }
        assert_eq!(one.token_of(LockId::random()), None, "an id from elsewhere");
        assert_ne!(Mint::random().key, Mint::random().key);
    }

    #[test]
    fn no_two_are_the_same_and_an_id_does_not_show_its_token() {
        let mint = Mint::random();
        let made: Vec<_> = (0..1_000).map(|_| mint.make(Ending::Name)).collect();
        assert_eq!(made.iter().map(|(id, _)| *id).collect::<HashSet<_>>().len(), made.len());
        assert_eq!(made.iter().map(|(_, token)| *token).collect::<HashSet<_>>().len(), made.len());
        assert!(made.iter().all(|(id, token)| id.as_uuid() != token.as_uuid()));
        assert!(made.iter().all(|(_, token)| token.as_uuid().get_version_num() == 4));
    }
}
