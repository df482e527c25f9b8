//! Online migration (KIP-848): the way of a whole group from one protocol to the other.

use alloc::borrow::ToOwned as _;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use super::classic::known_partitions;
use super::record::{ClassicMemberMetadata, ConsumerMemberMetadata, CurrentAssignment, GroupEpoch};
use super::{Changes, ConsumerGroup, ConsumerHeartbeatRequest, Member, Topics};
use crate::Time;
use crate::group::config::CONSUMER_MEMBER_BYTES_MAX;
use crate::group::consumer_protocol::{Subscription, read_assignment};
use crate::group::effect::{Context, RebalanceReason, Then};
use crate::group::error::GroupError;
use crate::group::member::{Member as ClassicMember, Waiting};
use crate::group::membership::{CONSUMER, Group, State};
use crate::group::record::{Generation, GroupRecord, Opaque};

impl Group {
    /// A member joins by the consumer protocol: makes the group one of it.
    ///
    /// # Errors
    /// When its members use another protocol than consumers do, or it is full; the group is as it was.
    pub(in crate::group) fn enter_consumer_protocol(
        &mut self,
        cx: &mut Context<'_>,
        request: &ConsumerHeartbeatRequest,
        topics: &dyn Topics,
    ) -> Result<(), GroupError> {
        if self.state == State::Dead {
            return Err(GroupError::CoordinatorNotAvailable);
        }
        if self.consumer.is_some() {
            return Ok(());
        }
        if !self.members.is_empty() && !self.uses_consumer_protocol() {
            return Err(GroupError::GroupIdNotFound);
        }
        let instance_id = request.instance_id.as_ref();
        let is_known = self.members.contains_key(&request.member_id)
            || instance_id.is_some_and(|id| self.static_members.contains_key(id));
        if !is_known && self.members.len() >= cx.config.consumer_group_size_max {
            return Err(GroupError::GroupMaxSizeReached);
        }
        self.upgrade(cx, topics)
    }

    /// Makes a classic group of consumers one of the consumer protocol, with its members and what they
    /// have. Those who wait are told to join again.
    ///
    /// # Errors
    /// When a subscription can't be taken over; the group is as it was.
    fn upgrade(&mut self, cx: &mut Context<'_>, topics: &dyn Topics) -> Result<(), GroupError> {
        let mut upgraded = Vec::new();
        for (member_id, member) in &self.members {
            let metadata = member
                .consumer_metadata()
                .ok_or(GroupError::GroupIdNotFound)?;
            let assigned = read_assignment(&member.assignment).unwrap_or_default();
            upgraded.push((
                member_id.clone(),
                metadata,
                known_partitions(&assigned, topics),
            ));
        }
        for member in self.members.values_mut() {
            member.refuse(cx, GroupError::RebalanceInProgress);
        }
        let epoch = GroupEpoch(self.generation.0);
        let was_stored = self.is_stored;
        self.expire_pending(Time(u64::MAX));
        self.apply_metadata(None);
        self.sync_deadline = None;
        let (group, mut consumer) = (self.id.clone(), Box::<ConsumerGroup>::default());
        let mut changes = Changes::new(&group, &mut consumer);
        if was_stored {
            changes.records.push(GroupRecord::GroupMetadata {
                group: group.clone(),
                value: None,
            });
        }
        if epoch > GroupEpoch(0) {
            changes.put_group(epoch, 0);
            changes.put_target_epoch(epoch);
        }
        for (member_id, metadata, mut assigned) in upgraded {
            assigned.retain(|partition| !changes.consumer.owners.contains_key(partition));
            changes.put_member(&member_id, Some(metadata));
            changes.put_target(&member_id, Some(assigned.clone()));
            let current = CurrentAssignment {
                epoch,
                previous_epoch: epoch,
                assigned,
                ..CurrentAssignment::default()
            };
            changes.put_current(&member_id, Some(current));
        }
        let records = changes.records;
        self.consumer = Some(consumer);
        self.start_consumer_sessions(cx);
        if !records.is_empty() {
            self.append(cx, records, Then::ConsumerHeartbeat { answer: None });
        }
        Ok(())
    }

    /// Makes the group a classic one again, whose members rebalance.
    pub(super) fn downgrade(&mut self, cx: &mut Context<'_>) {
        let Some(consumer) = self.consumer.take() else {
            return;
        };
        let tombstones = consumer.tombstones(&self.id);
        self.append(cx, tombstones, Then::StoreEmpty);
        self.generation = Generation(consumer.epoch.0);
        self.protocol_type = Some(CONSUMER.to_owned());
        for (member_id, member) in &consumer.members {
            if let Some(classic) = consumer.classic_member(member) {
                self.insert(member_id.clone(), classic);
            }
        }
        self.leader = self.members.keys().next().cloned();
        self.protocol = self.select_protocol();
        if self.members.is_empty() {
            return;
        }
        self.state = State::Stable;
        let member_ids: Vec<String> = self.members.keys().cloned().collect();
        for member_id in &member_ids {
            self.renew_session(cx, member_id);
        }
        self.append_metadata(cx, |_, member| member.assignment.clone(), Then::StoreEmpty);
        self.prepare_rebalance(cx, RebalanceReason::ProtocolChanged);
    }

    /// A member joins by the classic protocol: makes the group one of it, if nobody else is there.
    pub(in crate::group) fn leave_consumer_protocol(&mut self, cx: &mut Context<'_>) {
        if let Some(consumer) = self.consumer.take_if(|consumer| consumer.is_empty()) {
            self.generation = Generation(consumer.epoch.0);
            let tombstones = consumer.tombstones(&self.id);
            self.append(cx, tombstones, Then::StoreEmpty);
        }
    }
}

impl ConsumerGroup {
    fn classic_member(&self, member: &Member) -> Option<ClassicMember> {
        let metadata = member.metadata();
        let classic = metadata.classic.as_ref()?;
        Some(ClassicMember {
            instance_id: metadata.instance_id.clone(),
            client_id: metadata.client_id.clone(),
            client_host: metadata.client_host.clone(),
            session_timeout: classic.session_timeout,
            rebalance_timeout: metadata.rebalance_timeout,
            protocols: classic.protocols.clone(),
            assignment: self
                .named(&member.current.assigned)
                .unwrap_or_else(|| Opaque::from([])),
            waiting: Waiting::No,
            session_deadline: member.session_deadline,
            is_new: false,
            has_synced: true,
        })
    }
}

impl ClassicMember {
    /// What the member says, as a member of a consumer group; `None` if it can't be read, or is too large.
    fn consumer_metadata(&self) -> Option<ConsumerMemberMetadata> {
        let subscription = Subscription::read(&self.protocols.first()?.metadata)?;
        let metadata = ConsumerMemberMetadata {
            instance_id: self.instance_id.clone(),
            client_id: self.client_id.clone(),
            client_host: self.client_host.clone(),
            topic_names: subscription.topic_names(),
            rebalance_timeout: self.rebalance_timeout,
            classic: Some(ClassicMemberMetadata {
                session_timeout: self.session_timeout,
                protocols: self.protocols.clone(),
            }),
            ..ConsumerMemberMetadata::default()
        };
        Some(metadata).filter(|metadata| metadata.bytes() <= CONSUMER_MEMBER_BYTES_MAX)
    }
}
