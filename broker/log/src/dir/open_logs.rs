//! Opening many logs at once.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use crate::config::LogConfig;
use crate::error::OpenError;
use crate::fs::Fs;
use crate::log::{Log, OpenOptions, RecoveryProgress, RecoveryReport};

/// A log to open.
#[derive(Clone, Debug)]
pub struct OpenJob {
    pub dir: PathBuf,
    pub config: LogConfig,
    pub options: OpenOptions,
}

/// Opens many logs on `threads` threads at once and returns them in the order of the jobs.
pub fn open_logs(
    fs: &Arc<dyn Fs>,
    jobs: Vec<OpenJob>,
    threads: usize,
    progress: &RecoveryProgress,
) -> Vec<Result<(Log, RecoveryReport), OpenError>> {
    progress
        .logs_total
        .fetch_add(jobs.len() as u64, Ordering::Relaxed);
    let next = AtomicUsize::new(0);
    let opened: Vec<Mutex<Option<_>>> = jobs.iter().map(|_| Mutex::new(None)).collect();
    let work = || {
        while let Some((job, slot)) = {
            let i = next.fetch_add(1, Ordering::Relaxed);
            jobs.get(i).zip(opened.get(i))
        } {
            let OpenJob {
                dir,
                config,
                options,
            } = job.clone();
            *slot.lock() = Some(Log::open(fs.clone(), dir, config, options, progress));
            progress.logs_done.fetch_add(1, Ordering::Relaxed);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..threads.clamp(1, jobs.len().max(1)) {
            scope.spawn(work);
        }
    });
    opened
        .into_iter()
        .map(|slot| slot.into_inner().expect("every job was taken"))
        .collect()
}
