//! ConsumerGroupHeartbeat: a member says what it wants and has, and learns what it shall have next.

use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::vec::Vec;

use super::record::{ConsumerMemberMetadata, GroupEpoch, MemberState, Partitions, text_bytes};
use super::{Changes, ConsumerGroup, Member, Topics};
use crate::Duration;
use crate::group::config::{CONSUMER_MEMBER_BYTES_MAX, GroupConfig, ID_BYTES_MAX, REGEXES_MAX};
use crate::group::consumer::assignor::Assignor;
use crate::group::effect::{Context, RebalanceReason, ReplyToken, Response, Then};
use crate::group::error::GroupError;
use crate::group::membership::Group;
use crate::group::record::GroupId;

/// Says that a member is alive. What is `None` is as it was before.
#[derive(Clone, Debug)]
pub struct ConsumerHeartbeatRequest {
    pub group: GroupId,
    /// Chosen by the client, or for it.
    pub member_id: String,
    pub epoch: GroupEpoch,
    pub instance_id: Option<String>,
    pub rack_id: Option<String>,
    pub rebalance_timeout: Option<Duration>,
    pub topic_names: Option<Vec<String>>,
    pub topic_regex: Option<String>,
    pub server_assignor: Option<String>,
    /// What the member has.
    pub owned: Option<Partitions>,
    pub client_id: String,
    pub client_host: String,
}

/// Answer to a heartbeat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerHeartbeat {
    pub member_id: String,
    pub epoch: GroupEpoch,
    /// What the member shall have now; `None` for what it has.
    pub assignment: Option<Partitions>,
}

impl ConsumerHeartbeatRequest {
    pub(in crate::group) fn check(&self) -> Result<(), GroupError> {
        let texts = [&self.member_id, &self.client_id, &self.client_host];
        let optional = [
            &self.instance_id,
            &self.rack_id,
            &self.topic_regex,
            &self.server_assignor,
        ];
        let names = self.topic_names.iter().flatten();
        let all = || {
            texts
                .into_iter()
                .chain(optional.into_iter().flatten())
                .chain(names.clone())
        };
        let is_long = all().any(|text| text.len() > ID_BYTES_MAX);
        let bytes: usize = all().map(|text| text_bytes(text)).sum();
        let is_empty = |text: &Option<String>| text.as_ref().is_some_and(String::is_empty);
        let is_incomplete = self.epoch == GroupEpoch::JOIN
            && (self.rebalance_timeout.is_none()
                || self.owned.as_ref().is_none_or(|owned| !owned.is_empty())
                || (self.topic_names.is_none() && self.topic_regex.is_none()));
        let leaves_without_instance =
            self.epoch == GroupEpoch::LEAVE_STATIC && self.instance_id.is_none();
        if is_long
            || bytes > CONSUMER_MEMBER_BYTES_MAX
            || self.member_id.is_empty()
            || is_empty(&self.instance_id)
            || is_empty(&self.rack_id)
            || is_incomplete
            || leaves_without_instance
            || self.epoch < GroupEpoch::LEAVE_STATIC
        {
            return Err(GroupError::InvalidRequest);
        }
        match &self.server_assignor {
            Some(name) if Assignor::from_name(name).is_none() => {
                Err(GroupError::UnsupportedAssignor)
            }
            _ => Ok(()),
        }
    }

    fn is_full(&self) -> bool {
        self.epoch == GroupEpoch::JOIN
            || (self.rebalance_timeout.is_some()
                && (self.topic_names.is_some() || self.topic_regex.is_some())
                && self.owned.is_some())
    }

    /// What the member says of itself, with `before` where it says nothing.
    fn metadata(&self, before: Option<&ConsumerMemberMetadata>) -> ConsumerMemberMetadata {
        let mut metadata = before.cloned().unwrap_or_default();
        let set = |field: &mut Option<String>, value: &Option<String>| {
            if value.is_some() {
                field.clone_from(value);
            }
        };
        set(&mut metadata.instance_id, &self.instance_id);
        set(&mut metadata.rack_id, &self.rack_id);
        set(&mut metadata.server_assignor, &self.server_assignor);
        set(&mut metadata.topic_regex, &self.topic_regex);
        // A member gives a regular expression up by an empty one.
        metadata.topic_regex = metadata.topic_regex.filter(|regex| !regex.is_empty());
        if let Some(names) = &self.topic_names {
            metadata.topic_names.clone_from(names);
            metadata.topic_names.sort();
            metadata.topic_names.dedup();
        }
        if let Some(timeout) = self.rebalance_timeout {
            metadata.rebalance_timeout = timeout;
        }
        metadata.client_id.clone_from(&self.client_id);
        metadata.client_host.clone_from(&self.client_host);
        metadata.classic = None;
        metadata
    }
}

impl Group {
    /// Answered once what it changes is durable.
    pub(in crate::group) fn handle_consumer_heartbeat(
        &mut self,
        cx: &mut Context<'_>,
        request: &ConsumerHeartbeatRequest,
        topics: &dyn Topics,
        token: ReplyToken,
    ) {
        let group = self.id.clone();
        let Some(consumer) = self.consumer.as_deref_mut() else {
            let response = Response::ConsumerHeartbeat(Err(GroupError::UnknownMemberId));
            return cx.reply(token, response);
        };
        let mut changes = Changes::new(&group, consumer);
        let beaten = match request.epoch {
            GroupEpoch::LEAVE | GroupEpoch::LEAVE_STATIC => changes.leave(request),
            _ => changes.heartbeat(cx, request, topics),
        };
        let (records, reasons) = (changes.records, changes.reasons);
        match beaten {
            Ok(heartbeat) => {
                self.note_reasons(cx, reasons);
                if request.epoch >= GroupEpoch::JOIN {
                    self.renew_consumer_session(cx, &request.member_id);
                }
                let then = Then::ConsumerHeartbeat {
                    answer: Some((token, heartbeat)),
                };
                self.append_consumer(cx, &request.member_id, records, then);
                self.settle(cx);
            }
            Err(error) => cx.reply(token, Response::ConsumerHeartbeat(Err(error))),
        }
    }
}

impl Changes<'_> {
    fn heartbeat(
        &mut self,
        cx: &Context<'_>,
        request: &ConsumerHeartbeatRequest,
        topics: &dyn Topics,
    ) -> Result<ConsumerHeartbeat, GroupError> {
        self.check_member(cx.config, request)?;
        if !self.consumer.takes_regex(request.topic_regex.as_deref()) {
            return Err(GroupError::TooManyRegexes);
        }
        if let Some(instance_id) = &request.instance_id {
            self.replace_static_member(instance_id, &request.member_id);
        }
        let before = self.consumer.members.get(&request.member_id);
        let metadata = request.metadata(before.map(Member::metadata));
        self.update_member(&request.member_id, metadata);
        self.update_rested_target(cx.now.time, topics);
        let before = self.consumer.members.get(&request.member_id);
        let before = before
            .map(|member| member.current.clone())
            .unwrap_or_default();
        self.advance(&request.member_id, request.owned.as_ref());
        let member = &self.consumer.members[&request.member_id];
        let is_changed = member.current.assigned != before.assigned;
        Ok(ConsumerHeartbeat {
            member_id: request.member_id.clone(),
            epoch: member.current.epoch,
            assignment: (is_changed || request.is_full()).then(|| member.current.assigned.clone()),
        })
    }

    fn check_member(
        &self,
        config: &GroupConfig,
        request: &ConsumerHeartbeatRequest,
    ) -> Result<(), GroupError> {
        let group = &*self.consumer;
        let known = group.members.get(&request.member_id);
        let of_instance = request.instance_id.as_ref();
        let of_instance = of_instance.and_then(|id| group.static_members.get(id));
        if request.epoch == GroupEpoch::JOIN {
            return match of_instance.filter(|id| **id != request.member_id) {
                Some(id) if group.members[id].is_replaceable() => Ok(()),
                Some(_) => Err(GroupError::UnreleasedInstanceId),
                None if known.is_none()
                    && group.members.len() >= config.consumer_group_size_max =>
                {
                    Err(GroupError::GroupMaxSizeReached)
                }
                None => Ok(()),
            };
        }
        match of_instance {
            Some(id) if *id != request.member_id => return Err(GroupError::FencedInstanceId),
            None if request.instance_id.is_some() => return Err(GroupError::UnknownMemberId),
            _ => {}
        }
        let current = &known.ok_or(GroupError::UnknownMemberId)?.current;
        // The answer to an earlier heartbeat may have been lost.
        let is_behind = request.epoch == current.previous_epoch
            && request
                .owned
                .as_ref()
                .is_some_and(|owned| owned.is_subset(&current.assigned));
        match request.epoch == current.epoch || is_behind {
            true => Ok(()),
            false => Err(GroupError::FencedMemberEpoch),
        }
    }

    /// A static member that left comes back under another id and takes its place.
    pub(super) fn replace_static_member(&mut self, instance_id: &str, member_id: &str) {
        let former = self.consumer.static_members.get(instance_id);
        let Some(former) = former.filter(|former| *former != member_id).cloned() else {
            return;
        };
        let member = &self.consumer.members[&former];
        let (metadata, target) = (member.metadata().clone(), member.target.clone());
        let mut current = member.current.clone();
        (current.epoch, current.previous_epoch) = (GroupEpoch::JOIN, GroupEpoch::JOIN);
        current.assigned.append(&mut current.pending_revocation);
        current.state = MemberState::Stable;
        self.remove_member(&former);
        self.put_member(member_id, Some(metadata));
        self.put_target(member_id, Some(target));
        self.put_current(member_id, Some(current));
    }

    pub(super) fn update_member(&mut self, member_id: &str, metadata: ConsumerMemberMetadata) {
        let before = self.consumer.members.get(member_id).map(Member::metadata);
        if before == Some(&metadata) {
            return;
        }
        let is_new = before.is_none();
        let is_subscription_same = before.is_some_and(|before| {
            (
                &before.topic_names,
                &before.topic_regex,
                &before.server_assignor,
            ) == (
                &metadata.topic_names,
                &metadata.topic_regex,
                &metadata.server_assignor,
            )
        });
        self.put_member(member_id, Some(metadata));
        let (member_id, client) = (String::from(member_id), None);
        if is_new {
            self.bump_epoch(RebalanceReason::MemberJoined { member_id, client });
        } else if !is_subscription_same {
            self.bump_epoch(RebalanceReason::SubscriptionChanged { member_id, client });
        }
    }

    fn leave(
        &mut self,
        request: &ConsumerHeartbeatRequest,
    ) -> Result<ConsumerHeartbeat, GroupError> {
        let member = self.consumer.members.get(&request.member_id);
        let member = member.ok_or(GroupError::UnknownMemberId)?;
        let instance_id = &member.metadata().instance_id;
        if request.instance_id.is_some() && *instance_id != request.instance_id {
            return Err(GroupError::FencedInstanceId);
        }
        if request.epoch == GroupEpoch::LEAVE_STATIC {
            let mut current = member.current.clone();
            current.epoch = GroupEpoch::LEAVE_STATIC;
            current.assigned.append(&mut current.pending_revocation);
            current.state = MemberState::Stable;
            self.put_current(&request.member_id, Some(current));
        } else {
            let member_id = request.member_id.clone();
            self.remove_member(&member_id);
            let client = None;
            self.bump_epoch(RebalanceReason::MemberLeft { member_id, client });
        }
        Ok(ConsumerHeartbeat {
            member_id: request.member_id.clone(),
            epoch: request.epoch,
            assignment: None,
        })
    }
}

impl Member {
    /// Whether a static member may be replaced by another process: it said so, or it speaks the classic
    /// protocol, in which a process cannot say that it will be back.
    fn is_replaceable(&self) -> bool {
        self.current.epoch == GroupEpoch::LEAVE_STATIC || self.metadata().classic.is_some()
    }
}

impl ConsumerGroup {
    /// Whether a heartbeat has the member take more memory than it does.
    pub(in crate::group) fn is_enlarged_by(&self, request: &ConsumerHeartbeatRequest) -> bool {
        let before = self.members.get(&request.member_id).map(Member::metadata);
        before.is_some_and(|before| request.metadata(Some(before)).bytes() > before.bytes())
    }

    /// Whether a member may subscribe by `regex`: all those of a group are looked up at once.
    fn takes_regex(&self, regex: Option<&str>) -> bool {
        let Some(regex) = regex.filter(|regex| !regex.is_empty()) else {
            return true;
        };
        let known = self.members.values();
        let known = known.filter_map(|member| member.metadata().topic_regex.as_deref());
        let known: BTreeSet<&str> = known.collect();
        known.contains(regex) || known.len() < REGEXES_MAX
    }

    /// Whether a member may commit offsets, or read its own.
    pub(in crate::group) fn check_epoch(
        &self,
        member_id: &str,
        epoch: GroupEpoch,
    ) -> Result<(), GroupError> {
        let member = self
            .members
            .get(member_id)
            .ok_or(GroupError::UnknownMemberId)?;
        match member.current.epoch == epoch {
            true => Ok(()),
            false if member.metadata().classic.is_some() => Err(GroupError::IllegalGeneration),
            false => Err(GroupError::StaleMemberEpoch),
        }
    }
}
