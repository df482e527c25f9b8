//! Whether the indexes of a segment fit its batches, and what they would be if made anew, from one
//! walk over all of them.

use std::io;
use std::path::Path;

use broker_core::Offset;
use broker_wire::record::BatchHeader;

use crate::fs::{Fs, OpenMode};
use crate::index::{OFFSET_ENTRY_LEN, TIME_ENTRY_LEN};
use crate::log::IndexVerdict;

/// Largest index that is read; a larger one is made anew.
const INDEX_BYTES_MAX: u64 = 64 << 20;

/// See the module's documentation.
pub(crate) struct IndexCheck {
    base: Offset,
    interval_bytes: u64,
    bytes_since_entry: u64,
    newest: Option<(i64, u32)>,
    offsets: Checked<OFFSET_ENTRY_LEN>,
    times: Checked<TIME_ENTRY_LEN>,
}

/// One index: as found, and as it would be.
struct Checked<const N: usize> {
    found: Vec<u8>,
    /// Entries that were met on the walk.
    met: usize,
    is_sound: bool,
    rebuilt: Vec<u8>,
}

impl IndexCheck {
    /// Reads the offset and the time index at `paths`.
    pub(crate) fn begin(
        fs: &dyn Fs,
        base: Offset,
        paths: [&Path; 2],
        interval_bytes: u64,
    ) -> io::Result<Self> {
        let [offsets, times] = paths;
        Ok(Self {
            base,
            interval_bytes,
            bytes_since_entry: 0,
            newest: None,
            offsets: Checked::read(fs, offsets)?,
            times: Checked::read(fs, times)?,
        })
    }

    /// Takes the next batch of the segment into account.
    pub(crate) fn note(&mut self, header: &BatchHeader, position: u64) {
        let last = self.relative(header.last_offset());
        let position = u32::try_from(position).unwrap_or(u32::MAX);
        // Batches that compaction emptied have no time that anybody could look for.
        let is_newest = self
            .newest
            .is_none_or(|(max, _)| header.max_timestamp > max);
        if is_newest && header.record_count > 0 {
            self.newest = Some((header.max_timestamp, last));
        }
        let newest = self.newest;
        self.offsets.meet(
            |entry| at_position(entry) <= position,
            |entry| *entry == offset_entry(last, position),
        );
        self.times.meet(
            |entry| time_offset(entry) <= last,
            |entry| newest.is_some_and(|newest| *entry == time_entry(newest)),
        );
        if self.bytes_since_entry > self.interval_bytes {
            self.add_time();
            self.offsets.rebuilt.extend(offset_entry(last, position));
            self.bytes_since_entry = 0;
        }
        self.bytes_since_entry += header.total_len() as u64;
    }

    /// What is to be said once all batches were noted.
    pub(crate) fn verdict(&mut self) -> IndexVerdict {
        self.add_time();
        // Sealing a segment wrote down its largest timestamp.
        let last = self.times.found.rchunks_exact(TIME_ENTRY_LEN).next();
        let is_sealed = self.newest.map(time_entry).as_ref().map(|entry| &entry[..]) == last;
        if is_sealed && self.offsets.is_met() && self.times.is_met() {
            IndexVerdict::Sound
        } else {
            IndexVerdict::Damaged
        }
    }

    /// The content of both indexes, made of the batches.
    pub(crate) fn rebuilt(&self) -> [&[u8]; 2] {
        [&self.offsets.rebuilt, &self.times.rebuilt]
    }

    fn add_time(&mut self) {
        let Some(newest) = self.newest else { return };
        let entry = time_entry(newest);
        let last = self.times.rebuilt.rchunks_exact(TIME_ENTRY_LEN).next();
        if last != Some(&entry[..]) {
            self.times.rebuilt.extend(entry);
        }
    }

    fn relative(&self, offset: i64) -> u32 {
        u32::try_from(offset - self.base.0).unwrap_or(u32::MAX)
    }
}

impl<const N: usize> Checked<N> {
    fn read(fs: &dyn Fs, path: &Path) -> io::Result<Self> {
        let mut found = Vec::new();
        let mut is_sound = fs.exists(path)?;
        if is_sound {
            let file = fs.open(path, OpenMode::Existing)?;
            let len = file.len()?;
            is_sound = len <= INDEX_BYTES_MAX && len % N as u64 == 0;
            if is_sound {
                found.resize(len as usize, 0);
                file.read_exact_at(&mut found, 0)?;
            }
        }
        Ok(Self {
            found,
            met: 0,
            is_sound,
            rebuilt: Vec::new(),
        })
    }

    /// Goes past the entries that are due at a batch, which have to be its own.
    fn meet(&mut self, is_due: impl Fn(&[u8; N]) -> bool, fits: impl Fn(&[u8; N]) -> bool) {
        let (entries, _) = self.found.as_chunks::<N>();
        while let Some(entry) = entries.get(self.met).filter(|entry| is_due(entry)) {
            self.is_sound &= fits(entry);
            self.met += 1;
        }
    }

    fn is_met(&self) -> bool {
        self.is_sound && self.met * N == self.found.len()
    }
}

fn offset_entry(last: u32, position: u32) -> [u8; OFFSET_ENTRY_LEN] {
    let mut entry = [0; OFFSET_ENTRY_LEN];
    entry[..4].copy_from_slice(&last.to_be_bytes());
    entry[4..].copy_from_slice(&position.to_be_bytes());
    entry
}

fn time_entry((timestamp, last): (i64, u32)) -> [u8; TIME_ENTRY_LEN] {
    let mut entry = [0; TIME_ENTRY_LEN];
    entry[..8].copy_from_slice(&timestamp.to_be_bytes());
    entry[8..].copy_from_slice(&last.to_be_bytes());
    entry
}

fn at_position(entry: &[u8; OFFSET_ENTRY_LEN]) -> u32 {
    let [_, _, _, _, a, b, c, d] = *entry;
    u32::from_be_bytes([a, b, c, d])
}

fn time_offset(entry: &[u8; TIME_ENTRY_LEN]) -> u32 {
    let [.., a, b, c, d] = *entry;
    u32::from_be_bytes([a, b, c, d])
}
