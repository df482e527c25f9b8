//! Consumer groups of both protocols: who is in them, and how far they are.

use std::collections::BTreeMap;

use broker_wire::message::consumer_group_describe::ConsumerGroupDescribedGroup;
use broker_wire::message::describe_groups::DescribedGroup;
use broker_wire::message::{
    ConsumerGroupDescribeRequest, DescribeGroupsRequest, ListGroupsRequest, OffsetFetchRequest,
};
use broker_wire::{ErrorCode, Str};

use crate::assignment::decode_assignment;
use crate::cluster::{Cluster, retry};
use crate::error::{ClientError, check};
use crate::group::Offsets;
use crate::offsets::{LogEnd, log_ends};

const LIST_GROUPS_VERSION: i16 = 4;
const DESCRIBE_GROUPS_VERSION: i16 = 5;
const CONSUMER_GROUP_DESCRIBE_VERSION: i16 = 0;
const OFFSET_FETCH_VERSION: i16 = 7;
/// What the classic protocol says of a group that is not its own.
const DEAD: &str = "Dead";

/// A consumer group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// `Stable`, `Empty`, `PreparingRebalance`, …
    pub state: String,
}

/// A member of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupMember {
    /// What the coordinator calls it.
    pub id: String,
    /// What it calls itself.
    pub client_id: String,
    /// Where it is connected from.
    pub host: String,
    /// What it reads.
    pub partitions: Vec<(String, i32)>,
}

/// How far a group is in a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupOffset {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The next offset to be read.
    pub committed: i64,
    /// The next offset to be written.
    pub end: i64,
    /// Who reads it.
    pub member: Option<String>,
}

impl GroupOffset {
    /// Records that are not read yet.
    #[must_use]
    pub const fn lag(&self) -> i64 {
        let lag = self.end - self.committed;
        if lag < 0 { 0 } else { lag }
    }
}

/// A group with members and offsets.
#[derive(Clone, Debug)]
pub struct GroupDetail {
    /// `Stable`, `Empty`, `PreparingRebalance`, …
    pub state: String,
    /// By id.
    pub members: Vec<GroupMember>,
    /// By topic and partition.
    pub offsets: Vec<GroupOffset>,
}

impl Cluster {
    /// All groups, by name.
    ///
    /// # Errors
    /// When a broker does not answer: its groups would be missing.
    pub async fn groups(&self) -> Result<Vec<Group>, ClientError> {
        let request = ListGroupsRequest::default();
        let mut groups = BTreeMap::new();
        for broker in self.metadata(Some(&[])).await?.brokers.values() {
            let what = format!("list the groups of broker {}", broker.id);
            let answer = retry(&what, async || {
                let call = self.call_at(&broker.address, LIST_GROUPS_VERSION, &request);
                let answer = call.await?;
                check(&what, answer.error_code, None)?;
                Ok(answer)
            })
            .await?;
            for group in answer.groups {
                groups.insert(group.group_id.to_string(), group.group_state.to_string());
            }
        }
        let groups = groups.into_iter();
        Ok(groups.map(|(name, state)| Group { name, state }).collect())
    }

    /// Who is in a group, and how far it is.
    ///
    /// # Errors
    /// When there is no such group.
    pub async fn group(&self, group: &str) -> Result<GroupDetail, ClientError> {
        let coordinator = self.coordinator(group).await?.address;
        let (state, members) = match self.classic_group(group, &coordinator).await? {
            Some(described) => described,
            None => self.consumer_group(group, &coordinator).await?,
        };
        let offsets = self.group_offsets(group, &coordinator, &members).await?;
        Ok(GroupDetail {
            state,
            members,
            offsets,
        })
    }

    async fn classic_group(
        &self,
        group: &str,
        coordinator: &str,
    ) -> Result<Option<Described>, ClientError> {
        let request = DescribeGroupsRequest {
            groups: vec![Str::from(group.to_owned())],
            ..DescribeGroupsRequest::default()
        };
        let call = self.call_at(coordinator, DESCRIBE_GROUPS_VERSION, &request);
        let mut described = call.await?.groups.into_iter();
        let Some(described) = described.next().filter(|group| &*group.group_state != DEAD) else {
            return Ok(None);
        };
        let message = described.error_message.as_deref();
        check(
            format!("describe group {group}"),
            described.error_code,
            message,
        )?;
        Ok(Some(classic(described)))
    }

    async fn consumer_group(
        &self,
        group: &str,
        coordinator: &str,
    ) -> Result<Described, ClientError> {
        let unknown = || ClientError::Unknown(format!("group {group}"));
        let request = ConsumerGroupDescribeRequest {
            group_ids: vec![Str::from(group.to_owned())],
            ..ConsumerGroupDescribeRequest::default()
        };
        let call = self.call_at(coordinator, CONSUMER_GROUP_DESCRIBE_VERSION, &request);
        let answer = match call.await {
            // Brokers of before KIP-848 have no such groups.
            Err(ClientError::Unsupported { .. }) => return Err(unknown()),
            answer => answer?,
        };
        let described = answer.groups.into_iter().next().ok_or_else(unknown)?;
        if described.error_code == ErrorCode::GroupIdNotFound {
            return Err(unknown());
        }
        let message = described.error_message.as_deref();
        check(
            format!("describe group {group}"),
            described.error_code,
            message,
        )?;
        Ok(consumer(described))
    }

    async fn group_offsets(
        &self,
        group: &str,
        coordinator: &str,
        members: &[GroupMember],
    ) -> Result<Vec<GroupOffset>, ClientError> {
        let request = OffsetFetchRequest {
            group_id: Str::from(group.to_owned()),
            topics: None,
            ..OffsetFetchRequest::default()
        };
        let what = format!("read the offsets of group {group}");
        let answer = self
            .call_at(coordinator, OFFSET_FETCH_VERSION, &request)
            .await?;
        check(what, answer.error_code, None)?;
        let mut committed = Offsets::new();
        for topic in answer.topics {
            for partition in topic.partitions {
                let place = (topic.name.to_string(), partition.partition_index);
                committed.insert(place, partition.committed_offset);
            }
        }
        // Of a topic that is gone the offsets expire.
        let ends = log_ends(self, committed.keys().cloned(), LogEnd::Latest).await?;
        let offsets = ends.into_iter().map(|(place, end)| {
            let mut readers = members.iter();
            let reader = readers.find(|member| member.partitions.contains(&place));
            GroupOffset {
                committed: committed[&place],
                topic: place.0,
                partition: place.1,
                end,
                member: reader.map(|member| member.id.clone()),
            }
        });
        Ok(offsets.collect())
    }
}

/// State and members.
type Described = (String, Vec<GroupMember>);

fn classic(group: DescribedGroup) -> Described {
    let members = group.members.into_iter().map(|member| {
        let assignment = decode_assignment(member.member_assignment).unwrap_or_default();
        let topics = assignment.into_iter();
        GroupMember {
            id: member.member_id.to_string(),
            client_id: member.client_id.to_string(),
            host: member.client_host.to_string(),
            partitions: topics.flat_map(of_topic).collect(),
        }
    });
    (group.group_state.to_string(), members.collect())
}

fn consumer(group: ConsumerGroupDescribedGroup) -> Described {
    let members = group.members.into_iter().map(|member| {
        let topics = member.assignment.topic_partitions.into_iter();
        let topics = topics.map(|topic| (topic.topic_name.to_string(), topic.partitions));
        GroupMember {
            id: member.member_id.to_string(),
            client_id: member.client_id.to_string(),
            host: member.client_host.to_string(),
            partitions: topics.flat_map(of_topic).collect(),
        }
    });
    (group.group_state.to_string(), members.collect())
}

fn of_topic((topic, partitions): (String, Vec<i32>)) -> impl Iterator<Item = (String, i32)> {
    let partitions = partitions.into_iter();
    partitions.map(move |partition| (topic.clone(), partition))
}
