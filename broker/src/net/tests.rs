//! Clients, well-behaved and not, against a broker of its own on loopback.

mod broker;
mod encrypted;
mod quotas;
mod security;

use std::io::ErrorKind;
use std::time::Duration;

use broker_wire::message::fetch::{FetchPartition, FetchTopic};
use broker_wire::message::list_offsets::{ListOffsetsPartition, ListOffsetsTopic};
use broker_wire::message::produce::{PartitionProduceData, TopicProduceData};
use broker_wire::message::{
    ApiVersionsRequest, FetchRequest, FetchResponse, ListOffsetsRequest, MetadataRequest,
    ProduceRequest, RequestMessage,
};
use broker_wire::record::{BatchBuilder, NewRecord};
use broker_wire::{ErrorCode, decode_response, encode_request};
use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use crate::clock;
use broker::{TOPIC, TestBroker};

/// Nothing here takes that long.
const PATIENCE: Duration = Duration::from_secs(20);

struct Client<S = TcpStream>(S);

impl Client {
    async fn connect(broker: &TestBroker) -> Self {
        Self(TcpStream::connect(broker.address).await.unwrap())
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    async fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.unwrap();
    }

    /// The next frame without its prefix, `None` at the end of the connection.
    async fn receive(&mut self) -> Option<Bytes> {
        let reading = async {
            let len = match self.0.read_u32().await {
                Ok(len) => len,
                Err(error) => {
                    assert!(
                        matches!(
                            error.kind(),
                            ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset
                        ),
                        "{error}"
                    );
                    return None;
                }
            };
            let mut frame = vec![0; len as usize];
            self.0.read_exact(&mut frame).await.unwrap();
            Some(Bytes::from(frame))
        };
        timeout(PATIENCE, reading)
            .await
            .expect("an answer or the end")
    }

    async fn call<R: RequestMessage>(&mut self, version: i16, request: &R) -> R::Response {
        self.send(&encode_request(version, 7, None, request)).await;
        let frame = self.receive().await.expect("an answer");
        let (header, response) = decode_response::<R>(frame, version).unwrap();
        assert_eq!(header.correlation_id, 7);
        response
    }

    /// Whether the broker closes the connection without an answer.
    async fn is_closed(&mut self) -> bool {
        self.receive().await.is_none()
    }
}

async fn assert_serves(broker: &TestBroker) {
    let mut client = Client::connect(broker).await;
    let response = client.call(0, &ApiVersionsRequest::default()).await;
    assert_eq!(response.error_code, ErrorCode::None);
}

fn batch(value: &[u8]) -> Bytes {
    let mut builder = BatchBuilder::new(0);
    builder.append(&NewRecord {
        value: Some(value),
        ..NewRecord::default()
    });
    builder.build().unwrap()
}

fn produce(acks: i16, topic: &'static str, records: Bytes) -> ProduceRequest {
    ProduceRequest {
        acks,
        timeout_ms: 10_000,
        topic_data: vec![TopicProduceData {
            name: topic.into(),
            partition_data: vec![PartitionProduceData {
                index: 0,
                records: Some(records),
            }],
            ..TopicProduceData::default()
        }],
        ..ProduceRequest::default()
    }
}

fn fetch(offset: i64, max_wait_ms: i32) -> FetchRequest {
    FetchRequest {
        max_wait_ms,
        min_bytes: 1,
        max_bytes: 10 << 20,
        topics: vec![FetchTopic {
            topic: TOPIC.into(),
            partitions: vec![FetchPartition {
                fetch_offset: offset,
                partition_max_bytes: 10 << 20,
                ..FetchPartition::default()
            }],
            ..FetchTopic::default()
        }],
        ..FetchRequest::default()
    }
}

fn fetched(response: FetchResponse) -> (ErrorCode, i64, Bytes) {
    let partition = response
        .responses
        .into_iter()
        .next()
        .unwrap()
        .partitions
        .remove(0);
    let broker_wire::Records::Bytes(records) = partition.records else {
        panic!("no records")
    };
    (partition.error_code, partition.high_watermark, records)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fetch_waited_although_more_was_there_than_it_may_have() {
    let broker = TestBroker::start(&[]).await;
    let mut client = Client::connect(&broker).await;
    for _ in 0..3 {
        let request = produce(1, TOPIC, batch(&[0; 5_000]));
        client.call(9, &request).await;
    }
    // Two batches are more than the limit, and one is less than the minimum.
    let request = FetchRequest {
        min_bytes: 8_000,
        max_bytes: 8_000,
        ..fetch(0, 60_000)
    };
    let (error, _, records) = fetched(client.call(12, &request).await);
    assert_eq!(error, ErrorCode::None);
    assert!((5_000..8_000).contains(&records.len()), "{}", records.len());
}

/// A xorshift generator; the same bytes in each run.
fn noise(seed: u64) -> impl Iterator<Item = u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    std::iter::repeat_with(move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn noise_ends_its_own_connection_only() {
    let broker = TestBroker::start(&[]).await;
    for seed in 0..200 {
        let mut client = Client::connect(&broker).await;
        let mut bytes: Vec<u8> = noise(seed).take(1 + seed as usize * 7).collect();
        if seed % 2 == 0 {
            // A believable length, so that the noise reaches the decoder.
            let len = bytes.len() as u32;
            bytes.splice(0..0, len.to_be_bytes());
        }
        // The broker may close before everything is written.
        let _ = client.0.write_all(&bytes).await;
        let _ = client.0.shutdown().await;
        while client.receive().await.is_some() {}
    }
    assert!(broker.metrics.malformed_requests.get() >= 100);
    assert_serves(&broker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_torn_or_mutated_request_is_survived() {
    let broker = TestBroker::start(&[]).await;
    let good = encode_request(9, 7, None, &produce(1, TOPIC, batch(b"value")));
    for at in 4..good.len() {
        let mut mutated = good.to_vec();
        mutated[at] ^= 0xff;
        let mut client = Client::connect(&broker).await;
        client.send(&mutated).await;
        let _ = client.0.shutdown().await;
        while client.receive().await.is_some() {}
    }
    assert_serves(&broker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn impossible_lengths_close_the_connection_at_once() {
    let broker = TestBroker::start(&[("socket.request.max.bytes", "1000")]).await;
    for len in [-1, i32::MIN, i32::MAX, 1001] {
        let mut client = Client::connect(&broker).await;
        client.send(&len.to_be_bytes()).await;
        assert!(client.is_closed().await, "{len}");
    }
    assert_eq!(broker.metrics.malformed_requests.get(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn announced_bytes_take_no_memory_from_those_that_are_sent() {
    let mib = 1 << 20;
    let budget = (4 * mib).to_string();
    let broker = TestBroker::start(&[
        ("socket.request.max.bytes", &mib.to_string()),
        ("klamm.memory.requests.max.bytes", &budget),
    ])
    .await;
    let mut stalled = Vec::new();
    for _ in 0..100 {
        let mut client = Client::connect(&broker).await;
        client.send(&(mib as u32).to_be_bytes()).await;
        client.send(&[0; 1000]).await;
        stalled.push(client);
    }
    let mut client = Client::connect(&broker).await;
    let response = client
        .call(9, &produce(1, TOPIC, batch(&vec![1; 900_000])))
        .await;
    assert_eq!(
        response.responses[0].partition_responses[0].error_code,
        ErrorCode::None
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn half_requests_time_out() {
    let broker = TestBroker::start_impatient(Duration::from_millis(200)).await;
    let mut client = Client::connect(&broker).await;
    client.send(&[0, 0, 0, 100, 1, 2, 3]).await;
    assert!(client.is_closed().await);
    assert_eq!(broker.metrics.timed_out.get(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_connections_are_closed() {
    let broker = TestBroker::start(&[("connections.max.idle.ms", "200")]).await;
    let mut client = Client::connect(&broker).await;
    assert!(client.is_closed().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_do_not_read_are_not_read_from_and_then_closed() {
    let broker = TestBroker::start_impatient(Duration::from_millis(500)).await;
    let mut client = Client::connect(&broker).await;
    let request = encode_request(
        3,
        7,
        None,
        &ApiVersionsRequest {
            client_software_name: "test".into(),
            client_software_version: "1".into(),
        },
    );
    let started = Instant::now();
    let written = async {
        let mut written = 0;
        while client.0.write_all(&request).await.is_ok() {
            written += request.len();
        }
        written
    };
    let written = timeout(PATIENCE, written).await.expect("closed");
    assert!(started.elapsed() >= Duration::from_millis(500));
    assert!(written < 64 << 20, "{written}");
    assert_eq!(broker.metrics.timed_out.get(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_beyond_the_limit_are_closed() {
    let broker = TestBroker::start(&[("max.connections", "2")]).await;
    let mut first = Client::connect(&broker).await;
    first.call(0, &ApiVersionsRequest::default()).await;
    let mut second = Client::connect(&broker).await;
    second.call(0, &ApiVersionsRequest::default()).await;
    assert!(Client::connect(&broker).await.is_closed().await);
    assert_eq!(broker.metrics.connections_refused.get(), 1);
    drop(first);
    let until = Instant::now() + PATIENCE;
    while broker.metrics.connections() == 2 {
        assert!(Instant::now() < until);
        sleep(Duration::from_millis(10)).await;
    }
    assert_serves(&broker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_apis_and_versions_are_answered_as_kafka_does() {
    let broker = TestBroker::start(&[]).await;
    let mut client = Client::connect(&broker).await;
    client
        .send(&encode_request(99, 7, None, &ApiVersionsRequest::default()))
        .await;
    let frame = client.receive().await.unwrap();
    let (_, response) = decode_response::<ApiVersionsRequest>(frame, 0).unwrap();
    assert_eq!(response.error_code, ErrorCode::UnsupportedVersion);
    assert_eq!(response.api_keys.len(), 1);
    // The client asks again, on the same connection.
    client.call(0, &ApiVersionsRequest::default()).await;

    client
        .send(&encode_request(99, 7, None, &MetadataRequest::default()))
        .await;
    assert!(client.is_closed().await);
    let mut client = Client::connect(&broker).await;
    client
        .send(&encode_request(2, 7, None, &produce(1, TOPIC, batch(b""))))
        .await;
    assert!(client.is_closed().await, "message sets are not supported");
    assert_eq!(broker.metrics.unsupported_requests.get(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn pipelined_requests_are_answered_in_order() {
    let broker = TestBroker::start(&[]).await;
    let mut client = Client::connect(&broker).await;
    let mut requests = Vec::new();
    for correlation_id in 0..300 {
        let request = match correlation_id % 4 {
            0 => encode_request(9, correlation_id, None, &produce(-1, TOPIC, batch(b"a"))),
            1 => encode_request(9, correlation_id, None, &produce(1, "missing", batch(b"b"))),
            2 => encode_request(5, correlation_id, None, &MetadataRequest::default()),
            _ => encode_request(5, correlation_id, None, &ListOffsetsRequest::default()),
        };
        requests.extend_from_slice(&request);
    }
    client.send(&requests).await;
    for correlation_id in 0..300_i32 {
        let frame = client.receive().await.unwrap();
        assert_eq!(frame[..4], correlation_id.to_be_bytes());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_sends_and_hangs_up_is_still_served() {
    let broker = TestBroker::start(&[]).await;
    let mut client = Client::connect(&broker).await;
    for _ in 0..10 {
        client
            .send(&encode_request(9, 7, None, &produce(0, TOPIC, batch(b"a"))))
            .await;
    }
    client.0.shutdown().await.unwrap();
    assert!(client.is_closed().await);
    let mut client = Client::connect(&broker).await;
    let (_, high_watermark, _) = fetched(client.call(4, &fetch(0, 0)).await);
    assert_eq!(high_watermark, 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_acknowledgement_only_errors_show_by_closing() {
    let broker = TestBroker::start(&[]).await;
    let mut client = Client::connect(&broker).await;
    client
        .send(&encode_request(9, 1, None, &produce(0, TOPIC, batch(b"a"))))
        .await;
    client.call(0, &ApiVersionsRequest::default()).await;
    client
        .send(&encode_request(
            9,
            2,
            None,
            &produce(0, "missing", batch(b"a")),
        ))
        .await;
    assert!(client.is_closed().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_produced_is_fetched_byte_for_byte() {
    let broker = TestBroker::start(&[]).await;
    let mut client = Client::connect(&broker).await;
    let value: Vec<u8> = noise(1).take(700_000).collect();
    let sent = [batch(b"small"), batch(&value), batch(b"")];
    for (offset, batch) in sent.iter().enumerate() {
        let response = client.call(9, &produce(-1, TOPIC, batch.clone())).await;
        let partition = &response.responses[0].partition_responses[0];
        assert_eq!(partition.error_code, ErrorCode::None);
        assert_eq!(partition.base_offset, offset as i64);
    }
    let (error, high_watermark, records) = fetched(client.call(12, &fetch(0, 0)).await);
    assert_eq!((error, high_watermark), (ErrorCode::None, 3));
    let batches: Vec<_> = broker_wire::record::batches(&records)
        .collect::<Result<_, _>>()
        .unwrap();
    assert_eq!(batches.len(), 3);
    for ((offset, (header, got)), sent) in batches.into_iter().enumerate().zip(&sent) {
        assert_eq!(header.base_offset, offset as i64);
        // All but base offset and leader epoch, which the broker assigned.
        assert_eq!(got[16..], sent[16..]);
    }
    let (error, _, records) = fetched(client.call(12, &fetch(4, 0)).await);
    assert_eq!((error, records.len()), (ErrorCode::OffsetOutOfRange, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn counted_acks_are_refused_unless_allowed_and_never_wait_for_more_than_there_are() {
    for (overrides, allowed) in [
        (&[][..], "0, 1 or -1 (all) unless"),
        (
            &[("klamm.acks.counted.enable", "true")][..],
            "more replicas than the 1",
        ),
    ] {
        let broker = TestBroker::start(overrides).await;
        let mut client = Client::connect(&broker).await;
        let response = client.call(9, &produce(2, TOPIC, batch(b"a"))).await;
        let partition = &response.responses[0].partition_responses[0];
        assert_eq!(partition.error_code, ErrorCode::InvalidRequiredAcks);
        let message = partition.error_message.as_ref().unwrap().as_str();
        assert!(message.contains(allowed), "{message}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_without_lease_serves_nobody_as_a_leader() {
    let broker = TestBroker::start(&[]).await;
    let mut client = Client::connect(&broker).await;
    broker.lease.end();
    let response = client.call(9, &produce(1, TOPIC, batch(b"a"))).await;
    let partition = &response.responses[0].partition_responses[0];
    assert_eq!(partition.error_code, ErrorCode::NotLeaderOrFollower);
    let (error, _, _) = fetched(client.call(12, &fetch(0, 0)).await);
    assert_eq!(error, ErrorCode::NotLeaderOrFollower);
    broker.lease.accept(clock::now(), Duration::from_secs(3600));
    let (error, high_watermark, _) = fetched(client.call(12, &fetch(0, 0)).await);
    assert_eq!((error, high_watermark), (ErrorCode::None, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_was_cut_off_sent_consumers_back_to_the_start() {
    let broker = TestBroker::start(&[]).await;
    let mut client = Client::connect(&broker).await;
    client.call(9, &produce(1, TOPIC, batch(b"a"))).await;
    broker.lease.end();
    broker.lease.accept(clock::now(), Duration::from_secs(2));
    broker.lease.extend(clock::now(), Duration::from_secs(3600));
    while broker.lease.is_confirmed(clock::now()) {
        sleep(Duration::from_millis(20)).await;
    }
    let (error, high_watermark, records) = fetched(client.call(12, &fetch(0, 0)).await);
    assert_eq!((error, high_watermark), (ErrorCode::None, 1));
    assert!(!records.is_empty(), "what is committed stays true");
    let (error, _, _) = fetched(client.call(12, &fetch(7, 0)).await);
    assert_eq!(error, ErrorCode::NotLeaderOrFollower);
    for timestamp in [-2, -1] {
        let request = ListOffsetsRequest {
            topics: vec![ListOffsetsTopic {
                name: TOPIC.into(),
                partitions: vec![ListOffsetsPartition {
                    timestamp,
                    ..ListOffsetsPartition::default()
                }],
            }],
            ..ListOffsetsRequest::default()
        };
        let response = client.call(6, &request).await;
        let partition = &response.topics[0].partitions[0];
        assert_eq!(partition.error_code, ErrorCode::NotLeaderOrFollower);
    }
    broker.lease.accept(clock::now(), Duration::from_secs(3600));
    let (error, _, _) = fetched(client.call(12, &fetch(7, 0)).await);
    assert_eq!(error, ErrorCode::OffsetOutOfRange);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fetch_waits_for_records() {
    let broker = TestBroker::start(&[]).await;
    let mut consumer = Client::connect(&broker).await;
    let mut producer = Client::connect(&broker).await;
    let started = Instant::now();
    let waiting = tokio::spawn(async move { consumer.call(12, &fetch(0, 15_000)).await });
    sleep(Duration::from_millis(200)).await;
    assert!(!waiting.is_finished());
    producer.call(9, &produce(1, TOPIC, batch(b"news"))).await;
    let (_, high_watermark, records) = fetched(waiting.await.unwrap());
    assert_eq!(high_watermark, 1);
    assert!(!records.is_empty());
    assert!(started.elapsed() < Duration::from_secs(10));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fetch_session_tells_only_what_is_new() {
    let broker = TestBroker::start(&[]).await;
    let mut client = Client::connect(&broker).await;
    let in_session = |session_id, session_epoch, fetch: FetchRequest| FetchRequest {
        session_id,
        session_epoch,
        ..fetch
    };
    let first = client.call(12, &in_session(0, 0, fetch(0, 0))).await;
    let id = first.session_id;
    assert_ne!(id, 0);
    assert_eq!(first.responses.len(), 1);
    let unchanged = FetchRequest {
        topics: Vec::new(),
        ..fetch(0, 0)
    };
    let second = client.call(12, &in_session(id, 1, unchanged.clone())).await;
    assert_eq!((second.session_id, second.responses.len()), (id, 0));
    client.call(9, &produce(1, TOPIC, batch(b"news"))).await;
    let third = client.call(12, &in_session(id, 2, unchanged.clone())).await;
    assert_eq!(fetched(third).1, 1);
    let stale = client.call(12, &in_session(id, 2, unchanged)).await;
    assert_eq!(stale.error_code, ErrorCode::InvalidFetchSessionEpoch);
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_answers_what_was_read_and_closes() {
    let broker = TestBroker::start(&[]).await;
    let mut client = Client::connect(&broker).await;
    client.call(0, &ApiVersionsRequest::default()).await;
    broker.stopped.cancel();
    assert!(client.is_closed().await);
}
