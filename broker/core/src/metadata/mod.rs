//! Cluster metadata: the [`Record`]s of the replicated log and the [`Image`] they add up to.
//!
//! Records are decided by [`crate::controller`] and applied, in log order, by every broker.
//!
//! * [`Image::apply`] is the only mutator; the same records give the same image everywhere.
//! * Applying [`Image::to_records`] to an empty image gives the image back.
//! * [`lint`] holds after every decision that was applied as a whole.

mod counts;
mod delta;
mod image;
mod lint;
mod partition;
mod record;
mod snapshot;
#[cfg(test)]
mod tests;

pub(crate) use counts::MIN_INSYNC_REPLICAS;
pub use counts::{BrokerCounts, Counts};
pub use delta::{ReplicaChange, changes};
pub use image::{ApplyError, BrokerImage, Image, TopicImage, is_internal_topic};
pub use lint::{Violation, lint};
pub use partition::{PartitionImage, ReplicaHealth};
pub use record::{
    BrokerChange, BrokerEpochs, ClientQuota, Cluster, Config, DecodeRecordError, DeleteTopic,
    Endpoint, Evacuation, Feature, FeatureRange, OperatorEpoch, Partition, ProducerIds,
    QuotaEntity, QuotaEntityName, Rebalance, Record, RegisterBroker, ResourceType, RestartLease,
    Topic, UnregisterBroker, Uuid,
};
