//! What people and the operator see of a broker, beside the Kafka protocol.

pub mod grpc;
pub mod http;
