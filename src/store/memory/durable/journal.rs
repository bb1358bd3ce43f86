//! The journal: batches of changes, one write and one sync each.
//!
//! A batch is durable before the next one is written. So what can be read as a batch proves that all before it were
//! whole: the first that cannot is either the one that a crash cut off, about which nobody was told, or, where a later one
//! can be read, damage.

use super::{
    file::{File, checksum, io_failure},
    queue::Failure,
    rows::Bytes,
};
use crate::store::StoreErrorKind;

const MAGIC: [u8; 4] = *b"tlB1";
/// Magic, length, epoch, sequence, checksum.
const HEAD: usize = 4 + 4 + 8 + 8 + 16;

#[derive(Debug)]
pub(super) struct Journal {
    /// Where the next batch goes.
    at: u64,
    pub(super) epoch: u64,
    /// The number of the last batch, over all epochs.
    pub(super) sequence: u64,
}

/// A batch that was read.
struct Batch<'b> {
    epoch: u64,
    sequence: u64,
    payload: &'b [u8],
}

impl Journal {
    /// An empty journal.
    pub(super) const fn start(epoch: u64, sequence: u64) -> Self {
        Self { at: 0, epoch, sequence }
    }

    /// What was written since the fold that left `epoch` and `sequence`.
    pub(super) fn replay(file: &File, epoch: u64, sequence: u64) -> Result<(Self, Vec<Vec<u8>>), Failure> {
        let len = usize::try_from(file.head.journal).unwrap_or(usize::MAX);
        let bytes = file.disk.read(file.journal(), len).map_err(|error| io_failure("reading the journal", error))?;
        let mut journal = Self::start(epoch, sequence);
        let (mut payloads, mut at) = (Vec::new(), 0);
        while let Some(batch) = Batch::read(&bytes[at..])
            && (batch.epoch, batch.sequence) == (epoch, journal.sequence + 1)
        {
            journal.sequence += 1;
            at += HEAD + batch.payload.len();
            payloads.push(batch.payload.to_vec());
        }
        let mut rest = &bytes[at..];
        while let Some(next) = rest.iter().position(|byte| *byte == MAGIC[0]) {
            rest = &rest[next..];
            let later = |batch: &Batch<'_>| batch.epoch > epoch || batch.epoch == epoch && batch.sequence > journal.sequence;
            if Batch::read(rest).as_ref().is_some_and(later) {
                return Err(Failure::new(StoreErrorKind::Incompatible, "the journal is damaged"));
            }
            rest = &rest[1..];
        }
        journal.at = at as u64;
        Ok((journal, payloads))
    }

    /// Whether there is room for one more batch.
    pub(super) fn fits(&self, file: &File, payload: &[u8]) -> bool {
        self.at + HEAD as u64 + payload.len() as u64 <= file.head.journal
    }

    /// Writes a batch; it is durable when this returns.
    pub(super) fn append(&mut self, file: &File, payload: &[u8]) -> Result<(), Failure> {
        let sequence = self.sequence + 1;
        let mut bytes = Vec::with_capacity(HEAD + payload.len());
        bytes.extend(MAGIC);
        bytes.extend(u32::try_from(payload.len()).unwrap_or(u32::MAX).to_le_bytes());
        bytes.extend(self.epoch.to_le_bytes());
        bytes.extend(sequence.to_le_bytes());
        let sum = checksum(&[&bytes, payload]);
        bytes.extend(sum);
        bytes.extend(payload);
        let written = (|| {
            // Durable with the batch: a file that has it cannot be taken for one from before.
            if file.position().epoch != self.epoch {
                file.write_epoch(self.epoch)?;
            }
            file.disk.write(file.journal() + self.at, &bytes)?;
            file.disk.sync_data(false)
        })();
        written.map_err(|error| io_failure("writing to the journal", error))?;
        self.at += bytes.len() as u64;
        self.sequence = sequence;
        Ok(())
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.at == 0
    }
}

impl<'b> Batch<'b> {
    fn read(all: &'b [u8]) -> Option<Self> {
        let mut bytes = Bytes(all);
        if bytes.array().ok()? != MAGIC {
            return None;
        }
        let len = usize::try_from(bytes.small().ok()?).ok()?;
        let (epoch, sequence) = (bytes.number().ok()?, bytes.number().ok()?);
        let sum = bytes.array::<16>().ok()?;
        let payload = bytes.0.get(..len)?;
        (sum == checksum(&[&all[..HEAD - 16], payload])).then_some(Self { epoch, sequence, payload })
    }
}
