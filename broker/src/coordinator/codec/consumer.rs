//! Records of consumer groups (KIP-848). Their values have the flexible form: a length is an unsigned
//! varint, raised by one where null is possible and for strings and arrays; a struct ends with tagged
//! fields, `tags` below.
//!
//! ```text
//! key 3, 6     group string
//! key 5, 7, 8  group string, member_id string
//! value 3      epoch i32, tags: 0 metadata_hash i64
//! value 5      instance_id string?, rack_id string?, client_id string, client_host string,
//!              topic_names [string], topic_regex string?, rebalance_timeout_ms i32,
//!              server_assignor string?, tags: 0 classic member
//! value 6      epoch i32, tags
//! value 7      partitions, tags
//! value 8      epoch i32, previous_epoch i32, state i8, assigned partitions,
//!              pending_revocation partitions, tags
//! partitions      [topic_id 16 bytes, [i32], tags]
//! classic member  1 i8, session_timeout_ms i32, [name string, metadata bytes, tags], tags
//! ```

mod decode;
mod encode;

pub(super) use decode::decode;
pub(super) use encode::encode;

const GROUP_KEY: i16 = 3;
const MEMBER_KEY: i16 = 5;
const TARGET_KEY: i16 = 6;
const TARGET_MEMBER_KEY: i16 = 7;
const CURRENT_MEMBER_KEY: i16 = 8;
const VALUE_VERSION: i16 = 0;
const METADATA_HASH_TAG: u32 = 0;
const CLASSIC_MEMBER_TAG: u32 = 0;

#[cfg(test)]
mod tests {
    use broker_core::group::{
        ClassicMemberMetadata, ConsumerGroupMetadata, ConsumerMemberMetadata, CurrentAssignment,
        GroupEpoch, GroupRecord, MemberState, Opaque, Partitions, Protocol,
    };
    use broker_core::{Duration, PartitionIndex, TopicId, TopicPartition};

    use super::super::{Encoded, decode};
    use super::encode;

    fn partitions() -> Partitions {
        let of = |topic: u8, index: i32| TopicPartition {
            topic: TopicId([topic; 16]),
            partition: PartitionIndex(index),
        };
        [of(1, 0), of(1, 3), of(2, 300)].into()
    }

    fn records() -> Vec<GroupRecord> {
        let member = ConsumerMemberMetadata {
            instance_id: Some("i".into()),
            client_id: "c".repeat(200),
            client_host: "/h".into(),
            topic_names: vec!["a".into(), "b".into()],
            topic_regex: Some("x.*".into()),
            rebalance_timeout: Duration::from_millis(300_000),
            classic: Some(ClassicMemberMetadata {
                session_timeout: Duration::from_millis(45_000),
                protocols: vec![Protocol {
                    name: "range".into(),
                    metadata: Opaque::from([0, 1]),
                }],
            }),
            ..ConsumerMemberMetadata::default()
        };
        let current = CurrentAssignment {
            epoch: GroupEpoch(7),
            previous_epoch: GroupEpoch(6),
            state: MemberState::UnrevokedPartitions,
            assigned: partitions(),
            pending_revocation: Partitions::new(),
        };
        let group = || "g".into();
        let member_id = || "m".to_owned();
        vec![
            GroupRecord::ConsumerGroupMetadata {
                group: group(),
                value: Some(ConsumerGroupMetadata {
                    epoch: GroupEpoch(7),
                    metadata_hash: -5,
                }),
            },
            GroupRecord::ConsumerMemberMetadata {
                group: group(),
                member_id: member_id(),
                value: Some(member),
            },
            GroupRecord::ConsumerTargetMetadata {
                group: group(),
                value: Some(GroupEpoch(7)),
            },
            GroupRecord::ConsumerTargetMember {
                group: group(),
                member_id: member_id(),
                value: Some(partitions()),
            },
            GroupRecord::ConsumerCurrentMember {
                group: group(),
                member_id: member_id(),
                value: Some(current),
            },
        ]
    }

    #[test]
    fn bytes_are_kafkas() {
        let Encoded { key, value } = encode(&records()[0]).unwrap();
        assert_eq!(key, b"\0\x03\0\x01g");
        let expected = b"\0\0\0\0\0\x07\x01\0\x08\xff\xff\xff\xff\xff\xff\xff\xfb";
        assert_eq!(value.unwrap(), expected);
        let Encoded { key, value } = encode(&records()[4]).unwrap();
        assert_eq!(key, b"\0\x08\0\x01g\0\x01m");
        let mut expected = b"\0\0\0\0\0\x07\0\0\0\x06\x02\x03".to_vec();
        expected.extend([1; 16]);
        expected.extend(b"\x03\0\0\0\0\0\0\0\x03\0");
        expected.extend([2; 16]);
        expected.extend(b"\x02\0\0\x01\x2c\0\x01\0");
        assert_eq!(value.unwrap(), expected);
    }

    #[test]
    fn records_survive_and_truncated_ones_are_refused() {
        for record in records() {
            let Encoded { key, value } = encode(&record).unwrap();
            let value = value.unwrap();
            assert_eq!(decode(&key, Some(&value)), Ok(Some(record)));
            for len in 0..value.len() {
                assert!(decode(&key, Some(&value[..len])).is_err(), "{len} bytes");
            }
            for len in 0..key.len() {
                assert!(decode(&key[..len], None).is_err(), "{len} bytes");
            }
            assert!(decode(&key, None).unwrap().is_some());
        }
    }
}
