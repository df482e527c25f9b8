//! RemoveRaftVoter (KIP-853): a voter of the metadata quorum is a member no longer. One that leads
//! hands over first.

use std::time::Duration;

use broker_wire::ErrorCode;
use broker_wire::message::{RemoveRaftVoterRequest, RemoveRaftVoterResponse};
use klamm_proto::v1::RemoveVoterRequest;
use klamm_proto::v1::change_voters_request::Change;
use tokio::time::Instant;

use super::add_raft_voter::{change, check_cluster_id, directory, voters};
use super::context::{Context, RequestInfo};
use super::create_topics::{Refusal, outcome};

/// The request brings no time-out.
const TIMEOUT: Duration = Duration::from_secs(15);

pub(super) async fn handle(
    ctx: &Context,
    _info: &RequestInfo,
    request: RemoveRaftVoterRequest,
) -> RemoveRaftVoterResponse {
    let (error_code, error_message) = outcome(remove(ctx, &request).await.err());
    RemoveRaftVoterResponse {
        error_code,
        error_message,
        ..RemoveRaftVoterResponse::default()
    }
}

async fn remove(ctx: &Context, request: &RemoveRaftVoterRequest) -> Result<(), Refusal> {
    check_cluster_id(ctx, request.cluster_id.as_ref())?;
    let voter = RemoveVoterRequest {
        broker_id: request.voter_id,
        directory_id: directory(request.voter_directory_id)?,
    };
    let voters = voters(ctx).await?;
    let mut voters = voters.iter();
    if !voters.any(|v| v.broker_id == voter.broker_id && v.directory_id == voter.directory_id) {
        let message = format!(
            "no voter is broker {} with directory {}",
            voter.broker_id, voter.directory_id
        );
        return Err(Refusal::new(ErrorCode::VoterNotFound, message));
    }
    change(ctx, Change::RemoveVoter(voter), Instant::now() + TIMEOUT).await
}
