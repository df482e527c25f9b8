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
    /// See [`broker_log::Log::compacted_upto`].
    pub(crate) compacted_upto: Offset,
}

/// What the checkpoint files of a directory hold. Logs that are not open keep their entries: what
/// once was durable must not look like a torn tail at the next start.
#[derive(Debug, Default)]
pub(crate) struct Checkpoints {
    logs: BTreeMap<LogName, Checkpointed>,
    complete: bool,
    /// What the file holds of compacted logs, few of which change between two writes.
    compacted: Vec<OffsetEntry>,
}

impl Checkpoints {
    pub(super) fn read(dir: &LogDir) -> io::Result<Self> {
        let recovery_points = readable(dir, dir.recovery_points())?;
        let log_starts = readable(dir, dir.log_starts())?;
        let high_watermarks = readable(dir, dir.high_watermarks())?;
        let files = [&recovery_points, &log_starts, &high_watermarks];
        let complete = files.into_iter().all(Option::is_some) && dir.has_checkpoints()?;
        let mut logs: BTreeMap<LogName, Checkpointed> = BTreeMap::new();
        for (name, offset) in by_name(recovery_points) {
            logs.entry(name).or_default().recovery_point = offset;
        }
        for (name, offset) in by_name(log_starts) {
            logs.entry(name).or_default().log_start = offset;
        }
        for (name, offset) in by_name(high_watermarks) {
            logs.entry(name).or_default().high_watermark = offset;
        }
        let compacted = readable(dir, dir.compacted_offsets())?;
        for (name, offset) in by_name(compacted.clone()) {
            logs.entry(name).or_default().compacted_upto = offset;
        }
        Ok(Self {
            logs,
            complete,
            compacted: compacted.unwrap_or_default(),
        })
    }

    /// Whether all files were there and could be read. Without one of them every log is recovered as
    /// after a crash, from where the others say.
    pub(crate) const fn are_complete(&self) -> bool {
        self.complete
    }

    /// The start offsets go first: a recovery point may be that of a log whose front was deleted.
    pub(super) fn write(&mut self, dir: &LogDir) -> io::Result<()> {
        let mut compacted = self.entries(|log| log.compacted_upto);
        compacted.retain(|entry| entry.offset > Offset(0));
        if compacted != self.compacted {
            dir.write_compacted_offsets(&compacted)?;
            self.compacted = compacted;
        }
        dir.write_log_starts(&self.entries(|log| log.log_start))?;
        dir.write_recovery_points(&self.entries(|log| log.recovery_point))?;
        dir.write_high_watermarks(&self.entries(|log| log.high_watermark))
    }

    pub(crate) fn get(&self, name: &LogName) -> Checkpointed {
        self.logs.get(name).copied().unwrap_or_default()
    }

    pub(crate) fn set(&mut self, name: LogName, checkpointed: Checkpointed) {
        self.logs.insert(name, checkpointed);
    }

    /// Whether there was something to forget.
    pub(crate) fn forget(&mut self, name: &LogName) -> bool {
        self.logs.remove(name).is_some()
    }

    fn entries(&self, offset: impl Fn(&Checkpointed) -> Offset) -> Vec<OffsetEntry> {
        let entry = |((topic, partition), checkpointed): (&LogName, &Checkpointed)| OffsetEntry {
            topic: topic.clone(),
            partition: *partition,
            offset: offset(checkpointed),
        };
        self.logs.iter().map(entry).collect()
    }
}

/// `None` when the file is damaged: what it would tell is found by reading more.
fn readable(
    dir: &LogDir,
    read: io::Result<Vec<OffsetEntry>>,
) -> io::Result<Option<Vec<OffsetEntry>>> {
    match read {
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            tracing::error!(
                dir = %dir.path().display(), %error,
                "a checkpoint is damaged; recovering all logs here without it"
            );
            Ok(None)
        }
        read => read.map(Some),
    }
}

fn by_name(entries: Option<Vec<OffsetEntry>>) -> Offsets {
    entries
        .into_iter()
        .flatten()
        .map(|entry| ((entry.topic, entry.partition), entry.offset))
        .collect()
}
