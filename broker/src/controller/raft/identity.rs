//! Who this member of the quorum is: `meta.properties` in the directory of its log.
//!
//! The directory's id is made with the directory. A broker whose disk is lost comes back under
//! another id, which no voter set names: nobody asks it for a vote.
//!
//! Invariant: a directory that has an id has, or had, the log and the votes of that id. When they
//! are gone, it is not used.

use std::io;
use std::path::{Path, PathBuf};

use broker_core::BrokerId;
use broker_core::quorum::{DirectoryId, VoterKey};
use broker_log::MetaProperties;
use broker_log::fs::RealFs;
use uuid::Uuid;

use super::log_store::{self, QUORUM_STATE_FILE};

/// Why a metadata directory is not used.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    #[error("cannot read {}: {source}", directory.display())]
    Io {
        directory: PathBuf,
        source: io::Error,
    },
    #[error(
        "the metadata in {} has {field} {found}, expected {expected}: this is the disk of another \
         broker or cluster; mount the right one, or remove the directory to start empty",
        directory.display()
    )]
    Foreign {
        directory: PathBuf,
        field: &'static str,
        found: String,
        expected: String,
    },
    #[error(
        "{} lacks {missing}: restore it, or remove the directory, and the broker from the quorum if \
         it is a voter, and add it anew",
        directory.display()
    )]
    Incomplete {
        directory: PathBuf,
        missing: &'static str,
    },
}

/// Reads who the directory belongs to, and makes it this broker's when it is new. Blocks.
pub(crate) fn open(
    directory: &Path,
    cluster_id: &str,
    id: BrokerId,
) -> Result<VoterKey, IdentityError> {
    let failed = |source| IdentityError::Io {
        directory: directory.to_owned(),
        source,
    };
    std::fs::create_dir_all(directory).map_err(failed)?;
    let directory_id = match MetaProperties::read(&RealFs, directory).map_err(failed)? {
        Some(meta) => check(directory, &meta, cluster_id, id)?,
        None => format(directory, cluster_id, id)?,
    };
    Ok(VoterKey {
        id,
        directory: DirectoryId(directory_id.into_bytes()),
    })
}

fn check(
    directory: &Path,
    meta: &MetaProperties,
    cluster_id: &str,
    id: BrokerId,
) -> Result<Uuid, IdentityError> {
    let foreign = |field, found: &str, expected: &str| IdentityError::Foreign {
        directory: directory.to_owned(),
        field,
        found: found.to_owned(),
        expected: expected.to_owned(),
    };
    if meta.cluster_id != cluster_id {
        return Err(foreign("cluster.id", &meta.cluster_id, cluster_id));
    }
    if meta.node_id != id.0 {
        let (found, expected) = (meta.node_id.to_string(), id.to_string());
        return Err(foreign("node.id", &found, &expected));
    }
    let directory_id = Uuid::parse_str(&meta.directory_id)
        .map_err(|_| foreign("directory.id", &meta.directory_id, "a UUID"))?;
    if !directory.join(QUORUM_STATE_FILE).exists() {
        return Err(IdentityError::Incomplete {
            directory: directory.to_owned(),
            missing: QUORUM_STATE_FILE,
        });
    }
    Ok(directory_id)
}

/// The id is written last: a directory without one was never used.
fn format(directory: &Path, cluster_id: &str, id: BrokerId) -> Result<Uuid, IdentityError> {
    let failed = |source| IdentityError::Io {
        directory: directory.to_owned(),
        source,
    };
    let is_used = log_store::holds_anything(directory).map_err(failed)?;
    if is_used {
        return Err(IdentityError::Incomplete {
            directory: directory.to_owned(),
            missing: "meta.properties",
        });
    }
    log_store::format(directory).map_err(failed)?;
    let directory_id = new_directory_id();
    let meta = MetaProperties {
        cluster_id: cluster_id.to_owned(),
        node_id: id.0,
        directory_id: directory_id.to_string(),
    };
    meta.write(&RealFs, directory).map_err(failed)?;
    tracing::info!(%directory_id, directory = %directory.display(), "made a metadata directory");
    Ok(directory_id)
}

/// An id whose text does not begin with a dash, as Kafka's own: tools would take it for an option.
fn new_directory_id() -> Uuid {
    /// The first six bits of what is a dash in URL-safe base64.
    const DASH: u8 = 62;
    loop {
        let id = Uuid::new_v4();
        if id.as_bytes()[0] >> 2 != DASH {
            return id;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const ME: BrokerId = BrokerId(1);

    #[test]
    fn a_directory_keeps_its_id_and_a_new_one_has_another() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metadata");
        let first = open(&path, "c", ME).unwrap();
        assert_eq!(open(&path, "c", ME).unwrap(), first);
        fs::remove_dir_all(&path).unwrap();
        let second = open(&path, "c", ME).unwrap();
        assert_eq!(second.id, first.id);
        assert_ne!(second.directory, first.directory);
    }

    #[test]
    fn the_disk_of_another_broker_or_cluster_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        open(dir.path(), "c", ME).unwrap();
        for (cluster, id, field) in [("d", 1, "cluster.id"), ("c", 2, "node.id")] {
            let error = open(dir.path(), cluster, BrokerId(id)).unwrap_err();
            assert!(
                matches!(&error, IdentityError::Foreign { field: found, .. } if *found == field),
                "{error}"
            );
        }
    }

    #[test]
    fn a_directory_without_its_votes_or_its_id_is_not_used() {
        let dir = tempfile::tempdir().unwrap();
        open(dir.path(), "c", ME).unwrap();
        let state = dir.path().join(QUORUM_STATE_FILE);
        let content = fs::read(&state).unwrap();
        fs::remove_file(&state).unwrap();
        let error = open(dir.path(), "c", ME).unwrap_err();
        assert!(error.to_string().contains("lacks quorum-state"), "{error}");

        fs::write(&state, content).unwrap();
        fs::write(dir.path().join("00000000000000000000.log"), "entries").unwrap();
        fs::remove_file(dir.path().join("meta.properties")).unwrap();
        let error = open(dir.path(), "c", ME).unwrap_err();
        assert!(
            error.to_string().contains("lacks meta.properties"),
            "{error}"
        );
    }

    #[test]
    fn a_crash_while_a_directory_is_made_does_no_harm() {
        let dir = tempfile::tempdir().unwrap();
        log_store::format(dir.path()).unwrap();
        open(dir.path(), "c", ME).unwrap();
    }

    #[test]
    fn a_directory_id_was_taken_for_an_option_by_kafkas_tools() {
        for _ in 0..1_000 {
            let id = broker_wire::Uuid::from_bytes(new_directory_id().into_bytes());
            assert!(!id.to_string().starts_with('-'), "{id}");
        }
    }
}
