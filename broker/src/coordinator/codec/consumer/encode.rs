//! Records of consumer groups to bytes.

use std::collections::BTreeMap;

use broker_core::TopicId;
use broker_core::group::{
    ClassicMemberMetadata, ConsumerGroupMetadata, ConsumerMemberMetadata, CurrentAssignment,
    GroupEpoch, GroupRecord, MemberState, Partitions,
};
use bytes::BufMut;

use super::super::{Encoded, put_millis, put_text};
use super::{
    CLASSIC_MEMBER_TAG, CURRENT_MEMBER_KEY, GROUP_KEY, MEMBER_KEY, METADATA_HASH_TAG, TARGET_KEY,
    TARGET_MEMBER_KEY, VALUE_VERSION,
};

/// Encodes a record of a consumer group; `None` for others.
pub(in super::super) fn encode(record: &GroupRecord) -> Option<Encoded> {
    let (version, member_id, value) = match record {
        GroupRecord::ConsumerGroupMetadata { value, .. } => {
            (GROUP_KEY, None, value.as_ref().map(encode_group))
        }
        GroupRecord::ConsumerMemberMetadata {
            member_id, value, ..
        } => (
            MEMBER_KEY,
            Some(member_id),
            value.as_ref().map(encode_member),
        ),
        GroupRecord::ConsumerTargetMetadata { value, .. } => {
            let encode = |epoch: &GroupEpoch| with_version(|out| out.put_i32(epoch.0));
            (TARGET_KEY, None, value.as_ref().map(encode))
        }
        GroupRecord::ConsumerTargetMember {
            member_id, value, ..
        } => {
            let encode = |target: &Partitions| with_version(|out| put_partitions(out, target));
            (
                TARGET_MEMBER_KEY,
                Some(member_id),
                value.as_ref().map(encode),
            )
        }
        GroupRecord::ConsumerCurrentMember {
            member_id, value, ..
        } => (
            CURRENT_MEMBER_KEY,
            Some(member_id),
            value.as_ref().map(encode_current),
        ),
        GroupRecord::GroupMetadata { .. } | GroupRecord::OffsetCommit { .. } => return None,
    };
    let mut key = Vec::new();
    key.put_i16(version);
    put_text(&mut key, record.group());
    if let Some(member_id) = member_id {
        put_text(&mut key, member_id);
    }
    Some(Encoded { key, value })
}

/// A value without tagged fields.
fn with_version(put: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    out.put_i16(VALUE_VERSION);
    put(&mut out);
    put_no_tags(&mut out);
    out
}

fn encode_group(group: &ConsumerGroupMetadata) -> Vec<u8> {
    let mut out = Vec::new();
    out.put_i16(VALUE_VERSION);
    out.put_i32(group.epoch.0);
    put_tag(
        &mut out,
        METADATA_HASH_TAG,
        &group.metadata_hash.to_be_bytes(),
    );
    out
}

fn encode_member(member: &ConsumerMemberMetadata) -> Vec<u8> {
    let mut out = Vec::new();
    out.put_i16(VALUE_VERSION);
    put_compact(&mut out, member.instance_id.as_deref());
    put_compact(&mut out, member.rack_id.as_deref());
    put_compact(&mut out, Some(&member.client_id));
    put_compact(&mut out, Some(&member.client_host));
    put_count(&mut out, member.topic_names.len());
    for name in &member.topic_names {
        put_compact(&mut out, Some(name));
    }
    put_compact(&mut out, member.topic_regex.as_deref());
    put_millis(&mut out, member.rebalance_timeout);
    put_compact(&mut out, member.server_assignor.as_deref());
    match &member.classic {
        Some(classic) => put_tag(&mut out, CLASSIC_MEMBER_TAG, &encode_classic(classic)),
        None => put_no_tags(&mut out),
    }
    out
}

fn encode_classic(classic: &ClassicMemberMetadata) -> Vec<u8> {
    let mut out = vec![1];
    put_millis(&mut out, classic.session_timeout);
    put_count(&mut out, classic.protocols.len());
    for protocol in &classic.protocols {
        put_compact(&mut out, Some(&protocol.name));
        put_count(&mut out, protocol.metadata.len());
        out.put_slice(&protocol.metadata);
        put_no_tags(&mut out);
    }
    put_no_tags(&mut out);
    out
}

fn encode_current(current: &CurrentAssignment) -> Vec<u8> {
    with_version(|out| {
        out.put_i32(current.epoch.0);
        out.put_i32(current.previous_epoch.0);
        out.put_i8(match current.state {
            MemberState::Stable => 1,
            MemberState::UnrevokedPartitions => 2,
            MemberState::UnreleasedPartitions => 3,
        });
        put_partitions(out, &current.assigned);
        put_partitions(out, &current.pending_revocation);
    })
}

fn put_partitions(out: &mut Vec<u8>, partitions: &Partitions) {
    let mut by_topic: BTreeMap<TopicId, Vec<i32>> = BTreeMap::new();
    for partition in partitions {
        by_topic
            .entry(partition.topic)
            .or_default()
            .push(partition.partition.0);
    }
    put_count(out, by_topic.len());
    for (topic, indexes) in by_topic {
        out.put_slice(&topic.0);
        put_count(out, indexes.len());
        indexes.into_iter().for_each(|index| out.put_i32(index));
        put_no_tags(out);
    }
}

fn put_varint(out: &mut Vec<u8>, mut value: u32) {
    while value >= 0x80 {
        out.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

/// The length of what could be null.
fn put_count(out: &mut Vec<u8>, count: usize) {
    let count = u32::try_from(count).expect("the coordinator bounds members and their bytes");
    put_varint(out, count + 1);
}

fn put_compact(out: &mut Vec<u8>, text: Option<&str>) {
    match text {
        Some(text) => {
            put_count(out, text.len());
            out.put_slice(text.as_bytes());
        }
        None => put_varint(out, 0),
    }
}

fn put_no_tags(out: &mut Vec<u8>) {
    put_varint(out, 0);
}

/// The only tagged field of a struct.
fn put_tag(out: &mut Vec<u8>, tag: u32, bytes: &[u8]) {
    put_varint(out, 1);
    put_varint(out, tag);
    put_varint(
        out,
        u32::try_from(bytes.len()).expect("the coordinator bounds members"),
    );
    out.put_slice(bytes);
}
