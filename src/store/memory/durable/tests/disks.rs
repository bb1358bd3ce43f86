//! A disk in memory that can lose power, fail, and be made to wait.

use std::{
    io,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use parking_lot::{Condvar, Mutex};
use redb::StorageBackend;

const SECTOR: usize = 512;
/// For what happens at once, or never.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Debug, Default)]
pub(super) struct TestDisk {
    state: Mutex<State>,
    gate: Condvar,
    pub(super) syncs: AtomicUsize,
    /// How often a sync lets others go first.
    pub(super) idle: AtomicUsize,
}

#[derive(Debug, Default)]
struct State {
    /// What a read sees.
    bytes: Vec<u8>,
    /// What a loss of power leaves for certain.
    safe: Vec<u8>,
    /// What was written since the last sync.
    unsafe_writes: Vec<Written>,
    failing: Option<io::ErrorKind>,
    /// Calls that go well before it fails.
    after: usize,
    shut: bool,
    waiting: usize,
}

#[derive(Debug)]
enum Written {
    At(usize, Vec<u8>),
    Len(usize),
}

impl TestDisk {
    pub(super) fn holding(bytes: Vec<u8>) -> Self {
        Self { state: Mutex::new(State { safe: bytes.clone(), bytes, ..State::default() }), ..Self::default() }
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        self.state.lock().bytes.clone()
    }

    /// From now on, after so many calls more, every change fails.
    pub(super) fn fail(&self, kind: io::ErrorKind, after: usize) {
        let mut state = self.state.lock();
        (state.failing, state.after) = (Some(kind), after);
    }

    pub(super) fn mend(&self) {
        self.state.lock().failing = None;
    }

    /// Syncs wait from now on.
    pub(super) fn shut(&self) {
        self.state.lock().shut = true;
    }

    pub(super) fn open(&self) {
        self.state.lock().shut = false;
        self.gate.notify_all();
    }

    /// Waits until a sync waits.
    pub(super) fn until_one_waits(&self) {
        let mut state = self.state.lock();
        while state.waiting == 0 {
            assert!(!self.gate.wait_for(&mut state, PATIENCE).timed_out(), "nothing is written down");
        }
    }

    /// What is left when the power goes now: all that was synced, and of the rest any sectors, as `kept` says.
    pub(super) fn power_loss(&self, mut kept: impl FnMut() -> bool) -> Vec<u8> {
        let state = self.state.lock();
        let mut left = state.safe.clone();
        for written in &state.unsafe_writes {
            match written {
                Written::Len(len) => {
                    if kept() {
                        left.resize(*len, 0);
                    }
                }
                Written::At(at, data) => {
                    let mut from = 0;
                    while from < data.len() {
                        let to = (((at + from) / SECTOR + 1) * SECTOR - at).min(data.len());
                        if kept() {
                            if left.len() < at + to {
                                left.resize(at + to, 0);
                            }
                            left[at + from..at + to].copy_from_slice(&data[from..to]);
                        }
                        from = to;
                    }
                }
            }
        }
        left
    }

    fn check(state: &mut State) -> io::Result<()> {
        match state.failing {
            Some(_) if state.after > 0 => state.after -= 1,
            Some(kind) => return Err(io::Error::new(kind, "the disk fails")),
            None => {}
        }
        Ok(())
    }
}

fn index(offset: u64) -> usize {
    usize::try_from(offset).unwrap()
}

impl StorageBackend for TestDisk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.state.lock().bytes.len() as u64)
    }

    fn read(&self, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        let state = self.state.lock();
        let bytes = state.bytes.get(index(offset)..index(offset) + len);
        bytes.map(<[u8]>::to_vec).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.state.lock();
        Self::check(&mut state)?;
        state.bytes.resize(index(len), 0);
        state.unsafe_writes.push(Written::Len(index(len)));
        Ok(())
    }

    fn sync_data(&self, _: bool) -> io::Result<()> {
        (0..self.idle.load(Ordering::Relaxed)).for_each(|_| std::thread::yield_now());
        let mut state = self.state.lock();
        state.waiting += 1;
        self.gate.notify_all();
        while state.shut {
            self.gate.wait(&mut state);
        }
        state.waiting -= 1;
        Self::check(&mut state)?;
        state.safe = state.bytes.clone();
        state.unsafe_writes.clear();
        self.syncs.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.state.lock();
        Self::check(&mut state)?;
        let end = index(offset) + data.len();
        if state.bytes.len() < end {
            state.bytes.resize(end, 0);
        }
        state.bytes[index(offset)..end].copy_from_slice(data);
        state.unsafe_writes.push(Written::At(index(offset), data.to_vec()));
        Ok(())
    }
}
