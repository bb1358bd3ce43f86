//! `LockToken`, the secret of a lock, and the keyed digest that is all a store keeps of it.

use std::{fmt, str::FromStr};

use sha2::{Digest, Sha256, block_api::compress256};
use uuid::Uuid;

use super::{LockId, random};

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
        Self(random::uuid(random::bytes()))
    }

    /// A fresh token and a fresh id for a lock. The operating system is asked once for both, and its answer takes most of the
    /// time that making them does. Neither tells anything of the other.
    #[must_use]
    pub fn random_with_id() -> (Self, LockId) {
        let [token, id] = random::two_uuids();
        (Self(token), LockId::from_uuid(id))
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
        Self::from_uuid(uuid.try_into().ok().and_then(hyphenated).ok_or(TokenError::Malformed)?)
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

/// The UUID of `xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx`, the digits in either case, eight of them at once. That is the one form of
/// a UUID that its URN has, and each write of a holder's has one to read.
fn hyphenated(text: &[u8; 36]) -> Option<Uuid> {
    let hyphens = [8, 13, 18, 23].map(|at| text[at]) == [b'-'; 4];
    let four = |at: usize| u64::from(u32::from_be_bytes([text[at], text[at + 1], text[at + 2], text[at + 3]]));
    let eight = |one, other| digits(four(one) << 32 | four(other));
    let ((a, wrong_a), (b, wrong_b)) = (eight(0, 4), eight(9, 14));
    let ((c, wrong_c), (d, wrong_d)) = (eight(19, 24), eight(28, 32));
    let right = hyphens && wrong_a | wrong_b | wrong_c | wrong_d == 0;
    right.then(|| Uuid::from_u64_pair(u64::from(a) << 32 | u64::from(b), u64::from(c) << 32 | u64::from(d)))
}

/// The number that eight hexadecimal digits are, of which the first is in the high byte; and 0, unless one of them is none.
#[inline(always)]
const fn digits(text: u64) -> (u32, u64) {
    const EACH: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = EACH << 7;
    // A byte whose high bit is set is none. Of the others no sum carries into the next.
    let low = text & !HIGH;
    let lower = low | (EACH * 0x20);
    // The high bit of each byte that is not below the one that is taken off.
    let digit = (low + EACH * (0x80 - b'0' as u64)) & !(low + EACH * (0x80 - b'9' as u64 - 1)) & HIGH;
    let letter = (lower + EACH * (0x80 - b'a' as u64)) & !(lower + EACH * (0x80 - b'f' as u64 - 1)) & HIGH;
    let wrong = ((digit | letter) ^ HIGH) | (text & HIGH);
    let halves = (low & (EACH * 0x0f)) + (letter >> 7) * 9;
    let bytes = (halves | halves >> 4) & 0x00ff_00ff_00ff_00ff;
    let pairs = (bytes | bytes >> 8) & 0x0000_ffff_0000_ffff;
    #[expect(clippy::cast_possible_truncation, reason = "the low half is all of it")]
    let number = (pairs | pairs >> 16) as u32;
    (number, wrong)
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
        Self(random::bytes())
    }

    /// The key that every node derives from the same configured secret.
    #[must_use]
    pub fn derive(secret: &[u8]) -> Self {
        Self(first_half(Sha256::new().chain_update(b"tower-lock token key").chain_update(secret)))
    }

    /// What to keep and to look up instead of `token`. Key and token fit one block of the hash.
    #[must_use]
    pub fn digest(&self, token: &LockToken) -> TokenDigest {
        let mut block = [0; 64];
        block[..16].copy_from_slice(&self.0);
        block[16..32].copy_from_slice(token.0.as_bytes());
        block[32..].copy_from_slice(&PADDING);
        let mut state = START;
        compress256(&mut state, &[block]);
        let mut half = [0; 16];
        for (bytes, word) in half.as_chunks_mut().0.iter_mut().zip(state) {
            *bytes = word.to_be_bytes();
        }
        TokenDigest(half)
    }
}

/// What follows a message of 32 bytes (FIPS 180-4 section 5.1.1): a bit, and its length in bits.
const PADDING: [u8; 32] = {
    let mut padding = [0; 32];
    padding[0] = 0x80;
    padding[30] = 1;
    padding
};

/// What SHA-256 starts with (FIPS 180-4 section 5.3.3): each holder's write digests one block, which the hash itself would
/// copy to and fro.
const START: [u32; 8] =
    [0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a, 0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19];

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
    fn the_digits_of_a_token_are_read_as_those_of_any_uuid() {
        let text = b"f81d4fae-7dec-11d0-A765-00a0c91e6bF6";
        for at in 0..text.len() {
            for byte in 0..=u8::MAX {
                let mut text = *text;
                text[at] = byte;
                assert_eq!(hyphenated(&text), Uuid::try_parse_ascii(&text).ok(), "{byte:#x} at {at}");
            }
        }
        let mut random = 1_u128;
        for _ in 0..1_000 {
            random = random.wrapping_mul(0x2360_ed05_1fc6_5da4_4385_df64_9fcc_f645).wrapping_add(1);
            let uuid = Uuid::from_u128(random);
            for text in [uuid.to_string(), uuid.to_string().to_uppercase()] {
                assert_eq!(hyphenated(text.as_bytes().try_into().unwrap()), Some(uuid));
            }
        }
    }

    #[test]
    fn a_digest_is_half_of_the_hash_of_key_and_token() {
        for _ in 0..100 {
            let (key, token) = (TokenKey::random(), LockToken::random());
            let hash = Sha256::new().chain_update(key.0).chain_update(token.0.as_bytes());
            assert_eq!(key.digest(&token).0, first_half(hash));
        }
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
