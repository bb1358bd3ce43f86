//! The dead locks that are remembered, so that a lock which was lost is told apart from one that never was (G8).

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use crate::lock::{LockId, LockParts, LostCause, LostLock, Principal, Timestamp, TokenDigest};

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
    dead: VecDeque<Grave>,
    /// The number of the oldest; each later one has the next.
    first: u64,
    by_digest: HashMap<TokenDigest, u64>,
    by_id: HashMap<LockId, u64>,
    /// The key of the next grave.
    next_key: u64,
    /// The keys of those that were forgotten, where somebody wants to know.
    forgotten: Option<Vec<u64>>,
}

impl Graveyard {
    pub(super) fn new(memory: Memory) -> Self {
        Self {
            memory,
            dead: VecDeque::new(),
            first: 0,
            by_digest: HashMap::new(),
            by_id: HashMap::new(),
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

    /// Remembers the lock of a grave.
    pub(super) fn bury(&mut self, grave: Grave, now: Timestamp) {
        self.forget(now);
        self.next_key = self.next_key.max(grave.key + 1);
        if self.memory.most == 0 {
            self.tell_forgotten(grave.key);
            return;
        }
        if self.dead.len() >= self.memory.most {
            self.forget_oldest();
        }
        let number = self.first + self.dead.len() as u64;
        self.by_digest.insert(grave.digest, number);
        if let Some(id) = grave.lost.id {
            self.by_id.insert(id, number);
        }
        self.dead.push_back(grave);
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

    pub(super) fn iter(&self) -> impl Iterator<Item = &Grave> {
        self.dead.iter()
    }

    fn tell_forgotten(&mut self, key: u64) {
        if let Some(forgotten) = &mut self.forgotten {
            forgotten.push(key);
        }
    }

    /// What is remembered of a token, as `asker` may know it; none when nothing is.
    pub(super) fn by_token(&self, digest: &TokenDigest, asker: Asker<'_>, now: Timestamp) -> Option<LostLock> {
        let dead = self.nth(*self.by_digest.get(digest)?, now)?;
        Some(if asker.is(dead.principal.as_ref()) { dead.lost.clone() } else { LostLock::new(LostCause::Unknown) })
    }

    /// Whether a dead lock that is remembered had this id. Ids prove nothing, so nothing more is told.
    pub(super) fn has_id(&self, id: LockId, now: Timestamp) -> bool {
        self.by_id.get(&id).is_some_and(|number| self.nth(*number, now).is_some())
    }

    /// What is remembered of a lock, for the future that asked for it.
    pub(super) fn of_lock(&self, parts: &LockParts, now: Timestamp) -> Option<LostLock> {
        Some(self.nth(*self.by_id.get(&parts.id)?, now)?.lost.clone())
    }

    pub(super) fn len(&self) -> usize {
        self.dead.len()
    }

    fn nth(&self, number: u64, now: Timestamp) -> Option<&Grave> {
        let at = usize::try_from(number.checked_sub(self.first)?).ok()?;
        self.dead.get(at).filter(|dead| now.since(dead.buried_at) < self.memory.span)
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
        self.first += 1;
        self.tell_forgotten(dead.key);
        // A later lock may have had the same token or id, once this one was too old to count.
        if self.by_digest.get(&dead.digest) == Some(&number) {
            self.by_digest.remove(&dead.digest);
        }
        if let Some(id) = dead.lost.id
            && self.by_id.get(&id) == Some(&number)
        {
            self.by_id.remove(&id);
        }
    }
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
}
