//! `Seats`: how many may wait, for one resource and in all.

use std::{collections::HashMap, fmt, sync::Arc};

use parking_lot::Mutex;

use crate::lock::ResourceKey;

/// The places of everybody who waits, whatever for. Both limits count acquires, held writes and callers who wait for news
/// together.
pub(crate) struct Seats {
    each: usize,
    most: usize,
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    all: usize,
    at: HashMap<ResourceKey<'static>, usize>,
}

/// Why there is no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Full {
    /// As many wait for the resource as may.
    Resource,
    /// As many wait in this process as may.
    Process,
}

/// A place, taken as long as this lives.
#[must_use = "the place is given up when this is dropped"]
pub(crate) struct Place {
    seats: Arc<Seats>,
    keys: Arc<[ResourceKey<'static>]>,
}

impl Seats {
    /// Places for `each` at one resource and `most` in all.
    pub(crate) fn new(each: usize, most: usize) -> Self {
        Self { each, most, taken: Mutex::default() }
    }

    /// A place for somebody who waits for all of `keys`.
    pub(crate) fn take(self: &Arc<Self>, keys: Arc<[ResourceKey<'static>]>) -> Result<Place, Full> {
        let mut taken = self.taken.lock();
        if taken.all >= self.most {
            return Err(Full::Process);
        }
        if keys.iter().any(|key| taken.at.get(key).is_some_and(|count| *count >= self.each)) || self.each == 0 {
            return Err(Full::Resource);
        }
        taken.all += 1;
        for key in keys.iter() {
            *taken.at.entry(key.clone()).or_default() += 1;
        }
        drop(taken);
        Ok(Place { seats: self.clone(), keys })
    }

    /// How many places are taken.
    pub(crate) fn taken(&self) -> usize {
        self.taken.lock().all
    }

    #[cfg(test)]
    fn resources(&self) -> usize {
        self.taken.lock().at.len()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.seats.taken.lock();
        taken.all -= 1;
        for key in self.keys.iter() {
            if let Some(count) = taken.at.get_mut(key) {
                *count -= 1;
                if *count == 0 {
                    taken.at.remove(key);
                }
            }
        }
    }
}

impl fmt::Debug for Seats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Seats({} of {})", self.taken(), self.most)
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Place").field(&self.keys).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(paths: &[&'static str]) -> Arc<[ResourceKey<'static>]> {
        paths.iter().map(|path| ResourceKey::from_canonical(*path)).collect()
    }

    #[test]
    fn both_limits_hold_and_every_place_comes_back() {
        let seats = Arc::new(Seats::new(2, 4));
        let first = seats.take(at(&["/a", "/b"])).unwrap();
        let second = seats.take(at(&["/a"])).unwrap();
        assert_eq!(seats.take(at(&["/c", "/a"])).unwrap_err(), Full::Resource);
        assert_eq!(seats.taken(), 2, "a refused one takes nothing, not even at its other resources");
        let rest: Vec<Place> = ["/b", "/c"].iter().map(|path| seats.take(at(&[path])).unwrap()).collect();
        assert_eq!(seats.take(at(&["/d"])).unwrap_err(), Full::Process);
        drop(second);
        let again = seats.take(at(&["/a"])).unwrap();
        drop((first, rest, again));
        assert_eq!((seats.taken(), seats.resources()), (0, 0));
        assert_eq!(Arc::new(Seats::new(0, 4)).take(at(&["/a"])).unwrap_err(), Full::Resource);
        assert_eq!(Arc::new(Seats::new(4, 0)).take(at(&["/a"])).unwrap_err(), Full::Process);
    }

    #[test]
    fn a_resource_named_twice_is_given_back_twice() {
        let seats = Arc::new(Seats::new(2, 4));
        drop(seats.take(at(&["/a", "/a"])).unwrap());
        assert_eq!((seats.taken(), seats.resources()), (0, 0));
    }
}
