//! `Few`: a list of mostly one item, which then stands in place.

use std::slice;

#[derive(Clone, Debug)]
pub(super) enum Few<T> {
    /// Has nothing that could have to be dropped, so that a constant may be borrowed for good.
    None,
    One(T),
    /// One at least.
    Many(Vec<T>),
}

impl<T> Few<T> {
    pub(super) const NONE: Self = Self::None;

    #[inline]
    pub(super) const fn is_empty(&self) -> bool {
        matches!(self, Self::None)
    }

    pub(super) fn as_slice(&self) -> &[T] {
        match self {
            Self::None => &[],
            Self::One(item) => slice::from_ref(item),
            Self::Many(items) => items,
        }
    }

    pub(super) fn as_mut_slice(&mut self) -> &mut [T] {
        match self {
            Self::None => &mut [],
            Self::One(item) => slice::from_mut(item),
            Self::Many(items) => items,
        }
    }

    pub(super) fn push(&mut self, item: T) {
        *self = match std::mem::replace(self, Self::NONE) {
            Self::None => Self::One(item),
            Self::Many(mut items) => {
                items.push(item);
                Self::Many(items)
            }
            Self::One(first) => Self::Many(vec![first, item]),
        };
    }

    pub(super) fn retain(&mut self, mut keep: impl FnMut(&T) -> bool) {
        match self {
            Self::None => {}
            Self::One(item) => {
                if !keep(item) {
                    *self = Self::NONE;
                }
            }
            Self::Many(items) => {
                items.retain(keep);
                if items.is_empty() {
                    *self = Self::NONE;
                }
            }
        }
    }
}

impl<T> FromIterator<T> for Few<T> {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Self {
        items.into_iter().fold(Self::NONE, |mut few, item| {
            few.push(item);
            few
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_holds_what_a_list_would() {
        let mut few = Few::NONE;
        for count in 0..5 {
            assert_eq!(few.as_slice(), (0..count).collect::<Vec<_>>());
            few.push(count);
        }
        few.as_mut_slice()[0] = 9;
        few.retain(|item| item % 2 == 1);
        assert_eq!(few.as_slice(), [9, 1, 3]);
        few.retain(|_| false);
        assert!(few.is_empty());
        few.push(4);
        assert!(matches!(few, Few::One(4)) && !few.is_empty());
        let mut one: Few<_> = [7].into_iter().collect();
        assert!(matches!(one, Few::One(7)));
        one.retain(|_| true);
        one.as_mut_slice()[0] = 8;
        assert_eq!(one.as_slice(), [8]);
        one.retain(|_| false);
        assert!(one.as_slice().is_empty() && one.is_empty());
    }
}
