//! The broker's log directories (KIP-112): opened, watched, and taken out of use one by one when
//! their disks fail.
//!
//! * `watched_fs`: the file system through which all work in a directory goes;
//! * `condition`: what it tells of the disk;
//! * `probe`: a look at disks that nothing else is asked of;
//! * `failures`: what a failure means for the broker.
//!
//! A directory that fails takes its replicas with it until the broker is restarted; the broker goes
//! on with the others. It stops when none is left, and when the one with the metadata log
//! fails.

mod checkpoints;
mod condition;
mod directory;
mod failures;
mod probe;
mod watched_fs;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use broker_log::fs::{Fs, RealFs};
use broker_log::{LogDir, LogDirError};
use thiserror::Error;
use uuid::Uuid;

use crate::config::BrokerConfig;
use crate::previous_run::{self, LastRun, RunRecord};

pub(crate) use checkpoints::{Checkpointed, LogName};
pub(crate) use condition::Condition;
pub use directory::Directory;
pub(crate) use failures::Failures;
use watched_fs::WatchedFs;

/// Why the broker can't start with its log directories.
#[derive(Debug, Error)]
pub enum LogDirsError {
    /// One is not this broker's, or is in use.
    #[error(transparent)]
    Dir(LogDirError),
    #[error("{} and {} have the same directory.id {id}: one is a copy; remove the copy from log.dirs", a.display(), b.display())]
    Copied { a: PathBuf, b: PathBuf, id: String },
    #[error(
        "no directory of log.dirs can be used; repair or replace the disks. The last error: {0}"
    )]
    NoneLeft(String),
    #[error("the metadata log is in {}, which can't be used: {reason}; repair the disk, or replace it, and a voter by adding the broker anew", dir.display())]
    Metadata { dir: PathBuf, reason: String },
}

/// A directory that somebody named can't be used.
#[derive(Debug, Error)]
pub enum DirectoryError {
    #[error("{} is not one of log.dirs", .0.display())]
    Unknown(PathBuf),
    #[error("the log directory {} is offline", .0.display())]
    Offline(PathBuf),
}

/// All directories of `log.dirs`.
pub struct LogDirs {
    failures: Arc<Failures>,
    /// One for each configured directory, those included that could not be opened.
    conditions: Vec<Arc<Condition>>,
    /// Those that were opened, in the order of the configuration.
    opened: Vec<Arc<Directory>>,
    /// Where the metadata log is, which any broker may be asked to keep as a voter.
    metadata_dir: PathBuf,
}

impl LogDirs {
    /// Opens every directory; one whose disk fails is left out when others remain.
    ///
    /// # Errors
    /// [`LogDirsError`].
    pub fn open(config: &BrokerConfig, fs: &Arc<dyn Fs>) -> Result<Self, LogDirsError> {
        let failures = Arc::new(Failures::default());
        let slow_ms = u64::try_from(config.number("klamm.log.dir.slow.ms")).unwrap_or(0);
        let mut dirs = Self {
            failures: Arc::clone(&failures),
            conditions: Vec::new(),
            opened: Vec::new(),
            metadata_dir: config.metadata_dir.clone(),
        };
        for path in &config.log_dirs {
            let condition = Condition::new(path.clone(), Arc::clone(&failures), slow_ms);
            let condition = Arc::new(condition);
            dirs.conditions.push(Arc::clone(&condition));
            match open_one(config, fs, path, &condition) {
                Ok(directory) => dirs.opened.push(Arc::new(directory)),
                Err(LogDirError::Io { source, .. }) => condition.fail(&source),
                Err(error) => return Err(LogDirsError::Dir(error)),
            }
        }
        dirs.check_ids()?;
        dirs.check_usable()?;
        Ok(dirs)
    }

    fn check_ids(&self) -> Result<(), LogDirsError> {
        let id = |directory: &Directory| directory.dir().meta().directory_id.clone();
        for (i, a) in self.opened.iter().enumerate() {
            if let Some(b) = self.opened[..i].iter().find(|b| id(b) == id(a)) {
                return Err(LogDirsError::Copied {
                    a: a.path().to_owned(),
                    b: b.path().to_owned(),
                    id: id(a),
                });
            }
        }
        Ok(())
    }

    /// Whether the broker can go on.
    ///
    /// # Errors
    /// When no directory is left, or the one with the metadata log failed.
    pub fn check_usable(&self) -> Result<(), LogDirsError> {
        let failed = |condition: &Arc<Condition>| condition.failure().map(str::to_owned);
        let dir = &self.metadata_dir;
        if let Some(condition) = self.conditions.iter().find(|c| dir.starts_with(c.path()))
            && let Some(reason) = failed(condition)
        {
            let dir = dir.clone();
            return Err(LogDirsError::Metadata { dir, reason });
        }
        let reasons: Vec<String> = self.conditions.iter().filter_map(failed).collect();
        match reasons.last() {
            Some(last) if reasons.len() == self.conditions.len() => {
                Err(LogDirsError::NoneLeft(last.clone()))
            }
            _ => Ok(()),
        }
    }

    /// Ends the start: from now on a failure makes the run one that may have lost something. Returns
    /// what the directories know of the last one.
    pub(crate) fn begin_run(&self) -> LastRun {
        let usable = self
            .opened
            .iter()
            .filter(|directory| !directory.is_failed());
        let records: Vec<RunRecord> = usable.map(|directory| record(directory)).collect();
        let offline = self.conditions.len() - records.len();
        let last_run = previous_run::last_run(&records, offline);
        self.failures.begin_run(records);
        last_run
    }

    /// The opened directories, failed ones included.
    #[must_use]
    pub fn opened(&self) -> &[Arc<Directory>] {
        &self.opened
    }

    /// The directory at `path`, in whichever way that is written.
    pub(crate) fn directory(&self, path: &Path) -> Result<&Arc<Directory>, DirectoryError> {
        let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let wanted = absolute(path);
        let mut conditions = self.conditions.iter();
        let known = conditions.find(|c| absolute(c.path()) == wanted);
        let known = known.ok_or_else(|| DirectoryError::Unknown(path.to_owned()))?;
        let mut opened = self.opened.iter();
        let usable = opened.find(|d| d.path() == known.path() && !d.is_failed());
        usable.ok_or_else(|| DirectoryError::Offline(path.to_owned()))
    }

    pub(crate) fn conditions(&self) -> &[Arc<Condition>] {
        &self.conditions
    }

    /// Whether replicas may be in a directory that can't be read.
    #[must_use]
    pub fn any_failed(&self) -> bool {
        self.conditions
            .iter()
            .any(|condition| condition.is_failed())
    }

    /// Where all directories are, failed ones included.
    #[must_use]
    pub fn paths(&self) -> Vec<PathBuf> {
        let conditions = self.conditions.iter();
        conditions.map(|c| c.path().to_owned()).collect()
    }

    /// Where the directories are that failed.
    #[must_use]
    pub fn failed_paths(&self) -> Vec<PathBuf> {
        let failed = self.conditions.iter().filter(|c| c.is_failed());
        failed.map(|c| c.path().to_owned()).collect()
    }

    /// Where the next new replica goes, the best first: the directory with the fewest, slow ones last.
    #[must_use]
    pub fn for_new_replica(&self) -> Vec<Arc<Directory>> {
        let usable = self.opened.iter().filter(|dir| !dir.is_failed());
        let mut usable: Vec<_> = usable.cloned().collect();
        usable.sort_by_key(|dir| (dir.condition().is_slow(), dir.replicas()));
        usable
    }

    pub(crate) fn failures(&self) -> &Arc<Failures> {
        &self.failures
    }

    /// Returns with the reason once the broker can't go on.
    pub async fn unusable(&self) -> LogDirsError {
        let mut failures = self.failures.watch();
        loop {
            failures.mark_unchanged();
            if let Err(error) = self.check_usable() {
                return error;
            }
            if failures.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}

/// The directory's record of the last run.
pub(crate) fn record(directory: &Directory) -> RunRecord {
    let dir = directory.dir();
    RunRecord::new(
        Arc::new(RealFs),
        directory.path(),
        &dir.meta().directory_id,
        dir.clean_shutdown(),
    )
}

fn open_one(
    config: &BrokerConfig,
    fs: &Arc<dyn Fs>,
    path: &Path,
    condition: &Arc<Condition>,
) -> Result<Directory, LogDirError> {
    let watched = WatchedFs::new(Arc::clone(fs), Arc::clone(condition));
    let fs: Arc<dyn Fs> = Arc::new(watched);
    let new_id = Uuid::new_v4().to_string();
    let dir = LogDir::open(
        Arc::clone(&fs),
        path,
        &config.cluster_id,
        config.id.0,
        &new_id,
    )?;
    Ok(Directory::new(fs, dir, Arc::clone(condition)))
}
