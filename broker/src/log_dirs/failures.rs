//! What the failures of a broker's directories lead to, whichever of them fails.

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::previous_run::{Losses, RunRecord};

/// Shared by the directories of one broker.
#[derive(Default)]
pub(crate) struct Failures {
    run: Mutex<Run>,
    noticed: watch::Sender<usize>,
}

#[derive(Default)]
struct Run {
    records: Vec<RunRecord>,
    /// A directory failed since the run began.
    lossy: bool,
}

impl Failures {
    /// All usable directories are open: what fails from now on fails in this run.
    pub(crate) fn begin_run(&self, records: Vec<RunRecord>) {
        *self.run.lock() = Run {
            records,
            lossy: false,
        };
    }

    /// Does something to the records, knowing whether a directory has failed in this run.
    pub(crate) fn with_records<T>(&self, act: impl FnOnce(&[RunRecord], Losses) -> T) -> T {
        let run = self.run.lock();
        let losses = if run.lossy {
            Losses::Possible
        } else {
            Losses::None
        };
        act(&run.records, losses)
    }

    /// A directory failed: what was acknowledged may be lost, so that the next start must not count
    /// as one after a run that lost nothing.
    pub(crate) fn note(&self) {
        let mut run = self.run.lock();
        if !run.lossy {
            run.lossy = true;
            run.records.iter().for_each(RunRecord::mark_lossy);
        }
        drop(run);
        self.noticed.send_modify(|count| *count += 1);
    }

    /// Changes with every failure.
    pub(crate) fn watch(&self) -> watch::Receiver<usize> {
        self.noticed.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_failure_the_records_of_the_run_say_so() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("broker-epoch");
        std::fs::write(&file, "7\n").unwrap();
        let failures = Failures::default();
        failures.note();
        let fs = std::sync::Arc::new(broker_log::fs::RealFs);
        failures.begin_run(vec![RunRecord::new(fs, dir.path(), "a", true)]);
        let text = || std::fs::read_to_string(&file).unwrap();
        assert_eq!(text(), "7\n", "what failed before does not concern the run");
        failures.note();
        assert!(text().contains("lossy"), "{}", text());
        failures.with_records(|_, losses| assert_eq!(losses, Losses::Possible));
    }
}
