//! What the tests on Kubernetes stand on: a namespace that ends with the test, the cluster of the
//! examples in it, conditions to wait for, clients in a pod, and the state of everything when a
//! case fails.
//!
//! The Kubernetes cluster, with the operator installed for all namespaces, is there before.
//! Everything that is waited for is a condition with a time limit.

mod access;
mod client_image;
mod client_pod;
mod diagnosis;
mod example;
mod metadata;
mod steady_load;
mod wait;

pub use access::{Access, OPERATOR_NAMESPACE};
pub use client_pod::ClientPod;
pub use example::{BROKERS, CLUSTER, EXAMPLE_TOPIC, Example, is_healthy, topic_is_synced};
pub use metadata::{BrokerAddress, Metadata, PartitionMetadata};
pub use steady_load::{Outcome, SteadyLoad};
pub use wait::{condition, wait_for};
