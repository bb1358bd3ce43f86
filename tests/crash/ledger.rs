//! What the parent knows of every lock, from what the child wrote, and what it must therefore find.

use std::{collections::BTreeMap, path::Path, time::Duration};

use tower_lock::{
    MemoryStore,
    lock::{LockId, LockToken, Timestamp},
    store::{Acquired, Refreshed, Released, Span},
};

use super::{Random, acquire, all, new, refresh, release};

/// Clocks of two processes may differ a little; lifetimes are an hour or next to nothing.
const MARGIN: Duration = Duration::from_secs(5);

#[derive(Default)]
pub(super) struct Known {
    locks: BTreeMap<LockId, Fate>,
    /// Locks that were asked for together.
    together: Vec<Vec<LockId>>,
    burnt: Vec<(LockToken, Fact)>,
    generation: u64,
    answered: BTreeMap<String, usize>,
    unanswered: usize,
    kept: usize,
}

struct Fate {
    token: LockToken,
    state: State,
    generation: u64,
    /// When it ends, as far as it was answered.
    ends: Timestamp,
    /// Whether a refresh was asked for and not answered.
    moving: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Asked for, and not answered.
    Perhaps,
    Held,
    /// Its end was asked for, and not answered.
    PerhapsGone,
    Gone,
    /// Refused: as if never asked for.
    Never,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fact {
    Asked(LockId),
    Answered,
}

impl Known {
    /// Reads what a child wrote.
    pub(super) fn hear(&mut self, heard: &str) {
        for line in heard.lines().filter(|line| line.starts_with("? ") || line.starts_with("! ")) {
            let words: Vec<&str> = line.split(' ').collect();
            let id = |at: usize| words[at].parse::<LockId>().unwrap();
            if words[0] == "!" {
                *self.answered.entry(words[1].to_owned()).or_default() += 1;
            }
            match (words[0], words[1]) {
                ("?", "acquire") => {
                    let ids: Vec<LockId> = (2..words.len()).step_by(2).map(id).collect();
                    for (at, lock) in ids.iter().enumerate() {
                        let token = words[3 + 2 * at].parse().unwrap();
                        let known =
                            Fate { token, state: State::Perhaps, generation: 0, ends: Timestamp::MAX, moving: false };
                        assert!(self.locks.insert(*lock, known).is_none());
                    }
                    self.together.push(ids);
                }
                ("!", "acquire") => {
                    for at in (2..words.len()).step_by(3) {
                        let known = self.locks.get_mut(&id(at)).unwrap();
                        known.state = State::Held;
                        known.generation = words[at + 1].parse().unwrap();
                        known.ends = Timestamp::from_micros(words[at + 2].parse().unwrap());
                        self.generation = self.generation.max(known.generation);
                    }
                }
                ("!", "refused") => self.locks.get_mut(&id(2)).unwrap().state = State::Never,
                ("?", "refresh") => self.locks.get_mut(&id(2)).unwrap().moving = true,
                ("!", "refresh") => {
                    let known = self.locks.get_mut(&id(2)).unwrap();
                    known.ends = Timestamp::from_micros(words[3].parse().unwrap());
                    known.moving = false;
                }
                ("?", "end") => self.locks.get_mut(&id(2)).unwrap().state = State::PerhapsGone,
                ("!", "end") => self.locks.get_mut(&id(2)).unwrap().state = State::Gone,
                ("?", "burn") => self.burnt.push((words[3].parse().unwrap(), Fact::Asked(id(2)))),
                ("!", "burn") => {
                    let asked = Fact::Asked(id(2));
                    self.burnt.iter_mut().find(|(_, fact)| *fact == asked).unwrap().1 = Fact::Answered;
                }
                _ => panic!("{line}"),
            }
        }
    }

    /// Opens the file after the kill, and compares.
    pub(super) async fn compare(&mut self, file: &Path, round: usize, random: &mut Random) {
        let before = Timestamp::system_now();
        let store = MemoryStore::open(file).unwrap_or_else(|error| panic!("round {round}: {error:?}"));
        let found: BTreeMap<LockId, tower_lock::Lock> =
            all(&store).await.into_iter().map(|lock| (lock.id(), lock)).collect();
        let now = Timestamp::system_now();
        for (id, known) in &mut self.locks {
            let lock = found.get(id);
            match known.state {
                State::Held if known.moving || known.ends > now.after(MARGIN) => {
                    let lock = lock.unwrap_or_else(|| panic!("round {round}: granted, answered, and lost: {id}"));
                    assert_eq!(lock.generation(), known.generation, "round {round}: {id}");
                    let ends = lock.expires_at().unwrap();
                    assert!(known.moving || ends == known.ends, "round {round}: {id}: {ends:?}, not {:?}", known.ends);
                    (known.ends, known.moving) = (ends, false);
                }
                State::Held if known.ends <= before => {
                    assert!(lock.is_none(), "round {round}: it expired, and is back: {id}");
                }
                // It expires just now: there or not.
                State::Held => {}
                State::Gone => assert!(lock.is_none(), "round {round}: ended, answered, and back: {id}"),
                State::Never => assert!(lock.is_none(), "round {round}: refused, and there: {id}"),
                // From here on it is what it was found to be.
                State::Perhaps | State::PerhapsGone => {
                    self.unanswered += 1;
                    known.state = if lock.is_some() { State::Held } else { State::Gone };
                    if let Some(lock) = lock {
                        known.generation = lock.generation();
                        known.ends = lock.expires_at().unwrap();
                    } else if known.generation == 0 {
                        known.state = State::Never;
                    }
                }
            }
        }
        for ids in self.together.drain(..) {
            let there: Vec<bool> = ids.iter().map(|id| self.locks[id].state != State::Never).collect();
            assert!(there.iter().all(|one| *one == there[0]), "round {round}: half of an acquire: {ids:?}");
        }
        let strangers = found.keys().filter(|id| !self.locks.contains_key(id)).count();
        assert_eq!(strangers, 0, "round {round}: nobody asked for these");
        self.use_tokens(&store, now, round, random).await;
        let next = new(&format!("/round/{round}"));
        let Acquired::Granted(granted) = acquire(&store, std::slice::from_ref(&next)).await else {
            panic!("nobody is there")
        };
        assert!(granted[0].generation() > self.generation, "round {round}: generations grow (G6)");
        self.generation = granted[0].generation();
        assert!(matches!(release(&store, &next.token).await, Ok(Released::Released(_))));
    }

    /// Tokens of what is held work, those of what is gone are used up.
    async fn use_tokens(&mut self, store: &MemoryStore, now: Timestamp, round: usize, random: &mut Random) {
        let mut held: Vec<LockId> = Vec::new();
        for (id, known) in &self.locks {
            let living = known.ends > now.after(MARGIN);
            match known.state {
                State::Held if living => held.push(*id),
                State::Gone if random.below(10) == 0 => {
                    let again = [new_with(known.token)];
                    let answer = acquire(store, &again).await;
                    assert!(matches!(answer, Acquired::Lost(_)), "round {round}: a token used twice: {answer:?}");
                }
                _ => {}
            }
        }
        for (token, fact) in &self.burnt {
            if *fact == Fact::Answered && random.below(10) == 0 {
                let answer = acquire(store, &[new_with(*token)]).await;
                assert!(matches!(answer, Acquired::Lost(_)), "round {round}: a burnt token works: {answer:?}");
            }
        }
        while held.len() > 60 || (!held.is_empty() && random.below(4) == 0) {
            let id = held.swap_remove(usize::try_from(random.below(held.len() as u64)).unwrap());
            let known = self.locks.get_mut(&id).unwrap();
            let answer = release(store, &known.token).await.unwrap();
            assert!(matches!(answer, Released::Released(_)), "round {round}: its token works: {answer:?}");
            known.state = State::Gone;
        }
        for id in &held {
            let known = self.locks.get_mut(id).unwrap();
            let Ok(Refreshed::Refreshed(lock, _)) = refresh(store, &known.token, Span::Same).await else {
                panic!("round {round}: its token works")
            };
            known.ends = lock.expires_at().unwrap();
            self.kept += 1;
        }
    }

    /// A test that sees nothing proves nothing.
    pub(super) fn expect_enough(&self, soak: usize) {
        for (what, least) in [("acquire", 500), ("refresh", 50), ("end", 200), ("burn", 50)] {
            let count = self.answered.get(what).copied().unwrap_or_default();
            assert!(count >= least * soak, "only {count} answers to {what}");
        }
        assert!(self.unanswered >= 10 * soak, "only {} killed in the middle of something", self.unanswered);
        assert!(self.kept >= 200 * soak, "only {} locks over a kill", self.kept);
    }
}

fn new_with(token: LockToken) -> tower_lock::store::NewLock {
    tower_lock::store::NewLock { token, ..new("/again") }
}
