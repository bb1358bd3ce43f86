//! How a lock, and what is remembered of a dead one, is written down: one text form for every engine.
//!
//! JSON, with a version, so that a store read by a later release either understands what it finds or says that it does
//! not. Only what never changes about a lock stands here; what does (state, ends, generation) each engine keeps in
//! columns or fields of its own. The token is not among them.

use std::{borrow::Cow, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{StoreError, StoreErrorKind};
use crate::lock::{Claim, LockId, LockKind, LockParts, LostCause, LostLock, Owner, Principal, ResourceKey, Timestamp};

/// The version of the text form.
const VERSION: u32 = 1;
/// The word for a lock that its principal has yet to claim.
const OPEN: &str = "open";

/// The parts of a lock as text.
pub(in crate::store) fn parts_to_json(parts: &LockParts) -> String {
    to_json(&StoredParts {
        version: VERSION,
        id: parts.id.to_string().into(),
        namespace: parts.root.namespace().map(Cow::Borrowed),
        root: parts.root.path().into(),
        scope: parts.scope.as_str().into(),
        depth: parts.depth.as_str().into(),
        kind: parts.kind.as_str().into(),
        principal: parts.principal.as_ref().map(|principal| principal.as_str().into()),
        owner_id: parts.owner.id.as_deref().map(Cow::Borrowed),
        owner_name: parts.owner.name.as_deref().map(Cow::Borrowed),
        owner_xml: parts.owner.xml.as_deref().map(Cow::Borrowed),
        reason: parts.reason.as_deref().map(Cow::Borrowed),
        client_ref: parts.client_ref.as_deref().map(Cow::Borrowed),
        claim: (parts.claim == Claim::Open).then_some(OPEN.into()),
    })
}

/// The parts of a lock from their text.
///
/// # Errors
/// [`StoreErrorKind::Incompatible`] for what this release has not written.
pub(in crate::store) fn parts_from_json(text: &str) -> Result<LockParts, StoreError> {
    let stored: StoredParts<'_> = from_json(text)?;
    readable(stored.version)?;
    let [id_text, name, xml] = [stored.owner_id, stored.owner_name, stored.owner_xml].map(|text| text.map(shared));
    Ok(LockParts {
        id: id(&stored.id)?,
        root: key(stored.namespace, &stored.root)?,
        scope: stored.scope.parse().map_err(|error| unreadable("a lock's scope", error))?,
        depth: stored.depth.parse().map_err(|error| unreadable("a lock's depth", error))?,
        kind: LockKind::from(&*stored.kind),
        principal: stored.principal.map(|name| Principal::new(&*name)),
        owner: Owner { id: id_text, name, xml },
        reason: stored.reason.map(shared),
        client_ref: stored.client_ref.map(shared),
        claim: match stored.claim.as_deref() {
            None => Claim::Made,
            Some(OPEN) => Claim::Open,
            Some(_) => return Err(StoreError::new(StoreErrorKind::Incompatible, "whether a lock was claimed")),
        },
    })
}

/// What is remembered of a dead lock, and whose it was, as text.
pub(in crate::store) fn lost_to_json(lost: &LostLock, principal: Option<&Principal>) -> String {
    to_json(&StoredLost {
        version: VERSION,
        cause: lost.cause.as_str().into(),
        id: lost.id.map(|id| id.to_string().into()),
        namespace: lost.root.as_ref().and_then(ResourceKey::namespace).map(Cow::Borrowed),
        root: lost.root.as_ref().map(|root| root.path().into()),
        at: lost.at.map(Timestamp::as_micros),
        actor: lost.actor.as_ref().map(|actor| actor.as_str().into()),
        reason: lost.reason.as_deref().map(Cow::Borrowed),
        principal: principal.map(|principal| principal.as_str().into()),
    })
}

/// What is remembered of a dead lock, and whose it was, from its text.
///
/// # Errors
/// [`StoreErrorKind::Incompatible`] for what this release has not written.
pub(in crate::store) fn lost_from_json(text: &str) -> Result<(LostLock, Option<Principal>), StoreError> {
    let stored: StoredLost<'_> = from_json(text)?;
    readable(stored.version)?;
    let mut lost = LostLock::new(cause(&stored.cause)?);
    lost.id = stored.id.map(|text| id(&text)).transpose()?;
    lost.root = stored.root.map(|root| key(stored.namespace, &root)).transpose()?;
    lost.at = stored.at.map(Timestamp::from_micros);
    lost.actor = stored.actor.map(|name| Principal::new(&*name));
    lost.reason = stored.reason.map(shared);
    Ok((lost, stored.principal.map(|name| Principal::new(&*name))))
}

/// The namespace of a key as text that holds no NUL: empty for none, else `+` and the namespace, with NUL and the
/// percent sign as `%00` and `%25`. Two namespaces have the same text only if they are the same.
pub(in crate::store) fn namespace_text<'k>(key: &'k ResourceKey<'_>) -> Cow<'k, str> {
    match key.namespace() {
        None => Cow::Borrowed(""),
        Some(namespace) => {
            let mut text = String::with_capacity(namespace.len() + 1);
            text.push('+');
            for letter in namespace.chars() {
                match letter {
                    '\0' => text.push_str("%00"),
                    '%' => text.push_str("%25"),
                    letter => text.push(letter),
                }
            }
            Cow::Owned(text)
        }
    }
}

#[derive(Serialize, Deserialize)]
struct StoredParts<'a> {
    #[serde(rename = "v")]
    version: u32,
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow, rename = "ns", skip_serializing_if = "Option::is_none", default)]
    namespace: Option<Cow<'a, str>>,
    #[serde(borrow)]
    root: Cow<'a, str>,
    #[serde(borrow)]
    scope: Cow<'a, str>,
    #[serde(borrow)]
    depth: Cow<'a, str>,
    #[serde(borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow, skip_serializing_if = "Option::is_none", default)]
    principal: Option<Cow<'a, str>>,
    #[serde(borrow, skip_serializing_if = "Option::is_none", default)]
    owner_id: Option<Cow<'a, str>>,
    #[serde(borrow, skip_serializing_if = "Option::is_none", default)]
    owner_name: Option<Cow<'a, str>>,
    #[serde(borrow, skip_serializing_if = "Option::is_none", default)]
    owner_xml: Option<Cow<'a, str>>,
    #[serde(borrow, skip_serializing_if = "Option::is_none", default)]
    reason: Option<Cow<'a, str>>,
    #[serde(borrow, skip_serializing_if = "Option::is_none", default)]
    client_ref: Option<Cow<'a, str>>,
    /// Absent where it was claimed, as in what earlier releases wrote.
    #[serde(borrow, skip_serializing_if = "Option::is_none", default)]
    claim: Option<Cow<'a, str>>,
}

#[derive(Serialize, Deserialize)]
struct StoredLost<'a> {
    #[serde(rename = "v")]
    version: u32,
    #[serde(borrow)]
    cause: Cow<'a, str>,
    #[serde(borrow, skip_serializing_if = "Option::is_none", default)]
    id: Option<Cow<'a, str>>,
    #[serde(borrow, rename = "ns", skip_serializing_if = "Option::is_none", default)]
    namespace: Option<Cow<'a, str>>,
    #[serde(borrow, skip_serializing_if = "Option::is_none", default)]
    root: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    at: Option<u64>,
    #[serde(borrow, skip_serializing_if = "Option::is_none", default)]
    actor: Option<Cow<'a, str>>,
    #[serde(borrow, skip_serializing_if = "Option::is_none", default)]
    reason: Option<Cow<'a, str>>,
    #[serde(borrow, skip_serializing_if = "Option::is_none", default)]
    principal: Option<Cow<'a, str>>,
}

fn to_json<T: Serialize>(stored: &T) -> String {
    // Strings and numbers under fixed names: nothing in them can fail.
    serde_json::to_string(stored).unwrap_or_default()
}

fn from_json<'t, T: Deserialize<'t>>(text: &'t str) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(|error| unreadable("a lock's text", error))
}

fn readable(version: u32) -> Result<(), StoreError> {
    if version == VERSION {
        return Ok(());
    }
    let what = format!("a lock was written in form {version}, this release reads {VERSION}");
    Err(StoreError::new(StoreErrorKind::Incompatible, what))
}

fn unreadable(what: &'static str, error: impl std::error::Error + Send + Sync + 'static) -> StoreError {
    StoreError::new(StoreErrorKind::Incompatible, what).caused_by(error)
}

fn id(text: &str) -> Result<LockId, StoreError> {
    text.parse().map_err(|error| unreadable("a lock's id", error))
}

fn key(namespace: Option<Cow<'_, str>>, path: &str) -> Result<ResourceKey<'static>, StoreError> {
    if !path.starts_with('/') {
        return Err(StoreError::new(StoreErrorKind::Incompatible, "a lock's root does not start with a slash"));
    }
    let key = ResourceKey::from_canonical(path.to_owned());
    Ok(match namespace {
        Some(namespace) => key.in_namespace(namespace.into_owned()),
        None => key,
    })
}

fn cause(word: &str) -> Result<LostCause, StoreError> {
    use LostCause::{Broken, Expired, OutOfScope, Released, Replaced, ResourceGone, Unknown};
    [Expired, Released, Broken, Replaced, ResourceGone, OutOfScope, Unknown]
        .into_iter()
        .find(|cause| cause.as_str() == word)
        .ok_or_else(|| StoreError::new(StoreErrorKind::Incompatible, "the cause of a lock's end"))
}

#[expect(clippy::needless_pass_by_value, reason = "reads as a function to map with")]
fn shared(text: Cow<'_, str>) -> Arc<str> {
    Arc::from(&*text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lock::{Depth, LockScope};

    fn parts() -> LockParts {
        LockParts {
            id: LockId::random(),
            root: ResourceKey::from_canonical("/a \"b\"/%00/ü\n*").in_namespace("tenant\0%"),
            scope: LockScope::Shared,
            depth: Depth::Zero,
            kind: LockKind::Other("audit".into()),
            principal: Some(Principal::new("ann\0")),
            owner: Owner::id("u-17").named("Legal \\ desk").xml("<D:href>x</D:href>"),
            reason: Some("nightly\u{0}export".into()),
            client_ref: Some("{\"json\":1}".into()),
            claim: Claim::Open,
        }
    }

    #[test]
    fn a_lock_reads_back_as_it_was() {
        let bare = LockParts {
            root: ResourceKey::from_canonical("/"),
            scope: LockScope::Exclusive,
            depth: Depth::Infinity,
            kind: LockKind::Freeze,
            principal: None,
            owner: Owner::default(),
            reason: None,
            client_ref: None,
            claim: Claim::Made,
            ..parts()
        };
        for parts in [parts(), bare] {
            assert_eq!(parts_from_json(&parts_to_json(&parts)).unwrap(), parts);
        }
    }

    #[test]
    fn what_is_remembered_reads_back_as_it_was() {
        let full = LostLock {
            id: Some(LockId::random()),
            root: Some(ResourceKey::from_canonical("/a/ü").in_namespace("")),
            at: Some(Timestamp::from_micros(1_767_225_600_000_001)),
            actor: Some(Principal::new("admin")),
            reason: Some("because".into()),
            ..LostLock::new(LostCause::Broken)
        };
        for (lost, principal) in [(full, Some(Principal::new("ann"))), (LostLock::new(LostCause::Unknown), None)] {
            assert_eq!(lost_from_json(&lost_to_json(&lost, principal.as_ref())).unwrap(), (lost, principal));
        }
    }

    #[test]
    fn what_we_did_not_write_is_incompatible() {
        let good = parts_to_json(&parts());
        for text in [
            "",
            "null",
            "[]",
            "{}",
            "{\"v\":1}",
            &good[..good.len() - 1],
            &good.replace("\"v\":1", "\"v\":2"),
            &good.replace("shared", "half"),
            &good.replace("\"claim\":\"open\"", "\"claim\":\"ajar\""),
            &good.replace("\"/a", "\"a"),
        ] {
            assert_eq!(parts_from_json(text).unwrap_err().kind(), StoreErrorKind::Incompatible, "{text}");
        }
    }

    #[test]
    fn namespaces_are_told_apart_in_text() {
        let texts: Vec<String> = [None, Some(""), Some("\0"), Some("%00"), Some("%2500"), Some("+"), Some("a")]
            .into_iter()
            .map(|namespace| {
                let key = ResourceKey::from_canonical("/");
                let key = namespace.map_or(key.clone(), |namespace| key.in_namespace(namespace));
                namespace_text(&key).into_owned()
            })
            .collect();
        let distinct: std::collections::HashSet<&String> = texts.iter().collect();
        assert_eq!(distinct.len(), texts.len(), "{texts:?}");
        assert!(texts.iter().all(|text| !text.contains('\0')));
    }
}
