//! `Order`: numbers in the order of their paths, for what lies below a path and for lists that go on where one ended.
//!
//! A crit-bit tree: each branch names the first bit in which the paths on its two sides differ. Its lowest levels are
//! [pages](page): up to sixteen entries that are neighbours in the tree, in two lines of a cache, so that the way down ends
//! in one cold place and not in five. An entry costs some twelve bytes. The paths stay with the caller. Going down reads
//! the path that is looked for and no other; one other is compared at the end. A sorted tree of pointers to paths would
//! follow some twenty of them, each to cold memory.

mod arena;
mod page;

use std::{ops::Range, slice};

use smallvec::SmallVec;

use self::{
    arena::{Arena, Spare},
    page::{MOST, Page},
};

/// Nothing at all, as a link.
const NONE: u32 = u32::MAX;
/// Set in a link to an entry.
const ENTRY: u32 = 1 << 31;
/// Set in a link to a page.
const PAGE: u32 = 1 << 30;

#[derive(Debug)]
pub(super) struct Order {
    root: u32,
    branches: Arena<Branch>,
    pages: Arena<Page>,
}

/// Both sides agree up to `bit`; those with 0 there are on the first side, which comes before the other.
#[derive(Clone, Copy, Debug)]
struct Branch {
    bit: Bit,
    sides: [u32; 2],
}

impl Spare for Branch {
    fn next(&mut self) -> &mut u32 {
        &mut self.sides[0]
    }
}

/// What a link leads to.
enum Link {
    Branch,
    Entry(u32),
    Page(u32),
}

fn what(link: u32) -> Link {
    if link & ENTRY != 0 {
        Link::Entry(link & !ENTRY)
    } else if link & PAGE != 0 {
        Link::Page(link & !PAGE)
    } else {
        Link::Branch
    }
}

const fn is_branch(link: u32) -> bool {
    link & (ENTRY | PAGE) == 0
}

/// A place in a path: of each byte first whether it is there, then its eight bits, the high one first. So a path comes
/// before those that go on where it ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Bit(u32);

impl Bit {
    const LAST: Self = Self(u32::MAX);

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

    #[inline]
    fn of(self, path: &[u8]) -> usize {
        // A ninth bit, above the others, says that the byte is there.
        let byte = path.get(self.byte()).map_or(0, |byte| usize::from(*byte) | 1 << 8);
        byte >> (8 - (self.0 & 15)) & 1
    }
}

impl Default for Order {
    fn default() -> Self {
        Self { root: NONE, branches: Arena::default(), pages: Arena::default() }
    }
}

/// A branch, and one of its sides.
type Turn = (u32, usize);

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
        let mut way: SmallVec<[Turn; 36]> = SmallVec::new();
        let mut link = self.root;
        let bit = loop {
            while is_branch(link) {
                let branch = self.branches.get(link);
                let side = branch.bit.of(path);
                way.push((link, side));
                link = branch.sides[side];
            }
            let (nearest, page) = match what(link) {
                Link::Page(at) => {
                    let page = self.pages.get(at);
                    let nearest = page.nearest(path);
                    (page.numbers()[nearest], Some((at, nearest)))
                }
                _ => (link & !ENTRY, None),
            };
            let Some(bit) = Bit::first_difference(path, path_of(nearest).as_bytes()) else {
                debug_assert!(false, "a path is entered once");
                return;
            };
            if way.last().is_some_and(|(above, _)| self.branches.get(*above).bit > bit) {
                break bit;
            }
            // Nothing is between it and the nearest but what is in one page with that.
            let Some((at, nearest)) = page else {
                let pair = Page::of_two(bit, bit.of(path), number, nearest);
                let fresh = self.pages.take(pair) | PAGE;
                self.relink(way.last().copied(), fresh);
                return;
            };
            let page = self.pages.get_mut(at);
            if page.numbers().len() < MOST {
                page.insert(nearest, bit, bit.of(path), number);
                return;
            }
            link = self.split(at);
            self.relink(way.last().copied(), link);
        };
        while let Some((above, _)) = way.last()
            && self.branches.get(*above).bit > bit
        {
            link = *above;
            way.pop();
        }
        let side = bit.of(path);
        let mut sides = [link; 2];
        sides[side] = number | ENTRY;
        let fresh = self.branches.take(Branch { bit, sides });
        self.relink(way.last().copied(), fresh);
    }

    /// Makes two of a page that is full; the branch to both.
    fn split(&mut self, at: u32) -> u32 {
        let (bit, halves) = self.pages.get(at).split();
        self.pages.give_back(at);
        let sides = halves.map(|half| self.leaf(half));
        self.branches.take(Branch { bit, sides })
    }

    /// Keeps a page, which no page has to be for a single entry.
    fn leaf(&mut self, page: Page) -> u32 {
        match page.numbers() {
            [number] => *number | ENTRY,
            _ => self.pages.take(page) | PAGE,
        }
    }

    /// Takes out a number that was entered with this path.
    pub(super) fn remove(&mut self, path: &str, number: u32) {
        let path = path.as_bytes();
        let (mut before, mut last, mut link): (Option<Turn>, Option<Turn>, u32) = (None, None, self.root);
        while is_branch(link) {
            let branch = self.branches.get(link);
            let side = branch.bit.of(path);
            before = last.replace((link, side));
            link = branch.sides[side];
        }
        if let Link::Page(at) = what(link) {
            let page = self.pages.get_mut(at);
            let nearest = page.nearest(path);
            if page.numbers()[nearest] == number {
                page.remove(nearest);
                self.shrunk(at, before, last);
            }
            return;
        }
        if link != number | ENTRY {
            return;
        }
        let Some((branch, side)) = last else {
            *self = Self::default();
            return;
        };
        let stays = self.branches.get(branch).sides[1 - side];
        self.relink(before, stays);
        self.branches.give_back(branch);
    }

    /// A page became smaller, to which the branch `last` leads and to that `before`: it may be one with its neighbour.
    fn shrunk(&mut self, at: u32, before: Option<Turn>, last: Option<Turn>) {
        // There is no need to look at its neighbour, which is in cold memory.
        if self.pages.get(at).numbers().len() >= MOST / 2 {
            return;
        }
        let page = *self.pages.get(at);
        if let Some((above, side)) = last {
            let Branch { bit, sides } = *self.branches.get(above);
            let neighbour = match what(sides[1 - side]) {
                Link::Branch => None,
                Link::Entry(number) => Some(Page::of_one(number)),
                Link::Page(at) => Some(*self.pages.get(at)),
            };
            // Far from full, so that who comes and goes at the edge of a page does not split it each time.
            if let Some(neighbour) = neighbour.filter(|other| page.numbers().len() + other.numbers().len() <= MOST / 2) {
                let both = if side == 0 { page.and(bit, &neighbour) } else { neighbour.and(bit, &page) };
                *self.pages.get_mut(at) = both;
                if let Link::Page(other) = what(sides[1 - side]) {
                    self.pages.give_back(other);
                }
                self.relink(before, at | PAGE);
                self.branches.give_back(above);
                return;
            }
        }
        if let [number] = page.numbers() {
            self.relink(last, *number | ENTRY);
            self.pages.give_back(at);
        }
    }

    /// The numbers whose paths start with `prefix`, those before path `from` aside, in order.
    pub(super) fn starting<'o, 'p>(
        &'o self,
        prefix: &[u8],
        from: Option<&str>,
        path_of: impl Fn(u32) -> &'p str,
    ) -> Walk<'o> {
        let mut walk = Walk { order: self, links: SmallVec::new(), here: [].iter() };
        let mut top = self.root;
        while is_branch(top) && self.branches.get(top).bit.byte() < prefix.len() {
            let branch = self.branches.get(top);
            top = branch.sides[branch.bit.of(prefix)];
        }
        if top == NONE {
            return walk;
        }
        // Of a page those only that agree as far as the prefix goes.
        let (any, within) = match what(top) {
            Link::Page(at) => {
                let page = self.pages.get(at);
                let nearest = page.nearest(prefix);
                (page.numbers()[nearest], page.agreeing(nearest, Bit::new(prefix.len(), 0)))
            }
            _ => (self.nearest(top, b""), 0..MOST),
        };
        if !path_of(any).as_bytes().starts_with(prefix) {
            return walk;
        }
        let Some(from) = from.map(str::as_bytes).filter(|from| *from > prefix) else {
            walk.enter(top, within);
            return walk;
        };
        if !from.starts_with(prefix) {
            // After all that start so.
            return walk;
        }
        let nearest = self.nearest(top, from);
        let differs = Bit::first_difference(from, path_of(nearest).as_bytes());
        let comes_first = differs.is_some_and(|bit| bit.of(from) == 1);
        let mut link = top;
        while is_branch(link) {
            let branch = self.branches.get(link);
            if differs.is_some_and(|bit| branch.bit > bit) {
                break;
            }
            let side = branch.bit.of(from);
            if side == 0 {
                walk.links.push(branch.sides[1]);
            }
            link = branch.sides[side];
        }
        if let Link::Page(at) = what(link) {
            let page = self.pages.get(at);
            let end = if link == top { within.end } else { MOST };
            let same = page.agreeing(page.nearest(from), differs.unwrap_or(Bit::LAST));
            walk.enter(link, if comes_first { same.end } else { same.start }..end);
        } else if !comes_first {
            // All that is left here agrees with `from` up to the bit in which it differs.
            walk.enter(link, 0..MOST);
        }
        walk
    }

    /// The entry at the end of the way that `path` takes from `link` on.
    fn nearest(&self, mut link: u32, path: &[u8]) -> u32 {
        while is_branch(link) {
            let branch = self.branches.get(link);
            link = branch.sides[branch.bit.of(path)];
        }
        match what(link) {
            Link::Page(at) => {
                let page = self.pages.get(at);
                page.numbers()[page.nearest(path)]
            }
            _ => link & !ENTRY,
        }
    }

    fn relink(&mut self, at: Option<Turn>, to: u32) {
        match at {
            Some((branch, side)) => self.branches.get_mut(branch).sides[side] = to,
            None => self.root = to,
        }
    }
}

/// Iterator over numbers in the order of their paths.
#[derive(Debug)]
pub(super) struct Walk<'o> {
    order: &'o Order,
    /// What is left of the page it is in.
    here: slice::Iter<'o, u32>,
    /// What is still to come, the next last.
    links: SmallVec<[u32; 32]>,
}

impl Walk<'_> {
    /// Goes on with what `link` leads to, of a page with those `within` only.
    fn enter(&mut self, link: u32, within: Range<usize>) {
        match what(link) {
            Link::Page(at) => {
                let numbers = self.order.pages.get(at).numbers();
                self.here = numbers[within.start..within.end.min(numbers.len())].iter();
            }
            _ => self.links.push(link),
        }
    }
}

impl Iterator for Walk<'_> {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        loop {
            if let Some(number) = self.here.next() {
                return Some(*number);
            }
            let mut link = self.links.pop()?;
            while is_branch(link) {
                let [first, then] = self.order.branches.get(link).sides;
                self.links.push(then);
                link = first;
            }
            match what(link) {
                Link::Entry(number) => return Some(number),
                _ => self.enter(link, 0..MOST),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// A path made of few letters and slashes, so that many share prefixes, are prefixes, or differ in one byte.
    fn path(random: &mut u64, most: u64) -> String {
        let mut next = |most: u64| {
            *random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (*random >> 33) % most
        };
        let letters = ['/', '/', 'a', 'b', '0', '.', 'ä', '\u{1}', '\u{10ffff}'];
        let len = next(most);
        std::iter::once('/').chain((0..len).map(|_| letters[next(9) as usize])).collect()
    }

    #[test]
    fn it_is_in_order_and_finds_what_starts_with_a_path_from_any_path_on() {
        let mut random = 3_u64;
        for round in 0..20 {
            let (mut order, mut model) = (Order::default(), BTreeMap::<String, u32>::new());
            let mut paths: Vec<String> = Vec::new();
            for step in 0..1_000 {
                let name = path(&mut random, 4 + round / 4);
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
                let (prefix, from) = (path(&mut random, 7), path(&mut random, 7));
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
    fn branches_and_pages_are_used_again() {
        let paths: Vec<String> = (0..8_192).map(|number| format!("/{number:05}")).collect();
        let mut order = Order::default();
        let mut places = None;
        for _ in 0..3 {
            for (number, path) in (0..).zip(&paths).skip(usize::from(places.is_some())) {
                order.insert(path, number, |number| &paths[number as usize]);
            }
            let now = (order.branches.places(), order.pages.places());
            assert_eq!(*places.get_or_insert(now), now);
            assert!(now.1 * MOST < 2 * paths.len() && now.0 < now.1, "{now:?}");
            assert!(order.starting(b"/", None, |number| &paths[number as usize]).eq(0..8_192));
            for (number, path) in (0..).zip(&paths).skip(1) {
                order.remove(path, number);
            }
            assert_eq!(order.root, ENTRY, "the first is left");
        }
        order.remove(&paths[0], 0);
        assert!(order.is_empty());
    }

    #[test]
    fn pages_that_few_are_left_in_become_one() {
        let paths: Vec<String> = (0..10_000).map(|number| format!("/{:08x}", mixed(number))).collect();
        let path_of = |number: u32| &*paths[number as usize];
        let mut order = Order::default();
        (0..).zip(&paths).for_each(|(number, path)| order.insert(path, number, path_of));
        for (number, path) in (0..).zip(&paths).filter(|(number, _)| number % 100 != 0) {
            order.remove(path, number);
        }
        let mut left: Vec<u32> = (0..10_000).step_by(100).collect();
        left.sort_unstable_by_key(|number| path_of(*number));
        assert!(order.starting(b"/", None, path_of).eq(left.iter().copied()));
        let mut used = 0;
        let mut links = vec![order.root];
        while let Some(link) = links.pop() {
            match what(link) {
                Link::Branch => links.extend(order.branches.get(link).sides),
                _ => used += 1,
            }
        }
        assert!(used <= 40, "{used} pages or entries for a hundred");
    }

    #[test]
    fn paths_each_of_which_is_in_the_next_are_in_order_in_whichever_order_they_come() {
        let paths: Vec<String> = (0..200).map(|number| format!("/{}", "a/".repeat(number))).collect();
        let path_of = |number: u32| &*paths[number as usize];
        for step in [1, 3, 7, 199] {
            let mut order = Order::default();
            let numbers = || (0..200).map(|number| number * step % 200);
            numbers().for_each(|number| order.insert(path_of(number), number, path_of));
            assert!(order.starting(b"/", None, path_of).eq(0..200));
            assert!(order.starting(b"/", Some(path_of(77)), path_of).eq(77..200));
            assert!(order.starting(path_of(150).as_bytes(), Some(path_of(77)), path_of).eq(150..200));
            for number in numbers().take(100) {
                order.remove(path_of(number), number);
            }
            let mut left: Vec<u32> = numbers().skip(100).collect();
            left.sort_unstable();
            assert!(order.starting(b"/", None, path_of).eq(left));
        }
    }

    fn mixed(number: u32) -> u32 {
        (number + 1).wrapping_mul(0x9e37_79b9).rotate_left(15).wrapping_mul(0x85eb_ca6b)
    }
}
