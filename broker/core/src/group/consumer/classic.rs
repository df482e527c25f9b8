//! Members of a consumer group that speak the classic protocol.
//!
//! A classic member's generation is its epoch. It joins to take a new one, and is told to by its
//! heartbeats; JoinGroup and SyncGroup are answered at once.

use alloc::borrow::ToOwned as _;
use alloc::string::{String, ToString as _};
use alloc::vec::Vec;

use super::record::{
    ClassicMemberMetadata, ConsumerMemberMetadata, GroupEpoch, MemberState, Partitions,
};
use super::{Changes, ConsumerGroup, Member, Topics};
use crate::group::config::{CONSUMER_MEMBER_BYTES_MAX, ID_BYTES_MAX};
use crate::group::consumer_protocol::{Subscription, write_assignment};
use crate::group::effect::{Context, Joined, RebalanceReason, ReplyToken, Response, Synced, Then};
use crate::group::error::GroupError;
use crate::group::join::JoinRequest;
use crate::group::membership::{CONSUMER, Group};
use crate::group::record::{Generation, Opaque};
use crate::group::sync::SyncRequest;
use crate::{PartitionIndex, TopicPartition};

impl Group {
    /// JoinGroup of a classic member.
    pub(in crate::group) fn join_consumer(
        &mut self,
        cx: &mut Context<'_>,
        request: JoinRequest,
        topics: &dyn Topics,
        token: ReplyToken,
    ) -> Result<(), GroupError> {
        let group = self.id.clone();
        let Some(consumer) = self.consumer.as_deref_mut() else {
            return Err(GroupError::UnknownMemberId);
        };
        let protocol = request
            .protocols
            .first()
            .ok_or(GroupError::InconsistentGroupProtocol)?;
        let subscription = Subscription::read(&protocol.metadata);
        let subscription = subscription.filter(|_| request.protocol_type == CONSUMER);
        let subscription = subscription.ok_or(GroupError::InconsistentGroupProtocol)?;
        if !consumer.supports_classic(&request) {
            return Err(GroupError::InconsistentGroupProtocol);
        }
        let owned = known_partitions(&subscription.owned, topics);
        let topic_names = subscription.topic_names();
        let (protocol, member_id) = (protocol.name.clone(), consumer.joining_id(cx, &request)?);
        let instance_id = request.instance_id.clone();
        let metadata = request.consumer_metadata(topic_names);
        if metadata.bytes() > CONSUMER_MEMBER_BYTES_MAX {
            return Err(GroupError::InvalidRequest);
        }
        let mut changes = Changes::new(&group, consumer);
        if let Some(instance_id) = &instance_id {
            changes.replace_static_member(instance_id, &member_id);
        }
        changes.update_member(&member_id, metadata);
        changes.update_target(topics);
        changes.advance(&member_id, Some(&owned));
        let (records, reasons) = (changes.records, changes.reasons);
        let joined = Joined {
            generation: Generation(consumer.members[&member_id].current.epoch.0),
            protocol_type: Some(CONSUMER.to_owned()),
            protocol: Some(protocol),
            leader: String::new(),
            member_id: member_id.clone(),
            members: Vec::new(),
            skip_assignment: false,
        };
        self.note_reasons(cx, reasons);
        self.renew_consumer_session(cx, &member_id);
        self.append_consumer(
            cx,
            &member_id,
            records,
            Then::ConsumerJoin { token, joined },
        );
        Ok(())
    }

    /// SyncGroup of a classic member.
    pub(in crate::group) fn sync_consumer(
        &mut self,
        cx: &mut Context<'_>,
        request: &SyncRequest,
        token: ReplyToken,
    ) {
        let consumer = self.consumer.as_deref();
        let synced = consumer.map_or(Err(GroupError::UnknownMemberId), |consumer| {
            consumer.check_classic(&request.member_id, request.instance_id.as_deref())?;
            consumer.check_epoch(&request.member_id, GroupEpoch(request.generation.0))?;
            consumer.synced(&request.member_id)
        });
        if synced.is_ok() {
            self.renew_consumer_session(cx, &request.member_id);
        }
        cx.reply(token, Response::Sync(synced));
    }

    /// Heartbeat of a classic member: whether it has to join again.
    pub(in crate::group) fn beat_consumer(
        &mut self,
        cx: &Context<'_>,
        member_id: &str,
        instance_id: Option<&str>,
        generation: Generation,
    ) -> Result<(), GroupError> {
        let consumer = self
            .consumer
            .as_deref()
            .ok_or(GroupError::UnknownMemberId)?;
        consumer.check_classic(member_id, instance_id)?;
        consumer.check_epoch(member_id, GroupEpoch(generation.0))?;
        let current = &consumer.members[member_id].current;
        let rejoins = current.epoch < consumer.epoch
            || current.state == MemberState::UnrevokedPartitions
            || consumer.can_advance(member_id);
        self.renew_consumer_session(cx, member_id);
        match rejoins {
            true => Err(GroupError::RebalanceInProgress),
            false => Ok(()),
        }
    }

    /// LeaveGroup of a classic member, or by an administrator.
    pub(in crate::group) fn leave_consumer(
        &mut self,
        cx: &mut Context<'_>,
        member_id: &str,
        instance_id: Option<&str>,
        client: Option<String>,
    ) -> Result<(), GroupError> {
        let group = self.id.clone();
        let consumer = self
            .consumer
            .as_deref_mut()
            .ok_or(GroupError::UnknownMemberId)?;
        let of_instance = instance_id.map(|id| consumer.static_members.get(id));
        let member_id = match of_instance {
            Some(None) => return Err(GroupError::UnknownMemberId),
            Some(Some(id)) if !member_id.is_empty() && id != member_id => {
                return Err(GroupError::FencedInstanceId);
            }
            Some(Some(id)) => id.clone(),
            None => member_id.to_string(),
        };
        if !consumer.has_member(&member_id) {
            return Err(GroupError::UnknownMemberId);
        }
        let mut changes = Changes::new(&group, consumer);
        changes.remove_member(&member_id);
        changes.bump_epoch(RebalanceReason::MemberLeft { member_id, client });
        let (records, reasons) = (changes.records, changes.reasons);
        self.note_reasons(cx, reasons);
        self.append(cx, records, Then::ConsumerHeartbeat { answer: None });
        self.settle(cx);
        Ok(())
    }
}

impl ConsumerGroup {
    /// Whether a member that joins can work with the others that speak the classic protocol, should they
    /// be left alone.
    fn supports_classic(&self, request: &JoinRequest) -> bool {
        let is_same = |id: &str, member: &Member| {
            let instance_id = &member.metadata().instance_id;
            id == request.member_id
                || (instance_id.is_some() && *instance_id == request.instance_id)
        };
        let others = self
            .members
            .iter()
            .filter(|(id, member)| !is_same(id, member));
        let classic = others.filter_map(|(_, member)| member.metadata().classic.as_ref());
        let mut common: Vec<&str> = request.protocols.iter().map(|p| p.name.as_str()).collect();
        for member in classic {
            common.retain(|name| member.protocols.iter().any(|p| p.name == *name));
        }
        !common.is_empty()
    }

    /// The id under which a classic member joins.
    fn joining_id(&self, cx: &Context<'_>, request: &JoinRequest) -> Result<String, GroupError> {
        let of_instance = request.instance_id.as_ref();
        let of_instance = of_instance.and_then(|id| self.static_members.get(id));
        let is_full = self.members.len() >= cx.config.consumer_group_size_max;
        if !request.is_new() {
            return match of_instance {
                Some(id) if *id != request.member_id => Err(GroupError::FencedInstanceId),
                // A dynamic member comes with the id that it was given here a moment ago.
                None if is_full && !self.has_member(&request.member_id) => {
                    Err(GroupError::GroupMaxSizeReached)
                }
                _ => Ok(request.member_id.clone()),
            };
        }
        if of_instance.is_none() && is_full {
            return Err(GroupError::GroupMaxSizeReached);
        }
        let member_id = request.new_member_id();
        if member_id.len() > ID_BYTES_MAX {
            return Err(GroupError::InvalidRequest);
        }
        if request.instance_id.is_none() && request.features.member_id_required {
            return Err(GroupError::MemberIdRequired { member_id });
        }
        Ok(member_id)
    }

    fn check_classic(&self, member_id: &str, instance_id: Option<&str>) -> Result<(), GroupError> {
        match instance_id.map(|id| self.static_members.get(id)) {
            Some(None) => return Err(GroupError::UnknownMemberId),
            Some(Some(id)) if id != member_id => return Err(GroupError::FencedInstanceId),
            _ => {}
        }
        let member = self
            .members
            .get(member_id)
            .ok_or(GroupError::UnknownMemberId)?;
        let classic = member.metadata().classic.as_ref();
        classic.map(|_| ()).ok_or(GroupError::UnknownMemberId)
    }

    fn synced(&self, member_id: &str) -> Result<Synced, GroupError> {
        let member = &self.members[member_id];
        let classic = member.metadata().classic.as_ref();
        // Without names, after the coordinator has changed: the member joins again.
        let assignment = self.named(&member.current.assigned);
        let assignment = assignment.ok_or(GroupError::RebalanceInProgress)?;
        let protocol = classic.and_then(|classic| classic.protocols.first());
        Ok(Synced {
            protocol_type: Some(CONSUMER.to_owned()),
            protocol: protocol.map(|protocol| protocol.name.clone()),
            assignment,
        })
    }

    /// Partitions in the form of the classic protocol; `None` while names of topics are not known.
    pub(super) fn named(&self, partitions: &Partitions) -> Option<Opaque> {
        let names = &self.subscribed.as_ref()?.names;
        let mut named: Vec<(&str, Vec<PartitionIndex>)> = Vec::new();
        for (name, id) in names {
            let of_topic = partitions.iter().filter(|partition| partition.topic == *id);
            let indexes: Vec<_> = of_topic.map(|partition| partition.partition).collect();
            if !indexes.is_empty() {
                named.push((name, indexes));
            }
        }
        Some(write_assignment(&named))
    }
}

impl JoinRequest {
    fn consumer_metadata(self, topic_names: Vec<String>) -> ConsumerMemberMetadata {
        ConsumerMemberMetadata {
            topic_names,
            instance_id: self.instance_id,
            client_id: self.client_id,
            client_host: self.client_host,
            rebalance_timeout: self.rebalance_timeout,
            classic: Some(ClassicMemberMetadata {
                session_timeout: self.session_timeout,
                protocols: self.protocols,
            }),
            ..ConsumerMemberMetadata::default()
        }
    }
}

pub(super) fn known_partitions(
    named: &[(&str, Vec<PartitionIndex>)],
    topics: &dyn Topics,
) -> Partitions {
    let of_topic = |(name, indexes): &(&str, Vec<PartitionIndex>)| {
        let (topic, count) = topics.find(name)?;
        let exists =
            |index: &&PartitionIndex| u32::try_from(index.0).is_ok_and(|index| index < count);
        let known = indexes.iter().filter(exists);
        let partitions = known.map(|index| TopicPartition {
            topic,
            partition: *index,
        });
        Some(partitions.collect::<Vec<_>>())
    };
    named.iter().filter_map(of_topic).flatten().collect()
}
