//! Serves the calls of the other members, if they are for this one.

use std::sync::Arc;

use broker_core::quorum::VoterKey;
use bytes::{Bytes, BytesMut};
use klamm_proto::v1::raft_server;
use klamm_proto::v1::{IdentifyRequest, IdentifyResponse, RaftMessage};
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tonic::{Request, Response, Status, Streaming};

use super::codec;
use super::observe::Moments;
use super::snapshot_store::SNAPSHOT_BYTES_MAX;
use super::types::{Raft, Snapshot, SnapshotMeta, TypeConfig, Vote};

/// The gRPC service `klamm.v1.Raft`.
#[derive(Clone)]
pub struct RaftService {
    raft: Raft,
    me: VoterKey,
    cluster_id: Arc<str>,
    moments: Arc<Moments>,
}

impl RaftService {
    pub(crate) fn new(
        raft: Raft,
        me: VoterKey,
        cluster_id: Arc<str>,
        moments: Arc<Moments>,
    ) -> Self {
        Self {
            raft,
            me,
            cluster_id,
            moments,
        }
    }

    fn check_cluster(&self, theirs: &str) -> Result<(), Status> {
        if *self.cluster_id == *theirs {
            return Ok(());
        }
        Err(Status::failed_precondition(format!(
            "this is broker {} of cluster {:?}, and the caller belongs to {theirs:?}: correct its \
             klamm.cluster.id or controller.quorum.voters",
            self.me.id, self.cluster_id
        )))
    }

    /// The request, if it is for this broker with this directory: whatever a former directory had
    /// stored or voted for is not here.
    fn read<T: DeserializeOwned>(&self, message: &RaftMessage) -> Result<T, Status> {
        let request = decode(&message.payload)?;
        self.check_cluster(&message.cluster_id)?;
        let me = self.me;
        if message.target_id != me.id.0 {
            return Err(Status::failed_precondition(format!(
                "this is broker {}, not {}: correct the address of that one",
                me.id, message.target_id
            )));
        }
        if *message.target_directory_id != me.directory.0 {
            return Err(Status::failed_precondition(format!(
                "broker {} has another metadata directory now, {}: if its disk was lost, remove the \
                 voter and add it again",
                me.id, me.directory
            )));
        }
        Ok(request)
    }
}

type Answer = Result<Response<RaftMessage>, Status>;

#[tonic::async_trait]
impl raft_server::Raft for RaftService {
    async fn append(&self, request: Request<RaftMessage>) -> Answer {
        let request: AppendEntriesRequest<TypeConfig> = self.read(request.get_ref())?;
        let response = self.raft.append_entries(request).await;
        let from_leader = |answer: &_| !matches!(answer, AppendEntriesResponse::HigherVote(_));
        if response.as_ref().is_ok_and(from_leader) {
            self.moments.hear_leader();
        }
        respond(response)
    }

    async fn vote(&self, request: Request<RaftMessage>) -> Answer {
        respond(self.raft.vote(self.read(request.get_ref())?).await)
    }

    async fn pre_vote(&self, request: Request<RaftMessage>) -> Answer {
        respond(self.raft.pre_vote(self.read(request.get_ref())?).await)
    }

    async fn install_snapshot(&self, request: Request<Streaming<RaftMessage>>) -> Answer {
        let mut messages = request.into_inner();
        let header = messages.message().await?;
        let header = header.ok_or_else(|| Status::invalid_argument("snapshot without header"))?;
        let (vote, meta): (Vote, SnapshotMeta) = self.read(&header)?;
        let snapshot = collect(&mut messages).await?;
        self.moments.hear_leader();
        respond(
            self.raft
                .install_full_snapshot(vote, Snapshot { meta, snapshot })
                .await,
        )
    }

    async fn transfer_leader(&self, request: Request<RaftMessage>) -> Answer {
        respond(
            self.raft
                .handle_transfer_leader(self.read(request.get_ref())?)
                .await,
        )
    }

    async fn identify(
        &self,
        request: Request<IdentifyRequest>,
    ) -> Result<Response<IdentifyResponse>, Status> {
        self.check_cluster(&request.get_ref().cluster_id)?;
        let formed = self.raft.is_initialized().await;
        Ok(Response::new(IdentifyResponse {
            broker_id: self.me.id.0,
            directory_id: self.me.directory.0.to_vec().into(),
            formed: formed.map_err(|error| Status::unavailable(error.to_string()))?,
        }))
    }
}

async fn collect(messages: &mut Streaming<RaftMessage>) -> Result<Bytes, Status> {
    let mut content = BytesMut::new();
    while let Some(RaftMessage { payload, .. }) = messages.message().await? {
        if content.len() + payload.len() > SNAPSHOT_BYTES_MAX {
            return Err(Status::resource_exhausted(
                "the metadata snapshot is too large",
            ));
        }
        content.extend_from_slice(&payload);
    }
    Ok(content.freeze())
}

fn decode<T: DeserializeOwned>(payload: &[u8]) -> Result<T, Status> {
    codec::decode(payload).map_err(|error| Status::invalid_argument(error.to_string()))
}

fn respond<T: Serialize, E: std::fmt::Display>(result: Result<T, E>) -> Answer {
    match result {
        Ok(response) => Ok(Response::new(RaftMessage {
            payload: codec::encode(&response),
            ..RaftMessage::default()
        })),
        Err(error) => Err(Status::unavailable(error.to_string())),
    }
}
