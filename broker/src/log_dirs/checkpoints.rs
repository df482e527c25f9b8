//! What is written down of a directory's logs, in its checkpoint files.

use std::collections::BTreeMap;
use std::io;

use broker_core::Offset;
use broker_log::{LogDir, OffsetEntry};

/// A log by topic name and partition.
pub(crate) type LogName = (String, i32);
type Offsets = BTreeMap<LogName, Offset>;

/// The offsets of one log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Checkpointed {
    pub(crate) recovery_point: Offset,
    pub(crate) log_start: Offset,
    pub(crate) high_watermark: Offset,
}

/// What the checkpoint files of a directory hold. Logs that are not open keep their entries: what
/// once was durable must not look like a torn tail at the next start.
#[derive(Debug, Default)]
pub(crate) struct Checkpoints(BTreeMap<LogName, Checkpointed>);

impl Checkpoints {
    pub(super) fn read(dir: &LogDir) -> io::Result<Self> {
        let mut all: BTreeMap<LogName, Checkpointed> = BTreeMap::new();
        for (name, offset) in by_name(dir.recovery_points()?) {
            all.entry(name).or_default().recovery_point = offset;
        }
        for (name, offset) in by_name(dir.log_starts()?) {
            all.entry(name).or_default().log_start = offset;
        }
        for (name, offset) in by_name(dir.high_watermarks()?) {
            all.entry(name).or_default().high_watermark = offset;
        }
        Ok(Self(all))
    }

    /// The start offsets go first: a recovery point may be that of a log whose front was deleted.
    pub(super) fn write(&self, dir: &LogDir) -> io::Result<()> {
        dir.write_log_starts(&self.entries(|log| log.log_start))?;
        dir.write_recovery_points(&self.entries(|log| log.recovery_point))?;
        dir.write_high_watermarks(&self.entries(|log| log.high_watermark))
    }

    pub(crate) fn get(&self, name: &LogName) -> Checkpointed {
        self.0.get(name).copied().unwrap_or_default()
    }

    pub(crate) fn set(&mut self, name: LogName, checkpointed: Checkpointed) {
        self.0.insert(name, checkpointed);
    }

    pub(crate) fn forget(&mut self, name: &LogName) {
        self.0.remove(name);
    }

    fn entries(&self, offset: impl Fn(&Checkpointed) -> Offset) -> Vec<OffsetEntry> {
        let entry = |((topic, partition), checkpointed): (&LogName, &Checkpointed)| OffsetEntry {
            topic: topic.clone(),
            partition: *partition,
            offset: offset(checkpointed),
        };
        self.0.iter().map(entry).collect()
    }
}

fn by_name(entries: Vec<OffsetEntry>) -> Offsets {
    entries
        .into_iter()
        .map(|entry| ((entry.topic, entry.partition), entry.offset))
        .collect()
}
