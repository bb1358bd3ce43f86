//! What a store's keys are called, and how a [`ResourceKey`] is written in them.
//!
//! ```text
//! tower-lock:{namespace}:locks    hash   hash of a root -> the locks and marks rooted there; also `schema`, `generation`
//!                       :ids      hash   id -> hash of its root
//!                       :tokens   hash   digest of a token -> hash of the root, id
//!                       :exclusive, :shared   sorted sets: root, NUL, id; what is below a resource
//!                       :owners   sorted set: principal, NUL, root, NUL, id
//!                       :ends     sorted set: id by when it ends
//!                       :dead, :dead-ids, :dead-queue   what is remembered of locks that have ended
//!                       :cooling  sorted set: where no acquire may wait, by until when
//!                       :writes   hash   name of a write in flight -> what it changes, which locks it pins
//!                       :leases   sorted set: name by when its lease runs out
//!                       :points, :trees       sorted sets: what writes in flight change, NUL, name
//! ```
//!
//! A fixed number of keys, whatever is locked: every script declares all of them, and the braces put them into one slot
//! of a cluster. None has a time to live, so that no policy of eviction but `allkeys-*` takes a lock away.

use std::{borrow::Cow, fmt::Write as _};

use crate::lock::{Principal, ResourceKey};

/// The keys in the order in which scripts know them.
const NAMES: [&str; 15] = [
    "locks",
    "ids",
    "tokens",
    "exclusive",
    "shared",
    "owners",
    "ends",
    "dead",
    "dead-ids",
    "dead-queue",
    "cooling",
    "writes",
    "leases",
    "points",
    "trees",
];

/// The names of a store's keys.
#[derive(Debug)]
pub(super) struct Keys {
    pub(super) all: [String; NAMES.len()],
    /// The channel on which events are published.
    pub(super) channel: String,
}

impl Keys {
    /// The keys of `namespace`. Braces in it are escaped: what stands in the first pair decides the slot.
    pub(super) fn of(namespace: &str) -> Self {
        let mut tag = String::with_capacity(namespace.len());
        for letter in namespace.chars() {
            match letter {
                '{' | '}' | '%' => {
                    let _ = write!(tag, "%{:02X}", u32::from(letter));
                }
                letter => tag.push(letter),
            }
        }
        // An empty pair of braces would be no hash tag.
        if tag.is_empty() {
            tag.push_str("%00");
        }
        let name = |name: &str| format!("tower-lock:{{{tag}}}:{name}");
        Self { all: NAMES.map(name), channel: name("events") }
    }

    /// The hash of all locks.
    pub(super) fn locks(&self) -> &str {
        &self.all[0]
    }
}

/// A resource as scripts know it: its namespace, NUL, its path, the path of the root empty. So what is below a resource
/// starts with it and a slash, the root being no exception, and the order of bytes is that of paths.
pub(super) fn key_text(key: &ResourceKey<'_>) -> Vec<u8> {
    place_text(key.namespace(), key.path())
}

/// The same of a path in a namespace.
pub(super) fn place_text(namespace: Option<&str>, path: &str) -> Vec<u8> {
    let mut text = Vec::with_capacity(path.len() + namespace.map_or(0, str::len) + 2);
    if let Some(namespace) = namespace {
        text.push(b'+');
        escape(&mut text, namespace);
    }
    text.push(0);
    if path != "/" {
        escape(&mut text, path);
    }
    text
}

/// Reads [`key_text`] back.
pub(super) fn key_from_text(text: &[u8]) -> Option<ResourceKey<'static>> {
    let nul = text.iter().position(|byte| *byte == 0)?;
    let (namespace, path) = (&text[..nul], unescape(&text[nul + 1..])?);
    let key = ResourceKey::from_canonical(if path.is_empty() { Cow::Borrowed("/") } else { Cow::Owned(path) });
    match namespace.split_first() {
        None => Some(key),
        Some((b'+', namespace)) => Some(key.in_namespace(unescape(namespace)?)),
        Some(_) => None,
    }
}

/// A principal as scripts know it: empty for the anonymous caller.
pub(super) fn principal_text(principal: Option<&Principal>) -> Vec<u8> {
    let mut text = Vec::new();
    if let Some(principal) = principal {
        text.push(b'+');
        escape(&mut text, principal.as_str());
    }
    text
}

/// Reads [`principal_text`] back.
pub(super) fn principal_from_text(text: &[u8]) -> Option<Option<Principal>> {
    match text.split_first() {
        None => Some(None),
        Some((b'+', name)) => Some(Some(Principal::new(unescape(name)?))),
        Some(_) => None,
    }
}

/// NUL separates, so it stands as two bytes, and the one that marks these too. The order of texts stays what it was.
fn escape(into: &mut Vec<u8>, text: &str) {
    if !text.bytes().any(|byte| byte < 2) {
        into.extend_from_slice(text.as_bytes());
        return;
    }
    for byte in text.bytes() {
        match byte {
            0 | 1 => into.extend_from_slice(&[1, byte + 1]),
            byte => into.push(byte),
        }
    }
}

fn unescape(text: &[u8]) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.iter();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            0 => return None,
            1 => rest.next().filter(|byte| matches!(byte, 1 | 2))? - 1,
            byte => *byte,
        });
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATHS: [&str; 12] =
        ["/", "/a", "/a/b", "/a-b", "/a0", "/a!", "/a\0", "/a\0/b", "/a\u{1}", "/a\u{1}\u{1}", "/a/\0", "/ab"];

    #[test]
    fn a_key_reads_back_as_it_was() {
        for path in PATHS {
            for namespace in [None, Some(""), Some("a"), Some("a\0b"), Some("\u{1}"), Some("+"), Some("a/b")] {
                let key = ResourceKey::from_canonical(path);
                let key = namespace.map_or(key.clone(), |namespace| key.in_namespace(namespace));
                let text = key_text(&key);
                assert_eq!(key_from_text(&text).as_ref(), Some(&key), "{key:?}");
                assert_eq!(text.iter().filter(|byte| **byte == 0).count(), 1, "one NUL, between namespace and path");
            }
        }
    }

    #[test]
    fn below_is_a_prefix_and_the_order_is_that_of_paths() {
        for one in PATHS {
            for other in PATHS {
                let (a, b) = (ResourceKey::from_canonical(one), ResourceKey::from_canonical(other));
                let mut prefix = key_text(&b);
                prefix.push(b'/');
                assert_eq!(key_text(&a).starts_with(&prefix), a.is_below(&b), "{one:?} below {other:?}");
                assert_eq!(key_text(&a).cmp(&key_text(&b)), one.cmp(other), "{one:?} and {other:?}");
            }
        }
    }

    #[test]
    fn whatever_the_namespace_all_keys_have_one_tag() {
        let tag = |key: &str| {
            let (_, rest) = key.split_once('{').unwrap();
            rest.split_once('}').unwrap().0.to_owned()
        };
        let mut tags = std::collections::HashSet::new();
        for namespace in ["", "app", "a}b", "{", "}{", "%7D", "a b", "ä"] {
            let keys = Keys::of(namespace);
            let own: std::collections::HashSet<String> =
                keys.all.iter().chain([&keys.channel]).map(|key| tag(key)).collect();
            assert_eq!(own.len(), 1, "{namespace:?}");
            assert!(own.iter().all(|tag| !tag.is_empty()), "an empty tag is none");
            tags.extend(own);
        }
        assert_eq!(tags.len(), 8, "no two namespaces share their keys");
    }

    #[test]
    fn a_principal_reads_back_as_it_was() {
        for principal in [None, Some(""), Some("ann"), Some("a\0\u{1}b")] {
            let principal = principal.map(Principal::new);
            let text = principal_text(principal.as_ref());
            assert_eq!(principal_from_text(&text), Some(principal));
            assert!(!text.contains(&0));
        }
    }
}
