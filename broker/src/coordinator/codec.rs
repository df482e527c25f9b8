//! Kafka's record formats of `__consumer_offsets`, so that Kafka's tools can read them. All numbers
//! are big-endian; a string is an i16 length (-1: null) and UTF-8, bytes and arrays have an i32
//! length. The first two bytes of each are the version.
//!
//! ```text
//! key 0, 1  group string, topic string, partition i32
//! value 3   offset i64, leader_epoch i32 (v3), metadata string, commit_timestamp i64,
//!           expire_timestamp i64 (v1)
//! key 2     group string
//! value 3   protocol_type string, generation i32, protocol string?, leader string?,
//!           state_timestamp i64 (v2), members: member_id string, instance_id string? (v3),
//!           client_id string, client_host string, rebalance_timeout_ms i32 (v1),
//!           session_timeout_ms i32, subscription bytes, assignment bytes
//! ```

mod consumer;

use broker_core::group::{
    CommittedOffset, Generation, GroupMetadata, GroupRecord, MemberMetadata, Opaque,
};
use broker_core::{Duration, LeaderEpoch, Offset, PartitionIndex, Timestamp};
use bytes::BufMut;

const OFFSET_KEY_VERSION: i16 = 1;
const GROUP_KEY_VERSION: i16 = 2;
const VALUE_VERSION: i16 = 3;
/// The only version with an expire timestamp. Clients that ask for one (OffsetCommit v2-4) send no
/// leader epoch, so none is lost.
const EXPIRING_OFFSET_VERSION: i16 = 1;

/// Why a record of `__consumer_offsets` cannot be read.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum DecodeError {
    #[error("the record ends too early")]
    Truncated,
    #[error("a text is not UTF-8, or null where it must not be")]
    Text,
    #[error("value version {0} is newer than this broker knows")]
    Version(i16),
}

/// A record's key and value; no value is a tombstone.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Encoded {
    pub(super) key: Vec<u8>,
    pub(super) value: Option<Vec<u8>>,
}

/// Encodes a record. Its texts have at most [`broker_core::group::ID_BYTES_MAX`] bytes.
pub(super) fn encode(record: &GroupRecord) -> Encoded {
    if let Some(encoded) = consumer::encode(record) {
        return encoded;
    }
    let mut key = Vec::new();
    let value = match record {
        GroupRecord::OffsetCommit {
            group,
            topic,
            partition,
            value,
        } => {
            key.put_i16(OFFSET_KEY_VERSION);
            put_text(&mut key, group);
            put_text(&mut key, topic);
            key.put_i32(partition.0);
            value.as_ref().map(encode_offset)
        }
        GroupRecord::GroupMetadata { group, value } => {
            key.put_i16(GROUP_KEY_VERSION);
            put_text(&mut key, group);
            value.as_ref().map(encode_group)
        }
        GroupRecord::ConsumerGroupMetadata { .. }
        | GroupRecord::ConsumerMemberMetadata { .. }
        | GroupRecord::ConsumerTargetMetadata { .. }
        | GroupRecord::ConsumerTargetMember { .. }
        | GroupRecord::ConsumerCurrentMember { .. } => unreachable!("encoded above"),
    };
    Encoded { key, value }
}

fn encode_offset(committed: &CommittedOffset) -> Vec<u8> {
    let mut out = Vec::new();
    let version = match committed.expire_timestamp {
        Some(_) => EXPIRING_OFFSET_VERSION,
        None => VALUE_VERSION,
    };
    out.put_i16(version);
    out.put_i64(committed.offset.0);
    if version == VALUE_VERSION {
        out.put_i32(committed.leader_epoch.0);
    }
    put_text(&mut out, &committed.metadata);
    out.put_i64(committed.commit_timestamp.0);
    if let Some(expire_timestamp) = committed.expire_timestamp {
        out.put_i64(expire_timestamp.0);
    }
    out
}

fn encode_group(group: &GroupMetadata) -> Vec<u8> {
    let mut out = Vec::new();
    out.put_i16(VALUE_VERSION);
    put_text(&mut out, group.protocol_type.as_deref().unwrap_or_default());
    out.put_i32(group.generation.0);
    put_nullable(&mut out, group.protocol.as_deref());
    put_nullable(&mut out, group.leader.as_deref());
    out.put_i64(group.state_timestamp.0);
    put_len(&mut out, group.members.len());
    for member in &group.members {
        put_text(&mut out, &member.member_id);
        put_nullable(&mut out, member.instance_id.as_deref());
        put_text(&mut out, &member.client_id);
        put_text(&mut out, &member.client_host);
        put_millis(&mut out, member.rebalance_timeout);
        put_millis(&mut out, member.session_timeout);
        put_bytes(&mut out, &member.subscription);
        put_bytes(&mut out, &member.assignment);
    }
    out
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    out.put_i16(i16::try_from(text.len()).expect("the coordinator bounds all texts"));
    out.put_slice(text.as_bytes());
}

fn put_nullable(out: &mut Vec<u8>, text: Option<&str>) {
    match text {
        Some(text) => put_text(out, text),
        None => out.put_i16(-1),
    }
}

fn put_len(out: &mut Vec<u8>, len: usize) {
    out.put_i32(i32::try_from(len).expect("the coordinator bounds members and their bytes"));
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_len(out, bytes.len());
    out.put_slice(bytes);
}

fn put_millis(out: &mut Vec<u8>, duration: Duration) {
    out.put_i32(i32::try_from(duration.as_millis()).unwrap_or(i32::MAX));
}

/// What a committed offset is of.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct OffsetKey<'a> {
    pub(super) group: &'a str,
    pub(super) topic: &'a str,
    pub(super) partition: PartitionIndex,
}

impl<'a> OffsetKey<'a> {
    /// Decodes the key of a record. `None`: it is not about an offset.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub(super) fn decode(key: &'a [u8]) -> Result<Option<Self>, DecodeError> {
        let mut key = Reader(key);
        Ok(match key.i16()? {
            0 | OFFSET_KEY_VERSION => Some(Self {
                group: key.str()?,
                topic: key.str()?,
                partition: PartitionIndex(key.i32()?),
            }),
            _ => None,
        })
    }
}

/// Decodes a record. `None`: a kind that this coordinator does not use.
///
/// # Errors
/// [`DecodeError`].
pub(super) fn decode(key: &[u8], value: Option<&[u8]>) -> Result<Option<GroupRecord>, DecodeError> {
    if let Some(of) = OffsetKey::decode(key)? {
        return Ok(Some(GroupRecord::OffsetCommit {
            group: of.group.into(),
            topic: of.topic.to_owned(),
            partition: of.partition,
            value: value.map(decode_offset).transpose()?,
        }));
    }
    let mut key = Reader(key);
    let record = match key.i16()? {
        GROUP_KEY_VERSION => GroupRecord::GroupMetadata {
            group: key.text()?.into(),
            value: value.map(decode_group).transpose()?,
        },
        version => return consumer::decode(version, key, value),
    };
    Ok(Some(record))
}

/// Decodes the value of a record about an offset.
///
/// # Errors
/// [`DecodeError`].
pub(super) fn decode_offset(value: &[u8]) -> Result<CommittedOffset, DecodeError> {
    let mut value = Reader(value);
    let version = value.version()?;
    let offset = Offset(value.i64()?);
    let leader_epoch = match version {
        VALUE_VERSION => LeaderEpoch(value.i32()?),
        _ => LeaderEpoch::NONE,
    };
    let metadata = value.text()?;
    let commit_timestamp = Timestamp(value.i64()?);
    let expire_timestamp = match version {
        EXPIRING_OFFSET_VERSION => Some(Timestamp(value.i64()?)).filter(|at| at.0 >= 0),
        _ => None,
    };
    Ok(CommittedOffset {
        offset,
        leader_epoch,
        metadata,
        commit_timestamp,
        expire_timestamp,
    })
}

fn decode_group(value: &[u8]) -> Result<GroupMetadata, DecodeError> {
    let mut value = Reader(value);
    let version = value.version()?;
    let protocol_type = Some(value.text()?).filter(|text| !text.is_empty());
    let generation = Generation(value.i32()?);
    let protocol = value.nullable()?;
    let leader = value.nullable()?;
    let state_timestamp = Timestamp(if version >= 2 { value.i64()? } else { -1 });
    let mut members = Vec::new();
    for _ in 0..value.len()? {
        members.push(decode_member(&mut value, version)?);
    }
    Ok(GroupMetadata {
        protocol_type,
        generation,
        protocol,
        leader,
        state_timestamp,
        members,
    })
}

fn decode_member(value: &mut Reader<'_>, version: i16) -> Result<MemberMetadata, DecodeError> {
    let member_id = value.text()?;
    let instance_id = if version >= 3 {
        value.nullable()?
    } else {
        None
    };
    let client_id = value.text()?;
    let client_host = value.text()?;
    let rebalance_timeout = if version >= 1 {
        Some(value.millis()?)
    } else {
        None
    };
    let session_timeout = value.millis()?;
    Ok(MemberMetadata {
        member_id,
        instance_id,
        client_id,
        client_host,
        rebalance_timeout: rebalance_timeout.unwrap_or(session_timeout),
        session_timeout,
        subscription: value.opaque()?,
        assignment: value.opaque()?,
    })
}

/// The bytes not read yet.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or(DecodeError::Truncated)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(DecodeError::Truncated)?;
        self.0 = rest;
        Ok(*taken)
    }

    fn i16(&mut self) -> Result<i16, DecodeError> {
        self.array().map(i16::from_be_bytes)
    }

    fn i32(&mut self) -> Result<i32, DecodeError> {
        self.array().map(i32::from_be_bytes)
    }

    fn i64(&mut self) -> Result<i64, DecodeError> {
        self.array().map(i64::from_be_bytes)
    }

    fn version(&mut self) -> Result<i16, DecodeError> {
        let version = self.i16()?;
        if (0..=VALUE_VERSION).contains(&version) {
            Ok(version)
        } else {
            Err(DecodeError::Version(version))
        }
    }

    fn len(&mut self) -> Result<usize, DecodeError> {
        usize::try_from(self.i32()?).map_err(|_| DecodeError::Truncated)
    }

    fn nullable_str(&mut self) -> Result<Option<&'a str>, DecodeError> {
        let Ok(len) = usize::try_from(self.i16()?) else {
            return Ok(None);
        };
        let text = std::str::from_utf8(self.take(len)?).map_err(|_| DecodeError::Text)?;
        Ok(Some(text))
    }

    fn nullable(&mut self) -> Result<Option<String>, DecodeError> {
        Ok(self.nullable_str()?.map(str::to_owned))
    }

    fn str(&mut self) -> Result<&'a str, DecodeError> {
        self.nullable_str()?.ok_or(DecodeError::Text)
    }

    fn text(&mut self) -> Result<String, DecodeError> {
        self.str().map(str::to_owned)
    }

    fn opaque(&mut self) -> Result<Opaque, DecodeError> {
        let len = self.len()?;
        self.take(len).map(Opaque::from)
    }

    fn millis(&mut self) -> Result<Duration, DecodeError> {
        Ok(Duration::from_millis(
            u64::try_from(self.i32()?).unwrap_or(0),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offset_commit(expire_timestamp: Option<Timestamp>) -> GroupRecord {
        GroupRecord::OffsetCommit {
            group: "g".into(),
            topic: "t".into(),
            partition: PartitionIndex(7),
            value: Some(CommittedOffset {
                offset: Offset(42),
                leader_epoch: if expire_timestamp.is_some() {
                    LeaderEpoch::NONE
                } else {
                    LeaderEpoch(5)
                },
                metadata: "m".into(),
                commit_timestamp: Timestamp(0x0102),
                expire_timestamp,
            }),
        }
    }

    fn group_metadata() -> GroupRecord {
        let member = |member_id: &str, instance_id: Option<&str>| MemberMetadata {
            member_id: member_id.into(),
            instance_id: instance_id.map(Into::into),
            client_id: "c".into(),
            client_host: "/h".into(),
            rebalance_timeout: Duration::from_millis(300_000),
            session_timeout: Duration::from_millis(10_000),
            subscription: Opaque::from([1, 2]),
            assignment: Opaque::from([3]),
        };
        GroupRecord::GroupMetadata {
            group: "g".into(),
            value: Some(GroupMetadata {
                protocol_type: Some("consumer".into()),
                generation: Generation(3),
                protocol: Some("range".into()),
                leader: Some("a".into()),
                state_timestamp: Timestamp(9),
                members: vec![member("a", None), member("b", Some("i"))],
            }),
        }
    }

    #[test]
    fn bytes_are_kafkas() {
        let Encoded { key, value } = encode(&offset_commit(None));
        assert_eq!(key, b"\0\x01\0\x01g\0\x01t\0\0\0\x07");
        let offset = b"\0\x03\0\0\0\0\0\0\0\x2a\0\0\0\x05\0\x01m\0\0\0\0\0\0\x01\x02";
        assert_eq!(value.unwrap(), offset);
        let Encoded { key, value } = encode(&group_metadata());
        assert_eq!(key, b"\0\x02\0\x01g");
        let mut expected = b"\0\x03\0\x08consumer\0\0\0\x03\0\x05range\0\x01a".to_vec();
        expected.extend(b"\0\0\0\0\0\0\0\x09\0\0\0\x02");
        let rest = b"\0\x01c\0\x02/h\0\x04\x93\xe0\0\0\x27\x10\0\0\0\x02\x01\x02\0\0\0\x01\x03";
        expected.extend(b"\0\x01a\xff\xff");
        expected.extend(rest);
        expected.extend(b"\0\x01b\0\x01i");
        expected.extend(rest);
        assert_eq!(value.unwrap(), expected);
    }

    #[test]
    fn records_survive_and_truncated_ones_are_refused() {
        for record in [
            offset_commit(None),
            offset_commit(Some(Timestamp(77))),
            group_metadata(),
        ] {
            let Encoded { key, value } = encode(&record);
            let value = value.unwrap();
            assert_eq!(decode(&key, Some(&value)), Ok(Some(record)));
            for len in 0..value.len() {
                assert_eq!(
                    decode(&key, Some(&value[..len])),
                    Err(DecodeError::Truncated)
                );
            }
            for len in 0..key.len() {
                assert_eq!(decode(&key[..len], None), Err(DecodeError::Truncated));
            }
            assert!(matches!(
                decode(&key, None),
                Ok(Some(
                    GroupRecord::OffsetCommit { value: None, .. }
                        | GroupRecord::GroupMetadata { value: None, .. }
                ))
            ));
        }
    }

    #[test]
    fn older_versions_are_read_and_unknown_ones_named() {
        let key = encode(&offset_commit(None)).key;
        let v0 = b"\0\0\0\0\0\0\0\0\0\x2a\0\x01m\0\0\0\0\0\0\x01\x02";
        let Ok(Some(GroupRecord::OffsetCommit {
            value: Some(committed),
            ..
        })) = decode(&key, Some(v0))
        else {
            panic!("not read");
        };
        assert_eq!(
            (committed.offset, committed.leader_epoch),
            (Offset(42), LeaderEpoch::NONE)
        );
        assert_eq!(decode(&key, Some(b"\0\x09")), Err(DecodeError::Version(9)));
        assert_eq!(decode(b"\0\x0b\0\x01g", None), Ok(None), "a share group");
    }
}
