//! `LockToken`, the secret of a lock, and the keyed digest that is all a store keeps of it.

use std::{fmt, str::FromStr};

use sha2::{Digest, Sha256};
use uuid::Uuid;

/// The secret that answers for a lock: a UUID, written as `urn:uuid:…` (RFC 4918 section 6.5).
///
/// A token that the crate makes has 122 bits from the operating system's randomness. A caller may propose one, so that
/// an acquire whose answer was lost can be repeated; its randomness is then the caller's. Stores keep a
/// [`TokenDigest`], and no answer but the one to `acquire` ever holds a token.
///
/// `Debug` does not show it; [`LockToken::urn`] does, and is meant for the one header and body that must.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct LockToken(Uuid);

/// Why a text is no lock token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TokenError {
    /// It is not `urn:uuid:` followed by a hyphenated UUID.
    Malformed,
    /// It is the nil or the max UUID, which anybody can guess.
    Guessable,
}

impl LockToken {
    /// A fresh token from the operating system's randomness.
    #[must_use]
    pub fn random() -> Self {
        Self(Uuid::new_v4())
    }

    /// A token from a UUID of the caller's own; its randomness is then the caller's.
    ///
    /// # Errors
    /// [`TokenError::Guessable`] for the nil and the max UUID.
    pub fn from_uuid(uuid: Uuid) -> Result<Self, TokenError> {
        if uuid.is_nil() || uuid.is_max() { Err(TokenError::Guessable) } else { Ok(Self(uuid)) }
    }

    /// The token that always comes of the same `parts`, each of them whole: for protocols whose clients make up a lock string
    /// of their own (Terraform's `ID`, `X-WOPI-Lock`, a lease id) and know no other. It is exactly as secret as its parts,
    /// so with a string that the protocol shows to everybody it proves nothing: see [`HolderProof::Token`](super::HolderProof::Token).
    ///
    /// A token is used once. Where clients use a string again, let the id of the lock or a nonce be one of the parts.
    ///
    /// ```
    /// use tower_lock::LockToken;
    ///
    /// assert_eq!(LockToken::derive(&["/state/demo", "205ccf07"]), LockToken::derive(&["/state/demo", "205ccf07"]));
    /// assert_ne!(LockToken::derive(&["ab", "c"]), LockToken::derive(&["a", "bc"]));
    /// ```
    #[must_use]
    pub fn derive(parts: &[&str]) -> Self {
        let mut hash = Sha256::new().chain_update(b"tower-lock token");
        for part in parts {
            hash = hash.chain_update((part.len() as u64).to_be_bytes()).chain_update(part);
        }
        // The version bits are set (RFC 9562 section 5.8), so it is neither nil nor max.
        Self(uuid::Builder::from_custom_bytes(first_half(hash)).into_uuid())
    }

    /// The token that `urn:uuid:…` names, the scheme and the digits in either case; none of any other text.
    pub(crate) fn of_urn(text: &[u8]) -> Option<Self> {
        Self::read(text).ok()
    }

    fn read(text: &[u8]) -> Result<Self, TokenError> {
        const SCHEME: &[u8; 9] = b"urn:uuid:";
        let uuid = match text.split_first_chunk() {
            Some((scheme, uuid)) if scheme == SCHEME || scheme.eq_ignore_ascii_case(SCHEME) => uuid,
            _ => return Err(TokenError::Malformed),
        };
        // The parser also reads the simple and the braced form, which are no URIs.
        if uuid.len() != 36 {
            return Err(TokenError::Malformed);
        }
        Self::from_uuid(Uuid::try_parse_ascii(uuid).map_err(|_| TokenError::Malformed)?)
    }

    /// The UUID itself. It is as secret as the token.
    #[must_use]
    pub const fn as_uuid(&self) -> Uuid {
        self.0
    }

    /// The token in clear, `urn:uuid:…`. Whoever reads this holds the lock.
    pub fn urn(&self) -> impl fmt::Display + use<> {
        self.0.urn()
    }
}

impl FromStr for LockToken {
    type Err = TokenError;

    /// Reads `urn:uuid:…`, the scheme and the digits in either case (RFC 9562 section 4).
    fn from_str(text: &str) -> Result<Self, TokenError> {
        Self::read(text.as_bytes())
    }
}

impl fmt::Debug for LockToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LockToken(…)")
    }
}

impl fmt::Display for TokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "a lock token is `urn:uuid:` followed by a UUID",
            Self::Guessable => "the nil and the max UUID are no lock tokens",
        })
    }
}

impl std::error::Error for TokenError {}

/// What a store keeps of a [`LockToken`]: 128 bits of a keyed SHA-256, useless to whoever steals them, and without a
/// timing that tells how much of a guess was right.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TokenDigest([u8; 16]);

/// The key of a store's [`TokenDigest`]s. All nodes of one store must use the same.
#[derive(Clone)]
pub struct TokenKey([u8; 16]);

impl TokenKey {
    /// A key from the operating system's randomness, for a store that lives in one process.
    #[must_use]
    pub fn random() -> Self {
        Self(Uuid::new_v4().into_bytes())
    }

    /// The key that every node derives from the same configured secret.
    #[must_use]
    pub fn derive(secret: &[u8]) -> Self {
        Self(first_half(Sha256::new().chain_update(b"tower-lock token key").chain_update(secret)))
    }

    /// What to keep and to look up instead of `token`. Key and token fit one block of the hash.
    #[must_use]
    pub fn digest(&self, token: &LockToken) -> TokenDigest {
        TokenDigest(first_half(Sha256::new().chain_update(self.0).chain_update(token.0.as_bytes())))
    }
}

fn first_half(hash: Sha256) -> [u8; 16] {
    let mut half = [0; 16];
    half.copy_from_slice(&hash.finalize()[..16]);
    half
}

impl TokenDigest {
    /// The bytes, as a store may write them down.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// A number that tables of digests go by: a keyed hash already.
    pub(crate) fn hash(&self) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        u64::from_le_bytes([a, b, c, d, e, f, g, h])
    }

    /// A digest read back from where a store wrote it.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }
}

impl fmt::Debug for TokenDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenDigest(…)")
    }
}

impl fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenKey(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const URN: &str = "urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6";

    #[test]
    fn a_token_reads_back_from_its_urn_in_either_case() {
        let token: LockToken = URN.parse().unwrap();
        assert_eq!(token.urn().to_string(), URN);
        assert_eq!(URN.to_uppercase().parse(), Ok(token));
    }

    #[test]
    fn tokens_of_other_parts_are_others() {
        let parts: [&[&str]; 9] =
            [&[], &[""], &["", ""], &["ab"], &["a", "b"], &["b", "a"], &["ab", ""], &["", "ab"], &["a\0\0\0\0\0\0\0\u{1}b"]];
        let tokens: std::collections::HashSet<_> = parts.into_iter().map(LockToken::derive).collect();
        assert_eq!(tokens.len(), parts.len());
        assert_eq!(LockToken::derive(&["a", "b"]), LockToken::derive(&["a", "b"]));
        assert_eq!(LockToken::derive(&[]).as_uuid().get_version_num(), 8);
    }

    #[test]
    fn what_is_no_token() {
        for text in [
            "",
            "urn:uuid:",
            "f81d4fae-7dec-11d0-a765-00a0c91e6bf6",
            "urn:uuid:f81d4fae7dec11d0a76500a0c91e6bf6",
            "opaquelocktoken:foobar",
        ] {
            assert_eq!(text.parse::<LockToken>(), Err(TokenError::Malformed), "{text}");
        }
        for text in ["urn:uuid:00000000-0000-0000-0000-000000000000", "urn:uuid:ffffffff-ffff-ffff-ffff-ffffffffffff"] {
            assert_eq!(text.parse::<LockToken>(), Err(TokenError::Guessable), "{text}");
        }
    }

    #[test]
    fn debug_shows_no_secret() {
        let (token, key) = (LockToken::random(), TokenKey::random());
        assert_eq!(format!("{token:?} {:?} {key:?}", key.digest(&token)), "LockToken(…) TokenDigest(…) TokenKey(…)");
    }

    #[test]
    fn digests_depend_on_the_key() {
        let token = LockToken::random();
        assert_eq!(TokenKey::derive(b"k").digest(&token), TokenKey::derive(b"k").digest(&token));
        assert_ne!(TokenKey::derive(b"k").digest(&token), TokenKey::derive(b"l").digest(&token));
    }
}
