//! What is written down of a data directory's logs. Mirrors `broker/src/log_dirs/checkpoints.rs`.

use std::collections::BTreeMap;
use std::io;

use broker_core::mutation::{Mutation, mutated};
use broker_core::{Offset, TopicPartition};
use broker_log::{LogDir, OffsetEntry};

use super::hosted::Hosted;

type LogName = (String, i32);

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Checkpointed {
    pub(super) recovery_point: Offset,
    pub(super) log_start: Offset,
    pub(super) high_watermark: Offset,
}

/// Logs that are not in use keep their entries.
#[derive(Debug)]
pub(super) struct Checkpoints {
    logs: BTreeMap<LogName, Checkpointed>,
}

impl Checkpoints {
    pub(super) fn read(dir: &LogDir) -> io::Result<Self> {
        let mut logs: BTreeMap<LogName, Checkpointed> = BTreeMap::new();
        for entry in dir.recovery_points()? {
            let log = logs.entry((entry.topic, entry.partition)).or_default();
            log.recovery_point = entry.offset;
        }
        for entry in dir.log_starts()? {
            let log = logs.entry((entry.topic, entry.partition)).or_default();
            log.log_start = entry.offset;
        }
        for entry in dir.high_watermarks()? {
            let log = logs.entry((entry.topic, entry.partition)).or_default();
            log.high_watermark = entry.offset;
        }
        Ok(Self { logs })
    }

    pub(super) fn get(&self, topic: &str, partition: i32) -> Checkpointed {
        let log = self.logs.get(&(topic.to_owned(), partition));
        log.copied().unwrap_or_default()
    }

    pub(super) fn note(&mut self, hosted: &Hosted) {
        let checkpoint = hosted.log.checkpoint();
        let checkpointed = Checkpointed {
            recovery_point: checkpoint.recovery_point,
            log_start: checkpoint.start_offset,
            high_watermark: hosted.replica.high_watermark(),
        };
        let name = (hosted.topic.to_string(), hosted.id.partition.0);
        self.logs.insert(name, checkpointed);
    }

    pub(super) fn forget(&mut self, topic: &str, id: TopicPartition) {
        self.logs.remove(&(topic.to_owned(), id.partition.0));
    }

    /// The start offsets go first: a recovery point may be that of a log whose front was deleted.
    pub(super) fn write(&self, dir: &LogDir) -> io::Result<()> {
        if !mutated(Mutation::ForgetLogStart) {
            dir.write_log_starts(&self.entries(|log| log.log_start))?;
        }
        dir.write_recovery_points(&self.entries(|log| log.recovery_point))?;
        dir.write_high_watermarks(&self.entries(|log| log.high_watermark))
    }

    fn entries(&self, offset: impl Fn(&Checkpointed) -> Offset) -> Vec<OffsetEntry> {
        let entry = |((topic, partition), log): (&LogName, &Checkpointed)| OffsetEntry {
            topic: topic.clone(),
            partition: *partition,
            offset: offset(log),
        };
        self.logs.iter().map(entry).collect()
    }
}
