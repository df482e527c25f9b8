//! Calls to the other voters.
//!
//! Each client has a connection of its own, so that a snapshot does not hold up heartbeats; it
//! dials at its first call and after failures, and resolves the host name each time.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use klamm_proto::v1::RaftMessage;
use klamm_proto::v1::raft_client::RaftClient;
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{RPCOption, RaftNetworkFactory, RaftNetworkV2};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::{BasicNode, OptionalSend};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::time::timeout;
use tonic::{Code, Response, Status};

use super::codec;
use super::probation::Probation;
use super::types::{Snapshot, TypeConfig, Vote};
use crate::rpc::{self, Connection, MESSAGE_BYTES_MAX, Token};

/// Bytes of a snapshot in one message.
const SNAPSHOT_CHUNK_BYTES: usize = 1024 * 1024;

type RpcResult<T> = Result<T, RPCError<TypeConfig>>;

/// Makes clients for the other voters.
#[derive(Clone)]
pub(crate) struct Network {
    /// Configured addresses. They win over those in the replicated membership, so that a voter can
    /// be moved to another address by configuration alone.
    pub(crate) voters: Arc<BTreeMap<u64, String>>,
    pub(crate) token: Token,
    /// How long a follower may take to store entries.
    pub(crate) append_timeout: Duration,
    pub(crate) probation: Arc<Probation>,
}

/// One voter as seen from this one.
pub(crate) struct Peer {
    client: Result<RaftClient<Connection>, rpc::AddressError>,
    append_timeout: Duration,
    probation: Arc<Probation>,
}

/// A candidate's request, as it is sent.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Ballot {
    pub(crate) candidate_is_new: bool,
    pub(crate) request: VoteRequest<TypeConfig>,
}

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = Peer;

    async fn new_client(&mut self, target: u64, node: &BasicNode) -> Peer {
        let address = self.voters.get(&target).unwrap_or(&node.addr);
        let client = rpc::connect(address, &self.token).map(|connection| {
            RaftClient::new(connection)
                .max_decoding_message_size(MESSAGE_BYTES_MAX)
                .max_encoding_message_size(MESSAGE_BYTES_MAX)
        });
        Peer {
            client,
            append_timeout: self.append_timeout,
            probation: Arc::clone(&self.probation),
        }
    }
}

impl Peer {
    fn ballot(&self, request: VoteRequest<TypeConfig>) -> RaftMessage {
        message(&Ballot {
            candidate_is_new: self.probation.is_new(),
            request,
        })
    }

    fn client(&mut self) -> RpcResult<&mut RaftClient<Connection>> {
        self.client
            .as_mut()
            .map_err(|error| RPCError::Unreachable(Unreachable::new(error)))
    }
}

impl RaftNetworkV2<TypeConfig> for Peer {
    type SnapshotData = Bytes;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> RpcResult<AppendEntriesResponse<TypeConfig>> {
        let limit = option.soft_ttl().max(self.append_timeout);
        answer(limit, self.client()?.append(message(&rpc))).await
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> RpcResult<VoteResponse<TypeConfig>> {
        let ballot = self.ballot(rpc);
        answer(option.soft_ttl(), self.client()?.vote(ballot)).await
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> RpcResult<VoteResponse<TypeConfig>> {
        let ballot = self.ballot(rpc);
        answer(option.soft_ttl(), self.client()?.pre_vote(ballot)).await
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let chunks = snapshot_messages(&vote, snapshot);
        let sent = answer(option.soft_ttl(), self.client()?.install_snapshot(chunks));
        tokio::select! {
            response = sent => Ok(response?),
            closed = cancel => Err(StreamingError::Closed(closed)),
        }
    }

    async fn transfer_leader(
        &mut self,
        req: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> RpcResult<TransferLeaderResponse<TypeConfig>> {
        answer(
            option.soft_ttl(),
            self.client()?.transfer_leader(message(&req)),
        )
        .await
    }
}

fn message<T: Serialize>(request: &T) -> RaftMessage {
    RaftMessage {
        payload: codec::encode(request),
    }
}

/// The header, vote and metadata, then the content in pieces.
fn snapshot_messages(
    vote: &Vote,
    snapshot: Snapshot,
) -> impl futures::Stream<Item = RaftMessage> + Send + 'static {
    let header = codec::encode(&(vote, &snapshot.meta));
    let mut rest = snapshot.snapshot;
    let chunks = std::iter::from_fn(move || {
        let length = rest.len().min(SNAPSHOT_CHUNK_BYTES);
        (length > 0).then(|| rest.split_to(length))
    });
    futures::stream::once(async { header })
        .chain(futures::stream::iter(chunks))
        .map(|payload| RaftMessage { payload })
}

async fn answer<T: DeserializeOwned>(
    limit: Duration,
    call: impl Future<Output = Result<Response<RaftMessage>, Status>>,
) -> RpcResult<T> {
    let response = match timeout(limit, call).await {
        Ok(Ok(response)) => response.into_inner(),
        Ok(Err(status)) if status.code() == Code::Unavailable => {
            return Err(RPCError::Unreachable(Unreachable::new(&status)));
        }
        Ok(Err(status)) => return Err(RPCError::Network(NetworkError::new(&status))),
        Err(elapsed) => return Err(RPCError::Network(NetworkError::new(&elapsed))),
    };
    codec::decode(&response.payload).map_err(|error| RPCError::Network(NetworkError::new(&error)))
}
