//! Reads records: of partitions that it is given, or that its group assigns to it.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use broker_wire::message::FetchRequest;
use broker_wire::message::fetch::{FetchPartition, FetchTopic, PartitionData};
use broker_wire::{ErrorCode, Records, Str};
use futures::future::join_all;
use tokio::time::{Instant, sleep};

use crate::cluster::Cluster;
use crate::error::{ClientError, check};
use crate::fetched::{Aborted, Consumed, read};
use crate::group::{Member, Membership, Offsets};
use crate::metadata::Metadata;
use crate::offsets::{LogEnd, log_ends};

const FETCH_VERSION: i16 = 12;
/// Of one partition in an answer; a larger batch comes alone.
const PARTITION_BYTES_MAX: i32 = 1 << 20;
const FETCH_BYTES_MAX: i32 = 16 << 20;
const COMMIT_INTERVAL: Duration = Duration::from_secs(5);
const RETRY_PAUSE: Duration = Duration::from_millis(100);
const READ_COMMITTED: i8 = 1;

/// Where a partition is read from that has no committed offset, or whose offset is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// The oldest record.
    Earliest,
    /// What comes from now on.
    Latest,
    /// This offset, or the oldest record if that is newer.
    Offset(i64),
}

/// How a [`Consumer`] works.
#[derive(Clone, Copy, Debug)]
pub struct ConsumerOptions {
    /// Where partitions without an offset begin.
    pub start: Start,
}

/// See the crate's documentation.
pub struct Consumer<'a> {
    cluster: &'a Cluster,
    options: ConsumerOptions,
    member: Option<Member<'a>>,
    joined: bool,
    metadata: Metadata,
    /// Next offset to fetch.
    positions: Offsets,
    /// Fetched and not returned yet.
    fetched: VecDeque<Consumed>,
    /// Next offset after what was returned.
    returned: Offsets,
    /// Positions that are committed.
    committed: Offsets,
    commit_at: Instant,
}

impl<'a> Consumer<'a> {
    /// Reads what the group assigns. Every few seconds, and at [`Consumer::close`], what was returned
    /// is committed; the call of the next [`Consumer::poll`] says that it is done with.
    #[must_use]
    pub fn in_group(
        cluster: &'a Cluster,
        group: &str,
        topics: Vec<String>,
        options: ConsumerOptions,
    ) -> Self {
        let member = Member::new(cluster, group.to_owned(), topics);
        Self::new(cluster, Some(member), options)
    }

    /// Reads these partitions, and commits nothing.
    ///
    /// # Errors
    /// When no broker answers, or a partition does not exist.
    pub async fn of_partitions(
        cluster: &'a Cluster,
        partitions: &[(String, i32)],
        options: ConsumerOptions,
    ) -> Result<Self, ClientError> {
        let mut consumer = Self::new(cluster, None, options);
        let places = partitions.iter().cloned();
        consumer.begin(places.collect(), &Offsets::new()).await?;
        Ok(consumer)
    }

    fn new(cluster: &'a Cluster, member: Option<Member<'a>>, options: ConsumerOptions) -> Self {
        Self {
            cluster,
            options,
            member,
            joined: false,
            metadata: Metadata::default(),
            positions: Offsets::new(),
            fetched: VecDeque::new(),
            returned: Offsets::new(),
            committed: Offsets::new(),
            commit_at: Instant::now() + COMMIT_INTERVAL,
        }
    }

    /// The next records, as many as `records_max`, after `max_wait` at the latest with what there is.
    /// Joins the group, and keeps the membership.
    ///
    /// # Errors
    /// What does not pass by itself.
    pub async fn poll(
        &mut self,
        max_wait: Duration,
        records_max: usize,
    ) -> Result<Vec<Consumed>, ClientError> {
        self.keep_membership().await?;
        if self.positions.is_empty() {
            sleep(max_wait).await;
            return Ok(Vec::new());
        }
        if self.fetched.is_empty() {
            self.fetch(max_wait).await?;
        }
        let count = records_max.min(self.fetched.len());
        let records: Vec<_> = self.fetched.drain(..count).collect();
        for record in &records {
            let place = (record.topic.clone(), record.partition);
            self.returned.insert(place, record.offset + 1);
        }
        if self.fetched.is_empty() {
            // Behind the last record there may be some that no consumer sees.
            self.returned.clone_from(&self.positions);
        }
        Ok(records)
    }

    async fn fetch(&mut self, max_wait: Duration) -> Result<(), ClientError> {
        let mut by_leader = BTreeMap::<String, Vec<(&(String, i32), i64)>>::new();
        let mut homeless = false;
        for (place, position) in &self.positions {
            match self.metadata.leader(&place.0, place.1) {
                Some(leader) => {
                    let led = by_leader.entry(leader.address.clone()).or_default();
                    led.push((place, *position));
                }
                None => homeless = true,
            }
        }
        let cluster = self.cluster;
        let fetches = by_leader.into_iter().map(|(address, positions)| {
            let request = fetch_request(&positions, max_wait);
            async move { cluster.call_at(&address, FETCH_VERSION, &request).await }
        });
        let answers = join_all(fetches).await;
        // Taken over as a whole: after an error nothing counts as read that was not returned.
        let (mut records, mut positions) = (Vec::new(), Offsets::new());
        let mut stale = homeless;
        for answer in answers {
            match answer {
                Ok(answer) => {
                    check("fetch", answer.error_code, None)?;
                    for topic in answer.responses {
                        for data in topic.partitions {
                            let place = (topic.topic.to_string(), data.partition_index);
                            let taken = self.take(&place, data, &mut records).await?;
                            stale |= taken.is_none();
                            positions.extend(taken.map(|position| (place, position)));
                        }
                    }
                }
                Err(error) if error.is_retriable() => stale = true,
                Err(error) => return Err(error),
            }
        }
        if stale {
            self.refresh().await?;
        }
        self.positions.extend(positions);
        self.fetched.extend(records);
        Ok(())
    }

    /// How many partitions are read; `None` before the group has assigned any.
    #[must_use]
    pub fn partitions(&self) -> Option<usize> {
        (self.joined || self.member.is_none()).then_some(self.positions.len())
    }

    /// Commits what was returned so far, and leaves the group.
    ///
    /// # Errors
    /// When the group does not take it; then others read the same again.
    pub async fn close(mut self) -> Result<(), ClientError> {
        if self.joined {
            self.commit().await?;
        }
        match self.member {
            Some(member) => member.leave().await,
            None => Ok(()),
        }
    }

    async fn keep_membership(&mut self) -> Result<(), ClientError> {
        let Some(member) = &mut self.member else {
            return Ok(());
        };
        let mut membership = match self.joined {
            true => member.heartbeat().await?,
            false => Membership::Lost,
        };
        if membership != Membership::Lost
            && (Instant::now() >= self.commit_at || membership == Membership::Rebalancing)
        {
            membership = membership.max(self.commit().await?);
        }
        if membership != Membership::Stable {
            self.join().await?;
        }
        Ok(())
    }

    async fn join(&mut self) -> Result<(), ClientError> {
        let Some(member) = &mut self.member else {
            return Ok(());
        };
        self.joined = false;
        let assignment = member.join().await?;
        let committed = member.committed(&assignment).await?;
        let places = assignment.into_iter().flat_map(|(topic, partitions)| {
            let partitions = partitions.into_iter();
            partitions.map(move |partition| (topic.clone(), partition))
        });
        self.begin(places.collect(), &committed).await?;
        self.joined = true;
        Ok(())
    }

    async fn commit(&mut self) -> Result<Membership, ClientError> {
        self.commit_at = Instant::now() + COMMIT_INTERVAL;
        let Some(member) = &mut self.member else {
            return Ok(Membership::Stable);
        };
        let news = self.returned.iter();
        let news = news.filter(|(place, position)| self.committed.get(*place) != Some(*position));
        let news: Offsets = news
            .map(|(place, position)| (place.clone(), *position))
            .collect();
        if news.is_empty() {
            return Ok(Membership::Stable);
        }
        let membership = member.commit(&news).await?;
        if membership == Membership::Stable {
            self.committed.extend(news);
        }
        Ok(membership)
    }

    /// Positions for these partitions, and no others.
    async fn begin(
        &mut self,
        places: Vec<(String, i32)>,
        committed: &Offsets,
    ) -> Result<(), ClientError> {
        self.positions.clear();
        self.fetched.clear();
        self.returned.clear();
        self.committed.clone_from(committed);
        let topics: Vec<_> = places.iter().map(|(topic, _)| topic.as_str()).collect();
        self.metadata = self.cluster.metadata(Some(&topics)).await?;
        for (topic, partition) in &places {
            let known = self.metadata.topics.get(topic);
            if !known.is_some_and(|t| t.partitions.iter().any(|p| p.index == *partition)) {
                let place = format!("partition {partition} of topic {topic}");
                return Err(ClientError::Unknown(place));
            }
        }
        let (known, unknown): (Vec<_>, Vec<_>) = places
            .into_iter()
            .partition(|place| committed.contains_key(place));
        self.positions = self.starts_of(unknown, self.options.start).await?;
        for place in known {
            self.positions.insert(place.clone(), committed[&place]);
        }
        Ok(())
    }

    async fn starts_of(
        &self,
        places: Vec<(String, i32)>,
        start: Start,
    ) -> Result<Offsets, ClientError> {
        let end = match start {
            Start::Earliest | Start::Offset(_) => LogEnd::Earliest,
            Start::Latest => LogEnd::Latest,
        };
        let mut starts = log_ends(self.cluster, places, end).await?;
        if let Start::Offset(offset) = start {
            starts
                .values_mut()
                .for_each(|earliest| *earliest = offset.max(*earliest));
        }
        Ok(starts)
    }

    /// Takes the records of one partition, and tells where to read on; `None` when the metadata is
    /// out of date.
    async fn take(
        &self,
        place: &(String, i32),
        data: PartitionData,
        records: &mut Vec<Consumed>,
    ) -> Result<Option<i64>, ClientError> {
        match data.error_code {
            ErrorCode::None => {}
            ErrorCode::OffsetOutOfRange => {
                let start = match self.options.start {
                    Start::Offset(_) => Start::Earliest,
                    start => start,
                };
                let starts = self.starts_of(vec![place.clone()], start).await?;
                return Ok(starts.get(place).copied());
            }
            code if code.retriable() => return Ok(None),
            code => {
                let what = format!("read {}-{}", place.0, place.1);
                return Err(ClientError::refused(what, code, None));
            }
        }
        let position = self.positions.get(place).copied().unwrap_or(0);
        match &data.records {
            Records::Bytes(bytes) => {
                let aborted = Aborted::new(&data);
                read(place, bytes, position, aborted, records).map(Some)
            }
            Records::None | Records::External { .. } => Ok(Some(position)),
        }
    }

    async fn refresh(&mut self) -> Result<(), ClientError> {
        sleep(RETRY_PAUSE).await;
        let topics: Vec<_> = self
            .positions
            .keys()
            .map(|(topic, _)| topic.as_str())
            .collect();
        match self.cluster.metadata(Some(&topics)).await {
            Ok(metadata) => self.metadata = metadata,
            Err(error) if error.is_retriable() => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

fn fetch_request(positions: &[(&(String, i32), i64)], max_wait: Duration) -> FetchRequest {
    let mut topics = BTreeMap::<&str, Vec<FetchPartition>>::new();
    for ((topic, partition), position) in positions {
        let partition = FetchPartition {
            partition: *partition,
            fetch_offset: *position,
            partition_max_bytes: PARTITION_BYTES_MAX,
            ..FetchPartition::default()
        };
        topics.entry(topic).or_default().push(partition);
    }
    let topics = topics.into_iter().map(|(name, partitions)| FetchTopic {
        topic: Str::from(name.to_owned()),
        partitions,
        ..FetchTopic::default()
    });
    FetchRequest {
        max_wait_ms: i32::try_from(max_wait.as_millis()).unwrap_or(i32::MAX),
        min_bytes: 1,
        max_bytes: FETCH_BYTES_MAX,
        isolation_level: READ_COMMITTED,
        topics: topics.collect(),
        ..FetchRequest::default()
    }
}
