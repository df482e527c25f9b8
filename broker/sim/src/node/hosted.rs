//! One partition on one broker: the replica that decides, and its log. Mirrors
//! `broker/src/partition`.

use std::collections::BTreeMap;
use std::sync::Arc;

use broker_core::metadata::{Image, PartitionImage};
use broker_core::mutation::{Mutation, mutated};
use broker_core::partition::{
    Acks, AppendError, Assignment, LeaderEnds, Producers, Replica, RoleChange, SequenceVerdict,
    SequencedBatch, Settings, WaitQueue,
};
use broker_core::{BrokerId, Duration, LeaderEpoch, Offset, Time, Timestamp, TopicPartition};
use broker_log::{Log, LogConfig};
use broker_wire::record::BatchHeader;

use super::deletion::FollowerStarts;
use crate::event::{Peer, ProduceError};

/// `replica.lag.time.max.ms`.
const LAG_TIME_MAX: Duration = Duration::from_millis(700);

/// `klamm.isr.dwell.ms`.
const ISR_DWELL: Duration = Duration::from_millis(100);

/// A produce request whose answer waits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parked {
    pub(crate) client: Peer,
    pub(crate) request: u64,
    pub(crate) acks: Acks,
    pub(crate) base_offset: Offset,
    pub(crate) end_offset: Offset,
}

/// See the module's documentation.
pub(crate) struct Hosted {
    pub(crate) id: TopicPartition,
    pub(crate) topic: Arc<str>,
    pub(crate) replica: Replica,
    pub(crate) log: Log,
    pub(crate) min_insync_replicas: usize,
    /// Number of replicas.
    pub(crate) replicas: usize,
    pub(crate) replicated: WaitQueue<Parked>,
    pub(crate) counted: BTreeMap<usize, WaitQueue<Parked>>,
    pub(crate) durable: WaitQueue<Parked>,
    pub(crate) flushing: bool,
    /// Where a truncation was to cut the log that failed on the way.
    pub(crate) cut_short_at: Option<Offset>,
    /// Below it, the log was compared with what is committed.
    pub(crate) verified: Offset,
    /// The highest high watermark that a leader told of, of what was not cut since.
    pub(crate) told: Offset,
    /// A high watermark that consumers and followers have not been told of.
    pub(crate) moved: bool,
    pub(super) follower_starts: FollowerStarts,
    /// Producers whose answer depends on a role that was lost.
    pub(crate) abandoned: Vec<Parked>,
}

/// Why an append is answered with an error.
pub(crate) fn produce_error(error: &AppendError) -> ProduceError {
    match error {
        AppendError::NotLeader(_) => ProduceError::NotLeader,
        AppendError::NotEnoughReplicas { .. }
        | AppendError::TooManyAcks { .. }
        | AppendError::BehindAwaited { .. }
        | AppendError::Unverified => ProduceError::NotEnoughReplicas,
        AppendError::Sequence(_) | AppendError::Marker(_) => ProduceError::OutOfOrder,
    }
}

/// Settings of a topic that matter here.
pub(crate) fn topic_settings(image: &Image, id: TopicPartition) -> Option<(Settings, LogConfig)> {
    let topic = image.topics.get(&id.topic)?;
    let flush_messages = image
        .topic_config(topic, "flush.messages")
        .and_then(|value| value.parse().ok());
    let log = LogConfig {
        segment_bytes: 2048,
        index_interval_bytes: 256,
        segment_index_bytes: 512,
        retention_ms: None,
        flush_messages,
        ..LogConfig::default()
    };
    // A reassignment does not ask for more in-sync replicas before it is complete.
    let replicas = image.partition(id)?.replication_factor();
    let settings = Settings {
        min_insync_replicas: image.min_insync_replicas(topic, 1).min(replicas),
        lag_time_max: LAG_TIME_MAX,
        isr_dwell: ISR_DWELL,
    };
    Some((settings, log))
}

/// Place in an idempotent producer's sequence.
pub(crate) fn sequence(header: &BatchHeader) -> Option<SequencedBatch> {
    (header.producer_id >= 0).then(|| SequencedBatch {
        producer_id: header.producer_id.into(),
        producer_epoch: header.producer_epoch.into(),
        first_sequence: header.base_sequence,
        last_sequence: header.last_sequence(),
        transactional: header.is_transactional(),
    })
}

impl Hosted {
    /// The leader's own position for the high watermark: what is durable where every message must
    /// be, else what is written.
    pub(crate) fn own_end(&self) -> Offset {
        let counts_all = mutated(Mutation::CountUnsyncedRecords);
        if self.log.config().flush_messages == Some(1) && !counts_all {
            self.log.durable_end()
        } else {
            self.log.end_offset()
        }
    }

    pub(crate) fn set_settings(&mut self, settings: Settings) {
        self.replica.set_settings(settings);
        self.min_insync_replicas = settings.min_insync_replicas;
    }

    pub(crate) fn assign(&mut self, now: Time, image: &PartitionImage) -> RoleChange {
        let led_before = self.replica.is_leader();
        let assignment = Assignment {
            leader: image.leader,
            leader_epoch: image.leader_epoch,
            partition_epoch: image.partition_epoch,
            replicas: image.replicas.clone(),
            isr: image.isr.clone(),
            elr: image.elr.clone(),
        };
        self.replicas = image.replicas.len();
        let before = self.replica.high_watermark();
        let ends = LeaderEnds {
            written: self.log.end_offset(),
            own: self.own_end(),
        };
        let change = self.replica.handle_assignment(now, &assignment, ends);
        self.moved |= self.replica.high_watermark() != before;
        match change {
            RoleChange::Unchanged | RoleChange::ReplicasAdded => {}
            RoleChange::BecameLeader { .. } => {
                if !led_before {
                    self.abandon();
                }
                self.follower_starts.clear();
                self.log.assign_epoch(image.leader_epoch);
                if mutated(Mutation::ForgetSequences) {
                    self.replica.set_producers(Producers::default());
                }
            }
            RoleChange::BecameFollower => {
                self.follower_starts.clear();
                self.abandon();
                if mutated(Mutation::TruncateToHighWatermark) {
                    self.truncate_to_high_watermark();
                }
            }
        }
        change
    }

    /// What followers did before KIP-101.
    fn truncate_to_high_watermark(&mut self) {
        let to = self.replica.high_watermark();
        match self.log.truncate_to(to) {
            Ok(()) => {
                self.replica.handle_truncation(to);
                self.verified = self.verified.min(to);
                self.told = self.told.min(to);
            }
            Err(_) => self.cut_short_at = Some(to),
        }
    }

    /// Answers of the earlier role will never come.
    pub(crate) fn abandon(&mut self) {
        self.abandoned.extend(self.replicated.take_all());
        self.abandoned.extend(self.durable.take_all());
        for (_, mut waiting) in std::mem::take(&mut self.counted) {
            self.abandoned.extend(waiting.take_all());
        }
    }

    /// Appends a batch as the leader; answers at once, or parks the request.
    pub(crate) fn append(
        &mut self,
        now: (Time, Timestamp),
        request: (Peer, u64),
        acks: Acks,
        mut batch: Vec<u8>,
    ) -> Result<Option<Parked>, ProduceError> {
        let header = BatchHeader::parse(&batch).map_err(|_| ProduceError::Storage)?;
        let sequence = sequence(&header);
        let verdict = self.replica.admit(now.0, acks, sequence.as_ref());
        let (base_offset, end_offset) = match verdict.map_err(|error| produce_error(&error))? {
            SequenceVerdict::Duplicate {
                base_offset,
                end_offset,
                ..
            } => (base_offset, end_offset),
            SequenceVerdict::AppendedBefore { .. } => return Err(ProduceError::AppendedBefore),
            SequenceVerdict::Append => {
                let epoch = self.replica.leader_epoch();
                let appended = self.log.append_as_leader(&mut batch, epoch, now.1);
                let info = appended.map_err(|_| ProduceError::Storage)?;
                let sequenced = sequence.as_ref().map(|batch| (batch, info.max_timestamp));
                let own_end = self.own_end();
                self.moved |=
                    self.replica
                        .handle_append(now.0, sequenced, info.first_offset, own_end);
                (info.first_offset, info.end_offset)
            }
        };
        let parked = Parked {
            client: request.0,
            request: request.1,
            acks,
            base_offset,
            end_offset,
        };
        Ok(self.acknowledge(parked))
    }

    /// The request if it may be answered already.
    fn acknowledge(&mut self, parked: Parked) -> Option<Parked> {
        match parked.acks {
            Acks::All if mutated(Mutation::AcknowledgeAtOnce) => Some(parked),
            Acks::All if self.replica.high_watermark() < parked.end_offset => {
                self.replicated.push(parked.end_offset, parked);
                None
            }
            Acks::Leader if self.own_end() < parked.end_offset => {
                self.durable.push(parked.end_offset, parked);
                None
            }
            Acks::Counted(count)
                if self.replica.replicated_on(count, self.own_end()) < Some(parked.end_offset) =>
            {
                let waiting = self.counted.entry(count).or_default();
                waiting.push(parked.end_offset, parked);
                None
            }
            Acks::None | Acks::Leader | Acks::All | Acks::Counted(_) => Some(parked),
        }
    }

    /// Requests that so many replicas have by now as they asked for.
    pub(crate) fn release_counted(&mut self) -> Vec<Parked> {
        let own_end = self.own_end();
        let mut released = Vec::new();
        for (count, waiting) in &mut self.counted {
            if let Some(end) = self.replica.replicated_on(*count, own_end) {
                released.extend(waiting.release(end));
            }
        }
        released
    }

    /// Ends a group commit. What is returned may be answered now.
    pub(crate) fn flush(&mut self) -> Vec<Parked> {
        self.flushing = false;
        match self.log.sync_handle().sync() {
            Ok(synced) => self.log.synced(synced),
            Err(_) => {
                self.abandon();
                return Vec::new();
            }
        }
        let own_end = self.own_end();
        self.moved |= self.replica.handle_durable(own_end);
        self.durable.release(self.log.durable_end()).collect()
    }

    pub(crate) fn leads(&self, me: BrokerId, image: &PartitionImage) -> bool {
        image.leader == Some(me)
            && self.replica.is_leader()
            && self.replica.leader_epoch() == image.leader_epoch
    }

    /// Epoch of the last batch.
    pub(crate) fn last_epoch(&self) -> LeaderEpoch {
        let end = self.log.end_offset();
        self.log
            .epochs()
            .latest_before(end)
            .unwrap_or(LeaderEpoch::NONE)
    }
}
