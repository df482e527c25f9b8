//! The controller's decisions: a [`Command`] and the [`crate::metadata::Image`] give records for
//! the metadata log and a [`Response`].

mod codec;
mod command;
mod error;
mod response;

pub use codec::DecodeMessageError;
pub use command::{
    AlterConfigs, AlterMode, AlterPartition, AlterPartitions, Assignment, BrokerRef, Command,
    ConfigOp, ConfigOpType, ConfigResource, CordonBroker, CreatePartitions, CreateTopics,
    DeleteTopics, ElectLeaders, ElectionType, InitializeCluster, NewPartitions, NewTopic,
    PartitionRef, RegisterBroker, TopicRef, UnregisterBroker,
};
pub use error::{CommandError, Failure};
pub use response::{
    Accepted, AlterConfigsResponse, AlterPartitionsResponse, BrokerDrained, BrokerRegistered,
    ConfigAltered, CreatePartitionsResponse, CreateTopicsResponse, DeleteTopicsResponse,
    ElectLeadersResponse, LeaderElected, PartitionAltered, PartitionsCreated, ProducerIdBlock,
    Response, TopicCreated, TopicDeleted,
};
