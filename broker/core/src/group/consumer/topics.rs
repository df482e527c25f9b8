//! What members subscribe to, looked up in the cluster's topics.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;

use super::record::ConsumerMemberMetadata;
use super::{ConsumerGroup, Subscribed};
use crate::TopicId;

/// The topics of the cluster at one moment.
pub trait Topics {
    /// Differs when topics do.
    fn version(&self) -> u64;

    /// Id and number of partitions of the topic of this name.
    fn find(&self, name: &str) -> Option<(TopicId, u32)>;

    /// Names of the topics that the regular expression matches as a whole, internal ones too.
    fn matching(&self, regex: &str) -> Vec<String>;
}

impl Subscribed {
    fn look_up<'a>(
        members: impl Iterator<Item = &'a ConsumerMemberMetadata>,
        topics: &dyn Topics,
    ) -> Self {
        let mut subscribed = Self {
            version: topics.version(),
            partition_counts: BTreeMap::new(),
            names: BTreeMap::new(),
            matching: BTreeMap::new(),
        };
        for member in members {
            for name in &member.topic_names {
                subscribed.add(name, topics);
            }
            let regex = member.topic_regex.as_ref();
            if let Some(regex) = regex.filter(|regex| !subscribed.matching.contains_key(*regex)) {
                let names = topics.matching(regex);
                let ids = names.iter().filter_map(|name| subscribed.add(name, topics));
                let ids: BTreeSet<TopicId> = ids.collect();
                subscribed.matching.insert(regex.clone(), ids);
            }
        }
        subscribed
    }

    fn add(&mut self, name: &str, topics: &dyn Topics) -> Option<TopicId> {
        if let Some(id) = self.names.get(name) {
            return Some(*id);
        }
        let (id, partition_count) = topics.find(name)?;
        self.names.insert(name.into(), id);
        self.partition_counts.insert(id, partition_count);
        Some(id)
    }

    pub(super) fn of(&self, member: &ConsumerMemberMetadata) -> BTreeSet<TopicId> {
        let names = member.topic_names.iter();
        let mut ids: BTreeSet<_> = names
            .filter_map(|name| self.names.get(name))
            .copied()
            .collect();
        let matching = member.topic_regex.as_ref();
        ids.extend(
            matching
                .and_then(|regex| self.matching.get(regex))
                .into_iter()
                .flatten(),
        );
        ids
    }

    /// Of ids and partition counts; the same on every broker.
    pub(super) fn hash(&self) -> i64 {
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        for (id, count) in &self.partition_counts {
            for byte in id.0.into_iter().chain(count.to_be_bytes()) {
                hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
            }
        }
        hash.cast_signed()
    }
}

impl ConsumerGroup {
    /// Looks the subscriptions up, unless they were as they are now.
    pub(super) fn look_up(&mut self, topics: &dyn Topics) -> &Subscribed {
        let is_current = |subscribed: &Subscribed| subscribed.version == topics.version();
        let known = self.subscribed.take().filter(is_current);
        let members = self.members.values().map(super::Member::metadata);
        let subscribed = known.unwrap_or_else(|| Subscribed::look_up(members, topics));
        self.subscribed.insert(subscribed)
    }

    /// Whether a member subscribes to the topic, by what is known of regular expressions.
    pub(in crate::group) fn subscribes_to(&self, topic: &str) -> bool {
        let by_name = |member: &super::Member| {
            member
                .metadata()
                .topic_names
                .iter()
                .any(|name| name == topic)
        };
        let has_regex = |member: &super::Member| member.metadata().topic_regex.is_some();
        let by_regex = match &self.subscribed {
            Some(subscribed) => subscribed.names.contains_key(topic),
            None => true,
        };
        let mut members = self.members.values();
        members.any(|member| by_name(member) || (by_regex && has_regex(member)))
    }
}
