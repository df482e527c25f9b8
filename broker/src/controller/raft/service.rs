//! Serves the calls of the other voters.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use klamm_proto::v1::RaftMessage;
use klamm_proto::v1::raft_server;
use openraft::raft::{AppendEntriesRequest, VoteRequest};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tonic::{Request, Response, Status, Streaming};

use super::codec;
use super::network::Ballot;
use super::probation::Probation;
use super::snapshot_store::SNAPSHOT_BYTES_MAX;
use super::types::{Raft, Snapshot, SnapshotMeta, TypeConfig, Vote};
use crate::controller::feed::Feed;

/// The gRPC service `klamm.v1.Raft` of a voter.
#[derive(Clone)]
pub struct RaftService {
    raft: Raft,
    feed: Arc<Feed>,
    probation: Arc<Probation>,
}

impl RaftService {
    pub(crate) fn new(raft: Raft, feed: Arc<Feed>, probation: Arc<Probation>) -> Self {
        Self {
            raft,
            feed,
            probation,
        }
    }

    /// The request for a vote, if this voter may grant it.
    fn ballot(&self, request: Request<RaftMessage>) -> Result<VoteRequest<TypeConfig>, Status> {
        let Ballot {
            candidate_is_new,
            request,
        } = read(request)?;
        if self.probation.may_vote(candidate_is_new) {
            Ok(request)
        } else {
            Err(Status::failed_precondition(
                "this voter is new and has to catch up first",
            ))
        }
    }
}

type Answer = Result<Response<RaftMessage>, Status>;

#[tonic::async_trait]
impl raft_server::Raft for RaftService {
    async fn append(&self, request: Request<RaftMessage>) -> Answer {
        let request: AppendEntriesRequest<TypeConfig> = read(request)?;
        self.probation
            .heard_leader(request.leader_commit, self.feed.position().offset);
        respond(self.raft.append_entries(request).await)
    }

    async fn vote(&self, request: Request<RaftMessage>) -> Answer {
        respond(self.raft.vote(self.ballot(request)?).await)
    }

    async fn pre_vote(&self, request: Request<RaftMessage>) -> Answer {
        respond(self.raft.pre_vote(self.ballot(request)?).await)
    }

    async fn install_snapshot(&self, request: Request<Streaming<RaftMessage>>) -> Answer {
        let mut messages = request.into_inner();
        let header = messages.message().await?;
        let header = header.ok_or_else(|| Status::invalid_argument("snapshot without header"))?;
        let (vote, meta): (Vote, SnapshotMeta) = decode(&header.payload)?;
        let snapshot = collect(&mut messages).await?;
        respond(
            self.raft
                .install_full_snapshot(vote, Snapshot { meta, snapshot })
                .await,
        )
    }

    async fn transfer_leader(&self, request: Request<RaftMessage>) -> Answer {
        respond(self.raft.handle_transfer_leader(read(request)?).await)
    }
}

async fn collect(messages: &mut Streaming<RaftMessage>) -> Result<Bytes, Status> {
    let mut content = BytesMut::new();
    while let Some(RaftMessage { payload }) = messages.message().await? {
        if content.len() + payload.len() > SNAPSHOT_BYTES_MAX {
            return Err(Status::resource_exhausted(
                "the metadata snapshot is too large",
            ));
        }
        content.extend_from_slice(&payload);
    }
    Ok(content.freeze())
}

fn read<T: DeserializeOwned>(request: Request<RaftMessage>) -> Result<T, Status> {
    decode(&request.into_inner().payload)
}

fn decode<T: DeserializeOwned>(payload: &[u8]) -> Result<T, Status> {
    codec::decode(payload).map_err(|error| Status::invalid_argument(error.to_string()))
}

fn respond<T: Serialize, E: std::fmt::Display>(result: Result<T, E>) -> Answer {
    match result {
        Ok(response) => Ok(Response::new(RaftMessage {
            payload: codec::encode(&response),
        })),
        Err(error) => Err(Status::unavailable(error.to_string())),
    }
}
