//! AddRaftVoter (KIP-853): makes a broker a voter of the metadata quorum, by way of a learner that
//! catches up first. It is reached at the address it has registered, whatever the request says.

use std::time::Duration;

use broker_wire::message::{AddRaftVoterRequest, AddRaftVoterResponse};
use broker_wire::{ErrorCode, Str, Uuid};
use klamm_proto::v1::change_voters_request::Change;
use klamm_proto::v1::{
    AddLearnerRequest, PromoteVoterRequest, QuorumMember, QuorumRefused, QuorumRefusedReason,
};
use tokio::time::{Instant, sleep};

use super::context::{Context, RequestInfo};
use super::create_topics::{Refusal, deadline, outcome};
use crate::controller::ChangeVotersError;

/// Wait before a change is asked for again that is refused for now.
const RETRY_INTERVAL: Duration = Duration::from_millis(100);

pub(super) async fn handle(
    ctx: &Context,
    _info: &RequestInfo,
    request: AddRaftVoterRequest,
) -> AddRaftVoterResponse {
    let (error_code, error_message) = outcome(add(ctx, &request).await.err());
    AddRaftVoterResponse {
        error_code,
        error_message,
        ..AddRaftVoterResponse::default()
    }
}

async fn add(ctx: &Context, request: &AddRaftVoterRequest) -> Result<(), Refusal> {
    let deadline = deadline(request.timeout_ms);
    let broker_id = request.voter_id;
    check_cluster_id(ctx, request.cluster_id.as_ref())?;
    let directory_id = directory(request.voter_directory_id)?;
    if voters(ctx).await?.iter().any(|v| v.broker_id == broker_id) {
        let message = format!("broker {broker_id} is a voter already");
        return Err(Refusal::new(ErrorCode::DuplicateVoter, message));
    }
    let learner = AddLearnerRequest {
        broker_id,
        directory_id: directory_id.clone(),
    };
    change(ctx, Change::AddLearner(learner), deadline).await?;
    let voter = PromoteVoterRequest {
        broker_id,
        directory_id,
    };
    change(ctx, Change::PromoteVoter(voter), deadline).await
}

/// Refuses requests that are meant for another cluster.
pub(super) fn check_cluster_id(ctx: &Context, named: Option<&Str>) -> Result<(), Refusal> {
    let image = ctx.image();
    match named {
        Some(named) if **named != *image.cluster_id => {
            let message = format!("this is cluster {:?}", image.cluster_id);
            Err(Refusal::new(ErrorCode::InconsistentClusterId, message))
        }
        _ => Ok(()),
    }
}

/// The directory's id as the controller writes it.
pub(super) fn directory(id: Uuid) -> Result<String, Refusal> {
    if id.is_nil() {
        let message = "name the directory of the voter's metadata log";
        return Err(Refusal::new(ErrorCode::InvalidRequest, message));
    }
    Ok(uuid::Uuid::from_u128(id.as_u128()).to_string())
}

/// The voters as the active controller knows them.
pub(super) async fn voters(ctx: &Context) -> Result<Vec<QuorumMember>, Refusal> {
    Ok(ctx.controller.describe_quorum().await?.voters)
}

/// Has the members changed. What time can bring about is asked for again until `deadline`.
pub(super) async fn change(
    ctx: &Context,
    change: Change,
    deadline: Instant,
) -> Result<(), Refusal> {
    loop {
        match ctx.controller.change_voters(change.clone()).await {
            Ok(()) => return Ok(()),
            Err(ChangeVotersError::Refused(refused))
                if is_passing(&refused) && Instant::now() < deadline =>
            {
                sleep(RETRY_INTERVAL).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

fn is_passing(refused: &QuorumRefused) -> bool {
    matches!(
        refused.reason(),
        QuorumRefusedReason::NotCaughtUp | QuorumRefusedReason::ChangeInProgress
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_are_named_as_the_controller_does() {
        let id = Uuid::from_u128(0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10);
        assert_eq!(
            directory(id).unwrap(),
            "01020304-0506-0708-090a-0b0c0d0e0f10"
        );
        let refusal = directory(Uuid::NIL).unwrap_err();
        assert_eq!(refusal.error_code, ErrorCode::InvalidRequest);
    }
}
