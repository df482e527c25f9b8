//! Membership in a consumer group, by the classic protocol: join, get an assignment, stay alive,
//! commit offsets, leave.

use std::collections::BTreeMap;
use std::time::Duration;

use broker_wire::message::heartbeat::HeartbeatRequest;
use broker_wire::message::join_group::{JoinGroupRequestProtocol, JoinGroupResponse};
use broker_wire::message::leave_group::MemberIdentity;
use broker_wire::message::offset_commit::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use broker_wire::message::offset_fetch::OffsetFetchRequestTopic;
use broker_wire::message::sync_group::SyncGroupRequestAssignment;
use broker_wire::message::{
    JoinGroupRequest, LeaveGroupRequest, OffsetCommitRequest, OffsetFetchRequest, RequestMessage,
    SyncGroupRequest,
};
use broker_wire::{ErrorCode, Str};
use tokio::time::Instant;

use crate::assignment::{
    Assignment, assign_ranges, decode_assignment, decode_subscription, encode_assignment,
    encode_subscription,
};
use crate::cluster::{Cluster, retry};
use crate::error::{ClientError, check};
use crate::metadata::Node;

/// The group of a consumer that names none.
pub const DEFAULT_GROUP: &str = "klamm-default";

/// A member that is not heard of for so long has left.
const SESSION_TIMEOUT: Duration = Duration::from_secs(45);
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(3);
/// How long members have to join again.
const REBALANCE_TIMEOUT_MS: i32 = 60_000;
const PROTOCOL_TYPE: Str = Str::from_static("consumer");
const RANGE: Str = Str::from_static("range");

const JOIN_GROUP_VERSION: i16 = 7;
const SYNC_GROUP_VERSION: i16 = 5;
const HEARTBEAT_VERSION: i16 = 4;
const LEAVE_GROUP_VERSION: i16 = 4;
const OFFSET_COMMIT_VERSION: i16 = 8;
const OFFSET_FETCH_VERSION: i16 = 7;

/// Offsets by topic and partition.
pub(crate) type Offsets = BTreeMap<(String, i32), i64>;

/// A member of a group.
pub(crate) struct Member<'a> {
    cluster: &'a Cluster,
    group: String,
    topics: Vec<String>,
    coordinator: Option<Node>,
    member_id: String,
    generation: i32,
    heartbeat_at: Instant,
}

/// What a heartbeat tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Membership {
    Stable,
    /// The members are about to share anew: commit, and join again.
    Rebalancing,
    /// The group has gone on without this member: its offsets are not its own any more.
    Lost,
}

impl<'a> Member<'a> {
    pub(crate) fn new(cluster: &'a Cluster, group: String, topics: Vec<String>) -> Self {
        Self {
            cluster,
            group,
            topics,
            coordinator: None,
            member_id: String::new(),
            generation: -1,
            heartbeat_at: Instant::now(),
        }
    }

    /// Joins, or joins again, and returns what this member is to read.
    pub(crate) async fn join(&mut self) -> Result<Assignment, ClientError> {
        loop {
            let joined = self.request_join().await?;
            match self.sync(&joined).await {
                Err(ClientError::Refused { code, .. }) if means_join_again(code) => {
                    self.forget(code);
                }
                assignment => {
                    self.heartbeat_at = Instant::now() + HEARTBEAT_INTERVAL;
                    return assignment;
                }
            }
        }
    }

    async fn request_join(&mut self) -> Result<JoinGroupResponse, ClientError> {
        loop {
            let request = JoinGroupRequest {
                group_id: self.group_id(),
                session_timeout_ms: SESSION_TIMEOUT.as_millis() as i32,
                rebalance_timeout_ms: REBALANCE_TIMEOUT_MS,
                member_id: Str::from(self.member_id.clone()),
                protocol_type: PROTOCOL_TYPE,
                protocols: vec![JoinGroupRequestProtocol {
                    name: RANGE,
                    metadata: encode_subscription(&self.topics),
                }],
                ..JoinGroupRequest::default()
            };
            let joined = self
                .call("join", JOIN_GROUP_VERSION, &request, |r| r.error_code)
                .await?;
            match joined.error_code {
                ErrorCode::None => {
                    self.member_id = joined.member_id.to_string();
                    self.generation = joined.generation_id;
                    return Ok(joined);
                }
                // The id that the coordinator gives has to be named (KIP-394).
                ErrorCode::MemberIdRequired => self.member_id = joined.member_id.to_string(),
                ErrorCode::UnknownMemberId => self.member_id.clear(),
                code => return Err(self.refused("join", code)),
            }
        }
    }

    async fn sync(&self, joined: &JoinGroupResponse) -> Result<Assignment, ClientError> {
        let assignments = if joined.leader == joined.member_id {
            self.assign(joined).await?
        } else {
            Vec::new()
        };
        let request = SyncGroupRequest {
            group_id: self.group_id(),
            generation_id: self.generation,
            member_id: Str::from(self.member_id.clone()),
            protocol_type: Some(PROTOCOL_TYPE),
            protocol_name: Some(RANGE),
            assignments,
            ..SyncGroupRequest::default()
        };
        let address = self.coordinator_address();
        let call = self.cluster.call_at(address, SYNC_GROUP_VERSION, &request);
        let synced = match call.await {
            Ok(synced) => synced,
            // Whether the coordinator moved is found out by joining again.
            Err(error) if error.is_retriable() => {
                return Err(self.refused("sync", ErrorCode::NotCoordinator));
            }
            Err(error) => return Err(error),
        };
        check(self.what("sync"), synced.error_code, None)?;
        decode_assignment(synced.assignment)
            .ok_or_else(|| ClientError::Invalid(format!("group {} sent no assignment", self.group)))
    }

    /// As the leader of the group: who reads what.
    async fn assign(
        &self,
        joined: &JoinGroupResponse,
    ) -> Result<Vec<SyncGroupRequestAssignment>, ClientError> {
        let mut subscriptions = BTreeMap::new();
        for member in &joined.members {
            let topics = decode_subscription(member.metadata.clone());
            subscriptions.insert(member.member_id.to_string(), topics.unwrap_or_default());
        }
        let topics: Vec<_> = subscriptions
            .values()
            .flatten()
            .map(String::as_str)
            .collect();
        let metadata = self.cluster.metadata(Some(&topics)).await?;
        let partitions = metadata.topics.iter();
        let partitions = partitions.map(|(name, topic)| (name.clone(), topic.partitions.len()));
        let assignments = assign_ranges(&subscriptions, &partitions.collect());
        let assignments = assignments.into_iter();
        Ok(assignments
            .map(|(member, assignment)| SyncGroupRequestAssignment {
                member_id: Str::from(member),
                assignment: encode_assignment(&assignment),
            })
            .collect())
    }

    /// Tells the coordinator that this member is alive, when it is time.
    pub(crate) async fn heartbeat(&mut self) -> Result<Membership, ClientError> {
        if Instant::now() < self.heartbeat_at {
            return Ok(Membership::Stable);
        }
        let request = HeartbeatRequest {
            group_id: self.group_id(),
            generation_id: self.generation,
            member_id: Str::from(self.member_id.clone()),
            ..HeartbeatRequest::default()
        };
        let code = self
            .call("heartbeat", HEARTBEAT_VERSION, &request, |r| r.error_code)
            .await?
            .error_code;
        self.heartbeat_at = Instant::now() + HEARTBEAT_INTERVAL;
        match code {
            ErrorCode::None => Ok(Membership::Stable),
            ErrorCode::RebalanceInProgress => Ok(Membership::Rebalancing),
            code if means_join_again(code) => {
                self.forget(code);
                Ok(Membership::Lost)
            }
            code => Err(self.refused("heartbeat", code)),
        }
    }

    /// Writes down how far this member has read. Tells whether it is still one.
    pub(crate) async fn commit(&mut self, offsets: &Offsets) -> Result<Membership, ClientError> {
        let mut topics = BTreeMap::<&str, Vec<OffsetCommitRequestPartition>>::new();
        for ((topic, partition), offset) in offsets {
            let partition = OffsetCommitRequestPartition {
                partition_index: *partition,
                committed_offset: *offset,
                committed_metadata: Some(Str::from_static("")),
                ..OffsetCommitRequestPartition::default()
            };
            topics.entry(topic).or_default().push(partition);
        }
        let topics = topics
            .into_iter()
            .map(|(name, partitions)| OffsetCommitRequestTopic {
                name: Str::from(name.to_owned()),
                partitions,
            });
        let request = OffsetCommitRequest {
            group_id: self.group_id(),
            generation_id_or_member_epoch: self.generation,
            member_id: Str::from(self.member_id.clone()),
            topics: topics.collect(),
            ..OffsetCommitRequest::default()
        };
        let first_error = |response: &<OffsetCommitRequest as RequestMessage>::Response| {
            let partitions = response.topics.iter().flat_map(|topic| &topic.partitions);
            let mut codes = partitions.map(|partition| partition.error_code);
            codes
                .find(|code| *code != ErrorCode::None)
                .unwrap_or_default()
        };
        let answer = self
            .call("commit", OFFSET_COMMIT_VERSION, &request, first_error)
            .await?;
        match first_error(&answer) {
            // Offsets are taken while the group waits for its members.
            ErrorCode::None => Ok(Membership::Stable),
            ErrorCode::RebalanceInProgress => Ok(Membership::Rebalancing),
            code if means_join_again(code) => {
                self.forget(code);
                Ok(Membership::Lost)
            }
            code => Err(self.refused("commit", code)),
        }
    }

    /// Where the group was; partitions without a committed offset are left out.
    pub(crate) async fn committed(
        &mut self,
        assignment: &Assignment,
    ) -> Result<Offsets, ClientError> {
        let topics = assignment.iter();
        let topics = topics.map(|(name, partitions)| OffsetFetchRequestTopic {
            name: Str::from(name.clone()),
            partition_indexes: partitions.clone(),
        });
        let request = OffsetFetchRequest {
            group_id: self.group_id(),
            topics: Some(topics.collect()),
            require_stable: true,
            ..OffsetFetchRequest::default()
        };
        let answer = self
            .call("read the offsets of", OFFSET_FETCH_VERSION, &request, |r| {
                let partitions = r.topics.iter().flat_map(|topic| &topic.partitions);
                let mut codes = partitions.map(|partition| partition.error_code);
                let failed = codes.find(|code| *code != ErrorCode::None);
                failed.unwrap_or(r.error_code)
            })
            .await?;
        check(self.what("read the offsets of"), answer.error_code, None)?;
        let mut offsets = Offsets::new();
        for topic in answer.topics {
            for partition in topic.partitions {
                check(self.what("read the offsets of"), partition.error_code, None)?;
                if partition.committed_offset >= 0 {
                    let place = (topic.name.to_string(), partition.partition_index);
                    offsets.insert(place, partition.committed_offset);
                }
            }
        }
        Ok(offsets)
    }

    /// Leaves, so that others get this member's partitions at once.
    pub(crate) async fn leave(mut self) -> Result<(), ClientError> {
        if self.member_id.is_empty() {
            return Ok(());
        }
        let request = LeaveGroupRequest {
            group_id: self.group_id(),
            members: vec![MemberIdentity {
                member_id: Str::from(self.member_id.clone()),
                ..MemberIdentity::default()
            }],
            ..LeaveGroupRequest::default()
        };
        let answer = self
            .call("leave", LEAVE_GROUP_VERSION, &request, |r| r.error_code)
            .await?;
        check(self.what("leave"), answer.error_code, None)
    }

    /// Asks the coordinator, wherever it moves to, until it answers what is no passing failure.
    async fn call<R: RequestMessage>(
        &mut self,
        verb: &str,
        version: i16,
        request: &R,
        error_code: impl Fn(&R::Response) -> ErrorCode,
    ) -> Result<R::Response, ClientError> {
        let what = self.what(verb);
        let (cluster, group) = (self.cluster, self.group.clone());
        let coordinator = &mut self.coordinator;
        retry(&what, async || {
            let node = match coordinator.take() {
                Some(node) => node,
                None => cluster.coordinator(&group).await?,
            };
            let answer = cluster.call_at(&node.address, version, request).await?;
            let code = error_code(&answer);
            if code.retriable() {
                return Err(ClientError::refused(&what, code, None));
            }
            *coordinator = Some(node);
            Ok(answer)
        })
        .await
    }

    /// What is not this member's any more.
    fn forget(&mut self, code: ErrorCode) {
        if code == ErrorCode::UnknownMemberId {
            self.member_id.clear();
        }
        self.generation = -1;
    }

    fn coordinator_address(&self) -> &str {
        let node = self.coordinator.as_ref();
        node.map_or("", |node| &node.address)
    }

    fn group_id(&self) -> Str {
        Str::from(self.group.clone())
    }

    fn what(&self, verb: &str) -> String {
        format!("{verb} group {}", self.group)
    }

    fn refused(&self, verb: &str, code: ErrorCode) -> ClientError {
        ClientError::refused(self.what(verb), code, None)
    }
}

fn means_join_again(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::RebalanceInProgress
            | ErrorCode::IllegalGeneration
            | ErrorCode::UnknownMemberId
            | ErrorCode::NotCoordinator
            | ErrorCode::CoordinatorNotAvailable
            | ErrorCode::CoordinatorLoadInProgress
    )
}
