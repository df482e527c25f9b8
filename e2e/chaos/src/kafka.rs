//! What the harness asks of the cluster by Kafka's protocol, as gRPC Admin has no call for it: single
//! partitions move to other brokers.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use bytes::{BufMut as _, Bytes, BytesMut};
use kafka_protocol::messages::alter_partition_reassignments_request::{
    ReassignablePartition, ReassignableTopic,
};
use kafka_protocol::messages::{
    AlterPartitionReassignmentsRequest, BrokerId, ListPartitionReassignmentsRequest, RequestHeader,
    ResponseHeader, TopicName,
};
use kafka_protocol::protocol::{
    Decodable as _, Encodable as _, HeaderVersion as _, Request, StrBytes,
};

use crate::broker::CLIENT_PORT;
use crate::cluster::BROKERS;
use crate::network::Host;

/// For connecting, and for the answer.
const CALL_TIMEOUT: Duration = Duration::from_secs(2);
/// The first version of each request that is sent here.
const VERSION: i16 = 0;
const RESPONSE_BYTES_MAX: usize = 1 << 20;
const NO_REASSIGNMENT_IN_PROGRESS: i16 = 85;

/// A partition that moves.
pub(crate) struct Move {
    pub(crate) topic: String,
    pub(crate) partition: i32,
    /// To these brokers; without them, the move that is under way is given up
    pub(crate) replicas: Option<Vec<u16>>,
}

/// Begins moves, or gives them up; repeating it changes nothing.
///
/// # Errors
/// When no broker answers, or one of the moves is refused.
pub(crate) fn reassign(moves: &[Move]) -> Result<()> {
    let topics = moves.iter().map(|one| {
        let ids = one.replicas.as_ref();
        let ids = ids.map(|ids| ids.iter().map(|id| BrokerId(i32::from(*id))).collect());
        let partition = ReassignablePartition::default()
            .with_partition_index(one.partition)
            .with_replicas(ids);
        ReassignableTopic::default()
            .with_name(TopicName(StrBytes::from_string(one.topic.clone())))
            .with_partitions(vec![partition])
    });
    let timeout_ms = i32::try_from(CALL_TIMEOUT.as_millis())?;
    let request = AlterPartitionReassignmentsRequest::default()
        .with_timeout_ms(timeout_ms)
        .with_topics(topics.collect());
    ask(&request, |response| {
        let topics = response.responses.iter();
        let partitions = topics.flat_map(|topic| &topic.partitions);
        let codes = partitions.map(|partition| partition.error_code);
        let is_good = |code: &i16| [0, NO_REASSIGNMENT_IN_PROGRESS].contains(code);
        let refused = codes
            .chain([response.error_code])
            .find(|code| !is_good(code));
        refused.map_or(Ok(()), |code| bail!("refused with error {code}"))
    })
}

/// How many partitions are being moved.
///
/// # Errors
/// When no broker knows it.
pub(crate) fn reassigning() -> Result<usize> {
    let timeout_ms = i32::try_from(CALL_TIMEOUT.as_millis())?;
    let request = ListPartitionReassignmentsRequest::default()
        .with_timeout_ms(timeout_ms)
        .with_topics(None);
    ask(&request, |response| {
        ensure!(response.error_code == 0, "error {}", response.error_code);
        let topics = response.topics.iter();
        Ok(topics.map(|topic| topic.partitions.len()).sum())
    })
}

/// Asks one broker after the other until one gives an answer that `read` accepts.
fn ask<R: Request, T>(request: &R, read: impl Fn(R::Response) -> Result<T>) -> Result<T> {
    let mut last = anyhow!("there are no brokers");
    for id in 0..BROKERS {
        match call(id, request).and_then(&read) {
            Ok(answer) => return Ok(answer),
            Err(error) => last = error,
        }
    }
    Err(last).context("no broker answered as wanted, the last one")
}

fn call<R: Request>(broker: u16, request: &R) -> Result<R::Response> {
    let address = format!("{}:{CLIENT_PORT}", Host::Broker(broker).address());
    let mut stream = TcpStream::connect_timeout(&address.parse()?, CALL_TIMEOUT)?;
    stream.set_read_timeout(Some(CALL_TIMEOUT))?;
    let header = RequestHeader::default()
        .with_request_api_key(R::KEY)
        .with_request_api_version(VERSION)
        .with_client_id(Some(StrBytes::from_static_str("chaos")));
    let mut content = BytesMut::new();
    header.encode(&mut content, R::header_version(VERSION))?;
    request.encode(&mut content, VERSION)?;
    let mut frame = BytesMut::new();
    frame.put_u32(u32::try_from(content.len())?);
    frame.put(content);
    stream.write_all(&frame)?;

    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let length = usize::try_from(u32::from_be_bytes(length))?;
    ensure!(length <= RESPONSE_BYTES_MAX, "a response of {length} bytes");
    let mut response = vec![0; length];
    stream.read_exact(&mut response)?;
    let mut response = Bytes::from(response);
    ResponseHeader::decode(&mut response, R::Response::header_version(VERSION))?;
    R::Response::decode(&mut response, VERSION)
}
