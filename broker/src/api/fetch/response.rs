//! What was read, as the response says it.

use broker_core::Offset;
use broker_core::fetch_session::{LogEnds, PartitionKey, TopicKey};
use broker_core::metadata::Image;
use broker_log::LogSlice;
use broker_wire::message::FetchResponse;
use broker_wire::message::fetch::{
    AbortedTransaction, EpochEndOffset, FetchableTopicResponse, LeaderIdAndEpoch, NodeEndpoint,
    PartitionData,
};
use broker_wire::{Records, Str};

use super::{Read, partition_id};
use crate::api::context::wire_id;
use crate::api::current_leader::CurrentLeaders;
use crate::partition::Isolation;

/// The response, a partition after the other, with the regions of files that it names.
pub(super) struct ResponseBuilder<'a> {
    image: &'a Image,
    leaders: CurrentLeaders<'a>,
    isolation: Isolation,
    topics: Vec<FetchableTopicResponse>,
    slices: Vec<LogSlice>,
}

impl<'a> ResponseBuilder<'a> {
    pub(super) fn new(image: &'a Image, listener: &'a str, isolation: Isolation) -> Self {
        Self {
            image,
            leaders: CurrentLeaders::new(image, listener),
            isolation,
            topics: Vec::new(),
            slices: Vec::new(),
        }
    }

    /// The partitions that follow are of this topic.
    pub(super) fn begin_topic(&mut self, topic: &TopicKey) {
        let mut response = FetchableTopicResponse::default();
        match topic {
            TopicKey::Name(name) => response.topic = Str::from(name.to_string()),
            TopicKey::Id(id) => response.topic_id = wire_id(*id),
        }
        self.topics.push(response);
    }

    /// Adds a partition to the last topic.
    pub(super) fn push(&mut self, key: &PartitionKey, read: Read) {
        let mut data = PartitionData {
            partition_index: key.partition.0,
            high_watermark: -1,
            aborted_transactions: (self.isolation == Isolation::ReadCommitted).then(Vec::new),
            ..PartitionData::default()
        };
        match read {
            Read::Failed(code) => {
                data.error_code = code;
                let id = partition_id(self.image, key);
                if let Some((leader, epoch)) = id.and_then(|id| self.leaders.name(code, id)) {
                    data.current_leader = LeaderIdAndEpoch {
                        leader_id: leader.0,
                        leader_epoch: epoch.0,
                    };
                }
            }
            Read::Diverging {
                epoch,
                end_offset,
                ends,
                last_stable_offset,
            } => {
                set_ends(&mut data, ends, last_stable_offset);
                data.diverging_epoch = EpochEndOffset {
                    epoch: epoch.0,
                    end_offset: end_offset.0,
                };
            }
            Read::Records {
                slice,
                aborted,
                ends,
                last_stable_offset,
                ..
            } => {
                set_ends(&mut data, ends, last_stable_offset);
                if let Some(transactions) = &mut data.aborted_transactions {
                    transactions.extend(aborted.iter().map(|aborted| AbortedTransaction {
                        producer_id: aborted.producer_id.0,
                        first_offset: aborted.first_offset.0,
                    }));
                }
                data.records = slice.map_or(Records::EMPTY, |slice| self.external(slice));
            }
        }
        if let Some(topic) = self.topics.last_mut() {
            topic.partitions.push(data);
        }
    }

    fn external(&mut self, slice: LogSlice) -> Records {
        // Both fit: a response has at most `RESPONSE_BYTES_MAX` bytes, or one batch.
        let (len, token) = (slice.len as u32, self.slices.len() as u32);
        self.slices.push(slice);
        Records::External { len, token }
    }

    pub(super) fn finish(self, session_id: i32) -> (FetchResponse, Vec<LogSlice>) {
        let node_endpoints = self.leaders.endpoints().map(|leader| NodeEndpoint {
            node_id: leader.id.0,
            host: leader.endpoint.host.clone().into(),
            port: leader.endpoint.port.cast_signed(),
            rack: leader.rack.map(|rack| rack.to_owned().into()),
        });
        let node_endpoints = node_endpoints.collect();
        let response = FetchResponse {
            session_id,
            responses: self.topics,
            node_endpoints,
            ..FetchResponse::default()
        };
        (response, self.slices)
    }
}

fn set_ends(data: &mut PartitionData, ends: LogEnds, last_stable_offset: Offset) {
    data.high_watermark = ends.high_watermark.0;
    data.last_stable_offset = last_stable_offset.0;
    data.log_start_offset = ends.log_start.0;
}
