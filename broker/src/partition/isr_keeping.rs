//! Changes of the ISRs of the partitions led here, proposed to the controller.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use broker_core::controller::{
    AlterPartition, AlterPartitions, BrokerRef, Command, CommandError, Response,
};
use broker_core::metadata::Image;
use broker_core::partition::IsrProposal;
use broker_core::{BrokerId, PartitionEpoch, PartitionIndex, TopicPartition};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use super::{Partition, PartitionManager};
use crate::controller::Controller;

/// Time between looks at replicas that lag.
const ISR_INTERVAL: Duration = Duration::from_millis(500);
/// Pause that lets ISR changes of many partitions share one command.
const ISR_BATCH_PAUSE: Duration = Duration::from_millis(5);
/// Partitions in one command to the controller.
const ISR_BATCH_MAX: usize = 1_000;

/// Partitions whose ISR needn't wait for the next look.
#[derive(Default)]
pub(super) struct IsrChanges {
    due: Mutex<BTreeSet<TopicPartition>>,
    added: Notify,
}

impl PartitionManager {
    /// A follower caught up: its entry into the ISR needn't wait for the next look.
    pub fn isr_change_due(&self, id: TopicPartition) {
        self.isr_changes.due.lock().insert(id);
        self.isr_changes.added.notify_one();
    }

    /// Proposes ISR changes to the controller for as long as the broker runs.
    pub async fn keep_isr(self: Arc<Self>, controller: Arc<Controller>) {
        let mut next_look = Instant::now() + ISR_INTERVAL;
        loop {
            let due = match timeout_at(next_look, self.isr_changes.added.notified()).await {
                Ok(()) => {
                    tokio::time::sleep(ISR_BATCH_PAUSE).await;
                    let ids = std::mem::take(&mut *self.isr_changes.due.lock());
                    ids.into_iter().filter_map(|id| self.get(id)).collect()
                }
                Err(_) => {
                    next_look = Instant::now() + ISR_INTERVAL;
                    self.all()
                }
            };
            let image = controller.image();
            let proposals: Vec<_> = due
                .into_iter()
                .filter_map(|partition| Some((partition.tick(&image)?, partition)))
                .collect();
            for batch in proposals.chunks(ISR_BATCH_MAX) {
                self.propose(&controller, batch).await;
            }
        }
    }

    async fn propose(&self, controller: &Controller, batch: &[(IsrProposal, Arc<Partition>)]) {
        let Some(broker_epoch) = controller.broker_epoch() else {
            return;
        };
        let leader = BrokerRef {
            broker_id: self.me().0,
            broker_epoch: broker_epoch.0,
        };
        let image = controller.image();
        let partitions = batch
            .iter()
            .map(|(proposal, partition)| command(leader, &image, proposal, partition))
            .collect();
        let command = Command::AlterPartitions(AlterPartitions { leader, partitions });
        let answered = match controller.submit(command).await {
            Ok(Response::AlterPartitions(answered)) => answered,
            Ok(_) => return,
            // The outcome is unknown; the proposal is repeated until metadata brings a newer state.
            Err(error) => {
                tracing::debug!(%error, "ISR change not answered");
                return;
            }
        };
        let mut changed = 0;
        for (answer, (proposal, partition)) in answered.partitions.iter().zip(batch) {
            match &answer.failure {
                None => {
                    changed += 1;
                    tracing::debug!(%partition, isr = ?members(proposal), "ISR changed");
                }
                Some(failure) => {
                    let kind = failure.error();
                    tracing::debug!(%partition, ?kind, message = failure.message, "ISR change refused");
                    if is_final(kind) {
                        partition.isr_refused(proposal.partition_epoch);
                        self.isr_change_due(partition.id());
                    }
                }
            }
        }
        if let (1.., Some((proposal, partition))) = (changed, batch.first()) {
            tracing::info!(
                partitions = changed, first = %partition, isr = ?members(proposal), "ISR changed"
            );
        }
    }
}

/// The proposal as a command. A member that has not pulled from this leader yet was in the ISR before,
/// and stays there in its current registration.
fn command(
    leader: BrokerRef,
    image: &Image,
    proposal: &IsrProposal,
    partition: &Partition,
) -> AlterPartition {
    let registered = |id| image.brokers.get(&id).map_or(-1, |broker| broker.epoch.0);
    let TopicPartition {
        topic,
        partition: PartitionIndex(index),
    } = partition.id();
    let PartitionEpoch(partition_epoch) = proposal.partition_epoch;
    AlterPartition {
        topic_id: topic.into(),
        partition: index,
        leader_epoch: proposal.leader_epoch.0,
        partition_epoch,
        new_isr: proposal
            .isr
            .iter()
            .map(|member| BrokerRef {
                broker_id: member.broker.0,
                broker_epoch: match member.epoch {
                    Some(epoch) => epoch.0,
                    None if member.broker.0 == leader.broker_id => leader.broker_epoch,
                    None => registered(member.broker),
                },
            })
            .collect(),
    }
}

/// Whether a refused proposal can't have taken effect. One that comes too late may be the repetition of
/// one that was committed: the proposed members count until the metadata tells.
const fn is_final(refusal: CommandError) -> bool {
    !matches!(
        refusal,
        CommandError::InvalidPartitionEpoch
            | CommandError::FencedLeaderEpoch
            | CommandError::NotController
            | CommandError::TimedOut
    )
}

fn members(proposal: &IsrProposal) -> Vec<BrokerId> {
    proposal.isr.iter().map(|member| member.broker).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proposal_that_may_be_committed_already_is_not_given_up() {
        for (refusal, expected) in [
            (CommandError::InvalidPartitionEpoch, false),
            (CommandError::FencedLeaderEpoch, false),
            (CommandError::NotController, false),
            (CommandError::TimedOut, false),
            (CommandError::IneligibleReplica, true),
            (CommandError::UnknownPartition, true),
        ] {
            assert_eq!(is_final(refusal), expected, "{refusal:?}");
        }
    }
}
