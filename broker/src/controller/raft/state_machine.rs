//! Applies committed entries to the [`Image`] and takes snapshots of it.
//!
//! The image lives in memory: a restart loads the newest snapshot and applies what the quorum has
//! committed since. A snapshot is due once the entries behind the newest one take as much room as
//! that does itself, and no less than an interval: writing them costs no more than writing the log,
//! and the log stays in proportion to the state.
//!
//! Invariants:
//! * Every broker that applied the same offset has the same image.
//! * A proposer hears of its commit after the image with it is published.

use std::io;
use std::sync::Arc;

use broker_core::metadata::{Image, Record};
use broker_wire::record::BATCH_HEADER_LEN;
use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use openraft::storage::{EntryResponder, RaftStateMachine};
use openraft::{EntryPayload, OptionalSend, RaftSnapshotBuilder};
use tokio::sync::mpsc;

use super::codec;
use super::snapshot_store::SnapshotStore;
use super::types::{LogId, MetadataBatch, Snapshot, SnapshotMeta, StoredMembership, TypeConfig};
use crate::controller::feed::{CommittedBatch, Feed};

/// See the module's documentation.
pub(crate) struct StateMachine {
    applied: Option<LogId>,
    membership: StoredMembership,
    image: Arc<Image>,
    feed: Arc<Feed>,
    snapshots: Arc<SnapshotStore>,
    snapshot_interval_bytes: u64,
    /// Entries that the newest snapshot lacks.
    bytes_behind_snapshot: u64,
    snapshot_due: mpsc::Sender<()>,
}

impl StateMachine {
    /// `snapshot_due` gets a message when a snapshot shall be taken.
    pub(crate) fn new(
        feed: Arc<Feed>,
        snapshots: Arc<SnapshotStore>,
        snapshot_interval_bytes: u64,
        snapshot_due: mpsc::Sender<()>,
    ) -> Self {
        Self {
            applied: None,
            membership: StoredMembership::default(),
            image: feed.position().image,
            feed,
            snapshots,
            snapshot_interval_bytes,
            bytes_behind_snapshot: 0,
            snapshot_due,
        }
    }

    fn ask_for_snapshot(&self) {
        let newest_bytes = self.snapshots.newest_bytes();
        if self.bytes_behind_snapshot >= self.snapshot_interval_bytes.max(newest_bytes) {
            // Full: it has been asked for.
            let _ = self.snapshot_due.try_send(());
        }
    }
}

/// Image and position, fixed at one moment; writes them out later.
pub(crate) struct SnapshotBuilder {
    meta: SnapshotMeta,
    image: Arc<Image>,
    snapshots: Arc<SnapshotStore>,
}

impl RaftStateMachine<TypeConfig> for StateMachine {
    type SnapshotData = Bytes;
    type SnapshotBuilder = SnapshotBuilder;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        Ok((self.applied, self.membership.clone()))
    }

    async fn apply<S>(&mut self, mut entries: S) -> io::Result<()>
    where
        S: Stream<Item = io::Result<EntryResponder<TypeConfig>>> + Unpin + OptionalSend,
    {
        let mut responders = Vec::new();
        let mut committed = Vec::new();
        while let Some((entry, responder)) = entries.next().await.transpose()? {
            self.applied = Some(entry.log_id);
            let records = match entry.payload {
                EntryPayload::Blank => Vec::new(),
                EntryPayload::Normal(batch) => batch.records,
                EntryPayload::Membership(membership) => {
                    self.membership = StoredMembership::new(Some(entry.log_id), membership);
                    Vec::new()
                }
            };
            apply_records(&mut self.image, &records)?;
            self.bytes_behind_snapshot += entry_bytes(&records);
            committed.push(CommittedBatch {
                offset: entry.log_id.index,
                records,
            });
            responders.extend(responder);
        }
        self.feed.publish(committed, &self.image);
        for responder in responders {
            responder.send(());
        }
        self.ask_for_snapshot();
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> SnapshotBuilder {
        self.bytes_behind_snapshot = 0;
        SnapshotBuilder {
            meta: SnapshotMeta {
                last_log_id: self.applied,
                last_membership: self.membership.clone(),
            },
            image: Arc::clone(&self.image),
            snapshots: Arc::clone(&self.snapshots),
        }
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, content: Bytes) -> io::Result<()> {
        let batch: MetadataBatch = codec::decode(&content).map_err(io::Error::other)?;
        let mut image = Arc::default();
        apply_records(&mut image, &batch.records)?;
        let (snapshots, saved) = (Arc::clone(&self.snapshots), meta.clone());
        tokio::task::spawn_blocking(move || snapshots.save(&saved, &content))
            .await
            .map_err(io::Error::other)??;
        self.applied = meta.last_log_id;
        self.membership = meta.last_membership.clone();
        self.image = image;
        self.bytes_behind_snapshot = 0;
        if let Some(position) = meta.last_log_id {
            self.feed.replace(position.index, &self.image);
        }
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<Snapshot>> {
        let snapshots = Arc::clone(&self.snapshots);
        tokio::task::spawn_blocking(move || snapshots.load())
            .await
            .map_err(io::Error::other)?
    }
}

impl RaftSnapshotBuilder<TypeConfig> for SnapshotBuilder {
    type SnapshotData = Bytes;

    async fn build_snapshot(&mut self) -> io::Result<Snapshot> {
        let (meta, image) = (self.meta.clone(), Arc::clone(&self.image));
        let snapshots = Arc::clone(&self.snapshots);
        let build = move || {
            let records = image
                .to_records()
                .into_iter()
                .map(|record| record.to_bytes().into());
            let snapshot = codec::encode(&MetadataBatch {
                records: records.collect(),
            });
            snapshots.save(&meta, &snapshot)?;
            Ok(Snapshot { meta, snapshot })
        };
        tokio::task::spawn_blocking(build)
            .await
            .map_err(io::Error::other)?
    }
}

/// About what an entry takes in the log.
fn entry_bytes(records: &[Bytes]) -> u64 {
    let records: usize = records.iter().map(Bytes::len).sum();
    (BATCH_HEADER_LEN + records) as u64
}

/// A record that cannot be applied ends this voter: going on without it would fork the state.
fn apply_records(image: &mut Arc<Image>, records: &[Bytes]) -> io::Result<()> {
    if records.is_empty() {
        return Ok(());
    }
    let image = Arc::make_mut(image);
    for record in records {
        let record = Record::from_bytes(record).map_err(io::Error::other)?;
        image.apply(&record).map_err(io::Error::other)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use broker_core::metadata::Feature;
    use openraft::entry::RaftEntry as _;

    use super::*;
    use crate::controller::raft::types::{CommittedLeaderId, Entry};

    fn log_id(index: u64) -> LogId {
        LogId::new(CommittedLeaderId::new(1), index)
    }

    impl StateMachine {
        async fn apply_features(&mut self, index: u64, names: &[String]) {
            let records = names.iter().map(|name| {
                let (name, level) = (name.clone(), 1);
                Record::Feature(Feature { name, level }).to_bytes().into()
            });
            let records = records.collect();
            let entry = Entry::new_normal(log_id(index), MetadataBatch { records });
            let entries = futures::stream::iter([Ok((entry, None))]);
            self.apply(entries).await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_snapshot_is_due_by_the_size_of_entries_whatever_their_number() {
        let dir = tempfile::tempdir().unwrap();
        let snapshots = Arc::new(SnapshotStore::open(dir.path()).unwrap());
        let (snapshot_due, mut due) = mpsc::channel(1);
        let feed = Arc::new(Feed::new());
        let mut machine = StateMachine::new(feed, snapshots, 10_000, snapshot_due);
        for index in 1..=100 {
            machine.apply_features(index, &["small".to_owned()]).await;
            assert!(due.try_recv().is_err(), "after {index} small entries");
        }
        let large: Vec<_> = (0..300).map(|n| format!("a-feature-of-{n}")).collect();
        machine.apply_features(101, &large).await;
        assert!(due.try_recv().is_ok(), "one large entry");

        let mut builder = machine.get_snapshot_builder().await;
        machine.apply_features(102, &large).await;
        assert!(due.try_recv().is_err(), "it counts towards the next");
        let snapshot = builder.build_snapshot().await.unwrap();
        assert_eq!(snapshot.meta.last_log_id, Some(log_id(101)));
        machine.apply_features(103, &large).await;
        assert!(due.try_recv().is_ok());
    }

    #[tokio::test]
    async fn a_large_image_is_written_less_often() {
        let dir = tempfile::tempdir().unwrap();
        let snapshots = Arc::new(SnapshotStore::open(dir.path()).unwrap());
        let meta = SnapshotMeta {
            last_log_id: Some(log_id(1)),
            last_membership: StoredMembership::default(),
        };
        snapshots.save(&meta, &vec![0; 20_000].into()).unwrap();
        let reopened = Arc::new(SnapshotStore::open(dir.path()).unwrap());
        let (snapshot_due, mut due) = mpsc::channel(1);
        let feed = Arc::new(Feed::new());
        let mut machine = StateMachine::new(feed, reopened, 10_000, snapshot_due);
        let large: Vec<_> = (0..600).map(|n| format!("a-feature-of-{n}")).collect();
        machine.apply_features(2, &large).await;
        assert!(due.try_recv().is_err(), "not yet as much as the snapshot");
        machine.apply_features(3, &large).await;
        assert!(due.try_recv().is_ok());
    }
}
