//! Bytes from a broker: two bytes choose API and version, the rest is the body of a response.
#![no_main]

use broker_wire::message::{self, Message, RequestMessage};
use broker_wire::{ApiKey, Decoder, Encoder};
use bytes::Bytes;
use libfuzzer_sys::fuzz_target;

fn round_trip<R: RequestMessage>(version: i16, body: &Bytes)
where
    R::Response: PartialEq + std::fmt::Debug,
{
    let Ok(response) = R::Response::decode(&mut Decoder::new(body.clone()), version) else {
        return;
    };
    let mut encoder = Encoder::new();
    response.encode(&mut encoder, version);
    let mut decoder = Decoder::new(encoder.finish().bytes.slice(4..));
    assert_eq!(R::Response::decode(&mut decoder, version), Ok(response));
    assert_eq!(decoder.remaining(), 0);
}

macro_rules! by_api {
    ($api:expr, $version:expr, $body:expr; $($name:ident: $request:ident,)*) => {
        match $api {
            $(ApiKey::$name => round_trip::<message::$request>($version, $body),)*
        }
    };
}

fuzz_target!(|data: &[u8]| {
    let [api, version, body @ ..] = data else {
        return;
    };
    let api = ApiKey::ALL[usize::from(*api) % ApiKey::ALL.len()];
    let version = i16::from(*version);
    if !api.supports(version) {
        return;
    }
    let body = Bytes::copy_from_slice(body);
    by_api! {
        api, version, &body;
        ApiVersions: ApiVersionsRequest,
        Metadata: MetadataRequest,
        Produce: ProduceRequest,
        Fetch: FetchRequest,
        ListOffsets: ListOffsetsRequest,
        InitProducerId: InitProducerIdRequest,
        FindCoordinator: FindCoordinatorRequest,
        JoinGroup: JoinGroupRequest,
        SyncGroup: SyncGroupRequest,
        Heartbeat: HeartbeatRequest,
        LeaveGroup: LeaveGroupRequest,
        OffsetCommit: OffsetCommitRequest,
        OffsetFetch: OffsetFetchRequest,
        CreateTopics: CreateTopicsRequest,
        DeleteTopics: DeleteTopicsRequest,
        CreatePartitions: CreatePartitionsRequest,
        DescribeCluster: DescribeClusterRequest,
        DescribeQuorum: DescribeQuorumRequest,
        UpdateFeatures: UpdateFeaturesRequest,
        DescribeConfigs: DescribeConfigsRequest,
        IncrementalAlterConfigs: IncrementalAlterConfigsRequest,
        AlterConfigs: AlterConfigsRequest,
        OffsetForLeaderEpoch: OffsetForLeaderEpochRequest,
        DescribeTopicPartitions: DescribeTopicPartitionsRequest,
        DescribeGroups: DescribeGroupsRequest,
        ListGroups: ListGroupsRequest,
        DeleteGroups: DeleteGroupsRequest,
    }
});
