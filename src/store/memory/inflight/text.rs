//! What a write changes, as the registry keeps it: one target as atomic words, or any number as text.

use std::sync::atomic::Ordering;

use super::slot::KEEP;
use crate::{
    lock::{Effect, Membership, ResourceKey, Target},
    store::memory::sync::AtomicU64,
};

/// Words for a path; longer ones go elsewhere.
pub(super) const WORDS: usize = if cfg!(all(tower_lock_loom, test)) { 2 } else { 18 };
const BYTES: usize = WORDS * 8;

const UNLINK: u64 = 1 << 1;
const CHANGED: u64 = 1 << 2;
const NAMESPACE: u64 = 1 << 3;
/// Above stands the length of the path, 16 bits below that of the namespace.
const NAMESPACE_LEN: u32 = 32;
const PATH_LEN: u32 = 48;
const LEN: u64 = 0xffff;

/// One target, written by one thread and read along by others. The namespace comes after the path, from a new word on.
#[derive(Debug)]
pub(super) struct Inline {
    /// 0: nothing.
    head: AtomicU64,
    words: [AtomicU64; WORDS],
}

impl Default for Inline {
    fn default() -> Self {
        Self { head: AtomicU64::new(0), words: std::array::from_fn(|_| AtomicU64::new(0)) }
    }
}

impl Inline {
    /// Keeps what a write changes; whether it can.
    pub(super) fn put(&self, targets: &[Target<'_>]) -> bool {
        let [target] = targets else {
            self.head.store(0, Ordering::Relaxed);
            return targets.is_empty();
        };
        let path = target.key.path().as_bytes();
        let mut head = 1
            | (u64::from(target.effect == Effect::Unlink) * UNLINK)
            | (u64::from(target.membership == Membership::Changed) * CHANGED)
            | ((path.len() as u64) << PATH_LEN);
        let (mut fits, used) = write(&self.words, path);
        if let Some(namespace) = target.key.namespace() {
            fits &= write(&self.words[used..], namespace.as_bytes()).0;
            head |= NAMESPACE | ((namespace.len() as u64) << NAMESPACE_LEN);
        }
        self.head.store(if fits { head } else { 0 }, Ordering::Relaxed);
        fits
    }

    /// Whether a lock on `root` may touch the target: one of the two is a prefix of the other.
    pub(super) fn may_touch(&self, root: &ResourceKey<'_>) -> bool {
        let head = self.head.load(Ordering::Relaxed);
        if head == 0 || (head & NAMESPACE != 0) != root.namespace().is_some() {
            return false;
        }
        let root = root.path().as_bytes();
        let (both, last) = root[..root.len().min(path_len(head))].as_chunks::<8>();
        let same = |(word, chunk): (&AtomicU64, &[u8; 8])| word.load(Ordering::Relaxed) == u64::from_le_bytes(*chunk);
        self.words.iter().zip(both).all(same)
            && (last.is_empty() || {
                let mask = (1 << (8 * last.len())) - 1;
                self.words[both.len()].load(Ordering::Relaxed) & mask == tail(last)
            })
    }

    /// A copy, whole only if nothing was written meanwhile.
    pub(super) fn read(&self) -> Copied {
        let head = self.head.load(Ordering::Relaxed);
        let mut bytes = [0; BYTES];
        if head != 0 {
            let (chunks, _) = bytes.as_chunks_mut::<8>();
            let words = path_len(head).div_ceil(8) + namespace_len(head).div_ceil(8);
            for (chunk, word) in chunks.iter_mut().zip(&self.words).take(words) {
                *chunk = word.load(Ordering::Relaxed).to_le_bytes();
            }
        }
        Copied { head, bytes }
    }
}

pub(super) struct Copied {
    head: u64,
    bytes: [u8; BYTES],
}

impl Copied {
    pub(super) fn target(&self) -> Option<Target<'_>> {
        let text = |start: usize, len: usize| std::str::from_utf8(self.bytes.get(start..start + len)?).ok();
        if self.head == 0 {
            return None;
        }
        let len = path_len(self.head);
        let mut key = ResourceKey::from_canonical(text(0, len)?);
        if self.head & NAMESPACE != 0 {
            key = key.in_namespace(text(len.next_multiple_of(8), namespace_len(self.head))?);
        }
        let effect = if self.head & UNLINK == 0 { Effect::Write } else { Effect::Unlink };
        let membership = if self.head & CHANGED == 0 { Membership::Kept } else { Membership::Changed };
        Some(Target { key, effect, membership })
    }
}

fn path_len(head: u64) -> usize {
    (head >> PATH_LEN & LEN) as usize
}

fn namespace_len(head: u64) -> usize {
    (head >> NAMESPACE_LEN & LEN) as usize
}

/// Writes bytes, if there is a word for each eight of them and one more; how many words they take.
#[inline]
fn write(words: &[AtomicU64], bytes: &[u8]) -> (bool, usize) {
    let (chunks, last) = bytes.as_chunks::<8>();
    let Some((words, [end, ..])) = words.split_at_checked(chunks.len()) else { return (false, 0) };
    words.iter().zip(chunks).for_each(|(word, chunk)| word.store(u64::from_le_bytes(*chunk), Ordering::Relaxed));
    if last.is_empty() {
        return (true, chunks.len());
    }
    // Read together with bytes before it where there are enough: one load.
    let tail = match bytes.last_chunk() {
        Some(end) => u64::from_le_bytes(*end) >> (8 * (8 - last.len())),
        None => tail(last),
    };
    end.store(tail, Ordering::Relaxed);
    (true, chunks.len() + 1)
}

/// Fewer than eight bytes as a word.
fn tail(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte))
}

/// Any number of targets, in buffers that are used again.
#[derive(Debug, Default)]
pub(super) struct Targets {
    /// Namespaces and paths, one after the other.
    text: String,
    spans: Vec<Span>,
}

/// Where in the text one target stands.
#[derive(Clone, Copy, Debug)]
struct Span {
    start: usize,
    /// Where its namespace ends and its path starts; none without a namespace.
    namespace: Option<usize>,
    end: usize,
    effect: Effect,
    membership: Membership,
}

impl Targets {
    pub(super) fn push(&mut self, target: &Target<'_>) {
        let start = self.text.len();
        let namespace = target.key.namespace().map(|namespace| {
            self.text.push_str(namespace);
            self.text.len()
        });
        self.text.push_str(target.key.path());
        let (effect, membership) = (target.effect, target.membership);
        self.spans.push(Span { start, namespace, end: self.text.len(), effect, membership });
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Target<'_>> {
        self.spans.iter().map(|span| {
            let key = ResourceKey::from_canonical(&self.text[span.namespace.unwrap_or(span.start)..span.end]);
            let key = match span.namespace {
                Some(end) => key.in_namespace(&self.text[span.start..end]),
                None => key,
            };
            Target { key, effect: span.effect, membership: span.membership }
        })
    }

    pub(super) fn clear(&mut self) {
        self.text.clear();
        self.spans.clear();
        self.text.shrink_to(KEEP);
        self.spans.shrink_to(KEEP / size_of::<Span>());
    }

    #[cfg(test)]
    pub(super) fn kept(&self) -> usize {
        self.text.capacity()
    }
}
