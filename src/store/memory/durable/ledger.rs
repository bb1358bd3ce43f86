//! `FileLedger`: the journal and the database behind it, as one thing that takes batches of changes.

use std::{
    ffi::OsString,
    fs::{self, OpenOptions},
    io,
    path::Path,
    sync::Arc,
};

use redb::backends::FileBackend;
use uuid::Uuid;

use super::{
    Change, Row, Seen,
    base::{Fold, Folded, Pending, State},
    file::{Disk, File, Head, io_failure},
    journal::Journal,
    queue::Failure,
    rows::{self, Bytes, Entry, Kind},
    writer::Ledger,
};
use crate::{
    lock::{Timestamp, TokenKey},
    store::{StoreError, StoreErrorKind, memory::graveyard::Grave},
};

/// How long the journal is: some thousand changes, which one fold then enters into the database.
const JOURNAL: u64 = 2 << 20;

pub(super) struct FileLedger {
    file: Arc<File>,
    /// None only while it is being opened anew.
    folded: Option<Folded>,
    journal: Journal,
    /// What the journal holds.
    pending: Pending,
}

/// A ledger, and what it held.
pub(super) struct Opened {
    pub(super) ledger: FileLedger,
    pub(super) rows: Vec<Row>,
    /// Oldest first.
    pub(super) graves: Vec<Grave>,
    pub(super) seen: Seen,
    pub(super) key: TokenKey,
}

impl Opened {
    /// What is in the file at `path`; a new one where there is none.
    pub(super) fn at(path: &Path) -> Result<Self, StoreError> {
        match fs::metadata(path) {
            Ok(there) if !there.is_file() => {
                Err(StoreError::new(StoreErrorKind::Incompatible, format!("{} is no file", path.display())))
            }
            Ok(_) => Self::on(&locked(path, OpenOptions::new().read(true).write(true))?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Self::create(path),
            Err(error) => Err(io_failure("looking for the file", error).into()),
        }
    }

    /// A new file. It is made beside its place and moved there when it is whole, so that a crash leaves no half of one.
    fn create(path: &Path) -> Result<Self, StoreError> {
        let mut beside = OsString::from(path);
        beside.push(".new");
        let beside = Path::new(&beside);
        let disk = locked(beside, OpenOptions::new().read(true).write(true).create(true).truncate(false))?;
        if fs::exists(path).unwrap_or(true) {
            // Another process was quicker; the file that it made is the one.
            let _ = fs::remove_file(beside);
            return Self::on(&locked(path, OpenOptions::new().read(true).write(true))?);
        }
        let opened = Self::fresh(&disk, JOURNAL).and_then(|opened| {
            fs::rename(beside, path).map_err(|error| io_failure("moving the new file to its place", error))?;
            sync_folder(path).map_err(|error| io_failure("moving the new file to its place", error))?;
            Ok(opened)
        });
        if opened.is_err() {
            let _ = fs::remove_file(beside);
        }
        opened
    }

    /// An empty ledger on an empty `disk`.
    pub(super) fn fresh(disk: &Disk, journal: u64) -> Result<Self, StoreError> {
        let head = Head { secret: Uuid::new_v4().into_bytes(), journal };
        let file = Arc::new(File::create(disk.clone(), head)?);
        let folded = Folded::create(&file)?;
        file.disk.sync_data(false).map_err(|error| io_failure("making the file", error))?;
        let key = TokenKey::derive(&head.secret);
        let ledger = FileLedger { file, folded: Some(folded), journal: Journal::start(0, 0), pending: Pending::new() };
        Ok(Self { ledger, rows: Vec::new(), graves: Vec::new(), seen: Seen::default(), key })
    }

    /// What is on `disk`. Nothing on it is changed unless all can be read.
    pub(super) fn on(disk: &Disk) -> Result<Self, StoreError> {
        let file = Arc::new(File::open(disk.clone())?);
        let folded = Folded::open(&file)?;
        let (state, entries) = folded.load()?;
        if state.epoch < file.position().epoch {
            return Err(StoreError::new(StoreErrorKind::Incompatible, "the database is older than the file says"));
        }
        let (journal, payloads) = Journal::replay(&file, state.epoch, state.sequence)?;
        let mut all: Pending = entries.into_iter().map(|entry| ((entry.kind, entry.key), entry.body)).collect();
        let (mut seen, mut pending) = (state.seen, Pending::new());
        for payload in payloads {
            let mut bytes = Bytes(&payload);
            seen = seen.later(Seen { now: Timestamp::from_micros(bytes.number()?), generation: bytes.number()? });
            while !bytes.0.is_empty() {
                let entry = Entry::read(&mut bytes)?;
                pending.insert((entry.kind, entry.key), entry.body);
            }
        }
        all.extend(pending.iter().map(|(name, body)| (*name, body.clone())));
        let (mut living, mut graves) = (Vec::new(), Vec::new());
        for ((kind, key), body) in all {
            match (kind, body) {
                (_, None) => {}
                (Kind::Lock, Some(body)) => living.push(rows::row(key, &body)?),
                (Kind::Grave, Some(body)) => graves.push(rows::grave(key, &body)?),
            }
        }
        file.believe()?;
        let key = TokenKey::derive(&file.head.secret);
        let ledger = FileLedger { file, folded: Some(folded), journal, pending };
        Ok(Self { ledger, rows: living, graves, seen, key })
    }
}

fn locked(path: &Path, how: &OpenOptions) -> Result<Disk, StoreError> {
    let file = how.open(path).map_err(|error| io_failure("opening the file", error))?;
    let disk = FileBackend::new(file).map_err(|error| match error {
        redb::DatabaseError::DatabaseAlreadyOpen => {
            Failure::new(StoreErrorKind::Unavailable, "another process, or another store, has the file open")
                .caused_by(error)
        }
        error => error.into(),
    })?;
    Ok(Arc::new(disk))
}

fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // Elsewhere a folder cannot be opened, and a rename is durable by itself or not at all.
    if cfg!(unix) { fs::File::open(folder)?.sync_all() } else { Ok(()) }
}

impl FileLedger {
    fn state(&self, epoch: u64, seen: Seen) -> State {
        State { epoch, sequence: self.journal.sequence, seen }
    }

    fn fold(&mut self, seen: Seen, how: Fold) -> Result<(), Failure> {
        let Some(folded) = &self.folded else { return Err(Failure::new(StoreErrorKind::Other, "the file is not open")) };
        let epoch = self.journal.epoch + 1;
        folded.fold(&self.pending, self.state(epoch, seen), how)?;
        self.journal = Journal::start(epoch, self.journal.sequence);
        self.pending.clear();
        Ok(())
    }
}

impl Ledger for FileLedger {
    fn commit(&mut self, changes: &[&Change], seen: Seen) -> Result<(), Failure> {
        let entries: Vec<Entry> = changes.iter().map(|change| Entry::of(change)).collect();
        let mut payload = Vec::with_capacity(1024);
        payload.extend(seen.now.as_micros().to_le_bytes());
        payload.extend(seen.generation.to_le_bytes());
        entries.iter().for_each(|entry| entry.write(&mut payload));
        let fits = self.journal.fits(&self.file, &payload);
        if fits {
            self.journal.append(&self.file, &payload)?;
        }
        self.pending.extend(entries.into_iter().map(|entry| ((entry.kind, entry.key), entry.body)));
        if fits { Ok(()) } else { self.fold(seen, Fold::Add) }
    }

    fn rewrite(&mut self, all: &[&Change], seen: Seen) -> Result<(), Failure> {
        // redb takes nothing more after an error until it is opened anew. The lock on the file stays.
        self.folded = None;
        let file = Arc::new(File::open(self.file.disk.clone())?);
        let folded = Folded::open(&file)?;
        file.believe()?;
        let (state, _) = folded.load()?;
        let epoch = state.epoch.max(self.journal.epoch);
        self.file = file;
        self.folded = Some(folded);
        self.journal = Journal::start(epoch, state.sequence.max(self.journal.sequence + 1));
        let entries = all.iter().map(|change| Entry::of(change));
        self.pending = entries.map(|entry| ((entry.kind, entry.key), entry.body)).collect();
        self.fold(seen, Fold::Replace)
    }

    fn close(mut self: Box<Self>, seen: Seen) {
        // What cannot be folded now is in the journal, and is when the file is next opened.
        if !self.journal.is_empty() && self.fold(seen, Fold::Add).is_ok() {
            let _ = self.file.write_epoch(self.journal.epoch);
        }
        self.folded = None;
        let _ = self.file.disk.sync_data(false);
    }
}
