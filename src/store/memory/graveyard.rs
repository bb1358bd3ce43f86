//! The dead locks that are remembered, so that a lock which was lost is told apart from one that never was (G8).
//!
//! They go in the order in which they came, so what they have of text stands one after the other in a ring: to forget the
//! oldest, as every release does once there are enough, frees nothing and touches no memory that has grown cold.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use super::{index::Index, record::Ends, table::IdKey};
use crate::lock::{LockId, LockParts, LostCause, LostLock, Principal, ResourceKey, Timestamp, TokenDigest};

/// How many dead locks are remembered, and for how long.
#[derive(Clone, Copy, Debug)]
pub(super) struct Memory {
    pub(super) most: usize,
    pub(super) span: Duration,
}

impl Default for Memory {
    fn default() -> Self {
        Self { most: 100_000, span: Duration::from_secs(3_600) }
    }
}

/// One that is remembered.
#[derive(Clone, Debug)]
pub(super) struct Grave {
    /// Larger than that of every grave before it; names its entry in a file.
    pub(super) key: u64,
    pub(super) digest: TokenDigest,
    /// Whose it was, who alone is told.
    pub(super) principal: Option<Principal>,
    pub(super) buried_at: Timestamp,
    pub(super) lost: LostLock,
}

#[derive(Debug)]
pub(super) struct Graveyard {
    memory: Memory,
    /// Oldest first.
    dead: VecDeque<Dead>,
    /// Namespaces and paths of their roots, one after the other.
    text: VecDeque<u8>,
    /// Where in all text there ever was the oldest's begins.
    text_first: u64,
    /// The number of the oldest; each later one has the next. They start anew when they are used up.
    first: u32,
    by_digest: Index,
    by_id: Index,
    id_key: IdKey,
    /// The key of the next grave.
    next_key: u64,
    /// The keys of those that were forgotten, where somebody wants to know.
    forgotten: Option<Vec<u64>>,
}

/// A grave as it is kept.
#[derive(Debug)]
struct Dead {
    key: u64,
    digest: TokenDigest,
    principal: Option<Principal>,
    buried_at: Timestamp,
    at: Ends,
    id: Option<LockId>,
    cause: LostCause,
    root: Option<Root>,
    /// Who ended it and why, where somebody else did.
    by: Option<Box<By>>,
}

impl Dead {
    #[inline]
    fn new(grave: Grave, root: Option<Root>) -> Self {
        let Grave { key, digest, principal, buried_at, lost } = grave;
        let by =
            (lost.actor.is_some() || lost.reason.is_some()).then(|| Box::new(By { actor: lost.actor, reason: lost.reason }));
        Self { key, digest, principal, buried_at, at: lost.at.into(), id: lost.id, cause: lost.cause, root, by }
    }
}

/// Where a root stands in the text.
#[derive(Clone, Copy, Debug)]
struct Root {
    start: u64,
    /// Of the namespace; none without one.
    namespace: Option<u32>,
    path: u32,
}

#[derive(Clone, Debug)]
struct By {
    actor: Option<Principal>,
    reason: Option<Arc<str>>,
}

/// More than there is memory for; numbers of living and forgotten ones are told apart up to here.
const MOST: usize = 1 << 31;
/// A ring of text is made smaller when it is larger than this and mostly empty.
const KEEP: usize = 1 << 20;

impl Graveyard {
    pub(super) fn new(memory: Memory) -> Self {
        Self {
            memory: Memory { most: memory.most.min(MOST), ..memory },
            dead: VecDeque::new(),
            text: VecDeque::new(),
            text_first: 0,
            first: 0,
            by_digest: Index::default(),
            by_id: Index::default(),
            id_key: IdKey::random(),
            next_key: 0,
            forgotten: None,
        }
    }

    /// The grave of the lock of `digest`, held by `principal`, which ended as `lost` says. Dug now, filled by
    /// [`Graveyard::bury`].
    pub(super) fn dig(
        &mut self,
        digest: TokenDigest,
        principal: Option<Principal>,
        lost: LostLock,
        now: Timestamp,
    ) -> Grave {
        let key = self.next_key;
        self.next_key += 1;
        Grave { key, digest, principal, buried_at: now, lost }
    }

    /// The grave of a token that was released before it was ever seen.
    pub(super) fn dig_burnt(&mut self, digest: TokenDigest, principal: Option<Principal>, now: Timestamp) -> Grave {
        let lost = LostLock { at: Some(now), ..LostLock::new(LostCause::Unknown) };
        self.dig(digest, principal, lost, now)
    }

    /// Digs a grave and fills it at once, for the lock of `digest` that was rooted at `root` and ended as `lost` says, but for the root.
    pub(super) fn bury_rooted(
        &mut self,
        (digest, root): (TokenDigest, &ResourceKey<'_>),
        principal: Option<Principal>,
        lost: LostLock,
        now: Timestamp,
    ) {
        let grave = self.dig(digest, principal, lost, now);
        if self.makes_room(grave.key, now) {
            let root = self.write(root);
            self.fill(Dead::new(grave, Some(root)));
        }
    }

    /// Remembers the lock of a grave.
    pub(super) fn bury(&mut self, grave: Grave, now: Timestamp) {
        self.next_key = self.next_key.max(grave.key + 1);
        if self.makes_room(grave.key, now) {
            let root = grave.lost.root.as_ref().map(|root| self.write(root));
            self.fill(Dead::new(grave, root));
        }
    }

    /// Forgets whom it is time to forget. Whether there is room for the grave `key` then, which is forgotten at once if not.
    fn makes_room(&mut self, key: u64, now: Timestamp) -> bool {
        self.forget(now);
        if self.memory.most == 0 {
            self.tell_forgotten(key);
            return false;
        }
        if self.dead.len() >= self.memory.most {
            self.forget_oldest();
        }
        true
    }

    fn fill(&mut self, dead: Dead) {
        let number = self.first.wrapping_add(u32::try_from(self.dead.len()).expect("no more than may be remembered"));
        let (digest, id) = (dead.digest, dead.id);
        self.dead.push_back(dead);
        let (dead, first) = (&self.dead, self.first);
        let digest_of = |number| nth(dead, first, number).map_or(0, |dead| dead.digest.hash());
        self.by_digest.insert(digest.hash(), number, digest_of);
        if let Some(id) = id {
            let id_of = |number| nth(dead, first, number).and_then(|dead| dead.id).map_or(0, |id| self.id_key.hash(id));
            self.by_id.insert(self.id_key.hash(id), number, id_of);
        }
    }

    /// Writes the text of a root down.
    fn write(&mut self, root: &ResourceKey<'_>) -> Root {
        let start = self.text_first + self.text.len() as u64;
        if let Some(namespace) = root.namespace() {
            self.text.extend(namespace.as_bytes());
        }
        self.text.extend(root.path().as_bytes());
        Root { start, namespace: root.namespace().map(len), path: len(root.path()) }
    }

    /// What was kept of a lock.
    fn lost(&self, dead: &Dead) -> LostLock {
        let root = dead.root.map(|root| {
            let text = |from: u64, len: u32| {
                let from = usize::try_from(from - self.text_first).unwrap_or(usize::MAX);
                let bytes = self.text.range(from..from + len as usize).copied().collect();
                String::from_utf8(bytes).expect("the text of a key, whole")
            };
            let path = root.start + u64::from(root.namespace.unwrap_or(0));
            let key = ResourceKey::from_canonical(text(path, root.path));
            match root.namespace {
                Some(namespace) => key.in_namespace(text(root.start, namespace)),
                None => key,
            }
        });
        let (actor, reason) = dead.by.as_ref().map_or((None, None), |by| (by.actor.clone(), by.reason.clone()));
        LostLock { id: dead.id, root, at: dead.at.get(), actor, reason, ..LostLock::new(dead.cause) }
    }

    /// From now on [`Graveyard::forgotten`] tells.
    #[cfg(any(test, feature = "redb"))]
    pub(super) fn keep_count(&mut self) {
        self.forgotten = Some(Vec::new());
    }

    /// The keys of those that were forgotten since the last call.
    pub(super) fn forgotten(&mut self) -> Vec<u64> {
        self.forgotten.as_mut().map(std::mem::take).unwrap_or_default()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Grave> {
        self.dead.iter().map(|dead| {
            let (key, digest, principal) = (dead.key, dead.digest, dead.principal.clone());
            Grave { key, digest, principal, buried_at: dead.buried_at, lost: self.lost(dead) }
        })
    }

    fn tell_forgotten(&mut self, key: u64) {
        if let Some(forgotten) = &mut self.forgotten {
            forgotten.push(key);
        }
    }

    /// What is remembered of a token, as `asker` may know it; none when nothing is.
    pub(super) fn by_token(&self, digest: &TokenDigest, asker: Asker<'_>, now: Timestamp) -> Option<LostLock> {
        let dead = self.latest(&self.by_digest, digest.hash(), now, |dead| dead.digest == *digest)?;
        Some(if asker.is(dead.principal.as_ref()) { self.lost(dead) } else { LostLock::new(LostCause::Unknown) })
    }

    /// Reads where a token and an id are looked for, so that it is near when that is done. Nothing depends on what comes out.
    pub(super) fn touch(&self, digest: &TokenDigest, id: LockId) -> u64 {
        self.by_digest.touch(digest.hash()) ^ self.by_id.touch(self.id_key.hash(id))
    }

    /// Whether a dead lock that is remembered had this id. Ids prove nothing, so nothing more is told.
    pub(super) fn has_id(&self, id: LockId, now: Timestamp) -> bool {
        self.by_id(id, now).is_some()
    }

    /// What is remembered of a lock, for the future that asked for it.
    pub(super) fn of_lock(&self, parts: &LockParts, now: Timestamp) -> Option<LostLock> {
        Some(self.lost(self.by_id(parts.id, now)?))
    }

    fn by_id(&self, id: LockId, now: Timestamp) -> Option<&Dead> {
        self.latest(&self.by_id, self.id_key.hash(id), now, |dead| dead.id == Some(id))
    }

    /// The latest of those that `is` accepts, if it still counts. A later lock may have had the same token or id, once an
    /// earlier one was too old to count.
    fn latest(&self, index: &Index, hash: u64, now: Timestamp, is: impl Fn(&Dead) -> bool) -> Option<&Dead> {
        let place = |number: u32| number.wrapping_sub(self.first);
        let same = index.candidates(hash).filter(|number| nth(&self.dead, self.first, *number).is_some_and(&is));
        let dead = nth(&self.dead, self.first, same.max_by_key(|number| place(*number))?)?;
        (now.since(dead.buried_at) < self.memory.span).then_some(dead)
    }

    pub(super) fn len(&self) -> usize {
        self.dead.len()
    }

    /// Drops a bounded number of those whose time is over, more than ever come in by one step.
    fn forget(&mut self, now: Timestamp) {
        for _ in 0..4 {
            let over = self.dead.front().is_some_and(|dead| now.since(dead.buried_at) >= self.memory.span);
            if !over {
                return;
            }
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        let Some(dead) = self.dead.pop_front() else { return };
        let number = self.first;
        self.first = number.wrapping_add(1);
        self.tell_forgotten(dead.key);
        self.by_digest.remove(dead.digest.hash(), number);
        if let Some(id) = dead.id {
            self.by_id.remove(self.id_key.hash(id), number);
        }
        if let Some(root) = dead.root {
            let text = root.namespace.unwrap_or(0) as usize + root.path as usize;
            self.text.drain(..text);
            self.text_first += text as u64;
            if self.text.capacity() > KEEP && self.text.len() < self.text.capacity() / 8 {
                self.text.shrink_to(self.text.capacity() / 4);
            }
        }
    }
}

fn nth(dead: &VecDeque<Dead>, first: u32, number: u32) -> Option<&Dead> {
    dead.get(number.wrapping_sub(first) as usize)
}

fn len(text: &str) -> u32 {
    u32::try_from(text.len()).expect("no root has four gigabytes")
}

/// Who wants to know what became of a lock whose token they show.
#[derive(Clone, Copy, Debug)]
pub(super) enum Asker<'a> {
    /// This principal, or the anonymous caller: told about locks of its own.
    Principal(Option<&'a Principal>),
    /// The code that set the lock.
    Guard,
}

impl Asker<'_> {
    pub(super) fn is(self, holder: Option<&Principal>) -> bool {
        match self {
            Self::Principal(asker) => asker == holder,
            Self::Guard => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lock::{LockToken, TokenKey};

    const NOW: Timestamp = Timestamp::from_micros(1_000_000_000_000);
    const ANYBODY: Asker<'static> = Asker::Principal(None);

    impl Graveyard {
        fn add(&mut self, digest: TokenDigest, principal: Option<Principal>, lost: LostLock) {
            let grave = self.dig(digest, principal, lost, NOW);
            self.bury(grave, NOW);
        }

        fn burn(&mut self, digest: TokenDigest, now: Timestamp) {
            let grave = self.dig_burnt(digest, None, now);
            self.bury(grave, now);
        }
    }

    fn lost(id: LockId) -> LostLock {
        LostLock { id: Some(id), ..LostLock::new(LostCause::Released) }
    }

    #[test]
    fn at_most_so_many_are_remembered_and_the_oldest_go_first() {
        let key = TokenKey::random();
        let mut graveyard = Graveyard::new(Memory { most: 10, ..Memory::default() });
        let dead: Vec<(TokenDigest, LockId)> =
            (0..25).map(|_| (key.digest(&LockToken::random()), LockId::random())).collect();
        graveyard.keep_count();
        for (digest, id) in &dead {
            graveyard.add(*digest, None, lost(*id));
        }
        assert_eq!((graveyard.len(), graveyard.by_digest.len(), graveyard.by_id.len()), (10, 10, 10));
        assert_eq!(graveyard.forgotten(), (0..15).collect::<Vec<u64>>(), "who keeps them elsewhere is told");
        for (at, (digest, id)) in dead.iter().enumerate() {
            assert_eq!(graveyard.by_token(digest, ANYBODY, NOW).is_some(), at >= 15);
            assert_eq!(graveyard.has_id(*id, NOW), at >= 15);
        }
    }

    #[test]
    fn after_an_hour_a_dead_lock_is_forgotten() {
        let digest = TokenKey::random().digest(&LockToken::random());
        let mut graveyard = Graveyard::new(Memory::default());
        graveyard.add(digest, None, lost(LockId::random()));
        assert!(graveyard.by_token(&digest, ANYBODY, NOW.after(Duration::from_secs(3_599))).is_some());
        let later = NOW.after(Duration::from_secs(3_600));
        assert!(graveyard.by_token(&digest, ANYBODY, later).is_none());
        graveyard.burn(digest, later);
        assert_eq!(graveyard.len(), 1, "the old one made way");
        assert_eq!(graveyard.by_token(&digest, ANYBODY, later).unwrap().cause, LostCause::Unknown);
    }

    #[test]
    fn only_the_principal_that_held_it_is_told() {
        let digest = TokenKey::random().digest(&LockToken::random());
        let (alice, bob) = (Principal::new("alice"), Principal::new("bob"));
        let mut graveyard = Graveyard::new(Memory::default());
        graveyard.add(digest, Some(alice.clone()), lost(LockId::random()));
        let told = |asker| graveyard.by_token(&digest, asker, NOW).unwrap().cause;
        assert_eq!(told(Asker::Principal(Some(&alice))), LostCause::Released);
        assert_eq!(told(Asker::Principal(Some(&bob))), LostCause::Unknown);
        assert_eq!(told(ANYBODY), LostCause::Unknown);
        assert_eq!(told(Asker::Guard), LostCause::Released);
    }

    #[test]
    fn nothing_is_remembered_when_nothing_may_be() {
        let digest = TokenKey::random().digest(&LockToken::random());
        let mut graveyard = Graveyard::new(Memory { most: 0, ..Memory::default() });
        graveyard.burn(digest, NOW);
        assert_eq!(graveyard.len(), 0);
    }

    #[test]
    fn what_is_told_of_the_dead_is_what_was_buried_after_any_number_of_others() {
        let key = TokenKey::random();
        let mut graveyard = Graveyard::new(Memory { most: 100, ..Memory::default() });
        // Numbers start anew within the test.
        graveyard.first = u32::MAX - 150;
        let mut buried = VecDeque::new();
        for number in 0..1_000_u64 {
            let root = ResourceKey::from_canonical(format!("/ä/{}", "x".repeat(number as usize % 50))).into_owned();
            let root = if number % 3 == 0 { root.in_namespace(format!("t{number}")) } else { root };
            let lost = LostLock {
                id: (number % 7 != 0).then(LockId::random),
                root: (number % 5 != 0).then_some(root),
                at: (number % 11 != 0).then_some(NOW),
                actor: (number % 4 == 0).then(|| Principal::new("root")),
                reason: (number % 6 == 0).then(|| "why".into()),
                ..LostLock::new(LostCause::Broken)
            };
            let digest = key.digest(&LockToken::random());
            graveyard.add(digest, None, lost.clone());
            buried.push_back((digest, lost));
            if buried.len() > 100 {
                buried.pop_front();
            }
            for (digest, lost) in buried.iter().step_by(17) {
                assert_eq!(graveyard.by_token(digest, ANYBODY, NOW).as_ref(), Some(lost));
                assert!(lost.id.is_none_or(|id| graveyard.has_id(id, NOW)));
            }
        }
        assert!(graveyard.iter().map(|grave| (grave.digest, grave.lost)).eq(buried));
        let left: usize = graveyard.iter().filter_map(|grave| grave.lost.root).map(|root| text_of(&root)).sum();
        assert_eq!((graveyard.text.len(), graveyard.len()), (left, 100), "forgotten text is gone");
    }

    fn text_of(root: &ResourceKey<'_>) -> usize {
        root.path().len() + root.namespace().map_or(0, str::len)
    }

    #[test]
    fn of_two_with_one_token_the_later_counts_and_outlives_the_earlier() {
        // Also where numbers start anew between the two.
        for first in [0, u32::MAX - 1, u32::MAX] {
            let (digest, id) = (TokenKey::random().digest(&LockToken::random()), LockId::random());
            let mut graveyard = Graveyard::new(Memory { most: 2, ..Memory::default() });
            graveyard.first = first;
            graveyard.add(digest, None, lost(id));
            graveyard.add(digest, None, LostLock { cause: LostCause::Expired, ..lost(id) });
            assert_eq!(graveyard.by_token(&digest, ANYBODY, NOW).unwrap().cause, LostCause::Expired);
            graveyard.add(TokenKey::random().digest(&LockToken::random()), None, lost(LockId::random()));
            assert_eq!(graveyard.by_token(&digest, ANYBODY, NOW).unwrap().cause, LostCause::Expired);
            assert!(graveyard.has_id(id, NOW));
        }
    }
}
