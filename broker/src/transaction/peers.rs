//! The other brokers: leaders of partitions that get markers, and coordinators that are asked whether a
//! transaction includes a partition.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use broker_core::metadata::Image;
use broker_core::partition::{MarkerEpoch, TransactionOutcome};
use broker_core::transaction::{Prepared, TransactionTopicPartition};
use broker_core::{BrokerId, PartitionIndex};
use klamm_proto::v1::transactions_client::TransactionsClient;
use klamm_proto::v1::{
    JoinTransactionRequest, JoinTransactionResponse, NamedPartition, WriteMarkersRequest,
    WriteMarkersResponse,
};
use parking_lot::Mutex;
use thiserror::Error;
use tokio::sync::{Semaphore, watch};
use tokio::time::error::Elapsed;
use tokio::time::timeout;

use super::local_markers;
use crate::coordinator::GroupCoordinator;
use crate::partition::PartitionManager;
use crate::rpc::{self, Connection, Credentials};

/// How long a call may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// Partitions in one call for markers, so that their names fit into a message; the others have to wait for
/// the next round.
const CALL_PARTITIONS_MAX: usize = 10_000;
/// Transactions whose leaders are asked for markers at a time; the connections have room for questions
/// besides.
const ROUNDS_MAX: usize = rpc::CONNECTION_STREAMS_MAX as usize / 2;

/// See the module's documentation.
pub struct Peers {
    pub(super) me: BrokerId,
    credentials: Credentials,
    images: watch::Receiver<Arc<Image>>,
    pub(super) partitions: Arc<PartitionManager>,
    pub(super) groups: Arc<GroupCoordinator>,
    /// By address: a broker that moved gets another connection.
    connections: Mutex<BTreeMap<BrokerId, (String, Connection)>>,
    /// [`ROUNDS_MAX`] permits.
    rounds: Semaphore,
}

/// What a round of markers has left.
pub(super) enum Round {
    Left {
        /// Their leaders did not say that they have the marker.
        unanswered: Vec<TransactionTopicPartition>,
        /// Not in the metadata.
        unknown: Vec<TransactionTopicPartition>,
    },
    /// A newer coordinator is at work.
    Deposed,
}

#[derive(Debug, Error)]
pub(super) enum CallError {
    #[error("broker {0} is not registered")]
    UnknownBroker(BrokerId),
    #[error(transparent)]
    Address(#[from] rpc::AddressError),
    #[error("{0}")]
    Call(#[from] tonic::Status),
    #[error("no answer in time")]
    TimedOut(#[from] Elapsed),
    #[error("the markers were not written")]
    Failed,
}

impl Peers {
    #[must_use]
    pub fn new(
        me: BrokerId,
        credentials: Credentials,
        images: watch::Receiver<Arc<Image>>,
        partitions: Arc<PartitionManager>,
        groups: Arc<GroupCoordinator>,
    ) -> Self {
        Self {
            me,
            credentials,
            images,
            partitions,
            groups,
            connections: Mutex::default(),
            rounds: Semaphore::new(ROUNDS_MAX),
        }
    }

    pub(super) fn image(&self) -> Arc<Image> {
        Arc::clone(&self.images.borrow())
    }

    /// Asks every leader once.
    pub(super) async fn write_markers(self: &Arc<Self>, prepared: &Prepared) -> Round {
        let _permit = self.rounds.acquire().await;
        let image = self.image();
        let mut unknown = Vec::new();
        let mut unanswered = Vec::new();
        let mut by_leader: BTreeMap<BrokerId, Vec<TransactionTopicPartition>> = BTreeMap::new();
        for partition in &prepared.partitions {
            match leader_of(&image, partition) {
                None => unknown.push(partition.clone()),
                Some(None) => unanswered.push(partition.clone()),
                Some(Some(leader)) => {
                    let asked = by_leader.entry(leader).or_default();
                    match asked.len() < CALL_PARTITIONS_MAX {
                        true => asked.push(partition.clone()),
                        false => unanswered.push(partition.clone()),
                    }
                }
            }
        }
        let calls = by_leader
            .into_iter()
            .map(|(leader, partitions)| async move {
                let request = markers_request(prepared, &partitions);
                (partitions, self.write_markers_at(leader, request).await)
            });
        for (partitions, answer) in futures::future::join_all(calls).await {
            match answer {
                Ok(answer) if answer.deposed => return Round::Deposed,
                Ok(answer) => {
                    let ended: BTreeSet<_> = answer.ended.into_iter().map(from_named).collect();
                    unanswered.extend(partitions.into_iter().filter(|p| !ended.contains(p)));
                }
                Err(error) => {
                    tracing::debug!(%error, "markers are not written yet");
                    unanswered.extend(partitions);
                }
            }
        }
        Round::Left {
            unanswered,
            unknown,
        }
    }

    async fn write_markers_at(
        self: &Arc<Self>,
        leader: BrokerId,
        request: WriteMarkersRequest,
    ) -> Result<WriteMarkersResponse, CallError> {
        if leader == self.me {
            let write = local_markers::write_all(Arc::clone(self), request);
            let written = timeout(CALL_TIMEOUT, tokio::spawn(write)).await;
            return written?.map_err(|_| CallError::Failed);
        }
        let mut client = self.client(leader)?;
        let call = timeout(CALL_TIMEOUT, client.write_markers(request)).await;
        Ok(call??.into_inner())
    }

    pub(super) async fn join_at(
        &self,
        coordinator: BrokerId,
        request: JoinTransactionRequest,
    ) -> Result<JoinTransactionResponse, CallError> {
        let mut client = self.client(coordinator)?;
        let call = timeout(CALL_TIMEOUT, client.join_transaction(request)).await;
        Ok(call??.into_inner())
    }

    fn client(&self, broker: BrokerId) -> Result<TransactionsClient<Connection>, CallError> {
        let connection = self.connection(broker)?;
        Ok(TransactionsClient::new(connection)
            .max_decoding_message_size(rpc::MESSAGE_BYTES_MAX)
            .max_encoding_message_size(rpc::MESSAGE_BYTES_MAX))
    }

    fn connection(&self, broker: BrokerId) -> Result<Connection, CallError> {
        let image = self.image();
        let address = image
            .brokers
            .get(&broker)
            .map(|broker| format!("{}:{}", broker.rpc_host, broker.rpc_port))
            .ok_or(CallError::UnknownBroker(broker))?;
        let mut connections = self.connections.lock();
        if let Some((known, connection)) = connections.get(&broker)
            && *known == address
        {
            return Ok(connection.clone());
        }
        let connection = rpc::connect(&address, &self.credentials)?;
        connections.insert(broker, (address, connection.clone()));
        connections.retain(|broker, _| image.brokers.contains_key(broker));
        Ok(connection)
    }
}

/// `None`: the metadata has no such partition; `Some(None)`: nobody leads it.
pub(super) fn leader_of(
    image: &Image,
    partition: &TransactionTopicPartition,
) -> Option<Option<BrokerId>> {
    let (topic, index) = partition;
    let topic = image.topic_by_name(topic)?;
    Some(topic.partition(*index)?.leader)
}

fn markers_request(
    prepared: &Prepared,
    partitions: &[TransactionTopicPartition],
) -> WriteMarkersRequest {
    let marker = &prepared.marker;
    WriteMarkersRequest {
        producer_id: marker.producer_id.0,
        producer_epoch: marker.producer_epoch.0.into(),
        coordinator_epoch: marker.coordinator_epoch.0,
        committed: marker.outcome == TransactionOutcome::Commit,
        epoch_raised: prepared.marker_epoch == MarkerEpoch::Raised,
        partitions: partitions.iter().map(to_named).collect(),
    }
}

pub(super) fn to_named(partition: &TransactionTopicPartition) -> NamedPartition {
    NamedPartition {
        topic: partition.0.to_string(),
        partition: partition.1.0,
    }
}

pub(super) fn from_named(partition: NamedPartition) -> TransactionTopicPartition {
    (partition.topic.into(), PartitionIndex(partition.partition))
}
