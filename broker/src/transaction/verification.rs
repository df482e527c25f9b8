//! Asks a transaction's coordinator, wherever it is, to let a partition's leader begin the transaction
//! there (KIP-890).

use broker_core::transaction::{Producer, TransactionTopicPartition, TransactionalId};
use broker_core::{ProducerEpoch, ProducerId};
use broker_wire::ErrorCode;
use klamm_proto::v1::JoinTransactionRequest;

use super::peers::{from_named, to_named};
use super::{TRANSACTIONS_TOPIC, TransactionCoordinator};

/// What the coordinator is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JoinMode {
    /// Whether the client has added the partitions to its transaction.
    Verify,
    /// To add them, as the client no longer does with level 2 of `transaction.version`.
    Add,
}

/// Partitions that a transaction is to begin in.
#[derive(Clone, Debug)]
pub struct Joining {
    pub id: TransactionalId,
    pub producer: Producer,
    pub mode: JoinMode,
    pub partitions: Vec<TransactionTopicPartition>,
}

impl TransactionCoordinator {
    /// Asks the coordinator of the transactional id, which may be this broker.
    ///
    /// # Errors
    /// The coordinator's, and `COORDINATOR_NOT_AVAILABLE` when it can't be asked.
    pub async fn join(&self, joining: Joining) -> Result<(), ErrorCode> {
        let image = self.peers.image();
        let coordinator = image
            .topic_by_name(TRANSACTIONS_TOPIC)
            .and_then(|topic| topic.partition(self.find(&joining.id))?.leader)
            .ok_or(ErrorCode::CoordinatorNotAvailable)?;
        if coordinator == self.peers.me {
            return self.let_join(joining).await;
        }
        let answer = self.peers.join_at(coordinator, request(&joining)).await;
        let answer = answer.map_err(|error| {
            tracing::debug!(%error, "the coordinator of a transaction can't be asked");
            ErrorCode::CoordinatorNotAvailable
        })?;
        let code = i16::try_from(answer.error_code).unwrap_or(-1);
        match ErrorCode::from_code(code) {
            ErrorCode::None => Ok(()),
            error => Err(error),
        }
    }

    /// As the coordinator.
    pub(super) async fn let_join(&self, joining: Joining) -> Result<(), ErrorCode> {
        let Joining {
            id,
            producer,
            mode,
            partitions,
        } = joining;
        let joined = match mode {
            JoinMode::Verify => self.verify(&id, producer, &partitions).await,
            JoinMode::Add => self.add_partitions(&id, producer, &partitions).await,
        };
        joined.map_err(super::Refused::code)
    }
}

fn request(joining: &Joining) -> JoinTransactionRequest {
    JoinTransactionRequest {
        transactional_id: joining.id.to_string(),
        producer_id: joining.producer.id.0,
        producer_epoch: joining.producer.epoch.0.into(),
        verify_only: joining.mode == JoinMode::Verify,
        partitions: joining.partitions.iter().map(to_named).collect(),
    }
}

/// `None` for a producer epoch that is none.
pub(super) fn joining(request: JoinTransactionRequest) -> Option<Joining> {
    let epoch = i16::try_from(request.producer_epoch).ok()?;
    Some(Joining {
        id: request.transactional_id.into(),
        producer: Producer {
            id: ProducerId(request.producer_id),
            epoch: ProducerEpoch(epoch),
        },
        mode: match request.verify_only {
            true => JoinMode::Verify,
            false => JoinMode::Add,
        },
        partitions: request.partitions.into_iter().map(from_named).collect(),
    })
}
