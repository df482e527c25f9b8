//! Appends records: collects them into batches, sends each to the leader of its partition, and tries
//! again until it is acknowledged.
//!
//! A partition has at most one batch on its way, so that retries keep the order of records. With
//! `acks=all` the producer is idempotent (KIP-98): a batch that was appended, and whose
//! acknowledgement was lost, is not appended again.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use broker_wire::message::produce::{
    PartitionProduceData, PartitionProduceResponse, TopicProduceData,
};
use broker_wire::message::{InitProducerIdRequest, ProduceRequest};
use broker_wire::record::{BatchBuilder, Compression, NewRecord, RecordHeader};
use broker_wire::{ErrorCode, Str};
use bytes::Bytes;
use futures::future::join_all;
use tokio::time::{Instant, sleep};

use crate::cluster::{Cluster, retry};
use crate::error::{ClientError, check};
use crate::metadata::Metadata;
use crate::partitioner::Partitioner;

const PRODUCE_VERSION: i16 = 9;
const INIT_PRODUCER_ID_VERSION: i16 = 4;
/// How long a broker waits for replicas.
const ACKNOWLEDGE_TIMEOUT_MS: i32 = 30_000;
const RETRY_PAUSE: Duration = Duration::from_millis(100);
/// A record's share of a batch besides key and value, at most.
const RECORD_OVERHEAD_BYTES: usize = 32;
/// Partitions with records that wait: sent when there are more.
const WAITING_PARTITIONS_MAX: usize = 1000;

/// Who has to have a record before it counts as appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acks {
    /// Nobody: records may be lost without notice.
    None,
    /// The leader.
    Leader,
    /// All in-sync replicas.
    All,
}

/// How a [`Producer`] works.
#[derive(Clone, Debug)]
pub struct ProducerOptions {
    /// Who has to have a record.
    pub acks: Acks,
    /// How batches are compressed.
    pub compression: Compression,
    /// A batch is sent once it has so many bytes.
    pub batch_bytes: usize,
    /// How long a batch is tried.
    pub delivery_timeout: Duration,
}

impl Default for ProducerOptions {
    fn default() -> Self {
        Self {
            acks: Acks::All,
            compression: Compression::None,
            batch_bytes: 64 << 10,
            delivery_timeout: Duration::from_secs(120),
        }
    }
}

/// What is appended.
#[derive(Clone, Debug, Default)]
pub struct Record {
    /// Where to.
    pub topic: String,
    /// Which partition; chosen by key, else in turn, without one.
    pub partition: Option<i32>,
    /// What belongs together, and what compaction keeps the last value of.
    pub key: Option<Bytes>,
    /// `None` is a tombstone.
    pub value: Option<Bytes>,
    /// In order.
    pub headers: Vec<(String, Bytes)>,
}

/// A batch that was acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Where it is.
    pub topic: String,
    /// Where it is.
    pub partition: i32,
    /// Of the first record; `None` with [`Acks::None`].
    pub base_offset: Option<i64>,
    /// How many there are.
    pub records: usize,
}

/// See the crate's documentation.
pub struct Producer<'a> {
    cluster: &'a Cluster,
    options: ProducerOptions,
    metadata: Metadata,
    partitioner: Partitioner,
    /// `None` before the first batch and after one was given up: its sequence numbers are a gap that
    /// no broker takes.
    identity: Option<Identity>,
    waiting: BTreeMap<(String, i32), Waiting>,
    /// Next sequence number of each partition.
    sequences: BTreeMap<(String, i32), i32>,
}

#[derive(Clone, Copy)]
struct Identity {
    id: i64,
    epoch: i16,
}

#[derive(Default)]
struct Waiting {
    records: Vec<(Record, i64)>,
    bytes: usize,
}

/// A batch on its way.
struct Batch {
    topic: String,
    partition: i32,
    bytes: Bytes,
    records: usize,
}

impl<'a> Producer<'a> {
    /// Nothing is sent yet.
    #[must_use]
    pub fn new(cluster: &'a Cluster, options: ProducerOptions) -> Self {
        Self {
            cluster,
            options,
            metadata: Metadata::default(),
            partitioner: Partitioner::default(),
            identity: None,
            waiting: BTreeMap::new(),
            sequences: BTreeMap::new(),
        }
    }

    /// Takes a record. What is complete by it is sent: then this returns after the acknowledgement,
    /// and says of what.
    ///
    /// # Errors
    /// When a batch can't be appended. Its records are given up; others that waited may be appended.
    pub async fn send(&mut self, record: Record) -> Result<Vec<Appended>, ClientError> {
        let partition = self.choose(&record).await?;
        let payload = record.key.as_ref().map_or(0, Bytes::len)
            + record.value.as_ref().map_or(0, Bytes::len)
            + record
                .headers
                .iter()
                .map(|(k, v)| k.len() + v.len())
                .sum::<usize>();
        let keyless = record.key.is_none() && record.partition.is_none();
        let topic = record.topic.clone();
        let place = (topic.clone(), partition);
        let waiting = self.waiting.entry(place.clone()).or_default();
        waiting.bytes += payload + RECORD_OVERHEAD_BYTES;
        waiting.records.push((record, now_ms()));
        if waiting.bytes < self.options.batch_bytes {
            return match self.waiting.len() {
                ..=WAITING_PARTITIONS_MAX => Ok(Vec::new()),
                _ => self.flush().await,
            };
        }
        if keyless {
            self.partitioner.batch_complete(&topic);
        }
        let complete = self.waiting.remove_entry(&place);
        self.append(complete.into_iter().collect()).await
    }

    /// Sends all that waits, and returns once it is acknowledged.
    ///
    /// # Errors
    /// When a batch can't be appended. Its records are given up; others may be appended.
    pub async fn flush(&mut self) -> Result<Vec<Appended>, ClientError> {
        let waiting = std::mem::take(&mut self.waiting);
        self.append(waiting).await
    }

    async fn append(
        &mut self,
        waiting: BTreeMap<(String, i32), Waiting>,
    ) -> Result<Vec<Appended>, ClientError> {
        if waiting.is_empty() {
            return Ok(Vec::new());
        }
        if self.options.acks == Acks::All && self.identity.is_none() {
            self.identity = Some(identity(self.cluster).await?);
            self.sequences.clear();
        }
        let batches = waiting.into_iter();
        let batches = batches.map(|(place, waiting)| self.batch(place, &waiting));
        let appended = match batches.collect() {
            Ok(batches) => self.deliver(batches).await,
            Err(error) => Err(error),
        };
        if appended.is_err() {
            self.identity = None;
        }
        appended
    }

    async fn choose(&mut self, record: &Record) -> Result<i32, ClientError> {
        let what = format!("find topic {}", record.topic);
        if !self.metadata.topics.contains_key(&record.topic) {
            self.metadata = self.known_topic(&what, &record.topic).await?;
        }
        let topic = self.metadata.topics.get(&record.topic);
        let partitions = topic.map_or(&[][..], |topic| &topic.partitions);
        let led: Vec<_> = partitions
            .iter()
            .filter(|partition| partition.leader.is_some())
            .map(|partition| partition.index)
            .collect();
        let count = i32::try_from(partitions.len()).unwrap_or(i32::MAX);
        let key = record.key.as_deref();
        let chosen = self
            .partitioner
            .choose(&record.topic, record.partition, key, count, &led);
        let chosen = chosen.ok_or_else(|| {
            ClientError::refused(
                what,
                ErrorCode::LeaderNotAvailable,
                Some("no partition has a leader"),
            )
        })?;
        if (0..count).contains(&chosen) {
            Ok(chosen)
        } else {
            let place = format!("partition {chosen} of topic {}", record.topic);
            Err(ClientError::Unknown(place))
        }
    }

    async fn known_topic(&self, what: &str, topic: &str) -> Result<Metadata, ClientError> {
        let mut names: Vec<_> = self.metadata.topics.keys().map(String::as_str).collect();
        names.push(topic);
        let metadata = retry(what, async || {
            let metadata = self.cluster.metadata(Some(&names)).await?;
            match metadata.failures.get(topic) {
                None | Some(ErrorCode::UnknownTopicOrPartition) => Ok(metadata),
                Some(code) => Err(ClientError::refused(what, *code, None)),
            }
        })
        .await?;
        if metadata.topics.contains_key(topic) {
            Ok(metadata)
        } else {
            Err(ClientError::Unknown(format!("topic {topic}")))
        }
    }

    fn batch(&mut self, place: (String, i32), waiting: &Waiting) -> Result<Batch, ClientError> {
        let mut builder = BatchBuilder::new(0).compression(self.options.compression);
        let count = waiting.records.len();
        if let Some(identity) = self.identity {
            let next = self.sequences.entry(place.clone()).or_default();
            builder = builder.producer(identity.id, identity.epoch, *next);
            // Sequence numbers go on at 0 after the last.
            let after = (i64::from(*next) + count as i64) % (i64::from(i32::MAX) + 1);
            *next = after as i32;
        }
        for (record, timestamp) in &waiting.records {
            let headers = record.headers.iter().map(|(key, value)| RecordHeader {
                key: key.as_bytes(),
                value: Some(value),
            });
            builder.append(&NewRecord {
                timestamp: *timestamp,
                key: record.key.as_deref(),
                value: record.value.as_deref(),
                headers: &headers.collect::<Vec<_>>(),
            });
        }
        let (topic, partition) = place;
        Ok(Batch {
            topic,
            partition,
            bytes: builder.build()?,
            records: count,
        })
    }

    /// Sends batches until each is acknowledged.
    async fn deliver(&mut self, mut batches: Vec<Batch>) -> Result<Vec<Appended>, ClientError> {
        let deadline = Instant::now() + self.options.delivery_timeout;
        let mut appended = Vec::new();
        let mut failure = None;
        while !batches.is_empty() {
            let (by_leader, homeless) = self.by_leader(batches);
            let mut last = "a partition has no leader".to_owned();
            let sent = by_leader.into_iter();
            let sent = sent.map(|(address, batches)| self.send_to(address, batches));
            batches = homeless;
            for (outcome, batch) in join_all(sent).await.into_iter().flatten() {
                match outcome {
                    Ok(base_offset) => appended.push(Appended {
                        topic: batch.topic,
                        partition: batch.partition,
                        base_offset,
                        records: batch.records,
                    }),
                    Err(error) if error.is_retriable() => {
                        last = error.to_string();
                        batches.push(batch);
                    }
                    Err(error) => failure = Some(error),
                }
            }
            if batches.is_empty() || failure.is_some() {
                break;
            }
            if Instant::now() > deadline {
                let place = format!("{}-{}", batches[0].topic, batches[0].partition);
                return Err(ClientError::TimedOut {
                    what: format!("append to {place}"),
                    limit: self.options.delivery_timeout,
                    last,
                });
            }
            sleep(RETRY_PAUSE).await;
            let names: Vec<_> = self.metadata.topics.keys().map(String::as_str).collect();
            // Without an answer, the old leaders are tried again.
            if let Ok(metadata) = self.cluster.metadata(Some(&names)).await {
                self.metadata = metadata;
            }
        }
        failure.map_or(Ok(appended), Err)
    }

    /// The batches by the address of their leader, and those without one.
    fn by_leader(&self, batches: Vec<Batch>) -> (BTreeMap<String, Vec<Batch>>, Vec<Batch>) {
        let (mut led, mut homeless) = (BTreeMap::<String, Vec<Batch>>::new(), Vec::new());
        for batch in batches {
            match self.metadata.leader(&batch.topic, batch.partition) {
                Some(leader) => led.entry(leader.address.clone()).or_default().push(batch),
                None => homeless.push(batch),
            }
        }
        (led, homeless)
    }

    /// The offset of each batch, or why it was not appended.
    async fn send_to(
        &self,
        address: String,
        batches: Vec<Batch>,
    ) -> Vec<(Result<Option<i64>, ClientError>, Batch)> {
        let request = request(self.options.acks, &batches);
        let mut results = BTreeMap::new();
        let sent = match self.options.acks {
            Acks::None => {
                self.cluster
                    .send_to(&address, PRODUCE_VERSION, &request)
                    .await
            }
            Acks::Leader | Acks::All => {
                let answer = self
                    .cluster
                    .call_at(&address, PRODUCE_VERSION, &request)
                    .await;
                answer.map(|answer| {
                    for topic in answer.responses {
                        for partition in topic.partition_responses {
                            let place = (topic.name.to_string(), partition.index);
                            results.insert(place, partition);
                        }
                    }
                })
            }
        };
        let failure = sent.err().map(|error| error.to_string());
        let outcome = |batch: &Batch| match &failure {
            Some(failure) => Err(ClientError::refused(
                format!("append to {}-{}", batch.topic, batch.partition),
                ErrorCode::NetworkException,
                Some(failure),
            )),
            None if self.options.acks == Acks::None => Ok(None),
            None => acknowledged(batch, results.get(&(batch.topic.clone(), batch.partition))),
        };
        let batches = batches.into_iter();
        batches.map(|batch| (outcome(&batch), batch)).collect()
    }
}

async fn identity(cluster: &Cluster) -> Result<Identity, ClientError> {
    let request = InitProducerIdRequest {
        transaction_timeout_ms: i32::MAX,
        producer_epoch: -1,
        ..InitProducerIdRequest::default()
    };
    let what = "get a producer id";
    retry(what, async || {
        let answer = cluster.call_any(INIT_PRODUCER_ID_VERSION, &request).await?;
        check(what, answer.error_code, None)?;
        Ok(Identity {
            id: answer.producer_id,
            epoch: answer.producer_epoch,
        })
    })
    .await
}

fn request(acks: Acks, batches: &[Batch]) -> ProduceRequest {
    let mut topics = BTreeMap::<&str, Vec<PartitionProduceData>>::new();
    for batch in batches {
        let data = PartitionProduceData {
            index: batch.partition,
            records: Some(batch.bytes.clone()),
        };
        topics.entry(&batch.topic).or_default().push(data);
    }
    let topic_data = topics
        .into_iter()
        .map(|(name, partition_data)| TopicProduceData {
            name: Str::from(name.to_owned()),
            partition_data,
            ..TopicProduceData::default()
        });
    ProduceRequest {
        transactional_id: None,
        acks: match acks {
            Acks::None => 0,
            Acks::Leader => 1,
            Acks::All => -1,
        },
        timeout_ms: ACKNOWLEDGE_TIMEOUT_MS,
        topic_data: topic_data.collect(),
    }
}

fn acknowledged(
    batch: &Batch,
    result: Option<&PartitionProduceResponse>,
) -> Result<Option<i64>, ClientError> {
    let what = || format!("append to {}-{}", batch.topic, batch.partition);
    let Some(result) = result else {
        let message = "the answer leaves the partition out";
        return Err(ClientError::refused(
            what(),
            ErrorCode::NetworkException,
            Some(message),
        ));
    };
    match result.error_code {
        ErrorCode::None => Ok(Some(result.base_offset)),
        // It was appended before, and the acknowledgement was lost.
        ErrorCode::DuplicateSequenceNumber => Ok(None),
        code => Err(ClientError::refused(
            what(),
            code,
            result.error_message.as_deref(),
        )),
    }
}

fn now_ms() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |now| i64::try_from(now.as_millis()).unwrap_or(i64::MAX))
}
