//! `Order`: numbers in the order of their paths, for what lies below a path and for lists that go on where one ended.
//!
//! A crit-bit tree: each branch names the first bit in which the paths on its two sides differ, and an entry costs twelve
//! bytes. The paths stay with the caller. Going down reads the path that is looked for and no other; one other is compared
//! at the end. A sorted tree of pointers to paths would follow some twenty of them, each to cold memory.

use std::cmp::Ordering;

use smallvec::SmallVec;

/// Nothing at all, as a link; also the end of the list of free branches.
const NONE: u32 = u32::MAX;
/// Set in a link to an entry.
const ENTRY: u32 = 1 << 31;
/// Branches are allocated in this number, so that growing moves nothing.
const CHUNK: usize = 4096;

#[derive(Debug)]
pub(super) struct Order {
    root: u32,
    chunks: Vec<Vec<Branch>>,
    /// The first of the branches that are not in use; each knows the next as its first child.
    free: u32,
}

/// Both sides agree up to `bit`; those with 0 there are on the first side, which comes before the other.
#[derive(Clone, Copy, Debug)]
struct Branch {
    bit: Bit,
    sides: [u32; 2],
}

/// A place in a path: of each byte first whether it is there, then its eight bits, the high one first. So a path comes
/// before those that go on where it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Bit(u32);

impl Bit {
    fn new(byte: usize, which: u32) -> Self {
        Self(u32::try_from(byte).unwrap_or(u32::MAX >> 4) << 4 | which)
    }

    /// The first in which two paths differ.
    fn first_difference(one: &[u8], other: &[u8]) -> Option<Self> {
        let both = one.iter().zip(other);
        match both.clone().position(|(one, other)| one != other) {
            Some(byte) => Some(Self::new(byte, (one[byte] ^ other[byte]).leading_zeros() + 1)),
            None if one.len() == other.len() => None,
            None => Some(Self::new(one.len().min(other.len()), 0)),
        }
    }

    fn byte(self) -> usize {
        (self.0 >> 4) as usize
    }

    fn of(self, path: &[u8]) -> usize {
        match (path.get(self.byte()), self.0 & 15) {
            (None, _) => 0,
            (Some(_), 0) => 1,
            (Some(byte), which) => usize::from(byte >> (8 - which) & 1),
        }
    }
}

impl Default for Order {
    fn default() -> Self {
        Self { root: NONE, chunks: Vec::new(), free: NONE }
    }
}

impl Order {
    pub(super) fn is_empty(&self) -> bool {
        self.root == NONE
    }

    /// Enters a number whose path is not here yet.
    pub(super) fn insert<'p>(&mut self, path: &str, number: u32, path_of: impl Fn(u32) -> &'p str) {
        let path = path.as_bytes();
        assert!(number < ENTRY - 1, "two thousand million roots do not fit into memory");
        if self.root == NONE {
            self.root = number | ENTRY;
            return;
        }
        // The branches on the way, and to which side it went.
        let mut way: SmallVec<[(u32, usize); 36]> = SmallVec::new();
        let mut link = self.root;
        while link & ENTRY == 0 {
            let branch = self.branch(link);
            let side = branch.bit.of(path);
            way.push((link, side));
            link = branch.sides[side];
        }
        let Some(bit) = Bit::first_difference(path, path_of(link & !ENTRY).as_bytes()) else {
            debug_assert!(false, "a path is entered once");
            return;
        };
        while let Some((above, _)) = way.last()
            && self.branch(*above).bit > bit
        {
            link = *above;
            way.pop();
        }
        let side = bit.of(path);
        let mut sides = [link; 2];
        sides[side] = number | ENTRY;
        let fresh = self.take_branch(Branch { bit, sides });
        self.relink(way.last().copied(), fresh);
    }

    /// Takes out a number that was entered with this path.
    pub(super) fn remove(&mut self, path: &str, number: u32) {
        let path = path.as_bytes();
        let (mut before, mut last, mut link) = (None, None, self.root);
        while link & ENTRY == 0 {
            let branch = self.branch(link);
            let side = branch.bit.of(path);
            before = last.replace((link, side));
            link = branch.sides[side];
        }
        if link != number | ENTRY {
            return;
        }
        let Some((branch, side)) = last else {
            *self = Self::default();
            return;
        };
        let stays = self.branch(branch).sides[1 - side];
        self.relink(before, stays);
        self.branch_mut(branch).sides[0] = std::mem::replace(&mut self.free, branch);
    }

    /// The numbers whose paths start with `prefix`, those before path `from` aside, in order.
    pub(super) fn starting<'o, 'p>(
        &'o self,
        prefix: &[u8],
        from: Option<&str>,
        path_of: impl Fn(u32) -> &'p str,
    ) -> Walk<'o> {
        let mut walk = Walk { order: self, links: SmallVec::new() };
        let mut top = self.root;
        while top != NONE && top & ENTRY == 0 && self.branch(top).bit.byte() < prefix.len() {
            let branch = self.branch(top);
            top = branch.sides[branch.bit.of(prefix)];
        }
        if top == NONE {
            return walk;
        }
        let any = self.down(top, |_| 0, |_| ());
        if !path_of(any).as_bytes().starts_with(prefix) {
            return walk;
        }
        let Some(from) = from.map(str::as_bytes).filter(|from| *from > prefix) else {
            walk.links.push(top);
            return walk;
        };
        if !from.starts_with(prefix) {
            // After all that start so.
            return walk;
        }
        let nearest = self.down(top, |branch| branch.bit.of(from), |_| ());
        let differs = Bit::first_difference(from, path_of(nearest).as_bytes());
        let mut link = top;
        while link & ENTRY == 0 {
            let branch = self.branch(link);
            if differs.is_some_and(|bit| branch.bit.cmp(&bit) == Ordering::Greater) {
                break;
            }
            let side = branch.bit.of(from);
            if side == 0 {
                walk.links.push(branch.sides[1]);
            }
            link = branch.sides[side];
        }
        // All that is left here agrees with `from` up to the bit in which it differs.
        if differs.is_none_or(|bit| bit.of(from) == 0) {
            walk.links.push(link);
        }
        walk
    }

    /// The entry at the end of the way down from `link`.
    fn down(&self, mut link: u32, side: impl Fn(&Branch) -> usize, mut passed: impl FnMut(&Branch)) -> u32 {
        while link & ENTRY == 0 {
            let branch = self.branch(link);
            passed(branch);
            link = branch.sides[side(branch)];
        }
        link & !ENTRY
    }

    fn branch(&self, link: u32) -> &Branch {
        &self.chunks[link as usize / CHUNK][link as usize % CHUNK]
    }

    fn branch_mut(&mut self, link: u32) -> &mut Branch {
        &mut self.chunks[link as usize / CHUNK][link as usize % CHUNK]
    }

    fn relink(&mut self, at: Option<(u32, usize)>, to: u32) {
        match at {
            Some((branch, side)) => self.branch_mut(branch).sides[side] = to,
            None => self.root = to,
        }
    }

    fn take_branch(&mut self, branch: Branch) -> u32 {
        if self.free != NONE {
            let link = self.free;
            let old = std::mem::replace(self.branch_mut(link), branch);
            self.free = old.sides[0];
            return link;
        }
        if self.chunks.last().is_none_or(|chunk| chunk.len() == CHUNK) {
            let room = if self.chunks.is_empty() { 0 } else { CHUNK };
            self.chunks.push(Vec::with_capacity(room));
        }
        let before = (self.chunks.len() - 1) * CHUNK;
        let chunk = self.chunks.last_mut().expect("made just now, if there was none");
        chunk.push(branch);
        u32::try_from(before + chunk.len() - 1).expect("there are fewer branches than entries")
    }
}

/// Iterator over numbers in the order of their paths.
#[derive(Debug)]
pub(super) struct Walk<'o> {
    order: &'o Order,
    /// What is still to come, the next last.
    links: SmallVec<[u32; 32]>,
}

impl Iterator for Walk<'_> {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        let link = self.links.pop()?;
        let (order, links) = (self.order, &mut self.links);
        Some(order.down(link, |_| 0, |branch| links.push(branch.sides[1])))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// A path made of few letters and slashes, so that many share prefixes, are prefixes, or differ in one byte.
    fn path(random: &mut u64) -> String {
        let mut next = |most: u64| {
            *random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (*random >> 33) % most
        };
        let letters = ['/', '/', 'a', 'b', '0', '.', 'ä', '\u{1}', '\u{10ffff}'];
        let len = next(7);
        std::iter::once('/').chain((0..len).map(|_| letters[next(9) as usize])).collect()
    }

    #[test]
    fn it_is_in_order_and_finds_what_starts_with_a_path_from_any_path_on() {
        let mut random = 3_u64;
        for _ in 0..20 {
            let (mut order, mut model) = (Order::default(), BTreeMap::<String, u32>::new());
            let mut paths: Vec<String> = Vec::new();
            for step in 0..400 {
                let name = path(&mut random);
                if let Some(number) = model.remove(&name) {
                    order.remove(&name, number);
                } else {
                    let number = u32::try_from(paths.len()).unwrap();
                    paths.push(name.clone());
                    order.insert(&name, number, |number| &paths[number as usize]);
                    model.insert(name, number);
                }
                assert_eq!(order.is_empty(), model.is_empty());
                if step % 4 != 0 {
                    continue;
                }
                let (prefix, from) = (path(&mut random), path(&mut random));
                for from in [None, Some(&*from), Some(&*prefix)] {
                    let found: Vec<u32> =
                        order.starting(prefix.as_bytes(), from, |number| &paths[number as usize]).collect();
                    let all = model.iter().filter(|(name, _)| name.starts_with(&prefix));
                    let expected: Vec<u32> =
                        all.filter(|(name, _)| from.is_none_or(|from| name.as_str() >= from)).map(|(_, at)| *at).collect();
                    assert_eq!(found, expected, "{prefix:?} from {from:?}");
                }
            }
            for (name, number) in std::mem::take(&mut model) {
                order.remove(&name, number);
            }
            assert!(order.is_empty());
        }
    }

    #[test]
    fn what_is_not_there_is_not_taken_out() {
        let mut order = Order::default();
        order.remove("/a", 0);
        order.insert("/a", 0, |_| "");
        order.remove("/a", 1);
        order.insert("/b", 1, |_| "/a");
        order.remove("/c", 2);
        let paths = ["/a", "/b"];
        assert_eq!(order.starting(b"/", None, |number| paths[number as usize]).collect::<Vec<_>>(), [0, 1]);
    }

    #[test]
    fn branches_are_used_again() {
        let paths: Vec<String> = (0..2 * CHUNK).map(|number| format!("/{number:05}")).collect();
        let mut order = Order::default();
        for _ in 0..3 {
            for (number, path) in (0..).zip(&paths) {
                order.insert(path, number, |number| &paths[number as usize]);
            }
            assert_eq!(order.chunks.iter().map(Vec::len).sum::<usize>(), paths.len() - 1);
            assert!(order.starting(b"/", None, |number| &paths[number as usize]).eq(0..2 * CHUNK as u32));
            for (number, path) in (0..).zip(&paths).skip(1) {
                order.remove(path, number);
            }
            order.remove(&paths[0], 0);
            order.insert("/x", 0, |_| "");
            order.remove("/x", 0);
        }
    }
}
