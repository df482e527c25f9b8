//! Kafka's APIs: a frame comes in, the frame of the answer goes out.
//!
//! One file per API. Each handler is
//! `pub(super) async fn handle(ctx: &Context, info: &RequestInfo, request: XRequest) -> XResponse`:
//! what goes wrong is said inside the response. [`Call::answer`] is the one `match` over all of
//! them. Produce has two phases: [`ProduceCall::append`] fixes the order of the records at once,
//! and the answer follows when they are replicated.

mod add_offsets_to_txn;
mod add_partitions_to_txn;
mod add_raft_voter;
mod alter_client_quotas;
mod alter_configs;
mod alter_partition_reassignments;
mod alter_replica_log_dirs;
mod api_versions;
mod authorized_operations;
mod consumer_group_describe;
mod consumer_group_heartbeat;
mod context;
mod create_acls;
mod create_partitions;
mod create_topics;
mod current_leader;
mod delete_acls;
mod delete_groups;
mod delete_records;
mod delete_topics;
mod describe_acls;
mod describe_client_quotas;
mod describe_cluster;
mod describe_configs;
mod describe_groups;
mod describe_log_dirs;
mod describe_producers;
mod describe_quorum;
mod describe_topic_partitions;
mod describe_transactions;
mod describe_user_scram_credentials;
mod elect_leaders;
mod end_txn;
mod error;
mod fetch;
mod find_coordinator;
mod heartbeat;
mod incremental_alter_configs;
mod init_producer_id;
mod join_group;
mod leave_group;
mod list_groups;
mod list_offsets;
mod list_partition_reassignments;
mod list_transactions;
mod lookup;
mod metadata;
mod mutation_quota;
mod offset_commit;
mod offset_delete;
mod offset_fetch;
mod offset_for_leader_epoch;
mod produce;
mod remove_raft_voter;
mod sync_group;
mod txn_offset_commit;
mod unregister_broker;
mod update_features;
mod write_txn_markers;

use std::time::Duration;

use broker_log::LogSlice;
use broker_wire::header::HeaderError;
use broker_wire::message::produce as produce_message;
use broker_wire::{
    ApiKey, DecodeError, Decoder, Encoded, Message, Request, RequestHeader, ResponseHeader,
    encode_response,
};
use bytes::Bytes;
use thiserror::Error;

use crate::client_quotas::throttle_ms;
pub use context::{Context, Coordinators, Peer, RequestInfo};
pub use init_producer_id::ProducerIds;
pub use produce::{ProduceAnswer, ProduceCall, Produced};

/// A request that has no answer: its connection is to be closed.
#[derive(Debug, Error)]
pub enum RequestError {
    #[error(transparent)]
    Header(#[from] HeaderError),
    #[error("{api} version {version} is not supported")]
    UnsupportedVersion { api: ApiKey, version: i16 },
    #[error("malformed {api} request of version {version}: {source}")]
    Malformed {
        api: ApiKey,
        version: i16,
        source: DecodeError,
    },
}

/// The frame of a response.
#[derive(Debug)]
pub struct Reply {
    pub frame: Encoded,
    /// What the frame's external regions are, by their token.
    pub slices: Vec<LogSlice>,
    /// How long the connection is not listened to after this.
    pub throttle: Duration,
}

/// A decoded request.
pub enum Call {
    Produce(ProduceCall),
    Query(Box<Query>),
}

/// Any request but Produce.
pub struct Query {
    correlation_id: i32,
    info: RequestInfo,
    /// `None` is ApiVersions in a version of the future: the answer says so in version 0 (KIP-511).
    request: Option<Request>,
}

impl Call {
    /// Decodes the request in `frame`, which has no length prefix any more.
    ///
    /// # Errors
    /// [`RequestError`].
    pub fn decode(peer: &Peer, frame: Bytes) -> Result<Self, RequestError> {
        let mut decoder = Decoder::new(frame.clone());
        let header = RequestHeader::decode(&mut decoder)?;
        let (api, version) = (header.api, header.api_version);
        let correlation_id = header.correlation_id;
        let info = RequestInfo {
            version,
            client_id: header.client_id.map(|id| id.to_owned_str()),
            client_host: peer.host.clone(),
            listener: peer.listener.clone(),
        };
        if !is_served(api, version) {
            return match api {
                ApiKey::ApiVersions => {
                    let info = RequestInfo { version: 0, ..info };
                    Ok(Self::Query(Box::new(Query {
                        correlation_id,
                        info,
                        request: None,
                    })))
                }
                _ => Err(RequestError::UnsupportedVersion { api, version }),
            };
        }
        match Request::decode(api, &mut decoder, version) {
            Ok(Request::Produce(request)) => {
                drop(decoder);
                Ok(Self::Produce(ProduceCall::new(
                    correlation_id,
                    info,
                    request,
                    frame,
                )))
            }
            Ok(request) => Ok(Self::Query(Box::new(Query {
                correlation_id,
                info,
                request: Some(request),
            }))),
            Err(source) => Err(RequestError::Malformed {
                api,
                version,
                source,
            }),
        }
    }
}

fn is_served(api: ApiKey, version: i16) -> bool {
    let servable = api != ApiKey::Produce || version >= produce_message::VERSION_MIN;
    servable && api.supports(version)
}

impl Query {
    /// Serves the request.
    pub async fn answer(self, ctx: &Context) -> Reply {
        let Self {
            correlation_id,
            info,
            request,
        } = self;
        let reply = ReplyTo {
            correlation_id,
            version: info.version,
        };
        let Some(request) = request else {
            return reply.with(ApiKey::ApiVersions, &api_versions::unsupported_version());
        };
        answer(ctx, &info, request, reply).await
    }
}

/// How the answer to a request is encoded.
#[derive(Clone, Copy)]
struct ReplyTo {
    correlation_id: i32,
    version: i16,
}

impl ReplyTo {
    fn with(self, api: ApiKey, response: &impl Message) -> Reply {
        self.with_slices(api, response, Vec::new())
    }

    fn with_slices(self, api: ApiKey, response: &impl Message, slices: Vec<LogSlice>) -> Reply {
        let header = ResponseHeader {
            correlation_id: self.correlation_id,
        };
        Reply {
            frame: encode_response(header, api, self.version, response),
            slices,
            throttle: Duration::ZERO,
        }
    }
}

async fn answer(ctx: &Context, info: &RequestInfo, request: Request, reply: ReplyTo) -> Reply {
    macro_rules! handle {
        ($api:ident, $module:ident, $request:ident) => {{
            let serving = Box::pin($module::handle(ctx, info, $request));
            let (mut response, busy) = ctx.time(info, serving).await;
            response.throttle_time_ms = response.throttle_time_ms.max(throttle_ms(busy));
            Reply {
                throttle: throttle(response.throttle_time_ms),
                ..reply.with(ApiKey::$api, &response)
            }
        }};
        // The response cannot tell how long the connection is not listened to.
        ($api:ident, $module:ident, $request:ident, untold) => {{
            let serving = Box::pin($module::handle(ctx, info, $request));
            let (response, throttle) = ctx.time(info, serving).await;
            Reply {
                throttle,
                ..reply.with(ApiKey::$api, &response)
            }
        }};
    }
    match request {
        Request::Produce(_) => unreachable!("Call::decode makes it a ProduceCall"),
        Request::Fetch(r) => {
            let (response, slices) = Box::pin(fetch::handle(ctx, info, r)).await;
            Reply {
                throttle: throttle(response.throttle_time_ms),
                ..reply.with_slices(ApiKey::Fetch, &response, slices)
            }
        }
        Request::ApiVersions(r) => handle!(ApiVersions, api_versions, r),
        Request::Metadata(r) => handle!(Metadata, metadata, r),
        Request::ListOffsets(r) => handle!(ListOffsets, list_offsets, r),
        Request::OffsetForLeaderEpoch(r) => {
            handle!(OffsetForLeaderEpoch, offset_for_leader_epoch, r)
        }
        Request::InitProducerId(r) => handle!(InitProducerId, init_producer_id, r),
        Request::AddPartitionsToTxn(r) => {
            handle!(AddPartitionsToTxn, add_partitions_to_txn, r)
        }
        Request::AddOffsetsToTxn(r) => handle!(AddOffsetsToTxn, add_offsets_to_txn, r),
        Request::EndTxn(r) => handle!(EndTxn, end_txn, r),
        Request::TxnOffsetCommit(r) => handle!(TxnOffsetCommit, txn_offset_commit, r),
        Request::WriteTxnMarkers(r) => handle!(WriteTxnMarkers, write_txn_markers, r, untold),
        Request::DescribeProducers(r) => handle!(DescribeProducers, describe_producers, r),
        Request::DescribeTransactions(r) => {
            handle!(DescribeTransactions, describe_transactions, r)
        }
        Request::ListTransactions(r) => handle!(ListTransactions, list_transactions, r),
        Request::FindCoordinator(r) => handle!(FindCoordinator, find_coordinator, r),
        Request::JoinGroup(r) => handle!(JoinGroup, join_group, r),
        Request::SyncGroup(r) => handle!(SyncGroup, sync_group, r),
        Request::Heartbeat(r) => handle!(Heartbeat, heartbeat, r),
        Request::LeaveGroup(r) => handle!(LeaveGroup, leave_group, r),
        Request::OffsetCommit(r) => handle!(OffsetCommit, offset_commit, r),
        Request::OffsetFetch(r) => handle!(OffsetFetch, offset_fetch, r),
        Request::DescribeGroups(r) => handle!(DescribeGroups, describe_groups, r),
        Request::ListGroups(r) => handle!(ListGroups, list_groups, r),
        Request::DeleteGroups(r) => handle!(DeleteGroups, delete_groups, r),
        Request::AlterReplicaLogDirs(r) => handle!(AlterReplicaLogDirs, alter_replica_log_dirs, r),
        Request::OffsetDelete(r) => handle!(OffsetDelete, offset_delete, r),
        Request::DescribeLogDirs(r) => handle!(DescribeLogDirs, describe_log_dirs, r),
        Request::CreateTopics(r) => handle!(CreateTopics, create_topics, r),
        Request::DeleteTopics(r) => handle!(DeleteTopics, delete_topics, r),
        Request::CreatePartitions(r) => handle!(CreatePartitions, create_partitions, r),
        Request::AlterPartitionReassignments(r) => {
            handle!(
                AlterPartitionReassignments,
                alter_partition_reassignments,
                r
            )
        }
        Request::DeleteRecords(r) => handle!(DeleteRecords, delete_records, r),
        Request::ElectLeaders(r) => handle!(ElectLeaders, elect_leaders, r),
        Request::ListPartitionReassignments(r) => {
            handle!(ListPartitionReassignments, list_partition_reassignments, r)
        }
        Request::UnregisterBroker(r) => handle!(UnregisterBroker, unregister_broker, r),
        Request::DescribeCluster(r) => handle!(DescribeCluster, describe_cluster, r),
        Request::DescribeClientQuotas(r) => {
            handle!(DescribeClientQuotas, describe_client_quotas, r)
        }
        Request::AlterClientQuotas(r) => handle!(AlterClientQuotas, alter_client_quotas, r),
        Request::DescribeAcls(r) => handle!(DescribeAcls, describe_acls, r),
        Request::CreateAcls(r) => handle!(CreateAcls, create_acls, r),
        Request::DeleteAcls(r) => handle!(DeleteAcls, delete_acls, r),
        Request::DescribeUserScramCredentials(r) => {
            handle!(
                DescribeUserScramCredentials,
                describe_user_scram_credentials,
                r
            )
        }
        Request::DescribeQuorum(r) => handle!(DescribeQuorum, describe_quorum, r, untold),
        Request::AddRaftVoter(r) => handle!(AddRaftVoter, add_raft_voter, r),
        Request::RemoveRaftVoter(r) => handle!(RemoveRaftVoter, remove_raft_voter, r),
        Request::UpdateFeatures(r) => handle!(UpdateFeatures, update_features, r),
        Request::DescribeConfigs(r) => handle!(DescribeConfigs, describe_configs, r),
        Request::AlterConfigs(r) => handle!(AlterConfigs, alter_configs, r),
        Request::IncrementalAlterConfigs(r) => {
            handle!(IncrementalAlterConfigs, incremental_alter_configs, r)
        }
        Request::ConsumerGroupHeartbeat(r) => {
            handle!(ConsumerGroupHeartbeat, consumer_group_heartbeat, r)
        }
        Request::ConsumerGroupDescribe(r) => {
            handle!(ConsumerGroupDescribe, consumer_group_describe, r)
        }
        Request::DescribeTopicPartitions(r) => {
            handle!(DescribeTopicPartitions, describe_topic_partitions, r)
        }
    }
}

/// How long the connection is not listened to.
fn throttle(throttle_time_ms: i32) -> Duration {
    Duration::from_millis(u64::try_from(throttle_time_ms).unwrap_or(0))
}
