use std::collections::HashMap;

use super::*;

fn random(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    state.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// A table, what is in it, and how often.
struct Model {
    tags: Tags,
    entries: Entries,
    counts: HashMap<u64, u32>,
}

impl Model {
    fn new(groups: usize) -> Self {
        Self { tags: Tags::new(groups), entries: Entries::new(groups), counts: HashMap::new() }
    }

    fn put(&mut self, hash: u64) {
        self.entries.put(&self.tags, hash);
        *self.counts.entry(hash).or_default() += 1;
    }

    fn take(&mut self, hash: u64) {
        self.entries.take(&self.tags, hash);
        let count = self.counts.get_mut(&hash).unwrap();
        *count -= 1;
        if *count == 0 {
            self.counts.remove(&hash);
        }
    }

    fn has_all(&self) -> bool {
        self.counts.keys().all(|hash| self.tags.may_have(*hash))
    }
}

#[test]
fn random_histories_lose_nothing_and_leave_nothing() {
    let mut state = 0x0123_4567_89ab_cdef;
    for groups in [2, 8, 64] {
        let mut model = Model::new(groups);
        for round in 0..6 {
            // Full to the brim: many groups are passed by, and all homes in a few of them.
            let most = groups * TAGS - 1;
            for _ in 0..4_000 {
                let hash = if round % 2 == 0 { random(&mut state) } else { random(&mut state) & !0x3e | 1 };
                if model.counts.len() < most {
                    model.put(hash);
                }
                if let Some(hash) = model.counts.keys().next().copied() {
                    if random(&mut state).is_multiple_of(5) {
                        model.put(hash);
                    } else if random(&mut state).is_multiple_of(2) {
                        model.take(hash);
                    }
                }
                assert!(model.has_all());
            }
            let (bigger, entries) = Growth::of(&model.entries).finished(&model.entries);
            assert!(model.counts.keys().all(|hash| bigger.may_have(*hash)), "moved");
            assert_eq!(entries.used(), model.entries.used());
            while let Some(hash) = model.counts.keys().next().copied() {
                model.take(hash);
                assert!(model.has_all());
            }
            assert_eq!(model.entries.used(), 0);
            let lost = |word: &AtomicU64| passed(word.load(Ordering::Relaxed)) == UNCOUNTED;
            let empty = |word: &AtomicU64| word.load(Ordering::Relaxed) == 0;
            assert!(model.tags.0.iter().all(|word| empty(word) || lost(word)), "only a count that was lost stays");
        }
    }
}

#[test]
fn what_comes_and_goes_while_the_table_grows_is_in_the_new_one_as_often_as_in_the_old() {
    let mut state = 0x0bad_cafe_0bad_cafe;
    for groups in [2, 16, 256] {
        for share in 1..8 {
            let mut model = Model::new(groups);
            while model.entries.has_room(1) {
                model.put(random(&mut state));
            }
            let mut growth = Growth::of(&model.entries);
            let steps = 3 * groups;
            for step in 0..steps {
                let hashes: Vec<u64> = model.counts.keys().copied().collect();
                let known = hashes[step % hashes.len()];
                // One that is there, one that is not, and one that goes.
                for hash in [known, random(&mut state)].into_iter().take(1 + usize::from(model.entries.has_room(1))) {
                    model.put(hash);
                    growth.put((&model.entries, &model.tags), hash);
                }
                for hash in [known, hashes[step * share % hashes.len()]] {
                    if model.counts.contains_key(&hash) {
                        growth.take((&model.entries, &model.tags), hash);
                        model.take(hash);
                    }
                }
                growth.work(&model.entries, if step % share == 0 { 4 } else { 0 });
            }
            let (tags, entries) = growth.finished(&model.entries);
            let mut grown = Model { tags, entries, counts: std::mem::take(&mut model.counts) };
            assert_eq!(grown.entries.used(), model.entries.used());
            assert!(grown.has_all());
            let left: Vec<(u64, u32)> = grown.counts.iter().map(|(hash, count)| (*hash, *count)).collect();
            for (hash, count) in left {
                (0..count).for_each(|_| grown.take(hash));
                assert!(grown.has_all());
            }
            assert_eq!(grown.entries.used(), 0, "nothing was counted once too often");
        }
    }
}

#[test]
fn a_table_has_grown_before_it_is_too_full() {
    let mut state = 0x1234_5678_dead_beef;
    for groups in [16, 256, 4_096] {
        let mut model = Model::new(groups);
        let mut growth: Option<Growth> = None;
        loop {
            let hash = random(&mut state);
            growth = growth.or_else(|| Growth::due(&model.entries));
            if let Some(growth) = &mut growth {
                growth.step(&model.entries);
                if growth.is_done(&model.entries) {
                    break;
                }
            }
            assert!(model.entries.has_room(1), "{} in {groups} groups", model.entries.used());
            model.put(hash);
            if let Some(growth) = &mut growth {
                growth.put((&model.entries, &model.tags), hash);
            }
        }
    }
}

#[test]
fn a_tag_is_taken_for_another_once_in_thousands() {
    let mut state = 0xfeed_f00d_dead_beef;
    let mut model = Model::new(1 << 12);
    while model.entries.has_room(1) {
        model.put(random(&mut state));
    }
    let wrong = (0..200_000).filter(|_| model.tags.may_have(random(&mut state))).count();
    assert!(wrong < 200, "{wrong} of 200,000");
}

#[test]
fn hashes_that_agree_in_what_is_kept_are_one() {
    let mut model = Model::new(4);
    let (one, other) = (0x12_3456_789a, 0xabcd_ef12_3456_789a);
    assert_eq!(one & KEPT, other & KEPT);
    model.put(one);
    model.put(other);
    assert_eq!(model.entries.used(), 1);
    model.take(one);
    assert!(model.has_all());
    model.take(other);
    assert!(!model.tags.may_have(one));
}

#[test]
fn a_count_that_is_full_stays() {
    let mut model = Model::new(4);
    for _ in 0..(1_u32 << 24) + 10 {
        model.entries.put(&model.tags, 7);
    }
    for _ in 0..(1_u32 << 24) + 10 {
        model.entries.take(&model.tags, 7);
    }
    assert!(model.tags.may_have(7));
}

#[test]
fn tags_of_nothing_are_told_from_free_places() {
    let mut model = Model::new(4);
    assert!(!model.tags.may_have(0));
    model.put(0);
    assert!(model.tags.may_have(0));
    model.take(0);
    assert!(!model.tags.may_have(0));
}
