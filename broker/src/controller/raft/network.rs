//! Calls to the other voters.
//!
//! Each client has a connection of its own, so that a snapshot does not hold up heartbeats; it
//! dials at its first call and after failures, and resolves the host name each time.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use broker_core::quorum::VoterKey;
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
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::timeout;
use tonic::{Code, Response, Status};

use super::codec;
use super::types::{NodeId, Snapshot, TypeConfig, Vote};
use crate::controller::addresses::Addresses;
use crate::rpc::{self, Connection, Credentials, MESSAGE_BYTES_MAX};

/// Bytes of a snapshot in one message.
const SNAPSHOT_CHUNK_BYTES: usize = 1024 * 1024;

type RpcResult<T> = Result<T, RPCError<TypeConfig>>;

/// Makes clients for the other voters.
#[derive(Clone)]
pub(crate) struct Network {
    pub(crate) cluster_id: Arc<str>,
    pub(crate) addresses: Arc<Addresses>,
    pub(crate) credentials: Credentials,
    /// How long a follower may take to store entries.
    pub(crate) append_timeout: Duration,
}

/// One voter as seen from this one.
pub(crate) struct Peer {
    client: Result<RaftClient<Connection>, rpc::AddressError>,
    append_timeout: Duration,
    cluster_id: Arc<str>,
    target: VoterKey,
}

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = Peer;

    async fn new_client(&mut self, target: NodeId, node: &BasicNode) -> Peer {
        let known = self.addresses.address(target.broker());
        let address = known.unwrap_or_else(|| node.addr.clone());
        let client = rpc::connect(&address, &self.credentials).map(|connection| {
            RaftClient::new(connection)
                .max_decoding_message_size(MESSAGE_BYTES_MAX)
                .max_encoding_message_size(MESSAGE_BYTES_MAX)
        });
        Peer {
            client,
            append_timeout: self.append_timeout,
            cluster_id: Arc::clone(&self.cluster_id),
            target: target.into(),
        }
    }
}

impl Peer {
    /// Names its addressee: at its address there may be somebody else by now.
    fn message<T: Serialize>(&self, request: &T) -> RaftMessage {
        RaftMessage {
            payload: codec::encode(request),
            cluster_id: self.cluster_id.to_string(),
            target_id: self.target.id.0,
            target_directory_id: self.target.directory.0.to_vec().into(),
        }
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
        let request = self.message(&rpc);
        answer(limit, self.client()?.append(request)).await
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> RpcResult<VoteResponse<TypeConfig>> {
        let request = self.message(&rpc);
        answer(option.soft_ttl(), self.client()?.vote(request)).await
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> RpcResult<VoteResponse<TypeConfig>> {
        let request = self.message(&rpc);
        answer(option.soft_ttl(), self.client()?.pre_vote(request)).await
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let header = self.message(&(&vote, &snapshot.meta));
        let chunks = snapshot_messages(header, snapshot.snapshot);
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
        let request = self.message(&req);
        answer(option.soft_ttl(), self.client()?.transfer_leader(request)).await
    }
}

/// The header, vote and metadata, then the content in pieces.
fn snapshot_messages(
    header: RaftMessage,
    mut rest: Bytes,
) -> impl futures::Stream<Item = RaftMessage> + Send + 'static {
    let chunks = std::iter::from_fn(move || {
        let length = rest.len().min(SNAPSHOT_CHUNK_BYTES);
        (length > 0).then(|| RaftMessage {
            payload: rest.split_to(length),
            ..RaftMessage::default()
        })
    });
    futures::stream::once(async { header }).chain(futures::stream::iter(chunks))
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
