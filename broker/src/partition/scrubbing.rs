//! Reads all sealed segments again and again, slowly, and verifies them: what rots unread is found
//! while another replica still has it.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use broker_core::Offset;
use broker_log::{IndexVerdict, ScrubError, ScrubStep, SegmentScrub};
use tokio::time::{Instant, sleep_until};

use super::{Partition, PartitionManager, State};

/// Bytes that are read at a time.
const STEP_BYTES_MAX: u64 = 1 << 20;
/// A pass over few records takes as long as one over so many: nothing rots that fast.
const PASS_BYTES_MIN: u64 = 256 << 20;

/// What was read since the start of the broker, for metrics.
#[derive(Debug, Default)]
pub(super) struct ScrubProgress {
    pub(super) passes: AtomicU64,
    pub(super) bytes: AtomicU64,
    pub(super) damaged_segments: AtomicU64,
    pub(super) indexes_rebuilt: AtomicU64,
}

/// Spends no more than so many bytes a second.
struct Pace {
    bytes_per_second: u64,
    began: Instant,
    bytes: u64,
}

/// What one step came to.
enum Found {
    More,
    /// The segment is read.
    Sound,
    /// It is damaged, or can't be read: the rest of the log has to wait.
    Unsound,
}

impl PartitionManager {
    /// Scrubs for as long as the broker runs.
    pub async fn scrub(self: Arc<Self>) {
        let rate = self.config().number("klamm.log.scrub.bytes.per.second");
        let Some(bytes_per_second) = u64::try_from(rate).ok().filter(|rate| *rate > 0) else {
            return;
        };
        loop {
            let mut pace = Pace {
                bytes_per_second,
                began: Instant::now(),
                bytes: 0,
            };
            let mut partitions = self.all();
            partitions.sort_by_key(|partition| partition.id());
            for partition in partitions {
                self.scrub_partition(&partition, &mut pace).await;
            }
            let progress = &self.shared.scrub;
            progress.passes.fetch_add(1, Ordering::Relaxed);
            if pace.bytes > 0 {
                tracing::info!(
                    bytes = pace.bytes, took = ?pace.began.elapsed(),
                    damaged_segments = progress.damaged_segments.load(Ordering::Relaxed),
                    indexes_rebuilt = progress.indexes_rebuilt.load(Ordering::Relaxed),
                    "all logs were read and verified; numbers since the start"
                );
            }
            pace.bytes = pace.bytes.max(PASS_BYTES_MIN);
            pace.wait().await;
        }
    }

    async fn scrub_partition(&self, partition: &Arc<Partition>, pace: &mut Pace) {
        let missing = blocking(partition, |partition| {
            partition.look_for_files();
            partition.scrub_from(Offset(0))
        });
        let mut next = missing.await.flatten();
        while let Some(mut scrub) = next {
            let outcome = loop {
                let bytes_max = STEP_BYTES_MAX.min(pace.bytes_per_second);
                let before = scrub.position();
                let step = blocking(partition, move |partition| {
                    let found = partition.scrub_step(&mut scrub, bytes_max);
                    (scrub, found)
                });
                let Some((stepped, found)) = step.await else {
                    return;
                };
                scrub = stepped;
                let read = scrub.position() - before;
                pace.bytes += read;
                self.shared.scrub.bytes.fetch_add(read, Ordering::Relaxed);
                pace.wait().await;
                if !matches!(found, Found::More) {
                    break found;
                }
            };
            if matches!(outcome, Found::Unsound) {
                return;
            }
            let end = scrub.end();
            next = blocking(partition, move |partition| partition.scrub_from(end))
                .await
                .flatten();
        }
    }
}

async fn blocking<T: Send + 'static>(
    partition: &Arc<Partition>,
    work: impl FnOnce(&Partition) -> T + Send + 'static,
) -> Option<T> {
    let partition = Arc::clone(partition);
    let done = tokio::task::spawn_blocking(move || work(&partition)).await;
    done.inspect_err(|error| tracing::error!(%error, "scrubbing ended abnormally"))
        .ok()
}

impl Pace {
    async fn wait(&self) {
        let nanos = u128::from(self.bytes) * 1_000_000_000 / u128::from(self.bytes_per_second);
        let due = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        sleep_until(self.began + due).await;
    }
}

impl Partition {
    /// A file that was deleted under a running broker is read until the log is closed, and lost then.
    fn look_for_files(&self) {
        let files = self.state.lock().log.segment_files();
        let Ok(Some(path)) = files.first_missing() else {
            return;
        };
        let mut state = self.state.lock();
        // It may have been deleted, or moved to another directory, meanwhile.
        if state.log.holds_file(&path) {
            let file = path.file_name().map(Path::new).unwrap_or(&path).display();
            state.note_damage(self, &format_args!("{file} is missing"));
        }
    }

    fn scrub_from(&self, from: Offset) -> Option<SegmentScrub> {
        let state = self.state.lock();
        if state.closed || state.damaged {
            return None;
        }
        state.log.scrub_from(from)
    }

    fn scrub_step(&self, scrub: &mut SegmentScrub, bytes_max: u64) -> Found {
        // Once more, should it have been the memory.
        match scrub.step(bytes_max).or_else(|_| scrub.step(bytes_max)) {
            Ok(ScrubStep::More) => Found::More,
            Ok(ScrubStep::Done(IndexVerdict::Sound)) => Found::Sound,
            Ok(ScrubStep::Done(IndexVerdict::Damaged)) => {
                self.renew_indexes(scrub);
                Found::Sound
            }
            Err(error @ ScrubError::Damaged { .. }) => {
                let mut state = self.state.lock();
                // It may have been cut off or deleted meanwhile.
                if !state.closed && state.log.holds(scrub) {
                    let progress = &self.shared.scrub;
                    progress.damaged_segments.fetch_add(1, Ordering::Relaxed);
                    state.note_damage(self, &error);
                }
                Found::Unsound
            }
            Err(error @ ScrubError::Io { .. }) => {
                tracing::warn!(partition = %self, %error, "not scrubbed");
                Found::Unsound
            }
        }
    }

    fn renew_indexes(&self, scrub: &SegmentScrub) {
        let is_held = |state: &State| !state.closed && state.log.holds(scrub);
        if !is_held(&self.state.lock()) {
            return;
        }
        let renewed = scrub.write_indexes().and_then(|new| {
            let mut state = self.state.lock();
            Ok(!state.closed && state.log.replace_indexes(scrub, new)?)
        });
        match renewed {
            Ok(true) => {
                tracing::warn!(partition = %self, segment = %scrub.base(), "damaged indexes were made anew");
                let progress = &self.shared.scrub;
                progress.indexes_rebuilt.fetch_add(1, Ordering::Relaxed);
            }
            Ok(false) => {}
            Err(error) => {
                tracing::warn!(partition = %self, segment = %scrub.base(), %error, "damaged indexes stay");
            }
        }
    }
}
