//! Random bytes, straight from the operating system.

use uuid::{Builder, Uuid};

/// So many bytes. One request, which costs far more than the bytes do.
///
/// # Panics
/// When the operating system has no randomness to give.
pub(super) fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the operating system gives random bytes");
    bytes
}

/// A random UUID (version 4) of such bytes.
pub(super) fn uuid(bytes: [u8; 16]) -> Uuid {
    Builder::from_random_bytes(bytes).into_uuid()
}

/// Two of them by one request. Neither tells anything of the other.
pub(super) fn two_uuids() -> [Uuid; 2] {
    let mut halves = [[0; 16]; 2];
    halves.as_flattened_mut().copy_from_slice(&bytes::<32>());
    halves.map(uuid)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use uuid::Variant;

    use super::*;

    #[test]
    fn no_two_are_the_same_and_all_are_random_uuids() {
        let mut seen = HashSet::new();
        for _ in 0..1_000 {
            let all = [uuid(bytes()), two_uuids()[0], two_uuids()[1]];
            for uuid in all.into_iter().chain(two_uuids()) {
                assert_eq!((uuid.get_version_num(), uuid.get_variant()), (4, Variant::RFC4122));
                assert!(seen.insert(uuid));
            }
        }
        // Every bit that may vary does.
        let (all, none) =
            seen.iter().fold((u128::MAX, 0), |(all, none), uuid| (all & uuid.as_u128(), none | uuid.as_u128()));
        assert_eq!((all.count_ones(), none.count_zeros()), (2, 4), "only version and variant stand");
    }
}
