//! Every message in every version, written by ours and read by `kafka-protocol` and the other way
//! round; and what happens to hostile bytes.

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages as theirs;
use kafka_protocol::protocol::{Decodable, Encodable};
use proptest::prelude::*;

use super::*;
use crate::primitive::{Records, Version, Wire};
use crate::sampler::Sampler;

const SEEDS: u64 = 40;

fn encoded(message: &impl Message, version: i16) -> Bytes {
    let mut encoder = Encoder::new();
    message.encode(&mut encoder, version);
    encoder.finish().bytes.slice(4..)
}

fn decoded<M: Message>(bytes: &Bytes, version: i16) -> M {
    let mut decoder = Decoder::new(bytes.clone());
    let message = M::decode(&mut decoder, version).unwrap();
    assert_eq!(decoder.remaining(), 0);
    message
}

/// Ours → bytes → theirs → bytes → ours: the bytes and the message stay the same.
fn round_trip<Ours, Theirs>(api: ApiKey, version: i16)
where
    Ours: Message + Wire + PartialEq + std::fmt::Debug,
    Theirs: Decodable + Encodable + std::fmt::Debug,
{
    let flexible = version >= api.first_flexible_version();
    for seed in 0..SEEDS {
        let sampled = Version {
            number: version,
            flexible,
        };
        let ours = Ours::sample(&mut Sampler::new(seed), sampled);
        let bytes = encoded(&ours, version);
        let mut rest = bytes.clone();
        let read = Theirs::decode(&mut rest, version)
            .unwrap_or_else(|error| panic!("{api} v{version}: {error} in {ours:#?}"));
        let unknown_to_theirs = format!("{read:?}").replace("unknown_tagged_fields: {}", "");
        assert!(
            !unknown_to_theirs.contains("unknown_tagged_fields"),
            "{api} v{version}: {read:#?}"
        );
        assert!(
            rest.is_empty(),
            "{api} v{version}: theirs leaves {} bytes",
            rest.len()
        );
        let mut back = BytesMut::new();
        read.encode(&mut back, version)
            .unwrap_or_else(|error| panic!("{api} v{version}: {error} in {ours:#?}"));
        assert_eq!(bytes, back, "{api} v{version}: {ours:#?}");
        assert_eq!(
            decoded::<Ours>(&back.freeze(), version),
            ours,
            "{api} v{version}"
        );
    }
}

/// No prefix of a message is a message of itself, and none makes the decoder panic.
fn truncation<Ours: Message + Wire>(api: ApiKey, version: i16) {
    let flexible = version >= api.first_flexible_version();
    for seed in 0..3 {
        let ours = Ours::sample(
            &mut Sampler::new(seed),
            Version {
                number: version,
                flexible,
            },
        );
        let bytes = encoded(&ours, version);
        for len in 0..bytes.len() {
            let mut decoder = Decoder::new(bytes.slice(..len));
            assert!(
                Ours::decode(&mut decoder, version).is_err(),
                "{api} v{version} at {len}"
            );
        }
    }
}

fn decode_anything<R: RequestMessage>(version: i16, bytes: &Bytes) {
    let _ = R::decode(&mut Decoder::new(bytes.clone()), version);
    let _ = R::Response::decode(&mut Decoder::new(bytes.clone()), version);
}

macro_rules! every_api {
    ($($test:ident: $request:ident, $response:ident;)*) => {
        $(
            #[test]
            fn $test() {
                let api = <$request as RequestMessage>::API;
                for version in api.versions() {
                    truncation::<$request>(api, version);
                    truncation::<$response>(api, version);
                    if api == ApiKey::Produce && version < produce::VERSION_MIN {
                        continue;
                    }
                    round_trip::<$request, theirs::$request>(api, version);
                    round_trip::<$response, theirs::$response>(api, version);
                }
            }
        )*

        fn decode_all(bytes: &Bytes) {
            $(
                for version in <$request as RequestMessage>::API.versions() {
                    decode_anything::<$request>(version, bytes);
                }
            )*
        }

        #[test]
        fn every_api_is_tested() {
            let tested = [$(<$request as RequestMessage>::API),*];
            assert!(ApiKey::ALL.iter().all(|api| tested.contains(api)));
        }
    };
}

every_api! {
    api_versions: ApiVersionsRequest, ApiVersionsResponse;
    metadata: MetadataRequest, MetadataResponse;
    produce: ProduceRequest, ProduceResponse;
    fetch: FetchRequest, FetchResponse;
    list_offsets: ListOffsetsRequest, ListOffsetsResponse;
    init_producer_id: InitProducerIdRequest, InitProducerIdResponse;
    find_coordinator: FindCoordinatorRequest, FindCoordinatorResponse;
    join_group: JoinGroupRequest, JoinGroupResponse;
    sync_group: SyncGroupRequest, SyncGroupResponse;
    heartbeat: HeartbeatRequest, HeartbeatResponse;
    leave_group: LeaveGroupRequest, LeaveGroupResponse;
    offset_commit: OffsetCommitRequest, OffsetCommitResponse;
    offset_fetch: OffsetFetchRequest, OffsetFetchResponse;
    create_topics: CreateTopicsRequest, CreateTopicsResponse;
    delete_topics: DeleteTopicsRequest, DeleteTopicsResponse;
    create_partitions: CreatePartitionsRequest, CreatePartitionsResponse;
    describe_cluster: DescribeClusterRequest, DescribeClusterResponse;
    describe_client_quotas: DescribeClientQuotasRequest, DescribeClientQuotasResponse;
    alter_client_quotas: AlterClientQuotasRequest, AlterClientQuotasResponse;
    describe_acls: DescribeAclsRequest, DescribeAclsResponse;
    create_acls: CreateAclsRequest, CreateAclsResponse;
    delete_acls: DeleteAclsRequest, DeleteAclsResponse;
    describe_user_scram_credentials: DescribeUserScramCredentialsRequest, DescribeUserScramCredentialsResponse;
    describe_quorum: DescribeQuorumRequest, DescribeQuorumResponse;
    update_features: UpdateFeaturesRequest, UpdateFeaturesResponse;
    describe_configs: DescribeConfigsRequest, DescribeConfigsResponse;
    incremental_alter_configs: IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse;
    alter_configs: AlterConfigsRequest, AlterConfigsResponse;
    offset_for_leader_epoch: OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse;
    describe_topic_partitions: DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse;
    describe_groups: DescribeGroupsRequest, DescribeGroupsResponse;
    list_groups: ListGroupsRequest, ListGroupsResponse;
    delete_groups: DeleteGroupsRequest, DeleteGroupsResponse;
    consumer_group_heartbeat: ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse;
    consumer_group_describe: ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse;
    offset_delete: OffsetDeleteRequest, OffsetDeleteResponse;
    unregister_broker: UnregisterBrokerRequest, UnregisterBrokerResponse;
    list_partition_reassignments: ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse;
    elect_leaders: ElectLeadersRequest, ElectLeadersResponse;
    delete_records: DeleteRecordsRequest, DeleteRecordsResponse;
    alter_partition_reassignments: AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse;
    alter_replica_log_dirs: AlterReplicaLogDirsRequest, AlterReplicaLogDirsResponse;
    describe_log_dirs: DescribeLogDirsRequest, DescribeLogDirsResponse;
    add_raft_voter: AddRaftVoterRequest, AddRaftVoterResponse;
    remove_raft_voter: RemoveRaftVoterRequest, RemoveRaftVoterResponse;
    add_offsets_to_txn: AddOffsetsToTxnRequest, AddOffsetsToTxnResponse;
    add_partitions_to_txn: AddPartitionsToTxnRequest, AddPartitionsToTxnResponse;
    describe_producers: DescribeProducersRequest, DescribeProducersResponse;
    describe_transactions: DescribeTransactionsRequest, DescribeTransactionsResponse;
    end_txn: EndTxnRequest, EndTxnResponse;
    list_transactions: ListTransactionsRequest, ListTransactionsResponse;
    txn_offset_commit: TxnOffsetCommitRequest, TxnOffsetCommitResponse;
    write_txn_markers: WriteTxnMarkersRequest, WriteTxnMarkersResponse;
}

proptest! {
    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        decode_all(&bytes.into());
    }
}

#[test]
fn claimed_lengths_beyond_the_frame_are_refused_before_allocating() {
    for fill in [0x00, 0x01, 0x7f, 0xfe, 0xff] {
        decode_all(&vec![fill; 4096].into());
    }
    let array_of_2_billion = Bytes::from_static(&[0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0]);
    let mut decoder = Decoder::new(array_of_2_billion);
    assert_eq!(
        MetadataRequest::decode(&mut decoder, 1),
        Err(DecodeError::Truncated {
            needed: 2 * 0x7fff_ffff,
            available: 4
        })
    );
}

#[test]
fn arrays_of_tiny_elements_cannot_outgrow_their_frame() {
    let count = 1_000_000u32;
    let mut frame = count.to_be_bytes().to_vec();
    frame.resize(4 + 2 * count as usize, 0);
    let mut decoder = Decoder::new(frame.into());
    assert_eq!(
        MetadataRequest::decode(&mut decoder, 0),
        Err(DecodeError::TooManyElements)
    );
}

#[test]
fn unknown_tagged_fields_are_skipped() {
    let request = HeartbeatRequest {
        group_id: "group".into(),
        ..Default::default()
    };
    let mut bytes = encoded(&request, 4).to_vec();
    assert_eq!(bytes.pop(), Some(0));
    bytes.extend_from_slice(&[2, 7, 3, 1, 2, 3, 9, 0]);
    assert_eq!(decoded::<HeartbeatRequest>(&bytes.into(), 4), request);
}

#[test]
fn tagged_field_with_a_wrong_size_is_refused() {
    let response = ApiVersionsResponse {
        finalized_features_epoch: 1,
        ..Default::default()
    };
    let mut bytes = encoded(&response, 3).to_vec();
    let size_at = bytes.len() - 9;
    assert_eq!(bytes[size_at], 8);
    bytes[size_at] = 7;
    let mut decoder = Decoder::new(bytes.into());
    assert_eq!(
        ApiVersionsResponse::decode(&mut decoder, 3),
        Err(DecodeError::TaggedFieldSize { tag: 1 })
    );
}

#[test]
fn strings_and_records_share_the_memory_of_the_frame() {
    let request = ProduceRequest {
        topic_data: vec![produce::TopicProduceData {
            name: "topic".into(),
            partition_data: vec![produce::PartitionProduceData {
                index: 0,
                records: Some(Bytes::from_static(b"batches")),
            }],
            ..Default::default()
        }],
        ..Default::default()
    };
    let frame = encoded(&request, 9);
    let read: ProduceRequest = decoded(&frame, 9);
    let records = read.topic_data[0].partition_data[0]
        .records
        .as_ref()
        .unwrap();
    assert!(frame.as_ptr_range().contains(&records.as_ptr()));
    assert!(
        frame
            .as_ptr_range()
            .contains(&read.topic_data[0].name.as_ptr())
    );
}

#[test]
fn null_is_written_as_default_where_the_version_has_no_null() {
    let response = JoinGroupResponse::default();
    assert_eq!(response.protocol_name, None);
    assert_eq!(
        decoded::<JoinGroupResponse>(&encoded(&response, 6), 6).protocol_name,
        Some("".into())
    );
    assert_eq!(
        decoded::<JoinGroupResponse>(&encoded(&response, 7), 7).protocol_name,
        None
    );
}

#[test]
fn null_is_refused_where_the_version_has_no_null() {
    let all_topics = Bytes::from_static(&[0xff; 4]);
    let mut decoder = Decoder::new(all_topics.clone());
    assert_eq!(
        MetadataRequest::decode(&mut decoder, 0),
        Err(DecodeError::UnexpectedNull)
    );
    assert_eq!(decoded::<MetadataRequest>(&all_topics, 1).topics, None);
}

fn fetch_response(records: [Records; 2]) -> FetchResponse {
    let partition = |records| fetch::PartitionData {
        records,
        ..Default::default()
    };
    FetchResponse {
        responses: vec![fetch::FetchableTopicResponse {
            partitions: records.map(partition).into(),
            ..Default::default()
        }],
        ..Default::default()
    }
}

#[test]
fn external_records_leave_gaps_that_complete_the_frame() {
    let contents = [&b"first region"[..], b"the second"];
    for version in ApiKey::Fetch.versions() {
        let inline = contents.map(|bytes| Records::Bytes(Bytes::from_static(bytes)));
        let external = [0, 1].map(|token: u32| Records::External {
            len: contents[token as usize].len() as u32,
            token,
        });
        let header = crate::ResponseHeader { correlation_id: 3 };
        let encode = |records| {
            crate::encode_response(header, ApiKey::Fetch, version, &fetch_response(records))
        };
        let whole = encode(inline);
        let gapped = encode(external);
        assert_eq!(gapped.externals.len(), 2);
        assert_eq!(gapped.wire_len(), whole.bytes.len());
        let mut sent = Vec::new();
        for segment in gapped.segments() {
            match segment {
                crate::primitive::Segment::Bytes(bytes) => sent.extend_from_slice(&bytes),
                crate::primitive::Segment::External(region) => {
                    sent.extend_from_slice(contents[region.token as usize]);
                }
            }
        }
        assert_eq!(sent, whole.bytes, "v{version}");
    }
}
