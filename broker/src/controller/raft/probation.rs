//! A voter that starts with an empty directory votes only for its like before it has caught up.
//!
//! It may have lost its disk, and with it entries that count as committed because it once stored
//! them. When a cluster is formed all voters are new, and elect one of them.
//!
//! Invariant: while the file `new-voter` exists, the voter grants no vote to a candidate that has
//! caught up once, which is to say that the cluster has committed something.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;

use super::types::LogId;

const FILE: &str = "new-voter";

/// See the module's documentation.
pub(crate) struct Probation {
    path: PathBuf,
    stage: Mutex<Stage>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// No leader has been heard.
    New,
    /// Everything up to this index was committed when a leader was first heard.
    CatchingUp {
        upto: u64,
    },
    Over,
}

impl Probation {
    /// To be called before anything is written into `directory`.
    pub(crate) fn open(directory: &Path) -> io::Result<Self> {
        fs::create_dir_all(directory)?;
        let path = directory.join(FILE);
        if fs::read_dir(directory)?.next().is_none() {
            File::create(&path)?.sync_all()?;
            File::open(directory)?.sync_all()?;
        }
        let stage = if path.exists() {
            Stage::New
        } else {
            Stage::Over
        };
        Ok(Self {
            path,
            stage: Mutex::new(stage),
        })
    }

    /// Whether this voter has not caught up yet.
    pub(crate) fn is_new(&self) -> bool {
        *self.stage.lock() != Stage::Over
    }

    /// Whether this voter may vote for a candidate.
    pub(crate) fn may_vote(&self, candidate_is_new: bool) -> bool {
        candidate_is_new || !self.is_new()
    }

    /// A leader says what is committed; `applied` is what this voter has applied of it.
    pub(crate) fn heard_leader(&self, committed: Option<LogId>, applied: Option<u64>) {
        let mut stage = self.stage.lock();
        if let (Stage::New, Some(committed)) = (*stage, committed) {
            *stage = Stage::CatchingUp {
                upto: committed.index,
            };
        }
        if let Stage::CatchingUp { upto } = *stage
            && applied >= Some(upto)
        {
            drop(stage);
            self.end();
        }
    }

    /// This voter has all that is committed: it has caught up, or a majority follows it.
    pub(crate) fn end(&self) {
        let mut stage = self.stage.lock();
        if *stage != Stage::Over {
            match fs::remove_file(&self.path) {
                Ok(()) => *stage = Stage::Over,
                Err(error) => tracing::warn!(%error, "this voter cannot begin to vote"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::raft::types::CommittedLeaderId;

    fn at(index: u64) -> Option<LogId> {
        Some(LogId::new(CommittedLeaderId::new(1), index))
    }

    #[test]
    fn a_new_voter_votes_once_it_has_caught_up() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let new = Probation::open(&path).unwrap();
        assert!(new.may_vote(true), "the first election");
        assert!(!new.may_vote(false));
        new.heard_leader(None, Some(0));
        new.heard_leader(at(10), Some(5));
        drop(new);
        fs::write(path.join("quorum-state"), "").unwrap();

        let restarted = Probation::open(&path).unwrap();
        assert!(restarted.is_new(), "a restart does not help");
        restarted.heard_leader(at(12), Some(11));
        assert!(!restarted.may_vote(false));
        restarted.heard_leader(at(14), Some(12));
        assert!(restarted.may_vote(false));
        drop(restarted);
        assert!(!Probation::open(&path).unwrap().is_new(), "for good");
    }

    #[test]
    fn a_leader_is_not_new() {
        let dir = tempfile::tempdir().unwrap();
        let elected = Probation::open(dir.path()).unwrap();
        assert!(elected.is_new());
        elected.end();
        assert!(!elected.is_new());
    }
}
