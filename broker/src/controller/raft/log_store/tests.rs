use std::io;
use std::sync::Arc;

use openraft::StorageError;
use openraft::entry::RaftEntry as _;
use openraft::storage::RaftLogStorageExt as _;
use openraft::testing::log::{StoreBuilder, Suite};
use tempfile::TempDir;
use tokio::sync::mpsc;

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
        let (snapshot_due, _) = mpsc::channel(1);
        Ok((
            dir,
            log,
            StateMachine::new(Arc::new(Feed::new()), snapshots, u64::MAX, snapshot_due),
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

/// Every file of a voter's metadata, with twenty entries of which the first ten are known to be durable.
async fn voter() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let mut store = LogStore::open(dir.path()).unwrap();
    for range in [0..10, 10..20] {
        let entries: Vec<_> = range.map(|index| entry(1, index)).collect();
        store.blocking_append(entries).await.unwrap();
        if store.reader.state.lock().vote.is_none() {
            let vote = Vote::new_committed(1, 1.into());
            store.save_vote(&vote).await.unwrap();
        }
    }
    dir
}

const SEGMENT: &str = "00000000000000000000.log";

/// What is left of the entries of a log with this content, `None` when it is refused.
async fn reopened(dir: &TempDir, content: &[u8]) -> Option<usize> {
    std::fs::write(dir.path().join(SEGMENT), content).unwrap();
    match LogStore::open(dir.path()) {
        Ok(mut store) => Some(read(&mut store).await.unwrap().len()),
        Err(error) => {
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{error}");
            None
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_voter_does_not_take_damage_for_a_torn_tail() {
    let good = std::fs::read(voter().await.path().join(SEGMENT)).unwrap();
    let entry_len = good.len() / 20;
    for damaged in [2, 9, 10, 15, 18] {
        // Length, checksum, and payload.
        for at in [9, 18, 80] {
            let mut content = good.clone();
            content[damaged * entry_len + at] ^= 0x10;
            let left = reopened(&voter().await, &content).await;
            assert_eq!(left, None, "entry {damaged}, byte {at}");
        }
    }
    for len in (0..10 * entry_len).step_by(entry_len / 2) {
        let left = reopened(&voter().await, &good[..len]).await;
        assert_eq!(left, None, "{len} bytes of durable entries");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_torn_tail_is_cut() {
    let good = std::fs::read(voter().await.path().join(SEGMENT)).unwrap();
    let entry_len = good.len() / 20;
    let torn = &good[..good.len() - 5];
    assert_eq!(reopened(&voter().await, torn).await, Some(19));
    let torn = &good[..15 * entry_len + 7];
    assert_eq!(reopened(&voter().await, torn).await, Some(15));
    let mut garbage = good.clone();
    let tail = garbage.len() - entry_len / 2;
    garbage[tail..].fill(0);
    assert_eq!(reopened(&voter().await, &garbage).await, Some(19));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_voter_is_refused_without_its_log_or_with_a_damaged_vote() {
    let dir = voter().await;
    std::fs::remove_file(dir.path().join(SEGMENT)).unwrap();
    let error = LogStore::open(dir.path()).err().unwrap();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{error}");

    let path = dir.path().join(QUORUM_STATE_FILE);
    let good = std::fs::read(&path).unwrap();
    for byte in 0..good.len() {
        let mut bad = good.clone();
        bad[byte] ^= 1;
        for content in [&bad[..], &good[..byte]] {
            std::fs::write(&path, content).unwrap();
            let error = LogStore::open(dir.path()).err().unwrap();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{error}");
        }
    }
}
