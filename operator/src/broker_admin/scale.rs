//! Calls with which brokers and voters come and go.

use klamm_proto::v1::{
    AddLearnerRequest, CancelDrainRequest, CordonRequest, DrainBlocker, DrainStatusRequest,
    PromoteVoterRequest, RemoveVoterRequest, StartDrainRequest, UncordonRequest,
    UnregisterBrokerRequest,
};
use operator_plan::observed::DrainProgress;
use operator_plan::scale::Step;
use tonic::{Code, Status};

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
            Step::AddVoter(id) => self.add_voter(broker_id, *id).await?,
            Step::RemoveVoter(id) => self.remove_voter(broker_id, *id).await?,
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

    async fn remove_voter(&self, broker_id: i32, id: i32) -> Result<(), AdminError> {
        let mut client = self.client(broker_id, CHANGE_TIMEOUT)?;
        let request = RemoveVoterRequest {
            broker_id: id,
            directory_id: String::new(),
        };
        let removed = client.remove_voter(self.change(request)).await;
        done_or_later(removed.map(|_| ()))
    }

    /// What keeps the replicas of the broker from moving.
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
                    blocked: Some(named.join("; ")).filter(|text| !text.is_empty()),
                }
            }
            Err(error) => DrainProgress::Unknown(error.to_string()),
        }
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
