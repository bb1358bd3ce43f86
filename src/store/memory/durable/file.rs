//! The file: who wrote it, which form, how long it has to be; then the journal, then the database.
//!
//! ```text
//! 0      head: magic, version, length of the journal, secret of the token digests, checksum   written once
//! 4096   position, two copies in turn: length of the database, epoch of the journal, checksum
//! 12288  journal: fixed length, batches of changes since the last fold
//! ...    database: redb, which sees only its own part
//! ```
//!
//! A file is looked at before anything is written to it, and the database is first opened over an *overlay*: what redb
//! repairs goes to memory, and to the file only when everything has been read and found good.

use std::{collections::BTreeMap, io, sync::Arc};

use parking_lot::Mutex;
use redb::StorageBackend;
use sha2::{Digest, Sha256};

use super::{queue::Failure, rows::Bytes};
use crate::store::StoreErrorKind;

const MAGIC: [u8; 16] = *b"tower-lock store";
const VERSION: u32 = 1;
const BLOCK: u64 = 4096;
const JOURNAL: u64 = 3 * BLOCK;
/// The longest journal that is believed.
const MOST_JOURNAL: u64 = 1 << 30;

/// A file, and the lock on it; it is freed when the last handle goes.
pub(super) type Disk = Arc<dyn StorageBackend>;

/// What stands at the start of the file and never changes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head {
    pub(super) secret: [u8; 16],
    pub(super) journal: u64,
}

/// How far the file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Position {
    counter: u64,
    /// How long the database is at least.
    base: u64,
    /// The epoch of the journal is at least this.
    pub(super) epoch: u64,
}

/// The file with its head read.
#[derive(Debug)]
pub(super) struct File {
    pub(super) disk: Disk,
    pub(super) head: Head,
    position: Mutex<Position>,
    overlay: Mutex<Option<Overlay>>,
}

/// What was written while the file was still being judged.
#[derive(Debug)]
struct Overlay {
    len: u64,
    pages: BTreeMap<u64, Vec<u8>>,
}

pub(super) fn checksum(parts: &[&[u8]]) -> [u8; 16] {
    let whole = parts.iter().fold(Sha256::new(), Digest::chain_update).finalize();
    let mut half = [0; 16];
    half.copy_from_slice(&whole[..16]);
    half
}

fn incompatible(what: &'static str) -> Failure {
    Failure::new(StoreErrorKind::Incompatible, what)
}

/// What went wrong with the file, as far as the system says it.
pub(super) fn io_failure(what: &'static str, error: io::Error) -> Failure {
    use io::ErrorKind::{InvalidData, PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull, UnexpectedEof};
    let kind = match error.kind() {
        StorageFull | QuotaExceeded | ReadOnlyFilesystem => StoreErrorKind::ReadOnly,
        PermissionDenied => StoreErrorKind::Denied,
        InvalidData | UnexpectedEof => StoreErrorKind::Incompatible,
        _ => StoreErrorKind::Other,
    };
    Failure::new(kind, what).caused_by(error)
}

impl Head {
    fn to_bytes(self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend(VERSION.to_le_bytes());
        bytes.extend(self.journal.to_le_bytes());
        bytes.extend(self.secret);
        let sum = checksum(&[&bytes]);
        bytes.extend(sum);
        bytes
    }

    fn read(block: &[u8]) -> Result<Self, Failure> {
        let mut bytes = Bytes(block);
        if bytes.array().ok() != Some(MAGIC) {
            return Err(incompatible("the file is not one of this crate's"));
        }
        let version = bytes.small()?;
        let journal = bytes.number()?;
        let secret = bytes.array()?;
        let good = bytes.array::<16>()? == checksum(&[&block[..44]]);
        if version > VERSION {
            let what = format!("the file is of form {version}, this release reads form {VERSION}");
            return Err(Failure::new(StoreErrorKind::Incompatible, what));
        }
        if !good || version == 0 || journal % BLOCK != 0 || journal > MOST_JOURNAL {
            return Err(incompatible("the head of the file is damaged"));
        }
        Ok(Self { secret, journal })
    }
}

impl Position {
    fn to_bytes(self) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(self.counter.to_le_bytes());
        bytes.extend(self.base.to_le_bytes());
        bytes.extend(self.epoch.to_le_bytes());
        let sum = checksum(&[&bytes]);
        bytes.extend(sum);
        bytes
    }

    fn read(block: &[u8]) -> Option<Self> {
        let mut bytes = Bytes(block);
        let position = Self { counter: bytes.number().ok()?, base: bytes.number().ok()?, epoch: bytes.number().ok()? };
        (bytes.array::<16>().ok()? == checksum(&[&block[..24]])).then_some(position)
    }
}

impl File {
    /// A new file on an empty `disk`: its head, an empty journal, no database yet.
    pub(super) fn create(disk: Disk, head: Head) -> Result<Self, Failure> {
        let position = Position { counter: 0, base: 0, epoch: 0 };
        let file = Self { disk, head, position: Mutex::new(position), overlay: Mutex::new(None) };
        let written = file.disk.set_len(0).and_then(|()| {
            file.disk.write(0, &head.to_bytes())?;
            file.write_position(|_| {})?;
            file.write_position(|_| {})?;
            // Written, not left as a hole: space for the journal is there from the start, and a commit changes no metadata.
            let zeros = vec![0; 1 << 16];
            let mut at = JOURNAL;
            while at < file.base() {
                let step = zeros.len().min(usize::try_from(file.base() - at).unwrap_or(usize::MAX));
                file.disk.write(at, &zeros[..step])?;
                at += step as u64;
            }
            file.disk.sync_data(false)
        });
        written.map_err(|error| io_failure("making the file", error))?;
        Ok(file)
    }

    /// The file on `disk`, of which nothing is changed until [`File::believe`].
    pub(super) fn open(disk: Disk) -> Result<Self, Failure> {
        let reading = |error| io_failure("reading the file", error);
        let len = disk.len().map_err(reading)?;
        if len == 0 {
            return Err(incompatible("the file is empty, so it is no file of this crate's or was cut off"));
        }
        let head = disk.read(0, usize::try_from(len.min(BLOCK)).unwrap_or(0)).map_err(reading)?;
        let head = Head::read(&head)?;
        if len < JOURNAL {
            return Err(incompatible("the file was cut off"));
        }
        let mut copies = Vec::new();
        for at in [BLOCK, 2 * BLOCK] {
            copies.extend(Position::read(&disk.read(at, 64).map_err(reading)?));
        }
        let position = copies.into_iter().max_by_key(|position| position.counter);
        let position = position.ok_or_else(|| incompatible("the head of the file is damaged"))?;
        let file = Self { disk, head, position: Mutex::new(position), overlay: Mutex::new(None) };
        if len < file.base().saturating_add(position.base) {
            return Err(incompatible("the file was cut off"));
        }
        *file.overlay.lock() = Some(Overlay { len: len - file.base(), pages: BTreeMap::new() });
        Ok(file)
    }

    /// All was read and found good: what was put aside is written.
    pub(super) fn believe(&self) -> Result<(), Failure> {
        let Some(overlay) = self.overlay.lock().take() else { return Ok(()) };
        let written = (|| {
            if self.disk.len()? != self.base() + overlay.len {
                self.resize(overlay.len)?;
            }
            for (page, bytes) in &overlay.pages {
                let at = page * BLOCK;
                if at < overlay.len {
                    let fits = bytes.len().min(usize::try_from(overlay.len - at).unwrap_or(usize::MAX));
                    self.disk.write(self.base() + at, &bytes[..fits])?;
                }
            }
            self.disk.sync_data(false)
        })();
        written.map_err(|error| io_failure("repairing the file", error))
    }

    pub(super) fn position(&self) -> Position {
        *self.position.lock()
    }

    /// Writes where the journal is, to be durable with the next sync.
    pub(super) fn write_epoch(&self, epoch: u64) -> io::Result<()> {
        self.write_position(|position| position.epoch = epoch)
    }

    /// The two copies take turns, so that one is always whole.
    fn write_position(&self, change: impl FnOnce(&mut Position)) -> io::Result<()> {
        let mut position = self.position.lock();
        let mut next = *position;
        change(&mut next);
        next.counter += 1;
        self.disk.write(BLOCK * (1 + next.counter % 2), &next.to_bytes())?;
        *position = next;
        Ok(())
    }

    /// Where the journal stands.
    pub(super) const fn journal(&self) -> u64 {
        JOURNAL
    }

    /// Where the database stands.
    const fn base(&self) -> u64 {
        JOURNAL + self.head.journal
    }

    /// Gives the database another length. What is recorded is never more than there is.
    fn resize(&self, len: u64) -> io::Result<()> {
        if len < self.position().base {
            self.write_position(|position| position.base = len)?;
            self.disk.sync_data(false)?;
            return self.disk.set_len(self.base() + len);
        }
        self.disk.set_len(self.base() + len)?;
        self.disk.sync_data(false)?;
        self.write_position(|position| position.base = len)
    }
}

/// The part of the file that redb sees.
#[derive(Debug)]
pub(super) struct Base(pub(super) Arc<File>);

impl StorageBackend for Base {
    fn len(&self) -> io::Result<u64> {
        match &*self.0.overlay.lock() {
            Some(overlay) => Ok(overlay.len),
            None => Ok(self.0.disk.len()?.saturating_sub(self.0.base())),
        }
    }

    fn read(&self, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        // Asked before memory is: a damaged file may ask for any amount.
        let end = offset.checked_add(len as u64).filter(|end| self.len().is_ok_and(|len| *end <= len));
        let end = end.ok_or(io::ErrorKind::UnexpectedEof)?;
        let file = &self.0;
        match &*file.overlay.lock() {
            None => file.disk.read(file.base() + offset, len),
            Some(overlay) => overlay.read(file, offset, end),
        }
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        if let Some(overlay) = &mut *self.0.overlay.lock() {
            overlay.pages.retain(|page, _| page * BLOCK < len);
            overlay.len = len;
            return Ok(());
        }
        self.0.resize(len)
    }

    fn sync_data(&self, eventual: bool) -> io::Result<()> {
        if self.0.overlay.lock().is_some() { Ok(()) } else { self.0.disk.sync_data(eventual) }
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let file = &self.0;
        match &mut *file.overlay.lock() {
            None => file.disk.write(file.base() + offset, data),
            Some(overlay) => overlay.write(file, offset, data),
        }
    }
}

impl Overlay {
    /// One page as it is now; what lies beyond the end is zero.
    fn page(&self, file: &File, page: u64) -> io::Result<Vec<u8>> {
        if let Some(bytes) = self.pages.get(&page) {
            return Ok(bytes.clone());
        }
        let (at, stored) = (page * BLOCK, file.disk.len()?.saturating_sub(file.base()));
        let there = usize::try_from(stored.saturating_sub(at).min(BLOCK)).unwrap_or(0);
        let mut bytes = if there == 0 { Vec::new() } else { file.disk.read(file.base() + at, there)? };
        bytes.resize(usize::try_from(BLOCK).unwrap_or(0), 0);
        Ok(bytes)
    }

    fn read(&self, file: &File, offset: u64, end: u64) -> io::Result<Vec<u8>> {
        let (first, last) = (offset / BLOCK, end.div_ceil(BLOCK));
        let stored = file.disk.len()?.saturating_sub(file.base());
        if end <= stored && self.pages.range(first..last).next().is_none() {
            return file.disk.read(file.base() + offset, usize::try_from(end - offset).unwrap_or(usize::MAX));
        }
        let mut bytes = Vec::new();
        for page in first..last {
            bytes.extend(self.page(file, page)?);
        }
        let skip = usize::try_from(offset - first * BLOCK).unwrap_or(0);
        bytes.drain(..skip);
        bytes.truncate(usize::try_from(end - offset).unwrap_or(usize::MAX));
        Ok(bytes)
    }

    fn write(&mut self, file: &File, offset: u64, mut data: &[u8]) -> io::Result<()> {
        let mut at = offset;
        while !data.is_empty() {
            let (page, within) = (at / BLOCK, usize::try_from(at % BLOCK).unwrap_or(0));
            let mut bytes = self.page(file, page)?;
            let (now, later) = data.split_at(data.len().min(bytes.len() - within));
            bytes[within..within + now.len()].copy_from_slice(now);
            self.pages.insert(page, bytes);
            at += now.len() as u64;
            data = later;
        }
        Ok(())
    }
}
