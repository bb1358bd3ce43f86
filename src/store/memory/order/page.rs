//! `Page`: a small part of the tree of paths, laid flat.
//!
//! Its entries stand in the order of their paths, and between two of them the first bit in which they differ. That says
//! all that branches would: the least of these bits is the one that the topmost would name, and parts those before it from
//! those after it.

use std::{hint, ops::Range};

use super::{Bit, arena::Spare};

/// Entries in a page: it fills two lines of a cache.
pub(super) const MOST: usize = 16;

#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
pub(super) struct Page {
    len: u32,
    /// In which bit each differs from the one after it.
    bits: [Bit; MOST - 1],
    numbers: [u32; MOST],
}

impl Spare for Page {
    fn next(&mut self) -> &mut u32 {
        &mut self.len
    }
}

impl Page {
    pub(super) fn of_one(number: u32) -> Self {
        let mut page = Self { len: 1, bits: [Bit::default(); MOST - 1], numbers: [0; MOST] };
        page.numbers[0] = number;
        page
    }

    /// A new number, whose path has `side` in `bit`, and the one that it differs from there.
    pub(super) fn of_two(bit: Bit, side: usize, number: u32, other: u32) -> Self {
        let mut page = Self::of_one(other);
        page.insert(0, bit, side, number);
        page
    }

    #[inline]
    pub(super) fn numbers(&self) -> &[u32] {
        &self.numbers[..self.len as usize]
    }

    #[inline]
    fn bits(&self) -> &[Bit] {
        &self.bits[..(self.len as usize).saturating_sub(1)]
    }

    /// Where the way ends that `path` takes: none agrees with it further than the entry there.
    #[inline]
    pub(super) fn nearest(&self, path: &[u8]) -> usize {
        // The second line is needed next, whichever entry it is: it comes while the bits are read.
        hint::black_box(self.numbers[0]);
        let (mut at, mut turned) = (0, Bit::LAST);
        for (before, bit) in self.bits().iter().enumerate() {
            // A later bit is on the side that was not taken.
            if *bit < turned {
                let goes_on = bit.of(path) == 1;
                at = if goes_on { before + 1 } else { at };
                turned = if goes_on { Bit::LAST } else { *bit };
            }
        }
        at
    }

    /// Those around `at` that agree in all bits before `bit`.
    pub(super) fn agreeing(&self, at: usize, bit: Bit) -> Range<usize> {
        let bits = self.bits();
        let (mut start, mut end) = (at, at + 1);
        while start > 0 && bits[start - 1] >= bit {
            start -= 1;
        }
        while end <= bits.len() && bits[end - 1] >= bit {
            end += 1;
        }
        start..end
    }

    /// Enters a number whose path first differs from the nearest, at `nearest`, in `bit`, and has `side` there. There must
    /// be room.
    pub(super) fn insert(&mut self, nearest: usize, bit: Bit, side: usize, number: u32) {
        let same = self.agreeing(nearest, bit);
        let len = self.len as usize;
        let at = if side == 0 { same.start } else { same.end };
        self.numbers.copy_within(at..len, at + 1);
        self.numbers[at] = number;
        // It is before the first or after the last of those that agree, and differs from that.
        let between = if side == 0 { at } else { at - 1 };
        self.bits.copy_within(between..len - 1, between + 1);
        self.bits[between] = bit;
        self.len += 1;
    }

    /// Takes out the entry at `at`, which must not be the only one.
    pub(super) fn remove(&mut self, at: usize) {
        let (len, bits) = (self.len as usize, self.bits());
        // What is left beside each other differs in the lesser bit.
        let between = match (at.checked_sub(1), bits.get(at)) {
            (Some(before), Some(after)) if bits[before] > *after => before,
            (Some(before), None) => before,
            _ => at,
        };
        self.bits.copy_within(between + 1..len - 1, between);
        self.numbers.copy_within(at + 1..len, at);
        self.len -= 1;
    }

    /// The two parts that its topmost branch would lead to, and the bit in which they differ. There must be two entries.
    pub(super) fn split(&self) -> (Bit, [Self; 2]) {
        let (before, bit) = (0..).zip(self.bits()).min_by_key(|(_, bit)| **bit).expect("two entries differ in a bit");
        (*bit, [self.part(0..before + 1), self.part(before + 1..self.len as usize)])
    }

    fn part(&self, which: Range<usize>) -> Self {
        let mut part = Self::of_one(0);
        part.len = u32::try_from(which.len()).expect("no more than in a page");
        part.numbers[..which.len()].copy_from_slice(&self.numbers[which.clone()]);
        part.bits[..which.len() - 1].copy_from_slice(&self.bits[which.start..which.end - 1]);
        part
    }

    /// This page and what comes after it, which first differs from it in `bit`.
    pub(super) fn and(&self, bit: Bit, after: &Self) -> Self {
        let (len, more) = (self.len as usize, after.len as usize);
        let mut both = *self;
        both.numbers[len..len + more].copy_from_slice(after.numbers());
        both.bits[len - 1] = bit;
        both.bits[len..len + more - 1].copy_from_slice(after.bits());
        both.len += after.len;
        both
    }
}
