//! Calls with which brokers and voters come and go.

use jiff::Timestamp;
use klamm_proto::v1::{
    AddLearnerRequest, CancelDrainRequest, CancelRebalanceRequest, CordonRequest,
    DescribeQuorumRequest, DrainBlocker, DrainStatusRequest, PromoteVoterRequest,
    QuorumDescription, QuorumMember, RebalanceStatusRequest, RemoveVoterRequest, StartDrainRequest,
    StartRebalanceRequest, UncordonRequest, UnregisterBrokerRequest,
};
use operator_plan::observed::{self, DrainProgress, QuorumFacts, RebalanceProgress};
use operator_plan::scale::Step;
use tonic::{Code, Status};
use uuid::Uuid;

use super::{AdminError, BrokerAdmin, CHANGE_TIMEOUT, READ_TIMEOUT};

/// Replicas that a message names.
const BLOCKERS_NAMED_MAX: usize = 3;

impl BrokerAdmin {
    /// Takes the step, by a call to `broker_id`. Stopping a process is none of the brokers' calls.
    pub(crate) async fn scale(&self, broker_id: i32, step: &Step) -> Result<(), AdminError> {
        let mut client = self.client(broker_id, CHANGE_TIMEOUT)?;
        match step {
            Step::Cordon(broker) => {
                let request = CordonRequest { broker: *broker };
                client.cordon(self.change(request)).await?;
            }
            Step::Uncordon(broker) => {
                let request = UncordonRequest { broker: *broker };
                client.uncordon(self.change(request)).await?;
            }
            Step::Drain(broker) => {
                let request = StartDrainRequest { broker: *broker };
                client.start_drain(self.change(request)).await?;
            }
            Step::CancelDrain(broker) => {
                let request = CancelDrainRequest { broker: *broker };
                client.cancel_drain(self.change(request)).await?;
            }
            Step::StartRebalance => {
                let request = StartRebalanceRequest {};
                client.start_rebalance(self.change(request)).await?;
            }
            Step::CancelRebalance => {
                let request = CancelRebalanceRequest {};
                client.cancel_rebalance(self.change(request)).await?;
            }
            Step::AddVoter(id) => self.add_voter(broker_id, *id).await?,
            Step::RemoveVoter { id, directory } => {
                self.remove_voter(broker_id, *id, directory).await?;
            }
            Step::Unregister { id, incarnation } => {
                let request = UnregisterBrokerRequest {
                    broker: *id,
                    incarnation: incarnation.clone(),
                };
                client.unregister_broker(self.change(request)).await?;
            }
            Step::Stop(_) => {}
        }
        Ok(())
    }

    /// A learner that has not caught up is promoted by a later pass.
    async fn add_voter(&self, broker_id: i32, id: i32) -> Result<(), AdminError> {
        let mut client = self.client(broker_id, CHANGE_TIMEOUT)?;
        let request = AddLearnerRequest {
            broker_id: id,
            directory_id: String::new(),
        };
        let added = client.add_learner(self.change(request)).await;
        done_or_later(added.map(|_| ()))?;
        let request = PromoteVoterRequest {
            broker_id: id,
            directory_id: String::new(),
        };
        let promoted = client.promote_voter(self.change(request)).await;
        done_or_later(promoted.map(|_| ()))
    }

    /// Of that directory alone: the broker may be a member with another one by now.
    async fn remove_voter(
        &self,
        broker_id: i32,
        id: i32,
        directory: &str,
    ) -> Result<(), AdminError> {
        let mut client = self.client(broker_id, CHANGE_TIMEOUT)?;
        let request = RemoveVoterRequest {
            broker_id: id,
            directory_id: directory.to_owned(),
        };
        let removed = client.remove_voter(self.change(request)).await;
        done_or_later(removed.map(|_| ()))
    }

    /// The members of the quorum; nothing when its leader does not tell them.
    pub(crate) async fn describe_quorum(&self) -> Option<QuorumFacts> {
        let asked = self.first_answer(|id| {
            let request = self.request(DescribeQuorumRequest {});
            async move {
                let mut client = self.client(id, READ_TIMEOUT)?;
                Ok(client.describe_quorum(request).await?.into_inner())
            }
        });
        match asked.await {
            Ok(answer) => Some(quorum_facts(answer)),
            Err(error) => {
                tracing::warn!(%error, "the quorum's members are not known");
                None
            }
        }
    }

    /// How far the rebalance is, or what one would move.
    pub(crate) async fn rebalance_status(&self) -> RebalanceProgress {
        let asked = self.first_answer(|id| {
            let request = self.request(RebalanceStatusRequest { explain: false });
            async move {
                let mut client = self.client(id, READ_TIMEOUT)?;
                Ok(client.rebalance_status(request).await?.into_inner())
            }
        });
        match asked.await {
            Ok(answer) => RebalanceProgress::Known {
                partitions_left: answer.partitions_left,
                partitions_moving: answer.partitions_moving,
                last_progress_at: timestamp(answer.last_progress_at_ms),
                paused: Some(answer.paused).filter(|text| !text.is_empty()),
            },
            Err(error) => RebalanceProgress::Unknown(error.to_string()),
        }
    }

    /// How far the broker is emptied, and what keeps its replicas from moving.
    pub(crate) async fn drain_status(&self, broker: i32) -> DrainProgress {
        let request = DrainStatusRequest { broker };
        let asked = self.first_answer(|id| {
            let request = self.request(request);
            async move {
                let mut client = self.client(id, READ_TIMEOUT)?;
                Ok(client.drain_status(request).await?.into_inner())
            }
        });
        match asked.await {
            Ok(answer) => {
                let named = answer
                    .blocked_by
                    .iter()
                    .take(BLOCKERS_NAMED_MAX)
                    .map(blocker);
                let named: Vec<_> = named.collect();
                DrainProgress::Known {
                    bytes_left: answer.bytes_left,
                    last_progress_at: timestamp(answer.last_progress_at_ms),
                    blocked: Some(named.join("; ")).filter(|text| !text.is_empty()),
                }
            }
            Err(error) => DrainProgress::Unknown(error.to_string()),
        }
    }
}

/// Nothing for 0, which stands for a time that is not known.
fn timestamp(ms: i64) -> Option<Timestamp> {
    let known_ms = Some(ms).filter(|ms| *ms > 0)?;
    Timestamp::from_millisecond(known_ms).ok()
}

fn quorum_facts(answer: QuorumDescription) -> QuorumFacts {
    let member = |member: QuorumMember| observed::QuorumMember {
        id: member.broker_id,
        directory: member.directory_id,
        reachable: member.reachable,
    };
    let observers = answer.observers.into_iter();
    QuorumFacts {
        voters: answer.voters.into_iter().map(member).collect(),
        learners: answer.learners.into_iter().map(member).collect(),
        observers: observers
            .filter(|observer| observer.directory_id != Uuid::nil().to_string())
            .map(|observer| (observer.broker_id, observer.directory_id))
            .collect(),
    }
}

/// The quorum changes one member at a time and only while that is safe: the next pass asks again.
fn done_or_later(outcome: Result<(), Status>) -> Result<(), AdminError> {
    match outcome {
        Err(status) if matches!(status.code(), Code::FailedPrecondition | Code::Aborted) => {
            tracing::info!(why = status.message(), "the quorum is changed later");
            Ok(())
        }
        outcome => Ok(outcome?),
    }
}

fn blocker(blocker: &DrainBlocker) -> String {
    format!(
        "{}-{}: {}",
        blocker.topic, blocker.partition, blocker.reason
    )
}
