//! Batches that may begin a transaction: its coordinator is asked before they are appended (KIP-890).

use std::sync::Arc;

use broker_core::transaction::{Producer, TransactionTopicPartition};
use broker_core::{ProducerEpoch, ProducerId};
use broker_wire::ErrorCode;

use super::super::context::Context;
use super::super::error::older_abortable_error;
use super::{Batch, ProduceCall, Refusal, TOPIC_ID_VERSION_MIN, find_partition, find_topic};
use crate::transaction::{JoinMode, Joining};

/// First version of clients that leave it to the broker to add partitions.
const ADDS_VERSION_MIN: i16 = 12;
/// First version that knows TRANSACTION_ABORTABLE.
const ABORTABLE_VERSION_MIN: i16 = 11;

impl ProduceCall {
    /// Whether [`Self::verify`] has anything to do.
    #[must_use]
    pub const fn is_transactional(&self) -> bool {
        self.transactional_id.is_some()
    }

    /// Asks the coordinator for the partitions in which the request begins a transaction. What it
    /// refuses for a reason that passes is refused by the append, as are the batches behind it.
    pub async fn verify(&mut self, ctx: &Context) {
        let Some(id) = self.transactional_id.clone() else {
            return;
        };
        let Some((producer, partitions)) = self.begin_verifications(ctx) else {
            return;
        };
        let joining = Joining {
            id,
            producer,
            mode: match self.info.version >= ADDS_VERSION_MIN {
                true => JoinMode::Add,
                false => JoinMode::Verify,
            },
            partitions,
        };
        let Err(code) = ctx.transactions.join(joining).await else {
            return;
        };
        let refusal = lasting(code, self.info.version);
        for batch in self.batches() {
            if batch.as_ref().is_ok_and(|batch| batch.guard.is_some()) {
                match refusal {
                    Some(code) => {
                        let message = "the coordinator of the transaction refuses the partition";
                        *batch = Err(Refusal::new(code, message));
                    }
                    None => _ = batch.as_mut().map(|batch| batch.guard = None),
                }
            }
        }
    }

    /// The partitions to ask for, all for one producer as a request has one transactional id.
    fn begin_verifications(
        &mut self,
        ctx: &Context,
    ) -> Option<(Producer, Vec<TransactionTopicPartition>)> {
        let image = ctx.image();
        let by_id = self.info.version >= TOPIC_ID_VERSION_MIN;
        let (mut asking, mut partitions) = (None, Vec::new());
        for topic in &mut self.topics {
            let Ok(id) = find_topic(&image, &topic.name, by_id.then_some(topic.id)) else {
                continue;
            };
            for (index, batch) in &mut topic.partitions {
                let Ok(batch) = batch else { continue };
                let Some(producer) = transactional_producer(batch) else {
                    continue;
                };
                let Ok(partition) = find_partition(ctx, &image, id, *index) else {
                    continue;
                };
                let Ok(Some(guard)) = partition.begin_verification(producer) else {
                    continue;
                };
                if *asking.get_or_insert(producer) == producer {
                    batch.guard = Some(guard);
                    partitions.push((Arc::clone(partition.topic()), *index));
                }
            }
        }
        asking.map(|producer| (producer, partitions))
    }

    fn batches(&mut self) -> impl Iterator<Item = &mut Result<Batch, Refusal>> {
        let partitions = self
            .topics
            .iter_mut()
            .flat_map(|topic| &mut topic.partitions);
        partitions.map(|(_, batch)| batch)
    }
}

fn transactional_producer(batch: &Batch) -> Option<Producer> {
    let header = &batch.header;
    header.is_transactional().then_some(Producer {
        id: ProducerId(header.producer_id),
        epoch: ProducerEpoch(header.producer_epoch),
    })
}

/// What a producer is told of a refusal; `None` when trying again may help.
const fn lasting(code: ErrorCode, version: i16) -> Option<ErrorCode> {
    match code {
        ErrorCode::CoordinatorNotAvailable
        | ErrorCode::CoordinatorLoadInProgress
        | ErrorCode::NotCoordinator
        | ErrorCode::ConcurrentTransactions => None,
        ErrorCode::ProducerFenced => Some(ErrorCode::InvalidProducerEpoch),
        code => Some(older_abortable_error(
            code,
            version >= ABORTABLE_VERSION_MIN,
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn producers_of_every_version_know_what_they_are_told() {
        use ErrorCode as E;
        for (code, version, told) in [
            (E::ConcurrentTransactions, 12, None),
            (E::NotCoordinator, 9, None),
            (E::ProducerFenced, 12, Some(E::InvalidProducerEpoch)),
            (E::TransactionAbortable, 11, Some(E::TransactionAbortable)),
            (E::TransactionAbortable, 10, Some(E::InvalidTxnState)),
            (
                E::InvalidProducerIdMapping,
                9,
                Some(E::InvalidProducerIdMapping),
            ),
        ] {
            assert_eq!(lasting(code, version), told, "{code:?} v{version}");
        }
    }
}
