//! `Index`: whom an event concerns, without asking everybody: watchers by what they watch.
//!
//! A lock concerns those who watch its root or, where it reaches that far, something below; those who watch all at or
//! below its root or a collection above; and those who watch it by its id. Finding them costs one look for each segment of
//! the root, and one step for each that is found.

use std::{
    collections::{BTreeMap, HashMap},
    ops::Bound,
    sync::Arc,
};

use crate::{
    lock::{Depth, Lock, LockId, parent},
    store::Select,
};

/// What somebody watches. Those who watch the same share its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Watched {
    Covering(Place),
    AtOrBelow(Place),
    Id(LockId),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    namespace: Option<Arc<str>>,
    path: Arc<str>,
}

/// Watchers by their numbers. Each knows where it stands among those who watch the same.
#[derive(Debug, Default)]
pub(super) struct Index {
    unnamed: Realm,
    named: HashMap<Arc<str>, Realm>,
    ids: HashMap<LockId, Vec<u32>>,
}

/// The places of one namespace.
#[derive(Debug, Default)]
struct Realm {
    /// In the order of paths: what lies below a path stands together.
    covering: BTreeMap<Arc<str>, Vec<u32>>,
    at_or_below: HashMap<Arc<str>, Vec<u32>>,
}

#[cfg(test)]
impl Watched {
    pub(super) fn text(&self) -> &str {
        match self {
            Self::Covering(place) | Self::AtOrBelow(place) => &place.path,
            Self::Id(_) => "",
        }
    }
}

#[cfg(test)]
impl Index {
    pub(super) fn is_empty(&self) -> bool {
        self.unnamed.is_empty() && self.named.is_empty() && self.ids.is_empty()
    }
}

impl Realm {
    fn is_empty(&self) -> bool {
        self.covering.is_empty() && self.at_or_below.is_empty()
    }
}

impl Index {
    /// What `select` names, in texts that are here already where there are such.
    pub(super) fn watched(&self, select: &Select<'_>) -> Watched {
        let (key, covering) = match select {
            Select::Covering(key) => (key, true),
            Select::AtOrBelow(key) => (key, false),
            Select::Id(id) => return Watched::Id(*id),
        };
        let realm = self.realm(key.namespace());
        let known = realm.and_then(|realm| {
            let one = realm.covering.get_key_value(key.path()).map(|(path, _)| path);
            one.or_else(|| realm.at_or_below.get_key_value(key.path()).map(|(path, _)| path))
        });
        let namespace = key.namespace().map(|name| {
            let known = self.named.get_key_value(name).map(|(name, _)| name.clone());
            known.unwrap_or_else(|| name.into())
        });
        let place = Place { namespace, path: known.cloned().unwrap_or_else(|| key.path().into()) };
        if covering { Watched::Covering(place) } else { Watched::AtOrBelow(place) }
    }

    /// Enters a watcher, and says where it stands among those who watch the same.
    pub(super) fn enter(&mut self, watched: &Watched, watcher: u32) -> u32 {
        let same = match watched {
            Watched::Covering(place) => self.realm_of(place).covering.entry(place.path.clone()).or_default(),
            Watched::AtOrBelow(place) => self.realm_of(place).at_or_below.entry(place.path.clone()).or_default(),
            Watched::Id(id) => self.ids.entry(*id).or_default(),
        };
        same.push(watcher);
        u32::try_from(same.len() - 1).unwrap_or(u32::MAX)
    }

    /// Takes the watcher away that stands at `at`, and says who stands there now, if anybody does.
    pub(super) fn leave(&mut self, watched: &Watched, at: u32) -> Option<u32> {
        match watched {
            Watched::Id(id) => {
                let (moved, empty) = take(self.ids.get_mut(id)?, at);
                if empty {
                    self.ids.remove(id);
                }
                moved
            }
            Watched::Covering(place) | Watched::AtOrBelow(place) => {
                let realm = self.realm_of(place);
                let path = &*place.path;
                let moved = if matches!(watched, Watched::Covering(_)) {
                    let (moved, empty) = take(realm.covering.get_mut(path)?, at);
                    if empty {
                        realm.covering.remove(path);
                    }
                    moved
                } else {
                    let (moved, empty) = take(realm.at_or_below.get_mut(path)?, at);
                    if empty {
                        realm.at_or_below.remove(path);
                    }
                    moved
                };
                if realm.is_empty()
                    && let Some(name) = &place.namespace
                {
                    self.named.remove(name);
                }
                moved
            }
        }
    }

    /// Calls `each` with everybody whom something that happens to `lock` concerns.
    pub(super) fn concerned(&self, lock: &Lock, mut each: impl FnMut(u32)) {
        let mut all = |same: Option<&Vec<u32>>| same.into_iter().flatten().for_each(|watcher| each(*watcher));
        all(self.ids.get(&lock.id()));
        let Some(realm) = self.realm(lock.root().namespace()) else { return };
        let root = lock.root().path();
        if !realm.covering.is_empty() {
            all(realm.covering.get(root));
            if lock.depth() == Depth::Infinity {
                let below = if root == "/" { root.to_owned() } else { format!("{root}/") };
                // For the root itself the bound is its own path, which was had above.
                let from = if root == "/" { Bound::Excluded(&*below) } else { Bound::Included(&*below) };
                let further = realm.covering.range::<str, _>((from, Bound::Unbounded));
                further.take_while(|(path, _)| path.starts_with(&below)).for_each(|(_, same)| all(Some(same)));
            }
        }
        if !realm.at_or_below.is_empty() {
            let mut above = Some(root);
            while let Some(path) = above {
                all(realm.at_or_below.get(path));
                above = parent(path);
            }
        }
    }

    fn realm(&self, namespace: Option<&str>) -> Option<&Realm> {
        match namespace {
            None => Some(&self.unnamed),
            Some(name) => self.named.get(name),
        }
    }

    fn realm_of(&mut self, place: &Place) -> &mut Realm {
        match &place.namespace {
            None => &mut self.unnamed,
            Some(name) => self.named.entry(name.clone()).or_default(),
        }
    }
}

/// Who stands at `at` after the one there has gone, and whether nobody is left.
fn take(same: &mut Vec<u32>, at: u32) -> (Option<u32>, bool) {
    let at = at as usize;
    if at < same.len() {
        same.swap_remove(at);
    }
    // Many may have watched the same once.
    if same.capacity() > 64 && same.len() < same.capacity() / 4 {
        same.shrink_to(same.len() * 2);
    }
    (same.get(at).copied(), same.is_empty())
}
