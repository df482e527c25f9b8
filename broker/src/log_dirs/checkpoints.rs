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
    unwritten: Unwritten,
}

/// The files that lack something. With many logs of which few are written to, most are as they were.
#[derive(Clone, Copy, Debug, Default)]
struct Unwritten {
    log_starts: bool,
    recovery_points: bool,
    high_watermarks: bool,
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
            unwritten: Unwritten {
                log_starts: !complete,
                recovery_points: !complete,
                high_watermarks: !complete,
            },
        })
    }

    /// Whether all files were there and could be read. Without one of them every log is recovered as
    /// after a crash, from where the others say.
    pub(crate) const fn are_complete(&self) -> bool {
        self.complete
    }

    /// The start offsets go first: a recovery point may be that of a log whose front was deleted.
    /// Files in which nothing has changed are left as they are.
    pub(super) fn write(&mut self, dir: &LogDir) -> io::Result<()> {
        let mut compacted = self.entries(|log| log.compacted_upto);
        compacted.retain(|entry| entry.offset > Offset(0));
        if compacted != self.compacted {
            dir.write_compacted_offsets(&compacted)?;
            self.compacted = compacted;
        }
        if self.unwritten.log_starts {
            dir.write_log_starts(&self.entries(|log| log.log_start))?;
            self.unwritten.log_starts = false;
        }
        if self.unwritten.recovery_points {
            dir.write_recovery_points(&self.entries(|log| log.recovery_point))?;
            self.unwritten.recovery_points = false;
        }
        if self.unwritten.high_watermarks {
            dir.write_high_watermarks(&self.entries(|log| log.high_watermark))?;
            self.unwritten.high_watermarks = false;
        }
        Ok(())
    }

    pub(crate) fn get(&self, name: &LogName) -> Checkpointed {
        self.logs.get(name).copied().unwrap_or_default()
    }

    pub(crate) fn set(&mut self, name: LogName, checkpointed: Checkpointed) {
        let before = self.logs.insert(name, checkpointed);
        self.unwritten.note(before, Some(checkpointed));
    }

    pub(crate) fn forget(&mut self, name: &LogName) {
        let before = self.logs.remove(name);
        self.unwritten.note(before, None);
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

impl Unwritten {
    /// An entry has become another one.
    fn note(&mut self, before: Option<Checkpointed>, after: Option<Checkpointed>) {
        let differs = |offset: fn(Checkpointed) -> Offset| before.map(offset) != after.map(offset);
        self.log_starts |= differs(|log| log.log_start);
        self.recovery_points |= differs(|log| log.recovery_point);
        self.high_watermarks |= differs(|log| log.high_watermark);
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

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use broker_log::fs::Fs as _;
    use broker_log::fs::memory::MemoryFs;

    use super::*;

    const FILES: [&str; 3] = [
        "log-start-offset-checkpoint",
        "recovery-point-offset-checkpoint",
        "replication-offset-checkpoint",
    ];

    #[test]
    fn files_in_which_nothing_has_changed_are_not_written_again() {
        let fs = Arc::new(MemoryFs::new(1));
        let path = Path::new("/data");
        let dir = LogDir::open(Arc::clone(&fs) as _, path, "cluster", 1, "directory").unwrap();
        let mut checkpoints = Checkpoints::read(&dir).unwrap();
        let name = || ("t".to_owned(), 0);
        let mut written = |change: &dyn Fn(&mut Checkpoints)| {
            change(&mut checkpoints);
            checkpoints.write(&dir).unwrap();
            let files = FILES.map(|file| path.join(file));
            files.map(|file| fs.exists(&file).unwrap() && fs.remove(&file).is_ok())
        };
        let new = Checkpointed::default();
        let moved = Checkpointed {
            high_watermark: Offset(7),
            ..new
        };
        assert_eq!(written(&|c| c.set(name(), new)), [true; 3], "a new log");
        assert_eq!(written(&|c| c.set(name(), new)), [false; 3]);
        assert_eq!(written(&|c| c.set(name(), moved)), [false, false, true]);
        assert_eq!(written(&|c| c.forget(&name())), [true; 3]);
        assert_eq!(written(&|c| c.forget(&name())), [false; 3]);
    }
}
