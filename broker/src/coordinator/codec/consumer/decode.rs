//! Records of consumer groups from bytes.

use broker_core::group::{
    ClassicMemberMetadata, ConsumerGroupMetadata, ConsumerMemberMetadata, CurrentAssignment,
    GroupEpoch, GroupRecord, MemberState, Opaque, Partitions, Protocol,
};
use broker_core::{PartitionIndex, TopicId, TopicPartition};

use super::super::{DecodeError, Reader};
use super::{
    CLASSIC_MEMBER_TAG, CURRENT_MEMBER_KEY, GROUP_KEY, MEMBER_KEY, METADATA_HASH_TAG, TARGET_KEY,
    TARGET_MEMBER_KEY, VALUE_VERSION,
};

/// Decodes what follows the version of a key; `None` for a key of another kind.
pub(in super::super) fn decode(
    version: i16,
    mut key: Reader<'_>,
    value: Option<&[u8]>,
) -> Result<Option<GroupRecord>, DecodeError> {
    if !matches!(version, GROUP_KEY | MEMBER_KEY..=CURRENT_MEMBER_KEY) {
        return Ok(None);
    }
    let group = key.text()?.into();
    let value = value.map(open_value).transpose()?;
    let mut member_id = || key.text();
    Ok(Some(match version {
        GROUP_KEY => GroupRecord::ConsumerGroupMetadata {
            group,
            value: value.map(decode_group).transpose()?,
        },
        MEMBER_KEY => GroupRecord::ConsumerMemberMetadata {
            group,
            member_id: member_id()?,
            value: value.map(decode_member).transpose()?,
        },
        TARGET_KEY => {
            let epoch = |mut value: Reader<'_>| {
                let epoch = GroupEpoch(value.i32()?);
                value.tags(|_, _| Ok(()))?;
                Ok(epoch)
            };
            GroupRecord::ConsumerTargetMetadata {
                group,
                value: value.map(epoch).transpose()?,
            }
        }
        TARGET_MEMBER_KEY => {
            let target = |mut value: Reader<'_>| {
                let target = value.partitions()?;
                value.tags(|_, _| Ok(()))?;
                Ok(target)
            };
            GroupRecord::ConsumerTargetMember {
                group,
                member_id: member_id()?,
                value: value.map(target).transpose()?,
            }
        }
        _ => GroupRecord::ConsumerCurrentMember {
            group,
            member_id: member_id()?,
            value: value.map(decode_current).transpose()?,
        },
    }))
}

fn open_value(value: &[u8]) -> Result<Reader<'_>, DecodeError> {
    let mut value = Reader(value);
    match value.i16()? {
        VALUE_VERSION => Ok(value),
        version => Err(DecodeError::Version(version)),
    }
}

fn decode_group(mut value: Reader<'_>) -> Result<ConsumerGroupMetadata, DecodeError> {
    let epoch = GroupEpoch(value.i32()?);
    let mut metadata_hash = 0;
    value.tags(|tag, mut field| {
        if tag == METADATA_HASH_TAG {
            metadata_hash = field.i64()?;
        }
        Ok(())
    })?;
    Ok(ConsumerGroupMetadata {
        epoch,
        metadata_hash,
    })
}

fn decode_member(mut value: Reader<'_>) -> Result<ConsumerMemberMetadata, DecodeError> {
    let mut member = ConsumerMemberMetadata {
        instance_id: value.compact_nullable()?,
        rack_id: value.compact_nullable()?,
        client_id: value.compact()?,
        client_host: value.compact()?,
        ..ConsumerMemberMetadata::default()
    };
    for _ in 0..value.count()? {
        member.topic_names.push(value.compact()?);
    }
    member.topic_regex = value.compact_nullable()?;
    member.rebalance_timeout = value.millis()?;
    member.server_assignor = value.compact_nullable()?;
    value.tags(|tag, field| {
        if tag == CLASSIC_MEMBER_TAG {
            member.classic = decode_classic(field)?;
        }
        Ok(())
    })?;
    Ok(member)
}

fn decode_classic(mut value: Reader<'_>) -> Result<Option<ClassicMemberMetadata>, DecodeError> {
    let [is_there] = value.array()?;
    if is_there != 1 {
        return Ok(None);
    }
    let session_timeout = value.millis()?;
    let mut protocols = Vec::new();
    for _ in 0..value.count()? {
        let name = value.compact()?;
        let len = value.count()?;
        let metadata = value.take(len as usize).map(Opaque::from)?;
        value.tags(|_, _| Ok(()))?;
        protocols.push(Protocol { name, metadata });
    }
    value.tags(|_, _| Ok(()))?;
    Ok(Some(ClassicMemberMetadata {
        session_timeout,
        protocols,
    }))
}

fn decode_current(mut value: Reader<'_>) -> Result<CurrentAssignment, DecodeError> {
    let current = CurrentAssignment {
        epoch: GroupEpoch(value.i32()?),
        previous_epoch: GroupEpoch(value.i32()?),
        state: match value.array()? {
            [2] => MemberState::UnrevokedPartitions,
            [3] => MemberState::UnreleasedPartitions,
            _ => MemberState::Stable,
        },
        assigned: value.partitions()?,
        pending_revocation: value.partitions()?,
    };
    value.tags(|_, _| Ok(()))?;
    Ok(current)
}

impl<'a> Reader<'a> {
    fn varint(&mut self) -> Result<u32, DecodeError> {
        let mut value = 0;
        for shift in (0..32).step_by(7) {
            let [byte] = self.array()?;
            value |= u32::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(DecodeError::Truncated)
    }

    /// The length of what must not be null.
    fn count(&mut self) -> Result<u32, DecodeError> {
        self.varint()?.checked_sub(1).ok_or(DecodeError::Text)
    }

    fn compact_nullable(&mut self) -> Result<Option<String>, DecodeError> {
        let Some(len) = self.varint()?.checked_sub(1) else {
            return Ok(None);
        };
        let text = std::str::from_utf8(self.take(len as usize)?).map_err(|_| DecodeError::Text)?;
        Ok(Some(text.to_owned()))
    }

    fn compact(&mut self) -> Result<String, DecodeError> {
        self.compact_nullable()?.ok_or(DecodeError::Text)
    }

    fn partitions(&mut self) -> Result<Partitions, DecodeError> {
        let mut partitions = Partitions::new();
        for _ in 0..self.count()? {
            let topic = TopicId(self.array()?);
            for _ in 0..self.count()? {
                let partition = PartitionIndex(self.i32()?);
                partitions.insert(TopicPartition { topic, partition });
            }
            self.tags(|_, _| Ok(()))?;
        }
        Ok(partitions)
    }

    fn tags(
        &mut self,
        mut take: impl FnMut(u32, Self) -> Result<(), DecodeError>,
    ) -> Result<(), DecodeError> {
        for _ in 0..self.varint()? {
            let tag = self.varint()?;
            let len = self.varint()?;
            take(tag, Reader(self.take(len as usize)?))?;
        }
        Ok(())
    }
}
