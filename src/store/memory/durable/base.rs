//! The database below the journal: what was folded into it, in three redb tables.

use std::{
    collections::BTreeMap,
    panic::{self, AssertUnwindSafe},
    sync::Arc,
};

use redb::{Database, DatabaseError, ReadableTable, TableDefinition};

use super::{
    Seen,
    file::{self, File, io_failure},
    queue::Failure,
    rows::{Bytes, Entry, Kind},
};
use crate::{lock::Timestamp, store::StoreErrorKind};

/// Living locks, by generation: new ones are entered at the end.
const LOCKS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("locks");
/// Dead ones, by the key of their grave.
const GRAVES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("graves");
/// How far it is: one row.
const STATE: TableDefinition<'_, (), &[u8]> = TableDefinition::new("state");

/// Memory that redb may use for pages. It is read once, when the file is opened, so there is no use in more.
const CACHE: usize = 8 << 20;

/// What is to be folded, the latest of each.
pub(super) type Pending = BTreeMap<(Kind, u64), Option<Vec<u8>>>;

/// How far the database is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct State {
    /// The epoch of the journal that comes after.
    pub(super) epoch: u64,
    /// The number of the last batch that is folded.
    pub(super) sequence: u64,
    pub(super) seen: Seen,
}

/// Whether a fold adds to what is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fold {
    Add,
    Replace,
}

/// The database. It writes to the file when it is dropped.
pub(super) struct Folded {
    /// None only while it is dropped.
    database: Option<Database>,
}

impl State {
    fn to_bytes(self) -> Vec<u8> {
        let numbers = [self.epoch, self.sequence, self.seen.now.as_micros(), self.seen.generation];
        numbers.into_iter().flat_map(u64::to_le_bytes).collect()
    }

    fn read(bytes: &[u8]) -> Result<Self, Failure> {
        let mut bytes = Bytes(bytes);
        let (epoch, sequence) = (bytes.number()?, bytes.number()?);
        let seen = Seen { now: Timestamp::from_micros(bytes.number()?), generation: bytes.number()? };
        Ok(Self { epoch, sequence, seen })
    }
}

/// An error of redb's, whichever of its types: a box, for they are large.
struct Trouble(Box<redb::Error>);

impl<E: Into<redb::Error>> From<E> for Trouble {
    fn from(error: E) -> Self {
        Self(Box::new(error.into()))
    }
}

fn failed(what: &'static str, error: redb::Error) -> Failure {
    match error {
        redb::Error::Io(error) => io_failure(what, error),
        redb::Error::DatabaseAlreadyOpen => Failure::new(StoreErrorKind::Unavailable, what).caused_by(error),
        redb::Error::PreviousIo | redb::Error::LockPoisoned(_) => Failure::new(StoreErrorKind::Other, what).caused_by(error),
        error => Failure::new(StoreErrorKind::Incompatible, what).caused_by(error),
    }
}

/// redb asserts much of what it reads. Damage is an error here, not the end of the thread.
fn unpanicked<T>(what: &'static str, work: impl FnOnce() -> Result<T, Trouble>) -> Result<T, Failure> {
    match panic::catch_unwind(AssertUnwindSafe(work)) {
        Ok(done) => done.map_err(|error| failed(what, *error.0)),
        Err(_) => Err(Failure::new(StoreErrorKind::Incompatible, what)),
    }
}

impl Folded {
    /// An empty database.
    pub(super) fn create(file: &Arc<File>) -> Result<Self, Failure> {
        let folded = Self::make(file)?;
        folded.fold(&Pending::new(), State::default(), Fold::Add)?;
        Ok(folded)
    }

    /// The database in `file`, which has been looked through page by page.
    pub(super) fn open(file: &Arc<File>) -> Result<Self, Failure> {
        let mut folded = Self::make(file)?;
        let sound = unpanicked("looking through the database", || {
            Ok(folded.database.as_mut().map(Database::check_integrity).transpose()?.unwrap_or_default())
        })?;
        if !sound {
            return Err(Failure::new(StoreErrorKind::Incompatible, "the database is damaged"));
        }
        Ok(folded)
    }

    fn make(file: &Arc<File>) -> Result<Self, Failure> {
        unpanicked("opening the database", || {
            let mut builder = Database::builder();
            builder.create_with_file_format_v3(true).set_cache_size(CACHE);
            // Where the storage has a length, redb makes nothing new of it.
            Ok(Self { database: Some(builder.create_with_backend(file::Base(file.clone()))?) })
        })
    }

    fn database(&self) -> Result<&Database, Trouble> {
        self.database.as_ref().ok_or_else(|| redb::Error::PreviousIo.into())
    }

    pub(super) fn load(&self) -> Result<(State, Vec<Entry>), Failure> {
        let (state, entries) = unpanicked("reading the database", || {
            let read = self.database()?.begin_read()?;
            let state = read.open_table(STATE)?.get(())?.map(|state| state.value().to_vec());
            let mut entries = Vec::new();
            for (kind, table) in [(Kind::Lock, LOCKS), (Kind::Grave, GRAVES)] {
                for row in read.open_table(table)?.iter()? {
                    let (key, body) = row?;
                    entries.push(Entry { kind, key: key.value(), body: Some(body.value().to_vec()) });
                }
            }
            Ok((state, entries))
        })?;
        let state = state.ok_or_else(|| Failure::new(StoreErrorKind::Incompatible, "the database has no state"))?;
        Ok((State::read(&state)?, entries))
    }

    /// Enters `pending` and how far the database then is, in one transaction.
    pub(super) fn fold(&self, pending: &Pending, state: State, how: Fold) -> Result<(), Failure> {
        unpanicked("writing to the database", || {
            let write = self.database()?.begin_write()?;
            if how == Fold::Replace {
                write.delete_table(LOCKS)?;
                write.delete_table(GRAVES)?;
            }
            {
                let (mut locks, mut graves) = (write.open_table(LOCKS)?, write.open_table(GRAVES)?);
                for ((kind, key), body) in pending {
                    let table = match kind {
                        Kind::Lock => &mut locks,
                        Kind::Grave => &mut graves,
                    };
                    match body {
                        Some(body) => drop(table.insert(key, body.as_slice())?),
                        None => drop(table.remove(key)?),
                    }
                }
                write.open_table(STATE)?.insert((), state.to_bytes().as_slice())?;
            }
            write.commit()?;
            Ok(())
        })
    }
}

impl Drop for Folded {
    fn drop(&mut self) {
        let database = self.database.take();
        let _ = panic::catch_unwind(AssertUnwindSafe(move || drop(database)));
    }
}

impl From<DatabaseError> for Failure {
    fn from(error: DatabaseError) -> Self {
        failed("opening the file", error.into())
    }
}
