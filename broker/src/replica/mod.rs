//! Replication between brokers: followers pull from the leader over one stream for each pair of
//! brokers, and their next pull acknowledges what the one before brought.
//!
//! `fetcher` is the follower's end, `service` the leader's; both keep to `quotas`. What either does with a partition is
//! decided in `partition`.

mod fetcher;
mod quotas;
mod service;

use broker_core::{PartitionIndex, TopicId, TopicPartition};
use klamm_proto::v1::PartitionKey;

pub use fetcher::{FetcherSettings, Fetchers};
pub use quotas::ReplicationQuotas;
pub use service::ReplicaService;

/// Largest answer to a pull: `bytes_max` plus one batch that is larger than its share.
pub const PULL_MESSAGE_BYTES_MAX: usize = 256 * 1024 * 1024;

fn to_key(id: TopicPartition) -> PartitionKey {
    PartitionKey {
        topic_id: bytes::Bytes::copy_from_slice(&id.topic.0),
        partition: id.partition.0,
    }
}

fn from_key(key: &PartitionKey) -> Option<TopicPartition> {
    let topic = TopicId(key.topic_id.as_ref().try_into().ok()?);
    Some(TopicPartition {
        topic,
        partition: PartitionIndex(key.partition),
    })
}
