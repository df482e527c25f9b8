use std::io;
use std::sync::Arc;

use openraft::StorageError;
use openraft::entry::RaftEntry as _;
use openraft::storage::RaftLogStorageExt as _;
use openraft::testing::log::{StoreBuilder, Suite};
use tempfile::TempDir;

use super::*;
use crate::controller::feed::Feed;
use crate::controller::raft::snapshot_store::SnapshotStore;
use crate::controller::raft::state_machine::StateMachine;
use crate::controller::raft::types::{CommittedLeaderId, MetadataBatch};

struct Builder;

impl StoreBuilder<TypeConfig, LogStore, StateMachine, TempDir> for Builder {
    async fn build(&self) -> Result<(TempDir, LogStore, StateMachine), StorageError<TypeConfig>> {
        let dir = tempfile::tempdir().unwrap();
        let log = LogStore::open(dir.path()).unwrap();
        let snapshots = Arc::new(SnapshotStore::open(dir.path()).unwrap());
        Ok((
            dir,
            log,
            StateMachine::new(Arc::new(Feed::new()), snapshots),
        ))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn storage_keeps_openrafts_contract() {
    Suite::test_all(Builder).await.unwrap();
}

fn log_id(term: u64, index: u64) -> LogId {
    LogId::new(CommittedLeaderId::new(term), index)
}

fn entry(term: u64, index: u64) -> Entry {
    let records = vec![vec![index as u8; 100].into()];
    Entry::new_normal(log_id(term, index), MetadataBatch { records })
}

async fn read(store: &mut LogStore) -> io::Result<Vec<LogId>> {
    let entries = store.get_log_reader().await.try_get_log_entries(..).await?;
    Ok(entries.iter().map(|entry| entry.log_id).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn log_vote_and_purge_position_survive_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = LogStore::open(dir.path()).unwrap();
    store
        .blocking_append((0..20).map(|index| entry(1, index)))
        .await
        .unwrap();
    store.truncate_after(Some(log_id(1, 14))).await.unwrap();
    store
        .blocking_append((15..30).map(|index| entry(3, index)))
        .await
        .unwrap();
    let vote = Vote::new_committed(3, 2.into());
    store.save_vote(&vote).await.unwrap();
    store.purge(log_id(1, 9)).await.unwrap();
    drop(store);

    let mut store = LogStore::open(dir.path()).unwrap();
    let expected: Vec<_> = (10..15)
        .map(|index| log_id(1, index))
        .chain((15..30).map(|index| log_id(3, index)))
        .collect();
    assert_eq!(read(&mut store).await.unwrap(), expected);
    assert_eq!(
        store.get_log_reader().await.read_vote().await.unwrap(),
        Some(vote)
    );
    let state = store.get_log_state().await.unwrap();
    assert_eq!(state.last_purged_log_id, Some(log_id(1, 9)));
    assert_eq!(state.last_log_id, Some(log_id(3, 29)));

    store.purge(log_id(4, 100)).await.unwrap();
    drop(store);
    let mut store = LogStore::open(dir.path()).unwrap();
    assert_eq!(read(&mut store).await.unwrap(), []);
    store.blocking_append([entry(4, 101)]).await.unwrap();
    assert_eq!(read(&mut store).await.unwrap(), [log_id(4, 101)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_entry_is_an_error_not_a_gap() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = LogStore::open(dir.path()).unwrap();
    store
        .blocking_append((0..10).map(|index| entry(1, index)))
        .await
        .unwrap();
    // Makes the entries count as durable for the next start.
    store
        .save_vote(&Vote::new_committed(1, 1.into()))
        .await
        .unwrap();
    drop(store);

    let segment = dir.path().join("00000000000000000000.log");
    let mut content = std::fs::read(&segment).unwrap();
    let middle = content.len() / 2;
    content[middle] ^= 1;
    std::fs::write(&segment, content).unwrap();
    let result = match LogStore::open(dir.path()) {
        Ok(mut store) => read(&mut store).await.map(|_| ()),
        Err(error) => Err(error),
    };
    assert!(result.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_for_followers_are_bounded_by_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = LogStore::open(dir.path()).unwrap();
    let large = |index| {
        let records = vec![vec![0; READ_BYTES_MAX / 4].into()];
        Entry::new_normal(log_id(1, index), MetadataBatch { records })
    };
    store.blocking_append((0..10).map(large)).await.unwrap();
    let mut reader = store.get_log_reader().await;
    let some = reader.limited_get_log_entries(0, 10).await.unwrap();
    assert!((3..=5).contains(&some.len()), "{} entries", some.len());
    assert_eq!(reader.try_get_log_entries(..).await.unwrap().len(), 10);
}
