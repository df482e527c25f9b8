//! Applies committed entries to the [`Image`] and takes snapshots of it.
//!
//! The image lives in memory: a restart loads the newest snapshot and applies what the quorum has
//! committed since.
//!
//! Invariants:
//! * Every broker that applied the same offset has the same image.
//! * A proposer hears of its commit after the image with it is published.

use std::io;
use std::sync::Arc;

use broker_core::metadata::{Image, Record};
use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use openraft::storage::{EntryResponder, RaftStateMachine};
use openraft::{EntryPayload, OptionalSend, RaftSnapshotBuilder};

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
}

impl StateMachine {
    pub(crate) fn new(feed: Arc<Feed>, snapshots: Arc<SnapshotStore>) -> Self {
        Self {
            applied: None,
            membership: StoredMembership::default(),
            image: feed.position().image,
            feed,
            snapshots,
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
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> SnapshotBuilder {
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
